"""Frames cut out of the stream, against websockets' own reading: the same messages in the same order, however split."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets.asyncio.client as client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from bridge.links.stream import PAUSE, Stream
from tests.support import PATIENCE_S

BYE = struct.pack("!BBH", 0x88, 2, 1000)


def frame(first: int, payload: bytes, form: int = 0) -> bytes:
    """form: at least so many bytes for the length (0, 2 or 8), as a careless sender may do."""
    if form == 8 or len(payload) > 65_535:
        return struct.pack("!BBQ", first, 127, len(payload)) + payload
    if form == 2 or len(payload) > 125:
        return struct.pack("!BBH", first, 126, len(payload)) + payload
    return struct.pack("!BB", first, len(payload)) + payload


class Talk:
    """A server that says what it is told to, byte by byte as it is told to."""

    def __init__(self, server: ServerConnection) -> None:
        self._transport = server.transport

    async def say(self, data: bytes, cuts: list[int]) -> None:
        places = sorted({max(0, min(cut, len(data))) for cut in cuts} | {len(data)})
        before = 0
        for place in places:
            self._transport.write(data[before:place])
            before = place
            await asyncio.sleep(0)


async def read(
    connection: type[client.ClientConnection], data: bytes, cuts: list[int], few: int = 0, **options: Any
) -> list[Any]:
    """What a client of that kind gets of these bytes, and how it ends. few: taken at once."""

    async def talk(server: ServerConnection) -> None:
        await Talk(server).say(data, cuts)
        await server.wait_closed()

    async with serve(talk, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"ws://127.0.0.1:{port}"
        connecting = client.connect(
            url, create_connection=connection, ping_interval=None, close_timeout=1, proxy=None, **options
        )
        async with asyncio.timeout(PATIENCE_S), connecting as socket:
            told: list[Any] = []
            try:
                if isinstance(socket, Stream):
                    async for batch in socket.batches(take=told.extend, few=few):
                        told += batch
                while True:
                    told.append(await socket.recv(decode=False))
            except ConnectionClosed:
                told.append((socket.close_code, socket.close_reason))
            return told


PAYLOADS = st.binary(max_size=300) | st.integers(0, 70_000).map(lambda size: b"x" * size)


@st.composite
def message(draw: st.DrawFn) -> bytes:
    """A message, whole or in fragments, with pings between; now and then something that no server may say."""
    first, payload = draw(st.sampled_from((1, 2))), draw(PAYLOADS)
    kind = draw(st.sampled_from(("plain",) * 6 + ("long form", "fragments", "ping", "pong", "masked", "reserved")))
    match kind:
        case "plain":
            return frame(0x80 | first, payload)
        case "long form":
            return frame(0x80 | first, payload, draw(st.sampled_from((2, 8))))
        case "fragments":
            middle = draw(st.lists(st.sampled_from((frame(0, b"mid"), frame(0x89, b"p"), frame(0, b""))), max_size=300))
            return frame(first, payload) + b"".join(middle) + frame(0x80, b"end")
        case "ping" | "pong":
            return frame(0x89 if kind == "ping" else 0x8A, payload[:125])
        case "masked":
            return bytes((0x80 | first, 0x80 | 3)) + b"mask" + b"abc" if draw(st.integers(0, 9)) == 0 else b""
        case _:
            return frame(0xC0 | first, payload) if draw(st.integers(0, 9)) == 0 else b""


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(
    st.lists(message(), max_size=12),
    st.lists(st.integers(0, 2000) | st.integers(0, 100_000), max_size=40),
    st.sampled_from((None, 1000, 66_000)),
    st.sampled_from((0, 1, 5)),
)
def test_the_same_messages_as_websockets_itself_reads(
    messages: list[bytes], cuts: list[int], limit: int | None, few: int
) -> None:
    data = b"".join(messages) + BYE
    ours = asyncio.run(read(Stream, data, cuts, few, max_size=limit))
    theirs = asyncio.run(read(client.ClientConnection, data, cuts, max_size=limit))
    assert ours == theirs


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
@pytest.mark.parametrize("count", [1, 3])
async def test_every_form_of_length_byte_by_byte(size: int, count: int) -> None:
    payload = b"y" * size
    data = frame(0x82, payload) * count + BYE
    cuts = [*range(20), size, *range(len(data) - 20, len(data))]
    assert await read(Stream, data, cuts) == [payload] * count + [(1000, "")]


async def test_a_slow_reader_stops_the_stream() -> None:
    """What is not read stays with the sender, after PAUSE frames and what one read of the socket may bring."""
    said = 0

    async def talk(server: ServerConnection) -> None:
        nonlocal said
        for number in range(200):
            await server.send(b"%08d" % number * 10_000)
            said += 1

    async with serve(talk, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with client.connect(
            url, create_connection=Stream, ping_interval=None, proxy=None, max_size=None
        ) as socket:
            assert isinstance(socket, Stream)
            heard: list[bytes] = []
            async for batch in socket.batches():
                heard += batch
                if len(heard) == 200:
                    break
            assert [int(one[:8]) for one in heard] == list(range(200))
    assert said == 200


async def test_thousands_of_frames_wait_in_the_socket_and_come_in_order() -> None:
    count = PAUSE * 40
    data = b"".join(frame(0x81, b"%d" % number) for number in range(count)) + BYE
    told = await read(Stream, data, [])
    assert told == [b"%d" % number for number in range(count)] + [(1000, "")]


async def test_compressed_frames_are_websockets_own() -> None:
    async def talk(server: ServerConnection) -> None:
        for number in range(100):
            await server.send("compressible " * 100 + str(number))

    async with serve(talk, "127.0.0.1", 0, compression="deflate", ping_interval=None) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with client.connect(url, create_connection=Stream, ping_interval=None, proxy=None) as socket:
            assert isinstance(socket, Stream)
            heard: list[bytes] = []
            async for batch in socket.batches():
                heard += batch
                if len(heard) == 100:
                    break
    assert [one.rsplit(b" ", 1)[1] for one in heard] == [b"%d" % number for number in range(100)]


async def test_silence_ends_the_wait() -> None:
    async def talk(server: ServerConnection) -> None:
        await server.wait_closed()

    async with serve(talk, "127.0.0.1", 0, ping_interval=None) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with client.connect(url, create_connection=Stream, ping_interval=None, proxy=None) as socket:
            assert isinstance(socket, Stream)
            with pytest.raises(TimeoutError):
                async for _ in socket.batches(idle=0.05):
                    pass


@asynccontextmanager
async def talking(*told: bytes) -> AsyncIterator[Stream]:
    """A platform that says one thing after the other, each when asked by any frame, and then nothing."""

    async def talk(server: ServerConnection) -> None:
        for data in told:
            await server.recv()
            server.transport.write(data)
        await server.wait_closed()

    async with serve(talk, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with client.connect(url, create_connection=Stream, ping_interval=None, proxy=None) as socket:
            assert isinstance(socket, Stream)
            yield socket


async def test_what_is_taken_at_once_is_no_silence_and_its_failure_is_the_readers() -> None:
    async with talking(*(frame(0x81, b"%d" % n) for n in range(3))) as socket:
        taken: list[bytes] = []

        def take(frames: list[bytes]) -> None:
            taken.extend(frames)
            asking.append(asyncio.create_task(socket.send("next")))
            if len(taken) == 3:
                raise LookupError("of the reader")

        asking = [asyncio.create_task(socket.send("first"))]
        with pytest.raises(LookupError):
            await anext(socket.batches(idle=10, take=take, few=5))
        await asyncio.gather(*asking)
        assert taken == [b"0", b"1", b"2"]
        assert socket.state is State.OPEN, "that the reader failed is no matter of the connection"


async def test_silence_after_something_was_taken() -> None:
    async with talking(frame(0x81, b"1")) as socket:
        taken: list[bytes] = []
        await socket.send("next")
        with pytest.raises(TimeoutError):
            await anext(socket.batches(idle=0.2, take=taken.extend, few=5))
        assert taken == [b"1"]


async def test_what_comes_together_with_what_is_taken() -> None:
    """A message in fragments behind a plain one, and then nothing that would wake anybody."""
    async with talking(frame(0x81, b"plain") + frame(0x01, b"frag") + frame(0x80, b"ment")) as socket:
        taken: list[bytes] = []
        await socket.send("next")
        async with asyncio.timeout(PATIENCE_S):
            assert await anext(socket.batches(take=taken.extend, few=5)) == [b"fragment"]
        assert taken == [b"plain"]
