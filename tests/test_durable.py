"""The durable outbox, seen from outside: what waits is on disk, comes again after every end, and comes first."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bridge.app import App
from bridge.backends import PLATFORMS
from bridge.backends.resiot import PLATFORM
from bridge.backends.resiot.options import ResiotOptions
from bridge.backends.resiot.session import ResiotSession
from bridge.backends.session import Step
from bridge.config import Config
from bridge.model import Instant
from bridge.options import HttpOptions, MqttOptions, OutboxOptions, Secret
from bridge.simulators.resiot import ResiotSimOptions, ResiotSimulator
from bridge.times import unix
from tests.conftest import MosquittoFactory, ScriptedFactory
from tests.support.disk import until_on_disk, waiting
from tests.support.ear import Ear, Message
from tests.support.house import FAST, TOKEN, House, counters, house, ran, sequences, up, ups
from tests.support.mosquitto import Mosquitto
from tests.support.process import PROGRAM, BridgeProcess
from tests.support.scraping import scraping
from tests.support.scripted import ScriptedBroker

LASTING = {"durable": True, "reconnect": True}
ALIVE = json.dumps({"CommType": "comm_gwalive", "GatewayEUIs": ["0a1b2c3d4e5f6071"]})


def told(events: Sequence[Message]) -> list[Any]:
    return [json.loads(one.payload) for one in events]


def once(events: Sequence[Any]) -> list[Any]:
    """Without doubles, in the order in which each was first heard."""
    return list({one["id"]: one for one in events}.values())


async def until_published(home: House, published: int) -> None:
    """Nothing waits any more."""
    scrape = await home.bridge.wait_scrape(
        lambda seen: (
            seen.of("ws2mqtt_outbox_events", backend="lora") == 0
            and seen.total("ws2mqtt_events_published_total", backend="lora") >= published
        )
    )
    assert scrape.total("ws2mqtt_events_dropped_total", backend="lora") == 0


async def test_what_waited_comes_again_after_a_crash(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    """With its old id, session and sequence, in order, before anything new; and the restart is a gap."""
    mosquitto, outbox = await broker(persistence=True), tmp_path / "outbox"
    async with house(mosquitto, tmp_path, base, ear=LASTING, outbox={"path": str(outbox)}) as home:
        await mosquitto.stop()
        await home.say(*ups(300))
        before = await until_on_disk(outbox, 300)
        await home.bridge.kill()
        assert waiting(outbox) == before
        await home.bridge.start()
        await home.platform.admissions(2)
        await home.say(*ups(50, 301))
        async with scraping(home.bridge):
            scrape = await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 351)
            assert scrape.of("ws2mqtt_events_recovered_total", backend="lora") == 300
            assert scrape.total("ws2mqtt_events_received_total", backend="lora") == 51, "the gap is one"
            mark = home.mark
            await mosquitto.start()
            await home.until_uplinks(350)
            await until_published(home, 351)
        heard = home.uplinks()
        assert counters(heard) == list(range(1, 351))
        assert told(heard[:300]) == before
        assert sequences(heard) == [*range(1, 301), *range(2, 52)], "the gap was the first of the new session"
        assert len({one["session"] for one in told(heard)}) == 2
        gap = (await home.told("lora/event/gap", since=mark))["data"]
        assert (gap["reason"], gap["backfill"]) == ("restarted", "none")
        assert unix(gap["from"]) <= unix(told(heard)[300]["recordedtime"])
        home.bridge.configure(home.config)
        assert await home.bridge.terminate() == 0
        assert waiting(outbox) == []


async def test_an_orderly_end_without_the_broker(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    """Nothing has to be waited for: the grace would be two minutes."""
    mosquitto, outbox = await broker(persistence=True), tmp_path / "outbox"
    config: dict[str, Any] = {"outbox": {"path": str(outbox)}, "shutdown_grace": "2m"}
    async with house(mosquitto, tmp_path, base, ear=LASTING, **config) as home:
        await mosquitto.stop()
        await home.say(*ups(20))
        await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 20)
        assert await home.bridge.terminate() == 0
        line = await home.bridge.wait_log(lambda line: line.message == "events kept on disk")
        assert line.fields["events"] == 20
        assert "events lost" not in home.bridge.log
        kept = waiting(outbox)
        assert [one["data"]["f_cnt"] for one in kept] == list(range(1, 21))
        mark = home.mark
        await mosquitto.start()
        await home.bridge.start()
        assert told(await home.until_uplinks(20)) == kept
        gap = (await home.told("lora/event/gap", since=mark))["data"]
        assert unix(kept[-1]["recordedtime"]) <= unix(gap["from"]) <= unix(gap["to"]), "the last sign of life"
        assert gap["reason"] == "restarted"
        await until_published(home, 21)
        assert "Traceback" not in home.bridge.log


async def test_a_crash_while_all_is_well_is_a_gap_too(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base, outbox={"path": str(tmp_path / "outbox")}) as home:
        assert not home.ear.on(f"{base}/lora/event/gap"), "the first start is none"
        await home.say(up(1))
        first = told(await home.until_uplinks(1))[0]
        noted = unix(first["recordedtime"])
        await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_websocket_connected", backend="lora") == 1)
        await home.bridge.kill()
        mark = home.mark
        await home.bridge.start()
        gap = (await home.told("lora/event/gap", since=mark))["data"]
        assert noted - 60 < unix(gap["from"]) <= unix(gap["to"])
        assert gap["reason"] == "restarted"


async def test_with_flush_0s_nothing_is_published_that_is_not_on_disk(
    scripted: ScriptedFactory, base: str, tmp_path: Path
) -> None:
    """A broker that acknowledges no event, and a crash as soon as one was published."""
    outbox = tmp_path / "outbox"
    broker = await scripted(puback=_no_events)
    async with platform() as resiot, at_work(_config(broker, resiot, base, outbox, flush="0s"), tmp_path) as bridge:
        await resiot.connected()
        for crash in range(1, 4):
            await asyncio.gather(
                resiot.flood(ups(200, 200 * crash)),
                broker.wait_publishes(1, _UPS.format(base), since=len(broker.got)),
            )
            await bridge.kill()
            there = {one["id"] for one in waiting(outbox)}
            published = {
                json.loads(one.payload)["id"]
                for one in broker.publishes(f"{base}/lora/#")
                if one.qos and "/event/" in one.topic
            }
            assert published
            assert published <= there
            await bridge.start()
            await resiot.admissions(crash + 1)


@asynccontextmanager
async def at_work(config: dict[str, Any], folder: Path) -> AsyncIterator[BridgeProcess]:
    bridge = BridgeProcess(config, folder)
    async with bridge:
        try:
            yield bridge
        finally:
            print(f"--- log of the bridge\n{bridge.log}")


_UPS = "{}/lora/application/+/device/+/event/up"


def _no_events(publish: Any) -> int | None:
    return None if "/event/" in publish.topic else 0


@asynccontextmanager
async def platform() -> AsyncIterator[ResiotSimulator]:
    async with ResiotSimulator(ResiotSimOptions(rate=0, token=TOKEN)) as resiot:
        yield resiot


def _config(broker: ScriptedBroker, resiot: ResiotSimulator, base: str, path: Path, **outbox: str) -> dict[str, Any]:
    return {
        "mqtt": {"url": broker.url, "base_topic": base, "client_id": base, "reconnect": FAST},
        "outbox": {"path": str(path), **outbox},
        "backends": {"lora": {"type": "resiot", "url": resiot.url, "reconnect": FAST}},
    }


@pytest.mark.parametrize(("flush", "crashes"), [("50ms", 4), ("0s", 2)])
async def test_killed_at_any_moment(
    flush: str, crashes: int, broker: MosquittoFactory, base: str, tmp_path: Path
) -> None:
    """What was on disk is heard; what is heard has no hole but at the end of a session, and every double its old id."""
    seed = 20_240_305
    print("seed", seed)
    dice = random.Random(seed)
    mosquitto, outbox = await broker(persistence=True), tmp_path / "outbox"
    config: dict[str, Any] = {"outbox": {"path": str(outbox), "flush": flush}}
    async with house(mosquitto, tmp_path, base, ear=LASTING, **config) as home:
        said, there = 0, list[Any]()
        for crash in range(crashes):
            if away := crash % 2 == 1:
                await mosquitto.stop()
            count = dice.randrange(100, 600)
            burst = asyncio.create_task(home.platform.flood(ups(count, said + 1)))
            said += count
            enough = dice.randrange(1, count)
            if away and dice.random() < 0.5:
                await until_on_disk(outbox, enough // 10)
            else:
                await home.bridge.wait_scrape(
                    lambda seen, enough=enough: seen.total("ws2mqtt_events_received_total", backend="lora") >= enough  # type: ignore[misc]
                )
            await home.bridge.kill()
            await burst
            there += waiting(outbox)
            if away:
                await mosquitto.start()
            await home.bridge.start()
            await home.platform.admissions(crash + 2)
        await until_published(home, 0)
        await home.say(up(60_000))
        await home.ear.wait_topic(_UPS.format(base), lambda one: counters([one]) == [60_000])
        heard = once([*told(home.ear.on(_UPS.format(base))), *told(home.ear.on(f"{base}/lora/event/gap"))])
        assert {one["id"] for one in there} <= {one["id"] for one in heard}, "what was on disk was published"
        sessions = sorted({one["session"] for one in heard})
        for session in sessions:
            numbers = [int(one["sequence"]) for one in heard if one["session"] == session]
            assert sorted(numbers) == list(range(1, len(numbers) + 1)), "no hole, only an end"
        ups_heard = [one for one in heard if one["type"] == "resiot.up"]
        order = [(one["session"], one["sequence"]) for one in ups_heard]
        assert order == sorted(order), "no event before an older one"
        assert "Traceback" not in home.bridge.log


# States, across restarts


async def test_another_base_topic(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    """What was retained below the old one is cleared."""
    async with house(mosquitto, tmp_path, base, outbox={"path": str(tmp_path / "outbox")}) as home:
        await home.say(ALIVE)
        await home.told("lora/gateway/0a1b2c3d4e5f6071/state")
        assert await home.bridge.terminate() == 0
        mark = home.mark
        home.reconfigure(mqtt={**home.config["mqtt"], "base_topic": f"{base}-new"})
        async with Ear(mosquitto.url(), f"{base}-new/#") as ear:
            await home.bridge.start()
            for path in ("lora/state", "lora/gateway/0a1b2c3d4e5f6071/state"):
                await home.ear.wait_topic(f"{base}/{path}", lambda one: not one.payload, since=mark)
            await ear.wait_topic(f"{base}-new/lora/state", lambda one: Ear.json(one)["state"] == "online")
        async with Ear(mosquitto.url(), f"{base}/lora/#") as late:
            await late.publish(f"{base}/lora/marker", b"x")
            await late.wait_topic(f"{base}/lora/marker")
            assert [one.topic for one in late.messages] == [f"{base}/lora/marker"], "nothing is retained"


async def test_a_backend_that_is_removed_and_comes_back(scripted: ScriptedFactory, base: str, tmp_path: Path) -> None:
    """Its events stay on disk, its subject's states go."""
    outbox = tmp_path / "outbox"
    broker = await scripted(puback=_no_events)
    async with platform() as resiot:
        config = _config(broker, resiot, base, outbox)
        async with at_work(config, tmp_path) as bridge:
            await resiot.connected()
            await resiot.say(ALIVE)
            for frame in ups(5):
                await resiot.say(frame)
            gateway = f"{base}/lora/gateway/0a1b2c3d4e5f6071/state"
            await broker.wait_publishes(5, _UPS.format(base))
            await broker.wait_publishes(1, gateway)
            bridge.configure({**config, "backends": {}})
            mark = len(broker.got)
            bridge.hup()
            await bridge.wait_log(lambda line: line.message == "reloaded")
            assert [one.payload for one in await broker.wait_publishes(1, gateway, since=mark)] == [b""]
            line = await bridge.wait_log(lambda line: line.message == "events kept on disk")
            assert line.fields["events"] == len(waiting(outbox)) >= 5
            mark, lines = len(broker.got), len(bridge.lines)
            broker.puback = lambda publish: 0
            bridge.configure(config)
            bridge.hup()
            await bridge.wait_log(lambda line: line.message == "events recovered", since=lines)
            again = await broker.wait_publishes(5, _UPS.format(base), since=mark)
            assert [json.loads(one.payload)["data"]["f_cnt"] for one in again] == [1, 2, 3, 4, 5]
            await bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 0)


# Bookmarks


class Remembering(ResiotOptions, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="remembering"):
    """A platform that does not exist."""


STARTED: list[tuple[bytes | None, bool]] = []


class RememberingSession(ResiotSession):
    """Notes every frame."""

    def started(self, memory: bytes | None, seen: Instant | None, now: Instant) -> Step:
        STARTED.append((memory, seen is not None))
        return super().started(memory, seen, now)

    def received(self, link: str, frame: bytes, now: Instant) -> Step:
        return structs.replace(super().received(link, frame, now), remember=frame)


async def test_a_session_finds_its_bookmark_again(
    mosquitto: Mosquitto, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = structs.replace(PLATFORM, word="remembering", options=Remembering, session=RememberingSession)
    monkeypatch.setitem(PLATFORMS, "remembering", made)
    STARTED.clear()
    async with platform() as resiot, Ear(mosquitto.url(), f"{base}/#") as ear:
        config = Config(
            mqtt=MqttOptions(url=(mosquitto.url(),), base_topic=base, client_id=base),
            outbox=OutboxOptions(path=str(tmp_path / "outbox")),
            http=HttpOptions(listen=None),
            backends={"lora": Remembering(url=Secret(resiot.url))},
        )
        for start in (1, 2):
            app = App(config, lambda: config)
            running = asyncio.create_task(app.run())
            await resiot.admissions(start)
            await resiot.say(up(start))
            await ear.wait_count(start, _UPS.format(base))
            app.stop()
            assert await running == 0
    assert [(None, False), (up(1).encode(), True)] == STARTED


# Configuration


async def test_check_takes_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "ws2mqtt.yaml"
    file.write_text(f"outbox: {{path: {tmp_path}/outbox, max_bytes: 1GiB, flush: 0s}}\nbackends: {{}}\n")
    done = await ran([*PROGRAM[:-1], "check", "-c", str(file)])
    assert done.code == 0, done.err
    assert not (tmp_path / "outbox").exists(), "it only looks"


async def test_another_folder_needs_a_restart(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base, outbox={"path": str(tmp_path / "outbox")}) as home:
        home.reconfigure(outbox={"path": str(tmp_path / "elsewhere")})
        answer = await home.command("bridge/reload")
        assert (answer["status"], answer["code"]) == ("rejected", 400)
        assert "outbox.path: cannot change while ws2mqtt runs" in answer["error"]["message"]
        assert not (tmp_path / "elsewhere").exists()
