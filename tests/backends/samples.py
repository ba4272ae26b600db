"""What each platform says and takes: the material of the contract suite. A new platform adds its samples here.

`{key}` in a frame stands for the key of a command that is open; the frames are ours, in the platform's shape.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from bridge.backends.iotpro.options import IotproOptions
from bridge.backends.resiot.options import ResiotOptions
from bridge.backends.session import Answer, Call
from bridge.options import BackendOptions, Duration, Secret


class SampleCommand(Struct, frozen=True):
    """A command as its sender writes it, well or badly, and where it goes."""

    name: str
    subject: str
    fields: dict[str, Any]


class Samples(Struct, frozen=True):
    """Of one platform.

    frames: what it says, well-formed, on the link "main" · answers: to HTTP calls, of any kind · greeting: how it
    answers what is asked until the session is online, None: not at all · opening: what it says on the open link until
    then · outlive: commands that may stay open after their deadline, once the platform has answered · survive: commands
    that a loss does not end, since they go another way.
    """

    options: BackendOptions
    frames: tuple[str, ...]
    commands: tuple[SampleCommand, ...]
    answers: tuple[Answer, ...] = ()
    outlive: frozenset[str] = frozenset()
    greeting: Callable[[Call], Answer | None] = lambda call: None
    opening: tuple[str, ...] = ()
    survive: frozenset[str] = frozenset()


# ResIOT docs, Websocket Server: one frame of each kind.

RESIOT_ALIVE = (
    '{"CommType":"comm_gwalive","Connector":"69643d3237","AppEui":"","DevEui":"","Port":"",'
    '"GatewayEUIs":["0a1B2c3D4e5F6071"],"Payload":"","Extra":{},"DT":"2024-03-05T08:15:02.4410093+01:00"}'
)
RESIOT_JOIN = (
    '{"CommType":"comm_join","Connector":"636f6e3230","AppEui":"70b3d57ed0001122","DevEui":"a81758fffe0a0b0c",'
    '"Port":"","GatewayEUIs":[],"Payload":"","Extra":{},"DT":"2024-03-05T08:15:09.1003021+01:00"}'
)
RESIOT_UP = (
    '{"CommType":"comm_rx","Connector":"636f6e3230","AppEui":"70b3d57ed0001122","DevEui":"a81758fffe0a0b0c",'
    '"Port":"5","GatewayEUIs":["0a1B2c3D4e5F6071"],"Payload":"0100e60252","Extra":{"adr":"true","channel":"2",'
    '"duplicate":"false","frequency":"868.5","modBW":"125","rssi":"-87","seqno":"42","sf":"9","snr":"6.2"},'
    '"DT":"2024-03-05T08:16:30.0071456+01:00"}'
)
RESIOT_TX = (
    '{"CommType":"comm_tx","Connector":"636f6e3230","AppEui":"70b3d57ed0001122","DevEui":"a81758fffe0a0b0c",'
    '"Port":"10","Payload":"ff01","Command":"","Reference":"br-7f3a","Confirmation":true,'
    '"Extra":{"priority":0,"window":"BOTH"},"DT":"2024-03-05T08:16:31.5500000+01:00"}'
)
RESIOT_TXACK = (
    '{"CommType":"comm_txsendack","Reference":"br-7f3a","Error":"","GatewayEUIs":["0a1B2c3D4e5F6071"],'
    '"DT":"2024-03-05T08:16:32.1+01:00"}'
)
RESIOT_ACK = (
    '{"CommType":"comm_txconfirm","Reference":"br-7f3a","DevEui":"a81758fffe0a0b0c","DT":"2024-03-05T08:20:03+01:00"}'
)
RESIOT_NEWER = (
    '{"AppEui":"70b3d57ed0001122","CommType":"comm_rx","Connector":"636f6e3230","DevAddr":"26011bda",'
    '"DevEui":"a81758fffe0a0b0c","Extra":{"gateways":"[{\\"loRaSNR\\":6.2,\\"longitude\\":11.2,'
    '\\"mac\\":\\"0a1B2c3D4e5F6071\\",\\"name\\":\\"roof\\",\\"rssi\\":-87}]","adr":"true"},'
    '"GatewayEUIs":["0a1B2c3D4e5F6071"],"Port":"5","Payload":"0100e60252","DT":"2024-03-05T08:16:30.007Z"}'
)
RESIOT_SCHEMA = (
    '{"MsgType":"comm_rx","AppEui":"70b3d57ed0001122","DevEUI":"A81758FFFE0A0B0C","Port":5,"Payload":"0100E60252",'
    '"Extra":[{"fieldname":"rssi","fieldvalue":-87},{"fieldname":"seqno","fieldvalue":"42"}],"DT":"2024-03-05T08:16:30Z"}'
)
RESIOT_GWRX = '{"CommType":"comm_gwrx","GatewayEUIs":["0a1b2c3d4e5f6071","aa"],"Mine":true,"Extra":{"rssi":"-90"}}'
RESIOT_UNKNOWN = '{"CommType":"comm_weather","Wind":12.0}'
_RESIOT_DEVICE = "application/70b3d57ed0001122/device/a81758fffe0a0b0c"

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


SAMPLES: dict[str, Samples] = {
    "iotpro": Samples(
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
    ),
    "resiot": Samples(
        options=ResiotOptions(url=Secret("wss://resiot.example/?token=t"), gateway_timeout=Duration(30.0)),
        frames=(
            RESIOT_ALIVE,
            RESIOT_JOIN,
            RESIOT_UP,
            RESIOT_TX,
            RESIOT_TXACK,
            RESIOT_ACK,
            RESIOT_NEWER,
            RESIOT_SCHEMA,
            RESIOT_GWRX,
            RESIOT_UNKNOWN,
            '{"Result":"Success","Details":"","Reference":"{key}"}',
            '{"Result":"Success","Details":""}',
            '{"Result":"Success","Details":"","Reference":"br-7f3a"}',
            '{"Result":"Fail","Details":"device not found","Reference":"{key}"}',
            '{"CommType":"comm_tx","Reference":"{key}","DevEui":"a81758fffe0a0b0c"}',
            '{"CommType":"comm_txsendack","Reference":"{key}","Error":"TOO_LATE"}',
            '{"CommType":"tx_confirm","Reference":"{key}"}',
        ),
        commands=(
            SampleCommand("downlink", _RESIOT_DEVICE, {"f_port": 10, "payload_hex": "ff01"}),
            SampleCommand("downlink", _RESIOT_DEVICE, {"f_port": 1, "payload": "/wE=", "confirmed": True}),
            SampleCommand(
                "downlink",
                _RESIOT_DEVICE,
                {"f_port": 1, "text": "on", "confirmed": True, "confirm_timeout": "40s", "reference": "br-7f3a"},
            ),
            SampleCommand(
                "downlink", _RESIOT_DEVICE, {"f_port": 255, "text": "é", "connector": "c", "ws_command": "w"}
            ),
            SampleCommand("downlink", _RESIOT_DEVICE, {"f_port": 10}),
            SampleCommand("downlink", _RESIOT_DEVICE, {"f_port": 10, "payload": "?"}),
            SampleCommand("downlink", "application/%/device/a%2Fb%25", {"f_port": 10, "payload_hex": "00"}),
        ),
        outlive=frozenset({"downlink"}),
    ),
}
