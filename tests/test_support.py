"""What the tests stand on, held against the real thing: real clients, a real Mosquitto, the real bridge."""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import aiomqtt
import pytest
from aiomqtt import ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.conftest import BridgeFactory, MosquittoFactory, ScriptedFactory
from tests.support import (
    PATIENCE_S,
    Connack,
    Connect,
    Disconnect,
    NotSeen,
    Pingreq,
    Puback,
    Publish,
    Record,
    Subscribe,
    Unsubscribe,
    close,
    matches,
)
from tests.support.ear import Ear
from tests.support.mosquitto import Certificates, Mosquitto, answers
from tests.support.process import BridgeProcess
from tests.support.scripted import NOT_AUTHORIZED, SESSION_TAKEN_OVER, Got, ScriptedBroker

VERSIONS = [ProtocolVersion.V311, ProtocolVersion.V5]
Version = Literal["5", "3.1.1"]


def client(port: int, version: ProtocolVersion = ProtocolVersion.V5, **options: Any) -> aiomqtt.Client:
    """A client of another make than ours."""
    return aiomqtt.Client("127.0.0.1", port, protocol=version, **{"timeout": 5, "identifier": "theirs", **options})


def properties(packet: int = PacketTypes.PUBLISH, **told: Any) -> Properties:
    made = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in told.items():
        setattr(made, name, value)
    return made


@asynccontextmanager
async def lost(one: aiomqtt.Client) -> AsyncIterator[aiomqtt.Client]:
    """A client that is going to lose its connection."""
    try:
        async with one:
            yield one
    except aiomqtt.MqttError:
        pass


def is_packet(kind: type[object]) -> Callable[[Got], bool]:
    return lambda got: isinstance(got.packet, kind)


# The wire and the record


@pytest.mark.parametrize(
    ("topic_filter", "topic", "fits"),
    [
        ("#", "a/b", True),
        ("#", "$SYS/a", False),
        ("+/b", "$SYS/b", False),
        ("a/#", "a", True),
        ("a/#", "ab", False),
        ("a/+/c", "a//c", True),
        ("a/+", "a/b/c", False),
        ("a/b/#", "a", False),
        ("a/b", "a/b", True),
    ],
)
def test_filters_match_as_the_standard_says(topic_filter: str, topic: str, fits: bool) -> None:
    assert matches(topic_filter, topic) is fits


async def test_a_record_tells_what_it_saw_instead() -> None:
    record: Record[int] = Record("numbers")
    record.append(7)
    with pytest.raises(NotSeen, match=r"numbers: 0 of 1 seen within 0\.01 s; the last of 1:\n  7"):
        await record.wait(lambda n: n == 8, 0.01)


async def test_whoever_waits_learns_of_the_end_at_once() -> None:
    record: Record[int] = Record("numbers")
    waiting = asyncio.create_task(record.wait(lambda n: n == 8, 60))
    await asyncio.sleep(0)
    record.end("no more")
    with pytest.raises(NotSeen, match="no more"):
        await waiting


# Mosquitto and the ear


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_the_ear_hears_in_order_with_everything(mosquitto: Mosquitto, base: str, version: Version) -> None:
    async with Ear(mosquitto.url(), f"{base}/#", version=version) as ear, client(mosquitto.port) as one:
        for number in range(500):
            await one.publish(f"{base}/n", str(number), qos=1)
        told = properties(ContentType="application/json", UserProperty=[("a", "1"), ("a", "2")])
        await one.publish(f"{base}/end", b'{"x":1}', retain=True, properties=told)
        end = await ear.wait_topic(f"{base}/end")
        assert [int(m.payload) for m in ear.on(f"{base}/n")] == list(range(500))
        assert {m.qos for m in ear.on(f"{base}/n")} == {1}
        assert (ear.json(end), end.qos) == ({"x": 1}, 0)
        if version == "5":
            assert end.properties == {"content_type": "application/json"}
            assert (end.user_properties, end.retain) == ((("a", "1"), ("a", "2")), True)
    async with Ear(mosquitto.url(), f"{base}/#", version=version) as late:
        assert (await late.wait_topic("#")).retain


async def test_the_ear_speaks_as_well(mosquitto: Mosquitto, base: str) -> None:
    async with Ear(mosquitto.url(), f"{base}/#") as ear:
        told: dict[str, int | str | bytes] = {
            "response_topic": f"{base}/back",
            "correlation_data": b"\x00\xff",
            "message_expiry_interval": 60,
        }
        assert await ear.publish(f"{base}/said", {"id": "a"}, properties=told) == 0
        heard = await ear.wait_topic(f"{base}/said", lambda m: ear.json(m) == {"id": "a"})
        assert dict(heard.properties) == told
        assert await ear.publish(f"nobody/{base}", qos=0) == 0
        assert await ear.publish(f"nobody/{base}") == 0x10  # no matching subscribers


async def test_the_ear_tells_what_it_heard_instead(mosquitto: Mosquitto, base: str) -> None:
    async with Ear(mosquitto.url(), f"{base}/#") as ear:
        await ear.publish(f"{base}/other", "hello")
        with pytest.raises(NotSeen, match=f"{base}/other.*hello"):
            await ear.wait_topic(f"{base}/wanted", timeout=0.05)


async def test_the_ear_comes_back_after_a_restart(broker: MosquittoFactory) -> None:
    running = await broker()
    async with Ear(running.url(), "t/#", reconnect=True) as ear:
        await ear.publish("t/1", "before")
        port, pid = running.port, running.pid
        await running.restart()
        await ear.wait_connected(2)
        assert (running.port, running.pid == pid) == (port, False)
        await ear.publish("t/2", "after")
        await ear.wait_topic("t/2")
    assert [m.payload for m in ear.messages] == [b"before", b"after"]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("crash", [False, True])
async def test_a_durable_ear_misses_nothing(broker: MosquittoFactory, version: Version, crash: bool) -> None:
    running = await broker(persistence=True)
    async with Ear(running.url(), "t/#", version=version, client_id="durable", durable=True):
        pass
    if crash:
        await running.save()
        await running.kill()
    else:
        await running.stop()
    await running.start()
    async with Ear(running.url(), "other") as other:
        assert await other.publish("t/1", "while away") == 0
    async with Ear(running.url(), "t/#", version=version, client_id="durable", durable=True) as ear:
        assert (await ear.wait_topic("t/1")).payload == b"while away"


async def test_an_ear_that_does_not_come_back_says_so(broker: MosquittoFactory) -> None:
    running = await broker()
    async with Ear(running.url(), "t/#") as ear:
        await running.kill()
        with pytest.raises(NotSeen, match="the connection ended"):
            await ear.wait_topic("t/1", timeout=60)
        with pytest.raises(ConnectionResetError):
            await ear.publish("t/1")


async def test_a_killed_mosquitto_is_gone_and_comes_back(broker: MosquittoFactory) -> None:
    running = await broker()
    await running.kill()
    assert running.pid is None
    assert not await answers(running.port)
    await running.start()
    assert await answers(running.port)
    await running.stop()
    assert running.pid is None


async def test_a_frozen_mosquitto_keeps_its_sockets_and_says_nothing(broker: MosquittoFactory) -> None:
    running = await broker()
    async with Ear(running.url(), "t/#") as ear:
        running.freeze()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ear.publish("t/1"), 0.2)
        running.thaw()
        await ear.wait_topic("t/1")
        running.freeze()
    await running.stop()
    assert running.pid is None


async def test_a_mosquitto_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nonsense_option"):
        await Mosquitto(tmp_path, lines=["nonsense_option 1"]).start()


async def test_a_missing_mosquitto_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(RuntimeError, match="apt-get install mosquitto"):
        await Mosquitto(tmp_path).start()


async def test_a_mosquitto_can_ask_for_a_password_and_keep_to_its_rules(broker: MosquittoFactory) -> None:
    rules = ["user anna", "topic read t/#", "topic write t/1"]
    running = await broker(users={"anna": "secret: word"}, acl=rules)
    assert "secret" not in (running.folder / "passwords").read_text()
    async with Ear(running.url(), "t/#", username="anna", password="secret: word") as ear:
        assert await ear.publish("t/2") == NOT_AUTHORIZED
        assert await ear.publish("t/1") == 0
        await ear.wait_topic("t/1")
    for name, password in (("anna", "wrong"), (None, None)):
        with pytest.raises(ConnectionRefusedError):
            await Ear(running.url(), "t/#", username=name, password=password).__aenter__()


async def test_a_mosquitto_takes_more_of_its_own_options(broker: MosquittoFactory) -> None:
    running = await broker(lines=["max_packet_size 100"], max_inflight=3)
    got: list[Any] = []
    one = client(running.port)
    above = one._client.on_connect
    assert above is not None

    def on_connect(*told: Any) -> None:
        got.append(told[4])
        above(*told)

    one._client.on_connect = on_connect
    async with one:
        pass
    assert (got[0].ReceiveMaximum, got[0].MaximumPacketSize) == (3, 100)


async def test_tls(broker: MosquittoFactory, certificates: Certificates) -> None:
    running = await broker(tls=certificates.server)
    for host in ("127.0.0.1", "localhost"):
        async with Ear(running.url("mqtts", host), "t/#", tls=certificates.context()) as ear:
            await ear.publish("t/1")
            await ear.wait_topic("t/1")
    stranger = ssl.create_default_context(cafile=certificates.stranger_file)
    with pytest.raises(ssl.SSLCertVerificationError):
        await Ear(running.url("mqtts"), "t/#", tls=stranger).__aenter__()


@pytest.mark.parametrize(("which", "why"), [("expired", "expired"), ("wrong_host", "IP address mismatch")])
async def test_bad_certificates(broker: MosquittoFactory, certificates: Certificates, which: str, why: str) -> None:
    running = await broker(tls=getattr(certificates, which))
    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        await Ear(running.url("mqtts"), "t/#", tls=certificates.context()).__aenter__()


async def test_client_certificates(broker: MosquittoFactory, certificates: Certificates) -> None:
    running = await broker(tls=certificates.server, client_ca=certificates.ca_file)
    with pytest.raises(OSError):  # noqa: PT011 - an alert or a reset, as TLS 1.3 has it
        await Ear(running.url("mqtts"), "t/#", tls=certificates.context()).__aenter__()
    async with Ear(running.url("mqtts"), "t/#", tls=certificates.context(client=True)) as ear:
        assert await ear.publish("t/1") == 0


async def test_websockets(broker: MosquittoFactory, certificates: Certificates) -> None:
    running = await broker(websockets=True, tls=certificates.server)
    web: dict[str, Any] = {"transport": "websockets", "websocket_path": "/mqtt"}
    secure = {**web, "tls_context": certificates.context()}
    async with Ear(running.url(), "t/#") as ear:
        for scheme, options in (("ws", web), ("wss", secure)):
            async with client(running.ports[scheme], **options) as one:
                await one.publish(f"t/{scheme}", qos=1)
            await ear.wait_topic(f"t/{scheme}")


# The scripted broker


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_scripted_broker_keeps_every_packet(scripted: ScriptedFactory, version: ProtocolVersion) -> None:
    broker = await scripted()
    will = aiomqtt.Will("w", b"gone", 1, retain=True)
    async with client(broker.port, version, will=will, username="u", password="p", keepalive=7) as one:
        await one.subscribe("c/+", qos=1)
        await one.unsubscribe("c/+")
        await one.publish("t/1", b"one", qos=1, retain=True)
        await one.publish("t/2", b"two")
        await broker.wait_publishes(2)
    assert await broker.connection().wait_ended() == "disconnect"
    kinds = [type(got.packet) for got in broker.got]
    assert kinds == [Connect, Subscribe, Unsubscribe, Publish, Publish, Disconnect]
    connect = broker.connection("theirs").connect
    assert (connect.version, connect.client_id, connect.keepalive) == (int(version), "theirs", 7)
    assert (connect.username, connect.password, connect.clean) == ("u", b"p", True)
    assert connect.will is not None
    assert (connect.will.topic, connect.will.payload, connect.will.qos, connect.will.retain) == ("w", b"gone", 1, True)
    first, second = broker.publishes("t/#", "theirs")
    assert (first.topic, first.payload, first.qos, first.retain, first.dup) == ("t/1", b"one", 1, True, False)
    assert (second.qos, second.packet_id, second.payload) == (0, 0, b"two")
    assert broker.publishes("t/+", "another") == []


async def test_the_scripted_broker_reads_properties(scripted: ScriptedFactory) -> None:
    broker = await scripted()
    gone = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=3, UserProperty=("k", "v"))
    will = aiomqtt.Will("w", b"gone", properties=gone)
    start = properties(PacketTypes.CONNECT, SessionExpiryInterval=0, ReceiveMaximum=9)
    async with client(broker.port, will=will, properties=start) as one:
        told = properties(ResponseTopic="r", CorrelationData=b"\x01", MessageExpiryInterval=5, UserProperty=("ü", "€"))
        await one.publish("t", b"", qos=1, properties=told)
        await one.subscribe("c", options=SubscribeOptions(1, retainAsPublished=True, retainHandling=2))
    connect = broker.connection().connect
    assert connect.properties == {"session_expiry_interval": 0, "receive_maximum": 9}
    assert connect.will is not None
    assert (connect.will.properties, connect.will.user_properties) == ({"will_delay_interval": 3}, (("k", "v"),))
    (publish,) = broker.publishes()
    assert publish.properties == {"response_topic": "r", "correlation_data": b"\x01", "message_expiry_interval": 5}
    assert publish.user_properties == (("ü", "€"),)
    (asked,) = [got.packet for got in broker.got if isinstance(got.packet, Subscribe)]
    assert (asked.subscriptions[0].retain_as_published, asked.subscriptions[0].retain_handling) == (True, 2)


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_scripted_broker_sends(scripted: ScriptedFactory, version: ProtocolVersion) -> None:
    broker = await scripted()
    async with client(broker.port, version) as one:
        await one.subscribe("c/#", qos=1)
        await broker.wait_subscribed("c/x", "theirs")
        told: dict[str, int | str | bytes] = {
            "response_topic": "r",
            "correlation_data": b"\x01",
            "message_expiry_interval": 5,
        }
        (connection,) = broker.publish("c/x", b"do", qos=1, retain=True, properties=told, user_properties=(("a", "b"),))
        heard = await anext(aiter(one.messages))
        assert (str(heard.topic), heard.payload, heard.qos, heard.retain) == ("c/x", b"do", 1, True)
        if version is ProtocolVersion.V5:
            assert heard.properties is not None
            theirs: Any = heard.properties
            assert (theirs.ResponseTopic, theirs.CorrelationData) == ("r", b"\x01")
            assert (theirs.MessageExpiryInterval, theirs.UserProperty) == (5, [("a", "b")])
        got = await broker.wait_packet(is_packet(Puback))
        assert got.connection is connection
    await connection.wait_ended()
    with pytest.raises(LookupError):
        broker.publish("c/x")


async def test_connack_by_script(scripted: ScriptedFactory) -> None:
    broker = await scripted(connack=Connack(0x86))
    with pytest.raises(aiomqtt.MqttCodeError, match="Bad user name"):
        await client(broker.port).__aenter__()
    assert await broker.connections[0].wait_ended() == "cut"
    broker.connack = lambda connect: Connack(properties={"receive_maximum": 2, "server_keep_alive": 1})
    async with client(broker.port):
        await broker.wait_packet(is_packet(Pingreq))  # the client took the Server Keep Alive
    broker.connack = None
    with pytest.raises(aiomqtt.MqttError):
        await client(broker.port, timeout=0.2).__aenter__()


@pytest.mark.parametrize("code", [0, 0x10, 0x87, 0x97])
async def test_puback_by_script(scripted: ScriptedFactory, code: int) -> None:
    broker = await scripted(puback=lambda publish: code if publish.topic == "t/odd" else 0)
    async with Ear(broker.url, "c/#") as ear:
        assert await ear.publish("t/odd") == code
        assert await ear.publish("t/even") == 0


async def test_held_pubacks_and_the_most_that_waited(scripted: ScriptedFactory) -> None:
    broker = await scripted(hold=True)
    async with client(broker.port) as one:
        going = [asyncio.create_task(one.publish("t", str(n), qos=1, timeout=PATIENCE_S)) for n in range(5)]
        await broker.wait_publishes(5)
        connection = broker.connection()
        assert (connection.most_unacknowledged, len(connection.held)) == (5, 5)
        assert broker.release(2) == 2
        await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
        assert not all(task.done() for task in going)
        broker.hold = False
        assert broker.release() == 3
        await asyncio.gather(*going)
        await one.publish("t", qos=1)
        assert (connection.most_unacknowledged, connection.unacknowledged) == (5, {})


async def test_no_puback_at_all(scripted: ScriptedFactory) -> None:
    broker = await scripted(puback=lambda publish: None)
    async with client(broker.port) as one:
        with pytest.raises(aiomqtt.MqttError):
            await one.publish("t", qos=1, timeout=0.1)
        broker.connection().acknowledge(broker.publishes()[0].packet_id)


async def test_disconnect_with_a_reason(scripted: ScriptedFactory) -> None:
    broker = await scripted()
    async with Ear(broker.url, "c/#", client_id="mine") as ear:
        broker.connection("mine").disconnect(SESSION_TAKEN_OVER)
        with pytest.raises(NotSeen, match="DISCONNECT 0x8e"):
            await ear.wait_topic("c/x")
    assert await broker.connection("mine").wait_ended() == "cut"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_cut_after_n_publishes(scripted: ScriptedFactory, version: ProtocolVersion) -> None:
    broker = await scripted(cut_after=3)
    async with lost(client(broker.port, version)) as one:
        for number in range(10):
            await one.publish("t", str(number), qos=1, timeout=2.0)
    assert len(broker.publishes()) == 3
    assert (await broker.connection().wait_ended(), broker.cut_after) == ("cut", None)
    async with client(broker.port, version) as again:
        for number in range(5):
            await again.publish("t", str(number), qos=1)
    assert (await broker.wait_connected("theirs", count=2)).number == 2


async def test_a_broker_that_does_not_read(scripted: ScriptedFactory) -> None:
    broker = await scripted()
    async with client(broker.port) as one:
        broker.pause()
        with pytest.raises(aiomqtt.MqttError):
            await one.publish("t", b"x", qos=1, timeout=0.1)
        assert broker.publishes() == []
        with pytest.raises(aiomqtt.MqttError):
            await client(broker.port, identifier="second", timeout=0.1).__aenter__()
        broker.resume()
        await broker.wait_publishes(1)


async def test_several_clients_and_a_restart(scripted: ScriptedFactory) -> None:
    broker = await scripted()
    async with (
        lost(client(broker.port, identifier="a")) as a,
        Ear(broker.url, "c", client_id="b", reconnect=True) as b,
    ):
        await asyncio.gather(a.publish("t", "a", qos=1), b.publish("t", "b"))
        assert [m.payload for m in broker.publishes(client_id="a")] == [b"a"]
        port = broker.port
        await broker.stop()
        await broker.start()
        assert broker.port == port
        await b.wait_connected(2)
        await b.publish("t", "again")
        await broker.wait_publishes(2, client_id="b")


async def test_a_refused_subscription(scripted: ScriptedFactory) -> None:
    broker = await scripted(suback=lambda asked: NOT_AUTHORIZED if asked.filter == "no" else None)
    async with Ear(broker.url, "yes"):
        with pytest.raises(ConnectionRefusedError):
            await Ear(broker.url, "no").__aenter__()


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"\x30\x03\x00\x01t", "first packet"),
        (b"\x10\x0c\x00\x04MQTT\x03\x02\x00\x3c\x00\x00", "neither"),
        (b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x05", "shorter"),
    ],
)
async def test_a_client_that_breaks_the_standard_fails_the_test(data: bytes, fault: str) -> None:
    broker = ScriptedBroker()
    await broker.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    writer.write(data)
    assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
    await close(writer)
    assert await broker.connections[0].wait_ended() == "fault"
    with pytest.raises(AssertionError, match=fault):
        await broker.__aexit__(None, None, None)


async def test_a_packet_id_in_use_is_a_fault() -> None:
    broker = ScriptedBroker(puback=lambda publish: None)
    await broker.start()
    async with Ear(broker.url, "c") as ear:
        ear._send(2 * b"\x32\x06\x00\x01t\x00\x01\x00")
        assert await broker.connection().wait_ended() == "fault"
    with pytest.raises(AssertionError, match="still in use"):
        await broker.__aexit__(None, None, None)


# The bridge as a process

STAND_IN = """
import asyncio, json, signal, sys
from prometheus_client import CollectorRegistry, Counter, generate_latest
import yaml

config = yaml.safe_load(open(sys.argv[sys.argv.index("-c") + 1]))
registry = CollectorRegistry()
seen = Counter("ws2mqtt_hups", "", ["backend"], registry=registry)

def tell(message, **more):
    print(json.dumps({"message": message, **more}), file=sys.stderr)

async def serve(reader, writer):
    line = await reader.readline()
    body = generate_latest(registry) if b"/metrics" in line else b"{}"
    status = b"200 OK" if b"/metrics" in line or config.get("ready") else b"503 Not Yet"
    head = b"HTTP/1.1 %s\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % (status, len(body))
    writer.write(head + body)
    await writer.drain()
    writer.close()

def hup():
    global config
    config = yaml.safe_load(open(sys.argv[sys.argv.index("-c") + 1]))
    seen.labels("lora").inc()
    tell("reloaded", word=config.get("word"))

async def main():
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hup)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    host, port = config["http"]["listen"].split(":")
    async with await asyncio.start_server(serve, host, int(port)):
        print("not JSON")
        tell("up", arguments=sys.argv[1:])
        await end.wait()
    tell("farewell")
    return config.get("code", 0)

sys.exit(asyncio.run(main()))
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> tuple[str, ...]:
    """A program with the bridge's habits, so that what is tested here is only how it is run."""
    (tmp_path / "stand_in.py").write_text(STAND_IN, "utf-8")
    return (sys.executable, str(tmp_path / "stand_in.py"))


async def test_a_process_with_log_endpoints_and_signals(run_bridge: BridgeFactory, stand_in: tuple[str, ...]) -> None:
    config = {"word": "one", "code": 3}
    process = await run_bridge(config, program=stand_in, arguments=("--log-level", "debug"))
    up = await process.wait_log(lambda line: line.message == "up")
    wanted = ["-c", str(process.config_file), "--log-format", "json", "--log-level", "debug"]
    assert (up.fields["arguments"], up.stream) == (wanted, "stderr")
    plain = await process.wait_log(lambda line: line.stream == "stdout")
    assert (plain.text, plain.fields) == ("not JSON", {})
    await process.wait_http("/readyz", 503)
    process.configure({**config, "word": "two", "ready": True})
    process.hup()
    line = await process.wait_log(lambda line: line.message == "reloaded")
    assert line.fields["word"] == "two"
    await process.wait_http()
    scrape = await process.wait_scrape(lambda one: one.total("ws2mqtt_hups_total") == 1)
    assert scrape.of("ws2mqtt_hups_total", backend="lora") == 1
    assert scrape["ws2mqtt_hups_total", frozenset({("backend", "lora")})] == 1
    process.freeze()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.get("/metrics"), 0.2)
    process.thaw()
    assert await process.terminate() == 3
    assert "farewell" in [line.message for line in process.lines]


async def test_a_process_can_be_killed_and_started_again(run_bridge: BridgeFactory, stand_in: tuple[str, ...]) -> None:
    process = await run_bridge({}, program=stand_in)
    await process.wait_log(lambda line: line.message == "up")
    process.freeze()
    await process.kill()
    assert process.exit_code == -9
    with pytest.raises(NotSeen, match="exit code -9"):
        await process.wait_log(lambda line: line.message == "never", 60)
    with pytest.raises(NotSeen, match="ended with -9"):
        await process.wait_http(timeout=60)
    await process.start()
    await process.wait_log(lambda line: line.message == "up", since=len(process.lines))
    assert await process.interrupt() == 0


async def test_the_child_ends_with_the_context_and_the_log_is_told(tmp_path: Path, stand_in: tuple[str, ...]) -> None:
    process = BridgeProcess({}, tmp_path, program=stand_in)
    await process.start()
    await process.wait_log(lambda line: line.message == "up")
    failure = KeyError("some failure")
    await process.__aexit__(KeyError, failure, None)
    assert '"up"' in failure.__notes__[0]
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def test_the_real_bridge_with_a_real_broker(run_bridge: BridgeFactory, mosquitto: Mosquitto, base: str) -> None:
    config = {"mqtt": {"url": mosquitto.url(), "base_topic": base, "client_id": base}, "backends": {}}
    async with Ear(mosquitto.url(), f"{base}/#") as ear:
        process = await run_bridge(config)
        await ear.wait_topic(f"{base}/bridge/state", lambda m: ear.json(m)["state"] == "online")
        await process.wait_http()
        scrape = await process.wait_scrape(lambda one: one.of("ws2mqtt_mqtt_connected", backend="bridge") == 1)
        assert scrape.total("ws2mqtt_build_info") == 1
        assert await process.terminate() == 0
        last = await ear.wait_topic(f"{base}/bridge/state", lambda m: ear.json(m)["state"] == "offline")
        assert last.retain
