"""The tolerant way to read what is not quite as the platform usually writes it.

Unknown members go to `extra`, unknown kinds of keys as well; a part of a wrong shape is left out and noted, the rest
is read.
"""

from typing import Any

from bridge.backends.iotpro.wire import EntityId, Item, Page, Point, StrangeItem, TornPage
from bridge.backends.reading import Object

_ITEM = frozenset({"entityId", "latest", "timeseries", "aggLatest", "readAttrs", "readTs"})
_PAGE = frozenset({"data", "totalPages", "totalElements", "hasNext"})
_POINT = frozenset({"ts", "value", "count"})
_BUCKETS = frozenset(
    {"ENTITY_FIELD", "TIME_SERIES", "ATTRIBUTE", "CLIENT_ATTRIBUTE", "SHARED_ATTRIBUTE", "SERVER_ATTRIBUTE"}
)


class StrangeReader:
    """Reads one message; wrong: whether something in it had a wrong shape."""

    def __init__(self, extra: Object) -> None:
        self._extra = extra
        self.wrong = False

    def page(self, value: Any) -> Page | None:
        if value is None:
            return None
        if not isinstance(value, dict) or not isinstance(value.get("data"), list):
            self.wrong = True
            return None
        pages, total = _count(value.get("totalPages")), _count(value.get("totalElements"))
        items = self.items(value["data"])
        page = Page if len(items) == len(value["data"]) else TornPage
        return page(items, pages, total, value.get("hasNext") is True)

    def items(self, value: Any) -> list[Item]:
        if value is None:
            return []
        if not isinstance(value, list):
            self.wrong = True
            return []
        return [item for one in value if (item := self._item(one)) is not None]

    def _item(self, value: Any) -> Item | None:
        known = value.get("entityId") if isinstance(value, dict) else None
        name = known.get("id") if isinstance(known, dict) else None
        if not isinstance(name, str) or not name:
            self.wrong = True
            return None
        extra = dict(self._extra)
        extra.update((key, one) for key, one in value.items() if key not in _ITEM)
        latest = self._latest(value.get("latest"), extra)
        told = value.get("timeseries")
        series = None if told is None else {key: self._points(one) for key, one in self._map(told).items()}
        return (
            StrangeItem(EntityId(name), latest, series, extra=extra) if extra else Item(EntityId(name), latest, series)
        )

    def _latest(self, value: Any, extra: Object) -> dict[str, dict[str, Point]]:
        latest: dict[str, dict[str, Point]] = {}
        for bucket, points in self._map(value).items():
            if bucket not in _BUCKETS:
                extra[bucket] = points
                continue
            latest[bucket] = {}
            for key, one in self._map(points).items():
                if (point := self._point(one)) is not None:
                    latest[bucket][key] = point
                    extra.update(_more(key, one))
        return latest

    def _map(self, value: Any) -> Object:
        """An object; null is an empty one."""
        if isinstance(value, dict):
            return value
        self.wrong = self.wrong or value is not None
        return {}

    def _points(self, value: Any) -> list[Point]:
        if not isinstance(value, list):
            self.wrong = self.wrong or value is not None
            return []
        return [point for one in value if (point := self._point(one)) is not None]

    def _point(self, value: Any) -> Point | None:
        if value is None:
            return None
        ts = _moment(value.get("ts")) if isinstance(value, dict) else None
        if ts is None:
            self.wrong = True
            return None
        return Point(ts, value.get("value"))


def _more(key: str, point: Object) -> Object:
    """What a point says beside time and value."""
    more = {name: one for name, one in point.items() if name not in _POINT}
    return {key: more} if more else {}


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 2**31 else 0


def _moment(value: Any) -> int | None:
    """Milliseconds: a whole number, or text that is one; none is 0."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        return int(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and abs(value) < 2**63 else None
