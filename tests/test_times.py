"""Moments as text: every form that platforms write, one form that leaves."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.times import rfc3339, rfc3339_ms, unix, utc

READ = {
    "2024-03-05T08:15:02.4410093+01:00": "2024-03-05T07:15:02.441009Z",
    "2024-03-05T08:16:31.5500000+01:00": "2024-03-05T07:16:31.550000Z",
    "2024-03-05T08:20:03+01:00": "2024-03-05T07:20:03.000000Z",
    "2024-03-05T08:20:03Z": "2024-03-05T08:20:03.000000Z",
    "2024-03-05t08:20:03z": "2024-03-05T08:20:03.000000Z",
    "2024-03-05T08:20:03-11:30": "2024-03-05T19:50:03.000000Z",
    "2024-03-05T00:10:00+00:00": "2024-03-05T00:10:00.000000Z",
    "2024-01-01T00:10:00+00:30": "2023-12-31T23:40:00.000000Z",
    "2024-02-29T23:59:59.999999999Z": "2024-02-29T23:59:59.999999Z",
    "0002-01-01T00:00:00Z": "0002-01-01T00:00:00.000000Z",
    "9999-12-31T23:59:59Z": "9999-12-31T23:59:59.000000Z",
}

NO_TIME = {
    "Go's zero time": "0001-01-01T00:00:00Z",
    "Go's zero time with a fraction": "0001-01-01T00:00:00.0000000Z",
    "zero time in an offset, before year 1": "0001-01-01T00:00:00+02:00",
    "zero time in an offset, in year 1": "0001-01-01T00:00:00-05:00",
    "empty": "",
    "no offset": "2024-03-05T08:20:03",
    "ten digits": "2024-03-05T08:20:03.0123456789Z",
    "a dot and no digits": "2024-03-05T08:20:03.Z",
    "day only": "2024-03-05",
    "month 13": "2024-13-05T08:20:03Z",
    "day 30 of February": "2024-02-30T08:20:03Z",
    "hour 25": "2024-03-05T25:20:03Z",
    "second 61": "2024-03-05T08:20:61Z",
    "an offset of 99 hours": "2024-03-05T08:20:03+99:00",
    "an offset without minutes": "2024-03-05T08:20:03+01",
    "after the year 9999": "9999-12-31T23:59:59-01:00",
    "year 0": "0000-01-01T00:00:00Z",
    "seconds since 1970": "1709622990",
    "Go's own text": "2024-03-05 08:20:03.9 +0000 UTC m=+0.1",
    "words": "yesterday",
    "a line break behind": "2024-03-05T08:20:03Z\n",
    "space before": " 2024-03-05T08:20:03Z",
    "a NUL": "2024-03-05T08:20:03Z\0",
    "other digits": "٢٠٢٤-03-05T08:20:03Z",
    "other digits in the fraction": "2024-03-05T08:20:03.١٢٣Z",
    "a lone surrogate": "\ud800",
}


@pytest.mark.parametrize(("told", "said"), READ.items(), ids=READ)
def test_any_offset_and_any_digits_become_utc_with_six(told: str, said: str) -> None:
    assert utc(told) == said


@pytest.mark.parametrize("digits", range(10))
def test_digits_beyond_six_are_cut_and_missing_ones_are_zeros(digits: int) -> None:
    fraction = "999999999"[:digits]
    told = f"2024-03-05T08:16:30{'.' if digits else ''}{fraction}+01:00"
    assert utc(told) == f"2024-03-05T07:16:30.{fraction[:6]:0<6}Z"


@pytest.mark.parametrize("told", NO_TIME.values(), ids=NO_TIME)
def test_what_names_no_moment_is_no_time(told: str) -> None:
    assert utc(told) is None


@given(st.text() | st.from_regex(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{0,10})?([Zz]|[+-]\d\d:\d\d)?"))
@settings(deadline=None, print_blob=True)
def test_any_text_is_read_or_is_no_time(told: str) -> None:
    said = utc(told)
    if said is not None:
        assert len(said) == 27
        assert said.isascii()
        assert datetime.fromisoformat(said).utcoffset() == timedelta(0)
        assert utc(said) == said


@given(
    st.datetimes(datetime(2, 1, 3), datetime(9999, 12, 29)),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
@settings(deadline=None, print_blob=True)
def test_the_moment_is_the_same_in_utc(moment: datetime, minutes: int) -> None:
    local = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    said = utc(local.isoformat())
    assert said is not None
    assert datetime.fromisoformat(said) == local


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1709622990.5, "2024-03-05T07:16:30.500000Z"),
        (1709622990.9999998, "2024-03-05T07:16:30.999999Z"),
        (0.0000019, "1970-01-01T00:00:00.000001Z"),
        (4102444800, "2100-01-01T00:00:00.000000Z"),
    ],
)
def test_our_own_clock_is_cut_not_rounded(seconds: float, said: str) -> None:
    assert rfc3339(seconds) == said


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
@settings(deadline=None, print_blob=True)
def test_text_and_seconds_agree_within_a_microsecond(moment: datetime) -> None:
    exact = moment.replace(tzinfo=UTC)
    again = datetime.fromisoformat(rfc3339(unix(exact.isoformat(timespec="microseconds"))))
    assert timedelta(0) <= exact - again <= timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_767_222_031_001, "2025-12-31T23:00:31.001000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999000Z"),
        (-1, None),
        (253_402_300_800_000, None),
        (10**30, None),
    ],
)
def test_whole_milliseconds(ms: int, text: str | None) -> None:
    assert rfc3339_ms(ms) == text
