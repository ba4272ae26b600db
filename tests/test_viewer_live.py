"""`ws2mqtt watch` live: against a real broker, into pipes and a pseudo terminal, through every way it can end."""

import asyncio
import io
import json
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridge.cli import main
from bridge.demo_broker import HOST, DemoBroker
from bridge.errors import Fatal
from bridge.options import MqttOptions, Secret
from bridge.viewer import watch
from tests.support import PATIENCE_S, free_port

DEVICE = "application/70b3d57ed0001122/device/a81758fffe0a0b0c"
UP = {"f_port": 5, "f_cnt": 42, "payload_hex": "0100e60252", "frequency_hz": 868500000}


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[DemoBroker]:
    async with DemoBroker(0) as running:
        yield running


def at(url: str, username: str | None = None, password: Secret | None = None) -> MqttOptions:
    return MqttOptions(url=(url,), username=username, password=password)


def publisher(broker: DemoBroker) -> aiomqtt.Client:
    return aiomqtt.Client(HOST, broker.port, protocol=aiomqtt.ProtocolVersion.V5, identifier="publisher")


class Pipe(io.StringIO):
    """Takes text and says when something was looked for and has come."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[str, asyncio.Event]] = []

    def write(self, text: str) -> int:
        written = super().write(text)
        for looked_for, came in self._waiting:
            if looked_for in self.getvalue():
                came.set()
        return written

    async def until(self, text: str) -> None:
        came = asyncio.Event()
        self._waiting.append((text, came))
        if text not in self.getvalue():
            async with asyncio.timeout(PATIENCE_S):
                await came.wait()


async def ended(task: "asyncio.Task[int]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_piped_lines_come_at_once_plain_and_with_binary_attributes(broker: DemoBroker) -> None:
    out, notices = Pipe(), Pipe()
    async with publisher(broker) as client:
        await client.publish("ws2mqtt/lora/state", '{"state":"online"}', qos=1, retain=True)
        task = asyncio.create_task(watch(at(broker.url), out=out, notices=notices, header=["the demo"]))
        await out.until("online")
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.UserProperty = [("type", "resiot.up")]
        await client.publish(f"ws2mqtt/lora/{DEVICE}/event/up", json.dumps(UP), qos=1, properties=properties)
        await out.until("868.5 MHz\n")
        await ended(task)
    first, state, up = out.getvalue().splitlines()
    assert first == "the demo"
    assert re.fullmatch(r"\d\d:\d\d:\d\d lora state ● online \(retained\)", state)
    assert re.fullmatch(rf"\d\d:\d\d:\d\d lora resiot\.up {DEVICE} port 5 #42 .*", up)
    assert notices.getvalue() == ""


async def test_json_lines_and_a_filter(broker: DemoBroker) -> None:
    out = Pipe()
    async with publisher(broker) as client:
        await client.publish("other/a", "1", qos=1, retain=True)
        watching = watch(at(broker.url), out=out, json_lines=True, filter="other/#", header=["not in JSON"])
        task = asyncio.create_task(watching)
        await out.until("\n")
        await ended(task)
    assert out.getvalue() == '{"topic":"other/a","retain":true,"payload":1}\n'


async def test_it_ends_by_itself_with_0_where_there_was_a_broker_and_1_where_not(broker: DemoBroker) -> None:
    assert await watch(at(broker.url), out=Pipe(), notices=Pipe(), seconds=0.5) == 0
    notices = Pipe()
    assert await watch(at("mqtt://127.0.0.1:9"), out=Pipe(), notices=notices, seconds=0.5) == 1
    assert re.fullmatch(
        r"no connection to mqtt://127\.0\.0\.1:9 \(.*refused.*\); trying again\n", notices.getvalue(), re.IGNORECASE
    )


async def test_it_comes_back_with_the_broker_and_says_so() -> None:
    out, notices = Pipe(), Pipe()
    port = free_port()
    async with DemoBroker(port) as first:
        task = asyncio.create_task(watch(at(first.url), out=out, notices=notices))
        async with publisher(first) as client:
            await client.publish("ws2mqtt/x/state", "1", qos=1, retain=True)
            await out.until("state 1")
    await notices.until("trying again")
    async with DemoBroker(port) as second, publisher(second) as client:
        await notices.until("again\nconnected to mqtt://127.0.0.1:")
        await client.publish("ws2mqtt/x/state", "2", qos=1, retain=True)
        await out.until("state 2")
        await ended(task)


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:1883", "mqtt://host:99999", "mqtt://[x"])
def test_what_is_no_address_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--mqtt-url", url]) == 1
    assert "write it like mqtt://host:1883" in capsys.readouterr().err


async def test_nobody_reads_any_more(broker: DemoBroker) -> None:
    read, write = os.pipe()
    os.close(read)
    async with publisher(broker) as client:
        await client.publish("ws2mqtt/lora/state", "1", qos=1, retain=True)
        with os.fdopen(write, "w") as out:
            async with asyncio.timeout(PATIENCE_S):
                assert await watch(at(broker.url), out=out) == 0


class Terminal:
    """The other side of a pseudo terminal."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.out = os.fdopen(slave, "w")
        os.set_blocking(self._master, False)
        self.text = ""

    async def until(self, found: Callable[[str], object]) -> None:
        loop, came = asyncio.get_running_loop(), asyncio.Event()

        def read() -> None:
            self.text += os.read(self._master, 65_536).decode("utf-8", "replace")
            if found(self.text):
                came.set()

        loop.add_reader(self._master, read)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await came.wait()
        finally:
            loop.remove_reader(self._master)

    def close(self) -> None:
        self.out.close()
        with suppress(BlockingIOError, OSError):
            while rest := os.read(self._master, 65_536):
                self.text += rest.decode("utf-8", "replace")
        os.close(self._master)


@pytest.mark.parametrize("no_colour", [False, True])
async def test_a_terminal_gets_a_live_screen_and_its_cursor_back(
    broker: DemoBroker, monkeypatch: pytest.MonkeyPatch, no_colour: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", "1" if no_colour else "")
    terminal = Terminal()
    async with publisher(broker) as client:
        await client.publish("ws2mqtt/lora/state", '{"state":"online"}', qos=1, retain=True)
        await client.publish("ws2mqtt/lora/event/up", b'{"evil":"\\u001b]0;x\\u0007"}', qos=1, retain=True)
        task = asyncio.create_task(watch(at(broker.url), out=terminal.out, header=["try: mosquitto_sub"]))
        await terminal.until(lambda text: "1 events" in text and "evil=·]0;x·" in text)
        await ended(task)
    terminal.close()
    assert terminal.text.startswith("\x1b[?25l")
    assert terminal.text.endswith("\r\n\x1b[?25h")
    assert "try: mosquitto_sub" in terminal.text.rsplit("\x1b[J", 1)[1], "the header stays in sight"
    assert ("\x1b[38;5;28m●" in terminal.text) is not no_colour


async def interrupted(url: str, moment: Callable[[Terminal], Coroutine[Any, Any, None]]) -> str:
    """What the terminal of `watch` shows when Ctrl-C comes at some moment."""
    program = f"""
import asyncio
from bridge.options import MqttOptions
from bridge.viewer import watch
from tests.support import free_port
try:
    asyncio.run(watch(MqttOptions(url=({url!r},))))
except KeyboardInterrupt:
    print("the end")
"""
    terminal = Terminal()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", program, stdout=terminal.out, stderr=asyncio.subprocess.PIPE
    )
    await moment(terminal)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(PATIENCE_S):
        _, errors = await process.communicate()
    terminal.close()
    assert (process.returncode, errors) == (0, b"")
    return terminal.text


async def test_ctrl_c_ends_a_real_process_in_order(broker: DemoBroker) -> None:
    async def shown(terminal: Terminal) -> None:
        await terminal.until(lambda text: "1 events" in text)

    async with publisher(broker) as client:
        await client.publish("ws2mqtt/a/event/b", "1", qos=1, retain=True)
    assert (await interrupted(broker.url, shown)).endswith("\r\n\x1b[?25hthe end\r\n")


async def test_ctrl_c_while_it_connects() -> None:
    came = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1000):
            came.set()
        await reader.read()
        writer.close()

    async def connecting(terminal: Terminal) -> None:
        await came.wait()

    server = await asyncio.start_server(mute, HOST, 0)
    async with server:
        text = await interrupted(f"mqtt://{HOST}:{server.sockets[0].getsockname()[1]}", connecting)
    assert text.endswith("\x1b[?25hthe end\r\n")


async def test_a_refused_login_is_fatal() -> None:
    server = await asyncio.start_server(_refuses, HOST, 0)
    async with server:
        mqtt = at(f"mqtt://{HOST}:{server.sockets[0].getsockname()[1]}", username="me", password=Secret("wrong"))
        with pytest.raises(Fatal, match=r"refused the connection: .*username and mqtt.password"):
            await watch(mqtt, out=Pipe(), notices=Pipe())


async def _refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connect = await reader.read(1000)
    assert b"me" in connect
    assert b"ws2mqtt-watch-" in connect
    writer.write(bytes((0x20, 3, 0, 0x86, 0)))  # CONNACK, bad user name or password (MQTT 5, 3.2.2.2)
    await writer.drain()
    await reader.read()
    writer.close()
