"""One client of the simulated event socket: the frames of RFC 6455, its filters, and what is done to it.

The same port serves HTTP with every method, so the connection is our own: websockets' protocol, which does no I/O,
between a stream reader and a stream writer.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from bridge.simulators.isymphony_options import Faults

ABORT = 1006
"""The code of a connection that ended without a close frame: never sent, only brought about."""
BACKLOG = 64 * 1024 * 1024
"""Bytes that may wait for one client."""
_COLONS = re.compile(r'("property"\s*:\s*"[^"]*"\s*):(\s*"value")')


class BadFilter(Exception):
    """A filter message that is not taken, and why."""


class Client:
    """One connected client; filters: property → values, empty for all events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: Faults) -> None:
        self._reader, self._writer = reader, writer
        self._protocol = ServerProtocol(max_size=2**20)
        self.filters: dict[str, set[str]] = {}
        self.frozen = faults.half_open
        self._close_after, self._close_code = faults.close_after, faults.close_code
        self._sent = 0

    def accept(self, head: bytes) -> bool:
        """Takes the handshake that begins with these bytes; False where it is none."""
        self._protocol.receive_data(head)
        request = next(iter(self._protocol.events_received()), None)
        if not isinstance(request, Request):
            return False
        try:
            response = self._protocol.accept(request)
        except InvalidHandshake:
            return False
        self._protocol.send_response(response)
        self._flush()
        if self.frozen:
            self.freeze()
        return response.status_code == 101

    async def frames(self) -> AsyncIterator[bytes]:
        """What it says, until its end."""
        message = b""
        while data := await self._reader.read(65536):
            self._protocol.receive_data(data)
            for event in self._protocol.events_received():
                if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    message += bytes(event.data)
                    if event.fin:
                        yield message
                        message = b""
            self._flush()
            if self._protocol.close_expected():
                break
        self._protocol.receive_eof()
        self._writer.close()

    def freeze(self) -> None:
        """Half-open from now on: unread frames stay in the kernel, its pings too."""
        self.frozen = True
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def tell(self, frame: bytes, binary: bool = False) -> bool:
        """Sends a frame, where that is still possible; cuts off a client that is too far behind."""
        if self.frozen:
            return False
        try:
            (self._protocol.send_binary if binary else self._protocol.send_text)(frame)
        except (ConnectionClosed, InvalidState):
            return False
        self._flush()
        self._sent += 1
        if self._sent == self._close_after:
            self.close(self._close_code)
        elif self._writer.transport.get_write_buffer_size() > BACKLOG:
            self.close(ABORT)
        return True

    async def drain(self) -> None:
        """Until its socket takes more."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    def close(self, code: int) -> None:
        """ABORT, or a frozen client: at once, without a close frame."""
        if code == ABORT or self.frozen:
            self._writer.transport.abort()
            return
        try:
            self._protocol.send_close(code)
        except (ConnectionClosed, InvalidState):
            return
        self._flush()

    def passes(self, event: dict[str, Any]) -> bool:
        """Values of one property are alternatives, every property has to be there; null has no value."""
        return all(
            event.get(name) is not None and ("*" in values or _text(event[name]) in values)
            for name, values in self.filters.items()
        )

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)
            elif self._writer.can_write_eof():
                self._writer.write_eof()


def asked(frame: bytes, lenient: bool) -> tuple[dict[str, set[str]], Any]:
    """The filters of a message, and its correlationId. Raises BadFilter."""
    try:
        text = frame.decode()
        message = msgspec.json.decode(_COLONS.sub(r"\1,\2", text) if lenient else text)
    except ValueError:
        raise BadFilter("the message is not JSON") from None
    if not isinstance(message, dict) or message.get("type") != "filter":
        raise BadFilter("unknown message type")
    filters: dict[str, set[str]] = {}
    entries = message.get("filters")
    if not isinstance(entries, list):
        raise BadFilter("filters missing")
    for entry in entries:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("property", "value")):
            raise BadFilter("a filter needs property and value")
        filters.setdefault(entry["property"], set()).add(entry["value"])
    return filters, message.get("correlationId")


def correlation(frame: bytes) -> Any:
    """The correlationId of a message that is not taken, where it has one."""
    try:
        message = msgspec.json.decode(frame)
    except ValueError:
        return None
    return message.get("correlationId") if isinstance(message, dict) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
