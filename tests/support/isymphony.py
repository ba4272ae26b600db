"""A simulated call centre, the bridge as a process, a broker and an ear on all it says: backend `pbx`, users anna …"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bridge.simulators.isymphony import Faults, IsymphonySimOptions, IsymphonySimulator
from tests.support.ear import Ear, Message
from tests.support.house import FAST, House, house
from tests.support.mosquitto import Mosquitto

PASSWORD = "open-sesame-7"
LIVE = "coreServers/getByName/{server}/extensions/getByName/{extension}"
ACTIONS = {
    "originate": {"path": f"{LIVE}/originate", "body": {"number": "{number}"}},
    "dnd": {"path": "coreServers/getByName/default/extensions/getByName/{extension}/dnd", "body": {"enabled": "{on}"}},
    **{f"read{number}": {"method": "GET", "path": "coreServers"} for number in range(8)},
}


@dataclass
class Centre:
    """platform: the simulator · home: all else."""

    platform: IsymphonySimulator
    home: House

    @property
    def mark(self) -> int:
        """The place behind what was heard so far, for `since`."""
        return self.home.mark

    async def online(self, since: int = 0) -> Any:
        return await self.home.state("online", "pbx", since=since)

    async def event(self, path: str, since: int) -> Any:
        """The first event at this subject and type: its envelope."""
        subject, _, kind = path.rpartition("/")
        return await self.home.told("/".join(filter(None, ("pbx", subject, "event", kind))), since=since)

    async def user(self, name: str, presence: str, since: int = 0) -> Any:
        """Until a user's state says so."""
        return await self.home.told(f"pbx/user/{name}/state", lambda told: told["presence"] == presence, since=since)

    async def command(self, name: str, **fields: Any) -> Any:
        """The final response."""
        return await self.home.command(f"pbx/{name}", fields)

    def faults(self, **faults: Any) -> None:
        """From now on these, and no others."""
        self.platform.faults = Faults(**faults)

    def events(self, since: int = 0) -> list[Message]:
        """All events so far but gaps, whatever their subject."""
        prefix = f"{self.home.base}/pbx/"
        heard = [one for one in self.home.ear.messages[since:] if one.topic.startswith(prefix)]
        return [one for one in heard if "/event/" in one.topic and not one.topic.endswith("/gap")]

    def types(self, since: int = 0) -> list[str]:
        """Their types, each with its subject."""
        return [f"{told.get('subject', '')} {told['type']}" for told in map(Ear.json, self.events(since))]


@asynccontextmanager
async def centre(
    mosquitto: Mosquitto,
    folder: Path,
    base: str,
    *,
    simulator: Mapping[str, Any] | None = None,
    faults: Mapping[str, Any] | None = None,
    backend: Mapping[str, Any] | None = None,
    online: bool = True,
    **more: Any,
) -> AsyncIterator[Centre]:
    """Everything started, and the backend online (online=False: not waited for).

    simulator: its options; silent if not told otherwise · faults: from the start · backend: more options of it.
    """
    usual = {"rate": 0.0, "password": PASSWORD, "faults": Faults(**(faults or {}))}
    async with IsymphonySimulator(msgspec.convert({**usual, **(simulator or {})}, IsymphonySimOptions)) as platform:
        pbx = {
            "type": "isymphony", "url": platform.url, "username": "manager", "password": PASSWORD, "reconnect": FAST,
            "actions": ACTIONS, **(backend or {}),
        }  # fmt: skip
        async with house(mosquitto, folder, base, platforms=(), backends={"pbx": pbx}, online=False, **more) as home:
            made = Centre(platform, home)
            if online:
                await made.online()
                await platform.connected()
            yield made
