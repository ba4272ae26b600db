"""How fast the bridge is: each room by itself, the whole way against others, and how it grows. Never run by pytest.

    python -m tests.bench                     # everything, some minutes
    python -m tests.bench --rooms --rounds 3
    python -m tests.bench --end-to-end --rate 2000 --peers naive,ws2mqtt

1. What counts is CPU per event; it compares with the other figures of the same run only. Ratios travel.
2. Nothing is asserted: a benchmark that fails on a busy day says nothing.
3. What is measured is a process of its own; what feeds it and what listens are others. Linux; Mosquitto on the PATH.
"""

import argparse
import asyncio
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench import end_to_end, growth
from tests.bench.course import PEERS
from tests.bench.measure import table
from tests.bench.rooms import rooms

_ROOM_EVENTS = 4_096
_PEERS = "naive,floor,bare,ws2mqtt,ws2mqtt-disk"


def main() -> None:
    asked = _arguments()
    every = not (asked.rooms or asked.end_to_end or asked.growth)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load before the run {os.getloadavg()[0]:.1f}\n")
    figures: dict[str, Any] = {}
    if every or asked.rooms:
        figures["rooms"] = asyncio.run(_rooms(asked.rounds))
    if every or asked.end_to_end:
        figures["end_to_end"] = asyncio.run(_end_to_end(asked))
    if every or asked.growth:
        figures["growth"] = asyncio.run(_growth(asked.count, asked.rounds))
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rooms", action="store_true", help="CPU of each room per event")
    add("--end-to-end", action="store_true", help="frames from a socket to a subscriber, through each peer")
    add("--growth", action="store_true", help="devices, gateways, backends; a flood; start; idle")
    add("--peers", default=_PEERS, help=f"of {', '.join(PEERS)} (default: %(default)s)")
    add("--rate", type=int, default=0, help="frames per second, for latency; 0: flat out")
    add("--rounds", type=int, default=3)
    add("--count", type=int, default=30_000, help="frames of a run (with --rate: of 5 seconds at most)")
    add("--json", type=Path, metavar="FILE", help="also write the figures there")
    asked = parser.parse_args()
    asked.peers = asked.peers.split(",")
    if unknown := set(asked.peers) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    if asked.rate and 1_000_000 % asked.rate:
        parser.error("--rate must divide 1000000")
    return asked


def _show(title: str, head: list[str], rows: list[growth.Row]) -> list[growth.Row]:
    print(f"## {title}\n\n{table(head, rows)}\n", flush=True)
    return rows


async def _rooms(rounds: int) -> list[growth.Row]:
    costs = await rooms(_ROOM_EVENTS, max(3, rounds))
    rows: list[growth.Row] = [(cost.name, cost.per_event, cost.ratio) for cost in costs]
    return _show("Rooms", ["room", "CPU µs/event", "× json"], rows)


async def _end_to_end(asked: argparse.Namespace) -> Any:
    count = min(asked.count, 5 * asked.rate) if asked.rate else asked.count
    outcomes = await end_to_end.end_to_end(asked.peers, asked.rounds, count, asked.rate)
    title = f"End to end, {count:,} frames, {f'{asked.rate:,} per second' if asked.rate else 'flat out'}"
    print(f"## {title}\n\n{end_to_end.told(outcomes, asked.rate)}\n", flush=True)
    return {name: [asdict(outcome) for outcome in each] for name, each in outcomes.items()}


async def _growth(count: int, rounds: int) -> dict[str, list[growth.Row]]:
    compared = ["CPU µs/event", "× first", "RSS MiB at most"]
    latency = ["quiet backends beside", "p50 ms", "p99 ms", "p99 more than alone"]
    return {
        "start": _show("Start", ["seconds until", "best", "worst"], await growth.start(rounds)),
        "idle": _show("Four idle backends", ["", "% of a core", "RSS MiB"], await growth.idle()),
        "devices": _show("Devices", ["devices", *compared], await growth.devices(count, rounds)),
        "backends": _show("Backends", ["backends", *compared], await growth.backends(count, rounds)),
        "gateways": _show(
            "Gateways with states",
            ["gateways", "CPU µs/event", "RSS MiB", "RSS MiB at most", "KiB each"],
            await growth.gateways(),
        ),
        "neighbours": _show("One flooding backend", latency, await growth.neighbours(rounds)),
    }


if __name__ == "__main__":
    main()
