"""What each platform says and takes: the material of the contract suite. A new platform adds its samples here.

`{key}` in a frame stands for the key of a command that is open; the frames are ours, in the platform's shape.
"""

from typing import Any

from msgspec import Struct

from bridge.backends.isymphony.actions import Action
from bridge.backends.isymphony.options import IsymphonyOptions
from bridge.backends.resiot.options import ResiotOptions
from bridge.backends.session import Answer
from bridge.options import BackendOptions, Duration, Secret


class SampleCommand(Struct, frozen=True):
    """A command as its sender writes it, well or badly, and where it goes."""

    name: str
    subject: str
    fields: dict[str, Any]


class Samples(Struct, frozen=True):
    """Of one platform.

    frames: what it says, well-formed · answers: to HTTP calls · outlive: commands that may stay open after their
    deadline, or a loss, once the platform has answered · other_types: event types of the frames that no list names.
    """

    options: BackendOptions
    frames: tuple[str, ...]
    commands: tuple[SampleCommand, ...]
    answers: tuple[Answer, ...] = ()
    outlive: frozenset[str] = frozenset()
    other_types: frozenset[str] = frozenset()


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

# iSymphony developer documentation: one of each documented kind, a dial (of which only the name is known), others.

ISYMPHONY_CORE = "11111111-2222-4333-8444-555555555555"
ISYMPHONY_LOGIN = (
    f'{{"type":"userLogin","time":1710000000123,"coreServerId":"{ISYMPHONY_CORE}",'
    '"userId":"aaaaaaaa-0001-4000-8000-000000000001","username":"7001",'
    '"userLoginId":"bbbbbbbb-0001-4000-8000-000000000001","ip":"192.0.2.10","port":50122}'
)
ISYMPHONY_LOGOUT = ISYMPHONY_LOGIN.replace('userLogin"', 'userLogout"').replace("1710000000123", "1710000900123")
ISYMPHONY_LINK_END = (
    f'{{"type":"linkEnd","time":1710000100500,"coreServerId":"{ISYMPHONY_CORE}",'
    '"callSegmentId1":"cccccccc-0001-4000-8000-000000000001","callerIdName1":"Desk A","callerIdNumber1":"7001",'
    '"did1":null,"extensionId1":"dddddddd-0001-4000-8000-000000000001","extensionNumber1":"7001",'
    '"userId1":"aaaaaaaa-0001-4000-8000-000000000001","username1":"7001",'
    '"callSegmentId2":"cccccccc-0002-4000-8000-000000000002","callerIdName2":"Desk B","callerIdNumber2":"+15550100",'
    '"did2":"5550199","extensionId2":null,"extensionNumber2":"7002","userId2":null,"username2":"b/+#"}'
)
ISYMPHONY_HANGUP = (
    f'{{"type":"hangup","time":1710000101800,"coreServerId":"{ISYMPHONY_CORE}",'
    '"callSegmentId":"cccccccc-0001-4000-8000-000000000001","callerIdName":"Desk A","callerIdNumber":"7001",'
    '"did":null,"extensionId":"dddddddd-0001-4000-8000-000000000001","extensionNumber":"7001",'
    '"userId":"aaaaaaaa-0001-4000-8000-000000000001","username":"7001"}'
)
ISYMPHONY_LEAVE = (
    '{"callSegmentId":"cccccccc-0003-4000-8000-000000000003","callerIdName":"Desk B","callerIdNumber":"7002",'
    f'"conferenceRoomId":"eeeeeeee-0001-4000-8000-000000000001","conferenceRoomName":"Main","coreServerId":'
    f'"{ISYMPHONY_CORE}","did":"s","extensionId":null,"extensionNumber":"7002","time":1710000200000,'
    '"type":"confRoomCallLeave","userId":null,"username":null}'
)
ISYMPHONY_DIAL = ISYMPHONY_LINK_END.replace('"linkEnd"', '"dial"')
ISYMPHONY_OTHER = '{"type":"queue/Join","time":"1710000101800","queueName":"Sales","username":"7001"}'
ISYMPHONY_UNKNOWN = '{"time":1710000101800,"username":"7001"}'
ISYMPHONY_RESTARTED = ISYMPHONY_LOGIN.replace("1111111", "9999999")
_ISYMPHONY_DND = Action(
    path="coreServers/getByName/{server}/extensions/getByName/{extension}/dnd",
    body={"on": "{on}", "note": "set by {who}", "more": [1, None]},
)

SAMPLES: dict[str, Samples] = {
    "isymphony": Samples(
        options=IsymphonyOptions(
            url="ws://pbx.example:58080",
            username="bridge",
            password=Secret("p"),
            filters={"type": ("*",)},
            actions={"dnd": _ISYMPHONY_DND, "logout-all": Action(method="DELETE", path="logins")},
        ),
        frames=(
            ISYMPHONY_LOGIN,
            ISYMPHONY_LOGOUT,
            ISYMPHONY_LINK_END,
            ISYMPHONY_HANGUP,
            ISYMPHONY_LEAVE,
            ISYMPHONY_DIAL,
            ISYMPHONY_OTHER,
            ISYMPHONY_UNKNOWN,
            ISYMPHONY_RESTARTED,
            '{"correlationId":"{key}","time":1710000000200,"type":"success"}',
            '{"correlationId":"{key}","error":"no such property","time":1710000000300,"type":"error"}',
            '{"correlationId":null,"time":1710000000200,"type":"success"}',
            '{"correlationId":"ws2mqtt-1","time":1710000000200,"type":"success"}',
            '{"correlationId":"ws2mqtt-2","error":"no","time":1710000000200,"type":"error"}',
        ),
        commands=(
            SampleCommand("filter", "", {"filters": {"type": ["hangup", "login"], "username": "7001"}}),
            SampleCommand("filter", "", {"filters": [{"property": "type", "value": "*"}]}),
            SampleCommand("filter", "", {"filters": {}}),
            SampleCommand("filter", "", {}),
            SampleCommand("filter", "", {"filters": {"type": []}}),
            SampleCommand("live", "", {"path": "coreServers/getByName/default/users"}),
            SampleCommand("live", "", {"path": "../up"}),
            SampleCommand("dnd", "", {"server": "default", "extension": "7001", "on": True, "who": 7}),
            SampleCommand("dnd", "", {"server": "default", "extension": "", "on": 1.5, "who": ""}),
            SampleCommand("logout-all", "", {}),
        ),
        answers=(
            Answer(204),
            Answer(200, b'[{"id":"11111111-2222-4333-8444-555555555555"}]'),
            Answer(
                200, b'[{"id":"aaaaaaaa-0001-4000-8000-000000000001","userName":"7001"},{"id":"b","userName":"b/+#"}]'
            ),
            Answer(200, b'[{"id":"bbbbbbbb-0001-4000-8000-000000000001"},{}]'),
            Answer(200, b"[]"),
            Answer(401, b"<html>no</html>"),
            Answer(412, b"Unrecognized field"),
            Answer(302),
        ),
        outlive=frozenset({"live", "dnd", "logout-all"}),
        other_types=frozenset({"queue%2FJoin", "success", "error"}),
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
