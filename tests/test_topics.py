"""The topic grammar: any text is one level, decoding is exact, no two texts share a level."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.topics import MAX_TOPIC_BYTES, clean, join, level, matches, text_of, too_long

ANY_TEXT = st.text(st.characters(exclude_categories=[]) | st.sampled_from("\ud800\udfff"))
CLOSE_TEXT = st.text(st.sampled_from("%+#/\0 2Ff\x7f\x80\ufffd\ud800é"), max_size=6)  # where levels could collide

ENCODED = {
    "": "%",
    "%": "%25",
    "+": "%2B",
    "#": "%23",
    "/": "%2F",
    "\0": "%00",
    "\n": "%0A",
    "\x1f": "%1F",
    "\x7f": "%7F",
    "\x80": "%C2%80",
    "\x9f": "%C2%9F",
    "\ufdd0": "%EF%B7%90",
    "\ufdef": "%EF%B7%AF",
    "\ufdcf\ufdf0\ufffd": "\ufdcf\ufdf0\ufffd",
    "a\ufffe": "a%EF%BF%BE",
    "\uffff": "%EF%BF%BF",
    "\U0001fffe": "%F0%9F%BF%BE",
    "\U0010ffff": "%F4%8F%BF%BF",
    "a/b": "a%2Fb",
    "100%": "100%25",
    "%2F": "%252F",
    "a81758fffe0a0b0c": "a81758fffe0a0b0c",
    "nvoLuxLevel[0]": "nvoLuxLevel[0]",
    "two words": "two words",
    "$SYS": "$SYS",
    "Größe": "Größe",
    "🛰": "🛰",
    "\u00a0": "\u00a0",
    "\ud83d": "\ufffd",
    "a\udfffb": "a\ufffdb",
}


@pytest.mark.parametrize(("text", "written"), ENCODED.items(), ids=[ascii(text) for text in ENCODED])
def test_a_text_becomes_one_level(text: str, written: str) -> None:
    assert level(text) == written


@given(ANY_TEXT)
@example("")
@example("%")
@settings(deadline=None, print_blob=True)
def test_decoding_is_exact(text: str) -> None:
    assert text_of(level(text)) == clean(text)


@given(ANY_TEXT)
@settings(deadline=None, print_blob=True)
def test_a_level_is_one_that_mqtt_carries(text: str) -> None:
    written = level(text)
    assert written
    assert not set("+#/\0") & set(written)
    assert all(char >= " " and not "\x7f" <= char <= "\x9f" for char in written)
    assert not any(ord(char) & 0xFFFE == 0xFFFE or "\ufdd0" <= char <= "\ufdef" for char in written)
    written.encode()


@given(CLOSE_TEXT, CLOSE_TEXT)
@settings(deadline=None, print_blob=True)
def test_no_two_texts_share_a_level(one: str, other: str) -> None:
    assert (level(one) == level(other)) == (clean(one) == clean(other))


@given(CLOSE_TEXT)
@settings(deadline=None, print_blob=True)
def test_the_empty_texts_level_is_nobody_elses(text: str) -> None:
    assert (level(text) == "%") == (text == "")


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("ws2mqtt", "lora"), "ws2mqtt/lora"),
        (("ws2mqtt", "lora", "", "state"), "ws2mqtt/lora/state"),
        (("a/b", "c"), "a/b/c"),
        ((), ""),
    ],
)
def test_parts_without_text_leave_no_level(parts: tuple[str, ...], joined: str) -> None:
    assert join(*parts) == joined


@pytest.mark.parametrize(
    ("pattern", "topic", "fits"),
    [
        ("application/+/device/+", "application/70b3/device/a817", True),
        ("application/+/device/+", "application/%/device/%", True),
        ("application/+/device/+", "application/70b3/device", False),
        ("application/+/device/+", "application/70b3/device/a817/x", False),
        ("application/+/device/+", "Application/70b3/device/a817", False),
        ("application/+/device/+", "gateway/70b3/device/a817", False),
        ("+", "a", True),
        ("+", "a/b", False),
        ("a", "a", True),
        ("a", "+", False),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_a_plus_stands_for_one_level(pattern: str, topic: str, fits: bool) -> None:
    assert matches(pattern, topic) is fits


@pytest.mark.parametrize("char", ["a", "é", "€", "🛰"])
@pytest.mark.parametrize("more", [0, 1])
def test_the_limit_is_counted_in_bytes(char: str, more: int) -> None:
    """MQTT 5, 1.5.4: a UTF-8 string has at most 65,535 bytes."""
    width = len(char.encode())
    topic = char * (MAX_TOPIC_BYTES // width) + "b" * (MAX_TOPIC_BYTES % width + more)
    assert len(topic.encode()) == 65_535 + more
    assert too_long(topic) is bool(more)
