"""The building behind a simulated SmartServer: rooms with light, lamp and thermostat, a meter, a log, alarms. No I/O.

What happens is drawn from one `random.Random(seed)`. Every value has the time of its change, in milliseconds, and goes
to the log; a datapoint that can be written has a priority array, of which the highest entry (1 … 17) is in force.
"""

import random
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct, field

SID = "17qz7ab"
NORMAL = 17
_PLACES = ("Lobby", "Meeting", "Office", "Kitchen", "Corridor", "Archive")
_LOGGED = 5_000  # entries per datapoint
_STEP_MS = 300_000  # between two entries of the history that is there at the start


def utc(ms: int, tail: str = "Z") -> str:
    """`2025-03-02T08:15:00.412Z`"""
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}{tail}"


def local(ms: int) -> str:
    """As the platform writes zoned times."""
    shifted = datetime.fromtimestamp(ms // 1000, UTC) + timedelta(hours=1)
    return f"{shifted:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}+01:00[Europe/Berlin]"


class Point(Struct):
    """A datapoint. levels: the priority array · at: ms since 1970 of the value · log: (ms, value), oldest first."""

    device: "Device"
    block: str
    index: int
    name: str
    type: str
    cat: str
    unit: str | None
    value: Any
    at: int = 0
    presets: dict[str, Any] = field(default_factory=dict)
    levels: dict[int, Any] = field(default_factory=dict)
    log: deque[tuple[int, Any]] = field(default_factory=lambda: deque(maxlen=_LOGGED))

    @property
    def qualifier(self) -> str:
        return f"{SID}/{self.device.protocol}/{self.device.did}/{self.block}/{self.index}/{self.name}"

    @property
    def level(self) -> int:
        return min(self.levels, default=NORMAL)

    @property
    def preset(self) -> str | None:
        return next((name for name, value in self.presets.items() if value == self.value), None)


class Device(Struct):
    """A device of the building; health: normal or down."""

    id: int
    name: str
    protocol: str
    did: str
    type: str
    health: str = "normal"
    state: str = "provisioned"
    points: list[Point] = field(default_factory=list)

    @property
    def uid(self) -> str:
        return f"04A1B2{self.id:06X}"


class World:
    """devices: by id · points: by dpQualifier · alarms: active ones, by id."""

    def __init__(self, rooms: int, seed: int, hours: float, now: int) -> None:
        self._rng = random.Random(seed)
        self.devices: dict[int, Device] = {}
        self.points: dict[str, Point] = {}
        self.alarms: dict[int, dict[str, Any]] = {}
        self._next_alarm = 4711
        for number in range(rooms):
            self._room(number)
        if rooms:
            self._meter(rooms)
        for at in range(now - int(hours * 3_600_000), now, _STEP_MS):
            for point in self.points.values():
                self._wander(point)
                point.at = at
                point.log.append((at, point.value))
        self._turns = list(self.points.values())

    def _room(self, number: int) -> None:
        place = f"{_PLACES[number % len(_PLACES)]}-{number + 1}"
        room = self._device(number, place, "lon", str(number + 4), "RoomController")
        lamp = {"value": 0, "state": 0}
        self._point(room, "LightSensor", "nvoLuxLevel", "SNVT_lux", "out", "lux", self._rng.randint(80, 600))
        self._point(room, "Thermostat", "nvoSpaceTemp", "SNVT_temp_p", "out", "deg C", 21.0)
        write = self._point(room, "Lamp", "nviValue", "SNVT_switch", "in", None, lamp)
        write.presets = {"ON": {"value": 100, "state": 1}, "OFF": dict(lamp)}
        self._point(room, "Lamp", "nvoValueFb", "SNVT_switch", "out", None, dict(lamp)).presets = write.presets

    def _meter(self, number: int) -> None:
        meter = self._device(number, "Main meter", "modbus", "2.1", "EnergyMeter")
        self._point(meter, "Digital Input", "power", "SNVT_power_f", "out", "W", 1200.0)
        self._point(meter, "Meter", "energy[0]", "SNVT_elec_kwh_l", "out", "kWh", 48_000.0)

    def _device(self, number: int, name: str, protocol: str, did: str, kind: str) -> Device:
        device = Device(12 + number, name, protocol, did, kind)
        self.devices[device.id] = device
        return device

    def _point(self, of: Device, block: str, name: str, kind: str, cat: str, unit: str | None, value: Any) -> Point:
        point = Point(of, block, 0, name, kind, cat, unit, value)
        of.points.append(point)
        self.points[point.qualifier] = point
        return point

    # What happens

    def turn(self, now: int) -> Point | None:
        """Something is measured somewhere."""
        there = [point for point in self._turns if point.cat == "out" and point.type != "SNVT_switch"]
        if not there:
            return None
        point = self._rng.choice(there)
        self._wander(point)
        self.put(point, point.value, now)
        return point

    def _wander(self, point: Point) -> None:
        match point.type:
            case "SNVT_lux":
                point.value = max(0, min(2000, point.value + self._rng.randint(-40, 40)))
            case "SNVT_temp_p":
                point.value = round(max(17.0, min(27.0, point.value + self._rng.choice((-0.2, -0.1, 0.1, 0.2)))), 1)
            case "SNVT_power_f":
                point.value = round(max(200.0, point.value + self._rng.uniform(-150, 150)), 1)
            case "SNVT_elec_kwh_l":
                point.value = round(point.value + self._rng.uniform(0, 0.4), 2)

    def put(self, point: Point, value: Any, now: int) -> None:
        """A new value, in force and in the log; no two of a datapoint at the same time."""
        point.value, point.at = value, max(now, point.at + 1)
        point.log.append((point.at, value))

    def write(self, point: Point, level: int, value: Any, now: int) -> bool:
        """Into the priority array; whether it is in force."""
        old = point.levels.get(level)
        if isinstance(value, dict) and isinstance(old, dict):
            value = {**old, **value}
        point.levels[level] = value
        return self._enforce(point, level, now)

    def release(self, point: Point, level: int, now: int) -> bool:
        """Out of the priority array; whether there was anything."""
        if level not in point.levels:
            return False
        was = point.level
        del point.levels[level]
        if was == level and point.levels:
            self._enforce(point, point.level, now)
        return True

    def _enforce(self, point: Point, level: int, now: int) -> bool:
        if level > point.level:
            return False
        self.put(point, point.levels[point.level], now)
        return True

    def feedback(self, point: Point, now: int) -> Point | None:
        """What a lamp says of itself after it was switched."""
        if point.name != "nviValue":
            return None
        back = self.points[f"{point.qualifier.rpartition('/')[0]}/nvoValueFb"]
        self.put(back, point.value, now)
        return back

    def alarm(self, device: Device, text: str, now: int, severity: str = "Major Fault") -> dict[str, Any]:
        """One more that is active."""
        told: dict[str, Any] = {
            "id": self._next_alarm, "timestamp": local(now), "category": "System-HW", "severity": severity,
            "state": "Active", "geozone": {"id": 1, "name": "World"},
            "device": {"id": str(device.id), "name": device.name, "uidType": device.protocol, "uid": device.uid},
            "type": "Device not communicating", "details": text, "alarmTargetType": "DEVICE",
        }  # fmt: skip
        self._next_alarm += 1
        self.alarms[told["id"]] = told
        return told
