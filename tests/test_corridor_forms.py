"""The forms that events may have on the wire, and the ways there: payloads, QoS, brokers, TLS, client ids."""

import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from bridge.simulators.resiot import ResiotSimOptions, ResiotSimulator
from tests.conftest import BridgeFactory, MosquittoFactory, ScriptedFactory
from tests.support import Publish
from tests.support.ear import Ear, Message
from tests.support.house import DEVICE, FAST, TOKEN, VERSIONS, Version, balanced, counters, house, up, ups
from tests.support.mosquitto import Certificates, Mosquitto

FLAT = {"session", "sequence", "id", "source", "specversion", "subject", "time", "recordedtime", "datacontenttype"}


def decoded(message: Message, payload: str) -> Any:
    return msgspec.msgpack.decode(message.payload) if payload == "msgpack" else json.loads(message.payload)


@pytest.mark.parametrize(
    ("version", "envelope", "payload"),
    [
        *(("5", envelope, payload) for envelope in ("structured", "binary") for payload in ("json", "msgpack")),
        ("3.1.1", "structured", "msgpack"),
        ("3.1.1", "binary", "json"),
    ],
)
async def test_an_event_in_every_form(
    mosquitto: Mosquitto, base: str, tmp_path: Path, version: Version, payload: str, envelope: str
) -> None:
    mqtt = {"payload": payload, "envelope": envelope}
    async with house(mosquitto, tmp_path, base, version=version, mqtt=mqtt) as home:
        await home.say(up(42), "{")
        heard = await home.ear.wait_topic(f"{base}/lora/{DEVICE}/event/up")
        body, attributes = decoded(heard, payload), dict(heard.user_properties)
        if envelope == "structured":
            data = body.pop("data")
            attributes = body
        else:
            data = body
        assert (data["f_cnt"], data["frequency_hz"], data["payload_hex"]) == (42, 868500000, "0100e60252")
        if version == "3.1.1" and envelope == "binary":
            assert attributes == {}
        else:
            assert set(attributes) == FLAT | {"type"}
            assert attributes["type"] == "resiot.up"
            assert attributes["datacontenttype"] == "application/json"
        media = f"application/{'cloudevents+' if envelope == 'structured' else ''}{payload}"
        assert heard.properties.get("content_type") == (media if version == "5" else None)
        state = await home.state("online")  # plain JSON in every form
        assert state["error"] is None
        assert (await home.ear.wait_topic(f"{base}/lora/dead/not_json")).payload == b"{"


@pytest.mark.parametrize("version", VERSIONS)
async def test_qos_0_is_published_once_it_is_written(
    mosquitto: Mosquitto, base: str, tmp_path: Path, version: Version
) -> None:
    async with house(mosquitto, tmp_path, base, version=version, mqtt={"qos": 0}) as home:
        await home.platform.flood(ups(500))
        heard = await home.until_uplinks(500)
        assert counters(heard) == list(range(1, 501))
        assert {one.qos for one in home.ear.messages} == {0}
        scrape = await home.bridge.wait_scrape(
            lambda one: one.of("ws2mqtt_events_published_total", backend="lora") == 500
        )
        assert balanced(scrape)
        response = await home.command("bridge/ping")
        assert response["code"] == 200
        assert (await home.ear.wait_topic(f"{base}/bridge/response/ping")).qos == 1


async def test_a_frame_over_max_frame_is_dead_and_one_far_over_it_ends_the_link(
    mosquitto: Mosquitto, base: str, tmp_path: Path
) -> None:
    async with house(mosquitto, tmp_path, base, backend={"max_frame": "1KiB"}) as home:
        large = up(1, Filler="x" * 2000)
        await home.say(large, up(2))
        assert (await home.ear.wait_topic(f"{base}/lora/dead/too_large")).payload == large.encode()
        assert counters(await home.until_uplinks(1)) == [2]
        await home.say(up(1, Filler="x" * 8000))
        gap = await home.told("lora/event/gap")
        assert "max_frame" in gap["data"]["reason"]
        scrape = await home.bridge.scrape()
        assert scrape.of("ws2mqtt_frames_unread_total", backend="lora", reason="too_large") == 2
        assert scrape.of("ws2mqtt_websocket_reconnects_total", backend="lora", reason="too_large") == 1


# Connections


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_backend_has_a_connection_of_its_own_with_its_will(
    scripted: ScriptedFactory, run_bridge: BridgeFactory, base: str, version: Version
) -> None:
    broker = await scripted()
    async with ResiotSimulator(ResiotSimOptions(rate=0)) as platform:
        backend = {"type": "resiot", "url": platform.url}
        mqtt = {"url": broker.url, "version": version, "client_id": "me", "base_topic": base, "keepalive": "21s"}
        await run_bridge({"mqtt": mqtt, "backends": {"one": backend, "two-2": backend}})
        connects = {name: (await broker.wait_connected(name)).connect for name in ("me", "me-one", "me-two-2")}
        for name, connect in connects.items():
            assert connect.version == (5 if version == "5" else 4)
            assert connect.clean
            assert connect.keepalive == 21
            assert connect.properties.get("session_expiry_interval", 0) == 0
            will = connect.will
            assert will is not None
            assert (will.qos, will.retain) == (1, True)
            told = json.loads(will.payload)
            assert told["state"] == "offline"
            if name == "me":
                assert will.topic == f"{base}/bridge/state"
                assert set(told) == {"state", "session", "instance", "version", "time"}
            else:
                assert will.topic == f"{base}/{name.removeprefix('me-')}/state"
                assert told["error"] == "bridge gone"
        for name in ("one", "two-2"):
            await broker.wait_publishes(1, f"{base}/{name}/state")
        for got in broker.got:
            if isinstance(got.packet, Publish):
                mine = got.packet.topic.removeprefix(f"{base}/").partition("/")[0]
                assert got.client_id == ("me" if mine == "bridge" else f"me-{mine}")


async def test_two_backends_of_one_type_are_apart(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base, platforms=("one", "two")) as home:
        await home.platforms["one"].say(up(1))
        await home.platforms["two"].flood(ups(3))
        assert counters(await home.until_uplinks(1, "one")) == [1]
        assert counters(await home.until_uplinks(3, "two")) == [1, 2, 3]
        first = Ear.json(home.uplinks("one")[0])
        second = Ear.json(home.uplinks("two")[0])
        assert (first["sequence"], second["sequence"]) == ("0000000000000001",) * 2
        assert first["id"] != second["id"]  # another source
        await home.platforms["one"].drop()
        await home.heard("one/event/gap")
        assert not home.ear.on(f"{base}/two/event/gap")
        await home.state("online", "two")


async def test_a_disabled_backend_says_so_and_never_connects(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base, backend={"enabled": False, "required": True}, online=False) as home:
        told = await home.state("disabled")
        assert told["error"] is None
        ready = await home.bridge.wait_http("/readyz")  # a disabled one is not waited for
        assert ready.json() == {"ready": True, "waiting": []}
        scrape = await home.bridge.scrape()
        assert scrape.total("ws2mqtt_websocket_connects_total") == 0
        assert home.platform.admitted == 0


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_next_broker_of_the_list_is_tried(
    mosquitto: Mosquitto, base: str, tmp_path: Path, free_port: Any, version: Version
) -> None:
    urls = [f"mqtt://127.0.0.1:{free_port()}", mosquitto.url()]
    async with house(mosquitto, tmp_path, base, version=version, mqtt={"url": urls}) as home:
        await home.say(up(1))
        await home.until_uplinks(1)
        scrape = await home.bridge.scrape()
        for backend in ("bridge", "lora"):
            assert scrape.of("ws2mqtt_mqtt_connects_total", backend=backend, outcome="failed") >= 1
            assert scrape.of("ws2mqtt_mqtt_connects_total", backend=backend, outcome="ok") == 1


Scheme = Literal["mqtts", "ws", "wss"]


@pytest.mark.parametrize(("scheme", "version"), [("mqtts", "5"), ("ws", "3.1.1"), ("wss", "5")])
async def test_brokers_behind_tls_and_websockets(
    broker: MosquittoFactory, base: str, tmp_path: Path, certificates: Certificates, scheme: Scheme, version: Version
) -> None:
    there = await broker(tls=certificates.server, websockets=True)
    mqtt: dict[str, Any] = {"url": there.url(scheme)}
    if scheme != "ws":
        mqtt["tls"] = {"ca_file": str(certificates.ca_file)}
    async with house(there, tmp_path, base, version=version, mqtt=mqtt) as home:
        await home.platform.flood(ups(200))
        assert counters(await home.until_uplinks(200)) == list(range(1, 201))
        assert (await home.command("bridge/ping"))["code"] == 200


@pytest.mark.parametrize("trouble", ["stranger", "expired", "wrong_host"])
async def test_a_broker_with_a_wrong_certificate_gets_nothing(
    broker: MosquittoFactory, base: str, tmp_path: Path, certificates: Certificates, trouble: str
) -> None:
    there = await broker(tls=certificates.server if trouble == "stranger" else getattr(certificates, trouble))
    ca = certificates.stranger_file if trouble == "stranger" else certificates.ca_file
    mqtt = {"url": there.url("mqtts"), "tls": {"ca_file": str(ca)}}
    async with house(there, tmp_path, base, mqtt=mqtt, online=False) as home:
        line = await home.bridge.wait_log(lambda one: one.message == "mqtt not connected")
        assert "certificate" in line.fields["reason"]
        assert "Traceback" not in home.bridge.log
        assert (await home.bridge.get("/readyz")).json()["waiting"] == ["mqtt"]


async def test_a_platform_behind_tls_is_checked(
    mosquitto: Mosquitto, base: str, tmp_path: Path, certificates: Certificates
) -> None:
    server = certificates.server
    options = ResiotSimOptions(rate=0, token=TOKEN, tls_cert=str(server.cert_file), tls_key=str(server.key_file))
    async with ResiotSimulator(options) as platform:
        assert platform.url.startswith("wss://")
        backends = {
            name: {"type": "resiot", "url": platform.url, "tls": tls, "reconnect": FAST}
            for name, tls in {
                "trusted": {"ca_file": str(certificates.ca_file)},
                "strange": {"ca_file": str(certificates.stranger_file)},
            }.items()
        }
        async with house(mosquitto, tmp_path, base, platforms=(), backends=backends) as home:
            await home.state("online", "trusted")
            told = await home.told("strange/state", lambda one: one["error"] is not None)
            assert told["state"] in ("offline", "connecting")
            assert "certificate" in told["error"]
            await platform.say(up(1))
            await home.until_uplinks(1, "trusted")
            assert platform.admitted == 1
            assert "Traceback" not in home.bridge.log
