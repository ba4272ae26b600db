"""What a ResIOT platform says in a benchmark: frames made beforehand, each with a time of its own.

The time is the frame's number: flat out it counts microseconds from a fixed moment, at a rate it is the moment at which
the frame is due. Every peer hands it on, so that the listener knows what got lost, came twice, or came late.
"""

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

Kinds = Literal["mixed", "uplinks", "unusual", "gateways"]
FLAT_OUT = int(datetime(2024, 3, 5, 7, tzinfo=UTC).timestamp()) * 1_000_000  # microseconds since 1970
_TIME = "<time>"
_GATEWAYS = 40
_APPLICATIONS = 8


def texts(count: int, devices: int = 100, kinds: Kinds = "mixed") -> Iterator[str]:
    """Frames without their time. mixed: of twenty, 17 uplinks, one join, one keep-alive, one transmission."""
    makers: dict[Kinds, Callable[[int], str]] = {
        "mixed": lambda n: (_uplink, _join, _alive, _sent)[max(0, n * 7 % 20 - 16)](n, devices),
        "uplinks": lambda n: _uplink(n, devices),
        "unusual": lambda n: (_newer, _join, _alive, _sent)[n % 4](n, devices),
        "gateways": lambda n: _alive(n, devices, gateways=devices),
    }
    return map(makers[kinds], range(count))


def _device(n: int, devices: int) -> tuple[str, str, str]:
    """Application, device and gateway."""
    which = n % devices
    return f"70b3d57ed00{which % _APPLICATIONS:05x}", f"a81758fffe{which:06x}", f"0016c001f0{n % _GATEWAYS:06x}"


def _uplink(n: int, devices: int) -> str:
    application, device, gateway = _device(n, devices)
    payload = f"{n * 2_654_435_761 % 2**32:08x}" * (1 + n % 7)
    return (
        f'{{"CommType":"comm_rx","Connector":"636f6e3230","AppEui":"{application}","DevEui":"{device}",'
        f'"Port":"{1 + n % 200}","GatewayEUIs":["{gateway}"],"Payload":"{payload}","Extra":{{"adr":"true",'
        f'"channel":"{n % 8}","duplicate":"false","frequency":"868.{1 + n % 5}","modBW":"125","rssi":"-{60 + n % 60}",'
        f'"seqno":"{n // devices}","sf":"{7 + n % 6}","snr":"{n % 200 / 10 - 10:.1f}"}},"DT":"{_TIME}"}}'
    )


def _newer(n: int, devices: int) -> str:
    """An uplink as newer servers write it: gateways as JSON within JSON, more fields, another order."""
    application, device, gateway = _device(n, devices)
    return (
        f'{{"AppEui":"{application}","CommType":"comm_rx","Connector":"636f6e3230","DevAddr":"26011bda",'
        f'"DevEui":"{device}","Extra":{{"gateways":"[{{\\"loRaSNR\\":6.2,\\"mac\\":\\"{gateway}\\",\\"rssi\\":-87}}]",'
        f'"adr":"true","seqno":"{n}"}},"GatewayEUIs":["{gateway}"],"Port":"5","Payload":"0100e60252","DT":"{_TIME}"}}'
    )


def _join(n: int, devices: int) -> str:
    application, device, _ = _device(n, devices)
    return (
        f'{{"CommType":"comm_join","Connector":"636f6e3230","AppEui":"{application}","DevEui":"{device}","Port":"",'
        f'"GatewayEUIs":[],"Payload":"","Extra":{{}},"DT":"{_TIME}"}}'
    )


def _alive(n: int, devices: int, gateways: int = _GATEWAYS) -> str:
    return (
        '{"CommType":"comm_gwalive","Connector":"69643d3237","AppEui":"","DevEui":"","Port":"",'
        f'"GatewayEUIs":["0016c001f0{n % gateways:06x}"],"Payload":"","Extra":{{}},"DT":"{_TIME}"}}'
    )


def _sent(n: int, devices: int) -> str:
    application, device, _ = _device(n, devices)
    return (
        f'{{"CommType":"comm_tx","Connector":"636f6e3230","AppEui":"{application}","DevEui":"{device}","Port":"10",'
        f'"Payload":"ff01","Command":"","Reference":"bench-{n}","Confirmation":true,'
        f'"Extra":{{"priority":0,"window":"BOTH"}},"DT":"{_TIME}"}}'
    )


def told(text: str, moment: int) -> bytes:
    """The frame's payload, at a moment (microseconds since 1970)."""
    return text.replace(_TIME, f"{_second(moment // 1_000_000)}.{moment % 1_000_000:06d}0+01:00").encode()


@lru_cache(16)
def _second(unix: int) -> str:
    return (datetime.fromtimestamp(unix, UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S")


def framed(payload: bytes) -> bytes:
    """A text frame from a server (RFC 6455, 5.2)."""
    if len(payload) < 126:
        return struct.pack("!BB", 0x81, len(payload)) + payload
    return struct.pack("!BBH", 0x81, 126, len(payload)) + payload


def pieces(count: int, devices: int = 100, kinds: Kinds = "mixed", size: int = 64 * 1024) -> Iterator[bytes]:
    """The whole stream of frames, flat out, in pieces of about that many bytes."""
    waiting: list[bytes] = []
    length = 0
    for n, text in enumerate(texts(count, devices, kinds)):
        waiting.append(framed(told(text, FLAT_OUT + n)))
        length += len(waiting[-1])
        if length >= size:
            yield b"".join(waiting)
            waiting, length = [], 0
    yield b"".join(waiting)
