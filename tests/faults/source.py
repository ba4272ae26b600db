"""A ResIOT-shaped platform that counts: every uplink has the next number as its frame counter.

It speaks the WebSocket protocol by the library's core without I/O, so that it knows what it handed to which connection
and can end that as it likes: in good order, torn, or half-open, so that what it says goes nowhere and nothing is
answered. It keeps on talking, slower, while nobody hears it.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Self

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from tests.faults.told import Told
from tests.support import close

TOKEN = "5157e0b2c94f4d0f8f1f7a6b3c2d1e00"
HOST = "127.0.0.1"
_TURN_S = 0.01
_MURMUR_S = 0.05  # between two numbers while nobody hears them
_BURST = 1500
_GOOD = (1000, 1001)
_LAST_WORDS_S = 10.0

_UPLINK = (
    '{"CommType":"comm_rx","Connector":"636f6e3230","AppEui":"70b3d57ed0001122","DevEui":"a81758fffe0a0b0%d","Port":"5",'
    '"GatewayEUIs":["0a1b2c3d4e5f6071"],"Payload":"0100e60252","Extra":{"adr":"true","channel":"2","duplicate":"false",'
    '"frequency":"868.5","modBW":"125","rssi":"-87","seqno":"%d","sf":"9","snr":"6.2"},"DT":"%s.%07dZ"}'
)


class Source:
    """The platform, an async context manager; it talks once `talk()` runs.

    rate: numbers per second · hushed: it says nothing · refusing: HTTP status for every handshake from now on, 0 none ·
    life: which life of the bridge runs.
    """

    def __init__(self, told: Told, life: Callable[[], int], rng: random.Random) -> None:
        self.told, self._life, self._rng = told, life, rng
        self.rate = 1000.0
        self.hushed = False
        self.refusing = 0
        self.refused = 0
        self._connections = 0
        self._now: _Connection | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._turned = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.told.turn(0, 0, time.time())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"ws://{HOST}:{port}/WebSocketServer/DeviceMsg/?type=node&token={TOKEN}"

    @property
    def listened(self) -> bool:
        """Whether what it says reaches somebody, as far as it can know."""
        return self._now is not None and not self._now.swallowing

    async def talk(self) -> None:
        """Numbers, until cancelled, as evenly as they are taken."""
        due = time.monotonic()
        while True:
            connection = self._now
            self._look()
            if self.hushed:
                await asyncio.sleep(_TURN_S)
                continue
            if connection is None or connection.swallowing:
                self._say(1)
                await self._quiet()
                due = time.monotonic()
                continue
            due = max(due, time.monotonic() - 0.2)  # what could not be said in time is not made up for
            count = max(1, int(self.rate * _TURN_S))
            connection.send(self._say(count))
            await connection.taken()
            due += count / self.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _quiet(self) -> None:
        self._turned.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MURMUR_S):
                await self._turned.wait()

    def _say(self, count: int) -> list[bytes]:
        now = time.time_ns()
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        tick, at, say = now % 10**9 // 100, now / 1e9, self.told.say
        frames = []
        for _ in range(count):
            number = say(at)
            frames.append((_UPLINK % (number % 8, number, second, tick)).encode())
        return frames

    # What can happen to it

    def burst(self) -> None:
        """Much at once, if somebody listens: so that what comes next comes in the middle of something."""
        if self._now is not None and self.listened and not self.hushed:
            self._look()
            self._now.send(self._say(self._rng.randrange(1, _BURST)))

    def abort(self) -> None:
        """Resets the connection: what was not read yet is gone."""
        if self._now is not None:
            self._now.tear()
            self._now.writer.transport.abort()
            self._leave(self._now)

    def goodbye(self) -> None:
        """Closes the connection as the standard wants it."""
        if self._now is not None:
            self._now.protocol.send_close(1001)
            self._now.flush()
            self._leave(self._now)

    def swallow(self) -> None:
        """Makes the connection half-open: open for both sides, and nothing passes any more."""
        if self._now is not None:
            self._now.swallowing = True
            self._now.tear(self.told.last + 1)
            self._turned.set()

    # Connections

    def _look(self) -> None:
        """The bridge's life may have changed; a connection belongs to one."""
        now = self._now
        self.told.turn(now.life if now else self._life(), now.number if now else 0, time.time())

    def _leave(self, connection: "_Connection") -> None:
        if self._now is connection:
            self._now = None
            self._look()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = _Connection(self.told, reader, writer)
        try:
            await self._converse(connection)
        except OSError:
            connection.tear()
        finally:
            if not connection.ended_well:
                connection.tear()
            self._leave(connection)
            await connection.finish()
            self._tasks.discard(task)

    async def _converse(self, connection: "_Connection") -> None:
        while data := await connection.reader.read(65_536):
            if connection.swallowing:
                continue
            connection.protocol.receive_data(data)
            for event in connection.protocol.events_received():
                if isinstance(event, Request):
                    self._admit(connection, event)
                elif isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                    self._leave(connection)
            connection.flush()
            if connection.protocol.state is State.CLOSED:
                return
        if not connection.swallowing:
            connection.protocol.receive_eof()
            connection.flush()

    def _admit(self, connection: "_Connection", request: Request) -> None:
        protocol = connection.protocol
        if self.refusing or not request.path.endswith(f"token={TOKEN}"):
            self.refused += 1
            protocol.send_response(protocol.reject(self.refusing or 401, "refused\n"))
            return
        protocol.send_response(protocol.accept(request))
        connection.flush()
        if self._now is not None:  # half-open, as it turns out
            self.abort()
        self._connections += 1
        connection.number, connection.life, self._now = self._connections, self._life(), connection
        self._look()
        self._turned.set()


class _Connection:
    """One client. number: 0 until it is admitted · life: the bridge's, then."""

    def __init__(self, told: Told, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.told, self.reader, self.writer = told, reader, writer
        self.protocol = ServerProtocol(max_size=None)
        self.number = self.life = 0
        self.swallowing = False

    @property
    def ended_well(self) -> bool:
        """Both sides have said goodbye: the other one has read everything that came before."""
        code = self.protocol.close_rcvd
        return code is not None and code.code in _GOOD and not self.swallowing

    def tear(self, first: int | None = None) -> None:
        if self.number:
            self.told.tear(self.number, first)

    def send(self, frames: list[bytes]) -> None:
        for frame in frames:
            self.protocol.send_text(frame)
        self.flush()

    def flush(self) -> None:
        chunks = self.protocol.data_to_send()
        if not self.writer.is_closing():
            self.writer.write(b"".join(chunks))
            if chunks and not chunks[-1]:  # so the protocol says: no more from us
                self.writer.close()

    async def taken(self) -> None:
        with contextlib.suppress(OSError):
            await self.writer.drain()

    async def finish(self) -> None:
        """After a goodbye, what was written goes out first."""
        if self.ended_well:
            self.writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self.writer.wait_closed()
        await close(self.writer)
