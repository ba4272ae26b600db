"""`python -m tests.faults --faults 30 --events 50000`: how much is asked for, and what came of it, for people."""

import argparse
import asyncio
import sys

from tests.faults.run import Plan, Report, a_seed, run


def told(report: Report) -> str:
    """The report, for people."""
    plan, verdict = report.plan, report.verdict
    faults = "".join(f"\n    {count:4} {name}" for name, count in sorted(report.faults.items()))
    lost = ", ".join(f"{count} {why}" for why, count in sorted(verdict.lost.items())) or "none"
    where = f"outbox on disk, flush {report.flush:g} s" if plan.durable else "outbox in memory only"
    costs = ", ".join(f"{count} (of the last {age:.3f} s)" if count else "0" for count, age in verdict.at_kill)
    lines = [
        f"seed {plan.seed}, {where}, {report.seconds:.1f} s",
        f"faults         {report.faults.total()}{faults}",
        *(f"skipped        {one}" for one in report.skipped),
        f"events         {report.said} said, {report.handed} of them to a living socket",
        f"heard          {report.heard} ({report.witnessed} by a subscriber), {report.doubled} doubles known by id",
        f"not heard      {lost}",
        f"kill -9        {len(verdict.at_kill)} times; events lost: {costs or 'none'}",
        f"gaps           {report.gaps}",
        f"ledger         balanced in {report.scrapes} scrapes over {report.lives} lives of the bridge",
        f"worst latency  {verdict.worst_s:.2f} s",
    ]
    if report.folder:
        lines.append(f"logs           {report.folder}")
    if report.problems:
        lines += ["", f"NOT KEPT: {len(report.problems)} problems (seed {plan.seed})"]
        lines += [f"  - {problem}" for problem in report.problems]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="The promise, put to the test.")
    parser.add_argument("--faults", type=int, default=30, help="how many (default: %(default)s)")
    parser.add_argument("--events", type=int, default=50_000, help="how many at least (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="one seed, one story (default: a new one)")
    parser.add_argument("--seconds", type=float, default=None, help="no new fault after so long")
    parser.add_argument("--keep", action="store_true", help="keep the logs, also where nothing is wrong with them")
    parser.add_argument("--quiet", action="store_true", help="the report alone")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--durable", action="store_true", help="with outbox.path (default)")
    where.add_argument("--memory", action="store_true", help="without")
    args = parser.parse_args()
    seed = a_seed() if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    tell = (lambda line: None) if args.quiet else (lambda line: print(line, flush=True))
    report = asyncio.run(run(Plan(args.faults, args.events, seed, not args.memory, args.seconds, args.keep, tell)))
    print(told(report))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
