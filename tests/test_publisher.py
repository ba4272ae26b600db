"""The publisher on a broker that does what the test asks of it: order, window, deadlines, refusals, reconnects.

Everything runs in this process; events are numbers, so that each is known again when it comes a second time.
"""

import asyncio
import gc
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import bridge.broker
import bridge.endings
from bridge.broker import Incoming, Lost
from bridge.clock import instant
from bridge.endings import Endings, Flight
from bridge.errors import Refused, Transient
from bridge.model import Instant, Message
from bridge.options import Duration, MqttOptions, OutboxOptions, Reconnect, Secret, Size, Tls
from bridge.outbox import Outbox
from bridge.payloads import JSON_PROPERTIES
from bridge.permit import ALWAYS, Permit
from bridge.publisher import Publisher
from bridge.states import States
from bridge.watch.logs import BackendLog
from bridge.watch.metrics import MqttMeter
from tests.conftest import MosquittoFactory, ScriptedFactory
from tests.support import (
    PATIENCE_S,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Puback,
    Publish,
    Record,
    Subscription,
    close,
    free_port,
    write_connack,
)
from tests.support.ear import Ear
from tests.support.mosquitto import Certificates
from tests.support.scripted import NOT_AUTHORIZED, QUOTA_EXCEEDED, SESSION_TAKEN_OVER

FAST = Reconnect(initial=Duration(0.02), max=Duration(0.05))
EVENTS = "base/lora/event/up"
CLIENT = "ws2mqtt-lora"


class Lines(logging.Handler):
    """The log, kept."""

    def __init__(self) -> None:
        super().__init__()
        self.record: Record[logging.LogRecord] = Record("the log")

    def emit(self, record: logging.LogRecord) -> None:
        self.record.append(record)


@dataclass
class Rig:
    """A publisher at work. warnings: what the crossing would show in the backend's state."""

    publisher: Publisher
    outbox: Outbox
    meter: MqttMeter
    lines: Lines
    warnings: Record[str | None] = field(default_factory=lambda: Record("warnings"))
    count: int = 0
    commands: list[Incoming] = field(default_factory=list)

    def events(self, count: int = 1, size: int = 0) -> None:
        """The next events, their number as payload, filled up to a size."""
        for _ in range(count):
            self.count += 1
            payload = str(self.count).encode().ljust(size)
            self.outbox.append(Message(EVENTS, payload, JSON_PROPERTIES), "up", instant())
        self.publisher.wake()

    @property
    def ledger(self) -> dict[str, int]:
        told = self.outbox.ledger
        dropped = {reason: count for reason, count in told.dropped.items() if count}
        return {"published": told.published, **dropped, "waiting": len(self.outbox)}

    async def published(self, count: int, timeout: float = PATIENCE_S) -> None:
        """Until so many were acknowledged. Nothing tells us: it is looked at in every turn of the loop."""
        async with asyncio.timeout(timeout):
            while self.outbox.ledger.published < count:
                await asyncio.sleep(0.002)

    async def log(self, text: str, timeout: float = PATIENCE_S, count: int = 1) -> Any:
        """The n-th line with this text in its message or its reason; what it says beside is in its attributes."""

        def fits(line: logging.LogRecord) -> bool:
            return text in line.getMessage() or text in str(getattr(line, "reason", ""))

        return (await self.lines.record.wait(fits, timeout, count))[-1]


@asynccontextmanager
async def publishing(
    *urls: str, after: Callable[[Rig], None] | None = None, permit: Permit = ALWAYS, **told: Any
) -> AsyncIterator[Rig]:
    """A publisher on its way to these brokers. told: of MqttOptions, and max_bytes, max_age of the outbox."""
    limits = {name: told.pop(name) for name in ("max_bytes", "max_age") if name in told}
    options = MqttOptions(url=urls, **{"reconnect": FAST, "base_topic": "base", **told})
    outbox, meter, lines = Outbox(OutboxOptions(**limits), ("up",)), MqttMeter(), Lines()
    logger = logging.getLogger("ws2mqtt")
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    warnings: Record[str | None] = Record("warnings")
    commands: list[Incoming] = []
    publisher = Publisher(
        options,
        client_id=CLIENT,
        will=lambda: Message("base/lora/state", b"gone", JSON_PROPERTIES),
        filters=["base/lora/command/+"],
        incoming=commands.append,
        meter=meter,
        log=BackendLog("lora"),
        outbox=outbox,
        changed=warnings.append,
        permit=permit,
    )
    rig = Rig(publisher, outbox, meter, lines, warnings, commands=commands)
    if after:
        after(rig)
    task = asyncio.create_task(publisher.run())
    try:
        yield rig
        assert not task.done(), "it ends by being cancelled only"
        assert not [line for line in lines.record.items if line.exc_info], "no tracebacks"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        logger.removeHandler(lines)


def numbers(publishes: list[Publish]) -> list[int]:
    return [int(one.payload) for one in publishes if one.topic == EVENTS]


def firsts(heard: list[int]) -> list[int]:
    """Each number where it was first heard."""
    return list(dict.fromkeys(heard))


@pytest.fixture(params=["wire", "public"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways out: through the wire, and the one for a paho without the private member."""
    if request.param == "public":
        monkeypatch.setattr(bridge.broker, "install", lambda client, acknowledged: None)
    return str(request.param)


# The window


@pytest.mark.parametrize("limit", [1, 5])
async def test_never_more_unacknowledged_than_receive_maximum(scripted: ScriptedFactory, way: str, limit: int) -> None:
    broker = await scripted(connack=Connack(properties={"receive_maximum": limit}), hold=True)
    async with publishing(broker.url) as rig:
        rig.events(20)
        rig.publisher.state(Message("base/state", b"s"))
        rig.publisher.respond(Message("base/response", b"r"))
        for count in range(1, 22):
            await broker.wait_publishes(min(count + limit - 1, 22))
            broker.release(1)
        await broker.wait_publishes(22)
        broker.release()
        await rig.published(20)
        assert numbers(broker.publishes()) == list(range(1, 21))
        assert broker.connection(CLIENT).most_unacknowledged == limit


async def test_both_ways_out_say_the_same(scripted: ScriptedFactory, way: str) -> None:
    for version in ("5", "3.1.1"):
        broker = await scripted()
        async with publishing(broker.url, version=version) as rig:
            rig.publisher.state(Message("base/lora/state", b"{}", JSON_PROPERTIES))
            rig.events(3)
            await rig.published(3)
            event = broker.publishes(EVENTS)[0]
            state = broker.publishes("base/lora/state")[0]
            kind = {"content_type": "application/json", "payload_format_indicator": 1} if version == "5" else {}
            assert (event.qos, event.retain, event.dup, dict(event.properties)) == (1, False, False, kind)
            assert (state.qos, state.retain, state.payload) == (1, True, b"{}")
            assert rig.meter.states_published == 1


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws", "wss"])
async def test_every_kind_of_connection_carries_large_and_many(
    broker: MosquittoFactory, certificates: Certificates, way: str, scheme: str
) -> None:
    mosquitto = await broker(tls=certificates.server, websockets=True)
    tls = Tls(ca_file=str(certificates.ca_file)) if scheme in ("mqtts", "wss") else Tls()
    async with (
        Ear(mosquitto.url(), "base/#") as ear,
        publishing(mosquitto.url(scheme), tls=tls) as rig,
    ):
        for size in (0, 200_000, 1, 16_384, 70_000):
            rig.events(1, size)
            rig.events(60)
        heard = await ear.wait_count(305, EVENTS)
        assert [int(one.payload) for one in heard] == list(range(1, 306))
        assert sorted({len(one.payload) for one in heard})[-3:] == [16_384, 70_000, 200_000]


# What the broker says to a publish


async def test_one_refused_event_is_dropped_and_the_rest_goes_on(scripted: ScriptedFactory, way: str) -> None:
    broker = await scripted(puback=lambda one: NOT_AUTHORIZED if one.payload in (b"7", b"bad") else 0)
    async with publishing(broker.url) as rig:
        rig.publisher.state(Message("base/a/state", b"bad"))
        rig.publisher.state(Message("base/b/state", b"good"))
        rig.publisher.respond(Message("base/lora/response/x", b"bad"))
        rig.events(20)
        await rig.published(19)
        await broker.wait_publishes(1, "base/b/state")
        assert rig.ledger == {"published": 19, "refused": 1, "waiting": 0}
        assert numbers(broker.publishes()) == list(range(1, 21))
        assert len(broker.publishes("base/a/state")) == 1, "it is not tried again on this connection"
        line = await rig.log("refused a message")
        assert (line.code, line.levelname) == ("0x87", "WARNING")
        assert rig.meter.connects["ok"] == 1


async def test_a_broker_that_ends_the_connection_with_a_refusal_is_come_back_to(scripted: ScriptedFactory) -> None:
    """As Mosquitto 2.0 does, whose PUBACK gets through only where nothing was acknowledged right before."""
    burst: list[Publish] = []
    cut: set[int] = set()

    def puback(one: Publish) -> int | None:
        loop, connection = asyncio.get_running_loop(), broker.connection(CLIENT)
        if connection.number in cut:
            return None
        burst.append(one)
        loop.call_soon(burst.clear)
        if one.payload not in (b"2", b"4", b"6", b"8", b"bad", b"worse"):
            return 0
        cut.add(connection.number)
        loop.call_soon(connection.cut)
        return NOT_AUTHORIZED if len(burst) == 1 else None

    broker = await scripted(puback=puback)
    async with publishing(broker.url) as rig:
        rig.publisher.state(Message("base/good/state", b"good"))
        rig.publisher.state(Message("base/bad/state", b"bad"))
        rig.publisher.state(Message("base/worse/state", b"worse"))
        rig.events(10)
        await rig.published(6)
        await rig.publisher.spoken()
        assert rig.ledger == {"published": 6, "refused": 4, "waiting": 0}
        assert numbers(broker.publishes(EVENTS))[-1] == 10
        assert rig.meter.reconnects["taken_over"] == 0
        assert await rig.log("the connection broke after the broker refused a message")
        assert rig.publisher.connected, "the states that it refused are not said again"


@pytest.mark.parametrize(("version", "code"), [("3.1.1", 0), ("5", 0), ("5", 0x95)])
@pytest.mark.parametrize("bad", ["event", "state", "response"])
async def test_a_message_over_which_the_broker_ends_every_connection_holds_up_nothing(
    scripted: ScriptedFactory, version: str, code: int, bad: str
) -> None:
    topic = {"event": EVENTS, "state": "base/bad/state", "response": "base/lora/response/x"}[bad]

    def puback(one: Publish) -> int | None:
        if one.topic != topic or one.payload not in (b"4", b"bad"):
            return 0
        if code:
            broker.connection(CLIENT).disconnect(code)
        else:
            broker.connection(CLIENT).cut()
        return None

    broker = await scripted(puback=puback)
    async with publishing(broker.url, version=version) as rig:
        rig.publisher.state(Message("base/lora/state", b"good"))
        rig.publisher.state(Message("base/bad/state", b"bad"))
        rig.events(10)
        rig.publisher.respond(Message("base/lora/response/x", b"bad"))
        rig.publisher.respond(Message("base/lora/response/y", b"good"))
        line = await rig.log("refused a message")
        assert (line.topic, line.code) == (topic, "connection ended")
        refused = {"refused": 1} if bad == "event" else {}
        await rig.published(10 - len(refused))
        await rig.publisher.drained()
        assert rig.ledger == {"published": 10 - len(refused), **refused, "waiting": 0}
        assert numbers(broker.publishes(EVENTS))[-1] == 10
        assert broker.publishes("base/lora/response/y")
        assert rig.meter.reconnects["taken_over"] == 0
        assert 5 <= rig.meter.reconnects["closed"] <= 8


async def test_a_few_connections_that_end_over_one_message_lose_nothing(scripted: ScriptedFactory) -> None:
    left = 5

    def puback(one: Publish) -> int | None:
        nonlocal left
        if left == 0 or one.payload == b"good":
            return 0
        left -= 1
        broker.connection(CLIENT).cut()
        return None

    broker = await scripted(puback=puback)
    async with publishing(broker.url) as rig:
        rig.publisher.state(Message("base/lora/state", b"good"))
        rig.events(10)
        await rig.published(10)
        assert rig.ledger == {"published": 10, "waiting": 0}
        assert firsts(numbers(broker.publishes(EVENTS))) == list(range(1, 11))


async def test_connections_that_end_all_the_same_are_not_blamed_on_what_was_on_its_way(
    scripted: ScriptedFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.endings, "TAKEN_OVER_S", 0.1)
    left = 12

    def puback(one: Publish) -> int | None:
        nonlocal left
        if left == 0:
            return 0
        if one.payload != b"good":
            return None
        left -= 1
        asyncio.get_running_loop().call_later(0.1, broker.connection(CLIENT).cut)
        return 0

    broker = await scripted(puback=puback)
    async with publishing(broker.url) as rig:
        rig.publisher.state(Message("base/lora/state", b"good"))
        rig.events(10)
        await rig.published(10)
        assert rig.ledger == {"published": 10, "waiting": 0}
        assert numbers(broker.publishes(EVENTS)).count(1) > 5, "it was alone on its way when connections ended"


@pytest.mark.parametrize("code", [None, 0, 0x87])
async def test_a_state_that_ends_connections_and_changes_every_time_holds_up_nothing(
    scripted: ScriptedFactory, code: int | None
) -> None:
    changes = 0

    def puback(one: Publish) -> int | None:
        if one.topic != "base/bad/state":
            return 0
        change()
        asyncio.get_running_loop().call_soon(broker.connection(CLIENT).cut)
        return code

    def change() -> None:
        nonlocal changes
        changes += 1
        rig.publisher.state(Message("base/bad/state", b"%d" % changes))

    broker = await scripted(puback=puback)
    async with publishing(broker.url) as rig:
        rig.publisher.state(Message("base/lora/state", b"good"))
        change()
        rig.events(10)
        await rig.log("refused a message")
        await rig.published(10)
        tries = len(broker.publishes("base/bad/state"))
        assert tries <= 6
        for number in range(20):
            change()
            rig.publisher.state(Message("base/lora/state", b"%d" % number))
            rig.events()
            await rig.published(11 + number)
        await rig.publisher.drained()
        assert broker.publishes("base/lora/state")[-1].payload == b"19"
        assert len(broker.publishes("base/bad/state")) == tries, "not for every change of it a connection ends"


def test_a_suspect_slows_nothing_down_once_the_connection_lasts() -> None:
    endings, state = Endings(), Flight("state", -1, Message("a", b"1"), 0.0)
    endings.began(time.monotonic())
    endings.took(state, time.monotonic())
    endings.left([Flight("event", 0, Message(EVENTS, b"1"), time.monotonic())])
    endings.why(Lost("gone"), CLIENT)
    began = time.monotonic()
    endings.began(began)
    endings.took(state, began)
    assert endings.held(began) > 0.0
    endings.took(state, began + 10.0)
    assert endings.held(began + 10.0) == 0.0


def test_a_state_over_which_a_connection_ended_is_tried_again_and_less_and_less_often() -> None:
    states = States()
    good, bad = Message("a", b"1"), Message("b", b"1")
    states.put(bad)
    states.put(good)

    def sent() -> list[Message]:
        return list(iter(states.next, None))

    assert sent() == [bad, good]
    states.refused(bad)
    states.again(True, 100.0)
    newer = Message("b", b"2")
    states.put(newer)
    assert sent() == [good], "nor is a newer one of that topic"
    states.try_again(159.0)
    assert sent() == []
    states.try_again(160.0)
    assert sent() == [newer]
    states.refused(newer)
    states.again(True, 200.0)
    states.try_again(319.0)
    assert sent() == [good]
    states.try_again(320.0)
    assert sent() == [newer]
    states.refused(newer)
    states.again(False, 400.0)
    assert sorted(one.topic for one in sent()) == ["a", "b"], "a connection that ended for another reason: from new"


@pytest.mark.parametrize(
    ("taken", "code", "others"), [(False, None, 0), (True, -1, 0), (True, 0x8B, 0), (True, None, 1)]
)
async def test_only_what_was_alone_after_something_else_was_taken_is_suspected(
    taken: bool, code: int | None, others: int
) -> None:
    """The broker may take nothing at all, be silent, be stopped: then the message is not to blame."""
    endings = Endings()
    for _ in range(20):
        endings.began(time.monotonic())
        endings.taken = taken
        endings.left([Flight("event", one, Message(EVENTS, b"1"), 0.0) for one in range(1 + others)])
        endings.why(Lost("gone", code), CLIENT)
        assert endings.poison() is None


async def test_nobody_subscribed_is_no_refusal_and_a_long_reason_is_read(scripted: ScriptedFactory, way: str) -> None:
    broker = await scripted(hold=True)
    async with publishing(broker.url) as rig:
        rig.events(3)
        first, second, third = await broker.wait_publishes(3, EVENTS)
        connection = broker.connection(CLIENT)
        connection.acknowledge(first.packet_id, 0x10)
        connection.acknowledge(second.packet_id, 0x87, {"reason_string": "because " * 40})
        connection.acknowledge(third.packet_id, 0, {"reason_string": "fine " * 4000})
        await rig.published(2)
        assert rig.ledger == {"published": 2, "refused": 1, "waiting": 0}


async def test_over_quota_waits_and_keeps_the_order(
    scripted: ScriptedFactory, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.publisher, "_QUOTA_PAUSE_S", (0.02, 0.1))
    full = True
    broker = await scripted(puback=lambda one: QUOTA_EXCEEDED if full else 0)
    async with publishing(broker.url) as rig:
        rig.publisher.state(Message("base/lora/state", b"s"))
        rig.publisher.respond(Message("base/lora/response/x", b"r"))
        rig.events(10)
        await broker.wait_publishes(24)  # each at least once, and a few single tries
        assert rig.ledger == {"published": 0, "waiting": 10}
        tries = len(broker.publishes())
        rig.events(10)
        full, mark = False, len(broker.got)
        await rig.published(20)
        assert rig.ledger == {"published": 20, "waiting": 0}
        after = [got.packet for got in broker.got[mark:] if isinstance(got.packet, Publish)]
        assert firsts(numbers(after)) in (list(range(1, 21)), list(range(2, 21)))  # one may just have been on its way
        assert {one.topic for one in after} >= {"base/lora/state", "base/lora/response/x"} or tries > 24
        times = [one.at for one in broker.publishes()[12:24]]
        assert times[-1] - times[0] > 0.1, "it backs off"
        assert rig.meter.connects["ok"] == 1
        await rig.log("quota is exceeded")


async def test_maximum_packet_size_is_kept_to_the_byte(scripted: ScriptedFactory, way: str) -> None:
    broker = await scripted()
    async with publishing(broker.url) as rig:
        rig.events(1, 1000)
        size = (await broker.wait_publishes(1, EVENTS))[0].size
    broker = await scripted(connack=Connack(properties={"maximum_packet_size": size}))
    async with publishing(broker.url) as rig:
        rig.events(1, 1000)
        rig.events(1, 1001)
        rig.publisher.state(Message("base/lora/state", b"x" * 2 * size))
        rig.publisher.respond(Message("base/lora/response", b"x" * 2 * size))
        rig.events(1)
        await rig.published(2)
        assert rig.ledger == {"published": 2, "too_large": 1, "waiting": 0}
        assert numbers(broker.publishes()) == [1, 3]
        assert max(one.size for one in broker.publishes()) == size
        await rig.log("larger than the broker takes", count=2)


# What the broker cannot do


async def test_a_broker_without_qos_and_retain(scripted: ScriptedFactory, way: str) -> None:
    """Such a broker has to refuse a will with them (MQTT 5, 3.2.2.3.4 and 3.2.2.3.5)."""

    def answer(connect: Connect) -> Connack:
        assert connect.will is not None
        if connect.will.retain:
            return Connack(0x9A)
        return Connack(0x9B) if connect.will.qos else Connack(properties={"maximum_qos": 0, "retain_available": 0})

    broker = await scripted(connack=answer)
    async with publishing(broker.url) as rig:
        rig.publisher.state(Message("base/lora/state", b"s"))
        rig.publisher.respond(Message("base/lora/response/x", b"r"))
        rig.events(5)
        await rig.published(5)
        told = await broker.wait_publishes(7)
        assert {(one.qos, one.retain) for one in told} == {(0, False)}
        assert rig.meter.connects == {"ok": 1, "refused": 0, "failed": 0}


async def test_server_keep_alive_rules(scripted: ScriptedFactory) -> None:
    broker = await scripted(connack=Connack(properties={"server_keep_alive": 1}))
    async with publishing(broker.url):
        await broker.wait_packet(lambda got: isinstance(got.packet, Pingreq))


async def test_without_qos_an_event_is_published_when_it_is_in_the_socket(scripted: ScriptedFactory) -> None:
    broker = await scripted()
    async with publishing(broker.url, qos=0) as rig:
        rig.events(3)
        await rig.published(3)
        assert [one.qos for one in await broker.wait_publishes(3, EVENTS)] == [0, 0, 0]
        broker.pause()
        rig.events(400, 100_000)
        rig.events(3)
        broker.resume()
        await rig.published(406)
        assert firsts(numbers(await broker.wait_publishes(406, EVENTS))) == list(range(1, 407))


# Connections that end


async def test_without_pubacks_everything_is_sent_again_on_a_new_connection(
    scripted: ScriptedFactory, way: str
) -> None:
    broker = await scripted(puback=lambda one: None)
    async with publishing(broker.url, keepalive=Duration(1.0)) as rig:
        rig.events(30)
        rig.publisher.respond(Message("base/lora/response/x", b"r"))
        await broker.wait_publishes(30, EVENTS)
        lost = await rig.log("no PUBACK within 1 s")
        assert lost.levelname == "WARNING"
        broker.puback = lambda one: 0
        await rig.published(30)
        assert numbers(broker.publishes()) == [*range(1, 31), *range(1, 31)]
        assert not any(one.dup for one in broker.publishes()), "a new connection knows nothing of the old one"
        await broker.wait_publishes(2, "base/lora/response/x")
        assert rig.meter.reconnects["timeout"] == 1


async def test_a_slow_broker_is_not_a_dead_one(scripted: ScriptedFactory) -> None:
    """More in flight than it acknowledges within the deadline, but each in its turn in time."""
    broker = await scripted(hold=True)
    async with publishing(broker.url, keepalive=Duration(1.0)) as rig:
        rig.events(16)
        await broker.wait_publishes(16, EVENTS)
        for count in range(1, 17):
            await asyncio.sleep(0.25)  # how slow it is
            assert broker.release(1) == 1
            await rig.published(count)
        assert rig.meter.reconnects["timeout"] == 0
        assert numbers(broker.publishes()) == list(range(1, 17))


@pytest.mark.parametrize("at", [1, 2, 7, *random.Random(4).sample(range(8, 200), 4)])
async def test_cut_at_any_place_nothing_is_lost_and_the_order_kept(scripted: ScriptedFactory, at: int) -> None:
    broker = await scripted(cut_after=at, puback=lambda one: 0 if random.random() < 0.9 else None)
    async with publishing(broker.url) as rig:
        rig.events(200)
        await broker.wait_connected(CLIENT, count=2)
        broker.puback = lambda one: 0
        rig.events(50)
        await rig.published(250)
        heard = numbers(broker.publishes())
        assert firsts(heard) == list(range(1, 251))
        second = numbers(broker.connection(CLIENT).publishes)
        assert second == sorted(set(second)), "what was not acknowledged comes again, in order, once"
        assert rig.ledger == {"published": 250, "waiting": 0}
        assert rig.meter.reconnects["closed"] == 1
        assert rig.meter.inflight == 0


async def test_states_are_conflated_sent_again_and_cleared_once(scripted: ScriptedFactory, way: str) -> None:
    broker = await scripted(hold=True)
    async with publishing(broker.url) as rig:
        state = rig.publisher.state
        state(Message("base/a/state", b"1"))
        await broker.wait_publishes(1, "base/a/state")
        for number in range(2, 10):
            state(Message("base/a/state", str(number).encode()))
        state(Message("base/b/state", b"x"))
        await broker.wait_publishes(1, "base/b/state")
        broker.hold = False
        broker.release()
        told = await broker.wait_publishes(2, "base/a/state")
        assert [one.payload for one in told] == [b"1", b"9"], "the newest wins, and waits for the one on its way"
        state(Message("base/b/state", b""))
        await broker.wait_publishes(2, "base/b/state")
        broker.connection(CLIENT).cut()
        await broker.wait_connected(CLIENT, count=2)
        await broker.wait_publishes(3, "base/a/state")
        rig.events(1)
        await rig.published(1)
        assert [one.payload for one in broker.connection(CLIENT).publishes if one.topic == "base/b/state"] == []
        assert [one.payload for one in broker.publishes("base/a/state")] == [b"1", b"9", b"9"]


async def test_a_regular_end_takes_the_will_back(scripted: ScriptedFactory, way: str) -> None:
    broker = await scripted()
    async with publishing(broker.url) as rig:
        rig.publisher.state(Message("base/lora/state", b"offline"))
        await broker.wait_publishes(1, "base/lora/state")
        await rig.publisher.drained()
    connection = broker.connection(CLIENT)
    assert await connection.wait_ended() == "disconnect"
    assert isinstance(connection.packets[-1], Disconnect)


async def test_cancelled_while_it_connects_it_still_says_goodbye(scripted: ScriptedFactory, way: str) -> None:
    broker = await scripted(connack=None)
    async with publishing(broker.url):
        got = await broker.wait_packet(lambda got: isinstance(got.packet, Connect))
        asyncio.get_running_loop().call_soon(got.connection.send, write_connack(Connack(), 5))
    assert await got.connection.wait_ended() == "disconnect"


async def test_taken_over_waits_and_says_why(scripted: ScriptedFactory) -> None:
    broker = await scripted()
    async with publishing(broker.url) as rig:
        (await broker.wait_connected(CLIENT)).disconnect(SESSION_TAKEN_OVER)
        line = await rig.log("mqtt lost")
        assert line.retry_s >= 30.0
        assert "two bridges share this client id" in line.reason
        assert rig.meter.reconnects["taken_over"] == 1
        assert rig.warnings.items == [line.reason]
        rig.events(1)
        assert rig.ledger == {"published": 0, "waiting": 1}


class Allowed(Permit):
    """As the test says. asked: what confirmed() was asked."""

    def __init__(self) -> None:
        self.given, self.may, self.asked = asyncio.Event(), True, Record[float | None]("permission")

    def holds(self) -> bool:
        return self.may

    def lasts(self) -> bool:
        return self.may

    async def confirmed(self, since: float | None = None) -> None:
        self.asked.append(since)
        await self.given.wait()


async def test_without_permission_it_does_not_connect(scripted: ScriptedFactory) -> None:
    broker, permit = await scripted(), Allowed()
    async with publishing(broker.url, permit=permit) as rig:
        rig.events(1)
        await permit.asked.wait(lambda since: True)
        await asyncio.sleep(0)
        assert not broker.connections
        permit.given.set()
        await rig.published(1)


async def test_without_permission_nothing_is_published_and_no_command_is_taken(scripted: ScriptedFactory) -> None:
    """A process that was paused: what it finds in its sockets and its outbox stays where it is."""
    broker, permit = await scripted(), Allowed()
    permit.given.set()
    async with publishing(broker.url, permit=permit) as rig:
        rig.events(1)
        await rig.published(1)
        permit.may = False
        rig.events(1)
        rig.publisher.state(Message("base/lora/state", b"online", JSON_PROPERTIES))
        rig.publisher.respond(Message("base/lora/response/x", b"{}", JSON_PROPERTIES))
        broker.connection(CLIENT).publish("base/lora/command/ping", b"{}", qos=1)
        await broker.wait_packet(lambda got: isinstance(got.packet, Puback))  # it has read the command
        assert len(broker.publishes()) == 1
        assert rig.commands == []
        permit.may = True
        rig.events(1)
        await rig.published(3)
        assert rig.commands == []


async def test_whoever_lost_a_connection_needs_a_permission_given_since(scripted: ScriptedFactory) -> None:
    """It may have been taken over, and not every broker says so."""
    broker, permit = await scripted(), Allowed()
    permit.given.set()
    async with publishing(broker.url, permit=permit):
        await broker.wait_connected(CLIENT)
        began = permit.clock()
        permit.given.clear()
        broker.connection(CLIENT).cut()
        (since,) = await permit.asked.wait(lambda since: since is not None)
        assert since is not None
        assert began <= since <= permit.clock()
        assert len(broker.connections) == 1
        permit.given.set()
        await broker.wait_connected(CLIENT, count=2)


async def test_taken_over_while_it_subscribes(scripted: ScriptedFactory) -> None:
    def end(subscription: Subscription) -> None:
        broker.connection(CLIENT).disconnect(SESSION_TAKEN_OVER)

    broker = await scripted(suback=end)
    async with publishing(broker.url) as rig:
        line = await rig.log("mqtt lost")
        assert "two bridges share this client id" in line.reason
        assert line.retry_s >= 30.0


async def test_connections_that_die_young_again_and_again_are_taken_for_a_take_over(scripted: ScriptedFactory) -> None:
    broker = await scripted()
    async with publishing(broker.url) as rig:
        for count in (1, 2, 3):
            await broker.wait_connected(CLIENT, count=count)
            await rig.log("mqtt connected", count=count)
            broker.connection(CLIENT).cut()
        line = await rig.log("two bridges share the client id")
        assert line.retry_s >= 30.0
        assert CLIENT in line.reason
        assert rig.meter.reconnects == {**dict.fromkeys(rig.meter.reconnects, 0), "closed": 2, "taken_over": 1}


async def test_once_long_enough_connected_the_take_over_is_history(
    scripted: ScriptedFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.endings, "TAKEN_OVER_S", 0.1)
    broker = await scripted()
    async with publishing(broker.url) as rig:
        (await broker.wait_connected(CLIENT)).disconnect(SESSION_TAKEN_OVER)
        await broker.wait_connected(CLIENT, count=2)
        await rig.warnings.wait(lambda warning: warning is None)


async def test_a_broker_that_shuts_down_is_come_back_to(scripted: ScriptedFactory) -> None:
    broker = await scripted()
    async with publishing(broker.url) as rig:
        (await broker.wait_connected(CLIENT)).disconnect(0x8B)
        await broker.wait_connected(CLIENT, count=2)
        line = await rig.log("mqtt lost")
        assert "shutting down" in line.reason, "also where it ends before the subscription is there"
        assert rig.meter.reconnects["closed"] == 1


# Connections that do not come about


async def test_the_first_url_is_dead(scripted: ScriptedFactory) -> None:
    broker = await scripted()
    async with publishing(f"mqtt://127.0.0.1:{free_port()}", broker.url) as rig:
        await broker.wait_connected(CLIENT)
        assert rig.meter.connects["failed"] == 1
        assert (await rig.log("mqtt not connected")).retry_s == 0.0, "the next one is tried at once"


async def test_what_closes_instead_of_answering_is_noticed_at_once(scripted: ScriptedFactory, way: str) -> None:
    """A balancer without a broker behind it; mqtt:// where there is mqtts://."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        await close(writer)

    dead = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    broker = await scripted()
    async with dead, publishing(f"mqtt://127.0.0.1:{dead.sockets[0].getsockname()[1]}", broker.url) as rig:
        await broker.wait_connected(CLIENT)
        await rig.log("closed the connection instead of answering")


async def test_no_answer_to_connect(scripted: ScriptedFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.broker, "_CONNECT_S", 0.1)
    broker = await scripted(connack=None)
    async with publishing(broker.url) as rig:
        await rig.log("mqtt not connected", count=2)
        broker.connack = Connack()
        await broker.wait_connected(CLIENT)
        ended = [one for one in broker.connections if not one.accepted]
        assert [await one.wait_ended() for one in ended] == ["lost"] * len(ended), "none is left behind"


@pytest.mark.parametrize(("version", "code"), [("5", 0x86), ("5", 0x87), ("3.1.1", 4), ("3.1.1", 5)])
async def test_a_refused_password_is_named_and_recovers(
    scripted: ScriptedFactory, tmp_path: Path, version: str, code: int
) -> None:
    word = tmp_path / "password"
    word.write_text("wrong-word\n")
    broker = await scripted(connack=lambda connect: Connack(0 if connect.password == b"right-word" else code))
    password = Secret(file=str(word))
    async with publishing(broker.url, username="me", password=password, version=version) as rig:
        line = await rig.log("mqtt not connected")
        assert "mqtt.username and mqtt.password" in line.reason
        assert "wrong-word" not in line.reason
        word.unlink()
        assert "password" in (await rig.log("cannot be used")).reason, "a missing file is no bug"
        word.write_text("right-word\n")
        await broker.wait_connected(CLIENT)
        assert rig.meter.connects["refused"] >= 1


@pytest.mark.parametrize(
    ("version", "code", "remedy"),
    [("5", 0x84, "mqtt.version"), ("5", 0x85, "mqtt.client_id"), ("5", 0x88, ""), ("5", 0x97, ""), ("3.1.1", 3, "")],
)
async def test_a_broker_that_answers_no_has_refused(
    scripted: ScriptedFactory, version: str, code: int, remedy: str
) -> None:
    broker = await scripted(connack=Connack(code))
    async with publishing(broker.url, version=version) as rig:
        line = await rig.log("the broker refused the connection")
        assert line.reason.partition("; check ")[2] == remedy
        assert rig.meter.connects["refused"] >= 1
        assert rig.meter.connects["failed"] == 0
        broker.connack = Connack()
        await broker.wait_connected(CLIENT)


async def test_a_refused_subscription_is_told(scripted: ScriptedFactory) -> None:
    def no(subscription: Subscription) -> int:
        return NOT_AUTHORIZED

    broker = await scripted(suback=no)
    async with publishing(broker.url) as rig:
        assert "does not allow the subscription" in (await rig.log("mqtt not connected")).reason


async def connecting(url: str, **options: Any) -> str:
    """Why it cannot be connected."""
    with pytest.raises(Transient) as caught:
        async with bridge.broker.connect(MqttOptions(url=(url,), **options), url, CLIENT, None):
            pass
    assert not isinstance(caught.value, Refused)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("scheme", ["mqtts", "wss"])
@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("expired", "expired"),
        ("wrong_host", "mismatch"),
        ("server", "issuer"),
        ("plain", "reset|closed"),
    ],
)
async def test_certificates_that_are_not_accepted(
    broker: MosquittoFactory, certificates: Certificates, scheme: str, which: str, words: str
) -> None:
    """expired, for another host, of an authority that is not trusted; and TLS where there is none."""
    shown = certificates.server if which == "plain" else getattr(certificates, which)
    mosquitto = await broker(tls=shown, websockets=True)
    trusted = certificates.stranger_file if which == "server" else certificates.ca_file
    url = mosquitto.url(scheme)
    if which == "plain":
        url = f"{scheme}://127.0.0.1:{mosquitto.ports['mqtt']}"
    text = await connecting(url, tls=Tls(ca_file=str(trusted)))
    gc.collect()  # paho leaves the socket to it
    assert any(word in text for word in words.split("|")), text


async def test_insecure_takes_any_certificate(broker: MosquittoFactory, certificates: Certificates) -> None:
    mosquitto = await broker(tls=certificates.expired)
    async with publishing(mosquitto.url("mqtts"), tls=Tls(insecure=True)) as rig:
        rig.events(3)
        await rig.published(3)


async def test_a_missing_ca_file_and_a_name_that_does_not_resolve_are_no_bugs() -> None:
    assert "TLS files" in await connecting("mqtts://127.0.0.1:1", tls=Tls(ca_file="/nonexistent/ca.pem"))
    assert await connecting("mqtt://nonexistent.invalid:1883")


# The outbox meanwhile


async def test_age_counts_while_the_broker_is_away() -> None:
    async with publishing(f"mqtt://127.0.0.1:{free_port()}", max_age=Duration(0.05)) as rig:
        rig.events(5)
        async with asyncio.timeout(PATIENCE_S):
            while rig.ledger.get("too_old") != 5:
                await asyncio.sleep(0.01)
        assert rig.ledger == {"published": 0, "too_old": 5, "waiting": 0}


def test_a_jump_of_the_wall_clock_makes_nothing_old() -> None:
    outbox = Outbox(OutboxOptions(max_age=Duration(10.0)), ("up",))
    outbox.append(Message("t", b""), "up", Instant(100.0, 1_700_000_000.0))
    outbox.expire(Instant(105.0, 1_900_000_000.0))
    outbox.append(Message("t", b""), "up", Instant(106.0, 0.0))
    assert len(outbox) == 2
    outbox.expire(Instant(110.5, 0.0))
    assert (len(outbox), outbox.ledger.dropped["too_old"]) == (1, 1)


async def test_a_full_outbox_behind_a_frozen_broker_costs_nothing_per_drop(scripted: ScriptedFactory) -> None:
    """Each drop passed over all earlier ones once: quadratic."""
    broker = await scripted(hold=True)
    async with publishing(broker.url, max_bytes=Size(200_000)) as rig:
        rig.events(100)
        await broker.wait_publishes(100, EVENTS)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(40):
                rig.events(1000)
                await asyncio.sleep(0)  # the timeout looks
        dropped = rig.outbox.ledger.dropped["outbox_full"]
        assert dropped > 30_000
        assert rig.outbox.bytes <= 200_000
        broker.hold = False
        broker.release()
        await rig.published(40_100 - rig.outbox.ledger.dropped["outbox_full"])
        heard = numbers(broker.publishes())
        assert heard[:100] == list(range(1, 101)), "what is on its way is not dropped"
        assert heard == sorted(set(heard))
        assert heard[-1] == 40_100, "the newest are kept"


async def test_drained_and_spoken(scripted: ScriptedFactory) -> None:
    broker = await scripted(hold=True)
    async with publishing(broker.url) as rig:
        rig.events(3)
        rig.publisher.state(Message("base/lora/state", b"s"))
        await broker.wait_publishes(4)
        draining = asyncio.ensure_future(rig.publisher.drained())
        speaking = asyncio.ensure_future(rig.publisher.spoken())
        broker.release(1)
        done, _ = await asyncio.wait({draining, speaking}, timeout=0.05)
        assert draining not in done
        broker.release()
        await asyncio.wait_for(asyncio.gather(draining, speaking), PATIENCE_S)
        assert rig.ledger == {"published": 3, "waiting": 0}
