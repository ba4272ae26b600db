"""What an event's data says, in words: the known kinds by a sentence of their own, all others as `key=value`.

Values of strangers may have any shape: every function here takes what it can use and leaves the rest to the next.
"""

from collections.abc import Callable, Iterator
from typing import Any

from bridge.topics import text_of
from bridge.viewer.reading import Place

_GOOD = {"online", "in", "succeeded", "sent", "accepted", "normal"}
_BAD = {"offline", "out", "auth_failed", "failed", "rejected", "expired", "down"}
_PREFIX = "telemetry_param_"  # of most keys of a platform's assets
_VALUE = 60  # characters of one value
_TEXT = 200
_MANY = 24  # values in one line
_DEEP = 3

Data = dict[str, Any]


def mark(where: Place, data: Any) -> str:
    """`● online`, `○ offline`, `◐ connecting` for what has a state or a status, else nothing."""
    if not isinstance(data, dict):
        return ""
    if where.role == "response":
        word = data.get("status")
    elif where.role in ("state", "bridge"):
        word = data.get("state") or data.get("presence")
        word = data.get("health") or word if word == "provisioned" else word
    else:
        return "!" if where.role == "event" and where.name == "gap" else ""
    if not isinstance(word, str) or not word:
        return ""
    return f"{'●' if word in _GOOD else '○' if word in _BAD else '◐'} {word[:_VALUE]}"


def details(where: Place, data: Any) -> list[str]:
    """The data's pieces, the important ones first."""
    if not isinstance(data, dict):
        return [] if data is None else [value(data)]
    facts = {key if isinstance(key, str) else value(key): one for key, one in data.items()}
    if where.role == "event":
        own = _EVENTS.get(where.name, _generic)
    elif where.role == "response":
        own = _response
    elif where.role == "state" and isinstance(facts.get("values"), dict) and "attributes" in facts:
        own = _values
    else:
        own = _state if where.of_backend or where.role == "state" else _generic
    told = {where.name, *(text_of(level) for level in where.subject.split("/"))}  # that is in the line already
    rest = {key: one for key, one in facts.items() if not (isinstance(one, str) and one in told)}
    return [piece for piece, _ in zip(own(rest), range(_MANY), strict=False)]


def value(one: Any, depth: int = 0) -> str:
    """A value in short: numbers and texts as they are, lists and maps as `[…]` and `{…}`, cut."""
    match one:
        case str():
            text = one[: _VALUE + 1]
        case bool() | None:
            text = {True: "true", False: "false", None: "null"}[one]
        case int() | float():
            text = number(one)
        case bytes():
            text = one[:_VALUE].hex()
        case dict() if depth < _DEEP:
            text = "{" + " ".join(_pair(key, item, depth) for key, item in list(one.items())[:8]) + "}"
        case list() | tuple() if depth < _DEEP:
            text = "[" + " ".join(value(item, depth + 1) for item in one[:8]) + (" …]" if len(one) > 8 else "]")
        case _:
            text = "…"
    return text if len(text) <= _VALUE else f"{text[: _VALUE - 1]}…"


def number(one: float) -> str:
    """Without needless digits: 868.5, 21, 0.001."""
    try:
        return f"{one:.6g}" if isinstance(one, float) and abs(one) < 1e9 else f"{one}"
    except ValueError:  # an int of more than 4,300 digits
        return "…"


def _pair(key: Any, one: Any, depth: int) -> str:
    return f"{value(key, depth)}={value(one, depth + 1)}"


def _generic(data: Data) -> Iterator[str]:
    """`key=value`; maps are opened one level deep, empty values left out."""
    for key, one in data.items():
        if isinstance(one, dict) and one:
            yield from (f"{value(key)}.{_pair(inner, item, 1)}" for inner, item in one.items())
        elif one not in (None, "", [], {}):
            yield _pair(key, one, 0)


def _radio(data: Data) -> Iterator[str]:
    """Up- and downlinks of LoRaWAN: `port 5  #42  0100e60252  -87 dBm  SNR 6.2  SF9 868.5 MHz`."""
    yield from _some(data, port="f_port", stage="stage")
    if (count := _number(data.get("f_cnt"))) is not None:
        yield f"#{number(count)}"
    yield from _texts(data, "payload_hex", "reference", "command")
    if data.get("confirmed") is True:
        yield "confirmed"
    heard = data.get("rx_info")
    if isinstance(heard, list) and heard and isinstance(first := heard[0], dict):
        yield from _signal(first)
        if len(heard) > 1:
            yield f"by {len(heard)} gateways"
    yield from _air(data)
    yield from (f"{name} {value(data[name])}" for name in ("error",) if data.get(name))


def _signal(heard: Data) -> Iterator[str]:
    if (rssi := _number(heard.get("rssi_dbm"))) is not None:
        yield f"{number(rssi)} dBm"
    if (snr := _number(heard.get("snr_db"))) is not None:
        yield f"SNR {number(snr)}"


def _air(data: Data) -> Iterator[str]:
    spreading, hertz = _number(data.get("spreading_factor")), _number(data.get("frequency_hz"))
    both = [f"SF{number(spreading)}"] if spreading is not None else []
    if hertz is not None:
        both.append(f"{hertz / 1e6:g} MHz")
    if both:
        yield " ".join(both)


def _values(data: Data) -> Iterator[str]:
    """Keys and values of an asset, without saying again which asset it is: `at 35.918181 14.434454  battery=92`."""
    inner = data.get("values")
    if not isinstance(inner, dict):
        yield from _generic(data)
        return
    short = {key.removeprefix(_PREFIX) if isinstance(key, str) else key: one for key, one in inner.items()}
    place = [_number(short.get(name)) for name in ("latitude", "longitude")]
    if None not in place:
        yield "at " + " ".join(f"{one:.6f}" for one in place)
        short = {key: one for key, one in short.items() if key not in ("latitude", "longitude")}
    yield from (_pair(key, one, 0) for key, one in short.items())


def _point(data: Data) -> Iterator[str]:
    """A data point: `21.5 lux`, then what else is told."""
    if "value" not in data:
        yield from _generic(data)
        return
    unit = data.get("unit")
    yield (f"{value(data['value'])} {unit[:_VALUE]}" if isinstance(unit, str) and unit else value(data["value"]))
    said = ("value", "unit", "datapoint", "localized")
    yield from _generic({key: one for key, one in data.items() if key not in said})


def _call(data: Data) -> Iterator[str]:
    """Who is on the phone: `Anna Berg 7001 — +15550100  in Main`; ids are for programs."""
    legs = [" ".join(_texts(data, f"callerIdName{leg}", f"callerIdNumber{leg}")) for leg in ("", "1", "2")]
    if not any(legs):
        yield from _generic(data)
        return
    yield " — ".join(filter(None, legs))
    yield from (f"in {value(data[key])}" for key in ("conferenceRoomName",) if data.get(key))


def _login(data: Data) -> Iterator[str]:
    """Of a user: where from."""
    yield from [f"from {value(data['ip'])}"] if data.get("ip") else _generic(data)


def _gap(data: Data) -> Iterator[str]:
    """`blind from 07:16:30 to 07:17:02: connection lost  backfill started`."""
    since, until = (text[11:19] if isinstance(text := data.get(end), str) else "?" for end in ("from", "to"))
    yield f"blind from {since} to {until} UTC"
    yield from _texts(data, "reason")
    if isinstance(backfill := data.get("backfill"), str) and backfill != "none":
        yield f"backfill {backfill[:_VALUE]}"


def _alarm(data: Data) -> Iterator[str]:
    """`raised  Device MS-Lobby is down  severity=Major Fault …`."""
    yield from _texts(data, "change", "text", length=_TEXT)
    said = ("change", "text", "time", "extra", "state", "target")
    yield from _generic({key: one for key, one in data.items() if key not in said})


def _state(data: Data) -> Iterator[str]:
    """What is beside the state itself: the error first, then the rest; of a data point its value."""
    if data.keys() == {"value", "time"}:
        yield value(data["value"])
        return
    yield from _texts(data, "error", length=_TEXT)
    if isinstance(again := data.get("next_retry"), str):
        yield f"next try {again[11:19]} UTC"
    if attempt := _number(data.get("attempt")):
        yield f"attempt {number(attempt)}"
    said = {"state", "presence", "error", "next_retry", "attempt", "since", "session", "time"}
    yield from _generic({key: one for key, one in data.items() if key not in said})


def _response(data: Data) -> Iterator[str]:
    yield from (value(data[key]) for key in ("code",) if key in data)
    if isinstance(error := data.get("error"), dict):
        yield from _texts(error, "field", "message", length=_TEXT)
    elif error:
        yield value(error)
    if isinstance(inner := data.get("data"), dict):
        yield from _generic(inner)
    yield from (f"id={value(data[key])}" for key in ("id",) if data.get(key))


def _some(data: Data, **keys: str) -> Iterator[str]:
    """`word value` for the keys that are there."""
    yield from (f"{word} {value(data[key])}" for word, key in keys.items() if data.get(key) not in (None, ""))


def _texts(data: Data, *keys: str, length: int = _VALUE) -> Iterator[str]:
    """The texts under these keys, as they are."""
    for key in keys:
        if isinstance(text := data.get(key), str) and text:
            yield text if len(text) <= length else f"{text[: length - 1]}…"


def _number(one: Any) -> float | None:
    return one if isinstance(one, int | float) and not isinstance(one, bool) and abs(one) < 1e15 else None


def _radio_or_generic(data: Data) -> Iterator[str]:
    """Another platform may call its events the same."""
    return _radio(data) if data.keys() & {"f_port", "f_cnt", "payload_hex", "stage"} else _generic(data)


_EVENTS: dict[str, Callable[[Data], Iterator[str]]] = {
    "up": _radio_or_generic,
    "tx": _radio_or_generic,
    "txack": _radio_or_generic,
    "telemetry": _values,
    "attributes": _values,
    "value": _point,
    "log": _point,
    "gap": _gap,
    "userLogin": _login,
    "userLogout": _login,
    **dict.fromkeys(("dial", "linkStart", "linkEnd", "hangup", "confRoomCallJoin", "confRoomCallLeave"), _call),
    "alarm": _alarm,
}
