"""The assets we follow, what was told of each, and what of the platform's words is new.

1. A value is told once: what is newer than what was told makes an event, also from a snapshot. What a snapshot says of
   a key that was never told makes an event only where it is newer than `since` (README, "What makes an event").
2. Values of one asset and one moment are one event; the state is the newest of everything.
3. Two assets never clear each other's topic, whatever names they swap.
"""

from collections.abc import Callable, Iterable
from typing import Any

from bridge.backends.iotpro.data import AssetState, Telling
from bridge.backends.iotpro.holes import Hole
from bridge.backends.iotpro.values import attribute, plain, same, told, told_deeply, typed
from bridge.backends.iotpro.wire import ENTITY_FIELD, TIME_SERIES, Item, Point, StrangeItem
from bridge.backends.reading import Object
from bridge.model import Event, State
from bridge.times import rfc3339_ms
from bridge.topics import level

ALWAYS, NEVER = -1, 2**63  # of `since`
Heard = list[Any]
KeysOf = Callable[[str], frozenset[str]]
Pairs = Iterable[tuple[str, Point]]


class Asset:
    """points: milliseconds of the newest told value, by key · hole: what was missed and is to be read from history."""

    __slots__ = (
        "attribute_times", "attributes", "hole", "id", "keys", "label", "name", "newest", "points", "profile",
        "subject", "values",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.id = name
        self.name = self.profile = self.label = self.subject = ""
        self.keys: frozenset[str] = frozenset()
        self.points: dict[str, int] = {}
        self.values: dict[str, Any] = {}
        self.attribute_times: dict[str, int] = {}
        self.attributes: dict[str, Any] = {}
        self.newest = 0
        self.hole: Hole | None = None


class Assets:
    """The table. keys_of: which time series are followed, by profile."""

    def __init__(self, keys_of: KeysOf, attributes: tuple[str, ...], text_keys: tuple[str, ...]) -> None:
        self._keys_of = keys_of
        self._attributes, self._text_keys = frozenset(attributes), frozenset(text_keys)
        self.by_id: dict[str, Asset] = {}
        self._owners: dict[str, Asset] = {}  # by subject
        self._restored: dict[str, tuple[str, dict[str, int]]] = {}  # subject and points, by id
        self.changed = False  # since the bookmarks were taken

    def __len__(self) -> int:
        return len(self.by_id)

    def at(self, subject: str) -> Asset | None:
        """The asset that has this subject."""
        return self._owners.get(subject)

    # Who is there.

    def restore(self, known: dict[str, tuple[str, dict[str, int]]]) -> None:
        """What an earlier session told: subject and points by id."""
        self._restored = known

    def enter(self, item: Item, heard: Heard, *, since: int, missed: int | None) -> None:
        """An asset of a page. missed: milliseconds from which a new one's values were missed, None: none were."""
        fields = (item.latest or {}).get(ENTITY_FIELD, {})
        name, profile, label = (_text(fields.get(key)) for key in ("name", "type", "label"))
        asset = self.by_id.get(item.entityId.id)
        if asset is None:
            asset = self._new(item.entityId.id, missed)
        changed = self._named(asset, name, profile, label, heard)
        self._told(asset, item, heard, since, snapshot=True, changed=changed)

    def _new(self, name: str, missed: int | None) -> Asset:
        asset = self.by_id[name] = Asset(name)
        asset.subject, points = self._restored.pop(name, ("", {}))
        asset.points = points
        if missed is not None:
            asset.hole = Hole(dict(points), missed)
        return asset

    def _named(self, asset: Asset, name: str, profile: str, label: str, heard: Heard) -> bool:
        """Whether anything of it is new."""
        subject = f"asset/{level(profile)}/{level(name)}"
        known = (asset.name, asset.profile, asset.label)
        if known == (name, profile, label) and asset.subject == subject:
            return False
        if asset.subject and asset.subject != subject:
            self._clear(asset, heard)
        asset.name, asset.profile, asset.label, asset.subject = name, profile, label, subject
        asset.keys = self._keys_of(profile)
        self._owners[subject] = asset
        self.changed = True
        return True

    def _clear(self, asset: Asset, heard: Heard) -> None:
        if self._owners.get(asset.subject, asset) is asset:
            self._owners.pop(asset.subject, None)
            heard.append(State(asset.subject, None))

    def blind(self, since: int) -> None:
        """From now on nothing is heard: what they say next leaves a hole behind it. since: of keys never told."""
        for asset in self.by_id.values():
            self.blind_one(asset, since)

    def blind_one(self, asset: Asset, since: int) -> None:
        """The same for one of them."""
        asset.hole = Hole(dict(asset.points), since) if asset.hole is None else asset.hole.again(asset.points)

    def leave(self, name: str, heard: Heard) -> None:
        """It is gone, or not followed any more."""
        asset = self.by_id.pop(name, None)
        if asset is not None:
            self._clear(asset, heard)
            self.changed = True

    def settled(self, heard: Heard) -> None:
        """All pages are there: what an earlier session followed, and is not there, is gone."""
        for subject, _ in self._restored.values():
            if subject and subject not in self._owners:
                heard.append(State(subject, None))
        self._restored = {}

    def select(self, keys_of: KeysOf, heard: Heard) -> None:
        """Other time series from now on."""
        self._keys_of = keys_of
        for asset in self.by_id.values():
            asset.keys = keys_of(asset.profile)
            dropped = [key for key in asset.points if key not in asset.keys]
            for key in dropped:
                del asset.points[key]
                asset.values.pop(key, None)
            if dropped:
                heard.append(self._state(asset))
        self.changed = True

    # What they say.

    def update(self, item: Item, heard: Heard) -> bool:
        """What an asset says now; False: it is not known (yet)."""
        asset = self.by_id.get(item.entityId.id)
        if asset is None:
            return False
        self._told(asset, item, heard, ALWAYS, snapshot=False, changed=False)
        return True

    def _told(self, asset: Asset, item: Item, heard: Heard, since: int, *, snapshot: bool, changed: bool) -> None:
        extra = item.extra if type(item) is StrangeItem else None
        for bucket, points in (item.latest or {}).items():
            if bucket == TIME_SERIES:
                changed |= self._telemetry(asset, points.items(), heard, since, snapshot, extra)
            elif bucket != ENTITY_FIELD:
                changed |= self._attribute_values(asset, points, heard, since, extra)
        if item.timeseries:
            pairs = [(key, point) for key, points in item.timeseries.items() for point in points]
            changed |= self._telemetry(asset, pairs, heard, since, snapshot, extra)
        if changed:
            heard.append(self._state(asset))

    def _telemetry(
        self, asset: Asset, pairs: Pairs, heard: Heard, since: int, snapshot: bool, extra: Object | None
    ) -> bool:
        """One event per moment; whether the state changed."""
        groups: dict[int, dict[str, Any]] = {}
        keys, text_keys, hole = asset.keys, self._text_keys, asset.hole
        known, values = asset.points, asset.values
        changed = False
        for key, point in pairs:
            ts, raw = point.ts, point.value
            if key not in keys or raw is None:
                continue
            if ts <= 0 and raw == "":  # never written, or deleted
                changed |= values.pop(key, None) is not None
                continue
            value = plain(raw) if key in text_keys else typed(raw)
            last = known.get(key)
            if last is not None and ts > last:  # as usual
                known[key], values[key] = ts, value
                asset.newest = max(asset.newest, ts)
                new = changed = True
            else:
                new, newest = _news(asset, key, ts, value, since, snapshot)
                changed |= newest
            if new:
                groups.setdefault(ts, {})[key] = value
                if hole is not None:
                    hole.told(key, ts, value)
        self.changed |= changed
        for ts in sorted(groups) if len(groups) > 1 else groups:
            heard.append(telemetry(asset, ts, groups[ts], extra))
        return changed

    def _attribute_values(
        self, asset: Asset, points: dict[str, Point], heard: Heard, since: int, extra: Object | None
    ) -> bool:
        groups: dict[int, dict[str, Any]] = {}
        changed = False
        for key, point in points.items():
            ts, raw = point.ts, point.value
            if key not in self._attributes or raw is None:
                continue
            if ts <= 0 and raw == "":
                changed |= asset.attributes.pop(key, None) is not None
                continue
            value = plain(raw) if key in self._text_keys else attribute(raw)
            last = asset.attribute_times.get(key)
            if last is not None and (ts < last or (ts == last and same(asset.attributes.get(key), value))):
                continue
            asset.attribute_times[key], asset.attributes[key] = ts, value
            asset.newest = max(asset.newest, ts)
            changed = True
            if last is not None or ts > since:
                groups.setdefault(ts, {})[key] = value
        for ts, values in sorted(groups.items()):
            data = Telling(asset.id, asset.name, asset.profile, values)
            heard.append(Event(asset.subject, "attributes", data, rfc3339_ms(ts), extra, told_deeply(values)))
        return changed

    def _state(self, asset: Asset) -> State:
        return State(
            asset.subject,
            AssetState(
                id=asset.id,
                name=asset.name,
                profile=asset.profile,
                label=asset.label,
                time=rfc3339_ms(asset.newest) if asset.newest > 0 else None,
                values=dict(asset.values),
                attributes=dict(asset.attributes),
            ),
        )


def _news(asset: Asset, key: str, ts: int, value: Any, since: int, snapshot: bool) -> tuple[bool, bool]:
    """Takes in a value that is not simply newer: whether it makes an event, and whether it is the newest of its key."""
    points, values = asset.points, asset.values
    last = points.get(key)
    if last is None:
        new, newest = ts > since, True
    elif ts == last:
        known = key in values
        newest = not known or not same(values[key], value)
        new = known and newest
    else:  # late, or in another order
        return not snapshot, False
    if newest:
        points[key], values[key] = ts, value
        asset.newest = max(asset.newest, ts)
    return new, newest


def telemetry(asset: Asset, ts: int, values: dict[str, Any], extra: Object | None, replay: bool = False) -> Event:
    """The event of one asset and one moment: the same, however it came to be known."""
    data = Telling(asset.id, asset.name, asset.profile, values)
    return Event(asset.subject, "telemetry", data, rfc3339_ms(ts), extra, told(values), replay)


def _text(point: Point | None) -> str:
    return point.value if point is not None and isinstance(point.value, str) else ""
