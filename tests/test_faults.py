"""A minute of the fault suite (tests/faults); `python -m tests.faults --help` says how to have more of it.

Another story every time; its seed is in the report, which pytest shows where the promise was not kept.
"""

import pytest

from tests.faults.__main__ import told
from tests.faults.run import Plan, a_seed, run


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("durable", "faults"), [(True, 14), (False, 7)], ids=["on disk", "in memory"])
async def test_the_promise(durable: bool, faults: int) -> None:
    plan = Plan(faults=faults, events=1000 * faults, seed=a_seed(), durable=durable, seconds=200.0)
    report = await run(plan)
    print(told(report))
    assert not report.problems
