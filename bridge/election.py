"""One of several replicas holds a Kubernetes Lease: what to ask the API server next, and what follows from its answer.

Pure: no clock, no network. Source: the API reference of Lease (coordination.k8s.io/v1), and "Efficient detection of
changes" and "Resource versions" of the API concepts: a PUT that carries a resourceVersion is a compare-and-swap.

1. What the holder may do is counted from the moment when its request was begun, by its own clock that never goes back:
   until `until` it may begin things, until `ends` end them. Everybody else counts the same lease from the moment when
   they saw it, which is later, and takes it only after its whole duration without a change.
2. No two machines' clocks are ever compared for that: renewTime is only seen to change.
3. A request without an answer may have been carried out, or may yet be: it gives nothing, and nothing is assumed of it.
4. Who holds the lease is known from the server's word alone; that it is somebody else ends everything at once.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from bridge.model import Instant
from bridge.times import rfc3339, unix, utc

SEEN = "ws2mqtt/seen"  # annotation: of each backend, when its platform was last heard, as told by the holder
NEVER = -math.inf
_HURRIES = 3  # asks in a row without a pause
_HOLDING, _LOOKING, _TROUBLED = (0.8, 1.0), (0.3, 0.6), (0.4, 0.6)  # of `retry`, between asks

Action = Literal["look", "create", "take"]
_METHODS: Mapping[Action, str] = {"look": "GET", "create": "POST", "take": "PUT"}


class Timing(Struct, frozen=True):
    """Seconds. duration: how long others wait for a holder that is silent · deadline: how long the holder goes on
    without an answer · retry: about how often it asks."""

    duration: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0


class Ask(Struct, frozen=True):
    """One request. body: of the Lease."""

    action: Action
    body: bytes | None = None

    @property
    def method(self) -> str:
        return _METHODS[self.action]


class Heard(Struct, frozen=True):
    """Its answer. status: of HTTP, 0: there was none, `error` says why · after: Retry-After in seconds."""

    status: int
    body: bytes = b""
    error: str = ""
    after: float = 0.0


class Spec(Struct, frozen=True, rename="camel"):
    """What a Lease says of its holder; times as text."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Metadata(Struct, frozen=True, rename="camel"):
    resource_version: str
    annotations: dict[str, str] | None = None


class _Typed(Struct, frozen=True):
    metadata: _Metadata
    spec: Spec = Spec()


class _Whole(Struct, frozen=True):
    """The same object with everything in it: what we do not know goes back as it came."""

    metadata: dict[str, Raw]
    spec: dict[str, Raw] = {}


class _Status(Struct, frozen=True):
    message: str = ""


class Record(Struct, frozen=True):
    """The Lease as the server has it, or had it."""

    spec: Spec
    annotations: dict[str, str]
    whole: _Whole


class Election:
    """One candidate's view of one Lease. jitter: 0.0 to 1.0, at random."""

    def __init__(self, me: str, namespace: str, name: str, timing: Timing, jitter: Callable[[], float]) -> None:
        self.me, self.namespace, self.name, self.timing, self._jitter = me, namespace, name, timing, jitter
        self.granted = NEVER  # when the request was begun that made us the holder, or kept us so
        self.until = NEVER  # when we stop to begin things
        self.ends = NEVER  # when everything is stopped
        self.trouble = ""  # why there is no usable answer
        self.wrote = False  # a request of ours may have made us the holder
        self.inherited: Mapping[str, float] = {}  # Unix times when backends were last heard by who led before
        self.inherited_all: float | None = None  # of those that are not in there: when that one was last heard itself
        self._record: Record | None = None
        self._absent = self._stale = False
        self._seen_at = 0.0  # when the record was first seen as it is
        self._looked = NEVER  # when we looked last (Unix)
        self._renewed: float | None = None  # when the record was renewed, by our clock (Unix)
        self._hurries = 0

    @property
    def holder(self) -> str:
        """Empty: nobody, or not known."""
        return (self._record.spec.holder_identity or "") if self._record is not None else ""

    # What to ask.

    def ask(self, now: Instant, seen: Mapping[str, float]) -> Ask:
        """The next request. seen: Unix times when backends were last heard, for whoever leads after us."""
        if self._absent:
            return self._write("create", now, seen)
        if self._record is None or self._stale or not (self.holder == self.me or self._free(now)):
            return Ask("look")
        return self._write("take", now, seen)

    def give_back(self, now: Instant, seen: Mapping[str, float]) -> Ask | None:
        """The request that makes room for others; None: there is nothing to give back. Everything has to be stopped."""
        self.until = self.ends = NEVER
        if not self.wrote or (self._absent and not self._stale):
            return None
        if self._stale or self._record is None:
            return Ask("look")
        if self.holder != self.me:
            return None
        spec = Spec("", 1, _micro(now), _micro(now), self._record.spec.lease_transitions)
        return Ask("take", self._body(spec, seen))

    def _free(self, now: Instant) -> bool:
        return not self.holder or now.mono >= self._seen_at + self._patience()

    def _patience(self) -> float:
        """How long the holder was promised to be waited for."""
        told = self._record.spec.lease_duration_seconds if self._record is not None else None
        return float(told) if told else self.timing.duration

    def _write(self, action: Action, now: Instant, seen: Mapping[str, float]) -> Ask:
        self.wrote = self._stale = True  # until it is answered
        old = self._record.spec if self._record is not None and action == "take" else Spec()
        mine = old.holder_identity == self.me
        transitions = (old.lease_transitions or 0) + (not mine and action == "take")
        since = old.acquire_time if mine and old.acquire_time else _micro(now)
        spec = Spec(self.me, math.ceil(self.timing.duration), since, _micro(now), transitions)
        if self.until <= now.mono:  # we have not heard any platform yet: what is known of them is handed on
            told = self._told_seen()
            seen = {name: max(told.get(name, NEVER), seen.get(name, NEVER)) for name in (*told, *seen)}
        return Ask(action, self._body(spec, seen, action == "create"))

    def _body(self, spec: Spec, seen: Mapping[str, float], new: bool = False) -> bytes:
        if new or self._record is None:
            metadata: dict[str, object] = {"name": self.name, "namespace": self.namespace}
            fields: Mapping[str, object] = {}
            annotations: dict[str, str] = {}
        else:
            metadata, fields = dict(self._record.whole.metadata), self._record.whole.spec
            annotations = dict(self._record.annotations)
        if seen or SEEN in annotations:
            told = {name: rfc3339(moment) for name, moment in seen.items()}
            metadata["annotations"] = {**annotations, SEEN: msgspec.json.encode(told).decode()}
        ours = msgspec.to_builtins(spec)
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        return msgspec.json.encode({**lease, "metadata": metadata, "spec": {**fields, **ours}})

    # What follows.

    def answered(self, ask: Ask, heard: Heard, began: Instant, now: Instant) -> float:
        """Seconds until the next ask. began: when the request was."""
        status, self.trouble = heard.status, ""
        if status in (200, 201):
            return self._told(ask, heard, began, now)
        if status == 404 and ask.action != "create":
            self._gone()
            return self._hurry(now)
        if status == 409:  # somebody else was faster: who?
            self._absent, self._stale = False, True
            return self._hurry(now)
        self._stale = self._stale or ask.action == "take"
        self.trouble = _words(ask, heard)
        return max(self._pause(now, _TROUBLED), heard.after)

    def _told(self, ask: Ask, heard: Heard, began: Instant, now: Instant) -> float:
        record = _read(heard.body)
        if record is None:
            self._stale, self.trouble = True, "the API server's answer is not a Lease"
            return self._pause(now, _TROUBLED)
        if ask.action == "look":
            self._look(record, began, now)
            mine = self.holder == self.me
            return self._hurry(now) if mine or self._free(now) else self._pause(now, _LOOKING)
        self._take(record, began, now)
        return self._pause(now, _HOLDING if self.holder == self.me else _LOOKING)

    def _gone(self) -> None:
        """There is no Lease: whoever held it does so no more."""
        self._record, self._absent, self._stale = None, True, False
        self.until = self.ends = NEVER

    def _look(self, record: Record, began: Instant, now: Instant) -> None:
        if self._record is None or record.spec != self._record.spec:
            self._seen_at = now.mono
            self._renewed = self._moment(record.spec, now)
        self._record, self._absent, self._stale, self._looked = record, False, False, began.unix
        if self.holder != self.me:
            self.until = self.ends = NEVER

    def _moment(self, spec: Spec, now: Instant) -> float | None:
        """When it was renewed, by our clock: after we looked last, and before now, whatever the other's clock says."""
        told = _unix(spec.renew_time)
        return None if told is None else min(max(told, self._looked), now.unix)

    def _take(self, record: Record, began: Instant, now: Instant) -> None:
        """The server has carried it out: the lease is ours, or given back."""
        before, first = self._record, self.granted == NEVER or self.until <= began.mono
        if first and before is not None:
            self._inherit(before)
        self._record, self._absent, self._stale = record, False, False
        self._seen_at, self._looked, self._renewed = now.mono, began.unix, began.unix
        if self.holder == self.me:
            self.granted = began.mono
            self.until, self.ends = began.mono + self.timing.deadline, began.mono + self.timing.duration

    def _inherit(self, before: Record) -> None:
        """Since when nobody hears the platforms. Ages are told and counted by one clock, the other's."""
        renewed, told = self._renewed, _unix(before.spec.renew_time)
        if renewed is None or told is None:
            return
        self.inherited_all = renewed if SEEN not in before.annotations else None
        self.inherited = {name: renewed - max(0.0, told - seen) for name, seen in _seen(before.annotations).items()}

    def _told_seen(self) -> Mapping[str, float]:
        return {} if self._record is None else _seen(self._record.annotations)

    # When next.

    def _hurry(self, now: Instant) -> float:
        """At once, but not for ever."""
        self._hurries += 1
        return 0.0 if self._hurries <= _HURRIES else self._pause(now, _LOOKING)

    def _pause(self, now: Instant, share: tuple[float, float]) -> float:
        """Shorter where somebody's lease ends before."""
        self._hurries = 0
        low, high = share
        pause = self.timing.retry * (low + (high - low) * self._jitter())
        left = self._seen_at + self._patience() - now.mono
        return min(pause, left) if self.holder not in ("", self.me) and left > 0 else pause


def _micro(now: Instant) -> str:
    """MicroTime: the server takes six digits of a second, no more and no fewer."""
    return rfc3339(now.unix)


def _unix(text: str | None) -> float | None:
    told = utc(text) if text else None
    return None if told is None else unix(told)


def _seen(annotations: Mapping[str, str]) -> dict[str, float]:
    try:
        told = msgspec.json.decode(annotations.get(SEEN, "{}"), type=dict[str, str])
    except (ValueError, RecursionError):
        return {}
    moments = {name: _unix(text) for name, text in told.items()}
    return {name: moment for name, moment in moments.items() if moment is not None}


def _read(body: bytes) -> Record | None:
    try:
        typed, whole = msgspec.json.decode(body, type=_Typed), msgspec.json.decode(body, type=_Whole)
    except (ValueError, RecursionError):
        return None
    return Record(typed.spec, typed.metadata.annotations or {}, whole)


_REMEDIES = {
    401: "is the token that of a service account of this cluster?",
    403: "the service account needs a Role with get, create and update on leases of coordination.k8s.io",
    404: "is there such a namespace?",
}


def _words(ask: Ask, heard: Heard) -> str:
    if not heard.status:
        return heard.error
    try:
        told = msgspec.json.decode(heard.body, type=_Status).message[:300]
    except (ValueError, RecursionError):
        told = ""
    parts = (f"the API server answered HTTP {heard.status} to {ask.method}", told, _REMEDIES.get(heard.status, ""))
    return ": ".join(filter(None, parts))
