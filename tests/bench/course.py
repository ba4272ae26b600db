"""One run of a benchmark: source, peer, Mosquitto and sink as processes, and what came of it.

    source -> peer -> Mosquitto -> sink

CPU is counted from just before the first frame to the last message.
"""

import asyncio
import atexit
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from tests.bench.children import Child, cpu, python, started
from tests.bench.source import Asked
from tests.support.mosquitto import Mosquitto

Streams = Mapping[str, Asked]  # by backend
_LINES = ("set_tcp_nodelay true", "log_type error")
_NODE = Path(__file__).with_name("node.mjs")
_SETTLE_S, _SETTLE_EACH_S = 1.0, 0.02  # until a peer has its connections to the broker, too


@dataclass
class Place:
    """Where a peer finds the others."""

    folder: Path
    broker: int
    urls: Mapping[str, str]


@dataclass
class Peer:
    """Something that brings frames to the broker."""

    name: str
    command: Callable[[Place], Sequence[str]]


@dataclass
class Outcome:
    """micros: of CPU per message · broker, sink: cores they kept busy · memory: MiB, at the end and at most."""

    received: int
    lost: int
    doubled: int
    disordered: int
    per_second: float | None
    p50: float | None
    p99: float | None
    micros: float
    busy: float
    broker: float
    sink: float
    memory: float
    peak: float


def ours(durable: bool = False, flush: str = "50ms") -> Callable[[Place], Sequence[str]]:
    """The bridge, as a user starts it."""

    def command(place: Place) -> Sequence[str]:
        config = {
            "mqtt": {
                "url": f"mqtt://127.0.0.1:{place.broker}",
                "base_topic": "bench",
                "client_id": place.folder.name,
            },
            "outbox": {"path": str(place.folder / "outbox") if durable else None, "flush": flush},
            "http": {"listen": "off"},
            "backends": {name: {"type": "resiot", "url": url} for name, url in place.urls.items()},
        }
        path = place.folder / "bench.json"
        path.write_text(json.dumps(config))  # which is YAML, too
        return python("bridge", "run", "-c", path)

    return command


@cache
def _npm() -> str:
    """A folder with what the peer in JavaScript needs, kept until the benchmark ends."""
    folder = tempfile.mkdtemp(prefix="bench-npm-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--loglevel=error", "ws@8", "mqtt@5"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


PEERS = {
    peer.name: peer
    for peer in (
        Peer("naive", lambda place: python("tests.bench.naive", place.urls["lora"], place.broker)),
        Peer("paho", lambda place: python("tests.bench.paho_peer", place.urls["lora"], place.broker)),
        Peer("node", lambda place: ["node", str(_NODE), _npm(), place.urls["lora"], str(place.broker)]),
        Peer("floor", lambda place: python("tests.bench.floor", place.urls["lora"], place.broker, "websockets")),
        Peer("bare", lambda place: python("tests.bench.floor", place.urls["lora"], place.broker, "stream")),
        Peer("ws2mqtt", ours()),
        Peer("ws2mqtt-disk", ours(durable=True)),
        Peer("ws2mqtt-flush0", ours(durable=True, flush="0s")),
    )
}


@dataclass
class Field:
    """Everything but the peer, ready. connections: that the source has seen, of all peers."""

    folder: Path
    broker: Mosquitto
    source: Child
    streams: Streams
    port: int
    connections: int = 0

    def place(self, names: Iterable[str]) -> Place:
        """For a peer with these streams."""
        urls = {name: f"ws://127.0.0.1:{self.port}/{name}?{_query(self.streams[name])}" for name in names}
        return Place(Path(tempfile.mkdtemp(dir=self.folder)), self.broker.port, urls)

    def used(self, *children: Child) -> list[float]:
        """Seconds of CPU so far, of the broker and these."""
        assert self.broker.pid is not None
        return [cpu(self.broker.pid), *(child.cpu() for child in children)]


def _query(asked: Asked) -> str:
    return urlencode({name: value for name, value in msgspec.to_builtins(asked).items() if value is not False})


@asynccontextmanager
async def prepared(streams: Streams) -> AsyncIterator[Field]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        async with (
            Mosquitto(folder, max_inflight=20_000, lines=_LINES) as broker,
            started("source", python("tests.bench.source"), folder) as source,
        ):
            yield Field(folder, broker, source, streams, (await source.said("ready"))["port"])


@asynccontextmanager
async def listening(field: Field, count: int, filters: Sequence[str] = ("bench/#",)) -> AsyncIterator[Child]:
    command = python("tests.bench.sink", field.broker.port, count, *filters)
    async with started("sink", command, field.folder) as sink:
        await sink.said("ready")
        yield sink


@asynccontextmanager
async def running(field: Field, peer: Peer, names: Iterable[str] | None = None) -> AsyncIterator[Child]:
    """A peer that has its connections. names: its streams, if not all."""
    place = field.place(field.streams if names is None else names)
    async with started(peer.name, peer.command(place), place.folder) as child:
        field.connections += len(place.urls)
        await field.source.said("connected", field.connections)
        await asyncio.sleep(_SETTLE_S + _SETTLE_EACH_S * len(place.urls))
        yield child


async def run(peer: Peer, streams: Streams) -> Outcome:
    """All streams through one peer."""
    count = sum(asked.count for asked in streams.values())
    async with prepared(streams) as field, listening(field, count) as sink, running(field, peer) as child:
        before = field.used(child, sink)
        field.source.tell("go")
        await sink.said("collected")
        broker, spent, heard = (now - then for now, then in zip(field.used(child, sink), before, strict=True))
        told = await sink.said("result")
        seconds = told["seconds"] or 1.0
        return Outcome(
            **{name: told[name] for name in ("received", "lost", "doubled", "disordered", "per_second", "p50", "p99")},
            micros=spent / max(1, told["received"]) * 1e6,
            busy=spent / seconds,
            broker=broker / seconds,
            sink=heard / seconds,
            memory=child.memory(peak=False),
            peak=child.memory(),
        )
