"""Two replicas with one lease: real processes, a real Mosquitto, the simulated platform, an API server that fails.

Times of the lease are short here; what is asserted of time is only that somebody waited long enough.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge.simulators.resiot import ResiotSimOptions, ResiotSimulator
from tests.conftest import MosquittoFactory
from tests.support import PATIENCE_S
from tests.support.ear import Ear
from tests.support.fleet import LATITUDE, fleet
from tests.support.house import DEVICE, FAST, TOKEN, VERSIONS, Version, balanced, counters, up, ups
from tests.support.kube import Kube
from tests.support.mosquitto import Certificates, Mosquitto
from tests.support.process import BridgeProcess, Line

DURATION, DEADLINE, RETRY = 6.0, 4.0, 0.4
TIMES = ("--lease-duration", f"{DURATION}", "--lease-deadline", f"{DEADLINE}s", "--lease-retry", f"{RETRY}s")


@dataclass
class Replicas:
    """One platform and one broker; a replica knows the API server by its own token."""

    base: str
    kube: Kube
    platform: ResiotSimulator
    ear: Ear
    each: dict[str, BridgeProcess]

    @property
    def mark(self) -> int:
        return len(self.ear.messages)

    def leader(self) -> str:
        """The name of the one that holds the lease."""
        return next(name for name in self.each if self.kube.holder().startswith(f"{name}_"))

    def other(self, name: str) -> str:
        return next(one for one in self.each if one != name)

    async def leading(self, besides: str = "") -> str:
        """Until one leads, and is connected, and that is not this one."""
        await self.kube.until_asked(lambda asked: self.kube.holder() != "" and self.leader() != besides)
        name = self.leader()
        await self.each[name].wait_scrape(lambda seen: seen.of("ws2mqtt_leader") == 1)
        return name

    async def told(self, path: str, since: int = 0, **fields: Any) -> Any:
        """What is said at this path with these fields."""

        def fits(told: Any) -> bool:
            return all(told.get(name) == value for name, value in fields.items())

        topic = f"{self.base}/{path}"
        one = await self.ear.wait_topic(topic, lambda one: fits(json.loads(one.payload)), since=since)
        return json.loads(one.payload)

    def said(self, path: str, since: int = 0) -> list[Any]:
        return [Ear.json(one) for one in self.ear.messages[since:] if one.topic == f"{self.base}/{path}"]

    async def uplink(self, number: int) -> None:
        """Until that one was heard."""
        topic = f"{self.base}/lora/{DEVICE}/event/up"
        await self.ear.wait_topic(topic, lambda one: json.loads(one.payload)["data"]["f_cnt"] == number)

    def numbers(self) -> list[int]:
        return counters(self.ear.on(f"{self.base}/lora/{DEVICE}/event/up"))

    async def retained(self, mosquitto: Mosquitto) -> dict[str, str]:
        """The states that the broker keeps now."""
        async with Ear(mosquitto.url(), f"{self.base}/+/state") as ear:
            await ear.wait_count(2, f"{self.base}/+/state")
            return {one.topic.split("/")[1]: Ear.json(one)["state"] for one in ear.messages}


def options(kube: Kube, name: str) -> dict[str, Any]:
    """Those of a replica's process."""
    arguments = ("--lease", "iot/bridge", "--lease-credentials", str(kube.credentials(name)), *TIMES)
    return {"arguments": arguments, "environment": {**kube.environment, "HOSTNAME": name}}


@asynccontextmanager
async def replicas(
    mosquitto: Mosquitto,
    certificates: Certificates,
    folder: Path,
    base: str,
    *,
    names: Sequence[str] = ("a", "b"),
    version: Version = "5",
    outbox: Mapping[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[Replicas]:
    """All started, one leading, its backend online. more: of the configuration."""
    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(Kube(certificates, folder))
        platform = await stack.enter_async_context(ResiotSimulator(ResiotSimOptions(rate=0, token=TOKEN)))
        ear = await stack.enter_async_context(Ear(mosquitto.url(), f"{base}/#", version=version))
        mqtt = {"url": mosquitto.url(), "version": version, "base_topic": base, "client_id": base, "reconnect": FAST}
        full = {
            "mqtt": mqtt, "outbox": outbox or {},
            "backends": {"lora": {"type": "resiot", "url": platform.url, "reconnect": FAST}}, **more,
        }  # fmt: skip
        each = {}
        for name in names:
            home = folder / name
            home.mkdir()
            each[name] = BridgeProcess(full, home, **options(kube, name))
            await stack.enter_async_context(each[name])
        made = Replicas(base, kube, platform, ear, each)
        await made.leading()
        await made.told("lora/state", state="online")
        yield made


def stopped(line: Line) -> bool:
    return line.message == "standby: not active any more"


async def test_the_standby_is_ready_connected_nowhere_and_says_so(
    mosquitto: Mosquitto, certificates: Certificates, base: str, tmp_path: Path
) -> None:
    async with replicas(mosquitto, certificates, tmp_path, base) as home:
        active, standby = home.leader(), home.other(home.leader())
        one = home.each[standby]
        answer = await one.wait_http()
        assert answer.json() == {"ready": True, "waiting": []}
        assert (await one.get("/livez")).status_code == 200
        page = (await one.get("/")).text
        assert f"standby: {active}_" in page
        assert "holds the lease iot/bridge" in page
        assert "active: this replica holds the lease iot/bridge" in (await home.each[active].get("/")).text
        seen = await one.scrape()
        assert seen.of("ws2mqtt_leader") == 0
        assert seen.of("ws2mqtt_mqtt_connects_total", backend="bridge", outcome="ok") == 0
        assert seen.of("ws2mqtt_events_received_total", backend="lora", type="up") == 0, "its series are there"
        assert seen.total("ws2mqtt_websocket_connects_total") == 0
        assert (await home.each[active].scrape()).of("ws2mqtt_leader") == 1
        assert home.platform.admitted == 1
        assert [one["state"] for one in home.said("bridge/state")] == ["online"]
        held = await one.wait_log(lambda line: line.message == "standby: another replica is active")
        assert held.fields["holder"].startswith(f"{active}_")
        one.hup()
        await one.wait_log(lambda line: line.message == "reloaded")
        assert await one.terminate() == 0, "it has nothing to give back"
        assert home.leader() == active
        assert home.platform.admitted == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_sigterm_hands_over(
    mosquitto: Mosquitto, certificates: Certificates, base: str, tmp_path: Path, version: Version
) -> None:
    async with replicas(mosquitto, certificates, tmp_path, base, version=version) as home:
        first = home.leader()
        await home.platform.say(up(1))
        await home.uplink(1)
        await home.kube.until_asked(lambda asked: "annotations" in asked.body.get("metadata", {}))
        mark, began = home.mark, time.monotonic()
        assert await home.each[first].terminate() == 0
        second = await home.leading(besides=first)
        await home.told("lora/state", mark, state="online")
        print(f"handed over within {time.monotonic() - began:.2f} s of SIGTERM")
        await home.platform.say(up(2))
        await home.uplink(2)
        assert home.numbers() == [1, 2]
        bridge = [(told["state"], told["instance"]) for told in home.said("bridge/state", mark)]
        assert [state for state, _ in bridge] == ["draining", "offline", "online"]
        gaps = home.said("lora/event/gap")
        assert [gap["data"]["reason"] for gap in gaps] == ["restarted"]
        await home.each[first].start()
        await home.each[first].wait_http()
        await home.each[first].wait_log(lambda line: line.fields.get("holder", "").startswith(f"{second}_"))
        assert home.leader() == second


@pytest.mark.parametrize("version", VERSIONS)
async def test_one_is_killed(
    mosquitto: Mosquitto, certificates: Certificates, base: str, tmp_path: Path, version: Version
) -> None:
    async with replicas(mosquitto, certificates, tmp_path, base, version=version) as home:
        first = home.leader()
        await home.platform.flood(ups(300))
        await home.uplink(300)
        mark, began = home.mark, time.monotonic()
        killed = time.time()
        await home.each[first].kill()
        await home.told("lora/state", mark, state="offline", error="bridge gone")
        second = await home.leading(besides=first)
        await home.told("lora/state", mark, state="online")
        print(f"taken over within {time.monotonic() - began:.2f} s of SIGKILL")
        await home.platform.flood(ups(300, 301))
        await home.uplink(600)
        assert home.numbers() == list(range(1, 601)), "no doubles"
        (gap,) = home.said("lora/event/gap")
        begins = time.mktime(time.strptime(gap["data"]["from"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
        assert killed - 2 * RETRY - 2 <= begins <= killed + 1, "when the dead one heard the platform last"
        assert await home.retained(mosquitto) == {"bridge": "online", "lora": "online"}
        await home.each[first].start()  # it is a standby now
        await home.each[first].wait_log(lambda line: line.fields.get("holder", "").startswith(f"{second}_"))
        assert home.leader() == second


@pytest.mark.parametrize("version", VERSIONS)
async def test_one_is_paused_until_another_leads(
    mosquitto: Mosquitto, certificates: Certificates, base: str, tmp_path: Path, version: Version
) -> None:
    """It wakes up with frames and commands in its sockets: nothing of it is said, and it does not come back."""
    async with replicas(mosquitto, certificates, tmp_path, base, version=version) as home:
        first = home.leader()
        await home.platform.say(up(1))
        await home.uplink(1)
        mark = home.mark
        home.each[first].freeze()
        await home.platform.say(up(2))  # to the frozen one alone
        second = await home.leading(besides=first)
        await home.told("lora/state", mark, state="online")
        taken, lines = home.mark, len(home.each[first].lines)
        home.each[first].thaw()
        line = await home.each[first].wait_log(stopped, since=lines)
        assert line.fields["reason"]
        await home.each[first].wait_scrape(lambda seen: seen.of("ws2mqtt_leader") == 0)
        await home.platform.say(up(3))
        await home.uplink(3)
        assert home.numbers() in ([1, 3], [1, 2, 3]), "2 waits for the day on which the first one leads again"
        assert [told for told in home.said("lora/state", taken) if told["state"] != "online"] == []
        assert [told for told in home.said("bridge/state", taken) if told["state"] != "online"] == []
        assert await home.retained(mosquitto) == {"bridge": "online", "lora": "online"}
        await home.each[first].wait_http()
        seen = await home.each[first].scrape()
        assert balanced(seen)
        assert seen.total("ws2mqtt_mqtt_connected") == 0
        assert seen.of("ws2mqtt_websocket_connected", backend="lora") == 0
        assert seen.of("ws2mqtt_mqtt_connects_total", backend="lora", outcome="ok") == 1, "it did not reconnect"

        assert await home.each[second].terminate() == 0  # and back again: what waited comes now
        assert await home.leading(besides=second) == first
        await home.uplink(2)
        await home.platform.say(up(4))
        await home.uplink(4)
        assert sorted(home.numbers()) == [1, 2, 3, 4]
        assert balanced(await home.each[first].scrape())
        for one in home.each.values():
            assert "Traceback" not in one.log


@pytest.mark.parametrize("fault", ["hang", "deaf", "reset", 500])
async def test_the_active_one_alone_loses_the_api_server(
    mosquitto: Mosquitto, certificates: Certificates, base: str, tmp_path: Path, fault: Any
) -> None:
    """It says goodbye by itself, before anybody else may begin; the other one takes over."""
    async with replicas(mosquitto, certificates, tmp_path, base) as home:
        first, mark = home.leader(), home.mark
        home.kube.faults[first] = fault
        line = await home.each[first].wait_log(stopped)
        assert "API server" in line.fields["reason"]
        await home.told("bridge/state", mark, state="offline")
        second = await home.leading(besides=first)
        await home.told("lora/state", mark, state="online")
        states = [told["state"] for told in home.said("bridge/state", mark)]
        assert states == ["draining", "offline", "online"]
        assert [told["error"] for told in home.said("lora/state", mark) if told["state"] == "offline"] == [None]
        await home.platform.say(up(1))
        await home.uplink(1)
        assert len(home.said("lora/event/gap")) == 1
        home.kube.faults.clear()
        await home.each[first].wait_log(lambda line: line.message == "answers about the lease again")
        assert home.leader() == second


async def test_nobody_reaches_the_api_server_and_then_everybody_again(
    mosquitto: Mosquitto, certificates: Certificates, base: str, tmp_path: Path
) -> None:
    async with replicas(mosquitto, certificates, tmp_path, base) as home:
        first, mark = home.leader(), home.mark
        await home.kube.stop()
        await home.each[first].wait_log(stopped)
        await home.told("bridge/state", mark, state="offline")
        assert (await home.each[first].wait_http()).json()["ready"], "a standby is ready"
        mark = home.mark
        await home.kube.start()
        await home.told("lora/state", mark, state="online")
        await home.platform.say(up(1))
        await home.uplink(1)
        assert len(home.said("lora/event/gap")) == 1
        for one in home.each.values():
            assert "Traceback" not in one.log


async def test_the_lease_is_lost_while_the_outbox_drains(
    broker: MosquittoFactory, certificates: Certificates, base: str, tmp_path: Path
) -> None:
    """The broker is frozen, and so the end would take all of the grace: the end of the lease ends it."""
    mosquitto = await broker()
    async with replicas(mosquitto, certificates, tmp_path, base, names=("a",), shutdown_grace="10m") as home:
        mosquitto.freeze()
        await home.platform.flood(ups(100))
        home.kube.faults["a"] = "hang"
        assert await home.each["a"].terminate() == 0
        told = [line.message for line in home.each["a"].lines]
        assert "events lost" in told
        assert told[-1] == "stopped"
        mosquitto.thaw()


async def test_a_token_that_is_rotated_is_read_again(
    mosquitto: Mosquitto, certificates: Certificates, base: str, tmp_path: Path
) -> None:
    async with replicas(mosquitto, certificates, tmp_path, base, names=("a",)) as home:
        old = (tmp_path / "credentials-a" / "token").read_text().strip()
        home.kube.credentials("a")
        mark = home.kube.mark
        await home.kube.asked.wait(lambda asked: (asked.who, asked.status) == ("a", 200), PATIENCE_S, 6, mark)
        assert not [line for line in home.each["a"].lines if stopped(line)]
        assert old not in home.each["a"].log


async def test_somebody_else_takes_the_lease_and_the_client_ids(
    mosquitto: Mosquitto, certificates: Certificates, base: str, tmp_path: Path
) -> None:
    """Whoever is taken over comes back only with a fresh lease; here that is not to be had."""
    async with replicas(mosquitto, certificates, tmp_path, base, names=("a",)) as home:
        lease = home.kube.lease()
        assert lease is not None
        home.kube.faults["a"] = "hang"
        async with Ear(mosquitto.url(), f"{base}/x", client_id=f"{base}-lora"):
            await home.each["a"].wait_log(lambda line: line.message == "mqtt lost")
            spec = {**lease["spec"], "holderIdentity": "stranger", "renewTime": "2024-03-05T07:16:30.000000Z"}
            home.kube.store.leases["iot", "bridge"] = {
                **lease, "spec": spec, "metadata": {**lease["metadata"], "resourceVersion": "999999"}
            }  # fmt: skip
            home.kube.faults.clear()
            line = await home.each["a"].wait_log(stopped)
            assert line.fields["reason"] == "stranger holds the lease"
            mark = home.mark
            await home.told("lora/state", mark, state="online")  # the stranger is silent, and its time runs out
            seen = await home.each["a"].scrape()
            assert seen.of("ws2mqtt_mqtt_connects_total", backend="lora", outcome="ok") == 2, "once in each term"


async def test_what_nobody_heard_is_read_from_history(
    mosquitto: Mosquitto, certificates: Certificates, base: str, tmp_path: Path
) -> None:
    """IoT Pro keeps values: what was written between the crash and the take-over comes, after one gap."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with (
        Kube(certificates, tmp_path) as kube,
        fleet(mosquitto, tmp_path / "a", base, bridge=options(kube, "a")) as house,
        BridgeProcess(house.config, tmp_path / "b", **options(kube, "b")) as second,
    ):
        for _ in range(5):
            house.write(house.assets[0], {LATITUDE: 36.0})
        await house.accounted()
        await kube.until_asked(lambda asked: "annotations" in asked.body.get("metadata", {}))
        await second.wait_log(lambda line: line.message == "standby: another replica is active")
        mark = house.mark
        await house.bridge.kill()
        for asset in house.assets:
            for number in range(5):
                house.write(asset, {LATITUDE: float(number)})
        await house.gap("started", since=mark)
        await house.gap("done", since=mark)
        await house.accounted()
        house.write(house.assets[1], {LATITUDE: 37.0})
        await house.accounted()
        assert house.written <= house.told()
        assert [gap["data"]["backfill"] for gap in house.events("gap")] == ["started", "done"]
        ids: dict[str, Any] = {}
        for event in house.events():
            assert ids.setdefault(event["id"], event["data"]) == event["data"], "a double has the same id"


async def test_waiting_events_outlive_a_term_and_the_ledger_balances(
    mosquitto: Mosquitto, certificates: Certificates, base: str, tmp_path: Path
) -> None:
    async with replicas(mosquitto, certificates, tmp_path, base, names=("a",), outbox={"path": "outbox"}) as home:
        for number in (1, 2, 3):
            mark = home.mark
            flooding = asyncio.create_task(home.platform.flood(ups(500, 500 * number)))
            home.kube.faults["a"] = 503
            await flooding
            await home.told("bridge/state", mark, state="offline")
            home.kube.faults.clear()
            await home.told("lora/state", mark, state="online")
        await home.uplink(1999)
        assert home.numbers() == list(range(500, 2000))
        seen = await home.each["a"].wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 0)
        assert balanced(seen)
        events = home.ear.on(f"{home.base}/lora/#")
        numbers = [json.loads(one.payload)["sequence"] for one in events if "/event/" in one.topic]
        assert numbers == sorted(set(numbers))
        assert await home.each["a"].terminate() == 0
        assert home.kube.holder() == ""
