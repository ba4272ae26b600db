"""The data log: a socket per query, "end" is its end (wiki, "Data Log WebSocket Queries"); and gaps filled from it."""

import json
from typing import Any
from urllib.parse import parse_qsl

from bridge.backends.session import Answer
from bridge.model import Instant
from tests.backends.smartserver.hq import (
    DEVICE,
    EPOCH,
    LAMP,
    LUX,
    LUX_SUBJECT,
    POINTS,
    POLL,
    Hq,
    Table,
    cookie,
    online,
    told,
)

END = b'"end"'
HOUR: dict[str, Any] = {"from": "2025-03-02T07:00:00Z", "to": "2025-03-02T09:00:00.5+01:00"}
FAR = "17qz7ab/lon/9/A/0/b"
LOG = "log-backfill"


def entry(value: Any, time: str, qualifier: str = LUX, **more: Any) -> dict[str, Any]:
    return {
        "id": 90211, "deviceId": 12, "deviceName": "MS-Lobby", "blockName": "LightSensor", "blockIndex": "0",
        "datapointName": "nvoLuxLevel", "name": "nvoLuxLevel", "dpQualifier": qualifier,
        "utc": f"2025-03-02T{time}Z[UTC]",
        "local": "2025-03-02T08:45:00.000+01:00[Europe/Berlin]", "deviceHealth": "normal", "value": value,
        "localizedValue": value, "tags": ["level1"], **more,
    }  # fmt: skip


def query(hq: Hq, link: str) -> dict[str, str]:
    assert hq.links[link].pull
    address, _, text = str(hq.links[link].url).partition("?")
    assert address == "wss://hq.example/iap/ws"
    assert "+" not in text
    assert "*" not in text
    return dict(parse_qsl(text, strict_parsing=True))


# The command


def test_a_query_of_one_datapoint_and_its_entries() -> None:
    hq = online()
    key = hq.order("datalog", datapoints=["*/*/*/LightSensor/*/*"], **HOUR)
    assert query(hq, "log-1") == {
        "dev": "12",
        "blockName": "LightSensor",
        "blockIndex": "0",
        "dpName": "*+xifName==nvoLuxLevel",
        "value": "*+utc>2025-03-02T07:00:00.000&utc<=2025-03-02T08:00:00.500",
    }
    hq.receive(entry(301, "07:45:00.000"), "log-1").receive(entry(302, "07:40:00"), "log-1").receive(END, "log-1")
    assert "log-1" not in hq.links
    first, second = hq.events("log")
    assert (first.subject, first.time, first.replay) == (LUX_SUBJECT, "2025-03-02T07:45:00.000000Z", True)
    assert (first.data.value, first.data.localized, first.data.request) == (301, 301, "id1")
    assert first.extra == {
        "id": 90211, "deviceName": "MS-Lobby", "name": "nvoLuxLevel", "deviceHealth": "normal", "tags": ["level1"],
    }  # fmt: skip
    assert second.data.value == 302
    response = hq.response(key)
    assert response is not None
    assert (response.code, response.data) == (200, {"count": 2, "request": "id1"})
    assert not hq.states(LUX_SUBJECT), "history is no picture"


def test_several_datapoints_of_a_device_are_one_query_and_devices_follow_each_other() -> None:
    far = {**DEVICE, "id": "x 9", "DID": "9"}
    answers = {
        "GET /iap/devs?": told([DEVICE, far]), "GET /iap/devs/x": told([{"dpQualifier": FAR}]),
        "GET /iap/devs/*": told([]),
    }  # fmt: skip
    hq = online(answers)
    key = hq.order("datalog", datapoints=["*/*/*/*/*/*"], **HOUR)
    assert set(query(hq, "log-1")) == {"dev", "value"}
    hq.receive(entry(1, "07:10:00"), "log-1").receive(entry(2, "07:10:00", LAMP), "log-1")
    hq.receive(entry(3, "07:10:00", "17qz7ab/lon/4/Other/0/x"), "log-1")  # not asked for
    hq.receive(entry(4, "06:10:00"), "log-1").receive(entry(5, "08:10:00"), "log-1")  # nor these times
    hq.receive(END, "log-1")
    assert query(hq, "log-1")["dev"] == "x 9"
    hq.receive(entry(6, "07:10:00", FAR), "log-1").receive(END, "log-1")
    assert [one.data.value for one in hq.events("log")] == [1, 2, 6]
    response = hq.response(key)
    assert response is not None
    assert response.data["count"] == 3


def test_nothing_logged_and_nothing_that_fits() -> None:
    hq = online()
    key = hq.order("datalog", datapoints=[LUX], **HOUR)
    response = hq.receive(b' "end" ', "log-1").response(key)
    assert response is not None
    assert (response.code, response.data["count"]) == (200, 0)
    response = hq.response(hq.order("datalog", datapoints=["*/bacnet/*/*/*/*"], **HOUR))
    assert response is not None
    assert response.code == 404


def test_a_datapoint_that_nobody_knows_is_asked_for_by_its_handle() -> None:
    hq = online()
    hq.order("datalog", datapoints=["17qz7ab/lon/77/A B/1/c"], **HOUR)
    told_ = query(hq, "log-1")
    assert (told_["dev"], told_["blockName"], told_["blockIndex"]) == ("17qz7ab.77", "A B", "1")


def test_a_log_that_ends_before_its_end_is_partial() -> None:
    hq = online()
    key = hq.order("datalog", datapoints=[LUX], **HOUR)
    hq.receive(entry(1, "07:10:00"), "log-1").lose("log-1")
    response = hq.response(key)
    assert response is not None
    assert (response.status, response.code) == ("failed", 502)
    assert response.data == {"count": 1, "request": "id1", "partial": True}
    assert hq.condition == ("online", None)


def test_no_more_than_the_limit() -> None:
    hq = online()
    key = hq.order("datalog", datapoints=[LUX, LAMP], limit=2, **HOUR)
    for minute in (10, 20, 30):
        if "log-1" in hq.links:
            hq.receive(entry(minute, f"07:{minute}:00"), "log-1")
    response = hq.response(key)
    assert response is not None
    assert response.data == {"count": 2, "request": "id1", "limited": True}
    assert len(hq.events("log")) == 2


def test_commands_do_not_wait_for_a_log_and_four_logs_are_enough() -> None:
    hq = online()
    keys = [hq.order("datalog", datapoints=[LUX], **HOUR) for _ in range(5)]
    assert [getattr(hq.response(key), "code", None) for key in keys] == [None, None, None, None, 429]
    write = hq.order("clear_alarms")
    assert hq.response(write)
    assert set(hq.links) == {"main", "log-1", "log-2", "log-3", "log-4"}
    hq.receive(END, "log-2")
    hq.order("datalog", datapoints=[LUX], **HOUR)
    assert "log-2" in hq.links


def test_a_log_that_is_not_opened_in_time_and_one_that_falls_silent() -> None:
    hq = online().value(1)
    hq.opens = lambda link: link == "main"
    key = hq.order("datalog", datapoints=[LUX], **HOUR)
    hq.later(10.1)
    response = hq.response(key)
    assert response is not None
    assert response.code == 408
    assert "log-1" not in hq.links
    hq.opens = lambda link: True
    key = hq.order("datalog", datapoints=[LUX], **HOUR)
    hq.receive(entry(1, "07:10:00"), "log-1").later(599)
    assert not hq.response(key)
    hq.later(2)
    response = hq.response(key)
    assert response is not None
    assert (response.code, response.data["partial"]) == (502, True)


def test_a_log_outlives_the_general_socket() -> None:
    hq = online().value(1)
    key = hq.order("datalog", datapoints=[LUX], **HOUR)
    hq.lose().receive(entry(1, "07:10:00"), "log-1").receive(END, "log-1")
    assert getattr(hq.response(key), "code", None) == 200


def test_a_log_that_meets_the_end_of_its_session_is_asked_for_once_more() -> None:
    cookies = iter(("one", "two", "three"))
    hq = online({"POST /iap/auth/login": lambda call: cookie(next(cookies))}).value(1)
    hq.opens = lambda link: not link.startswith("log")
    key = hq.order("datalog", datapoints=[LUX], **HOUR)
    hq.lose("log-1", "refused", 401)
    assert hq.logins() == ["ok", "ok"]
    assert hq.links["log-1"].headers["Cookie"].reveal() == "cmsSID=two"  # type: ignore[union-attr]
    hq.lose("log-1", "refused", 401)
    assert hq.logins() == ["ok", "ok"]
    assert getattr(hq.response(key), "code", None) == 502


def test_what_cannot_be_read_in_a_log_and_what_belongs_elsewhere() -> None:
    hq = online()
    key = hq.order("datalog", datapoints=[LUX], **HOUR)
    for frame in (b"{", {"odd": 1}, 7, {"action": "UPD:CPU", "payload": 5}, {"action": "UPD:CPU"}):
        hq.receive(frame, "log-1")
    hq.value(9, link="log-1").receive(END, "log-1")
    assert hq.unread() == ["not_json", "wrong_shape", "wrong_shape", "wrong_shape"]
    assert [one.type for one in hq.events("load", "value", "log")] == ["load", "value"]
    response = hq.response(key)
    assert response is not None
    assert response.data["count"] == 0


# Backfill


def gaps(hq: Hq) -> list[str]:
    return [one.data.backfill for one in hq.events("gap")]


SETTLED = 3.0  # seconds after a gap, in which the platform may still write its log


def end(hq: Hq) -> Hq:
    """Both times that the log is read."""
    hq.receive(END, LOG).later(SETTLED)
    return hq.receive(END, LOG)


def interrupted(seconds: float = 60.0, answers: Table | None = None, **options: Any) -> Hq:
    """One value told, then blind for so long, then online again."""
    hq = online(answers, **options).value(1)
    hq.opens = lambda link: link != "main" or hq.now.mono >= 1000 + seconds
    return hq.lose().later(seconds).open("main").settle()


def test_a_gap_is_filled_from_the_log() -> None:
    hq = interrupted()
    assert gaps(hq) == ["started"]
    asked = query(hq, LOG)
    assert asked == {"dev": "12", "value": "*+utc>2025-03-02T08:14:55.000&utc<=2025-03-02T08:16:05.000"}
    hq.receive(entry(1, "08:15:00"), LOG)  # was told
    hq.receive(entry(2, "08:15:20"), LOG).receive(entry({"value": 1, "state": 1}, "08:15:40", LAMP), LOG)
    end(hq)
    assert gaps(hq) == ["started", "done"]
    first, second = (one.data for one in hq.events("gap"))
    assert (first.since, first.until, first.reason) == (second.since, second.until, second.reason)
    assert (first.since, first.until) == ("2025-03-02T08:15:00.000000Z", "2025-03-02T08:16:00.000000Z")
    filled = [one for one in hq.events("value") if one.replay]
    assert [(one.data.value, one.time) for one in filled] == [
        (2, "2025-03-02T08:15:20.000000Z"),
        ({"value": 1, "state": 1}, "2025-03-02T08:15:40.000000Z"),
    ]
    assert hq.states(LUX_SUBJECT)[-1].value == 2
    assert LOG not in hq.links


def test_what_is_told_live_and_logged_has_one_id() -> None:
    hq = interrupted()
    hq.value(5, timestamp="2025-03-02T08:15:59.100Z").value(6, timestamp="2025-03-02T08:16:01.100Z")
    hq.receive(entry(5.0, "08:15:59.100"), LOG).receive(entry(6, "08:16:01.100"), LOG).receive(END, LOG)
    assert len(hq.ids()) == len(set(hq.ids())) + 1
    assert hq.states(LUX_SUBJECT)[-1].value == 6


def test_no_gap_is_filled_where_nothing_is_subscribed_or_wanted() -> None:
    assert gaps(interrupted(datapoints=())) == ["none"]
    hq = online().value(1).lose("main", "asked")
    assert gaps(hq) == ["none"], "of no length"


def test_the_past_is_limited() -> None:
    hq = interrupted(100_000.0)
    assert query(hq, LOG)["value"].startswith("*+utc>2025-03-02T12:01:35.000&")
    end(hq)
    assert gaps(hq) == ["started", "partial"]


def test_a_query_is_made_three_times() -> None:
    hq = interrupted()
    hq.receive(entry(2, "08:15:20"), LOG).lose(LOG)
    assert hq.links[LOG].again == "failure"
    hq.open(LOG).lose(LOG).open(LOG).receive(entry(2, "08:15:20"), LOG)
    end(hq)
    assert gaps(hq) == ["started", "done"]
    assert replayed(hq) == [2]
    hq = interrupted()
    for _ in range(3):
        hq.lose(LOG)
    assert gaps(hq) == ["started", "partial"]


def test_a_backfill_that_is_interrupted_is_owed() -> None:
    hq = interrupted()
    assert json.loads(hq.remembered or b"") == {"since": "2025-03-02T08:15:00.000000Z"}
    hq.later(100).lose(seen_before=5.0)
    assert gaps(hq) == ["started", "partial"]
    assert LOG not in hq.links
    hq.later(10).open("main").settle()
    assert gaps(hq) == ["started", "partial", "started"]
    assert hq.events("gap")[-1].data.since == "2025-03-02T08:17:35.000000Z"
    assert query(hq, LOG)["value"].startswith("*+utc>2025-03-02T08:14:55.000&")
    end(hq)
    assert gaps(hq)[-1] == "done"
    assert json.loads(hq.remembered or b"") == {}


def test_what_was_owed_before_a_restart() -> None:
    seen = Instant(900.0, EPOCH - 100)
    hq = Hq().start(b'{"since":"2025-03-02T06:00:00.000000Z"}', seen)
    assert query(hq, LOG)["value"].startswith("*+utc>2025-03-02T05:59:55.000&")
    for memory in (b"", b"{", b"[]", b'{"since":5}', b'{"since":"x"}', b"\xff", None):
        hq = Hq().start(memory, seen)
        assert query(hq, LOG)["value"].startswith("*+utc>2025-03-02T08:13:15.000&"), memory


def test_a_backfill_asks_only_for_what_is_subscribed_and_ends_with_the_talk() -> None:
    hq = interrupted(datapoints=(LUX,))
    assert query(hq, LOG)["dpName"] == "*+xifName==nvoLuxLevel"
    hq.receive(entry(5, "08:15:30", LAMP), LOG)
    assert not [one for one in hq.events("value") if one.replay]
    hq.stop()
    assert gaps(hq) == ["started", "partial"]


def test_a_backfill_that_meets_the_end_of_its_session() -> None:
    hq = interrupted()
    hq.answers["POST /iap/auth/login"] = Answer(200, b"", (("set-cookie", "cmsSID=two"),))
    hq.opened.discard(LOG)
    hq.lose(LOG, "refused", 401)
    assert POINTS
    assert gaps(hq) == ["started"]


def test_a_gap_is_asked_for_by_the_platforms_clock() -> None:
    """Which may be wrong by up to an hour; by REST after the gap, in NTF:TIME, and with every answer."""
    slow = {"GET /iap/cms/info/time": told({"value": "2025-03-02T09:05:00.000+01:00[Europe/Berlin]"})}
    hq = Hq(slow).start(seen=Instant(900.0, EPOCH - 100))
    assert query(hq, LOG)["value"] == "*+utc>2025-03-02T08:03:15.000&utc<=2025-03-02T08:05:05.000"
    hq = online().value(1)
    hq.tell("NTF:TIME", {"value": "2025-03-02T09:16:00+01:00[Europe/Berlin]"})
    hq.later(60).lose(seen_before=60.0).open("main").settle()
    assert query(hq, LOG)["value"] == "*+utc>2025-03-02T08:15:55.000&utc<=2025-03-02T08:17:05.000"
    old = Answer(404, b"", (("date", "Sun, 02 Mar 2025 08:14:20 GMT"),))
    hq = online({"GET /iap/cms/info/time": lambda call: old}).value(1).later(60)
    assert query(hq.lose(seen_before=60.0).open("main").settle(), LOG)["value"] == (
        "*+utc>2025-03-02T08:13:15.000&utc<=2025-03-02T08:14:25.000"
    )


def test_a_clock_that_is_far_off_is_not_believed() -> None:
    hq = online().value(1).tell("NTF:TIME", {"value": "2024-03-02T09:16:00+01:00[Europe/Berlin]"})
    hq.later(60).lose(seen_before=60.0).open("main").settle()
    assert query(hq, LOG)["value"] == "*+utc>2025-03-02T08:14:55.000&utc<=2025-03-02T08:16:05.000"
    end(hq)
    assert gaps(hq) == ["started", "partial"], "nobody knows what the log calls these times"


def test_two_values_of_one_moment_are_both_told_and_old_releases_leave_nothing_out() -> None:
    hq = interrupted()
    hq.receive(entry(2, "08:15:20"), LOG).receive(entry(3, "08:15:20"), LOG).receive(entry(3, "08:15:20"), LOG)
    assert [one.data.value for one in hq.events("value") if one.replay] == [2, 3]
    hq = online()
    hq.tell("UPD:DATAPOINT", {"datapointQualifier": LUX, "value": 1})  # without a time: ours is another clock
    hq.later(10).lose(seen_before=5.0).open("main").settle()
    hq.receive(entry(2, "08:15:00"), LOG)
    assert [one.data.value for one in hq.events("value") if one.replay] == [2]


def test_an_old_session_is_logged_out_when_its_logs_are_read() -> None:
    cookies = iter(("one", "two"))
    hq = online({"POST /iap/auth/login": lambda call: cookie(next(cookies))}).value(1)
    hq.lively = True
    hq.later(43_150)
    key = hq.order("datalog", datapoints=[LUX], **HOUR)
    hq.receive(entry(1, "07:10:00"), "log-1").later(60)
    assert set(hq.links) == {"main-2", "log-1"}
    assert not hq.asked("POST /iap/auth/logout")
    hq.receive(END, "log-1").later(6)
    assert getattr(hq.response(key), "code", None) == 200
    assert len(hq.asked("POST /iap/auth/logout")) == 1


# What nobody told is not known


def replayed(hq: Hq) -> list[Any]:
    return [one.data.value for one in hq.events("value") if one.replay]


def reading(value: Any, time: str) -> Answer:
    return told([{"dpQualifier": LUX, "value": value, "utc": f"2025-03-02T{time}Z[UTC]"}])


def test_what_only_a_read_told_is_filled_from_the_log() -> None:
    """The first answers make states and no events; after a restart the newest value of a gap is one of them."""
    read = {"GET /iap/devs/*/if/*/*/*+qualifier": reading(7, "08:14:59.500")}
    hq = Hq(read).start(seen=Instant(900.0, EPOCH - 100))
    assert hq.states(LUX_SUBJECT)[-1].value == 7
    end(hq.receive(entry(7, "08:14:59.500"), LOG))
    assert (replayed(hq), gaps(hq)) == ([7], ["started", "done"])


def test_what_a_read_told_just_before_the_connection_broke() -> None:
    """Its update was on the way."""
    hq = online(datapoints=(LUX,), poll=POLL).value(1)
    hq.answers["GET /iap/devs/*/if/*/*/*+qualifier"] = reading(2, "08:15:30")
    hq.later(61)
    assert hq.states(LUX_SUBJECT)[-1].value == 2
    hq.lose(seen_before=40.0).open("main").settle()
    hq.receive(entry(1, "08:15:00"), LOG).receive(entry(2, "08:15:30"), LOG).receive(END, LOG)
    assert replayed(hq) == [2]


def test_what_is_owed_is_told_whatever_was_told_since() -> None:
    hq = interrupted()
    hq.receive(entry(4, "08:15:40"), LOG)  # a log has no order
    hq.value(9).later(20).lose(seen_before=5.0).open("main").settle()
    for value, time in ((1, "08:15:00"), (2, "08:15:20"), (3, "08:15:30"), (4, "08:15:40")):
        hq.receive(entry(value, time), LOG)
    end(hq)
    assert gaps(hq) == ["started", "partial", "started", "done"]
    assert [one for one in replayed(hq) if one != 4] == [2, 3]


def test_a_clock_that_was_set_back_makes_nothing_known() -> None:
    hq = online(datapoints=(LUX,)).value(1, timestamp="2025-03-02T08:25:00Z")
    hq.later(60).lose(seen_before=60.0).open("main").settle()
    hq.receive(entry(2, "08:15:30"), LOG).receive(END, LOG)
    assert replayed(hq) == [2]


def test_a_clock_told_in_whole_seconds_lets_nothing_be_told_again() -> None:
    hq = online({"GET /iap/cms/info/time": told({"value": "2025-03-02T08:15:59Z[UTC]"})}, datapoints=(LUX,))
    hq.value(1, timestamp="2025-03-02T08:14:59.300Z").value(2, timestamp="2025-03-02T08:14:59.900Z")
    hq.later(60).lose(seen_before=60.0).open("main").settle()
    assert query(hq, LOG)["value"].startswith("*+utc>2025-03-02T08:14:54.000&"), "a second behind ours"
    for value, time in ((1, "08:14:59.300"), (2, "08:14:59.900"), (3, "08:15:00.500")):
        hq.receive(entry(value, time), LOG)
    assert replayed(hq.receive(END, LOG)) == [3]


def test_the_log_is_not_read_before_the_time_is_known() -> None:
    def clock(hq: Hq, answer: Answer) -> Hq:
        return hq.answer(hq.asked("GET /iap/cms/info/time")[-1], answer).settle()

    hq = online({"GET /iap/cms/info/time": None}).value(1).later(60).lose(seen_before=60.0).open("main").settle()
    assert gaps(hq) == ["started"]
    assert LOG not in hq.links
    clock(hq, told({"value": "2025-03-02T08:17:00Z[UTC]"}))
    assert query(hq, LOG)["value"] == "*+utc>2025-03-02T08:15:55.000&utc<=2025-03-02T08:17:05.000"
    hq = online({"GET /iap/cms/info/time": None}).value(1).lose(seen_before=60.0).open("main").settle()
    hq.lose(seen_before=1.0).open("main").settle()
    assert gaps(hq) == ["started", "partial", "started"]
    assert query(clock(hq, Answer(404)), LOG)["value"].startswith("*+utc>2025-03-02T08:13:55.000&"), "it is owed"


def test_what_the_platform_logs_late_is_looked_for_once_more() -> None:
    hq = interrupted()
    hq.receive(entry(2, "08:15:20"), LOG).receive(entry(3, "08:15:58"), LOG).receive(END, LOG)
    assert (gaps(hq), LOG in hq.links) == (["started", "done"], False)
    hq.value(5).later(SETTLED)
    assert query(hq, LOG)["value"] == "*+utc>2025-03-02T08:15:52.000&utc<=2025-03-02T08:16:05.000"
    hq.value(6, timestamp="2025-03-02T08:16:00.500Z").value(7)
    for value, time in ((3, "08:15:58"), (4, "08:15:59.900"), (5, "08:16:00"), (6, "08:16:00.500")):
        hq.receive(entry(value, time), LOG)
    hq.receive(END, LOG)
    assert (replayed(hq), gaps(hq)) == ([2, 3, 4, 5], ["started", "done"])
    assert (json.loads(hq.remembered or b""), LOG in hq.links) == ({}, False)


def test_what_is_logged_late_is_owed_too() -> None:
    """Whether the connection breaks before it is looked for, or the log cannot be read just then."""
    for lost in (False, True):
        hq = interrupted().receive(END, LOG)
        assert json.loads(hq.remembered or b"") == {"since": "2025-03-02T08:15:57.000000Z"}
        if lost:
            hq.later(SETTLED).lose(LOG).open(LOG).lose(LOG).open(LOG).lose(LOG)
        hq.value(5).later(50).lose(seen_before=1.0).open("main").settle()
        assert gaps(hq) == ["started", "done", "started"]
        assert query(hq, LOG)["value"].startswith("*+utc>2025-03-02T08:15:52.000&")
        hq.receive(entry(4, "08:15:59.900"), LOG).receive(END, LOG)
        assert (replayed(hq), gaps(hq)[-1]) == ([4], "done")


def test_a_gap_of_datapoints_that_could_not_be_found_out_is_not_filled() -> None:
    hq = Hq({"GET /iap/devs/13": Answer(400)}, datapoints=("*/*/*/*/*/*",)).start(seen=Instant(900.0, EPOCH - 100))
    assert gaps(end(hq)) == ["started", "partial"]
