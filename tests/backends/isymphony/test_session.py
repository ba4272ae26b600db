"""The talk with iSymphony as a table: what happened → the Step that follows."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from bridge.backends.isymphony.actions import Action, Live
from bridge.backends.isymphony.data import UserState
from bridge.backends.isymphony.filters import SetFilter
from bridge.backends.isymphony.options import IsymphonyOptions
from bridge.backends.isymphony.session import IsymphonySession, own_commands
from bridge.backends.session import Answer, Call, Dial, Gap, Loss, Send, Step
from bridge.model import Command, Condition, Event, Instant, Login, Response, State, Unread
from bridge.options import Secret
from tests.backends.samples_isymphony import (
    ISYMPHONY_CORE,
    ISYMPHONY_HANGUP,
    ISYMPHONY_LINK_END,
    ISYMPHONY_LOGIN,
    ISYMPHONY_LOGOUT,
)

EPOCH = 1_709_622_900.0  # 2024-03-05T07:15:00Z
BASIC = ("bridge", Secret("p"))
DIAL = Dial("main", "ws://pbx.example:58080/communication_manager/ws/event", basic=BASIC)
LIVE = "http://pbx.example:58080/communication_manager/rest/live/"
ACTIONS = {"dnd": Action(path="x/{extension}", body={"on": "{on}"})}
ROLL = "coreServers"
HANGUPS = {"type": ("hangup",)}


def at(seconds: float) -> Instant:
    """A moment of the test, by both clocks."""
    return Instant(1000.0 + seconds, EPOCH + seconds)


def fresh(**changes: Any) -> IsymphonySession:
    usual: dict[str, Any] = {
        "url": "ws://pbx.example:58080", "username": "bridge", "password": BASIC[1], "actions": ACTIONS,
    }  # fmt: skip
    return IsymphonySession(IsymphonyOptions(**usual | changes))


def talking(**changes: Any) -> IsymphonySession:
    """Online since the beginning; nobody answers to the roll call, nor to the filter."""
    session = fresh(**changes)
    session.started(None, None, at(0))
    session.opened("main", at(0))
    return session


def hear(session: IsymphonySession, frame: str | dict[str, Any], seconds: float = 1.0) -> Step:
    text = frame if isinstance(frame, str) else json.dumps(frame)
    return session.received("main", text.encode(), at(seconds))


def get(number: int, path: str) -> Call:
    headers = {"Accept": "application/json"}
    return Call(f"roll-{number}", "GET", LIVE + path, headers, BASIC, None, 15.0)


def called(number: int, method: str, path: str, body: bytes | None = None, seconds: float = 10.0) -> Call:
    return Call(f"call-{number}", method, LIVE + path, {"Accept": "application/json"}, BASIC, body, seconds)


def answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode())


def command(name: str, body: Any, key: str = "c1", seconds: float = 0.0, timeout: float = 10.0) -> Command:
    deadline = 1000.0 + seconds + timeout
    return Command(key, name, "", body, deadline, deadline)


def filtering(key: str = "c1", seconds: float = 0.0, **filters: list[str]) -> Command:
    return command("filter", SetFilter({**filters}), key, seconds)


def dnd(key: str = "c1", seconds: float = 0.0, **more: float) -> Command:
    (spec,) = own_commands(IsymphonyOptions(url="", username="", password=Secret(), actions=ACTIONS))
    return command("dnd", msgspec.convert({"extension": "7001", "on": True}, spec.body), key, seconds, **more)


def live(key: str = "c1", path: str = "a", seconds: float = 0.0) -> Command:
    return command("live", Live(path), key, seconds)


def reply(correlation: str | None, error: str | None = None) -> dict[str, Any]:
    told = {"type": "success" if error is None else "error", "correlationId": correlation, "time": 1710000000200}
    return told if error is None else {**told, "error": error}


def set_to(correlation: str, **filters: list[str]) -> Send:
    entries = [{"property": name, "value": value} for name, values in filters.items() for value in values]
    told = {"type": "filter", "correlationId": correlation, "filters": entries}
    return Send("main", json.dumps(told, separators=(",", ":")))


def responses(step: Step) -> list[tuple[str, str, int]]:
    return [(one.command, one.status, one.code) for one in step.heard if isinstance(one, Response)]


def states(step: Step) -> dict[str, tuple[str, int]]:
    found = {one.subject: one.data for one in step.heard if isinstance(one, State)}
    return {name: (data.presence, data.logins) for name, data in found.items() if isinstance(data, UserState)}


def kinds(step: Step) -> list[str]:
    return [f"{one.subject} {one.type}" for one in step.heard if isinstance(one, Event)]


def conditions(step: Step) -> list[Condition]:
    return [one for one in step.heard if isinstance(one, Condition)]


def lost(kind: str = "closed", error: str = "gone", seen: float = 50.0, **more: Any) -> Loss:
    return Loss(kind, error, at(seen), **more)  # type: ignore[arg-type]


# Start, open, loss.


def test_at_the_start_it_dials() -> None:
    assert fresh().started(None, None, at(0)) == Step((Condition("connecting"),), (DIAL,))


def test_open_means_online_and_the_roll_is_called() -> None:
    session = fresh()
    session.started(None, None, at(0))
    assert session.opened("main", at(1)) == Step((Login("ok"), Condition("online")), (get(1, ROLL),))


def test_a_configured_filter_goes_out_at_once_and_after_every_reconnect() -> None:
    session = fresh(filters={"type": ("login", "hangup")})
    session.started(None, None, at(0))
    sent = session.opened("main", at(1))
    assert sent.do[0] == set_to("ws2mqtt-1", type=["userLogin", "hangup"])
    assert sent.wake == 1006.0
    assert hear(session, reply("ws2mqtt-1")) == Step()
    session.lost("main", lost(), at(60))
    assert session.opened("main", at(61)).do[0] == set_to("ws2mqtt-2", type=["userLogin", "hangup"])


@pytest.mark.parametrize(
    ("loss", "state", "words", "again"),
    [
        (lost("refused", "HTTP 401", status=401), "auth_failed", "HTTP 401: check username and password", "refusal"),
        (lost("refused", "HTTP 403", status=403), "auth_failed", "only localhost is allowed by default", "refusal"),
        (lost("failed", "HTTP 429", status=429), "auth_failed", "HTTP 429", "refusal"),
        (lost("failed", "HTTP 302", status=302), "offline", "HTTP 302: the server demands TLS: use wss and port 55050",
         "failure"),
        (lost("failed", "HTTP 307", status=307), "offline", "use wss and port 55050", "failure"),
        (lost("failed", "HTTP 404", status=404), "offline", "check url", "failure"),
        (lost("failed", "no route"), "offline", "no route", "failure"),
        (lost("closed", "1001"), "offline", "1001", "failure"),
        (lost("ping", "no pong"), "offline", "no pong", "failure"),
        (lost("asked", "asked for"), "offline", "asked for", None),
    ],
)  # fmt: skip
def test_a_loss_is_told_with_its_remedy_and_dialled_again(loss: Loss, state: str, words: str, again: Any) -> None:
    session = fresh()
    session.started(None, None, at(0))
    step = session.lost("main", loss, at(60))
    login = [Login("refused")] if state == "auth_failed" else []
    (condition,) = conditions(step)
    assert list(step.heard) == [*login, condition]
    assert condition.state == state
    assert words in (condition.error or "")
    assert step.do == (msgspec.structs.replace(DIAL, again=again),)


def test_a_redirect_of_wss_does_not_tell_to_use_wss() -> None:
    step = fresh(url="wss://pbx").lost("main", lost("failed", "HTTP 302", status=302), at(1))
    assert conditions(step) == [Condition("offline", "HTTP 302: check url")]


def test_retry_after_is_heeded() -> None:
    step = talking().lost("main", lost("failed", "HTTP 503", status=503, after=7.0), at(60))
    assert step.do == (msgspec.structs.replace(DIAL, again="failure", after=7.0),)


def test_a_blindness_is_a_gap() -> None:
    session = talking()
    session.lost("main", lost(error="1001"), at(60))
    session.lost("main", lost("failed", "no route", seen=50), at(70))
    gap = Gap("2024-03-05T07:15:50.000000Z", "2024-03-05T07:16:30.000000Z", "1001", "none")
    step = session.opened("main", at(90))
    assert step.heard == (Login("ok"), Condition("online"), Event("", "gap", gap))


def test_a_restart_is_a_gap_and_ends_presence() -> None:
    session = fresh()
    step = session.started(b'["anna","b/+#"]', at(-60), at(0))
    time = "2024-03-05T07:15:00.000000Z"
    assert step.heard == (
        State("user/anna", UserState("unknown", 0, time)),
        State("user/b%2F%2B%23", UserState("unknown", 0, time)),
        Condition("connecting"),
    )
    (gap,) = [one.data for one in session.opened("main", at(1)).heard if isinstance(one, Event)]
    assert isinstance(gap, Gap)
    assert gap.reason == "restarted"


@pytest.mark.parametrize("memory", [b"", b"{", b"7", b"[1]", b"\xff", b"[" * 5000])
def test_a_memory_that_is_none(memory: bytes) -> None:
    assert fresh().started(memory, None, at(0)).heard == (Condition("connecting"),)


def test_names_are_remembered_every_few_seconds_at_most() -> None:
    session = talking()
    first = hear(session, ISYMPHONY_LOGIN)
    assert first.remember == b'["7001"]'
    second = hear(session, ISYMPHONY_LOGIN.replace('"7001"', '"7002"'), 2)
    assert (second.remember, second.wake) == (None, 1006.0)
    assert session.woken(at(6)).remember == b'["7001","7002"]'
    assert hear(session, ISYMPHONY_LOGOUT, 60).remember is None


# Events and presence.


def test_a_login_makes_an_event_and_a_state() -> None:
    step = hear(talking(), ISYMPHONY_LOGIN)
    assert kinds(step) == ["user/7001 userLogin"]
    assert step.heard[1] == State("user/7001", UserState("in", 1, "2024-03-09T16:00:00.123000Z"))


def login(number: int, user: str = "anna", kind: str = "userLogin", core: str = "A", **more: Any) -> dict[str, Any]:
    return {"type": kind, "username": user, "userLoginId": f"l{number}", "coreServerId": core, **more}


def logout(number: int, user: str = "anna", **more: Any) -> dict[str, Any]:
    return login(number, user, "userLogout", **more)


@pytest.mark.parametrize(
    ("frames", "ends"),
    [
        ([login(1)], ("in", 1)),
        ([login(1), login(1)], ("in", 1)),
        ([login(1), login(2)], ("in", 2)),
        ([login(1), login(2), logout(1)], ("in", 1)),
        ([login(1), logout(1)], ("out", 0)),
        ([logout(1)], ("out", 0)),
        ([login(1), logout(2)], ("in", 1)),
        ([login(1, userLoginId=None), login(2, userLoginId=None), logout(3)], ("in", 1)),
        ([login(1), logout(1, userLoginId="")], ("out", 0)),
    ],
)
def test_presence_is_counted_by_logins(frames: list[dict[str, Any]], ends: tuple[str, int]) -> None:
    session = talking()
    seen: dict[str, tuple[str, int]] = {}
    for frame in frames:
        seen |= states(hear(session, frame))
    assert seen == {"user/anna": ends}


def test_logins_of_nobody_make_no_state() -> None:
    assert states(hear(talking(), login(1, username=None))) == {}


def test_a_loss_ends_what_was_known_once() -> None:
    session = talking()
    hear(session, login(1))
    hear(session, logout(2, "ben"))
    step = session.lost("main", lost(), at(60))
    assert states(step) == {"user/anna": ("unknown", 0), "user/ben": ("unknown", 0)}
    assert states(session.lost("main", lost("failed"), at(70))) == {}
    session.opened("main", at(80))
    assert states(hear(session, logout(1), 81)) == {"user/anna": ("out", 0)}
    assert states(session.stopped(at(90))) == {"user/anna": ("unknown", 0)}


def test_a_new_core_server_ends_what_was_known_and_calls_the_roll_again() -> None:
    session = talking()
    hear(session, login(1))
    step = hear(session, login(1, "ben", core="B"))
    assert states(step) == {"user/anna": ("unknown", 0), "user/ben": ("in", 1)}
    assert step.do == (get(2, ROLL),)
    for core in ("A", "B"):  # two core servers behind one socket
        assert states(hear(session, {"type": "hangup", "coreServerId": core})) == {}


def test_a_core_server_that_is_new_since_the_roll_call_has_restarted() -> None:
    session = talking()
    roll_called(session)
    session.answered("roll-3", answer([{"id": "l1"}]), at(3))
    assert states(hear(session, {"type": "hangup", "coreServerId": "A"})) == {}
    assert states(hear(session, {"type": "hangup", "coreServerId": "B"})) == {"user/anna": ("unknown", 0)}


def test_several_replies_in_one_frame_are_told_apart() -> None:
    step = hear(talking(), f"[{json.dumps(reply('x'))},{json.dumps(reply('y', 'no'))}]")
    assert kinds(step) == [" success", " error"]


def test_two_users_of_one_call_are_told_both() -> None:
    assert kinds(hear(talking(), ISYMPHONY_LINK_END)) == ["user/7001 linkEnd", "user/b%2F%2B%23 linkEnd"]


def test_garbage_between_events() -> None:
    step = hear(talking(), f"[{ISYMPHONY_HANGUP},7,{ISYMPHONY_HANGUP}]")
    assert [type(one) for one in step.heard] == [Event, Event, Unread]


# The roll call.


def roll_called(session: IsymphonySession) -> Step:
    session.answered("roll-1", answer([{"id": "A"}, {"no": 1}]), at(1))
    users = [{"id": f"u{number}", "userName": name} for number, name in enumerate(("anna", "ben", "carla"))]
    return session.answered("roll-2", answer([*users, {"id": "x"}, {"id": "..", "userName": "y"}]), at(2))


def test_the_roll_is_called_user_by_user() -> None:
    session = talking()
    assert session.answered("roll-1", answer([{"id": "A/1"}]), at(1)).do == (get(2, "coreServers/A%2F1/users"),)
    session = talking()
    step = roll_called(session)
    assert step.do == tuple(get(3 + n, f"coreServers/A/users/u{n}/logins") for n in range(3))
    assert states(session.answered("roll-3", answer([{"id": "l1"}, {}]), at(3))) == {"user/anna": ("in", 2)}
    assert states(session.answered("roll-5", answer([]), at(3))) == {"user/carla": ("out", 0)}
    assert session.answered("roll-4", Answer(404), at(3)) == Step(wake=1008.0)
    assert states(hear(session, logout(1), 4)) == {"user/anna": ("in", 1)}


def test_a_few_are_asked_at_once() -> None:
    session = talking()
    session.answered("roll-1", answer([{"id": "A"}]), at(1))
    users = [{"id": f"u{number}", "userName": f"n{number}"} for number in range(9)]
    assert len(session.answered("roll-2", answer(users), at(2)).do) == 4
    assert len(session.answered("roll-3", answer([]), at(3)).do) == 1


def test_who_comes_while_being_asked_about_is_asked_again() -> None:
    session = talking()
    roll_called(session)
    assert states(hear(session, login(7))) == {"user/anna": ("in", 1)}
    step = session.answered("roll-3", answer([]), at(3))
    assert (states(step), step.do) == ({}, (get(6, "coreServers/A/users/u0/logins"),))
    assert states(session.answered("roll-6", answer([{"id": "l7"}]), at(4))) == {"user/anna": ("in", 1)}


@pytest.mark.parametrize("refusal", [Answer(0, error="no"), Answer(401), Answer(403), Answer(404), Answer(200, b"{")])
def test_where_there_is_no_live_api_nothing_is_said_of_it(refusal: Answer) -> None:
    assert talking().answered("roll-1", refusal, at(1)) == Step()


def test_answers_of_another_connection_count_no_more() -> None:
    session = talking()
    roll_called(session)
    session.lost("main", lost(), at(3))
    assert session.opened("main", at(4)).do == (get(6, ROLL),)
    assert session.answered("roll-3", answer([{"id": "l1"}]), at(5)) == Step()


def test_who_is_no_user_any_more_has_no_state() -> None:
    session = talking()
    hear(session, login(1, "dora"), 1)
    session.lost("main", lost(), at(3))
    session.opened("main", at(4))
    hear(session, login(1, "eve"), 4)  # told since: the list may be older
    session.answered("roll-2", answer([{"id": "A"}, {"id": "B"}]), at(5))
    assert session.answered("roll-3", BEN, at(5)).heard == (), "she may be in the other list"
    step = session.answered("roll-4", answer([{"id": "u2", "userName": "anna"}]), at(5))
    assert step.heard == (State("user/dora", None),)
    assert states(session.lost("main", lost(), at(6))) == {"user/eve": ("unknown", 0)}


BEN = answer([{"id": "u1", "userName": "ben"}])


@pytest.mark.parametrize(
    ("cores", "first", "second"),
    [
        ("AB", answer("no", 404), BEN),
        ("AB", answer({}), BEN),
        ("AB", answer([]), answer([])),
        (("A", "B", ""), answer([]), BEN),
    ],
    ids=["refused", "no list", "nobody at all", "a core server without an id"],
)
def test_where_not_all_users_can_be_listed_nobody_is_gone(cores: Iterable[str], first: Answer, second: Answer) -> None:
    session = talking()
    hear(session, login(1, "dora"), 1)
    session.lost("main", lost(), at(3))
    session.opened("main", at(4))
    session.answered("roll-2", answer([{"id": core} for core in cores]), at(5))
    assert session.answered("roll-3", first, at(5)).heard == ()
    assert session.answered("roll-4", second, at(5)).heard == ()


def test_who_is_filtered_out_is_not_asked_about() -> None:
    session = talking(filters={"username": ("ben",)})
    assert [call.url for call in roll_called(session).do if isinstance(call, Call)] == [
        f"{LIVE}coreServers/A/users/u1/logins"
    ]


# Filters.


def test_a_filter_that_is_taken() -> None:
    session = talking()
    hear(session, login(1, core=ISYMPHONY_CORE))
    assert session.ordered(filtering(type=["hangup"]), at(1)).do == (set_to("c1", type=["hangup"]),)
    assert kinds(hear(session, ISYMPHONY_LOGOUT)) == ["user/7001 userLogout"]  # until it is in force
    step = hear(session, reply("c1"))
    assert responses(step) == [("c1", "succeeded", 200)]
    told = next(one.data for one in step.heard if isinstance(one, Response))
    assert told == {"filters": {"type": ("hangup",)}}
    assert states(step) == {"user/anna": ("unknown", 0), "user/7001": ("unknown", 0)}  # nobody is followed any more
    assert step.do == (get(2, ROLL),)
    assert kinds(hear(session, ISYMPHONY_LOGIN)) == []
    assert kinds(hear(session, ISYMPHONY_HANGUP)) == ["user/7001 hangup"]


@pytest.mark.parametrize("correlation", ["c1", None])
def test_a_filter_that_is_refused_leaves_the_old_one(correlation: str | None) -> None:
    session = talking()
    session.ordered(filtering(type=["hangup"]), at(1))
    step = hear(session, reply(correlation, "bad property"))
    (response,) = (one for one in step.heard if isinstance(one, Response))
    assert (response.status, response.code, response.data) == ("failed", 502, {"filters": {}})
    assert response.error is not None
    assert response.error.message == "bad property"
    assert step.do == (set_to("ws2mqtt-1"),)
    assert kinds(hear(session, ISYMPHONY_LOGIN)) == ["user/7001 userLogin"]


def test_a_filter_that_is_not_answered_leaves_the_old_one() -> None:
    session = talking(filters=HANGUPS)
    hear(session, reply("ws2mqtt-1"))
    assert session.ordered(filtering(type=["userLogin"]), at(1)).wake == 1010.0
    assert kinds(hear(session, ISYMPHONY_LOGIN)) == ["user/7001 userLogin"]
    step = session.woken(at(10))
    assert responses(step) == [("c1", "unknown", 408)]
    assert step.do == (set_to("ws2mqtt-2", type=["hangup"]),)
    assert kinds(hear(session, ISYMPHONY_LOGIN, 11)) == []
    assert hear(session, reply("c1"), 11) == Step(wake=1015.0)  # too late
    assert conditions(session.woken(at(15))) == [
        Condition("degraded", "the platform does not answer to the filter: ws2mqtt filters alone")
    ]
    assert conditions(hear(session, reply("ws2mqtt-2"), 16)) == [Condition("online")]


def test_our_own_filter_refused_is_degraded_until_one_is_taken() -> None:
    session = talking(filters=HANGUPS)
    (told,) = conditions(hear(session, reply("ws2mqtt-1", "no")))
    assert told == Condition("degraded", "the platform refused the filter, ws2mqtt filters alone: no")
    assert kinds(hear(session, ISYMPHONY_LOGIN)) == []
    session.ordered(filtering(type=["*"]), at(2))
    assert conditions(hear(session, reply("c1"), 3)) == [Condition("online")]


def test_a_filter_waits_for_our_own() -> None:
    session = talking(filters=HANGUPS)
    assert session.ordered(filtering(type=["*"]), at(1)).do == ()
    step = hear(session, reply("ws2mqtt-1"), 2)
    assert step.do == (set_to("c1", type=["*"]),)


def test_a_filter_command_without_filters_tells_what_is_in_force() -> None:
    step = talking(filters=HANGUPS).ordered(command("filter", SetFilter()), at(1))
    assert step.heard == (Response("c1", "succeeded", 200, data={"filters": {"type": ("hangup",)}}),)


@pytest.mark.parametrize("correlation", ["nobody's", None])
def test_a_reply_that_nobody_waits_for_is_an_event(correlation: str | None) -> None:
    assert kinds(hear(talking(), reply(correlation, "odd"))) == [" error"]


def test_a_filter_survives_a_reconnect_but_one_in_doubt_does_not() -> None:
    session = talking()
    session.ordered(filtering(type=["hangup"]), at(1))
    hear(session, reply("c1"), 2)
    session.ordered(filtering("c2", type=["dial"]), at(3))
    assert responses(session.lost("main", lost(), at(4))) == [("c2", "unknown", 408)]
    assert session.opened("main", at(5)).do[0] == set_to("ws2mqtt-1", type=["hangup"])


# Calls.


def test_a_call_and_its_answer() -> None:
    session = talking()
    step = session.ordered(dnd(), at(0))
    assert step == Step(do=(called(1, "POST", "x/7001", b'{"on":true}'),), wake=1010.0)
    assert session.answered("call-1", Answer(204), at(1)) == Step((Response("c1", "succeeded", 200),))


@pytest.mark.parametrize(
    ("said", "status", "code", "words"),
    [
        (answer({"a": [1]}), "succeeded", 200, ""),
        (Answer(404, b"No such object"), "rejected", 404, "getByName (HTTP 404): No such object"),
        (Answer(403, b"<html>Forbidden</html>"), "failed", 502, "username and password (HTTP 403)"),
        (Answer(412, b" bad\n  JSON "), "failed", 502, "(HTTP 412): bad JSON"),
        (Answer(500, b"\xff" * 9000), "failed", 502, "(HTTP 500): \ufffd"),
        (Answer(302), "failed", 502, "use wss and port 55050"),
        (Answer(429), "failed", 502, "refused (HTTP 429)"),
        (Answer(0, error="reset"), "unknown", 408, "may have been carried out: reset"),
    ],
)
def test_answers(said: Answer, status: str, code: int, words: str) -> None:
    session = talking()
    session.ordered(dnd(), at(0))
    (response,) = session.answered("call-1", said, at(1)).heard
    assert isinstance(response, Response)
    assert (response.status, response.code, response.final) == (status, code, True)
    assert words in (response.error.message if response.error else "")


@pytest.mark.parametrize(
    ("body", "data"),
    [(b'{"a":1}', {"a": 1}), (b"", None), (b" \n", None), (b"plain", "plain"), (b"\xff", "\ufffd"), (b"[]", []),
     (b"[" * 99 + b"]" * 99, "[" * 99 + "]" * 99)],
)  # fmt: skip
def test_what_live_reads(body: bytes, data: Any) -> None:
    session = talking()
    assert session.ordered(live(path="a b"), at(0)).do == (called(1, "GET", "a%20b"),)
    assert session.answered("call-1", Answer(200, body), at(1)).heard == (Response("c1", "succeeded", 200, data=data),)


def test_a_401_was_not_carried_out_and_is_sent_once_more() -> None:
    session = talking()
    session.ordered(dnd(), at(0))
    step = session.answered("call-1", Answer(401), at(2))
    assert step.do == (called(2, "POST", "x/7001", b'{"on":true}', 8.0),)
    assert responses(session.answered("call-2", Answer(401), at(3))) == [("c1", "failed", 502)]


def test_one_command_after_the_other() -> None:
    session = talking()
    session.ordered(live("c1"), at(0))
    assert session.ordered(filtering("c2", type=["*"]), at(0)).do == ()
    assert session.ordered(live("c3", "b"), at(0)).do == ()
    assert session.answered("call-1", Answer(204), at(1)).do == (set_to("c2", type=["*"]),)
    step = hear(session, reply("c2"), 2)
    assert called(2, "GET", "b", None, 8.0) in step.do
    assert responses(session.answered("call-2", Answer(204), at(3))) == [("c3", "succeeded", 200)]


def test_time_runs_out_in_line_and_on_the_way() -> None:
    session = talking()
    session.ordered(dnd("c1", timeout=10.0), at(0))
    session.ordered(live("c2"), at(0))
    session.ordered(dnd("c3", timeout=30.0), at(0))
    step = session.woken(at(10))
    assert responses(step) == [("c1", "unknown", 408), ("c2", "expired", 410)]
    assert step.do == (called(2, "POST", "x/7001", b'{"on":true}', 20.0),)
    assert session.answered("call-1", Answer(204), at(11)) == Step(wake=1030.0)


def test_a_loss_of_the_socket_is_none_of_a_call() -> None:
    session = talking()
    session.ordered(dnd("c1"), at(0))
    session.ordered(live("c2"), at(0))
    assert responses(session.lost("main", lost(), at(1))) == [("c2", "rejected", 503)]
    assert responses(session.ordered(live("c3"), at(2))) == [("c3", "rejected", 503)]
    assert responses(session.answered("call-1", Answer(204), at(3))) == [("c1", "succeeded", 200)]


def test_the_end_answers_everybody() -> None:
    session = talking()
    session.ordered(dnd("c1"), at(0))
    session.ordered(live("c2"), at(0))
    assert responses(session.stopped(at(1))) == [("c2", "rejected", 503), ("c1", "unknown", 408)]
    assert responses(session.ordered(live("c3"), at(2))) == [("c3", "rejected", 503)]


def test_no_password_in_any_words() -> None:
    session = fresh(password=Secret("hunter2-secret"))
    told = [session.started(None, None, at(0)), session.opened("main", at(0)), session.ordered(live(), at(0))]
    assert "hunter2" not in repr(told)
