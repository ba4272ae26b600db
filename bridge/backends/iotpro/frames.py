"""What the platform says on its WebSocket, read into typed values (ThingsBoard, WebSocket API; EntityDataUpdate).

The usual frame is decoded in one go. Anything else, however slightly, goes the tolerant way, which gives the same for
what both can read: unknown members are kept in `extra`, one wrong part does not lose the rest.
"""

from typing import Any, Literal, TypeGuard

import msgspec
from msgspec import Struct

from bridge.backends.iotpro.strange import StrangeReader
from bridge.backends.iotpro.wire import Item, Page, Point, StrangeItem, Told
from bridge.backends.reading import Object
from bridge.backends.reading import read as read_json
from bridge.model import Unread

__all__ = ["Failure", "Item", "Page", "Point", "StrangeItem", "Told", "Unknown", "read"]

ENTITY_DATA = "ENTITY_DATA"
_MEMBERS = frozenset({"cmdId", "data", "update", "errorCode", "errorMsg", "allowedEntities", "cmdUpdateType"})


class _Usual(Struct, forbid_unknown_fields=True):
    cmdId: int  # noqa: N815 - the platform's names
    data: Page | None = None
    update: list[Item] | None = None
    errorCode: Literal[0] | None = 0  # noqa: N815
    errorMsg: str | None = None  # noqa: N815
    allowedEntities: int | None = None  # noqa: N815
    cmdUpdateType: Literal["ENTITY_DATA"] | None = None  # noqa: N815


class Failure(Struct, frozen=True):
    """The platform refuses something. id: the cmdId, or a subscription number of its own · code, words: its own."""

    id: int
    code: int
    words: str


class Unknown(Struct, frozen=True):
    """Readable, but nothing that we asked for."""

    message: Object


_decode = msgspec.json.Decoder(_Usual).decode


def read(frame: bytes) -> list[Told | Failure | Unknown | Unread]:
    """What a frame says, in order. Never raises."""
    try:
        usual = _decode(frame)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return _strange(frame)
    if usual.data is None and usual.update is None and usual.cmdUpdateType is None and b'"update"' not in frame:
        return _strange(frame)
    return [Told(usual.cmdId, usual.data, usual.update or [])]


def _strange(frame: bytes) -> list[Told | Failure | Unknown | Unread]:
    told: list[Told | Failure | Unknown | Unread] = []
    for message in read_json(frame):
        if isinstance(message, Unread):
            told.append(message)
        else:
            told += _message(message, frame)
    return told


def _message(message: Object, frame: bytes) -> list[Told | Failure | Unknown | Unread]:
    kind, code = message.get("cmdUpdateType"), message.get("errorCode")
    number = message.get("cmdId", message.get("subscriptionId"))
    if _whole(code) and code != 0 and _whole(number):
        words = message.get("errorMsg")
        return [Failure(number, code, words if isinstance(words, str) and words else f"error {code}")]
    if kind is not None and kind != ENTITY_DATA:
        return [Unknown(message)]
    if kind is None and not ("cmdId" in message and message.keys() & {"data", "update"}):
        return [Unknown(message)]
    if not _whole(message.get("cmdId")) or not (code is None or _whole(code)):
        return [Unread("wrong_shape", frame)]
    reader = StrangeReader({key: value for key, value in message.items() if key not in _MEMBERS})
    page = reader.page(message.get("data"))
    items = reader.items(message.get("update"))
    unread = [Unread("wrong_shape", frame)] if reader.wrong else []
    return [Told(message["cmdId"], page, items), *unread]


def _whole(value: Any) -> TypeGuard[int]:
    return type(value) is int and abs(value) < 2**63
