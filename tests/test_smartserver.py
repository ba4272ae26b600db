"""A SmartServer through the whole house: real broker, the bridge as a process, a simulated CMS, an ear on it all."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bridge.simulators.smartserver import SmartserverSimOptions, SmartserverSimulator
from bridge.simulators.smartserver_world import utc
from tests.support.house import balanced
from tests.support.mosquitto import Mosquitto
from tests.support.smartserver import (
    ALL,
    BACK_SUBJECT,
    DEVICE_SUBJECT,
    LAMP_SUBJECT,
    LUX,
    LUX_SUBJECT,
    PASSWORD,
    Building,
    building,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
ON = {"value": 100, "state": 1}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(mosquitto: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Building]:
    folder = tmp_path_factory.mktemp("hq")
    async with building(mosquitto, folder, folder.name, ignore=[]) as made:
        yield made


async def value(home: Building, told: Any, *, since: int = 0) -> Any:
    return await home.told(f"{LUX_SUBJECT}/event/value", lambda one: one["data"]["value"] == told, since=since)


# What is told


async def test_a_value_is_an_event_and_a_retained_state(home: Building) -> None:
    mark = home.mark
    home.platform.put(LUX, 318)
    at = home.platform.world.points[LUX].at  # it is read from the device, too, and then has another time
    told = await value(home, 318, since=mark)
    assert (told["type"], told["subject"]) == ("smartserver.value", LUX_SUBJECT)
    assert told["data"] == {"datapoint": LUX, "value": 318, "localized": 318, "unit": "lux"}
    assert told["time"] == utc(at, "000Z")
    state = await home.told(f"{LUX_SUBJECT}/state", lambda one: one["value"] == 318, since=mark)
    assert state["time"] >= told["time"]
    assert set(state) == {"value", "time"}


async def test_every_datapoint_is_read_once(home: Building) -> None:
    for point in home.platform.world.points.values():
        subject = point.qualifier.replace("/lon/", "/dev/lon/").replace("/modbus/", "/dev/modbus/")
        sid, dev, protocol, did, *rest = subject.split("/")
        await home.told(f"{'/'.join((sid, dev, protocol, did))}/if/{'/'.join(rest)}/state")


async def test_devices_have_states(home: Building) -> None:
    mark = home.mark
    told = await home.told(f"{DEVICE_SUBJECT}/state")
    assert (told["state"], told["health"], told["name"]) == ("provisioned", "normal", "Lobby-1")
    home.platform.health(12, "down")
    told = await home.told(f"{DEVICE_SUBJECT}/event/status", since=mark)
    assert told["data"]["health"] == "down"
    await home.told(f"{DEVICE_SUBJECT}/state", lambda one: one["health"] == "down", since=mark)
    home.platform.health(12, "normal")
    await home.told(f"{DEVICE_SUBJECT}/state", lambda one: one["health"] == "normal", since=mark)


async def test_alarms_are_events_and_a_state(home: Building) -> None:
    mark = home.mark
    id_ = home.platform.alarm(12, "Lamp broken")
    told = await home.told("event/alarm", since=mark)
    assert (told["data"]["change"], told["data"]["id"], told["data"]["text"]) == ("raised", id_, "Lamp broken")
    state = await home.told("alarms/state", lambda one: one["count"] == 1, since=mark)
    assert state["active"][0]["device"] == "Lobby-1"
    assert (await home.command("clear_alarms"))["data"] == {"ids": [id_]}
    await home.told("event/alarm", lambda one: one["data"]["change"] == "cleared", since=mark)
    assert (await home.told("alarms/state", lambda one: one["count"] == 0, since=mark))["active"] == []


async def test_the_rest_has_no_subject(home: Building) -> None:
    mark = home.mark
    home.platform.tell("NTF:JOIN", {"uid": "04A1B2C3D4E5", "type": "9FFF120034AB0400", "protocol": "lon"})
    home.platform.tell("UPD:MONITORINGSTATE", {"active": False})
    home.platform.tell("NTF:TIME", {"value": "2025-03-02T09:16:30.000+01:00[Europe/Berlin]"})
    home.platform.tell("UPD:SC:CPU", {"17qz7ab": 41})
    home.platform.tell("UPD:FOO", 1)
    home.platform.say("{")
    for kind in ("join", "monitoring", "time", "load", "unknown"):
        await home.told(f"event/{kind}", since=mark)
    await home.ear.wait_topic(f"{home.base}/hq/dead/not_json", since=mark)


# Commands


async def test_write_release_and_read(home: Building) -> None:
    mark, point = home.mark, f"{LAMP_SUBJECT}"
    assert (await home.command(f"{point}/write", {"value": ON}))["code"] == 200
    told = await home.told(f"{BACK_SUBJECT}/event/value", lambda one: one["data"]["value"] == ON, since=mark)
    assert told["data"]["preset"] == "ON"
    assert (await home.command(f"{point}/write", {"preset": "OFF", "priority": 8}))["code"] == 200
    held = await home.command(f"{point}/write", {"value": ON})
    assert (held["code"], held["error"]["kind"]) == (502, "higher_priority")
    assert (await home.command(f"{point}/read"))["data"]["preset"] == "OFF"
    assert (await home.command(f"{point}/release", {"priority": 8}))["code"] == 200
    mark = home.mark
    assert (await home.command(f"{point}/read", {"max_age": "0s"}))["data"]["value"] == ON
    await home.told(f"{LAMP_SUBJECT}/event/value", since=mark)


@pytest.mark.parametrize(
    ("path", "fields", "code"),
    [
        (f"{LAMP_SUBJECT}/write", {}, 400),
        (f"{LAMP_SUBJECT}/write", {"value": 1, "priority": 18}, 400),
        (f"{LAMP_SUBJECT}/write", {"preset": "DIM"}, 404),
        (f"{LAMP_SUBJECT}/release", {}, 400),
        (f"{LAMP_SUBJECT}/downlink", {}, 404),
        ("17qz7ab/dev/lon/4/if/Lamp/0/nviNothing/write", {"value": 1}, 404),
        ("17qz7ab/dev/modbus/2.1/wink", {}, 502),
        ("filter", {"datapoints": ["lux"]}, 400),
        ("datalog", {"datapoints": ALL, "from": "2025-03-02T07:00:00Z"}, 400),
    ],
)
async def test_what_is_refused(home: Building, path: str, fields: dict[str, Any], code: int) -> None:
    assert (await home.command(path, fields))["code"] == code


async def test_test_and_wink(home: Building) -> None:
    mark = home.mark
    assert (await home.command(f"{DEVICE_SUBJECT}/test"))["code"] == 200
    assert (await home.told(f"{DEVICE_SUBJECT}/event/test", since=mark))["data"]["result"] == "passed"
    assert (await home.command(f"{DEVICE_SUBJECT}/wink"))["code"] == 200


async def test_the_data_log(home: Building) -> None:
    mark, world = home.mark, home.platform.world
    at = world.points[LUX].log[3][0]
    window = {"from": utc(at - 1), "to": utc(at)}
    told = await home.command("datalog", {"id": "mine", "datapoints": ["*/lon/*/LightSensor/*/*"], **window})
    assert (told["code"], told["data"]) == (200, {"count": 2, "request": "mine"})
    entry = home.events(f"{LUX_SUBJECT}/event/log", mark)[0]
    assert (entry["replay"], entry["data"]["request"], entry["time"][:23] + "Z") == (True, "mine", utc(at))
    nothing = {"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"}
    assert (await home.command("datalog", {"datapoints": [LUX], **nothing}))["data"]["count"] == 0


async def test_filter(home: Building) -> None:
    mark = home.mark
    told = await home.command("filter", {"datapoints": ["*/lon/4/LightSensor/*/*"]})
    assert told["data"] == {"datapoints": ["*/lon/4/LightSensor/*/*"], "count": 1}
    assert home.platform.lists[-1] == [LUX]
    assert await home.told(f"{BACK_SUBJECT}/state", lambda one: one is None, since=mark) is None
    assert (await home.command("filter", {"datapoints": ALL}))["data"]["count"] == len(home.platform.world.points)


# Metrics


async def test_series_are_few_and_the_ledger_balances(home: Building) -> None:
    scrape = await home.bridge.scrape()
    series = [labels for _, labels in scrape if ("backend", "hq") in labels]
    assert 100 < len(series) <= 150
    assert balanced(scrape, "hq")
    assert scrape.of("ws2mqtt_auth_total", backend="hq", outcome="ok") == 1
    assert not [line for line in home.bridge.lines if PASSWORD in line.text or "sid0001" in line.text]


# Last: what ends connections


async def test_a_gap_is_filled_from_the_log(home: Building) -> None:
    mark = home.mark
    home.platform.put(LUX, 1)
    await value(home, 1, since=mark)
    await home.platform.drop()
    for number in (2, 3):  # nobody listens
        home.platform.put(LUX, number)
    done = await home.told("event/gap", lambda one: one["data"]["backfill"] == "done", since=mark)
    started = home.events("event/gap", mark)[0]
    assert started["data"] == {**done["data"], "backfill": "started"}
    told = [one for one in home.events(f"{LUX_SUBJECT}/event/value", mark) if one.get("replay")]
    assert [one["data"]["value"] for one in told][:2] == [2, 3]
    await home.state("online", since=mark)


async def test_a_renewal_loses_nothing_and_leaves_nothing_behind(mosquitto: Mosquitto, tmp_path: Path) -> None:
    options = SmartserverSimOptions(rooms=2, rate=100, heartbeat=0, session=3.0)
    simulator = SmartserverSimulator(options)
    async with building(mosquitto, tmp_path, tmp_path.name, simulator, commands={"rate": "100/s"}) as home:
        await simulator.until(lambda: simulator.logouts >= 2)
        assert not home.events("event/gap")
        assert {one["state"] for one in home.events("state")} <= {"connecting", "online"}
        assert (await home.command("pause"))["code"] == 200
        told = {(one["data"]["datapoint"], one["time"]) for one in home.events(f"{'+/' * 8}event/value")}
        times = [time for _, time in told]
        points = simulator.world.points.items()
        logged = {(name, utc(at, "000Z")) for name, point in points for at, _ in point.log}
        assert not [one for one in logged if min(times) < one[1] < max(times) and one not in told]
        assert simulator.clients <= 1


async def test_two_thousand_datapoints(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """1,000 values per second, with every one of them told."""
    simulator = SmartserverSimulator(SmartserverSimOptions(rooms=500, rate=0, heartbeat=0, log=0))
    async with building(mosquitto, tmp_path, tmp_path.name, simulator) as home:
        assert len(simulator.lists[-1]) == 2002
        mark = home.mark
        points = [one for one in simulator.world.points.values() if one.cat == "out"]
        numbers = range(10_000, 12_000)
        for number in numbers:
            simulator.put(points[number % len(points)].qualifier, number)
        await home.ear.wait_for(lambda one: b'"value":11999,"localized"' in one.payload, since=mark)
        values = [one["data"]["value"] for one in home.events(f"{'+/' * 8}event/value", mark)]
        told = [one for one in values if isinstance(one, int) and one in numbers]
        assert list(dict.fromkeys(told)) == list(numbers)
        assert balanced(await home.bridge.scrape(), "hq")
