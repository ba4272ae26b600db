"""Frames of a simulated ResIOT, both ways: communications to text, requests to values (ResIOT docs, Websocket Server).

Nobody knows one true shape: the samples of 2017 say CommType and a map of texts in Extra, the schema beside them says
MsgType and a list of pairs, and installations seen later nest the gateways as text. So a communication is a plain
value here, and each shape is a way to write it.
"""

import re
from datetime import datetime, timedelta, timezone

import msgspec
from msgspec import Struct

from bridge.simulators.resiot_options import Faults, Shape

OURS = "simulator: "
"""Before each Details text: ResIOT's own texts are not published, so nobody may rely on these."""
NOT_JSON = "request is not JSON"
NOT_OBJECT = "request is not a JSON object"
ZERO_DT = "0001-01-01T00:00:00Z"
_CET = timezone(timedelta(hours=1))
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*")
_MAX_PAYLOAD = 242  # bytes; LoRaWAN's largest application payload in any region
_EMPTY: tuple[object, ...] = ("", [], {})


class Reception(Struct, frozen=True):
    """How one gateway heard a packet: EUI as the gateway writes it, name, degrees, dBm, dB."""

    gateway: str
    name: str
    latitude: float
    longitude: float
    rssi: int
    snr: float


class Communication(Struct, frozen=True):
    """One communication before it has a shape.

    kind: the CommType · body: the other fields in the samples' order and spelling, without DT · dev_addr and heard
    are told by the newer shape only.
    """

    kind: str
    body: dict[str, object]
    dev_addr: str = ""
    heard: tuple[Reception, ...] = ()


def dt(nanoseconds: int) -> str:
    """`2024-03-05T08:16:30.0071456+01:00`: nanoseconds since 1970 as ResIOT writes it, seven digits, CET."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, _CET):%Y-%m-%dT%H:%M:%S}.{rest // 100:07d}+01:00"


def written(told: Communication, shape: Shape, moment: str, faults: Faults, *, cut: bool = False) -> str | bytes:
    """A communication as a frame: compact JSON, text or (fault `binary`) bytes. cut: broken in the middle."""
    fields = _SHAPES[shape](told, ZERO_DT if faults.zero_dt else moment)
    if faults.port_as_number and "Port" in fields:
        port = fields["Port"]
        fields["Port"] = int(port) if isinstance(port, str) and port else None
    if faults.nulls:
        fields = {key: None if value in _EMPTY else value for key, value in fields.items()}
    if faults.big_frame and told.kind == "comm_rx":
        fields["Filler"] = ""
        fields["Filler"] = "x" * (faults.big_frame - len(msgspec.json.encode(fields)))
    frame = msgspec.json.encode(fields)
    if cut:
        frame = frame[: len(frame) // 2]
    return frame if faults.binary else frame.decode()


def _doc2017(told: Communication, moment: str) -> dict[str, object]:
    return {"CommType": told.kind, **told.body, "DT": moment}


def _newer(told: Communication, moment: str) -> dict[str, object]:
    """DevAddr before Port; Extra before Payload, its keys sorted, the gateways in it as JSON inside a text."""
    fields: dict[str, object] = {"CommType": told.kind}
    for key, value in told.body.items():
        if key == "Port" and told.dev_addr:
            fields["DevAddr"] = told.dev_addr
        if key == "Payload" and "Extra" in told.body:
            fields["Extra"] = _nested(told) if told.heard else told.body["Extra"]
        if key != "Extra":
            fields[key] = value
    return {**fields, "DT": moment}


def _nested(told: Communication) -> dict[str, object]:
    gateways = [
        {
            "latitude": heard.latitude,
            "loRaSNR": heard.snr,
            "longitude": heard.longitude,
            "mac": heard.gateway.lower(),
            "name": heard.name,
            "rssi": heard.rssi,
        }
        for heard in told.heard
    ]
    extra = {key: value for key, value in _extra(told).items() if key not in ("rssi", "snr", "channel")}
    return {"Gateways": msgspec.json.encode(gateways).decode(), **extra}


def _schema(told: Communication, moment: str) -> dict[str, object]:
    """As the page's schema block: Connector first, MsgType, Extra as a list of pairs of texts."""
    body = dict(told.body)
    fields: dict[str, object] = {"Connector": body.pop("Connector", ""), "MsgType": told.kind, **body}
    if "Extra" in fields:
        fields["Extra"] = [{"fieldname": key, "fieldvalue": str(value)} for key, value in _extra(told).items()]
    return {**fields, "DT": moment}


def _extra(told: Communication) -> dict[str, object]:
    extra = told.body.get("Extra")
    return extra if isinstance(extra, dict) else {}


_SHAPES = {"doc2017": _doc2017, "newer": _newer, "schema": _schema}


class Downlink(Struct, frozen=True, kw_only=True):
    """A request as a client sent it, read as far as possible.

    text: the frame · problem: "" or why the answer is Fail, without the mark OURS · port None: not told · payload: as
    told, hex unless raw.
    """

    text: str
    problem: str = ""
    function: str = ""
    payload: str = ""
    app_eui: str = ""
    dev_eui: str = ""
    connector: str = ""
    port: int | None = None
    command: str = ""
    reference: str = ""
    raw: bool = False
    confirm: bool = False

    @property
    def hex(self) -> str:
        """The payload as communications carry it: lower-case hex; raw text as its UTF-8."""
        return self.payload.encode().hex() if self.raw else self.payload.lower()


_REQUEST: dict[str, tuple[str, type]] = {
    "function": ("function", str),
    "payload": ("payload", str),
    "appeui": ("app_eui", str),
    "deveui": ("dev_eui", str),
    "connector": ("connector", str),
    "port": ("port", int),
    "wscommand": ("command", str),
    "reference": ("reference", str),
    "raw": ("raw", bool),
    "confirm": ("confirm", bool),
}
"""Request key in lower case → our name for it, its JSON type. Of doubled keys (DevEUI, DevEui) the last one counts."""


def asked(frame: str | bytes) -> Downlink:
    """A client's frame as a request, whatever it is: keys in any case, faulty ones with their `problem`."""
    text = frame if isinstance(frame, str) else frame.decode(errors="replace")
    try:
        told: object = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return Downlink(text=text, problem=NOT_JSON)
    if not isinstance(told, dict):
        return Downlink(text=text, problem=NOT_OBJECT)
    known: dict[str, object] = {"text": text}
    wrong = ""
    for key, value in told.items():
        name, kind = _REQUEST.get(str(key).lower(), ("", str))
        if not name or value is None:
            continue
        if type(value) is kind:  # not isinstance: JSON's true is no port
            known[name] = value
        else:
            wrong = f"{key} has the wrong type"
    downlink = msgspec.convert(known, Downlink)
    return msgspec.structs.replace(downlink, problem=wrong or _problem(downlink))


def _problem(downlink: Downlink) -> str:
    """Why a request cannot be carried out, as far as it tells without knowing the devices."""
    required = {
        "function": downlink.function,
        "AppEui": downlink.app_eui,
        "DevEUI": downlink.dev_eui,
        "Port": downlink.port is not None,
    }
    if missing := [name for name, told in required.items() if not told]:
        return f"{', '.join(missing)} missing"
    if downlink.function != "TX":
        return f"unknown function {downlink.function}"
    if not 1 <= (downlink.port or 0) <= 223:  # the application ports of LoRaWAN
        return "Port is out of range 1..223"
    if not downlink.raw and not _HEX.fullmatch(downlink.payload):
        return "Payload is not hex"
    if len(downlink.hex) > 2 * _MAX_PAYLOAD:
        return f"Payload is longer than {_MAX_PAYLOAD} bytes"
    return ""


def reply(downlink: Downlink, *, named: bool = True) -> str:
    """The answer to a request; its Reference only if it has one. named False: fault `reply_without_reference`."""
    fields = {
        "Result": "Fail" if downlink.problem else "Success",
        "Details": f"{OURS}{downlink.problem}" if downlink.problem else "",
    }
    if downlink.reference and named:
        fields["Reference"] = downlink.reference
    return msgspec.json.encode(fields).decode()
