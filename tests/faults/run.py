"""The conductor: lets trouble happen, one seed one story, until there was enough of it; then calm, and the verdict."""

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TextIO

from tests.faults.disk import mounted
from tests.faults.judge import Verdict, judge
from tests.faults.troubles import TROUBLES, Trouble
from tests.faults.world import BACKEND, World, picture
from tests.support import NotSeen

FLUSHES = (0.05, 0.05, 0.0)  # seconds; 0: written before it is published
_AGAIN_S = 90.0  # until things work again after a trouble; what waits longest is a broker that was taken over, 30 s
_YOUNG_S, _YOUNG_DEATHS = 3.5, 2  # see _settled()
_TWO = 0.4  # how often a second trouble meets the first
_LEAST, _MOST = 300.0, 4000.0  # numbers per second
_GUESS_S = 3.0  # what a trouble takes, as long as nobody knows


@dataclass(frozen=True)
class Plan:
    """How much of it. seconds: no new trouble after that · keep: the logs, in any case · tell: where lines go."""

    faults: int
    events: int
    seed: int
    durable: bool
    seconds: float | None = None
    keep: bool = False
    tell: Callable[[str], None] = lambda line: None


@dataclass
class Report:
    """What came of a run. flush: seconds, of the outbox · folder: where its logs are, where something was wrong."""

    plan: Plan
    flush: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)
    said: int = 0
    handed: int = 0
    heard: int = 0
    doubled: int = 0
    gaps: int = 0
    lives: int = 0
    scrapes: int = 0
    seconds: float = 0.0
    witnessed: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    folder: Path | None = None

    @property
    def problems(self) -> list[str]:
        return self.verdict.problems


async def run(plan: Plan) -> Report:
    """The whole story. Its logs are kept only where something was wrong."""
    report, began = Report(plan), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="ws2mqtt-faults-"))
    rng = random.Random(plan.seed)
    world: World | None = None
    try:
        with mounted(folder / "disk") as disk, (folder / "story.txt").open("a", encoding="utf-8", buffering=1) as story:
            outbox = folder / "disk" / "outbox" if plan.durable else None
            report.flush = rng.choice(FLUSHES)
            world = World(folder, rng, outbox, disk if plan.durable else None, report.flush)
            async with world:
                await Conductor(world, plan, report, story).conduct()
    except* (NotSeen, OSError, RuntimeError, subprocess.SubprocessError) as wrong:
        report.verdict.problems[:0] = [f"stuck: {error!r}" for error in _flat(wrong)]
    report.seconds = time.monotonic() - began
    if world is not None:
        _sum_up(report, world)
    if report.problems or plan.keep:
        report.folder = folder
        (folder / "problems.txt").write_text("\n".join(report.problems) + "\n", "utf-8")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _flat(group: BaseExceptionGroup) -> Iterator[BaseException]:
    for error in group.exceptions:
        yield from _flat(error) if isinstance(error, BaseExceptionGroup) else (error,)


def _sum_up(report: Report, world: World) -> None:
    report.said, report.handed = world.told.last, world.told.handed
    report.heard, report.doubled, report.gaps = world.heard.count, world.heard.doubled, len(world.heard.gaps)
    report.lives, report.scrapes, report.witnessed = len(world.lives.all), world.lives.scrapes, world.witness.count


class Conductor:
    """Who says what breaks when."""

    def __init__(self, world: World, plan: Plan, report: Report, story: TextIO) -> None:
        self._world, self._plan, self._report, self._story = world, plan, report, story
        self._began = time.monotonic()
        self._pack: list[Trouble] = []
        self._young = 0  # broker troubles in a row
        self._troubles = [one for one in TROUBLES if world.disk is not None or not one.disk]
        if plan.durable and world.disk is None:
            report.skipped.append("disk full, disk read-only: they need the right to mount a file system")

    async def conduct(self) -> None:
        world, plan = self._world, self._plan
        await world.progress(100, _AGAIN_S)
        while (done := self._report.faults.total()) < plan.faults and not self._late():
            scene = await self._scene(plan.faults - done)
            self._pace(plan.faults - done)
            self._note(f"{done + 1}/{plan.faults}: {' + '.join(one.name for one in scene)}")
            async with asyncio.TaskGroup() as tasks:
                for place, trouble in enumerate(scene):
                    tasks.create_task(self._happens(trouble, later=place > 0))
            self._note("healed")
            await world.progress(world.rng.randrange(50, 600), _AGAIN_S)
        while world.told.handed < plan.events and not self._late():
            world.source.rate = _MOST
            await world.progress(min(2000, plan.events - world.told.handed), _AGAIN_S)
        await self._end()

    async def _happens(self, trouble: Trouble, later: bool) -> None:
        if later:
            await asyncio.sleep(self._world.rng.random())
        self._report.faults[trouble.name] += 1
        self._young += trouble.place == "broker" or trouble.alone
        await trouble.run(self._world)

    async def _scene(self, most: int) -> list[Trouble]:
        """One trouble, or two of different places; from a pack of cards, so that each has its turn before one comes
        again."""
        if not self._pack:
            self._pack = self._world.rng.sample(self._troubles, len(self._troubles))
        first = self._pack.pop()
        if first.alone or most < 2 or self._world.rng.random() > _TWO:
            scene = [first]
        else:
            others = (one for one in self._pack if one.place != first.place and not one.alone)
            scene = [first, *islice(others, 1)]
            self._pack = [one for one in self._pack if one not in scene]
        if any(one.place == "broker" or one.alone for one in scene):
            await self._world.until(self._settled, "a connection to the broker that lasts", _AGAIN_S)
        return scene

    def _settled(self) -> bool:
        """Whether the next end of the broker's connection is not one of many in a row: the bridge takes a third one
        that ends young for a take-over, and pauses for 30 s, which costs a story its pace."""
        if self._world.wire.age(f"{self._world.base}-{BACKEND}") > _YOUNG_S:
            self._young = 0
        return self._young < _YOUNG_DEATHS

    def _pace(self, faults: int) -> None:
        """So that the events last as long as the troubles."""
        done, spent = self._report.faults.total(), time.monotonic() - self._began
        left = faults * (spent / done if done else _GUESS_S)
        rate = (self._plan.events - self._world.told.handed) / left
        self._world.source.rate = min(_MOST, max(_LEAST, rate)) * self._world.rng.uniform(0.5, 1.5)

    def _late(self) -> bool:
        limit = self._plan.seconds
        return limit is not None and time.monotonic() - self._began > limit

    async def _end(self) -> None:
        """Calm: everything arrives, the books are closed, the bridge goes in good order."""
        world = self._world
        self._note("calm")
        await world.progress(100, _AGAIN_S)
        await world.hush(_AGAIN_S)
        await world.until(lambda: not world.disk_in_trouble(time.time()), "the disk is well, and said to be", _AGAIN_S)
        now = time.time()
        seen = await world.calm(_AGAIN_S)
        world.lives.scraped(world.life, picture(seen, now, time.time()), sure=world.sure)
        await world.terminate()
        with contextlib.suppress(NotSeen):
            await world.until(lambda: not world.witness.missing(), "the witness has heard all", _AGAIN_S)
        self._judge()

    def _judge(self) -> None:
        world, report = self._world, self._report
        world.look_at_log()
        verdict = report.verdict = judge(
            world.told, world.heard, world.lives, durable=world.durable, flush=report.flush
        )
        missing = world.witness.missing()
        if missing:
            world.problems.add("witness", f"{len(missing)} acknowledged numbers never came out: {missing[:10]}")
        wire = [f"wire: {what}" for what in world.wire.broken[:5]]
        verdict.problems[:0] = [*world.problems, *wire, *world.witness.problems]
        self._note(f"problems: {len(verdict.problems)}")

    def _note(self, what: str) -> None:
        line = f"{time.time():.3f} {time.monotonic() - self._began:7.1f} s  number {self._world.told.last:7}  {what}"
        self._story.write(line + "\n")
        self._plan.tell(line[15:])


def a_seed() -> int:
    """One that fits on a line."""
    return int.from_bytes(os.urandom(3), "big")
