"""From a frame of the platform to a message of the broker: topics, events, states, gaps and dead frames.

One bridge for each MQTT version, on a real broker, with one simulated platform. What a test says is its own; what it
looks at begins at its own mark.
"""

import base64
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from bridge import __version__
from tests.support.ear import Ear, Message
from tests.support.house import DEVICE, GATEWAY, VERSIONS, House, balanced, house, sequences, up
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
OTHER = "0102030405060708"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=VERSIONS)
async def home(
    request: pytest.FixtureRequest, mosquitto: Mosquitto, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    folder, version = tmp_path_factory.mktemp("home"), request.param
    base = f"{folder.name}/{version}"  # a base topic may have levels
    async with house(mosquitto, folder, base, version=version, backend={"gateway_timeout": "500ms"}) as made:
        yield made


def seconds(moment: str) -> float:
    assert MOMENT.fullmatch(moment)
    return datetime.fromisoformat(moment).timestamp()


def alive(*gateways: str, **fields: Any) -> str:
    told = {"CommType": "comm_gwalive", "Connector": "69643d3237", "AppEui": "", "DevEui": "", "Port": "",
            "GatewayEUIs": gateways, "Payload": "", "Extra": {}, "DT": "2024-03-05T08:15:02.4410093+01:00"}  # fmt: skip
    return json.dumps(told | fields)


def is_5(home: House) -> bool:
    return bool(home.config["mqtt"]["version"] == "5")


# The bridge's own topics


async def test_the_bridge_is_born_before_any_backend_speaks(home: House) -> None:
    birth = await home.heard("bridge/state")
    first = next(one for one in home.ear.messages if one.topic == f"{home.base}/lora/state")
    assert home.ear.messages.index(birth) < home.ear.messages.index(first)
    told = Ear.json(birth)
    assert set(told) == {"state", "session", "instance", "version", "time"}
    assert (told["state"], told["version"]) == ("online", __version__)
    assert abs(int(told["session"]) / 1000 - seconds(told["time"])) < 10
    assert birth.qos == 1


async def test_info_names_backends_and_commands(home: House) -> None:
    info = await home.told("bridge/info")
    assert info["version"] == __version__
    assert info["backends"]["lora"]["type"] == "resiot"
    assert set(info["backends"]["lora"]["commands"]) == {"downlink", "reconnect", "pause", "resume"}
    assert set(info["commands"]) == {"ping", "health", "log_level", "reload"}


async def test_a_backends_state_says_how_it_stands(home: House) -> None:
    told = await home.state("online")
    assert set(told) == {"state", "since", "attempt", "next_retry", "error", "last_event"}
    assert (told["attempt"], told["next_retry"], told["error"], told["last_event"]) == (0, None, None, None)
    assert abs(seconds(told["since"]) - datetime.now(UTC).timestamp()) < 120


async def test_exactly_states_are_retained(home: House, mosquitto: Mosquitto) -> None:
    mark = home.mark
    await home.say(up(1), alive(GATEWAY), "{")
    await home.heard(f"lora/{DEVICE}/event/up", since=mark)
    await home.heard(f"lora/gateway/{GATEWAY}/state", since=mark)
    async with Ear(mosquitto.url(), f"{home.base}/#", version=home.config["mqtt"]["version"]) as later:
        paths = ("bridge/info", "bridge/state", "lora/state", f"lora/gateway/{GATEWAY}/state")
        kept = await later.wait_count(len(paths))
        await later.publish(f"{home.base}/end")
        await later.wait_topic(f"{home.base}/end")
        topics = {one.topic for one in later.messages if one.retain}
        assert {f"{home.base}/{path}" for path in paths} <= topics
        assert all(topic.endswith(("/state", "/info")) for topic in topics)
        assert all(one.retain for one in kept)


# Events


EXTRA = {"adr": "false", "rssi": "-90", "snr": "1.5", "channel": "1", "frequency": "868.1", "modBW": "125", "sf": "7"}
DEVICE_IDS = {"app_eui": "70b3d57ed0001122", "dev_eui": "a81758fffe0a0b0c"}
FF01 = base64.b64encode(b"\xff\x01").decode()
EVENTS = {
    "up": (
        up(7),
        f"{DEVICE}/event/up",
        {
            **DEVICE_IDS, "f_port": 5, "f_cnt": 7, "payload": "AQDmAlI=", "payload_hex": "0100e60252", "adr": True,
            "duplicate": False, "rx_info": [{"gateway_eui": GATEWAY, "rssi_dbm": -87, "snr_db": 6.2, "channel": 2}],
            "frequency_hz": 868500000, "bandwidth_hz": 125000, "spreading_factor": 9, "connector": "636f6e3230",
        },
    ),
    "up, EUIs in capitals, a field of its own": (
        up(8, DevEui="A81758FFFE0A0B0C", GatewayEUIs=["AA", "bb"], DevAddr="26011bda", Payload="FF"),
        f"{DEVICE}/event/up",
        {
            **DEVICE_IDS, "f_port": 5, "f_cnt": 8, "payload": "/w==", "payload_hex": "ff", "adr": True,
            "duplicate": False,
            "rx_info": [{"gateway_eui": "aa", "rssi_dbm": -87, "snr_db": 6.2, "channel": 2}, {"gateway_eui": "bb"}],
            "frequency_hz": 868500000, "bandwidth_hz": 125000, "spreading_factor": 9, "connector": "636f6e3230",
            "extra": {"DevAddr": "26011bda"},
        },
    ),
    "join": (
        up(0, CommType="comm_join", Port="", Payload="", GatewayEUIs=[], Extra={}),
        f"{DEVICE}/event/join",
        {**DEVICE_IDS, "connector": "636f6e3230"},
    ),
    "tx": (
        up(0, CommType="comm_tx", Port="10", Payload="ff01", Command="", Reference="br-7", Confirmation=True,
           GatewayEUIs=[], Extra={"priority": 3, "window": "BOTH"}),
        f"{DEVICE}/event/tx",
        {**DEVICE_IDS, "f_port": 10, "payload": FF01, "payload_hex": "ff01", "reference": "br-7", "confirmed": True,
         "priority": 3, "window": "BOTH", "connector": "636f6e3230"},
    ),
    "txack": (
        json.dumps({"CommType": "comm_txsendack", "AppEui": "70b3d57ed0001122", "DevEui": "a81758fffe0a0b0c",
                    "Reference": "br-7", "Error": "TOO_LATE", "DT": "2024-03-05T08:16:30Z"}),
        f"{DEVICE}/event/txack",
        {**DEVICE_IDS, "stage": "comm_txsendack", "reference": "br-7", "error": "TOO_LATE"},
    ),
    "ack": (
        json.dumps({"CommType": "tx_confirm", "AppEui": "70b3d57ed0001122", "DevEui": "a81758fffe0a0b0c",
                    "Reference": "br-7", "DT": "2024-03-05T08:16:30Z"}),
        f"{DEVICE}/event/ack",
        {**DEVICE_IDS, "reference": "br-7"},
    ),
    "ack of somebody else's downlink": (
        json.dumps({"CommType": "tx_confirm", "Reference": "foreign", "DT": "2024-03-05T08:16:30Z"}),
        "event/ack",
        {"reference": "foreign"},
    ),
    "alive": (
        alive(OTHER),
        f"gateway/{OTHER}/event/alive",
        {"gateway_eui": OTHER, "connector": "69643d3237"},
    ),
    "unknown": (
        '{"CommType":"comm_weather","Wind":12.0,"DT":"2024-03-05T08:16:30Z"}',
        "event/unknown",
        {"CommType": "comm_weather", "Wind": 12.0, "DT": "2024-03-05T08:16:30Z"},
    ),
    "a name that would break topics": (
        up(9, DevEui="a/b+C#%\u0001é"),
        "application/70b3d57ed0001122/device/a%2Fb%2Bc%23%25%01é/event/up",
        None,
    ),
    "a device without a name": (
        up(10, AppEui=""),
        "application/%/device/a81758fffe0a0b0c/event/up",
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", EVENTS)
async def test_every_kind_has_its_topic_and_data(home: House, kind: str) -> None:
    frame, path, data = EVENTS[kind]
    mark = home.mark
    await home.say(frame)
    heard = await home.heard(f"lora/{path}", since=mark)
    told = Ear.json(heard)
    assert (heard.qos, heard.retain) == (1, False)
    assert told["type"] == f"resiot.{path.rpartition('/')[2]}"
    subject = path.rpartition("event/")[0].rstrip("/")
    assert told.get("subject") == (subject or None)
    if data is not None:
        assert told["data"] == data


async def test_an_event_is_a_cloud_event(home: House) -> None:
    mark = home.mark
    await home.say(up(43))
    heard = await home.heard(f"lora/{DEVICE}/event/up", since=mark)
    told = Ear.json(heard)
    assert set(told) == {
        "specversion", "id", "source", "type", "subject", "time", "recordedtime", "session", "sequence",
        "datacontenttype", "data",
    }  # fmt: skip
    assert re.fullmatch("[0-9a-f]{32}", told["id"])
    assert (told["specversion"], told["source"]) == ("1.0", f"/{home.base}/lora")
    assert (told["type"], told["subject"], told["datacontenttype"]) == ("resiot.up", DEVICE, "application/json")
    assert told["time"] == "2024-03-05T07:16:30.007145Z"  # seven digits: cut, not rounded
    assert abs(seconds(told["recordedtime"]) - datetime.now(UTC).timestamp()) < 60
    assert told["session"] == (await home.told("bridge/state"))["session"]
    assert re.fullmatch(r"\d{16}", told["sequence"])
    if is_5(home):
        assert heard.properties == {"content_type": "application/cloudevents+json", "payload_format_indicator": 1}
        state = await home.heard("lora/state")
        assert state.properties == {"content_type": "application/json", "payload_format_indicator": 1}


async def said(home: House, *frames: str) -> list[dict[str, Any]]:
    """The envelopes of the events made of these frames, one each."""
    mark = home.mark
    await home.say(*frames, '{"CommType":"the_end"}')
    await home.heard("lora/event/unknown", lambda told: told["data"]["CommType"] == "the_end", since=mark)
    events = [one for one in home.ear.messages[mark:] if "/event/" in one.topic]
    assert len(events) == len(frames) + 1
    return [Ear.json(one) for one in events[:-1]]


async def test_sequence_counts_every_event_of_the_backend_from_1(home: House) -> None:
    await said(home, up(1), up(2))
    heard = sequences(one for one in home.ear.messages if f"{home.base}/lora/" in one.topic and "/event/" in one.topic)
    assert heard == list(range(1, len(heard) + 1))


async def test_a_doubled_frame_has_the_same_id_and_another_says_another(home: House) -> None:
    again = json.dumps(dict(reversed(json.loads(up(5)).items())))  # other order, white space
    more = up(5, DevAddr="26011bda")  # unknown fields do not count
    one, two, three, four, other, later = await said(
        home, up(5), up(5), again, more, up(6), up(5, DT="2024-03-05T08:16:31Z")
    )
    assert one["id"] == two["id"] == three["id"] == four["id"]
    assert len({one["id"], other["id"], later["id"]}) == 3
    assert int(two["sequence"]) == int(one["sequence"]) + 1


@pytest.mark.parametrize("moment", ["", "0001-01-01T00:00:00Z", "yesterday"])
async def test_without_a_platform_time_each_reading_is_unique(home: House, moment: str) -> None:
    one, two = await said(home, up(5, DT=moment), up(5, DT=moment))
    assert one["id"] != two["id"]
    assert one["time"] == one["recordedtime"]
    assert one["data"].get("extra") == ({"DT": "yesterday"} if moment == "yesterday" else None)


async def test_ignored_events_are_neither_received_nor_numbered_but_counted(home: House) -> None:
    before = await home.bridge.scrape()
    first, second = await said(home, up(1), up(2))
    third, fourth = await _around(home, up(0, CommType="comm_gwrx"))
    after = await home.bridge.scrape()
    assert int(fourth["sequence"]) == int(third["sequence"]) + 1
    assert int(second["sequence"]) == int(first["sequence"]) + 1
    assert not home.ear.on(f"{home.base}/lora/gateway/+/event/rx")
    assert after.of("ws2mqtt_events_ignored_total", backend="lora") == 1 + before.of(
        "ws2mqtt_events_ignored_total", backend="lora"
    )
    assert after.of("ws2mqtt_events_received_total", backend="lora", type="rx") == 0
    assert balanced(after)


async def _around(home: House, frame: str | bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The events before and after a frame that makes none."""
    mark = home.mark
    await home.say(up(101), frame, up(102))
    one, two = await home.ear.wait_count(2, f"{home.base}/lora/{DEVICE}/event/up", since=mark)
    return Ear.json(one), Ear.json(two)


async def test_a_topic_that_is_too_long_is_a_counted_drop_and_a_hole(home: House) -> None:
    before = await home.bridge.scrape()
    one, two = await _around(home, up(1, DevEui="e" * 65_536))
    after = await home.bridge.scrape()
    dropped = {"backend": "lora", "reason": "topic_too_long"}
    assert int(two["sequence"]) == int(one["sequence"]) + 2
    assert after.of("ws2mqtt_events_dropped_total", **dropped) == 1 + before.of(
        "ws2mqtt_events_dropped_total", **dropped
    )
    assert balanced(after)


async def test_a_name_with_a_noncharacter_does_not_stop_those_behind_it(home: House) -> None:
    """Mosquitto ends the connection over a topic that has one as it is."""
    one, two = await _around(home, up(1, DevEui="a\uffff\U0001fffe\ufdd0\ufeff"))
    assert int(two["sequence"]) == int(one["sequence"]) + 2
    level = "a%EF%BF%BF%F0%9F%BF%BE%EF%B7%90\ufeff"
    assert await home.heard(f"lora/application/70b3d57ed0001122/device/{level}/event/up")


# Gateways


async def test_one_event_and_state_per_gateway_that_goes_offline_when_silent(home: House) -> None:
    mark, first, second = home.mark, "00aa", "00bb"
    await home.say(alive(first, second.upper()))
    for eui in (first, second):
        state = await home.heard(f"lora/gateway/{eui}/state", since=mark)
        assert Ear.json(state) == {"state": "online", "last_alive": "2024-03-05T07:15:02.441009Z"}
        assert state.qos == 1
        if is_5(home):
            assert state.retain
        await home.heard(f"lora/gateway/{eui}/event/alive", since=mark)
        told = await home.told(f"lora/gateway/{eui}/state", lambda one: one["state"] == "offline", since=mark)
        assert told == {"state": "offline", "last_alive": "2024-03-05T07:15:02.441009Z"}


async def test_a_gateway_that_uplinks_is_not_silent(home: House) -> None:
    mark, eui = home.mark, "00cc"
    await home.say(alive(eui), alive("00dd"))
    for number in range(3):  # 00dd, said at the same time, goes offline while 00cc is still heard
        await home.say(up(number, GatewayEUIs=["00cc"]))
        await home.ear.wait_count(number + 1, f"{home.base}/lora/{DEVICE}/event/up", since=mark)
    await home.heard("lora/gateway/00dd/state", lambda one: one["state"] == "offline", since=mark)
    await home.heard(f"lora/gateway/{eui}/state", lambda one: one["state"] == "offline", since=mark)
    offline = [one for one in home.ear.messages[mark:] if one.topic.endswith("/state") and b'"offline"' in one.payload]
    gone = [one.topic.split("/")[-2] for one in offline]
    assert [one for one in gone if one in ("00dd", eui)] == ["00dd", eui], "others may have been heard before"


# Frames that cannot be read


DEAD: dict[str, tuple[str | bytes, str]] = {
    "not json": ('{"CommType":', "not_json"),
    "empty": ("", "not_json"),
    "not text": (b"\xff\xfe{}", "not_text"),
    "a number": ("42", "wrong_shape"),
    "a text": ('"up"', "wrong_shape"),
    "null": ("null", "wrong_shape"),
    "a known kind in another shape": (up(1, GatewayEUIs=7), "wrong_shape"),
    "a known kind with another type": (up(1, DevEui=["a"]), "wrong_shape"),
}


@pytest.mark.parametrize("case", DEAD)
async def test_what_cannot_be_read_goes_out_as_it_came(home: House, case: str) -> None:
    frame, reason = DEAD[case]
    before = await home.bridge.scrape()
    mark = home.mark
    one, two = await _around(home, frame)
    dead = await home.ear.wait_topic(f"{home.base}/lora/dead/{reason}", since=mark)
    assert dead.payload == (frame if isinstance(frame, bytes) else frame.encode())
    assert (dead.qos, dead.retain) == (0, False)
    assert int(two["sequence"]) == int(one["sequence"]) + 1
    after = await home.bridge.scrape()
    labels = {"backend": "lora", "reason": reason}
    assert after.of("ws2mqtt_frames_unread_total", **labels) == 1 + before.of("ws2mqtt_frames_unread_total", **labels)


async def test_a_dead_frame_is_cut_at_64_kib(home: House) -> None:
    mark, frame = home.mark, b"[" + bytes(range(32, 123)) * 1000
    await home.say(frame.decode())
    dead: Message = await home.ear.wait_topic(f"{home.base}/lora/dead/not_json", since=mark)
    assert dead.payload == frame[: 64 * 1024]


# Gaps, last: they end the connection


async def test_the_first_start_is_no_gap_and_an_interruption_is_one(home: House) -> None:
    path = f"{home.base}/lora/event/gap"
    assert not home.ear.on(path), "nothing has interrupted this bridge yet"
    before = await home.bridge.scrape()
    await home.say(up(1))
    mark, last = home.mark, datetime.now(UTC).timestamp()
    await home.platform.drop(1001)
    told = await home.told("lora/event/gap", since=mark)
    gap = told["data"]
    assert (told["type"], told["source"], "subject" in told) == ("resiot.gap", f"/{home.base}/lora", False)
    assert set(gap) == {"from", "to", "reason", "backfill"}
    assert gap["backfill"] == "none"
    assert "1001" in gap["reason"]
    assert last - 1 <= seconds(gap["from"]) <= seconds(gap["to"]) <= datetime.now(UTC).timestamp() + 1
    after = await home.bridge.scrape()
    labels = {"backend": "lora", "type": "gap"}
    assert after.of("ws2mqtt_events_received_total", **labels) == 1
    assert after.of("ws2mqtt_gaps_total", backend="lora") == before.of("ws2mqtt_gaps_total", backend="lora") + 1
    assert after.of("ws2mqtt_gap_seconds_total", backend="lora") == pytest.approx(
        seconds(gap["to"]) - seconds(gap["from"]), abs=1e-5
    )
    assert balanced(after)
    states = [Ear.json(one) for one in home.ear.messages[mark:] if one.topic == f"{home.base}/lora/state"]
    assert {one["state"] for one in states} <= {"offline", "connecting", "online"}
    offline = [one for one in states if one["state"] == "offline"]
    assert all("1001" in one["error"] for one in offline)
    assert states[-1]["state"] == "online"
    assert states[-1]["error"] is None
    assert states[-1]["last_event"] is not None
