"""What the demo's front does to MQTT 5 packets: any split of the stream, and only what describes is taken out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.demo_plain import Plain
from bridge.payloads import JSON_PROPERTIES
from bridge.wire import publish_packet, variable

CORRELATION = b"\x09\x00\x02ab"
PINGREQ = b"\xc0\x00"


def publish(properties: bytes, payload: bytes = b"{}", qos: int = 1) -> bytes:
    return publish_packet(b"a/b", payload, properties, qos=qos, retain=False, packet=7, version=5)


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize(
    ("properties", "left"),
    [(JSON_PROPERTIES, b""), (b"", b""), (CORRELATION, CORRELATION), (JSON_PROPERTIES + CORRELATION,) * 2],
    ids=["describing", "none", "with meaning", "both"],
)
def test_only_what_describes_is_taken_out(properties: bytes, left: bytes, qos: int) -> None:
    assert Plain(0).feed(publish(properties, qos=qos)) == publish(left, qos=qos)


@settings(deadline=None, max_examples=200)
@given(
    payloads=st.lists(st.binary(max_size=300), max_size=5),
    cuts=st.lists(st.integers(0, 2000), max_size=8),
    rest=st.binary(max_size=20),
)
def test_any_split_gives_the_same(payloads: list[bytes], cuts: list[int], rest: bytes) -> None:
    stream = rest + b"".join(publish(JSON_PROPERTIES, payload) + PINGREQ for payload in payloads)
    plain, out, at = Plain(len(rest)), b"", 0
    for cut in [*sorted(cuts), len(stream)]:
        out += plain.feed(stream[at:cut])
        at = max(at, cut)
    assert out == rest + b"".join(publish(b"", payload) + PINGREQ for payload in payloads)


@given(st.binary(max_size=400))
def test_garbage_is_no_error(garbage: bytes) -> None:
    Plain(0).feed(garbage)


def test_a_long_remaining_length_is_read() -> None:
    packet = publish(JSON_PROPERTIES, b"x" * 200_000)
    assert packet[1:4] == variable(len(packet) - 4)
    assert Plain(0).feed(packet) == publish(b"", b"x" * 200_000)
