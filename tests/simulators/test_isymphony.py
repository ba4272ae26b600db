"""The simulated iSymphony: who comes in, what it says, its filters, its Live REST API, its faults."""

import argparse
import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bridge.simulators.isymphony import EVENTS, LIVE, Faults, IsymphonySimOptions, IsymphonySimulator
from tests.support import PATIENCE_S
from tests.support.mosquitto import Certificates

AUTH = ("manager", "simulated-9f2c")
CORE = "coreServers/getByName/default"
QUIET = 0.2  # seconds in which nothing more comes


def address(simulator: IsymphonySimulator, path: str = EVENTS, user: str = ":".join(AUTH)) -> str:
    return simulator.url.replace("://", f"://{user}@" if user else "://") + path


@contextlib.asynccontextmanager
async def talk(**options: Any) -> AsyncIterator[tuple[IsymphonySimulator, ClientConnection]]:
    async with (
        IsymphonySimulator(IsymphonySimOptions(**{"rate": 0.0, **options})) as simulator,
        connect(address(simulator), proxy=None, ping_interval=None) as client,
    ):
        await simulator.connected()
        yield simulator, client


async def hear(client: ClientConnection) -> Any:
    return json.loads(await asyncio.wait_for(client.recv(), PATIENCE_S))


async def until_closed(client: ClientConnection) -> None:
    """Hears all that is still said. Raises ConnectionClosed."""
    while True:
        await hear(client)


async def set_filter(client: ClientConnection, *filters: tuple[str, str], **more: Any) -> Any:
    entries = [{"property": name, "value": value} for name, value in filters]
    await client.send(json.dumps({"type": "filter", "correlationId": "c", "filters": entries, **more}))
    return await hear(client)


async def live(simulator: IsymphonySimulator, method: str, path: str, **more: Any) -> httpx.Response:
    url = simulator.url.replace("ws://", "http://") + LIVE + path
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.request(method, url, auth=AUTH, **more)


# Who comes in


@pytest.mark.parametrize(
    ("options", "path", "user", "status"),
    [
        ({}, EVENTS, "", 401),
        ({}, EVENTS, "manager:wrong", 401),
        ({}, "/elsewhere", ":".join(AUTH), 404),
        ({"acl": "192.0.2.1"}, EVENTS, ":".join(AUTH), 403),
        ({"ssl_only": True}, EVENTS, ":".join(AUTH), 302),
        ({"faults": Faults(refuse=503)}, EVENTS, ":".join(AUTH), 503),
    ],
)
async def test_who_does_not_come_in(options: dict[str, Any], path: str, user: str, status: int) -> None:
    async with IsymphonySimulator(IsymphonySimOptions(rate=0.0, **options)) as simulator:
        http = simulator.url.replace("ws://", "http://")
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
        async with httpx.AsyncClient(trust_env=False) as client:
            name, _, password = user.partition(":")
            answer = await client.get(http + path, headers=upgrade, auth=(name, password) if user else None)
        assert answer.status_code == status
        assert simulator.refused == 1
        if status == 302:
            assert answer.headers["location"] == f"https://127.0.0.1:55050{EVENTS}"
        if status == 401:
            assert answer.headers["www-authenticate"].startswith("Basic ")
            with pytest.raises(InvalidStatus):
                await connect(address(simulator, path, user), proxy=None)


async def test_tls_beside_the_plain_port(certificates: Certificates) -> None:
    server = certificates.server
    options = IsymphonySimOptions(rate=0.0, ssl_only=True, tls_cert=str(server.cert_file), tls_key=str(server.key_file))
    async with IsymphonySimulator(options) as simulator:
        context = ssl.create_default_context(cafile=str(certificates.ca_file))
        url = simulator.tls_url.replace("://", f"://{':'.join(AUTH)}@") + EVENTS
        async with connect(url, ssl=context, proxy=None) as client:
            assert (await set_filter(client))["type"] == "success"
        assert (
            (await live(simulator, "GET", "coreServers"))
            .headers["location"]
            .endswith(f":{simulator.tls_port}{LIVE}coreServers")
        )


# Events


async def test_a_call_in_the_pages_words() -> None:
    async with talk() as (simulator, client):
        world = simulator.world
        anna, ben = world.user("anna"), world.user("ben")
        call, events = world.ring(anna, ben)
        simulator.tell(*world.login(anna), *events, *world.answer(call), *world.hang_up(call))
        heard = [await hear(client) for _ in range(6)]
    assert [one["type"] for one in heard] == ["userLogin", "dial", "linkStart", "linkEnd", "hangup", "hangup"]
    assert {one["coreServerId"] for one in heard} == {world.core}
    ended = heard[3]
    assert (ended["username1"], ended["extensionNumber2"], ended["did1"]) == ("anna", "7002", None)
    assert heard[4]["callSegmentId"] == ended["callSegmentId1"]
    assert isinstance(ended["time"], int)


async def test_the_same_seed_tells_the_same_story() -> None:
    def story(seed: int) -> list[Any]:
        world = IsymphonySimulator(IsymphonySimOptions(seed=seed)).world
        return [world.happening() for _ in range(300)]

    assert story(1) == story(1)
    assert story(1) != story(2)
    kinds = {event["type"] for happening in story(1) for event in happening}
    assert kinds == {
        "userLogin", "userLogout", "dial", "linkStart", "linkEnd", "hangup", "confRoomCallJoin", "confRoomCallLeave",
    }  # fmt: skip


async def test_it_lives_by_itself_and_restarts_with_new_ids() -> None:
    async with talk(rate=100.0, inside=5) as (simulator, client):
        first = await hear(client)
        ids = {user.id for user in simulator.world.users}
        await simulator.restart()
        with pytest.raises(ConnectionClosed):
            await until_closed(client)
        assert first["coreServerId"] != simulator.world.core
        assert not ids & {user.id for user in simulator.world.users}
        assert [user.name for user in simulator.world.users][:2] == ["anna", "ben"]


@pytest.mark.parametrize("order", ["page", "alphabetical", "shuffled"])
async def test_orders_of_properties(order: str) -> None:
    async with talk(order=order) as (simulator, client):
        simulator.tell(*simulator.world.login(simulator.world.users[0]))
        names = list(await hear(client))
    assert (names[0] == "type") == (order == "page")
    assert (names == sorted(names)) == (order == "alphabetical")


# Filters


@pytest.mark.parametrize(
    ("filters", "heard"),
    [
        ([], ["userLogin", "dial", "hangup", "hangup", "end"]),
        ([("type", "hangup"), ("type", "end")], ["hangup", "hangup", "end"]),
        ([("type", "hangup"), ("username", "ben"), ("type", "end")], ["hangup", "end"]),
        ([("username", "*")], ["userLogin", "hangup", "hangup", "end"]),
        ([("username1", "*")], ["dial", "end"]),
    ],
)
async def test_filters(filters: list[tuple[str, str]], heard: list[str]) -> None:
    async with talk() as (simulator, client):
        world = simulator.world
        reply = await set_filter(client, *filters)
        assert (reply["type"], reply["correlationId"]) == ("success", "c")
        call, events = world.ring(world.user("anna"), world.user("ben"))
        simulator.tell(*world.login(world.user("anna")), *events, *world.hang_up(call))
        simulator.say('{"type":"end","username":"ben","username1":"x"}')  # past every filter
        assert [(await hear(client))["type"] for _ in heard] == heard


@pytest.mark.parametrize(
    ("message", "correlation"),
    [
        ("{", None),
        ("[]", None),
        ('{"type":"other","correlationId":"c"}', "c"),
        ('{"type":"filter","correlationId":"c"}', "c"),
        ('{"type":"filter","correlationId":"c","filters":[7]}', "c"),
        ('{"type":"filter","correlationId":"c","filters":[{"property":"type","value":7}]}', "c"),
        ('{"type":"filter","correlationId":"c","filters":[{"property":"type":"value":"dial"}]}', None),
    ],
)
async def test_messages_that_are_none(message: str, correlation: str | None) -> None:
    async with talk() as (_, client):
        await client.send(message)
        reply = await hear(client)
        assert reply["type"] == "error"
        assert reply["error"]
        assert reply["correlationId"] == correlation


async def test_lenient_takes_what_the_page_prints() -> None:
    async with talk(lenient=True) as (_, client):
        await client.send('{"type":"filter","filters":[{"property" : "type" : "value" : "dial"}]}')
        assert (await hear(client))["type"] == "success"


# Live REST


async def test_reading() -> None:
    async with talk(inside=1) as (simulator, _):
        anna = simulator.world.user("anna")
        (core,) = (await live(simulator, "GET", "coreServers")).json()
        assert core["id"] == simulator.world.core
        users = (await live(simulator, "GET", f"coreServers/{core['id']}/users")).json()
        assert users[0] == {"id": anna.id, "userName": "anna", "displayedName": "Anna Berg"}
        by_name = (await live(simulator, "GET", f"{CORE}/users/getByName/g%C3%BCl%2B1")).json()
        assert by_name["displayedName"] == "Gül #1"
        logins = (await live(simulator, "GET", f"{CORE}/users/{anna.id}/logins")).json()
        assert [one["id"] for one in logins] == list(anna.logins)
        assert (await live(simulator, "GET", f"{CORE}/extensions/getByName/7001")).json()["id"] == anna.extension_id
        assert (await live(simulator, "GET", f"{CORE}/users/getByName/anna/status")).json()["type"] == "available"
        assert len((await live(simulator, "GET", f"{CORE}/conferences")).json()) == 2
        await simulator.restart()
        assert (await live(simulator, "GET", f"coreServers/{core['id']}/users")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", f"{CORE}/extensions/getByName/7001/originate", {"number": "7002"}, 204),
        ("POST", f"{CORE}/extensions/getByName/7001/originate", {}, 412),
        ("POST", f"{CORE}/extensions/getByName/7001/dnd", {"enabled": True}, 204),
        ("POST", f"{CORE}/users/getByName/anna/status", {"type": "away"}, 204),
        ("POST", f"{CORE}/users/getByName/anna/status", {"type": "asleep"}, 412),
        ("POST", f"{CORE}/users/getByName/nobody/status", {"type": "away"}, 404),
        ("POST", f"{CORE}/users/getByName/anna/originate", {}, 404),
        ("DELETE", f"{CORE}/users/getByName/anna", None, 405),
        ("GET", "coreServers/getByName/other/users", None, 404),
        ("GET", "elsewhere", None, 404),
    ],
)
async def test_actions(method: str, path: str, body: Any, status: int) -> None:
    async with talk() as (simulator, client):
        answer = await live(simulator, method, path, json=body)
        assert answer.status_code == status
        if path.endswith("originate") and status == 204:
            assert (await hear(client))["type"] == "dial"
        if status == 412:
            assert answer.text


async def test_broken_json_is_412() -> None:
    async with talk() as (simulator, _):
        answer = await live(simulator, "POST", f"{CORE}/extensions/getByName/7001/dnd", content=b"{")
        assert answer.status_code == 412


# Faults


@pytest.mark.parametrize(
    ("faults", "reply"),
    [
        (Faults(error_reply="no"), {"type": "error", "error": "no", "correlationId": "c"}),
        (Faults(null_correlation=True), {"type": "success", "correlationId": None}),
        (Faults(late_reply=0.05), {"type": "success", "correlationId": "c"}),
    ],
)
async def test_faults_of_replies(faults: Faults, reply: dict[str, Any]) -> None:
    async with talk(faults=faults) as (_, client):
        told = await set_filter(client)
        del told["time"]
        assert told == reply


async def test_no_reply_and_an_ignored_filter() -> None:
    async with talk(faults=Faults(no_reply=True, ignore_filters=True)) as (simulator, client):
        await client.send('{"type":"filter","correlationId":"c","filters":[{"property":"type","value":"x"}]}')
        await simulator.asked(1)
        simulator.tell(*simulator.world.login(simulator.world.users[0]))
        assert (await hear(client))["type"] == "userLogin"


async def test_faults_of_events() -> None:
    faults = Faults(time_as_text=True, extra=True, array=True, binary=True, big_name=500, no_core=True)
    async with talk(faults=faults) as (simulator, client):
        world = simulator.world
        _, events = world.ring(world.users[0], world.users[1])
        simulator.tell(*events)
        frame = await asyncio.wait_for(client.recv(), PATIENCE_S)
        assert isinstance(frame, bytes)
        (told,) = json.loads(frame)
        assert isinstance(told["time"], str)
        assert told["simulated"] == {"by": "ws2mqtt"}
        assert len(told["callerIdName1"]) == 500
        assert "coreServerId" not in told
        simulator.faults = Faults(malformed=1)
        simulator.tell(*events)
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            await hear(client)


@pytest.mark.parametrize(("code", "heard"), [(1011, 1011), (1006, None)])
async def test_a_client_is_closed_after_some_frames(code: int, heard: int | None) -> None:
    async with talk(faults=Faults(close_after=2, close_code=code)) as (simulator, client):
        simulator.say('{"type":"a"}')
        simulator.say('{"type":"b"}')
        with pytest.raises(ConnectionClosed) as closed:
            await until_closed(client)
        assert (closed.value.rcvd.code if closed.value.rcvd else None) == heard


async def test_a_half_open_client_gets_no_pong() -> None:
    async with talk(faults=Faults(half_open=True)) as (simulator, client):
        simulator.say('{"type":"a"}')
        pong = await client.ping()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(pong), QUIET)
        await simulator.drop()


async def test_a_rest_request_without_an_answer_was_carried_out() -> None:
    async with talk(faults=Faults(rest_cut=True)) as (simulator, _):
        with pytest.raises(httpx.HTTPError):
            await live(simulator, "POST", f"{CORE}/extensions/getByName/7001/dnd", json={"enabled": True})
        assert simulator.world.users[0].dnd


# The command line


def parsed(*args: str) -> IsymphonySimulator:
    parser = argparse.ArgumentParser()
    IsymphonySimulator.add_arguments(parser)
    return IsymphonySimulator.from_arguments(parser.parse_args(args))


def test_options_on_the_command_line() -> None:
    assert parsed().options == IsymphonySimOptions()
    told = parsed("--ssl-only", "--rate=2", "--order", "shuffled", "--fault=rest-status=500", "--fault", "no-reply")
    assert told.options == IsymphonySimOptions(
        ssl_only=True, rate=2.0, order="shuffled", faults=Faults(rest_status=500, no_reply=True)
    )


def test_a_tls_port_without_a_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="certificate"):
        parsed("--tls-port=1")
