"""The world behind a simulated IoT Pro: sea buoys that drift and report, their devices, what is stored of them. No I/O.

What happens is drawn from one `random.Random(seed)`. A value is kept as it was written; it is told as the platform
tells it: by its database in snapshots (12), by Java in updates and history (12.0).
"""

import math
import random
import uuid
from bisect import bisect_left, insort
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

KEYS = (
    "device_id",
    "telemetry_param_latitude",
    "telemetry_param_longitude",
    "telemetry_param_battery",
    "telemetry_param_wave_height",
)
BUOY = "sea-buoy"
_PLACES = ("Harbour", "Channel", "North Reef", "South Reef", "Outer Bank", "Anchorage", "Fish Farm", "Ferry Lane")
_CENTRE = (35.92, 14.45)  # degrees
_EPOCH_MS = 1_700_000_000_000

Point = tuple[int, Any]


class Asset:
    """latest: key → (milliseconds, value) · series: key → points in the order of time."""

    def __init__(self, number: int, name: str, profile: str, rng: random.Random, created: int) -> None:
        self.id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self.device = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self.device_name = f"modem {number + 1}"
        self.number, self.name, self.profile, self.created = number, name, profile, created
        self.label = "".join(word[0] for word in name.split() if word[0].isupper()) + str(number + 1)
        self.latest: dict[str, Point] = {}
        self.series: dict[str, list[Point]] = {}
        self.attributes: dict[str, Point] = {}
        self.latitude = _CENTRE[0] + rng.uniform(-0.12, 0.12)
        self.longitude = _CENTRE[1] + rng.uniform(-0.15, 0.15)
        self.course = rng.uniform(0, 2 * math.pi)
        self.battery = rng.uniform(60, 100)
        self.phase = rng.uniform(0, 2 * math.pi)


class World:
    """assets: by id, in the order of their creation. kept: points of each time series."""

    def __init__(self, *, assets: int, seed: int, kept: int, now: int) -> None:
        self._rng, self._kept = random.Random(seed), kept
        self.assets: dict[str, Asset] = {}
        self._number = 0
        for _ in range(assets):
            asset = self.add(created=_EPOCH_MS + self._number)
            self.write(asset, now, self.measured(asset, now))
        self._turns = self._shuffled()

    def add(self, name: str = "", profile: str = BUOY, created: int = 0) -> Asset:
        """A new asset, named by itself where no name is given."""
        number, self._number = self._number, self._number + 1
        asset = Asset(
            number, name or f"{_PLACES[number % len(_PLACES)]} Buoy {number + 1}", profile, self._rng, created
        )
        asset.attributes["assetDetails"] = (
            created,
            {"maker": "Acme", "capacity_kwh": 1.5, "mooring_m": 10 + number % 40},
        )
        self.assets[asset.id] = asset
        return asset

    def _shuffled(self) -> Iterator[Asset]:
        """Whose turn it is: everybody once per round, every round in another order."""
        while self.assets:
            turns = list(self.assets.values())
            self._rng.shuffle(turns)
            yield from (one for one in turns if one.id in self.assets)

    def turn(self) -> Asset | None:
        """Who reports next."""
        return next(self._turns, None)

    def measured(self, asset: Asset, now: int) -> dict[str, Any]:
        """What a buoy reports: it drifts on, the waves go up and down, the sun charges it by day."""
        rng = self._rng
        asset.course += rng.uniform(-0.4, 0.4)
        asset.latitude += 0.0004 * math.cos(asset.course)
        asset.longitude += 0.0005 * math.sin(asset.course)
        if abs(asset.latitude - _CENTRE[0]) > 0.15 or abs(asset.longitude - _CENTRE[1]) > 0.2:
            asset.course = math.atan2(_CENTRE[1] - asset.longitude, _CENTRE[0] - asset.latitude)
        asset.battery = max(20.0, min(100.0, asset.battery + rng.uniform(-0.3, 0.3)))
        waves = 1.2 + math.sin(now / 3_600_000 + asset.phase) + rng.uniform(-0.2, 0.2)
        return {
            "device_id": f"{asset.number + 1:06d}",
            "telemetry_param_latitude": round(asset.latitude, 6),
            "telemetry_param_longitude": round(asset.longitude, 6),
            "telemetry_param_battery": round(asset.battery),
            "telemetry_param_wave_height": round(max(0.1, waves), 2),
        }

    def write(self, asset: Asset, ts: int, values: dict[str, Any]) -> dict[str, Point]:
        """Stores values of one moment; those that are the newest of their key now, and were not told yet."""
        newest = {}
        for key, value in values.items():
            series = asset.series.setdefault(key, [])
            at = bisect_left(series, ts, key=_when)
            if at < len(series) and series[at][0] == ts:
                series[at] = (ts, value)
            else:
                insort(series, (ts, value), key=_when)
            del series[: -self._kept]
            known = asset.latest.get(key)
            if known is None or ts > known[0] or (ts == known[0] and known[1] != value):
                newest[key] = asset.latest[key] = (ts, value)
        return newest

    def range(self, asset: Asset, key: str, start: int, end: int, limit: int, newest_first: bool) -> list[Point]:
        """Points in [start, end)."""
        series = asset.series.get(key, [])
        found = series[bisect_left(series, start, key=_when) : bisect_left(series, end, key=_when)]
        return found[::-1][:limit] if newest_first else found[:limit]


def _when(point: Point) -> int:
    return point[0]


def java(value: Any) -> str:
    """As the platform writes a value in an update and in history: booleans, whole numbers, Double.toString, JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _double(value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def database(value: Any) -> str:
    """As its database writes it in a snapshot: without exponent, without a needless fraction."""
    if isinstance(value, float):
        return f"{Decimal(repr(value)).normalize():f}"
    return java(value)


def _double(value: float) -> str:
    """Java's: plain from 10^-3 to below 10^7, always with a fraction, else computerized scientific notation."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value) if "e" not in repr(value) else f"{Decimal(repr(value)):f}"
    digits = Decimal(repr(value)).normalize()
    exponent = digits.adjusted()
    mantissa = f"{digits.scaleb(-exponent):f}"
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}E{exponent}"
