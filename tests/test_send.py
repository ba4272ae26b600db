"""`ws2mqtt send` against a real broker, the running bridge and a simulated ResIOT."""

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from bridge.cli import main
from bridge.simulators.resiot import Faults, ResiotSimOptions, ResiotSimulator
from tests.support import PATIENCE_S, free_port
from tests.support.ear import Ear
from tests.support.mosquitto import Mosquitto
from tests.support.process import BridgeProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLASS_A = "application/70b3d57ed0001122/device/a81758fffe0a0b0c"
CLASS_C = "application/70b3d57ed0003344/device/a81758fffe0a0b0f"
NOBODY = "application/70b3d57ed0001122/device/00000000000000aa"
TEN = '{"f_port":10,"payload_hex":"ff01"}'


@dataclass
class Sent:
    """How a send ended: its exit code, and the lines it wrote."""

    code: int
    out: list[str]
    err: list[str]

    @property
    def error(self) -> str:
        return "\n".join(self.err)


@dataclass
class House:
    """A bridge between broker and simulator; `url` is the broker's, with credentials where it asks for them."""

    base: str
    broker: Mosquitto
    sim: ResiotSimulator
    ear: Ear
    url: str

    def downlink(self, subject: str = CLASS_A) -> str:
        return f"{self.base}/lora/{subject}/command/downlink"

    def broker_is(self) -> tuple[str, ...]:
        return ("--mqtt-url", self.url, "--base-topic", self.base)


@asynccontextmanager
async def housed(
    folder: Path, broker: Mosquitto, *, username: str | None = None, password: str | None = None
) -> AsyncIterator[House]:
    base = f"test-{secrets.token_hex(6)}"
    async with ResiotSimulator(ResiotSimOptions(rate=0)) as sim, AsyncExitStack() as stack:
        mqtt: dict[str, Any] = {"url": broker.url(), "base_topic": base, "client_id": base}
        who = {key: value for key, value in (("username", username), ("password", password)) if value}
        lora = {"type": "resiot", "url": sim.url, "commands": {"rate": "1000/s"}}
        ear = await stack.enter_async_context(Ear(broker.url(), f"{base}/#", **who))  # type: ignore[arg-type]
        bridge = BridgeProcess({"mqtt": {**mqtt, **who}, "backends": {"lora": lora}}, folder)
        await stack.enter_async_context(bridge)
        await ear.wait_topic(f"{base}/lora/state", lambda m: b'"online"' in m.payload)
        await ear.wait_topic(f"{base}/bridge/info")
        yield House(base, broker, sim, ear, broker.url())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with (
        Mosquitto(tmp_path_factory.mktemp("broker"), lines=["set_tcp_nodelay true"]) as broker,
        housed(tmp_path_factory.mktemp("bridge"), broker) as house,
    ):
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def house(shared: House) -> AsyncIterator[House]:
    shared.sim.faults = Faults()
    yield shared
    shared.sim.faults = Faults()


class Sender:
    """Runs `ws2mqtt send` with such arguments, in a thread of this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, *arguments: str, timeout: float = PATIENCE_S) -> Sent:
        self._capsys.readouterr()
        async with asyncio.timeout(timeout):
            code = await asyncio.to_thread(self._main, ["send", *arguments])
        told = self._capsys.readouterr()
        assert "Traceback" not in told.err
        return Sent(code, told.out.splitlines(), told.err.splitlines())

    @staticmethod
    def _main(arguments: list[str]) -> int:
        try:
            return main(arguments)
        except SystemExit as end:
            return int(end.code or 0)


@pytest.fixture
def send(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sender:
    monkeypatch.delenv("WS2MQTT_CONFIG", raising=False)
    return Sender(capsys)


def config(folder: Path, **mqtt: Any) -> str:
    """A configuration file with this broker."""
    path = folder / "ws2mqtt.yaml"
    backends = {"lora": {"type": "resiot", "url": "ws://127.0.0.1:1/"}}
    path.write_text(yaml.safe_dump({"mqtt": mqtt, "backends": backends}))
    return str(path)


# What becomes of a command


@pytest.mark.parametrize(
    ("subject", "body", "code", "lines"),
    [
        (CLASS_A, TEN, 0, ["accepted 202  reference=", "sent 200  reference="]),
        (
            CLASS_C,
            '{"f_port":10,"text":"on","confirmed":true}',
            0,
            ["accepted 202  reference=", "sent 202  reference=", "succeeded 200  reference="],
        ),
        (NOBODY, TEN, 1, ["accepted 202  reference=", "failed 502  refused: simulator: device not found"]),
        (CLASS_A, '{"f_port":300,"text":"a"}', 1, ["rejected 400  invalid_field: f_port: "]),
        (CLASS_A, "{}", 1, ["rejected 400  missing_field: f_port is required"]),
        (CLASS_A, '{"f_port":1,"text":"a","timeout":"0s"}', 1, ["expired 410  expired: "]),
    ],
    ids=["sent", "confirmed", "failed", "rejected", "empty", "expired"],
)
async def test_the_responses_are_shown_and_the_exit_code_tells(
    house: House, send: Sender, subject: str, body: str, code: int, lines: list[str]
) -> None:
    sent = await send(*house.broker_is(), house.downlink(subject), body)
    assert (sent.code, len(sent.out), sent.err) == (code, len(lines), [])
    for line, begin in zip(sent.out, lines, strict=True):
        assert line.startswith(begin)


async def test_json_lines(house: House, send: Sender) -> None:
    sent = await send(*house.broker_is(), "--json", house.downlink(), '{"id":"mine","f_port":10,"text":"a"}')
    told = [json.loads(line) for line in sent.out]
    assert [(one["id"], one["status"], one["code"], one["final"]) for one in told] == [
        ("mine", "accepted", 202, False),
        ("mine", "sent", 200, True),
    ]
    assert sent.code == 0


@pytest.mark.parametrize("identity", ['"a b"', "0", "7", "-1", "1.0", '""'])
async def test_an_id_of_ones_own(house: House, send: Sender, identity: str) -> None:
    sent = await send(*house.broker_is(), "--json", house.downlink(), f'{{"id":{identity},"f_port":10,"text":"a"}}')
    assert sent.code == 0
    assert {json.loads(line)["id"] for line in sent.out} == {json.loads(identity)}


async def test_without_a_body(house: House, send: Sender) -> None:
    sent = await send(*house.broker_is(), f"{house.base}/bridge/command/ping")
    assert sent.code == 0
    assert sent.out[0].startswith("succeeded 200  version=")
    assert (await send(*house.broker_is(), f"{house.base}/lora/command/resume")).out == ["succeeded 200"]
    health = await send(*house.broker_is(), f"{house.base}/bridge/command/health")
    assert '"events_received":' in health.out[0]


async def test_answers_to_others_are_not_ours(house: House, send: Sender) -> None:
    """Somebody else uses the same topic at the same time."""
    house.sim.faults = Faults(no_reply=True)
    since, body = len(house.ear.messages), '{"f_port":10,"text":"a","reference":"mine-1"}'
    mine = asyncio.create_task(send(*house.broker_is(), house.downlink(), body))
    answers = house.downlink().replace("/command/", "/response/")
    await house.ear.wait_topic(answers, since=since)
    for payload in (b"", b"\xff", b"[]", b"{}", b'{"id":"another","final":true,"code":200}'):
        await house.ear.publish(answers, payload)
    await house.sim.say('{"Result":"Fail","Details":"mine","Reference":"mine-1"}')
    done = await mine
    assert (done.code, done.out[-1]) == (1, "failed 502  refused: mine")


async def test_it_waits_no_longer_than_it_was_told(house: House, send: Sender) -> None:
    house.sim.faults = Faults(no_reply=True)
    body = '{"f_port":1,"text":"a","timeout":"1s"}'
    sent = await send(*house.broker_is(), "--timeout", "200ms", house.downlink(), body)
    assert (sent.code, sent.err) == (1, ["no final response within 0.2 s"])
    assert sent.out[0].startswith("accepted 202")
    assert (await send(*house.broker_is(), "--timeout", "0.2", house.downlink(), body)).code == 1
    house.sim.faults = Faults()
    assert (await send(*house.broker_is(), house.downlink(), TEN)).code == 0


# What may have been meant


async def test_a_typo_in_the_command(house: House, send: Sender) -> None:
    sent = await send(*house.broker_is(), f"{house.base}/lora/command/reconect")
    assert sent.code == 1
    assert sent.out == [
        "rejected 404  no_such_command: no command 'reconect'; there are downlink, pause, reconnect, resume"
    ]


async def test_a_typo_in_the_backend(house: House, send: Sender) -> None:
    """The broker says (MQTT 5) that nobody is there; on 3.1.1 it is a matter of time."""
    topic = f"{house.base}/lroa/command/reconnect"
    right = f"{house.base}/lora/command/reconnect"
    async with Ear(house.url, topic):  # a dashboard that hears everything
        sent = await send(*house.broker_is(), "--timeout", "200ms", topic)
    assert (sent.code, sent.err) == (1, [f"no final response within 0.2 s; did you mean {right}?"])


async def test_a_typo_where_nobody_listens(tmp_path: Path, send: Sender, house: House) -> None:
    async with Mosquitto(tmp_path) as quiet:
        await keep(quiet, "w/bridge/info", info(lora=["reconnect"]))
        told = ("--mqtt-url", quiet.url(), "--base-topic", "w", "w/lroa/command/reconnect")
        sent = await send(*told)  # not the 15 s it would wait for an answer
        assert sent.code == 1
        assert sent.err == [
            "ws2mqtt: nobody is subscribed to w/lroa/command/reconnect; did you mean w/lora/command/reconnect?"
        ]


def info(**backends: list[str]) -> dict[str, Any]:
    """As a bridge announces itself."""
    told = {name: {"type": "resiot", "commands": commands, "subjects": {}} for name, commands in backends.items()}
    return {"version": "0.1.0", "session": "1709622990101", "commands": ["ping"], "backends": told}


async def keep(broker: Mosquitto, topic: str, payload: Mapping[str, Any]) -> None:
    async with Ear(broker.url(), topic) as ear:
        await ear.publish(topic, payload, retain=True)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("lora/reconnect", "lora/command/reconnect"),
        ("bridge/ping", "bridge/command/ping"),
        (f"lora/{CLASS_A}/downlink", "lora/application/+/device/+/command/downlink"),
        ("lora/comand/pause", "lora/command/pause"),
    ],
)
async def test_a_topic_without_its_command_level(house: House, send: Sender, wrong: str, meant: str) -> None:
    sent = await send(*house.broker_is(), f"{house.base}/{wrong}", "{}")
    assert sent.code == 2
    assert sent.err == [
        f"ws2mqtt send: {house.base}/{wrong} is not a command topic; did you mean {house.base}/{meant}?"
    ]


async def test_a_topic_that_is_like_nothing(house: House, send: Sender) -> None:
    sent = await send(*house.broker_is(), "x")
    assert sent.code == 2
    assert f"x is not a command topic; there are {house.base}/bridge/command/ping, " in sent.error
    for topic in ("command/x", "/command", "command", ""):
        assert (await send(*house.broker_is(), topic)).code == 2


async def test_no_bridge_there(house: House, send: Sender) -> None:
    topic = "nowhere/lora/command/reconnect"
    sent = await send("--mqtt-url", house.url, "--base-topic", "nowhere", "--timeout", "200ms", topic)
    assert sent.code == 1
    assert "no bridge has announced itself below nowhere/" in sent.error


# Usage


@pytest.mark.parametrize(
    "body",
    ["on", "[1]", "7", "null", '{"a":', "{'a':1}", '{"id":[1]}', '{"id":true}', '{"id":null}', '{"id":1.5}', "\udcff"],
)
async def test_a_body_that_cannot_be_a_command(house: House, send: Sender, body: str) -> None:
    since = len(house.ear.messages)
    sent = await send(*house.broker_is(), house.downlink(), body)
    assert (sent.code, sent.out) == (2, [])
    assert sent.error.startswith("ws2mqtt send: ")
    await send(*house.broker_is(), f"{house.base}/bridge/command/ping")
    assert [m.topic for m in house.ear.messages[since:] if m.topic == house.downlink()] == []


async def test_a_body_that_is_too_large(house: House, send: Sender) -> None:
    sent = await send(*house.broker_is(), house.downlink(), '{"text":"' + "x" * 257 * 1024 + '"}')
    assert sent.code == 2
    assert "at most 262144" in sent.error


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--timeout", "soon", "a/command/b"),
        ("a/command/b", "{}", "{}"),
        ("--nothing", "a/command/b"),
        ("a/+/command/b",),
        ("a/#/command/b",),
        ("a\0/command/b",),
        ("\udcff/command/b",),
    ],
    ids=repr,
)
async def test_wrong_usage(send: Sender, arguments: tuple[str, ...]) -> None:
    assert (await send(*arguments)).code == 2


# Which broker


async def test_a_broker_that_is_not_there(send: Sender) -> None:
    sent = await send("--mqtt-url", f"mqtt://127.0.0.1:{free_port()}", "a/command/b")
    assert (sent.code, sent.out, len(sent.err)) == (1, [], 1)
    assert sent.error.startswith("ws2mqtt: ")
    assert "refused" in sent.error.lower()


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:1883", "mqtt://", "mqtt://h:99999"])
async def test_a_broker_that_cannot_be(send: Sender, url: str) -> None:
    sent = await send("--mqtt-url", url, "a/command/b")
    assert sent.code in (1, 2)
    assert "--mqtt-url" in sent.error


async def test_a_configuration_that_is_not_there(send: Sender, tmp_path: Path) -> None:
    sent = await send("-c", str(tmp_path / "nothing.yaml"), "a/command/b")
    assert sent.code == 78


@pytest.mark.parametrize(("version", "good"), [("5", 0), ("5", 1), ("3.1.1", 1)])
async def test_the_broker_of_a_configuration_file(
    house: House, send: Sender, tmp_path: Path, version: str, good: int
) -> None:
    """Of several the first that takes us."""
    urls = [f"mqtt://127.0.0.1:{free_port()}"] * 2
    urls[good] = house.url
    file = config(tmp_path, url=urls, version=version, base_topic=house.base)
    sent = await send("-c", file, house.downlink(CLASS_C), '{"f_port":1,"text":"a","confirmed":true}')
    assert sent.code == 0
    assert [line.split()[0] for line in sent.out] == ["accepted", "sent", "succeeded"]
    sent = await send("-c", file, "--timeout", "200ms", f"{house.base}/lroa/command/reconnect")
    assert sent.code == 1
    assert f"did you mean {house.base}/lora/command/reconnect?" in sent.error


async def test_the_configuration_of_the_environment(
    house: House, send: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WS2MQTT_CONFIG", config(tmp_path, url=house.url, base_topic=house.base))
    assert (await send(f"{house.base}/bridge/command/ping")).code == 0


async def test_credentials_and_access_rules(tmp_path: Path, send: Sender) -> None:
    """In the URL and in the file; what is wrong with them is said, the password is not."""
    folders = [tmp_path / name for name in ("broker", "bridge", "config")]
    for folder in folders:
        folder.mkdir()
    word = "p@ss/w:rd"
    rules = ["user bridge", "topic readwrite #", "user reader", "topic read #"]
    users = {"bridge": word, "reader": "r"}
    async with (
        Mosquitto(folders[0], users=users, acl=rules) as broker,
        housed(folders[1], broker, username="bridge", password=word) as house,
    ):
        place, ping = broker.url().partition("//")[2], f"{house.base}/bridge/command/ping"
        told = ("--base-topic", house.base, ping)
        assert (await send("--mqtt-url", f"mqtt://bridge:p%40ss%2Fw%3Ard@{place}", *told)).code == 0
        file = config(folders[2], url=broker.url(), username="bridge", password=word, base_topic=house.base)
        assert (await send("-c", file, ping)).code == 0
        for url in (f"mqtt://bridge:wrongone@{place}", f"mqtt://{place}"):
            sent = await send("--mqtt-url", url, *told)
            assert (sent.code, len(sent.err)) == (1, 1)
            assert "the broker refused the connection" in sent.error
            assert "wrongone" not in sent.error
        sent = await send("--mqtt-url", f"mqtt://reader:r@{place}", *told)
        assert sent.code == 1
        assert sent.err == [f"ws2mqtt: the broker does not take what is published to {ping}: check its access rules"]


async def test_the_broker_goes_while_it_waits(tmp_path: Path, send: Sender) -> None:
    async with Mosquitto(tmp_path) as broker:
        async with Ear(broker.url(), "w/#") as ear:
            await ear.publish("w/bridge/info", info(), retain=True)
            waiting = asyncio.create_task(
                send("--mqtt-url", broker.url(), "--base-topic", "w", "w/bridge/command/ping")
            )
            await ear.wait_topic("w/bridge/command/ping")
        await broker.stop()
        sent = await waiting
    assert (sent.code, sent.out, len(sent.err)) == (1, [], 1)
    assert sent.error.startswith("ws2mqtt: the connection ")


# What strangers write


@pytest.mark.parametrize("told", ["[1]", '{"backends":[1]}', '{"commands":7}', '{"backends":{"a":1}}', "\x1b[2J", "["])
async def test_what_is_no_announcement_is_none(tmp_path: Path, send: Sender, told: str) -> None:
    async with Mosquitto(tmp_path) as broker:
        async with Ear(broker.url(), "w/#") as ear:
            await ear.publish("w/bridge/info", told, retain=True)
        sent = await send("--mqtt-url", broker.url(), "--base-topic", "w", "w/bridge/command/ping")
    assert (sent.code, len(sent.err)) == (1, 1)
    assert "no bridge has announced itself below w/" in sent.error


@pytest.mark.parametrize("more", [(), ("--json",)])
async def test_a_response_does_not_steer_the_terminal(tmp_path: Path, send: Sender, more: tuple[str, ...]) -> None:
    evil = {"status": "a\x1b[2J", "code": 502, "final": True, "error": "\x9b2J", "data": {"k\u202e": "\x07"}}
    async with Mosquitto(tmp_path) as broker, Ear(broker.url(), "w/#") as ear:
        waiting = asyncio.create_task(send("--mqtt-url", broker.url(), *more, "--base-topic", "w", "w/a/command/x"))
        asked = Ear.json(await ear.wait_topic("w/a/command/x"))
        await ear.publish("w/a/response/x", {**evil, "id": asked["id"]})
        sent = await waiting
    assert (sent.code, len(sent.out)) == (1, 1)
    assert sent.out[0].isprintable()


# As users run it


async def test_as_a_process(house: House) -> None:
    for body, code, out in ((TEN, 0, b"sent 200"), ("{}", 1, b"rejected 400"), ("[]", 2, b"")):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "send", *house.broker_is(), house.downlink(), body),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={key: value for key, value in os.environ.items() if key != "WS2MQTT_CONFIG"},
        )
        async with asyncio.timeout(PATIENCE_S):
            told, wrong = await child.communicate()
        assert (child.returncode, out in told, b"Traceback" in wrong) == (code, True, False)
