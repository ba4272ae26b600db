"""All four platforms, lively, and one bridge: what `ws2mqtt demo` shows and the README's examples speak of.

Its topics begin with `ws2mqtt`, so it needs a broker of its own.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.simulators.iotpro import IotproSimOptions, IotproSimulator
from bridge.simulators.iotpro_world import KEYS
from bridge.simulators.isymphony import IsymphonySimOptions, IsymphonySimulator
from bridge.simulators.resiot import ResiotSimOptions, ResiotSimulator
from bridge.simulators.smartserver import SmartserverSimulator
from bridge.simulators.smartserver_options import SmartserverSimOptions
from tests.support.ear import Ear
from tests.support.house import FAST
from tests.support.mosquitto import Mosquitto
from tests.support.process import BridgeProcess

PATH = "coreServers/getByName/{server}/extensions/getByName/{extension}/originate"


@dataclass
class Show:
    """ear: hears all from the start on, as nobody or as `listener`."""

    broker: Mosquitto
    bridge: BridgeProcess
    ear: Ear
    lora: ResiotSimulator
    pbx: IsymphonySimulator


@asynccontextmanager
async def show(
    broker: Mosquitto, folder: Path, *, mqtt: Mapping[str, str] | None = None, listener: Mapping[str, str] | None = None
) -> AsyncIterator[Show]:
    """Once every backend is online. mqtt, listener: username and password of the bridge, of the ear."""
    async with AsyncExitStack() as stack:
        lora = await stack.enter_async_context(ResiotSimulator(ResiotSimOptions(rate=4.0, alive=2.0)))
        port = await stack.enter_async_context(IotproSimulator(IotproSimOptions(rate=4.0, assets=4)))
        building = SmartserverSimOptions(rooms=4, rate=2.0, lively=True)
        hq = await stack.enter_async_context(SmartserverSimulator(building))
        pbx = await stack.enter_async_context(IsymphonySimulator(IsymphonySimOptions(inside=5, rate=4.0)))
        backends: dict[str, dict[str, Any]] = {
            "lora": {"type": "resiot", "url": lora.url},
            "port": {
                "type": "iotpro", "url": port.url, **_login(port), "keys": list(KEYS), "attributes": ["assetDetails"],
                "text_keys": ["device_id"],
            },
            "hq": {"type": "smartserver", "url": hq.url, **_login(hq), "datapoints": ["*/*/*/*/*/*"]},
            "pbx": {
                "type": "isymphony", "url": pbx.url, **_login(pbx),
                "actions": {"originate": {"path": PATH, "body": {"number": "{number}"}}},
            },
        }  # fmt: skip
        for one in backends.values():
            one["reconnect"] = FAST
        config = {"mqtt": {"url": broker.url(), "reconnect": FAST, **(mqtt or {})}, "backends": backends}
        ear = await stack.enter_async_context(Ear(broker.url(), "#", **(listener or {})))  # type: ignore[arg-type]
        bridge = BridgeProcess(config, folder)
        stack.callback(lambda: print(f"--- log of the show\n{bridge.log}"))
        await stack.enter_async_context(bridge)
        for name in backends:
            await ear.wait_topic(f"ws2mqtt/{name}/state", lambda one: b'"online"' in one.payload)
        yield Show(broker, bridge, ear, lora, pbx)


def _login(simulator: Any) -> dict[str, str]:
    return {"username": simulator.options.username, "password": simulator.options.password}
