"""The fast way out through paho's connection: PUBLISH packets of our own, PUBACKs taken out of the stream.

paho builds several objects for every publish and every acknowledgement; that is most of what it costs. A Wire stands in
the place of paho's socket: what paho writes and reads passes through unchanged, ours goes beside it. Private members of
paho that this touches: `Client._create_socket`, wrapped for one client (tested with paho-mqtt 2.1 and 2.2). Where it
is missing, broker.py publishes the public way.

1. Everything happens on the event loop's thread, but for the connecting itself, which only reads attributes.
2. write() never waits; one send per turn of the loop, or where it is corked at uncork().
3. Packet ids from FIRST_ID on are ours, those below paho's: it needs one per SUBSCRIBE of a connection.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Acknowledged = Callable[[list[tuple[int, int]]], None]

FIRST_ID = 1024
_LAST_ID = 65_535
_CHUNK, _READ = 256 * 1024, 64 * 1024
_PUBLISH, _PUBACK = 0x30, 0x40  # MQTT 5, 2.1.2


def variable(number: int) -> bytes:
    """A variable byte integer (MQTT 5, 1.5.5)."""
    encoded = bytearray()
    while True:
        number, low = number >> 7, number & 127
        encoded.append(low | (128 if number else 0))
        if not number:
            return bytes(encoded)


@lru_cache(256)
def _head(first: int, length: int) -> bytes:
    return bytes((first,)) + variable(length)


@lru_cache(256)
def _block(properties: bytes) -> bytes:
    return variable(len(properties)) + properties


def publish_packet(
    topic: bytes, payload: bytes, properties: bytes, *, qos: int, retain: bool, packet: int, version: int
) -> bytes:
    """A PUBLISH (MQTT 5, 3.3; 3.1.1 has no properties)."""
    block = _block(properties) if version == 5 else b""
    identifier = packet.to_bytes(2, "big") if qos else b""
    length = 2 + len(topic) + len(identifier) + len(block) + len(payload)
    head = _head(_PUBLISH | qos << 1 | retain, length)
    return b"".join((head, len(topic).to_bytes(2, "big"), topic, identifier, block, payload))


class Wire:
    """paho's socket, with a second way in and out. acknowledged: called with packet ids and their reason codes."""

    def __init__(self, sock: Any, loop: asyncio.AbstractEventLoop, acknowledged: Acknowledged) -> None:
        self._socket, self._loop, self._acknowledged = sock, loop, acknowledged
        self._out = bytearray()
        self._scheduled = self._blocked = self._closed = self._corked = False
        self._written: list[int] = []  # QoS 0, in `out`: done once that is empty
        self._in, self._at = b"", 0
        self._left = 0  # bytes of the packet that paho is reading
        self._partial = False  # what is left in `in` is no whole packet head
        self._next = FIRST_ID

    def __getattr__(self, name: str) -> Any:  # fileno, setblocking, getpeername …
        return getattr(self._socket, name)

    # Out.

    def identifier(self) -> int:
        """A packet id of ours; the window is far smaller than their number."""
        packet = self._next
        self._next = packet + 1 if packet < _LAST_ID else FIRST_ID
        return packet

    def write(self, packet: bytes, written: int | None = None) -> None:
        """written: the packet id (QoS 0) to acknowledge once it is in the socket."""
        self._out += packet
        if written is not None:
            self._written.append(written)
        if not self._scheduled and not self._blocked and not self._corked:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def cork(self) -> None:
        """What is written from now on goes at uncork(), in one send."""
        self._corked = True

    def uncork(self) -> None:
        self._corked = False
        if self._out and not self._blocked:
            self._flush()

    def send(self, data: bytes) -> int:
        """For paho: takes everything at once."""
        self.write(data)
        return len(data)

    def _flush(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        if self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._socket.fileno())
        while self._out:
            try:
                sent = self._socket.send(bytes(self._out[:_CHUNK]))
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                sent = 0
            except OSError:
                return  # the reader finds the end of the connection
            del self._out[:sent]
            if not sent:
                self._blocked = True
                self._loop.add_writer(self._socket.fileno(), self._flush)
                return
        if self._written:
            written, self._written = self._written, []
            self._acknowledged([(packet, 0) for packet in written])

    # In.

    def pending(self) -> int:
        """For aiomqtt: bytes that can be read though the socket says nothing."""
        inside = self._socket.pending() if hasattr(self._socket, "pending") else 0
        return inside + (0 if self._partial else len(self._in) - self._at)

    def recv(self, length: int) -> bytes:
        """For paho: bytes of the packets that are not ours; b"" at the end of the stream."""
        if not self._left and not self._boundary():
            return b""
        if self._at >= len(self._in) and not self._more():
            return b""
        part = self._in[self._at : self._at + min(length, self._left)]
        self._at += len(part)
        self._left -= len(part)
        return part

    def _more(self) -> int:
        data = self._socket.recv(_READ)  # its exceptions go up to paho, which knows them
        self._in, self._at, self._partial = self._in[self._at :] + data, 0, False
        return len(data)

    def _boundary(self) -> bool:
        """Between two packets: takes out our PUBACKs, then learns the length of the next packet, which is paho's."""
        read = 0
        while True:
            self._take_acks()
            data, at = self._in, self._at
            for end in range(at + 2, min(at + 6, len(data) + 1)):
                if data[end - 1] & 128 and end < at + 5:
                    continue
                if data[at] == _PUBACK and data[end - 1] < 128 and not _is_pahos(data, end):
                    break
                self._left = end - at + _length(data[at + 1 : end])
                return True
            self._partial = len(data) > at
            if 0 < read < _READ:  # the event loop says when there is more; another recv would only say so, too
                raise BlockingIOError
            if not (read := self._more()):
                return False

    def _take_acks(self) -> None:
        data, at, end = self._in, self._at, len(self._in)
        taken: list[tuple[int, int]] = []
        while end - at >= 4 and data[at] == _PUBACK:
            length, body = data[at + 1], at + 2
            if length > 127:  # a long Reason String (MQTT 5, 3.4.2.2.2)
                body = next((at + more for more in (3, 4, 5) if at + more <= end and data[at + more - 1] < 128), 0)
                if not body:
                    break
                length = _length(data[at + 1 : body])
            if end - body < max(length, 2) or (packet := data[body] << 8 | data[body + 1]) < FIRST_ID:
                break
            taken.append((packet, data[body + 2] if length > 2 else 0))
            at = body + length
        self._at = at
        if taken:
            self._acknowledged(taken)

    def close(self) -> None:
        """What is left goes if the socket takes it: paho closes right behind its DISCONNECT."""
        self._flush()
        self._closed = True
        if self._blocked:
            self._loop.remove_writer(self._socket.fileno())
        self._socket.close()


def _is_pahos(data: bytes, body: int) -> bool:
    """Whether this PUBACK is; if not, it is ours and not complete yet, or that cannot be told yet."""
    return len(data) >= body + 2 and int.from_bytes(data[body : body + 2], "big") < FIRST_ID


def _length(encoded: bytes) -> int:
    return sum((byte & 127) << 7 * place for place, byte in enumerate(encoded))


def install(client: Any, acknowledged: Acknowledged) -> Callable[[], Wire | None] | None:
    """Puts a Wire into the connection that this paho client will open; None where this paho cannot.

    Returns how to get it once connected.
    """
    create = getattr(client, "_create_socket", None)
    if create is None:
        return None
    loop = asyncio.get_running_loop()
    wires: list[Wire] = []

    def create_wired() -> Wire:
        sock = create()
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wires.append(Wire(sock, loop, acknowledged))
        return wires[-1]

    client._create_socket = create_wired
    # A Wire takes all at once: paho needs no turn of its own when the socket is writable.
    client.on_socket_register_write = lambda c, userdata, sock: loop.call_soon_threadsafe(client.loop_write)
    client.on_socket_unregister_write = None
    return lambda: wires[-1] if wires else None
