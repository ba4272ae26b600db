"""The platform's moments, in any of its forms, as RFC 3339 UTC with six digits.

`2025-03-02T09:15:00.412907+01:00[Europe/Berlin]`, `…Z[UTC]`, `…Z`; in old logs `2025-03-02 09:15:00.412 Europe/Berlin`
and `… UTC` (wiki, "Managing Datapoint Logs"). They look like Java's ZonedDateTime, so the seconds may be missing, too.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from bridge.times import utc

_FORM = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?"  # day, minute, second, fraction
    r" ?(Z|z|[+-]\d\d(?::?\d\d)?)? ?(?:\[([^\]]*)\]|([A-Za-z][\w+/-]*))?",  # offset, zone in brackets or not
    re.ASCII,
)
_UTC = {"UTC", "GMT", "Z", "ETC/UTC"}


def moment(told: object, zone: str = "") -> str | None:
    """In our form; None for what cannot be read. zone: where the text names none; "" then is unreadable."""
    if type(told) is not str:
        return None
    return utc(told) or utc(told.partition("[")[0]) or _other(told, zone)


def _other(told: str, zone: str) -> str | None:
    found = _FORM.fullmatch(told.strip())
    if found is None:
        return None
    day, minute, second, fraction, offset, bracketed, named = found.groups()
    clock = f"{minute}:{second or '00'}.{fraction or '0'}"
    if offset:
        hours, minutes = offset[:3], offset[3:].lstrip(":") or "00"
        return utc(f"{day}T{clock}{offset if offset in 'Zz' else f'{hours}:{minutes}'}")
    name = bracketed or named or zone
    if name.upper() in _UTC:
        return utc(f"{day}T{clock}Z")
    return _local(f"{day}T{minute}:{second or '00'}", name, fraction or "")


def _local(second: str, name: str, fraction: str) -> str | None:
    """A clock on a wall: of an hour that comes twice, the first."""
    zone = _zone(name)
    if zone is None:
        return None
    try:
        there = datetime.fromisoformat(second).replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return utc(f"{there:%Y-%m-%dT%H:%M:%S}.{fraction or '0'}Z")


@lru_cache(64)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not known here, or no name of a zone
        return None
