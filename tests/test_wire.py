"""The fast way out: what is paho's reaches paho, what is ours reaches us, whatever the stream is cut into."""

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.payloads import JSON_PROPERTIES
from bridge.topics import level
from bridge.wire import FIRST_ID, Wire, install, publish_packet
from tests.support import PATIENCE_S, V5, V311, Publish, Record, frame, read_packet

CONNACK, PUBACK, SUBACK, PUBLISH, PINGRESP, DISCONNECT = 2, 4, 9, 3, 13, 14
LENGTHS = (0, 1, 2, 5, 127, 128, 129, 300, 16_383, 16_384, 16_385, 70_000)


@dataclass
class FakeSocket:
    """What a socket is to a Wire; chunks: what recv() gives one after the other, then it would block."""

    chunks: list[bytes] = field(default_factory=list)
    ended: bool = False
    sent: bytes = b""

    def recv(self, length: int) -> bytes:
        if not self.chunks:
            if self.ended:
                return b""
            raise BlockingIOError
        first = self.chunks.pop(0)
        if len(first) > length:
            self.chunks.insert(0, first[length:])
        return first[:length]

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def close(self) -> None:
        self.ended = True


@dataclass
class Reader:
    """Reads as paho does: a byte, the length byte by byte, then the rest; goes on where it would have blocked."""

    wire: Wire
    packets: list[bytes] = field(default_factory=list)
    head: bytes = b""
    body: bytes = b""

    def readable(self) -> None:
        """As aiomqtt's callback: one packet, and more while the wire says that there is more."""
        while True:
            with contextlib.suppress(BlockingIOError):
                self.packet()
            if not self.wire.pending():
                return

    def packet(self) -> None:
        while len(self.head) < 2 or self.head[-1] & 128:
            self.head += self.take(1)
        length = sum((byte & 127) << 7 * place for place, byte in enumerate(self.head[1:]))
        while len(self.body) < length:
            self.body += self.take(length - len(self.body))
        self.packets.append(self.head + self.body)
        self.head = self.body = b""

    def take(self, length: int) -> bytes:
        got = self.wire.recv(length)
        assert 0 < len(got) <= length
        return got


def puback(packet: int, code: int | None, reason: str | None) -> bytes:
    body = packet.to_bytes(2, "big")
    if code is not None:
        body += bytes((code,))
    if code is not None and reason is not None:
        text = reason.encode()
        properties = b"\x1f" + len(text).to_bytes(2, "big") + text
        length = len(properties)
        body += (bytes((length,)) if length < 128 else bytes((length & 127 | 128, length >> 7))) + properties
    return frame(PUBACK, 0, body)


@dataclass(frozen=True)
class Ack:
    packet: int
    code: int | None
    reason: str | None

    def encode(self) -> bytes:
        return puback(self.packet, self.code, self.reason)


codes = st.one_of(st.none(), st.sampled_from((0, 0x10, 0x80, 0x87, 0x97)))
reasons = st.one_of(st.none(), st.integers(0, 400).map(lambda length: "x" * length))
ours = st.builds(Ack, st.integers(FIRST_ID, 65_535), codes, reasons)
pahos_ack = st.builds(Ack, st.integers(1, FIRST_ID - 1), codes, reasons).map(Ack.encode)
bodies = st.builds(
    lambda length, byte: bytes((byte,)) * length, st.sampled_from(LENGTHS), st.sampled_from((0x40, 4, 255))
)
others = st.builds(frame, st.sampled_from((CONNACK, SUBACK, PUBLISH, PINGRESP, DISCONNECT)), st.just(0), bodies)
streams = st.lists(st.one_of(ours, ours, others, pahos_ack), max_size=30)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Into chunks of these sizes, again and again."""
    chunks, at, turn = [], 0, 0
    while at < len(stream):
        size = places[turn % len(places)]
        chunks.append(stream[at : at + size])
        at, turn = at + size, turn + 1
    return chunks


@settings(max_examples=300, deadline=None)
@given(streams, st.lists(st.one_of(st.integers(1, 9), st.integers(1, 70_000)), min_size=1, max_size=5))
@example([Ack(FIRST_ID, 0x97, "x" * 200), Ack(FIRST_ID + 1, None, None)], [1])
@example([Ack(0x0400, 0, "y" * 130), frame(PINGRESP, 0, b"")], [70_000])
@example([Ack(FIRST_ID - 1, 0, "z" * 130).encode(), Ack(FIRST_ID, 0, None)], [3])
def test_any_split_gives_each_his_own(packets: list[Ack | bytes], places: list[int]) -> None:
    stream = b"".join(one.encode() if isinstance(one, Ack) else one for one in packets)
    sock = FakeSocket()
    acks: list[tuple[int, int]] = []
    loop = asyncio.new_event_loop()
    try:
        reader = Reader(Wire(sock, loop, acks.extend))
        for chunk in cut(stream, [size if len(stream) < 20_000 else size + 500 for size in places]):
            sock.chunks.append(chunk)
            while sock.chunks:
                reader.readable()
    finally:
        loop.close()
    assert reader.packets == [one for one in packets if isinstance(one, bytes)]
    assert acks == [(one.packet, one.code or 0) for one in packets if isinstance(one, Ack)]
    sock.ended = True
    assert reader.wire.recv(1) == b""  # the end of the stream is told


def test_a_length_of_five_bytes_is_left_to_paho_which_ends_the_connection() -> None:
    for first in (PUBACK << 4, PUBLISH << 4):
        sock = FakeSocket([bytes((first, 255, 255, 255, 255, 255, 1))])
        loop = asyncio.new_event_loop()
        wire = Wire(sock, loop, lambda acks: None)
        loop.close()
        assert b"".join(wire.recv(1) for _ in range(6)) == bytes((first, 255, 255, 255, 255, 255))


def test_a_broken_socket_is_told_to_paho() -> None:
    class Broken(FakeSocket):
        def recv(self, length: int) -> bytes:
            raise ConnectionResetError

    loop = asyncio.new_event_loop()
    wire = Wire(Broken(), loop, lambda acks: None)
    loop.close()
    with pytest.raises(ConnectionResetError):
        wire.recv(1)


# Encoding

topics = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).map(level)
properties_of = st.sampled_from((b"", JSON_PROPERTIES, JSON_PROPERTIES + b"\x26\x00\x01a\x00\x01b" * 40))


@settings(max_examples=150, deadline=None)
@given(
    topics,
    st.one_of(st.integers(0, 300), st.sampled_from((16_383, 65_536, 200_000))),
    st.sampled_from((0, 1)),
    st.booleans(),
    properties_of,
    st.integers(FIRST_ID, 65_535),
)
def test_what_we_encode_reads_back(
    topic: str, length: int, qos: int, retain: bool, properties: bytes, packet: int
) -> None:
    payload = bytes(range(256)) * (length // 256) + b"e" * (length % 256)
    for version, number in ((5, V5), (4, V311)):
        data = publish_packet(
            topic.encode(), payload, properties, qos=qos, retain=retain, packet=packet, version=version
        )
        told = asyncio.run(reading(data, number))
        assert (told.topic, told.payload, told.qos, told.retain) == (topic, payload, qos, retain)
        assert (told.packet_id, told.dup) == (packet if qos else 0, False)
        assert told.properties.get("content_type") == ("application/json" if version == 5 and properties else None)
        assert len(told.user_properties) == (40 if version == 5 and len(properties) > 100 else 0)


async def reading(data: bytes, version: int) -> Publish:
    reader = asyncio.StreamReader(limit=2**20)
    reader.feed_data(data)
    reader.feed_eof()
    packet = await read_packet(reader, version)
    assert reader.at_eof()
    assert isinstance(packet, Publish)
    return packet


# Sending


async def test_packet_ids_are_never_pahos() -> None:
    wire = Wire(FakeSocket(), asyncio.get_running_loop(), lambda acks: None)
    given_out = [wire.identifier() for _ in range(70_000)]
    assert min(given_out) == FIRST_ID
    assert max(given_out) == 65_535
    assert len(set(given_out)) == 65_536 - FIRST_ID


async def test_a_full_socket_takes_everything_in_order_as_it_empties() -> None:
    left, right = socket.socketpair()
    with left, right:
        for end in (left, right):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop, told = asyncio.get_running_loop(), Record[int]("written")
        wire = Wire(left, loop, lambda acks: keep(told, acks))
        pieces = [bytes((number % 251,)) * (number * 37 % 3000) for number in range(400)]
        for number, piece in enumerate(pieces):
            if number % 3:
                wire.write(piece, FIRST_ID + number if number == 200 else None)
            else:
                assert wire.send(piece) == len(piece)  # paho's own
        expected, got = b"".join(pieces), b""
        async with asyncio.timeout(PATIENCE_S):
            while len(got) < len(expected):
                assert (
                    not told.items or len(expected) - len(got) < 200_000
                )  # QoS 0 is done once all of it is in the socket
                got += await loop.sock_recv(right, 777)
            await told.wait(lambda packet: True)
        assert got == expected
        assert told.items == [FIRST_ID + 200]
        wire.write(b"more")
        assert await loop.sock_recv(right, 100) == b"more"
        wire.close()
        assert await loop.sock_recv(right, 100) == b""


async def test_closing_sends_what_was_just_handed_over() -> None:
    """paho closes its socket right behind its DISCONNECT: without that the broker would publish the will."""
    sock = FakeSocket()
    wire = Wire(sock, asyncio.get_running_loop(), lambda acks: None)
    wire.send(frame(DISCONNECT, 0, b""))
    wire.close()
    assert sock.sent == frame(DISCONNECT, 0, b"")


def keep(told: Record[int] | list[int], acks: list[tuple[int, int]]) -> None:
    for packet, _ in acks:
        told.append(packet)


async def test_what_a_closed_socket_did_not_take_is_not_told_as_written() -> None:
    class Full(FakeSocket):
        def send(self, data: bytes) -> int:
            raise BrokenPipeError

    told: list[int] = []
    wire = Wire(Full(), asyncio.get_running_loop(), lambda acks: keep(told, acks))
    wire.write(b"event", FIRST_ID)
    wire.close()
    wire.write(b"event", FIRST_ID + 1)
    done = asyncio.Event()
    asyncio.get_running_loop().call_soon(done.set)
    await done.wait()
    assert told == []


async def test_closing_a_blocked_wire_leaves_no_writer_behind() -> None:
    left, right = socket.socketpair()
    with right:
        left.setblocking(False)
        loop = asyncio.get_running_loop()
        wire = Wire(left, loop, lambda acks: None)
        wire.write(b"x" * 4_000_000)
        done = asyncio.Event()
        loop.call_soon(done.set)
        await done.wait()
        number = left.fileno()
        wire.close()
        assert loop.remove_writer(number) is False


async def test_a_paho_without_the_private_member_is_told() -> None:
    assert install(object(), lambda acks: None) is None
