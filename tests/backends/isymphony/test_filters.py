"""Which events a filter lets through, how it goes out, how it is written."""

import json
from typing import Any

import msgspec
import pytest

from bridge.backends.isymphony.filters import Filter, SetFilter
from bridge.backends.isymphony.frames import Told, read
from bridge.errors import BadCommand
from tests.backends.samples_isymphony import (
    ISYMPHONY_DIAL,
    ISYMPHONY_HANGUP,
    ISYMPHONY_LEAVE,
    ISYMPHONY_LINK_END,
    ISYMPHONY_LOGIN,
    ISYMPHONY_UNKNOWN,
)

FRAMES = {
    "login": ISYMPHONY_LOGIN,
    "hangup": ISYMPHONY_HANGUP,
    "linkEnd": ISYMPHONY_LINK_END,
    "leave": ISYMPHONY_LEAVE,
    "dial": ISYMPHONY_DIAL,
    "extra": ISYMPHONY_HANGUP.replace('"did"', '"queue":"Sales","did"'),
    "no type": ISYMPHONY_UNKNOWN,
}


def passing(filters: dict[str, list[str]]) -> set[str]:
    chosen = Filter.configured(filters)
    found = set()
    for name, frame in FRAMES.items():
        (told,) = read(frame.encode())
        assert isinstance(told, Told)
        if chosen.passes(told.value):
            found.add(name)
    return found


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({}, set(FRAMES)),
        ({"type": ["hangup"]}, {"hangup", "extra"}),
        ({"type": ["hangup", "linkEnd"]}, {"hangup", "extra", "linkEnd"}),
        ({"type": ["hangup"], "username": ["7001"]}, {"hangup", "extra"}),
        ({"type": ["hangup"], "username": ["7002"]}, set()),
        ({"username": ["*"]}, {"login", "hangup", "extra", "no type"}),  # null is no value; linkEnd has username1, 2
        ({"username1": ["*"]}, {"linkEnd", "dial"}),
        ({"type": ["*"], "username": ["7001"]}, {"login", "hangup", "extra"}),
        ({"nosuch": ["*"]}, set()),
        ({"did": ["s"]}, {"leave"}),
        ({"port": ["50122"]}, {"login"}),
        ({"time": ["1710000101800"]}, {"hangup", "extra", "no type"}),
        ({"queue": ["*"]}, {"extra"}),
        ({"conferenceRoomName": ["Main", "x"]}, {"leave"}),
        ({"type": ["HANGUP"]}, set()),
        ({"type": ["login", "logout"]}, {"login"}),
        ({"username": ["700*"]}, set()),
    ],
)
def test_what_passes(filters: dict[str, list[str]], passes: set[str]) -> None:
    assert passing(filters) == passes


def test_a_filter_goes_out_as_json() -> None:
    chosen = Filter.configured({"type": ["login", "hangup", "userLogin"], "callerIdName": ['a"b\\ü', "*"]})
    assert chosen.aliased == ("login",)
    assert json.loads(chosen.frame("c-1")) == {
        "type": "filter",
        "correlationId": "c-1",
        "filters": [
            {"property": "type", "value": "userLogin"},
            {"property": "type", "value": "hangup"},
            {"property": "callerIdName", "value": 'a"b\\ü'},
            {"property": "callerIdName", "value": "*"},
        ],
    }
    assert json.loads(Filter().frame("c"))["filters"] == []


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"filters": {"type": ["a", "b"]}}, {"type": ("a", "b")}),
        ({"filters": {"type": "a"}}, {"type": ("a",)}),
        (
            {"filters": [{"property": "type", "value": "a"}, {"property": "x", "value": "y"}]},
            {"type": ("a",), "x": ("y",)},
        ),
        ({"filters": {}}, {}),
        ({"filters": []}, {}),
        ({"filters": {"type": ["login", "userLogin"]}}, {"type": ("userLogin",)}),
        ({"filters": {"username": ["login"]}}, {"username": ("login",)}),
    ],
)
def test_a_command_takes_both_forms(fields: dict[str, Any], wanted: dict[str, tuple[str, ...]]) -> None:
    chosen = msgspec.convert(fields, SetFilter).wanted()
    assert chosen is not None
    assert chosen.wanted == wanted


def test_a_command_without_filters_asks_what_is_in_force() -> None:
    assert SetFilter().wanted() is None


@pytest.mark.parametrize("filters", [{"type": []}, {"": ["a"]}])
def test_a_filter_that_lets_nothing_through_is_a_mistake(filters: dict[str, list[str]]) -> None:
    with pytest.raises(BadCommand) as bad:
        SetFilter(filters).wanted()  # type: ignore[arg-type]
    assert (bad.value.field, bad.value.code) == ("filters", 400)


@pytest.mark.parametrize(
    ("filters", "follows"),
    [
        ({}, True),
        ({"type": ["userLogin", "userLogout", "hangup"]}, True),
        ({"type": ["*"], "username": ["anna", "ben"]}, True),
        ({"type": ["userLogin"]}, False),
        ({"type": ["hangup"]}, False),
        ({"username": ["ben"]}, False),
        ({"ip": ["*"]}, False),
    ],
)
def test_whose_presence_can_be_followed(filters: dict[str, list[str]], follows: bool) -> None:
    assert Filter.configured(filters).follows("anna") is follows
