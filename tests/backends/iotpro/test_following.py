"""Assets: who comes and goes, what of their words is new, what goes wrong with a subscription."""

import json
from typing import Any

import pytest

from bridge.backends.iotpro.history import SETTLE_S
from bridge.backends.session import Answer, Hang, Loss
from bridge.model import Condition, Event, Unread
from tests.backends.iotpro.talk import (
    BUOY,
    DEVICE,
    FIRST,
    LATITUDE,
    MS,
    SUBJECT,
    at,
    calls,
    command,
    commands,
    error,
    events,
    gaps,
    item,
    lat,
    page,
    responses,
    sent,
    stamped,
    started,
    states,
    talking,
    told,
    update,
)

TWO, THREE = "b" * 36, "c" * 36


def asset(number: int, ms: int = 0) -> dict[str, Any]:
    return item(f"Buoy {number}", f"{number:036d}", values=lat(ms))


# What is new.


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (lat(5), [(SUBJECT, 5, {LATITUDE: 1.5})]),
        (lat(0), []),
        (lat(0, "1.50"), []),
        (lat(0, "2"), [(SUBJECT, 0, {LATITUDE: 2})]),
        (lat(-5), [(SUBJECT, -5, {LATITUDE: 1.5})]),
        (lat(None, ""), []),
        ({"other": (5, "1")}, []),
        ({DEVICE: (5, "007"), **lat(5)}, [(SUBJECT, 5, {DEVICE: "007", LATITUDE: 1.5})]),
        ({DEVICE: (4, "12"), **lat(5)}, [(SUBJECT, 4, {DEVICE: "12"}), (SUBJECT, 5, {LATITUDE: 1.5})]),
    ],
    ids=["newer", "the same", "written otherwise", "corrected", "late", "deleted", "not asked", "two", "two moments"],
)
def test_an_update_is_an_event_for_what_was_not_told(said: Any, heard: list[Any]) -> None:
    assert events(told(talking(item(values=lat(0))), update(said))) == heard


@pytest.mark.parametrize(
    ("said", "heard"),
    [(lat(5), [(SUBJECT, 5, {LATITUDE: 1.5})]), (lat(0), []), (lat(-5), []), (lat(None, ""), [])],
    ids=["newer", "the same", "older", "never written"],
)
def test_a_later_snapshot_is_an_event_for_what_is_newer(said: Any, heard: list[Any]) -> None:
    assert events(told(talking(item(values=lat(0))), page(item(values=said), item("Two", TWO)))) == heard


def test_the_state_is_the_newest_of_everything() -> None:
    session = talking(item(values=lat(0), attributes={"assetDetails": (0, '{"a":1}')}))
    told(session, update({DEVICE: (9, "007")}))
    told(session, update(lat(5, "2")))
    assert states(told(session, update(lat(3, "1")))) == [], "a late value changes no state"
    (_, state) = told(session, update(lat(7, "3"))).heard
    assert json.loads(json.dumps(_fields(state))) == {
        "id": BUOY,
        "name": "Harbour Buoy 12",
        "profile": "sea-buoy",
        "label": "HB12",
        "time": "2024-03-05T07:16:30.009000Z",
        "values": {LATITUDE: 3, DEVICE: "007"},
        "attributes": {"assetDetails": {"a": 1}},
    }


def _fields(state: Any) -> dict[str, Any]:
    return {name: getattr(state.data, name) for name in state.data.__struct_fields__}


def test_a_deleted_key_leaves_the_state() -> None:
    step = told(talking(item(values=lat(0))), update(lat(None, "")))
    assert (states(step), events(step)) == ([(SUBJECT, {})], [])


def test_attributes_are_events_on_change() -> None:
    session = talking(item(attributes={"assetDetails": (0, '{"a":1}')}))
    assert (
        events(told(session, update({"assetDetails": (0, '{"a": 1.0}')}, bucket="SERVER_ATTRIBUTE")), "attributes")
        == []
    )
    step = told(session, update({"assetDetails": (5, "[1]"), "other": (5, "1")}, bucket="SERVER_ATTRIBUTE"))
    assert events(step, "attributes") == [(SUBJECT, 5, {"assetDetails": [1]})]


def test_the_same_value_has_the_same_identity_live_and_in_a_snapshot() -> None:
    live = told(talking(item(values=lat(0))), update({DEVICE: (5, "007"), **lat(5, "12.0")}))
    again = talking(item(values=lat(0)))
    snapshot = told(again, page(item(values={**lat(5, "12"), DEVICE: (5, "007")}), asset(2)))
    (one,), (other, *_) = ([one for one in step.heard if isinstance(one, Event)] for step in (live, snapshot))
    assert (one.subject, one.time, one.told) == (other.subject, other.time, other.told)


def test_unknown_members_go_along() -> None:
    message = update(lat(5))
    message["update"][0]["quality"] = "good"
    (event, _) = told(talking(item(values=lat(0))), message).heard
    assert isinstance(event, Event)
    assert event.extra == {"quality": "good"}


# Who comes and goes.


def test_pages_are_asked_until_the_last_one_has_room() -> None:
    session = started(page_size=2)
    step = told(session, page(asset(1), asset(2), pages=3, more=True))
    assert commands(step) == [(FIRST + 1, "ENTITY_DATA"), (FIRST + 2, "ENTITY_DATA")]
    assert [one["query"]["pageLink"]["page"] for one in sent(step)[0]["cmds"]] == [1, 2]
    assert commands(told(session, page(asset(3), asset(4), cmd=FIRST + 1, pages=3, more=True))) == []
    step = told(session, page(asset(5), asset(6), cmd=FIRST + 2, pages=3))
    assert commands(step) == [(FIRST + 3, "ENTITY_DATA")], "a page for who comes next"
    assert Condition("online") in told(session, page(cmd=FIRST + 3, pages=3)).heard


def test_a_page_that_is_asked_for_beside_a_resync_has_a_number_of_its_own() -> None:
    session = started(page_size=2)
    told(session, page(asset(1)))
    session.ordered(command("resync"), at(2))
    assert commands(told(session, page(asset(1), asset(2)))) == [(FIRST + 2, "ENTITY_DATA")]


def test_a_new_asset_is_an_event_at_once_and_its_first_minute_is_read() -> None:
    session = talking(item(values=lat(0)))
    new = stamped(item("Two", TWO, values=lat(5000)), 0, created=-1000)
    step = told(session, page(item(values=lat(0)), new), 10)
    assert events(step) == [("asset/sea-buoy/Two", 5000, {LATITUDE: 1.5})]
    (call,) = calls(session.woken(at(10 + SETTLE_S)))
    assert f"startTs={MS - 1000}&" in call.url
    assert gaps(step) == []


def test_a_removed_asset_loses_its_state() -> None:
    session = talking(item(), item("Two", TWO))
    assert states(told(session, page(item("Two", TWO)))) == [(SUBJECT, None)]


def test_a_page_with_an_entry_that_cannot_be_read_takes_nobody_away() -> None:
    session = talking(item(), item("Two", TWO))
    step = told(session, page(item(values=lat(9)), {"entityId": TWO}))
    assert [one.reason for one in step.heard if isinstance(one, Unread)] == ["wrong_shape"]
    assert events(step) == [(SUBJECT, 9, {LATITUDE: 1.5})]
    assert [subject for subject, _ in states(step)] == [SUBJECT], "nobody's state is cleared"
    assert len(events(told(session, update(lat(10), TWO)))) == 1, "the other one is still followed"
    assert states(told(session, page(item()))) == [("asset/sea-buoy/Two", None)]


def test_who_has_moved_does_not_come_back_with_a_page_that_is_torn() -> None:
    session = started(page_size=2)
    told(session, page(asset(1), asset(2), pages=2, more=True))
    told(session, page(asset(3), cmd=FIRST + 1, pages=2))
    told(session, page(asset(2), asset(3), pages=1))
    told(session, page({"entityId": TWO}, cmd=FIRST + 1, pages=1))
    assert session.woken(at(50)).heard == ()
    told(session, page(cmd=FIRST + 1, pages=1), 51)
    assert "asset/sea-buoy/Buoy 3" not in dict(states(session.woken(at(500))))


def test_who_may_have_moved_to_another_page_is_waited_for() -> None:
    session = started(page_size=2)
    told(session, page(asset(1), asset(2), pages=2, more=True))
    told(session, page(asset(3, 0), cmd=FIRST + 1, pages=2))
    assert states(told(session, page(cmd=FIRST + 1, pages=1))) == []
    step = told(session, page(asset(2), asset(3, 9000), pages=1), 30)
    assert ("asset/sea-buoy/Buoy 1", None) in states(step)
    assert events(step) == [("asset/sea-buoy/Buoy 3", 9000, {LATITUDE: 1.5})]
    assert len(calls(session.woken(at(30 + SETTLE_S)))) == 1, "between the pages nobody told of it"
    assert states(session.woken(at(200))) == []


def test_who_does_not_turn_up_again_is_gone() -> None:
    session = started(page_size=1)
    told(session, page(asset(1), pages=2, more=True))
    told(session, page(asset(2), cmd=FIRST + 1, pages=2))
    told(session, page(cmd=FIRST + 2, pages=2))
    assert states(told(session, page(cmd=FIRST + 1, pages=1), 10)) == []
    assert states(session.woken(at(101))) == [("asset/sea-buoy/Buoy 2", None)]


def test_two_that_swap_their_names_keep_their_states() -> None:
    session = talking(item("A"), item("B", TWO))
    session.ordered(command("resync"), at(2))
    step = told(session, page(item("B"), item("A", TWO), cmd=FIRST + 1))
    assert dict(states(step)) == {"asset/sea-buoy/A": {}, "asset/sea-buoy/B": {}}


def test_an_update_that_comes_before_its_page_is_held() -> None:
    session = talking(item(values=lat(0)))
    assert events(told(session, update(lat(9), TWO))) == []
    step = told(session, page(item(values=lat(0)), item("Two", TWO, values=lat(3))))
    assert events(step) == [("asset/sea-buoy/Two", 3, {LATITUDE: 1.5}), ("asset/sea-buoy/Two", 9, {LATITUDE: 1.5})]


def test_profiles_that_were_not_asked_for_are_passed_over() -> None:
    session = started(profiles=("sea-buoy",))
    step = told(session, page(item(values=lat(0)), item("Light", TWO, profile="light", values=lat(0))))
    assert [subject for subject, _ in states(step)] == [SUBJECT]


def test_names_that_the_snapshot_does_not_tell_are_read_from_the_lists() -> None:
    nameless = item(values=lat(0))
    del nameless["latest"]["ENTITY_FIELD"]
    session = started()
    step = told(session, page(nameless))
    (call,) = calls(step)
    assert call.url.endswith("/api/user/assets?pageSize=1000&page=0&sortProperty=createdTime&sortOrder=ASC")
    (call,) = calls(session.answered(call.id, Answer(400), at(2)))
    assert call.url.endswith("/api/auth/user")
    customer = b'{"authority":"CUSTOMER_USER","customerId":{"entityType":"CUSTOMER","id":"cc"}}'
    (call,) = calls(session.answered(call.id, Answer(200, customer), at(3)))
    assert "/api/customer/cc/assets?" in call.url
    listed = {"data": [{"id": {"id": BUOY}, "name": "A/B", "type": "t", "label": None}], "hasNext": False}
    step = session.answered(call.id, Answer(200, json.dumps(listed).encode()), at(4))
    assert states(step) == [("asset/t/A%2FB", {LATITUDE: 1.5})]
    assert step.heard[-1] == Condition("online")


def test_lists_are_read_anew_at_resync() -> None:
    nameless = item(values=lat(0))
    del nameless["latest"]["ENTITY_FIELD"]
    session = started()
    for number, name in enumerate(("A", "B")):
        (call,) = calls(told(session, page(nameless, cmd=FIRST + number)))
        listed = {"data": [{"id": {"id": BUOY}, "name": name, "type": "t"}]}
        step = session.answered(call.id, Answer(200, json.dumps(listed).encode()), at(2))
        session.ordered(command("resync"), at(3))
    assert states(step) == [("asset/t/A", None), ("asset/t/B", {LATITUDE: 1.5})]
    assert responses(step) == [("c1", 200)]


def test_without_any_list_the_id_is_the_name() -> None:
    nameless = item(values=lat(0))
    del nameless["latest"]["ENTITY_FIELD"]
    session = started()
    (call,) = calls(told(session, page(nameless)))
    (call,) = calls(session.answered(call.id, Answer(403), at(2)))
    step = session.answered(call.id, Answer(500), at(3))
    assert states(step) == [(f"asset/%/{BUOY}", {LATITUDE: 1.5})]


# What goes wrong.


def test_too_many_updates_is_a_gap_that_ends_with_the_next_update() -> None:
    session = talking(item(values=lat(0)), item("Two", TWO, values=lat(0)))
    step = told(session, error(34, "Too many updates!"), 10)
    assert step.heard == (Condition("degraded", "the platform withholds values: Too many updates!"),)
    assert told(session, error(34, "Too many updates!"), 11).heard == ()
    step = told(session, update(lat(9000)), 20)
    assert events(step) == [(SUBJECT, 9000, {LATITUDE: 1.5})]
    assert Condition("online") in step.heard
    assert gaps(step) == ["started"]
    assert commands(step) == [(FIRST + 1, "ENTITY_DATA")], "whose values were dropped is told by a new picture"
    step = told(session, page(item(values=lat(9000)), item("Two", TWO, values=lat(8000)), cmd=FIRST + 1), 21)
    assert commands(step) == [(FIRST, "ENTITY_DATA_UNSUBSCRIBE")]
    assert events(step) == [("asset/sea-buoy/Two", 8000, {LATITUDE: 1.5})]
    first, second = calls(session.woken(at(21 + SETTLE_S)))
    session.answered(first.id, Answer(200, b"{}"), at(22))
    assert gaps(session.answered(second.id, Answer(200, b"{}"), at(23))) == ["done"]


def test_throttling_again_and_again_is_one_longer_gap() -> None:
    session = talking(item(values=lat(0)))
    told(session, error(34, "Too many updates!"), 10)
    assert gaps(told(session, update(lat(9000)), 11)) == ["started"]
    told(session, page(item(values=lat(9000)), cmd=FIRST + 1), 11)
    for second in range(12, 20):
        told(session, error(34, "Too many updates!"), second)
        assert gaps(told(session, update(lat(second * 1000)), second)) == []
    step = told(session, update(lat(22_000)), 22)
    assert (gaps(step), commands(step)) == (["started"], [(FIRST + 2, "ENTITY_DATA")])


def test_what_is_withheld_between_two_updates_of_one_throttling_is_read() -> None:
    session = talking(item(values=lat(0)))
    told(session, error(34, "Too many updates!"), 10)
    told(session, update(lat(9000)), 11)
    told(session, page(item(values=lat(9000)), cmd=FIRST + 1), 11)
    told(session, error(34, "Too many updates!"), 15)
    told(session, update(lat(16_000)), 16)
    told(session, error(34, "Too many updates!"), 17)
    told(session, update(lat(22_000)), 22)
    told(session, page(item(values=lat(22_000)), cmd=FIRST + 2), 22)
    (call,) = calls(session.woken(at(22 + SETTLE_S)))
    assert f"startTs={MS + 1}&endTs={MS + 22_000}&" in call.url, "not only up to the first update that came through"


def test_another_error_is_mended_a_minute_later() -> None:
    session = talking(item(values=lat(0)))
    step = told(session, error(2, "Exceeded rate limit for WS subscriptions per tenant", 17), 10)
    assert isinstance(step.heard[0], Condition)
    assert step.heard[0].state == "degraded"
    step = session.woken(at(70))
    assert commands(step) == [(FIRST + 1, "ENTITY_DATA")]
    assert gaps(step) == ["started"]
    told(session, page(item(values=lat(0)), cmd=FIRST + 1), 71)
    assert gaps(session.woken(at(71 + SETTLE_S))) == ["done"]


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_subscription_refused_at_the_start_is_a_broken_socket(code: int) -> None:
    step = told(started(), error(code, "no"))
    assert isinstance(step.do[0], Hang)
    assert isinstance(step.heard[0], Condition)
    assert (step.heard[0].state, "no" in str(step.heard[0].error)) == ("offline", True)
    assert bool(calls(step)) == (code == 3), "unauthorized: a new login"


# filter and resync.


def test_filter_takes_effect_once_it_is_complete() -> None:
    session = talking(item(values=lat(0)), item("Light", TWO, profile="light"))
    step = session.ordered(command("filter", keys=["battery"], profiles=["sea-buoy"]), at(2))
    (frame,) = sent(step)
    query = frame["cmds"][0]["query"]
    assert query["entityFilter"] == {"type": "assetType", "assetTypes": ["sea-buoy"], "assetNameFilter": ""}
    assert {"type": "TIME_SERIES", "key": "battery"} in query["latestValues"]
    assert events(told(session, update(lat(5)), 3)) != [], "until then the old one is in force"
    step = told(session, page(item(values={"battery": (0, "80")}), cmd=FIRST + 1), 4)
    assert commands(step) == [(FIRST, "ENTITY_DATA_UNSUBSCRIBE")]
    assert responses(step) == [("c1", 200)]
    assert events(step) == []
    assert ("asset/light/Light", None) in states(step)
    assert states(step)[-1] == (SUBJECT, {"battery": 80})
    assert events(told(session, update(lat(6)), 5)) == []


def test_a_filter_refused_by_the_platform_restores_the_old_one() -> None:
    session = talking(item(values=lat(0)))
    session.ordered(command("filter", keys=["battery"]), at(2))
    step = told(session, error(2, "Exceeded rate limit", FIRST + 1), 3)
    assert responses(step) == [("c1", 502)]
    assert commands(step) == [(FIRST + 1, "ENTITY_DATA_UNSUBSCRIBE")]
    assert events(told(session, update({"battery": (5, "1"), **lat(5)}), 4)) == [(SUBJECT, 5, {LATITUDE: 1.5})]


def test_a_filter_that_is_lost_on_its_way_is_unknown_and_not_in_force() -> None:
    session = talking(item(values=lat(0)))
    session.ordered(command("filter", keys=["battery"]), at(2))
    assert responses(session.lost("main", Loss("closed", "gone", at(3)), at(3))) == [("c1", 408)]
    (frame,) = sent(session.opened("main", at(4)))
    assert {"type": "TIME_SERIES", "key": LATITUDE} in frame["cmds"][0]["latestCmd"]["keys"]


def test_resync_tells_how_many_there_are() -> None:
    session = talking(item(values=lat(0)))
    session.ordered(command("resync"), at(2))
    step = told(session, page(item("Renamed", values=lat(0)), item("Two", TWO), cmd=FIRST + 1), 3)
    (response,) = [one for one in step.heard if getattr(one, "code", 0) == 200]
    assert response.data == {"assets": 2}  # type: ignore[union-attr]
    assert states(step)[:2] == [(SUBJECT, None), ("asset/sea-buoy/Renamed", {LATITUDE: 1.5})]
