"""Bad days of the broker, seen from outside: a real bridge, a real Mosquitto, and an ear whose session outlives it.

What a real broker cannot be made to do is in test_publisher.py.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridge.simulators.resiot import ResiotSimOptions, ResiotSimulator
from tests.conftest import MosquittoFactory, ScriptedFactory
from tests.support import PATIENCE_S
from tests.support.ear import Ear, Message
from tests.support.house import FAST, TOKEN, House, balanced, counters, house, sequences, ups
from tests.support.mosquitto import Mosquitto
from tests.support.process import BridgeProcess, Line
from tests.support.scraping import scraping
from tests.support.scripted import SESSION_TAKEN_OVER

LASTING = {"durable": True, "reconnect": True}


def firsts(events: list[Message]) -> list[int]:
    """The numbers of uplinks in the order in which each was first heard; a double has to have the same id."""
    ids: dict[int, str] = {}
    for event, number in zip(events, counters(events), strict=True):
        assert ids.setdefault(number, json.loads(event.payload)["id"]) == json.loads(event.payload)["id"]
    return list(ids)


async def until_all(home: House, count: int, timeout: float = PATIENCE_S) -> list[Message]:
    """Until the uplink with the number `count` was heard."""
    topic = f"{home.base}/lora/application/+/device/+/event/up"
    await home.ear.wait_topic(topic, lambda one: json.loads(one.payload)["data"]["f_cnt"] == count, timeout)
    return home.uplinks()


def lost(line: Line) -> bool:
    return line.message == "mqtt lost" and line.fields.get("backend") == "lora"


def is_orderly(bridge: BridgeProcess) -> bool:
    """No tracebacks, and every warning of the broker's absence says why."""
    said = [line for line in bridge.lines if line.message in ("mqtt lost", "mqtt not connected")]
    return "Traceback" not in bridge.log and all(line.fields["reason"] and "retry_s" in line.fields for line in said)


@asynccontextmanager
async def alone(
    broker: Mosquitto, folder: Path, base: str, mqtt: Mapping[str, Any] | None = None
) -> AsyncIterator[House]:
    """As house(), for a broker that is not there, or not reached: nobody listens."""
    async with ResiotSimulator(ResiotSimOptions(rate=0, token=TOKEN)) as platform:
        told = {"url": broker.url(), "base_topic": base, "client_id": base, "reconnect": FAST, **(mqtt or {})}
        config = {"mqtt": told, "backends": {"lora": {"type": "resiot", "url": platform.url, "reconnect": FAST}}}
        async with BridgeProcess(config, folder) as bridge:
            yield House(base, {"lora": platform}, bridge, Ear(broker.url(), "#"), config)


async def test_absent_at_the_start(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    """The platform is connected meanwhile, and what it says waits."""
    mosquitto = await broker(persistence=True)
    async with Ear(mosquitto.url(), f"{base}/#", durable=True, reconnect=True) as ear:
        await mosquitto.stop()
        async with alone(mosquitto, tmp_path, base) as home, scraping(home.bridge):
            home.ear = ear
            await home.platform.connected()
            await home.say(*ups(50))
            await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 50)
            answer = await home.bridge.wait_http(status=503)
            assert answer.json() == {"ready": False, "waiting": ["mqtt"]}
            await mosquitto.start()
            await ear.wait_connected(2)
            heard = await until_all(home, 50)
            assert firsts(heard) == list(range(1, 51))
            assert sequences(heard) == list(range(1, 51))
            first = next(one.topic for one in ear.messages)
            assert first == f"{base}/bridge/state", "the bridge announces itself before its backends do"
            await home.bridge.wait_http(status=200)
            assert is_orderly(home.bridge)


async def test_restarted_in_mid_burst_and_killed(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    quick = ["set_tcp_nodelay true"]  # else its answers wait 40 ms for company, the ear's twenty at a time
    mosquitto = await broker(persistence=True, lines=quick)
    async with (
        house(mosquitto, tmp_path, base, ear=LASTING) as home,
        scraping(home.bridge),
    ):
        burst = asyncio.create_task(home.platform.flood(ups(2000)))
        await home.until_uplinks(200)
        await mosquitto.restart()
        await burst
        assert firsts(await until_all(home, 2000)) == list(range(1, 2001))

        await mosquitto.save()
        lines = len(home.bridge.lines)
        await mosquitto.kill()
        await home.bridge.wait_log(lost, since=lines)
        await home.say(*ups(100, 2001))
        mark = home.mark
        await mosquitto.start()
        assert firsts(await until_all(home, 2100)) == list(range(1, 2101))
        assert (await home.state("online", since=mark))["state"] == "online", "states are said again"
        scrape = await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 0)
        assert scrape.of("ws2mqtt_mqtt_reconnects_total", backend="lora", reason="closed") >= 2
        assert scrape.total("ws2mqtt_events_dropped_total", backend="lora") == 0
        assert is_orderly(home.bridge)


async def test_frozen(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    """It accepts everything and answers nothing: a new connection, and all that was not acknowledged once more."""
    mosquitto = await broker()
    async with (
        house(mosquitto, tmp_path, base, mqtt={"keepalive": "2s"}) as home,
        scraping(home.bridge),
    ):
        await home.say(*ups(20))
        await until_all(home, 20)
        lines = len(home.bridge.lines)
        mosquitto.freeze()
        await home.say(*ups(30, 21))
        line = await home.bridge.wait_log(lost, since=lines)
        assert "no PUBACK within 2 s" in line.fields["reason"] or "no longer answers" in line.fields["reason"]
        await home.say(*ups(30, 51))
        mosquitto.thaw()
        heard = await until_all(home, 80)
        assert firsts(heard) == list(range(1, 81))
        await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 0)
        assert is_orderly(home.bridge)


async def test_refuses_the_password_until_the_file_is_right(
    broker: MosquittoFactory, base: str, tmp_path: Path
) -> None:
    mosquitto = await broker(users={"bridge": "right-word", "ear": "ear-word"})
    word = tmp_path / "password"
    word.write_text("wrong-word\n")
    mqtt = {"username": "bridge", "password_file": str(word)}
    async with (
        alone(mosquitto, tmp_path, base, mqtt) as home,
        Ear(mosquitto.url(), f"{base}/#", username="ear", password="ear-word") as home.ear,
        scraping(home.bridge),
    ):
        line = await home.bridge.wait_log(lambda line: line.message == "mqtt not connected")
        assert "check mqtt.username and mqtt.password" in line.fields["reason"]
        await home.platform.connected()
        await home.say(*ups(5))
        assert (await home.bridge.wait_http(status=503)).json()["waiting"] == ["mqtt"]
        word.write_text("right-word\n")
        assert firsts(await until_all(home, 5)) == list(range(1, 6))
        await home.bridge.wait_http(status=200)
        scrape = await home.bridge.scrape()
        assert scrape.of("ws2mqtt_mqtt_connects_total", backend="bridge", outcome="refused") >= 1
        assert "wrong-word" not in home.bridge.log
        assert is_orderly(home.bridge)


async def test_two_bridges_with_one_client_id(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    """Mosquitto 2.0.11 takes a session over without saying so: it is seen by connections that keep ending young."""
    mosquitto = await broker()
    async with house(mosquitto, tmp_path / "one", base) as home, scraping(home.bridge):
        config = {**home.config, "http": {"listen": "off"}}
        (tmp_path / "other").mkdir()
        async with BridgeProcess(config, tmp_path / "other") as other:
            ended = [asyncio.create_task(bridge.wait_log(_shared)) for bridge in (home.bridge, other)]
            done, late = await asyncio.wait(ended, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            assert done, "neither has noticed"
            for line in [task.result() for task in done]:
                assert line.fields["retry_s"] >= 30.0
        assert is_orderly(home.bridge)
        assert is_orderly(other)


def _shared(line: Line) -> bool:
    reason = str(line.fields.get("reason"))
    return line.message == "mqtt lost" and "share" in reason and "client id" in reason


async def test_a_message_that_it_answers_by_closing(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    """3.1.1 has no Maximum Packet Size: Mosquitto ends the connection, and would do so for ever."""
    mosquitto = await broker(lines=("max_packet_size 3000",))
    async with house(mosquitto, tmp_path, base, mqtt={"version": "3.1.1"}) as home, scraping(home.bridge):
        frames = ups(9)
        frames[4] = frames[4].replace('"Port"', f'"Note":"{"x" * 3000}","Port"')
        await home.say(*frames)
        heard = await until_all(home, 9)
        assert firsts(heard) == [1, 2, 3, 4, 6, 7, 8, 9]
        line = await home.bridge.wait_log(lambda one: one.message == "the broker refused a message")
        assert (line.fields["code"], line.fields["backend"]) == ("connection ended", "lora")
        seen = await home.bridge.wait_scrape(lambda one: one.of("ws2mqtt_outbox_events", backend="lora") == 0)
        assert seen.of("ws2mqtt_events_dropped_total", backend="lora", reason="refused") == 1
        assert balanced(seen)


async def test_taken_over_the_backend_says_so(scripted: ScriptedFactory, base: str, tmp_path: Path) -> None:
    broker = await scripted()
    async with ResiotSimulator(ResiotSimOptions(rate=0, token=TOKEN)) as platform:
        config = {
            "mqtt": {"url": broker.url, "base_topic": base, "client_id": base},
            "backends": {"lora": {"type": "resiot", "url": platform.url}},
        }
        async with BridgeProcess(config, tmp_path) as bridge:
            await broker.wait_publishes(1, f"{base}/lora/state")
            broker.connection(f"{base}-lora").disconnect(SESSION_TAKEN_OVER)
            line = await bridge.wait_log(lost)
            assert line.fields["retry_s"] >= 30.0
            page = (await bridge.get("/")).text
            assert "degraded" in page
            assert "two bridges share this client id" in page
            await platform.say(*ups(1))
            await bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 1)
            assert is_orderly(bridge)


async def test_one_message_that_it_does_not_allow(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    """One device's topics are closed to the bridge: that is counted, and holds nothing up; the same for a state."""
    closed = f"{base}/lora/application/70b3d57ed0001122/device/bad/event/up"
    lines = [f"topic deny {closed}", f"topic deny {base}/lora/gateway/bad/state", "topic readwrite #"]
    mosquitto = await broker(acl=lines)
    async with house(mosquitto, tmp_path, base) as home, scraping(home.bridge):
        frames = ups(20)
        frames[9] = frames[9].replace("a81758fffe0a0b0c", "BAD")
        alive = '{"CommType":"comm_gwalive","GatewayEUIs":["%s"],"DT":"2024-03-05T08:15:02Z"}'
        await home.say(alive % "bad", alive % "good", *frames)
        heard = await until_all(home, 20)
        assert firsts(heard) == [number for number in range(1, 21) if number != 10]
        await home.heard("lora/gateway/good/state")
        scrape = await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 0)
        assert scrape.of("ws2mqtt_events_dropped_total", backend="lora", reason="refused") == 1
        refused = await home.bridge.wait_logs(2, "the broker refused a message")
        assert {line.fields["topic"] for line in refused} == {closed, f"{base}/lora/gateway/bad/state"}
        assert is_orderly(home.bridge)
