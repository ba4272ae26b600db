"""`watch` and `demo` as people run them: in a pipe, with a broker of theirs, until they end."""

import asyncio
import contextlib
import json
import re
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from bridge.config import Config
from bridge.demo import SHOWS, _program
from bridge.options import MqttOptions
from tests.conftest import MosquittoFactory
from tests.support import PATIENCE_S, Record
from tests.support.ear import Ear
from tests.support.house import DEVICE, house, ran, up
from tests.support.mosquitto import Mosquitto
from tests.support.published import promise

PROGRAM = (sys.executable, "-m", "bridge")


class Running:
    """A program, and the lines it prints."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.lines: Record[str] = Record("what it prints")
        self.errors = ""

    async def follow(self) -> None:
        assert self.child.stdout is not None
        assert self.child.stderr is not None
        reading = asyncio.create_task(self.child.stderr.read())
        while line := await self.child.stdout.readline():
            self.lines.append(line.decode().rstrip("\n"))
        self.errors = (await reading).decode()
        self.lines.end("it ended")

    async def line(self, fits: Callable[[str], object], timeout: float = PATIENCE_S) -> str:
        return (await self.lines.wait(lambda text: bool(fits(text)), timeout))[0]

    async def ended(self, number: signal.Signals | None = None, timeout: float = PATIENCE_S) -> int:
        """The exit code, when it and every process it had started are gone."""
        children = _children(self.child.pid)
        if number is not None:
            self.child.send_signal(number)
        async with asyncio.timeout(timeout):
            code = await self.child.wait()
            while any(map(_alive, children)):
                await asyncio.sleep(0.02)
        return code


def _children(pid: int) -> list[int]:
    """Its child processes, where the system tells them (Linux)."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def _alive(pid: int) -> bool:
    """Not one that has ended and was not yet waited for."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[Running]:
    child = await asyncio.create_subprocess_exec(
        *PROGRAM, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    made = Running(child)
    following = asyncio.create_task(made.follow())
    try:
        yield made
    finally:
        if child.returncode is None:
            child.kill()
        await following
        await child.wait()


# watch


async def test_watch_in_a_pipe(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base) as home:
        config = str(home.bridge.config_file)
        async with running("watch", "-c", config) as plain, running("watch", "-c", config, "--json") as lines:
            await asyncio.gather(*(one.line(lambda text: "lora" in text) for one in (plain, lines)))
            await home.say(up(42))
            line = await plain.line(lambda text: "resiot.up" in text)
            assert re.match(rf"\d\d:\d\d:\d\d lora resiot\.up {DEVICE} .*#42 ", line)
            assert "\x1b" not in line
            told = json.loads(await lines.line(lambda text: "/event/up" in text))
            assert told["topic"] == f"{base}/lora/{DEVICE}/event/up"
            assert told["payload"]["data"]["f_cnt"] == 42
            assert all(json.loads(text) for text in lines.lines.items)
            for one in (plain, lines):
                assert await one.ended(signal.SIGINT) == 0
                assert one.errors == ""


async def test_watch_with_a_filter(mosquitto: Mosquitto, base: str) -> None:
    async with Ear(mosquitto.url(), f"{base}/#") as ear:
        await ear.publish(f"{base}/a/event/x", "1", retain=True)
        await ear.publish(f"{base}/b/event/x", "2", retain=True)
        told = ("watch", "--mqtt-url", mosquitto.url(), "--json", f"{base}/b/#")
        async with running(*told) as one:
            first = json.loads(await one.line(bool))
            assert first == {"topic": f"{base}/b/event/x", "retain": True, "payload": 2}
            assert await one.ended(signal.SIGINT) == 0
        for name in "ab":
            await ear.publish(f"{base}/{name}/event/x", "", retain=True)


# demo


async def promised(base: str) -> None:
    """Whoever listens to a demo holds it against what such a bridge publishes."""
    backends = {}
    for one in SHOWS:
        async with one.simulator() as simulator:
            backends[one.backend] = one.options(simulator)
    promise(Config(MqttOptions(base_topic=base), backends=backends))


def _calm(text: str) -> bool:
    """Nothing of it says that something went wrong."""
    return not re.search(r"Traceback|auth_failed|offline|error|gap|dead", text)


async def test_demo_shows_itself_and_ends_in_time(free_port: Callable[[], int]) -> None:
    port = str(free_port())
    async with running("demo", "--port", port, "--seconds", "4") as demo:
        first = await demo.line(bool)
        assert "resiot" in first
        line = await demo.line(lambda text: "resiot.up" in text)
        assert re.match(r"\d\d:\d\d:\d\d lora resiot\.up application/", line)
        await promised("ws2mqtt")
        versions: tuple[Literal["5", "3.1.1"], ...] = ("5", "3.1.1")
        for version in versions:
            async with Ear(f"mqtt://127.0.0.1:{port}", "ws2mqtt/#", version=version) as ear:
                heard = await ear.wait_topic("ws2mqtt/+/application/+/device/+/event/up")
                assert ear.json(heard)["type"] == "resiot.up"
        assert await demo.ended() == 0
        shown = "\n".join(demo.lines.items)
        assert "\x1b" not in shown
        assert _calm(shown), shown
        assert demo.errors == ""


async def test_what_the_demo_proposes_works_as_it_is_printed(free_port: Callable[[], int]) -> None:
    async with running("demo", "--port", str(free_port())) as demo:
        await demo.line(lambda text: "resiot.up" in text)
        subscribe = shlex.split((await demo.line(lambda text: "mosquitto_sub" in text)).partition(":  ")[2])
        send = shlex.split((await demo.line(lambda text: " send --mqtt-url" in text)).partition(":  ")[2])
        told, sent = await asyncio.gather(ran((*subscribe, "-C", "60", "-W", "20")), ran(send))
        assert (subscribe[0], told.code, told.err) == ("mosquitto_sub", 0, "")
        assert "ws2mqtt/lora/application/" in told.out
        assert (sent.code, sent.err) == (0, "")
        assert "sent 200" in sent.out
        assert await demo.ended(signal.SIGINT) == 0


def test_it_names_itself_as_it_can_be_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "ws2mqtt"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [".venv/bin/ws2mqtt", "demo"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert _program() == ".venv/bin/ws2mqtt"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _program() == "ws2mqtt"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_demo_ends_by_a_signal(free_port: Callable[[], int], number: signal.Signals) -> None:
    async with running("demo", "--port", str(free_port())) as demo:
        await demo.line(lambda text: "resiot.up" in text)
        assert await demo.ended(number) == 0
        assert demo.errors == ""


async def test_demo_leaves_no_broker_behind_when_it_is_killed(free_port: Callable[[], int]) -> None:
    async with running("demo", "--port", str(free_port())) as demo:
        await demo.line(lambda text: "resiot.up" in text)
        assert not sys.platform.startswith("linux") or len(_children(demo.child.pid)) == 1
        assert await demo.ended(signal.SIGKILL) == -signal.SIGKILL


async def test_demo_on_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = await ran((*PROGRAM, "demo", "--port", str(port)))
    assert told.code == 1
    assert str(port) in told.err
    assert "--port" in told.err
    assert "--mqtt-url" in told.err
    assert "Traceback" not in told.err


async def test_demo_with_a_broker_of_yours(broker: MosquittoFactory) -> None:
    there = await broker(users={"me": "my-word", "ear": "ear-word"})
    url = there.url().replace("://", "://me:my-word@")
    await promised("mine")
    async with Ear(there.url(), "mine/#", username="ear", password="ear-word") as ear:
        async with running("demo", "--mqtt-url", url, "--base-topic", "mine", "--seconds", "1.5") as demo:
            await ear.wait_topic("mine/lora/application/+/device/+/event/up")
            assert await demo.ended() == 0
            shown = "\n".join(demo.lines.items)
            assert "mine/#" in shown
            assert "my-word" not in shown
        last = await ear.wait_topic("mine/bridge/state", lambda one: b'"offline"' in one.payload)
        assert b"session" in last.payload
