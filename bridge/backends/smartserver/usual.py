"""Datapoint updates as they usually come, read in one go: the bulk of the traffic.

Anything else, however slightly, is None here and is read by `frames`, which gives the same result, only slower.
"""

from typing import Any, Literal

import msgspec
from msgspec import Struct


class Update(Struct, forbid_unknown_fields=True):
    """One datapoint's update, under the platform's own names."""

    datapointQualifier: str  # noqa: N815
    value: Any = None
    locValue: Any = None  # noqa: N815
    presetValue: str | None = None  # noqa: N815
    timestamp: str | None = None


class _Frame(Struct, forbid_unknown_fields=True):
    action: Literal["UPD:DATAPOINT"]
    payload: list[Update]


_decode = msgspec.json.Decoder(_Frame).decode


def read(frame: bytes) -> list[Update] | None:
    """The updates of a frame of the usual shape, else None."""
    try:
        updates = _decode(frame).payload
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    for one in updates:
        if one.datapointQualifier.count("/") < 5 or _nested(one.value) or _nested(one.locValue):
            return None
    return updates


def _nested(value: object) -> bool:
    """A structured value has one level; what has more is looked at closely elsewhere."""
    if type(value) is dict:
        return any(type(inner) is dict or type(inner) is list for inner in value.values())
    return type(value) is list and any(type(inner) is dict or type(inner) is list for inner in value)
