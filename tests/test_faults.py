"""A minute of the fault suite (tests/faults); `python -m tests.faults --help` says how to have more of it.

Another story every time; the seed is in the report, which pytest shows where the promise was not kept.
"""

import pytest

from tests.faults.__main__ import told
from tests.faults.run import Plan, a_seed, run


@pytest.mark.timeout(300)
async def test_the_promise_in_memory() -> None:
    report = await run(Plan(faults=10, events=10_000, seed=a_seed(), durable=False))
    print(told(report))
    assert not report.problems
