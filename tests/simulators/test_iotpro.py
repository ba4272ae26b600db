"""The simulated IoT Pro from outside: as strict as the real one, in both editions (ThingsBoard 4.3)."""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bridge.simulators import SIMULATORS
from bridge.simulators.iotpro import Faults, IotproSimOptions, IotproSimulator
from bridge.simulators.iotpro_rest import CUSTOMER
from bridge.simulators.iotpro_world import World, database, java
from tests.support import PATIENCE_S

LATITUDE = "telemetry_param_latitude"
PAGE = "/api/user/assets?pageSize=2&page=0"


@asynccontextmanager
async def platform(**told: Any) -> AsyncIterator[tuple[IotproSimulator, httpx.AsyncClient]]:
    """A simulator and a client of its REST side; nothing in it may take a minute."""
    options = IotproSimOptions(**{"rate": 0.0, "assets": 3, **told})
    async with (
        asyncio.timeout(PATIENCE_S),
        IotproSimulator(options) as simulator,
        httpx.AsyncClient(base_url=simulator.url, trust_env=False) as client,
    ):
        yield simulator, client


async def login(simulator: IotproSimulator, client: httpx.AsyncClient) -> str:
    """Logs in; the client bears the token from now on."""
    told = {"username": simulator.options.username, "password": simulator.options.password}
    pair = (await client.post("/api/auth/login", json=told)).json()
    client.headers["X-Authorization"] = f"Bearer {pair['token']}"
    return str(pair["token"])


@asynccontextmanager
async def talk(simulator: IotproSimulator) -> AsyncIterator[ClientConnection]:
    async with connect(f"{simulator.url.replace('http', 'ws')}/api/ws", close_timeout=0.2) as socket:
        yield socket


def command(cmd: int = 1, **changes: Any) -> dict[str, Any]:
    keys = [{"type": "TIME_SERIES", "key": LATITUDE}, {"type": "SERVER_ATTRIBUTE", "key": "assetDetails"}]
    query = {
        "entityFilter": {"type": "entityType", "entityType": "ASSET"},
        "pageLink": {"pageSize": 2, "page": 0, "dynamic": True},
        "entityFields": [{"type": "ENTITY_FIELD", "key": "name"}],
        "latestValues": [],
    }
    return {"cmdId": cmd, "type": "ENTITY_DATA", "query": {**query, **changes}, "latestCmd": {"keys": keys}}


async def ask(socket: ClientConnection, *cmds: dict[str, Any], token: str | None = None, **more: Any) -> None:
    auth = {} if token is None else {"authCmd": {"cmdId": 0, "token": token}}
    await socket.send(json.dumps({**auth, "cmds": list(cmds), **more}))


async def hear(socket: ClientConnection) -> dict[str, Any]:
    told = json.loads(await socket.recv())
    assert isinstance(told, dict)
    return told


async def closed(socket: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as gone:
        await socket.recv()
    assert gone.value.rcvd is not None
    return gone.value.rcvd.code, gone.value.rcvd.reason


def test_registry() -> None:
    assert SIMULATORS["iotpro"] is IotproSimulator


def test_the_command_line() -> None:
    parser = argparse.ArgumentParser()
    IotproSimulator.add_arguments(parser)
    args = ["--assets=5", "--edition=ce", "--token-life=3", "--fault=throttle", "--fault=history=503"]
    made = IotproSimulator.from_arguments(parser.parse_args(args)).options
    assert made == IotproSimOptions(assets=5, edition="ce", token_life=3.0, faults=Faults(throttle=True, history=503))


# Logins.


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"username": "bridge@example.com", "password": "x"}, 10, "Invalid username or password"),
        ({"username": "bridge@example.com"}, 10, "Authentication failed"),
        ({"username": "bridge@example.com", "password": "sea-buoys", "more": "1"}, 10, "Authentication failed"),
        (5, 10, "Authentication failed"),
    ],
)
async def test_refused_logins(body: Any, code: int, message: str) -> None:
    async with platform() as (_, client):
        answer = await client.post("/api/auth/login", json=body)
        assert answer.status_code == 401
        assert (answer.json()["errorCode"], answer.json()["message"]) == (code, message)


async def test_tokens_end_and_are_renewed() -> None:
    async with platform(token_life=0.3) as (simulator, client):
        told = {"username": simulator.options.username, "password": simulator.options.password}
        pair = (await client.post("/api/auth/login", json=told)).json()
        assert (await client.get(PAGE)).status_code == 401
        client.headers["Authorization"] = f"Bearer {pair['token']}"
        assert (await client.get(PAGE)).status_code == 200
        while (answer := await client.get(PAGE)).status_code == 200:
            pass
        assert answer.json()["errorCode"] == 11
        new = (await client.post("/api/auth/token", json={"refreshToken": pair["refreshToken"]})).json()
        client.headers["X-Authorization"] = f"Bearer {new['token']}"
        assert (await client.get(PAGE)).status_code == 200
        simulator.tokens.outdate()
        assert (await client.get(PAGE)).json()["message"] == "Token has expired"
        wrong = await client.post("/api/auth/token", json={"refreshToken": new["token"]})
        assert wrong.status_code == 401


# Lists and history.


@pytest.mark.parametrize(
    ("edition", "role", "statuses"),
    [("pe", "customer", (200, 403, 200)), ("ce", "customer", (400, 403, 200)), ("ce", "tenant", (400, 200, 200))],
)
async def test_lists_by_edition_and_role(edition: Any, role: Any, statuses: tuple[int, ...]) -> None:
    async with platform(edition=edition, role=role) as (simulator, client):
        await login(simulator, client)
        paths = ("user", "tenant", f"customer/{CUSTOMER}")
        told = [(await client.get(f"/api/{path}/assets?pageSize=2&page=1")) for path in paths]
        assert tuple(one.status_code for one in told) == statuses
        assert told[2].json()["totalElements"] == 3
        assert (len(told[2].json()["data"]), told[2].json()["hasNext"]) == (1, False)
        assert (await client.get("/api/user/assets?pageSize=0&page=0")).status_code == 400


async def test_history_is_half_open_limited_and_newest_first_unless_told() -> None:
    async with platform() as (simulator, client):
        await login(simulator, client)
        asset = next(iter(simulator.world.assets.values()))
        for ts in (10, 20, 30, 40):
            simulator.write(asset, {"k": ts / 10}, ts)
        path = f"/api/plugins/telemetry/ASSET/{asset.id}/values/timeseries?keys=k,none&startTs=10&endTs=40"
        assert (await client.get(path)).json() == {"k": [{"ts": ts, "value": f"{ts / 10}"} for ts in (30, 20, 10)]}
        told = (await client.get(f"{path}&limit=2&orderBy=ASC")).json()
        assert [one["ts"] for one in told["k"]] == [10, 20]
        assert (await client.get(path.replace(asset.id, "nobody"))).status_code == 404
        assert (await client.get(f"{path}&limit=0")).status_code == 400


# The socket.


async def test_a_snapshot_then_updates() -> None:
    async with platform() as (simulator, client), talk(simulator) as socket:
        await ask(socket, command(), token=await login(simulator, client))
        snapshot = await hear(socket)
        assert (snapshot["update"], snapshot["cmdUpdateType"], snapshot["errorCode"]) == (None, "ENTITY_DATA", 0)
        assert (snapshot["data"]["totalPages"], snapshot["data"]["hasNext"]) == (2, True)
        asset = simulator.world.assets[snapshot["data"]["data"][0]["entityId"]["id"]]
        simulator.write(asset, {LATITUDE: 12.0, "other": 1})
        simulator.write(asset, {LATITUDE: 1.0}, 5)  # late: not told
        simulator.set_attributes(asset, {"assetDetails": "x"})
        told = [(await hear(socket))["update"][0]["latest"] for _ in range(2)]
        assert told[0]["TIME_SERIES"][LATITUDE]["value"] == "12.0"
        assert told[1]["SERVER_ATTRIBUTE"]["assetDetails"]["value"] == "x"
        await ask(socket, command(2))
        again = (await hear(socket))["data"]["data"][0]["latest"]
        assert again["TIME_SERIES"][LATITUDE]["value"] == "12"


async def test_dynamic_pages_are_told_anew_when_somebody_comes_or_goes() -> None:
    async with platform(assets=1) as (simulator, client), talk(simulator) as socket:
        await ask(socket, command(), token=await login(simulator, client))
        await hear(socket)
        simulator.refresh()
        new = simulator.world.add("New", created=1_800_000_000_000)
        simulator.refresh()
        assert [one["entityId"]["id"] for one in (await hear(socket))["data"]["data"]][1] == new.id


STRICT: list[dict[str, Any]] = [
    {"more": 1},
    {"cmds": [{**command(), "more": 1}]},
    {"cmds": [command(pageLink={"pageSize": 1, "page": 0, "more": 1})]},
    {"cmds": [{**command(), "latestCmd": {"keys": [{"type": "TIME_SERIES", "key": "a", "more": 1}]}}]},
    {"cmds": [{**command(), "type": "ENTITY_DATAS"}]},
    {"cmds": [{**command(), "type": "ENTITY_DATA_UNSUBSCRIBE"}]},
]


@pytest.mark.parametrize("wrong", STRICT)
async def test_one_unknown_member_and_nothing_of_the_frame_is_carried_out(wrong: dict[str, Any]) -> None:
    async with platform() as (simulator, client):
        token = await login(simulator, client)
        async with talk(simulator) as socket:
            await ask(socket, command(), token=token)
            await hear(socket)
            await ask(socket, **wrong)
            told = await hear(socket)
            assert (told["subscriptionId"], told["errorCode"], told["errorMsg"]) == (
                1,
                2,
                "Failed to parse the payload",
            )
        async with talk(simulator) as socket:
            await ask(socket, token=token, **wrong)
            assert (await closed(socket))[0] == 1007


async def test_members_of_a_query_are_not_looked_at() -> None:
    async with platform() as (simulator, client), talk(simulator) as socket:
        await ask(socket, command(more=1), token=await login(simulator, client))
        assert (await hear(socket))["data"]["totalElements"] == 3


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"pageLink": {"pageSize": 0, "page": 0}}, 1), ({"latestValues": None}, 1), ({"entityFilter": {"type": "x"}}, 2)],
)
async def test_commands_that_do_not_work(changes: dict[str, Any], code: int) -> None:
    async with platform() as (simulator, client), talk(simulator) as socket:
        await ask(socket, command(7, **changes), token=await login(simulator, client))
        assert (await hear(socket))["errorCode"] == code


async def test_sockets_without_a_login_are_closed() -> None:
    async with platform(auth_wait=0.1) as (simulator, client):
        token = await login(simulator, client)
        async with talk(simulator) as socket:
            assert await closed(socket) == (1008, "Authentication timeout")
        async with talk(simulator) as socket:
            await ask(socket, command())
            assert await closed(socket) == (1008, "Auth cmd is missing")
        async with talk(simulator) as socket:
            await ask(socket, token="garbage")
            assert (await closed(socket))[0] == 1007
        simulator.tokens.outdate()
        async with talk(simulator) as socket:
            await ask(socket, token=token)
            assert await closed(socket) == (1007, "Token is outdated")


async def test_a_frame_that_is_too_long_is_the_end() -> None:
    async with platform() as (simulator, client), talk(simulator) as socket:
        await ask(socket, token=await login(simulator, client), cmds=[command(more="x" * 33_000)])
        assert (await closed(socket))[0] == 1009


async def test_throttled_once_said_then_dropped() -> None:
    async with platform() as (simulator, client), talk(simulator) as socket:
        await ask(socket, command(), token=await login(simulator, client))
        await hear(socket)
        simulator.faults = Faults(throttle=True)
        asset = next(iter(simulator.world.assets.values()))
        simulator.write(asset, {LATITUDE: 1.0})
        simulator.write(asset, {LATITUDE: 2.0}, simulator.write(asset, {LATITUDE: 3.0}) + 5)
        assert (await hear(socket))["errorCode"] == 34
        simulator.faults = Faults()
        simulator.write(asset, {LATITUDE: 4.0}, max(ts for ts, _ in asset.latest.values()) + 5)
        assert (await hear(socket))["update"][0]["latest"]["TIME_SERIES"][LATITUDE]["value"] == "4.0"


# The world.


def test_same_seed_same_fleet() -> None:
    one, same, other = (World(assets=5, seed=seed, kept=5, now=1) for seed in (1, 1, 2))
    assert list(one.assets) == list(same.assets) != list(other.assets)
    assert [asset.latest for asset in one.assets.values()] == [asset.latest for asset in same.assets.values()]


@pytest.mark.parametrize(
    ("value", "live", "stored"),
    [
        (12.0, "12.0", "12"), (1e7, "1.0E7", "10000000"), (1.2e-4, "1.2E-4", "0.00012"), (12, "12", "12"),
        (0.001, "0.001", "0.001"), (-2.5, "-2.5", "-2.5"), (True, "true", "true"), ("x", "x", "x"),
        ({"a": 1}, '{"a":1}', '{"a":1}'), (0.0, "0.0", "0"), (123456.789, "123456.789", "123456.789"),
    ],
)  # fmt: skip
def test_numbers_as_java_and_as_the_database_write_them(value: Any, live: str, stored: str) -> None:
    assert (java(value), database(value)) == (live, stored)
