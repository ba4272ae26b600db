"""A simulated building's things as the platform's JSON, in the shapes that options and faults ask for."""

from collections.abc import Callable
from typing import Any

from bridge.simulators.smartserver_options import Faults
from bridge.simulators.smartserver_world import SID, Device, Point, local, utc


def device(one: Device, faults: Faults, *, short: bool = False) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": one.name, "category": "EDGE", "id": _id(one.id, faults),
        "status": {"state": one.state, "health": one.health, "connection": "connected", "action": None,
                   "product": one.type, "wasProvisioned": True, "createdOnGlp": True},
        "scName": "SmartServer IoT", "scId": SID, "scState": "provisioned", "uid": one.uid, "protocol": one.protocol,
        "typeId": 341, "deviceTypeName": one.type, "DID": one.did,
    }  # fmt: skip
    if not short:
        told |= {"installationDate": "2025-01-07", "contexts": [], "latitude": 48.1, "longitude": 11.6}
    return told | ({"warranty": "2030"} if faults.extra_fields else {})


def update(point: Point, faults: Faults, *, stamped: bool) -> dict[str, Any]:
    """An element of UPD:DATAPOINT."""
    told: dict[str, Any] = {
        "datapointQualifier": point.qualifier,
        "value": point.value,
        "locValue": point.value,
        "presetValue": point.preset,
    }
    if stamped:
        told["timestamp"] = utc(point.at, "Z[UTC]" if point.at % 3 == 0 else "Z")
    return told | ({"quality": 192} if faults.extra_fields else {})


def datapoint(point: Point, faults: Faults, *, whole: bool = False) -> dict[str, Any]:
    """By REST; whole: with all its properties."""
    told: dict[str, Any] = {
        **_parts(point, faults),
        "deviceHealth": point.device.health,
        "utc": utc(point.at, "Z[UTC]"),
        "local": local(point.at),
        "value": point.value,
        "locValue": point.value,
        "presetValue": point.preset,
    }
    if whole:
        told |= {
            "cat": point.cat,
            "type": point.type,
            "values": {"level": point.level, "levels": {str(k): v for k, v in sorted(point.levels.items())}},
            "monitor": {"rate": 0, "report": "change"},
        }
        if point.unit:
            told["lon"] = {"cfg": {"unit": point.unit}}
    return told


def entry(point: Point, at: int, value: Any, number: int, faults: Faults) -> dict[str, Any]:
    """Of a data log."""
    return {
        "id": number, **_parts(point, faults), "utc": utc(at, "Z[UTC]"), "local": local(at),
        "deviceHealth": "normal", "value": value, "localizedValue": value, "tags": ["level1"],
    }  # fmt: skip


def _parts(point: Point, faults: Faults) -> dict[str, Any]:
    return {
        "deviceId": _id(point.device.id, faults), "deviceName": point.device.name, "blockName": point.block,
        "blockIndex": _id(point.index, faults), "datapointName": point.name, "name": point.name,
        "dpQualifier": point.qualifier,
    }  # fmt: skip


def _id(number: int, faults: Faults) -> int | str:
    return str(number) if faults.text_ids else number


def element(text: str, id_: object, name: str, xif: str) -> bool:
    """Whether a thing fits an element of a path, read: `*`, `*+name==…`, `*+xifName==…`, an id or a name."""
    if text == "*":
        return True
    checks: dict[str, Callable[[str], bool]] = {
        "*+name==": lambda told: told == name,
        "*+xifName==": lambda told: told == xif,
    }
    for prefix, check in checks.items():
        if text.startswith(prefix):
            return check(text.removeprefix(prefix))
    return text in (str(id_), name)
