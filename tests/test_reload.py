"""A changed configuration while the bridge runs: refused as a whole, or taken so that only what changed is touched."""

import asyncio
import itertools
import json
import os
import shlex
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from bridge.simulators.resiot import ResiotSimOptions, ResiotSimulator
from tests.conftest import MosquittoFactory, ScriptedFactory
from tests.support import PATIENCE_S
from tests.support.ear import Ear
from tests.support.house import DEVICE, FAST, TOKEN, House, balanced, counters, house, sequences, up, ups
from tests.support.mosquitto import Mosquitto
from tests.support.process import PROGRAM

Way = Literal["command", "signal"]
BOTH: tuple[Way, ...] = ("command", "signal")


async def reload(home: House, way: Way = "command") -> Any:
    """Returns when the bridge has made up its mind; what it answered to the command."""
    if way == "command":
        return await home.command("bridge/reload")
    before = (await home.bridge.scrape()).total("ws2mqtt_config_reloads_total")
    home.bridge.hup()
    await home.bridge.wait_scrape(lambda one: one.total("ws2mqtt_config_reloads_total") == before + 1)
    return None


async def reloads(home: House) -> tuple[float, float]:
    """How many were taken, and how many refused."""
    scrape = await home.bridge.scrape()
    name = "ws2mqtt_config_reloads_total"
    return scrape.of(name, outcome="ok"), scrape.of(name, outcome="failed")


def backends(home: House, **changes: Any) -> dict[str, Any]:
    """Those of the configuration, with these options changed; None takes one out."""
    told = dict(home.config["backends"])
    for name, change in changes.items():
        told[name] = None if change is None else {**told.get(name, {}), **change}
    return {name: one for name, one in told.items() if one is not None}


async def connects(home: House) -> dict[str, float]:
    """WebSockets opened so far, by backend."""
    scrape = await home.bridge.scrape()
    name = "ws2mqtt_websocket_connects_total"
    told = [dict(labels) for one, labels in scrape if one == name]
    return {one["backend"]: scrape.of(name, backend=one["backend"], outcome="ok") for one in told}


# Refused


@pytest.mark.parametrize("way", BOTH)
async def test_a_wrong_file_is_refused_as_a_whole(mosquitto: Mosquitto, base: str, tmp_path: Path, way: Way) -> None:
    async with house(mosquitto, tmp_path, base) as home:
        good, mark = home.config, home.mark
        wrong = backends(home, lora={"gateway_timeout": "soon", "ignore": []}, more={"type": "resiott"})
        home.reconfigure(backends=wrong, log={"level": "error"})
        answer = await reload(home, way)
        if answer is not None:
            assert (answer["status"], answer["code"], answer["final"]) == ("rejected", 400, True)
            for path in ("backends.lora.gateway_timeout", "backends.more.type"):
                assert path in answer["error"]["message"]
        problems = [one.fields["problem"] for one in await home.bridge.wait_logs(2, "configuration refused")]
        assert any("backends.lora.gateway_timeout" in one for one in problems)
        assert any("did you mean resiot" in one for one in problems)
        assert await reloads(home) == (0, 1)
        await home.say(up(1))  # the old one goes on
        await home.until_uplinks(1)
        assert not [one for one in home.ear.messages[mark:] if one.topic.endswith("/state")]
        assert await connects(home) == {"lora": 1}
        home.reconfigure(**good, log={"level": "info"})
        await reload(home, way)
        assert await reloads(home) == (1, 1)


async def test_a_file_that_is_gone_is_refused(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base) as home:
        home.bridge.config_file.unlink()
        answer = await reload(home)
        assert answer["code"] == 400
        assert await reloads(home) == (0, 1)
        await home.say(up(1))
        await home.until_uplinks(1)


async def test_an_http_port_that_is_taken_refuses_the_whole(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base) as home:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            listen = f"127.0.0.1:{taken.getsockname()[1]}"
            home.reconfigure(http={"listen": listen}, backends=backends(home, lora={"gateway_timeout": "7m"}))
            answer = await reload(home)
        assert answer["code"] == 400
        assert listen in answer["error"]["message"]
        assert await reloads(home) == (0, 1)  # asked where it still listens
        await home.say(up(1))
        await home.until_uplinks(1)
        assert await connects(home) == {"lora": 1}
        assert "Traceback" not in home.bridge.log


# Taken


@pytest.mark.parametrize("way", BOTH)
async def test_nothing_changed_touches_nothing(mosquitto: Mosquitto, base: str, tmp_path: Path, way: Way) -> None:
    async with house(mosquitto, tmp_path, base) as home:
        answer = await reload(home, way)
        if answer is not None:
            assert (answer["status"], answer["code"]) == ("succeeded", 200)
            assert answer["data"] == {"changed": [], "added": [], "removed": []}
        assert await connects(home) == {"lora": 1}
        assert not home.ear.on(f"{base}/lora/event/gap")
        assert await reloads(home) == (1, 0)


async def test_only_what_changed_is_restarted(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base, platforms=("calm", "changing", "leaving")) as home:
        await home.platforms["changing"].say(up(1))
        await home.until_uplinks(1, "changing")
        mark = home.mark
        async with ResiotSimulator(ResiotSimOptions(rate=0, token=TOKEN)) as newcomer:
            home.reconfigure(
                backends=backends(
                    home, changing={"ignore": []}, leaving=None, coming={"type": "resiot", "url": newcomer.url}
                )
            )
            answer = await reload(home)
            assert answer["data"] == {"changed": ["changing"], "added": ["coming"], "removed": ["leaving"]}
            line = await home.bridge.wait_log(lambda one: one.message == "reloaded")
            told = {what: line.fields[what] for what in ("changed", "added", "removed")}
            assert told == {"changed": "changing", "added": "coming", "removed": "leaving"}

            gone = await home.told("leaving/state", since=mark)
            assert (gone["state"], gone["error"]) == ("disabled", "removed from the configuration")
            await home.platforms["leaving"].deserted()
            await home.state("online", "coming", since=mark)
            await newcomer.say(up(5))
            assert counters(await home.until_uplinks(1, "coming")) == [5]

            await home.state("online", "changing", since=mark)
            gap = await home.told("changing/event/gap", since=mark)
            assert gap["data"]["backfill"] == "none"
            await home.platforms["changing"].flood([up(2), up(0, CommType="comm_gwrx")])
            assert sequences(await home.until_uplinks(2, "changing")) == [1, 3]  # the gap is number 2
            await home.heard("changing/gateway/0a1b2c3d4e5f6071/event/rx")  # the new option rules

            assert await connects(home) == {"calm": 1, "changing": 2, "coming": 1}
            assert not [one for one in home.ear.messages[mark:] if one.topic.startswith(f"{base}/calm/")]
            info = await home.told("bridge/info", since=mark)
            assert set(info["backends"]) == {"calm", "changing", "coming"}
            scrape = await home.bridge.scrape()
            assert all(balanced(scrape, name) for name in ("calm", "changing", "coming"))
            assert scrape.total("ws2mqtt_frames_received_total", backend="leaving") == 0


async def test_a_backend_is_switched_off_and_on(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base) as home:
        for enabled, state in ((False, "disabled"), (True, "online")):
            mark = home.mark
            home.reconfigure(backends=backends(home, lora={"enabled": enabled}))
            assert (await reload(home))["data"]["changed"] == ["lora"]
            await home.state(state, since=mark)
        assert (await home.told("lora/event/gap"))["data"]["reason"]


async def test_a_removed_backend_sends_what_it_has_read(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    there = await broker(max_inflight=1)  # takes them one by one
    async with house(there, tmp_path, base) as home:
        await home.platform.flood(ups(200))  # it has two seconds for them
        home.reconfigure(backends={})
        assert (await reload(home))["data"]["removed"] == ["lora"]
        assert counters(await home.until_uplinks(200)) == list(range(1, 201))
        assert "events of a removed backend dropped" not in home.bridge.log


async def test_states_of_a_backend_that_is_removed_while_the_broker_is_away_are_cleared(
    broker: MosquittoFactory, base: str, tmp_path: Path
) -> None:
    there = await broker()
    async with house(there, tmp_path, base, mqtt={"keepalive": "1s"}) as home:
        await home.say(json.dumps({"CommType": "comm_gwalive", "GatewayEUIs": ["0a1b2c3d4e5f6071"]}))
        await home.told("lora/gateway/0a1b2c3d4e5f6071/state")
        mark = home.mark
        there.freeze()
        await home.bridge.wait_scrape(lambda one: not one.total("ws2mqtt_mqtt_connected"))
        home.reconfigure(backends={})
        await reload(home, "signal")
        there.thaw()
        await home.heard("lora/gateway/0a1b2c3d4e5f6071/state", lambda told: told is None, since=mark)


async def test_a_backend_that_comes_back_counts_on(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    """Session and sequence together name one event, in one life of the process."""
    async with house(mosquitto, tmp_path, base) as home:
        await home.say(up(1))
        await home.until_uplinks(1)
        before = home.config["backends"]
        home.reconfigure(backends={})
        await reload(home)
        mark = home.mark
        home.reconfigure(backends=before)
        await reload(home)
        await home.state("online", since=mark)
        await home.say(up(2))
        assert sequences(await home.until_uplinks(2)) == [1, 2]


async def test_log_and_http_are_changed(mosquitto: Mosquitto, base: str, tmp_path: Path, free_port: Any) -> None:
    async with house(mosquitto, tmp_path, base) as home:
        old = home.bridge.http_url
        home.bridge.http_port = free_port()
        home.reconfigure(log={"level": "error"})
        answer = await home.command("bridge/reload")
        assert answer["data"] == {"changed": ["http", "log"], "added": [], "removed": []}
        assert (await home.bridge.get("/livez")).status_code == 200
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(old + "/livez")
        lines = len(home.bridge.lines)
        await home.platform.drop()
        await home.heard("lora/event/gap")
        assert await connects(home) == {"lora": 2}
        assert len(home.bridge.lines) == lines, "lost and connected are below error"


async def test_one_that_is_asked_for_while_it_stops_does_no_harm(
    mosquitto: Mosquitto, base: str, tmp_path: Path
) -> None:
    async with house(mosquitto, tmp_path, base) as home:
        home.reconfigure(backends=backends(home, lora={"ignore": []}))
        home.bridge.hup()
        assert await home.bridge.terminate() == 0
        await home.ear.publish(f"{base}/end")
        await home.ear.wait_topic(f"{base}/end")
        states = [Ear.json(one) for one in home.ear.on(f"{base}/lora/state")]
        assert states[-1]["state"] == "offline"
        assert home.bridge.lines[-1].message == "stopped"
        assert "Traceback" not in home.bridge.log


# Another way to the broker


@asynccontextmanager
async def talking(platform: ResiotSimulator) -> AsyncIterator[list[int]]:
    """The platform says one uplink after the other; the numbers of those that were handed to the bridge's socket."""
    said: list[int] = []
    enough = asyncio.Event()

    async def talk() -> None:
        for number in itertools.count(1):
            if await platform.flood([up(number)]):
                said.append(number)
            if enough.is_set():  # not cancelled: one might be handed over and not be counted
                return
            await asyncio.sleep(0.001)  # a pace that an ear in the same process can follow

    task = asyncio.create_task(talk())
    try:
        yield said
    finally:
        enough.set()
        await task


async def until(said: list[int], more: int) -> None:
    """Until so many more were said."""
    goal = len(said) + more
    async with asyncio.timeout(PATIENCE_S):
        while len(said) < goal:
            await asyncio.sleep(0.005)


async def test_a_changed_password_loses_no_event(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    there = await broker(users={"old": "old-word", "new": "new-word", "ear": "ear-word"})
    async with house(
        there, tmp_path, base, mqtt={"username": "old", "password": "old-word"},
        ear={"username": "ear", "password": "ear-word"},
    ) as home:  # fmt: skip
        async with talking(home.platform) as said:
            await until(said, 100)
            mark = home.mark
            home.reconfigure(mqtt={**home.config["mqtt"], "username": "new", "password": "new-word"})
            answer = await reload(home)
            assert answer["data"] == {"changed": ["mqtt"], "added": [], "removed": []}
            await until(said, 100)
        await home.ear.wait_topic(f"{base}/lora/{DEVICE}/event/up", lambda one: counters([one]) == [said[-1]])
        first = list(dict.fromkeys(counters(home.uplinks())))
        assert first == said == list(range(1, len(said) + 1)), "in order, the first time each was heard"
        assert set(sequences(home.uplinks())) == set(said), "no hole"
        assert not home.ear.on(f"{base}/lora/event/gap"), "the platform's link stood all the time"
        states = [Ear.json(one) for one in home.ear.messages[mark:] if one.topic == f"{base}/lora/state"]
        assert [(one["state"], one["error"]) for one in states] == [("offline", "reloading"), ("online", None)]
        assert await connects(home) == {"lora": 1}
        assert balanced(await home.bridge.scrape())


async def test_another_broker_gets_everything_from_then_on(
    broker: MosquittoFactory, mosquitto: Mosquitto, base: str, tmp_path: Path
) -> None:
    there = await broker()
    topics = f"{base}/#"
    async with house(mosquitto, tmp_path, base) as home, Ear(there.url(), topics) as second:
        async with talking(home.platform) as said:
            await until(said, 100)
            home.reconfigure(mqtt={**home.config["mqtt"], "url": there.url()})
            home.bridge.hup()
            await second.wait_topic(f"{base}/lora/{DEVICE}/event/up")
            await until(said, 100)
        up_topic = f"{base}/lora/{DEVICE}/event/up"
        await second.wait_topic(up_topic, lambda one: counters([one]) == [said[-1]])
        heard = list(dict.fromkeys(counters([*home.uplinks(), *second.on(up_topic)])))
        assert heard == said
        assert not second.on(f"{base}/lora/event/gap")
        birth = second.messages.index(second.on(f"{base}/bridge/state")[0])
        assert birth < second.messages.index(second.on(f"{base}/lora/state")[0])
        for who in ("lora", "bridge"):  # the old one is not left with a lie
            async with Ear(mosquitto.url(), f"{base}/{who}/state") as late:
                assert Ear.json(await late.wait_topic(f"{base}/{who}/state"))["state"] == "offline"


async def test_at_another_broker_the_bridge_is_born_first(
    mosquitto: Mosquitto, scripted: ScriptedFactory, base: str, tmp_path: Path
) -> None:
    there = await scripted(hold=True)
    async with house(mosquitto, tmp_path, base) as home:
        home.reconfigure(mqtt={**home.config["mqtt"], "url": there.url})
        home.bridge.hup()
        await there.wait_publishes(1, f"{base}/bridge/state")
        await home.bridge.wait_scrape(lambda one: one.of("ws2mqtt_config_reloads_total", outcome="ok") == 1)
        assert [one.client_id for one in there.connections] == [base], "nobody else before that is acknowledged"
        there.release()
        await there.wait_connected(f"{base}-lora")


async def test_another_base_topic_leaves_the_old_one_offline(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base) as home, Ear(mosquitto.url(), f"{base}-b/#") as second:
        mark = home.mark
        home.reconfigure(mqtt={**home.config["mqtt"], "base_topic": f"{base}-b"})
        home.bridge.hup()
        await second.wait_topic(f"{base}-b/lora/state", lambda one: b'"online"' in one.payload)
        await second.wait_topic(f"{base}-b/bridge/state", lambda one: b'"online"' in one.payload)
        for who in ("lora", "bridge"):
            assert (await home.told(f"{who}/state", since=mark))["state"] == "offline"
        await home.say(up(1))
        told = Ear.json(await second.wait_topic(f"{base}-b/lora/{DEVICE}/event/up"))
        assert told["source"] == f"/{base}-b/lora"
        await second.publish(f"{base}-b/bridge/command/ping", {})
        await second.wait_topic(f"{base}-b/bridge/response/ping")


async def test_a_broker_that_is_not_there_is_waited_for(
    mosquitto: Mosquitto, base: str, tmp_path: Path, free_port: Any
) -> None:
    async with house(mosquitto, tmp_path, base) as home:
        good = home.config["mqtt"]
        home.reconfigure(mqtt={**good, "url": f"mqtt://127.0.0.1:{free_port()}"})
        await reload(home, "signal")
        await home.platform.flood(ups(100))
        await home.bridge.wait_scrape(lambda one: one.of("ws2mqtt_outbox_events", backend="lora") == 100)
        assert (await home.bridge.get("/readyz")).json()["waiting"] == ["mqtt"]
        home.reconfigure(mqtt=good)
        await reload(home, "signal")
        assert sequences(await home.until_uplinks(100)) == list(range(1, 101))
        assert await reloads(home) == (2, 0)


async def test_a_secret_file_that_changed_needs_no_reload(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with ResiotSimulator(ResiotSimOptions(rate=0, token=TOKEN)) as other:
        secret = tmp_path / "url"
        async with house(mosquitto, tmp_path, base) as home:
            secret.write_text(home.platform.url + "\n")
            file = {"type": "resiot", "url_file": str(secret), "reconnect": FAST}
            home.reconfigure(backends={"lora": file})
            await reload(home)
            await home.platform.admissions(2)
            secret.write_text(other.url + "\n")
            await home.platform.drop()
            await asyncio.wait_for(other.connected(), PATIENCE_S)


async def test_hup_while_it_starts_is_heard(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    """It comes while the file is read: a pipe, until the signal is sent."""
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    program = ("sh", "-c", f"exec {shlex.join(PROGRAM)} -c {shlex.quote(str(pipe))} --log-format json")
    async with house(mosquitto, tmp_path, base, online=False, bridge={"program": program}) as home:
        told = home.bridge.config_file.read_bytes()
        with await asyncio.wait_for(asyncio.to_thread(pipe.open, "wb"), PATIENCE_S) as end:  # somebody reads
            home.bridge.hup()
            os.replace(home.bridge.config_file, pipe)
            end.write(told)
        await home.bridge.wait_logs(1, "reloaded")
        await home.online()
        await home.say(up(1))
        await home.until_uplinks(1)
