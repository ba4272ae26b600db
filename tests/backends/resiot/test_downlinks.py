"""Downlinks, along the drawing at the head of downlinks.py: every path from ordered to the final response.

ResIOT docs, Websocket Server, "Sending a Downlink with the WebSocket".
"""

import json
from typing import Any

import msgspec
import pytest

from bridge.backends.resiot.downlink import Downlink, request
from bridge.backends.resiot.downlinks import Downlinks
from bridge.backends.resiot.frames import Reply
from bridge.backends.session import Send
from bridge.errors import BadCommand
from bridge.model import Command, Instant, Response
from bridge.options import Duration, from_text, revealed

DEVICE = "application/70b3d57ed0001122/device/a81758fffe0a0b0c"
YES, NO = Reply(True, "", ""), Reply(False, "device not found", "")
DAY = 86_400.0


def at(seconds: float) -> Instant:
    return Instant(1000.0 + seconds, seconds)


def command(key: str, *, timeout: float = 10.0, expiry: float | None = None, **fields: Any) -> Command:
    """A downlink ordered at 0."""
    content: dict[str, Any] = {} if {"payload", "payload_hex", "text"} & fields.keys() else {"payload_hex": "ff01"}
    body = Downlink(f_port=10, **content, **fields)
    send_by = timeout if expiry is None else min(timeout, expiry)
    return Command(key, "downlink", DEVICE, body, 1000.0 + send_by, 1000.0 + timeout)


def told(links: Downlinks) -> list[tuple[str, str, int, bool]]:
    """What has been responded since the last time."""
    return [(one.command, one.status, one.code, one.final) for one in links.take()]


def references(sends: tuple[Send, ...] | None) -> list[str]:
    """Whose frames go out now."""
    return [json.loads(revealed(send.frame))["Reference"] for send in sends or ()]


def ordered(*commands: Command) -> Downlinks:
    """All ordered at 0; the first one in flight; "accepted" taken."""
    links = Downlinks()
    for one in commands:
        links.ordered(one, at(0))
    links.take()
    return links


# The paths.


def test_an_order_is_accepted_and_sent_at_once() -> None:
    links = Downlinks()
    sends = links.ordered(command("a"), at(0))
    assert references(sends) == ["a"]
    assert links.take() == (Response("a", "accepted", 202, False, data={"reference": "a"}),)
    assert links.due() == 1010.0


def test_success_is_the_end_of_a_plain_downlink() -> None:
    links = ordered(command("a"))
    assert links.replied(YES, at(1)) == ()
    assert links.take() == (Response("a", "sent", 200, data={"reference": "a"}),)
    assert links.due() is None


def test_fail_is_told_in_the_platforms_own_words() -> None:
    links = ordered(command("a"))
    links.replied(Reply(False, "Gerät nicht gefunden", "a"), at(1))
    (response,) = links.take()
    assert (response.status, response.code, response.final) == ("failed", 502, True)
    assert response.error
    assert response.error.message == "Gerät nicht gefunden"


def test_a_fail_without_words_says_so() -> None:
    links = ordered(command("a"))
    links.replied(Reply(False, "", "a"), at(1))
    (response,) = links.take()
    assert response.error
    assert response.error.message


def test_one_is_in_flight_at_a_time_and_the_next_waits_for_the_answer() -> None:
    links = Downlinks()
    sent = [references(links.ordered(command(key), at(0))) for key in "abc"]
    assert sent == [["a"], [], []]
    assert [code for _, _, code, _ in told(links)] == [202, 202, 202]
    assert references(links.replied(YES, at(1))) == ["b"]
    assert references(links.replied(NO, at(2))) == ["c"]
    assert references(links.replied(YES, at(3))) == []
    assert told(links) == [("a", "sent", 200, True), ("b", "failed", 502, True), ("c", "sent", 200, True)]


@pytest.mark.parametrize("reference", ["", "a"], ids=["without reference", "with it"])
def test_a_reply_belongs_to_the_one_in_flight(reference: str) -> None:
    links = ordered(command("a"), command("b"))
    links.replied(Reply(True, "", reference), at(1))
    assert told(links) == [("a", "sent", 200, True)]


@pytest.mark.parametrize("reference", ["b", "A", "other"])
def test_a_reply_to_another_reference_is_nobodys(reference: str) -> None:
    links = ordered(command("a"), command("b"))
    assert links.replied(Reply(True, "", reference), at(1)) is None
    assert told(links) == []


def test_a_reply_when_nothing_is_in_flight_is_nobodys() -> None:
    assert Downlinks().replied(YES, at(0)) is None


def test_without_a_reply_nobody_knows() -> None:
    links = ordered(command("a"))
    assert links.woken(at(9.9)) == ()
    assert told(links) == []
    links.woken(at(10))
    (response,) = links.take()
    assert (response.status, response.code, response.final) == ("unknown", 408, True)
    assert response.data == {"reference": "a"}


def test_a_late_reply_changes_nothing() -> None:
    links = ordered(command("a"))
    links.woken(at(10))
    links.take()
    assert links.replied(Reply(True, "", "a"), at(11)) is None
    assert told(links) == []


def test_a_late_reply_is_not_taken_for_the_next_ones() -> None:
    links = ordered(command("a"), command("b", timeout=30))
    assert references(links.woken(at(10))) == ["b"]
    links.take()
    assert links.replied(Reply(False, "too late", "a"), at(11)) is None
    assert references(links.replied(Reply(True, "", "b"), at(12))) == []
    assert told(links) == [("b", "sent", 200, True)]


@pytest.mark.parametrize(("timeout", "expiry"), [(5.0, None), (30.0, 5.0)], ids=["timeout", "message expiry"])
def test_what_could_not_be_sent_in_its_time_is_expired(timeout: float, expiry: float | None) -> None:
    links = ordered(command("a", timeout=60), command("b", timeout=timeout, expiry=expiry))
    assert links.due() == 1005.0
    assert links.woken(at(5)) == ()
    assert told(links) == [("b", "expired", 410, True)]
    assert references(links.replied(YES, at(6))) == []


def test_what_has_expired_is_not_sent_when_its_turn_comes() -> None:
    """The reply may come before the timer is heard."""
    links = ordered(command("a", timeout=60), command("b", timeout=5), command("c", timeout=60))
    assert references(links.replied(YES, at(7))) == ["c"]
    assert told(links) == [("a", "sent", 200, True), ("b", "expired", 410, True)]


def test_what_comes_too_late_is_not_sent() -> None:
    links = Downlinks()
    assert links.ordered(command("a", timeout=5), at(5)) == ()
    assert told(links) == [("a", "accepted", 202, False), ("a", "expired", 410, True)]


def test_the_time_to_be_sent_does_not_bound_the_answer() -> None:
    links = ordered(command("a", timeout=10, expiry=2))
    links.woken(at(5))
    links.replied(YES, at(6))
    assert told(links) == [("a", "sent", 200, True)]


def test_a_loss_leaves_the_one_in_flight_unknown_and_the_others_unsent() -> None:
    links = ordered(command("a"), command("b"), command("c"))
    links.lost(at(1))
    assert told(links) == [
        ("a", "unknown", 408, True),
        ("b", "rejected", 503, True),
        ("c", "rejected", 503, True),
    ]
    assert links.due() is None


def test_after_a_loss_nothing_is_sent_by_itself() -> None:
    links = ordered(command("a"), command("b"))
    links.lost(at(1))
    links.take()
    assert links.woken(at(2)) == ()
    assert links.replied(YES, at(3)) is None
    assert references(links.ordered(command("d"), at(4))) == ["d"]


def test_the_end_answers_everything() -> None:
    links = ordered(command("a", confirmed=True), command("b"), command("c"))
    links.replied(YES, at(1))
    links.take()
    links.stopped(at(2))
    final = told(links)
    assert sorted(final) == [("a", "unknown", 408, True), ("b", "unknown", 408, True), ("c", "rejected", 503, True)]
    links.stopped(at(3))
    assert told(links) == []


# Confirmed ones.


def test_a_confirmed_downlink_succeeds_when_the_device_confirms() -> None:
    links = ordered(command("a", confirmed=True))
    links.replied(YES, at(1))
    assert links.take() == (Response("a", "sent", 202, False, data={"reference": "a"}),)
    assert links.due() == 1001.0 + DAY
    links.told("ack", "a", at(3600))
    assert links.take() == (Response("a", "succeeded", 200, data={"reference": "a"}),)
    links.told("ack", "a", at(3601))
    assert (told(links), links.due()) == ([], None)


def test_a_confirmed_downlink_does_not_hold_up_the_next() -> None:
    links = ordered(command("a", confirmed=True), command("b"))
    assert references(links.replied(YES, at(1))) == ["b"]


@pytest.mark.parametrize("kind", ["tx", "txack", "up"])
def test_only_the_devices_confirmation_counts(kind: str) -> None:
    links = ordered(command("a", confirmed=True))
    links.replied(YES, at(1))
    links.take()
    links.told(kind, "a", at(2))
    assert told(links) == []


def test_a_refused_confirmed_downlink_waits_for_nothing() -> None:
    links = ordered(command("a", confirmed=True))
    links.replied(NO, at(1))
    assert told(links) == [("a", "failed", 502, True)]
    assert links.due() is None


def test_a_confirmation_that_does_not_come_in_its_time_is_unknown() -> None:
    links = ordered(command("a", confirmed=True, confirm_timeout=Duration(60.0)))
    links.replied(YES, at(1))
    links.take()
    links.woken(at(60.9))
    assert told(links) == []
    links.woken(at(61))
    assert told(links) == [("a", "unknown", 408, True)]


def test_a_reconnect_does_not_end_the_waiting_for_a_confirmation() -> None:
    links = ordered(command("a", confirmed=True))
    links.replied(YES, at(1))
    links.lost(at(2))
    links.take()
    links.told("ack", "a", at(100))
    assert told(links) == [("a", "succeeded", 200, True)]


# References.


@pytest.mark.parametrize("where", ["in flight", "in line", "awaiting"])
def test_a_reference_in_use_is_refused(where: str) -> None:
    links = {
        "in flight": lambda: ordered(command("a", reference="r")),
        "in line": lambda: ordered(command("a"), command("b", reference="r")),
        "awaiting": lambda: ordered(command("a", reference="r", confirmed=True)),
    }[where]()
    if where == "awaiting":
        links.replied(YES, at(1))
        links.take()
    assert links.ordered(command("z", reference="r"), at(2)) == ()
    (response,) = links.take()
    assert (response.command, response.status, response.code, response.final) == ("z", "rejected", 409, True)
    assert response.error
    assert response.error.field == "reference"


def test_a_reference_may_be_used_again_when_its_downlink_is_done() -> None:
    links = ordered(command("a", reference="r"))
    links.replied(YES, at(1))
    assert references(links.ordered(command("b", reference="r"), at(2))) == ["r"]


def test_the_senders_reference_is_told_and_sent() -> None:
    links = Downlinks()
    assert references(links.ordered(command("a", reference="my-ref_1"), at(0))) == ["my-ref_1"]
    assert links.take()[0].data == {"reference": "my-ref_1"}
    links.replied(Reply(True, "", "my-ref_1"), at(1))
    assert links.take()[0].data == {"reference": "my-ref_1"}


def test_whose_downlink_a_reference_was_is_known_for_a_day() -> None:
    links = ordered(command("a"))
    links.replied(YES, at(1))
    assert (links.subject("a"), links.subject("b")) == (DEVICE, None)
    links.ordered(command("b"), at(DAY - 1))
    assert links.subject("a") == DEVICE
    links.replied(YES, at(DAY - 1))
    links.ordered(command("c", timeout=2 * DAY), at(DAY + 1))
    assert (links.subject("a"), links.subject("c")) == (None, DEVICE)


# What the sender writes.


def fields(**told: Any) -> Downlink:
    return msgspec.convert({"f_port": 10, **told}, Downlink, dec_hook=from_text)


@pytest.mark.parametrize(
    ("told", "content"),
    [
        ({"payload": "/wE="}, b"\xff\x01"),
        ({"payload": ""}, b""),
        ({"payload_hex": "FF01"}, b"\xff\x01"),
        ({"payload_hex": ""}, b""),
        ({"text": "on"}, b"on"),
        ({"text": "é"}, b"\xc3\xa9"),
        ({"text": ""}, b""),
        ({"payload_hex": "00" * 500}, bytes(500)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_one_of_three_fields_says_what_to_send(told: dict[str, str], content: bytes) -> None:
    """How long it may be is for the platform to judge."""
    assert fields(**told).bytes() == content


@pytest.mark.parametrize(
    ("told", "field", "kind"),
    [
        ({}, "payload", "missing_field"),
        ({"payload": "/wE=", "text": "a"}, "text", "invalid_field"),
        ({"payload": "/wE=", "payload_hex": "ff"}, "payload_hex", "invalid_field"),
        ({"payload": "", "payload_hex": "", "text": ""}, "payload_hex", "invalid_field"),
        ({"payload": "/wE"}, "payload", "invalid_field"),
        ({"payload": "_wE="}, "payload", "invalid_field"),
        ({"payload": "/wE=\n"}, "payload", "invalid_field"),
        ({"payload": "é"}, "payload", "invalid_field"),
        ({"payload_hex": "fff"}, "payload_hex", "invalid_field"),
        ({"payload_hex": "0x01"}, "payload_hex", "invalid_field"),
        ({"payload_hex": "ff 01"}, "payload_hex", "invalid_field"),
        ({"payload_hex": "١٢"}, "payload_hex", "invalid_field"),
    ],
    ids=str,
)
def test_a_payload_that_cannot_be_sent_is_refused_by_name(told: dict[str, str], field: str, kind: str) -> None:
    links = Downlinks()
    with pytest.raises(BadCommand) as caught:
        fields(**told).bytes()
    assert (caught.value.code, caught.value.field, caught.value.kind) == (400, field, kind)
    body = fields(**told)
    assert links.ordered(Command("a", "downlink", DEVICE, body, 2000.0, 2000.0), at(0)) == ()
    (response,) = links.take()
    assert (response.status, response.code, response.final) == ("rejected", 400, True)
    assert response.error
    assert response.error.field == field


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("f_port", (1, 223, 255), (0, 256, -1, 1.5, "10", None, True)),
        ("reference", ("a", "A-b_9", "x" * 32), ("", "x" * 33, "a b", "é", "a/b", "a\n", 5)),
        ("confirmed", (True, False), ("true", 1, None)),
        ("connector", ("", "636f"), (5, None)),
        ("ws_command", ("", "reset"), (5, None)),
        ("confirm_timeout", ("10s", "24h", "500ms"), ("10", "soon", 10, None)),
        ("f_prot", (), (1,)),
    ],
)
def test_each_field_has_its_range(name: str, good: tuple[Any, ...], bad: tuple[Any, ...]) -> None:
    for value in good:
        fields(**{"text": "a", name: value})
    for value in bad:
        with pytest.raises(msgspec.ValidationError):
            fields(**{"text": "a", name: value})


def test_the_port_is_required() -> None:
    with pytest.raises(msgspec.ValidationError, match="f_port"):
        msgspec.convert({"text": "a"}, Downlink, dec_hook=from_text)


# What ResIOT reads.


def test_the_frame_is_as_the_page_asks_with_both_spellings_and_hex() -> None:
    frame = request(DEVICE, fields(payload_hex="FF01", confirmed=True), "br-7f3a")
    assert frame == (
        '{"function":"TX","Payload":"ff01","AppEui":"70b3d57ed0001122","DevEUI":"a81758fffe0a0b0c",'
        '"DevEui":"a81758fffe0a0b0c","Connector":"","Port":10,"Reference":"br-7f3a","Raw":false,'
        '"Confirm":true}'
    )


def test_text_goes_out_as_hex_and_never_raw() -> None:
    sent = json.loads(request(DEVICE, fields(text="é"), "r"))
    assert (sent["Payload"], sent["Raw"], sent["Confirm"]) == ("c3a9", False, False)


def test_connector_and_command_are_passed_on() -> None:
    sent = json.loads(request(DEVICE, fields(text="a", connector="636f", ws_command="reset"), "r"))
    assert (sent["Connector"], sent["WSCommand"]) == ("636f", "reset")


@pytest.mark.parametrize(
    ("subject", "app", "dev"),
    [
        ("application/70B3/device/A817", "70b3", "a817"),
        ("application/%/device/1111", "", "1111"),
        ("application/a%2Fb/device/c%25", "a/b", "c%"),
    ],
)
def test_ids_are_the_texts_of_the_topics_levels_in_lower_case(subject: str, app: str, dev: str) -> None:
    sent = json.loads(request(subject, fields(text="a"), "r"))
    assert (sent["AppEui"], sent["DevEui"], sent["DevEUI"]) == (app, dev, dev)
