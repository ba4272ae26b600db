"""Commands from an MQTT client through the running bridge to a simulated ResIOT, and what is answered.

Most tests share one bridge with a backend for each way to stand (`Stage`). When it ends, every command that was sent on
it must have had exactly one final response, and nothing after that.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio

from bridge.simulators.resiot import Downlink, Faults, ResiotSimOptions, ResiotSimulator
from tests.support import PATIENCE_S, Properties, free_port, matches
from tests.support.ear import Ear, Message
from tests.support.mosquitto import Mosquitto
from tests.support.process import BridgeProcess
from tests.support.scripted import ScriptedBroker

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICK = ("set_tcp_nodelay true",)  # of mosquitto.conf: else each answer waits 40 ms for company
NO_FAULTS = Faults()
QUIET = ResiotSimOptions(rate=0)
CLASS_A = "application/70b3d57ed0001122/device/a81758fffe0a0b0c"
CLASS_C = "application/70b3d57ed0003344/device/a81758fffe0a0b0f"
NOBODY = "application/70b3d57ed0001122/device/00000000000000aa"
DOWNLINK = f"lora/{CLASS_A}/command/downlink"
TEN = {"f_port": 10, "payload_hex": "ff01"}
SOON = {"initial": "20ms", "max": "50ms"}
FAST = {"rate": "1000/s"}

Answer = dict[str, Any]
Body = Mapping[str, Any] | bytes | str


@dataclass
class Asked:
    """A command that was sent: its responses are known by its Correlation Data."""

    ear: Ear
    key: bytes
    since: int

    def _mine(self, message: Message) -> bool:
        return message.properties.get("correlation_data") == self.key and "/command/" not in message.topic

    @property
    def messages(self) -> list[Message]:
        return [message for message in self.ear.messages[self.since :] if self._mine(message)]

    @property
    def answers(self) -> list[Answer]:
        return [json.loads(message.payload) for message in self.messages]

    async def said(self, status: str, timeout: float = PATIENCE_S) -> Answer:
        """The first response with that status."""
        found = await self.ear.wait_for(
            lambda m: self._mine(m) and json.loads(m.payload)["status"] == status, timeout, since=self.since
        )
        return dict(json.loads(found.payload))

    async def final(self, timeout: float = PATIENCE_S) -> Answer:
        found = await self.ear.wait_for(
            lambda m: self._mine(m) and json.loads(m.payload)["final"], timeout, since=self.since
        )
        return dict(json.loads(found.payload))

    async def story(self, timeout: float = PATIENCE_S) -> list[tuple[str, int]]:
        """Status and code of every response up to the final one."""
        await self.final(timeout)
        return [(answer["status"], answer["code"]) for answer in self.answers]


@dataclass
class Stage:
    """A bridge between a simulator and a broker, with an ear on everything."""

    base: str
    broker: Mosquitto
    sim: ResiotSimulator
    bridge: BridgeProcess
    ear: Ear
    asked: list[Asked] = field(default_factory=list)

    async def send(
        self,
        topic: str,
        body: Body = b"",
        *,
        qos: Literal[0, 1] = 1,
        retain: bool = False,
        ear: Ear | None = None,
        **properties: Any,
    ) -> Asked:
        """Publishes a command; topic: below the base. properties: of MQTT 5."""
        asked = Asked(self.ear, secrets.token_hex(6).encode(), len(self.ear.messages))
        told: Properties = {"correlation_data": asked.key, **properties}
        self.asked.append(asked)
        await (ear or self.ear).publish(f"{self.base}/{topic}", body, qos=qos, retain=retain, properties=told)
        return asked

    async def ask(self, topic: str, body: Body = b"", timeout: float = PATIENCE_S, **told: Any) -> Answer:
        """Sends a command and gives its final response."""
        return await (await self.send(topic, body, **told)).final(timeout)

    async def settled(self, backend: str = "lora") -> None:
        """Everything sent to this backend so far is done: a further downlink has been all the way."""
        self.sim.faults = Faults()
        answer = await self.ask(f"{backend}/{CLASS_A}/command/downlink", TEN)
        assert answer["code"] == 200, answer

    async def platform_asked(self, count: int) -> None:
        """The platform has been asked so often since its start."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.sim.commands) < count:
                await self.sim.command()

    async def state(self, backend: str, *states: str, since: int = 0) -> None:
        await self.ear.wait_topic(
            f"{self.base}/{backend}/state", lambda m: json.loads(m.payload)["state"] in states, since=since
        )

    def judge(self) -> None:
        """Exactly one final response to each command, and nothing after it."""
        heard: dict[Any, list[bool]] = {}
        for message in self.ear.messages:
            if "/command/" not in message.topic and (key := message.properties.get("correlation_data")):
                heard.setdefault(key, []).append(json.loads(message.payload)["final"])
        for asked in self.asked:
            finals = heard.get(asked.key, [])
            assert finals[-1:] == [True], f"{asked.key!r}: {finals}"
            assert finals.count(True) == 1, f"{asked.key!r}: {finals}"


@asynccontextmanager
async def staged(
    folder: Path,
    broker: Mosquitto,
    *,
    backends: Mapping[str, Any] | None = None,
    mqtt: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    ear: Ear | None = None,
    base: str = "",
) -> AsyncIterator[Stage]:
    """A stage of one's own; `lora` is connected to the simulator, at full speed, unless backends say otherwise."""
    base = base or f"test-{secrets.token_hex(6)}"
    async with ResiotSimulator(QUIET) as sim, AsyncExitStack() as stack:
        told = {"url": broker.url(), "base_topic": base, "client_id": base, "reconnect": SOON, **(mqtt or {})}
        lora = {"type": "resiot", "url": sim.url, "commands": FAST, "reconnect": SOON}
        made = {name: {**lora, **one} for name, one in (backends or {"lora": {}}).items()}
        config = {"mqtt": told, "backends": made, **(more or {})}
        listening = await stack.enter_async_context(ear or Ear(broker.url(), f"{base}/#"))
        bridge = await stack.enter_async_context(BridgeProcess(config, folder))
        stage = Stage(base, broker, sim, bridge, listening)
        if "lora" in made:
            await stage.state("lora", "online")
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One bridge with a backend for each way to stand. `slow` has the default rate."""
    backends: dict[str, Any] = {
        "lora": {},
        "slow": {"commands": {}},
        "guarded": {"commands": {"allow": ["re*", "pause"], **FAST}},
        "sleeper": {},
        "closed": {"url": f"ws://127.0.0.1:{free_port()}/"},
        "disabled": {"enabled": False},
    }
    async with Mosquitto(tmp_path_factory.mktemp("broker"), lines=QUICK) as broker, ResiotSimulator(QUIET) as strict:
        backends["refused"] = {"url": f"{strict.url}wrong"}
        async with staged(tmp_path_factory.mktemp("bridge"), broker, backends=backends) as stage:
            for name in ("slow", "guarded", "sleeper"):
                await stage.state(name, "online")
            await stage.state("refused", "auth_failed")
            await stage.state("closed", "offline")
            await stage.state("disabled", "disabled")
            yield stage
            stage.judge()


@pytest_asyncio.fixture(loop_scope="module")
async def stage(shared: Stage) -> AsyncIterator[Stage]:
    shared.sim.faults = Faults()
    yield shared
    shared.sim.faults = Faults()


Then = Callable[[Stage, Downlink], Awaitable[None]]


async def says(stage: Stage, **fields: Any) -> None:
    await stage.sim.say(json.dumps(fields))


async def speaks(stage: Stage, downlink: Downlink) -> None:
    """The device's next uplink, which brings what waits for it."""
    await stage.sim.uplink(downlink.dev_eui)


async def confirms_first(stage: Stage, downlink: Downlink) -> None:
    """The device's confirmation overtakes the platform's answer."""
    await says(stage, CommType="comm_txconfirm", Reference=downlink.reference)
    await says(stage, Result="Success", Details="", Reference=downlink.reference)


async def fails_quietly(stage: Stage, downlink: Downlink) -> None:
    await says(stage, Result="Fail", Details="", Reference=downlink.reference)


async def answers_another(stage: Stage, downlink: Downlink) -> None:
    await says(stage, Result="Success", Details="", Reference="another")
    await says(stage, Result="Fail", Details="full", Reference=downlink.reference)


async def answers_twice(stage: Stage, downlink: Downlink) -> None:
    for _ in range(2):
        await says(stage, Result="Success", Details="", Reference=downlink.reference)


async def goes_away(stage: Stage, downlink: Downlink) -> None:
    since = len(stage.ear.messages)
    await stage.sim.drop(1006)
    for name in ("lora", "slow", "guarded"):
        await stage.state(name, "online", since=since)


@dataclass(frozen=True)
class Case:
    """What is sent, what the platform does, and the responses in their order.

    story: status and code of each · asked: how often the platform was · error: part of the final one's · then: what the
    platform does once it was asked.
    """

    name: str
    body: Mapping[str, Any]
    story: tuple[tuple[str, int], ...]
    asked: int = 1
    subject: str = CLASS_C
    faults: Faults = NO_FAULTS
    error: Mapping[str, Any] = field(default_factory=dict)
    then: Then | None = None


SENT = (("accepted", 202), ("sent", 200))
WAITING = (("accepted", 202), ("sent", 202))
DONE = (*WAITING, ("succeeded", 200))
FAILED = (("accepted", 202), ("failed", 502))
NOT_FOUND, OUT_OF_RANGE = "simulator: device not found", "simulator: Port is out of range 1..223"
UNKNOWN = (("accepted", 202), ("unknown", 408))
SILENT = Faults(no_reply=True)
BRIEF = {**TEN, "timeout": "1s"}  # long enough to reach the platform in any case
CONFIRMED = {**TEN, "confirmed": True}

CASES = (
    Case("taken", TEN, SENT),
    Case("base64", {"f_port": 1, "payload": "/wE="}, SENT),
    Case("text", {"f_port": 1, "text": "häß"}, SENT),
    Case("an empty payload is the platform's to judge", {"f_port": 1, "payload_hex": ""}, SENT),
    Case("a whole number with a point", {"f_port": 10.0, "payload_hex": "00"}, SENT),
    Case("an EUI in upper case", TEN, SENT, subject=CLASS_C.replace("a81758fffe0a0b0f", "A81758FFFE0A0B0F")),
    Case("confirmed, class C", CONFIRMED, DONE),
    Case("confirmed, class A: after its uplink", CONFIRMED, DONE, subject=CLASS_A, then=speaks),
    Case("confirmed before the answer", CONFIRMED, DONE, faults=SILENT, then=confirms_first),
    Case(
        "confirmed by nobody",
        {**CONFIRMED, "confirm_timeout": "100ms"},
        (*WAITING, ("unknown", 408)),
        faults=Faults(no_ack=True),
        error={"kind": "timeout"},
    ),
    Case(
        "confirmed, but refused",
        CONFIRMED,
        FAILED,
        subject=NOBODY,
        error={"kind": "refused", "message": NOT_FOUND},
    ),
    Case("refused in the platform's words", TEN, FAILED, subject=NOBODY, error={"message": NOT_FOUND}),
    Case("a port that only we know", {**TEN, "f_port": 255}, FAILED, error={"message": OUT_OF_RANGE}),
    Case("refused without words", TEN, FAILED, faults=SILENT, then=fails_quietly, error={"kind": "refused"}),
    Case("refused without reference", TEN, FAILED, subject=NOBODY, faults=Faults(reply_without_reference=True)),
    Case("answered without reference", TEN, SENT, faults=Faults(reply_without_reference=True)),
    Case("answered after the comm_tx", TEN, SENT, faults=Faults(reply_after_tx=True)),
    Case("answered to everybody", TEN, SENT, faults=Faults(broadcast_replies=True)),
    Case("answered twice", TEN, SENT, faults=SILENT, then=answers_twice),
    Case("another's answer first", TEN, FAILED, faults=SILENT, then=answers_another, error={"message": "full"}),
    Case("silence", BRIEF, UNKNOWN, faults=SILENT, error={"kind": "timeout"}),
    Case("an answer too late", BRIEF, UNKNOWN, faults=Faults(late_reply=1.5), error={"kind": "timeout"}),
    Case("disconnected", TEN, UNKNOWN, faults=SILENT, then=goes_away, error={"kind": "disconnected"}),
    Case("no time at all", {**TEN, "timeout": "0s"}, (("expired", 410),), asked=0, error={"kind": "expired"}),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_what_becomes_of_a_downlink(stage: Stage, case: Case) -> None:
    before = len(stage.sim.commands)
    stage.sim.faults = case.faults
    asked = await stage.send(f"lora/{case.subject}/command/downlink", {"id": case.name, **case.body})
    if case.then is not None:
        await stage.platform_asked(before + 1)
        await case.then(stage, stage.sim.commands[before])
    assert tuple(await asked.story()) == case.story

    await stage.settled()  # nothing more is said or asked: all goes in order
    assert len(stage.sim.commands) == before + case.asked + 1
    assert [(answer["status"], answer["code"]) for answer in asked.answers] == list(case.story)
    assert [answer["final"] for answer in asked.answers] == [False] * (len(case.story) - 1) + [True]
    assert {answer["id"] for answer in asked.answers} == {case.name}
    assert {answer["command"] for answer in asked.answers} == {"downlink"}
    error = asked.answers[-1].get("error", {})
    assert {key: error.get(key) for key in case.error} == case.error
    assert ("error" in asked.answers[-1]) == (case.story[-1][1] != 200)


async def test_a_response_has_these_fields(stage: Stage) -> None:
    asked = await stage.send(DOWNLINK, {"id": "abc", **TEN})
    final = await asked.final()
    sent = stage.sim.commands[-1]
    moment = datetime.fromisoformat(final.pop("time"))
    assert abs(moment.timestamp() - datetime.now().timestamp()) < 60
    assert final == {
        "id": "abc", "command": "downlink", "status": "sent", "final": True, "code": 200,
        "data": {"reference": sent.reference},
    }  # fmt: skip
    assert [message.topic for message in asked.messages] == [f"{stage.base}/lora/{CLASS_A}/response/downlink"] * 2
    assert {message.qos for message in asked.messages} == {1}
    assert {message.retain for message in asked.messages} == {False}
    assert {message.properties["content_type"] for message in asked.messages} == {"application/json"}


async def test_what_the_platform_reads(stage: Stage) -> None:
    topic = f"lora/{CLASS_A.upper().replace('APPLICATION', 'application').replace('DEVICE', 'device')}/command/downlink"
    body = {
        "f_port": 7,
        "text": "Ä",
        "connector": "636f6e",
        "ws_command": "go",
        "reference": "My-ref_1",
        "confirmed": True,
    }
    asked = await stage.send(topic, body)
    assert (await asked.said("sent"))["data"] == {"reference": "My-ref_1"}
    frame = stage.sim.commands[-1].text
    assert json.loads(frame) == {
        "function": "TX", "Payload": "c384", "AppEui": "70b3d57ed0001122", "DevEUI": "a81758fffe0a0b0c",
        "DevEui": "a81758fffe0a0b0c", "Connector": "636f6e", "Port": 7, "WSCommand": "go", "Reference": "My-ref_1",
        "Raw": False, "Confirm": True,
    }  # fmt: skip
    assert '"Port":7,' in frame
    assert {message.topic for message in asked.messages} == {f"{stage.base}/{topic.replace('/command/', '/response/')}"}
    await stage.sim.uplink("a81758fffe0a0b0c")
    assert (await asked.final())["status"] == "succeeded"


async def test_feedback_appears_on_the_devices_topic(stage: Stage) -> None:
    since = len(stage.ear.messages)
    asked = await stage.send(f"lora/{CLASS_C}/command/downlink", {**CONFIRMED, "reference": "fb-1"})
    await asked.final()
    events = f"{stage.base}/lora/{CLASS_C}/event"
    mine = b'"reference":"fb-1"'  # that of an earlier downlink may still be on its way
    await stage.ear.wait_topic(f"{events}/ack", lambda m: mine in m.payload, since=since)
    heard = [m for m in stage.ear.messages[since:] if matches(f"{events}/+", m.topic) and mine in m.payload]
    data = [(message.topic.rpartition("/")[2], json.loads(message.payload)["data"]) for message in heard]
    assert [(kind, one["reference"], one.get("stage")) for kind, one in data] == [
        ("tx", "fb-1", None),
        ("txack", "fb-1", "comm_gwtx"),
        ("txack", "fb-1", "comm_txinfo"),
        ("txack", "fb-1", "comm_txsendack"),
        ("txack", "fb-1", "comm_txsendconfirm"),
        ("ack", "fb-1", None),
    ]
    assert data[0][1]["confirmed"] is True


# What is not carried out

LONG = "a" * 33
TOO_LARGE = b'{"f_port":1,"text":"' + b"x" * 257 * 1024 + b'"}'
INVALID: tuple[tuple[str, Body, Mapping[str, Any]], ...] = (
    ("f_port 0", {**TEN, "f_port": 0}, {"field": "f_port", "value": 0}),
    ("f_port 256", {**TEN, "f_port": 256}, {"field": "f_port", "value": 256}),
    ("f_port -1", {**TEN, "f_port": -1}, {"field": "f_port", "value": -1}),
    ("f_port 1.5", {**TEN, "f_port": 1.5}, {"field": "f_port", "value": 1.5}),
    ("f_port beyond 64 bits", {**TEN, "f_port": 10**30}, {"field": "f_port", "value": 10**30}),
    ("f_port as text", {**TEN, "f_port": "5"}, {"field": "f_port", "value": None}),
    ("f_port true", {**TEN, "f_port": True}, {"field": "f_port", "value": True}),
    ("f_port null", {**TEN, "f_port": None}, {"field": "f_port", "value": None}),
    ("no f_port", {"payload_hex": "00"}, {"kind": "missing_field", "field": "f_port"}),
    ("no payload", {"f_port": 1}, {"kind": "missing_field", "field": "payload"}),
    ("two payloads", {**TEN, "text": "a"}, {"field": "text"}),
    ("three payloads", {**TEN, "text": "a", "payload": "/w=="}, {"field": "payload_hex"}),
    ("payload as number", {"f_port": 1, "payload": 5}, {"field": "payload", "value": 5}),
    ("bad base64", {"f_port": 1, "payload": "a"}, {"field": "payload"}),
    ("base64 with a stray sign", {"f_port": 1, "payload": "/w!=="}, {"field": "payload"}),
    ("base64 of the web", {"f_port": 1, "payload": "_-8="}, {"field": "payload"}),
    ("base64 beyond ASCII", {"f_port": 1, "payload": "ä==="}, {"field": "payload"}),
    ("odd hex", {"f_port": 1, "payload_hex": "abc"}, {"field": "payload_hex"}),
    ("no hex", {"f_port": 1, "payload_hex": "xx"}, {"field": "payload_hex"}),
    ("hex with spaces", {"f_port": 1, "payload_hex": "ab cd"}, {"field": "payload_hex"}),
    ("text as list", {"f_port": 1, "text": ["a"]}, {"field": "text"}),
    ("confirmed as number", {**TEN, "confirmed": 1}, {"field": "confirmed", "value": 1}),
    ("confirmed as text", {**TEN, "confirmed": "true"}, {"field": "confirmed"}),
    ("connector as boolean", {**TEN, "connector": False}, {"field": "connector", "value": False}),
    ("ws_command as number", {**TEN, "ws_command": 2.5}, {"field": "ws_command", "value": 2.5}),
    ("empty reference", {**TEN, "reference": ""}, {"field": "reference"}),
    ("long reference", {**TEN, "reference": LONG}, {"field": "reference"}),
    ("reference with a space", {**TEN, "reference": "a b"}, {"field": "reference"}),
    ("reference with a final newline", {**TEN, "reference": "ab\n"}, {"field": "reference"}),
    ("confirm_timeout as number", {**TEN, "confirm_timeout": 60}, {"field": "confirm_timeout", "value": 60}),
    ("confirm_timeout without unit", {**TEN, "confirm_timeout": "60"}, {"field": "confirm_timeout"}),
    ("timeout as number", {**TEN, "timeout": 5}, {"field": "timeout", "value": 5}),
    ("timeout without unit", {**TEN, "timeout": "soon"}, {"field": "timeout"}),
    ("negative timeout", {**TEN, "timeout": "-1s"}, {"field": "timeout"}),
    ("idempotency_key as number", {**TEN, "idempotency_key": 7}, {"field": "idempotency_key", "value": 7}),
    ("id as list", {**TEN, "id": [1]}, {"field": "id"}),
    ("id true", {**TEN, "id": True}, {"field": "id", "value": True}),
    ("unknown field", {**TEN, "fport": 3}, {"kind": "unknown_field", "field": "fport"}),
    ("unknown field with a quote", {**TEN, "a`b": 3}, {"kind": "unknown_field", "field": "a`b"}),
    ("not JSON", b"on", {"kind": "invalid_json"}),
    ("half a JSON", b'{"f_port":1', {"kind": "invalid_json"}),
    ("NaN", b'{"f_port":NaN}', {"kind": "invalid_json"}),
    ("beyond all numbers", b'{"f_port":1e999}', {"kind": "invalid_json"}),
    ("a list", b"[1]", {"kind": "invalid_json"}),
    ("a number", b"7", {"kind": "invalid_json"}),
    ("not UTF-8", b'{"f_port":1,"text":"\xff"}', {"kind": "invalid_json"}),
    ("half a surrogate", b'{"f_port":1,"text":"\\ud800"}', {"kind": "invalid_json"}),
    ("deep lists", b"[" * 100_000 + b"]" * 100_000, {"kind": "invalid_json"}),
    ("deep objects", b'{"a":' * 40_000 + b"1" + b"}" * 40_000, {"kind": "invalid_json"}),
    ("257 KiB", TOO_LARGE, {"kind": "too_large"}),
    ("1 MiB", b" " * 2**20, {"kind": "too_large"}),
)  # fmt: skip


@pytest.mark.parametrize(("body", "error"), [one[1:] for one in INVALID], ids=[one[0] for one in INVALID])
async def test_what_is_wrong_is_named_and_not_carried_out(stage: Stage, body: Body, error: Mapping[str, Any]) -> None:
    before = len(stage.sim.commands)
    asked = await stage.send(DOWNLINK, body)
    final = await asked.final()
    assert await asked.story() == [("rejected", 400)]
    assert {key: final["error"].get(key) for key in error} == error
    if "value" in error:
        assert type(final["error"].get("value")) is type(error["value"])
    if "field" in error:
        assert str(error["field"]) in final["error"]["message"]
    await stage.settled()
    assert len(stage.sim.commands) == before + 1


async def test_a_payload_of_256_kib_is_read(stage: Stage) -> None:
    body = b'{"f_port":1,"text":"ab"}'
    assert (await stage.ask(DOWNLINK, body + b" " * (256 * 1024 - len(body))))["code"] == 200


ADDRESSES = (
    ("lora/command/downlnk", 404, "no_such_command"),
    (f"lora/{CLASS_A}/command/uplink", 404, "no_such_command"),
    ("lora/a/b/c/d/e/f/g/h/command/nothing", 404, "no_such_command"),
    ("lora/command/downlink", 404, "no_such_subject"),
    ("lora/device/a/command/downlink", 404, "no_such_subject"),
    ("lora/gateway/0a1b2c3d4e5f60a1/command/downlink", 404, "no_such_subject"),
    ("lora/a/b/c/d/e/command/downlink", 404, "no_such_subject"),
    (f"lora/{CLASS_A}/command/reconnect", 404, "no_such_subject"),
    (f"lora/{CLASS_A}/command/ping", 404, "no_such_command"),
    ("bridge/command/reconnect", 404, "no_such_command"),
    (f"guarded/{CLASS_A}/command/downlink", 403, "not_allowed"),
    (f"closed/{CLASS_A}/command/downlink", 503, "not_connected"),
    (f"refused/{CLASS_A}/command/downlink", 503, "not_connected"),
    (f"disabled/{CLASS_A}/command/downlink", 503, "not_connected"),
)


@pytest.mark.parametrize(("topic", "code", "kind"), ADDRESSES, ids=[f"{one[0]} {one[1]}" for one in ADDRESSES])
async def test_where_there_is_no_such_command(stage: Stage, topic: str, code: int, kind: str) -> None:
    before = len(stage.sim.commands)
    asked = await stage.send(topic, {"id": "x", **TEN})
    assert await asked.story() == [("rejected", code)]
    assert asked.answers[0]["error"]["kind"] == kind
    assert asked.answers[0]["id"] == "x"
    assert asked.messages[0].topic == f"{stage.base}/{topic.replace('/command/', '/response/')}"
    await stage.settled()
    assert len(stage.sim.commands) == before + 1


@pytest.mark.parametrize("name", ["reconnect", "resume", "pause"])
@pytest.mark.parametrize("backend", ["closed", "refused", "guarded", "disabled"])
async def test_these_are_answered_in_every_state(stage: Stage, backend: str, name: str) -> None:
    since = len(stage.ear.messages)
    asked = await stage.send(f"{backend}/command/{name}")
    assert await asked.story() == [("succeeded", 200)]
    back = "pause" if backend == "disabled" else "resume"
    assert (await stage.ask(f"{backend}/command/{back}"))["code"] == 200  # as it was
    changed = {("guarded", "reconnect"): "online", ("guarded", "pause"): "online", ("disabled", "resume"): "disabled"}
    if state := changed.get((backend, name)):
        await stage.state(backend, state, since=since)


async def test_these_take_no_fields(stage: Stage) -> None:
    final = await stage.ask("lora/command/reconnect", {"now": True})
    assert (final["code"], final["error"]["field"]) == (400, "now")


async def test_pause_and_resume(stage: Stage) -> None:
    """Paused is `disabled`: 503 at once. Resuming a running backend does not disturb it."""
    admitted = stage.sim.admitted
    assert (await stage.ask("sleeper/command/resume"))["code"] == 200
    topic = f"sleeper/{CLASS_A}/command/downlink"
    assert (await stage.ask(topic, TEN))["code"] == 200
    since = len(stage.ear.messages)
    assert (await stage.ask("sleeper/command/pause"))["code"] == 200
    await stage.state("sleeper", "disabled", since=since)
    assert (await stage.ask(topic, TEN))["code"] == 503
    assert (await stage.ask("sleeper/command/reconnect"))["code"] == 200
    assert (await stage.ask("sleeper/command/pause"))["code"] == 200
    assert (await stage.ask(topic, TEN))["code"] == 503
    assert stage.sim.admitted == admitted
    since = len(stage.ear.messages)
    assert (await stage.ask("sleeper/command/resume"))["code"] == 200
    await stage.state("sleeper", "online", since=since)
    assert stage.sim.admitted == admitted + 1
    assert (await stage.ask(topic, TEN))["code"] == 200


async def test_reconnect_opens_the_link_anew(stage: Stage) -> None:
    admitted, since = stage.sim.admitted, len(stage.ear.messages)
    assert (await stage.ask("lora/command/reconnect"))["code"] == 200
    await stage.sim.admissions(admitted + 1)
    await stage.ear.wait_topic(f"{stage.base}/lora/event/gap", since=since)
    await stage.settled()


async def test_a_confirmed_downlink_outlives_a_reconnect(stage: Stage) -> None:
    asked = await stage.send(DOWNLINK, CONFIRMED)
    reference = (await asked.said("sent"))["data"]["reference"]
    since = len(stage.ear.messages)
    assert (await stage.ask("lora/command/reconnect"))["code"] == 200
    await stage.ear.wait_topic(f"{stage.base}/lora/event/gap", since=since)
    await stage.settled()
    assert asked.answers[-1]["final"] is False
    await says(stage, CommType="tx_confirm", Reference=reference)
    assert await asked.story() == list(DONE)


# One at a time


async def test_one_is_in_flight_at_a_time_in_order_of_arrival(stage: Stage) -> None:
    before = len(stage.sim.commands)
    stage.sim.faults = SILENT
    asked = [await stage.send(DOWNLINK, {**TEN, "reference": f"order-{n}"}) for n in range(3)]
    for one in asked:
        await one.said("accepted")
    await stage.platform_asked(before + 1)
    assert [command.reference for command in stage.sim.commands[before:]] == ["order-0"]
    await says(stage, Result="Success", Reference="order-0")
    assert await asked[0].story() == list(SENT)
    await stage.platform_asked(before + 2)
    assert [command.reference for command in stage.sim.commands[before:]] == ["order-0", "order-1"]
    assert len(asked[1].answers) == 1
    stage.sim.faults = Faults()
    await says(stage, Result="Fail", Details="no", Reference="order-1")
    assert await asked[1].story() == list(FAILED)
    assert await asked[2].story() == list(SENT)
    assert [command.reference for command in stage.sim.commands[before:]] == ["order-0", "order-1", "order-2"]


async def test_the_next_waits_for_the_platform_not_for_the_device(stage: Stage) -> None:
    waiting = await stage.send(DOWNLINK, CONFIRMED)
    assert (await stage.ask(f"lora/{CLASS_C}/command/downlink", TEN))["code"] == 200
    assert [answer["status"] for answer in waiting.answers] == ["accepted", "sent"]
    await stage.sim.uplink("a81758fffe0a0b0c")
    assert (await waiting.final())["status"] == "succeeded"


async def test_a_late_answer_does_not_confuse_the_next_command(stage: Stage) -> None:
    """The reply to the first arrives while the second is under way: it is nobody's."""
    stage.sim.faults = SILENT
    before, since = len(stage.sim.commands), len(stage.ear.messages)
    first = await stage.send(DOWNLINK, {**BRIEF, "reference": "late-1"})
    second = await stage.send(DOWNLINK, {**TEN, "reference": "late-2"})
    assert await first.story() == list(UNKNOWN)
    await stage.platform_asked(before + 2)
    await says(stage, Result="Success", Reference="late-1")
    await stage.ear.wait_topic(f"{stage.base}/lora/event/unknown", since=since)
    assert [answer["status"] for answer in second.answers] == ["accepted"]
    await says(stage, Result="Fail", Details="full", Reference="late-2")
    assert await second.story() == list(FAILED)
    assert len(first.answers) == 2


async def test_what_waits_when_the_link_is_lost_was_not_sent(stage: Stage) -> None:
    stage.sim.faults = SILENT
    before = len(stage.sim.commands)
    flying, waiting = [await stage.send(DOWNLINK, TEN) for _ in range(2)]
    await waiting.said("accepted")
    await goes_away(stage, stage.sim.commands[before])
    assert await flying.story() == list(UNKNOWN)
    assert await waiting.story() == [("accepted", 202), ("rejected", 503)]
    await stage.settled()
    assert len(stage.sim.commands) == before + 2


async def test_the_time_runs_out_in_line(stage: Stage) -> None:
    stage.sim.faults = SILENT
    before = len(stage.sim.commands)
    flying = await stage.send(DOWNLINK, {**TEN, "timeout": "2s"})
    brief = await stage.send(DOWNLINK, {**TEN, "timeout": "500ms"})
    expiring = await stage.send(DOWNLINK, {**TEN, "timeout": "1s"}, message_expiry_interval=60)
    assert await brief.story() == [("accepted", 202), ("expired", 410)]
    assert await expiring.story() == [("accepted", 202), ("expired", 410)]
    assert await flying.story() == list(UNKNOWN)
    await stage.settled()
    assert len(stage.sim.commands) == before + 2


async def test_a_reference_under_way_is_not_given_twice(stage: Stage) -> None:
    waiting = await stage.send(DOWNLINK, {**CONFIRMED, "reference": "twice"})
    await waiting.said("sent")
    again = await stage.send(DOWNLINK, {**TEN, "reference": "twice"})
    assert await again.story() == [("rejected", 409)]
    assert again.answers[0]["error"]["field"] == "reference"
    await stage.sim.uplink("a81758fffe0a0b0c")
    await waiting.final()
    assert (await stage.ask(DOWNLINK, {**TEN, "reference": "twice"}))["code"] == 200


# MQTT


@pytest.mark.parametrize("sender", ["abc", "", "ünï", 0, 7, -1, 10**30, "x" * 1000])
async def test_the_senders_id_is_in_every_response(stage: Stage, sender: str | int) -> None:
    asked = await stage.send(DOWNLINK, {"id": sender, **TEN})
    await asked.final()
    assert [answer["id"] for answer in asked.answers] == [sender, sender]
    rejected = await stage.ask(DOWNLINK, {"id": sender, "f_port": 0})
    assert rejected["id"] == sender
    assert (await stage.ask("lora/command/nothing", {"id": sender}))["id"] == sender


async def test_without_an_id_there_is_none(stage: Stage) -> None:
    assert "id" not in await stage.ask(DOWNLINK, TEN)


@pytest.mark.parametrize("correlation", [b"\x00\xff\x00", b"x" * 40_000], ids=["binary", "long"])
async def test_response_topic_and_correlation_data(stage: Stage, correlation: bytes) -> None:
    mine = f"{stage.base}/answers/{secrets.token_hex(4)}"
    for body, count in ((TEN, 2), ({}, 1)):
        since = len(stage.ear.messages)
        properties: Properties = {"response_topic": mine, "correlation_data": correlation}
        await stage.ear.publish(f"{stage.base}/{DOWNLINK}", body, properties=properties)
        heard = await stage.ear.wait_count(count, mine, since=since)
        assert [message.properties["correlation_data"] for message in heard] == [correlation] * count
        await stage.settled()
        topics = {
            one.topic for one in stage.ear.messages[since:] if one.properties.get("correlation_data") == correlation
        }
        assert topics == {mine, f"{stage.base}/{DOWNLINK}"}


async def test_a_response_topic_that_is_a_command_topic_is_refused(stage: Stage) -> None:
    before = len(stage.sim.commands)
    for topic in (DOWNLINK, "lora/command/pause", "bridge/command/ping", "sleeper/a/b/command/x"):
        asked = await stage.send(DOWNLINK, {"id": 5, **TEN}, response_topic=f"{stage.base}/{topic}")
        assert await asked.story() == [("rejected", 400)]
        assert asked.messages[0].topic == f"{stage.base}/lora/{CLASS_A}/response/downlink"
        assert asked.answers[0]["id"] == 5
        assert asked.answers[0]["error"]["kind"] == "invalid_response_topic"
    await stage.settled()
    assert len(stage.sim.commands) == before + 1


async def test_somebody_elses_command_topic_may_be_the_response_topic(stage: Stage) -> None:
    async with Ear(stage.broker.url(), f"{stage.base}x/#") as ear:
        await stage.ear.publish(
            f"{stage.base}/{DOWNLINK}", TEN, properties={"response_topic": f"{stage.base}x/lora/command/go"}
        )
        assert len(await ear.wait_count(2)) == 2


async def test_a_command_that_is_retained_is_refused(stage: Stage) -> None:
    before = len(stage.sim.commands)
    asked = await stage.send(DOWNLINK, {"id": "r", **TEN}, retain=True)
    assert await asked.story() == [("rejected", 400)]
    assert (asked.answers[0]["id"], asked.answers[0]["error"]["kind"]) == ("r", "retained")
    await stage.ear.publish(f"{stage.base}/{DOWNLINK}", b"", retain=True)  # takes it back: a message of its own
    await stage.settled()
    assert len(stage.sim.commands) == before + 1


async def test_a_message_expiry_in_time_does_no_harm(stage: Stage) -> None:
    assert (await stage.ask(DOWNLINK, TEN, message_expiry_interval=60))["code"] == 200


@pytest.mark.parametrize("qos", [0, 1])
async def test_both_qualities_of_service(stage: Stage, qos: Literal[0, 1]) -> None:
    before = len(stage.sim.commands)
    asked = await stage.send(DOWNLINK, TEN, qos=qos)
    assert await asked.story() == list(SENT)
    assert {message.qos for message in asked.messages} == {1}
    assert len(stage.sim.commands) == before + 1


async def test_the_same_command_from_two_clients_is_two_commands(stage: Stage) -> None:
    before = len(stage.sim.commands)
    async with (
        Ear(stage.broker.url(), f"{stage.base}/none") as one,
        Ear(stage.broker.url(), f"{stage.base}/none") as two,
    ):
        asked = [await stage.send(DOWNLINK, {"id": 1, **TEN}, ear=ear) for ear in (one, two)]
    for each in asked:
        assert await each.story() == list(SENT)
    references = {command.reference for command in stage.sim.commands[before:]}
    assert len(references) == 2


async def test_an_empty_payload_is_an_empty_object(stage: Stage) -> None:
    assert (await stage.ask("bridge/command/ping", b""))["code"] == 200
    assert (await stage.ask(DOWNLINK, b""))["error"]["kind"] == "missing_field"


# Idempotency


async def test_the_same_key_and_body_is_answered_from_memory(stage: Stage) -> None:
    before, key = len(stage.sim.commands), secrets.token_hex(6)
    body = b'{"id":1,"idempotency_key":"%b","f_port":1,"payload_hex":"00","timeout":"5s"}' % key.encode()
    other = b'{"payload_hex":"00","f_port":1.0,"idempotency_key":"%b","id":"two"}' % key.encode()
    first = await stage.ask(DOWNLINK, body)
    again = await stage.send(DOWNLINK, other)
    assert await again.story() == [("sent", 200)]
    assert again.answers[0]["id"] == "two"
    assert again.answers[0]["data"] == first["data"]
    await stage.settled()
    assert len(stage.sim.commands) == before + 2


async def test_the_same_key_with_another_body_is_a_conflict(stage: Stage) -> None:
    before, key = len(stage.sim.commands), {"idempotency_key": secrets.token_hex(6)}
    await stage.ask(DOWNLINK, {**TEN, **key})
    final = await stage.ask(DOWNLINK, {**TEN, **key, "f_port": 11})
    assert (final["status"], final["code"]) == ("rejected", 409)
    final = await stage.ask(DOWNLINK, {**TEN, **key, "confirmed": True})
    assert final["error"]["kind"] == "idempotency_conflict"
    assert (await stage.ask(DOWNLINK, {**TEN, **key}))["code"] == 200  # the first is still remembered
    await stage.settled()
    assert len(stage.sim.commands) == before + 2


async def test_the_same_key_while_it_runs(stage: Stage) -> None:
    before, key = len(stage.sim.commands), {"idempotency_key": secrets.token_hex(6)}
    running = await stage.send(DOWNLINK, {**CONFIRMED, **key})
    await running.said("sent")
    final = await stage.ask(DOWNLINK, {**CONFIRMED, **key})
    assert (final["code"], final["error"]["kind"]) == (409, "under_way")
    await stage.sim.uplink("a81758fffe0a0b0c")
    done = await running.final()
    assert done["status"] == "succeeded"
    again = await stage.ask(DOWNLINK, {**CONFIRMED, **key})
    assert (again["status"], again["data"]) == ("succeeded", done["data"])
    assert len(stage.sim.commands) == before + 1


async def test_the_same_key_on_another_topic_is_another_command(stage: Stage) -> None:
    before, key = len(stage.sim.commands), {"idempotency_key": secrets.token_hex(6)}
    for subject in (CLASS_A, CLASS_C):
        assert (await stage.ask(f"lora/{subject}/command/downlink", {**TEN, **key}))["code"] == 200
    assert len(stage.sim.commands) == before + 2


async def test_a_failure_is_remembered_too(stage: Stage) -> None:
    before, key = len(stage.sim.commands), {"idempotency_key": secrets.token_hex(6)}
    topic = f"lora/{NOBODY}/command/downlink"
    finals = [await stage.ask(topic, {**TEN, **key}) for _ in range(2)]
    assert [(one["code"], one["error"]["message"]) for one in finals] == [(502, NOT_FOUND)] * 2
    assert len(stage.sim.commands) == before + 1


@pytest.mark.parametrize(
    ("wrong", "code"), [({"f_port": 0}, 400), ({"text": "two"}, 400), ({"timeout": "0s"}, 410)], ids=str
)
async def test_a_key_that_was_not_carried_out_can_be_used_again(
    stage: Stage, wrong: Mapping[str, Any], code: int
) -> None:
    key = {"idempotency_key": secrets.token_hex(6)}
    assert (await stage.ask(DOWNLINK, {**TEN, **key, **wrong}))["code"] == code
    assert (await stage.ask(DOWNLINK, {**TEN, **key}))["code"] == 200


# How fast


async def test_a_burst_goes_at_once_a_hundred_wait_the_rest_is_too_fast(tmp_path: Path, shared: Stage) -> None:
    """5/s: five at once, the sixth only 200 ms later; with a hundred in line the next is refused at once."""
    async with staged(tmp_path, shared.broker, backends={"lora": {"commands": {}}}) as stage:
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            body = {**TEN, "timeout": "1h"}
            tasks = [group.create_task(stage.send(DOWNLINK, {**body, "id": n})) for n in range(300)]
        assert (await stage.ask("lora/command/nothing"))["code"] == 404  # all have been read, by now
        assert await stage.bridge.terminate() == 0
        turns = 5 + 5 * (time.monotonic() - began)  # as many as may have gone, however long it took
        finals = [await task.result().final() for task in tasks]
        codes = [final["code"] for final in finals]
        gone = codes.count(200) + codes.count(408)  # one may have been under way at the end
        assert 5 <= gone <= turns
        assert codes.count(408) <= 1
        assert gone == len(stage.sim.commands)
        assert 105 <= 300 - codes.count(429) <= 100 + turns
        assert set(codes[:gone]) <= {200, 408}
        assert codes[gone:105] == [503] * (105 - gone)  # they waited until the end
        assert set(codes[105:]) <= {200, 408, 429, 503}
        refused = next(final for final in finals if final["code"] == 429)
        assert (refused["status"], refused["error"]["kind"]) == ("rejected", "too_fast")
        stage.judge()


async def test_the_line_keeps_its_order(stage: Stage) -> None:
    before = len(stage.sim.commands)
    topic = f"slow/{CLASS_A}/command/downlink"
    asked = [await stage.send(topic, {**TEN, "reference": f"line-{n}"}) for n in range(8)]
    for one in asked:
        assert await one.story() == list(SENT)
    assert [command.reference for command in stage.sim.commands[before:]] == [f"line-{n}" for n in range(8)]


# Commands to the bridge


async def test_ping_and_health(stage: Stage) -> None:
    pong = await stage.ask("bridge/command/ping")
    assert (pong["status"], pong["code"]) == ("succeeded", 200)
    birth = json.loads((await stage.ear.wait_topic(f"{stage.base}/bridge/state")).payload)
    assert pong["data"]["session"] == birth["session"]
    assert pong["data"]["version"] == birth["version"]
    health = (await stage.ask("bridge/command/health"))["data"]
    assert set(health["backends"]) == {"lora", "slow", "guarded", "sleeper", "closed", "disabled", "refused"}
    lora = health["backends"]["lora"]
    assert lora["state"] == "online"
    dropped = sum(lora["events_dropped"].values())
    received = lora["events_received"] + lora["events_recovered"]
    assert received == lora["events_published"] + dropped + lora["outbox_events"]
    assert received > 0


async def test_log_level(stage: Stage) -> None:
    assert (await stage.ask("bridge/command/log_level", {"level": "debug"}))["data"] == {"level": "debug"}
    assert (await stage.ask("bridge/command/log_level", {"level": "info"}))["data"] == {"level": "info"}
    for body, field_ in (({"level": "loud"}, "level"), ({}, "level"), ({"level": 3}, "level"), ({"lvl": 1}, "lvl")):
        final = await stage.ask("bridge/command/log_level", body)
        assert final["code"] == 400
        if field_ == "level":
            assert final["error"]["field"] == "level"
    final = await stage.ask("bridge/command/log_level", {"level": "loud"})
    assert "loud" in final["error"]["message"]


async def test_reload_by_command(stage: Stage) -> None:
    final = await stage.ask("bridge/command/reload")
    assert (final["code"], final["data"]) == (200, {"changed": [], "added": [], "removed": []})
    good = stage.bridge.config_file.read_text()
    try:
        stage.bridge.config_file.write_text(good.replace("type: resiot", "type: resiot\n    colour: red", 1))
        final = await stage.ask("bridge/command/reload")
        assert (final["status"], final["code"]) == ("rejected", 400)
        assert "colour" in final["error"]["message"]
    finally:
        stage.bridge.config_file.write_text(good)
    await stage.settled()


# Metrics


async def test_commands_are_counted_by_their_end(stage: Stage) -> None:
    before = await stage.bridge.scrape()
    names = {
        ("downlink", "sent"): (DOWNLINK, TEN),
        ("downlink", "succeeded"): (f"lora/{CLASS_C}/command/downlink", CONFIRMED),
        ("downlink", "failed"): (f"lora/{NOBODY}/command/downlink", TEN),
        ("downlink", "expired"): (DOWNLINK, {**TEN, "timeout": "0s"}),
        ("downlink", "rejected"): (DOWNLINK, {}),
        ("resume", "succeeded"): ("lora/command/resume", {}),
        ("other", "rejected"): ("lora/command/mischief", {}),
    }
    for topic, body in names.values():
        await stage.ask(topic, body)
    stage.sim.faults = SILENT
    await stage.ask(DOWNLINK, BRIEF)
    after = await stage.bridge.scrape()

    def grown(command: str, outcome: str) -> float:
        labels = {"backend": "lora", "command": command, "outcome": outcome}
        return after.of("ws2mqtt_commands_total", **labels) - before.of("ws2mqtt_commands_total", **labels)

    assert {key: grown(*key) for key in names} == dict.fromkeys(names, 1.0)
    assert grown("downlink", "unknown") == 1
    assert not any(dict(labels).get("command") == "mischief" for _, labels in after)
    count = "ws2mqtt_command_duration_seconds_count"
    total = "ws2mqtt_command_duration_seconds_sum"
    assert after.of(count, backend="lora") - before.of(count, backend="lora") == 8
    assert after.of(total, backend="lora") - before.of(total, backend="lora") >= 0.15
    assert before.of("ws2mqtt_commands_total", backend="bridge", command="ping", outcome="succeeded") >= 0


# With a bridge of their own


async def test_10_000_at_once(tmp_path: Path, shared: Stage) -> None:
    """Each gets one final response, and the bridge stays well; as many again make it no larger."""
    async with staged(tmp_path, shared.broker, backends={"lora": {"commands": {}}}) as stage:
        began = time.monotonic()
        first = await burst(stage, 10_000)
        took = time.monotonic() - began
        assert 5 <= len(stage.sim.commands) <= 5 + 5 * took
        assert len(stage.sim.commands) == first.count(200) + first.count(408)
        assert first.count(429) >= 10_000 - 105 * (1 + took)  # whoever waits makes room after a second
        size = memory(stage.bridge.pid)
        await burst(stage, 10_000)
        assert memory(stage.bridge.pid) - size < 10 * 2**20
        assert (await stage.ask("bridge/command/ping"))["code"] == 200
        scrape = await stage.bridge.wait_scrape(lambda s: bool(s))
        assert scrape.total("ws2mqtt_commands_total", backend="lora") == 20_000
        await stage.settled()


async def burst(stage: Stage, count: int) -> list[int]:
    """So many downlinks as fast as they can be written; the codes of their final responses."""
    since, tag = len(stage.ear.messages), secrets.token_hex(2)
    finals: list[Answer] = []
    answers = f"{stage.base}/lora/{CLASS_A}/response/downlink"

    def all_heard(message: Message) -> bool:
        if message.topic == answers and (told := json.loads(message.payload))["final"]:
            finals.append(told)
        return len(finals) == count

    for n in range(count):
        body = {**TEN, "id": n, "timeout": "1s", "idempotency_key": f"{tag}{n}", "connector": "x" * 400}
        await stage.ear.publish(f"{stage.base}/{DOWNLINK}", body, qos=0)
    await stage.ear.wait_for(all_heard, since=since)
    assert sorted(final["id"] for final in finals) == list(range(count))
    assert {final["code"] for final in finals} <= {200, 408, 410, 429}
    return [final["code"] for final in finals]


def memory(pid: int) -> int:
    """Bytes of a process that are in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(found.split()[1]) * 1024


async def test_commands_and_pauses_in_one_stream(tmp_path: Path, shared: Stage) -> None:
    """A pause in the middle of many: each still gets its one final response."""
    async with staged(tmp_path, shared.broker) as stage:
        for _ in range(8):
            async with asyncio.TaskGroup() as group:
                for n in range(40):
                    group.create_task(stage.send(DOWNLINK, {**TEN, "timeout": "1s"}))
                    if n == 20:
                        group.create_task(stage.send("lora/command/pause"))
            since = len(stage.ear.messages)
            assert (await stage.ask("lora/command/resume"))["code"] == 200
            await stage.state("lora", "online", since=since)
        for asked in stage.asked:
            await asked.final()
        stage.judge()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_what_was_sent_while_the_bridge_was_away_is_never_carried_out(
    tmp_path: Path, shared: Stage, version: Literal["5", "3.1.1"]
) -> None:
    """Also what was retained meanwhile: MQTT 5 keeps it away, on 3.1.1 it is refused."""
    retained = DOWNLINK.replace("0a0b0c/", "0a0b0d/")
    async with staged(tmp_path, shared.broker, mqtt={"version": version}) as stage:
        assert await stage.bridge.terminate() == 0
        for qos in (0, 1):
            await stage.ear.publish(f"{stage.base}/{DOWNLINK}", {"id": "away", **TEN}, qos=qos)
        await stage.ear.publish(f"{stage.base}/{retained}", {"id": "kept", **TEN}, retain=True)
        since = len(stage.ear.messages)
        await stage.bridge.start()
        await stage.state("lora", "online", since=since)
        if version == "3.1.1":
            answer = await stage.ear.wait_topic(f"{stage.base}/{retained.replace('command', 'response')}", since=since)
            told = json.loads(answer.payload)
            assert (told["id"], told["code"], told["error"]["kind"]) == ("kept", 400, "retained")
        await stage.ear.publish(f"{stage.base}/{DOWNLINK}", {"id": "here", **TEN})
        await stage.ear.wait_for(lambda m: b'"sent"' in m.payload, since=since)
        responses = [m for m in stage.ear.messages[since:] if "/response/" in m.topic]
        assert {json.loads(m.payload)["id"] for m in responses} == {"here", *["kept"] * (version == "3.1.1")}
        assert len(stage.sim.commands) == 1
        await stage.ear.publish(f"{stage.base}/{retained}", b"", retain=True)


async def test_mqtt_3_1_1_answers_on_the_plain_topic(tmp_path: Path, shared: Stage) -> None:
    base = f"test-{secrets.token_hex(6)}"
    ear = Ear(shared.broker.url(), f"{base}/#", version="3.1.1")
    async with staged(tmp_path, shared.broker, mqtt={"version": "3.1.1"}, ear=ear, base=base):
        since = len(ear.messages)
        await ear.publish(f"{base}/{DOWNLINK}", {"id": 1, **TEN})
        heard = await ear.wait_count(2, f"{base}/lora/{CLASS_A}/response/downlink", since=since)
        assert [json.loads(m.payload)["status"] for m in heard] == ["accepted", "sent"]
        await ear.publish(f"{base}/lora/command/nothing", {"id": 2})
        heard = await ear.wait_count(1, f"{base}/lora/response/nothing", since=since)
        assert json.loads(heard[0].payload)["code"] == 404


async def test_the_broker_is_lost_between_accepted_and_final(tmp_path: Path) -> None:
    """The final response waits for the broker, and comes once."""
    folders = [tmp_path / name for name in ("broker", "bridge")]
    for folder in folders:
        folder.mkdir()
    base = f"test-{secrets.token_hex(6)}"
    async with Mosquitto(folders[0], persistence=True) as broker:
        ear = Ear(broker.url(), f"{base}/lora/+/+/+/+/response/+", f"{base}/+/state", reconnect=True, durable=True)
        async with staged(folders[1], broker, ear=ear, base=base) as stage:
            stage.sim.faults = SILENT
            asked = await stage.send(DOWNLINK, {"id": "kept", **TEN})
            await asked.said("accepted")
            await stage.platform_asked(1)
            await broker.stop()
            since = len(stage.bridge.lines)
            await says(stage, Result="Success", Reference=stage.sim.commands[0].reference)
            await stage.bridge.wait_scrape(
                lambda s: s.of("ws2mqtt_commands_total", backend="lora", command="downlink", outcome="sent") == 1
            )
            await broker.start()
            assert (await asked.final())["status"] == "sent"
            await stage.bridge.wait_log(lambda line: line.message == "mqtt connected", since=since)
            await stage.settled()
            stage.judge()


async def test_sigterm_with_commands_under_way(tmp_path: Path, shared: Stage) -> None:
    """Each is answered, in whatever stage it was, before the bridge says offline."""
    slow = {"commands": {"rate": "1/m"}}
    async with staged(tmp_path, shared.broker, backends={"lora": {}, "slow": slow}) as stage:
        await stage.state("slow", "online")
        confirmed = await stage.send(DOWNLINK, CONFIRMED)
        await confirmed.said("sent")
        stage.sim.faults = SILENT
        flying = await stage.send(DOWNLINK, {**TEN, "idempotency_key": "k"})
        in_line = await stage.send(DOWNLINK, TEN)
        await in_line.said("accepted")
        first = await stage.send(f"slow/{CLASS_A}/command/downlink", TEN)
        await first.said("accepted")
        by_rate = await stage.send(f"slow/{CLASS_A}/command/downlink", {**TEN, "timeout": "1h"})
        final = await stage.ask("slow/command/nothing")  # it has been read, by now
        assert final["code"] == 404
        assert await stage.bridge.terminate() == 0
        offline = await stage.ear.wait_topic(f"{stage.base}/bridge/state", lambda m: b'"offline"' in m.payload)
        assert await confirmed.story() == [*WAITING, ("unknown", 408)]
        assert await flying.story() == list(UNKNOWN)
        assert await in_line.story() == [("accepted", 202), ("rejected", 503)]
        assert await first.story() == list(UNKNOWN)
        assert await by_rate.story() == [("rejected", 503)]
        stage.judge()
        last = max(stage.ear.messages.index(asked.messages[-1]) for asked in stage.asked)
        assert last < stage.ear.messages.index(offline)


async def test_a_response_topic_with_wildcards_is_refused(tmp_path: Path) -> None:
    """A broker may let it through, though the standard forbids it."""
    async with ScriptedBroker() as broker, ResiotSimulator(QUIET) as sim:
        config = {
            "mqtt": {"url": broker.url, "base_topic": "b"},
            "backends": {"lora": {"type": "resiot", "url": sim.url}},
        }
        async with BridgeProcess(config, tmp_path):
            await broker.wait_publishes(1, "b/lora/state", client_id="ws2mqtt-lora")
            topic = f"b/{DOWNLINK}"
            await broker.wait_subscribed(topic)
            await sim.connected()
            for wrong in ("a/+/b", "a/#", "#"):
                since = len(broker.got)
                told = {"response_topic": wrong, "correlation_data": b"c"}
                broker.publish(topic, json.dumps({"id": 1, **TEN}).encode(), qos=1, properties=told)
                plain = f"b/lora/{CLASS_A}/response/downlink"
                [answer] = await broker.wait_publishes(1, plain, since=since)
                body = json.loads(answer.payload)
                assert (body["code"], body["error"]["kind"], body["id"]) == (400, "invalid_response_topic", 1)
                assert answer.properties["correlation_data"] == b"c"
            # an expiry that the broker has used up: 410
            since = len(broker.got)
            broker.publish(topic, json.dumps(TEN).encode(), qos=1, properties={"message_expiry_interval": 0})
            [answer] = await broker.wait_publishes(1, plain, since=since)
            assert json.loads(answer.payload)["code"] == 410
            assert sim.commands == []
            # subscribed so that neither own events nor what is retained are heard
            connection = broker.connection("ws2mqtt-lora")
            assert connection.connect.clean
            assert not connection.connect.properties.get("session_expiry_interval", 0)
            for one in connection.subscriptions.values():
                assert (one.qos, one.retain_as_published, one.retain_handling) == (1, True, 2)
                for own in ("b/lora/state", f"b/lora/{CLASS_A}/event/up", f"b/lora/{CLASS_A}/response/downlink"):
                    assert not matches(one.filter, own)


async def test_a_reload_does_not_give_a_reference_a_second_time(tmp_path: Path, shared: Stage) -> None:
    """Feedback of a downlink from before the reload would be taken for that of a new one."""
    async with staged(tmp_path, shared.broker) as stage:
        assert (await stage.ask(DOWNLINK, TEN))["code"] == 200
        config = stage.bridge.config_file.read_text()
        stage.bridge.config_file.write_text(config.replace("type: resiot", "type: resiot\n    gateway_timeout: 7m"))
        since = len(stage.ear.messages)
        final = await stage.ask("bridge/command/reload")
        assert final["data"]["changed"] == ["lora"]
        await stage.state("lora", "online", since=since)
        assert (await stage.ask(DOWNLINK, TEN))["code"] == 200
        references = [command.reference for command in stage.sim.commands]
        assert len(set(references)) == 2
