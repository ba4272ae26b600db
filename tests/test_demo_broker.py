"""The demo's own broker does what the bridge needs of a broker, on one port, and leaves nothing behind."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiomqtt
import pytest
import pytest_asyncio
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridge.demo_broker import HOST, DemoBroker
from bridge.errors import Fatal
from tests.support import PATIENCE_S

V5, V311 = aiomqtt.ProtocolVersion.V5, aiomqtt.ProtocolVersion.V311
BOTH = [pytest.param(V5, id="5"), pytest.param(V311, id="3.1.1")]
_ids = iter(range(1_000_000))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker() -> AsyncIterator[DemoBroker]:
    async with DemoBroker(0) as running:
        yield running


pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def client(
    broker: DemoBroker, version: aiomqtt.ProtocolVersion = V5, will: aiomqtt.Will | None = None
) -> AsyncIterator[aiomqtt.Client]:
    identifier = f"test-{next(_ids)}"
    async with aiomqtt.Client(HOST, broker.port, protocol=version, identifier=identifier, will=will) as one:
        yield one


async def heard(client: aiomqtt.Client, count: int) -> list[aiomqtt.Message]:
    messages: list[aiomqtt.Message] = []
    async with asyncio.timeout(PATIENCE_S):
        async for message in client.messages:
            messages.append(message)
            if len(messages) == count:
                break
    return messages


def told(messages: list[aiomqtt.Message]) -> list[tuple[str, object, bool]]:
    return [(str(one.topic), one.payload, bool(one.retain)) for one in messages]


@pytest.mark.parametrize("to", BOTH)
@pytest.mark.parametrize("by", BOTH)
async def test_both_versions_see_each_other_at_qos_1_in_order(
    broker: DemoBroker, by: aiomqtt.ProtocolVersion, to: aiomqtt.ProtocolVersion
) -> None:
    top = f"cross-{by}-{to}"
    async with client(broker, to) as subscriber, client(broker, by) as publisher:
        await subscriber.subscribe([(f"{top}/+/event/#", 1)])
        for number in range(50):
            await publisher.publish(f"{top}/lora/event/up", f"{number}", qos=1)  # returns with the PUBACK
            await publisher.publish(f"{top}/lora/state", "not subscribed", qos=1)
        messages = await heard(subscriber, 50)
    assert [one.payload for one in messages] == [f"{number}".encode() for number in range(50)]
    assert {one.qos for one in messages} == {1}


@pytest.mark.parametrize("version", BOTH)
async def test_retained_messages_are_kept_replaced_and_cleared(
    broker: DemoBroker, version: aiomqtt.ProtocolVersion
) -> None:
    top = f"kept-{version}"
    async with client(broker, version) as publisher:
        for name, text in (("a", "old"), ("a", "new"), ("b", "gone"), ("b", "")):
            await publisher.publish(f"{top}/{name}/state", text, qos=1, retain=True)
        async with client(broker, version) as later:
            await later.subscribe(f"{top}/#")
            await publisher.publish(f"{top}/end", "", qos=1)
            messages = await heard(later, 2)
    assert sorted(told(messages)) == [(f"{top}/a/state", b"new", True), (f"{top}/end", b"", False)]


async def test_more_retained_messages_than_the_broker_hands_out_by_default(broker: DemoBroker) -> None:
    async with client(broker) as publisher, client(broker) as later:
        for number in range(500):
            await publisher.publish(f"many/{number}", "x", retain=True)
        await publisher.publish("many/last", "x", qos=1, retain=True)
        await later.subscribe("many/#")
        assert len({str(one.topic) for one in await heard(later, 501)}) == 501


@pytest.mark.parametrize("version", BOTH)
async def test_will_of_a_client_that_breaks_off(broker: DemoBroker, version: aiomqtt.ProtocolVersion) -> None:
    topic = f"will-{version}/state"
    async with client(broker) as subscriber:
        await subscriber.subscribe(topic)
        doomed = client(broker, version, aiomqtt.Will(topic, "offline", 1, retain=True))
        with suppress(aiomqtt.MqttError):
            async with doomed as one:
                await one.publish(topic, "online", qos=1, retain=True)
                line = one._client.socket()
                assert isinstance(line, socket.socket)
                line.shutdown(socket.SHUT_RDWR)
                await heard(one, 1)
        assert [one.payload for one in await heard(subscriber, 2)] == [b"online", b"offline"]


async def test_a_regular_goodbye_takes_the_will_back(broker: DemoBroker) -> None:
    async with client(broker) as subscriber:
        await subscriber.subscribe("bye/#")
        async with client(broker, will=aiomqtt.Will("bye/state", "offline", 1)):
            pass
        async with client(broker) as other:
            await other.publish("bye/end", "", qos=1)
        assert [str(one.topic) for one in await heard(subscriber, 1)] == ["bye/end"]


async def test_properties_of_mqtt_5_survive(broker: DemoBroker) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/cloudevents+json"
    properties.UserProperty = [("type", "resiot.up"), ("id", "1"), ("type", "again")]
    properties.ResponseTopic = "answers/here"
    properties.CorrelationData = b"\x00\x01"
    async with client(broker) as subscriber, client(broker) as publisher:
        await subscriber.subscribe("properties/#", qos=1)
        await publisher.publish("properties/x", b"{}", qos=1, properties=properties)
        (message,) = await heard(subscriber, 1)
    names = ("ContentType", "UserProperty", "ResponseTopic", "CorrelationData")
    assert [getattr(message.properties, name) for name in names] == [getattr(properties, name) for name in names]


@pytest.mark.parametrize("version", BOTH)
async def test_a_mebibyte_goes_through(broker: DemoBroker, version: aiomqtt.ProtocolVersion) -> None:
    payload = os.urandom(1 << 20)
    async with client(broker, version) as subscriber, client(broker, version) as publisher:
        await subscriber.subscribe(f"large-{version}")
        await publisher.publish(f"large-{version}", payload, qos=1)
        assert (await heard(subscriber, 1))[0].payload == payload


async def test_clients_that_come_while_others_leave_are_taken_in(broker: DemoBroker) -> None:
    async def visit(visitor: int) -> None:
        for number in range(40):
            async with client(broker, (V5, V311)[(visitor + number) % 2]) as one:
                await one.subscribe("visits/#")
                await one.publish(f"visits/{visitor}", "here", qos=1)

    await asyncio.gather(*(visit(visitor) for visitor in range(8)))


async def test_what_only_looks_like_a_goodbye_goes_through(broker: DemoBroker) -> None:
    async with client(broker) as subscriber, client(broker) as publisher:
        await subscriber.subscribe("looks/#", qos=1)
        await publisher.publish("looks/x", b"\xe0\x00", qos=1)
        await publisher.publish("looks/y", b"after", qos=1)
        assert [one.payload for one in await heard(subscriber, 2)] == [b"\xe0\x00", b"after"]


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
        pytest.param(b"\x10\xff\xff\xff\xff\x7f\x00\x04MQTT\x05", id="remaining length without end"),
        pytest.param(b"\x10\x0e\x00\x06MQIsdp\x03\x00\x00\x1e\x00\x00", id="MQTT 3.1"),
        pytest.param(b"\xc0\x00", id="PINGREQ first"),
    ],
)
async def test_what_is_no_connect_is_cut_off(broker: DemoBroker, first: bytes) -> None:
    reader, writer = await asyncio.open_connection(HOST, broker.port)
    writer.write(first)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
    writer.close()


async def test_half_a_connect_and_an_end_leave_nothing(broker: DemoBroker) -> None:
    reader, writer = await asyncio.open_connection(HOST, broker.port)
    writer.write(b"\x10")
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
    writer.close()


async def test_a_taken_port_is_fatal_and_names_both_ways_out(broker: DemoBroker) -> None:
    with pytest.raises(Fatal, match=rf"port {broker.port} .*--port.*--mqtt-url mqtt://127\.0\.0\.1:{broker.port}"):
        async with DemoBroker(broker.port):
            pytest.fail("two on one port")


@pytest.mark.parametrize("port", [-1, 65_536])
async def test_an_impossible_port_is_fatal(port: int) -> None:
    with pytest.raises(Fatal, match="--port"):
        async with DemoBroker(port):
            pytest.fail("no such port")


async def test_without_iotcore_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "iotcore", None)
    with pytest.raises(Fatal, match=r"pip install 'ws2mqtt\[demo\]'"):
        async with DemoBroker(0):
            pytest.fail("it cannot be there")


async def test_it_leaves_neither_process_nor_port_nor_task_nor_folder() -> None:
    before = asyncio.all_tasks()
    async with DemoBroker(0) as broker:
        pid = broker.pid
        assert pid is not None
        config = Path(f"/proc/{pid}/cmdline")
        folder = Path(config.read_bytes().split(b"\0")[-2].decode()).parent if config.exists() else None
        _, writer = await asyncio.open_connection(HOST, broker.port)  # silent clients do not hold up the end
        async with client(broker) as talking:
            await talking.subscribe("x")
    writer.close()
    assert broker.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert folder is None or not folder.exists()
    assert asyncio.all_tasks() <= before
    with socket.create_server((HOST, broker.port)):
        pass


async def test_clients_that_are_still_there_are_cut_off_at_the_end() -> None:
    async with DemoBroker(0) as broker:
        left = aiomqtt.Client(HOST, broker.port, protocol=V5, identifier="left")
        await left.__aenter__()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(aiomqtt.MqttError):
            await anext(left.messages)
    with suppress(aiomqtt.MqttError):
        await left.__aexit__(None, None, None)


async def test_nothing_reaches_the_terminal(tmp_path: Path) -> None:
    program = """
import asyncio, aiomqtt
from bridge.demo_broker import DemoBroker
async def main():
    async with DemoBroker(0) as broker:
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.subscribe("#")
            await client.publish("a", "b", qos=1)
        _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(b"nonsense" * 10)
        writer.close()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert (process.returncode, output) == (0, b"")
