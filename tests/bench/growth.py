"""What grows with the number of devices, gateways and backends, and what one backend costs the others."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from tests.bench.children import started
from tests.bench.course import PEERS, Streams, listening, prepared, run, running
from tests.bench.source import Asked

DEVICES, BACKENDS = (1, 1_000, 100_000), (1, 10, 50)
GATEWAYS = (100, 100_000)
_QUIET, _QUIET_RATE, _QUIET_S = 10, 50, 6
_IDLE_BACKENDS, _IDLE_S, _IDLE_SETTLE_S = 4, 10.0, 3.0
_FLOOD = Asked(20_000, endless=True)
_OURS = PEERS["ws2mqtt"]

Row = Sequence[object]


async def devices(count: int, rounds: int) -> list[Row]:
    """CPU per event by the number of devices that the events come from."""
    return await _compared({each: {"lora": Asked(count, devices=each)} for each in DEVICES}, rounds)


async def backends(count: int, rounds: int) -> list[Row]:
    """The same events, spread over so many backends."""
    spread = {each: {f"b{n}": Asked(count // each) for n in range(each)} for each in BACKENDS}
    return await _compared(spread, rounds)


async def _compared(cases: Mapping[int, Streams], rounds: int) -> list[Row]:
    """Number, best CPU per event, ratio to the first case, memory at most."""
    best = dict.fromkeys(cases, float("inf"))
    peak = dict.fromkeys(cases, 0.0)
    for _ in range(rounds):
        for case, streams in cases.items():
            outcome = await run(_OURS, streams)
            best[case], peak[case] = min(best[case], outcome.micros), max(peak[case], outcome.peak)
    first = best[min(cases)]
    return [(f"{case:,}", best[case], best[case] / first, peak[case]) for case in cases]


async def gateways() -> list[Row]:
    """Memory with so many gateways, each with a retained state, after as many keep-alives; what one of them takes."""
    rows: list[Row] = []
    for each in GATEWAYS:
        outcome = await run(_OURS, {"lora": Asked(max(GATEWAYS), devices=each, kinds="gateways")})
        less = float(str(rows[0][2])) if rows else None
        apiece = None if less is None else (outcome.memory - less) * 1024 / (each - GATEWAYS[0])
        rows.append((f"{each:,}", outcome.micros, outcome.memory, outcome.peak, apiece))
    return rows


async def neighbours(rounds: int) -> list[Row]:
    """Latency of ten quiet backends: alone, beside a flood through another bridge, beside one in their own."""
    quiet = {f"q{n}": Asked(_QUIET_RATE * _QUIET_S, _QUIET_RATE) for n in range(_QUIET)}
    cases: dict[str, tuple[list[str], list[str]]] = {
        "alone": ([*quiet], []),
        "flood in another process": ([*quiet], ["flood"]),
        "flood in the same process": ([*quiet, "flood"], []),
    }
    best = {case: (float("inf"), float("inf")) for case in cases}
    for _ in range(rounds):
        for case, (ours, others) in cases.items():
            best[case] = min(best[case], await _latency({**quiet, "flood": _FLOOD}, ours, others), key=lambda it: it[1])
    alone = best["alone"][1]
    return [(case, p50, p99, p99 - alone) for case, (p50, p99) in best.items()]


async def _latency(streams: Streams, ours: list[str], others: list[str]) -> tuple[float, float]:
    heard = [name for name in ours if name != "flood"]
    count = sum(streams[name].count for name in heard)
    filters = [f"bench/{name}/#" for name in heard]  # nobody listens to the flood
    async with prepared(streams) as field, listening(field, count, filters) as sink, AsyncExitStack() as peers:
        for names in filter(None, (ours, others)):
            await peers.enter_async_context(running(field, _OURS, names))
        field.source.tell("go")
        told = await sink.said("result")
        return told["p50"], told["p99"]


async def start(rounds: int) -> list[Row]:
    """Seconds from the start of the process until its first event is heard."""
    times = []
    for _ in range(max(3, rounds)):
        streams = {"lora": Asked(100)}
        async with prepared(streams) as field, listening(field, 100) as sink:
            field.source.tell("go")
            place = field.place(streams)
            begun = time.time()
            async with started("ws2mqtt", _OURS.command(place), place.folder):
                times.append((await sink.said("result"))["first"] - begun)
    return [("first event", min(times), max(times))]


async def idle() -> list[Row]:
    """Percent of a core that four backends take that hear nothing."""
    rows: list[Row] = []
    streams = {f"b{n}": Asked(1) for n in range(_IDLE_BACKENDS)}
    for name in ("ws2mqtt", "ws2mqtt-disk"):
        async with prepared(streams) as field, running(field, PEERS[name]) as child:
            await asyncio.sleep(_IDLE_SETTLE_S)
            before = child.cpu()
            await asyncio.sleep(_IDLE_S)
            rows.append((name, (child.cpu() - before) / _IDLE_S * 100, child.memory(peak=False)))
    return rows
