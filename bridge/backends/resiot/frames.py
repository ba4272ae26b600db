"""What ResIOT says, read into typed values (ResIOT docs, Websocket Server).

The page contradicts itself, so each of its spellings is accepted: CommType or MsgType, DevEui or DevEUI in any case,
ports and numbers as text, `Extra` as map, as list of {fieldname, fieldvalue}, or as text that holds JSON. What has no
name in our data goes to `extra` under the platform's own name; a known field of a wrong JSON type is WrongShape.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from bridge.backends.reading import Object, canonical
from bridge.backends.resiot.data import Ack, Alive, Downlinked, RxInfo, TxAck, Uplink
from bridge.backends.resiot.values import (
    base64_of,
    boolean,
    decoded,
    hertz_of_kilo,
    hertz_of_mega,
    number,
    number_or_whole,
    pairs,
    text,
    whole,
)
from bridge.times import utc

T = TypeVar("T")

KINDS = {
    "comm_rx": "up",
    "comm_join": "join",
    "comm_tx": "tx",
    "comm_gwtx": "txack",
    "comm_txinfo": "txack",
    "comm_txsendack": "txack",
    "comm_sendack": "txack",  # the MQTT downlink page spells it so once
    "comm_txsendconfirm": "txack",
    "tx_confirm": "ack",
    "comm_tx_confirm": "ack",
    "comm_txconfirm": "ack",
    "comm_gwalive": "alive",
    "comm_gwrx": "rx",
}
_BY_GATEWAY = {"up", "join", "rx", "alive"}
_STAGES = {"comm_sendack": "comm_txsendack"}
_NOTHING: tuple[object, ...] = (None, "", [], {})


class Reply(Struct, frozen=True):
    """The answer to a downlink command; details: the platform's words; reference "": not told."""

    success: bool
    details: str
    reference: str


class Communication(Struct, frozen=True):
    """One communication: kind ("up" … or "unknown"), ids in lower case, when it was, what it says.

    dev_eui, app_eui, reference: "" where not told · data: one Struct per event to make (of gateway kinds: one per
    gateway, in the order of `gateways`) · told: of unknown kinds, what identity is made of.
    """

    kind: str
    app_eui: str
    dev_eui: str
    gateways: tuple[str, ...]
    reference: str
    time: str | None
    data: tuple[Struct | Raw, ...]
    extra: Object | None = None
    told: bytes | None = None


class WrongShape(Exception):
    """A known field of a wrong JSON type; its name."""


def read(message: Object) -> Communication | Reply:
    """A message of the platform. Raises WrongShape."""
    fields = _Fields(message)
    kind = fields.kind()
    if kind is None:
        return _reply(fields) if "result" in fields.known else unknown(message, fields)
    name = KINDS.get(kind)
    if name is None:
        return unknown(message, fields)
    app_eui, dev_eui = ("", "") if name == "alive" else (fields.eui("appeui"), fields.eui("deveui"))
    gateways = fields.gateways() if name in _BY_GATEWAY else ()
    reference = "" if name in _BY_GATEWAY else fields.text("reference")
    time = fields.time()
    heard = _Heard(kind, app_eui or None, dev_eui or None, gateways, reference or None, fields)
    data = _DATA[name](heard)
    return Communication(name, app_eui, dev_eui, gateways, reference, time, data, fields.left())


def unknown(message: Object, fields: "_Fields | None" = None) -> Communication:
    """A message of a kind we do not know, passed on as it is."""
    moment = (fields or _Fields(message)).known.get("dt")
    time = utc(moment) if isinstance(moment, str) else None
    return Communication("unknown", "", "", (), "", time, (Raw(msgspec.json.encode(message)),), told=canonical(message))


def _reply(fields: "_Fields") -> Reply:
    result = fields.text("result").lower()
    if result not in ("success", "fail"):
        raise WrongShape("Result")
    return Reply(result == "success", fields.text("details"), fields.text("reference"))


class _Fields:
    """One message's fields, taken one by one; what nobody takes is left for `extra`."""

    __slots__ = ("extra", "known", "message", "more")

    def __init__(self, message: Object) -> None:
        self.message = message
        self.known: Object = {}  # by lower-case name: the first that says something wins
        self.extra: Object = {}
        for key, value in message.items():
            name = key.lower()
            if name not in self.known or self.known[name] in _NOTHING:
                self.known[name] = value
            elif value not in _NOTHING and value != self.known[name]:
                self.extra[key] = value
        more = self.known.pop("extra", None)
        if isinstance(more, str) and (held := decoded(more)) is not None:
            more = held
        self.more = pairs(more) or {}
        if not self.more and more not in _NOTHING:
            self.keep("Extra", more)

    def keep(self, name: str, value: object) -> None:
        """For `extra`; a name that another spelling has taken gets an underscore."""
        while name in self.extra:
            name += "_"
        self.extra[name] = value

    def kind(self) -> str | None:
        """CommType, or MsgType where there is none, in lower case."""
        one, other = self.known.pop("commtype", None), self.known.pop("msgtype", None)
        if one in _NOTHING:
            one = other
        elif other not in _NOTHING and other != one:
            self.keep("MsgType", other)
        return one.lower() if isinstance(one, str) and one else None

    def text(self, name: str) -> str:
        value = self.known.pop(name, None)
        if isinstance(value, str):
            return value
        if value in _NOTHING:
            return ""
        raise WrongShape(name)

    def eui(self, name: str) -> str:
        return self.text(name).lower()

    def time(self) -> str | None:
        """In our form; what cannot be read is kept as `DT`, Go's zero time means none."""
        moment = self.text("dt")
        time = utc(moment) if moment else None
        if time is None and moment and not moment.startswith("0001-01-01"):
            self.keep("DT", moment)
        return time

    def gateways(self) -> tuple[str, ...]:
        value = self.known.pop("gatewayeuis", None)
        euis = [value] if isinstance(value, str) else [] if value in _NOTHING else value
        if not isinstance(euis, list) or not all(isinstance(eui, str) for eui in euis):
            raise WrongShape("GatewayEUIs")
        return tuple(dict.fromkeys(eui.lower() for eui in euis if eui))  # each once

    def payload(self) -> bytes | None:
        """The bytes; what is not hex is kept as `Payload`."""
        told = self.text("payload")
        if not told:
            return None
        try:
            if told.isalnum():  # bytes.fromhex would pass over white space
                return bytes.fromhex(told)
        except ValueError:
            pass
        self.keep("Payload", told)
        return None

    def port(self) -> int | None:
        """The FPort as a number; one outside 0..255 is kept as `Port`."""
        value = self.known.pop("port", None)
        if value in _NOTHING:
            return None
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise WrongShape("Port")
        port = whole(value)
        if port is None or not 0 <= port <= 255:
            self.keep("Port", value)
            return None
        return port

    def flag(self, name: str) -> bool | None:
        value = self.known.pop(name, None)
        if value in _NOTHING:
            return None
        if (told := boolean(value)) is None:
            raise WrongShape(name)
        return told

    def take(self, name: str, convert: Callable[[object], T | None]) -> T | None:
        """A value of `Extra`, converted; one that cannot be stays where it is."""
        value = self.more.get(name)
        if value is None or (told := convert(value)) is None:
            return None
        del self.more[name]
        return told

    def left(self) -> Object | None:
        """What nobody took, under the platform's own names."""
        if self.known:
            for key, value in self.message.items():
                if key.lower() in self.known and value not in _NOTHING:
                    self.extra[key] = value
        if self.more:
            twice = {key: value for key, value in self.more.items() if self.extra.get(key, value) != value}
            self.extra = {**self.more, **self.extra}
            if twice:
                self.keep("Extra", twice)
        return self.extra or None


class _Heard(Struct, frozen=True):
    """What every kind has, and the rest of the fields."""

    kind: str
    app_eui: str | None
    dev_eui: str | None
    gateways: tuple[str, ...]
    reference: str | None
    fields: _Fields


def _radio(heard: _Heard) -> list[RxInfo] | None:
    """One entry per gateway; the values that ResIOT gives once belong to the first one."""
    if (nested := _nested(heard.fields)) is not None:
        told = {info.gateway_eui for info in nested}
        return [*nested, *(RxInfo(eui) for eui in heard.gateways if eui not in told)]
    take = heard.fields.take
    rssi, snr, channel = take("rssi", number_or_whole), take("snr", number), take("channel", whole)
    euis = heard.gateways or (("",) if (rssi, snr, channel) != (None, None, None) else ())
    if not euis:
        return None
    return [RxInfo(euis[0], rssi, snr, channel), *map(RxInfo, euis[1:])]


def _nested(fields: _Fields) -> list[RxInfo] | None:
    """Newer installations put a list of gateways into `Extra`, often as text: [{"mac", "rssi", "loRaSNR", …}]."""
    for value in (*fields.more.values(), fields.extra.get("Extra")):
        items = decoded(value) if isinstance(value, str) else value
        if isinstance(items, list) and items and all(isinstance(i, dict) and text(i.get("mac")) for i in items):
            return [RxInfo(i["mac"].lower(), number_or_whole(i.get("rssi")), number(i.get("loRaSNR"))) for i in items]
    return None


def _uplink(heard: _Heard) -> Uplink:
    fields = heard.fields
    payload = fields.payload()
    return Uplink(
        dev_eui=heard.dev_eui,
        app_eui=heard.app_eui,
        f_port=fields.port(),
        f_cnt=fields.take("seqno", whole),
        payload=base64_of(payload),
        payload_hex=None if payload is None else payload.hex(),
        adr=fields.take("adr", boolean),
        duplicate=fields.take("duplicate", boolean),
        rx_info=_radio(heard),
        frequency_hz=fields.take("frequency", hertz_of_mega),
        bandwidth_hz=fields.take("modBW", hertz_of_kilo),
        spreading_factor=fields.take("sf", whole),
        connector=fields.text("connector") or None,
    )


def _up(heard: _Heard) -> tuple[Struct, ...]:
    return (_uplink(heard),)


def _rx(heard: _Heard) -> tuple[Struct, ...]:
    one = _uplink(heard)
    if not heard.gateways:
        return (one,)
    radio: dict[str, list[RxInfo]] = {}  # with two aerials a gateway has two
    for info in one.rx_info or ():
        radio.setdefault(info.gateway_eui, []).append(info)
    return tuple(msgspec.structs.replace(one, gateway_eui=eui, rx_info=radio.get(eui)) for eui in heard.gateways)


def _tx(heard: _Heard) -> tuple[Struct, ...]:
    fields = heard.fields
    payload = fields.payload()
    return (
        Downlinked(
            dev_eui=heard.dev_eui,
            app_eui=heard.app_eui,
            f_port=fields.port(),
            payload=base64_of(payload),
            payload_hex=None if payload is None else payload.hex(),
            reference=heard.reference,
            confirmed=fields.flag("confirmation"),
            command=fields.text("command") or None,
            priority=fields.take("priority", whole),
            window=fields.take("window", text),
            connector=fields.text("connector") or None,
        ),
    )


def _txack(heard: _Heard) -> tuple[Struct, ...]:
    fields = heard.fields
    return (
        TxAck(
            dev_eui=heard.dev_eui,
            app_eui=heard.app_eui,
            stage=_STAGES.get(heard.kind, heard.kind),
            reference=heard.reference,
            error=fields.text("error") or None,
            connector=fields.text("connector") or None,
        ),
    )


def _ack(heard: _Heard) -> tuple[Struct, ...]:
    connector = heard.fields.text("connector") or None
    return (Ack(heard.dev_eui, heard.app_eui, heard.reference, connector),)


def _alive(heard: _Heard) -> tuple[Struct, ...]:
    connector = heard.fields.text("connector") or None
    return tuple(Alive(eui, connector) for eui in heard.gateways) or (Alive(None, connector),)


_DATA: dict[str, Callable[[_Heard], tuple[Struct, ...]]] = {
    "up": _up,
    "join": _up,
    "tx": _tx,
    "txack": _txack,
    "ack": _ack,
    "alive": _alive,
    "rx": _rx,
}
