"""What iSymphony says, as a table: frame → what is read. Shapes are those of the vendor's event pages."""

import json
from typing import Any

import msgspec
import pytest

from bridge.backends.isymphony.frames import Reply, Told, read
from bridge.model import Event, Unread
from bridge.payloads import Writer
from tests.backends.samples_isymphony import (
    ISYMPHONY_CORE,
    ISYMPHONY_DIAL,
    ISYMPHONY_HANGUP,
    ISYMPHONY_LEAVE,
    ISYMPHONY_LINK_END,
    ISYMPHONY_LOGIN,
    ISYMPHONY_LOGOUT,
)

DOCUMENTED = {
    "userLogin": ISYMPHONY_LOGIN,
    "userLogout": ISYMPHONY_LOGOUT,
    "linkEnd": ISYMPHONY_LINK_END,
    "hangup": ISYMPHONY_HANGUP,
    "confRoomCallLeave": ISYMPHONY_LEAVE,
}
WRITER = Writer(base="ws2mqtt", backend="pbx", platform="isymphony", session="1")


def told(message: dict[str, Any] | str) -> Told:
    (one,) = read((message if isinstance(message, str) else json.dumps(message)).encode())
    assert isinstance(one, Told)
    return one


def data(one: Told) -> Any:
    return msgspec.json.decode(msgspec.json.encode(one.data))


def identity(one: Told) -> str:
    event = Event(one.subjects[0], one.kind, one.data, one.time, one.extra, one.told)
    return str(msgspec.json.decode(WRITER.event(event, 1, "2024-03-05T07:16:30.101222Z").payload)["id"])


def hangup(**fields: Any) -> dict[str, Any]:
    return {**json.loads(ISYMPHONY_HANGUP), **fields}


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_a_documented_kind_is_passed_on_as_it_is(kind: str) -> None:
    frame = DOCUMENTED[kind]
    one = told(frame)
    assert (one.type, one.kind, one.core) == (kind, kind, ISYMPHONY_CORE)
    assert data(one) == json.loads(frame)
    assert (one.extra, one.message) == (None, None)


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_the_order_of_properties_makes_no_difference(kind: str) -> None:
    message = json.loads(DOCUMENTED[kind])
    turned = told(dict(reversed(list(message.items()))))
    assert turned == told(DOCUMENTED[kind])
    assert identity(turned) == identity(told(DOCUMENTED[kind]))


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_what_no_page_documents_is_extra_and_no_part_of_identity(kind: str) -> None:
    message = json.loads(DOCUMENTED[kind])
    one = told({**message, "queue": {"a": [1]}, "x": None})
    assert one.extra == {"queue": {"a": [1]}, "x": None}
    assert data(one) == message
    assert identity(one) == identity(told(message))
    assert one.value("queue") == {"a": [1]}


@pytest.mark.parametrize(
    ("told_as", "moment"),
    [
        (1710000101800, "2024-03-09T16:01:41.800000Z"),
        ("1710000101800", "2024-03-09T16:01:41.800000Z"),
        (1710000101800.0, "2024-03-09T16:01:41.800000Z"),
        (1710000101800.5, "2024-03-09T16:01:41.800500Z"),
        (1436889915953, "2015-07-14T16:05:15.953000Z"),
        (253402300799999, "9999-12-31T23:59:59.999000Z"),
        (253402300800000, None),
        (499132800, None),  # a sample of the Status page: seconds, where milliseconds are documented
        ("soon", None),
        ("١٢", None),
        ("", None),
        (-1, None),
        (None, None),
    ],
)
def test_time_is_milliseconds_as_number_or_text(told_as: Any, moment: str | None) -> None:
    one = told(hangup(time=told_as))
    assert one.time == moment
    assert data(one)["time"] == told_as
    assert told({"type": "park", "time": told_as}).time == moment


def test_one_number_in_two_forms_is_one_event() -> None:
    assert identity(told(hangup(time=1710000101800.0))) == identity(told(ISYMPHONY_HANGUP))
    login = json.loads(ISYMPHONY_LOGIN)
    assert identity(told({**login, "port": 50122.0})) == identity(told(login))
    assert identity(told({"type": "park", "time": 1710000101800, "n": 1.0})) == identity(
        told({"n": 1, "type": "park", "time": 1710000101800})
    )


@pytest.mark.parametrize(
    ("fields", "subjects"),
    [
        ({"username": "7001", "extensionNumber": "1"}, ("user/7001",)),
        ({"username": None, "extensionNumber": "0042"}, ("extension/0042",)),
        ({"username": "", "extensionNumber": "1"}, ("extension/1",)),
        ({}, ("",)),
        ({"username": "a/b+#%"}, ("user/a%2Fb%2B%23%25",)),
        ({"username": "gül 日本"}, ("user/gül 日本",)),
        ({"extensionNumber": "a/+"}, ("extension/a%2F%2B",)),
    ],
)
def test_the_subject_of_a_hangup(fields: dict[str, Any], subjects: tuple[str, ...]) -> None:
    assert told({"type": "hangup", **fields}).subjects == subjects


@pytest.mark.parametrize("kind", ["linkEnd", "dial", "linkStart"])
@pytest.mark.parametrize(
    ("fields", "subjects"),
    [
        ({"username1": "a", "username2": "b"}, ("user/a", "user/b")),
        ({"username1": "a", "username2": None}, ("user/a",)),
        ({"username1": None, "username2": "b"}, ("user/b",)),
        ({"username1": "a", "username2": "a"}, ("user/a",)),
        ({"username1": "a", "extensionNumber2": "2"}, ("user/a",)),
        ({"extensionNumber1": "1", "extensionNumber2": "2"}, ("extension/1", "extension/2")),
        ({"extensionNumber1": None, "extensionNumber2": "2"}, ("extension/2",)),
        ({"callSegmentId1": "x"}, ("",)),
    ],
)
def test_the_subjects_of_two_parties(kind: str, fields: dict[str, Any], subjects: tuple[str, ...]) -> None:
    assert told({"type": kind, **fields}).subjects == subjects


@pytest.mark.parametrize(
    ("message", "kind", "subjects"),
    [
        (ISYMPHONY_DIAL, "dial", ("user/7001", "user/b%2F%2B%23")),
        ({"type": "park", "username": "a"}, "park", ("user/a",)),
        ({"type": "park", "username": 7}, "park", ("",)),
        ({"type": "a/b"}, "a%2Fb", ("",)),
        ({"username": "a"}, "unknown", ("user/a",)),
        ({"type": None, "username": "a"}, "unknown", ("user/a",)),
        ({"type": "", "extensionNumber": "1"}, "unknown", ("extension/1",)),
        ({"type": "gap"}, "unknown", ("",)),  # not to be taken for a gap of ours
        ({"type": "UserLogin", "username": "a"}, "UserLogin", ("user/a",)),
        ({}, "unknown", ("",)),
    ],
)
def test_a_kind_without_a_page_is_passed_on_as_it_is(message: Any, kind: str, subjects: tuple[str, ...]) -> None:
    one = told(message)
    assert (one.kind, one.subjects) == (kind, subjects)
    assert data(one) == (json.loads(message) if isinstance(message, str) else message)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ('{"type":"hangup","username":7001}', "wrong_shape"),
        ('{"type":"hangup","extensionNumber":["1"]}', "wrong_shape"),
        ('{"type":"hangup","time":true}', "wrong_shape"),
        ('{"type":"userLogin","port":{}}', "wrong_shape"),
        ('{"type":7}', "wrong_shape"),
        ('{"type":["hangup"]}', "wrong_shape"),
        ('{"type":"success","correlationId":[1]}', "wrong_shape"),
        ('"hangup"', "wrong_shape"),
        ('{"type":"hangup"', "not_json"),
        ("", "not_json"),
    ],
)
def test_what_cannot_be_read(frame: str, reason: str) -> None:
    assert read(frame.encode()) == [Unread(reason, frame.encode())]  # type: ignore[arg-type]


def test_several_messages_in_one_frame() -> None:
    frame = f'[{ISYMPHONY_HANGUP},7,{{"type":"success","correlationId":"c"}},{ISYMPHONY_LOGIN}]'.encode()
    hung, reply, login, unread = read(frame)
    assert isinstance(hung, Told)
    assert isinstance(login, Told)
    assert (hung.kind, login.kind) == ("hangup", "userLogin")
    assert unread == Unread("wrong_shape", frame)
    assert isinstance(reply, Reply)
    assert (reply.success, reply.correlation, reply.told.kind) == (True, "c", "success")


@pytest.mark.parametrize(
    ("frame", "reply"),
    [
        ('{"correlationId":"c-1","time":1710000000200,"type":"success"}', (True, "c-1", "")),
        ('{"correlationId":null,"error":"no","type":"error"}', (False, None, "no")),
        ('{"type":"error","error":null}', (False, None, "")),
        ('{"type":"error","error":{"a":1},"correlationId":7}', (False, "7", '{"a":1}')),
    ],
)
def test_replies(frame: str, reply: tuple[bool, str | None, str]) -> None:
    (one,) = read(frame.encode())
    assert isinstance(one, Reply)
    assert (one.success, one.correlation, one.words) == reply


def test_lone_surrogates_and_a_byte_order_mark() -> None:
    assert told('{"type":"hangup","username":"a\\ud800"}').subjects == ("user/a\ufffd",)
    (one,) = read(b"\xef\xbb\xbf" + ISYMPHONY_HANGUP.encode())
    assert isinstance(one, Told)
    assert one.data == told(ISYMPHONY_HANGUP).data
    assert read(b'{"type":"hangup","username":"\xff"}')[0] == Unread("not_text", b'{"type":"hangup","username":"\xff"}')
