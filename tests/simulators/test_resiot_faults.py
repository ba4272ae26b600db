"""Every fault of the simulated ResIOT, and what its clients may do to it: real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from bridge.simulators.resiot import PATH, Faults, ResiotSimOptions, ResiotSimulator
from tests.support import PATIENCE_S, free_port

CLASS_A, CLASS_C = "a81758fffe0a0b0c", "a81758fffe0a0b0f"
APP_C = "70b3d57ed0003344"
FEEDBACK = ["comm_gwtx", "comm_txinfo", "comm_txsendack", "comm_txsendconfirm", "comm_txconfirm"]
ISSUED = ["comm_tx", *FEEDBACK]
END = '{"CommType":"the end"}'


def options(**told: Any) -> ResiotSimOptions:
    """Four devices, the last one class C; nothing is sent by itself."""
    return ResiotSimOptions(**{"rate": 0.0, "devices": 4, **told})


@asynccontextmanager
async def talk(**told: Any) -> AsyncIterator[tuple[ResiotSimulator, ClientConnection]]:
    """A simulator and a client of it; nothing in it may take a minute."""
    async with (
        asyncio.timeout(PATIENCE_S),
        ResiotSimulator(options(**told)) as simulator,
        connect(simulator.url, close_timeout=0.1) as client,
    ):
        await simulator.connected()
        yield simulator, client


def frame(text: str | bytes) -> dict[str, Any]:
    told = json.loads(text)
    assert isinstance(told, dict)
    return told


async def hear(client: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [frame(await client.recv()) for _ in range(count)]


async def hear_all(simulator: ResiotSimulator, client: ClientConnection) -> list[dict[str, Any]]:
    """What is still to come; the simulator says when that was all."""
    await simulator.say(END)
    heard = []
    while (text := await client.recv()) != END:
        heard.append(frame(text))
    return heard


def kinds(heard: list[dict[str, Any]]) -> list[str]:
    return [one.get("CommType") or one.get("Result", "?") for one in heard]


def request(**changes: Any) -> str:
    """A good class C request; a change to None takes the key away."""
    told = {"function": "TX", "Payload": "ff01", "AppEui": APP_C, "DevEUI": CLASS_C, "Port": 10, "Reference": "r-1"}
    return json.dumps({key: value for key, value in {**told, **changes}.items() if value is not None})


# Faults


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        (Faults(), ["Success", *ISSUED]),
        (Faults(no_reply=True), ISSUED),
        (Faults(reply_after_tx=True), ["comm_tx", "Success", *FEEDBACK]),
        (Faults(tx_error="no free slot"), ["Success", *ISSUED[:4]]),
        (Faults(no_ack=True), ["Success", *ISSUED[:5]]),
        (Faults(late_reply=0.05), ["Success", *ISSUED]),
    ],
)
async def test_faults_of_answers(faults: Faults, expected: list[str]) -> None:
    async with talk(faults=faults) as (simulator, client):
        await client.send(request(Confirm=True))
        heard = await hear(client, len(expected))
        assert kinds(heard) == expected
        assert await hear_all(simulator, client) == []
        assert [one["Error"] for one in heard if "Error" in one] == [faults.tx_error]


async def test_late_reply_is_late_but_holds_up_nothing() -> None:
    async with talk(faults=Faults(late_reply=0.2)) as (simulator, client):
        clock = asyncio.get_running_loop().time
        asked = clock()
        await client.send(request())
        await simulator.command()
        assert await hear_all(simulator, client) == []
        assert kinds(await hear(client, 1)) == ["Success"]
        assert clock() - asked >= 0.2


async def test_reply_without_reference() -> None:
    async with talk(faults=Faults(reply_without_reference=True)) as (_, client):
        await client.send(request())
        assert await hear(client, 1) == [{"Result": "Success", "Details": ""}]


async def test_broadcast_replies() -> None:
    async with talk(faults=Faults(broadcast_replies=True)) as (simulator, client), connect(simulator.url) as other:
        await simulator.connected(2)
        await client.send(request())
        assert kinds(await hear(other, 1)) == ["Success"]


async def test_malformed() -> None:
    async with talk(faults=Faults(malformed=3)) as (simulator, client):
        for _ in range(6):
            await simulator.keepalive()
        heard = [await client.recv() for _ in range(6)]
    assert [text.endswith("}") for text in map(str, heard)] == [True, True, False, True, True, False]
    with pytest.raises(ValueError, match="char"):
        json.loads(heard[2])


@pytest.mark.parametrize(
    ("faults", "alive", "uplink"),
    [
        (Faults(), {"Port": "", "Extra": {}}, {"Port": "5"}),
        (Faults(nulls=True), {"Port": None, "Extra": None, "AppEui": None, "Payload": None}, {"Port": "5"}),
        (Faults(zero_dt=True), {"DT": "0001-01-01T00:00:00Z"}, {"DT": "0001-01-01T00:00:00Z"}),
        (Faults(port_as_number=True), {"Port": None}, {"Port": 5}),
    ],
)
async def test_faults_of_fields(faults: Faults, alive: dict[str, Any], uplink: dict[str, Any]) -> None:
    async with talk(faults=faults) as (simulator, client):
        await simulator.keepalive()
        await simulator.uplink(CLASS_A)
        first, _, second = await hear(client, 3)
    assert {key: first[key] for key in alive} == alive
    assert {key: second[key] for key in uplink} == uplink


async def test_binary() -> None:
    async with talk(faults=Faults(binary=True)) as (simulator, client):
        await simulator.keepalive()
        assert isinstance(await client.recv(), bytes)


async def test_big_frame() -> None:
    async with talk(faults=Faults(big_frame=300_000)) as (simulator, client):
        await simulator.uplink(CLASS_A)
        join, uplink = await client.recv(), await client.recv()
    assert len(join) < 1000
    assert len(uplink) == 300_000


@pytest.mark.parametrize("code", [1001, 4000, 1006])
async def test_close_after(code: int) -> None:
    async with talk(faults=Faults(close_after=2, close_code=code)) as (simulator, client):
        await simulator.flood(str(number) for number in range(5))
        assert [await client.recv(), await client.recv()] == ["0", "1"]
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == code
        await simulator.deserted()


async def test_half_open() -> None:
    async with talk(faults=Faults(half_open=True)) as (simulator, client):
        await simulator.say("nothing")
        pong = asyncio.ensure_future(await client.ping())
        await client.send(request())
        async with connect(simulator.url) as other:  # a whole handshake later there is still nothing
            await simulator.connected(2)
            other.transport.abort()
        assert not pong.done()
        assert simulator.commands == []
        await simulator.drop()
        with pytest.raises(ConnectionClosedError):
            await client.recv()


async def test_freeze_makes_the_present_clients_half_open() -> None:
    async with talk() as (simulator, client):
        await (await client.ping())
        simulator.freeze()
        pong = asyncio.ensure_future(await client.ping())
        async with connect(simulator.url) as other:
            await simulator.connected(2)
            await (await other.ping())
            await simulator.say("only new ones")
            assert await other.recv() == "only new ones"
        assert not pong.done()


async def test_deaf() -> None:
    async with talk(faults=Faults(deaf=True)) as (simulator, client):
        pong = asyncio.ensure_future(await client.ping())
        await client.send(request())
        await simulator.say("still talking")
        assert await client.recv() == "still talking"
        assert not pong.done()
        assert simulator.commands == []


async def test_slow_reader() -> None:
    async with talk(faults=Faults(slow_reader=0.15)) as (simulator, client):
        clock = asyncio.get_running_loop().time
        begun = clock()
        for _ in range(3):
            await client.send("{}")
        for _ in range(3):
            await simulator.command()
        assert clock() - begun >= 0.3


# Clients


@pytest.mark.parametrize(("code", "seen"), [(1001, 1001), (1012, 1012), (4001, 4001), (None, 1006)])
async def test_drop(code: int | None, seen: int) -> None:
    async with talk() as (simulator, client):
        await simulator.say("before")
        await simulator.drop(code)
        assert simulator.clients == 0
        assert await client.recv() == "before"
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == seen


async def test_a_client_that_does_not_read_holds_up_nobody() -> None:
    async with talk() as (simulator, client):
        stuck = socket.create_connection(("127.0.0.1", simulator.port))
        target = simulator.url.partition(str(simulator.port))[2]
        head = f"GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        stuck.sendall((head + key).encode())
        await simulator.connected(2)
        simulator.faults = Faults(big_frame=900_000)
        told: list[asyncio.Task[None]] = []
        while simulator.clients == 2:  # until the stuck one, 64 MiB behind, is cut off
            told.append(asyncio.create_task(simulator.uplink(CLASS_A)))
            while len(await client.recv()) < 900_000:
                pass
        await asyncio.gather(*told)
        assert len(told) > 50
        assert set(kinds(await hear_all(simulator, client))) <= {"comm_rx"}
        assert simulator.clients == 1
        stuck.close()


async def test_flood_hands_over_everything_in_order() -> None:
    async with talk() as (simulator, client):
        frames = [f'{{"n":{number}}}' for number in range(20_000)]
        flood = asyncio.create_task(simulator.flood(frames))
        assert [await client.recv() for _ in frames] == frames
        assert await flood == 20_000


async def test_flood_without_clients() -> None:
    async with asyncio.timeout(PATIENCE_S), ResiotSimulator(options()) as simulator:
        assert await simulator.flood(["a"]) == 0


async def test_leaving_with_an_unfinished_handshake_and_a_stuck_client_is_quick() -> None:
    async with asyncio.timeout(PATIENCE_S):
        async with ResiotSimulator(options(faults=Faults(half_open=True))) as simulator:
            idle = socket.create_connection(("127.0.0.1", simulator.port))
            client = await connect(simulator.url)
            await simulator.connected()
        idle.close()
        with pytest.raises(ConnectionClosed):
            await client.recv()


async def test_serve_forever_starts_by_itself_and_ends_when_cancelled() -> None:
    async with asyncio.timeout(PATIENCE_S):
        simulator = ResiotSimulator(options(port=free_port()))
        serving = asyncio.create_task(simulator.serve_forever())
        connecting = asyncio.create_task(simulator.connected())
        url = f"ws://127.0.0.1:{simulator.options.port}{PATH}?type=node&token={simulator.options.token}"
        await simulator.started()
        client = await connect(url)
        await connecting
        assert simulator.url == url
        serving.cancel()
        await asyncio.wait({serving})
        assert serving.cancelled()
        with pytest.raises(ConnectionClosed):
            await client.recv()


async def test_a_taken_port() -> None:
    async with asyncio.timeout(PATIENCE_S), ResiotSimulator(options()) as simulator:
        with pytest.raises(OSError, match="address already in use"):
            await ResiotSimulator(options(port=simulator.port)).__aenter__()
