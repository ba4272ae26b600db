"""What each platform says and takes: the material of the contract suite. A new platform adds its samples here.

`{key}` in a frame stands for the key of a command that is open; the frames are ours, in the platform's shape.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

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
    answers what is asked until the session is online, None: not at all · outlive: commands that may stay open after
    their deadline, once the platform has answered.
    """

    options: BackendOptions
    frames: tuple[str, ...]
    commands: tuple[SampleCommand, ...]
    answers: tuple[Answer, ...] = ()
    outlive: frozenset[str] = frozenset()
    greeting: Callable[[Call], Answer | None] = lambda call: None


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

SAMPLES: dict[str, Samples] = {
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
