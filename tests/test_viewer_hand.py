"""Who watches steers: pause, filter and end by single keys, in a real terminal that is afterwards as it was."""

import asyncio
import fcntl
import io
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from bridge.demo_broker import HOST, DemoBroker
from bridge.viewer import Lines
from bridge.viewer.hand import Hand
from bridge.viewer.lines import width_of
from bridge.viewer.reading import place
from bridge.viewer.screen import Screen, Tally, status
from tests.support import PATIENCE_S


def pressed(keys: str) -> Hand:
    hand = Hand()
    for key in keys:
        hand.press(key)
    return hand


@pytest.mark.parametrize(
    ("keys", "paused", "typed", "typing", "over"),
    [
        (" ", True, "", False, False),
        ("p", True, "", False, False),
        ("  ", False, "", False, False),
        ("/lora up", False, "lora up", True, False),
        ("/q\r", False, "q", False, False),
        ("/lorb\x7fa\r ", True, "lora", False, False),
        ("/lora\r\x1b", False, "", False, False),
        ("/a\x15", False, "", False, False),
        ("/a\x07\x00b", False, "ab", True, False),
        ("q", False, "", False, True),
        ("\x04", False, "", False, True),
        ("xyz?", False, "", False, False),
    ],
)
def test_keys(keys: str, paused: bool, typed: str, typing: bool, over: bool) -> None:
    hand = pressed(keys)
    assert (hand.paused, hand.typed, hand.typing, hand.over) == (paused, typed, typing, over)


def test_each_word_of_a_filter_is_in_the_line() -> None:
    hand = pressed("/Lora uP\r")
    assert hand.wants("12:00:01 lora resiot.up port 5")
    assert not hand.wants("12:00:01 lora resiot.join")


@given(st.text(max_size=150), st.integers(0, 100))
def test_what_it_says_fits_and_can_be_printed(keys: str, width: int) -> None:
    told = pressed(f"/{keys}").told(width)
    assert told.isprintable()
    assert width_of(told) <= width


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


EVENT = place("ws2mqtt/lora/event/up", "ws2mqtt")


def test_in_a_pause_nothing_is_shown_and_all_is_counted() -> None:
    clock, out, hand = Clock(), io.StringIO(), Hand()
    screen = Screen(out, Lines(), [], clock, hand)
    hand.press(" ")
    assert [screen.looks_for(lambda: "an event") for _ in range(7)] == [False] * 7
    screen.draw()
    assert "paused, 7 came" in out.getvalue()
    hand.press(" ")
    assert screen.looks_for(lambda: "an event")
    screen.draw()
    screen.draw()
    assert out.getvalue().count("… +7 in the pause") == 1


def test_a_pause_with_a_filter_counts_what_fits() -> None:
    hand = pressed("/up\r ")
    screen = Screen(io.StringIO(), Lines(), [], Clock(), hand)
    for text in ("up", "join", "up"):
        screen.looks_for(lambda text=text: text)  # type: ignore[misc]
    assert hand.came == 2


def test_a_filter_in_a_flood_looks_at_a_sample_and_counts_the_rest() -> None:
    clock, out = Clock(), io.StringIO()
    screen = Screen(out, Lines(), [], clock, pressed("/up\r"))
    looked = 0

    def text() -> str:
        nonlocal looked
        looked += 1
        return "join"

    for _ in range(20_000):
        screen.looks_for(text)
    assert looked < 1000
    clock.now += 2
    screen.draw()
    assert f"… +{20_000 - looked:,} more" in out.getvalue()


def test_without_a_broker_nobody_knows_how_a_backend_is() -> None:
    tally = Tally(Clock())
    tally.count(place("ws2mqtt/lora/state", "ws2mqtt"), b'{"state":"online"}')
    assert status(tally, Lines(), 79).startswith("lora ● 0/s")
    tally.away = True
    assert status(tally, Lines(), 79).startswith("no broker  lora ? 0/s")


def test_backends_can_be_told_apart_on_a_white_and_on_a_black_ground() -> None:
    """By WCAG's contrast: 3 to 1 is its least for what is large or not text alone (1.4.11)."""
    from bridge.viewer import lines

    steps = (0, 95, 135, 175, 215, 255)  # of xterm's cube of 216 colours

    def light(number: int) -> float:
        place = number - 16
        shades = [8 + 10 * (number - 232)] * 3 if number >= 232 else [
            steps[place // 36], steps[place // 6 % 6], steps[place % 6]
        ]  # fmt: skip
        parts = [(c / 255) / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in shades]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    shown = Lines()
    colours = {shown.colour_of(f"backend-{number}") for number in range(8)}
    assert len(colours) == 8
    for colour in (*colours, lines.QUIET, lines.RED, lines.GREEN, lines.AMBER):
        own = light(int(colour.removeprefix("38;5;")))
        assert min(1.05 / (own + 0.05), (own + 0.05) / 0.05) > 3.5, colour


# A real terminal

_IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "bridge", *sys.argv[1:]])
"""


class Terminal:
    """A pseudo terminal and the program that it belongs to."""

    def __init__(self, master: int, child: asyncio.subprocess.Process) -> None:
        self.master, self.child, self.text = master, child, ""
        self._came = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            self.text += os.read(self.master, 65_536).decode("utf-8", "replace")
        except OSError:
            asyncio.get_running_loop().remove_reader(self.master)
        self._came.set()

    async def until(self, found: Callable[[str], object], since: int = 0) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not found(self.text[since:]):
                self._came.clear()
                await self._came.wait()

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def echoes(self) -> bool:
        flags: list[Any] = termios.tcgetattr(self.master)
        return bool(flags[3] & termios.ECHO and flags[3] & termios.ICANON)

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await self.child.wait()


@asynccontextmanager
async def watching(*arguments: str, columns: int = 80, rows: int = 24) -> AsyncIterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1"}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _IN_A_TERMINAL,
        "watch",
        *arguments,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
    )
    os.set_blocking(master, False)
    terminal = Terminal(master, child)
    try:
        yield terminal
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(slave)
        os.close(master)


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[DemoBroker]:
    async with DemoBroker(0) as running:
        yield running


@asynccontextmanager
async def speaking(broker: DemoBroker) -> AsyncIterator[Callable[[str], Any]]:
    """Publishes an event of a backend."""
    async with aiomqtt.Client(HOST, broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        yield lambda backend: client.publish(f"ws2mqtt/{backend}/event/up", b'{"n":1}', qos=1)


async def test_pause_filter_and_end(broker: DemoBroker) -> None:
    async with speaking(broker) as say, watching("--mqtt-url", broker.url) as terminal:
        await terminal.until(lambda text: "space pauses" in text)
        assert not terminal.echoes()
        await terminal.until(lambda text: "waiting for messages" in text)
        terminal.press(" ")
        await terminal.until(lambda text: "paused, 0 came" in text)
        await _until_heard(terminal, say, "lora", "paused, 1 came")
        assert "lora  up" not in terminal.text
        terminal.press(" ")
        await terminal.until(lambda text: re.search(r"… \+\d+ in the pause", text))
        terminal.press("/POR\x1b[A\r")  # an arrow in between is no letter
        await terminal.until(lambda text: "filter: POR   Esc" in text)
        mark = len(terminal.text)
        for backend in ("lora", "port"):
            await say(backend)
        await terminal.until(lambda text: "port  up  n=1" in text, mark)
        assert "lora  up" not in terminal.text[mark:]
        terminal.press("q")
        assert await terminal.ended() == 0
        assert terminal.echoes()
        await terminal.until(lambda text: text.endswith("\x1b[?25h"))


async def _until_heard(terminal: Terminal, say: Callable[[str], Any], backend: str, words: str) -> None:
    """Said again until it is heard: nothing tells from outside when the subscription stands."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await say(backend)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await terminal.until(lambda text: re.search(words.replace("1", r"[1-9]\d*"), text))
                    return


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_leaves_the_terminal_as_it_was(broker: DemoBroker, number: signal.Signals) -> None:
    async with watching("--mqtt-url", broker.url) as terminal:
        await terminal.until(lambda text: "space pauses" in text)
        terminal.child.send_signal(number)
        assert await terminal.ended() == 0
        assert terminal.echoes()
        await terminal.until(lambda text: text.endswith("\x1b[?25h"))
        assert "Traceback" not in terminal.text


async def test_ctrl_z_gives_the_terminal_back_and_fg_goes_on(broker: DemoBroker) -> None:
    async with watching("--mqtt-url", broker.url) as terminal:
        await terminal.until(lambda text: "space pauses" in text)
        terminal.press("\x1a")
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.to_thread(os.waitid, os.P_PID, terminal.child.pid, os.WSTOPPED)
        assert terminal.echoes()
        await terminal.until(lambda text: text.endswith("\x1b[?25h"))
        mark = len(terminal.text)
        terminal.child.send_signal(signal.SIGCONT)
        await terminal.until(lambda text: "\x1b[?25l" in text and "space pauses" in text, mark)
        assert not terminal.echoes()
        terminal.press("q")
        assert await terminal.ended() == 0


async def test_a_small_terminal_and_another_size(broker: DemoBroker) -> None:
    async with speaking(broker) as say, watching("--mqtt-url", broker.url, columns=40, rows=12) as terminal:
        await terminal.until(lambda text: "waiting for messages" in text)
        await _until_heard(terminal, say, "lora", "lora ")
        for line in re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "\n", terminal.text).splitlines():
            assert width_of(line) <= 40, line
        fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        mark = len(terminal.text)
        await say("lora")
        await terminal.until(lambda text: re.search(r"\d\d:\d\d:\d\d lora  up", text), mark)


async def test_a_stupid_terminal_gets_plain_lines(broker: DemoBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    async with aiomqtt.Client(HOST, broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.publish("ws2mqtt/lora/state", b'{"state":"online"}', qos=1, retain=True)
    master, slave = pty.openpty()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "watch", "--mqtt-url", broker.url,
        stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "dumb"},
    )  # fmt: skip
    os.set_blocking(master, False)
    terminal = Terminal(master, child)
    try:
        await terminal.until(lambda text: "● online" in text)
        child.send_signal(signal.SIGINT)
        assert await terminal.ended() == 0
        assert "\x1b" not in terminal.text
    finally:
        asyncio.get_running_loop().remove_reader(master)
        os.close(slave)
        os.close(master)


def test_the_time_stays_where_there_is_room() -> None:
    from bridge.viewer import Look

    now = datetime(2024, 3, 5, 12, 0, 1, tzinfo=UTC)
    for width, begins in ((59, "lora  state"), (60, "12:00:01 lora  state")):
        shown = Lines(look=Look(width)).line("ws2mqtt/lora/state", b'{"state":"online"}', retain=False, now=now)
        assert shown.startswith(begins)
