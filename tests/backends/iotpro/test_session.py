"""The talk with IoT Pro as tables: what happened, what follows (ThingsBoard: AuthController, TbWebSocketHandler)."""

import json

import pytest

from bridge.backends.iotpro.history import SETTLE_S
from bridge.backends.session import Answer, Call, Dial, Gap, Hang, Loss, Step
from bridge.model import Condition, Event, Login
from bridge.options import BackfillOptions, Duration, Secret
from tests.backends.iotpro.talk import (
    BUOY,
    FIRST,
    LATITUDE,
    SUBJECT,
    at,
    calls,
    command,
    events,
    fresh,
    gaps,
    history,
    item,
    lat,
    page,
    responses,
    sent,
    started,
    states,
    talking,
    told,
    update,
)
from tests.backends.samples_iotpro import IOTPRO_LOGIN, IOTPRO_TOKEN

URL = "https://iotpro.example"
LOGIN = {"username": "bridge", "password": Secret("pass word")}
SOCKET = "wss://iotpro.example/api/ws"


def lost(kind: str = "closed", error: str = "closed", seen: float = 50.0, **more: object) -> Loss:
    return Loss(kind, error, at(seen), **more)  # type: ignore[arg-type]


def login(number: int, **more: object) -> Call:
    return Call(f"login-{number}", "POST", f"{URL}/api/auth/login", body=LOGIN, **more)  # type: ignore[arg-type]


def fault(status: int, code: int, message: str) -> Answer:
    return Answer(
        status, json.dumps({"status": status, "message": message, "errorCode": code, "timestamp": 1}).encode()
    )


# The login.


def test_it_begins_with_a_login() -> None:
    assert fresh().started(None, None, at(0)) == Step((Condition("connecting"),), (login(1),))


def test_a_pair_of_tokens_dials_and_is_renewed_five_minutes_before_its_end() -> None:
    session = fresh()
    session.started(None, None, at(0))
    step = session.answered("login-1", IOTPRO_LOGIN, at(1))
    assert step == Step((Login("ok"),), (Dial("main", SOCKET),), wake=1001.0 + 9000 - 300)


def test_the_token_goes_into_the_first_frame_and_into_no_words() -> None:
    session = fresh()
    steps = [session.started(None, None, at(0)), session.answered("login-1", IOTPRO_LOGIN, at(0))]
    steps.append(session.opened("main", at(0)))
    (frame,) = sent(steps[-1])
    assert frame["authCmd"] == {"cmdId": 0, "token": IOTPRO_TOKEN}
    steps.append(session.lost("main", lost(error=f"said {IOTPRO_TOKEN}"), at(1)))
    assert IOTPRO_TOKEN not in repr(steps)
    assert "pass word" not in repr(steps)


@pytest.mark.parametrize(("life", "renewed"), [(9000, 8700), (750, 450), (100, 60), (1, 0.6)])
def test_it_is_renewed_by_the_shorter_of_five_minutes_and_two_fifths(life: float, renewed: float) -> None:
    """Measured from when it came: the clocks of two machines differ."""
    import base64

    payload = base64.urlsafe_b64encode(json.dumps({"iat": 5000, "exp": 5000 + life}).encode()).decode().rstrip("=")
    pair = Answer(200, json.dumps({"token": f"e30.{payload}.s", "refreshToken": "r"}).encode())
    session = fresh()
    session.started(None, None, at(0))
    assert session.answered("login-1", pair, at(7)).wake == pytest.approx(1007.0 + renewed)


def test_a_renewal_brings_a_new_pair_and_leaves_the_socket_alone() -> None:
    session = talking()
    (call,) = calls(session.woken(at(8700)))
    assert call == Call("login-2", "POST", f"{URL}/api/auth/token", body={"refreshToken": Secret(f"{IOTPRO_TOKEN}r")})
    step = session.answered("login-2", IOTPRO_LOGIN, at(8701))
    assert (step.heard, step.do) == ((Login("ok"),), ())
    assert step.wake is not None


@pytest.mark.parametrize("status", [0, 401, 429, 500, 503])
def test_a_renewal_that_fails_is_followed_by_one_login(status: int) -> None:
    session = talking()
    session.woken(at(8700))
    step = session.answered("login-2", Answer(status), at(8701))
    assert (step.heard, step.do) == ((), (login(3),))


REFUSED = [
    (fault(401, 10, "Invalid username or password"), "check username and password", None),
    (fault(401, 10, "User account is locked due to security policy"), "locked", None),
    (fault(401, 15, "User password expired!"), "set a new one", None),
    (fault(401, 45, "Password must contain digits"), "set a new one", None),
    (Answer(403, b"no"), "no (HTTP 403)", None),
    (Answer(429, b"", (("retry-after", "90"),)), "HTTP 429", 90.0),
    (Answer(200, b'{"token":"a.b.c","scope":"PRE_VERIFICATION_TOKEN"}'), "second factor", None),
    (Answer(200, b'{"token":"a.b.c","scope":"MFA_CONFIGURATION_TOKEN"}'), "second factor", None),
    (Answer(200, b'{"token":"a.b.c"}'), "half a login", None),
]


@pytest.mark.parametrize(("answer", "word", "after"), REFUSED, ids=[word for _, word, _ in REFUSED])
def test_a_refused_login_is_said_and_tried_again_slowly(answer: Answer, word: str, after: float | None) -> None:
    session = fresh()
    session.started(None, None, at(0))
    step = session.answered("login-1", answer, at(1))
    refused, condition = step.heard
    assert refused == Login("refused")
    assert isinstance(condition, Condition)
    assert condition.state == "auth_failed"
    assert word in str(condition.error)
    assert step.do == (login(2, again="refusal", after=after or 0.0),)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (Answer(0, error="no route"), "no route"),
        (Answer(503, b"<html>"), "HTTP 503"),
        (Answer(200, b"<html>"), "no token"),
        (Answer(404, b""), "HTTP 404"),
        (Answer(301, b"<html>moved"), "a redirect (HTTP 301), which is not followed"),
    ],
)
def test_a_login_that_does_not_reach_it_is_tried_again(answer: Answer, word: str) -> None:
    session = fresh()
    session.started(None, None, at(0))
    step = session.answered("login-1", answer, at(1))
    assert step.heard[0] == Login("failed")
    assert isinstance(step.heard[1], Condition)
    assert (step.heard[1].state, word in str(step.heard[1].error)) == ("offline", True)
    assert step.do == (login(2, again="failure"),)


def test_a_login_refused_beside_an_open_socket_is_shown_and_ends_with_the_next_one() -> None:
    session = talking()
    session.woken(at(8700))
    session.answered("login-2", Answer(401), at(8701))
    step = session.answered("login-3", fault(401, 10, "no"), at(8702))
    assert isinstance(step.heard[1], Condition)
    assert step.heard[1].state == "auth_failed"
    assert events(told(session, update(lat(5)), 8703)) != []
    assert session.answered("login-4", IOTPRO_LOGIN, at(8732)).heard == (Login("ok"), Condition("online"))


def test_a_401_waits_for_one_login_and_is_then_sent_once_more() -> None:
    session = talking()
    (first,) = calls(session.ordered(command("attributes", values={"a": 1}), at(2)))
    assert session.answered(first.id, Answer(401), at(3)).do == (login(2),)
    step = session.answered("login-2", IOTPRO_LOGIN, at(4))
    (again,) = calls(step)
    assert (again.url, again.body, again.id != first.id) == (first.url, first.body, True)
    step = session.answered(again.id, Answer(401, b"no"), at(5))
    assert responses(step) == [("c1", 502)]
    assert step.do == ()


# The socket.


def test_in_step_once_every_page_was_told() -> None:
    session = started()
    assert told(session, page(item(values=lat(0)), pages=2, more=True)).heard[-1] != Condition("online")
    step = told(session, page(item("Two", "b" * 36), cmd=FIRST + 1, pages=2))
    assert Condition("online") in step.heard
    assert gaps(step) == []


@pytest.mark.parametrize(
    ("loss", "after"),
    [
        (lost(code=4500), None),
        (lost(code=1008, error="closed (1008 Max pending updates limit reached!)"), None),
        (lost(code=1008, error="closed (1008 Max tenant sessions limit reached!)"), 30.0),
        (lost("failed", status=503, after=7.0), 7.0),
        (lost("ping"), None),
    ],
    ids=["4500", "too slow", "sessions", "retry after", "ping"],
)
def test_a_loss_is_dialled_again_with_the_token_there_is(loss: Loss, after: float | None) -> None:
    step = talking().lost("main", loss, at(60))
    assert (step.heard, step.do) == (
        (Condition("offline", loss.error),),
        (Dial("main", SOCKET, again="failure", after=after),),
    )


def test_reconnect_dials_at_once() -> None:
    assert talking().lost("main", lost("asked"), at(60)).do == (Dial("main", SOCKET),)


@pytest.mark.parametrize("loss", [lost(code=1007, error="JWT Token expired"), lost("refused", status=401)])
def test_a_socket_that_does_not_take_the_token_asks_for_a_new_one_then_slowly(loss: Loss) -> None:
    session = talking()
    step = session.lost("main", loss, at(60))
    assert step.do == (login(2),)
    assert session.answered("login-2", IOTPRO_LOGIN, at(61)).do == (Dial("main", SOCKET, again="failure"),)
    session.opened("main", at(62))
    step = session.lost("main", loss, at(63))
    assert step.heard[0] == Login("refused")
    assert isinstance(step.heard[1], Condition)
    assert step.heard[1].state == "auth_failed"
    assert step.do == (login(3, again="refusal"),)


def test_a_token_that_ended_meanwhile_is_not_dialled_with() -> None:
    session = talking()
    session.woken(at(8700))
    session.answered("login-2", Answer(0, error="no route"), at(8710))
    session.answered("login-3", Answer(0, error="no route"), at(8720))
    assert session.lost("main", lost(seen=9000), at(9100)).do == ()
    assert session.answered("login-4", IOTPRO_LOGIN, at(9200)).do == (Dial("main", SOCKET, again="failure"),)


def test_silence_after_the_subscription_is_a_broken_socket() -> None:
    session = started()
    step = session.woken(at(30))
    assert [type(do) for do in step.do] == [Hang, Dial]
    assert isinstance(step.heard[0], Condition)
    assert step.heard[0].state == "offline"


# Gaps.


def gap(step: Step) -> Gap:
    (data,) = [one.data for one in step.heard if isinstance(one, Event) and one.type == "gap"][:1]
    assert isinstance(data, Gap)
    return data


def test_a_blindness_is_a_gap_that_is_filled_from_history() -> None:
    session = talking(item(values=lat(0)))
    session.lost("main", lost(seen=50), at(60))
    session.opened("main", at(70))
    step = told(session, page(item(values=lat(9000, "3")), cmd=FIRST + 1), 71)
    assert events(step) == [(SUBJECT, 9000, {LATITUDE: 3})]
    assert gap(step) == Gap("2024-03-05T07:17:20.000000Z", "2024-03-05T07:17:41.000000Z", "closed", "started")
    (call,) = calls(session.woken(at(71 + SETTLE_S)))
    assert (call.method, call.pull) == ("GET", True)
    assert call.url == (
        f"{URL}/api/plugins/telemetry/ASSET/{BUOY}/values/timeseries?keys={LATITUDE}"
        "&startTs=1709622990001&endTs=1709622999000&limit=1000&agg=NONE&orderBy=ASC"
    )
    answer = history({LATITUDE: [(0, "0"), (100, "1"), (200, "2"), (9000, "3")]})
    step = session.answered(call.id, answer, at(72))
    assert events(step) == [(SUBJECT, 100, {LATITUDE: 1}), (SUBJECT, 200, {LATITUDE: 2})]
    assert all(one.replay for one in step.heard if isinstance(one, Event) and one.type == "telemetry")
    assert gap(step).backfill == "done"


def test_where_nothing_was_missed_nothing_is_asked() -> None:
    session = talking(item(values=lat(0)))
    session.lost("main", lost(), at(60))
    session.opened("main", at(70))
    step = told(session, page(item(values=lat(0)), cmd=FIRST + 1), 71)
    assert (events(step), gaps(step)) == ([], ["started"])
    step = session.woken(at(71 + SETTLE_S))
    assert (calls(step), gaps(step)) == ([], ["done"])


def test_a_restart_goes_on_from_its_bookmarks() -> None:
    session = started(told(started(), page(item(values=lat(0)))).remember, at(-100))
    step = told(session, page(item("Renamed", values=lat(8000, "3")), item("New", "b" * 36, values=lat(7000))))
    assert states(step)[0] == (SUBJECT, None)
    assert (
        sorted(events(step))
        == [("asset/sea-buoy/Renamed", 8000, {LATITUDE: 3}), ("asset/sea-buoy/New", 7000, {LATITUDE: 1.5})][::-1]
    )
    step = session.woken(at(1 + SETTLE_S))
    starts = sorted(call.url.partition("startTs=")[2].partition("&")[0] for call in calls(step))
    assert starts == ["1709622884001", "1709622990001"]  # 5 s before it was last seen, by its clock; after its bookmark


def test_after_a_restart_without_bookmarks_what_is_newer_than_the_last_sign_of_life_is_an_event() -> None:
    session = started(None, at(-100))
    step = told(session, page(item(values=lat(-200_000)), item("Two", "b" * 36, values=lat(-1000))))
    assert events(step) == [("asset/sea-buoy/Two", -1000, {LATITUDE: 1.5})]
    assert gap(step).reason == "restarted"


def test_what_was_followed_before_a_restart_and_is_gone_loses_its_state() -> None:
    memory = told(started(), page(item(values=lat(0)), item("Two", "b" * 36))).remember
    step = told(started(memory, at(-100)), page(item(values=lat(0))))
    assert ("asset/sea-buoy/Two", None) in states(step)


@pytest.mark.parametrize("memory", [b"", b"x" * 30, b"\x93\x01\x90\x90", b"\x93\x02\x90\x90"])
def test_garbage_in_memory_is_nothing(memory: bytes) -> None:
    assert started(memory).opened("main", at(1)).do != ()


def test_bookmarks_are_said_every_few_seconds_where_something_is_new() -> None:
    session = talking()
    assert told(session, update(lat(5)), 2).remember is None
    step = told(session, update(lat(6)), 7)
    assert step.remember is not None
    assert told(session, update(lat(7)), 8).remember is None
    assert told(session, update(lat(7)), 20).remember is not None
    assert told(session, update(lat(7)), 40).remember is None


def test_a_backfill_that_is_switched_off_leaves_a_gap_without_one() -> None:
    session = talking(item(values=lat(0)), backfill=BackfillOptions(Duration(0)))
    session.lost("main", lost(), at(60))
    session.opened("main", at(70))
    step = told(session, page(item(values=lat(9000)), cmd=FIRST + 1), 71)
    assert (calls(step), gaps(step)) == ([], ["none"])


def test_at_the_first_start_there_is_no_gap_and_no_event() -> None:
    step = told(started(), page(item(values=lat(0))))
    assert step.heard[-1] == Condition("online")
    assert (events(step), states(step), gaps(step)) == ([], [(SUBJECT, {LATITUDE: 1.5})], [])
