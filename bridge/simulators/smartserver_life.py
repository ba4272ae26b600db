"""What goes on in a simulated building by itself: measurements, the platform's own frames, people."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from typing import Any, Protocol

from bridge.simulators.smartserver_options import SmartserverSimOptions
from bridge.simulators.smartserver_world import NORMAL, SID, Device, Point, World, local

_PEOPLE_S = 4.0


class Building(Protocol):
    """What the server does of it."""

    options: SmartserverSimOptions
    world: World

    @property
    def newer(self) -> bool: ...
    def now(self) -> int: ...
    def update(self, points: Sequence[Point]) -> None: ...
    def changed(self, points: Sequence[Point]) -> None: ...
    def tell(self, action: str, payload: Any) -> None: ...
    def health(self, id_: int, health: str) -> None: ...
    def alarm(self, id_: int, text: str) -> int: ...
    def cleared(self, ids: list[int]) -> None: ...


async def values(building: Building, rate: float) -> None:
    """So many a second, `batch` of them in a frame."""
    clock, batch = asyncio.get_running_loop().time, building.options.batch
    due = clock()
    while True:
        due += batch / rate
        await asyncio.sleep(max(0.0, due - clock()))
        told = [building.world.turn(building.now()) for _ in range(batch)]
        building.update([one for one in told if one is not None])


async def heartbeats(building: Building, period: float) -> None:
    """The platform's time and load."""
    for turn in itertools.count():
        await asyncio.sleep(period)
        if building.newer:
            building.tell("NTF:TIME", {"value": local(building.now())})
        building.tell("UPD:SC:CPU", {SID: 20 + turn % 10})
        building.tell("UPD:TOTAL_EPS", round(building.options.rate))


async def people(building: Building, seed: int) -> None:
    """A lamp now and then; and a device that falls silent for a while, with its alarm."""
    rng, world = random.Random(seed), building.world
    lamps = [one for one in world.points.values() if one.name == "nviValue"]
    for turn in itertools.count(1):
        await asyncio.sleep(_PEOPLE_S)
        if turn % 4:
            point = rng.choice(lamps)
            world.write(point, NORMAL, point.presets["OFF" if point.preset == "ON" else "ON"], building.now())
            building.changed([point])
        else:
            await _outage(building, rng.choice(list(world.devices.values())))


async def _outage(building: Building, one: Device) -> None:
    building.health(one.id, "down")
    id_ = building.alarm(one.id, f"Device {one.name} is down")
    await asyncio.sleep(_PEOPLE_S)
    building.health(one.id, "normal")
    building.cleared([id_])
