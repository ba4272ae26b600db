"""Everything that runs: source, wire, broker, witness, the bridge as a process, and who scrapes it; all told apart.

The world knows which life of the bridge runs and how it ended; troubles act on it, the conductor waits for it.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import httpx

from tests.faults.disk import Disk, waiting_in
from tests.faults.heard import Copy, Heard, Problems
from tests.faults.lives import Life, Lives, Picture
from tests.faults.source import Source
from tests.faults.told import Told
from tests.faults.wire import Wire
from tests.faults.witness import Witness
from tests.support import NotSeen
from tests.support.ear import Ear
from tests.support.mosquitto import Mosquitto
from tests.support.process import BridgeProcess, Line, Scrape

BACKEND = "lora"
PASSWORD = "the right word"
_SCRAPE_S = 0.2
_POLL_S = 0.01
_FAST = {"initial": "50ms", "max": "200ms"}
_WELL, _WELL_S = "the outbox is on disk again", 1.0
_OF_THE_DISK = (_WELL, "the outbox cannot be written: events wait in memory only", "outbox.path cannot be used")
_SAVING = ("persistence true", "autosave_interval 1")


class World:
    """An async context manager: the bridge runs inside. outbox: the folder of the durable outbox; None: memory only.

    disk: what the outbox lies on, where that can be broken · flush: seconds · disk_broken: it is, just now.
    """

    def __init__(self, folder: Path, rng: random.Random, outbox: Path | None, disk: Disk | None, flush: float) -> None:
        self.folder, self.rng, self.outbox, self.disk, self._flush = folder, rng, outbox, disk, flush
        self.disk_broken = False
        self.base = f"faults-{secrets.token_hex(4)}"
        self.told, self.heard, self.lives = Told(), Heard(), Lives()
        self.problems = Problems()
        self.sure = True  # False: at QoS 0 what is published is not acknowledged
        self.source = Source(self.told, lambda: self.lives.now, rng)
        self.word = folder / "password"
        self.mosquitto = Mosquitto(
            folder,
            users={"bridge": PASSWORD, "witness": "w"},
            max_inflight=500,
            lines=[*_SAVING, f"persistence_location {folder}/"],
        )
        self.wire = Wire(lambda: self.mosquitto.port, f"{self.base}/{BACKEND}/", self._took)
        self.witness: Witness
        self.bridge: BridgeProcess
        self._stack = AsyncExitStack()
        self._ending = False
        self._watches: list[asyncio.Task[None]] = []

    @property
    def durable(self) -> bool:
        return self.outbox is not None

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        self.word.write_text(PASSWORD + "\n")
        await enter(self.mosquitto)
        await enter(self.source)
        await enter(self.wire)
        ear = Ear(
            self.mosquitto.url(), f"{self.base}/#",
            username="witness", password="w", client_id=f"{self.base}-witness", durable=True, reconnect=True,
        )  # fmt: skip
        self.witness = await enter(Witness(ear, self.heard))
        self.bridge = BridgeProcess(self.config(), self.folder)
        self._stack.push_async_callback(self._note_log)
        self._stack.push_async_callback(self.bridge.kill)
        for watch in (self._scrape, self.source.talk):
            self._watches.append(asyncio.create_task(watch()))
            self._stack.push_async_callback(_ended, self._watches[-1])
        await self.mosquitto.save()  # so that it knows the witness, whatever happens
        await self.start()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)

    def config(
        self, mqtt: Mapping[str, Any] | None = None, backend: Mapping[str, Any] | None = None, **more: Any
    ) -> Any:
        """The bridge's configuration, with changes."""
        outbox = {"flush": f"{int(self._flush * 1000)}ms", "path": str(self.outbox) if self.outbox else None}
        return {
            "mqtt": {
                "url": self.wire.url, "base_topic": self.base, "client_id": self.base, "reconnect": _FAST,
                "keepalive": "2s", "username": "bridge", "password_file": str(self.word), **(mqtt or {}),
            },
            "outbox": {**outbox, **more.pop("outbox", {})},
            "shutdown_grace": "2s",
            "backends": {BACKEND: {
                "type": "resiot", "url": self.source.url, "reconnect": _FAST, "ping": "1s", **(backend or {}),
            }},
            **more,
        }  # fmt: skip

    # The bridge's lives

    @property
    def life(self) -> Life:
        return self.lives.all[-1]

    async def start(self) -> None:
        on_disk: int | None = 0
        if self.outbox is not None:
            on_disk = await asyncio.to_thread(waiting_in, self.outbox, BACKEND)
        self._mark = len(self.bridge.lines)
        self._ending = True  # of the old one; the new one has not begun
        self._last = self.told.last
        self.lives.begin(time.time(), not self.durable, on_disk)
        if self.disk_broken:
            self._begins_without_disk()
        await self.bridge.start()
        self._ending = False

    def disk_breaks(self) -> None:
        """Just now. A life that has not answered yet may not have what is on it."""
        self.disk_broken = True
        if self.lives.now and not self.life.pictures:
            self._begins_without_disk()

    def _begins_without_disk(self) -> None:
        if self.life.on_disk:
            self.heard.held_back(self._last, str(int(self.life.began * 1000)))
        self.life.on_disk = None

    async def kill(self) -> None:
        """kill -9."""
        life, at = self.life, time.time()
        self._ending = True
        await self.bridge.kill()
        life.volatile = life.volatile or self.disk_in_trouble(at, _WELL_S)
        life.end, life.ended, self._ending = "killed", at, False

    def disk_in_trouble(self, at: float, longer: float = 0.0) -> bool:
        """As this life of the bridge has said; and for so many seconds after it said that all is well again."""
        told = [line for line in self.bridge.lines[self._mark :] if line.message in _OF_THE_DISK]
        if not told:
            return False
        return told[-1].message != _WELL or at - _moment(told[-1]) < longer

    async def terminate(self) -> None:
        """SIGTERM, to the end; it says itself what it loses."""
        life, mark = self.life, len(self.bridge.lines)
        await self.bridge.wait_http("/livez", timeout=30.0)  # before that it cannot take a signal
        self._ending = True
        self.source.burst()
        code = await self.bridge.terminate(30.0)
        life.end, life.ended, self._ending = "terminated", time.time(), False
        if code:
            self.problems.add("exit", f"life {life.number} ended with {code} on SIGTERM")
        lost = [line for line in self.bridge.lines[mark:] if "events lost" in line.message]
        life.shut_down = sum(int(line.fields["events"]) for line in lost)

    async def reload(self, config: Any | None = None) -> None:
        """SIGHUP, with a changed configuration or with the same."""
        await self.bridge.wait_http("/livez", timeout=30.0)
        mark = len(self.bridge.lines)
        self.bridge.configure(config or self.config())
        self.source.burst()
        self.bridge.hup()
        line = await self.bridge.wait_log(_is_answer, 30.0, since=mark)
        if line.message != "reloaded":
            self.problems.add("reload", f"life {self.life.number}: {line}")

    # What is seen

    def _took(self, copy: Copy, at: float, since: float) -> None:
        self.lives.acknowledged(copy.session, copy.sequence, since)
        self.heard.acknowledged(copy, at, self.told.last)

    async def _scrape(self) -> None:
        """All along; and the bridge never ends by itself."""
        while True:
            if number := self.lives.now:
                await self._look(self.lives.all[number - 1])
            await asyncio.sleep(_SCRAPE_S)

    async def _look(self, life: Life) -> None:
        begun = time.time()
        try:
            seen = await self.bridge.scrape()
        except httpx.HTTPError:
            return
        if self.lives.now == life.number:  # else another one may have answered
            self.lives.scraped(life, picture(seen, begun, time.time()), sure=self.sure)

    async def until(self, true: Callable[[], bool], what: str, timeout: float) -> None:
        """Raises NotSeen, also where the bridge has ended by itself."""
        try:
            async with asyncio.timeout(timeout):
                while not true():
                    self.check()
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise NotSeen(f"not within {timeout:g} s: {what}") from None

    def check(self) -> None:
        """Raises what went wrong with those who watch, and NotSeen where the bridge has ended by itself."""
        for watch in self._watches:
            if watch.done() and not watch.cancelled():
                watch.result()
        if self.lives.now and not self._ending and self.bridge.exit_code is not None:
            raise NotSeen(f"the bridge ended by itself with {self.bridge.exit_code}")

    async def hush(self, timeout: float) -> int:
        """The source says no more, and its last number has reached the broker. Returns that. Where its connection was
        torn, another one has to be the last."""
        self.source.hushed, last = True, self.told.last
        what = f"number {last}, the last one, reaches the broker"
        await self.until(lambda: self.heard.highest >= last or self.told.is_torn(last), what, timeout)
        if self.heard.highest >= last:
            return last
        self.source.hushed = False
        await self.progress(1, timeout)
        return await self.hush(timeout)

    async def scraped(self, timeout: float) -> None:
        """Until the bridge has told of itself what is so now."""
        now = time.time()
        await self.until(lambda: any(one.begun > now for one in self.life.pictures), "a scrape", timeout)

    async def talk(self, count: int, timeout: float) -> None:
        """Until so many more numbers were said to a living bridge."""
        goal = self.told.handed + count
        await self.until(lambda: self.told.handed >= goal, "the platform talks on", timeout)

    async def progress(self, count: int, timeout: float) -> None:
        """Until so many more numbers, all said after now and to a living bridge, have reached the broker."""
        await self.until(lambda: self.source.listened, "the platform is connected", timeout)
        goal = self.told.last + count
        await self.until(lambda: self.heard.highest >= goal, f"number {goal} reaches the broker", timeout)

    async def calm(self, timeout: float) -> Scrape:
        """Until nothing waits any more; the source is to be silent."""
        return await self.bridge.wait_scrape(lambda seen: not seen.total("ws2mqtt_outbox_events"), timeout)

    def look_at_log(self) -> None:
        for line in self.bridge.lines:
            if "Traceback" in line.text:
                self.problems.add("traceback", line.text[-3000:])

    async def _note_log(self) -> None:
        (self.folder / "bridge.log").write_text(self.bridge.log, "utf-8")


def picture(seen: Scrape, begun: float, finished: float) -> Picture:
    def total(name: str, **labels: str) -> int:
        return int(seen.total(f"ws2mqtt_{name}", backend=BACKEND, **labels))

    cut = total("events_dropped_total", reason="shutdown")
    return Picture(
        begun,
        finished,
        total("events_received_total"),
        total("events_recovered_total"),
        total("events_published_total"),
        total("events_dropped_total") - cut,
        total("outbox_events"),
        cut,
    )


def _moment(line: Line) -> float:
    """Unix time."""
    return datetime.fromisoformat(str(line.fields["time"])).timestamp()


def _is_answer(line: Line) -> bool:
    return line.message in ("reloaded", "configuration refused")


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
