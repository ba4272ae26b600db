"""`ws2mqtt demo`: the main job with nothing installed: broker, simulators, the bridge between them, and a live view."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bridge.app import App
from bridge.backends.iotpro.options import IotproOptions
from bridge.backends.isymphony.actions import Action
from bridge.backends.isymphony.options import IsymphonyOptions
from bridge.backends.resiot.options import ResiotOptions
from bridge.backends.smartserver.options import SmartserverOptions
from bridge.config import Config
from bridge.demo_broker import DemoBroker
from bridge.links.failures import PORTS
from bridge.options import BackendOptions, HttpOptions, LogOptions, MqttOptions, Secret
from bridge.simulators.iotpro import IotproSimOptions, IotproSimulator
from bridge.simulators.iotpro_world import KEYS
from bridge.simulators.isymphony import IsymphonySimOptions, IsymphonySimulator
from bridge.simulators.resiot import ResiotSimulator
from bridge.simulators.resiot_options import ResiotSimOptions
from bridge.simulators.smartserver import SmartserverSimulator
from bridge.simulators.smartserver_options import SmartserverSimOptions
from bridge.viewer import until_told, watch
from bridge.watch import logs


@dataclass(frozen=True)
class Show:
    """One platform of the demo: the backend's name, its simulator, and how the bridge is told of it."""

    backend: str
    simulator: Callable[[], Any]
    options: Callable[[Any], BackendOptions]


SHOWS = (
    Show(
        "lora",
        lambda: ResiotSimulator(ResiotSimOptions(rate=2.0, alive=15.0)),
        lambda simulator: ResiotOptions(url=Secret(simulator.url)),
    ),
    Show(
        "pbx",
        lambda: IsymphonySimulator(IsymphonySimOptions(inside=5, rate=1.0)),
        lambda simulator: IsymphonyOptions(
            url=simulator.url,
            username=simulator.options.username,
            password=Secret(simulator.options.password),
            actions={
                "originate": Action(
                    path="coreServers/getByName/default/extensions/getByName/{extension}/originate",
                    body={"number": "{number}"},
                )
            },
        ),
    ),
    Show(
        "port",
        lambda: IotproSimulator(IotproSimOptions(rate=2.0, assets=8)),
        lambda simulator: IotproOptions(
            url=simulator.url,
            username=simulator.options.username,
            password=Secret(simulator.options.password),
            keys=KEYS,
            attributes=("assetDetails",),
            text_keys=("device_id",),
        ),
    ),
    Show(
        "hq",
        lambda: SmartserverSimulator(SmartserverSimOptions(rooms=4, rate=1.0, lively=True)),
        lambda simulator: SmartserverOptions(
            url=simulator.url,
            username=simulator.options.username,
            password=Secret(simulator.options.password),
            datapoints=("*/*/*/*/*/*",),
        ),
    ),
)


async def demo(mqtt: MqttOptions, port: int | None, seconds: float | None) -> int:
    """Runs until interrupted, or for so many seconds. port: of the embedded broker; None: `mqtt` names a broker.

    Raises Fatal where something cannot start.
    """
    async with AsyncExitStack() as stack:
        if port is not None:
            await stack.enter_async_context(DemoBroker(port))
            mqtt = msgspec.structs.replace(mqtt, url=(f"mqtt://127.0.0.1:{port}",))
        backends = {}
        for show in SHOWS:
            simulator = await stack.enter_async_context(show.simulator())
            backends[show.backend] = show.options(simulator)
        config = Config(mqtt=mqtt, http=HttpOptions(listen="127.0.0.1:0"), log=LogOptions("error"), backends=backends)
        app = await stack.enter_async_context(_running(config))
        return await until_told(watch(mqtt, seconds=seconds, header=_header(app, mqtt)))


@asynccontextmanager
async def _running(config: Config) -> AsyncIterator[App]:
    """The service, from its start to its orderly end."""

    def load() -> Config:
        return config

    app = App(config, load)
    logs.set_up(config.log, app.redact)
    running = asyncio.create_task(app.run())
    try:
        yield app
    finally:
        if not running.done():
            app.stop()
        await running


def _program() -> str:
    """What to type for this program, here: a virtual environment need not be active."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{sys.executable} -m bridge"
    return called.name if shutil.which(called.name) else str(called)


def _header(app: App, mqtt: MqttOptions) -> list[str]:
    """What to try: lines that can be copied as they are (but for a password, which is not shown)."""
    address, base = urlsplit(mqtt.url[0]), mqtt.base_topic
    host, port = address.hostname or "127.0.0.1", address.port or PORTS[address.scheme]
    where = f"-h {host} " if host not in ("127.0.0.1", "localhost") else ""
    named = "" if base == "ws2mqtt" else f" --base-topic {base}"
    platforms = ", ".join(f"{one.__struct_config__.tag} as {name!r}" for name, one in app.config.backends.items())
    lines = [f"ws2mqtt demo: simulated {platforms} → {mqtt.url[0]}"]
    if address.scheme == "mqtt":
        lines.append(f"Try in another terminal:  mosquitto_sub {where}-p {port} -v -t '{base}/#'")
    return [
        *lines,
        f"  or a command:  {_program()} send --mqtt-url {mqtt.url[0]}{named} {base}/lora/application/70b3d57ed0001122"
        '/device/a81758fffe0a0b0c/command/downlink \'{"f_port":2,"text":"hi"}\'',
        "Ctrl-C ends it.",
    ]
