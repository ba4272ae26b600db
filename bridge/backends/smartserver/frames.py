"""What the general purpose WebSocket says, read into typed values (wiki, "IAP/WS API", list of update types).

Each frame is `{"action": …, "payload": …}`. The wiki shows no frame in full, so shapes are taken widely: one object or
a list of them, ids as numbers or text, further fields kept. An action that is not known is passed on as it is.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from bridge.backends.reading import Object, canonical
from bridge.backends.reading import read as read_json
from bridge.backends.smartserver import names
from bridge.backends.smartserver.alarm import Alarm, alarm
from bridge.backends.smartserver.data import Join, Load, Monitoring, Notification, Tested, Time
from bridge.backends.smartserver.device import Device, device
from bridge.backends.smartserver.fields import Fields, Id, WrongShape, key
from bridge.backends.smartserver.moments import moment
from bridge.model import Unread


class Update(Struct, frozen=True):
    """A datapoint's value, from a socket, an answer or a log. time: RFC 3339 UTC, None: not told."""

    qualifier: str
    subject: str
    value: Any
    values: Any = None
    preset: Any = None
    localized: Any = None
    unit: str | None = None
    priority: int | None = None
    time: str | None = None
    extra: Object | None = None


class Gone(Struct, frozen=True):
    """What a DEL:… names, by id; nothing: it is not told what."""

    kind: str
    ids: tuple[Id, ...]
    extra: Object | None = None


class Test(Struct, frozen=True):
    """The result of a device's test."""

    device: str
    data: Tested
    extra: Object | None = None


class Other(Struct, frozen=True):
    """An event without a subject."""

    type: str
    data: Struct | Raw
    time: str | None = None
    extra: Object | None = None
    told: bytes | None = None


Told = Update | Device | Gone | Test | Alarm | Other
_ENVELOPE = ("action", "payload")
_PARTS = ("deviceId", "blockName", "blockIndex", "datapointName", "local", "utc", "timestamp")


def read(frame: bytes) -> tuple[list[Told], list[Unread]]:
    """What a frame tells, and what of it cannot be read: a frame with anything of a wrong shape is there once."""
    told: list[Told] = []
    unread: list[Unread] = []
    for message in read_json(frame):
        if isinstance(message, Unread):
            unread.append(message)
            continue
        good, bad = of_message(message)
        told += good
        if bad and (not unread or unread[-1].frame is not frame):
            unread.append(Unread("wrong_shape", frame))
    return told, unread


def read_entry(frame: bytes) -> tuple[list[Told], list[Unread]]:
    """As read(), of a data log's socket: entries have no envelope."""
    told: list[Told] = []
    unread: list[Unread] = []
    for message in read_json(frame):
        if isinstance(message, Unread):
            unread.append(message)
        elif "action" in message:
            good, bad = of_message(message)
            told += good
            unread += [Unread("wrong_shape", frame)] if bad else []
        else:
            try:
                told.append(update(message))
            except WrongShape:
                unread.append(Unread("wrong_shape", frame))
    return told, unread


def of_message(message: Object) -> tuple[list[Told], bool]:
    """What one message tells, and whether something in it had a wrong shape."""
    action = message.get("action")
    reader = _READERS.get(action) if isinstance(action, str) else None
    if reader is None or not isinstance(action, str):
        return [Other("unknown", Raw(msgspec.json.encode(message)), told=canonical(message))], False
    more = {name: value for name, value in message.items() if name not in _ENVELOPE} or None
    told: list[Told] = []
    bad = False
    for one in reader.parts(message.get("payload")):
        try:
            found = reader.read(action, one)
        except WrongShape:
            bad = True
            continue
        told.append(_with(found, more) if more else found)
    return told, bad


def _with(told: Told, more: Object) -> Told:
    """With what stood beside the payload."""
    return msgspec.structs.replace(told, extra={**more, **(told.extra or {})})


def update(told: object) -> Update:
    """A datapoint update, the datapoint object of an answer, or an entry of a log. Raises WrongShape."""
    fields = Fields(told)
    qualifier = fields.take("datapointQualifier", "dpQualifier")
    subject = names.subject(qualifier) if isinstance(qualifier, str) else None
    if subject is None:
        raise WrongShape("datapointQualifier")
    time = next((at for name in ("timestamp", "utc", "local") if (at := _at(fields, name))), None)
    levels = fields.inner("values")
    priority = fields.take("priority")
    level = levels.take("level")
    priority = level if priority is None else priority
    return Update(
        qualifier,
        subject,
        fields.take("value"),
        values=levels.take("levels") or levels.left(),
        preset=fields.take("presetValue"),
        localized=fields.take("locValue", "localizedValue"),
        unit=_unit(fields),
        priority=priority if type(priority) is int else None,
        time=time,
        extra=_left(fields, time),
    )


def _at(fields: Fields, name: str) -> str | None:
    """Times of datapoints are UTC where they name no zone: the socket's (vendor's page) and the log's alike."""
    return moment(fields.peek(name), zone="" if name == "local" else "UTC")


def _unit(fields: Fields) -> str | None:
    told = fields.take("unit")
    if told is None:
        cfg = fields.inner("lon").inner("cfg")
        told = cfg.take("unit")
    return told if isinstance(told, str) and told else None


def _left(fields: Fields, time: str | None) -> Object | None:
    """Without what the subject and the time say already."""
    fields.drop(*(_PARTS if time else _PARTS[:4]))
    return fields.left()


def _update(_: str, told: object) -> Update:
    return update(told)


def _device(_: str, told: object) -> Device:
    return device(told)


def _removed(_: str, told: object) -> Gone:
    return _gone("device", told)


def _cleared(_: str, told: object) -> Gone:
    return _gone("alarm", told)


def _gone(kind: str, told: object) -> Gone:
    """By a bare id, a list of them, or objects that have one."""
    ids: list[Id] = []
    for one in told if isinstance(told, list) else [told]:
        named: Any = one.get("id") if isinstance(one, dict) else one
        if key(named):
            ids.append(named)
        elif named is not None:
            raise WrongShape("id")
    more = {name: value for name, value in told.items() if name != "id"} if isinstance(told, dict) else None
    return Gone(kind, tuple(ids), more or None)


def _alarm(_: str, told: object) -> Alarm | Gone:
    """One without an id, or with nothing else, tells only that there is something: the alarms are read again."""
    if told is None or key(told):
        return Gone("alarm", ())
    if isinstance(told, dict):
        says = {name for name, value in told.items() if value is not None}
        if not key(told.get("id")) or says == {"id"}:
            return Gone("alarm", ())
    return alarm(told)


def _test(_: str, told: object) -> Test:
    """Passed: "Configured Online" (LON), or provisioned and not down, without an error (vendor's page)."""
    fields = Fields(told)
    device, inside = fields.id("deviceId"), fields.take("results")
    results = Fields({} if inside is None else inside)
    state, health, error = results.text("state"), results.text("health"), results.text("error")
    usable = state == "Configured Online" or (state == "provisioned" and health in (None, "normal"))
    data = Tested("passed" if usable and not error else "failed", state, health, error, device)
    left = {**(results.left() or {}), **(fields.left() or {})}
    return Test(key(device), data, left or None)


def _notification(_: str, told: object) -> Other:
    if isinstance(told, str):
        return Other("notification", Notification(told))
    fields = Fields(told)
    data = Notification(fields.text("message"), fields.text("targetType"), fields.text("targetName"))
    return Other("notification", data, _moment(fields), fields.left())


def _join(_: str, told: object) -> Other:
    fields = Fields(told)
    data = Join(fields.text("uid"), fields.text("type"), fields.text("protocol"))
    return Other("join", data, _moment(fields), fields.left())


def _moment(fields: Fields) -> str | None:
    """Of a notification or a join, which have none in any release that is known."""
    told = fields.take("timestamp")
    time = moment(told)
    if time is None:
        fields.keep("timestamp", told)
    return time


def _monitoring(_: str, told: object) -> Other:
    fields = Fields(told if isinstance(told, dict) else {"active": told})
    active = fields.take("active")
    active = {"true": True, "false": False}.get(active.lower()) if isinstance(active, str) else active
    if not isinstance(active, bool):
        raise WrongShape("active")
    return Other("monitoring", Monitoring(active), extra=fields.left())


def _time(_: str, told: object) -> Other:
    fields = Fields(told if isinstance(told, dict) else {"value": told})
    value = fields.text("value")
    if value is None:
        raise WrongShape("value")
    return Other("time", Time(value), moment(value), fields.left())


def _load(action: str, told: object) -> Other:
    if not isinstance(told, int | float | dict) or isinstance(told, bool):
        raise WrongShape("payload")
    return Other("load", Load(action.removeprefix("UPD:").lower().replace(":", "_"), told))


def _each(payload: object) -> Iterator[object]:
    """The members of a list, or the lone one that needs none."""
    if isinstance(payload, list):
        yield from payload
    else:
        yield payload


def _whole(payload: object) -> Iterator[object]:
    yield payload


class _Reader(Struct, frozen=True):
    read: Callable[[str, Any], Told]
    parts: Callable[[object], Iterator[object]] = _each


_READERS: dict[str, _Reader] = {
    "UPD:DATAPOINT": _Reader(_update),
    "UPD:DEVICE": _Reader(_device),
    "CRT:DEVICE": _Reader(_device),
    "DEL:DEVICE": _Reader(_removed, _whole),
    "UPD:DEVICE_TEST_RESULT": _Reader(_test),
    "CRT:ALARM": _Reader(_alarm),
    "UPD:ALARM": _Reader(_alarm),
    "DEL:ALARM": _Reader(_cleared, _whole),
    "CRT:NOTIFICATION": _Reader(_notification),
    "NTF:JOIN": _Reader(_join),
    "NTF:TIME": _Reader(_time, _whole),
    "UPD:MONITORINGSTATE": _Reader(_monitoring, _whole),
    **{f"UPD:{kind}": _Reader(_load, _whole) for kind in ("CPU", "SC:CPU", "EPS", "TOTAL_EPS", "SC:EPS", "SC:MEMORY")},
}
