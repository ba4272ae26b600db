"""A simulated IoT Pro, a broker, the bridge as a process between them, an ear on all it says.

What is written in the simulated world is noted here, point by point, by nobody who shares code with the bridge: so
that every point can be accounted for.
"""

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.simulators.iotpro import IotproSimOptions, IotproSimulator
from bridge.simulators.iotpro_world import Asset
from tests.support import PATIENCE_S
from tests.support.ear import Ear, Message
from tests.support.mosquitto import Mosquitto
from tests.support.process import BridgeProcess

FAST = {"initial": "50ms", "max": "200ms"}
LATITUDE, DEVICE = "telemetry_param_latitude", "device_id"
KEYS = [DEVICE, LATITUDE, "telemetry_param_longitude"]

Told = tuple[str, int, str, Any]  # asset's id, milliseconds, key, value


@dataclass
class Fleet:
    """base: the base topic · written: every point since the start."""

    base: str
    platform: IotproSimulator
    bridge: BridgeProcess
    ear: Ear
    config: dict[str, Any]
    written: set[Told] = field(default_factory=set)
    last: int = 0

    @property
    def assets(self) -> list[Asset]:
        return list(self.platform.world.assets.values())

    @property
    def mark(self) -> int:
        """The place behind what was heard so far, for `since`."""
        return len(self.ear.messages)

    def tick(self) -> int:
        """A moment (milliseconds) that was not yet: now, or as little later as can be."""
        self.last = max(self.last + 1, time.time_ns() // 1_000_000)
        return self.last

    def write(self, asset: Asset, values: Mapping[str, Any], ts: int | None = None) -> int:
        """Values of an asset, noted."""
        ts = self.platform.write(asset, dict(values), self.tick() if ts is None else ts)
        self.written |= {(asset.id, ts, key, value) for key, value in values.items()}
        return ts

    # What was heard.

    def events(self, kind: str = "telemetry") -> list[dict[str, Any]]:
        """Every event of a type, as it was published."""
        return [json.loads(one.payload) for one in self.ear.messages if one.topic.endswith(f"/event/{kind}")]

    def told(self) -> set[Told]:
        """Every point of the events so far."""
        return {
            (event["data"]["asset_id"], millis(event["time"]), key, value)
            for event in self.events()
            for key, value in event["data"]["values"].items()
        }

    async def heard(
        self, path: str, fits: Any = lambda told: True, timeout: float = PATIENCE_S, *, since: int = 0
    ) -> Any:
        """What the first message at this path below the backend says that fits; an empty one is None."""

        def right(one: Message) -> bool:
            return bool(fits(json.loads(one.payload) if one.payload else None))

        message = await self.ear.wait_topic(f"{self.base}/port/{path}", right, timeout, since=since)
        return json.loads(message.payload) if message.payload else None

    async def state(self, state: str, *, since: int = 0) -> Any:
        return await self.heard("state", lambda told: told["state"] == state, since=since)

    async def gap(self, backfill: str, *, since: int = 0) -> Any:
        """The next gap event that says so of its backfill."""
        told = await self.heard("event/gap", lambda one: one["data"]["backfill"] == backfill, since=since)
        return told["data"]

    async def accounted(self, timeout: float = PATIENCE_S) -> None:
        """Until every point that was written has been told. Raises NotSeen."""
        missing = set(self.written)

        def last(one: Message) -> bool:
            if one.topic.endswith("/event/telemetry"):
                event = json.loads(one.payload)
                data, ts = event["data"], millis(event["time"])
                missing.difference_update((data["asset_id"], ts, key, value) for key, value in data["values"].items())
            return not missing

        if missing:
            await self.ear.wait_for(last, timeout)

    async def command(self, path: str, fields: Mapping[str, Any] | None = None, timeout: float = PATIENCE_S) -> Any:
        """The final response to a command; path: below the backend, up to its name."""
        mark, (head, _, name) = self.mark, path.rpartition("/")
        subject = f"{head}/" if head else ""
        await self.ear.publish(f"{self.base}/port/{subject}command/{name}", dict(fields or {}))
        return await self.heard(f"{subject}response/{name}", lambda told: told["final"], timeout, since=mark)


def millis(text: str) -> int:
    """Milliseconds since 1970 of an event's time."""
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1000 + moment.microsecond // 1000


def subject(asset: Asset) -> str:
    return f"asset/{asset.profile}/{asset.name}"


@asynccontextmanager
async def fleet(
    mosquitto: Mosquitto,
    folder: Path,
    base: str,
    *,
    platform: Mapping[str, Any] | None = None,
    backend: Mapping[str, Any] | None = None,
    online: bool = True,
    bridge: Mapping[str, Any] | None = None,
    **config: Any,
) -> AsyncIterator[Fleet]:
    """Everything started, and the backend online (online=False: not waited for).

    platform: options of the simulator · backend: more of the backend's configuration · config: of the file · bridge:
    options of BridgeProcess.
    """
    async with AsyncExitStack() as stack:
        told = {"rate": 0.0, "assets": 3, **(platform or {})}
        simulator = await stack.enter_async_context(IotproSimulator(IotproSimOptions(**told)))
        usual = {
            "type": "iotpro", "url": simulator.url, "username": simulator.options.username,
            "password": simulator.options.password, "keys": KEYS, "attributes": ["assetDetails"], "text_keys": [DEVICE],
            "reconnect": FAST,
        }  # fmt: skip
        full = {
            "mqtt": {"url": mosquitto.url(), "base_topic": base, "client_id": base, "reconnect": FAST},
            "backends": {"port": {**usual, **(backend or {})}},
            **config,
        }
        ear = await stack.enter_async_context(Ear(mosquitto.url(), f"{base}/#"))
        process = BridgeProcess(full, folder, **(bridge or {}))
        stack.callback(lambda: print(f"--- log of {process.config_file}\n{process.log}"))
        await stack.enter_async_context(process)
        made = Fleet(base, simulator, process, ear, full)
        if online:
            await made.state("online")
        yield made
