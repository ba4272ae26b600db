"""What the general purpose socket says → what is told (wiki, "IAP/WS API", the list of update types)."""

import json
from typing import Any

import pytest

from bridge.model import Event, State
from bridge.payloads import json_data
from tests.backends.smartserver.hq import DEVICE, DEVICE_SUBJECT, LAMP, LAMP_SUBJECT, LUX, LUX_SUBJECT, Hq, online

ZONED = "2025-03-02T09:16:12.004+01:00[Europe/Berlin]"
ALARM = {
    "id": 4711, "timestamp": ZONED, "category": "System-HW", "severity": "Major Fault", "state": "Active",
    "geozone": {"id": 1, "name": "World"}, "device": {"id": "12", "name": "MS-Lobby"},
    "type": "Device not communicating", "details": "Device MS-Lobby is down", "alarmTargetType": "DEVICE",
}  # fmt: skip
RAISED = {
    "id": 4711, "severity": "Major Fault", "text": "Device MS-Lobby is down", "change": "raised",
    "time": "2025-03-02T08:16:12.004000Z", "type": "Device not communicating", "category": "System-HW",
    "state": "Active", "target": "DEVICE", "device": "MS-Lobby", "device_id": "12",
    "extra": {"geozone": {"id": 1, "name": "World"}},
}  # fmt: skip
SWITCH = {"value": 62.5, "state": 1}
T = "2025-03-02T08:15:00.412Z"
TOLD = "2025-03-02T08:15:00.412000Z"


def upd(*updates: dict[str, Any]) -> dict[str, Any]:
    return {"action": "UPD:DATAPOINT", "payload": list(updates)}


# frame → (subject, type, time, data) of each event
EVENTS: dict[str, tuple[dict[str, Any], list[tuple[str, str, str | None, Any]]]] = {
    "a value": (
        upd({"datapointQualifier": LUX, "value": 318, "locValue": 318, "presetValue": None, "timestamp": T}),
        [(LUX_SUBJECT, "value", TOLD, {"datapoint": LUX, "value": 318, "localized": 318, "unit": "lux"})],
    ),
    "two in a frame, structured, with a preset": (
        upd(
            {"datapointQualifier": LUX, "value": 0, "timestamp": "2025-03-02T08:15:00.412Z[UTC]"},
            {"datapointQualifier": LAMP, "value": SWITCH, "locValue": SWITCH, "presetValue": "ON", "timestamp": T},
        ),
        [
            (LUX_SUBJECT, "value", TOLD, {"datapoint": LUX, "value": 0, "unit": "lux"}),
            (LAMP_SUBJECT, "value", TOLD, {"datapoint": LAMP, "value": SWITCH, "preset": "ON", "localized": SWITCH}),
        ],
    ),
    "none in a frame": (upd(), []),
    "before release 4.1": (
        upd({"datapointQualifier": LUX, "value": None, "locValue": None}),
        [(LUX_SUBJECT, "value", None, {"datapoint": LUX, "value": None, "unit": "lux"})],
    ),
    "no value is null": (
        upd({"datapointQualifier": LUX, "timestamp": T}),
        [(LUX_SUBJECT, "value", TOLD, {"datapoint": LUX, "value": None, "unit": "lux"})],
    ),
    "a lone object, the key of the REST side, fields of its own": (
        {"action": "UPD:DATAPOINT", "seq": 7, "payload": {"dpQualifier": LUX, "value": "x", "quality": 192,
         "timestamp": T, "values": {"level": 8, "levels": {"8": "x"}}}},
        [(LUX_SUBJECT, "value", TOLD, {"datapoint": LUX, "value": "x", "values": {"8": "x"}, "unit": "lux",
                                       "priority": 8, "extra": {"seq": 7, "quality": 192}})],
    ),
    "a time stamp that cannot be read": (
        upd({"datapointQualifier": LUX, "value": 1, "timestamp": "noon"}),
        [(LUX_SUBJECT, "value", None, {"datapoint": LUX, "value": 1, "unit": "lux", "extra": {"timestamp": "noon"}})],
    ),
    "a time stamp of another type": (
        upd({"datapointQualifier": LUX, "value": 1, "timestamp": 5}),
        [(LUX_SUBJECT, "value", None, {"datapoint": LUX, "value": 1, "unit": "lux", "extra": {"timestamp": 5}})],
    ),
    "nobody asked for it": (
        upd({"datapointQualifier": "s/lon/9/A B/0/c+d", "value": [1, 2], "timestamp": T}),
        [("s/dev/lon/9/if/A B/0/c%2Bd", "value", TOLD, {"datapoint": "s/lon/9/A B/0/c+d", "value": [1, 2]})],
    ),
    "a device": (
        {"action": "UPD:DEVICE", "payload": {**DEVICE, "status": {"state": "provisioned", "health": "down", "x": 1}}},
        [(DEVICE_SUBJECT, "status", None, {
            "state": "provisioned", "health": "down", "name": "MS-Lobby", "id": 12, "category": "EDGE",
            "uid": "04A1B2C3D4F0", "device_type": "LobbySensorType", "extra": {"x": 1}})],
    ),
    "a known device, by its id as text, and nothing else": (
        {"action": "UPD:DEVICE", "payload": [{"id": "12", "status": {"health": "down"}}]},
        [(DEVICE_SUBJECT, "status", None, {
            "state": "provisioned", "health": "down", "name": "MS-Lobby", "id": "12", "category": "EDGE",
            "uid": "04A1B2C3D4F0", "device_type": "LobbySensorType"})],
    ),
    "a removed device": (
        {"action": "DEL:DEVICE", "payload": {"id": 12}},
        [(DEVICE_SUBJECT, "removed", None, {"id": 12, "name": "MS-Lobby"})],
    ),
    "removed devices as bare ids, one unknown": (
        {"action": "DEL:DEVICE", "payload": ["12", 99]},
        [(DEVICE_SUBJECT, "removed", None, {"id": 12, "name": "MS-Lobby"}), ("", "removed", None, {"id": 99})],
    ),
    "a device is gone, who knows which": (
        {"action": "DEL:DEVICE", "payload": {"uid": "04"}},
        [("", "removed", None, {"extra": {"uid": "04"}})],
    ),
    "a test passed": (
        {"action": "UPD:DEVICE_TEST_RESULT", "payload": {"deviceId": 12, "results": {
            "state": "Configured Online", "health": "normal", "rtt": 4}}},
        [(DEVICE_SUBJECT, "test", None, {"result": "passed", "state": "Configured Online", "health": "normal",
                                         "device_id": 12, "extra": {"rtt": 4}})],
    ),
    "a test failed": (
        {"action": "UPD:DEVICE_TEST_RESULT", "payload": {"deviceId": "12", "results": {
            "state": "provisioned", "error": "Device does not respond!"}}},
        [(DEVICE_SUBJECT, "test", None, {"result": "failed", "state": "provisioned", "device_id": "12",
                                         "error": "Device does not respond!"})],
    ),
    "an alarm": (
        {"action": "CRT:ALARM", "payload": ALARM},
        [("", "alarm", "2025-03-02T08:16:12.004000Z", RAISED)],
    ),
    "an alarm that is over": (
        {"action": "DEL:ALARM", "payload": [4711]},
        [("", "alarm", None, {"id": 4711, "change": "cleared"})],
    ),
    "a notification": (
        {"action": "CRT:NOTIFICATION", "payload": {"message": "queryStatus  Device does not respond!",
         "targetType": "DEVICE", "targetName": "MS-Lobby", "severity": "ERROR"}},
        [("", "notification", None, {"message": "queryStatus  Device does not respond!", "target_type": "DEVICE",
                                     "target_name": "MS-Lobby", "extra": {"severity": "ERROR"}})],
    ),
    "a join": (
        {"action": "NTF:JOIN", "payload": {"uid": "04A1B2C3D4E5", "type": "9FFF120034AB0400", "protocol": "lon"}},
        [("", "join", None, {"uid": "04A1B2C3D4E5", "type": "9FFF120034AB0400", "protocol": "lon"})],
    ),
    "polling paused": (
        {"action": "UPD:MONITORINGSTATE", "payload": {"active": False}},
        [("", "monitoring", None, {"active": False})],
    ),
    "the time": (
        {"action": "NTF:TIME", "payload": {"value": ZONED}},
        [("", "time", "2025-03-02T08:16:12.004000Z", {"value": ZONED})],
    ),
    "load": (
        {"action": "UPD:SC:CPU", "payload": {"17qz7ab": 41}},
        [("", "load", None, {"kind": "sc_cpu", "value": {"17qz7ab": 41}})],
    ),
    "load of old": ({"action": "UPD:EPS", "payload": 6}, [("", "load", None, {"kind": "eps", "value": 6})]),
    "an unknown action": (
        {"action": "UPD:LIC:CLOUD", "payload": [1]},
        [("", "unknown", None, {"action": "UPD:LIC:CLOUD", "payload": [1]})],
    ),
    "no action": ({"hello": 1}, [("", "unknown", None, {"hello": 1})]),
}  # fmt: skip


def said(hq: Hq) -> list[tuple[str, str, str | None, Any]]:
    return [(one.subject, one.type, one.time, json.loads(json_data(one)[1])) for one in hq.of(Event)]


@pytest.mark.parametrize("case", EVENTS)
def test_every_kind_of_frame(case: str) -> None:
    frame, events = EVENTS[case]
    hq = online()
    hq.receive(frame)
    assert said(hq) == events
    assert not hq.unread()


WRONG = {
    "a value without a name": upd({"value": 1}),
    "a name that is none": upd({"datapointQualifier": "lux", "value": 1}),
    "a name of another type": upd({"datapointQualifier": 7, "value": 1}),
    "no object": {"action": "UPD:DATAPOINT", "payload": [7]},
    "no payload": {"action": "UPD:DATAPOINT"},
    "a device without an id": {"action": "UPD:DEVICE", "payload": {"name": "x"}},
    "a test of nothing": {"action": "UPD:DEVICE_TEST_RESULT", "payload": {"deviceId": 12, "results": 5}},
    "load of text": {"action": "UPD:CPU", "payload": "much"},
    "monitoring of nothing": {"action": "UPD:MONITORINGSTATE", "payload": {}},
    "a time that is none": {"action": "NTF:TIME", "payload": {}},
    "an alarm of a list": {"action": "CRT:ALARM", "payload": [[1]]},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_known_kind_in_another_shape_is_unread(case: str) -> None:
    hq = online()
    hq.receive(WRONG[case])
    assert hq.unread() == ["wrong_shape"]
    assert not hq.of(Event)


def test_what_is_readable_in_a_frame_is_told_and_the_frame_is_unread_once() -> None:
    hq = online()
    good = [{"datapointQualifier": LUX, "value": one} for one in (1, 4)]
    hq.receive(upd(good[0], {"value": 2}, {"value": 3}, good[1]))
    assert hq.values() == [1, 4]
    assert hq.unread() == ["wrong_shape"]


def test_the_usual_way_and_the_other_say_the_same() -> None:
    """The other key makes the slow one read it."""
    for value in (1, 1.0, -0.0, "x", None, True, SWITCH, [1, 2.5], {"a": None}, 2**53 + 1):
        for stamp in ({}, {"timestamp": T}, {"timestamp": "noon"}):
            update = {"value": value, "locValue": value, "presetValue": "P", **stamp}
            usual, other = online(), online()
            usual.receive(upd({"datapointQualifier": LUX, **update}))
            other.receive(upd({"dpQualifier": LUX, **update}))
            assert usual.heard == other.heard, update


def test_equal_values_at_one_time_have_one_id() -> None:
    hq = online()
    for value in (12, 12.0, {"a": 1, "b": 2}, {"b": 2.0, "a": 1}):
        hq.value(value)
    hq.receive(upd({"datapointQualifier": LUX, "value": 12, "timestamp": T.replace("00.412", "00"), "more": 1}))
    one, two, three, four, five = hq.ids()
    assert one == two == five
    assert three == four
    assert one != three


def test_a_datapoints_state_is_the_newest_value() -> None:
    hq = online()
    hq.value(1).later(1).value(2)
    hq.value(0, timestamp="2025-03-02T08:00:00Z")  # an old one comes late: told, but no picture
    hq.tell("UPD:DATAPOINT", {"datapointQualifier": LUX, "value": 3})
    assert hq.values() == [1, 2, 0, 3]
    assert [one.value for one in hq.states(LUX_SUBJECT)] == [1, 2, 3]
    assert hq.states(LUX_SUBJECT)[-1].time == "2025-03-02T08:15:01.000000Z"
    hq.value(9, qualifier="s/lon/9/A/0/b")
    assert not hq.states("s/dev/lon/9/if/A/0/b")


def test_a_devices_state_and_its_end() -> None:
    hq = online()
    assert [one.health for one in hq.states(DEVICE_SUBJECT)] == ["normal"]
    hq.value(1)
    hq.tell("UPD:DEVICE", {"id": 12, "status": {"health": "down"}})
    last = hq.states(DEVICE_SUBJECT)[-1]
    assert (last.state, last.health, last.name) == ("provisioned", "down", "MS-Lobby")
    hq.tell("DEL:DEVICE", 12)
    assert hq.states(DEVICE_SUBJECT)[-1] is None
    assert hq.states(LUX_SUBJECT)[-1] is None
    assert hq.lists()[-1] == []


def test_states_come_with_what_they_are_of() -> None:
    hq = online()
    hq.heard.clear()
    hq.value(5)
    assert [type(one) for one in hq.heard] == [Event, State]
