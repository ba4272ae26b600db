"""The platform's side of a benchmark, as a process: a WebSocket server whose frames are all made before it says "go".

    ws://127.0.0.1:PORT/NAME?count=60000&rate=0&devices=100&kinds=mixed&endless=0

Each NAME is a stream of its own, described by whoever connects. It tells on standard output, as lines of JSON, what
happens, and waits for one line on standard input: then every stream plays, and those that come later play at once.
A client that comes back hears the rest of its stream, so that what it missed is missing. rate: frames per second, 0 as
fast as they are taken; endless: again and again, for a flood that has no end.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct, convert
from websockets.asyncio.server import ServerConnection, serve

from tests.bench.traffic import Kinds, framed, pieces, texts, told

_TICK_S = 0.001
_AHEAD = 512 * 1024  # bytes that wait in the server for a slow client


class Asked(Struct, frozen=True):
    """What a stream is."""

    count: int
    rate: int = 0
    devices: int = 100
    kinds: Kinds = "mixed"
    endless: bool = False


def say(event: str, **more: Any) -> None:
    print(json.dumps({"event": event, "at": time.time(), **more}), flush=True)


class Stream:
    """One NAME. It goes on where it stopped."""

    def __init__(self, name: str, asked: Asked) -> None:
        self.name, self.asked, self.begun = name, asked, 0.0
        flat_out = not asked.rate
        self._pieces = list(pieces(asked.count, asked.devices, asked.kinds)) if flat_out else []
        self._texts = [] if flat_out else list(texts(asked.count, asked.devices, asked.kinds))
        self._at = 0

    async def parts(self) -> AsyncIterator[bytes]:
        """What to send, when it is to be sent."""
        self.begun = self.begun or time.time()
        if self.asked.rate:
            async for part in self._due():
                yield part
            return
        while self._at < len(self._pieces):
            self._at += 1
            yield self._pieces[self._at - 1]
            if self.asked.endless:
                self._at %= len(self._pieces)

    async def _due(self) -> AsyncIterator[bytes]:
        step = 1_000_000 // self.asked.rate
        first = int(self.begun * 1e6) + 200_000
        while self._at < self.asked.count:
            until = min(self.asked.count, (int(time.time() * 1e6) - first) // step + 1)
            if until > self._at:
                due = range(self._at, until)
                self._at = until
                yield b"".join(framed(told(self._texts[n], first + n * step)) for n in due)
            await asyncio.sleep(_TICK_S)


class Source:
    def __init__(self) -> None:
        self._go = asyncio.Event()
        self._streams: dict[str, Stream] = {}

    async def run(self) -> None:
        async with serve(self._talk, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
            say("ready", port=next(iter(server.sockets)).getsockname()[1])
            await asyncio.to_thread(sys.stdin.readline)
            self._go.set()
            say("go")
            await asyncio.to_thread(sys.stdin.read)  # until it is closed

    async def _talk(self, connection: ServerConnection) -> None:
        address = urlsplit(connection.request.path if connection.request else "/")
        name = address.path.strip("/")
        if name not in self._streams:
            self._streams[name] = Stream(name, convert(dict(parse_qsl(address.query)), Asked, strict=False))
        say("connected", name=name)
        playing = asyncio.ensure_future(self._play(self._streams[name], connection.transport))
        await connection.wait_closed()
        playing.cancel()

    async def _play(self, stream: Stream, transport: asyncio.Transport) -> None:
        """Beside websockets, which would make every frame anew; between two parts it may answer a ping."""
        await self._go.wait()
        async for part in stream.parts():
            transport.write(part)
            await asyncio.sleep(0)
            while transport.get_write_buffer_size() > _AHEAD:
                await asyncio.sleep(_TICK_S)
        say("sent", name=stream.name)


if __name__ == "__main__":
    asyncio.run(Source().run())
