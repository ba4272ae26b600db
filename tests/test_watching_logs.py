"""What the bridge writes: text or JSON, as much as was asked for, no traceback for what is expected, never a secret."""

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pytest

from bridge.options import LogOptions, Secret
from bridge.watch import logs
from bridge.watch.logs import BackendLog, Redactor
from tests.conftest import MosquittoFactory, ScriptedFactory
from tests.support import PATIENCE_S
from tests.support.house import DEVICE, FAST, TOKEN, House, house, up
from tests.support.mosquitto import Mosquitto
from tests.support.process import BridgeProcess

PASSWORD = 'pass/word: of "the" b\\roker'


async def a_short_life(home: House) -> None:
    await home.say(up(1))
    await home.until_uplinks(1)
    assert await home.bridge.terminate() == 0


async def test_text_is_one_plain_line_per_change(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    options = {"arguments": ("--log-format", "text")}
    async with house(mosquitto, tmp_path, base, bridge=options) as home:
        await a_short_life(home)
        lines = [one.text for one in home.bridge.lines]
        assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} (info|warning) ", line) for line in lines)
        assert any(re.search(r" info \[lora\] connected ", line) for line in lines)
        assert " info started version=" in lines[0]
        assert lines[-1].endswith(" info stopped")
        assert "\x1b" not in home.bridge.log
        assert len(lines) < 16, "a line per change of state, none per message"
        assert {one.stream for one in home.bridge.lines} == {"stderr"}


async def test_json_has_the_same_in_fields(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base) as home:
        await a_short_life(home)
        for line in home.bridge.lines:
            assert {"time", "level", "message"} <= set(line.fields)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.fields["time"])
        started = home.bridge.lines[0].fields
        assert (started["message"], started["backends"]) == ("started", "lora")
        assert home.bridge.lines[1].fields["base_topic"] == base
        connected = next(one for one in home.bridge.lines if one.message == "connected")
        assert connected.fields["backend"] == "lora"


@pytest.mark.parametrize("level", ["error", "debug"])
async def test_the_level_of_the_command_line_wins(mosquitto: Mosquitto, base: str, tmp_path: Path, level: str) -> None:
    options = {"arguments": ("--log-level", level)}
    async with house(mosquitto, tmp_path, base, bridge=options, log={"level": "warning"}) as home:
        await a_short_life(home)
        assert bool(home.bridge.lines) is (level == "debug")


async def test_the_level_is_changed_by_a_command(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base, log={"level": "error"}) as home:
        assert not home.bridge.lines
        answer = await home.command("bridge/log_level", {"level": "info"})
        assert (answer["status"], answer["code"], answer["data"]) == ("succeeded", 200, {"level": "info"})
        await home.platform.drop()
        await home.bridge.wait_log(lambda one: one.message == "gap")
        assert (await home.command("bridge/log_level", {"level": "loud"}))["code"] == 400


# Secrets


def _everywhere(home: House) -> Iterator[tuple[str, str]]:
    for line in home.bridge.lines:
        yield "a log line", line.text
    for message in home.ear.messages:
        yield "a topic", message.topic
        yield message.topic, message.payload.decode("utf-8", "replace")


@pytest.mark.parametrize("style", ["json", "text"])
async def test_no_secret_leaves_the_bridge(
    broker: MosquittoFactory, base: str, tmp_path: Path, free_port: Any, style: str
) -> None:
    there = await broker(users={"bridge": PASSWORD})
    user: dict[str, Any] = {"username": "bridge", "password": PASSWORD}
    token = "s3cr3t token/+äö"
    query = f"?type=node&token={quote(token, safe='')}"
    backends = {
        "nowhere": {"url": f"ws://127.0.0.1:{free_port()}/{query}"},
        "nohost": {"url": f"wss://no-such-host.invalid/{query}"},
        "proxied": {"url": f"ws://a.example/{query}", "proxy": f"http://me:{token[:6]}@127.0.0.1:{free_port()}"},
    }
    async with house(
        there, tmp_path, base, mqtt=user, ear=user, online=False,
        backends={name: {"type": "resiot", **one} for name, one in backends.items()},
        bridge={"arguments": ("--log-format", style, "--log-level", "debug")},
    ) as home:  # fmt: skip
        await home.state("online")
        for name in ("nowhere", "nohost", "proxied"):
            await home.told(f"{name}/state", lambda one: one["error"] is not None)
        for path in ("downlink", "reconnect"):
            await home.command(f"lora/{path}")
        await home.bridge.wait_http("/readyz")
        pages = [(path, (await home.bridge.get(path)).text) for path in ("/", "/metrics", "/readyz", "/nothing")]
        broken = {**home.config, "mqtt": {**home.config["mqtt"], "passwort": PASSWORD, "keepalive": PASSWORD}}
        home.bridge.configure(broken)
        refused = await home.command("bridge/reload")
        assert refused["code"] == 400
        assert await home.bridge.terminate() == 0
        secrets = {TOKEN, PASSWORD, token, quote(token), quote(token, safe=""), json.dumps(PASSWORD)[1:-1]}
        for where, text in (*_everywhere(home), *pages):
            for secret in secrets:
                assert secret not in text, f"{where} tells {secret}"
        assert "Traceback" not in home.bridge.log


def test_a_secret_is_found_in_every_writing() -> None:
    url = Secret("wss://user:pass%2Fword@h.example/path/?type=node&token=abc%2Fdef%2B1&x=ab")
    redact = Redactor([url, Secret('quo"te\\d'), Secret("abc")])
    for text in (url.reveal(), "abc%2Fdef%2B1", "abc/def+1", "pass%2Fword", "pass/word", 'quo"te\\d'):
        assert redact(f"<{text}>") == "<***>", text
    assert redact("abc ab node") == "abc ab node", "too short to be taken out of every line"


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_line_has_no_secret_in_any_place(style: Literal["text", "json"]) -> None:
    secret, stream = 'quo"te\\d', io.StringIO()
    logs.set_up(LogOptions("info", style), Redactor([Secret(secret)]), stream)
    try:
        try:
            raise ValueError(f"bad {secret}")
        except ValueError:
            more = {"reason": f"it said {secret}", "list": [secret], "map": {"a": secret}, "number": 7}
            BackendLog("lora").exception(f"lost {secret}", extra=more)
    finally:
        logging.getLogger().handlers.clear()
    told = stream.getvalue()
    assert "quo" not in told
    assert "Traceback" in told
    if style == "json":
        line = json.loads(told)
        assert (line["message"], line["reason"], line["list"], line["number"]) == (
            "lost ***",
            "it said ***",
            ["***"],
            7,
        )
        assert line["traceback"].endswith("ValueError: bad ***")
    else:
        assert told.startswith(told[:12] + " error [lora] lost *** ")
        assert told.endswith("ValueError: bad ***\n")


def test_a_password_that_is_like_an_address_but_none() -> None:
    assert Redactor([Secret("ab://[word")])("it said ab://[word") == "it said ***"


@pytest.mark.parametrize("style", ["text", "json"])
def test_what_others_said_does_not_steer_the_terminal(style: Literal["text", "json"]) -> None:
    stream, said = io.StringIO(), "a\x1b[2J\x9b2J\u202eb\x07\ud800 \U000e0001c"
    logs.set_up(LogOptions("info", style), Redactor(), stream)
    try:
        BackendLog("lora").warning(f"lost {said}", extra={"reason": said, "short": "\x9b"})
    finally:
        logging.getLogger().handlers.clear()
    line = stream.getvalue().removesuffix("\n")
    assert line.isprintable()
    if style == "json":
        assert json.loads(line)["reason"] == said, "and programs read the same as ever"


# What is expected leaves no traceback


async def test_expected_failures_are_told_in_words(
    broker: MosquittoFactory, base: str, tmp_path: Path, free_port: Any
) -> None:
    there = await broker()
    backends = {
        "dead": {"type": "resiot", "url": f"ws://127.0.0.1:{free_port()}/", "reconnect": FAST},
        "html": {"type": "resiot", "url": f"ws://127.0.0.1:{there.port}/", "reconnect": FAST},
    }
    async with house(there, tmp_path, base, backends=backends, ear={"reconnect": True}) as home:
        wrong = home.platform.url.replace(TOKEN, "wrong")
        home.reconfigure(backends={**home.config["backends"], "wrong": {"type": "resiot", "url": wrong}})
        home.bridge.hup()
        told = await home.state("auth_failed", "wrong")
        assert "401" in told["error"]
        assert told["next_retry"] is not None
        told = await home.told("dead/state", lambda one: one["attempt"] >= 2)
        assert told["state"] in ("offline", "connecting")
        await home.told("html/state", lambda one: one["error"] is not None)
        await home.say("{", up(1))
        await home.until_uplinks(1)
        await home.platform.drop()
        await home.heard("lora/event/gap")
        await there.restart()
        await home.ear.wait_connected(2)
        await home.say(up(2))
        await home.ear.wait_topic(f"{base}/lora/{DEVICE}/event/up", lambda one: b'"f_cnt":2' in one.payload)
        await home.command("lora/nonsense")
        assert await home.bridge.terminate() == 0
        assert "Traceback" not in home.bridge.log
        assert not [one for one in home.bridge.lines if one.fields.get("level") == "error"]
        assert "never retrieved" not in home.bridge.log


async def test_a_broker_that_resets_the_connection_is_told_in_our_words_alone(
    scripted: ScriptedFactory, base: str, tmp_path: Path
) -> None:
    there = await scripted()
    backends = {"lora": {"type": "resiot", "url": "ws://127.0.0.1:1/"}}
    config = {"mqtt": {"url": there.url, "base_topic": base, "client_id": base, "reconnect": FAST}}
    async with BridgeProcess({**config, "backends": backends}, tmp_path) as bridge:
        await there.wait_publishes(1, f"{base}/lora/state")
        there.connection(base).cut()
        told = await bridge.wait_log(lambda one: one.message == "mqtt lost")
        assert (told.fields["level"], told.fields["reason"]) == ("warning", "the connection broke")
        await there.wait_connected(base, count=2)
        assert await bridge.terminate() == 0
        assert [one for one in bridge.lines if "socket" in one.text or one.fields["level"] == "error"] == []


async def test_a_wrong_password_of_the_broker_is_told_in_words(
    broker: MosquittoFactory, base: str, tmp_path: Path
) -> None:
    there = await broker(users={"bridge": "right-one", "ear": "ear-ear"})
    async with house(
        there, tmp_path, base, mqtt={"username": "bridge", "password": "wrong-one"}, online=False,
        ear={"username": "ear", "password": "ear-ear"},
    ) as home:  # fmt: skip
        line = await home.bridge.wait_log(lambda one: one.message == "mqtt not connected")
        assert "check mqtt.username and mqtt.password" in line.fields["reason"]
        await asyncio.wait_for(home.platform.connected(), PATIENCE_S)  # a backend connects to its platform all the same
        scrape = await home.bridge.wait_scrape(
            lambda one: one.of("ws2mqtt_mqtt_connects_total", backend="bridge", outcome="refused") > 0
        )
        assert scrape.of("ws2mqtt_mqtt_connected", backend="bridge") == 0
        assert "Traceback" not in home.bridge.log
        assert "wrong-one" not in home.bridge.log
