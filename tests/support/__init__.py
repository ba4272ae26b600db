"""What the tests stand on: real and scripted brokers, an independent ear, the bridge as a process.

Here is what those share: MQTT 3.1.1 and 5 on the wire, both ways, written from the standards and independent of the
library the bridge uses, so that a fault there cannot hide itself; and `Record`, the one way in which tests wait.
QoS 2 is not spoken. The codec is strict: a packet the standard forbids raises Malformed.
"""

import asyncio
import contextlib
import itertools
import random
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Value = int | str | bytes
Properties = Mapping[str, Value]
Pairs = tuple[tuple[str, str], ...]
T = TypeVar("T")

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 10, 11, 12, 13, 14
V311, V5 = 4, 5

PATIENCE_S = 60.0  # for whatever must come, on a machine that has no time to spare: only a failing test waits it out

# MQTT 5, 2.2.2.2; the name is the standard's, in snake_case
_PROPERTIES: dict[int, tuple[str, str]] = {
    1: ("payload_format_indicator", "u8"),
    2: ("message_expiry_interval", "u32"),
    3: ("content_type", "text"),
    8: ("response_topic", "text"),
    9: ("correlation_data", "binary"),
    11: ("subscription_identifier", "varint"),
    17: ("session_expiry_interval", "u32"),
    18: ("assigned_client_identifier", "text"),
    19: ("server_keep_alive", "u16"),
    21: ("authentication_method", "text"),
    22: ("authentication_data", "binary"),
    23: ("request_problem_information", "u8"),
    24: ("will_delay_interval", "u32"),
    25: ("request_response_information", "u8"),
    26: ("response_information", "text"),
    28: ("server_reference", "text"),
    31: ("reason_string", "text"),
    33: ("receive_maximum", "u16"),
    34: ("topic_alias_maximum", "u16"),
    35: ("topic_alias", "u16"),
    36: ("maximum_qos", "u8"),
    37: ("retain_available", "u8"),
    39: ("maximum_packet_size", "u32"),
    40: ("wildcard_subscription_available", "u8"),
    41: ("subscription_identifier_available", "u8"),
    42: ("shared_subscription_available", "u8"),
}
_USER_PROPERTY = 38
_IDENTIFIERS = {name: (number, kind) for number, (name, kind) in _PROPERTIES.items()}


class Malformed(Exception):
    """The other side sent what the standard forbids."""


class NotSeen(AssertionError):
    """What a test waited for did not happen in time; says what happened instead."""


# Packets


@dataclass(frozen=True)
class Will:
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = field(default_factory=dict)
    user_properties: Pairs = ()


@dataclass(frozen=True)
class Packet:
    """Any packet. at: time.monotonic() when it was read; size: all its bytes on the wire, where it was read."""

    properties: Properties = field(default_factory=dict, kw_only=True)
    user_properties: Pairs = field(default=(), kw_only=True)
    at: float = field(default_factory=time.monotonic, kw_only=True, compare=False, repr=False)
    size: int = field(default=0, kw_only=True, compare=False, repr=False)


@dataclass(frozen=True)
class Connect(Packet):
    """version: 4 is MQTT 3.1.1, 5 is MQTT 5. clean: clean session, or clean start."""

    client_id: str
    version: int = V5
    clean: bool = True
    keepalive: int = 60
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None


@dataclass(frozen=True)
class Connack(Packet):
    code: int = 0
    session_present: bool = False


@dataclass(frozen=True)
class Publish(Packet):
    """A message. packet_id: 0 at QoS 0."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0


@dataclass(frozen=True)
class Puback(Packet):
    packet_id: int
    code: int = 0


@dataclass(frozen=True)
class Subscription:
    """One filter of a SUBSCRIBE. retain_handling: 0 send, 1 send if new, 2 do not send."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True)
class Subscribe(Packet):
    packet_id: int
    subscriptions: tuple[Subscription, ...]


@dataclass(frozen=True)
class Unsubscribe(Packet):
    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True)
class Suback(Packet):
    """Also an UNSUBACK, which has no codes on 3.1.1."""

    packet_id: int
    codes: tuple[int, ...]


@dataclass(frozen=True)
class Pingreq(Packet):
    pass


@dataclass(frozen=True)
class Pingresp(Packet):
    pass


@dataclass(frozen=True)
class Disconnect(Packet):
    code: int = 0


def matches(topic_filter: str, topic: str) -> bool:
    """MQTT 5, 4.7."""
    if topic.startswith("$") and topic_filter[:1] in ("+", "#"):
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)] if len(levels) >= len(wanted) else levels
    return len(wanted) == len(levels) and all(one in ("+", level) for one, level in zip(wanted, levels, strict=True))


# Reading


class _Body:
    """A packet's body, read from its beginning. Raises Malformed."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise Malformed("the packet is shorter than it says")
        self._at += count
        return self._data[self._at - count : self._at]

    def left(self) -> int:
        return len(self._data) - self._at

    def rest(self) -> bytes:
        return self.take(self.left())

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.u8()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise Malformed("a variable byte integer of more than four bytes")

    def binary(self) -> bytes:
        return self.take(self.u16())

    def text(self) -> str:
        try:
            text = self.binary().decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"text that is not UTF-8: {error}") from None
        if "\0" in text:
            raise Malformed("NUL in a text")
        return text

    def packet_id(self) -> int:
        if number := self.u16():
            return number
        raise Malformed("packet id 0")

    def value(self, kind: str) -> Value:
        readers: dict[str, Callable[[], Value]] = {
            "u8": self.u8,
            "u16": self.u16,
            "u32": self.u32,
            "varint": self.varint,
            "text": self.text,
            "binary": self.binary,
        }
        return readers[kind]()

    def properties(self, version: int) -> tuple[dict[str, Value], Pairs]:
        """Nothing on 3.1.1, nor where the packet has ended."""
        if version != V5 or not self.left():
            return {}, ()
        inner = _Body(self.take(self.varint()))
        found: dict[str, Value] = {}
        pairs: list[tuple[str, str]] = []
        while inner.left():
            number = inner.varint()
            if number == _USER_PROPERTY:
                pairs.append((inner.text(), inner.text()))
                continue
            name, kind = _PROPERTIES.get(number, ("", ""))
            if not name or name in found:
                raise Malformed(f"property {number} is unknown or comes twice")
            found[name] = inner.value(kind)
        return found, tuple(pairs)


def _read_connect(flags: int, body: _Body, version: int) -> Connect:
    if body.text() != "MQTT" or (version := body.u8()) not in (V311, V5):
        raise Malformed("neither MQTT 3.1.1 nor 5")
    bits = body.u8()
    if bits & 1:
        raise Malformed("the reserved flag of CONNECT is set")
    keepalive = body.u16()
    properties, pairs = body.properties(version)
    return Connect(
        body.text(),
        version,
        bool(bits & 2),
        keepalive,
        will=_read_will(bits, body, version) if bits & 4 else None,
        username=body.text() if bits & 128 else None,
        password=body.binary() if bits & 64 else None,
        properties=properties,
        user_properties=pairs,
    )


def _read_will(bits: int, body: _Body, version: int) -> Will:
    properties, pairs = body.properties(version)
    return Will(body.text(), body.binary(), (bits >> 3) & 3, bool(bits & 32), properties, pairs)


def _read_connack(flags: int, body: _Body, version: int) -> Connack:
    present, code = bool(body.u8() & 1), body.u8()
    properties, pairs = body.properties(version)
    return Connack(code, present, properties=properties, user_properties=pairs)


def _read_publish(flags: int, body: _Body, version: int) -> Publish:
    qos, dup = (flags >> 1) & 3, bool(flags & 8)
    if qos > 1 or (dup and not qos):
        raise Malformed(f"PUBLISH with flags {flags:04b}")
    topic = body.text()
    if not topic or set("+#") & set(topic):
        raise Malformed(f"PUBLISH to {topic!r}")
    number = body.packet_id() if qos else 0
    properties, pairs = body.properties(version)
    return Publish(topic, body.rest(), qos, bool(flags & 1), dup, number, properties=properties, user_properties=pairs)


def _read_puback(flags: int, body: _Body, version: int) -> Puback:
    number, code = body.packet_id(), body.u8() if body.left() else 0
    properties, pairs = body.properties(version)
    return Puback(number, code, properties=properties, user_properties=pairs)


def _read_subscribe(flags: int, body: _Body, version: int) -> Subscribe:
    if flags != 2:
        raise Malformed("SUBSCRIBE with wrong flags")
    number = body.packet_id()
    properties, pairs = body.properties(version)
    found = []
    while body.left():
        text, bits = body.text(), body.u8()
        if not text or bits & 3 == 3 or bits >> 4 == 3:
            raise Malformed(f"SUBSCRIBE to {text!r} with options {bits}")
        found.append(Subscription(text, bits & 3, bool(bits & 4), bool(bits & 8), bits >> 4 & 3))
    return Subscribe(number, tuple(found), properties=properties, user_properties=pairs)


def _read_unsubscribe(flags: int, body: _Body, version: int) -> Unsubscribe:
    number = body.packet_id()
    properties, pairs = body.properties(version)
    found = []
    while body.left():
        found.append(body.text())
    return Unsubscribe(number, tuple(found), properties=properties, user_properties=pairs)


def _read_suback(flags: int, body: _Body, version: int) -> Suback:
    number = body.packet_id()
    properties, pairs = body.properties(version)
    return Suback(number, tuple(body.rest()), properties=properties, user_properties=pairs)


def _read_disconnect(flags: int, body: _Body, version: int) -> Disconnect:
    code = body.u8() if body.left() else 0
    properties, pairs = body.properties(version)
    return Disconnect(code, properties=properties, user_properties=pairs)


_READERS: dict[int, Callable[[int, _Body, int], Packet]] = {
    CONNECT: _read_connect,
    CONNACK: _read_connack,
    PUBLISH: _read_publish,
    PUBACK: _read_puback,
    SUBSCRIBE: _read_subscribe,
    SUBACK: _read_suback,
    UNSUBSCRIBE: _read_unsubscribe,
    UNSUBACK: _read_suback,
    PINGREQ: lambda flags, body, version: Pingreq(),
    PINGRESP: lambda flags, body, version: Pingresp(),
    DISCONNECT: _read_disconnect,
}


async def read_packet(reader: asyncio.StreamReader, version: int) -> Packet:
    """The next packet. Raises Malformed, and IncompleteReadError or OSError where the connection ended."""
    first, length, shift, head = (await reader.readexactly(1))[0], 0, 0, 1
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 127) << shift
        shift, head = shift + 7, head + 1
        if byte < 128:
            break
        if shift > 21:
            raise Malformed("a remaining length of more than four bytes")
    data = await reader.readexactly(length)
    if (read := _READERS.get(first >> 4)) is None:
        raise Malformed(f"packet type {first >> 4}")
    body = _Body(data)
    packet = read(first & 15, body, version)
    if body.left():
        raise Malformed(f"{body.left()} bytes after the end of {type(packet).__name__}")
    object.__setattr__(packet, "size", head + length)
    return packet


async def close(writer: asyncio.StreamWriter) -> None:
    """Ends a connection at once; what was not sent yet is lost."""
    writer.transport.abort()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(2.0):  # not wait_for, which on 3.11 may lose a cancellation
            await writer.wait_closed()


# Writing


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def _binary(value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2, "big") + data


def _property(name: str, value: Value) -> bytes:
    number, kind = _IDENTIFIERS[name]
    if isinstance(value, int):
        size = {"u8": 1, "u16": 2, "u32": 4}.get(kind)
        return bytes((number,)) + (_varint(value) if size is None else value.to_bytes(size, "big"))
    return bytes((number,)) + _binary(value)


def _properties(version: int, properties: Properties, pairs: Pairs = ()) -> bytes:
    if version != V5:
        return b""
    data = b"".join(_property(name, value) for name, value in properties.items())
    data += b"".join(bytes((_USER_PROPERTY,)) + _binary(name) + _binary(value) for name, value in pairs)
    return _varint(len(data)) + data


def frame(kind: int, flags: int, body: bytes) -> bytes:
    """A whole packet; also one that the standard forbids, where a test wants that."""
    return bytes((kind << 4 | flags,)) + _varint(len(body)) + body


def write_connect(packet: Connect) -> bytes:
    """Without a will: nobody here needs to send one."""
    bits = packet.clean << 1 | (packet.username is not None) << 7 | (packet.password is not None) << 6
    body = _binary("MQTT") + struct.pack("!BBH", packet.version, bits, packet.keepalive)
    body += _properties(packet.version, packet.properties, packet.user_properties) + _binary(packet.client_id)
    body += b"" if packet.username is None else _binary(packet.username)
    body += b"" if packet.password is None else _binary(packet.password)
    return frame(CONNECT, 0, body)


def write_connack(packet: Connack, version: int) -> bytes:
    properties = _properties(version, packet.properties, packet.user_properties)
    return frame(CONNACK, 0, bytes((packet.session_present, packet.code)) + properties)


def write_publish(packet: Publish, version: int) -> bytes:
    flags = packet.dup << 3 | packet.qos << 1 | packet.retain
    number = packet.packet_id.to_bytes(2, "big") if packet.qos else b""
    properties = _properties(version, packet.properties, packet.user_properties)
    return frame(PUBLISH, flags, _binary(packet.topic) + number + properties + packet.payload)


def write_puback(packet: Puback, version: int) -> bytes:
    """3.1.1 has no reason code: there it always says yes."""
    body = packet.packet_id.to_bytes(2, "big")
    if version == V5:
        body += bytes((packet.code,)) + _properties(version, packet.properties, packet.user_properties)
    return frame(PUBACK, 0, body)


def write_subscribe(packet: Subscribe, version: int) -> bytes:
    body = packet.packet_id.to_bytes(2, "big") + _properties(version, packet.properties, packet.user_properties)
    for one in packet.subscriptions:
        options = one.no_local << 2 | one.retain_as_published << 3 | one.retain_handling << 4
        body += _binary(one.filter) + bytes((one.qos | (options if version == V5 else 0),))
    return frame(SUBSCRIBE, 2, body)


def write_suback(kind: int, packet: Suback, version: int) -> bytes:
    """kind: SUBACK or UNSUBACK."""
    codes = b"" if kind == UNSUBACK and version != V5 else bytes(packet.codes)
    properties = _properties(version, packet.properties, packet.user_properties)
    return frame(kind, 0, packet.packet_id.to_bytes(2, "big") + properties + codes)


def write_disconnect(packet: Disconnect, version: int) -> bytes:
    properties = _properties(version, packet.properties, packet.user_properties)
    return frame(DISCONNECT, 0, bytes((packet.code,)) + properties if version == V5 else b"")


# Waiting


class Record(Generic[T]):
    """What happened, in order, and the way to wait for more of it."""

    def __init__(self, name: str) -> None:
        self.items: list[T] = []
        self._name = name
        self._waiting: set[asyncio.Future[None]] = set()
        self._ended: str | None = None

    def append(self, item: T) -> None:
        self.items.append(item)
        self._wake()

    def end(self, why: str) -> None:
        """Nothing more will come: whoever waits learns it at once."""
        self._ended = why
        self._wake()

    def go_on(self) -> None:
        """After end(): more may come again."""
        self._ended = None

    async def wait(
        self, predicate: Callable[[T], bool], timeout: float = PATIENCE_S, count: int = 1, since: int = 0
    ) -> list[T]:
        """The first `count` items from place `since` on that fit. Raises NotSeen."""
        found: list[T] = []
        try:
            async with asyncio.timeout(timeout):
                while True:
                    since = self._collect(found, predicate, count, since)
                    if len(found) == count:
                        return found
                    if self._ended is not None:
                        raise NotSeen(self._tell(f"{self._ended}; {len(found)} of {count} seen"))
                    await self._more()
        except TimeoutError:
            raise NotSeen(self._tell(f"{len(found)} of {count} seen within {timeout:g} s")) from None

    def _collect(self, found: list[T], predicate: Callable[[T], bool], count: int, since: int) -> int:
        """The place from which on nothing was looked at."""
        while len(found) < count and since < len(self.items):
            if predicate(self.items[since]):
                found.append(self.items[since])
            since += 1
        return since

    async def _more(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def _tell(self, what: str) -> str:
        last = "".join(f"\n  {str(item)[:300]}" for item in self.items[-8:]) or " nothing"
        return f"{self._name}: {what}; the last of {len(self.items)}:{last}"


_PORTS = range(20_000, 32_000)  # below those that systems give to connections: one might be taken before it is used
_ports = itertools.cycle(random.sample(_PORTS, len(_PORTS)))
_held: deque[socket.socket] = deque()
_HELD = 100


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has just now, and that no other call on this machine will give soon."""
    for port in _ports:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            _hold(port)
            return port
    raise AssertionError("every port is taken")


def _hold(port: int) -> None:
    """Until others took their turn: whoever is to use it may be slow to start. Raises OSError where it is held."""
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0ws2mqtt-tests-{port}")  # a name without a file, which goes with the process
    except OSError:
        holder.close()
        raise
    _held.append(holder)
    if len(_held) > _HELD:
        _held.popleft().close()
