"""The data of ResIOT's events: the contract's field names and units; absent means not told by the platform."""

from typing import Any, TypedDict

from msgspec import Struct

from bridge.backends.session import Subject


class RxInfo(Struct, frozen=True, omit_defaults=True, gc=False):
    """How one gateway heard a frame: dBm, dB; `channel` is the gateway's channel index."""

    gateway_eui: str
    rssi_dbm: float | int | None = None
    snr_db: float | None = None
    channel: int | None = None


class _Heard(Struct, frozen=True, omit_defaults=True, gc=False):
    dev_eui: str | None = None
    app_eui: str | None = None


class Uplink(_Heard, frozen=True, omit_defaults=True, gc=False):
    """`up`, `join` and `rx`. payload: base64 · frequency and bandwidth in Hz · f_cnt: the frame counter."""

    gateway_eui: str | None = None
    f_port: int | None = None
    f_cnt: int | None = None
    payload: str | None = None
    payload_hex: str | None = None
    adr: bool | None = None
    duplicate: bool | None = None
    rx_info: list[RxInfo] | None = None
    frequency_hz: int | None = None
    bandwidth_hz: int | None = None
    spreading_factor: int | None = None
    connector: str | None = None


class Downlinked(_Heard, frozen=True, omit_defaults=True):
    """`tx`: a downlink as the platform issued it."""

    f_port: int | None = None
    payload: str | None = None
    payload_hex: str | None = None
    reference: str | None = None
    confirmed: bool | None = None
    command: str | None = None
    priority: int | None = None
    window: str | None = None
    connector: str | None = None


class TxAck(_Heard, frozen=True, omit_defaults=True):
    """`txack`: how far a downlink got; stage: the CommType · error: the platform's words."""

    stage: str | None = None
    reference: str | None = None
    error: str | None = None
    connector: str | None = None


class Ack(_Heard, frozen=True, omit_defaults=True):
    """`ack`: the device acknowledged a confirmed downlink."""

    reference: str | None = None
    connector: str | None = None


class Alive(Struct, frozen=True, omit_defaults=True):
    """`alive`: a gateway's keep-alive."""

    gateway_eui: str | None = None
    connector: str | None = None


class GatewayState(Struct, frozen=True):
    """State of a gateway: online until it has been silent for `gateway_timeout`; last_alive: RFC 3339 UTC."""

    state: str
    last_alive: str | None


class Referred(TypedDict):
    """In the responses to `downlink`: what the platform's feedback will name."""

    reference: str


_DEVICE = {"up": Uplink, "join": Uplink, "tx": Downlinked, "txack": TxAck, "ack": Ack}
_GATEWAY = {"alive": Alive, "rx": Uplink}
SUBJECTS = (
    Subject("application/{app_eui}/device/{dev_eui}", _DEVICE),
    Subject("gateway/{gateway_eui}", _GATEWAY, state=GatewayState),
    Subject("", {**_DEVICE, **_GATEWAY, "unknown": Any}),  # those that name neither device nor gateway
)
