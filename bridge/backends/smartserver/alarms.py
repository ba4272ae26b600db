"""Which alarms are active, and what has changed: frames tell at once, the REST list corrects.

1. What CRT:ALARM and DEL:ALARM carry is not documented, so both make the list be read again, at most every 10 s, as
   the vendor's page does. What a frame tells by itself is told at once.
2. The first list is a picture, not news: it makes the state alone.
3. An alarm that a frame spoke of while a list was on its way is left as the frame said; the list is read once more.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from bridge.backends.smartserver.alarm import Alarm, alarm
from bridge.backends.smartserver.data import AlarmData
from bridge.backends.smartserver.data import Alarms as Picture
from bridge.backends.smartserver.fields import Id, WrongShape, key
from bridge.backends.smartserver.pages import Pages
from bridge.backends.smartserver.talk import Talk
from bridge.model import Event, Instant, State
from bridge.times import rfc3339

ALARMS = "alarms"  # their subject
LIST = "/iap/alarms?activeOnly=true&order=asc&sortBy=timestamp"
_PAUSE_S = 10.0
_FAR = float("inf")


class Alarms:
    """The active alarms by id."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._active: dict[str, Alarm] = {}
        self._spoken: set[str] = set()  # of by frames, since the list was asked for
        self._reading: Pages | None = None
        self._read_at = -_FAR
        self._known = False
        self._told: tuple[AlarmData, ...] | None = None
        self._due: float | None = None

    def due(self) -> float | None:
        return self._due if self._reading is None else None

    def id_of(self, told: Id) -> Id:
        """As the platform writes it."""
        known = self._active.get(key(told))
        return known.data.id if known else told

    def read(self, now: Instant) -> None:
        """Reads the list now, whatever was read before."""
        if self._reading is not None:
            self._reading.cancel()
        self._due, self._read_at = None, now.mono
        self._spoken.clear()
        self._reading = Pages(self._talk, LIST, self._listed)

    def read_soon(self, now: Instant) -> None:
        """Reads the list within 10 s."""
        if self._due is None:
            self._due = max(now.mono, self._read_at + _PAUSE_S)
            self.woken(now)

    def woken(self, now: Instant) -> None:
        if self._due is not None and self._due <= now.mono and self._reading is None:
            self.read(now)

    def rest(self) -> None:
        """Not now: the connection is gone."""
        if self._reading is not None:
            self._reading.cancel()
        self._reading = self._due = None

    def raised(self, told: Alarm, now: Instant) -> None:
        """A frame told of an alarm."""
        self._spoken.add(told.key)
        if told.active:
            self._put(told)
        else:
            self._over(told.data.id, told)
        self._tell(now)
        self.read_soon(now)

    def gone(self, ids: tuple[Id, ...], now: Instant) -> None:
        """A frame told that these are no more, or that something has changed."""
        for id_ in ids:
            self._spoken.add(key(id_))
            self._over(id_, None)
        if ids:
            self._tell(now)
        self.read_soon(now)

    def _listed(self, rows: list[object] | None, why: str, now: Instant) -> None:
        self._reading = None
        if rows is None:  # the next frame, or the next connection, makes it be read again
            return
        listed = {one.key: one for one in active(rows)}
        if self._known:
            for gone in [one for one in self._active if one not in listed and one not in self._spoken]:
                self._over(gone, None)
            for one in listed.values():
                if one.key not in self._spoken:
                    self._put(one)
        else:
            self._known = True
            self._active = {**listed, **self._active}
        self._tell(now)
        if self._spoken:
            self.read_soon(now)

    def _put(self, told: Alarm) -> None:
        before = self._active.get(told.key)
        self._active[told.key] = told
        if before is None:
            self._say("raised", told)
        elif before.data != told.data:
            self._say("updated", told)

    def _over(self, id_: Id, told: Alarm | None) -> None:
        known = self._active.pop(key(id_), None)
        self._say("cleared", told or known or Alarm(key(id_), False, AlarmData(id_)))

    def _say(self, change: Literal["raised", "updated", "cleared"], one: Alarm) -> None:
        """Its time stamp says when it was raised; when it was cleared is not told."""
        time = one.data.time if change != "cleared" else None
        self._talk.say(Event("", "alarm", msgspec.structs.replace(one.data, change=change), time, one.extra))

    def _tell(self, now: Instant) -> None:
        told = tuple(one.data for one in self._active.values())
        if told == self._told:
            return
        self._told = told
        self._talk.say(State(ALARMS, Picture(told, len(told), rfc3339(now.unix))))


def active(rows: list[object]) -> Iterator[Alarm]:
    """Those of a list that are not over."""
    for row in rows:
        try:
            one = alarm(row)
        except WrongShape:
            continue
        if one.active:
            yield one
