"""A whole house to look at: simulated platforms, a broker, the bridge as a process between them, an ear on all it says.

The ear listens before the bridge starts, so that it hears everything in order. Frames are ResIOT's; what they say is
made of a number, so that a test can tell them apart and count them.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bridge.simulators.resiot import ResiotSimOptions, ResiotSimulator
from tests.support import PATIENCE_S
from tests.support.ear import Ear, Message
from tests.support.mosquitto import Mosquitto
from tests.support.process import BridgeProcess, Scrape

Version = Literal["5", "3.1.1"]
VERSIONS: tuple[Version, ...] = ("5", "3.1.1")
TOKEN = "5157e0b2c94f4d0f8f1f7a6b3c2d1e00"
DEVICE = "application/70b3d57ed0001122/device/a81758fffe0a0b0c"
GATEWAY = "0a1b2c3d4e5f6071"
FAST = {"initial": "50ms", "max": "200ms"}


def up(number: int = 42, **fields: Any) -> str:
    """An uplink; number: its frame counter. fields: over those of the platform's sample."""
    usual = {
        "CommType": "comm_rx", "Connector": "636f6e3230", "AppEui": "70b3d57ed0001122", "DevEui": "a81758fffe0a0b0c",
        "Port": "5", "GatewayEUIs": [GATEWAY], "Payload": "0100e60252",
        "Extra": {"adr": "true", "channel": "2", "duplicate": "false", "frequency": "868.5", "modBW": "125",
                  "rssi": "-87", "seqno": str(number), "sf": "9", "snr": "6.2"},
        "DT": "2024-03-05T08:16:30.0071456+01:00",
    }  # fmt: skip
    return json.dumps(usual | fields, separators=(",", ":"))


def ups(count: int, first: int = 1) -> list[str]:
    return [up(number) for number in range(first, first + count)]


def counters(events: Iterable[Message]) -> list[int]:
    """The numbers of uplinks, in the order in which they were heard."""
    return [json.loads(one.payload)["data"]["f_cnt"] for one in events]


def sequences(events: Iterable[Message]) -> list[int]:
    return [int(json.loads(one.payload)["sequence"]) for one in events]


def balanced(scrape: Scrape, backend: str = "lora") -> bool:
    """received + recovered = published + dropped + waiting."""
    names = ("events_received_total", "events_recovered_total", "events_published_total", "events_dropped_total")
    received, recovered, published, dropped = (scrape.total(f"ws2mqtt_{name}", backend=backend) for name in names)
    return received + recovered == published + dropped + scrape.total("ws2mqtt_outbox_events", backend=backend)


@dataclass
class House:
    """base: the base topic · platforms: by the name of their backend · config: as it was written at the start."""

    base: str
    platforms: dict[str, ResiotSimulator]
    bridge: BridgeProcess
    ear: Ear
    config: dict[str, Any]

    @property
    def platform(self) -> ResiotSimulator:
        """The only one, or the first."""
        return next(iter(self.platforms.values()))

    @property
    def mark(self) -> int:
        """The place behind what was heard so far, for `since`."""
        return len(self.ear.messages)

    async def say(self, *frames: str | bytes) -> None:
        for frame in frames:
            await self.platform.say(frame)

    async def heard(
        self,
        path: str,
        predicate: Callable[[Any], bool] = lambda told: True,
        timeout: float = PATIENCE_S,
        *,
        since: int = 0,
    ) -> Message:
        """The first message at this path below the base whose JSON fits; an empty one is None."""
        topic = f"{self.base}/{path}"
        return await self.ear.wait_topic(
            topic, lambda one: predicate(json.loads(one.payload) if one.payload else None), timeout, since=since
        )

    async def told(
        self,
        path: str,
        predicate: Callable[[Any], bool] = lambda told: True,
        timeout: float = PATIENCE_S,
        *,
        since: int = 0,
    ) -> Any:
        """As heard(): what it says."""
        return Ear.json(await self.heard(path, predicate, timeout, since=since))

    async def state(self, state: str, backend: str = "lora", *, since: int = 0) -> Any:
        """Until the backend says that it is in this state."""
        return await self.told(f"{backend}/state", lambda told: told["state"] == state, since=since)

    async def online(self, *, since: int = 0) -> None:
        """Until every backend that has a simulator is online."""
        for backend in self.platforms:
            await self.state("online", backend, since=since)

    def uplinks(self, backend: str = "lora") -> list[Message]:
        """Every uplink event so far."""
        return self.ear.on(f"{self.base}/{backend}/{DEVICE}/event/up")

    async def until_uplinks(self, count: int, backend: str = "lora", timeout: float = PATIENCE_S) -> list[Message]:
        return await self.ear.wait_count(count, f"{self.base}/{backend}/{DEVICE}/event/up", timeout)

    async def command(self, path: str, fields: Mapping[str, Any] | None = None) -> Any:
        """The final response to a command; path: below the base, up to its name."""
        mark, where = self.mark, path.rpartition("/")
        await self.ear.publish(f"{self.base}/{where[0]}/command/{where[2]}", dict(fields or {}))
        return await self.told(f"{where[0]}/response/{where[2]}", lambda told: told["final"], since=mark)

    def reconfigure(self, **changes: Any) -> None:
        """Writes the configuration with these keys in place of the old ones."""
        self.config = {**self.config, **changes}
        self.bridge.configure(self.config)


@asynccontextmanager
async def house(
    mosquitto: Mosquitto,
    folder: Path,
    base: str,
    *,
    version: Version = "5",
    platforms: Sequence[str] = ("lora",),
    mqtt: Mapping[str, Any] | None = None,
    backend: Mapping[str, Any] | None = None,
    backends: Mapping[str, Mapping[str, Any]] | None = None,
    online: bool = True,
    bridge: Mapping[str, Any] | None = None,
    ear: Mapping[str, Any] | None = None,
    **config: Any,
) -> AsyncIterator[House]:
    """Everything started, and the backends online (online=False: not waited for).

    platforms: one silent simulator per name · backend: more options of all backends with a simulator · backends: more
    backends, as written, or options of one · mqtt, config: more of the file · bridge: options of BridgeProcess.
    """
    async with AsyncExitStack() as stack:
        simulators: dict[str, ResiotSimulator] = {}
        told: dict[str, Any] = {name: dict(one) for name, one in (backends or {}).items()}
        for name in platforms:
            simulator = await stack.enter_async_context(ResiotSimulator(ResiotSimOptions(rate=0, token=TOKEN)))
            simulators[name] = simulator
            usual = {"type": "resiot", "url": simulator.url, "reconnect": FAST}
            told[name] = {**usual, **(backend or {}), **told.get(name, {})}
        full = {
            "mqtt": {
                "url": mosquitto.url(), "version": version, "base_topic": base, "client_id": base, "reconnect": FAST,
                **(mqtt or {}),
            },
            "backends": told,
            **config,
        }  # fmt: skip
        listening = Ear(mosquitto.url(), f"{base}/#", **{"version": version, **(ear or {})})
        await stack.enter_async_context(listening)
        folder.mkdir(parents=True, exist_ok=True)
        process = BridgeProcess(full, folder, **(bridge or {}))
        stack.callback(lambda: print(f"--- log of {process.config_file}\n{process.log}"))
        await stack.enter_async_context(process)
        made = House(base, simulators, process, listening, full)
        if online:
            await made.online()
        yield made


@dataclass(frozen=True)
class Ran:
    """A program that has ended."""

    code: int
    out: str
    err: str


async def ran(
    program: Sequence[str], *, environment: Mapping[str, str] | None = None, timeout: float = PATIENCE_S
) -> Ran:
    """Runs a program to its end. Raises TimeoutError, and kills it, where that takes too long."""
    child = await asyncio.create_subprocess_exec(
        *program, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=None if environment is None else dict(environment),
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout):
            out, err = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return Ran(child.returncode or 0, out.decode(), err.decode())
