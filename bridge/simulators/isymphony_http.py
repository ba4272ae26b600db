"""HTTP beside the event socket: heads of requests as they came, and the answers to those that are no handshake."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import h11


@dataclass(frozen=True)
class Head:
    """raw: the bytes up to the empty line · headers: names in lower case · upgrade: it asks for a WebSocket."""

    raw: bytes
    path: str
    headers: dict[str, str]

    @property
    def upgrade(self) -> bool:
        return self.headers.get("upgrade", "").lower() == "websocket"


@dataclass(frozen=True)
class Request:
    """path: as it came, encoded."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Rejected(Exception):
    """Another answer than what was asked for: status, text, headers."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.headers = status, headers or {}


Answers = Callable[[Request, asyncio.StreamWriter], Awaitable[tuple[int, bytes]]]


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next request's head; None where the connection has ended. Raises IncompleteReadError within one."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    path = first.partition(" ")[2].partition(" ")[0]
    return Head(raw, path, {name.strip().lower(): value.strip() for name, _, value in pairs})


async def converse(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Answers) -> bool:
    """Answers one request; whether another one may follow on this connection. Raises OSError."""
    http = h11.Connection(h11.SERVER)
    http.receive_data(head.raw)
    try:
        method, body = await _read(http, reader)
        try:
            status, content = await answers(Request(method, head.path, head.headers, body), writer)
            answer = {"Content-Type": "application/json"} if content else {}
        except Rejected as rejected:
            status, content = rejected.status, str(rejected).encode()
            answer = {"Content-Type": "text/plain; charset=utf-8", **rejected.headers}
        if status != 204:
            answer["Content-Length"] = str(len(content))
        writer.write(http.send(h11.Response(status_code=status, headers=list(answer.items()))) or b"")
        writer.write((http.send(h11.Data(data=content)) or b"") + (http.send(h11.EndOfMessage()) or b""))
        await writer.drain()
    except h11.ProtocolError:
        return False
    return http.our_state is h11.DONE and http.their_state is h11.DONE


async def _read(http: h11.Connection, reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Method and body. Raises h11.ProtocolError."""
    method, body = "", b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            method = event.method.decode()
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:  # the end of the message
            return method, body


async def refuse(writer: asyncio.StreamWriter, rejected: Rejected) -> None:
    """The answer to a handshake that is not taken, and the end of the connection."""
    content = str(rejected).encode()
    headers = {**rejected.headers, "Content-Length": str(len(content)), "Connection": "close"}
    lines = [f"HTTP/1.1 {rejected.status} Refused", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    writer.write("\r\n".join(lines).encode() + content)
    await writer.drain()
