"""The talk: in, list, reads, renewal, loss, and what is said of it (wiki, "IAP/WS Fundamentals"; vendor's clients)."""

import json
from typing import Any

import pytest

from bridge.backends.session import Answer, Call, Hang
from bridge.backends.smartserver.talk import Ask
from bridge.model import Census, Instant
from tests.backends.smartserver.hq import (
    DEVICE,
    EPOCH,
    LAMP,
    LUX,
    LUX_SUBJECT,
    METER,
    OK,
    POINTS,
    POLL,
    Hq,
    cookie,
    online,
    path_of,
    told,
)

LOCKED = told({"message": "Too many failed login attempts. Try again later."}, 429)


def qualifiers(call: Call) -> list[str]:
    """What a read is of."""
    listed = call.url.partition("qualifier=-")[2].partition("/value")[0]
    return [one.replace("%2F", "/").replace("%20", " ") for one in listed.split(",")]


# In


def test_the_way_in() -> None:
    hq = online()
    assert [path_of(one).partition("?")[0] for one in hq.done if isinstance(one, Call)][:3] == [
        "POST /iap/auth/login",
        "GET /iap/auth/sessionTimeout",
        "GET /iap/devs",
    ]
    assert hq.logins() == ["ok"]
    assert hq.links["main"].url == "wss://hq.example/iap/ws"
    assert hq.links["main"].headers["Origin"] == "https://hq.example"
    assert hq.lists() == [[LUX, LAMP]]
    assert not hq.events("gap"), "the first start is none"
    assert hq.of(type(hq.heard[0]))[0].state == "connecting"


def test_the_cookie_is_a_secret_on_everything_but_the_login() -> None:
    hq = online()
    for one in hq.done:
        assert "one" not in repr(one).replace("None", "").replace("done", "")
        headers = getattr(one, "headers", {})
        if "/auth/login" in str(getattr(one, "url", "")):
            assert "Cookie" not in headers
        elif headers:
            assert headers["Cookie"].reveal() == "cmsSID=one"


def test_a_base_with_http_and_a_path() -> None:
    hq = Hq()
    hq.options = hq.options.__class__(**{**{n: getattr(hq.options, n) for n in hq.options.__struct_fields__},
                                         "url": "http://h:8443/cms/"})  # fmt: skip
    hq.session = type(hq.session)(hq.options)
    hq.start().answer(next(iter(hq.calls.values())), cookie())
    assert hq.links["main"].url == "ws://h:8443/cms/iap/ws"
    assert hq.links["main"].headers["Origin"] == "http://h:8443"


LOGINS: dict[str, tuple[Answer, str, str, str, float | None]] = {
    "wrong password": (told({"message": "Invalid"}, 401), "refused", "auth_failed", "username and password", None),
    "locked": (LOCKED, "refused", "auth_failed", "Too many failed", 300.0),
    "too fast": (told({"message": "sending data too fast"}, 429), "refused", "auth_failed", "too fast", 0.0),
    "too fast, with a time": (
        Answer(429, b"", (("retry-after", "77"),)), "refused", "auth_failed", "HTTP 429", 77.0),
    "another way in": (Answer(403), "refused", "auth_failed", "SAML", None),
    "half a login": (told({"mfa": True}), "refused", "auth_failed", "second factor", None),
    "a page": (Answer(200, b"<html>", (("content-type", "text/html"),)), "refused", "auth_failed", "", None),
    "a redirect": (Answer(302, b"", (("location", "/cms"),)), "failed", "offline", "HTTP 302", None),
    "starting": (Answer(503, b"<html>"), "failed", "offline", "HTTP 503", None),
    "not there": (Answer(0, error="connection refused"), "failed", "offline", "connection refused", None),
}  # fmt: skip


@pytest.mark.parametrize("case", LOGINS)
def test_a_login_that_is_not_taken(case: str) -> None:
    answer, outcome, state, words, after = LOGINS[case]
    hq = Hq({"POST /iap/auth/login": answer}).start()
    assert hq.logins() == [outcome]
    assert hq.condition[0] == state
    assert words in (hq.condition[1] or "")
    (again,) = hq.calls.values()
    assert again.again == ("refusal" if outcome == "refused" else "failure")
    assert after is None or again.after == after
    assert not hq.links
    hq.answer(again, cookie()).settle()
    assert hq.logins() == [outcome, "ok"]
    assert hq.condition == ("online", None)


@pytest.mark.parametrize("header", ["cmsSID=; Path=/", "other=1", "cmsSID=a\x00b", "cmsSID=ü"])
def test_a_cookie_that_is_none(header: str) -> None:
    hq = Hq({"POST /iap/auth/login": Answer(200, b"{}", (("set-cookie", header),))}).start()
    assert hq.condition[0] == "auth_failed"


def test_the_newest_of_several_cookies_is_taken() -> None:
    headers = (("set-cookie", "a=1"), ("set-cookie", "cmsSID=x"), ("set-cookie", "cmsSID=y; Secure"))
    hq = online({"POST /iap/auth/login": Answer(200, b"{}", headers)})
    assert hq.asked("GET /iap/version")[0].headers["Cookie"].reveal() == "cmsSID=y"  # type: ignore[union-attr]


# Which datapoints


def test_devices_come_in_pages_and_only_those_that_can_fit_are_asked() -> None:
    def devs(call: Call) -> Answer:
        page = int(call.url.partition("pg=")[2].partition("&")[0])
        assert ("xs=5" in call.url) is (page > 1)
        rows = [{**DEVICE, "id": 100 + page, "DID": str(page), "protocol": "lon" if page == 2 else "modbus"}]
        return told({"snapshot": 5, "remainingPages": 3 - page, "resources": rows})

    point = {"dpQualifier": "17qz7ab/lon/2/A/0/b"}
    hq = online({"GET /iap/devs?": devs, "GET /iap/devs/102/if": told({"resources": [point], "remainingPages": 0})})
    assert hq.lists() == [["17qz7ab/lon/2/A/0/b"]]
    assert not hq.asked("GET /iap/devs/101/")


def test_a_list_that_changes_while_it_is_read_is_begun_anew() -> None:
    snapshots = iter((1, 2, 3, 3))

    def devs(call: Call) -> Answer:
        more = 1 if "pg=1&" in call.url else 0
        row = DEVICE if more else {**DEVICE, "id": 14, "DID": "5"}
        return told({"snapshot": next(snapshots), "remainingPages": more, "resources": [row]})

    hq = online({"GET /iap/devs?": devs, "GET /iap/devs/14/if": told([])})
    assert len(hq.asked("GET /iap/devs?")) == 4
    assert hq.lists() == [[LUX, LAMP]]


def test_a_server_without_pages() -> None:
    many = [{**DEVICE, "id": number, "DID": str(number)} for number in range(200)]
    hq = online({"GET /iap/devs?": told(many), "GET /iap/devs/": told([])}, datapoints=("*/*/7/*/*/*", LUX))
    assert len(hq.asked("GET /iap/devs?")) == 2, "a full page may have another behind it"
    assert [one for one in hq.asked("GET /iap/devs/") if "qualifier" not in one.url] == hq.asked("GET /iap/devs/7/if")
    assert hq.lists() == [[LUX]]


def test_few_devices_are_asked_at_a_time() -> None:
    many = [{**DEVICE, "id": number, "DID": str(number)} for number in range(50)]
    hq = Hq({"GET /iap/devs?": told(many), "GET /iap/devs/": None}).start()
    asked = [one for one in hq.calls.values() if "/if/" in one.url]
    assert len(asked) == 4
    hq.answer(asked[0], told([]))
    assert len([one for one in hq.calls.values() if "/if/" in one.url]) == 4


def test_names_written_out_need_no_device_list() -> None:
    hq = Hq({"GET /iap/devs?": None}, datapoints=(LUX,)).start()
    assert hq.condition == ("online", None)
    assert hq.lists() == [[LUX]]


def test_a_device_list_that_cannot_be_read_now_is_asked_for_again() -> None:
    hq = Hq({"GET /iap/devs?": Answer(503)}).start()
    assert hq.condition[0] == "connecting"
    assert "503" in (hq.condition[1] or "")
    (again,) = [one for one in hq.calls.values() if "/iap/devs" in one.url]
    assert again.again == "failure"
    hq.answer(again, told([DEVICE])).settle()
    assert hq.condition == ("online", None)


def test_a_device_list_that_is_refused_degrades_and_is_asked_for_later() -> None:
    hq = Hq({"GET /iap/devs?": told({"message": "no rights"}, 403)}, datapoints=(LUX, "*/*/*/*/*/*")).start()
    assert hq.condition[0] == "degraded"
    assert "no rights" in (hq.condition[1] or "")
    assert hq.lists() == [[LUX]]
    hq.answers["GET /iap/devs?"] = told([DEVICE])
    hq.value(1).later(301)
    assert hq.lists()[-1] == [LUX, LAMP]
    assert hq.condition == ("online", None)


def test_globs_that_fit_nothing_are_said() -> None:
    hq = Hq(datapoints=("*/bacnet/*/*/*/*",)).start()
    assert hq.condition[0] == "degraded"
    assert "fits" in (hq.condition[1] or "")
    assert online(datapoints=()).lists() == [[]], "none wanted"


def test_datapoints_that_are_named_by_their_parts() -> None:
    row = {"deviceId": 12, "blockName": "Digital Input", "blockIndex": 0, "datapointName": "nvoValue", "name": "x"}
    hq = online({"GET /iap/devs/12/if": told([row, 7, {"blockName": "x"}])})
    assert hq.lists() == [["17qz7ab/lon/4/Digital Input/0/nvoValue"]]


def test_a_new_device_brings_its_datapoints() -> None:
    hq = online()
    new = {**DEVICE, "id": 14, "DID": "9", "name": "New"}
    hq.answers["GET /iap/devs/14/if"] = told([{"dpQualifier": "17qz7ab/lon/9/A/0/b"}])
    hq.tell("UPD:DEVICE", new)
    assert hq.lists()[-1] == [LUX, LAMP, "17qz7ab/lon/9/A/0/b"]
    hq.later(3)
    assert qualifiers(hq.asked("GET /iap/devs/*/if")[-1]) == ["17qz7ab/lon/9/A/0/b"]


def test_a_new_device_that_does_not_say_who_it_is() -> None:
    hq = online()
    hq.answers["GET /iap/devs?"] = told([DEVICE, {**DEVICE, "id": 14, "DID": "9"}])
    hq.answers["GET /iap/devs/14/if"] = told([{"dpQualifier": "17qz7ab/lon/9/A/0/b"}])
    hq.tell("UPD:DEVICE", {"id": 14, "status": {"state": "provisioned"}})
    assert hq.lists()[-1] == [LUX, LAMP, "17qz7ab/lon/9/A/0/b"]


def limited(most: int, *, unknown: str = "") -> dict[str, Any]:
    """A server that takes no longer list, and no list with this name in it."""

    def take(call: Call) -> Answer:
        wanted = json.loads(call.body) if isinstance(call.body, bytes) else []
        return told({"message": "too much"}, 400) if len(wanted) > most or unknown in wanted else OK

    return {"PUT /iap/dp": take}


def names_of(count: int) -> tuple[str, ...]:
    return tuple(f"s/lon/{number}/A/0/b" for number in range(count))


@pytest.mark.parametrize(("count", "most"), [(2000, 1500), (2000, 1), (100, 99), (3, 2)])
def test_a_list_that_is_too_long_is_filled_up_to_the_limit(count: int, most: int) -> None:
    hq = Hq(limited(most), datapoints=names_of(count)).start()
    assert hq.condition[0] == "degraded"
    assert f"only {most} of {count}" in (hq.condition[1] or "")
    assert "too much" in (hq.condition[1] or "")
    assert hq.lists()[-1] == list(names_of(most))
    assert len(hq.lists()) < 40


def test_a_name_that_is_refused_is_left_out() -> None:
    hq = Hq(limited(10_000, unknown="s/lon/77/A/0/b"), datapoints=names_of(2000)).start()
    assert "only 1999 of 2000" in (hq.condition[1] or "")
    assert hq.lists()[-1] == [one for one in names_of(2000) if one != "s/lon/77/A/0/b"]
    assert len(hq.lists()) < 40


def test_a_server_that_takes_no_list_at_all() -> None:
    hq = Hq({"PUT /iap/dp": Answer(405)}, datapoints=names_of(100)).start()
    assert "only 0 of 100" in (hq.condition[1] or "")
    assert len(hq.lists()) < 40


def test_a_list_is_sent_again_while_the_server_is_busy() -> None:
    hq = Hq({"PUT /iap/dp": Answer(429, b"", (("retry-after", "9"),))}).start()
    assert hq.condition[0] == "connecting"
    (again,) = [one for one in hq.calls.values() if "subscribe" in one.url]
    assert (again.again, again.after) == ("failure", 9.0)
    hq.answers["PUT /iap/dp"] = OK
    hq.answer(again, OK).settle()
    assert hq.condition == ("online", None)


# Reads


def test_every_datapoint_is_read_once_at_the_platforms_pace() -> None:
    hq = online({"PUT /iap/dp": OK}, datapoints=names_of(25))
    reads = hq.asked("GET /iap/devs/*/if")
    assert [len(qualifiers(one)) for one in reads] == [10]
    assert "max_age=0&noxs=true" in reads[0].url
    for _ in range(12):  # an update keeps the list from looking taken
        hq.value(1, names_of(1)[0]).later(10)
    assert [len(qualifiers(one)) for one in hq.asked("GET /iap/devs/*/if")] == [10, 10, 5]
    read = [one for call in hq.asked("GET /iap/devs/*/if") for one in qualifiers(call)]
    assert sorted(read) == sorted(names_of(25))


def test_reads_are_two_seconds_apart_and_more_under_load() -> None:
    hq = online(datapoints=names_of(60))
    hq.later(1.9)
    assert len(hq.asked("GET /iap/devs/*/if")) == 1
    hq.later(0.2)
    assert len(hq.asked("GET /iap/devs/*/if")) == 2
    hq.tell("UPD:SC:CPU", {"17qz7ab": 97}).later(12)
    assert len(hq.asked("GET /iap/devs/*/if")) == 4
    hq.tell("UPD:CPU", 23).later(13)
    assert len(hq.asked("GET /iap/devs/*/if")) > 5


def test_poll_reads_again_and_again() -> None:
    hq = online(poll=POLL)
    for _ in range(18):
        hq.value(1).later(10)
    assert len(hq.asked("GET /iap/devs/*/if")) == 4


def test_the_first_answers_make_states_and_no_events() -> None:
    row = {"dpQualifier": LUX, "utc": "2025-03-02T08:00:00Z[UTC]", "value": 7}
    hq = online({"GET /iap/devs/*/if": told([row, {"odd": 1}])})
    assert [(one.value, one.time) for one in hq.states(LUX_SUBJECT)] == [(7, "2025-03-02T08:00:00.000000Z")]
    assert not hq.events("value")


def test_a_read_that_is_refused_is_passed_over_and_a_busy_one_repeated() -> None:
    hq = online({"GET /iap/devs/*/if": Answer(400)}, datapoints=names_of(20)).later(5)
    assert len(hq.asked("GET /iap/devs/*/if")) == 2
    busy = Answer(429, b"", (("retry-after", "30"),))
    hq = online({"GET /iap/devs/*/if": busy}, datapoints=names_of(20)).later(5)
    (again,) = [one for one in hq.calls.values() if "qualifier" in one.url]
    assert (again.again, again.after) == ("failure", 30.0)


# Whose list it is


def test_a_read_without_an_update_means_that_the_list_was_taken() -> None:
    hq = online().later(9.9)
    assert hq.condition == ("online", None)
    hq.later(0.2)
    assert hq.condition[0] == "degraded"
    assert "another program" in (hq.condition[1] or "")
    assert hq.lists() == [[LUX, LAMP]] * 2
    assert len(hq.asked("GET /iap/devs/*/if")) == 2, "is it ours again?"
    hq.value(1)
    assert hq.condition == ("online", None)
    hq.later(600)
    assert hq.lists() == [[LUX, LAMP]] * 2


def test_whether_a_stolen_list_is_ours_again_is_asked_once_the_platform_has_it() -> None:
    """A read that overtakes the list brings its update to nobody."""
    hq = online()
    hq.answers["PUT /iap/dp/updates"] = None
    hq.later(12)
    assert (hq.condition[0], len(hq.lists())) == ("degraded", 2)
    assert len(hq.asked("GET /iap/devs/*/if")) == 1
    hq.answer("PUT /iap/dp/updates", Answer(204))
    assert len(hq.asked("GET /iap/devs/*/if")) == 2
    hq.value(1)
    assert hq.condition == ("online", None)


def test_an_update_that_comes_before_the_answer_to_the_read_is_its_update() -> None:
    held: dict[str, Any] = {"GET /iap/devs/*/if": None}
    hq = online(held).later(0.1).value(1)
    hq.answer("GET /iap/devs/*/if", told([])).later(30)
    assert hq.condition == ("online", None), "a round"
    hq.answers["GET /iap/devs/12/if"] = None
    hq.order("read", LUX_SUBJECT, max_age="0s")
    hq.later(0.1).value(2).answer("GET /iap/devs/12/if", told([POINTS[0]])).later(30)
    assert hq.condition == ("online", None), "a command"
    assert hq.lists() == [[LUX, LAMP]]


def test_a_device_that_is_removed_before_it_answers_proves_nothing() -> None:
    there = {
        "GET /iap/devs/13/if": told([{"dpQualifier": "17qz7ab/modbus/2.1/Meter/0/power", "value": 1}]),
        "GET /iap/devs/12/if/Light": told([POINTS[0]]),
    }
    hq = online(there, datapoints=("*/*/*/*/*/*",)).value(1).later(60)
    hq.order("read", LUX_SUBJECT, max_age="0s")
    hq.tell("DEL:DEVICE", 12).later(11)
    assert hq.condition == ("online", None)


def test_a_list_that_stays_taken_is_sent_again_now_and_then() -> None:
    hq = online().later(3600)
    assert hq.condition[0] == "degraded"
    assert 8 <= len(hq.lists()) <= 20
    assert hq.lists()[-1] == [LUX, LAMP]


def test_a_list_that_is_taken_is_noticed_without_polling() -> None:
    """After ten minutes without an update, or when updates come that are not ours."""
    hq = online().value(1).later(599)
    assert len(hq.asked("GET /iap/devs/*/if")) == 1
    hq.later(12)
    assert qualifiers(hq.asked("GET /iap/devs/*/if")[1]) == [LUX]
    assert hq.condition[0] == "degraded"
    hq.value(1)
    assert hq.condition == ("online", None)
    hq = online().value(1).later(20).value(1, "s/lon/9/A/0/b").value(1, "s/lon/9/A/0/b").later(11)
    assert len(hq.asked("GET /iap/devs/*/if")) == 3, "one that asks, and one after the list was sent again"
    assert hq.lists() == [[LUX, LAMP]] * 2
    assert hq.condition[0] == "degraded"


def test_updates_of_others_prove_nothing() -> None:
    hq = online()
    for _ in range(11):
        hq.value(1, "s/lon/9/A/0/b").later(1)
    assert hq.condition[0] == "degraded"


def test_a_device_that_is_down_proves_nothing() -> None:
    down = {**DEVICE, "status": {"state": "provisioned", "health": "down"}}
    assert online({"GET /iap/devs?": told([down])}).later(60).condition == ("online", None)
    hq = online()
    hq.tell("CRT:NOTIFICATION", {"message": "queryStatus  Device does not respond!", "targetName": "MS-Lobby"})
    assert hq.later(60).condition == ("online", None)


# Renewal


def renewed(**answers: Any) -> Hq:
    cookies = iter(("one", "two", "three", "four"))
    hq = online({"POST /iap/auth/login": lambda call: cookie(next(cookies)), **answers})
    hq.lively = True
    return hq


def test_a_session_is_renewed_at_half_of_its_time_beside_the_old_one() -> None:
    hq = renewed().value(1)
    hq.later(43_199)
    assert hq.logins() == ["ok"]
    hq.later(1.1)
    assert hq.logins() == ["ok", "ok"]
    assert set(hq.links) == {"main", "main-2"}
    assert hq.links["main-2"].headers["Cookie"].reveal() == "cmsSID=two"  # type: ignore[union-attr]
    assert hq.lists() == [[LUX, LAMP]] * 2
    hq.value(2, link="main").value(3, link="main-2")
    assert not hq.asked("POST /iap/auth/logout")
    hq.later(1.1)
    assert set(hq.links) == {"main-2"}
    (logout,) = hq.asked("POST /iap/auth/logout")
    assert logout.headers["Cookie"].reveal() == "cmsSID=one"  # type: ignore[union-attr]
    assert [one for one in hq.values() if one in (1, 2, 3)] == [1, 2, 3]
    assert hq.condition == ("online", None)
    assert not hq.events("gap")
    hq.value(4, link="main-2").later(43_200)
    assert set(hq.links) == {"main"}, "in turn"


@pytest.mark.parametrize(
    ("answer", "half"),
    [(told(60_000), 30), (told("60000"), 30), (told({"value": 60_000}), 30), (Answer(404), 43_200), (told(-1), 43_200),
     (told(0), 43_200), (told("long"), 43_200), (told(True), 43_200), (told(1e300), None)],
)  # fmt: skip
def test_half_of_the_time_that_is_reported(answer: Answer, half: float | None) -> None:
    hq = renewed(**{"GET /iap/auth/sessionTimeout": answer}).value(1)
    hq.later((half or 1e6) - 1)
    assert hq.logins() == ["ok"]
    hq.later(2)
    assert hq.logins() == ["ok"] * (1 if half is None else 2)


def test_a_renewal_that_fails_is_tried_again_beside_a_session_that_tells_on() -> None:
    hq = renewed().value(1)
    hq.answers["POST /iap/auth/login"] = Answer(503)
    hq.later(43_201)
    assert hq.condition[0] == "degraded"
    assert "renewed" in (hq.condition[1] or "")
    hq.value(2)
    assert hq.values()[-1] == 2
    hq.answers["POST /iap/auth/login"] = cookie("two")
    (again,) = [one for one in hq.calls.values() if "login" in one.url]
    assert again.again == "failure"
    hq.answer(again, cookie("two")).settle()
    assert hq.condition == ("online", None)
    assert hq.later(2).links.keys() == {"main-2"}


def test_the_old_socket_is_lost_while_the_new_one_is_on_its_way() -> None:
    hq = renewed().value(1)
    hq.answers["PUT /iap/dp"] = None
    hq.later(43_201)
    hq.lose("main")
    assert hq.condition[0] == "offline"
    hq.answers["PUT /iap/dp"] = OK
    hq.settle()
    assert hq.condition == ("online", None)
    assert set(hq.links) - {"log-backfill"} == {"main-2"}
    assert len(hq.events("gap")) == 1


def test_a_new_socket_that_is_not_let_in_leaves_the_old_one_alone() -> None:
    hq = renewed().value(1)
    hq.opens = lambda link: link == "main"
    hq.later(43_201).lose("main-2", "failed", 503)
    assert "main" in hq.links
    assert hq.condition[0] == "degraded"
    assert hq.links["main-2"].again == "failure"
    hq.value(2)
    assert hq.values()[-1] == 2
    hq.open("main-2").settle()
    assert hq.condition == ("online", None)


def test_logout_is_put_where_there_is_no_post() -> None:
    hq = renewed(**{"POST /iap/auth/logout": Answer(405)}).value(1)
    hq.later(43_205)
    assert len(hq.asked("PUT /iap/auth/logout")) == 1


# A session that is over


@pytest.mark.parametrize("over", [Answer(401), Answer(302), Answer(200, b" <html>")])
def test_a_request_that_is_told_so_is_made_once_more_after_one_login(over: Answer) -> None:
    hq = renewed()
    hq.answers["GET /iap/alarms"] = lambda call: over if "one" in call.headers["Cookie"].reveal() else told([])
    hq.answers["GET /iap/dlaRules"] = hq.answers["GET /iap/alarms"]
    hq.value(1).tell("CRT:ALARM", 1).later(11)
    assert hq.logins() == ["ok", "ok"]
    assert len(hq.asked("GET /iap/alarms")) == 3
    assert hq.condition == ("online", None)
    assert not hq.asked("POST /iap/auth/logout"), "it is over already"


def test_a_request_that_is_refused_again_is_given_up() -> None:
    hq = renewed()
    hq.answers["GET /iap/alarms"] = Answer(401)
    hq.value(1).tell("CRT:ALARM", 1).later(30)
    assert len(hq.logins()) <= 5
    assert hq.condition == ("online", None)


def test_a_login_that_is_refused_then_is_auth_failed_though_the_socket_tells_on() -> None:
    hq = renewed()
    hq.answers |= {"GET /iap/alarms": Answer(401), "POST /iap/auth/login": Answer(401)}
    hq.value(1).tell("CRT:ALARM", 1).later(11)
    assert hq.condition[0] == "auth_failed"
    hq.value(2)
    assert hq.values() == [1, 2]
    assert hq.condition[0] == "auth_failed"


# Lost


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_a_handshake_that_is_refused_means_one_login_then_back_off(status: int) -> None:
    hq = Hq()
    hq.opens = lambda link: False
    hq.start()
    kind = "refused" if status in (401, 403) else "failed"
    hq.lose("main", kind, status)
    assert hq.logins() == ["ok", "ok"]
    assert getattr(hq.links["main"], "again", "") is None
    hq.lose("main", kind, status)
    assert hq.logins() == ["ok", "ok"]
    assert hq.links["main"].again == ("refusal" if kind == "refused" else "failure")
    assert hq.condition[0] == ("auth_failed" if kind == "refused" else "offline")
    hq.lose("main", kind, status)
    assert hq.logins() == ["ok"] * 3
    hq.open("main").settle()
    assert hq.condition == ("online", None)


def test_a_lost_socket_is_dialled_again_and_the_list_sent_again() -> None:
    hq = online().value(1)
    hq.lose("main", "failed", after=12.0)
    assert hq.condition == ("offline", "the connection broke")
    assert (hq.links["main"].again, hq.links["main"].after) == ("failure", 12.0)
    hq.later(5).open("main").settle()
    assert hq.condition == ("online", None)
    assert hq.logins() == ["ok"]
    assert hq.lists() == [[LUX, LAMP]] * 2
    assert len(hq.asked("GET /iap/alarms")) == 2
    assert len(hq.asked("GET /iap/devs?")) == 2


def test_a_reconnect_that_was_asked_for_does_not_wait() -> None:
    hq = online().value(1).later(1).lose("main", "asked", seen_before=1.0)
    assert hq.condition == ("online", None)
    assert [one.data.backfill for one in hq.events("gap")] == ["started"]


def test_what_has_changed_meanwhile_is_told() -> None:
    row = {"dpQualifier": LUX, "utc": "2025-03-02T08:15:30Z", "value": 7}
    hq = online().value(1)
    down = {**DEVICE, "status": {"state": "provisioned", "health": "down"}}
    hq.answers |= {"GET /iap/devs?": told([down]), "GET /iap/devs/*/if": told([row])}
    hq.lose("main").later(60).open("main").settle()
    assert [(one.type, one.subject) for one in hq.events("status", "removed")] == [
        ("removed", "17qz7ab/dev/modbus/2.1"),
        ("status", "17qz7ab/dev/lon/4"),
    ]
    assert hq.states("17qz7ab/dev/modbus/2.1")[-1] is None
    (missed,) = [one for one in hq.events("value") if one.replay]
    assert (missed.data.value, missed.time) == (7, "2025-03-02T08:15:30.000000Z")


def test_a_restart_is_a_gap() -> None:
    hq = Hq().start(seen=Instant(900.0, EPOCH - 100))
    (gap,) = hq.events("gap")
    assert (gap.data.since, gap.data.reason) == ("2025-03-02T08:13:20.000000Z", "restarted")


def test_polling_that_is_paused_is_told_when_we_come() -> None:
    hq = online({"GET /iap/dlaRules": told({"value": False})})
    assert [one.data.active for one in hq.events("monitoring")] == [False]
    hq.lose("main").open("main").settle()
    assert len(hq.events("monitoring")) == 1


# The end


def test_nothing_is_said_with_our_own_cookie_in_it() -> None:
    hq = Hq({"POST /iap/auth/login": cookie("s3cret"), "PUT /iap/dp": told({"message": "bad cmsSID s3cret"}, 400)})
    hq.start()
    assert "s3cret" not in repr(hq.heard)
    assert "…" in (hq.condition[1] or "")


def test_a_request_is_a_value() -> None:
    assert Ask("GET", "/iap/version") == Ask("GET", "/iap/version")
    assert not [one for one in online().done if isinstance(one, Hang)]
    assert POINTS[0]["dpQualifier"] == LUX


def test_one_list_is_on_its_way_at_a_time() -> None:
    """Of two, nobody could say which one counts."""
    hq = online().value(1)
    hq.answers["PUT /iap/dp"] = None
    new = {**DEVICE, "id": 14, "DID": "9", "name": "New"}
    hq.answers["GET /iap/devs/14/if"] = told([{"dpQualifier": "17qz7ab/lon/9/A/0/b"}])
    key = hq.order("filter", datapoints=[LUX])
    hq.tell("UPD:DEVICE", new)
    assert hq.lists()[1:] == [[LUX]]
    hq.answer("PUT /iap/dp", OK)
    assert getattr(hq.response(key), "code", None) == 200
    assert hq.lists()[1:] == [[LUX], [LUX]], "the new device came before the filter, and is not wanted by it"
    hq.tell("UPD:DEVICE", {**new, "id": 15, "DID": "10"})
    second = hq.order("filter", datapoints=[LAMP])
    assert hq.lists()[3:] == []
    hq.answer("PUT /iap/dp", OK)
    assert hq.lists()[3:] == [[LAMP]]
    hq.answer("PUT /iap/dp", OK)
    assert getattr(hq.response(second), "code", None) == 200


def test_a_list_of_no_devices_is_not_believed_at_once() -> None:
    hq = online().value(1)
    hq.lively = True
    hq.answers["GET /iap/devs?"] = told([])
    hq.lose().open("main").settle()
    assert hq.condition[0] == "degraded"
    assert not hq.events("removed")
    hq.answers["GET /iap/devs?"] = told([DEVICE])
    hq.value(1).later(301)
    assert hq.condition == ("online", None)
    hq = Hq({"GET /iap/devs?": told([])}).start()
    assert hq.condition[0] == "degraded"
    hq.answers["GET /iap/devs?"] = told([DEVICE])
    assert hq.later(301).condition == ("online", None)
    assert hq.lists()[-1] == [LUX, LAMP]


def test_who_is_there_is_told_once_when_all_of_it_is_known() -> None:
    there = {
        "17qz7ab/dev/lon/4",
        "17qz7ab/dev/modbus/2.1",
        LUX_SUBJECT,
        "17qz7ab/dev/lon/4/if/Lamp/0/nviValue",
        "alarms",
    }
    hq = online({"GET /iap/devs?": told([DEVICE, METER, {"id": 99, "name": "has no address"}])})
    assert hq.of(Census) == [Census(frozenset(there))]
    hq.lively = True
    hq.lose().open("main").settle()
    assert len(hq.of(Census)) == 1


@pytest.mark.parametrize("path", ["GET /iap/devs?", "GET /iap/devs/12/if"])
def test_nobody_is_counted_out_while_something_cannot_be_read(path: str) -> None:
    """It is asked for again after a while, and then all is known."""
    hq = Hq({path: told("not for you", 403)}).start()
    assert hq.condition[0] == "degraded"
    assert not hq.later(301).of(Census)
    assert hq.condition[0] == "degraded"
    hq.answers.clear()
    assert [LUX_SUBJECT in one.subjects for one in hq.later(301).of(Census)] == [True]
    assert hq.condition == ("online", None)


def test_a_platform_without_devices_counts_nobody_out() -> None:
    assert not Hq({"GET /iap/devs?": told([])}).start().of(Census)
