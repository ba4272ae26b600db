"""Alarms: frames tell at once, the REST list corrects, at most every 10 s (vendor's page)."""

from typing import Any

from bridge.backends.session import Answer
from tests.backends.smartserver.hq import Hq, online, told

FIRE: dict[str, Any] = {"id": 1, "severity": "Major Fault", "state": "Active", "details": "Fire", "type": "Smoke"}
SMOKE: dict[str, Any] = {**FIRE, "id": 2, "details": "Smoke"}


def changes(hq: Hq) -> list[tuple[str, object, str | None]]:
    return [(one.data.change, one.data.id, one.data.text) for one in hq.events("alarm")]


def active(hq: Hq) -> list[object]:
    picture = hq.states("alarms")[-1]
    assert picture.count == len(picture.active)
    return [one.id for one in picture.active]


def test_the_first_list_is_a_picture_and_no_news() -> None:
    hq = online({"GET /iap/alarms": told([FIRE, {"odd": 1}, 5])})
    assert active(hq) == [1]
    assert changes(hq) == []


def test_a_raised_updated_and_cleared_alarm_is_told_at_once() -> None:
    hq = online().value(1)
    hq.tell("CRT:ALARM", FIRE)
    assert (changes(hq), active(hq)) == ([("raised", 1, "Fire")], [1])
    hq.tell("CRT:ALARM", [{**FIRE, "id": "1", "severity": "Minor"}])
    hq.tell("CRT:ALARM", FIRE | {"state": "Cleared"})
    assert [one for one, *_ in changes(hq)] == ["raised", "updated", "cleared"]
    assert active(hq) == []
    assert len(hq.asked("GET /iap/alarms")) == 1, "at most every 10 s"
    hq.later(10)
    assert len(hq.asked("GET /iap/alarms")) == 2


def test_the_same_alarm_told_twice_is_one() -> None:
    hq = online({"GET /iap/alarms": told([FIRE])}).value(1)
    hq.tell("CRT:ALARM", FIRE).tell("CRT:ALARM", FIRE).later(30)
    assert changes(hq) == []


def test_an_alarm_that_only_has_an_id_is_told_within_twelve_seconds() -> None:
    hq = online().value(1).later(5)
    hq.answers["GET /iap/alarms"] = told([FIRE])
    hq.tell("CRT:ALARM", 1).tell("CRT:ALARM", {"what": "fire"}).tell("CRT:ALARM", None)
    hq.tell("CRT:ALARM", {"id": "1", "severity": None})
    assert changes(hq) == []
    hq.later(5.1)
    assert changes(hq) == [("raised", 1, "Fire")]
    assert not hq.unread()


def test_what_the_list_says_is_told_as_a_change() -> None:
    hq = online({"GET /iap/alarms": told([FIRE])}).value(1)
    hq.answers["GET /iap/alarms"] = told([{**SMOKE}, {**FIRE, "state": "Inactive"}])
    hq.tell("DEL:ALARM", {}).later(11)
    assert changes(hq) == [("cleared", 1, "Fire"), ("raised", 2, "Smoke")]
    assert active(hq) == [2]


def test_an_old_list_does_not_undo_what_a_frame_said_meanwhile() -> None:
    hq = online().value(1).later(11)
    hq.answers["GET /iap/alarms"] = None
    hq.tell("CRT:ALARM", FIRE)  # the list is asked for
    hq.tell("CRT:ALARM", SMOKE)
    hq.answer("GET /iap/alarms", told([FIRE]))
    assert active(hq) == [1, 2]
    hq.answers["GET /iap/alarms"] = told([FIRE, SMOKE])
    hq.later(11)
    assert [one for one, *_ in changes(hq)] == ["raised", "raised"]


def test_alarms_of_a_time_when_we_were_blind_are_told_afterwards() -> None:
    hq = online({"GET /iap/alarms": told([FIRE])}).value(1).lose()
    hq.answers["GET /iap/alarms"] = told([SMOKE])
    hq.open("main").settle()
    assert changes(hq) == [("cleared", 1, "Fire"), ("raised", 2, "Smoke")]


def test_a_list_in_pages_and_one_that_is_refused() -> None:
    hq = online({"GET /iap/alarms": told({"resources": [FIRE], "remainingPages": 0, "snapshot": 1})})
    assert active(hq) == [1]
    hq = online({"GET /iap/alarms": Answer(500)})
    assert not hq.states("alarms")
    hq.value(1).tell("CRT:ALARM", FIRE)
    assert (changes(hq), active(hq)) == ([("raised", 1, "Fire")], [1])
