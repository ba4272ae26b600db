"""The README's Python, JavaScript and Node-RED, taken from it and run: each event once, holes seen, commands answered.

JavaScript and Node-RED need their packages in the folder that WS2MQTT_NODE names, so `.ci/run` asks for them.
"""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import MosquittoFactory
from tests.support import PATIENCE_S, free_port
from tests.support.ear import Ear
from tests.support.house import ran
from tests.support.mosquitto import Mosquitto
from tests.support.readme import readme
from tests.support.show import Show, show

pytestmark = pytest.mark.asyncio(loop_scope="module")

README = readme()
NO_SUBSCRIBERS = 0x10
DEVICE = "application/70b3d57ed0001122/device/a81758fffe0a0b0c"
UP = f"ws2mqtt/lora/{DEVICE}/event/up"
PYTHON = ["with_aiomqtt.py", "with_paho.py"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Show]:
    async with (
        Mosquitto(tmp_path_factory.mktemp("broker"), lines=["set_tcp_nodelay true"]) as broker,
        show(broker, tmp_path_factory.mktemp("show")) as made,
    ):
        yield made


def write(folder: Path, section: str, language: str, port: int) -> None:
    """The section's programs under the names in their first lines, with the broker's port."""
    for text in README.of(section, language):
        name = re.match(r"(?:#|//) ([\w.]+):", text)
        assert name, "a program of the README says its file's name first"
        (folder / name[1]).write_text(text.replace("1883", str(port)))


def node_folder() -> Path:
    return Path(os.environ["WS2MQTT_NODE"])


def node() -> str:
    return shutil.which("node") or "node"


def event(number: int, identity: str, session: str) -> dict[str, object]:
    return {
        "specversion": "1.0", "id": identity, "source": "/ws2mqtt/lora", "type": "resiot.up", "subject": DEVICE,
        "time": "2024-03-05T07:16:30.007145Z", "recordedtime": "2024-03-05T07:16:30.101222Z", "session": session,
        "sequence": f"{number:016}", "datacontenttype": "application/json", "data": {"f_cnt": number},
    }  # fmt: skip


@asynccontextmanager
async def running(program: Sequence[str], folder: Path) -> AsyncIterator[asyncio.StreamReader]:
    """Its standard output, while it runs."""
    child = await asyncio.create_subprocess_exec(
        *program, cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert child.stdout is not None
        yield child.stdout
    finally:
        child.kill()
        await child.wait()


async def heard_once(broker: Mosquitto, program: Sequence[str], folder: Path) -> None:
    """Five messages of three events: one comes again from the broker, one from the platform, two were dropped."""
    told = ["resiot.up", "resiot.up", "2 missing before 6", "resiot.up"]
    async with asyncio.timeout(PATIENCE_S), Ear(broker.url(), "nothing") as ear, running(program, folder) as out:
        while await ear.publish(UP, event(1, "a", "1")) == NO_SUBSCRIBERS:
            await asyncio.sleep(0.05)  # nothing else tells when a stranger's program is subscribed
        for number, identity in ((2, "b"), (2, "b"), (3, "a"), (6, "c")):
            await ear.publish(UP, event(number, identity, "1"))
        lines = [(await out.readline()).decode() for _ in told]
    for line, word in zip(lines, told, strict=True):
        assert word in line, lines


@pytest.mark.parametrize("name", PYTHON)
async def test_a_consumer_in_python(broker: MosquittoFactory, tmp_path: Path, name: str) -> None:
    running = await broker()
    write(tmp_path, "Python", "python", running.port)
    await heard_once(running, [sys.executable, name], tmp_path)


async def test_a_command_in_python(shown: Show, tmp_path: Path) -> None:
    write(tmp_path, "Python", "python", shown.broker.port)
    ended = await ran([sys.executable, str(tmp_path / "command.py")])
    assert ended.out.startswith("sent 200 {'reference': "), ended.err


@pytest.mark.recipes
async def test_a_consumer_in_javascript(broker: MosquittoFactory) -> None:
    running = await broker()
    write(node_folder(), "JavaScript", "js", running.port)
    await heard_once(running, [node(), "consume.mjs"], node_folder())


@pytest.mark.recipes
async def test_a_command_in_javascript(shown: Show) -> None:
    write(node_folder(), "JavaScript", "js", shown.broker.port)
    ended = await ran([node(), str(node_folder() / "command.mjs")])
    assert ended.out.startswith("sent 200 { reference: "), ended.err


@pytest.mark.recipes
async def test_the_flows_of_node_red(shown: Show, tmp_path: Path) -> None:
    sensors, presence = (
        json.loads(text.replace("1883", str(shown.broker.port))) for text in README.of("Node-RED", "json")
    )
    assert sensors[0] == presence[0], "they share the broker"
    (tmp_path / "flows.json").write_text(json.dumps([*sensors, *presence[1:]]))
    red = [node(), str(node_folder() / "node_modules/node-red/red.js")]
    program = [*red, "-u", str(tmp_path), "-p", str(free_port()), str(tmp_path / "flows.json")]
    async with Ear(shown.broker.url(), "plant/#", "office/#") as ear, running(program, tmp_path):
        seen = await ear.wait_topic("plant/+", lambda one: b"celsius" in one.payload)
        assert -30 < json.loads(seen.payload)["celsius"] < 60
        await ear.publish("plant/switch", b"on")
        answer = await ear.wait_topic("plant/switched")
        assert json.loads(answer.payload) == {"asked": "on", "status": "sent", "code": 200}
        present = await ear.wait_topic("office/present", lambda one: b'"count":null' not in one.payload)
        told = json.loads(present.payload)
        assert told["count"] == len(told["users"]) > 0
