"""One client of a simulated platform: what waits for it, what is done to it."""

import asyncio
import weakref
from typing import Literal

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from bridge.simulators.resiot_options import Faults

ABORT = 1006
"""The code of a connection that ended without a close frame: never sent, only brought about."""
GRACE = 1.0
"""Seconds that a client has to take part in a close."""
BACKLOG = 64 * 1024 * 1024
"""Bytes that may wait for one client."""


class Client:
    """One connected client: what waits for it, and what is done to it.

    queue: frames, or a close code behind them · deaf: nothing is read from it · frozen: nothing is sent either.
    """

    def __init__(self, socket: ServerConnection, faults: Faults) -> None:
        self.socket = socket
        self.queue: asyncio.Queue[str | bytes | int] = asyncio.Queue()
        self.deaf = faults.deaf or faults.half_open
        self.frozen = False
        self._close_after, self._close_code = faults.close_after, faults.close_code
        self._waiting = 0  # bytes
        self._sent = 0  # frames
        self._finished = False
        if self.deaf:
            socket.transport.pause_reading()
        if faults.half_open:
            self.freeze()

    def freeze(self) -> None:
        """Unread frames stay in the kernel, its pings too: so there is no pong."""
        self.frozen = True
        self.socket.transport.pause_reading()

    def offer(self, frame: str | bytes) -> None:
        """Puts a frame behind the others; cuts off a client that is too far behind."""
        if self._waiting + len(frame) > BACKLOG:
            self.close(ABORT)
            return
        self._waiting += len(frame)
        self.queue.put_nowait(frame)

    def close(self, code: int) -> None:
        """Closes behind what waits; ABORT, or a frozen client: at once, without a close frame."""
        if code == ABORT or self.frozen:
            self.socket.transport.abort()
        else:
            self.queue.put_nowait(code)

    async def write(self) -> None:
        """Sends what is offered, until closed."""
        while True:
            item = await self.queue.get()
            try:
                if isinstance(item, int):
                    await self.socket.close(item)
                    return
                self._waiting -= len(item)
                await self.hand(item)
            finally:
                self.queue.task_done()

    async def hand(self, frame: str | bytes) -> Literal[0, 1]:
        """Sends one frame now and counts it: 1, or 0 where nothing can be sent any more."""
        if self.frozen or self._finished:
            return 0
        try:
            await self.socket.send(frame)
        except ConnectionClosed:
            return 0
        self._sent += 1
        if self._sent == self._close_after:
            self._finished = True
            self.close(self._close_code)
        return 1

    def forget(self) -> None:
        """Empties the queue, so that nobody waits for a client that is gone."""
        while not self.queue.empty():
            self.queue.get_nowait()
            self.queue.task_done()


def remembered_in(sockets: weakref.WeakSet[ServerConnection]) -> type[ServerConnection]:
    """A kind of connection that enters itself there with its TCP connection, long before it is a client."""

    class Remembered(ServerConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            sockets.add(self)

    return Remembered
