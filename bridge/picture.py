"""What the status page shows, and how it is kept up to date: pictures of the running bridge as server-sent events.

A picture is taken once a second for each page that is open, and none where none is; it is sent where it differs from
the last one. Nothing of an event is shown but when it was, its type and what it is about.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec import Struct

from bridge.backends.session import Gap
from bridge.clock import instant
from bridge.model import ConditionState
from bridge.times import rfc3339
from bridge.unit import Unit
from bridge.watch.page import Row
from bridge.watch.web import Reply, Stream

_EVERY_S = 1.0
_BEAT_S = 5.0  # a sign of life, where nothing changes
_PAGES = 20


class Latency(Struct, frozen=True):
    """Since the start, in seconds. buckets: counts by upper bound, the last one beyond all bounds."""

    count: int
    sum: float
    bounds: tuple[float, ...]
    buckets: list[int]


class BackendPicture(Struct, frozen=True):
    """One backend: its state topic, its ledger, and what else is counted of it. Times: RFC 3339 UTC."""

    name: str
    type: str
    state: ConditionState
    since: str | None
    attempt: int
    next_retry: str | None
    error: str | None
    last_event: str | None
    mqtt: bool
    received: int
    recovered: int
    published: int
    dropped: dict[str, int]
    waiting: int
    bytes: int
    oldest: str | None
    ignored: int
    replayed: int
    unread: int
    gaps: int
    gap_seconds: float
    gap: Gap | None
    latency: Latency


class Picture(Struct, frozen=True):
    """The bridge. waiting: what readiness waits for · lease: who is the active replica, in words; None: no lease."""

    version: str
    instance: str
    session: str
    base_topic: str
    mqtt: bool
    ready: bool
    draining: bool
    waiting: list[str]
    lease: str | None
    backends: list[BackendPicture]


class Recent(Struct, frozen=True):
    """One event. time: the platform's, or when it was read."""

    time: str
    backend: str
    type: str
    subject: str
    replay: bool


def of(unit: Unit) -> BackendPicture:
    """A backend as it is now."""
    shown, meter, health = unit.crossing.state.shown(), unit.lasting.meter, unit.picture()
    latency, (_, _, oldest) = meter.mqtt.latency, meter.waiting()
    return BackendPicture(
        name=unit.name,
        type=unit.platform,
        state=shown.state,
        since=shown.since,
        attempt=shown.attempt,
        next_retry=shown.next_retry,
        error=shown.error,
        last_event=rfc3339(meter.last_event) if meter.last_event else None,
        mqtt=unit.publisher.connected,
        received=health.events_received,
        recovered=health.events_recovered,
        published=health.events_published,
        dropped=health.events_dropped,
        waiting=health.outbox_events,
        bytes=health.outbox_bytes,
        oldest=rfc3339(oldest) if oldest else None,
        ignored=meter.ignored,
        replayed=meter.replayed,
        unread=sum(meter.unread.values()),
        gaps=meter.gaps,
        gap_seconds=round(meter.gap_seconds, 3),
        gap=meter.last_gap,
        latency=Latency(latency.count, latency.sum, latency.bounds, list(latency.counts)),
    )


def row(one: BackendPicture) -> Row:
    """As the page itself comes with it."""
    words = {3: str(one.waiting), 4: one.last_event or "none yet", 5: one.gap.until if one.gap else "none"}
    return Row(one.name, one.type, one.state, one.error or "", words | {6: one.next_retry or "–"})


class Pages:
    """The open pages. take: a picture of now · units: the backends of now."""

    def __init__(self, take: Callable[[], Picture], units: Callable[[], Iterable[Unit]]) -> None:
        self._take, self._units = take, units
        self._open = 0

    def open(self) -> Reply | Stream:
        """One more; too many are refused."""
        if self._open >= _PAGES:
            return Reply(503, "text/plain; charset=utf-8", b"too many status pages are open\n")
        return Stream("text/event-stream", self._told())

    async def _told(self) -> AsyncGenerator[bytes, None]:
        with self._counted():
            told, quiet, numbers = b"", 0.0, dict[str, int]()
            while True:
                said = b""
                if (picture := msgspec.json.encode(self._take())) != told:
                    told, time = picture, rfc3339(instant().unix).encode()
                    said += b'event: picture\ndata: {"time":"%b","picture":%b}\n\n' % (time, picture)
                if recent := self._recent(numbers):
                    said += b"event: recent\ndata: %b\n\n" % msgspec.json.encode(recent)
                quiet = 0.0 if said else quiet + _EVERY_S
                if quiet >= _BEAT_S:
                    said, quiet = b"event: beat\ndata: 1\n\n", 0.0
                if said:
                    yield said
                await asyncio.sleep(_EVERY_S)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    def _recent(self, numbers: dict[str, int]) -> list[Recent]:
        """Events that were not told yet, oldest first. numbers: of the last one told, by backend."""
        found: list[tuple[str, str, list[Any]]] = []
        for unit in self._units():
            events = unit.lasting.meter.recent
            last, newest = numbers.get(unit.name, 0), events[-1][0] if events else 0
            if newest < last:  # the backend was taken out, and put in again
                last = 0
            numbers[unit.name] = newest
            if newest > last:
                found += [(read, unit.name, one) for number, read, *one in events if number > last]
        found.sort(key=lambda one: one[0])
        return [Recent(time or read, name, kind, about, replay) for read, name, (time, kind, about, replay) in found]
