"""`ws2mqtt watch`: a subscriber that shows what comes, and keeps trying where the broker goes away.

Three forms: a live screen on a terminal, plain lines in a pipe, one JSON object per line. What is about the connection
is told on the screen or, with lines, on `notices`, so that what is piped stays clean. Subscribes at QoS 0: watching
never makes the broker wait for us.
"""

import asyncio
import contextlib
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol, TextIO
from urllib.parse import unquote, urlsplit

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from bridge.broker import PORTS
from bridge.errors import Fatal
from bridge.links.tls import tls_context
from bridge.options import Tls
from bridge.viewer.lines import Lines, Look, json_line
from bridge.viewer.reading import place, printable
from bridge.viewer.screen import Screen, size, write

_AGAIN_S = 1.0
_DRAW_S = 0.1
_CONNECT_S = 10.0
_GIVE_UP_S = 6.0  # paho needs up to 5 to find that nobody answers
_LEAVE_S = 2.0
_REFUSED = {
    0x84,
    0x85,
    0x86,
    0x87,
    0x8A,
    0x8C,
}  # version, client id, password, not authorized, banned, method
_NO = 0x80  # reason codes from here on (MQTT 5, 2.4)


class View(Protocol):
    """Where messages are shown. Both raise OSError where nobody reads any more."""

    def message(self, message: aiomqtt.Message) -> None:
        """One message that came in."""

    def notice(self, text: str) -> None:
        """A word about the connection."""


async def watch(
    url: str,
    *,
    username: str | None = None,
    password: str | None = None,
    tls: Tls | None = None,
    base_topic: str = "ws2mqtt",
    filter: str | None = None,  # noqa: A002
    json_lines: bool = False,
    colour: bool | None = None,
    out: TextIO | None = None,
    notices: TextIO | None = None,
    seconds: float | None = None,
    header: Sequence[str] = (),
) -> int:
    """Shows messages until it is cancelled (the terminal is put in order first) or `seconds` are over; an exit code.

    url: mqtt:// mqtts:// ws:// wss://, user name and password may be in it · filter: an MQTT topic filter, None:
    everything below base_topic · colour: None: on a terminal, unless NO_COLOR is set · out, notices: None: standard
    output and error · header: lines that stay in sight on a terminal, and come first in a pipe (not with json_lines).
    0: was connected, or nobody reads any more (`| head`) · 1: never connected. Raises Fatal where the broker refuses
    us or the url cannot be used.
    """
    out, notices = out or sys.stdout, notices or sys.stderr
    terminal = out.isatty()
    painted = terminal and not os.environ.get("NO_COLOR") if colour is None else colour
    door = _Door(url, username, password, tls or Tls(), filter or f"{base_topic}/#")
    lines = Lines(base_topic, Look(colour=painted and not json_lines))
    try:
        if terminal and not json_lines:
            async with _live(out, lines, header) as screen:
                await _until(seconds, door.follow(screen))
        else:
            plain = _Plain(out, notices, lines, json_lines, () if json_lines else header)
            await _until(seconds, door.follow(plain))
    except OSError:
        _nobody_reads(out)
        return 0
    return 0 if door.was_open else 1


async def _until(seconds: float | None, following: Coroutine[None, None, None]) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(following, seconds)


class _Plain:
    """A line per message, flushed."""

    def __init__(self, out: TextIO, notices: TextIO, lines: Lines, as_json: bool, header: Sequence[str]) -> None:
        self._out, self._notices, self._lines, self._json = out, notices, lines, as_json
        if header:
            write(out, "".join(f"{line}\n" for line in header))

    def message(self, message: aiomqtt.Message) -> None:
        topic, payload = str(message.topic), _payload(message)
        line = json_line(topic, payload, bool(message.retain)) if self._json else _line(self._lines, message)
        write(self._out, f"{line}\n")

    def notice(self, text: str) -> None:
        with contextlib.suppress(OSError):
            write(self._notices, f"{printable(text)}\n")


class _Live:
    """The live screen: counts everything, shows what a person can follow."""

    def __init__(self, out: TextIO, lines: Lines, screen: Screen) -> None:
        self._out, self._lines, self._screen = out, lines, screen

    def message(self, message: aiomqtt.Message) -> None:
        where = place(str(message.topic), self._lines.base)
        self._screen.tally.count(where, _payload(message))
        if self._screen.wants(where):
            self._lines.look = replace(self._lines.look, width=size(self._out)[0])
            self._screen.show(_line(self._lines, message))

    def notice(self, text: str) -> None:
        self._screen.show(self._lines.painted(printable(text), 33))


@contextlib.asynccontextmanager
async def _live(out: TextIO, lines: Lines, header: Sequence[str]) -> AsyncIterator[_Live]:
    """Draws ten times a second; whatever happens, the cursor is shown again. Raises OSError as View does."""
    screen = Screen(out, lines, header, time.monotonic)
    owner, gone = asyncio.current_task(), False

    async def draw() -> None:
        nonlocal gone
        try:
            while True:
                screen.draw()
                await asyncio.sleep(_DRAW_S)
        except OSError:
            gone = True
            if owner is not None:
                owner.cancel()

    screen.open()
    drawing = asyncio.create_task(draw())
    try:
        yield _Live(out, lines, screen)
    except asyncio.CancelledError:
        if not gone or owner is None or owner.uncancel():
            raise
        raise BrokenPipeError from None
    finally:
        drawing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await drawing
        with contextlib.suppress(OSError):
            screen.close()


class _Door:
    """The connection to the broker: one after the other, for as long as somebody watches."""

    def __init__(self, url: str, username: str | None, password: str | None, tls: Tls, topic_filter: str) -> None:
        self._filter = topic_filter
        try:
            address = urlsplit(url)
            port = address.port or PORTS[address.scheme]
        except (ValueError, KeyError):
            raise Fatal("not a broker's address: write it like mqtt://127.0.0.1:1883 (or mqtts, ws, wss)") from None
        web = address.scheme in ("ws", "wss")
        self._name = f"{address.scheme}://{address.hostname or '127.0.0.1'}:{port}"
        self._host, self._port = address.hostname or "127.0.0.1", port
        self._username = username or (unquote(address.username) if address.username else None)
        self._password = password or (unquote(address.password) if address.password else None)
        self._path = (address.path or "/mqtt") + (f"?{address.query}" if address.query else "") if web else None
        try:
            self._tls = tls_context(tls) if address.scheme in ("mqtts", "wss") else None
        except OSError as error:
            raise Fatal(f"the TLS files cannot be used: {error}") from None
        self.was_open = False

    async def follow(self, view: View) -> None:
        """Shows what comes, for ever. Raises Fatal where the broker refuses us."""
        told = ""
        while True:
            try:
                async with _connected(self._client()) as client:
                    await self._subscribe(client)
                    if told:
                        view.notice(
                            f"connected to {self._name} again" if self.was_open else f"connected to {self._name}"
                        )
                    self.was_open, told = True, ""
                    async for message in client.messages:
                        view.message(message)
            except (aiomqtt.MqttError, ValueError) as error:
                text = self._trouble(error)
            if text != told:
                told = text
                view.notice(f"{text}; trying again")
            await asyncio.sleep(_AGAIN_S)

    def _client(self) -> aiomqtt.Client:
        return aiomqtt.Client(
            self._host,
            self._port,
            username=self._username,
            password=self._password,
            identifier=f"ws2mqtt-watch-{secrets.token_hex(4)}",
            protocol=aiomqtt.ProtocolVersion.V5,
            transport="websockets" if self._path else "tcp",
            websocket_path=self._path,
            clean_start=True,
            timeout=_CONNECT_S,
            keepalive=30,
            tls_context=self._tls,
        )

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        for code in await client.subscribe(self._filter, qos=0):
            if (code.value if isinstance(code, ReasonCode) else code) >= _NO:
                raise Fatal(f"the broker does not allow to subscribe to {printable(self._filter)}")

    def _trouble(self, error: Exception) -> str:
        """What to say about it. Raises Fatal where another try would end the same."""
        cause = error.__cause__ or error  # a lost connection's reason is behind it
        reason = cause.rc if isinstance(cause, aiomqtt.MqttCodeError) else None
        if isinstance(reason, ReasonCode) and reason.value in _REFUSED:
            raise Fatal(f"{self._name} refuses us ({reason}): check user name and password") from None
        return f"no connection to {self._name} ({cause or type(cause).__name__})"


@contextlib.asynccontextmanager
async def _connected(client: aiomqtt.Client) -> AsyncIterator[aiomqtt.Client]:
    """As `async with client`, but it leaves nothing behind where it is cancelled or refused while it connects."""
    entering, entered = asyncio.ensure_future(client.__aenter__()), False
    try:
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:  # aiomqtt connects in a thread, which cannot be stopped
            for _ in range(int(_GIVE_UP_S / _DRAW_S)):
                through = client._client.socket() is not None
                await asyncio.wait({entering}, timeout=_DRAW_S)
                if through or entering.done():
                    break
            entering.cancel()
            with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
                await entering
            raise
        entered = True
        yield client
    finally:
        if entered:
            with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
                await asyncio.wait_for(client.__aexit__(None, None, None), _LEAVE_S)
        client._client._sock_close()


def _payload(message: aiomqtt.Message) -> bytes:
    return message.payload if isinstance(message.payload, bytes) else b""


def _line(lines: Lines, message: aiomqtt.Message) -> str:
    attributes = dict(getattr(message.properties, "UserProperty", ()))
    now = datetime.now().astimezone()
    retain = bool(message.retain)
    return lines.line(str(message.topic), _payload(message), retain=retain, now=now, attributes=attributes)


def _nobody_reads(out: TextIO) -> None:
    """What is still in Python's buffer goes nowhere, instead of failing once more when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
