"""Moments as text, both ways: RFC 3339 in UTC with six digits of a second, as every payload has them."""

import re
from datetime import UTC, datetime
from functools import lru_cache

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@lru_cache(4096)
def _second(unix: int) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(4096)
def _moment(second: str, offset: str) -> str | None:
    """`2024-03-05T08:16:30` and `+01:00` or `Z` as one second in UTC; None for anything else."""
    found = _RFC3339.fullmatch(second + offset)
    return found and _utc_second(found[1], found[2], found[4])


@lru_cache(4096)
def _utc_second(date: str, time: str, offset: str) -> str | None:
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{'+00:00' if offset in 'Zz' else offset}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None if moment.year == 1 else f"{moment.year:04d}{moment:-%m-%dT%H:%M:%S}"


def rfc3339(unix: float) -> str:
    """`2024-03-05T07:16:30.007145Z` for seconds since 1970; further digits are cut."""
    second, micro = divmod(int(unix * 1_000_000), 1_000_000)
    return f"{_second(second)}.{micro:06d}Z"


def rfc3339_ms(ms: int) -> str | None:
    """The same for whole milliseconds since 1970, exactly; None before 1970 and after the year 9999."""
    if not 0 <= ms < 253_402_300_800_000:
        return None
    second, rest = divmod(ms, 1000)
    return f"{_second(second)}.{rest:03d}000Z"


def utc(text: str) -> str | None:
    """A platform's RFC 3339 text in our form: any offset, 0 to 9 digits, of which six are kept, the rest cut.

    None for what is no RFC 3339, names no offset, or is Go's zero time (year 1, "no time").
    """
    offset = "Z" if text[-1:] == "Z" else text[-6:]
    fraction = text[20 : -len(offset)]
    if text[19:20] == "." and 6 <= len(fraction) <= 9 and fraction.isdigit() and fraction.isascii():  # as most write it
        second = _moment(text[:19], offset)
        if second is not None:
            return f"{second}.{fraction[:6]}Z"
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    date, time, fraction, offset = found.groups()
    second = _utc_second(date, time, offset)
    return second and f"{second}.{(fraction or '')[:6]:0<6}Z"


def unix(text: str) -> float:
    """Seconds since 1970 of a text in our form."""
    return datetime.fromisoformat(text).timestamp()
