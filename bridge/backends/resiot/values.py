"""ResIOT writes numbers and booleans as text, as themselves, or as nothing: None for what cannot be read."""

import base64
from typing import Any

import msgspec

from bridge.backends.reading import Object, too_deep

EXACT = 2**53 - 1  # integers up to here are the same to every reader of JSON


def whole(value: object) -> int | None:
    """An integer within EXACT, or text that is one."""
    read = number(value)
    return int(read) if read is not None and abs(read) <= EXACT and read == int(read) else None


def number(value: object) -> float | None:
    """A finite number, or text that is one."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    if isinstance(value, str) and ("_" in value or not value.isascii()):  # numbers to Python only
        return None
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    return read + 0.0 if abs(read) < float("inf") else None  # -0 is 0


def number_or_whole(value: object) -> int | float | None:
    """A number, whole where it is whole."""
    read = whole(value)
    return number(value) if read is None else read


def boolean(value: object) -> bool | None:
    """A boolean, or its text in any case."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None


def hertz_of_mega(value: object) -> int | None:
    """MHz (867.3) into Hz, rounded: 867.3 * 1e6 is a hair below."""
    return _hertz(value, 1_000_000)


def hertz_of_kilo(value: object) -> int | None:
    """kHz into Hz."""
    return _hertz(value, 1_000)


def _hertz(value: object, unit: int) -> int | None:
    read = number(value)
    return None if read is None or abs(read) * unit > EXACT else round(read * unit)


def text(value: object) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def base64_of(payload: bytes | None) -> str | None:
    """Base64, or nothing of nothing."""
    return None if payload is None else base64.b64encode(payload).decode()


def decoded(value: str) -> Any:
    """The object or list that a text holds as JSON, else None."""
    if not value.startswith(("{", "[")):
        return None
    try:
        read = msgspec.json.decode(value)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return None if too_deep(read) else read


def pairs(value: object) -> Object | None:
    """`Extra` as a map: from a map, or a list of {fieldname, fieldvalue} and nothing else; else None."""
    if isinstance(value, dict):
        return dict(value)
    if not isinstance(value, list) or not value:
        return None
    read: Object = {}
    for item in value:
        folded = {k.lower(): v for k, v in item.items()} if isinstance(item, dict) else {}
        name = folded.get("fieldname")
        if not isinstance(name, str) or name in read or not folded.keys() <= {"fieldname", "fieldvalue"}:
            return None
        read[name] = folded.get("fieldvalue")
    return read
