"""Commands of assets: what is asked of the platform, and what its answers mean."""

import json
from typing import Any

import pytest

from bridge.backends.session import Answer, Call, Loss
from bridge.model import Response
from tests.backends.iotpro.talk import BUOY, SUBJECT, at, calls, command, item, responses, talking

URL = "https://iotpro.example"
DEVICE = "11111111-2222-3333-4444-555555555555"


def relation(*devices: str, kind: str = "DEVICE") -> Answer:
    told = [{"from": {"entityType": "ASSET", "id": BUOY}, "to": {"entityType": kind, "id": one}} for one in devices]
    return Answer(200, json.dumps(told).encode())


def test_attributes_are_one_post() -> None:
    (call,) = calls(talking().ordered(command("attributes", values={"mode": "eco"}), at(2)))
    assert (call.method, call.url) == ("POST", f"{URL}/api/plugins/telemetry/ASSET/{BUOY}/attributes/SERVER_SCOPE")
    assert (call.body, call.deadline) == ({"mode": "eco"}, 8.0)


ANSWERS = [
    (Answer(200), "succeeded", 200, ""),
    (Answer(404, b"Asset with requested id wasn't found!"), "rejected", 404, "wasn't found"),
    (Answer(403, b"You don't have permission to perform this operation!"), "failed", 502, "permission"),
    (Answer(400, b"Key cannot be blank"), "failed", 502, "Key cannot be blank"),
    (Answer(500, b'{"message":"Request timeout","errorCode":2}'), "unknown", 408, "Request timeout"),
    (Answer(500, b'{"message":"oops","errorCode":2}'), "failed", 502, "oops"),
    (Answer(504), "unknown", 408, "504"),
    (Answer(0, error="no answer within 8 s"), "unknown", 408, "no answer"),
    (Answer(429, b"", (("retry-after", "60"),)), "failed", 502, "429"),
    (Answer(502, b"<html>proxy"), "failed", 502, "HTTP 502"),
]


@pytest.mark.parametrize(("answer", "status", "code", "word"), ANSWERS, ids=[str(one[0].status) for one in ANSWERS])
def test_answers(answer: Answer, status: str, code: int, word: str) -> None:
    session = talking()
    (call,) = calls(session.ordered(command("attributes", values={"a": 1}), at(2)))
    (response,) = session.answered(call.id, answer, at(3)).heard
    assert isinstance(response, Response)
    assert (response.status, response.code) == (status, code)
    assert word in (response.error.message if response.error else "")


def test_too_fast_is_sent_again_where_there_is_time() -> None:
    session = talking()
    (call,) = calls(session.ordered(command("attributes", values={"a": 1}), at(2)))
    step = session.answered(call.id, Answer(429, b"", (("retry-after", "3"),)), at(3))
    (again,) = calls(step)
    assert (again.after, again.url, step.heard) == (3.0, call.url, ())
    assert responses(session.answered(again.id, Answer(200), at(6))) == [("c1", 200)]


def test_one_goes_at_a_time() -> None:
    session = talking()
    (first,) = calls(session.ordered(command("attributes", values={"a": 1}), at(1)))
    assert calls(session.ordered(command("attributes", key="c2", values={"a": 2}), at(1))) == []
    step = session.answered(first.id, Answer(200), at(2))
    assert (responses(step), calls(step)[0].body) == ([("c1", 200)], {"a": 2})


def test_deadlines_and_losses() -> None:
    session = talking()
    session.ordered(command("attributes", values={"a": 1}), at(1))
    session.ordered(command("attributes", key="c2", values={"a": 2}), at(1))
    session.ordered(command("attributes", key="c3", seconds=20, values={"a": 3}), at(1))
    step = session.woken(at(10))
    assert sorted(responses(step)) == [("c1", 408), ("c2", 410)]
    (call,) = calls(step)
    session.ordered(command("attributes", key="c4", seconds=20, values={"a": 4}), at(11))
    step = session.lost("main", Loss("closed", "gone", at(12)), at(12))
    assert responses(step) == [("c4", 503)], "what went out by REST may still be answered"
    assert responses(session.ordered(command("attributes", key="c5", values={"a": 5}), at(13))) == [("c5", 503)]
    assert responses(session.answered(call.id, Answer(200), at(14))) == [("c3", 200)]


def test_at_the_end_everything_is_answered() -> None:
    session = talking()
    session.ordered(command("attributes", values={"a": 1}), at(1))
    session.ordered(command("attributes", key="c2", values={"a": 2}), at(1))
    assert sorted(responses(session.stopped(at(2)))) == [("c1", 408), ("c2", 503)]
    assert responses(session.ordered(command("resync", key="c3"), at(3))) == [("c3", 503)]


# rpc.


def rpc(call: Call) -> tuple[str, Any]:
    return call.url.removeprefix(URL), call.body


def test_rpc_goes_to_the_assets_one_device() -> None:
    session = talking()
    (call,) = calls(session.ordered(command("rpc", method="beep", params=[1]), at(0)))
    assert rpc(call) == (f"/api/relations?fromId={BUOY}&fromType=ASSET", None)
    (call,) = calls(session.answered(call.id, relation(DEVICE, DEVICE), at(1)))
    body = {"method": "beep", "params": [1], "timeout": 7500, "persistent": False}
    assert rpc(call) == (f"/api/rpc/twoway/{DEVICE}", body)
    (response,) = session.answered(call.id, Answer(200, b'{"ok":true}'), at(2)).heard
    assert response == Response("c1", "succeeded", 200, data={"result": {"ok": True}})


def test_relations_that_lead_to_the_asset_count_where_none_lead_from_it() -> None:
    session = talking()
    (call,) = calls(session.ordered(command("rpc", method="beep", oneway=True), at(0)))
    (call,) = calls(session.answered(call.id, relation("x", kind="ASSET"), at(1)))
    assert call.url == f"{URL}/api/relations?toId={BUOY}&toType=ASSET"
    told = [{"from": {"entityType": "DEVICE", "id": DEVICE}, "to": {"entityType": "ASSET", "id": BUOY}}]
    (call,) = calls(session.answered(call.id, Answer(200, json.dumps(told).encode()), at(2)))
    assert call.url == f"{URL}/api/rpc/oneway/{DEVICE}"
    (response,) = session.answered(call.id, Answer(200), at(3)).heard
    assert response == Response("c1", "succeeded", 200, data={"result": None})


def test_a_device_may_be_named_by_id_or_name() -> None:
    session = talking()
    (call,) = calls(session.ordered(command("rpc", method="beep", device=DEVICE), at(0)))
    assert call.url == f"{URL}/api/rpc/twoway/{DEVICE}"
    session.answered(call.id, Answer(200), at(1))
    (call,) = calls(session.ordered(command("rpc", key="c2", method="beep", device="modem"), at(2)))
    assert call.url == f"{URL}/api/entitiesQuery/find"
    assert isinstance(call.body, dict)
    assert call.body["entityFilter"] == {"type": "entityName", "entityType": "DEVICE", "entityNameFilter": "modem"}
    found = [
        {
            "entityId": {"entityType": "DEVICE", "id": one},
            "latest": {"ENTITY_FIELD": {"name": {"ts": 1, "value": name}}},
        }
        for one, name in ((DEVICE, "modem"), ("other", "modem 2"))
    ]
    (call,) = calls(session.answered(call.id, Answer(200, json.dumps({"data": found}).encode()), at(3)))
    assert call.url == f"{URL}/api/rpc/twoway/{DEVICE}"


@pytest.mark.parametrize(
    ("answers", "code", "word"),
    [
        ((relation(), relation()), 404, "no device"),
        ((relation("a", "b"),), 400, "name one"),
        ((Answer(403, b"no"),), 502, "no (HTTP 403)"),
        ((Answer(200, b"<html>"),), 502, "could not be read"),
        ((Answer(0, error="gone"),), 502, "gone"),
        ((Answer(404, b"not found"),), 404, "not found"),
    ],
    ids=["none", "two", "forbidden", "garbage", "no answer", "not found"],
)
def test_where_it_is_not_clear_which_device_nothing_is_sent(answers: tuple[Answer, ...], code: int, word: str) -> None:
    session = talking()
    step = session.ordered(command("rpc", method="beep"), at(0))
    for answer in answers:
        step = session.answered(calls(step)[0].id, answer, at(1))
    (response,) = step.heard
    assert isinstance(response, Response)
    assert response.error is not None
    assert (response.code, word in response.error.message) == (code, True)


def test_an_rpc_that_never_got_to_its_device_is_expired() -> None:
    session = talking()
    session.ordered(command("rpc", method="beep"), at(0))
    assert responses(session.woken(at(10))) == [("c1", 410)]


def test_an_asset_that_is_not_there() -> None:
    session = talking(item())
    assert responses(session.ordered(command("attributes", "asset/x/y", values={"a": 1}), at(0))) == [("c1", 404)]
    assert responses(session.ordered(command("attributes", SUBJECT, key="c2", values={"a": 1}), at(0))) == []
