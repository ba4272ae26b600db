"""What SmartServer IoT says and takes."""

from bridge.backends.session import Answer, Call
from bridge.backends.smartserver.options import SmartserverOptions
from bridge.options import Duration, Secret
from tests.backends.sample import SampleCommand, Samples

# SmartServer IoT: wiki, "IAP/WS API", one frame of each update type.

_SMART_LUX = "17qz7ab/lon/4/LightSensor/0/nvoLuxLevel"
_SMART_LAMP = "17qz7ab/lon/4/Lamp/0/nviValue"
_SMART_DEVICE = (
    '{"name":"MS-Lobby","category":"EDGE","id":12,"status":{"state":"provisioned","health":"normal","connection":'
    '"connected","action":null,"product":"LobbySensorType"},"scName":"SmartServer IoT","scId":"17qz7ab","uid":'
    '"04A1B2C3D4F0","protocol":"lon","typeId":341,"deviceTypeName":"LobbySensorType","DID":"4"}'
)
_SMART_ALARM = (
    '{"id":4711,"timestamp":"2025-03-02T09:16:12.004+01:00[Europe/Berlin]","category":"System-HW","severity":'
    '"Major Fault","state":"Active","geozone":{"id":1,"name":"World"},"device":{"id":"12","name":"MS-Lobby","uid":'
    '"04A1B2C3D4F0"},"type":"Device not communicating","details":"Device MS-Lobby is down","alarmTargetType":"DEVICE"}'
)
_SMART_POINT = (
    '{"deviceId":12,"deviceName":"MS-Lobby","blockName":"LightSensor","blockIndex":0,"datapointName":"nvoLuxLevel",'
    f'"name":"nvoLuxLevel","dpQualifier":"{_SMART_LUX}","deviceHealth":"normal","utc":"2025-03-02T08:15:00.412Z[UTC]",'
    '"value":318,"locValue":318,"presetValue":null,"lon":{"cfg":{"unit":"lux"}}}'
)


def _smart(action: str, payload: str) -> str:
    return f'{{"action":"{action}","payload":{payload}}}'


SMART_VALUE = _smart(
    "UPD:DATAPOINT",
    f'[{{"datapointQualifier":"{_SMART_LUX}","value":318,"locValue":318,"presetValue":null,'
    f'"timestamp":"2025-03-02T08:15:00.412Z"}},{{"datapointQualifier":"{_SMART_LAMP}","value":{{"value":62.5,"state":1}},'
    '"locValue":{"value":62.5,"state":1},"presetValue":"ON","timestamp":"2025-03-02T08:15:00.498Z[UTC]"}]',
)
SMART_OLD = _smart("UPD:DATAPOINT", f'{{"datapointQualifier":"{_SMART_LUX}","value":318}}')
SMART_FRAMES = (
    SMART_VALUE,
    SMART_OLD,
    _smart("UPD:DEVICE", _SMART_DEVICE),
    _smart("UPD:DEVICE", '{"id":"13","status":{"state":"created","health":"down"}}'),
    _smart("DEL:DEVICE", '{"id":12}'),
    _smart("DEL:DEVICE", "[13]"),
    _smart("UPD:DEVICE_TEST_RESULT", '{"deviceId":12,"results":{"state":"Configured Online","health":"normal"}}'),
    _smart("CRT:ALARM", _SMART_ALARM),
    _smart("CRT:ALARM", "[4712]"),
    _smart("DEL:ALARM", '{"id":4711}'),
    _smart(
        "CRT:NOTIFICATION",
        '{"message":"queryStatus  Device does not respond!","targetType":"DEVICE","targetName":"MS-Lobby"}',
    ),
    _smart("NTF:TIME", '{"value":"2025-03-02T09:16:30.000+01:00[Europe/Berlin]"}'),
    _smart("NTF:JOIN", '{"uid":"04A1B2C3D4E5","type":"9FFF120034AB0400","protocol":"lon"}'),
    _smart("UPD:MONITORINGSTATE", '{"active":false}'),
    _smart("UPD:CPU", "23"),
    _smart("UPD:SC:CPU", '{"17qz7ab":97}'),
    _smart("UPD:EPS", "6"),
    _smart("UPD:TOTAL_EPS", "14"),
    _smart("UPD:SC:MEMORY", '{"17qz7ab":{"memory":{"used":1210,"total":2013}}}'),
    _smart("UPD:LIC:CLOUD", "[]"),
    f'{{"dpQualifier":"{_SMART_LUX}","utc":"2025-03-02T07:45:00.000Z[UTC]","value":301,"tags":["level1"]}}',
    '"end"',
)
_SMART_IN = Answer(200, b"{}", (("set-cookie", "cmsSID=s3cret; Path=/; HttpOnly"),))


def _smart_greeting(call: Call) -> Answer | None:
    """As far as to be online, and what is read then; commands are left to what happens."""
    path = call.url.removeprefix("https://hq.example").partition("?")[0]
    known = {
        "/iap/auth/login": _SMART_IN,
        "/iap/auth/sessionTimeout": Answer(200, b"86400000"),
        "/iap/version": Answer(200, b'{"type":"x","value":"4.30.015"}'),
        "/iap/devs": Answer(200, f"[{_SMART_DEVICE}]".encode()),
        "/iap/devs/12/if/*/*/*/*": Answer(200, f"[{_SMART_POINT}]".encode()),
        "/iap/dp/updates/subscribe": Answer(204),
        "/iap/alarms": Answer(200, b'{"snapshot":1,"remainingPages":0,"resources":[]}'),
    }
    return Answer(200, f"[{_SMART_POINT}]".encode()) if "qualifier=-" in path else known.get(path)


_SMART_SUBJECT = "17qz7ab/dev/lon/4"
_SMART_RANGE = {"from": "2025-03-02T07:00:00Z", "to": "2025-03-02T09:00:00+01:00"}

SMARTSERVER = Samples(
    options=SmartserverOptions(
        url="https://hq.example",
        username="mqttbridge",
        password=Secret("p"),
        datapoints=("*/lon/*/LightSensor/*/nvoLuxLevel", _SMART_LAMP),
        poll=Duration(60.0),
    ),
    frames=SMART_FRAMES,
    commands=(
        SampleCommand("write", f"{_SMART_SUBJECT}/if/Lamp/0/nviValue", {"value": {"value": 100, "state": 1}}),
        SampleCommand("write", f"{_SMART_SUBJECT}/if/Lamp/0/nviValue", {"preset": "ON", "priority": 8}),
        SampleCommand("write", f"{_SMART_SUBJECT}/if/%/0/a%2Fb", {"value": None}),
        SampleCommand("release", f"{_SMART_SUBJECT}/if/Lamp/0/nviValue", {"priority": 8}),
        SampleCommand("read", f"{_SMART_SUBJECT}/if/LightSensor/0/nvoLuxLevel", {"max_age": "0s"}),
        SampleCommand("read", f"{_SMART_SUBJECT}/if/LightSensor/0/nvoLuxLevel", {}),
        SampleCommand("test", _SMART_SUBJECT, {}),
        SampleCommand("wink", _SMART_SUBJECT, {}),
        SampleCommand("filter", "", {"datapoints": ["*/*/*/*/*/*"]}),
        SampleCommand("filter", "", {}),
        SampleCommand("clear_alarms", "", {}),
        SampleCommand("clear_alarms", "", {"ids": [4711, "4712"]}),
        SampleCommand("datalog", "", {"datapoints": ["*/*/*/*/*/*"], "limit": 2, **_SMART_RANGE}),
        SampleCommand("datalog", "", {"datapoints": ["x/lon/9/Lamp/0/y", _SMART_LUX], **_SMART_RANGE}),
    ),
    answers=(_SMART_IN, Answer(200, b"1000"), Answer(429, b'{"message":"Too many failed login attempts. Try again"}')),
    outlive=frozenset({"datalog"}),
    greeting=_smart_greeting,
)
