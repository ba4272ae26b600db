"""The usual uplink, read in one go: the shape that makes up most of the traffic, exactly as the page shows it.

Anything else, however slightly, is None here and is read by `frames`, which gives the same result, only slower.
"""

from binascii import a2b_hex, b2a_base64
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from bridge.backends.resiot.data import RxInfo, Uplink
from bridge.backends.resiot.values import EXACT
from bridge.model import Event
from bridge.times import utc
from bridge.topics import level

_Flag = Literal["true", "false"]
_Whole = Annotated[int, Meta(ge=-EXACT, le=EXACT)]
_Finite = Annotated[float, Meta(gt=-1e9, lt=1e9)]
_Told = Annotated[str, Meta(min_length=1)]


class _Extra(Struct, forbid_unknown_fields=True, gc=False):
    adr: _Flag
    channel: _Whole
    duplicate: _Flag
    frequency: _Finite
    modBW: _Finite  # noqa: N815 - the platform's name
    rssi: _Finite
    seqno: _Whole
    sf: _Whole
    snr: _Finite


class _Usual(Struct, forbid_unknown_fields=True, gc=False):
    CommType: Literal["comm_rx"]
    Connector: _Told
    AppEui: _Told
    DevEui: _Told
    Port: Annotated[int, Meta(ge=0, le=255)]
    GatewayEUIs: Annotated[list[_Told], Meta(min_length=1)]
    Payload: _Told
    Extra: _Extra
    DT: str


_decode = msgspec.json.Decoder(_Usual, strict=False).decode  # numbers are written as text


@lru_cache(16_384)
def _device(app_eui: str, dev_eui: str) -> tuple[str, str, str]:
    """In lower case, and the subject: most of what is heard was heard before."""
    app_eui, dev_eui = app_eui.lower(), dev_eui.lower()
    return app_eui, dev_eui, f"application/{level(app_eui)}/device/{level(dev_eui)}"


def read(frame: bytes) -> tuple[Event, list[str]] | None:
    """A comm_rx of the usual shape: its event, and the gateways that heard it; else None."""
    try:
        told = _decode(frame)
        payload = a2b_hex(told.Payload)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    time = utc(told.DT)
    if time is None:
        return None
    extra = told.Extra
    app_eui, dev_eui, subject = _device(told.AppEui, told.DevEui)
    gateways = [eui.lower() for eui in told.GatewayEUIs]
    rssi = int(extra.rssi) if extra.rssi == int(extra.rssi) else extra.rssi
    data = Uplink(
        dev_eui=dev_eui,
        app_eui=app_eui,
        f_port=told.Port,
        f_cnt=extra.seqno,
        payload=b2a_base64(payload, newline=False).decode(),
        payload_hex=told.Payload.lower(),
        adr=extra.adr == "true",
        duplicate=extra.duplicate == "true",
        rx_info=[RxInfo(gateways[0], rssi, extra.snr + 0.0, extra.channel), *map(RxInfo, gateways[1:])],
        frequency_hz=round(extra.frequency * 1_000_000),
        bandwidth_hz=round(extra.modBW * 1_000),
        spreading_factor=extra.sf,
        connector=told.Connector,
    )
    return Event(subject, "up", data, time), gateways
