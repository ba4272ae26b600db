"""How the bridge ends: by a crash, by a signal, by a second one, with a broker that is away."""

import asyncio
import signal
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.conftest import MosquittoFactory
from tests.support.ear import Ear
from tests.support.house import DEVICE, VERSIONS, House, Version, balanced, counters, house, sequences, up, ups
from tests.support.mosquitto import Mosquitto

Ending = Literal["terminate", "interrupt"]


def states(home: House, who: str, since: int = 0) -> list[Any]:
    return [Ear.json(one) for one in home.ear.messages[since:] if one.topic == f"{home.base}/{who}/state"]


async def everything(home: House) -> None:
    """Returns when all that the broker has for the ear was heard."""
    await home.ear.publish(f"{home.base}/end")
    await home.ear.wait_topic(f"{home.base}/end")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_crash_is_told_by_the_broker(mosquitto: Mosquitto, base: str, tmp_path: Path, version: Version) -> None:
    async with house(mosquitto, tmp_path, base, version=version) as home:
        mark, birth = home.mark, await home.told("bridge/state")
        await home.bridge.kill()
        told = await home.told("lora/state", since=mark)
        assert (told["state"], told["error"]) == ("offline", "bridge gone")
        bridge = await home.told("bridge/state", since=mark)
        assert (bridge["state"], bridge["session"]) == ("offline", birth["session"])
        await everything(home)
        assert len(home.ear.messages) == mark + 3
        async with Ear(mosquitto.url(), f"{base}/#", version=version) as later:  # and it stays so
            for who in ("lora", "bridge"):
                kept = await later.wait_topic(f"{base}/{who}/state")
                assert kept.retain
                assert Ear.json(kept)["state"] == "offline"


@pytest.mark.parametrize(("ending", "version"), [("terminate", "5"), ("terminate", "3.1.1"), ("interrupt", "5")])
async def test_an_orderly_end_drains_and_says_goodbye_the_bridge_last(
    mosquitto: Mosquitto, base: str, tmp_path: Path, ending: Ending, version: Version
) -> None:
    async with house(mosquitto, tmp_path, base, version=version, platforms=("lora", "other")) as home:
        mark = home.mark
        await home.platform.flood(ups(3000))  # the last of them are on their way when it is told to end
        assert await getattr(home.bridge, ending)() == 0
        await everything(home)
        assert counters(home.uplinks()) == list(range(1, 3001))
        assert sequences(home.uplinks()) == list(range(1, 3001))
        for who in ("lora", "other"):
            assert [one["state"] for one in states(home, who, mark)] == ["offline"]
            assert states(home, who)[-1]["error"] is None, "no will"
        assert [one["state"] for one in states(home, "bridge", mark)] == ["draining", "offline"]
        assert home.ear.messages[-2].topic == f"{base}/bridge/state"
        assert home.ear.messages[-2].retain is (version == "5")
        assert "Traceback" not in home.bridge.log
        assert home.bridge.lines[-1].message == "stopped"


async def test_it_is_not_ready_while_it_drains(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    there = await broker()
    async with house(there, tmp_path, base, shutdown_grace="10m") as home:
        await home.bridge.wait_http("/readyz")
        there.freeze()
        await home.say(up(1))
        await home.bridge.wait_scrape(lambda one: one.of("ws2mqtt_outbox_events", backend="lora") == 1)
        home.bridge.signal(signal.SIGTERM)
        answer = await home.bridge.wait_http("/readyz", 503)
        assert answer.json()["ready"] is False
        assert (await home.bridge.get("/livez")).status_code == 200
        there.thaw()
        assert await home.bridge.wait_exit() == 0
        await everything(home)
        assert counters(home.uplinks()) == [1]
        assert states(home, "bridge")[-1]["state"] == "offline"


async def test_a_second_signal_ends_at_once(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    there = await broker()
    async with house(there, tmp_path, base, shutdown_grace="10m") as home:
        there.freeze()
        await home.say(up(1))
        await home.bridge.wait_scrape(lambda one: one.of("ws2mqtt_outbox_events", backend="lora") == 1)
        home.bridge.signal(signal.SIGTERM)
        await home.bridge.wait_log(lambda one: one.message == "stopping")
        assert await home.bridge.terminate() == 1
        assert "stopped at once" in home.bridge.lines[-1].message
        there.thaw()


@pytest.mark.parametrize("how", ["never there", "gone", "frozen"])
async def test_without_a_broker_it_ends_within_the_grace_and_counts_what_is_lost(
    broker: MosquittoFactory, base: str, tmp_path: Path, free_port: Any, how: str
) -> None:
    there = await broker()
    nowhere = {"url": f"mqtt://127.0.0.1:{free_port()}"} if how == "never there" else {}
    async with house(there, tmp_path, base, shutdown_grace="300ms", mqtt=nowhere, online=not nowhere) as home:
        await home.platform.connected()
        if how == "gone":
            await there.kill()
        elif how == "frozen":
            there.freeze()
        await home.platform.flood(ups(50))
        scrape = await home.bridge.wait_scrape(lambda one: one.of("ws2mqtt_outbox_events", backend="lora") == 50)
        assert balanced(scrape)
        began = asyncio.get_running_loop().time()
        home.bridge.signal(signal.SIGTERM)
        if how == "frozen":  # a moment in which it can still be asked
            dropped = {"backend": "lora", "reason": "shutdown"}
            scrape = await home.bridge.wait_scrape(lambda one: one.of("ws2mqtt_events_dropped_total", **dropped) == 50)
            assert balanced(scrape)
        assert await home.bridge.wait_exit() == 0
        took = asyncio.get_running_loop().time() - began
        lost = [one for one in home.bridge.lines if one.message.startswith("events lost")]
        assert [(one.fields["backend"], one.fields["events"]) for one in lost] == [("lora", 50)]
        assert "Traceback" not in home.bridge.log
        assert took < 15.0, f"it took {took:.1f} s: that is no grace of 300 ms, but the default of 20 s"


async def test_waiting_commands_are_answered_at_the_end(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base) as home:
        where = f"{base}/lora/{DEVICE}"
        home.platform.faults = type(home.platform.faults)(no_reply=True)
        await home.ear.publish(f"{where}/command/downlink", {"id": "a", "f_port": 1, "text": "x", "timeout": "60s"})
        await home.platform.command()
        assert await home.bridge.terminate() == 0
        final = Ear.json(await home.ear.wait_topic(f"{where}/response/downlink", lambda one: Ear.json(one)["final"]))
        assert (final["id"], final["status"], final["code"]) == ("a", "unknown", 408)


async def test_a_restart_is_a_new_session_and_no_gap(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base) as home:
        await home.say(up(1))
        await home.until_uplinks(1)
        assert await home.bridge.terminate() == 0
        mark = home.mark
        await home.bridge.start()
        await home.state("online", since=mark)
        await home.say(up(1))
        one, two = (Ear.json(heard) for heard in await home.until_uplinks(2))
        assert one["id"] == two["id"]
        assert one["sequence"] == two["sequence"] == "0000000000000001"
        assert int(one["session"]) < int(two["session"])
        assert not home.ear.on(f"{base}/lora/event/gap")
