"""The datapoints that are subscribed, and what is said of a value: the hot path of this platform.

1. Subjects are made once per datapoint, not per value.
2. A value is an event in any case, and the datapoint's state where it is subscribed and not older than what is there.
3. An update of a datapoint that is not subscribed is told, too: it may be on its way still, or somebody else's.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from bridge.backends.reading import canonical
from bridge.backends.smartserver import names
from bridge.backends.smartserver.data import Latest, Value
from bridge.backends.smartserver.frames import Update
from bridge.backends.smartserver.moments import moment
from bridge.backends.smartserver.talk import Talk
from bridge.backends.smartserver.usual import Update as Usual
from bridge.model import Event, Instant, State
from bridge.times import rfc3339

_STRANGERS = 4096
_encode = msgspec.json.encode


class Point(Struct):
    """One datapoint. time: RFC 3339 UTC of the newest value that is known, "" before; by the platform's clock, if it
    is stamped · said: the platform's time of the newest one that was told as an event, "" without one; told: that
    one's identity. What a read brings may be known and never have been told · live: the platform's time of the first
    update since we were blind, "" before.
    """

    qualifier: str
    subject: str
    unit: str | None = None
    time: str = ""
    stamped: bool = False
    said: str = ""
    told: bytes = b""
    live: str = ""
    wanted: bool = True


def identity(value: object) -> bytes:
    """What makes two values the same: 12 and 12.0 are."""
    if type(value) is int or type(value) is str or value is None:
        return _encode(value)
    return canonical(value)


class Points:
    """Those that are subscribed, by dpQualifier, in the order of the list."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._wanted: dict[str, Point] = {}
        self._strangers: dict[str, Point] = {}
        self._behind: set[str] = set()  # whose newest value may have been missed

    def __contains__(self, qualifier: str) -> bool:
        return qualifier in self._wanted

    @property
    def qualifiers(self) -> tuple[str, ...]:
        return tuple(self._wanted)

    @property
    def subjects(self) -> set[str]:
        return {point.subject for point in self._wanted.values()}

    def want(self, wanted: Iterable[tuple[str, str | None]]) -> None:
        """These, with their units, from now on; the state of one that is no longer wanted is cleared."""
        before, self._wanted = self._wanted, {}
        for qualifier, unit in wanted:
            known, subject = before.pop(qualifier, None), names.subject(qualifier)
            if known is not None:
                known.unit = unit or known.unit
                self._wanted[qualifier] = known
            elif subject is not None:
                self._wanted[qualifier] = Point(qualifier, subject, unit)
        self._talk.say(*(State(point.subject, None) for point in before.values() if point.time))

    def usual(self, updates: list[Usual], now: Instant) -> bool:
        """Says values of the usual shape; whether any of them is of a datapoint that is subscribed."""
        heard: list[Event | State] = []
        wanted, ours, receipt = self._wanted, False, ""
        for one in updates:
            point = wanted.get(one.datapointQualifier) or self._stranger(one.datapointQualifier)
            value = one.value
            data = Value(point.qualifier, value, None, one.presetValue, one.locValue, point.unit)
            time = extra = None
            if one.timestamp is not None and (time := moment(one.timestamp, "UTC")) is None:
                extra = {"timestamp": one.timestamp}
            told = identity(value)
            heard.append(Event(point.subject, "value", data, time, extra, told))
            if point.wanted:
                ours = True
                at = time or receipt or (receipt := rfc3339(now.unix))
                if at >= point.time:
                    point.time, point.stamped, point.said, point.told = at, time is not None, time or "", told
                    heard.append(State(point.subject, Latest(value, at)))
                if not point.live:
                    point.live = time or ""
        self._talk.say(*heard)
        return ours

    def told(self, update: Update, now: Instant) -> bool:
        """Says a value of any other shape; as usual()."""
        point = self._wanted.get(update.qualifier) or self._stranger(update.qualifier)
        self._talk.say(self.event(update))
        self.picture(update, now)
        return point.wanted

    def picture(self, update: Update, now: Instant, *, said: bool = True) -> None:
        """The datapoint's state, if this is the newest that is known of it; said: it was told as an event, too."""
        point = self._wanted.get(update.qualifier)
        time = update.time or rfc3339(now.unix)
        if point is not None and time >= point.time:
            point.time, point.stamped = time, update.time is not None
            if said:
                point.said, point.told = update.time or "", identity(update.value)
            self._talk.say(State(point.subject, Latest(update.value, time)))

    def cached(self, update: Update, now: Instant) -> None:
        """What the platform knew before it asked the device: a picture; news, where we were blind when it came."""
        point = self._wanted.get(update.qualifier)
        if point is None or (update.time or "") <= point.time:
            self._behind.discard(update.qualifier)
            if point is not None and not point.time:
                self.picture(update, now, said=False)
            return
        if news := update.qualifier in self._behind:
            self._talk.say(self.event(update, replay=True))
            self._behind.discard(update.qualifier)
        self.picture(update, now, said=news)

    def blind(self) -> dict[str, str]:
        """From now on something may be missed; how new the newest value of each is that was told, by the platform's
        own clock.
        """
        self._behind = {qualifier for qualifier, point in self._wanted.items() if point.stamped}
        for point in self._wanted.values():
            point.live = ""
        return {qualifier: point.said for qualifier, point in self._wanted.items() if point.said}

    def has(self, update: Update) -> bool:
        """Whether this is the newest that was told as an event."""
        point = self._wanted.get(update.qualifier)
        return point is not None and point.said == update.time and point.told == identity(update.value)

    def heard(self, update: Update) -> bool:
        """Whether updates of its time have come by themselves, since we were blind."""
        point = self._wanted.get(update.qualifier)
        return point is not None and "" < point.live <= (update.time or "")

    def event(self, update: Update, *, replay: bool = False, type_: str = "value", request: Any = None) -> Event:
        point = self._wanted.get(update.qualifier)
        data = Value(
            update.qualifier,
            update.value,
            update.values,
            update.preset,
            update.localized,
            update.unit or (point.unit if point else None),
            update.priority,
            request,
        )
        told = identity(update.value)
        return Event(update.subject, type_, data, update.time, update.extra, told, replay)

    def _stranger(self, qualifier: str) -> Point:
        known = self._strangers.get(qualifier)
        if known is None:
            if len(self._strangers) >= _STRANGERS:
                self._strangers.clear()
            known = Point(qualifier, names.subject(qualifier) or "", wanted=False)
            self._strangers[qualifier] = known
        return known
