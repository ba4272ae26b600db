"""A session of IoT Pro in its states, and frames to say to it."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from bridge.backends.iotpro import PLATFORM
from bridge.backends.iotpro.options import IotproOptions
from bridge.backends.iotpro.session import IotproSession
from bridge.backends.session import Answer, Call, Send, Step
from bridge.model import Command, Event, Instant, Response, State
from bridge.options import Secret, from_text, revealed
from bridge.times import unix
from tests.backends.samples_iotpro import IOTPRO_BUOY, IOTPRO_LOGIN, IOTPRO_SUBJECT

EPOCH = 1_709_622_990.0
MS = 1_709_622_990_000
LATITUDE, DEVICE = "telemetry_param_latitude", "device_id"
FIRST = 1_000_001
Values = Mapping[str, tuple[int | None, str]]
BUOY, SUBJECT = IOTPRO_BUOY, IOTPRO_SUBJECT


def at(seconds: float) -> Instant:
    return Instant(1000.0 + seconds, EPOCH + seconds)


def options(**changes: Any) -> IotproOptions:
    usual: dict[str, Any] = {
        "url": "https://iotpro.example", "username": "bridge", "password": Secret("pass word"),
        "keys": (DEVICE, LATITUDE), "attributes": ("assetDetails",), "text_keys": (DEVICE,),
    }  # fmt: skip
    return IotproOptions(**{**usual, **changes})


def fresh(**changes: Any) -> IotproSession:
    return IotproSession(options(**changes))


def started(memory: bytes | None = None, seen: Instant | None = None, **changes: Any) -> IotproSession:
    """Logged in, its socket open, nothing told."""
    session = fresh(**changes)
    session.started(memory, seen, at(0))
    session.answered("login-1", IOTPRO_LOGIN, at(0))
    session.opened("main", at(0))
    return session


def talking(*items: dict[str, Any], **changes: Any) -> IotproSession:
    """In step, with these assets (none given: one buoy)."""
    session = started(**changes)
    told(session, page(*(items or (item(),))))
    return session


def item(
    name: str = "Harbour Buoy 12",
    id_: str = BUOY,
    *,
    profile: str = "sea-buoy",
    attributes: Values | None = None,
    values: Values | None = None,
) -> dict[str, Any]:
    """An asset of a page; values: (milliseconds after MS, None: 0; text)."""
    fields = {"name": name, "type": profile, "label": "HB12", "createdTime": "1700000000000"}
    latest: dict[str, Any] = {"ENTITY_FIELD": {key: {"ts": MS, "value": value} for key, value in fields.items()}}
    latest["TIME_SERIES"] = points(values or {})
    if attributes is not None:
        latest["SERVER_ATTRIBUTE"] = points(attributes)
    return {"entityId": {"entityType": "ASSET", "id": id_}, "latest": latest, "timeseries": {}, "aggLatest": {}}


def stamped(told: dict[str, Any], ms: int, created: int | None = None) -> dict[str, Any]:
    """An item that was read when the platform's clock was there; created: when its asset was, after MS."""
    fields = told["latest"]["ENTITY_FIELD"]
    for one in fields.values():
        one["ts"] = MS + ms
    if created is not None:
        fields["createdTime"]["value"] = str(MS + created)
    return told


def points(values: Values) -> dict[str, Any]:
    return {key: {"ts": 0 if ms is None else MS + ms, "value": value} for key, (ms, value) in values.items()}


def lat(ms: int | None, value: str = "1.5") -> dict[str, tuple[int | None, str]]:
    return {LATITUDE: (ms, value)}


def page(*items: dict[str, Any], cmd: int = FIRST, pages: int = 1, more: bool = False) -> dict[str, Any]:
    data = {"data": list(items), "totalPages": pages, "totalElements": len(items), "hasNext": more}
    return frame(cmd, data, None)


def update(values: Values, id_: str = BUOY, *, cmd: int = FIRST, bucket: str = "TIME_SERIES") -> dict[str, Any]:
    one = {
        "entityId": {"entityType": "ASSET", "id": id_}, "latest": {bucket: points(values)}, "timeseries": None,
        "aggLatest": None,
    }  # fmt: skip
    return frame(cmd, None, [one])


def frame(cmd: int, data: Any, changed: Any) -> dict[str, Any]:
    return {
        "cmdId": cmd, "data": data, "update": changed, "errorCode": 0, "errorMsg": None, "allowedEntities": 10_000,
        "cmdUpdateType": "ENTITY_DATA",
    }  # fmt: skip


def error(code: int, words: str, number: int = FIRST) -> dict[str, Any]:
    return {"subscriptionId": number, "errorCode": code, "errorMsg": words, "data": None, "latestValues": {}}


def told(session: IotproSession, message: dict[str, Any], seconds: float = 1.0) -> Step:
    return session.received("main", json.dumps(message).encode(), at(seconds))


def events(step: Step, kind: str = "telemetry") -> list[tuple[str, int, dict[str, Any]]]:
    """Subject, milliseconds after MS, values of each event of a type."""
    found = []
    for heard in step.heard:
        if isinstance(heard, Event) and heard.type == kind:
            data: Any = heard.data
            found.append((heard.subject, millis(heard.time), data.values))
    return found


def millis(time: str | None) -> int:
    """2024-03-05T07:16:30 is MS."""
    return round(unix(time or "") * 1000) - MS


def states(step: Step) -> list[tuple[str, Any]]:
    """Subject and values of each state; None: it is gone."""
    return [
        (heard.subject, heard.data and heard.data.values)  # type: ignore[union-attr]
        for heard in step.heard
        if isinstance(heard, State)
    ]


def responses(step: Step) -> list[tuple[str, int]]:
    return [(heard.command, heard.code) for heard in step.heard if isinstance(heard, Response)]


def gaps(step: Step) -> list[str]:
    """How the backfill of each gap stands."""
    return [
        str(getattr(heard.data, "backfill", ""))
        for heard in step.heard
        if isinstance(heard, Event) and heard.type == "gap"
    ]


def sent(step: Step) -> list[Any]:
    """The frames that go out."""
    return [json.loads(revealed(do.frame)) for do in step.do if isinstance(do, Send)]


def commands(step: Step) -> list[tuple[int, str]]:
    """Number and type of the platform commands that go out."""
    return [(one["cmdId"], one["type"]) for told in sent(step) for one in told["cmds"]]


def calls(step: Step) -> list[Call]:
    return [do for do in step.do if isinstance(do, Call)]


def command(name: str, subject: str = SUBJECT, *, key: str = "c1", seconds: float = 0.0, **fields: Any) -> Command:
    spec = next(spec for spec in PLATFORM.commands if spec.name == name)
    body = msgspec.convert(fields, spec.body, dec_hook=from_text)
    return Command(key, name, subject if spec.subject else "", body, 1010.0 + seconds, 1010.0 + seconds)


def history(values: Mapping[str, list[tuple[int, str]]]) -> Answer:
    """An answer of time series; milliseconds after MS."""
    told = {key: [{"ts": MS + ms, "value": value} for ms, value in one] for key, one in values.items()}
    return Answer(200, json.dumps(told).encode())
