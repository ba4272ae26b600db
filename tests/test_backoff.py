"""How long to wait: full jitter for sockets, a slow schedule of its own for refused logins."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.links.backoff import Backoff
from bridge.options import Duration, Reconnect

OPTIONS = Reconnect(Duration(1.0), Duration(60.0))


def longest(options: Reconnect = OPTIONS) -> Backoff:
    return Backoff(options, jitter=lambda: 1.0)


def test_the_ceiling_doubles_up_to_the_maximum() -> None:
    backoff = longest()
    assert [backoff.after_failure() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_jitter_is_full() -> None:
    backoff = Backoff(OPTIONS, jitter=iter([0.0, 0.5, 0.25, 0.0]).__next__)
    assert [backoff.after_failure() for _ in range(4)] == [0.0, 1.0, 1.0, 0.0]


@given(
    st.floats(0.001, 100.0),
    st.floats(0.001, 1000.0),
    st.integers(0, 2000),
    st.floats(0.0, 1.0, exclude_max=True),
)
@settings(deadline=None, print_blob=True, max_examples=50)
def test_a_delay_lies_between_nothing_and_the_maximum(initial: float, most: float, tries: int, jitter: float) -> None:
    backoff = Backoff(Reconnect(Duration(initial), Duration(most)), jitter=lambda: jitter)
    for _ in range(tries):
        backoff.after_failure()
    assert 0.0 <= backoff.after_failure() <= most


def test_without_a_jitter_of_ours_delays_differ() -> None:
    delays = {Backoff(OPTIONS).after_failure() for _ in range(20)}
    assert len(delays) > 1
    assert all(0.0 <= delay <= 1.0 for delay in delays)


def test_a_refused_login_waits_30s_1m_2m_5m_5m_without_jitter() -> None:
    backoff = Backoff(OPTIONS, jitter=lambda: 0.0)
    assert [backoff.after_refusal() for _ in range(6)] == [30, 60, 120, 300, 300, 300]


def test_success_starts_both_schedules_anew() -> None:
    backoff = longest()
    for _ in range(3):
        backoff.after_failure()
        backoff.after_refusal()
    assert backoff.attempt == 6
    backoff.success()
    assert (backoff.attempt, backoff.after_failure(), backoff.after_refusal()) == (0, 1.0, 30.0)


def test_the_two_schedules_do_not_hurry_each_other() -> None:
    backoff = longest()
    backoff.after_failure()
    assert backoff.after_refusal() == 30.0
    assert backoff.after_failure() == 2.0


@pytest.mark.parametrize(
    ("asked", "failure", "refusal"), [(None, 1, 30), (0.0, 1, 30), (10.0, 10, 30), (400, 400, 400)]
)
def test_retry_after_is_obeyed_and_shortens_nothing(asked: float | None, failure: float, refusal: float) -> None:
    assert longest().after_failure(asked) == failure
    assert longest().after_refusal(asked) == refusal
