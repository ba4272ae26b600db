"""The data of ResIOT's events: the contract's field names and units; absent means not told by the platform."""

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Struct

from bridge.backends.session import Subject
from bridge.options import about

_Gateway = Annotated[str | None, about("the gateway's EUI: 16 hex digits, lower case")]
_Port = Annotated[int | None, about("LoRaWAN FPort, 0 to 255")]
_Payload = Annotated[str | None, about("the application's bytes, in base64")]
_PayloadHex = Annotated[str | None, about("the same bytes as hex, lower case")]
_Reference = Annotated[str | None, about("of the downlink, as its responses told it")]
_Connector = Annotated[str | None, about("the platform's id of the way by which it came")]


class RxInfo(Struct, frozen=True, omit_defaults=True, gc=False):
    """How one gateway heard a frame."""

    gateway_eui: Annotated[str, about("the gateway's EUI: 16 hex digits, lower case; absent: not told")] = ""
    rssi_dbm: Annotated[float | int | None, about("signal strength in dBm")] = None
    snr_db: Annotated[float | None, about("signal to noise ratio in dB")] = None
    channel: Annotated[int | None, about("the gateway's channel index")] = None


class _Heard(Struct, frozen=True, omit_defaults=True, gc=False):
    dev_eui: Annotated[str | None, about("the device's EUI: 16 hex digits, lower case")] = None
    app_eui: Annotated[str | None, about("the application's EUI: 16 hex digits, lower case")] = None


class Uplink(_Heard, frozen=True, omit_defaults=True, gc=False):
    """`up`, `join` and `rx`: a frame of a device."""

    gateway_eui: Annotated[str | None, about("of `rx`: the gateway that heard it")] = None
    f_port: _Port = None
    f_cnt: Annotated[int | None, about("the device's frame counter")] = None
    payload: _Payload = None
    payload_hex: _PayloadHex = None
    adr: Annotated[bool | None, about("whether the data rate is adapted")] = None
    duplicate: Annotated[bool | None, about("whether the platform had it already")] = None
    rx_info: Annotated[list[RxInfo] | None, about("the gateways that heard it")] = None
    frequency_hz: Annotated[int | None, about("in Hz")] = None
    bandwidth_hz: Annotated[int | None, about("in Hz")] = None
    spreading_factor: Annotated[int | None, about("LoRa's, 7 to 12")] = None
    connector: _Connector = None


class Downlinked(_Heard, frozen=True, omit_defaults=True):
    """`tx`: a downlink as the platform issued it."""

    f_port: _Port = None
    payload: _Payload = None
    payload_hex: _PayloadHex = None
    reference: _Reference = None
    confirmed: Annotated[bool | None, about("whether the device is to acknowledge it")] = None
    command: Annotated[str | None, about("the platform's command, where it was one")] = None
    priority: Annotated[int | None, about("in the platform's queue")] = None
    window: Annotated[str | None, about("the receive window, in the platform's word: RX1, RX2, BOTH")] = None
    connector: _Connector = None


class TxAck(_Heard, frozen=True, omit_defaults=True):
    """`txack`: how far a downlink got."""

    stage: Annotated[str | None, about("how far: comm_gwtx, comm_txinfo, comm_txsendack, comm_txsendconfirm")] = None
    reference: _Reference = None
    error: Annotated[str | None, about("what went wrong, in the platform's words")] = None
    connector: _Connector = None


class Ack(_Heard, frozen=True, omit_defaults=True):
    """`ack`: the device acknowledged a confirmed downlink."""

    reference: _Reference = None
    connector: _Connector = None


class Alive(Struct, frozen=True, omit_defaults=True):
    """`alive`: a gateway's keep-alive."""

    gateway_eui: _Gateway = None
    connector: _Connector = None


class GatewayState(Struct, frozen=True):
    """State of a gateway: online until it has been silent for `gateway_timeout`."""

    state: Annotated[Literal["online", "offline"], about("offline: silent for `gateway_timeout`")]
    last_alive: Annotated[str | None, about("when it was last heard, UTC; null: never since the bridge's start")]


class Referred(TypedDict):
    """In the responses to `downlink`: what the platform's feedback will name."""

    reference: Annotated[str, about("what the platform's feedback will name")]


_DEVICE = {"up": Uplink, "join": Uplink, "tx": Downlinked, "txack": TxAck, "ack": Ack}
_GATEWAY = {"alive": Alive, "rx": Uplink}
SUBJECTS = (
    Subject("application/{app_eui}/device/{dev_eui}", _DEVICE),
    Subject("gateway/{gateway_eui}", _GATEWAY, state=GatewayState),
    Subject("", {**_DEVICE, **_GATEWAY, "unknown": Any}),  # those that name neither device nor gateway
)
