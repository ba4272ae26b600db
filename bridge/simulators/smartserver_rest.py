"""The REST side of a simulated SmartServer: what can be asked in a session, and what is answered.

Strict where a server would be: a path that does not exist is 404, a lower priority is stored and answered with 422, an
unescaped `*` is a wildcard. Effects (frames, device answers) are the server's: it is called back.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

from bridge.simulators.smartserver_door import Reply, Request
from bridge.simulators.smartserver_json import datapoint, device, element
from bridge.simulators.smartserver_options import Faults
from bridge.simulators.smartserver_world import NORMAL, SID, Device, Point, World, local, utc

NOT_FOUND = Reply.json({"message": "not found"}, 404)
NO_CONTENT = Reply(204)


class Effects(Protocol):
    """What the server does when something is asked."""

    faults: Faults
    world: World

    def now(self) -> int: ...
    def subscribe(self, request: Request, wanted: list[str]) -> Reply: ...
    def refreshed(self, points: Sequence[Point]) -> None: ...
    def changed(self, points: Sequence[Point]) -> None: ...
    def tested(self, device: Device) -> None: ...
    def cleared(self, ids: list[int]) -> None: ...


class Rest:
    """answer: for requests of a session that stands."""

    def __init__(self, effects: Effects, release: str) -> None:
        self._effects, self._release = effects, release
        self._snapshots = 0
        self.monitoring = True
        self._routes: dict[str, Callable[[Request], Reply]] = {
            "devs": self._devs,
            "alarms": self._alarms,
            "dp": self._dp,
        }
        self._plain: dict[tuple[str, ...], Callable[[], Any]] = {
            ("users", "current"): lambda: {"id": 214, "userName": "mqttbridge", "customerId": 3},
            ("dlaRules", "monitoring"): lambda: {"value": self.monitoring},
            ("cms", "info", "time"): lambda: {"value": local(effects.now())},
        }

    def answer(self, request: Request) -> Reply:
        path = request.path[1:]
        if (plain := self._plain.get(path)) is not None and request.method == "GET":
            return Reply.json(plain())
        if path == ("storage", "publishes", "true"):
            return NO_CONTENT
        route = self._routes.get(path[0] if path else "")
        return route(request) if route is not None else NOT_FOUND

    # Lists

    def _paged(self, rows: list[Any], request: Request) -> Reply:
        query = request.query
        if "pg" not in query and "sz" not in query:
            return Reply.json(rows)
        page, size = max(1, int(query.get("pg", "1"))), max(1, int(query.get("sz", "50")))
        part = rows[(page - 1) * size : page * size]
        if query.get("noxs") == "true":
            return Reply.json(part)
        self._snapshots += "xs" not in query
        remaining = max(0, math.ceil(len(rows) / size) - page)
        snapshot = int(query.get("xs", self._snapshots))
        return Reply.json({"snapshot": snapshot, "remainingPages": remaining, "resources": part})

    def _dp(self, request: Request) -> Reply:
        if request.method != "PUT" or request.path[2:] != ("updates", "subscribe"):
            return NOT_FOUND
        wanted = _read(request.body)
        if not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
            return Reply.json({"message": "a list of dpQualifiers is expected"}, 400)
        return self._effects.subscribe(request, wanted)

    def _alarms(self, request: Request) -> Reply:
        active = list(self._effects.world.alarms.values())
        path = request.path[2:]
        if request.method == "PUT" and path == ("clear",):
            ids = _read(request.body)
            if not isinstance(ids, list):
                return Reply.json({"message": "a list of ids is expected"}, 400)
            self._effects.cleared([int(one) for one in ids])
            return NO_CONTENT
        if path == ("count",):
            return Reply.json({"value": len(active)})
        return self._paged(active, request) if not path else NOT_FOUND

    # Devices

    def _devs(self, request: Request) -> Reply:
        path = [unquote(one) for one in request.path[2:]]
        effects, short = self._effects, request.query.get("short") == "true"
        if not path:
            rows = sorted(effects.world.devices.values(), key=lambda one: one.name)
            return self._paged([device(one, effects.faults, short=short) for one in rows], request)
        found = [one for one in effects.world.devices.values() if _names(path[0], one)]
        if path[1:] == ["count"]:
            down = [one for one in effects.world.devices.values() if one.health == "down"]
            return Reply.json({"value": len(down if "health==DOWN" in path[0] else effects.world.devices)})
        if not found:
            return NOT_FOUND
        if len(path) == 1:
            return Reply.json([device(one, effects.faults) for one in found])
        if path[1] in ("test", "wink") and request.method == "PUT":
            return self._act(path[1], found[0])
        return self._points(request, path[2:], found) if path[1] == "if" and len(path) >= 5 else NOT_FOUND

    def _act(self, action: str, one: Device) -> Reply:
        if action == "wink" and one.protocol != "lon":
            return Reply.json({"message": "only LON devices wink"}, 400)
        if action == "test":
            self._effects.tested(one)
        return NO_CONTENT

    # Datapoints: {block}/{index}/{datapoint}[/what…]

    def _points(self, request: Request, path: list[str], devices: list[Device]) -> Reply:
        found = [point for one in devices for point in one.points if _fits(path[:3], point)]
        rest = path[3:]
        if not found and "*" not in path[:3] and "qualifier=-" not in path[2]:
            return NOT_FOUND
        match request.method, rest:
            case "GET", ["*"]:
                return self._paged([datapoint(one, self._effects.faults, whole=True) for one in found], request)
            case "GET", ["value"]:
                return self._value(request, found)
            case "GET", ["overrides"]:
                return Reply.json([_overrides(one) for one in found])
            case "PUT", ["value" | "localization" | "presets" | "overrides", *_]:
                return self._write(request, rest, found)
            case "DELETE", ["overrides", level, "value"]:
                return self._release_level(level, found)
            case _:
                return NOT_FOUND

    def _value(self, request: Request, found: list[Point]) -> Reply:
        """What is known is answered; the devices are asked where that is too old."""
        answered = [datapoint(one, self._effects.faults) for one in found]
        if "max_age" in request.query:
            oldest = self._effects.now() - float(request.query["max_age"]) * 1000
            self._effects.refreshed([one for one in found if one.at <= oldest])
        return Reply.json(answered)

    def _write(self, request: Request, rest: list[str], found: list[Point]) -> Reply:
        level, rest = (_level(rest[1]), rest[2:]) if rest[0] == "overrides" and len(rest) > 2 else (NORMAL, rest)
        if level is None or rest not in (["value"], ["localization", "value"], ["presets", "value"]):
            return NOT_FOUND
        changed: list[Point] = []
        held = False
        for point in found:
            if rest[0] == "presets":
                name = request.body.decode().strip('"')
                if name not in point.presets:
                    return Reply.json({"message": f"no preset {name}"}, 404)
                value = point.presets[name]
            elif (value := _read(request.body)) is _NOT_JSON:
                return Reply.json({"message": "not JSON"}, 400)
            if self._effects.world.write(point, level, value, self._effects.now()):
                changed.append(point)
            else:
                held = True
        self._effects.changed(changed)
        return Reply.json({"message": "a higher priority is active"}, 422) if held else NO_CONTENT

    def _release_level(self, text: str, found: list[Point]) -> Reply:
        level = _level(text)
        if level is None or level == NORMAL:
            return NOT_FOUND
        for point in found:
            if self._effects.world.release(point, level, self._effects.now()):
                self._effects.changed([point])
        return NO_CONTENT


_NOT_JSON = object()


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return _NOT_JSON


def _level(text: str) -> int | None:
    return int(text) if text.isdecimal() and 1 <= int(text) <= NORMAL else None


def _names(text: str, one: Device) -> bool:
    return element(text, one.id, one.name, "") or text == f"{SID}.{one.did}"


def _fits(path: list[str], point: Point) -> bool:
    block, index, named = path
    if named.startswith("*+qualifier=-"):
        return point.qualifier in named.removeprefix("*+qualifier=-").split(",")
    return (
        element(block, "", point.block, point.block)
        and index in ("*", str(point.index))
        and element(named, "", point.name, point.name)
    )


def _overrides(point: Point) -> dict[str, Any]:
    levels = [{"level": level, "value": value, "state": "active"} for level, value in sorted(point.levels.items())]
    return {"currentLevel": point.level, "prioritizedValues": levels, "utc": utc(point.at)}
