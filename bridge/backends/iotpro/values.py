"""The platform writes every value as text: what it stands for.

Snapshots and updates write the same number differently (12, 12.0, 1.2E1); here they become the same.
"""

from typing import Any

import msgspec

from bridge.backends.reading import canonical, too_deep

EXACT = 2**53  # integers up to here are the same to every reader of JSON
_decode = msgspec.json.Decoder(int | float | bool).decode
_told = msgspec.json.Encoder(order="deterministic").encode
_STARTS = frozenset("-0123456789tf")


def typed(raw: Any) -> Any:
    """Text that is exactly a JSON number within ±2^53, true or false as that value; all else as it is."""
    if type(raw) is str:
        if not raw or raw[0] not in _STARTS or raw[-1] in " \t\n\r":
            return raw
        try:
            value = _decode(raw)
        except ValueError:  # msgspec's errors are ValueErrors
            return raw
        if type(value) is bool:
            return value
        if not -EXACT <= value <= EXACT:
            return raw
        return whole if type(value) is float and (whole := int(value)) == value else value
    if type(raw) is int or type(raw) is float:
        return _number(raw, str(raw))
    return raw


def _number(value: float, text: str) -> int | float | str:
    if not -EXACT <= value <= EXACT:
        return text
    return int(value) if type(value) is float and value.is_integer() else value


def plain(raw: Any) -> Any:
    """As typed(), for keys that stay text: numbers become it."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    return str(raw) if isinstance(raw, int | float) else raw


def attribute(raw: Any) -> Any:
    """An attribute's value: JSON text is read, and else as typed()."""
    if isinstance(raw, str) and (raw.startswith(("{", "[", '"')) or raw == "null"):
        try:
            value = msgspec.json.decode(raw)
        except (ValueError, RecursionError):
            return raw
        return raw if too_deep(value) else value
    return typed(raw)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same; 1 and true are not."""
    return one is other or (type(one) is type(other) and bool(one == other))


def told(values: dict[str, Any]) -> bytes:
    """What identity is made of: the values, in whatever order they came."""
    return _told(values)


def told_deeply(values: dict[str, Any]) -> bytes:
    """The same for values that have numbers inside of them."""
    return canonical(values)
