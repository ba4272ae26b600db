"""`ws2mqtt watch`: a subscriber that shows what comes, and keeps trying where the broker goes away.

Three forms: a live screen on a terminal, plain lines in a pipe, one JSON object per line. What is about the connection
is told on the screen or, with lines, on `notices`, so that what is piped stays clean. Subscribes at QoS 0: watching
never makes the broker wait for us.
"""

import asyncio
import contextlib
import itertools
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol, TextIO

from bridge.broker import Incoming, connect
from bridge.errors import Fatal, Refused, Transient
from bridge.options import MqttOptions, plain
from bridge.viewer.hand import Hand
from bridge.viewer.keys import keys
from bridge.viewer.lines import AMBER, Lines, Look, json_line
from bridge.viewer.reading import place, printable, words
from bridge.viewer.screen import Screen, size, writable, write

_AGAIN_S = 1.0
_DRAW_S = 0.1


class View(Protocol):
    """Where messages are shown. Both raise OSError where nobody reads any more."""

    def message(self, message: Incoming) -> None:
        """One message that came in."""

    def notice(self, text: str) -> None:
        """A word about the connection."""

    def away(self, away: bool) -> None:
        """Whether there is no connection."""


async def watch(
    mqtt: MqttOptions,
    *,
    filter: str | None = None,  # noqa: A002
    json_lines: bool = False,
    colour: bool | None = None,
    out: TextIO | None = None,
    notices: TextIO | None = None,
    seconds: float | None = None,
    header: Sequence[str] = (),
) -> int:
    """Shows messages until it is cancelled (the terminal is put in order first) or `seconds` are over; an exit code.

    filter: an MQTT topic filter, None: everything below the base topic · colour: None: on a terminal, unless NO_COLOR
    is set · out, notices: None: standard output and error · header: lines that stay in sight on a terminal, and come
    first in a pipe (not with json_lines). 0: was connected, was told to end, or nobody reads any more (`| head`) ·
    1: never connected.
    Raises Fatal where the broker refuses us.
    """
    out, notices = out or sys.stdout, notices or sys.stderr
    terminal = out.isatty() and os.environ.get("TERM") != "dumb"
    painted = terminal and not os.environ.get("NO_COLOR") if colour is None else colour
    door = _Door(mqtt, filter or f"{mqtt.base_topic}/#")
    lines = Lines(mqtt.base_topic, Look(colour=painted and not json_lines))
    try:
        if terminal and not json_lines:
            async with _live(out, lines, header) as screen:
                await _until(seconds, door.follow(screen), screen.over)
                if screen.over.done():
                    return 0
        else:
            plain = _Plain(out, notices, lines, json_lines, () if json_lines else header)
            await _until(seconds, door.follow(plain), asyncio.get_running_loop().create_future())
    except OSError:
        _nobody_reads(out)
        return 0
    return 0 if door.was_open else 1


async def _until(seconds: float | None, following: Coroutine[None, None, None], over: asyncio.Future[None]) -> None:
    """Until the time is up, or it is over: raises why, where there is a reason."""
    task = asyncio.ensure_future(following)
    try:
        done, _ = await asyncio.wait((task, over), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_told(watching: Coroutine[None, None, int]) -> int:
    """Its exit code; 0 where a signal ends it, as it is meant to end: the terminal is put in order first."""
    task, loop = asyncio.ensure_future(watching), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return 0


class _Plain:
    """A line per message, flushed."""

    def __init__(self, out: TextIO, notices: TextIO, lines: Lines, as_json: bool, header: Sequence[str]) -> None:
        self._out, self._notices, self._lines, self._json = out, notices, lines, as_json
        if header:
            write(out, "".join(f"{line}\n" for line in header))

    def message(self, message: Incoming) -> None:
        as_json = self._json
        line = json_line(message.topic, message.payload, message.retain) if as_json else _line(self._lines, message)
        write(self._out, f"{line}\n")

    def notice(self, text: str) -> None:
        with contextlib.suppress(OSError):
            write(self._notices, f"{printable(text)}\n")

    def away(self, away: bool) -> None:
        """The notices tell it."""


class _Live:
    """The live screen: counts everything, shows what a person can follow. over: done when it is to end, or why."""

    def __init__(self, out: TextIO, lines: Lines, screen: Screen) -> None:
        self._out, self._lines, self._screen = out, lines, screen
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def message(self, message: Incoming) -> None:
        where = place(message.topic, self._lines.base)
        self._screen.tally.count(where, message.payload)
        if self._screen.looks_for(lambda: self._all(message)) and self._screen.wants(where):
            self._lines.look = replace(self._lines.look, width=size(self._out)[0])
            self._screen.show(_line(self._lines, message))

    def _all(self, message: Incoming) -> str:
        """What is said of it in either form, uncut and without colours."""
        look, self._lines.look = self._lines.look, Look()
        try:
            return f"{words(place(message.topic, self._lines.base).subject)} {_line(self._lines, message)}"
        finally:
            self._lines.look = look

    def notice(self, text: str) -> None:
        self._screen.show(self._lines.painted(printable(text), AMBER))

    def away(self, away: bool) -> None:
        self._screen.tally.away = away

    def press(self, key: str) -> None:
        if (hand := self._screen.hand) is not None:
            hand.press(key)
            if hand.over and not self.over.done():
                self.over.set_result(None)

    async def draw(self) -> None:
        """Ten times a second, until nobody reads any more."""
        try:
            while True:
                if writable(self._out):
                    self._screen.draw()
                await asyncio.sleep(_DRAW_S)
        except OSError as error:
            if not self.over.done():
                self.over.set_exception(error)


@contextlib.asynccontextmanager
async def _live(out: TextIO, lines: Lines, header: Sequence[str]) -> AsyncIterator[_Live]:
    """Whatever happens, the terminal is in order afterwards: its cursor is shown, and it echoes."""
    screen = Screen(out, lines, header, time.monotonic)
    view = _Live(out, lines, screen)
    hand, loop = Hand(), asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:

        def enter() -> None:
            screen.hand = hand if stack.enter_context(keys(sys.stdin, view.press)) else None
            screen.open()

        def suspend() -> None:
            with contextlib.suppress(OSError):
                screen.close()
                stack.close()
                os.kill(os.getpid(), signal.SIGSTOP)
                enter()

        loop.add_signal_handler(signal.SIGTSTP, suspend)
        enter()
        drawing = asyncio.create_task(view.draw())
        try:
            yield view
        finally:
            loop.remove_signal_handler(signal.SIGTSTP)
            drawing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drawing
            with contextlib.suppress(OSError):
                screen.close()


class _Door:
    """The connection to the broker: one after the other, for as long as somebody watches."""

    def __init__(self, mqtt: MqttOptions, topic_filter: str) -> None:
        self._mqtt, self._filter = mqtt, topic_filter
        self.was_open = False

    async def follow(self, view: View) -> None:
        """Shows what comes, for ever. Raises Fatal where the broker refuses us."""
        told, urls = "", itertools.cycle(self._mqtt.url)
        while True:
            url = next(urls)
            shown = plain(url)
            try:
                async with connect(self._mqtt, url, f"ws2mqtt-watch-{secrets.token_hex(4)}", None) as connection:
                    await connection.subscribe([self._filter], retained=True, qos=0)
                    view.away(False)
                    if told:
                        view.notice(f"connected to {shown} again" if self.was_open else f"connected to {shown}")
                    self.was_open, told = True, ""
                    async for message in connection.messages():
                        view.message(message)
            except Refused as error:
                raise Fatal(f"{shown}: {error}") from None
            except Transient as error:
                text = f"no connection to {shown} ({error})"
            view.away(True)
            if text != told:
                told = text
                view.notice(f"{text}; trying again")
            await asyncio.sleep(_AGAIN_S)


def _line(lines: Lines, message: Incoming) -> str:
    now = datetime.now().astimezone()
    attributes = dict(message.attributes)
    return lines.line(message.topic, message.payload, retain=message.retain, now=now, attributes=attributes)


def _nobody_reads(out: TextIO) -> None:
    """What is still in Python's buffer goes nowhere, instead of failing once more when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
