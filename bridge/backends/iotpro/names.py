"""Who an asset is, where the subscription does not tell its name and profile: then the lists of the REST side do.

Which list there is depends on edition and role: `user/assets` only in the Professional Edition; else that of the
tenant for its administrators, that of the customer for the others (ThingsBoard, AssetController).
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec
from msgspec import Struct

from bridge.backends.iotpro import asks
from bridge.backends.iotpro.requests import Requests
from bridge.backends.iotpro.turn import Turn
from bridge.backends.iotpro.wire import ENTITY_FIELD, Item, Point
from bridge.backends.session import Answer
from bridge.model import Instant

_SIZE = 1000
_MOST_PAGES = 1000
_AGAIN_S = 60.0  # before a list that was of no use is read again

T = TypeVar("T", bound=Struct)
Done = Callable[[Turn, Instant], None]


class _Id(Struct):
    id: str


class _Asset(Struct):
    id: _Id
    name: str
    type: str = ""
    label: str | None = None


class _List(Struct):
    data: list[_Asset]
    hasNext: bool = False  # noqa: N815 - the platform's names


class _Me(Struct):
    authority: str = ""
    customerId: _Id | None = None  # noqa: N815


def told(item: Item) -> bool:
    """Whether an item of a page says who it is."""
    fields = (item.latest or {}).get(ENTITY_FIELD, {})
    return all((point := fields.get(key)) is not None and point.value for key in ("name", "type"))


class Names:
    """done: called when a reading has ended, well or not."""

    def __init__(self, requests: Requests, done: Done) -> None:
        self._requests, self._done = requests, done
        self._known: dict[str, _Asset] = {}
        self._paths: list[str] = []
        self.asking = False
        self._not_before = 0.0

    def of(self, item: Item) -> Item:
        """The item with what is known of its name; without anything, its id is the name."""
        name = item.entityId.id
        known = self._known.get(name) or _Asset(_Id(name), name)
        latest = dict(item.latest or {})
        fields = latest.get(ENTITY_FIELD, {})
        mine = {"name": known.name, "type": known.type, "label": known.label or ""}
        given = {key: point for key, point in fields.items() if point.value}
        latest[ENTITY_FIELD] = {**{key: Point(0, value) for key, value in mine.items()}, **given}
        return msgspec.structs.replace(item, latest=latest)

    def forget(self) -> None:
        """What was read may have changed: it is read anew where it is needed."""
        self._known.clear()
        self._not_before = 0.0

    def knows(self, item: Item) -> bool:
        return item.entityId.id in self._known

    def ask(self, turn: Turn, now: Instant) -> bool:
        """Reads the lists; False: it was tried just now."""
        if self.asking:
            return True
        if now.mono < self._not_before:
            return False
        self.asking, self._not_before = True, now.mono + _AGAIN_S
        self._page("user/assets", 0, turn)
        return True

    def _page(self, path: str, page: int, turn: Turn) -> None:
        def answered(answer: Answer, turn: Turn, now: Instant) -> None:
            found = _read(answer, _List)
            for one in found.data if found else ():
                self._known[one.id.id] = one
            if found and found.hasNext and found.data and page < _MOST_PAGES:
                self._page(path, page + 1, turn)
            elif found is None and path == "user/assets" and not page:
                self._requests.ask(turn, "GET", asks.ME, self._me)
            else:
                self._ended(turn, now)

        self._requests.ask(turn, "GET", asks.asset_list(path, page, _SIZE), answered)

    def _me(self, answer: Answer, turn: Turn, now: Instant) -> None:
        me = _read(answer, _Me)
        for path in _lists(me) if me else ():
            return self._page(path, 0, turn)
        return self._ended(turn, now)

    def _ended(self, turn: Turn, now: Instant) -> None:
        self.asking = False
        self._done(turn, now)


def _lists(me: _Me) -> Iterator[str]:
    if me.authority == "TENANT_ADMIN":
        yield "tenant/assets"
    elif me.customerId is not None:
        yield f"customer/{me.customerId.id}/assets"


def _read(answer: Answer, kind: type[T]) -> T | None:
    if answer.status != 200:
        return None
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (ValueError, RecursionError):
        return None
