"""Payload bytes: the README's example word for word, both envelopes and encodings, and when two events are the same."""

import json
import re
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers

from bridge.backends import PLATFORMS
from bridge.backends.resiot import frames
from bridge.backends.resiot.data import GatewayState
from bridge.backends.resiot.session import ResiotSession
from bridge.model import Event, Instant, Message, State, Unread
from bridge.options import Secret
from bridge.payloads import DEAD_BYTES, Writer
from bridge.topics import level, too_long
from tests.backends.samples_resiot import RESIOT_UP

RECORDED = "2024-03-05T07:16:30.101222Z"
SESSION = "1709622990101"
NOW = Instant(1000.0, 1709622990.101222)

# README, "Event payload"; the id is checked by itself
EXAMPLE = (
    '{"specversion":"1.0","id":"%s","source":"/ws2mqtt/lora","type":"resiot.up",'
    '"subject":"application/70b3d57ed0001122/device/a81758fffe0a0b0c","time":"2024-03-05T07:16:30.007145Z",'
    '"recordedtime":"2024-03-05T07:16:30.101222Z","session":"1709622990101","sequence":"0000000000000042",'
    '"datacontenttype":"application/json",'
    '"data":{"dev_eui":"a81758fffe0a0b0c","app_eui":"70b3d57ed0001122","f_port":5,"f_cnt":42,"payload":"AQDmAlI=",'
    '"payload_hex":"0100e60252","adr":true,"duplicate":false,'
    '"rx_info":[{"gateway_eui":"0a1b2c3d4e5f6071","rssi_dbm":-87,"snr_db":6.2,"channel":2}],'
    '"frequency_hz":868500000,"bandwidth_hz":125000,"spreading_factor":9,"connector":"636f6e3230"}}'
)
EXAMPLE_TOPIC = "ws2mqtt/lora/application/70b3d57ed0001122/device/a81758fffe0a0b0c/event/up"

Payload = Literal["json", "msgpack"]
Envelope = Literal["structured", "binary"]


class Reading(Struct, frozen=True, omit_defaults=True):
    value: int | float = 1
    name: str | None = None


def writer(
    payload: Payload = "json", envelope: Envelope = "structured", base: str = "ws2mqtt", session: str = SESSION
) -> Writer:
    return Writer(base=base, backend="lora", platform="resiot", session=session, payload=payload, envelope=envelope)


def heard(frame: str) -> Event:
    """What the session makes of one frame."""
    options = PLATFORMS["resiot"].options(url=Secret("wss://resiot.example/?token=t"))  # type: ignore[call-arg]
    session = ResiotSession(options)  # type: ignore[arg-type]
    (event,) = session.received("main", frame.encode(), NOW).heard
    assert isinstance(event, Event)
    return event


def of_unknown(**told: Any) -> Event:
    made = frames.unknown(told)
    return Event("", "unknown", made.data[0], made.time, None, made.told)


def ident(event: Event, number: int = 1, **options: Any) -> str:
    written: str = json.loads(writer(**options).event(event, number, RECORDED).payload)["id"]
    return written


def properties(message: Message) -> Any:
    """The property bytes, as an independent client reads them."""
    read: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    length: bytes = VariableByteIntegers.encode(len(message.properties))  # type: ignore[no-untyped-call]
    read.unpack(length + message.properties)
    return read


def attributes(message: Message) -> dict[str, str]:
    pairs: list[tuple[str, str]] = properties(message).UserProperty
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


# The words on the wire.


@pytest.mark.parametrize("shape", ["usual", "read field by field"])
def test_an_uplink_is_the_example_word_for_word(shape: str) -> None:
    event = heard(RESIOT_UP if shape == "usual" else f"[{RESIOT_UP}]")
    message = writer().event(event, 42, RECORDED)
    said = message.payload.decode()
    found = re.search(r'"id":"([0-9a-f]{32})"', said)
    assert found is not None
    assert said == EXAMPLE % found[1]
    assert message.topic == EXAMPLE_TOPIC


@pytest.mark.parametrize(
    ("payload", "envelope", "media", "format_indicator"),
    [
        ("json", "structured", "application/cloudevents+json", 1),
        ("json", "binary", "application/json", 1),
        ("msgpack", "structured", "application/cloudevents+msgpack", None),
        ("msgpack", "binary", "application/msgpack", None),
    ],
)
def test_each_encoding_and_envelope_says_the_same(
    payload: Payload, envelope: Envelope, media: str, format_indicator: int | None
) -> None:
    """CloudEvents MQTT binding 1.0, 3: the content type tells the mode apart."""
    whole = json.loads(writer().event(heard(RESIOT_UP), 42, RECORDED).payload)
    message = writer(payload, envelope).event(heard(RESIOT_UP), 42, RECORDED)
    decode = msgspec.msgpack.decode if payload == "msgpack" else msgspec.json.decode
    said = decode(message.payload)
    if envelope == "structured":
        assert said == whole
        assert not hasattr(properties(message), "UserProperty")
    else:
        assert said == whole["data"]
        assert attributes(message) == {name: value for name, value in whole.items() if name != "data"}
    assert message.topic == EXAMPLE_TOPIC
    assert properties(message).ContentType == media
    assert getattr(properties(message), "PayloadFormatIndicator", None) == format_indicator


def test_without_a_subject_there_is_no_subject() -> None:
    event = of_unknown(CommType="comm_weather")
    message = writer().event(event, 1, RECORDED)
    assert message.topic == "ws2mqtt/lora/event/unknown"
    assert "subject" not in json.loads(message.payload)
    assert "subject" not in attributes(writer(envelope="binary").event(event, 1, RECORDED))


def test_without_a_platform_time_both_times_are_ours() -> None:
    said = json.loads(writer().event(Event("s", "up", Reading()), 1, RECORDED).payload)
    assert said["time"] == said["recordedtime"] == RECORDED


@pytest.mark.parametrize("envelope", ["structured", "binary"])
def test_a_replayed_event_says_so_and_others_do_not(envelope: Envelope) -> None:
    replayed, live = (
        writer(envelope=envelope).event(Event("s", "up", Reading(), replay=replay), 1, RECORDED)
        for replay in (True, False)
    )
    if envelope == "binary":
        assert attributes(replayed)["replay"] == "true"
        assert "replay" not in attributes(live)
    else:
        assert json.loads(replayed.payload)["replay"] is True
        assert "replay" not in json.loads(live.payload)


@pytest.mark.parametrize(
    ("data", "extra", "said"),
    [
        (Reading(2, "n"), {"DevAddr": "01"}, {"value": 2, "name": "n", "extra": {"DevAddr": "01"}}),
        (Reading(2), None, {"value": 2}),
        (Reading(2), {}, {"value": 2}),
        (Raw(b"{}"), {"a": None}, {"extra": {"a": None}}),
    ],
    ids=["both", "none", "empty", "empty data"],
)
@pytest.mark.parametrize("payload", ["json", "msgpack"])
def test_extra_is_a_field_of_data(
    data: Struct | Raw, extra: dict[str, Any] | None, said: dict[str, Any], payload: Payload
) -> None:
    told = writer(payload, "binary").event(Event("s", "up", data, extra=extra), 1, RECORDED).payload
    decoded = msgspec.msgpack.decode(told) if payload == "msgpack" else json.loads(told)
    assert list(decoded.items()) == list(said.items())


@pytest.mark.parametrize(
    ("number", "packed"),
    [(2**64 - 1, 2**64 - 1), (2**64, float(2**64)), (-(2**63) - 1, -float(2**63)), (10**400, str(10**400))],
    ids=["largest", "larger", "smaller", "beyond floats"],
)
@pytest.mark.parametrize("envelope", ["structured", "binary"])
def test_integers_that_messagepack_has_not_are_told_all_the_same(
    number: int, packed: object, envelope: Envelope
) -> None:
    event = Event("", "unknown", Raw(b'{"n":[%d]}' % number), extra={"big": number})
    said = msgspec.msgpack.decode(writer("msgpack", envelope).event(event, 1, RECORDED).payload)
    data = said if envelope == "binary" else said["data"]
    assert data == {"n": [packed], "extra": {"big": packed}}


@pytest.mark.parametrize("envelope", ["structured", "binary"])
def test_a_subject_too_long_for_mqtt_gives_a_topic_that_is_too_long(envelope: Envelope) -> None:
    """It is the outbox that counts and drops it."""
    message = writer(envelope=envelope).event(Event("é" * 40_000, "up", Reading()), 1, RECORDED)
    assert too_long(message.topic)


def test_the_size_is_what_a_message_takes() -> None:
    message = writer(envelope="binary").event(heard(RESIOT_UP), 1, RECORDED)
    assert message.size == len(message.topic.encode()) + len(message.payload) + len(message.properties)


# Identity: equal exactly when source, subject, type, platform time and what was told are equal.

TIME = "2024-03-05T07:16:30.007145Z"
ONE = Event("s", "up", Reading(2, "n"), TIME)


@pytest.mark.parametrize(
    "other",
    [
        Event("s", "up", Reading(2, "n"), TIME),
        Event("s", "up", Raw(b'{"value":2,"name":"n"}'), TIME),
        Event("s", "up", Reading(2, "n"), TIME, extra={"DevAddr": "01"}),
        Event("s", "up", Reading(2, "n"), TIME, replay=True),
    ],
    ids=["again", "raw", "extra does not count", "history does not count"],
)
def test_the_same_event_has_the_same_id(other: Event) -> None:
    assert ident(ONE, 1) == ident(other, 2, session="1")
    assert re.fullmatch("[0-9a-f]{32}", ident(other))


@pytest.mark.parametrize(
    "other",
    [
        Event("t", "up", Reading(2, "n"), TIME),
        Event("s", "rx", Reading(2, "n"), TIME),
        Event("s", "up", Reading(2, "n"), TIME.replace("145", "146")),
        Event("s", "up", Reading(3, "n"), TIME),
        Event("s", "up", Reading(2), TIME),
        Event("s", "up", Reading(2, "n"), None),
    ],
    ids=["subject", "type", "time", "value", "a field less", "no time"],
)
def test_another_event_has_another_id(other: Event) -> None:
    assert ident(ONE) != ident(other)


def test_another_source_has_another_id() -> None:
    assert ident(ONE) != ident(ONE, base="site-b")


def test_what_identity_is_made_of_may_be_less_than_data() -> None:
    one, other = (Event("s", "up", Reading(1, name), TIME, told=b"1") for name in ("a", "b"))
    assert ident(one) == ident(other)


@pytest.mark.parametrize("payload", ["json", "msgpack"])
def test_the_id_does_not_depend_on_how_it_is_written(payload: Payload) -> None:
    for envelope in ("structured", "binary"):
        message = writer(payload, envelope).event(ONE, 7, RECORDED)
        if envelope == "binary":
            found = attributes(message)["id"]
        else:
            decode = msgspec.msgpack.decode if payload == "msgpack" else msgspec.json.decode
            found = decode(message.payload)["id"]
        assert found == ident(ONE)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.sampled_from(["1", "2"]), st.sampled_from(["1", "2"]))
@settings(deadline=None, print_blob=True, max_examples=50)
def test_without_a_time_it_is_unique_to_session_and_sequence(one: int, other: int, here: str, there: str) -> None:
    event = Event("s", "up", Reading())
    same = ident(event, one, session=here) == ident(event, other, session=there)
    assert same == ((one, here) == (other, there))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": {"c": [1], "d": 2}}, {"a": {"d": 2, "c": [1]}}, True),
        ({"a": 12}, {"a": 12.0}, True),
        ({"a": [{"b": -12.0}]}, {"a": [{"b": -12}]}, True),
        ({"a": 0}, {"a": -0.0}, True),
        ({"a": 12}, {"a": 12.5}, False),
        ({"a": 12}, {"a": "12"}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": None}, {}, False),
        ({"a": 2**53}, {"a": 2**53 + 1}, False),
    ],
    ids=[
        "order",
        "order inside",
        "12 and 12.0",
        "inside",
        "0 and -0",
        "12.5",
        "text",
        "true",
        "list order",
        "null",
        "big",
    ],
)
def test_unknown_frames_are_the_same_when_they_say_the_same(one: dict[str, Any], other: Any, same: bool) -> None:
    named = {"CommType": "comm_weather", "DT": "2024-03-05T08:16:30Z"}
    assert (ident(of_unknown(**named, **one)) == ident(of_unknown(**named, **other))) is same


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('"snr":"6.2"', '"snr":6.2', True),
        ('"seqno":"42"', '"seqno":42.0', True),
        ('"rssi":"-87"', '"rssi":"-87.0"', True),
        ('"Port":"5"', '"Port":5', True),
        ('"Port":"5"', '"DevAddr":"01ab","Port":"5"', True),
        ('"CommType":', '"MsgType":', True),
        ("0a1B2c3D4e5F6071", "0A1B2C3D4E5F6071", True),
        ("2024-03-05T08:16:30.0071456+01:00", "2024-03-05T07:16:30.007145Z", True),
        ('"seqno":"42"', '"seqno":"43"', False),
        ("0100e60252", "0100e60253", False),
        (".0071456", ".0071466", False),
    ],
)
def test_an_uplink_told_in_another_way_is_the_same(old: str, new: str, same: bool) -> None:
    assert old in RESIOT_UP
    assert (ident(heard(RESIOT_UP)) == ident(heard(RESIOT_UP.replace(old, new)))) is same


# Everything else is flat JSON.


def test_a_state_is_flat_json() -> None:
    message = writer().state(State("gateway/0a1b", GatewayState("online", TIME)))
    assert message.topic == "ws2mqtt/lora/gateway/0a1b/state"
    assert message.payload == b'{"state":"online","last_alive":"%s"}' % TIME.encode()
    assert properties(message).ContentType == "application/json"
    assert properties(message).PayloadFormatIndicator == 1


@pytest.mark.parametrize("payload", ["json", "msgpack"])
@pytest.mark.parametrize("envelope", ["structured", "binary"])
def test_a_state_stays_json_however_events_are_written(payload: Payload, envelope: Envelope) -> None:
    assert writer(payload, envelope).state(State("s", Raw(b'{"a":1}'))).payload == b'{"a":1}'


def test_a_subject_that_is_gone_leaves_nothing() -> None:
    assert writer().state(State("gateway/0a1b", None)) == Message("ws2mqtt/lora/gateway/0a1b/state", b"")


@pytest.mark.parametrize("more", [-1, 0, 1, 10_000])
def test_a_dead_frame_is_as_it_came_and_cut_at_64_kib(more: int) -> None:
    frame = b"\xff\0{" * 30_000
    message = writer().dead(Unread("not_text", frame[: DEAD_BYTES + more]))
    assert message.topic == "ws2mqtt/lora/dead/not_text"
    assert message.payload == frame[: min(65_536, 65_536 + more)]


def test_plain_values_are_flat_json_below_the_backend() -> None:
    message = writer().plain("health", {"a": [1]})
    assert (message.topic, message.payload) == ("ws2mqtt/lora/health", b'{"a":[1]}')


SUBJECTS = st.text(min_size=1, max_size=20).map(level) | st.sampled_from(('"time":"', '"id":"', "%", "a/b", "\\", ""))


@given(
    SUBJECTS,
    st.text(min_size=1, max_size=10).map(level) | st.just("up"),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9), max_size=3),
    st.none() | st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), min_size=1, max_size=2),
    st.booleans(),
    st.integers(1, 10**16 - 1),
)
def test_what_is_written_directly_is_what_the_thorough_way_writes(
    subject: str, kind: str, data: dict[str, Any], extra: dict[str, str] | None, replay: bool, number: int
) -> None:
    event = Event(subject, kind, Raw(msgspec.json.encode(data)), "2024-03-05T07:16:30.007145Z", extra, None, replay)
    writer = Writer(base='b"\\ase', backend="lora", platform="resiot", session="17")
    quick = writer.event(event, number, "2024-03-05T07:16:31.000000Z")
    writer.quick = False
    assert quick == writer.event(event, number, "2024-03-05T07:16:31.000000Z")
