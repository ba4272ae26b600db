"""The simulated SmartServer: what a client sees that is no bridge; requests and sockets by libraries of others."""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bridge.simulators import SIMULATORS
from bridge.simulators.arguments import add_arguments, from_arguments
from bridge.simulators.smartserver import Faults, SmartserverSimOptions, SmartserverSimulator
from bridge.simulators.smartserver_world import SID, World, local, utc
from tests.support import PATIENCE_S

LUX = f"{SID}/lon/4/LightSensor/0/nvoLuxLevel"
LAMP = "/iap/devs/12/if/Lamp/0/*+xifName==nviValue"
ON = {"value": 100, "state": 1}


class Client:
    """Somebody with a browser's patience."""

    def __init__(self, platform: SmartserverSimulator, http: httpx.AsyncClient) -> None:
        self.platform, self.http = platform, http

    @property
    def cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())

    async def login(self, **fields: Any) -> httpx.Response:
        mine = {"username": self.platform.options.username, "password": self.platform.options.password}
        return await self.http.post("/iap/auth/login", json={**mine, **fields})

    async def put(self, path: str, value: Any) -> int:
        return (await self.http.put(path, content=json.dumps(value))).status_code

    @asynccontextmanager
    async def socket(self, query: str = "") -> AsyncIterator[ClientConnection]:
        address = f"ws{self.platform.url.removeprefix('http')}/iap/ws{query}"
        async with connect(address, additional_headers={"Cookie": self.cookie}, close_timeout=1) as socket:
            if not query:
                await self.platform.connected()
            yield socket


@asynccontextmanager
async def simulated(logged_in: bool = True, **options: Any) -> AsyncIterator[Client]:
    usual = {"rooms": 2, "rate": 0, "heartbeat": 0, **options}
    async with (
        SmartserverSimulator(SmartserverSimOptions(**usual)) as platform,
        httpx.AsyncClient(base_url=platform.url, trust_env=False) as http,
    ):
        client = Client(platform, http)
        if logged_in:
            assert (await client.login()).status_code == 200
        yield client


async def heard(socket: ClientConnection) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        return json.loads(await socket.recv())


# Who may come in


async def test_everything_but_the_version_and_the_login_wants_a_cookie() -> None:
    async with simulated(logged_in=False) as client:
        assert (await client.http.get("/iap/version")).json() == {"type": "CMS", "value": "4.30.015"}
        for method, path in (
            ("GET", "/iap/devs"),
            ("GET", "/iap/auth/sessionTimeout"),
            ("PUT", "/iap/dp/updates/subscribe"),
        ):
            assert (await client.http.request(method, path)).status_code == 401
        assert (await client.http.get("/node-red/x")).headers["location"] == "/cms"
        with pytest.raises(InvalidStatus):
            async with client.socket():
                pass
        assert (await client.login(password="x")).status_code == 401
        assert (await client.http.post("/iap/auth/login", content=b"{")).status_code == 401
        answer = await client.login()
        assert answer.json()["userName"] == "mqttbridge"
        assert (await client.http.get("/iap/auth/sessionTimeout")).json() == 86_400_000
        assert (await client.http.get("/iap/users/current")).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_logout_ends_session_and_socket(method: str) -> None:
    async with simulated() as client, client.socket() as socket:
        assert (await client.http.request(method, "/iap/auth/logout")).status_code == 204
        with pytest.raises(ConnectionClosed):
            await heard(socket)
        assert (await client.http.get("/iap/devs")).status_code == 401


async def test_a_session_has_its_time() -> None:
    async with simulated(session=0.3) as client, client.socket() as socket:
        with pytest.raises(ConnectionClosed):
            await heard(socket)
        assert (await client.http.get("/iap/devs")).status_code == 401


# Lists


async def test_devices_in_pages_or_not() -> None:
    async with simulated(rooms=5) as client:
        every = (await client.http.get("/iap/devs?sortBy=name")).json()
        assert len(every) == 6
        assert [one["name"] for one in every] == sorted(one["name"] for one in every)
        page = (await client.http.get("/iap/devs?pg=1&sz=4")).json()
        assert (page["remainingPages"], len(page["resources"])) == (1, 4)
        second = (await client.http.get(f"/iap/devs?pg=2&sz=4&xs={page['snapshot']}")).json()
        assert (second["snapshot"], second["remainingPages"], len(second["resources"])) == (page["snapshot"], 0, 2)
        assert page["resources"] + second["resources"] == every
        assert len((await client.http.get("/iap/devs?pg=2&sz=4&noxs=true")).json()) == 2
        for path in ("12", "*+name==Lobby-1", f"{SID}.4"):
            assert (await client.http.get(f"/iap/devs/{path}")).json()[0]["id"] == 12
        assert (await client.http.get("/iap/devs/99")).status_code == 404
        assert (await client.http.get("/iap/devs/*+health==DOWN/count")).json() == {"value": 0}


async def test_datapoints_of_a_device_and_by_qualifier() -> None:
    async with simulated() as client:
        whole = (await client.http.get("/iap/devs/12/if/*/*/*/*")).json()
        assert whole[0]["dpQualifier"] == LUX
        assert whole[0]["lon"] == {"cfg": {"unit": "lux"}}
        escaped = LUX.replace("/", "%2F")
        found = (await client.http.get(f"/iap/devs/*/if/*/*/*+qualifier=-{escaped},x/value?noxs=true")).json()
        assert [one["dpQualifier"] for one in found] == [LUX]
        assert (await client.http.get("/iap/devs/12/if/A/0/b/value")).status_code == 404


# Values


async def test_updates_go_to_whom_they_are_listed_for() -> None:
    async with simulated() as client, client.socket() as socket:
        client.platform.put(LUX, 1)
        assert await client.put("/iap/dp/updates/subscribe", [LUX]) == 204
        client.platform.put(LUX, 2)
        told = await heard(socket)
        assert told["action"] == "UPD:DATAPOINT"
        (one,) = told["payload"]
        assert (one["datapointQualifier"], one["value"], one["locValue"]) == (LUX, 2, 2)
        assert one["timestamp"].startswith(utc(client.platform.world.points[LUX].at))
        assert await client.put("/iap/dp/updates/subscribe", {"a": 1}) == 400
        client.platform.steal()
        client.platform.put(LUX, 3)
        client.platform.tell("UPD:CPU", 5)
        assert (await heard(socket))["action"] == "UPD:CPU"


async def test_a_read_answers_what_is_known_and_the_device_follows() -> None:
    async with simulated() as client, client.socket() as socket:
        await client.put("/iap/dp/updates/subscribe", [LUX])
        known = client.platform.world.points[LUX].at
        path = "/iap/devs/12/if/LightSensor/0/nvoLuxLevel/value"
        (row,) = (await client.http.get(f"{path}?max_age=0")).json()
        assert row["utc"] == utc(known, "Z[UTC]")
        assert (await heard(socket))["payload"][0]["timestamp"] > utc(known)
        client.platform.world.devices[12].health = "down"
        await client.http.get(f"{path}?max_age=0")
        assert (await heard(socket))["action"] == "CRT:NOTIFICATION"


async def test_a_priority_array() -> None:
    async with simulated() as client:
        point = client.platform.world.points[f"{SID}/lon/4/Lamp/0/nviValue"]
        assert await client.put(f"{LAMP}/value", ON) == 204
        assert await client.put(f"{LAMP}/overrides/8/value", {"value": 5, "state": 1}) == 204
        assert await client.put(f"{LAMP}/overrides/8/value", {"value": 6}) == 204, "the other fields are kept"
        assert await client.put(f"{LAMP}/value", {"value": 0, "state": 0}) == 422
        assert point.value == {"value": 6, "state": 1}
        (row,) = (await client.http.get(f"{LAMP}/overrides")).json()
        assert row["currentLevel"] == 8
        assert (await client.http.delete(f"{LAMP}/overrides/8/value")).status_code == 204
        assert point.value == {"value": 0, "state": 0}
        assert (await client.http.put(f"{LAMP}/presets/value", content=b"ON")).status_code == 204
        assert point.value == ON
        assert (await client.http.put(f"{LAMP}/presets/value", content=b'"OFF"')).status_code == 204
        assert (await client.http.put(f"{LAMP}/presets/value", content=b"DIM")).status_code == 404
        assert (await client.http.put(f"{LAMP}/value", content=b"{")).status_code == 400
        assert await client.put(f"{LAMP}/overrides/18/value", 1) == 404


async def test_a_lamp_says_what_it_does_after_a_write() -> None:
    async with simulated() as client, client.socket() as socket:
        back = f"{SID}/lon/4/Lamp/0/nvoValueFb"
        await client.put("/iap/dp/updates/subscribe", [back])
        await client.put(f"{LAMP}/value", ON)
        (one,) = (await heard(socket))["payload"]
        assert (one["datapointQualifier"], one["value"], one["presetValue"]) == (back, ON, "ON")


# The rest


async def test_alarms_tests_and_winks() -> None:
    async with simulated() as client, client.socket() as socket:
        id_ = client.platform.alarm(12, "Broken")
        assert (await heard(socket))["payload"]["details"] == "Broken"
        assert [one["id"] for one in (await client.http.get("/iap/alarms?activeOnly=true")).json()] == [id_]
        assert (await client.http.get("/iap/alarms/count")).json() == {"value": 1}
        assert await client.put("/iap/alarms/clear", [id_]) == 204
        assert (await heard(socket)) == {"action": "DEL:ALARM", "payload": {"id": id_}}
        assert await client.put("/iap/devs/12/test", {"ID": 12}) == 204
        assert (await heard(socket))["payload"]["results"]["state"] == "Configured Online"
        assert await client.put("/iap/devs/12/wink", {"ID": 12}) == 204
        assert await client.put("/iap/devs/14/wink", {"ID": 14}) == 400
        assert (await client.http.get("/iap/dlaRules/monitoring")).json() == {"value": True}
        assert await client.put("/iap/storage/publishes/true", "") == 204


async def test_a_data_log_ends_with_its_end() -> None:
    async with simulated() as client:
        at = client.platform.world.points[LUX].log[2][0]
        bounds = f"%2A%2Butc%3E{utc(at - 1, '')}%26utc%3C%3D{utc(at, '')}"
        async with client.socket(f"?dev=12&blockName=LightSensor&value={bounds}") as socket:
            entry = await heard(socket)
            assert (entry["dpQualifier"], entry["utc"]) == (LUX, utc(at, "Z[UTC]"))
            assert await heard(socket) == "end"
            with pytest.raises(ConnectionClosed):
                await heard(socket)
        client.platform.faults = Faults(no_end=True)
        async with client.socket(f"?dev=99&value={bounds}") as socket:
            with pytest.raises(ConnectionClosed):
                await heard(socket)


async def test_it_lives_by_itself() -> None:
    async with simulated(rate=200, heartbeat=0.05, batch=3) as client, client.socket() as socket:
        await client.put("/iap/dp/updates/subscribe", list(client.platform.world.points))
        seen: set[str] = set()
        while not seen >= {"UPD:DATAPOINT", "NTF:TIME", "UPD:SC:CPU", "UPD:TOTAL_EPS"}:
            seen.add((await heard(socket))["action"])


async def test_pings_are_answered_unless_it_is_half_open() -> None:
    async with simulated() as client, client.socket() as socket:
        async with asyncio.timeout(PATIENCE_S):
            await (await socket.ping())
    async with simulated(faults=Faults(half_open=True)) as client, client.socket() as socket:
        waiter = await socket.ping()
        client.platform.tell("UPD:CPU", 1)
        done, _ = await asyncio.wait({asyncio.ensure_future(waiter)}, timeout=0.2)
        assert not done
        await client.platform.drop()


def test_the_same_seed_is_the_same_building() -> None:
    now = 1_740_903_300_000
    one, two, other = (World(4, seed, 1.0, now) for seed in (1, 1, 2))
    for world in (one, two, other):
        for step in range(50):
            world.turn(now + step)
    assert [list(point.log) for point in one.points.values()] == [list(point.log) for point in two.points.values()]
    assert [list(point.log) for point in one.points.values()] != [list(point.log) for point in other.points.values()]
    assert local(now) == "2025-03-02T09:15:00.000+01:00[Europe/Berlin]"


def parsed(*args: str) -> SmartserverSimOptions:
    parser = argparse.ArgumentParser()
    add_arguments(parser, SmartserverSimOptions)
    return from_arguments(parser.parse_args(args), SmartserverSimOptions)


def test_the_command_line() -> None:
    assert SIMULATORS["smartserver"] is SmartserverSimulator
    assert parsed() == SmartserverSimOptions()
    told = parsed("--rooms=3", "--lively", "--fault=no-end", "--fault", "list-limit=5", "--fault=session-end=drop")
    assert (told.rooms, told.lively) == (3, True)
    assert told.faults == Faults(no_end=True, list_limit=5, session_end="drop")


@pytest.mark.parametrize("args", [("--rooms=-1",), ("--fault=nothing",), ("--fault=late",), ("--fault=login=x",)])
def test_what_the_command_line_refuses(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(*args)
    assert "error: argument --" in capsys.readouterr().err


def test_a_key_needs_its_certificate() -> None:
    with pytest.raises(ValueError, match="certificate"):
        parsed("--tls-key=k")
