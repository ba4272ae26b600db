"""Bad days of our own: ended in the middle, no room, too old, a bug, a flood. The broker is real and mostly well."""

import asyncio
import json
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import bridge.supervisor
from bridge.app import App
from bridge.backends import PLATFORMS
from bridge.backends.resiot import PLATFORM
from bridge.backends.resiot.options import ResiotOptions
from bridge.backends.resiot.session import ResiotSession
from bridge.backends.session import Step
from bridge.config import Config
from bridge.links.backoff import Backoff
from bridge.model import Instant
from bridge.options import Duration, HttpOptions, MqttOptions, Reconnect, Secret
from bridge.simulators.resiot import ResiotSimOptions, ResiotSimulator
from bridge.supervisor import supervise
from bridge.watch.logs import BackendLog
from tests.conftest import MosquittoFactory
from tests.support import close
from tests.support.ear import Ear
from tests.support.house import DEVICE, TOKEN, House, counters, house, sequences, up, ups
from tests.support.mosquitto import Mosquitto
from tests.support.process import Scrape
from tests.support.scraping import scraping

LASTING = {"durable": True, "reconnect": True}


def events(scrape: Scrape, name: str, **labels: str) -> float:
    return scrape.total(f"ws2mqtt_events_{name}_total", backend="lora", **labels)


async def talk(platform: ResiotSimulator) -> int:
    """Uplinks as fast as they are taken, while somebody listens; returns how many were handed over."""
    handed = 0
    while platform.clients:
        handed += await platform.flood(ups(500, handed + 1))
        await asyncio.sleep(0)  # the end of a connection needs its turn
    return handed


# Ended in the middle


async def test_sigterm_in_mid_burst(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    """What had arrived by then is read and published: everything that the platform could still say before it closed."""
    async with house(mosquitto, tmp_path, base) as home, scraping(home.bridge):
        burst = asyncio.create_task(talk(home.platform))
        await home.until_uplinks(300)
        assert await home.bridge.terminate() == 0
        handed = await burst
        assert handed >= 300
        await home.told("bridge/state", lambda told: told["state"] == "offline")
        heard = home.uplinks()
        assert counters(heard) == list(range(1, handed + 1))
        assert sequences(heard) == list(range(1, handed + 1))
        told = [json.loads(one.payload) for one in home.ear.on(f"{base}/lora/state")]
        assert (told[-1]["state"], told[-1]["error"]) == ("offline", None), "no will: it said goodbye"
        ends = [one.topic for one in home.ear.messages if one.topic.endswith("/state")]
        assert ends[-1] == f"{base}/bridge/state", "the bridge goes last"
        assert "events lost" not in home.bridge.log
        assert "Traceback" not in home.bridge.log


async def test_sigterm_without_a_broker(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    """It ends within its grace, and says what is lost."""
    mosquitto = await broker()
    async with house(mosquitto, tmp_path, base, shutdown_grace="500ms") as home, scraping(home.bridge):
        await mosquitto.kill()
        await home.say(*ups(7))
        await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 7)
        assert await home.bridge.terminate() == 0
        line = await home.bridge.wait_log(lambda line: "events lost" in line.message)
        assert line.fields["events"] == 7
        assert "Traceback" not in home.bridge.log


async def test_sigkill_in_mid_burst(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    """What counts as published was heard, without a hole; the wills tell that it is gone. Started again, it goes on."""
    async with house(mosquitto, tmp_path, base) as home, scraping(home.bridge) as scrapes:
        burst = asyncio.create_task(talk(home.platform))
        await home.until_uplinks(300)
        scrapes.append(await home.bridge.scrape())
        await home.bridge.kill()
        await burst
        for path in ("bridge/state", "lora/state"):
            await home.told(path, lambda told: told["state"] == "offline")
        assert (await home.told("lora/state", lambda told: told["state"] == "offline"))["error"] == "bridge gone"
        heard = home.uplinks()
        assert counters(heard) == list(range(1, len(heard) + 1))
        assert max(events(seen, "published") for seen in scrapes) <= len(heard)
        mark = home.mark
        await home.bridge.start()
        await home.online(since=mark)
        await home.say(up(30_000))
        again = await home.heard(f"lora/{DEVICE}/event/up", since=mark)
        assert (counters([again]), sequences([again])) == ([30_000], [1])
        assert json.loads(again.payload)["session"] != json.loads(heard[0].payload)["session"]


# The broker is away, and there is no room, or it takes too long


def resident(pid: int) -> int:
    """KiB of memory that the process holds."""
    words = Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()
    return int(words[0])


async def test_a_full_outbox_drops_the_oldest_and_counts(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    mosquitto = await broker(persistence=True)
    async with (
        house(mosquitto, tmp_path, base, ear=LASTING, outbox={"max_bytes": "500KiB"}) as home,
        scraping(home.bridge),
    ):
        await mosquitto.stop()
        await home.platform.flood(ups(5000))
        await home.bridge.wait_scrape(lambda seen: events(seen, "received") == 5000)
        before = resident(home.bridge.pid)
        await home.platform.flood(ups(15_000, 5001))
        scrape = await home.bridge.wait_scrape(lambda seen: events(seen, "received") == 20_000)
        assert resident(home.bridge.pid) - before < 20_000, "memory is flat"
        dropped = events(scrape, "dropped", reason="outbox_full")
        waiting = scrape.of("ws2mqtt_outbox_events", backend="lora")
        assert dropped + waiting == 20_000
        assert 450 * 1024 < scrape.of("ws2mqtt_outbox_bytes", backend="lora") <= 500 * 1024
        await mosquitto.start()
        await home.until_uplinks(int(waiting))
        await home.bridge.wait_scrape(lambda seen: events(seen, "published") == waiting)
        heard = home.uplinks()
        first = 20_000 - int(waiting) + 1
        assert counters(heard) == sequences(heard) == list(range(first, 20_001)), (
            "the newest; the hole is what it dropped"
        )
        assert "Traceback" not in home.bridge.log


async def test_too_old_also_while_the_broker_is_away(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    mosquitto = await broker(persistence=True)
    async with (
        house(mosquitto, tmp_path, base, ear=LASTING, outbox={"max_age": "3s"}) as home,
        scraping(home.bridge),
    ):
        await mosquitto.stop()
        await home.say(*ups(20))
        scrape = await home.bridge.wait_scrape(lambda seen: events(seen, "dropped", reason="too_old") == 20)
        assert scrape.of("ws2mqtt_outbox_events", backend="lora") == 0
        await mosquitto.start()
        await home.ear.wait_connected(2)
        await home.bridge.wait_http(status=200)
        await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_mqtt_connected", backend="lora") == 1)
        await home.say(up(21))
        heard = await home.until_uplinks(1)
        assert (counters(heard), sequences(heard)) == ([21], [21])


# A bug


class BuggyOptions(ResiotOptions, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="buggy"):
    """A platform that does not exist."""


class BuggySession(ResiotSession):
    """Raises when it is told to, by a frame or by its alarm clock."""

    def received(self, link: str, frame: bytes, now: Instant) -> Step:
        if frame == b"boom":
            raise ZeroDivisionError("a bug in received")
        if frame == b"later":
            return Step(wake=now.mono + 0.01)
        return super().received(link, frame, now)

    def woken(self, now: Instant) -> Step:
        raise LookupError("a bug in woken")


@asynccontextmanager
async def at_work(mosquitto: Mosquitto, base: str, backends: Mapping[str, Any]) -> AsyncIterator[App]:
    """The service in this process, so that it may have a platform of the test's own."""
    fast = Reconnect(initial=Duration(0.05), max=Duration(0.2))
    mqtt = MqttOptions(url=(mosquitto.url(),), base_topic=base, client_id=base, reconnect=fast)
    config = Config(mqtt=mqtt, http=HttpOptions(listen=None), backends=dict(backends))
    app = App(config, lambda: config)
    running = asyncio.create_task(app.run())
    try:
        yield app
    finally:
        app.stop()
        assert await running == 0


@pytest.mark.parametrize(("frame", "bug"), [(b"boom", "a bug in received"), (b"later", "a bug in woken")])
async def test_a_bug_in_a_session_restarts_that_backend_alone(
    mosquitto: Mosquitto,
    base: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    frame: bytes,
    bug: str,
) -> None:
    buggy = structs.replace(PLATFORM, word="buggy", options=BuggyOptions, session=BuggySession)
    monkeypatch.setitem(PLATFORMS, "buggy", buggy)
    fast = Reconnect(initial=Duration(0.05), max=Duration(0.1))
    silent = ResiotSimOptions(rate=0, token=TOKEN)
    async with (
        ResiotSimulator(silent) as good,
        ResiotSimulator(silent) as bad,
        Ear(mosquitto.url(), f"{base}/#") as ear,
        at_work(
            mosquitto,
            base,
            {
                "good": ResiotOptions(url=Secret(good.url), reconnect=fast),
                "bad": BuggyOptions(url=Secret(bad.url), reconnect=fast),
            },
        ) as app,
    ):
        home = House(base, {"good": good, "bad": bad}, None, ear, {})  # type: ignore[arg-type]  # there is no process
        await home.online()
        session = app.units["bad"].crossing
        await bad.say(up(1))
        await home.until_uplinks(1, "bad")
        mark = home.mark
        await asyncio.gather(bad.say(frame), good.flood(ups(500)))
        await bad.admissions(2)
        gap = await home.told("bad/event/gap", since=mark)
        assert gap["data"]["reason"] == "restarted"
        assert (await home.state("offline", "bad", since=mark))["error"] == "internal error, see the log"
        await home.state("online", "bad", since=mark)
        await bad.say(up(2))
        assert sequences(await home.until_uplinks(2, "bad")) == [1, 3]  # 2 is the gap
        assert app.units["bad"].crossing is session, "commands and outbox live on"
        assert app.units["bad"].lasting.meter.websocket_reconnects["bug"] == 1

        assert counters(await home.until_uplinks(500, "good")) == list(range(1, 501))
        assert good.admitted == 1
        assert not ear.on(f"{base}/good/event/gap")
    traces = [record for record in caplog.records if record.exc_info]
    assert [record.levelno for record in traces] == [logging.ERROR]
    assert bug in caplog.text


async def test_bugs_long_ago_do_not_make_the_next_restart_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    now, lasting, delays = 0.0, [0.0, 0.0, 100.0, 0.0], list[float]()
    monkeypatch.setattr(bridge.supervisor, "instant", lambda: Instant(now, 0.0))

    async def run() -> None:
        nonlocal now
        if lasting:
            now += lasting.pop(0)
            raise LookupError("a bug")

    backoff = Backoff(Reconnect(initial=Duration(0.01), max=Duration(0.04)), jitter=lambda: 1.0)
    await supervise(run, delays.append, backoff, BackendLog("lora"))
    assert delays == [0.01, 0.02, 0.01, 0.02]


# A flood


async def test_one_flood_beside_ten_quiet_backends(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    """The quiet ones' events come while the flood goes on."""
    quiet = [f"quiet-{number}" for number in range(10)]
    async with (
        house(mosquitto, tmp_path, base, platforms=["flood", *quiet]) as home,
        scraping(home.bridge, ["flood", *quiet]),
    ):
        total, over = 0, False

        async def flood() -> None:
            nonlocal total
            while not over:
                total += await home.platform.flood(ups(200, total + 1))

        flooding = asyncio.create_task(flood())
        await home.until_uplinks(200, "flood")
        for number in range(1, 4):
            await asyncio.gather(*(home.platforms[name].say(up(number)) for name in quiet))
        for name in quiet:
            assert counters(await home.until_uplinks(3, name)) == list(range(1, 4))
        assert not flooding.done()
        over = True
        await flooding
        heard = await home.until_uplinks(total, "flood")
        assert counters(heard) == list(range(1, total + 1))
        assert "Traceback" not in home.bridge.log


# A platform that has much to say before it goes


@asynccontextmanager
async def talkative(last_words: int) -> AsyncIterator[int]:
    """Told goodbye, it still says so many uplinks, 0.25 s apart, and only then closes. Gives its port."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        key = asked.lower().split(b"sec-websocket-key: ")[1].split(b"\r\n")[0]
        key = asked[asked.lower().index(key) :][: len(key)]  # as it was written
        accept = b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        while (await reader.read(4096))[0] & 15 != 8:
            pass
        for number in range(1, last_words + 1):
            text = up(number).encode()
            writer.write(b"\x81\x7e" + len(text).to_bytes(2, "big") + text)
            await asyncio.sleep(0.25)
        writer.write(b"\x88\x00")
        writer.write_eof()
        await reader.read()
        await close(writer)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_what_a_platform_says_before_it_closes_is_read(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with talkative(11) as port:
        backend = {"type": "resiot", "url": f"ws://127.0.0.1:{port}/"}
        async with house(mosquitto, tmp_path, base, platforms=(), backends={"lora": backend}) as home:
            await home.state("online")
            assert await home.bridge.terminate() == 0
            await home.told("bridge/state", lambda told: told["state"] == "offline")
            assert counters(home.uplinks()) == list(range(1, 12))
