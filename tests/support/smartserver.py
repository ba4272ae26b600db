"""A house with a simulated SmartServer in it: broker, bridge as a process, an ear, and shorthands for what is asked."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.simulators.smartserver import SmartserverSimOptions, SmartserverSimulator
from tests.support import PATIENCE_S, matches
from tests.support.ear import Ear, Message
from tests.support.house import FAST
from tests.support.mosquitto import Mosquitto
from tests.support.process import BridgeProcess

PASSWORD = "correct-horse"
LUX = "17qz7ab/lon/4/LightSensor/0/nvoLuxLevel"
LUX_SUBJECT = "17qz7ab/dev/lon/4/if/LightSensor/0/nvoLuxLevel"
LAMP_SUBJECT = "17qz7ab/dev/lon/4/if/Lamp/0/nviValue"
BACK_SUBJECT = "17qz7ab/dev/lon/4/if/Lamp/0/nvoValueFb"
DEVICE_SUBJECT = "17qz7ab/dev/lon/4"
ALL = ["*/*/*/*/*/*"]


@dataclass
class Building:
    """base: the base topic; the backend's name is hq."""

    base: str
    platform: SmartserverSimulator
    bridge: BridgeProcess
    ear: Ear
    config: dict[str, Any]

    @property
    def mark(self) -> int:
        return len(self.ear.messages)

    async def told(
        self, path: str, predicate: Any = lambda told: True, timeout: float = PATIENCE_S, *, since: int = 0
    ) -> Any:
        """What the first fitting message at this path below the backend says; an empty one is None."""

        def fits(one: Message) -> bool:
            return bool(predicate(json.loads(one.payload) if one.payload else None))

        heard = await self.ear.wait_topic(f"{self.base}/hq/{path}", fits, timeout, since=since)
        return json.loads(heard.payload) if heard.payload else None

    async def state(self, state: str, *, since: int = 0, timeout: float = PATIENCE_S) -> Any:
        return await self.told("state", lambda told: told["state"] == state, timeout, since=since)

    async def command(self, path: str, fields: Mapping[str, Any] | None = None) -> Any:
        """The final response to a command; path: below the backend, up to its name."""
        mark, (subject, _, name) = self.mark, path.rpartition("/")
        topic = "/".join(filter(None, (self.base, "hq", subject, "command", name)))
        await self.ear.publish(topic, dict(fields or {}))
        where = "/".join(filter(None, (subject, "response", name)))
        return await self.told(where, lambda told: told["final"], since=mark)

    def events(self, path: str, since: int = 0) -> list[Any]:
        """Every event at this path so far."""
        topic = f"{self.base}/hq/{path}"
        return [json.loads(one.payload) for one in self.ear.messages[since:] if matches(topic, one.topic)]


@asynccontextmanager
async def building(
    mosquitto: Mosquitto,
    folder: Path,
    base: str,
    simulator: SmartserverSimulator | None = None,
    *,
    online: bool = True,
    outbox: Path | None = None,
    **backend: Any,
) -> AsyncIterator[Building]:
    """Everything started. simulator: a silent one of two rooms, if not given · outbox: its folder, None: in memory ·
    backend: over the usual options.
    """
    async with AsyncExitStack() as stack:
        options = SmartserverSimOptions(rooms=2, rate=0, heartbeat=0)
        platform = await stack.enter_async_context(simulator or SmartserverSimulator(options))
        usual = {
            "type": "smartserver", "url": platform.url, "username": "mqttbridge", "password": PASSWORD,
            "datapoints": ALL, "reconnect": FAST,
        }  # fmt: skip
        config = {
            "mqtt": {"url": mosquitto.url(), "base_topic": base, "client_id": base, "reconnect": FAST},
            "outbox": {"path": str(outbox) if outbox else None},
            "backends": {"hq": {**usual, **backend}},
        }
        ear = await stack.enter_async_context(Ear(mosquitto.url(), f"{base}/#"))
        folder.mkdir(parents=True, exist_ok=True)
        process = BridgeProcess(config, folder)
        stack.callback(lambda: print(f"--- log of {process.config_file}\n{process.log}"))
        await stack.enter_async_context(process)
        made = Building(base, platform, process, ear, config)
        if online:
            await made.state("online")
        yield made
