"""Frames into JSON values: tolerant where senders are careless, strict where meaning would be lost."""

import json
from collections.abc import Iterable
from typing import Any, NoReturn

import msgspec

from bridge.model import Unread
from bridge.topics import clean

Object = dict[str, Any]
MAX_DEPTH = 64  # lists and objects in each other; what is deeper could not be written again
_decode = msgspec.json.decode


def read(frame: bytes) -> list[Object | Unread]:
    """The messages of a frame: a JSON object is one, an array of objects several. Never raises.

    An array with anything else in it is unread as well, once and as it came. Other JSON is `wrong_shape`, as is what is
    nested too deep; invalid UTF-8 is `not_text`, the rest `not_json`.
    """
    try:
        value = _value(frame)
    except UnicodeDecodeError:
        return [Unread("not_text", frame)]
    except RecursionError:
        return [Unread("wrong_shape", frame)]
    except ValueError:
        return [Unread("not_json", frame)]
    if frame.count(b"[") + frame.count(b"{") > MAX_DEPTH and too_deep(value):
        return [Unread("wrong_shape", frame)]
    if type(value) is dict:
        return [value]
    if isinstance(value, list):
        messages: list[Object | Unread] = [item for item in value if isinstance(item, dict)]
        return messages if len(messages) == len(value) else [*messages, Unread("wrong_shape", frame)]
    return [Unread("wrong_shape", frame)]


def too_deep(value: object) -> bool:
    """Whether lists and objects are nested deeper than MAX_DEPTH."""
    layer = _containers([value])
    for _ in range(MAX_DEPTH):
        if not layer:
            return False
        layer = _containers(inner for one in layer for inner in (one.values() if type(one) is dict else one))
    return bool(layer)


def _containers(values: Iterable[object]) -> list[Any]:
    return [value for value in values if type(value) is dict or type(value) is list]


def _value(frame: bytes) -> object:
    """Read again what msgspec refuses and JSON allows: lone surrogates (become U+FFFD), a byte order mark."""
    try:
        return _decode(frame)
    except msgspec.DecodeError:
        pass
    return _mended(json.loads(frame.decode("utf-8-sig"), parse_constant=_refuse, parse_float=_finite))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    if (value := float(text)) in (float("inf"), float("-inf")):
        raise ValueError("a number out of range")
    return value


def _mended(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): _mended(item) for key, item in value.items()}
    return value


def canonical(value: object) -> bytes:
    """JSON in which key order and the form of a number (12, 12.0) make no difference."""
    return msgspec.json.encode(_plain(value), order="deterministic")


def _plain(value: object) -> object:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
