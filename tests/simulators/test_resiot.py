"""The simulated ResIOT from outside: handshakes, its story, every answer to a command."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from bridge.simulators import SIMULATORS
from bridge.simulators.resiot import Faults, ResiotSimOptions, ResiotSimulator
from tests.support import PATIENCE_S

CLASS_A, CLASS_C = "a81758fffe0a0b0c", "a81758fffe0a0b0f"
APP_A, APP_C = "70b3d57ed0001122", "70b3d57ed0003344"
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


# Handshake


def test_registry() -> None:
    assert SIMULATORS["resiot"] is ResiotSimulator


@pytest.mark.parametrize(
    ("change", "told", "status"),
    [
        (lambda url: url.replace("token=", "token=x"), {}, 401),
        (lambda url: url.replace("token=", "token=x"), {"unauthorized": 403}, 403),
        (lambda url: url.partition("&token")[0], {}, 401),
        (lambda url: url.partition("&token")[0] + "&token=%C3%A4", {}, 401),
        (lambda url: url.replace("DeviceMsg", "Other"), {}, 404),
        (lambda url: url.replace("type=node", "type=user"), {}, 404),
        (lambda url: url, {"faults": Faults(refuse=403)}, 403),
        (lambda url: url, {"faults": Faults(refuse=503)}, 503),
    ],
)
async def test_refused(change: Callable[[str], str], told: dict[str, Any], status: int) -> None:
    async with asyncio.timeout(PATIENCE_S), ResiotSimulator(options(**told)) as simulator:
        with pytest.raises(InvalidStatus) as refusal:
            await connect(change(simulator.url))
        await simulator.refusals(1)
        assert refusal.value.response.status_code == status
        assert (simulator.clients, simulator.admitted, simulator.refused) == (0, 0, 1)


async def test_unknown_query_keys_and_odd_tokens_pass() -> None:
    async with asyncio.timeout(PATIENCE_S), ResiotSimulator(options(token="a&b=ä/1")) as simulator:
        async with connect(simulator.url + "&more=1"):
            await simulator.connected()
        await simulator.deserted()


async def test_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = authority.issue_cert("127.0.0.1")
    cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    context = ssl.create_default_context()
    authority.configure_trust(context)
    told = options(tls_cert=str(cert), tls_key=str(key))
    async with asyncio.timeout(PATIENCE_S), ResiotSimulator(told) as simulator:
        assert simulator.url.startswith("wss://")
        async with connect(simulator.url, ssl=context) as client:
            await simulator.connected()
            await simulator.keepalive()
            assert kinds(await hear(client, 1)) == ["comm_gwalive"]


async def test_faults_can_change_while_running() -> None:
    async with talk() as (simulator, _):
        simulator.faults = Faults(refuse=401)
        with pytest.raises(InvalidStatus):
            await connect(simulator.url)
        simulator.faults = Faults()
        async with connect(simulator.url):
            await simulator.admissions(2)
            assert simulator.clients == 2


# The story


async def test_join_once_then_uplinks_that_count() -> None:
    async with talk() as (simulator, client):
        for _ in range(40):
            await simulator.uplink(CLASS_A)
        heard = await hear_all(simulator, client)
    assert kinds(heard)[0] == "comm_join"
    assert set(kinds(heard)[1:]) == {"comm_rx"}
    first = [one for one in heard[1:] if one["Extra"]["duplicate"] == "false"]
    assert [int(one["Extra"]["seqno"]) for one in first] == list(range(1, 41))
    again = [one for one in heard[1:] if one["Extra"]["duplicate"] == "true"]
    assert again
    assert {one["Extra"]["seqno"] for one in again} < {one["Extra"]["seqno"] for one in first}
    assert {len(one["GatewayEUIs"]) for one in first} >= {1, 2}
    temperatures = [int(one["Payload"][2:6], 16) / 10 for one in first]
    assert all(abs(a - b) < 1 for a, b in pairwise(temperatures))
    assert len(set(temperatures)) > 5


async def test_by_itself_every_device_and_gateway_speaks() -> None:
    async with talk(rate=500.0, alive=0.05, gateways=2) as (_, client):
        gateways: set[str] = set()
        devices: set[str] = set()
        while len(gateways) < 2 or len(devices) < 4:
            one = frame(await client.recv())
            if one["CommType"] == "comm_gwalive":
                gateways |= set(one["GatewayEUIs"])
            else:
                devices.add(one["DevEui"])


@pytest.mark.parametrize(
    ("told", "period"), [({"rate": 0.0}, 0.0), ({"rate": 1.0}, 30.0), ({"rate": 1.0, "alive": 0.0}, 0.0)]
)
def test_keepalives_go_with_uplinks_unless_told(told: dict[str, Any], period: float) -> None:
    assert options(**told).alive_period == period


async def test_same_seed_same_story() -> None:
    async def story(seed: int) -> list[dict[str, Any]]:
        async with talk(seed=seed, profile="mixed", gwrx=True) as (simulator, client):
            for _ in range(20):
                await simulator.uplink()
            return [{**one, "DT": ""} for one in await hear_all(simulator, client)]

    one, same, other = await story(7), await story(7), await story(8)
    assert one == same
    assert one != other


async def test_packets_at_gateways() -> None:
    async with talk(gwrx=True) as (simulator, client):
        for _ in range(30):
            await simulator.uplink()
        heard = await hear_all(simulator, client)
    assert {one["Mine"] for one in heard if one["CommType"] == "comm_gwrx"} == {True, False}


async def test_shapes() -> None:
    heard = {}
    for profile in ("doc2017", "newer", "schema"):
        async with talk(profile=profile) as (simulator, client):
            await simulator.uplink(CLASS_A)
            heard[profile] = (await hear_all(simulator, client))[1]
    old, newer, schema = heard["doc2017"], heard["newer"], heard["schema"]
    ids = ["Connector", "AppEui", "DevEui"]
    assert list(old) == ["CommType", *ids, "Port", "GatewayEUIs", "Payload", "Extra", "DT"]
    assert list(newer) == ["CommType", *ids, "DevAddr", "Port", "GatewayEUIs", "Extra", "Payload", "DT"]
    assert list(schema) == ["Connector", "MsgType", "AppEui", "DevEui", "Port", "GatewayEUIs", "Payload", "Extra", "DT"]
    assert {pair["fieldname"]: pair["fieldvalue"] for pair in schema["Extra"]} == old["Extra"]
    nested = json.loads(newer["Extra"]["Gateways"])
    assert [one["mac"] for one in nested] == [eui.lower() for eui in newer["GatewayEUIs"]]
    assert (nested[0]["rssi"], nested[0]["loRaSNR"]) == (int(old["Extra"]["rssi"]), float(old["Extra"]["snr"]))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}\+01:00", old["DT"])


async def test_mixed_shapes() -> None:
    async with talk(profile="mixed") as (simulator, client):
        for _ in range(20):
            await simulator.uplink(CLASS_A)
        heard = [one for one in await hear_all(simulator, client) if one["Payload"]]
    assert {("MsgType" in one, "DevAddr" in one) for one in heard} == {(True, False), (False, True), (False, False)}


# Commands


@pytest.mark.parametrize(
    ("changes", "details"),
    [
        ({}, ""),
        ({"DevEUI": None, "deveui": CLASS_C.upper()}, ""),
        ({"DevEui": CLASS_C}, ""),
        ({"Payload": None}, ""),
        ({"Payload": "HI!", "Raw": True}, ""),
        ({"Unknown": 1}, ""),
        ({"Connector": "636f6e3939", "WSCommand": "go", "Confirm": False}, ""),
        ({"Port": 1}, ""),
        ({"Port": 223}, ""),
        ({"function": None}, "function missing"),
        ({"AppEui": None}, "AppEui missing"),
        ({"DevEUI": None}, "DevEUI missing"),
        ({"Port": None}, "Port missing"),
        ({"function": "RX"}, "unknown function RX"),
        ({"Port": 0}, "Port is out of range 1..223"),
        ({"Port": 224}, "Port is out of range 1..223"),
        ({"Port": "10"}, "Port has the wrong type"),
        ({"Port": True}, "Port has the wrong type"),
        ({"Confirm": "true"}, "Confirm has the wrong type"),
        ({"Payload": "HI!"}, "Payload is not hex"),
        ({"Payload": "abc"}, "Payload is not hex"),
        ({"Payload": "00" * 243}, "Payload is longer than 242 bytes"),
        ({"DevEUI": "0" * 16}, "device not found"),
        ({"AppEui": APP_A}, "device does not belong to this AppEui"),
    ],
)
async def test_answers(changes: dict[str, Any], details: str) -> None:
    async with talk() as (simulator, client):
        await client.send(request(**changes))
        heard = await hear(client, 1)
        if not details:
            await hear(client, 5)
        assert await hear_all(simulator, client) == []
    told = f"simulator: {details}" if details else ""
    assert heard == [{"Result": "Fail" if details else "Success", "Details": told, "Reference": "r-1"}]
    assert (await simulator.command()).problem == details


@pytest.mark.parametrize(
    ("text", "details"),
    [
        ("{", "simulator: request is not JSON"),
        ("[]", "simulator: request is not a JSON object"),
        (b"\xff", "simulator: request is not JSON"),
    ],
)
async def test_unreadable_requests(text: str | bytes, details: str) -> None:
    async with talk() as (simulator, client):
        await client.send(text)
        assert await hear(client, 1) == [{"Result": "Fail", "Details": details}]
        simulator.faults = Faults(ignore_bad_json=True)
        await client.send(text)
        await client.send(request())
        assert kinds(await hear(client, 1)) == ["Success"]


async def test_requests_are_kept_as_sent() -> None:
    async with talk() as (simulator, client):
        sent = request(Raw=True, Payload="HI!", Confirm=True, WSCommand="go", Connector="63")
        await client.send(sent)
        await client.send("{}")
        first, second = await simulator.command(), await simulator.command()
        assert simulator.commands == [first, second]
    assert (first.text, first.payload, first.hex, first.port) == (sent, "HI!", "484921", 10)
    assert (first.raw, first.confirm, first.command, first.connector) == (True, True, "go", "63")
    assert second.problem == "function, AppEui, DevEUI, Port missing"


async def test_class_c_at_once() -> None:
    async with talk() as (simulator, client):
        await client.send(request(Confirm=True, Payload="FF01"))
        heard = await hear(client, 7)
        assert kinds(heard) == ["Success", *ISSUED]
        assert {one["Reference"] for one in heard} == {"r-1"}
        issued, ack, confirmed = heard[1], heard[4], heard[6]
        assert (issued["Port"], issued["Payload"], issued["Confirmation"]) == ("10", "ff01", True)
        assert (issued["Extra"], issued["Command"]) == ({"priority": 0, "window": "BOTH"}, "")
        assert "GatewayEUIs" not in issued
        assert (ack["Error"], confirmed["DevEui"]) == ("", CLASS_C)
        await simulator.uplink(CLASS_C)
        assert (await hear_all(simulator, client))[1]["Payload"].startswith("01000102")  # the relay is on


async def test_class_a_after_its_next_uplink() -> None:
    async with talk() as (simulator, client):
        await client.send(request(AppEui=APP_A, DevEUI=CLASS_A, Reference=None))
        assert kinds(await hear(client, 2)) == ["Success", "comm_tx"]
        await simulator.uplink(CLASS_C)
        assert set(kinds(await hear_all(simulator, client))) == {"comm_join", "comm_rx"}
        await simulator.uplink(CLASS_A)
        heard = await hear_all(simulator, client)
        assert kinds(heard)[-4:] == FEEDBACK[:-1]
        assert {one["Reference"] for one in heard[-4:]} == {""}
        assert kinds(heard)[:2] == ["comm_join", "comm_rx"]
        await simulator.uplink(CLASS_A)
        assert set(kinds(await hear_all(simulator, client))) == {"comm_rx"}


async def test_no_reference_no_reference_in_the_answer() -> None:
    async with talk() as (_, client):
        await client.send(request(Reference=None))
        assert await hear(client, 1) == [{"Result": "Success", "Details": ""}]


async def test_everybody_hears_but_only_one_is_answered() -> None:
    async with talk() as (simulator, client), connect(simulator.url) as other:
        await simulator.connected(2)
        await client.send(request())
        assert kinds(await hear(client, 6)) == ["Success", *ISSUED[:-1]]
        assert kinds(await hear(other, 5)) == ISSUED[:-1]
