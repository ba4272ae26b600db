"""ResIOT writes numbers and booleans as text, as themselves, or as nothing: None for what cannot be read."""

import base64
from typing import Any

import msgspec

from bridge.backends.reading import Object


def whole(value: object) -> int | None:
    """An integer, or text that is one."""
    read = number(value)
    return int(read) if read is not None and read == int(read) else None


def number(value: object) -> float | None:
    """A finite number, or text that is one."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    return read if abs(read) < float("inf") else None


def number_or_whole(value: object) -> int | float | None:
    """A number, whole where it is whole."""
    read = number(value)
    return int(read) if read is not None and read == int(read) else read


def boolean(value: object) -> bool | None:
    """A boolean, or its text in any case."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None


def hertz_of_mega(value: object) -> int | None:
    """MHz (867.3) into Hz, rounded: 867.3 * 1e6 is a hair below."""
    read = number(value)
    return None if read is None else round(read * 1_000_000)


def hertz_of_kilo(value: object) -> int | None:
    """kHz into Hz."""
    read = number(value)
    return None if read is None else round(read * 1_000)


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
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def pairs(value: object) -> Object | None:
    """`Extra` as a map: from a map, a list of {fieldname, fieldvalue}, or text that holds either; else None."""
    if isinstance(value, str):
        value = decoded(value)
    if isinstance(value, dict):
        return dict(value)
    if not isinstance(value, list) or not value:
        return None
    read = {}
    for item in value:
        folded = {k.lower(): v for k, v in item.items()} if isinstance(item, dict) else {}
        if not isinstance(folded.get("fieldname"), str):
            return None
        read[folded["fieldname"]] = folded.get("fieldvalue")
    return read
