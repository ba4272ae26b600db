"""MQTT packets cut out of a stream of bytes, and the few of them that matter to somebody who listens on the wire."""

import hashlib
from collections.abc import Iterator
from datetime import datetime

import msgspec
from msgspec import Struct

from tests.faults.heard import Copy, Gap

CONNECT, PUBLISH, PUBACK = 1, 3, 4
QUOTA_EXCEEDED = 0x97
REFUSED = 0x80


class Splitter:
    """Bytes in, whole packets out (MQTT 5, 2.1)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        data = self._rest + chunk if self._rest else chunk
        at, size = 0, len(data)
        while (end := _end(data, at, size)) is not None:
            yield data[at:end]
            at = end
        self._rest = data[at:]


def _end(data: bytes, at: int, size: int) -> int | None:
    """Where the packet that begins there ends; None: not all of it is here."""
    length = shift = 0
    for place in range(at + 1, min(at + 5, size)):
        byte = data[place]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            end = place + 1 + length
            return end if end <= size else None
    return None


def body(packet: bytes) -> int:
    """Where the fixed header ends."""
    place = 1
    while packet[place] > 127:
        place += 1
    return place + 1


def client_id(packet: bytes) -> str:
    """Of a CONNECT on MQTT 5."""
    at = body(packet) + 10
    length, at = _varint(packet, at)
    at += length
    size = int.from_bytes(packet[at : at + 2], "big")
    return packet[at + 2 : at + 2 + size].decode()


class Published(Struct):
    """A PUBLISH on MQTT 5. packet: its id, 0 at QoS 0."""

    topic: bytes
    packet: int
    payload: bytes


def published(packet: bytes) -> Published:
    at = body(packet)
    size = int.from_bytes(packet[at : at + 2], "big")
    topic, at = packet[at + 2 : at + 2 + size], at + 2 + size
    number = 0
    if packet[0] & 6:
        number, at = int.from_bytes(packet[at : at + 2], "big"), at + 2
    length, at = _varint(packet, at)
    return Published(topic, number, packet[at + length :])


def acknowledged(packet: bytes) -> tuple[int, int]:
    """Of a PUBACK: packet id and reason code."""
    at = body(packet)
    return int.from_bytes(packet[at : at + 2], "big"), packet[at + 2] if len(packet) > at + 2 else 0


def quota_exceeded(number: int) -> bytes:
    """A PUBACK that says so."""
    return bytes((PUBACK << 4, 3)) + number.to_bytes(2, "big") + bytes((QUOTA_EXCEEDED,))


def _varint(packet: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = packet[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


# What is in an event


class _Data(Struct):
    f_cnt: int = 0
    since: str = msgspec.field(default="", name="from")
    until: str = msgspec.field(default="", name="to")
    reason: str = ""


class _Event(Struct):
    id: str
    session: str
    sequence: str
    type: str
    recordedtime: str
    data: _Data


_decode = msgspec.json.Decoder(_Event).decode


def event(payload: bytes) -> Copy:
    """An event as the judge wants it. Raises ValueError (msgspec's errors are) where it is none."""
    told = _decode(payload)
    gap = None
    if told.type == "resiot.gap":
        gap = Gap(_unix(told.data.since), _unix(told.data.until), told.data.reason, told.session)
    mark = int.from_bytes(hashlib.blake2b(payload, digest_size=8).digest(), "big", signed=True)
    number, recorded = 0 if gap else told.data.f_cnt, _unix(told.recordedtime)
    return Copy(number, told.id, told.session, int(told.sequence), mark, gap, recorded)


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
