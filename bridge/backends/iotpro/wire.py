"""The parts of an ENTITY_DATA message (EntityDataUpdate, PageData, EntityData, TsValue)."""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from bridge.backends.reading import Object

ENTITY_FIELD, TIME_SERIES, ATTRIBUTE = "ENTITY_FIELD", "TIME_SERIES", "SERVER_ATTRIBUTE"


class Point(Struct, gc=False, forbid_unknown_fields=True):
    """ts: milliseconds since 1970 · value: text; ts 0 and "": never written, or deleted."""

    ts: int
    value: str | int | float | bool | None


class EntityId(Struct, gc=False, forbid_unknown_fields=True):
    id: Annotated[str, Meta(min_length=1)]
    entityType: str = "ASSET"  # noqa: N815 - the platform's names


class Item(Struct, forbid_unknown_fields=True):
    """One entity. latest: by kind of key (TIME_SERIES …), by key · timeseries: by key, several points each."""

    entityId: EntityId  # noqa: N815
    latest: dict[str, dict[str, Point]] | None = None
    timeseries: dict[str, list[Point]] | None = None
    aggLatest: dict[str, Raw] | None = None  # noqa: N815
    readAttrs: bool | None = None  # noqa: N815 - Professional Edition
    readTs: bool | None = None  # noqa: N815


class StrangeItem(Item, kw_only=True):
    """One that has more than we know."""

    extra: Object


class Page(Struct, forbid_unknown_fields=True):
    """One page of a subscription's entities: the whole picture of it."""

    data: list[Item]
    totalPages: int = 0  # noqa: N815
    totalElements: int = 0  # noqa: N815
    hasNext: bool = False  # noqa: N815


class TornPage(Page):
    """One on which somebody could not be read: who is missing on it may be there all the same."""


class Told(Struct):
    """What is said to one subscription (cmdId): a page replaces the picture, items change it."""

    cmd: int
    page: Page | None
    items: list[Item]
