"""Bad days of the platforms: one bridge with many backends, each of which meets something else.

They all live side by side on purpose: what happens to one must not be seen in another. Somebody scrapes all the time,
and at the end the log is looked at: no traceback, no token.
"""

import asyncio
import contextlib
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.server import ServerConnection, serve

from bridge.simulators.resiot import Faults, ResiotSimOptions, ResiotSimulator
from tests.support import Record, close, free_port
from tests.support.house import FAST, TOKEN, House, counters, house, sequences, up, ups
from tests.support.mosquitto import Certificates, Mosquitto
from tests.support.process import Line
from tests.support.scraping import scraping

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "127.0.0.1"
PATH = f"/WebSocketServer/DeviceMsg/?type=node&token={TOKEN}"
PROXY_WORD = "proxy-word-8642"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


# The other sides


@dataclass
class Answering:
    """Whatever is asked, this is answered, and then closed. heard: what came in, connection by connection."""

    port: int
    heard: Record[bytes]

    def url(self, scheme: str = "ws") -> str:
        return f"{scheme}://{HOST}:{self.port}{PATH}"


@asynccontextmanager
async def answering(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Answering]:
    heard: Record[bytes] = Record("what the answering server heard")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = b""
        with contextlib.suppress(OSError, ssl.SSLError):
            while b"\r\n\r\n" not in asked and (more := await reader.read(4096)):
                asked += more
            heard.append(asked)
            writer.write(answer)
            await writer.drain()
            writer.write_eof() if writer.can_write_eof() else None
            await reader.read()
        await close(writer)

    async with serving(talk, tls) as port:
        yield Answering(port, heard)


@asynccontextmanager
async def serving(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A TCP server; its conversations end with it."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(one, HOST, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def tunnelling() -> AsyncIterator[Answering]:
    """A proxy that works: CONNECT, and everything goes through."""
    heard: Record[bytes] = Record("what the proxy heard")

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        heard.append(asked)
        host, _, port = asked.split(b" ")[1].decode().rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        finally:
            far_writer.transport.abort()

    async with serving(talk) as port:
        yield Answering(port, heard)


@dataclass
class Speaker:
    """A WebSocket server that says what it is told, of any kind. opened: every connection it ever had."""

    port: int = 0
    opened: Record[ServerConnection] = field(default_factory=lambda: Record("the speaker's connections"))

    async def say(self, *frames: bytes, text: bool = True) -> None:
        for frame in frames:
            await self.opened.items[-1].send(frame, text=text)


@asynccontextmanager
async def speaking() -> AsyncIterator[Speaker]:
    speaker = Speaker()

    async def talk(connection: ServerConnection) -> None:
        speaker.opened.append(connection)
        await connection.wait_closed()

    async with serve(talk, HOST, 0, compression=None, ping_interval=None, max_size=None, close_timeout=1) as server:
        speaker.port = next(iter(server.sockets)).getsockname()[1]
        yield speaker


# The house


SIMULATED = ("burst", "cut", "frozen", "silent", "late")
SPEAKERS = ("odd", "big", "split")


@dataclass
class Street:
    """The house and whom its backends meet."""

    home: House
    answering: dict[str, Answering]
    speakers: dict[str, Speaker]
    url_file: Path
    later_port: int

    async def state(self, backend: str, fits: Callable[[Any], bool]) -> Any:
        return await self.home.told(f"{backend}/state", fits)

    async def error(self, backend: str, text: str, state: str = "offline") -> Any:
        """Its state, once it says this, and how the metrics and the log say it."""
        told = await self.state(backend, lambda told: told["state"] == state and text in (told["error"] or ""))

        def fits(line: Line) -> bool:
            return line.fields.get("backend") == backend and text in str(line.fields.get("reason"))

        line = await self.home.bridge.wait_log(fits)
        assert (line.message, line.fields["level"]) == (state, "warning")
        return told

    async def count(self, name: str, least: float = 1.0, **labels: str) -> None:
        await self.home.bridge.wait_scrape(lambda seen: seen.total(f"ws2mqtt_{name}", **labels) >= least)


ANSWERS = {
    "r401": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
    "r403": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    "r503": b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
    "page": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "smtp": b"220 mail.example ESMTP\r\n",
    "mute": b"",
    "p407": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    "p502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    "trap": SWITCHING,
}


def server_tls(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server.cert_file, certificates.server.key_file)
    return context


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def street(
    mosquitto: Mosquitto, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Street]:
    folder = tmp_path_factory.mktemp("street")
    async with AsyncExitStack() as stack:
        met = {name: await stack.enter_async_context(answering(answer)) for name, answer in ANSWERS.items()}
        tls = server_tls(certificates)
        for name in ("pinned-wrong", "stranger"):
            met[name] = await stack.enter_async_context(answering(b"", tls))
        redirect = f"HTTP/1.1 302 Found\r\nLocation: {met['trap'].url()}\r\nContent-Length: 0\r\n\r\n".encode()
        met["r302"] = await stack.enter_async_context(answering(redirect))
        met["proxy"] = await stack.enter_async_context(tunnelling())
        speakers = {name: await stack.enter_async_context(speaking()) for name in SPEAKERS}
        told = ResiotSimOptions(
            rate=0, token=TOKEN, tls_cert=str(certificates.server.cert_file), tls_key=str(certificates.server.key_file)
        )
        secure = await stack.enter_async_context(ResiotSimulator(told))
        later, url_file = free_port(), folder / "url"
        url_file.write_text(f"ws://{HOST}:{later}/old?token={TOKEN}\n")
        pem = certificates.server.cert_file.read_text()
        fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----END") + 25] + "\n")).hexdigest()
        colons = ":".join(fingerprint[at : at + 2] for at in range(0, 64, 2)).upper()
        proxy = f"http://me:{PROXY_WORD}@{HOST}:{met['proxy'].port}"
        ca = {"ca_file": str(certificates.ca_file)}
        backends: dict[str, dict[str, Any]] = {
            **{name: {"url": met[name].url()} for name in ("r401", "r403", "r503", "r302", "page", "smtp", "mute")},
            "p407": {"url": met["trap"].url(), "proxy": f"http://{HOST}:{met['p407'].port}"},
            "p502": {"url": met["trap"].url(), "proxy": f"http://{HOST}:{met['p502'].port}"},
            "socks": {"url": met["trap"].url(), "proxy": f"socks5://{HOST}:{later}"},
            "oddproxy": {"url": met["trap"].url(), "proxy": f"http://me:{PROXY_WORD}@{HOST}:1/path"},
            "proxied": {"url": secure.url, "proxy": proxy, "tls": {"fingerprint": fingerprint}},
            "proxied-wrong": {"url": secure.url, "proxy": proxy, "tls": {"fingerprint": "ab" * 32}},
            "ca": {"url": secure.url, "tls": ca},
            "insecure": {"url": secure.url.replace(HOST, "localhost"), "tls": {"insecure": True}},
            "pinned": {"url": secure.url, "tls": {"fingerprint": colons}},
            "pinned-wrong": {"url": met["pinned-wrong"].url("wss"), "tls": {"fingerprint": "00" * 32}},
            "stranger": {"url": met["stranger"].url("wss")},
            "untrusted": {"url": secure.url, "tls": {"ca_file": str(certificates.stranger_file)}},
            "nowhere": {"url": f"ws://nonexistent.invalid{PATH}"},
            "absent": {"url": f"ws://{HOST}:{later}{PATH}"},
            "file": {"url_file": str(url_file)},
            **{name: {"url": f"ws://{HOST}:{one.port}{PATH}"} for name, one in speakers.items()},
            "frozen": {"ping": "3s"},
            "silent": {"idle": "500ms"},
        }
        for name in ("big", "odd", "split"):
            backends[name]["max_frame"] = "1MiB"
        full = {
            name: one if name in SIMULATED else {"type": "resiot", "reconnect": FAST, **one}
            for name, one in backends.items()
        }
        home = await stack.enter_async_context(
            house(mosquitto, folder, folder.name, platforms=SIMULATED, backends=full)
        )
        await stack.enter_async_context(scraping(home.bridge, [*SIMULATED, *backends]))
        yield Street(home, met, speakers, url_file, later)


# Not let in


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_tried_again_slowly(street: Street, status: int) -> None:
    name = f"r{status}"
    told = await street.error(name, f"HTTP {status}", "auth_failed")
    assert "check the token" in told["error"]
    pause = datetime.fromisoformat(told["next_retry"]) - datetime.fromisoformat(told["since"])
    assert 29.5 <= pause.total_seconds() <= 30.5
    assert told["attempt"] == 1
    await street.count("auth_total", backend=name, outcome="refused")
    await street.count("websocket_connects_total", backend=name, outcome="refused")
    assert len(street.answering[name].heard.items) == 1


async def test_retry_after_is_obeyed(street: Street) -> None:
    told = await street.error("r503", "HTTP 503")
    pause = datetime.fromisoformat(told["next_retry"]) - datetime.fromisoformat(told["since"])
    assert 6.9 <= pause.total_seconds() <= 7.5


async def test_a_redirect_is_not_followed(street: Street) -> None:
    await street.error("r302", "redirect (HTTP 302), which is not followed")
    assert street.answering["trap"].heard.items == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page", "HTTP 200 instead of opening a WebSocket"),
        ("smtp", "did not receive a valid HTTP response"),
        ("mute", "did not receive a valid HTTP response"),
        ("p407", "the proxy answered 407"),
        ("p502", "the proxy answered 502"),
        ("socks", "nothing listens on the proxy 127.0.0.1:"),
        ("oddproxy", "proxy"),
        ("nowhere", "the name nonexistent.invalid "),
        ("stranger", "certificate is not accepted"),
        ("untrusted", "certificate is not accepted"),
        ("pinned-wrong", "another fingerprint"),
        ("proxied-wrong", "another fingerprint"),
    ],
)
async def test_what_is_no_platform_is_offline_and_says_why(street: Street, name: str, text: str) -> None:
    told = await street.error(name, text)
    assert told["attempt"] >= 1
    assert told["next_retry"]
    await street.count("websocket_connects_total", backend=name, outcome="failed")
    await street.count("websocket_reconnects_total", backend=name, reason="failed")
    answered = street.answering.get(name)
    if answered and name in ("stranger", "pinned-wrong"):
        assert all(asked == b"" for asked in answered.heard.items), "not a byte leaves for a server that is not the one"


# Let in


@pytest.mark.parametrize("name", ["ca", "insecure", "pinned", "proxied"])
async def test_certificates_and_proxy_that_are_right(street: Street, name: str) -> None:
    await street.state(name, lambda told: told["state"] == "online")
    if name == "proxied":
        asked = street.answering["proxy"].heard.items[0]
        assert asked.startswith(b"CONNECT 127.0.0.1:")
        assert b"Proxy-Authorization: Basic" in asked
        assert TOKEN.encode() not in asked


async def test_absent_and_then_there_and_the_file_is_read_at_the_next_try(street: Street) -> None:
    for name in ("absent", "file"):
        await street.error(name, f"nothing listens on {HOST}:{street.later_port} (connection refused)")
    options = ResiotSimOptions(rate=0, token=TOKEN, port=street.later_port)
    async with ResiotSimulator(options) as platform:
        await street.state("absent", lambda told: told["state"] == "online")
        street.url_file.write_text(f"{platform.url}\n")
        mark = street.home.mark
        await street.home.told("file/state", lambda told: told["state"] == "online")
        await platform.connected(2)
        await platform.say(up(1))
        for name in ("absent", "file"):
            await street.home.until_uplinks(1, name)
    told = await street.home.told("absent/state", lambda told: told["state"] == "offline", since=mark)
    assert told["last_event"]


# Then something happens


async def test_ten_thousand_frames_in_one_burst(street: Street) -> None:
    assert await street.home.platforms["burst"].flood(ups(10_000)) == 10_000
    heard = await street.home.until_uplinks(10_000, "burst")
    assert counters(heard) == list(range(1, 10_001))
    assert sequences(heard) == list(range(1, 10_001))


@pytest.mark.parametrize("code", [1000, 1001, 1011])
async def test_closed_in_mid_burst_nothing_that_arrived_is_lost(street: Street, code: int) -> None:
    platform = street.home.platforms["cut"]
    platform.faults = Faults(close_after=700, close_code=code)
    admitted, mark, gaps = platform.admitted, street.home.mark, len(street.home.ear.on("+/cut/event/gap"))
    await platform.drop()
    await platform.admissions(admitted + 1)
    await platform.flood(ups(1000, code * 1000))
    topic = f"{street.home.base}/cut/application/+/device/+/event/up"
    heard = await street.home.ear.wait_count(700, topic, since=mark)
    assert counters(heard) == list(range(code * 1000, code * 1000 + 700))
    gap = await street.home.told("cut/event/gap", lambda told: str(code) in told["data"]["reason"], since=mark)
    assert gap["data"]["from"] <= gap["data"]["to"]
    await street.count("gaps_total", gaps + 2, backend="cut")
    await street.count("websocket_reconnects_total", gaps + 2, backend="cut", reason="closed")


async def test_half_open_is_found_by_pings(street: Street) -> None:
    platform, alive = street.home.platforms["frozen"], datetime.now(UTC)
    await platform.say(up(1))
    await street.home.until_uplinks(1, "frozen")
    admitted, mark = platform.admitted, street.home.mark
    platform.freeze()
    await platform.admissions(admitted + 1)
    gap = await street.home.told("frozen/event/gap", since=mark)
    assert gap["data"]["reason"] == "no pong came in time"
    since, until = (datetime.fromisoformat(gap["data"][end]) for end in ("from", "to"))
    assert alive < since < until, "it begins with the last sign of life"
    await street.count("websocket_reconnects_total", backend="frozen", reason="ping")


async def test_silence_that_lasts_too_long(street: Street) -> None:
    await street.home.told("silent/event/gap", lambda told: "nothing was heard for 0.5 s" in told["data"]["reason"])
    await street.count("websocket_reconnects_total", backend="silent", reason="idle")


async def test_garbage_is_dead_and_the_connection_stays(street: Street) -> None:
    speaker = street.speakers["odd"]
    await speaker.opened.wait(lambda one: True)
    deep = b"[" * 100_000 + b"]" * 100_000
    half = b'{"CommType":"comm_rx","Dev'
    shape = b'{"CommType":"comm_rx","DevEui":[],"AppEui":7,"Port":{},"GatewayEUIs":"x"}'
    large = b"x" * (1024 * 1024 + 1)
    dead = {
        "not_text": [b'{"a":"\xc3("}', b"\xff" * 100_000],
        "not_json": [b"", b"nonsense", half, b"\x00"],
        "wrong_shape": [deep, shape, b"42", b'"text"', b"null"],
        "too_large": [large, large * 3],
    }
    await speaker.say(*(frame for frames in dead.values() for frame in frames))
    await speaker.say(b"\x80binary", up(1).encode(), text=False)
    await street.home.until_uplinks(1, "odd")
    dead["not_text"].append(b"\x80binary")
    for reason, frames in dead.items():
        topic = f"{street.home.base}/odd/dead/{reason}"
        heard = await street.home.ear.wait_count(len(frames), topic)
        assert [one.payload for one in heard] == [frame[: 64 * 1024] for frame in frames]
        assert {(one.qos, one.retain) for one in heard} == {(0, False)}
        scrape = await street.home.bridge.scrape()
        assert scrape.of("ws2mqtt_frames_unread_total", backend="odd", reason=reason) == len(frames)
    assert len(speaker.opened.items) == 1


async def test_a_frame_far_too_large_ends_the_connection_but_not_the_backend(street: Street) -> None:
    speaker = street.speakers["big"]
    await speaker.opened.wait(lambda one: True)
    await speaker.say(up(1).encode())
    with contextlib.suppress(Exception):  # it is cut off while it speaks
        await speaker.say(b"x" * (20 * 1024 * 1024))
    await speaker.opened.wait(lambda one: True, count=2)
    await street.home.told("big/event/gap", lambda told: "larger than max_frame" in told["data"]["reason"])
    await speaker.say(up(2).encode())
    assert counters(await street.home.until_uplinks(2, "big")) == [1, 2]
    scrape = await street.home.bridge.scrape()
    assert scrape.of("ws2mqtt_frames_unread_total", backend="big", reason="too_large") == 1
    assert scrape.of("ws2mqtt_websocket_reconnects_total", backend="big", reason="too_large") == 1


async def test_a_frame_in_thousands_of_pieces(street: Street) -> None:
    speaker = street.speakers["split"]
    connection = (await speaker.opened.wait(lambda one: True))[0]
    text = up(1)
    await connection.send([*text])
    await street.home.until_uplinks(1, "split")
    with contextlib.suppress(Exception):
        await connection.send([" "] * 5000)
    await speaker.opened.wait(lambda one: True, count=2)
    await speaker.say(up(2).encode())
    assert counters(await street.home.until_uplinks(2, "split")) == [1, 2]


async def test_neither_log_nor_topics_show_a_traceback_or_a_secret(street: Street) -> None:
    log = street.home.bridge.log
    assert "Traceback" not in log
    for secret in (TOKEN, PROXY_WORD):
        assert secret not in log
        assert not [one for one in street.home.ear.messages if secret.encode() in one.payload]
    assert json.loads(street.home.bridge.lines[0].text)
    page = (await street.home.bridge.get("/")).text
    assert TOKEN not in page
    await street.count("websocket_reconnects_total", 0, reason="bug")
    scrape = await street.home.bridge.scrape()
    assert scrape.total("ws2mqtt_websocket_reconnects_total", reason="bug") == 0
