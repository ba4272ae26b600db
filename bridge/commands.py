"""MQTT message → checked Command → whoever carries it out; and the responses back.

1. Every command gets at least one response and exactly one final one.
2. It is carried out at most once: nothing is sent again by itself, a retained or late one is not carried out.
3. Commands go in the order of their arrival, as fast as `commands.rate` allows; up to 100 wait in line. What the bridge
   does itself waits in a line of its own: `pause` and `reconnect` are wanted most where the platform's line is long.
"""

import asyncio
import itertools
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridge.backends.reading import canonical
from bridge.backends.session import CommandSpec
from bridge.broker import Incoming
from bridge.clock import instant
from bridge.command_fields import converted, fields_of, identity
from bridge.errors import BadCommand, BridgeError
from bridge.model import Command, CommandError, Message, Response, ResponseStatus
from bridge.options import CommandOptions, Duration, about
from bridge.payloads import JSON_PROPERTIES, Moment
from bridge.times import rfc3339
from bridge.topics import matches
from bridge.watch.metrics import Histogram, count_command

MAX_LINE = 100
MAX_DEPTH = 8  # the deepest subject of any platform
TIMEOUT = Duration(10.0)
_IDEMPOTENT_S = 600.0
_IDEMPOTENT_KEYS = 10_000
_CORRELATION = b"\x09"  # MQTT 5, 3.3.2.3.6
_numbers = itertools.count(1)  # of all commands of this process: a reload must not give a reference a second time


Code = Literal[200, 202, 400, 403, 404, 408, 409, 410, 429, 502, 503]
CODES: dict[ResponseStatus, tuple[Code, ...]] = {  # what goes with what: 202 is not final, all else is
    "accepted": (202,),
    "sent": (202, 200),
    "succeeded": (200,),
    "rejected": (400, 403, 404, 409, 429, 503),
    "expired": (410,),
    "failed": (502,),
    "unknown": (408,),
}


class NoFields(Struct, frozen=True, forbid_unknown_fields=True):
    """A command without fields of its own."""


COMMON = tuple(CommandSpec(name, NoFields) for name in ("reconnect", "pause", "resume"))


class ResponsePayload(Struct, frozen=True, omit_defaults=True):
    """What a response says; `code` as in HTTP, `id` the sender's own."""

    command: Annotated[str, about("its name")]
    status: Annotated[
        ResponseStatus,
        about("rejected, expired: not carried out; unknown: perhaps; accepted, sent with 202: more is to come"),
    ]
    final: Annotated[bool, about("nothing more is said to this command")]
    code: Annotated[Code, about("as in HTTP")]
    time: Annotated[Moment, about("when it was said, UTC")]
    id: Annotated[str | int | None, about("the sender's own")] = None
    error: Annotated[CommandError | None, about("why it did not succeed")] = None
    data: Annotated[Any, about("what the command came to")] = None


class CommonFields(Struct, frozen=True):
    """The fields that every command may have."""

    id: Annotated[str | int | UnsetType, about("repeated in the responses")] = UNSET
    timeout: Annotated[
        Duration | UnsetType, about("for waiting to be sent and for the platform's first answer; 10s where left out")
    ] = UNSET
    idempotency_key: Annotated[
        str | UnsetType, about("the same key and body on the same topic within 10 minutes is carried out once")
    ] = UNSET


_COMMON_FIELDS = CommonFields.__struct_fields__


class _Open(Struct):
    """A command between its arrival and its final response."""

    key: str
    name: str
    subject: str
    topic: str  # of its responses
    correlation: bytes | None
    arrived: float
    id: str | int | None = None
    body: Any = None
    send_by: float = 0.0
    deadline: float = 0.0
    once: "_Once | None" = None  # what is remembered of it
    given: bool = False  # to the session


class _Once(Struct):
    """What is remembered under an idempotency key."""

    place: tuple[str, str]  # topic and key
    body: bytes
    until: float
    response: Response | None = None  # None while it runs


class _Line:
    """Commands that wait their turn: those of one second go at once, the others as the rate allows."""

    def __init__(self, rate: float) -> None:
        self.waiting: deque[_Open] = deque()
        self._rate, self._burst = rate, max(1.0, rate)
        self._tokens, self._filled = self._burst, instant().mono

    def fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now

    def next(self) -> _Open | None:
        return self.waiting.popleft() if self.waiting and self._tokens >= 1.0 else None

    def gone(self) -> None:
        """One has had its turn."""
        self._tokens -= 1.0

    def delay(self, now: float) -> float:
        """Seconds until the next one's turn, or until the time of one runs out."""
        due = min(one.send_by for one in self.waiting)
        return max(0.0, min((1.0 - self._tokens) / self._rate, due - now))


def filters(prefix: str, deepest: int = MAX_DEPTH) -> list[str]:
    """The subscriptions: explicit depths, so that our own events are never heard."""
    return [f"{prefix}/{'+/' * depth}command/+" for depth in range(deepest + 1)]


Local = Callable[[Any], Any | Awaitable[Any]]


class Commands:
    """The commands of one backend, or of the bridge."""

    def __init__(
        self,
        *,
        base: str,
        prefix: str,
        session: str,
        specs: tuple[CommandSpec, ...],
        local: Mapping[str, Local],
        options: CommandOptions,
        publish: Callable[[Message], None],
        counts: dict[tuple[str, str], int],
        seconds: Histogram,
        ready: Callable[[], str | None] = lambda: None,
        order: Callable[[Command], None] = lambda command: None,
    ) -> None:
        self._base, self._prefix, self._session = base, prefix, session
        self._specs = {spec.name: spec for spec in specs}
        self._local, self._options, self._publish = local, options, publish
        self._counts, self._seconds, self._ready, self._order = counts, seconds, ready, order
        self._open: dict[str, _Open] = {}
        self._once: OrderedDict[tuple[str, str], _Once] = OrderedDict()
        self._own_line, self._line = self._lines = _Line(float(options.rate)), _Line(float(options.rate))
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def arrived(self, message: Incoming) -> None:
        """A message on a command topic."""
        levels = message.topic.removeprefix(f"{self._prefix}/").split("/")
        name, subject = levels[-1], "/".join(levels[:-2])
        plain = f"{message.topic[: -len(name) - 8]}response/{name}"  # 8: "command/"
        one = _Open(f"{self._session}-{next(_numbers)}", name, subject, plain, message.correlation, instant().mono)
        self._open[one.key] = one
        try:
            wrong = self._route(one, message.response_topic)
            fields = fields_of(message.payload)
            one.id = identity(fields)  # first of all: every answer carries it
            if wrong is not None:
                raise wrong
            if self._check(one, message, fields):
                self._queue(one)
        except BadCommand as bad:
            self._reject(one, bad)

    def respond(self, response: Response) -> None:
        """What the session says to a command; after the final one nothing more is said."""
        one = self._open.get(response.command)
        if one is None:
            return
        now = instant()
        payload = ResponsePayload(
            one.name,
            response.status,
            response.final,
            response.code,  # type: ignore[arg-type]
            rfc3339(now.unix),
            one.id,
            response.error,
            response.data,
        )
        properties = JSON_PROPERTIES
        if one.correlation is not None:
            properties += _CORRELATION + len(one.correlation).to_bytes(2, "big") + one.correlation
        self._publish(Message(one.topic, msgspec.json.encode(payload), properties))
        if response.final:
            self._finished(one, response, now.mono)

    def abandon(self, why: str) -> None:
        """Whoever carries commands out is gone: what was given to it has an unknown end."""
        for one in list(self._open.values()):
            if one.given:
                self.respond(Response(one.key, "unknown", 408, error=CommandError("internal", why)))

    def stop(self) -> None:
        """The program ends: nothing new is taken, what waits in line is answered."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        for line in self._lines:
            while line.waiting:
                self._reject(line.waiting.popleft(), BadCommand("ws2mqtt is stopping", code=503, kind="stopping"))
        for task in self._tasks:
            task.cancel()
        for one in list(self._open.values()):
            if one.name in self._local:
                error = CommandError("stopped", "ws2mqtt stopped before it was done")
                self.respond(Response(one.key, "unknown", 408, error=error))

    # Checking.

    def _check(self, one: _Open, message: Incoming, fields: dict[str, Any]) -> bool:
        """Fills in what the command says. Raises BadCommand; False: already answered from memory."""
        if message.retain:
            raise BadCommand("a retained command is not carried out: publish without the retain flag", kind="retained")
        spec = self._spec(one)
        if not any(fnmatchcase(one.name, allowed) for allowed in self._options.allow):
            raise BadCommand(f"commands.allow does not allow {one.name}", code=403, kind="not_allowed")
        common = converted({key: value for key, value in fields.items() if key in _COMMON_FIELDS}, CommonFields)
        own = {key: value for key, value in fields.items() if key not in _COMMON_FIELDS}
        timeout = TIMEOUT if common.timeout is UNSET else common.timeout
        one.deadline = one.arrived + timeout
        one.send_by = one.deadline if message.expiry is None else min(one.deadline, one.arrived + message.expiry)
        one.body = converted(own, spec.body)
        spec.check(one.body)
        if common.idempotency_key is not UNSET and not self._first(one, message.topic, common.idempotency_key, own):
            return False
        if one.name not in self._local and (why := self._ready()) is not None:
            raise BadCommand(f"the backend is {why}", code=503, kind="not_connected")
        return True

    def _spec(self, one: _Open) -> CommandSpec:
        spec = self._specs.get(one.name)
        if spec is None:
            known = ", ".join(sorted(self._specs))
            raise BadCommand(f"no command {one.name!r}; there are {known}", code=404, kind="no_such_command")
        if not matches(spec.subject, one.subject):
            where = "/".join(filter(None, (self._prefix, spec.subject, "command", spec.name)))
            raise BadCommand(f"{one.name} is a command of {where}", code=404, kind="no_such_subject")
        return spec

    def _route(self, one: _Open, topic: str | None) -> BadCommand | None:
        """Where the responses go; what is wrong with the Response Topic is answered on the plain one."""
        if topic is None:
            return None
        if not topic or "+" in topic or "#" in topic or "\0" in topic:
            return BadCommand("the Response Topic has wildcards or is empty", kind="invalid_response_topic")
        if topic.startswith(f"{self._base}/") and topic.split("/")[-2] == "command":
            return BadCommand("the Response Topic is itself a command topic", kind="invalid_response_topic")
        one.topic = topic
        return None

    def _first(self, one: _Open, topic: str, key: str, own: dict[str, Any]) -> bool:
        """Whether this key is new; else the command is answered from memory, or refused."""
        now, body = instant().mono, canonical(own)
        while self._once and (len(self._once) >= _IDEMPOTENT_KEYS or next(iter(self._once.values())).until <= now):
            self._once.popitem(last=False)
        known = self._once.get((topic, key))
        if known is None:
            one.once = self._once[topic, key] = _Once((topic, key), body, now + _IDEMPOTENT_S)
            return True
        if known.body != body:
            raise BadCommand("this idempotency_key was used with another body", code=409, kind="idempotency_conflict")
        if known.response is None:
            raise BadCommand("the command with this idempotency_key is still under way", code=409, kind="under_way")
        self.respond(msgspec.structs.replace(known.response, command=one.key))
        return False

    # Carrying out.

    def _queue(self, one: _Open) -> None:
        if self._stopping:
            raise BadCommand("ws2mqtt is stopping", code=503, kind="stopping")
        line = self._own_line if one.name in self._local else self._line
        if len(line.waiting) >= MAX_LINE:
            raise BadCommand(
                f"more than commands.rate allows, and {MAX_LINE} wait already: try again later",
                code=429,
                kind="too_fast",
            )
        line.waiting.append(one)
        self._advance()

    def _advance(self) -> None:
        """Gives out of the lines what the rate allows now; comes back for the rest."""
        now = instant().mono
        for line in self._lines:
            line.fill(now)
            self._move(line, now)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delays := [line.delay(now) for line in self._lines if line.waiting]:
            self._timer = asyncio.get_running_loop().call_later(min(delays) + 0.001, self._again)

    def _move(self, line: _Line, now: float) -> None:
        while (one := line.next()) is not None:
            if one.send_by <= now:
                self._expire(one)
                continue
            try:
                self._give(one)
                line.gone()
            except BadCommand as bad:
                self._reject(one, bad)

    def _again(self) -> None:
        now = instant().mono
        for line in self._lines:
            for one in [one for one in line.waiting if one.send_by <= now]:
                line.waiting.remove(one)
                self._expire(one)
        self._advance()

    def _give(self, one: _Open) -> None:
        if one.name in self._local:
            task = asyncio.ensure_future(self._do(one))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        if (why := self._ready()) is not None:
            raise BadCommand(f"the backend is {why}", code=503, kind="not_connected")
        one.given = True
        self._order(Command(one.key, one.name, one.subject, one.body, one.send_by, one.deadline, one.id))

    async def _do(self, one: _Open) -> None:
        """A command that the bridge itself carries out."""
        try:
            data = self._local[one.name](one.body)
            if isinstance(data, Awaitable):
                data = await data
        except BadCommand as bad:
            self._reject(one, bad)
        except BridgeError as error:
            self.respond(Response(one.key, "failed", 502, error=CommandError("failed", str(error))))
        else:
            self.respond(Response(one.key, "succeeded", 200, data=data))
        finally:  # after a bug, too, its sender gets an answer
            bug = CommandError("internal", "an internal error, see the log")
            self.respond(Response(one.key, "unknown", 408, error=bug))

    def _expire(self, one: _Open) -> None:
        error = CommandError("expired", "its time ran out before it could be sent; it was not carried out")
        self.respond(Response(one.key, "expired", 410, error=error))

    def _reject(self, one: _Open, bad: BadCommand) -> None:
        value = bad.value if isinstance(bad.value, int | float) else None
        error = CommandError(bad.kind, str(bad), bad.field, value)
        status = "expired" if bad.code == 410 else "failed" if bad.code == 502 else "rejected"
        self.respond(Response(one.key, status, bad.code, error=error))  # type: ignore[arg-type]

    def _finished(self, one: _Open, response: Response, now: float) -> None:
        del self._open[one.key]
        count_command(self._counts, one.name, response.status)
        self._seconds.observe(now - one.arrived)
        if one.once is not None:
            one.once.response = response
            not_done = response.status in ("rejected", "expired")  # the key may be used again
            if not_done and self._once.get(one.once.place) is one.once:
                del self._once[one.once.place]
