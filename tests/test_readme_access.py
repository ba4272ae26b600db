"""The README's access rules for Mosquitto: the bridge does all its work under them, others no more than they should."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from bridge.commands import filters
from tests.support.ear import Ear
from tests.support.mosquitto import Mosquitto
from tests.support.readme import readme
from tests.support.show import Show, show

pytestmark = pytest.mark.asyncio(loop_scope="module")

RULES = readme().of("Access rules at the broker", "")[0].splitlines()
ADMIN = ["", "user admin", "topic readwrite #"]  # of the test alone: it asks for everything, and hears everything
USERS = {name: f"{name}-password" for name in ("bridge", "dashboard", "lora-operator", "admin")}
NOT_AUTHORIZED = 0x87
DEVICE = "ws2mqtt/lora/application/70b3d57ed0001122/device/a81758fffe0a0b0c"
DOWNLINK = {"f_port": 10, "payload_hex": "ff01"}
COMMANDS: dict[str, dict[str, Any]] = {
    f"{DEVICE}/command/downlink": DOWNLINK,
    "ws2mqtt/lora/command/reconnect": {},
    "ws2mqtt/port/asset/sea-buoy/Harbour Buoy 1/command/attributes": {"values": {"inspected": True}},
    "ws2mqtt/port/command/resync": {},
    "ws2mqtt/hq/17qz7ab/dev/lon/7/if/Lamp/0/nviValue/command/read": {},
    "ws2mqtt/hq/17qz7ab/dev/lon/6/command/wink": {},
    "ws2mqtt/pbx/command/live": {"path": "coreServers"},
    "ws2mqtt/bridge/command/ping": {},
}


def _login(name: str) -> dict[str, str]:
    return {"username": name, "password": USERS[name]}


def ear(shown: Show, name: str, *filters: str) -> Ear:
    return Ear(shown.broker.url(), *filters, username=name, password=USERS[name])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Show]:
    folder = tmp_path_factory.mktemp("broker")
    lines = ["set_tcp_nodelay true", "log_type all"]
    async with (
        Mosquitto(folder, users=USERS, acl=[*RULES, *ADMIN], lines=lines) as broker,
        show(broker, tmp_path_factory.mktemp("show"), mqtt=_login("bridge"), listener=_login("admin")) as made,
    ):
        yield made


@pytest.mark.parametrize(("topic", "fields"), COMMANDS.items(), ids=COMMANDS)
async def test_the_bridge_takes_and_answers_every_kind_of_command(
    shown: Show, topic: str, fields: dict[str, Any]
) -> None:
    assert await shown.ear.publish(topic, {"id": topic, **fields}) == 0
    answer = await shown.ear.wait_topic(
        topic.replace("/command/", "/response/"), lambda one: json.loads(one.payload)["final"]
    )
    assert json.loads(answer.payload)["code"] == 200


async def test_the_bridge_is_refused_nothing(shown: Show) -> None:
    await shown.ear.wait_topic("ws2mqtt/hq/+/dev/+/+/if/+/+/+/event/value")
    assert not re.findall(r"Denied .* ws2mqtt.*", shown.broker.log), "its client ids begin so"
    assert not [line for line in shown.bridge.lines if "refused" in line.text]


async def test_the_bridge_may_do_nothing_else(shown: Show) -> None:
    async with ear(shown, "bridge", "#") as listening:
        assert await listening.publish("elsewhere", b"1") == NOT_AUTHORIZED
        await shown.ear.publish("elsewhere", b"1")
        await shown.ear.publish("ws2mqtt/bridge/command/ping", {"id": "last"})
        await listening.wait_topic("ws2mqtt/bridge/command/ping", lambda one: b"last" in one.payload)
        assert {one.topic.split("/")[-2] for one in listening.messages} == {"command"}


async def test_the_dashboard_sees_everything_and_may_say_nothing(shown: Show) -> None:
    async with ear(shown, "dashboard", "#") as listening:
        for name in ("lora", "port", "hq", "pbx"):
            await listening.wait_topic(f"ws2mqtt/{name}/state")
        await listening.wait_topic("ws2mqtt/lora/application/+/device/+/event/up")
        for topic in [*COMMANDS, "ws2mqtt/lora/state", "answers/x", "elsewhere"]:
            assert await listening.publish(topic, b"{}") == NOT_AUTHORIZED, topic


async def test_the_operator_commands_the_devices_of_one_backend(shown: Show) -> None:
    own = "answers/lora-operator/1"
    async with ear(shown, "lora-operator", "#") as listening:
        assert await listening.publish(f"{DEVICE}/command/downlink", {"id": "plain", **DOWNLINK}) == 0
        await listening.wait_topic(f"{DEVICE}/response/downlink", lambda one: _final(one.payload, "plain"))
        properties = {"response_topic": own}
        await listening.publish(f"{DEVICE}/command/downlink", {"id": "own", **DOWNLINK}, properties=properties)
        await listening.wait_topic(own, lambda one: _final(one.payload, "own"))


async def test_the_operator_may_do_no_more(shown: Show) -> None:
    async with ear(shown, "lora-operator", "#") as listening:
        for topic in [*COMMANDS, f"{DEVICE}/event/up", "ws2mqtt/lora/state", "answers/lora-operator/1", "elsewhere"]:
            if topic != f"{DEVICE}/command/downlink":
                assert await listening.publish(topic, b"{}") == NOT_AUTHORIZED, topic
        await asyncio.gather(
            *(shown.ear.publish(topic, b"1") for topic in ("answers/other", "elsewhere", "ws2mqtt/hq/event/test")),
        )
        await shown.ear.publish("ws2mqtt/bridge/command/ping", {"id": "mark"})
        await listening.wait_topic("ws2mqtt/bridge/command/ping", lambda one: b"mark" in one.payload)
        heard = {one.topic.split("/")[1] for one in listening.messages if one.topic.startswith("ws2mqtt/")}
        assert heard == {"lora", "bridge"}
        assert all(one.topic.startswith("ws2mqtt/") for one in listening.messages)


async def test_the_rules_for_emqx_name_every_subscription() -> None:
    """There a subscription is refused where no rule has its form."""
    rules = readme().of("Access rules at the broker", "erlang")[0]
    told = re.findall(r'"(.+?)"', rules.split('{username, "bridge"}, subscribe,')[1].split("}.")[0])
    assert told == [one.replace("/lora/", "/+/") for one in filters("ws2mqtt/lora")]


def _final(payload: bytes, identity: str) -> bool:
    told = json.loads(payload)
    return told["final"] is True and told["id"] == identity and told["code"] == 200
