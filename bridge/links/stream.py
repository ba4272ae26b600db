"""The fast way in: whole, plain data frames are cut out of the stream here; everything else is websockets' own.

A frame costs websockets several generators, objects and a hand-over between tasks; most frames need none of that. What
is fragmented, compressed, masked, large, a control frame, or comes before the handshake or after the first word of an
end goes to websockets unchanged, by its public `data_received`.

1. The order of frames is kept: while websockets has one that was not read, those behind it go to websockets, too.
2. What is handed to websockets ends between two frames, so that the next one can be ours again.
3. Whoever reads slowly stops the stream, after PAUSE frames.
4. A few frames that find their reader waiting are taken at once: a turn of the loop less, where it counts.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.protocol import State

PAUSE = 512  # frames that wait for their reader
_PLAIN = (0x81, 0x82)  # RFC 6455, 5.2: FIN and text or binary, nothing reserved
_HEADS = {126: 4, 127: 10}  # bytes of a frame's head, by the length in its second byte; else 2
_HEAD_END = b"\r\n\r\n"


class Stream(ClientConnection):
    """A connection whose frames come in batches."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.heard = 0.0  # time.monotonic() of the last sign of life
        self._read = 0.0  # the same, of the batch that was read last
        self._reading = False
        self._limit = self.protocol.max_message_size or 0  # what is larger is websockets' to refuse
        self._frames: list[bytes] = []
        self._theirs = 0  # messages that websockets has, or is getting
        self._fragmented = False
        self._rest = b""  # the beginning of a frame
        self._through = 0  # bytes of the frame that websockets is getting
        self._all_theirs = False
        self._ended = False
        self._stirred: asyncio.Future[None] | None = None
        self._idle: float | None = None
        self._limit_of_idle: asyncio.Timeout | None = None
        self._take: Callable[[list[bytes]], None] | None = None
        self._few = 0

    async def batches(
        self, idle: float | None = None, take: Callable[[list[bytes]], None] | None = None, few: int = 0
    ) -> AsyncIterator[list[bytes]]:
        """Frames as they come, each as bytes; batches of up to `few` may go to `take` instead, in their order.

        Raises ConnectionClosed at the end, TimeoutError after `idle` seconds without a frame, and what `take` raises.
        """
        self._idle, self._take, self._few = idle, take, few
        while True:
            if self._frames:
                batch, self._frames = self._frames, []
                heard, self._reading = self.heard, True
                yield batch
                self._read, self._reading = heard, False
                if not self._frames:
                    self.transport.resume_reading()
            elif self._theirs or self._fragmented or self._all_theirs or self._ended:
                async with asyncio.timeout(idle):
                    frame = await self.recv(decode=False)
                self._theirs -= 1
                heard, self._reading = self.heard, True
                yield [frame]
                self._read, self._reading = heard, False
            else:
                self._stirred = self.loop.create_future()
                async with asyncio.timeout(idle) as self._limit_of_idle:
                    await self._stirred

    @property
    def read(self) -> float:
        """time.monotonic() up to which everything that was heard has been read."""
        return self._read if self._reading or self._frames or self._theirs else self.heard

    def data_received(self, data: bytes) -> None:
        self.heard = time.monotonic()
        if not self._all_theirs and self.protocol.state is State.CONNECTING:
            data = self._greeting(data)
        if self._all_theirs:
            if data:
                super().data_received(data)
        elif data:
            self._cut(self._rest + data if self._rest else data)
            if len(self._frames) > PAUSE:
                self.transport.pause_reading()
        self._stir()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._ended = True
        self._stir()

    def _stir(self) -> None:
        """Somebody waits for what has come: it is taken, or they are told."""
        waiting = self._stirred
        if waiting is None or waiting.done():
            return
        if self._take is None or not 0 < len(self._frames) <= self._few:
            waiting.set_result(None)
            return
        batch, self._frames = self._frames, []
        self._reading = True
        try:
            self._take(batch)
        except BaseException as error:  # noqa: BLE001 - handed on: the reader raises it, where its supervisor hears it
            waiting.set_exception(error)
        self._read, self._reading = self.heard, False
        if waiting.done():
            return
        if self._theirs or self._fragmented or self._all_theirs or self._ended:  # there is more than that
            waiting.set_result(None)
        elif self._idle is not None and self._limit_of_idle is not None:
            self._limit_of_idle.reschedule(self.loop.time() + self._idle)

    def _greeting(self, data: bytes) -> bytes:
        """The HTTP response goes to websockets; what is behind it is returned."""
        head, found, rest = data.partition(_HEAD_END)
        super().data_received(head + found)
        is_open = self.protocol.state is State.OPEN
        self._all_theirs = is_open is not bool(found)  # refused, or its end came in two pieces
        return rest

    def _cut(self, data: bytes) -> None:
        at = self._pass(data, 0, self._through) if self._through else 0
        while not self._all_theirs:
            if not self._theirs and not self._fragmented:
                at = self._take_plain(data, at)
            handed = self._hand_over(data, at)
            if handed == at:
                break
            at = handed
        self._rest = data[at:]

    def _take_plain(self, data: bytes, at: int) -> int:
        """Whole plain frames from there on; where they end. The hot loop: 16-bit lengths at most (RFC 6455, 5.2)."""
        frames, limit, end = self._frames, self._limit, len(data)
        while end - at > 1 and data[at] in _PLAIN:
            length, body = data[at + 1], at + 2
            if length > 125:
                if length > 126 or end - at < 4:
                    break
                length, body = data[at + 2] << 8 | data[at + 3], at + 4
            stop = body + length
            if stop > end or length > limit:
                break
            frames.append(data[body:stop])
            at = stop
        return at

    def _hand_over(self, data: bytes, at: int) -> int:
        """One frame, or what is there of it, to websockets; where it ends. The same place: it is too short to tell."""
        if len(data) - at < 10 and (len(data) - at < 2 or len(data) - at < _HEADS.get(data[at + 1], 2)):
            return at
        first, length, body = data[at], data[at + 1], at + 2
        if length > 125:
            body = at + _HEADS.get(length, 2)  # masked, which no server may do: websockets says so
            length = int.from_bytes(data[at + 2 : body], "big")
            if body == at + 2:
                return self._give_up(data, at)
        free = not self._theirs and not self._fragmented
        if free and first in _PLAIN and length <= self._limit and data[at + 1] < 127:
            return at  # plain, but not whole yet
        if first & 0x08 == 0:  # a data frame
            self._fragmented = first < 0x80
            self._theirs += first >= 0x80
        return self._pass(data, at, body + length - at)

    def _pass(self, data: bytes, at: int, size: int) -> int:
        """So many bytes from there on are websockets'; where they end. After an end, all that follows is."""
        part = data[at : at + size]
        super().data_received(part)
        self._through = size - len(part)
        at += len(part)
        return at if self.protocol.state is State.OPEN else self._give_up(data, at)

    def _give_up(self, data: bytes, at: int) -> int:
        """Everything from there on is websockets'."""
        self._all_theirs = True
        if at < len(data):
            super().data_received(data[at:])
        return len(data)
