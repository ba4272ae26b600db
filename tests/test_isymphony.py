"""iSymphony from end to end: a simulated call centre, the bridge as a process, a real broker.

One bridge for each MQTT version; what a test looks at begins at its own mark.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.house import VERSIONS, balanced
from tests.support.isymphony import ACTIONS, Centre, centre
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.asyncio(loop_scope="module")

USERS = "coreServers/getByName/default/users"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=VERSIONS)
async def pbx(
    request: pytest.FixtureRequest, mosquitto: Mosquitto, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Centre]:
    folder = tmp_path_factory.mktemp("pbx")
    base = f"{folder.name}/{request.param}"
    async with centre(mosquitto, folder, base, version=request.param, simulator={"order": "shuffled"}) as made:
        yield made


# Events


async def test_a_login_is_an_event_with_the_vendors_fields_and_a_state(pbx: Centre) -> None:
    await pbx.user("anna", "out")  # read at the start
    mark, anna = pbx.mark, pbx.platform.world.user("anna")
    pbx.platform.tell(*pbx.platform.world.login(anna, "192.0.2.77"))
    told = await pbx.event("user/anna/userLogin", mark)
    assert (told["type"], told["subject"], told["source"]) == (
        "isymphony.userLogin",
        "user/anna",
        f"/{pbx.home.base}/pbx",
    )
    data = told["data"]
    assert set(data) == {
        "type", "time", "coreServerId", "userId", "username", "userLoginId", "ip", "port",
    }  # fmt: skip
    assert (data["type"], data["ip"], data["userId"], data["username"]) == ("userLogin", "192.0.2.77", anna.id, "anna")
    assert told["time"].endswith(f"{data['time'] % 1000:03d}000Z")
    state = await pbx.user("anna", "in", mark)
    assert state == {"presence": "in", "logins": 1, "time": told["time"]}
    mark = pbx.mark
    pbx.platform.tell(*pbx.platform.world.login(anna), *pbx.platform.world.logout(anna))
    pbx.platform.tell(*pbx.platform.world.logout(anna))
    assert (await pbx.user("anna", "out", mark))["logins"] == 0


async def test_a_call_from_ringing_to_its_end(pbx: Centre) -> None:
    world, mark = pbx.platform.world, pbx.mark
    anna, ben, frank = (world.user(name) for name in ("anna", "ben", "frank"))
    call, events = world.ring(anna, ben)
    pbx.platform.tell(*events, *world.answer(call), *world.transfer(call, frank), *world.hang_up(call))
    await pbx.event("user/frank/hangup", mark)
    both = [f"user/{name} isymphony.{kind}" for kind in ("dial", "linkStart", "linkEnd") for name in ("anna", "ben")]
    after = [f"user/{name} isymphony.{kind}" for kind in ("dial", "linkStart") for name in ("anna", "frank")]
    ended = [f"user/{name} isymphony.linkEnd" for name in ("anna", "frank")]
    ends = ["user/anna isymphony.hangup", "user/frank isymphony.hangup"]
    assert pbx.types(mark) == [*both, *after, "user/ben isymphony.hangup", *ended, *ends]
    one, other = (json.loads(message.payload) for message in pbx.events(mark)[4:6])
    assert one["data"] == other["data"]
    assert one["id"] != other["id"]
    assert (one["data"]["username1"], one["data"]["username2"], one["data"]["did1"]) == ("anna", "ben", None)


async def test_a_call_from_outside_belongs_to_nobody_where_it_names_nobody(pbx: Centre) -> None:
    world, mark = pbx.platform.world, pbx.mark
    call, events = world.ring(None, world.user("gül+1"))
    pbx.platform.tell(*events, *world.answer(call), *world.hang_up(call))
    await pbx.event("user/gül%2B1/hangup", mark)
    assert pbx.types(mark) == [
        "user/gül%2B1 isymphony.dial",
        "user/gül%2B1 isymphony.linkStart",
        "user/gül%2B1 isymphony.linkEnd",
        " isymphony.hangup",
        "user/gül%2B1 isymphony.hangup",
    ]


async def test_a_conference_room(pbx: Centre) -> None:
    world, mark = pbx.platform.world, pbx.mark
    call, events = world.join(world.user("carla"), "Main")
    pbx.platform.tell(*events, *world.hang_up(call))
    told = await pbx.event("user/carla/confRoomCallLeave", mark)
    assert told["data"]["conferenceRoomName"] == "Main"


@pytest.mark.parametrize(
    ("frame", "path", "data"),
    [
        ({"type": "hangup", "username": None, "extensionNumber": "0042"}, "extension/0042/hangup", None),
        ({"type": "hangup", "callerIdNumber": "+001"}, "hangup", None),
        ({"type": "linkEnd", "extensionNumber1": "1", "extensionNumber2": "2"}, "extension/2/linkEnd", None),
        ({"type": "park", "lot": {"a": [1]}, "username": "a/b"}, "user/a%2Fb/park", None),
        ({"username": "x", "note": 1}, "user/x/unknown", None),
        ({"type": "q#/+", "n": 1}, "q%23%2F%2B", None),
        ({"type": "hangup", "username": "y", "new": [1]}, "user/y/hangup",
         {"type": "hangup", "username": "y", "extra": {"new": [1]}}),
        ({"type": "userLogin", "username": "z", "port": "50122"}, "user/z/userLogin", None),
    ],
    ids=["extension", "nobody", "both extensions", "undocumented", "no type", "odd type", "extra", "numbers as text"],
)  # fmt: skip
async def test_frames(pbx: Centre, frame: dict[str, Any], path: str, data: dict[str, Any] | None) -> None:
    mark = pbx.mark
    pbx.platform.say(json.dumps(frame))
    told = await pbx.event(path, mark)
    assert told["data"] == (frame if data is None else data)
    assert told["time"] == told["recordedtime"]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [("{", "not_json"), ('{"type":"hangup","username":7001}', "wrong_shape"), ("7", "wrong_shape")],
)
async def test_what_cannot_be_read_is_a_dead_frame(pbx: Centre, frame: str, reason: str) -> None:
    mark = pbx.mark
    pbx.platform.say(frame)
    heard = await pbx.home.ear.wait_topic(f"{pbx.home.base}/pbx/dead/{reason}", since=mark)
    assert heard.payload == frame.encode()


# Commands


async def test_live_reads(pbx: Centre) -> None:
    users = await pbx.command("live", path=USERS)
    assert (users["status"], users["code"]) == ("succeeded", 200)
    assert [one["userName"] for one in users["data"]][:2] == ["anna", "ben"]
    one = await pbx.command("live", path=f"{USERS}/getByName/gül%2B1")
    assert one["data"]["displayedName"] == "Gül #1"
    assert pbx.platform.requests[-1].method == "GET"


async def test_the_platforms_404_is_a_404(pbx: Centre) -> None:
    told = await pbx.command("live", path="coreServers/0-stale/users")
    assert (told["status"], told["code"], told["error"]["kind"]) == ("rejected", 404, "no_such_object")
    assert told["error"]["message"].endswith("No such object.")


@pytest.mark.parametrize(
    "path", ["", "/x", "a/../b", "a/%2e%2e/b", "a/..;x/b", "a?b=1", "a#b", "https://x/..", "a\\..\\b"]
)
async def test_live_stays_below_its_root(pbx: Centre, path: str) -> None:
    before = len(pbx.platform.requests)
    told = await pbx.command("live", path=path)
    assert (told["status"], told["code"], told["error"]["field"]) == ("rejected", 400, "path")
    assert len(pbx.platform.requests) == before


async def test_an_action_makes_a_call(pbx: Centre) -> None:
    mark = pbx.mark
    told = await pbx.command("originate", server="default", extension="7001", number="+1 555/0100", id="mine")
    assert (told["status"], told["code"], told["id"], told.get("data")) == ("succeeded", 200, "mine", None)
    request = pbx.platform.requests[-1]
    assert request.path.endswith("/rest/live/coreServers/getByName/default/extensions/getByName/7001/originate")
    assert (request.method, request.body) == ("POST", b'{"number":"+1 555/0100"}')
    assert (await pbx.event("user/anna/dial", mark))["data"]["callerIdNumber2"] == "+1 555/0100"


async def test_a_value_alone_in_its_text_keeps_its_type(pbx: Centre) -> None:
    assert (await pbx.command("dnd", extension="7002", on=True))["code"] == 200
    assert pbx.platform.world.user("ben").dnd
    told = await pbx.command("dnd", extension="7002", on="yes")
    assert (told["status"], told["code"]) == ("failed", 502)
    assert told["error"]["message"] == "the platform calls the JSON invalid (HTTP 412): enabled missing"


@pytest.mark.parametrize(
    ("fields", "field", "kind"),
    [
        ({"server": "default", "extension": "7001"}, "number", "missing_field"),
        ({"server": "default", "extension": "", "number": "1"}, "extension", "invalid_field"),
        ({"server": "..", "extension": "7001", "number": "1"}, "server", "invalid_field"),
        ({"server": "default", "extension": ["7001"], "number": "1"}, "extension", "invalid_field"),
        ({"server": "default", "extension": "7001", "number": "1", "more": 1}, "more", "unknown_field"),
    ],
)
async def test_an_action_needs_its_fields(pbx: Centre, fields: dict[str, Any], field: str, kind: str) -> None:
    before = len(pbx.platform.requests)
    told = await pbx.command("originate", **fields)
    assert (told["code"], told["error"]["field"], told["error"]["kind"]) == (400, field, kind)
    assert len(pbx.platform.requests) == before


async def test_placeholders_are_percent_encoded_in_the_path(pbx: Centre) -> None:
    await pbx.command("dnd", extension="a/b c%", on=False)
    assert pbx.platform.requests[-1].path.endswith("/extensions/getByName/a%2Fb%20c%25/dnd")


async def test_info_names_the_actions_and_the_metrics_count_them(pbx: Centre) -> None:
    info = await pbx.home.told("bridge/info")
    named = {"filter", "live", *ACTIONS, "reconnect", "pause", "resume"}
    assert set(info["backends"]["pbx"]["commands"]) == named
    before = await pbx.home.bridge.scrape()
    await pbx.command("dnd", extension="7002", on=True)
    assert (await pbx.command("read7"))["data"][0]["slug"] == "default"
    scrape = await pbx.home.bridge.scrape()
    for command in ("dnd", "other"):  # the first four actions have a name here
        labels = {"backend": "pbx", "command": command, "outcome": "succeeded"}
        counted = [one.of("ws2mqtt_commands_total", **labels) for one in (before, scrape)]
        assert counted[1] == counted[0] + 1
    assert sum(("backend", "pbx") in labels for _, labels in scrape) <= 150
    assert balanced(scrape, "pbx")


# Filters


async def test_a_filter_by_command(pbx: Centre) -> None:
    world = pbx.platform.world
    told = await pbx.command("filter", filters={"type": ["hangup", "login"], "username": "ben"})
    assert told["code"] == 200
    assert told["data"]["filters"] == {"type": ["hangup", "userLogin"], "username": ["ben"]}
    assert "userLogin" in told["data"]["warnings"][0]
    sent = json.loads(pbx.platform.messages[-1])
    assert sent["type"] == "filter"
    assert isinstance(sent["correlationId"], str)
    assert sent["filters"] == [
        {"property": "type", "value": "hangup"},
        {"property": "type", "value": "userLogin"},
        {"property": "username", "value": "ben"},
    ]
    mark = pbx.mark
    call, events = world.ring(world.user("anna"), world.user("ben"))
    pbx.platform.tell(*events, *world.hang_up(call))
    await pbx.event("user/ben/hangup", mark)
    assert pbx.types(mark) == ["user/ben isymphony.hangup"]
    assert (await pbx.command("filter"))["data"]["filters"] == told["data"]["filters"]
    told = await pbx.command("filter", filters=[{"property": "type", "value": "*"}])
    assert told["data"] == {"filters": {"type": ["*"]}}
    told = await pbx.command("filter", filters={})
    assert (told["data"], json.loads(pbx.platform.messages[-1])["filters"]) == ({"filters": {}}, [])


async def test_a_filter_that_is_refused_changes_nothing(pbx: Centre) -> None:
    asked = len(pbx.platform.messages)
    assert (await pbx.command("filter", filters={"type": ["*"]}))["code"] == 200
    pbx.faults(error_reply="no such property")
    mark = pbx.mark
    told = await pbx.command("filter", filters={"nosuch": ["x"]})
    assert (told["status"], told["code"], told["error"]["message"]) == ("failed", 502, "no such property")
    assert told["data"] == {"filters": {"type": ["*"]}}
    await pbx.platform.asked(asked + 3)
    assert json.loads(pbx.platform.messages[-1])["filters"] == [{"property": "type", "value": "*"}]
    assert "no such property" in (await pbx.home.state("degraded", "pbx", since=mark))["error"]
    pbx.faults()
    mark = pbx.mark
    assert (await pbx.command("filter", filters={}))["code"] == 200
    await pbx.online(mark)


@pytest.mark.parametrize("filters", [{"type": []}, {"": ["x"]}, [{"property": "type"}], "x", {"type": [1]}])
async def test_a_filter_that_is_none(pbx: Centre, filters: Any) -> None:
    asked = len(pbx.platform.messages)
    told = await pbx.command("filter", filters=filters)
    assert (told["code"], told["error"]["field"].partition("[")[0]) == (400, "filters")
    assert len(pbx.platform.messages) == asked


async def test_one_command_waits_for_the_other(pbx: Centre) -> None:
    pbx.faults(rest_late=3.0)
    first = asyncio.ensure_future(pbx.command("live", path=f"{USERS}/getByName/carla"))
    await pbx.platform.requested("getByName/carla")
    told = await asyncio.gather(first, pbx.command("dnd", extension="7002", on=True, timeout="50ms"))
    pbx.faults()
    assert [one["code"] for one in told] == [200, 410]
