"""What iSymphony says, read into typed values (WebSocket API Documentation (Event), and its event pages).

1. Properties come in any order; `type` alone tells the kind, and it becomes the event type as it is.
2. A documented kind has its documented fields, what else comes with it is `extra`; a field of a wrong JSON type makes
   it `wrong_shape`. Any other kind is passed on as it came: the pages list neither all kinds nor all fields.
3. An event belongs to the users it names, else to the extensions, else to nobody. Ids change with every restart of the
   server, names do not: no id becomes a subject.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from bridge.backends.isymphony.data import (
    DOCUMENTED,
    ConfRoomCallLeave,
    Documented,
    Hangup,
    LinkEnd,
    UserLogin,
    UserLogout,
)
from bridge.backends.reading import Object, canonical
from bridge.backends.reading import read as read_json
from bridge.model import Unread
from bridge.times import rfc3339
from bridge.topics import level

REPLIES = ("success", "error")
_USERS = ("username", "username1", "username2")
_EXTENSIONS = ("extensionNumber", "extensionNumber1", "extensionNumber2")
_NUMBERS = ("time", "port")
_FIRST_MS, _END_MS = 10**11, 253_402_300_800_000  # 1973: what is less was meant as seconds; the year 10000
_FIELDS = {
    kind: {"type": None, **{field.encode_name: field.name for field in msgspec.structs.fields(kind)}}
    for kind in DOCUMENTED.values()
}  # the vendor's names of fields, and ours
_decode = msgspec.json.Decoder(UserLogin | UserLogout | Hangup | LinkEnd | ConfRoomCallLeave).decode


class Reply(Struct, frozen=True):
    """The answer to a filter message; correlation: None where it does not say to which · words: of an error ·
    told: the event that it is where nobody waits for it.
    """

    success: bool
    correlation: str | None
    words: str
    told: "Told"


class Told(Struct, frozen=True):
    """One event: the vendor's type, and as an event type · its subjects, one event each ("": none) · when it was.

    core: coreServerId, "" where not told · message: as it came, None where all of it is in `data` · told: of kinds
    that are not documented, what identity is made of.
    """

    type: str
    kind: str
    subjects: tuple[str, ...]
    data: Documented | Raw
    time: str | None
    core: str
    extra: Object | None = None
    message: Object | None = None
    told: bytes | None = None

    def value(self, name: str) -> Any:
        """The value of a property by the vendor's name, UNSET where it has none."""
        if name == "type":
            return self.type or UNSET
        if self.message is not None:
            return self.message.get(name, UNSET)
        return getattr(self.data, _FIELDS[type(self.data)].get(name) or "", UNSET)  # type: ignore[index]


def read(frame: bytes) -> list[Told | Reply | Unread]:
    """The messages of a frame. Never raises."""
    try:
        data = _decode(frame)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return [one if isinstance(one, Unread) else _message(one, frame) for one in read_json(frame)]
    if _has_float(data):
        return [_documented(data.__struct_config__.tag, msgspec.to_builtins(data))]
    return [_read(data)]


def _message(message: Object, frame: bytes) -> Told | Reply | Unread:
    kind = message.get("type")
    if kind is not None and not isinstance(kind, str):
        return Unread("wrong_shape", frame)
    try:
        if kind in REPLIES:
            return _reply(message)
        return _documented(kind, message) if kind in DOCUMENTED else _other(kind or "", message)
    except msgspec.ValidationError:
        return Unread("wrong_shape", frame)


def _reply(message: Object) -> Reply:
    correlation, error = message.get("correlationId"), message.get("error")
    if isinstance(correlation, bool | list | dict):
        raise msgspec.ValidationError("correlationId")
    words = error if isinstance(error, str) else "" if error is None else msgspec.json.encode(error).decode()
    kind = message["type"]
    return Reply(kind == "success", None if correlation is None else str(correlation), words, _other(kind, message))


def _documented(kind: Any, message: Object) -> Told:
    """A documented kind with more fields than documented, or with numbers of another form. Raises ValidationError."""
    struct = DOCUMENTED[kind]
    fields = _FIELDS[struct]
    known = {name: _whole(value) if name in _NUMBERS else value for name, value in message.items() if name in fields}
    extra = {name: value for name, value in message.items() if name not in fields}
    return _read(msgspec.convert(known, struct), extra or None, message)


def _read(data: Documented, extra: Object | None = None, message: Object | None = None) -> Told:
    if isinstance(data, LinkEnd):
        subjects = _subjects((data.username_1, data.username_2), (data.extension_number_1, data.extension_number_2))
    elif isinstance(data, Hangup | ConfRoomCallLeave):
        subjects = _subjects((data.username,), (data.extension_number,))
    else:
        subjects = _subjects((data.username,), ())  # type: ignore[attr-defined]
    kind: str = data.__struct_config__.tag  # type: ignore[assignment]
    return Told(kind, kind, subjects, data, _moment(data.time), data.core_server_id or "", extra, message)


def _other(kind: str, message: Object) -> Told:
    """A kind of which no page is known; without a type it is `unknown`, as is one that would pass for our own gap."""
    users, extensions = ([message.get(name) for name in names] for names in (_USERS, _EXTENSIONS))
    core = message.get("coreServerId")
    return Told(
        kind,
        "unknown" if kind in ("", "gap") else level(kind),
        _subjects(users, extensions),
        Raw(msgspec.json.encode(message)),
        _moment(message.get("time")),
        core if isinstance(core, str) else "",
        message=message,
        told=canonical(message),
    )


def _subjects(users: Iterable[Any], extensions: Iterable[Any]) -> tuple[str, ...]:
    found = tuple([f"user/{level(name)}" for name in users if name and type(name) is str])
    if not found:
        found = tuple([f"extension/{level(name)}" for name in extensions if name and type(name) is str])
    if len(found) > 1 and found[0] == found[-1]:  # a call between two extensions of one user
        return tuple(dict.fromkeys(found))
    return found or ("",)


def _moment(value: Any) -> str | None:
    """RFC 3339 of milliseconds since 1970, a number or its text; None for what is no such moment."""
    if type(value) is str and value.isascii() and value.isdecimal() and len(value) <= len(str(_END_MS)):
        value = int(value)
    if type(value) not in (int, float) or not _FIRST_MS <= value < _END_MS:
        return None
    second, micro = divmod(int(value * 1000), 1_000_000)
    return f"{rfc3339(second)[:20]}{micro:06d}Z"


def _whole(value: Any) -> Any:
    """5.0 is 5."""
    return int(value) if type(value) is float and value.is_integer() and abs(value) < 2**53 else value


def _has_float(data: Documented) -> bool:
    return type(data.time) is float or (isinstance(data, UserLogin | UserLogout) and type(data.port) is float)
