"""The ear on the wire: every byte between bridge and broker passes here, and no crash of either can make it deaf.

It passes on whole packets, and tells of every event the moment the broker's PUBACK for it comes by, whether or not that
reaches the bridge. It can also be a bad wire: slow, cut, closed, swallowing everything, swallowing PUBACKs, or one that
says in the broker's name that a quota is exceeded.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Self

from tests.faults import packets
from tests.faults.heard import Copy
from tests.support import close, free_port

HOST = "127.0.0.1"
_CHUNK, _SLOW_CHUNK = 65_536, 2_048


class Wire:
    """A door for MQTT 5 clients in front of a broker, an async context manager.

    heard: told of each event that the broker acknowledged, or took at QoS 0, when that was, and when its connection
    began (Unix times) · prefix: of the topics that events have.
    rate: bytes per second and direction, None: as fast as it goes · swallowing: nothing comes through any more ·
    mute: no PUBACK does · quota: events are refused with 0x97, the broker never sees them. It ends with the event that
    it began with: a broker that took what is behind that would itself change the order.
    """

    def __init__(self, port: Callable[[], int], prefix: str, heard: Callable[[Copy, float, float], None]) -> None:
        self._broker, self._heard = port, heard
        self._prefix = prefix.encode()
        self.port = free_port()
        self.rate: float | None = None
        self.swallowing = self.mute = self.quota = False
        self.broken: list[str] = []  # what nobody should send
        self._passages: set[_Passage] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.shut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"mqtt://{HOST}:{self.port}"

    async def open(self) -> None:
        """Takes connections, again on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, HOST, self.port)

    def shut(self) -> None:
        """Refuses connections, and cuts those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self, client: str | None = None) -> None:
        """Resets the connections (of that client)."""
        for passage in self._passages:
            if client in (None, passage.client):
                passage.cut()

    def age(self, client: str) -> float:
        """Seconds since that client came; 0: it is not here."""
        return max((time.monotonic() - one.began for one in self._passages if one.client == client), default=0.0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass(reader, writer)
        except OSError:
            pass
        finally:
            await close(writer)
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, self._broker())
        passage = _Passage(self, writer, back)
        self._passages.add(passage)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, back, passage.up))
                tasks.create_task(self._pump(there, writer, passage.down))
        finally:
            self._passages.discard(passage)
            await close(back)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, through: Callable[[bytes], bytes]
    ) -> None:
        """One direction, to its end, which the other side is told; what that still says goes its way."""
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_SLOW_CHUNK if self.rate else _CHUNK):
                if told := through(chunk):
                    writer.write(told)
                await writer.drain()
                if self.rate:
                    await asyncio.sleep(len(chunk) / self.rate)
        with contextlib.suppress(OSError):
            writer.write_eof()

    # What passages tell

    def is_event(self, topic: bytes) -> bool:
        return topic.startswith(self._prefix) and b"/event/" in topic

    def took(self, copy: Copy, since: float) -> None:
        self._heard(copy, time.time(), since)


class _Passage:
    """One connection of a client, both ways."""

    def __init__(self, wire: Wire, client: asyncio.StreamWriter, broker: asyncio.StreamWriter) -> None:
        self._wire, self._to_client, self._to_broker = wire, client, broker
        self.client, self.began, self._since = "", time.monotonic(), time.time()
        self._rising, self._falling = packets.Splitter(), packets.Splitter()
        self._flying: dict[int, Copy] = {}
        self._refused: Copy | None = None  # the first one that was, and has not passed since
        self._over = False  # cut, or something was swallowed: what comes behind makes no sense

    def cut(self) -> None:
        self._over = True
        self._to_client.transport.abort()
        self._to_broker.transport.abort()

    def up(self, chunk: bytes) -> bytes:
        """From the bridge: what goes on to the broker."""
        return b"" if self._deaf() else b"".join(packet for packet in self._rising.feed(chunk) if self._goes_up(packet))

    def down(self, chunk: bytes) -> bytes:
        """From the broker: what goes on to the bridge."""
        return (
            b"" if self._deaf() else b"".join(packet for packet in self._falling.feed(chunk) if self._goes_down(packet))
        )

    def _deaf(self) -> bool:
        self._over = self._over or self._wire.swallowing
        return self._over

    def _goes_up(self, packet: bytes) -> bool:
        kind = packet[0] >> 4
        if kind == packets.CONNECT:
            self.client = packets.client_id(packet)
        return kind != packets.PUBLISH or self._publish(packets.published(packet))

    def _publish(self, told: packets.Published) -> bool:
        wire = self._wire
        if not wire.is_event(told.topic):
            return True
        try:
            copy = packets.event(told.payload)
        except ValueError as error:
            wire.broken.append(f"an event that cannot be read ({error}): {told.payload[:300]!r}")
            return True
        if told.packet and self._refuses(copy):
            self._to_client.write(packets.quota_exceeded(told.packet))
            return False
        if not told.packet:
            wire.took(copy, self._since)
        elif self._flying.setdefault(told.packet, copy) is not copy:
            wire.broken.append(f"packet id {told.packet} is used again before it was acknowledged")
        return True

    def _refuses(self, copy: Copy) -> bool:
        if self._wire.quota:
            self._refused = self._refused or copy
        elif copy == self._refused:
            self._refused = None
        return self._refused is not None

    def _goes_down(self, packet: bytes) -> bool:
        if packet[0] >> 4 != packets.PUBACK:
            return True
        number, code = packets.acknowledged(packet)
        copy = self._flying.pop(number, None)
        if copy is not None and code < packets.REFUSED:
            self._wire.took(copy, self._since)
        return not self._wire.mute
