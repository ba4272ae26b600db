"""REST and WebSocket on one port: requests of HTTP/1.1 are answered, one that asks for a WebSocket becomes one."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import h11
import msgspec
from msgspec import Struct
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

MAX_FRAME = 32_768  # characters, ThingsBoard's text buffer


class Request(Struct, frozen=True):
    """query: the last value of each name · headers: names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Reply(Struct, frozen=True):
    """body: bytes as they are, anything else as JSON."""

    status: int
    body: Any = b""
    headers: dict[str, str] = {}


class Socket:
    """One WebSocket, once its handshake is done. closed: it has ended."""

    def __init__(self, protocol: ServerProtocol, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._protocol, self._reader, self._writer = protocol, reader, writer
        self.closed = False
        self._frozen = asyncio.Event()
        self._frozen.set()

    def send(self, text: bytes) -> None:
        """Puts a text frame into the buffer of the connection."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(text)
            self._flush()

    def ping(self) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"")
            self._flush()

    def close(self, code: int, reason: str = "") -> None:
        """1006: aborts TCP."""
        if code == 1006:
            self._writer.transport.abort()
        elif self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
            self._flush()

    def freeze(self) -> None:
        """From now on nothing is read, so that no ping is answered: half-open."""
        self._frozen.clear()
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    @property
    def behind(self) -> int:
        """Bytes that wait for the other side."""
        return self._writer.transport.get_write_buffer_size()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)
            else:
                self._writer.write_eof()

    async def frames(self, heard: Callable[[bytes], None]) -> None:
        """Reads until the end; heard: is given each text frame."""
        with contextlib.suppress(OSError):
            while not self._protocol.close_expected() or self._protocol.state is not State.CLOSED:
                data = await self._reader.read(65_536)
                await self._frozen.wait()
                if not data:
                    break
                self._protocol.receive_data(data)
                for event in self._protocol.events_received():
                    if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                        heard(bytes(event.data))
                    elif isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                        self.closed = True
                self._flush()
        self.closed = True


Answers = Callable[[Request], Awaitable[Reply]]
Talks = Callable[[Request, Socket], Awaitable[None]]


class Front:
    """One connection after the other. answers: of REST · talks: of WebSockets, until they end."""

    def __init__(self, answers: Answers, talks: Talks) -> None:
        self._answers, self._talks = answers, talks
        self.connections: set[asyncio.StreamWriter] = set()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """All of one TCP connection."""
        self.connections.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, h11.RemoteProtocolError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether another may follow."""
        head = await reader.readuntil(b"\r\n\r\n")
        if b"upgrade: websocket" in head.lower():
            await self._upgrade(head, reader, writer)
            return False
        http = h11.Connection(h11.SERVER)
        http.receive_data(head)
        asked = await _read(http, reader)
        if asked is None:
            return False
        reply = await self._answers(asked)
        body = reply.body if isinstance(reply.body, bytes) else msgspec.json.encode(reply.body)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **reply.headers}
        parts = (h11.Response(status_code=reply.status, headers=list(headers.items())), h11.Data(data=body))
        for part in (*parts, h11.EndOfMessage()):
            writer.write(http.send(part) or b"")
        await writer.drain()
        return http.our_state is h11.DONE and http.their_state is h11.DONE

    async def _upgrade(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol(max_size=MAX_FRAME)
        protocol.receive_data(head)
        for event in protocol.events_received():
            asked = _request("GET", event.path, dict(event.headers.raw_items()), b"")  # type: ignore[union-attr]
            protocol.send_response(protocol.accept(event))  # type: ignore[arg-type]
            socket = Socket(protocol, reader, writer)
            socket._flush()
            await self._talks(asked, socket)


async def _read(http: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    head, body = None, b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
            return _request(head.method.decode(), head.target.decode("latin-1"), headers, body)
        else:
            return None


def _request(method: str, target: str, headers: dict[str, str], body: bytes) -> Request:
    address = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
    return Request(method, address.path, query, {name.lower(): value for name, value in headers.items()}, body)
