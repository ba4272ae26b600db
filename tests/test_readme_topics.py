"""The README's filters and commands, tried beside all four platforms: each filter hears what it promises."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support import matches
from tests.support.ear import Ear
from tests.support.house import ran
from tests.support.mosquitto import Mosquitto
from tests.support.readme import ROOT, codes, commands, readme
from tests.support.show import Show, show

pytestmark = pytest.mark.asyncio(loop_scope="module")

README = readme()
WANTED = README.table("Which filter for what", "what you want").rows
EVENTS = README.table("Which filter for what", "platform").column(
    "events of all such subjects, of a backend with the name of the demo"
)
FILTERS = [code for cell in [*EVENTS, *(row[1] for row in WANTED)] for code in codes(cell) if "/" in code]
SENDS = [line for one in ("Commands", "iSymphony") for block in README.of(one, "sh") for line in commands(block)]
SUBSCRIBES = [line for block in README.of("mosquitto_sub", "sh") for line in commands(block)]
BACKENDS = ("lora", "port", "hq", "pbx")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Show]:
    async with (
        Mosquitto(tmp_path_factory.mktemp("broker"), lines=["set_tcp_nodelay true"]) as broker,
        show(broker, tmp_path_factory.mktemp("show")) as made,
    ):
        yield made


async def test_every_filter_hears_something(shown: Show) -> None:
    assert len(FILTERS) > 40
    async with AsyncExitStack() as stack:
        ears = {one: await stack.enter_async_context(Ear(shown.broker.url(), one)) for one in dict.fromkeys(FILTERS)}
        await shown.lora.say("no json")
        shown.pbx.say('{"type":"queueCall","extensionNumber":"7009","time":1710000101800}')
        for name in BACKENDS:
            await shown.ear.publish(f"ws2mqtt/{name}/command/reconnect")
        device = "ws2mqtt/lora/application/70b3d57ed0001122/device/a81758fffe0a0b0c"
        await shown.ear.publish(f"{device}/command/downlink", {"f_port": 1, "text": "hi"})
        await shown.ear.publish("ws2mqtt/port/asset/sea-buoy/Harbour Buoy 1/command/attributes", {"values": {"a": 1}})
        heard = (ear.wait_count(1) for ear in ears.values())
        deaf = [one for one, answer in zip(ears, await asyncio.gather(*heard, return_exceptions=True), strict=True)
                if isinstance(answer, BaseException)]  # fmt: skip
        assert not deaf


async def test_all_events_and_nothing_else(shown: Show) -> None:
    """Each event is on exactly one of the filters for all events, and for those of its backend."""
    everywhere = codes(next(filters for what, filters in WANTED if what == "all events of all backends"))
    each = codes(next(filters for what, filters in WANTED if what == "all events of one backend"))
    for one in everywhere[1:]:
        await shown.ear.wait_topic(one)  # an event of each depth but 0, which is a matter of luck
    topics = {one.topic for one in shown.ear.messages}
    for topic in topics:
        many = int("/event/" in topic)
        assert sum(matches(one, topic) for one in everywhere) == many, topic
        assert sum(matches(one, topic) for one in each) == many, topic


@pytest.fixture
def programs(shown: Show, tmp_path: Path) -> dict[str, str]:
    """An environment in which the README's programs speak to this broker."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, line in {
        "ws2mqtt": f'exec {sys.executable} -m bridge "$@"',
        "mosquitto_sub": f'exec {shutil.which("mosquitto_sub")} -p {shown.broker.port} -C 1 -W 60 "$@"',
        "mosquitto_pub": f'exec {shutil.which("mosquitto_pub")} -p {shown.broker.port} "$@"',
    }.items():
        _program(folder / name, line)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    told = {"PATH": path, "PYTHONPATH": str(ROOT), "WS2MQTT_CONFIG": str(shown.bridge.config_file), "NO_COLOR": "1"}
    return {**os.environ, **told}


def _program(file: Path, line: str) -> None:
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)


@pytest.mark.parametrize("line", [line for line in SENDS if line.startswith("ws2mqtt send")])
async def test_commands_are_carried_out(programs: dict[str, str], line: str) -> None:
    ended = await ran(["sh", "-c", f"{SENDS[0]}\n{line}"], environment=programs)
    assert ended.code == 0, ended.err
    assert " 200" in ended.out


async def test_commands_without_our_program(programs: dict[str, str]) -> None:
    """Two responses each: accepted, and sent."""
    script = next(block for block in README.of("Commands", "sh") if "mosquitto_pub" in block)
    ended = await ran(["sh", "-c", f"{SENDS[0]}\n{script}\nwait"], environment=programs)
    assert ended.code == 0, ended.err
    assert ended.out.count('"status":"accepted"') == ended.out.count('"status":"sent"') == script.count("mosquitto_pub")


@pytest.mark.parametrize("line", SUBSCRIBES)
async def test_recipes_of_mosquitto_sub(programs: dict[str, str], line: str) -> None:
    await _tells(line.partition(" | jq")[0], programs)


@pytest.mark.recipes
@pytest.mark.parametrize("line", [line for line in SUBSCRIBES if " | jq" in line])
async def test_recipes_with_jq(programs: dict[str, str], line: str) -> None:
    assert "\t" in await _tells(line, programs)


async def _tells(line: str, programs: dict[str, str]) -> str:
    ended = await ran(["sh", "-c", line], environment=programs)
    assert ended.code == 0, ended.err
    assert ended.out.strip()
    return ended.out
