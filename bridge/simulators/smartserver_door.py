"""HTTP and WebSockets on one port, as a SmartServer has them: h11 for requests, websockets' protocol for sockets.

A connection begins with HTTP; a GET that asks for an upgrade makes it a WebSocket, on which nothing is expected from
the other side but pings, pongs and a close.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import parse_qsl

import h11
import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol

GRACE = 1.0
"""Seconds that a client has to take part in a close."""
_HEAD = 256 * 1024  # bytes: a request may name many datapoints


@dataclass(frozen=True)
class Request:
    """path: elements between slashes, still escaped · query: pairs, read."""

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    target: str = ""

    @property
    def cookie(self) -> str:
        """The value of cmsSID."""
        pairs = (pair.strip().partition("=") for pair in self.headers.get("cookie", "").split(";"))
        return next((value for name, _, value in pairs if name == "cmsSID"), "")


@dataclass(frozen=True)
class Reply:
    """The answer to a request."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, value: Any, status: int = 200, *headers: tuple[str, str]) -> Self:
        return cls(status, msgspec.json.encode(value), (("Content-Type", "application/json"), *headers))


class Socket:
    """One WebSocket, from its handshake on."""

    def __init__(self, request: Request, protocol: ServerProtocol, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self._protocol, self._writer = protocol, writer
        self.frozen = False
        self.sent = 0

    @property
    def gone(self) -> bool:
        return self._protocol.state is not State.OPEN or self._writer.is_closing()

    def send(self, frame: str | bytes) -> None:
        """Text, or bytes as a text frame of whatever they are; nothing where it is closed or frozen."""
        if not self.gone and not self.frozen:
            self._protocol.send_text(frame.encode() if isinstance(frame, str) else frame)
            self.sent += 1
            self.flush()

    def flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data and not self._writer.is_closing():
                self._writer.write(data)

    async def drained(self) -> None:
        with contextlib.suppress(OSError):
            await self._writer.drain()

    def close(self, code: int = 1000) -> None:
        """With a close frame; 1006: without one, at once."""
        if code == 1006 or self.frozen:
            self._writer.transport.abort()
        elif not self.gone:
            self._protocol.send_close(code)
            self.flush()

    def freeze(self) -> None:
        """Half-open: nothing is read, nothing is sent, no pong."""
        self.frozen = True
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]


@dataclass
class Door:
    """answer: to a request · admit: to a handshake, None lets it pass · talk: of a socket, until it is closed."""

    answer: Callable[[Request], Awaitable[Reply]]
    admit: Callable[[Request], Reply | None]
    talk: Callable[[Socket], Coroutine[Any, Any, None]]
    tls: ssl.SSLContext | None = None
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self, host: str, port: int) -> None:
        """Raises OSError."""
        self._server = await asyncio.start_server(self._connected, host, port, ssl=self.tls, limit=_HEAD)

    @property
    def port(self) -> int:
        assert self._server is not None, "not started"
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._requests(reader, writer)
        except (OSError, h11.ProtocolError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if writer.is_closing() else writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD)
        while (request := await _request(http, reader)) is not None:
            if request.headers.get("upgrade", "").lower() == "websocket":
                refusal = self.admit(request)
                if refusal is None:
                    await self._socket(request, http.trailing_data[0], reader, writer)
                    return
                _write(http, writer, refusal)
            else:
                _write(http, writer, await self.answer(request))
            await writer.drain()
            if http.our_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _socket(
        self, request: Request, early: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(Handshake(request.target, Headers(request.headers)).serialize())
        (handshake,) = protocol.events_received()
        assert isinstance(handshake, Handshake)
        protocol.send_response(protocol.accept(handshake))
        socket = Socket(request, protocol, writer)
        socket.flush()
        talk = asyncio.create_task(self.talk(socket))
        try:
            await _listen(protocol, socket, early, reader)
        finally:
            talk.cancel()
            await asyncio.wait({talk})


async def _listen(protocol: ServerProtocol, socket: Socket, early: bytes, reader: asyncio.StreamReader) -> None:
    """Until the connection is over; what a client says is read and forgotten."""
    data = early
    while True:
        if data:
            protocol.receive_data(data)
            protocol.events_received()
            socket.flush()
        if protocol.state is State.CLOSED or (protocol.close_expected() and protocol.state is not State.OPEN):
            return
        timeout = GRACE if protocol.state is State.CLOSING else None
        try:
            async with asyncio.timeout(timeout):
                data = await reader.read(65_536)
        except (TimeoutError, OSError):
            return
        if not data:
            return


async def _request(http: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    """The next one, whole; None: there is none any more."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.Request):
            head = event
            if any(name == b"upgrade" for name, _ in event.headers):
                return _read(event, b"")
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return _read(head, bytes(body))
        else:
            return None


def _read(head: h11.Request, body: bytes) -> Request:
    target = head.target.decode("latin-1")
    path, _, query = target.partition("?")
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in head.headers}
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    return Request(head.method.decode(), tuple(path.strip("/").split("/")), pairs, headers, body, target)


def _write(http: h11.Connection, writer: asyncio.StreamWriter, reply: Reply) -> None:
    headers: Iterable[tuple[str, str]] = [*reply.headers]
    if reply.status not in (204, 304):
        headers = [*reply.headers, ("Content-Length", str(len(reply.body)))]
    try:
        reason = HTTPStatus(reply.status).phrase
    except ValueError:
        reason = ""
    parts: list[Any] = [h11.Response(status_code=reply.status, headers=list(headers), reason=reason.encode())]
    if reply.body and reply.status != 204:
        parts.append(h11.Data(data=reply.body))
    for part in [*parts, h11.EndOfMessage()]:
        data = http.send(part)
        if data:
            writer.write(data)
