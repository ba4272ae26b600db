"""A small HTTP server on h11, on the bridge's own event loop: /metrics, /livez, /readyz, and a page for people.

It runs on that loop on purpose: /livez answers while the loop turns, and a scrape is one picture of it. A reply is
whole, or a stream that goes on until the client or the server ends it.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

import h11

from bridge.errors import Fatal

_PATIENCE_S = 10.0
_TEXT = "text/plain; charset=utf-8"
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_SECURITY = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


class Reply(NamedTuple):
    """policy: what a browser may make of it (Content-Security-Policy)."""

    status: int
    kind: str
    body: bytes
    policy: str = _NOTHING


class Stream(NamedTuple):
    """An answer in chunks, each sent as it comes."""

    kind: str
    chunks: AsyncGenerator[bytes, None]


Routes = Mapping[str, Callable[[], Reply | Stream]]
_Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serve(listen: str, routes: Routes, patience: float = _PATIENCE_S) -> AsyncIterator[int]:
    """Answers GET and HEAD of the routes; gives the port. Raises Fatal where the address cannot be used.

    patience: seconds for what a connection asks, for each piece of a stream, and for what is left at its end.
    """
    host, _, port = listen.rpartition(":")
    clients: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        clients.add(task)
        try:
            async with asyncio.timeout(patience) as limit:
                stream = await _converse(reader, writer, routes)
                limit.reschedule(None)
                if stream is not None:
                    await _flow(reader, writer, *stream, patience)
        except (OSError, TimeoutError, h11.RemoteProtocolError, h11.LocalProtocolError):
            pass
        except asyncio.CancelledError:
            pass  # by the end of the server alone; asyncio would log it as an error
        finally:
            clients.discard(task)
            writer.close()
            if writer.transport.get_write_buffer_size():  # it would wait for the client as long as that likes
                asyncio.get_running_loop().call_later(patience, _cut, writer)

    try:
        server = await _listening(connected, host.strip("[]"), int(port))
    except OSError as error:
        raise Fatal(f"http.listen: cannot listen on {listen}: {error.strerror or error}; choose another port") from None
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        with contextlib.suppress(OSError):
            await server.wait_closed()


async def _listening(connected: _Connected, host: str, port: int) -> asyncio.Server:
    if host == "::" and socket.has_dualstack_ipv6():  # asyncio would leave out IPv4, by which most probes come
        everywhere = socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
        return await asyncio.start_server(connected, sock=everywhere)
    return await asyncio.start_server(connected, host or None, port)


def _cut(writer: asyncio.StreamWriter) -> None:
    """Ends it at once, with all that waits for the client, in the kernel too."""
    with contextlib.suppress(OSError):  # it is closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, routes: Routes
) -> tuple[h11.Connection, Stream] | None:
    """Requests of one connection until it closes, or until one cannot be answered on it; the stream that one began."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)
    while True:
        event = await _next(connection, reader)
        if not isinstance(event, h11.Request):
            return None
        reply = _reply(event, routes)
        if isinstance(reply, Stream):
            _begin(connection, writer, reply.kind)
            if event.method != b"HEAD":
                return connection, reply
            writer.write(connection.send(h11.EndOfMessage()) or b"")
        else:
            await _answer(connection, writer, event, reply)
        while not isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            event = await _next(connection, reader)
        if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
            return None
        connection.start_next_cycle()


async def _next(connection: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(16 * 1024))
    return event


def _reply(request: h11.Request, routes: Routes) -> Reply | Stream:
    path = request.target.decode("ascii", "replace").partition("?")[0]
    route = routes.get(path)
    if route is None:
        return Reply(404, _TEXT, b"not found; there are " + ", ".join(routes).encode() + b"\n")
    if request.method not in (b"GET", b"HEAD"):
        return Reply(405, _TEXT, b"only GET\n")
    return route()


async def _answer(connection: h11.Connection, writer: asyncio.StreamWriter, request: h11.Request, reply: Reply) -> None:
    headers = [("Content-Length", str(len(reply.body)))]
    if reply.status == 405:
        headers.append(("Allow", "GET, HEAD"))
    writer.write(_head(connection, reply.status, reply.kind, reply.policy, headers))
    if request.method != b"HEAD":
        writer.write(connection.send(h11.Data(data=reply.body)) or b"")
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()


def _begin(connection: h11.Connection, writer: asyncio.StreamWriter, kind: str) -> None:
    writer.write(_head(connection, 200, kind, _NOTHING, [("X-Accel-Buffering", "no")]))


def _head(connection: h11.Connection, status: int, kind: str, policy: str, more: list[tuple[str, str]]) -> bytes:
    headers = [("Content-Type", kind), *more, *_SECURITY, ("Content-Security-Policy", policy)]
    return connection.send(h11.Response(status_code=status, headers=headers)) or b""


async def _flow(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    connection: h11.Connection,
    stream: Stream,
    patience: float,
) -> None:
    """Sends what comes, until the client is gone or does not take it any more."""
    async with aclosing(stream.chunks) as chunks:
        async for chunk in chunks:
            if reader.at_eof():
                return
            writer.write(connection.send(h11.Data(data=chunk)) or b"")
            async with asyncio.timeout(patience):
                await writer.drain()
