"""What a session is: a conversation with a platform, written without I/O.

The crossing tells a session what happened (past participles) and carries out what follows (a Step). Rules that bind:

1. A session never raises on what the platform says: what cannot be read is `Unread`.
2. It never waits, looks at a clock or logs: every call is given the time, `wake` asks to be called again.
3. It owns the commands it was given until they have their final Response.
4. Secrets pass through it unseen (options.Secret): the doors reveal them.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Protocol

from msgspec import Struct

from bridge.model import Census, Command, Condition, Event, Instant, Login, Response, State, Unread
from bridge.options import BackendOptions, Secret, about
from bridge.times import rfc3339, unix

Hidden = str | Secret
Again = Literal["failure", "refusal"]


class Dial(Struct, frozen=True):
    """Open a WebSocket: at once, or after the crossing's back-off.

    again: the last try ended so: "failure" (exponential) or "refusal" of a login (30 s, 1 m, 2 m, 5 m …) · after:
    seconds at least, where the platform said so · pull: it brings history, read only while the outbox has room.
    """

    link: str
    url: Hidden
    headers: Mapping[str, Hidden] = {}
    basic: tuple[str, Hidden] | None = None
    again: Again | None = None
    after: float | None = None
    pull: bool = False


class Send(Struct, frozen=True):
    """Put one text frame on a link; the frame is never logged, and one that holds a secret is a Secret."""

    link: str
    frame: Hidden


class Call(Struct, frozen=True):
    """One HTTP request. id: told to answered(), unique among those under way · body: a mapping becomes JSON at the
    door, where secrets in it are revealed · basic: user name and password · deadline: seconds, after which the Answer
    says so · after: seconds to wait first · again: as in Dial; all calls share one back-off, which Login("ok") starts
    anew · pull: it brings history, and begins only while the outbox has room.
    """

    id: str
    method: str
    url: str
    headers: Mapping[str, Hidden] = {}
    basic: tuple[str, Hidden] | None = None
    body: Mapping[str, Any] | bytes | None = None
    deadline: float = 30.0
    after: float = 0.0
    again: Again | None = None
    pull: bool = False


class Hang(Struct, frozen=True):
    """Close a link; the session hears no more of it, unless it dials again."""

    link: str
    why: str


class Step(Struct, frozen=True, gc=False):
    """What follows from what happened.

    heard: in order · do: in order · wake: Instant.mono at which woken() is to be called; it may be called earlier.
    It stands until then, None says nothing new · remember: the latest one is handed to started() after a restart; it is
    written together with every event heard before it. Every few seconds is enough: an older one only makes doubles.
    """

    heard: tuple[Event | State | Response | Unread | Condition | Login | Census, ...] = ()
    do: tuple[Dial | Send | Call | Hang, ...] = ()
    wake: float | None = None
    remember: bytes | None = None


NOTHING = Step()


class Answer(Struct, frozen=True):
    """What a Call came to: a status with body and headers (pairs, names in lower case), or (0) why there is none."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    error: str = ""


class Loss(Struct, frozen=True):
    """Why a link is not there (any more).

    kind: "refused" (told no: 401, 403) · "failed" (not reached, or another answer) · "closed" · "ping" · "idle" ·
    "too_large" · "asked" (by a command) · error: in words, free of secrets · status: of the handshake ·
    seen: the link's last sign of life · after: Retry-After in seconds · code: of the platform's close frame.
    """

    kind: Literal["refused", "failed", "closed", "ping", "idle", "too_large", "asked"]
    error: str
    seen: Instant
    status: int | None = None
    after: float | None = None
    code: int | None = None


class Session(Protocol):
    """One platform's conversation. Every method returns the Step that follows.

    started: memory: what an earlier session remembered · seen: its last sign of life; None: the first start, no gap.
    stopped: the program ends; every command still waiting gets its final Response.
    """

    def started(self, memory: bytes | None, seen: Instant | None, now: Instant) -> Step: ...
    def opened(self, link: str, now: Instant) -> Step: ...
    def received(self, link: str, frame: bytes, now: Instant) -> Step: ...
    def answered(self, call: str, answer: Answer, now: Instant) -> Step: ...
    def ordered(self, command: Command, now: Instant) -> Step: ...
    def woken(self, now: Instant) -> Step: ...
    def lost(self, link: str, loss: Loss, now: Instant) -> Step: ...
    def stopped(self, now: Instant) -> Step: ...


class CommandSpec(Struct, frozen=True):
    """One command of a platform: its name, the Struct its fields are checked against, where it lives.

    subject: "" for the backend itself, else a pattern over topic levels such as "application/+/device/+" ·
    result: the type of `data` in its responses, None where they have none, Any where the platform decides ·
    check: what holds between the fields; raises BadCommand · sent: its final status may be `sent`.
    """

    name: str
    body: type[Struct]
    subject: str = ""
    check: Callable[[Any], object] = lambda body: None
    sent: bool = False
    result: Any = None


class Subject(Struct, frozen=True):
    """One kind of subject, and what is said of it: for the published description, which tests hold against the wire.

    levels: those in braces are any name, as in "application/{app_eui}/device/{dev_eui}"; "" for no subject ·
    events: the type of an event → the type of its data, Any: as the platform wrote it · others: the platform names
    further types of events · state: the type of its state's data, None where it has none. Every backend has `gap`.
    """

    levels: str
    events: Mapping[str, Any] = {}
    others: bool = False
    state: Any = None


class MakeSession(Protocol):
    def __call__(self, options: Any) -> Session: ...


class Platform(Struct, frozen=True):
    """One entry of the registry.

    events: the closed set of event types, for metrics (others count as "other") · commands: of every backend of it ·
    own_commands: those that the configuration of one backend names · subjects: what the events and states are about.
    """

    word: str
    options: type[BackendOptions]
    session: MakeSession
    events: tuple[str, ...]
    commands: tuple[CommandSpec, ...] = ()
    own_commands: Callable[[Any], tuple[CommandSpec, ...]] = lambda options: ()
    subjects: tuple[Subject, ...] = ()

    @property
    def names_types(self) -> bool:
        """Whether it tells events of types that are not known beforehand."""
        return any(subject.others for subject in self.subjects)

    def commands_of(self, options: BackendOptions) -> tuple[CommandSpec, ...]:
        """The commands of a backend with these options."""
        return (*self.commands, *self.own_commands(options))


class Gap(Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """Data of a `gap` event: the window in which the backend was blind, RFC 3339 UTC."""

    since: Annotated[str, about("the last sign of life, UTC")]
    until: Annotated[str, about("heard again, UTC")]
    reason: Annotated[str, about("what was in between, in a word")]
    backfill: Annotated[
        Literal["none", "started", "done", "partial"],
        about("whether it is filled from history; after started comes a second gap that tells the end"),
    ] = "none"

    @property
    def seconds(self) -> float:
        """How long it was."""
        return unix(self.until) - unix(self.since)


class Blindness:
    """From when until when a session heard nothing. The first start is no blindness."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._reason = ""

    def begins(self, seen: Instant | None, reason: str) -> None:
        """Called at each loss; the window begins with the last sign of life before the first one."""
        if self._since is None and seen is not None:
            self._since, self._reason = seen.unix, reason

    def ends(self, now: Instant) -> Gap | None:
        """The window that ends now, if there was one."""
        if self._since is None:
            return None
        gap = Gap(since=rfc3339(self._since), until=rfc3339(now.unix), reason=self._reason)
        self._since = None
        return gap


def gap_event(gap: Gap) -> Event:
    """The event that tells of a gap."""
    return Event(subject="", type="gap", data=gap)
