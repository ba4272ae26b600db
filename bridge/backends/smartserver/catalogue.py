"""Devices and their datapoints, as far as they are known; and globs resolved against them.

1. The device list is read after every (re)connection; what has changed meanwhile is told as events and states.
2. A device's datapoints are asked for once, and only if a glob can fit them; a few devices at a time.
3. A name without wildcards needs no device: it is subscribed as it is written.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Struct

from bridge.backends.smartserver import names
from bridge.backends.smartserver.data import DeviceState, Removed, Status
from bridge.backends.smartserver.device import Device, device
from bridge.backends.smartserver.fields import Fields, Id, WrongShape, key
from bridge.backends.smartserver.frames import update
from bridge.backends.smartserver.pages import Pages
from bridge.backends.smartserver.talk import Talk
from bridge.model import Event, Instant, State
from bridge.times import rfc3339

_AT_ONCE = 4

Resolved = Callable[[list[tuple[str, str | None]], Instant], None]
Tell = Literal["always", "changed", "first"]


class _Known(Struct):
    """One device. points: dpQualifier → unit; None: not asked for yet · unread: they could not be read."""

    device: Device
    points: dict[str, str | None] | None = None
    unread: bool = False


class _Wish(Struct):
    """missing: devices whose datapoints are needed and not known yet; None: not even the devices are."""

    globs: tuple[str, ...]
    then: Resolved
    missing: set[str] | None = None


class Catalogue:
    """changed: the device list was read · stuck: it cannot be read just now, and why."""

    def __init__(self, talk: Talk, changed: Callable[[Instant], None], stuck: Callable[[str], None]) -> None:
        self._talk, self._changed, self._stuck = talk, changed, stuck
        self._known: dict[str, _Known] = {}  # by id, or by handle where there is no id
        self._places: dict[tuple[str, str, str], str] = {}  # by SID, protocol, DID
        self._loading: Pages | None = None
        self.begun = self.loaded = False
        self.trouble: str | None = None
        """Why devices or datapoints may be missing."""
        self._wishes: list[_Wish] = []
        self._line: deque[str] = deque()  # devices whose datapoints are to be asked for
        self._asking: set[str] = set()

    # The device list

    def load(self) -> None:
        """Reads the device list (anew)."""
        self.begun = True
        if self._loading is not None:
            self._loading.cancel()
        self._loading = Pages(self._talk, "/iap/devs?sortBy=name", self._listed, self._stuck, paged=True)

    def _listed(self, rows: list[Any] | None, why: str, now: Instant) -> None:
        self._loading = None
        first, self.loaded = not self.loaded, True
        self.trouble = f"the device list cannot be read: {why}" if rows is None else None
        if rows == [] and self._known:  # while the platform starts, rather than that all are gone
            self.trouble = "the platform lists no devices just now"
        elif rows is not None:
            found = {_key(one): one for one in _devices(rows)}
            for gone in [one for one in self._known if one not in found]:
                self._forget(gone, now, None)
            for one in found.values():
                self.seen(one, now, "first" if first else "changed")
            for known in self._known.values():
                if known.unread:  # once more
                    known.points, known.unread = None, False
        self._changed(now)
        self._advance(now)

    # One device

    def seen(self, told: Device, now: Instant, tell: Tell = "always") -> Device:
        """A device as it was told now, and as a whole as it is known; tell: when that is an event."""
        known = self._find(told)
        before = known.device if known else None
        full = told if before is None else _filled(told, before)
        changed = before is None or _stands(full) != _stands(before)
        if tell == "always" or (tell == "changed" and changed):
            self._talk.say(Event(full.subject, "status", full.data, None, full.extra))
        if full.subject and (tell == "always" or changed):
            state = DeviceState(full.data.state, full.data.health, full.data.name, rfc3339(now.unix))
            self._talk.say(State(full.subject, state))
        if before is not None and before.subject not in ("", full.subject):
            self._talk.say(State(before.subject, None))
        full = msgspec.structs.replace(full, extra=None)  # there are thousands of them
        if known is None:
            self._known[_key(full)] = _Known(full)
        else:
            known.device = full
        self._places[full.sid, full.protocol, full.did] = _key(full)
        return full

    def removed(self, id_: Id, extra: dict[str, Any] | None, now: Instant) -> None:
        """A device is no more."""
        place = key(id_)
        if place in self._known:
            self._forget(place, now, extra)
        else:
            self._talk.say(Event("", "removed", Removed(id_), None, extra))

    def _forget(self, place: str, now: Instant, extra: dict[str, Any] | None) -> None:
        gone = self._known.pop(place).device
        self._places.pop((gone.sid, gone.protocol, gone.did), None)
        self._talk.say(Event(gone.subject, "removed", Removed(gone.data.id, gone.data.name), None, extra))
        if gone.subject:
            self._talk.say(State(gone.subject, None))

    def is_new(self, told: Device) -> bool:
        return self._find(told) is None

    def device(self, id_: str) -> Device | None:
        """By its id."""
        known = self._known.get(id_)
        return known.device if known else None

    def named(self, sid: str, protocol: str, did: str) -> Device | None:
        """By the names in its subject."""
        known = self._known.get(self._places.get((sid, protocol, did), ""))
        return known.device if known else None

    @property
    def subjects(self) -> set[str]:
        """Of all devices, once they are known for sure; none before."""
        known = {one.device.subject for one in self._known.values()} if self.loaded and not self.trouble else set()
        return known - {""}

    def _find(self, told: Device) -> _Known | None:
        known = self._known.get(_key(told))
        if known is None and told.key and told.subject:  # known by its handle only, so far
            known = self._known.pop(told.handle, None)
            if known is not None:
                self._known[told.key] = known
        return known

    # Globs

    def resolve(self, globs: tuple[str, ...], then: Resolved, now: Instant) -> None:
        """Calls back with the datapoints that fit, and their units, once all that may fit is known."""
        self._wishes.append(_Wish(globs, then))
        self._advance(now)

    def forget_wish(self, then: Resolved) -> None:
        self._wishes = [wish for wish in self._wishes if wish.then is not then]

    def _advance(self, now: Instant) -> None:
        for wish in tuple(self._wishes):
            if wish.missing is None:
                wish.missing = self._missing(wish.globs)
                self._line += [one for one in wish.missing or () if one not in self._asking and one not in self._line]
            if wish.missing is not None and not wish.missing:
                self._wishes.remove(wish)
                wish.then(list(self._fitting(wish.globs)), now)
        while self._line and len(self._asking) < _AT_ONCE:
            place = self._line.popleft()
            known = self._known.get(place)
            if known is None:
                self._have(place)
                continue
            self._asking.add(place)
            path = f"/iap/devs/{names.escaped(str(known.device.id))}/if/*/*/*/*"
            Pages(self._talk, path, partial(self._pointed, place))

    def _missing(self, globs: tuple[str, ...]) -> set[str] | None:
        wild = [pattern for pattern in globs if names.is_glob(pattern)]
        if not wild:
            return set()
        if not self.loaded:
            return None
        may = [names.device_matcher(pattern) for pattern in wild]
        waiting = ((place, one.device) for place, one in self._known.items() if one.points is None)
        return {place for place, one in waiting if any(fit(one.sid, one.protocol, one.did) for fit in may)}

    def _pointed(self, place: str, rows: list[Any] | None, why: str, now: Instant) -> None:
        self._asking.discard(place)
        known = self._known.get(place)
        if known is not None:
            known.points = dict(_datapoints(rows or (), known.device))
            if rows is None:
                known.unread = True
                self.trouble = f"the datapoints of {known.device.data.name or place} cannot be read: {why}"
        self._have(place)
        self._advance(now)

    def _have(self, place: str) -> None:
        """Nobody waits for this device's datapoints any more."""
        for wish in self._wishes:
            if wish.missing is not None:
                wish.missing.discard(place)

    def _fitting(self, globs: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
        """Those of devices first, then what is written out and not known."""
        fits = [names.matcher(pattern) for pattern in globs]
        found: dict[str, str | None] = {}
        for known in self._known.values():
            for qualifier, unit in (known.points or {}).items():
                if any(fit(qualifier) for fit in fits):
                    found.setdefault(qualifier, unit)
        for pattern in globs:
            if not names.is_glob(pattern):
                found.setdefault(pattern, None)
        yield from found.items()


def _key(one: Device) -> str:
    return one.key or one.handle


def _stands(one: Device) -> tuple[object, ...]:
    return one.data.state, one.data.health, one.data.name, one.subject


def _filled(told: Device, known: Device) -> Device:
    """What it does not say of itself now is as it was."""
    data = {name: getattr(told.data, name) or getattr(known.data, name) for name in told.data.__struct_fields__}
    places = {name: getattr(told, name) or getattr(known, name) for name in ("key", "sid", "protocol", "did")}
    return Device(**places, data=Status(**data), extra=told.extra)


def _devices(rows: Iterable[Any]) -> Iterator[Device]:
    for row in rows:
        try:
            yield device(row)
        except WrongShape:
            continue


def _datapoints(rows: Iterable[Any], of: Device) -> Iterator[tuple[str, str | None]]:
    """dpQualifier and unit of each; one that has no dpQualifier is named by its parts."""
    for row in rows:
        if isinstance(row, dict) and not isinstance(row.get("dpQualifier"), str):
            parts = Fields(row)
            inner = [parts.take("blockName"), parts.take("blockIndex"), parts.take("datapointName")]
            if any(part is None for part in inner) or not of.subject:
                continue
            row = {**row, "dpQualifier": "/".join([of.sid, of.protocol, of.did, *map(str, inner)])}
        try:
            told = update(row)
        except WrongShape:
            continue
        yield told.qualifier, told.unit
