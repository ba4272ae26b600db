"""Each room by itself: what it costs to take one event through it."""

import asyncio
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from itertools import cycle, islice
from pathlib import Path

from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

from bridge.backends import PLATFORMS
from bridge.backends.session import Call, Dial, Session, Step
from bridge.clock import instant
from bridge.links.stream import Stream
from bridge.model import Event, Instant, Message
from bridge.notes import Change
from bridge.options import MqttOptions, OutboxOptions
from bridge.outbox import Outbox
from bridge.payloads import Writer
from bridge.publisher import Publisher
from bridge.spool import Spool
from bridge.times import rfc3339
from bridge.watch.logs import BackendLog
from bridge.watch.metrics import MqttMeter
from bridge.wire import Wire, publish_packet
from tests.backends.sample import Samples
from tests.backends.samples import SAMPLES
from tests.bench.measure import Cost, Piece, costs
from tests.bench.traffic import FLAT_OUT, Kinds, pieces, texts, told
from tests.support.mosquitto import Mosquitto

BATCH = 128  # what is read together
_GREETINGS = 100  # calls and links, at most, until a session is online


def frames(count: int, kinds: Kinds = "uplinks") -> list[bytes]:
    return [told(text, FLAT_OUT + n) for n, text in enumerate(texts(count, kinds=kinds))]


def online(word: str, samples: Samples, now: Instant) -> Session:
    """A session that has been greeted, as far as its samples tell how."""
    session: Session = PLATFORMS[word].session(samples.options)
    waiting = [session.started(None, None, now)]
    for _ in range(_GREETINGS):
        if waiting:
            waiting += _followed(session, waiting.pop(0), samples, now)
    for frame in samples.opening:
        session.received("main", frame.encode(), now)
    return session


def _followed(session: Session, step: Step, samples: Samples, now: Instant) -> Iterator[Step]:
    for do in step.do:
        if isinstance(do, Dial):
            yield session.opened(do.link, now)
        elif isinstance(do, Call) and (answer := samples.greeting(do)):
            yield session.answered(do.id, answer, now)


# The way in.


def yardstick(told: Sequence[bytes]) -> Piece:
    """What Python itself takes to read a frame and write it again."""

    async def work() -> None:
        for frame in told:
            json.dumps(json.loads(frame))

    return Piece("json.loads + json.dumps", len(told), work)


class _Pipe(asyncio.Transport):
    """Nothing is sent, nothing is stopped."""

    def resume_reading(self) -> None: ...

    def pause_reading(self) -> None: ...


def cutting(count: int) -> Piece:
    """Bytes as a socket gives them → frames."""
    stream = Stream(ClientProtocol(parse_uri("ws://127.0.0.1/"), max_size=2**20))
    stream.protocol.state = State.OPEN
    stream.transport = _Pipe()
    bytes_read = list(pieces(count, kinds="uplinks"))

    async def work() -> None:
        batches = stream.batches()
        for data in bytes_read:
            stream.data_received(data)
            await anext(batches)
        await batches.aclose()  # type: ignore[attr-defined]

    return Piece("WebSocket: bytes → frames", count, work)


def reading(name: str, session: Session, told: Sequence[bytes], now: Instant) -> Piece:
    """Frame → events, of one session."""

    async def work() -> None:
        received = session.received
        for frame in told:
            received("main", frame, now)

    return Piece(f"session: frame → event ({name})", len(told), work)


def sampled(word: str, count: int, now: Instant) -> Piece:
    """The same with a platform's samples, again and again: what it says twice may cost less than what is new."""
    samples = SAMPLES[word]
    told = [frame.encode() for frame in samples.frames if "{key}" not in frame]
    return reading(
        f"{word}, its samples over and over", online(word, samples, now), list(islice(cycle(told), count)), now
    )


def writing(writer: Writer, events: Sequence[Event], now: Instant) -> Piece:
    recorded = rfc3339(now.unix)

    async def work() -> None:
        for number, event in enumerate(events):
            writer.event(event, number, recorded)

    return Piece("payload: event → message", len(events), work)


# The way out.


def waiting(messages: Sequence[Message], now: Instant) -> Piece:
    outbox = Outbox(OutboxOptions(), ("up",))

    async def work() -> None:
        for start in range(0, len(messages), BATCH):
            for message in messages[start : start + BATCH]:
                outbox.append(message, "up", now)
            _emptied(outbox)

    return Piece("outbox: append, peek, commit (memory)", len(messages), work)


def _emptied(outbox: Outbox) -> None:
    sent = []
    while (entry := outbox.peek()) is not None:
        sent.append(entry.position)
    for position in sent:
        outbox.commit(position)


def written(messages: Sequence[Message], now: Instant, folder: Path) -> Piece:
    """The same, where every event is on disk before it is published."""
    outbox = Outbox(OutboxOptions(), ("up",))
    spool = Spool(folder, "bench", platform="resiot", session="1", max_bytes=outbox.options.max_bytes)
    outbox.attach(spool, spool.open()[0])

    async def work() -> None:
        for start in range(0, len(messages), BATCH):
            for message in messages[start : start + BATCH]:
                outbox.append(message, "up", now)
            group = outbox.unwritten(None)
            outbox.wrote(group, spool.write(group, Change()))
            _emptied(outbox)

    return Piece("outbox: the same, all written to disk", len(messages), work)


class _Line:
    """Two ends of a socket, a Wire on one of them."""

    def __init__(self, held: ExitStack) -> None:
        ours, theirs = (held.enter_context(end) for end in socket.socketpair())
        for end in (ours, theirs):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        self.broker = theirs
        self.acknowledged = 0
        self.wire = Wire(ours, asyncio.get_running_loop(), self._count)

    def _count(self, acks: Sequence[tuple[int, int]]) -> None:
        self.acknowledged += len(acks)

    def publish(self, messages: Sequence[Message]) -> None:
        wire = self.wire
        wire.cork()
        for message in messages:
            packet = publish_packet(
                message.topic.encode(),
                message.payload,
                message.properties,
                qos=1,
                retain=False,
                packet=wire.identifier(),
                version=5,
            )
            wire.write(packet)
        wire.uncork()


def publishing(messages: Sequence[Message], held: ExitStack) -> Piece:
    line = _Line(held)

    async def work() -> None:
        for start in range(0, len(messages), BATCH):
            line.publish(messages[start : start + BATCH])
            line.broker.recv(2**20)

    return Piece("wire: PUBLISH made and sent", len(messages), work)


def acknowledging(count: int, held: ExitStack) -> Piece:
    line = _Line(held)
    acks = b"".join(b"\x40\x02" + packet.to_bytes(2, "big") for packet in range(2000, 2000 + BATCH))

    async def work() -> None:
        until = line.acknowledged + count
        while line.acknowledged < until:
            line.broker.send(acks + b"\xd0\x00")  # a PINGRESP, which is paho's, ends what is read at once
            while line.wire.recv(1) != b"\x00":
                pass

    return Piece("wire: PUBACK taken out of the stream", count, work)


@asynccontextmanager
async def connected(messages: Sequence[Message], folder: Path) -> AsyncIterator[Piece]:
    """The publisher with all that it stands on, against a real broker: what the MQTT half costs."""
    outbox = Outbox(OutboxOptions(), ("up",))
    async with Mosquitto(folder, max_inflight=20_000, lines=["set_tcp_nodelay true"]) as broker:
        publisher = Publisher(
            MqttOptions(url=(broker.url(),)),
            client_id="bench",
            will=lambda: Message("bench/state", b"{}"),
            filters=(),
            incoming=lambda message: None,
            meter=MqttMeter(),
            log=BackendLog("bench"),
            outbox=outbox,
        )
        running = asyncio.ensure_future(publisher.run())
        await publisher.announced.wait()

        async def work() -> None:
            now = instant()
            for start in range(0, len(messages), BATCH):
                with publisher.gathered():
                    for message in messages[start : start + BATCH]:
                        outbox.append(message, "up", now)
                await asyncio.sleep(0)
            await publisher.drained()

        try:
            yield Piece("publisher: outbox → broker → PUBACK, all of it", len(messages), work)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def rooms(count: int, rounds: int) -> list[Cost]:
    """Every room, over so many events each."""
    now = instant()
    usual, unusual = frames(count), frames(count, "unusual")
    session = online("resiot", SAMPLES["resiot"], now)
    events = [heard for frame in usual for heard in session.received("main", frame, now).heard if type(heard) is Event]
    writer = Writer(base="bench", backend="lora", platform="resiot", session="1709622990101")
    messages = [writer.event(event, number, rfc3339(now.unix)) for number, event in enumerate(events, 1)]
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        async with connected(messages, folder) as whole:
            pieces = [
                yardstick(usual),
                cutting(count),
                reading("resiot, usual", session, usual, now),
                reading("resiot, unusual", session, unusual, now),
                *(sampled(word, count, now) for word in SAMPLES if word != "resiot"),
                writing(writer, events, now),
                waiting(messages, now),
                written(messages, now, folder / "outbox"),
                publishing(messages, held),
                acknowledging(count, held),
                whole,
            ]
            return await costs(pieces, pieces[0], rounds)
