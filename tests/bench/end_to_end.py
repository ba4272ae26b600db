"""The whole way, against others: frames from a socket to a subscriber, through each peer in turn."""

from collections.abc import Sequence
from statistics import median

from tests.bench.course import PEERS, Outcome, run
from tests.bench.measure import table
from tests.bench.source import Asked

Rounds = dict[str, list[Outcome]]


async def end_to_end(names: Sequence[str], rounds: int, count: int, rate: int) -> Rounds:
    """Every round begins with another peer."""
    outcomes: Rounds = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            outcomes[name].append(await run(PEERS[name], {"lora": Asked(count, rate)}))
    return outcomes


def told(outcomes: Rounds, rate: int) -> str:
    """CPU: the best round, since noise only adds; all else: medians."""
    naive, floor = (_micros(outcomes[name]) if name in outcomes else None for name in ("naive", "floor"))
    rows = []
    for name, each in outcomes.items():
        micros = _micros(each)
        speed = [_middle(each, "p50"), _middle(each, "p99")] if rate else [_middle(each, "per_second")]
        wrong = "/".join(str(sum(getattr(one, what) for one in each)) for what in ("lost", "doubled", "disordered"))
        ratios = [micros / other if other else None for other in (naive, floor)]
        busy = "/".join(f"{median(getattr(one, who) for one in each):.2f}" for who in ("busy", "broker", "sink"))
        rows.append([name, *speed, micros, *ratios, max(one.peak for one in each), wrong, busy])
    speed_head = ["p50 ms", "p99 ms"] if rate else ["messages/s"]
    head = [*speed_head, "CPU µs/message", "× naive", "× floor", "RSS MiB", "lost/doubled/disordered"]
    return table(["peer", *head, "busy cores: peer/broker/sink"], rows)


def _micros(outcomes: Sequence[Outcome]) -> float:
    return min(outcome.micros for outcome in outcomes)


def _middle(outcomes: Sequence[Outcome], what: str) -> float | None:
    figures = [figure for outcome in outcomes if (figure := getattr(outcome, what)) is not None]
    return median(figures) if figures else None
