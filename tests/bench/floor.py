"""The least that work of this kind can cost here: frames read, decoded, encoded, published at QoS 1, acknowledged.

    python -m tests.bench.floor URL PORT websockets|stream

websockets: frames by its own recv() · stream: cut out by the bridge's own reader. No session, no identity, no outbox,
no states, no coming back: what the bridge takes more is the price of its promises. Honest: typed decoding of what is
needed, a topic per subject, packet ids, a window, every PUBACK read and in its order.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator

import msgspec
import websockets.asyncio.client as client
from msgspec import Raw, Struct

from bridge.links.stream import Stream
from bridge.wire import publish_packet
from tests.support import V5, Connect, write_connect

WINDOW = 2_000


class Frame(Struct):
    CommType: str
    AppEui: str
    DevEui: str
    DT: str
    GatewayEUIs: list[str] = []


class Told(Struct):
    type: str
    subject: str
    time: str
    data: Raw


_decode = msgspec.json.Decoder(Frame).decode
_encode = msgspec.json.Encoder().encode


class Broker(asyncio.Protocol):
    """The connection to the broker; room: cleared while the window is full."""

    def __init__(self) -> None:
        self.room, self.welcome = asyncio.Event(), asyncio.Event()
        self._flying: deque[int] = deque()
        self._last = 0
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(write_connect(Connect("bench-floor", version=V5, keepalive=0)))

    def publish(self, made: list[tuple[str, bytes]]) -> None:
        packets = []
        for topic, payload in made:
            self._last = self._last % 65_535 + 1
            self._flying.append(self._last)
            packets.append(
                publish_packet(topic.encode(), payload, b"", qos=1, retain=False, packet=self._last, version=V5)
            )
        self._transport.write(b"".join(packets))
        if len(self._flying) >= WINDOW:
            self.room.clear()

    def data_received(self, data: bytes) -> None:
        data, at = self._rest + data, 0
        while len(data) - at >= 2 and len(data) - at >= (length := 2 + data[at + 1]):
            if data[at] == 0x40:
                expected = self._flying.popleft()
                if data[at + 2] << 8 | data[at + 3] != expected:
                    raise RuntimeError("a PUBACK out of order")
            else:
                self.welcome.set()
            at += length
        self._rest = data[at:]
        if len(self._flying) < WINDOW:
            self.room.set()


def message(frame: str | bytes) -> tuple[str, bytes]:
    told = _decode(frame)
    device = f"application/{told.AppEui}/device/{told.DevEui}"
    subject = device if told.DevEui else f"gateway/{told.GatewayEUIs[0]}"
    kind = told.CommType
    data = Raw(frame.encode() if isinstance(frame, str) else frame)
    return f"bench/lora/{subject}/event/{kind}", _encode(Told(kind, subject, told.DT, data))


async def batches(url: str, reader: str) -> AsyncIterator[list[bytes]]:
    if reader == "stream":
        async with client.connect(url, create_connection=Stream, compression=None, proxy=None) as platform:
            assert isinstance(platform, Stream)
            async for batch in platform.batches():
                yield batch
        return
    async with client.connect(url, compression=None, proxy=None) as platform:
        while True:
            yield [await platform.recv(decode=False)]


async def bridge(url: str, port: int, reader: str) -> None:
    _, broker = await asyncio.get_running_loop().create_connection(Broker, "127.0.0.1", port)
    await broker.welcome.wait()
    async for batch in batches(url, reader):
        broker.publish([message(frame) for frame in batch])
        await broker.room.wait()


if __name__ == "__main__":
    asyncio.run(bridge(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
