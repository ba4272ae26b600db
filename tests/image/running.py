"""The image at work: a bridge and a ResIOT simulator, both containers of it, and a real Mosquitto beside them.

They run as hardened as `engine.HARDENED` says, and the bridge without a shell to fall back on. Checks go from start to
end: later ones build on what earlier ones left.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.image.engine import HARDENED, Engine, ended
from tests.image.still import TAG, same
from tests.support import PATIENCE_S, NotSeen, free_port
from tests.support.ear import Ear
from tests.support.mosquitto import Mosquitto
from tests.support.published import promised

BRIDGE, PLATFORM, BARE = "bridge", "platform", "bare"
_CONFIG_PLACE = "/etc/ws2mqtt/ws2mqtt.yaml"
_UP = "application/+/device/+/event/up"
_NO_SHELL = ("--volume=/dev/null:/usr/bin/dash:ro", "--volume=/dev/null:/usr/bin/bash:ro")
_GRACE_S = 30
_POLL_S = 0.1
_CONFIG = """
mqtt: {{url: "{mqtt}"}}
outbox: {{path: /var/lib/ws2mqtt}}
http: {{listen: "0.0.0.0:{port}"}}
backends:
  lora: {{type: resiot, url: "${{RESIOT_URL}}", required: true}}
"""


@dataclass(frozen=True)
class Scene:
    engine: Engine
    broker: Mosquitto
    ear: Ear
    port: int
    config: Path

    async def start(self, name: str, *arguments: str, options: tuple[str, ...] = ()) -> None:
        await self.engine.podman("run", "--detach", "--name", name, *HARDENED, *options, TAG, *arguments)


@asynccontextmanager
async def scene(engine: Engine) -> AsyncIterator[Scene]:
    """With everything started; nothing is waited for yet but the simulator's address."""
    folder = engine.folder / "scene"
    folder.mkdir()
    config, port = folder / "ws2mqtt.yaml", free_port()
    heard = ("ws2mqtt/bridge/state", "ws2mqtt/lora/event/gap", f"ws2mqtt/lora/{_UP}")
    async with Mosquitto(folder) as broker, Ear(broker.url(), *heard) as ear:
        here = Scene(engine, broker, ear, port, config)
        url = await simulated(engine, PLATFORM)
        config.write_text(_CONFIG.format(mqtt=broker.url(), port=port))
        promised(config, {"RESIOT_URL": url})
        mounts = (f"--volume={config}:{_CONFIG_PLACE}:ro", "--volume=outbox:/var/lib/ws2mqtt")
        await here.start(BRIDGE, options=("--network=host", f"--env=RESIOT_URL={url}", *_NO_SHELL, *mounts))
        yield here


async def simulated(engine: Engine, name: str) -> str:
    """A container that is the platform; its address."""
    command = (TAG, "simulate", "resiot", "--port", "0", "--rate", "20")
    await engine.podman("run", "--detach", "--name", name, *HARDENED, "--network=host", *command)

    async def ask() -> str:
        return (await engine.logs(name)).partition("simulator: ")[2].partition("\n")[0]

    return await until(ask, "the simulator's address")


async def until(ask: Callable[[], Awaitable[str]], what: str) -> str:
    """Asks until there is an answer. Raises NotSeen."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (told := await ask()):
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise NotSeen(f"{what}: not within {PATIENCE_S:g} s") from None
    return told


# In this order


async def an_event_arrives(here: Scene) -> None:
    topic = f"ws2mqtt/lora/{_UP}"
    told = await ended("mosquitto_sub", "-p", str(here.broker.port), "-t", topic, "-C", "1", "-W", f"{PATIENCE_S:.0f}")
    same("its type", json.loads(told)["type"], "resiot.up")


async def it_is_ready_at_the_address_of_the_file(here: Scene) -> None:
    """At 127.0.0.2, which is this machine too, but not what it listens on unless told otherwise."""

    async def ask() -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                answer = await client.get(f"http://127.0.0.2:{here.port}/readyz")
            except httpx.TransportError:
                return ""
        return answer.text if answer.status_code == 200 else ""

    same("readyz", json.loads(await until(ask, "/readyz"))["ready"], True)


async def it_is_healthy(here: Scene) -> None:
    await here.engine.podman("healthcheck", "run", BRIDGE)
    await here.engine.podman("exec", BRIDGE, "ws2mqtt", "healthcheck")
    shell = await here.engine.tried("exec", BRIDGE, "sh", "-c", "true")
    same("a shell was there", shell.code == 0, False)


async def it_may_do_nothing_special(here: Scene) -> None:
    pid = (await here.engine.inspect(BRIDGE))["State"]["Pid"]
    told = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    same("uid", told["Uid"].split(), ["10001"] * 4)
    same("gid", told["Gid"].split(), ["10001"] * 4)
    same("groups", set(told["Groups"].split()) - {"10001"}, set())
    same("capabilities", {told[name].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}, {""})
    same("no new privileges", told["NoNewPrivs"], "1")


async def its_root_is_read_only(here: Scene) -> None:
    for place in ("/etc", "/opt/ws2mqtt", "/home"):
        tried = await here.engine.tried("exec", "--user=0:0", BRIDGE, "python", "-c", f"open('{place}/x', 'w')")
        same(f"{place} is read-only", "Read-only file system" in tried.err, True)


async def its_outbox_is_on_the_volume(here: Scene) -> None:
    volume = Path((await here.engine.inspect("outbox"))["Mountpoint"])
    files = [one for one in volume.rglob("*") if one.is_file()]
    same("there are files", bool(files), True)
    same("their owners", {(one.stat().st_uid, one.stat().st_gid) for one in (volume, *files)}, {(10001, 10001)})


async def it_stops_by_itself_on_sigterm(here: Scene) -> None:
    await _stopped(here)
    probe = await here.engine.tried(
        "run",
        "--rm",
        "--no-healthcheck",
        *HARDENED,
        "--network=host",
        "--env=RESIOT_URL=ws://127.0.0.1:1",
        f"--volume={here.config}:{_CONFIG_PLACE}:ro",
        TAG,
        "healthcheck",
    )
    same("healthcheck of what is gone", (probe.code, "not live" in probe.err), (1, True))


async def it_remembers_after_a_restart(here: Scene) -> None:
    await here.engine.podman("start", BRIDGE)
    gap = await here.ear.wait_for(lambda heard: heard.topic.endswith("/gap"))
    same("gap", json.loads(gap.payload)["type"], "resiot.gap")
    await _stopped(here)


async def every_command_ends_on_sigterm(here: Scene) -> None:
    """The kernel drops signals that process 1 does not handle."""
    same("simulate's exit code", await _exit_code(here.engine, PLATFORM), 143)


async def where_nothing_is_said_it_listens_everywhere(here: Scene) -> None:
    """In a network of its own: here the port may be taken."""
    bare = here.config.with_name("bare.yaml")
    bare.write_text("backends: {}\n")
    await here.start(BARE, options=("--network=none", f"--volume={bare}:{_CONFIG_PLACE}:ro"))

    async def ask() -> str:
        probe = await here.engine.tried("exec", BARE, "ws2mqtt", "healthcheck")
        return "" if probe.code else "live"

    await until(ask, "healthcheck")
    sockets = await here.engine.podman("exec", BARE, "cat", "/proc/net/tcp")
    same("it listens on 0.0.0.0:9108", f" 00000000:{9108:04X} " in sockets, True)
    same("exit code", await _exit_code(here.engine, BARE), 0)


CHECKS = (
    an_event_arrives,
    it_is_ready_at_the_address_of_the_file,
    it_is_healthy,
    it_may_do_nothing_special,
    its_root_is_read_only,
    its_outbox_is_on_the_volume,
    it_stops_by_itself_on_sigterm,
    it_remembers_after_a_restart,
    every_command_ends_on_sigterm,
    where_nothing_is_said_it_listens_everywhere,
)


async def _stopped(here: Scene) -> None:
    """It says goodbye and ends by itself, before anybody has to kill it."""
    before = len(here.ear.messages)
    same("exit code", await _exit_code(here.engine, BRIDGE), 0)
    farewell = await here.ear.wait_for(lambda heard: b'"offline"' in heard.payload, since=before)
    same("farewell", farewell.topic, "ws2mqtt/bridge/state")


async def _exit_code(engine: Engine, name: str) -> int:
    await engine.podman("stop", f"--time={_GRACE_S}", name)
    code: int = (await engine.inspect(name))["State"]["ExitCode"]
    return code
