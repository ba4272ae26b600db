"""Frames into JSON values: tolerant where senders are careless, strict where meaning would be lost."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.backends.reading import MAX_DEPTH, canonical, read, too_deep
from bridge.model import Unread

READ: dict[str, tuple[bytes, list[dict[str, Any]]]] = {
    "one object": (b'{"a":1}', [{"a": 1}]),
    "white space around": (b' \r\n{"a":1}\t', [{"a": 1}]),
    "several": (b'[{"a":1},{"b":2}]', [{"a": 1}, {"b": 2}]),
    "none": (b"[]", []),
    "empty": (b"{}", [{}]),
    "a byte order mark": (b'\xef\xbb\xbf{"a":1}', [{"a": 1}]),
    "a lone surrogate": (b'{"a\\ud800":["\\udc00b"]}', [{"a\ufffd": ["\ufffdb"]}]),
    "an escaped pair": (b'{"a":"\\ud83d\\ude00"}', [{"a": "\U0001f600"}]),
    "a large integer": (b'{"a":123456789012345678901234567890}', [{"a": 123456789012345678901234567890}]),
    "a key said twice": (b'{"a":1,"a":2}', [{"a": 2}]),
    "NUL in a text": (b'{"a":"\\u0000"}', [{"a": "\0"}]),
}

UNREAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not_json"),
    "half a frame": (b'{"CommType":"comm_', "not_json"),
    "two frames": (b'{"a":1}{"b":2}', "not_json"),
    "words": (b"hello", "not_json"),
    "comments": (b'{"a":1} -- c', "not_json"),
    "a trailing comma": (b'{"a":1,}', "not_json"),
    "single quotes": (b"{'a':1}", "not_json"),
    "NaN": (b'{"a":NaN}', "not_json"),
    "Infinity": (b'{"a":-Infinity}', "not_json"),
    "a number out of range": (b'{"a":1e400}', "not_json"),
    "a control character": (b'{"a":"\n"}', "not_json"),
    "Latin-1": (b'{"a":"\xe9"}', "not_text"),
    "UTF-16": ('{"a":1}'.encode("utf-16"), "not_text"),
    "a surrogate in UTF-8": (b'{"a":"\xed\xa0\x80"}', "not_text"),
    "a number": (b"12", "wrong_shape"),
    "a text": (b'"a"', "wrong_shape"),
    "null": (b"null", "wrong_shape"),
    "true": (b"true", "wrong_shape"),
    "nested too deep": (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "wrong_shape"),
    "nested beyond all": (b"[" * 100_000 + b"]" * 100_000, "wrong_shape"),
}


@pytest.mark.parametrize(("frame", "messages"), READ.values(), ids=READ)
def test_a_frame_holds_objects(frame: bytes, messages: list[dict[str, Any]]) -> None:
    assert read(frame) == messages


@pytest.mark.parametrize(("frame", "reason"), UNREAD.values(), ids=UNREAD)
def test_what_cannot_be_read_is_passed_on_as_it_came_with_a_reason(frame: bytes, reason: str) -> None:
    assert read(frame) == [Unread(reason, frame)]  # type: ignore[arg-type]


def test_one_bad_message_of_several_does_not_spoil_the_others() -> None:
    frame = b'[{"a":1}, 2, [{"b":3}], null, {"c":4}]'
    assert read(frame) == [{"a": 1}, {"c": 4}, Unread("wrong_shape", frame)]


@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}")], ids=["lists", "objects"])
def test_the_depth_is_what_is_counted_and_not_the_brackets(opened: bytes, closed: bytes) -> None:
    deepest = b'{"a":' + opened * (MAX_DEPTH - 1) + b"1" + closed * (MAX_DEPTH - 1) + b"}"
    assert read(deepest) == [json.loads(deepest)]
    wide = b'{"a":[' + b",".join([b"[]"] * 1000) + b"]}"
    assert read(wide) == [{"a": [[]] * 1000}]
    assert not too_deep(json.loads(deepest))
    assert too_deep([json.loads(deepest)])


@given(st.binary() | st.text().map(str.encode))
@settings(deadline=None, print_blob=True)
def test_any_bytes_are_read_or_unread(frame: bytes) -> None:
    for told in read(frame):
        assert isinstance(told, dict | Unread)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
@settings(deadline=None, print_blob=True)
def test_every_json_object_is_read_as_any_other_reader_does(value: dict[str, Any]) -> None:
    assert read(json.dumps(value).encode()) == [value]


def shuffled(value: Any) -> Any:
    """The same value in other words: keys in another order, whole numbers as floats where they are the same."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [shuffled(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    return value


@given(JSON)
@settings(deadline=None, print_blob=True)
def test_key_order_and_the_form_of_a_number_make_no_difference(value: Any) -> None:
    assert canonical(shuffled(value)) == canonical(value)


@given(JSON, JSON)
@settings(deadline=None, print_blob=True)
def test_two_values_are_written_alike_only_if_they_are_the_same(one: Any, other: Any) -> None:
    def typed(value: Any) -> Any:
        """Python takes True for 1."""
        if isinstance(value, dict):
            return {key: typed(item) for key, item in value.items()}
        return [typed(item) for item in value] if isinstance(value, list) else (isinstance(value, bool), value)

    if canonical(one) == canonical(other):
        assert typed(one) == typed(other)
