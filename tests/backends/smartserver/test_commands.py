"""Commands → requests, answers → responses (wiki, "Datapoint Value", "Managing Datapoint Overrides", "Alarms")."""

import json
from typing import Any

import pytest

from bridge.backends.session import Answer, Call
from bridge.errors import BadCommand
from tests.backends.smartserver.hq import (
    DEVICE_SUBJECT,
    LAMP,
    LAMP_SUBJECT,
    LUX,
    LUX_SUBJECT,
    OK,
    POINTS,
    Hq,
    cookie,
    online,
    path_of,
    told,
)

LAMP_PATH = "/iap/devs/12/if/Lamp/0/*+xifName==nviValue"
STRANGER = "17qz7ab/dev/modbus/2.9/if/Digital Input/0/nviLamp[1]"
STRANGER_PATH = "/iap/devs/17qz7ab.2.9/if/Digital%20Input/0/*+xifName==nviLamp%5B1%5D"
ON = {"value": 100, "state": 1}
WHEN: dict[str, Any] = {"from": "2025-03-02T07:00Z", "to": "2025-03-02T08:00Z"}

REQUESTS: dict[str, tuple[str, str, dict[str, Any], str, str, bytes | None]] = {
    "write": ("write", LAMP_SUBJECT, {"value": ON}, "PUT", f"{LAMP_PATH}/value", b'{"value":100,"state":1}'),
    "at 17": ("write", LAMP_SUBJECT, {"value": "COOL", "priority": 17}, "PUT", f"{LAMP_PATH}/value", b'"COOL"'),
    "at 8": ("write", LAMP_SUBJECT, {"value": 21.5, "priority": 8}, "PUT", f"{LAMP_PATH}/overrides/8/value", b"21.5"),
    "null": ("write", LAMP_SUBJECT, {"value": None}, "PUT", f"{LAMP_PATH}/value", b"null"),
    "preset": ("write", LAMP_SUBJECT, {"preset": "ON"}, "PUT", f"{LAMP_PATH}/presets/value", b"ON"),
    "preset at 1": (
        "write", LAMP_SUBJECT, {"preset": "ON", "priority": 1}, "PUT", f"{LAMP_PATH}/overrides/1/presets/value", b"ON"),
    "an unknown device": ("write", STRANGER, {"value": 1}, "PUT", f"{STRANGER_PATH}/value", b"1"),
    "release": ("release", LAMP_SUBJECT, {"priority": 8}, "DELETE", f"{LAMP_PATH}/overrides/8/value", b"8"),
    "read": ("read", LAMP_SUBJECT, {}, "GET", f"{LAMP_PATH}/value?noxs=true", None),
    "read now": ("read", LAMP_SUBJECT, {"max_age": "0s"}, "GET", f"{LAMP_PATH}/value?max_age=0&noxs=true", None),
    "read aged": ("read", LAMP_SUBJECT, {"max_age": "1500ms"}, "GET", f"{LAMP_PATH}/value?max_age=1.5&noxs=true", None),
    "test": ("test", DEVICE_SUBJECT, {}, "PUT", "/iap/devs/12/test", b'{"ID":12}'),
    "wink": ("wink", DEVICE_SUBJECT, {}, "PUT", "/iap/devs/12/wink", b'{"ID":12}'),
    "clear": ("clear_alarms", "", {"ids": [1, "2"]}, "PUT", "/iap/alarms/clear", b'[1,"2"]'),
}  # fmt: skip


@pytest.mark.parametrize("case", REQUESTS)
def test_a_command_is_a_request(case: str) -> None:
    name, subject, fields, method, path, body = REQUESTS[case]
    hq = online({"GET /iap/devs/12/if/Lamp": None})
    key = hq.order(name, subject, **fields)
    call = next(iter(hq.calls.values()))
    assert (path_of(call), call.body) == (f"{method} {path}", body)
    assert call.deadline == pytest.approx(10.0)
    assert hq.response(key) is None
    row = {"dpQualifier": LAMP, "value": ON, "presetValue": "ON", "utc": "2025-03-02T08:15:00.412Z[UTC]"}
    hq.answer(call, told([row]) if method == "GET" else OK)
    response = hq.response(key)
    assert response is not None
    assert (response.status, response.code) == ("succeeded", 200)


def test_before_release_3_20_114_names_are_bare() -> None:
    for release, named in (
        ("3.20.113", "nviValue"),
        ("3.20.114", "*+xifName==nviValue"),
        ("odd", "*+xifName==nviValue"),
    ):
        hq = online({"GET /iap/version": told({"value": release})})
        hq.order("write", LAMP_SUBJECT, value=1)
        assert path_of(next(iter(hq.calls.values()))).endswith(f"/Lamp/0/{named}/value")


@pytest.mark.parametrize("name", ["*", "a*b", "%", "..", "."])
def test_names_that_would_be_another_path_are_refused(name: str) -> None:
    hq = online()
    key = hq.order("write", f"{DEVICE_SUBJECT}/if/{name}/0/nviValue", value=1)
    response = hq.response(key)
    assert response is not None
    assert (response.status, response.code) == ("rejected", 404)
    assert not hq.calls


@pytest.mark.parametrize(
    ("name", "fields", "field"),
    [
        ("write", {}, "value"),
        ("write", {"value": 1, "preset": "ON"}, "preset"),
        ("write", {"preset": ""}, "preset"),
        ("filter", {"datapoints": ["*/*/*/*/*/*", "lux"]}, "datapoints[1]"),
        ("datalog", {"datapoints": [], "from": "2025-03-02T07:00:00Z", "to": "2025-03-02T08:00:00Z"}, "datapoints"),
        ("datalog", {"datapoints": [LUX], "from": "2025-03-02T07:00:00", "to": "2025-03-02T08:00:00Z"}, "from"),
        ("datalog", {"datapoints": [LUX], "from": "2025-03-02T07:00:00Z", "to": "soon"}, "to"),
        ("datalog", {"datapoints": [LUX], "from": "2025-03-02T08:00:00Z", "to": "2025-03-02T09:00:00+01:00"}, "from"),
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(BadCommand) as caught:
        online().order(name, LAMP_SUBJECT if name == "write" else "", **fields)
    assert caught.value.field == field


ENDS: dict[str, tuple[Answer, str, int, str]] = {
    "200": (told({}), "succeeded", 200, ""),
    "404": (told({"message": "no such datapoint"}, 404), "rejected", 404, "no such datapoint"),
    "403": (Answer(403), "failed", 502, "HTTP 403"),
    "422": (Answer(422), "failed", 502, "higher priority is active"),
    "429": (told({"message": "too fast"}, 429), "failed", 502, "too fast"),
    "500": (Answer(500, b"<html>oops</html>"), "failed", 502, "HTTP 500"),
    "nobody": (Answer(0, error="connection refused"), "unknown", 408, "connection refused"),
}


@pytest.mark.parametrize("case", ENDS)
def test_what_an_answer_means(case: str) -> None:
    answer, status, code, words = ENDS[case]
    hq = online()
    key = hq.order("write", LAMP_SUBJECT, value=1)
    hq.answer("PUT /iap/devs", answer)
    response = hq.response(key)
    assert response is not None
    assert (response.status, response.code) == (status, code)
    assert words in (response.error.message if response.error else "")


def test_read_answers_with_the_value_that_was_asked_for() -> None:
    rows = [
        {"dpQualifier": LUX, "value": 5},
        {"dpQualifier": LAMP, "value": ON, "locValue": ON, "utc": "2025-03-02T08:15Z"},
    ]
    hq = online({"GET /iap/devs/12/if/Lamp": told(rows)})
    response = hq.response(hq.order("read", LAMP_SUBJECT))
    assert response is not None
    assert (response.data.value, response.data.localized, response.data.time) == (ON, ON, "2025-03-02T08:15:00.000000Z")


@pytest.mark.parametrize(
    ("answer", "code"), [(told([]), 404), (told([1]), 502), (told("x"), 502), (told([{"a": 1}]), 502)]
)
def test_read_of_nothing(answer: Answer, code: int) -> None:
    hq = online({"GET /iap/devs/12/if/Lamp": answer})
    response = hq.response(hq.order("read", LAMP_SUBJECT))
    assert response is not None
    assert response.code == code


def test_a_forced_read_that_brings_no_update_shows_that_the_list_was_taken() -> None:
    hq = online({"GET /iap/devs/12/if/Light": told([POINTS[0]])}).value(1).later(60)
    hq.order("read", LUX_SUBJECT, max_age="5s")
    assert hq.later(11).condition == ("online", None)
    hq.order("read", LUX_SUBJECT, max_age="0s")
    assert hq.later(11).condition[0] == "degraded"
    hq.value(2)
    assert hq.condition == ("online", None)


def test_clear_alarms_clears_what_is_active() -> None:
    hq = online()
    hq.answers["GET /iap/alarms"] = told([{"id": 4711}, {"id": "x"}, {"id": 9, "state": "Cleared"}])
    key = hq.order("clear_alarms")  # nobody has told of them yet
    hq.answer("PUT /iap/alarms/clear", OK)
    assert json.loads(hq.asked("PUT /iap/alarms/clear")[0].body or b"") == [4711, "x"]  # type: ignore[arg-type]
    response = hq.response(key)
    assert response is not None
    assert response.data == {"ids": [4711, "x"]}
    response = (hq := online()).response(hq.order("clear_alarms"))
    assert response is not None
    assert response.data == {"ids": []}
    hq.answers["GET /iap/alarms"] = Answer(403)
    response = hq.response(hq.order("clear_alarms"))
    assert response is not None
    assert (response.status, response.code) == ("failed", 502)
    hq = online({"GET /iap/alarms": told([{"id": 4711}])})
    hq.order("clear_alarms", ids=["4711"])
    assert hq.asked("PUT /iap/alarms/clear")[0].body == b"[4711]", "as the platform writes it"


# One at a time


def test_the_next_command_waits_for_the_platforms_answer() -> None:
    hq = online()
    first, second = (hq.order("write", LAMP_SUBJECT, value=number) for number in (1, 2))
    assert [call.body for call in hq.calls.values()] == [b"1"]
    hq.answer("PUT", OK)
    assert [call.body for call in hq.calls.values()] == [b"2"]
    assert hq.response(first)
    assert not hq.response(second)


def test_no_answer_in_time_is_unknown_and_one_in_line_expires() -> None:
    hq = online().value(1)
    first = hq.order("write", LAMP_SUBJECT, value=1)
    second = hq.order("write", LAMP_SUBJECT, timeout=5.0, value=2)
    late = next(iter(hq.calls.values()))
    hq.later(10)
    assert [getattr(hq.response(key), "code", None) for key in (first, second)] == [408, 410]
    hq.answer(late, OK)
    assert len(hq.asked("PUT /iap/devs")) == 1


def test_a_lost_connection_leaves_one_unknown_and_refuses_the_rest() -> None:
    hq = online().value(1)
    keys = [hq.order("write", LAMP_SUBJECT, value=number) for number in (1, 2)]
    hq.lose()
    assert [getattr(hq.response(key), "code", None) for key in keys] == [408, 503]
    assert getattr(hq.response(hq.order("write", LAMP_SUBJECT, value=1)), "code", None) == 503


def test_a_command_that_meets_the_end_of_its_session_is_made_once_more() -> None:
    cookies = iter(("one", "two"))
    hq = online({"POST /iap/auth/login": lambda call: cookie(next(cookies))}).value(1)
    key = hq.order("write", LAMP_SUBJECT, value=1)
    hq.answer("PUT /iap/devs", Answer(401)).settle()
    assert hq.logins() == ["ok", "ok"]
    again = [call for call in hq.calls.values() if call.method == "PUT"]
    assert [call.headers["Cookie"].reveal() for call in again] == ["cmsSID=two"]  # type: ignore[union-attr]
    hq.answer(again[0], OK)
    assert getattr(hq.response(key), "code", None) == 200


def test_a_command_that_waits_for_a_login_was_not_carried_out() -> None:
    hq = online().value(1)
    hq.answers["POST /iap/auth/login"] = Answer(503)
    key = hq.order("write", LAMP_SUBJECT, value=1)
    hq.answer("PUT /iap/devs", Answer(401)).settle()
    hq.later(11)
    assert getattr(hq.response(key), "code", None) == 410
    hq.answers["POST /iap/auth/login"] = cookie("two")
    hq.answer("POST /iap/auth/login", cookie("two")).settle()
    assert len(hq.asked("PUT /iap/devs")) == 1


def test_the_end_answers_everything() -> None:
    hq = online()
    keys = [hq.order("write", LAMP_SUBJECT, value=1), hq.order("test", DEVICE_SUBJECT)]
    keys.append(hq.order("datalog", datapoints=[LUX], **WHEN))
    hq.stop()
    assert all(hq.response(key) for key in keys)


# Filter


def test_filter_takes_effect_when_the_platform_has_it() -> None:
    hq = online().value(1).value(ON, LAMP)
    key = hq.order("filter", datapoints=["*/*/*/LightSensor/*/*"])
    response = hq.response(key)
    assert response is not None
    assert response.data == {"datapoints": ("*/*/*/LightSensor/*/*",), "count": 1}
    assert hq.lists()[-1] == [LUX]
    assert hq.states(LAMP_SUBJECT)[-1] is None
    assert hq.states(LUX_SUBJECT)[-1] is not None
    hq.lose().open("main").settle()
    assert hq.lists()[-1] == [LUX], "also after a reconnect"
    response = hq.response(hq.order("filter"))
    assert response is not None
    assert response.data["count"] == 1


def test_a_filter_that_is_refused_leaves_the_old_one_in_force() -> None:
    def take(call: Call) -> Answer:
        return OK if LAMP in str(call.body) else told({"message": "not that"}, 400)

    hq = online({"PUT /iap/dp": take}).value(1)
    response = hq.response(hq.order("filter", datapoints=[LUX]))
    assert response is not None
    assert (response.status, response.code) == ("failed", 502)
    assert "not that" in (response.error.message if response.error else "")
    assert hq.lists()[-1] == [LUX, LAMP]
    assert hq.states(LAMP_SUBJECT) == []


def test_a_filter_asks_devices_that_were_not_asked_before() -> None:
    hq = online({"GET /iap/devs/13/if": told([{"dpQualifier": "17qz7ab/modbus/2.1/M/0/e"}])}).value(1)
    assert not hq.asked("GET /iap/devs/13/if")
    hq.order("filter", datapoints=["*/modbus/*/*/*/*"])
    assert hq.lists()[-1] == ["17qz7ab/modbus/2.1/M/0/e"]
    hq.later(3)
    assert "modbus" in hq.asked("GET /iap/devs/*/if")[-1].url


def test_nobody_answers_a_filter() -> None:
    hq = Hq().start().value(1)
    hq.answers["PUT /iap/dp"] = None
    key = hq.order("filter", datapoints=[LUX])
    hq.later(10.1)
    response = hq.response(key)
    assert response is not None
    assert response.code == 408
    assert hq.lists()[-1] == [LUX, LAMP]
