"""The talk with ResIOT as a table: what happened → the Step that follows."""

import json

import pytest
from msgspec import Raw

from bridge.backends.resiot.data import Ack, Alive, Downlinked, GatewayState, TxAck
from bridge.backends.resiot.downlink import Downlink
from bridge.backends.resiot.options import ResiotOptions
from bridge.backends.resiot.session import ResiotSession
from bridge.backends.session import NOTHING, Answer, Dial, Gap, Loss, Send, Step
from bridge.model import Command, CommandError, Condition, Event, Instant, Login, Response, State, Unread
from bridge.options import Duration, Secret
from tests.backends.samples_resiot import RESIOT_ALIVE, RESIOT_UP

URL = Secret("wss://resiot.example/WebSocketServer/DeviceMsg/?type=node&token=t")
DEVICE = "application/70b3d57ed0001122/device/a81758fffe0a0b0c"
EUI = "0a1b2c3d4e5f6071"
GATEWAY = f"gateway/{EUI}"
ALIVE_AT = "2024-03-05T07:15:02.441009Z"
TIMEOUT = 300.0
EPOCH = 1_709_622_900.0  # 2024-03-05T07:15:00Z


def at(seconds: float) -> Instant:
    """A moment of the test, by both clocks."""
    return Instant(1000.0 + seconds, EPOCH + seconds)


def fresh() -> ResiotSession:
    return ResiotSession(ResiotOptions(url=URL, gateway_timeout=Duration(TIMEOUT)))


def talking() -> ResiotSession:
    """Online since the beginning."""
    session = fresh()
    session.started(None, None, at(0))
    session.opened("main", at(0))
    return session


def hear(session: ResiotSession, message: dict[str, object], seconds: float = 1.0) -> Step:
    return session.received("main", json.dumps(message).encode(), at(seconds))


def subjects(step: Step) -> list[str]:
    return [heard.subject for heard in step.heard if isinstance(heard, Event)]


def lost(kind: str, error: str, seen: float = 50.0, **more: float | int) -> Loss:
    return Loss(kind, error, at(seen), **more)  # type: ignore[arg-type]


def downlink(key: str = "c1", seconds: float = 0.0, **fields: object) -> Command:
    body = Downlink(f_port=10, payload_hex="ff01", **fields)  # type: ignore[arg-type]
    return Command(key, "downlink", DEVICE, body, 1000.0 + seconds + 10.0, 1000.0 + seconds + 10.0)


def gap(since: str, until: str, reason: str) -> Event:
    return Event("", "gap", Gap(f"2024-03-05T07:{since}.000000Z", f"2024-03-05T07:{until}.000000Z", reason, "none"))


# Start, open, loss.


def test_at_the_start_it_dials() -> None:
    assert fresh().started(None, None, at(0)) == Step((Condition("connecting"),), (Dial("main", URL),))


def test_open_means_online_and_the_first_start_is_no_gap() -> None:
    session = fresh()
    session.started(None, None, at(0))
    assert session.opened("main", at(1)) == Step((Login("ok"), Condition("online")))


@pytest.mark.parametrize(
    ("loss", "condition", "dial"),
    [
        (
            lost("refused", "HTTP 401", status=401),
            Condition("auth_failed", "HTTP 401: check the token in url"),
            Dial("main", URL, again="refusal"),
        ),
        (
            lost("refused", "HTTP 403", status=403, after=90.0),
            Condition("auth_failed", "HTTP 403: check the token in url"),
            Dial("main", URL, again="refusal", after=90.0),
        ),
        (lost("closed", "closed: 1001"), Condition("offline", "closed: 1001"), Dial("main", URL, again="failure")),
        (
            lost("failed", "HTTP 429", status=429, after=7.0),
            Condition("auth_failed", "HTTP 429"),
            Dial("main", URL, again="refusal", after=7.0),
        ),
        (
            lost("failed", "HTTP 503", status=503, after=7.0),
            Condition("offline", "HTTP 503"),
            Dial("main", URL, again="failure", after=7.0),
        ),
        (lost("failed", "no route"), Condition("offline", "no route"), Dial("main", URL, again="failure")),
        (lost("ping", "no pong"), Condition("offline", "no pong"), Dial("main", URL, again="failure")),
        (lost("idle", "silent"), Condition("offline", "silent"), Dial("main", URL, again="failure")),
        (lost("too_large", "too large"), Condition("offline", "too large"), Dial("main", URL, again="failure")),
        (lost("asked", "asked for"), Condition("offline", "asked for"), Dial("main", URL)),
    ],
    ids=lambda value: value.kind if isinstance(value, Loss) else "",
)
@pytest.mark.parametrize("open_before", [True, False], ids=["open", "never open"])
def test_a_loss_is_told_and_dialled_again(loss: Loss, condition: Condition, dial: Dial, open_before: bool) -> None:
    session = fresh()
    session.started(None, None, at(0))
    if open_before:
        session.opened("main", at(1))
    login = (Login("refused"),) if condition.state == "auth_failed" else ()
    assert session.lost("main", loss, at(60)) == Step((*login, condition), (dial,))


def test_the_secret_address_is_in_no_words() -> None:
    session = fresh()
    told = [session.started(None, None, at(0)), session.lost("main", lost("refused", "HTTP 401"), at(1))]
    assert "token=t" not in repr(told)


# Gaps.


def test_a_gap_is_from_the_last_sign_of_life_until_open_again() -> None:
    session = talking()
    session.lost("main", lost("closed", "closed: 1006", seen=50), at(60))
    assert session.opened("main", at(70)) == Step(
        (Login("ok"), Condition("online"), gap("15:50", "16:10", "closed: 1006"))
    )


def test_failed_tries_do_not_shorten_a_gap_nor_change_its_reason() -> None:
    session = talking()
    session.lost("main", lost("ping", "no pong", seen=50), at(60))
    session.lost("main", lost("failed", "no route", seen=55), at(65))
    session.lost("main", lost("refused", "HTTP 401", seen=65), at(66))
    assert session.opened("main", at(130)).heard == (Login("ok"), Condition("online"), gap("15:50", "17:10", "no pong"))


def test_each_gap_is_told_once() -> None:
    session = talking()
    session.lost("main", lost("closed", "a", seen=50), at(60))
    session.opened("main", at(70))
    session.lost("main", lost("closed", "b", seen=80), at(80))
    assert session.opened("main", at(90)).heard == (Login("ok"), Condition("online"), gap("16:20", "16:30", "b"))


def test_a_platform_that_was_never_reached_leaves_no_gap() -> None:
    session = fresh()
    session.started(None, None, at(0))
    session.lost("main", lost("failed", "no route", seen=0), at(1))
    assert session.opened("main", at(90)).heard == (Login("ok"), Condition("online"))


def test_a_restart_is_a_gap_from_the_last_sign_of_life_before_it() -> None:
    session = fresh()
    session.started(None, at(-3600), at(0))
    session.lost("main", lost("failed", "no route", seen=0), at(1))
    told = Gap("2024-03-05T06:15:00.000000Z", "2024-03-05T07:15:10.000000Z", "restarted", "none")
    assert session.opened("main", at(10)).heard == (Login("ok"), Condition("online"), Event("", "gap", told))
    assert told.seconds == 3610.0


# Frames.


def test_an_uplink_is_one_event_of_its_device() -> None:
    step = talking().received("main", RESIOT_UP.encode(), at(1))
    (event,) = step.heard
    assert isinstance(event, Event)
    assert (event.subject, event.type, event.time, event.extra, event.told, event.replay) == (
        DEVICE, "up", "2024-03-05T07:16:30.007145Z", None, None, False,
    )  # fmt: skip
    assert (step.do, step.wake, step.remember) == ((), None, None)


@pytest.mark.parametrize(
    ("message", "subject", "kind"),
    [
        ({"CommType": "comm_rx", "AppEui": "70B3", "DevEui": "A817"}, "application/70b3/device/a817", "up"),
        ({"CommType": "comm_join", "AppEui": "70b3", "DevEui": "1111"}, "application/70b3/device/1111", "join"),
        ({"CommType": "comm_tx", "AppEui": "70b3", "DevEui": "a817"}, "application/70b3/device/a817", "tx"),
        ({"CommType": "comm_gwtx", "AppEui": "70b3", "DevEui": "a817"}, "application/70b3/device/a817", "txack"),
        ({"CommType": "tx_confirm", "AppEui": "70b3", "DevEui": "a817"}, "application/70b3/device/a817", "ack"),
        ({"CommType": "comm_rx", "DevEui": "a817"}, "application/%/device/a817", "up"),
        ({"CommType": "comm_rx"}, "application/%/device/%", "up"),
        ({"CommType": "comm_rx", "AppEui": "a/b", "DevEui": "+#%"}, "application/a%2Fb/device/%2B%23%25", "up"),
        ({"CommType": "comm_gwrx", "GatewayEUIs": ["AA"]}, "gateway/aa", "rx"),
        ({"CommType": "comm_weather", "DevEui": "a817"}, "", "unknown"),
        ({"DevEui": "a817"}, "", "unknown"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_every_event_has_the_subject_of_its_ids(message: dict[str, object], subject: str, kind: str) -> None:
    (event,) = hear(talking(), message).heard
    assert isinstance(event, Event)
    assert (event.subject, event.type) == (subject, kind)


def test_a_frame_of_several_messages_is_heard_in_their_order() -> None:
    frame = f'[{RESIOT_UP},5,{{"CommType":"comm_rx","Port":[1]}},{{"CommType":"comm_join","DevEui":"a"}}]'.encode()
    up, wrong, join, number = talking().received("main", frame, at(1)).heard
    assert isinstance(up, Event)
    assert isinstance(join, Event)
    assert (up.type, join.type) == ("up", "join")
    assert number == wrong == Unread("wrong_shape", frame)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b'{"CommType":"comm_rx', "not_json"),
        (b'{"CommType":"\xff"}', "not_text"),
        (b"12", "wrong_shape"),
        (b'{"CommType":"comm_rx","Port":[5]}', "wrong_shape"),
        (b'{"Result":"Perhaps"}', "wrong_shape"),
    ],
)
def test_what_cannot_be_read_is_dead_as_it_came(frame: bytes, reason: str) -> None:
    assert talking().received("main", frame, at(1)) == Step((Unread(reason, frame),))  # type: ignore[arg-type]


def test_a_doubled_frame_is_heard_twice_and_is_the_same_event() -> None:
    """Consumers drop it by its id."""
    session = talking()
    assert session.received("main", RESIOT_UP.encode(), at(1)) == session.received("main", RESIOT_UP.encode(), at(2))


def test_it_makes_no_http_calls() -> None:
    assert talking().answered("c", Answer(200), at(1)) == NOTHING


# Gateways.


def online(last: str) -> State:
    return State(GATEWAY, GatewayState("online", last))


def test_a_keep_alive_makes_an_event_and_a_state() -> None:
    assert talking().received("main", RESIOT_ALIVE.encode(), at(5)) == Step(
        (Event(GATEWAY, "alive", Alive("0a1b2c3d4e5f6071", "69643d3237"), ALIVE_AT), online(ALIVE_AT)),
        wake=1010.0,
    )


def test_a_keep_alive_of_several_gateways_is_one_event_and_one_state_for_each() -> None:
    step = hear(talking(), {"CommType": "comm_gwalive", "GatewayEUIs": ["AA", "bb"]}, 5)
    here = "2024-03-05T07:15:05.000000Z"
    assert step.heard == (
        Event("gateway/aa", "alive", Alive("aa")),
        Event("gateway/bb", "alive", Alive("bb")),
        State("gateway/aa", GatewayState("online", here)),
        State("gateway/bb", GatewayState("online", here)),
    )


def test_a_gateway_is_offline_after_its_silence_and_online_with_its_next_keep_alive() -> None:
    session = talking()
    session.received("main", RESIOT_ALIVE.encode(), at(5))
    assert session.woken(at(10)) == Step(wake=1005.0 + TIMEOUT, remember=f'[{{"{EUI}":"{ALIVE_AT}"}},{{}}]'.encode())
    assert session.woken(at(5 + TIMEOUT - 0.1)) == Step(wake=1005.0 + TIMEOUT)
    assert session.woken(at(5 + TIMEOUT)) == Step(
        (State(GATEWAY, GatewayState("offline", ALIVE_AT)),), wake=1010.0 + TIMEOUT
    )
    assert session.woken(at(10 + TIMEOUT)) == Step(remember=f'[{{}},{{"{EUI}":"{ALIVE_AT}"}}]'.encode())
    assert session.woken(at(11 + TIMEOUT)) == NOTHING
    assert online(ALIVE_AT) in session.received("main", RESIOT_ALIVE.encode(), at(900)).heard


@pytest.mark.parametrize("kind", ["comm_rx", "comm_join", "comm_gwrx"])
def test_whatever_a_gateway_hears_is_no_silence(kind: str) -> None:
    session = talking()
    session.received("main", RESIOT_ALIVE.encode(), at(5))
    session.woken(at(10))
    assert hear(session, {"CommType": kind, "GatewayEUIs": ["0A1B2C3D4E5F6071"]}, 200).wake == 1200.0 + TIMEOUT
    assert session.woken(at(5 + TIMEOUT)).heard == ()
    assert session.woken(at(200 + TIMEOUT)).heard == (State(GATEWAY, GatewayState("offline", ALIVE_AT)),)


def test_each_gateway_has_its_own_silence() -> None:
    session = talking()
    for seconds, eui in ((0, "aa"), (10, "bb"), (20, "cc"), (30, "aa")):
        hear(session, {"CommType": "comm_gwalive", "GatewayEUIs": [eui]}, seconds)
    step = session.woken(at(25 + TIMEOUT))
    assert [heard.subject for heard in step.heard if isinstance(heard, State)] == ["gateway/bb", "gateway/cc"]
    assert step.wake == 1030.0 + TIMEOUT


def test_being_blind_ourselves_is_no_silence_of_a_gateway() -> None:
    session = talking()
    session.received("main", RESIOT_ALIVE.encode(), at(5))
    session.woken(at(10))
    assert session.lost("main", lost("closed", "gone"), at(60)).wake is None
    assert session.woken(at(5000)) == NOTHING
    assert session.opened("main", at(6000)).wake == 7000.0 + TIMEOUT
    assert session.woken(at(6000 + TIMEOUT)).heard == (State(GATEWAY, GatewayState("offline", ALIVE_AT)),)


# What is remembered.


def again(memory: bytes | None) -> ResiotSession:
    """A session after a restart."""
    session = fresh()
    session.started(memory, at(0), at(1000))
    session.opened("main", at(1001))
    return session


def test_a_gateway_that_fell_silent_during_a_restart_is_told_as_offline() -> None:
    session = talking()
    session.received("main", RESIOT_ALIVE.encode(), at(5))
    session = again(session.stopped(at(6)).remember)
    assert session.woken(at(1001 + TIMEOUT)).heard == (State(GATEWAY, GatewayState("offline", ALIVE_AT)),)


def test_a_gateway_that_was_silent_before_a_restart_is_back_when_something_is_heard_by_it() -> None:
    session = talking()
    session.received("main", RESIOT_ALIVE.encode(), at(5))
    session = again(session.woken(at(5 + TIMEOUT)).remember)
    assert session.woken(at(5000)).heard == ()
    assert online(ALIVE_AT) in hear(session, {"CommType": "comm_rx", "GatewayEUIs": [EUI]}, 5001).heard


def test_a_silent_gateway_that_is_back_by_a_usual_uplink_falls_silent_again() -> None:
    session = talking()
    session.received("main", RESIOT_ALIVE.encode(), at(5))
    session.woken(at(5 + TIMEOUT))
    session.woken(at(20 + TIMEOUT))
    step = session.received("main", RESIOT_UP.encode(), at(1000))
    assert step.heard[1:] == (online(ALIVE_AT),)
    assert step.wake is not None


def test_nothing_new_is_not_remembered_again_and_keep_alives_once_a_minute() -> None:
    session = talking()
    session.received("main", RESIOT_ALIVE.encode(), at(5))
    assert session.woken(at(10)).remember is not None
    assert session.stopped(at(11)).remember is None
    session.received("main", RESIOT_ALIVE.encode(), at(20))
    session.received("main", RESIOT_ALIVE.encode(), at(40))
    assert session.woken(at(79)).remember is None
    assert session.woken(at(80)).remember is not None


@pytest.mark.parametrize("memory", [b"", b"{", b"[1,2]", b"\xff", b"[[],[]]", b'[{"a":1},{}]', b"[" * 5000, None])
def test_a_memory_that_cannot_be_read_is_none(memory: bytes | None) -> None:
    assert again(memory).woken(at(9999)).heard == ()


# Feedback and replies.


@pytest.mark.parametrize("kind", ["comm_tx", "comm_gwtx", "comm_txinfo", "comm_txsendack", "comm_txsendconfirm"])
@pytest.mark.parametrize("replied", [False, True], ids=["before the reply", "after it"])
def test_feedback_that_names_only_our_reference_gets_that_devices_subject(kind: str, replied: bool) -> None:
    session = talking()
    session.ordered(downlink(), at(0))
    if replied:
        hear(session, {"Result": "Success", "Reference": "c1"})
    told = Downlinked(reference="c1") if kind == "comm_tx" else TxAck(stage=kind, reference="c1")
    step = hear(session, {"CommType": kind, "Reference": "c1"})
    assert step.heard == (Event(DEVICE, "tx" if kind == "comm_tx" else "txack", told),)


def test_feedback_may_come_hours_later_and_after_a_reconnect() -> None:
    session = talking()
    session.ordered(downlink(), at(0))
    hear(session, {"Result": "Success", "Reference": "c1"})
    session.lost("main", lost("closed", "gone"), at(60))
    session.opened("main", at(70))
    step = hear(session, {"CommType": "comm_txconfirm", "Reference": "c1"}, 80_000)
    assert step.heard == (Event(DEVICE, "ack", Ack(reference="c1")),)


@pytest.mark.parametrize("reference", ["other", "", None])
def test_feedback_that_names_nothing_of_ours_has_no_subject(reference: str | None) -> None:
    session = talking()
    session.ordered(downlink(), at(0))
    for kind in ("comm_txsendack", "tx_confirm"):
        assert subjects(hear(session, {"CommType": kind, "Reference": reference})) == [""]


def test_feedback_that_names_its_device_keeps_it() -> None:
    session = talking()
    session.ordered(downlink(), at(0))
    message: dict[str, object] = {"CommType": "comm_tx", "Reference": "c1", "AppEui": "aa", "DevEui": "bb"}
    assert subjects(hear(session, message)) == ["application/aa/device/bb"]


@pytest.mark.parametrize(
    "message",
    [
        {"Result": "Success", "Details": "", "Reference": "nobody's"},
        {"Result": "Fail", "Details": "device not found"},
    ],
    ids=["another reference", "none"],
)
def test_a_reply_that_nobody_waits_for_is_told_as_unknown(message: dict[str, object]) -> None:
    (event,) = hear(talking(), message).heard
    assert isinstance(event, Event)
    assert (event.subject, event.type, event.time) == ("", "unknown", None)
    assert isinstance(event.data, Raw)
    assert json.loads(bytes(event.data)) == message


def test_a_downlink_goes_out_and_its_wake_is_the_deadline() -> None:
    step = talking().ordered(downlink(), at(0))
    assert step.heard == (Response("c1", "accepted", 202, False, data={"reference": "c1"}),)
    assert [type(do) for do in step.do] == [Send]
    assert step.wake == 1010.0


@pytest.mark.parametrize("was_open", [False, True], ids=["before it is open", "after a loss"])
def test_a_downlink_that_comes_while_it_is_not_open_is_not_sent(was_open: bool) -> None:
    session = fresh()
    session.started(None, None, at(0))
    if was_open:
        session.opened("main", at(1))
        session.lost("main", lost("closed", "gone"), at(2))
    error = CommandError("not_connected", "the connection was lost before the downlink was sent")
    assert session.ordered(downlink(), at(3)) == Step((Response("c1", "rejected", 503, error=error),))
    assert session.opened("main", at(4)).do == ()


def test_a_loss_answers_what_is_under_way_before_it_tells_its_condition() -> None:
    session = talking()
    session.ordered(downlink(), at(0))
    step = session.lost("main", lost("closed", "gone"), at(1))
    assert [type(heard) for heard in step.heard] == [Response, Condition]


def test_at_the_end_what_still_waits_is_answered() -> None:
    session = talking()
    session.ordered(downlink("c1"), at(0))
    session.ordered(downlink("c2"), at(0))
    step = session.stopped(at(1))
    assert [(heard.command, heard.code) for heard in step.heard if isinstance(heard, Response)] == [
        ("c1", 408),
        ("c2", 503),
    ]
    assert (step.do, step.wake, session.stopped(at(2))) == ((), None, NOTHING)
