"""What the platform says, read: values, messages, what is strange in them (ThingsBoard, TsValue, EntityDataUpdate)."""

import json
from typing import Any

import pytest

from bridge.backends.iotpro import frames
from bridge.backends.iotpro.asks import Asking, socket
from bridge.backends.iotpro.asks import frames as asked
from bridge.backends.iotpro.selection import Selection
from bridge.backends.iotpro.values import attribute, plain, same, told, typed
from bridge.backends.iotpro.wire import StrangeItem
from bridge.model import Unread
from tests.backends.iotpro.talk import BUOY, FIRST, MS, error, item, lat, page, update


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("12.0", 12), ("1.2E1", 12), ("-0", 0), ("-0.0", 0), ("0.1", 0.1), ("1.0E-4", 0.0001),
        ("9007199254740992", 2**53), ("9007199254740993", "9007199254740993"), ("1e400", "1e400"), ("1e20", "1e20"),
        ("true", True), ("false", False), ("True", "True"), ("007", "007"), ("+1", "+1"), (".5", ".5"), ("1.", "1."),
        (" 12", " 12"), ("12 ", "12 "), ("12\n", "12\n"), ("", ""), ("null", "null"), ("NaN", "NaN"),
        ("2024-03-05", "2024-03-05"), ('{"a":1}', '{"a":1}'), ("9" * 5000, "9" * 5000), ("१२", "१२"),
        (12, 12), (12.0, 12), (True, True), (2**60, str(2**60)), ({"a": 1}, {"a": 1}),
    ],
)  # fmt: skip
def test_text_that_is_exactly_a_number_or_boolean_is_it(text: Any, value: Any) -> None:
    assert typed(text) == value
    assert type(typed(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":12.0}', {"a": 12.0}), ("[1,2]", [1, 2]), ('"text"', "text"), ("null", None), ("12", 12), ("eco", "eco"),
        ("{broken", "{broken"), ("[" * 100 + "]" * 100, "[" * 100 + "]" * 100), (True, True),
    ],
)  # fmt: skip
def test_attributes_that_are_json_are_read(text: Any, value: Any) -> None:
    assert attribute(text) == value


@pytest.mark.parametrize(("raw", "text"), [("007", "007"), ("12", "12"), (12, "12"), (True, "true"), (1.5, "1.5")])
def test_text_keys_stay_text(raw: Any, text: str) -> None:
    assert plain(raw) == text


def test_one_is_not_true() -> None:
    assert same(1, 1)
    assert not same(1, True)
    assert not same("1", 1)


def test_identity_does_not_depend_on_order() -> None:
    assert told({"b": 1, "a": 2}) == told({"a": 2, "b": 1})


# Messages.


def read(message: Any) -> list[Any]:
    return frames.read(message if isinstance(message, bytes) else json.dumps(message).encode())


def test_a_snapshot_and_an_update() -> None:
    (snapshot,) = read(page(item(values=lat(0))))
    assert isinstance(snapshot, frames.Told)
    assert snapshot.page is not None
    assert [one.entityId.id for one in snapshot.page.data] == [BUOY]
    (changed,) = read(update(lat(5)))
    assert (changed.page, changed.cmd) == (None, FIRST)
    assert changed.items[0].latest["TIME_SERIES"]["telemetry_param_latitude"].ts == MS + 5


@pytest.mark.parametrize("gone", ["allowedEntities", "cmdUpdateType", "data", "errorMsg", "errorCode"])
def test_members_may_be_left_out(gone: str) -> None:
    message = update(lat(5))
    whole = read(message)
    del message[gone]
    assert read(message) == whole


def test_the_tolerant_way_gives_the_same_and_keeps_what_is_unknown() -> None:
    message = update(lat(5))
    (usual,) = read(message)
    message["more"], message["update"][0]["better"] = 1, [2]
    message["update"][0]["latest"]["TIME_SERIES"]["telemetry_param_latitude"]["unit"] = "deg"
    message["update"][0]["latest"]["CALCULATED"] = {"x": 1}
    (strange,) = read(message)
    (one,) = strange.items
    assert isinstance(one, StrangeItem)
    assert one.latest == usual.items[0].latest
    assert one.extra == {
        "more": 1, "better": [2], "CALCULATED": {"x": 1}, "telemetry_param_latitude": {"unit": "deg"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [5, None, {}, {"entityId": 5}, {"entityId": {"id": ""}}, {"entityId": {"id": BUOY}, "latest": []}],
)
def test_a_part_of_a_wrong_shape_does_not_lose_the_rest(wrong: Any) -> None:
    message = update(lat(5))
    message["update"].append(wrong)
    message["update"].append({**message["update"][0]})
    told_, unread = read(message)
    assert [bool((one.latest or {}).get("TIME_SERIES")) for one in told_.items].count(True) == 2
    assert unread == Unread("wrong_shape", json.dumps(message).encode())


@pytest.mark.parametrize("point", [5, {"value": "1"}, {"ts": "soon", "value": "1"}, {"ts": 1.5, "value": "1"}])
def test_a_wrong_point_does_not_lose_the_others(point: Any) -> None:
    message = update({**lat(5), "wrong": (1, "1")})
    message["update"][0]["latest"]["TIME_SERIES"]["wrong"] = point
    told_, unread = read(message)
    assert told_.items[0].latest["TIME_SERIES"].keys() == {"telemetry_param_latitude"}
    assert unread.reason == "wrong_shape"


@pytest.mark.parametrize("ts", [str(MS + 5), float(MS + 5)])
def test_moments_may_be_text_or_have_a_fraction_of_nothing(ts: Any) -> None:
    message = update(lat(5))
    whole = read(message)
    message["update"][0]["latest"]["TIME_SERIES"]["telemetry_param_latitude"]["ts"] = ts
    assert read(message) == whole


def test_errors_in_both_forms() -> None:
    assert read(error(34, "Too many updates!")) == [frames.Failure(FIRST, 34, "Too many updates!")]
    message = {"cmdId": 7, "errorCode": 1, "errorMsg": None, "data": None, "update": None}
    assert read(message) == [frames.Failure(7, 1, "error 1")]


@pytest.mark.parametrize(
    "message",
    [
        {}, {"a": 1}, {"cmdId": 5}, {"cmdId": 5, "count": 3, "cmdUpdateType": "COUNT_DATA"},
        {"cmdId": 3, "update": {"id": 1}, "cmdUpdateType": "NOTIFICATIONS"},
        {"subscriptionId": 5, "errorCode": 0, "errorMsg": None, "data": {"a": [[1, "1.5"]]}, "latestValues": {"a": 1}},
    ],
)  # fmt: skip
def test_what_we_did_not_ask_for_is_unknown(message: dict[str, Any]) -> None:
    assert read(message) == [frames.Unknown(message)]


@pytest.mark.parametrize(
    "message",
    [
        {"cmdId": "1", "update": []}, {"cmdUpdateType": "ENTITY_DATA"}, {"cmdId": 1, "errorCode": "no", "update": []},
    ],
)  # fmt: skip
def test_a_message_of_a_wrong_shape(message: dict[str, Any]) -> None:
    assert read(message) == [Unread("wrong_shape", json.dumps(message).encode())]


@pytest.mark.parametrize(
    "message", [{"cmdId": 1, "update": {"a": 1}}, {"cmdId": 1, "data": []}, {"cmdId": 1, "data": {}}]
)
def test_lists_that_are_none(message: dict[str, Any]) -> None:
    told_, unread = read(message)
    assert (told_.items, told_.page, unread.reason) == ([], None, "wrong_shape")


# What we say: one unknown member, and the platform takes nothing of the frame.


def test_a_page_is_asked_for_exactly_so() -> None:
    asking = Asking(Selection(("a",), ("buoy",)), ("assetDetails",), 1000)
    keys = [{"type": "TIME_SERIES", "key": "a"}, {"type": "SERVER_ATTRIBUTE", "key": "assetDetails"}]
    fields = [{"type": "ENTITY_FIELD", "key": key} for key in ("name", "type", "label", "createdTime")]
    (text,) = asked([asking.page(7, 2)], "tok")
    assert json.loads(text) == {
        "authCmd": {"cmdId": 0, "token": "tok"},
        "cmds": [
            {
                "cmdId": 7,
                "type": "ENTITY_DATA",
                "query": {
                    "entityFilter": {"type": "assetType", "assetTypes": ["buoy"], "assetNameFilter": ""},
                    "pageLink": {
                        "pageSize": 1000,
                        "page": 2,
                        "textSearch": None,
                        "dynamic": True,
                        "sortOrder": {"key": {"type": "ENTITY_FIELD", "key": "createdTime"}, "direction": "ASC"},
                    },
                    "entityFields": fields,
                    "latestValues": keys,
                    "keyFilters": [],
                },
                "latestCmd": {"keys": keys},
            }
        ],
    }


def test_frames_are_what_the_platform_takes() -> None:
    asking = Asking(Selection(tuple(f"key_{number:03d}" for number in range(200))), (), 1000)
    told_ = list(asked([asking.page(number, number) for number in range(25)], "t" * 2000))
    assert max(map(len, told_)) < 32_768
    assert [json.loads(one).get("authCmd") is not None for one in told_] == [True] + [False] * (len(told_) - 1)
    assert [cmd["cmdId"] for one in told_ for cmd in json.loads(one)["cmds"]] == list(range(25))
    small = list(asked([asking.page(0, 0)] * 0 + [{"cmdId": n} for n in range(25)]))
    assert [len(json.loads(one)["cmds"]) for one in small] == [10, 10, 5]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://a.example", "wss://a.example/api/ws"),
        ("http://a.example:8080/", "ws://a.example:8080/api/ws"),
        ("https://a.example/iot", "wss://a.example/iot/api/ws"),
    ],
)
def test_the_sockets_address_is_that_of_the_page(url: str, address: str) -> None:
    assert socket(url) == address
