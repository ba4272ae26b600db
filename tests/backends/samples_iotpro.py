"""What IoT Pro says and takes."""

from bridge.backends.iotpro.options import IotproOptions
from bridge.backends.session import Answer, Call
from bridge.options import Secret
from tests.backends.sample import SampleCommand, Samples

# ThingsBoard: the session API (login), and what an ENTITY_DATA subscription is told.

IOTPRO_BUOY = "7f3c1c20-c1d3-11ef-9a11-3d1f0c7a2b41"
IOTPRO_SUBJECT = "asset/sea-buoy/Harbour Buoy 12"
IOTPRO_TOKEN = "e30.eyJleHAiOjE3MDk2MzE5OTAsImlhdCI6MTcwOTYyMjk5MH0.c2ln"  # 9000 s
IOTPRO_LOGIN = Answer(200, f'{{"token":"{IOTPRO_TOKEN}","refreshToken":"{IOTPRO_TOKEN}r"}}'.encode())
_IOTPRO_ENTITY = f'"entityId":{{"entityType":"ASSET","id":"{IOTPRO_BUOY}"}}'
_IOTPRO_END = '"errorCode":0,"errorMsg":null,"allowedEntities":10000,"cmdUpdateType":"ENTITY_DATA"'


def iotpro_page(cmd: int = 1_000_001, name: str = "Harbour Buoy 12", latitude: str = "35.9137") -> str:
    """A page of one buoy."""
    return (
        f'{{"cmdId":{cmd},"data":{{"data":[{{{_IOTPRO_ENTITY},"latest":{{"ENTITY_FIELD":{{'
        f'"name":{{"ts":1709622990500,"value":"{name}"}},"type":{{"ts":1709622990500,"value":"sea-buoy"}},'
        '"label":{"ts":1709622990500,"value":"HB12"},"createdTime":{"ts":1709622990500,"value":"1700000000000"}},'
        f'"TIME_SERIES":{{"telemetry_param_latitude":{{"ts":1709622980000,"value":"{latitude}"}},'
        '"device_id":{"ts":0,"value":""}},'
        '"SERVER_ATTRIBUTE":{"assetDetails":{"ts":1709000000000,"value":"{\\"maker\\":\\"Acme\\"}"}}},'
        '"timeseries":{},"aggLatest":{}}],"totalPages":1,"totalElements":1,"hasNext":false},"update":null,'
        f"{_IOTPRO_END}}}"
    )


def iotpro_update(ts: int = 1709623031000, latest: str | None = None) -> str:
    """New values of the buoy."""
    told = latest or (
        f'"TIME_SERIES":{{"telemetry_param_latitude":{{"ts":{ts},"value":"35.9141"}},'
        f'"device_id":{{"ts":{ts},"value":"00042"}}}}'
    )
    return (
        f'{{"cmdId":1000001,"data":null,"update":[{{{_IOTPRO_ENTITY},"latest":{{{told}}},"timeseries":null,'
        f'"aggLatest":null}}],{_IOTPRO_END}}}'
    )


IOTPRO_FRAMES = (
    iotpro_page(),
    iotpro_page(name="Renamed / Buoy", latitude="12"),
    iotpro_page(1_000_002),
    iotpro_update(),
    iotpro_update(1709623032000),
    iotpro_update(latest='"SERVER_ATTRIBUTE":{"assetDetails":{"ts":1709623040000,"value":"[1,2.0]"}}'),
    iotpro_update(latest='"TIME_SERIES":{"telemetry_param_latitude":{"ts":0,"value":""}}'),
    iotpro_update().replace("latest", "newest", 1).replace('"timeseries":null', '"timeseries":{"device_id":[]}'),
    '{"subscriptionId":1000001,"errorCode":34,"errorMsg":"Too many updates!","data":null,"latestValues":{}}',
    '{"subscriptionId":1,"errorCode":2,"errorMsg":"Failed to parse the payload","data":null,"latestValues":{}}',
    '{"cmdId":1000001,"errorCode":1,"errorMsg":null,"data":null,"update":null,"cmdUpdateType":"ENTITY_DATA"}',
    '{"cmdId":5,"errorCode":0,"errorMsg":null,"count":3,"cmdUpdateType":"COUNT_DATA"}',
)
IOTPRO_ANSWERS = (
    IOTPRO_LOGIN,
    IOTPRO_LOGIN,
    Answer(200),
    Answer(200, b'{"telemetry_param_latitude":[{"ts":1709622985000,"value":"35.9"}]}'),
    Answer(200, b'[{"from":{"entityType":"ASSET","id":"a"},"to":{"entityType":"DEVICE","id":"d"},"type":"Contains"}]'),
    Answer(
        200,
        b'{"data":[{"entityId":{"entityType":"DEVICE","id":"d"},"latest":{"ENTITY_FIELD":{"name":{"value":"n"}}}}]}',
    ),
    Answer(
        200, b'{"data":[{"id":{"id":"7f3c1c20-c1d3-11ef-9a11-3d1f0c7a2b41"},"name":"B","type":"p"}],"hasNext":true}'
    ),
    Answer(200, b'{"authority":"CUSTOMER_USER","customerId":{"id":"c"}}'),
    Answer(401, b'{"status":401,"message":"Token has expired","errorCode":11,"timestamp":1709622990123}'),
    Answer(401, b'{"status":401,"message":"Invalid username or password","errorCode":10,"timestamp":1709622990123}'),
    Answer(200, b'{"token":"a.b.c","scope":"PRE_VERIFICATION_TOKEN"}'),
)


def iotpro_greeting(call: Call) -> Answer | None:
    """To a login."""
    return IOTPRO_LOGIN if call.url.endswith("/api/auth/login") else None


IOTPRO = Samples(
    options=IotproOptions(
        url="https://iotpro.example",
        username="bridge",
        password=Secret("p"),
        keys=("device_id", "telemetry_param_latitude"),
        attributes=("assetDetails",),
        text_keys=("device_id",),
    ),
    frames=IOTPRO_FRAMES,
    commands=(
        SampleCommand("attributes", IOTPRO_SUBJECT, {"values": {"targetSpeed": 12, "mode": "eco"}}),
        SampleCommand("attributes", "asset/%/a%2Fb%25", {"values": {"a": None}, "scope": "SHARED"}),
        SampleCommand("rpc", IOTPRO_SUBJECT, {"method": "setInterval", "params": {"seconds": 30}}),
        SampleCommand("rpc", IOTPRO_SUBJECT, {"method": "beep", "oneway": True, "device": "Buoy's modem"}),
        SampleCommand("rpc", IOTPRO_SUBJECT, {"method": "beep", "device": IOTPRO_BUOY}),
        SampleCommand("filter", "", {"keys": {"sea-buoy": ["battery"]}, "profiles": ["sea-buoy"]}),
        SampleCommand("filter", "", {"keys": ["device_id"]}),
        SampleCommand("resync", "", {}),
    ),
    answers=IOTPRO_ANSWERS,
    survive=frozenset({"attributes", "rpc"}),
    greeting=iotpro_greeting,
    opening=(iotpro_page(),),
)
