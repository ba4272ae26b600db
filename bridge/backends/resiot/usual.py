"""Usual messages, read in one go: the shapes that make up most of the traffic, exactly as the page shows them.

Anything else, however slightly, is None here and is read by `frames`, which gives the same result, only slower.
"""

from binascii import a2b_hex, b2a_base64
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from bridge.backends.resiot.data import Alive, Downlinked, RxInfo, Uplink
from bridge.backends.resiot.values import EXACT
from bridge.model import Event
from bridge.times import utc
from bridge.topics import level

_Flag = Literal["true", "false"]
_Whole = Annotated[int, Meta(ge=-EXACT, le=EXACT)]
_Finite = Annotated[float, Meta(gt=-1e9, lt=1e9)]
_Told = Annotated[str, Meta(min_length=1)]
_Euis = Annotated[list[_Told], Meta(min_length=1)]
_Port = Annotated[int, Meta(ge=0, le=255)]


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


class _Nothing(Struct, forbid_unknown_fields=True, gc=False):
    pass


class _Window(Struct, forbid_unknown_fields=True, gc=False):
    priority: _Whole
    window: _Told


class _Rx(Struct, tag_field="CommType", tag="comm_rx", forbid_unknown_fields=True, gc=False):
    Connector: _Told
    AppEui: _Told
    DevEui: _Told
    Port: _Port
    GatewayEUIs: _Euis
    Payload: _Told
    Extra: _Extra
    DT: str


class _Join(Struct, tag_field="CommType", tag="comm_join", forbid_unknown_fields=True, gc=False):
    Connector: _Told
    AppEui: _Told
    DevEui: _Told
    Port: Literal[""]
    GatewayEUIs: Annotated[list[str], Meta(max_length=0)]
    Payload: Literal[""]
    Extra: _Nothing
    DT: str


class _Alive(Struct, tag_field="CommType", tag="comm_gwalive", forbid_unknown_fields=True, gc=False):
    Connector: _Told
    AppEui: Literal[""]
    DevEui: Literal[""]
    Port: Literal[""]
    GatewayEUIs: _Euis
    Payload: Literal[""]
    Extra: _Nothing
    DT: str


class _Tx(Struct, tag_field="CommType", tag="comm_tx", forbid_unknown_fields=True, gc=False):
    Connector: _Told
    AppEui: _Told
    DevEui: _Told
    Port: _Port
    Payload: _Told
    Command: Literal[""]
    Reference: _Told
    Confirmation: Raw
    Extra: _Window
    DT: str


_decode = msgspec.json.Decoder(_Rx | _Join | _Alive | _Tx, strict=False).decode  # numbers are written as text


@lru_cache(8_192)
def _device(app_eui: str, dev_eui: str) -> tuple[str, str, str]:
    """In lower case, and the subject: most of what is heard was heard before."""
    app_eui, dev_eui = app_eui.lower(), dev_eui.lower()
    return app_eui, dev_eui, f"application/{level(app_eui)}/device/{level(dev_eui)}"


class Usual(Struct, frozen=True, gc=False):
    """What one message comes to. gateways: that are named in it · reference: of a downlink, else "" """

    events: tuple[Event, ...]
    gateways: list[str]
    reference: str = ""


def read(frame: bytes) -> Usual | None:
    """A message of a usual shape, else None."""
    try:
        told = _decode(frame)
        time = utc(told.DT)
        return None if time is None else _READ[type(told)](told, time)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None


def _rx(told: _Rx, time: str) -> Usual:
    payload = a2b_hex(told.Payload)
    extra = told.Extra
    app_eui, dev_eui, subject = _device(told.AppEui, told.DevEui)
    gateways = list(dict.fromkeys(map(str.lower, told.GatewayEUIs)))
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
    return Usual((Event(subject, "up", data, time),), gateways)


def _join(told: _Join, time: str) -> Usual:
    app_eui, dev_eui, subject = _device(told.AppEui, told.DevEui)
    data = Uplink(dev_eui=dev_eui, app_eui=app_eui, connector=told.Connector)
    return Usual((Event(subject, "join", data, time),), [])


def _alive(told: _Alive, time: str) -> Usual:
    gateways = list(dict.fromkeys(map(str.lower, told.GatewayEUIs)))
    events = [Event(f"gateway/{level(eui)}", "alive", Alive(eui, told.Connector), time) for eui in gateways]
    return Usual(tuple(events), gateways)


def _tx(told: _Tx, time: str) -> Usual | None:
    confirmed = _FLAGS.get(bytes(told.Confirmation))
    if confirmed is None:
        return None
    payload = a2b_hex(told.Payload)
    app_eui, dev_eui, subject = _device(told.AppEui, told.DevEui)
    data = Downlinked(
        dev_eui=dev_eui,
        app_eui=app_eui,
        f_port=told.Port,
        payload=b2a_base64(payload, newline=False).decode(),
        payload_hex=told.Payload.lower(),
        reference=told.Reference,
        confirmed=confirmed,
        priority=told.Extra.priority,
        window=told.Extra.window,
        connector=told.Connector,
    )
    return Usual((Event(subject, "tx", data, time),), [], told.Reference)


_FLAGS = {b"true": True, b"false": False}
_READ: dict[type, Callable[[Any, str], Usual | None]] = {_Rx: _rx, _Join: _join, _Alive: _alive, _Tx: _tx}
