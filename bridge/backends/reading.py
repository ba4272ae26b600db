"""Frames into JSON values: tolerant where senders are careless, strict where meaning would be lost."""

import json
from typing import Any, NoReturn

import msgspec

from bridge.model import Unread
from bridge.topics import clean

Object = dict[str, Any]
_decode = msgspec.json.decode


def read(frame: bytes) -> list[Object | Unread]:
    """The messages of a frame: a JSON object is one, an array of objects several. Never raises.

    Other JSON is `wrong_shape`, invalid UTF-8 `not_text`, the rest `not_json`.
    """
    try:
        value = _decode(frame)
    except UnicodeDecodeError:
        return [Unread("not_text", frame)]
    except (msgspec.DecodeError, RecursionError):
        try:
            value = _read_again(frame)
        except UnicodeDecodeError:
            return [Unread("not_text", frame)]
        except (ValueError, RecursionError):
            return [Unread("not_json", frame)]
    if type(value) is dict:
        return [value]
    if isinstance(value, list):
        return [item if isinstance(item, dict) else Unread("wrong_shape", _again(item)) for item in value]
    return [Unread("wrong_shape", frame)]


def _read_again(frame: bytes) -> object:
    """For what msgspec refuses and JSON allows: lone surrogates (become U+FFFD), a byte order mark."""
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


def _again(item: object) -> bytes:
    return msgspec.json.encode(item)


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
