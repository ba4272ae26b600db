"""A small MQTT broker that does what a test asks of it, for what a real one cannot be made to do.

It speaks 3.1.1 and 5, keeps every packet it got, and answers by a script that may be changed at any moment. It does not
route: what a client publishes goes to no other client; publish() is how something comes to one. A client that breaks
the standard is cut off, and leaving the context raises AssertionError.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, cast

from tests.support import (
    PATIENCE_S,
    PINGRESP,
    SUBACK,
    UNSUBACK,
    V5,
    Connack,
    Connect,
    Disconnect,
    Malformed,
    Packet,
    Pairs,
    Pingreq,
    Properties,
    Puback,
    Publish,
    Record,
    Suback,
    Subscribe,
    Subscription,
    Unsubscribe,
    close,
    frame,
    free_port,
    matches,
    read_packet,
    write_connack,
    write_disconnect,
    write_puback,
    write_publish,
    write_suback,
)

HOST = "127.0.0.1"
SESSION_TAKEN_OVER, SERVER_SHUTTING_DOWN = 0x8E, 0x8B
PUBACK_NO_SUBSCRIBER, NOT_AUTHORIZED, QUOTA_EXCEEDED = 0x10, 0x87, 0x97

_GENTLY_S = 1.0
ACCEPTED = Connack()
Ending = Literal["disconnect", "lost", "cut", "fault"]


@dataclass(frozen=True)
class Got:
    """One packet that came in, and on which connection."""

    connection: "Connection"
    packet: Packet

    @property
    def client_id(self) -> str:
        return self.connection.client_id

    def __str__(self) -> str:
        return f"{self.connection.number} {self.client_id}: {self.packet}"


class Connection:
    """One client's connection, from its CONNECT on.

    number: from 1, over all clients. ended: None while it stands; `disconnect` the client said so (no will), `lost` it
    went without a word, `cut` the test did it, `fault` the client broke the standard.
    most_unacknowledged: the most QoS 1 publishes that waited for a PUBACK at any moment (what a client may have is the
    CONNACK's receive_maximum; hold the PUBACKs to see how far it goes).
    """

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.connect = Connect("")
        self.accepted = False
        self.packets: list[Packet] = []
        self.subscriptions: dict[str, Subscription] = {}
        self.ended: Ending | None = None
        self.unacknowledged: dict[int, Publish] = {}
        self.most_unacknowledged = 0
        self.held: list[tuple[Publish, int]] = []
        self._reader, self._writer = reader, writer
        self._transport = cast(asyncio.Transport, writer.transport)
        self._closed = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self._next_id = 0

    def __repr__(self) -> str:
        return f"<connection {self.number} of {self.client_id!r}, {self.ended or 'open'}>"

    @property
    def client_id(self) -> str:
        return self.connect.client_id

    @property
    def version(self) -> int:
        """4 is MQTT 3.1.1, 5 is MQTT 5."""
        return self.connect.version

    @property
    def publishes(self) -> list[Publish]:
        return [packet for packet in self.packets if isinstance(packet, Publish)]

    def acknowledge(self, packet_id: int, code: int = 0, properties: Properties | None = None) -> None:
        """Sends a PUBACK, whatever the script says."""
        self.unacknowledged.pop(packet_id, None)
        self.send(write_puback(Puback(packet_id, code, properties=properties or {}), self.version))

    def release(self, count: int | None = None) -> int:
        """Sends the oldest PUBACKs that are held back (None: all); returns how many."""
        going, self.held = self.held[:count], self.held[len(self.held[:count]) :]
        for publish, code in going:
            self.acknowledge(publish.packet_id, code)
        return len(going)

    def publish(
        self,
        topic: str,
        payload: bytes = b"",
        *,
        qos: Literal[0, 1] = 0,
        retain: bool = False,
        dup: bool = False,
        properties: Properties | None = None,
        user_properties: Pairs = (),
    ) -> int:
        """Sends a message to this client, whatever it subscribed to; returns the packet id, 0 at QoS 0."""
        self._next_id += qos
        number = self._next_id if qos else 0
        message = Publish(
            topic, payload, qos, retain, dup, number, properties=properties or {}, user_properties=user_properties
        )
        self.send(write_publish(message, self.version))
        return number

    def disconnect(self, code: int = SERVER_SHUTTING_DOWN, properties: Properties | None = None) -> None:
        """Sends DISCONNECT with the reason code (3.1.1 has none: nothing is sent) and ends the connection."""
        if self.version == V5:
            self.send(write_disconnect(Disconnect(code, properties=properties or {}), self.version))
        self.end("cut", gently=True)

    def cut(self) -> None:
        """Resets the TCP connection, without a word."""
        ended = self._transport.get_extra_info("socket")
        ended.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end("cut")

    def pause(self) -> None:
        """Reads nothing more from the socket; at most 128 KiB were read ahead."""
        self._reading.clear()
        self._transport.pause_reading()

    def resume(self) -> None:
        self._reading.set()
        self._transport.resume_reading()

    def send(self, data: bytes) -> None:
        """Any bytes."""
        if not self._writer.is_closing():
            self._writer.write(data)

    async def wait_ended(self, timeout: float = PATIENCE_S) -> Ending:
        """How it ended. Raises TimeoutError."""
        await asyncio.wait_for(self._closed.wait(), timeout)
        assert self.ended is not None
        return self.ended

    def end(self, how: Ending, gently: bool = False) -> None:
        """gently: the client gets what was written, and has a moment to close its side."""
        self.ended = self.ended or how
        self.resume()
        if not gently:
            self._transport.abort()
        elif not self._transport.is_closing():
            self._transport.write_eof()
            asyncio.get_running_loop().call_later(_GENTLY_S, self._transport.abort)

    async def read(self) -> Packet:
        """The next packet, once reading is not paused."""
        await self._reading.wait()
        return await read_packet(self._reader, self.version)

    async def finish(self) -> None:
        # bytes left unread would turn the end into a reset, which overtakes our last words
        with contextlib.suppress(OSError):
            while not self._transport.is_closing() and await self._reader.read(65_536):
                pass
        await close(self._writer)
        self._closed.set()


class ScriptedBroker:
    """Listens on 127.0.0.1 when its context is entered. The script, each part of it changeable at any moment:

    connack: the answer to CONNECT, or a function that gives it; None: no answer ever.
    puback: the reason code for a QoS 1 publish; None: no PUBACK. On 3.1.1 every code is a plain PUBACK.
    hold: PUBACKs are decided but held back until release(). suback: the code for a subscription; None: what was asked.
    cut_after: the TCP connection that brings the n-th publish of its own is cut before that is acknowledged, once.
    """

    def __init__(
        self,
        *,
        connack: Connack | Callable[[Connect], Connack | None] | None = ACCEPTED,
        puback: Callable[[Publish], int | None] = lambda publish: 0,
        hold: bool = False,
        suback: Callable[[Subscription], int | None] = lambda subscription: None,
        cut_after: int | None = None,
    ) -> None:
        self.port = free_port()
        self.connack, self.puback, self.hold = connack, puback, hold
        self.suback, self.cut_after = suback, cut_after
        self.connections: list[Connection] = []
        self.faults: list[str] = []
        self._got: Record[Got] = Record("scripted broker")
        self._accepted: Record[Connection] = Record("scripted broker's connections")
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused = False
        self._numbers = 0

    @property
    def url(self) -> str:
        return f"mqtt://{HOST}:{self.port}"

    @property
    def got(self) -> list[Got]:
        """Every packet of every client, in the order of arrival."""
        return self._got.items

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if error is None and self.faults:
            raise AssertionError(f"clients broke the standard: {self.faults}")

    async def start(self) -> None:
        """Also again after stop(), on the same port; what was got stays."""
        self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def stop(self) -> None:
        """Cuts every connection and listens no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self.connections:
            connection.end("cut")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)

    # What a test does

    def connection(self, client_id: str | None = None) -> Connection:
        """The newest accepted one (of that client). Raises LookupError."""
        for connection in reversed(self._accepted.items):
            if client_id in (None, connection.client_id):
                return connection
        raise LookupError(f"no connection of {client_id!r}")

    def publishes(self, topic_filter: str = "#", client_id: str | None = None) -> list[Publish]:
        """What was published on such topics so far (by that client), over all connections."""
        found = [got.packet for got in self.got if client_id in (None, got.client_id)]
        return [one for one in found if isinstance(one, Publish) and matches(topic_filter, one.topic)]

    def release(self, count: int | None = None) -> int:
        """Held PUBACKs of all open connections, in the order of the connections; returns how many."""
        done = 0
        for connection in self.connections:
            if connection.ended is None:
                done += connection.release(None if count is None else count - done)
        return done

    def publish(
        self,
        topic: str,
        payload: bytes = b"",
        *,
        qos: Literal[0, 1] = 0,
        retain: bool = False,
        properties: Properties | None = None,
        user_properties: Pairs = (),
    ) -> Sequence[Connection]:
        """Sends a message to every client that subscribed to the topic; returns them. Raises LookupError for nobody."""
        going = [one for one in self.connections if one.ended is None and _wants(one, topic)]
        if not going:
            raise LookupError(f"nobody is subscribed to {topic}")
        for one in going:
            one.publish(topic, payload, qos=qos, retain=retain, properties=properties, user_properties=user_properties)
        return going

    def pause(self) -> None:
        """Reads nothing any more, from those connected and those to come."""
        self._paused = True
        for connection in self.connections:
            if connection.ended is None:
                connection.pause()

    def resume(self) -> None:
        self._paused = False
        for connection in self.connections:
            if connection.ended is None:
                connection.resume()

    async def wait_connected(
        self, client_id: str | None = None, *, count: int = 1, timeout: float = PATIENCE_S
    ) -> Connection:
        """The n-th accepted connection (of that client); count=2 waits for a reconnect. Raises NotSeen."""
        found = await self._accepted.wait(lambda one: client_id in (None, one.client_id), timeout, count)
        return found[-1]

    async def wait_publishes(
        self, count: int, topic_filter: str = "#", *, client_id: str | None = None, timeout: float = PATIENCE_S,
        since: int = 0,
    ) -> list[Publish]:  # fmt: skip
        """The first `count` publishes on such topics, from place `since` of `got` on. Raises NotSeen."""

        def fits(got: Got) -> bool:
            packet = got.packet
            mine = client_id in (None, got.client_id)
            return mine and isinstance(packet, Publish) and matches(topic_filter, packet.topic)

        found = await self._got.wait(fits, timeout, count, since)
        return [got.packet for got in found if isinstance(got.packet, Publish)]

    async def wait_packet(
        self, predicate: Callable[[Got], bool], *, count: int = 1, timeout: float = PATIENCE_S, since: int = 0
    ) -> Got:
        """The n-th packet that fits. Raises NotSeen."""
        return (await self._got.wait(predicate, timeout, count, since))[-1]

    async def wait_subscribed(
        self, topic: str, client_id: str | None = None, *, timeout: float = PATIENCE_S, since: int = 0
    ) -> Connection:
        """The first connection that subscribed so that it would hear the topic. Raises NotSeen."""

        def fits(got: Got) -> bool:
            packet = got.packet
            asked = packet.subscriptions if isinstance(packet, Subscribe) else ()
            return client_id in (None, got.client_id) and any(matches(one.filter, topic) for one in asked)

        return (await self.wait_packet(fits, timeout=timeout, since=since)).connection

    # What it does itself

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._numbers += 1
        connection = Connection(self._numbers, reader, writer)
        self.connections.append(connection)
        if self._paused:
            connection.pause()
        try:
            await self._talk(connection)
        except Malformed as error:
            self.faults.append(f"{connection.client_id}: {error}")
            connection.end("fault", gently=True)
        except (asyncio.IncompleteReadError, OSError):
            connection.end("lost")
        finally:
            await connection.finish()
            self._tasks.discard(task)

    async def _talk(self, connection: Connection) -> None:
        first = await connection.read()
        if not isinstance(first, Connect):
            raise Malformed(f"the first packet is {first}")
        connection.connect = first
        self._keep(connection, first)
        if not self._welcome(connection):
            return
        while connection.ended is None:
            packet = await connection.read()
            if connection.ended is None:
                self._take(connection, packet)

    def _take(self, connection: Connection, packet: Packet) -> None:
        if isinstance(packet, Publish) and packet.qos:
            self._count(connection, packet)
        self._keep(connection, packet)
        self._answer(connection, packet)

    def _keep(self, connection: Connection, packet: Packet) -> None:
        connection.packets.append(packet)
        self._got.append(Got(connection, packet))

    def _welcome(self, connection: Connection) -> bool:
        """Whether the talk goes on; it does also where CONNECT is never answered."""
        answer = self.connack(connection.connect) if callable(self.connack) else self.connack
        if answer is None:
            return True
        connection.send(write_connack(answer, connection.version))
        if answer.code:
            connection.end("cut", gently=True)
            return False
        connection.accepted = True
        self._accepted.append(connection)
        return True

    def _count(self, connection: Connection, packet: Publish) -> None:
        waiting = connection.unacknowledged
        if packet.packet_id in waiting and not packet.dup:
            raise Malformed(f"packet id {packet.packet_id} is still in use")
        waiting[packet.packet_id] = packet
        connection.most_unacknowledged = max(connection.most_unacknowledged, len(waiting))

    def _answer(self, connection: Connection, packet: Packet) -> None:
        if isinstance(packet, Publish):
            self._answer_publish(connection, packet)
        elif isinstance(packet, Subscribe):
            self._answer_subscribe(connection, packet)
        elif isinstance(packet, Unsubscribe):
            for text in packet.filters:
                connection.subscriptions.pop(text, None)
            done = Suback(packet.packet_id, (0,) * len(packet.filters))
            connection.send(write_suback(UNSUBACK, done, connection.version))
        elif isinstance(packet, Pingreq):
            connection.send(frame(PINGRESP, 0, b""))
        elif isinstance(packet, Disconnect):
            connection.end("disconnect", gently=True)
        elif not isinstance(packet, Puback):
            raise Malformed(f"a client sent {packet}")

    def _answer_publish(self, connection: Connection, packet: Publish) -> None:
        if self.cut_after is not None and len(connection.publishes) >= self.cut_after:
            self.cut_after = None
            connection.cut()
            return
        code = self.puback(packet) if packet.qos else None
        if code is None:
            return
        if self.hold:
            connection.held.append((packet, code))
        else:
            connection.acknowledge(packet.packet_id, code)

    def _answer_subscribe(self, connection: Connection, packet: Subscribe) -> None:
        codes = []
        for one in packet.subscriptions:
            told = self.suback(one)
            codes.append(min(one.qos, 1) if told is None else told)
            if codes[-1] < 0x80:
                connection.subscriptions[one.filter] = one
        connection.send(write_suback(SUBACK, Suback(packet.packet_id, tuple(codes)), connection.version))


def _wants(connection: Connection, topic: str) -> bool:
    return any(matches(text, topic) for text in connection.subscriptions)
