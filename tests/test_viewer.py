"""The viewer: one readable line per message whatever it holds, a terminal that stays in order, and clean pipes."""

import base64
import io
import json
import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.viewer import Lines, Look, json_line
from bridge.viewer.lines import cut, width_of
from bridge.viewer.reading import place
from bridge.viewer.screen import Allowance, Screen, Tally, status

NOW = datetime(2024, 3, 5, 12, 0, 1, tzinfo=UTC)
DEVICE = "application/70b3d57ed0001122/device/a81758fffe0a0b0c"
UP = {
    "dev_eui": "a81758fffe0a0b0c", "app_eui": "70b3d57ed0001122", "f_port": 5, "f_cnt": 42, "payload": "AQDmAlI=",
    "payload_hex": "0100e60252", "adr": True, "duplicate": False,
    "rx_info": [{"gateway_eui": "0a1b2c3d4e5f6071", "rssi_dbm": -87, "snr_db": 6.2, "channel": 2}],
    "frequency_hz": 868500000, "bandwidth_hz": 125000, "spreading_factor": 9,
}  # fmt: skip
SAID = "port 5  #42  0100e60252  -87 dBm  SNR 6.2  SF9 868.5 MHz"


def event(type_: str, data: Any, **more: Any) -> dict[str, Any]:
    time = "2024-03-05T12:00:00.500000Z"
    return {"specversion": "1.0", "id": "9f", "source": "/ws2mqtt/x", "type": type_, "time": time, "data": data, **more}


def line(topic: str, payload: Any, width: int | None = 200, retain: bool = False, **attributes: str) -> str:
    encoded = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    lines = Lines(look=Look(width=width))
    return lines.line(f"ws2mqtt/{topic}", encoded, retain=retain, now=NOW, attributes=attributes)


@pytest.mark.parametrize(
    ("topic", "payload", "expected"),
    [
        (f"lora/{DEVICE}/event/up", event("resiot.up", UP), f"lora  device a81758fffe0a0b0c  up  {SAID}"),
        (f"lora/{DEVICE}/event/up", UP, f"lora  device a81758fffe0a0b0c  up  {SAID}"),
        (
            f"lora/{DEVICE}/event/up",
            msgspec.msgpack.encode(event("resiot.up", UP)),
            f"lora  device a81758fffe0a0b0c  up  {SAID}",
        ),
        (
            f"lora/{DEVICE}/event/txack",
            event("resiot.txack", {"stage": "comm_txsendack", "reference": "r1"}),
            "lora  device a81758fffe0a0b0c  txack  stage comm_txsendack  r1",
        ),
        ("lora/state", {"state": "online", "attempt": 0, "error": None}, "lora  state  ● online"),
        (
            "pbx/state",
            {"state": "offline", "error": "bridge gone", "attempt": 3, "next_retry": "2024-03-05T12:00:31.000000Z"},
            "pbx  state  ○ offline  bridge gone  next try 12:00:31 UTC  attempt 3",
        ),
        ("hq/state", {"state": "degraded"}, "hq  state  ◐ degraded"),
        ("bridge/state", {"state": "online", "session": "1", "version": "1.0"}, "bridge  state  ● online  version=1.0"),
        (
            "bridge/health",
            {"lora": {"events_published": 12, "outbox_events": 0}},
            "bridge  health  lora.events_published=12  lora.outbox_events=0",
        ),
        (
            "lora/event/gap",
            event("resiot.gap", {"from": "2024-03-05T11:59:00.0Z", "to": "2024-03-05T12:00:00.0Z",
                                 "reason": "connection lost", "backfill": "started"}),
            "lora  gap  !  blind from 11:59:00 to 12:00:00 UTC  connection lost  backfill started",
        ),
        ("lora/dead/not_json", b"\x1b[2Jhello\x07", "lora  dead not_json  ·[2Jhello·  10 bytes"),
        (
            f"lora/{DEVICE}/command/downlink",
            {"f_port": 3, "payload_hex": "01ff"},
            "lora  device a81758fffe0a0b0c  command downlink  f_port=3  payload_hex=01ff",
        ),
        (
            f"lora/{DEVICE}/response/downlink",
            {"id": "abc", "status": "rejected", "code": 400,
             "error": {"kind": "invalid_field", "field": "f_port", "message": "must be 1..255", "value": 300}},
            "lora  device a81758fffe0a0b0c  response downlink  ○ rejected  400  f_port  must be 1..255  id=abc",
        ),
        (
            "port/asset/vehicle/Truck %2F 12/event/telemetry",
            event("iotpro.telemetry", {"asset_id": "a", "values": {"speed": 52.3, "door": "open", "n": None}}),
            "port  asset Truck / 12  telemetry  speed=52.3  door=open  n=null",
        ),
        (
            "port/asset/sea-buoy/Buoy 1/event/telemetry",
            event("iotpro.telemetry", {"values": {"telemetry_param_latitude": 35.9, "telemetry_param_longitude": 14.5,
                                                  "telemetry_param_battery": 92}}),
            "port  asset Buoy 1  telemetry  at 35.900000 14.500000  battery=92",
        ),
        (
            "port/asset/sea-buoy/Buoy 1/state",
            {"id": "a", "name": "Buoy 1", "values": {"telemetry_param_latitude": "?", "n": 1}, "attributes": {"x": {}}},
            "port  asset Buoy 1  state  latitude=?  n=1",
        ),
        (
            "hq/1001/dev/lon/7/if/LightSensor/0/nvoLuxLevel/event/value",
            event("smartserver.value", {"datapoint": "x", "value": 312.5, "unit": "lux"}),
            "hq  7 LightSensor/0/nvoLuxLevel  value  312.5 lux",
        ),
        ("hq/1001/dev/lon/7/if/L/0/nvo/state", {"value": 1, "time": "x"}, "hq  7 L/0/nvo  state  1"),
        (
            "hq/1001/dev/lon/7/state",
            {"state": "provisioned", "health": "down", "name": "Lobby", "time": "x"},
            "hq  lon 7  state  ○ down  health=down  name=Lobby",
        ),
        (
            "hq/event/alarm",
            {"change": "raised", "id": 4711, "severity": "Major", "text": "Lobby is down", "state": "Active"},
            "hq  alarm  raised  Lobby is down  id=4711  severity=Major",
        ),
        (
            "pbx/user/ann/event/userLogin",
            event("isymphony.userLogin", {"type": "userLogin", "userName": "ann", "extension": "101"}),
            "pbx  user ann  userLogin  extension=101",
        ),
        (
            "pbx/user/ann/event/userLogin",
            event("isymphony.userLogin", {"userLoginId": "bbbbbbbb-0001", "ip": "192.0.2.10", "port": 50122}),
            "pbx  user ann  userLogin  from 192.0.2.10",
        ),
        (
            "pbx/user/ann/event/linkEnd",
            event("isymphony.linkEnd", {"callSegmentId1": "cc", "callerIdName1": "Ann", "callerIdNumber1": "101",
                                        "callerIdName2": None, "callerIdNumber2": "+15550100"}),
            "pbx  user ann  linkEnd  Ann 101 — +15550100",
        ),
        (
            "pbx/event/confRoomCallLeave",
            event("isymphony.confRoomCallLeave", {"callerIdNumber": "102", "conferenceRoomName": "Main"}),
            "pbx  confRoomCallLeave  102  in Main",
        ),
        ("pbx/user/ann/event/dial", event("isymphony.dial", {"to": 7}), "pbx  user ann  dial  to=7"),
        ("pbx/user/ann/state", {"presence": "in", "logins": 1}, "pbx  user ann  state  ● in  logins=1"),
        ("lora/gateway/0a1b/state", b"", "lora  gateway 0a1b  state  (gone)"),
        (
            "new/room/7/event/temperature",
            event("future.temperature", {"celsius": 21.5, "tags": ["a", "b"], "nested": {"x": {"y": 1}}, "no": ""}),
            "new  room 7  temperature  celsius=21.5  tags=[a b]  nested.x={y=1}",
        ),
        ("new/event/list", event("future.list", [1, "two"]), "new  list  [1 two]"),
        ("new/event/text", b"just text", "new  text  just text  9 bytes"),
        ("new/some/where", {"a": 1}, "new  some/where  a=1"),
        ("lora/event/up", event("other.up", {"height": 3}), "lora  up  height=3"),
    ],
)  # fmt: skip
def test_a_line_says_it_in_words(topic: str, payload: Any, expected: str) -> None:
    assert line(topic, payload) == f"12:00:01 {expected}"


def test_a_topic_outside_the_base_is_shown_as_it_is() -> None:
    shown = Lines(look=Look(width=80)).line("zigbee/lamp/1", b'{"on":true}', retain=True, now=NOW)
    assert shown == "12:00:01 zigbee/lamp/1  on=true  (retained)"


def test_a_pipe_gets_whole_lines_that_name_backend_platform_and_subject() -> None:
    shown = line(f"lora/{DEVICE}/event/up", event("resiot.up", UP), width=None)
    assert shown == f"12:00:01 lora resiot.up {DEVICE} {SAID.replace('  ', ' ')}"
    binary = line(f"lora/{DEVICE}/event/up", UP, width=None, type="resiot.up", time="2024-03-05T12:00:00Z")
    assert binary == shown


def test_what_is_late_or_from_history_tells_its_own_time() -> None:
    assert line("x/event/y", event("a.y", {}, time="2024-03-05T11:00:00Z")).endswith("y  of 11:00:00")
    assert line("x/event/y", event("a.y", {}, replay=True)).endswith("y  replay of 12:00:00")
    assert line("x/event/y", event("a.y", {}, time="2023-03-05T11:00:00Z")).endswith("of 2023-03-05 11:00:00")


@pytest.mark.parametrize("width", [20, 40, 60, 79, 80, 81, 120])
def test_a_line_fits_the_terminal_and_keeps_what_matters_first(width: int) -> None:
    shown = line(f"lora/{DEVICE}/event/up", event("resiot.up", UP), width=width)
    assert width_of(shown) <= width
    whole = "12:00:01 lora device a81758fffe0a0b0c up port 5 #42 0100e60252"
    kept = whole if width >= 60 else whole.removeprefix("12:00:01 ")  # the time is the first to go
    assert kept[: width - 2] in re.sub(" +", " ", shown)


def test_wide_characters_count_double() -> None:
    assert cut("温度温度", 5) == "温度…"
    assert cut("温度", 4) == "温度"
    assert cut("abc", 0) == ""


def test_each_backend_has_its_own_colour_the_same_in_every_run() -> None:
    names = ["lora", "port", "hq", "pbx", "lora-actions", "a", "b", "c"]
    lines = Lines(look=Look(width=80, colour=True))
    colours = [lines.colour_of(name) for name in names]
    assert len(set(colours)) == len(names)
    assert colours == [lines.colour_of(name) for name in names]
    assert Lines().colour_of("lora") == colours[0]


def test_colours_come_and_go_without_changing_the_text() -> None:
    plain = line("lora/state", {"state": "online"}, width=80)
    colourful = Lines(look=Look(80, colour=True)).line(
        "ws2mqtt/lora/state", b'{"state":"online"}', retain=False, now=NOW
    )
    assert "\x1b[38;5;28m● online\x1b[0m" in colourful
    assert re.sub(r"\x1b\[[\d;]+m", "", colourful) == plain


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.text() | st.integers(0, 9) | st.sampled_from([*UP, "state", "status", "values", "error"]), inner
        )
    ),
    max_leaves=20,
)
topics = st.one_of(
    st.text(),
    st.builds(
        "/".join,
        st.lists(
            st.text(max_size=3)
            | st.sampled_from(["ws2mqtt", "lora", "event", "state", "up", "gap", "dead", "command", "response",
                               "value", "telemetry", "tx", "device", "bridge", "%1B%5B2J", "%", "%9B"]),
            max_size=8,
        ).map(lambda levels: ["ws2mqtt", *levels]),
    ),
)  # fmt: skip
payloads = st.one_of(
    st.binary(),
    st.text().map(lambda text: text.encode("utf-8", "replace")),
    anything.map(msgspec.msgpack.encode),
    anything.map(lambda data: msgspec.msgpack.encode(event("resiot.up", data))),
    anything.map(lambda data: json.dumps(data, default=str, skipkeys=True).encode()),
)


@given(topics, payloads, st.booleans(), st.sampled_from([None, 1, 10, 80]))
def test_any_topic_and_any_bytes_give_one_printable_line(
    topic: str, payload: bytes, retain: bool, width: int | None
) -> None:
    shown = Lines(look=Look(width)).line(topic, payload, retain=retain, now=NOW)
    assert shown.isprintable()
    assert width is None or width_of(shown) <= width
    coloured = Lines(look=Look(width, colour=True)).line(topic, payload, retain=retain, now=NOW)
    assert re.sub(r"\x1b\[[\d;]+m", "", coloured) == shown


@given(topics.filter(lambda topic: topic.isprintable()), payloads, st.booleans())
def test_any_message_gives_one_line_of_json(topic: str, payload: bytes, retain: bool) -> None:
    shown = json_line(topic, payload, retain)
    assert shown.isprintable()
    value = json.loads(shown)
    assert (value["topic"], value["retain"]) == (topic, retain)
    if value.get("encoding"):
        assert base64.b64decode(value["payload"]) == payload


@pytest.mark.parametrize("payload", [b"[" * 100_000, b"\x91" * 100_000, b'{"a":' * 100_000, b"9" * 5_000])
def test_bottomless_payloads_are_only_text(payload: bytes) -> None:
    assert line("x/event/y", payload, width=None)
    assert json.loads(json_line("t", payload, False))["topic"] == "t"


def test_json_lines_hold_the_value_or_base64() -> None:
    assert json_line("a/b", b'{"x": 1}', True) == '{"topic":"a/b","retain":true,"payload":{"x":1}}'
    assert json.loads(json_line("a", msgspec.msgpack.encode({"x": 1}), False))["payload"] == {"x": 1}
    assert json.loads(json_line("a", b"", False))["payload"] is None
    assert json.loads(json_line("a", b"\xff", False)) == {
        "topic": "a", "retain": False, "payload": "/w==", "encoding": "base64",
    }  # fmt: skip
    assert json_line("a", '"\x9b2J\U000e0001"'.encode(), False).endswith(r'"payload":"\u009b2J\udb40\udc01"}')


# The screen


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_flood_is_cut_to_what_a_person_can_follow_and_the_rest_is_counted() -> None:
    clock, out = Clock(), io.StringIO()
    screen = Screen(out, Lines(), [], clock)
    event_place, state_place = place("ws2mqtt/lora/event/up", "ws2mqtt"), place("ws2mqtt/pbx/state", "ws2mqtt")
    shown = 0
    for _ in range(100):  # ten seconds, 2,000 a second
        for _ in range(200):
            if screen.wants(event_place):
                shown += 1
                screen.show("an event")
        clock.now += 0.1
        screen.draw()
    assert 200 < shown <= 300
    counted = sum(int(number.replace(",", "")) for number in re.findall(r"… \+([\d,]+) more", out.getvalue()))
    assert out.getvalue().count("an event") == shown
    assert 18_000 * 0.9 < counted <= 20_000 - shown
    assert screen.wants(state_place), "how a backend is doing is told even in a flood"


def test_an_allowance_fills_up_again() -> None:
    clock = Clock()
    allowance = Allowance(clock, rate=2, burst=3)
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
    clock.now += 0.5
    assert [allowance.take() for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (79, "hq ◐ 0/s  lora ● 12/s  pbx ○ 0/s  port ● 3.0/s   75 events  0:05"),
        (62, "hq ◐ 0/s  lora ● 12/s  pbx ○ 0/s  port ● 3.0/s   75  0:05"),
        (50, "hq ◐ 0/s  lora ● 12/s  +2 more   75  0:05"),
        (8, "75  0:05"),
    ],
)
def test_the_status_line_tells_every_backend_and_fits(width: int, expected: str) -> None:
    clock = Clock()
    tally = Tally(clock)
    for name, state in {
        "lora": "online",
        "port": "online",
        "hq": "degraded",
        "pbx": "offline",
        "bridge": "online",
    }.items():
        tally.count(place(f"ws2mqtt/{name}/state", "ws2mqtt"), json.dumps({"state": state}).encode())
    for name, count in {"lora": 60, "port": 15}.items():
        for _ in range(count):
            tally.count(place(f"ws2mqtt/{name}/event/x", "ws2mqtt"), b"{}")
    clock.now += 5
    assert status(tally, Lines(), width) == expected
    for any_width in range(100):
        assert width_of(status(tally, Lines(), any_width)) <= any_width


def test_the_status_line_shows_a_bridge_that_is_gone() -> None:
    tally = Tally(Clock())
    tally.count(place("ws2mqtt/bridge/state", "ws2mqtt"), b'{"state":"offline"}')
    assert status(tally, Lines(), 79).startswith("bridge ○")


def test_names_without_end_are_bounded() -> None:
    """Anybody may publish below the base, under any name."""
    tally = Tally(Clock())
    for number in range(5000):
        tally.count(place(f"w/{number}/event/up", "w"), b"")
        tally.count(place(f"w/{number}/state", "w"), b"{}")
    assert len(tally.events) + len(tally.signs) < 2100
    assert sum(tally.events.values()) == 5000
    assert tally.messages == 10000
