"""What ResIOT says (ResIOT docs, Websocket Server): every spelling of the page and of newer installations."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct

from bridge.backends.reading import canonical
from bridge.backends.resiot import usual
from bridge.backends.resiot.data import Ack, Alive, Downlinked, RxInfo, TxAck, Uplink
from bridge.backends.resiot.frames import KINDS, Communication, Reply, WrongShape, read
from bridge.backends.resiot.values import EXACT, hertz_of_kilo, hertz_of_mega, number, whole
from bridge.model import Event
from bridge.times import utc
from bridge.topics import level
from tests.backends.samples_resiot import (
    RESIOT_ACK,
    RESIOT_ALIVE,
    RESIOT_GWRX,
    RESIOT_JOIN,
    RESIOT_NEWER,
    RESIOT_SCHEMA,
    RESIOT_TX,
    RESIOT_TXACK,
    RESIOT_UP,
)

APP, DEV, GATEWAY = "70b3d57ed0001122", "a81758fffe0a0b0c", "0a1b2c3d4e5f6071"
CONNECTOR = "636f6e3230"
NOTHING: list[Any] = [None, "", [], {}]

UPLINK = Uplink(
    dev_eui=DEV,
    app_eui=APP,
    f_port=5,
    f_cnt=42,
    payload="AQDmAlI=",
    payload_hex="0100e60252",
    adr=True,
    duplicate=False,
    rx_info=[RxInfo(GATEWAY, -87, 6.2, 2)],
    frequency_hz=868_500_000,
    bandwidth_hz=125_000,
    spreading_factor=9,
    connector=CONNECTOR,
)


def communication(message: dict[str, Any]) -> Communication:
    told = read(message)
    assert isinstance(told, Communication)
    return told


def rx(**fields: Any) -> Communication:
    """A comm_rx of these fields alone."""
    return communication({"CommType": "comm_rx", **fields})


def data(told: Communication) -> dict[str, Any]:
    (one,) = told.data
    read_back: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(one))
    return read_back


# One frame of each kind.

SAID: dict[str, tuple[str, Communication]] = {
    "comm_rx": (
        RESIOT_UP,
        Communication("up", APP, DEV, (GATEWAY,), "", "2024-03-05T07:16:30.007145Z", (UPLINK,)),
    ),
    "comm_join": (
        RESIOT_JOIN,
        Communication(
            "join", APP, DEV, (), "", "2024-03-05T07:15:09.100302Z",
            (Uplink(dev_eui=DEV, app_eui=APP, connector=CONNECTOR),),
        ),
    ),
    "comm_tx": (
        RESIOT_TX,
        Communication(
            "tx", APP, DEV, (), "br-7f3a", "2024-03-05T07:16:31.550000Z",
            (
                Downlinked(
                    dev_eui=DEV, app_eui=APP, f_port=10, payload="/wE=", payload_hex="ff01", reference="br-7f3a",
                    confirmed=True, priority=0, window="BOTH", connector=CONNECTOR,
                ),
            ),
        ),
    ),
    "comm_txsendack": (
        RESIOT_TXACK,
        Communication(
            "txack", "", "", (), "br-7f3a", "2024-03-05T07:16:32.100000Z",
            (TxAck(stage="comm_txsendack", reference="br-7f3a"),), {"GatewayEUIs": ["0a1B2c3D4e5F6071"]},
        ),
    ),
    "comm_txconfirm": (
        RESIOT_ACK,
        Communication(
            "ack", "", DEV, (), "br-7f3a", "2024-03-05T07:20:03.000000Z", (Ack(dev_eui=DEV, reference="br-7f3a"),)
        ),
    ),
    "comm_gwalive": (
        RESIOT_ALIVE,
        Communication(
            "alive", "", "", (GATEWAY,), "", "2024-03-05T07:15:02.441009Z", (Alive(GATEWAY, "69643d3237"),)
        ),
    ),
    "comm_gwrx": (
        RESIOT_GWRX,
        Communication(
            "rx", "", "", (GATEWAY, "aa"), "", None,
            (
                Uplink(gateway_eui=GATEWAY, rx_info=[RxInfo(GATEWAY, -90)]),
                Uplink(gateway_eui="aa", rx_info=[RxInfo("aa")]),
            ),
            {"Mine": True},
        ),
    ),
    "comm_rx of the page's schema": (
        RESIOT_SCHEMA,
        Communication(
            "up", APP, DEV, (), "", "2024-03-05T08:16:30.000000Z",
            (
                Uplink(
                    dev_eui=DEV, app_eui=APP, f_port=5, f_cnt=42, payload="AQDmAlI=", payload_hex="0100e60252",
                    rx_info=[RxInfo("", -87)],
                ),
            ),
        ),
    ),
    "comm_rx of newer installations": (
        RESIOT_NEWER,
        Communication(
            "up", APP, DEV, (GATEWAY,), "", "2024-03-05T08:16:30.007000Z",
            (
                Uplink(
                    dev_eui=DEV, app_eui=APP, f_port=5, payload="AQDmAlI=", payload_hex="0100e60252", adr=True,
                    rx_info=[RxInfo(GATEWAY, -87, 6.2)], connector=CONNECTOR,
                ),
            ),
            {
                "DevAddr": "26011bda",
                "gateways": '[{"loRaSNR":6.2,"longitude":11.2,"mac":"0a1B2c3D4e5F6071","name":"roof","rssi":-87}]',
            },
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("frame", "said"), SAID.values(), ids=SAID)
def test_each_kind_is_read_as_the_page_shows_it(frame: str, said: Communication) -> None:
    assert read(json.loads(frame)) == said


@pytest.mark.parametrize(("frame", "said"), SAID.values(), ids=SAID)
def test_key_order_makes_no_difference(frame: str, said: Communication) -> None:
    assert read(dict(reversed(json.loads(frame).items()))) == said


@pytest.mark.parametrize("fold", [str.lower, str.upper], ids=["lower", "upper"])
@pytest.mark.parametrize(("frame", "said"), SAID.values(), ids=SAID)
def test_the_case_of_known_keys_makes_no_difference(frame: str, said: Communication, fold: Any) -> None:
    told = communication({fold(key): value for key, value in json.loads(frame).items()})
    assert told.data == said.data
    assert {key.lower() for key in told.extra or ()} == {key.lower() for key in said.extra or ()}


# Kinds.


@pytest.mark.parametrize(("kind", "event"), KINDS.items(), ids=KINDS)
@pytest.mark.parametrize("field", ["CommType", "MsgType", "commtype", "MSGTYPE"])
@pytest.mark.parametrize("fold", [str, str.upper, str.title])
def test_a_kind_is_known_by_either_name_in_any_case(kind: str, event: str, field: str, fold: Any) -> None:
    assert communication({field: fold(kind)}).kind == event


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        ("comm_gwtx", "comm_gwtx"),
        ("comm_txinfo", "comm_txinfo"),
        ("comm_txsendack", "comm_txsendack"),
        ("comm_sendack", "comm_txsendack"),
        ("COMM_TxSendConfirm", "comm_txsendconfirm"),
    ],
)
def test_the_stage_is_the_kind_in_its_usual_spelling(kind: str, stage: str) -> None:
    assert data(communication({"CommType": kind, "Error": "TOO_LATE"})) == {"stage": stage, "error": "TOO_LATE"}


def test_comm_type_wins_over_msg_type_which_is_kept() -> None:
    told = communication({"MsgType": "comm_tx", "CommType": "comm_rx"})
    assert (told.kind, told.extra) == ("up", {"MsgType": "comm_tx"})
    assert communication({"MsgType": "comm_rx", "CommType": "comm_rx"}).extra is None


@pytest.mark.parametrize("nothing", NOTHING, ids=repr)
def test_an_empty_comm_type_is_none(nothing: Any) -> None:
    assert communication({"CommType": nothing, "MsgType": "comm_rx"}).kind == "up"


@pytest.mark.parametrize(
    "message",
    [
        {"CommType": "comm_weather", "DT": "2024-03-05T08:16:30Z", "Port": []},
        {"CommType": "comm_rx2"},
        {"CommType": 5, "MsgType": "comm_rx"},
        {"CommType": ["comm_rx"]},
        {"DevEui": DEV},
        {},
        {"DT": 5},
    ],
    ids=json.dumps,
)
def test_an_unknown_kind_is_passed_on_as_it_is(message: dict[str, Any]) -> None:
    told = communication(message)
    time = utc(message["DT"]) if isinstance(message.get("DT"), str) else None
    assert (told.kind, told.time, told.told) == ("unknown", time, canonical(message))
    (frame,) = told.data
    assert isinstance(frame, Raw)
    assert msgspec.json.decode(frame) == message


# Fields: said in many ways.

LEFT: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]] = {
    # the fields, what data becomes, what is left in extra
    "port as text": ({"Port": "128"}, {"f_port": 128}, None),
    "port as a number": ({"Port": 128}, {"f_port": 128}, None),
    "port as a float": ({"Port": 128.0}, {"f_port": 128}, None),
    "port 0": ({"Port": 0}, {"f_port": 0}, None),
    "port 255": ({"Port": "255"}, {"f_port": 255}, None),
    "port out of range": ({"Port": "256"}, {}, {"Port": "256"}),
    "port below zero": ({"Port": -1}, {}, {"Port": -1}),
    "port in words": ({"Port": "ten"}, {}, {"Port": "ten"}),
    "port with a fraction": ({"Port": 1.5}, {}, {"Port": 1.5}),
    "port of Python": ({"Port": "1_0"}, {}, {"Port": "1_0"}),
    "payload in any case": ({"Payload": "FF0a"}, {"payload": "/wo=", "payload_hex": "ff0a"}, None),
    "payload of odd length": ({"Payload": "fff"}, {}, {"Payload": "fff"}),
    "payload not hex": ({"Payload": "hello!"}, {}, {"Payload": "hello!"}),
    "payload with spaces": ({"Payload": "ff 0a"}, {}, {"Payload": "ff 0a"}),
    "payload in other digits": ({"Payload": "١٢"}, {}, {"Payload": "١٢"}),
    "euis in upper case": ({"AppEui": "70B3", "DevEui": "A817"}, {"app_eui": "70b3", "dev_eui": "a817"}, None),
    "DevEUI": ({"DevEUI": "A817", "appEUI": "70B3"}, {"app_eui": "70b3", "dev_eui": "a817"}, None),
    "a short id": ({"DevEui": "1111"}, {"dev_eui": "1111"}, None),
    "both spellings alike": ({"DevEui": "a817", "DevEUI": "a817"}, {"dev_eui": "a817"}, None),
    "both spellings, one empty": ({"DevEui": "", "DevEUI": "a817"}, {"dev_eui": "a817"}, None),
    "both spellings, different": ({"DevEui": "a817", "DevEUI": "b817"}, {"dev_eui": "a817"}, {"DevEUI": "b817"}),
    "DevAddr": ({"DevAddr": "26011bda"}, {}, {"DevAddr": "26011bda"}),
    "unknown and empty": ({"Foo": "", "Bar": None, "Baz": [], "Qux": {}}, {}, None),
    "unknown and false": ({"Foo": 0, "Bar": False}, {}, {"Foo": 0, "Bar": False}),
    "gateways": ({"GatewayEUIs": ["AA", "bb"]}, {"rx_info": [{"gateway_eui": "aa"}, {"gateway_eui": "bb"}]}, None),
    "one gateway as text": ({"GatewayEUIs": "AA"}, {"rx_info": [{"gateway_eui": "aa"}]}, None),
    "a gateway twice": ({"GatewayEUIs": ["AA", "aa"]}, {"rx_info": [{"gateway_eui": "aa"}]}, None),
    "gateways, one empty": ({"GatewayEUIs": ["", "AA"]}, {"rx_info": [{"gateway_eui": "aa"}]}, None),
    "a time in words": ({"DT": "now"}, {}, {"DT": "now"}),
    "Go's zero time": ({"DT": "0001-01-01T00:00:00Z"}, {}, None),
    # Extra
    "a map": ({"Extra": {"seqno": "42", "foo": 1}}, {"f_cnt": 42}, {"foo": 1}),
    "pairs": (
        {"Extra": [{"fieldname": "seqno", "fieldvalue": "42"}, {"FieldName": "foo", "FieldValue": 1}]},
        {"f_cnt": 42},
        {"foo": 1},
    ),
    "pairs without a value": ({"Extra": [{"fieldname": "foo"}]}, {}, {"foo": None}),
    "pairs with more in them": (
        {"Extra": [{"fieldname": "foo", "fieldvalue": 1, "unit": "m"}]},
        {},
        {"Extra": [{"fieldname": "foo", "fieldvalue": 1, "unit": "m"}]},
    ),
    "pairs of one name": (
        {"Extra": [{"fieldname": "foo", "fieldvalue": 1}, {"fieldname": "foo", "fieldvalue": 2}]},
        {},
        {"Extra": [{"fieldname": "foo", "fieldvalue": 1}, {"fieldname": "foo", "fieldvalue": 2}]},
    ),
    "a map as text": ({"Extra": '{"seqno":"42","foo":1}'}, {"f_cnt": 42}, {"foo": 1}),
    "pairs as text": ({"Extra": '[{"fieldname":"seqno","fieldvalue":42}]'}, {"f_cnt": 42}, None),
    "an empty map as text": ({"Extra": "{}"}, {}, None),
    "a list": ({"Extra": [1, "a"]}, {}, {"Extra": [1, "a"]}),
    "a list as text": ({"Extra": '[1,"a"]'}, {}, {"Extra": [1, "a"]}),
    "text": ({"Extra": "hello"}, {}, {"Extra": "hello"}),
    "half JSON": ({"Extra": '{"a":'}, {}, {"Extra": '{"a":'}),
    "a number": ({"Extra": 12}, {}, {"Extra": 12}),
    "two maps": ({"Extra": {"seqno": 1}, "extra": {"seqno": 2}}, {"f_cnt": 1}, {"extra": {"seqno": 2}}),
    "a name twice": (
        {"DevAddr": "01", "Extra": {"DevAddr": "02", "foo": 1}},
        {},
        {"DevAddr": "01", "foo": 1, "Extra": {"DevAddr": "02"}},
    ),
    # its values
    "adr and duplicate as text": (
        {"Extra": {"adr": "True", "duplicate": "false"}}, {"adr": True, "duplicate": False}, None,
    ),
    "adr and duplicate as themselves": (
        {"Extra": {"adr": False, "duplicate": True}}, {"adr": False, "duplicate": True}, None,
    ),
    "adr as something else": ({"Extra": {"adr": "yes", "duplicate": 1}}, {}, {"adr": "yes", "duplicate": 1}),
    "radio values without a gateway": (
        {"Extra": {"rssi": "-87", "snr": "6.2", "channel": "2"}},
        {"rx_info": [{"rssi_dbm": -87, "snr_db": 6.2, "channel": 2}]},
        None,
    ),
    "radio values belong to the first gateway": (
        {"GatewayEUIs": ["aa", "bb"], "Extra": {"rssi": -87.5, "snr": -6, "channel": 0}},
        {"rx_info": [{"gateway_eui": "aa", "rssi_dbm": -87.5, "snr_db": -6.0, "channel": 0}, {"gateway_eui": "bb"}]},
        None,
    ),
    "a frequency that is a hair below": ({"Extra": {"frequency": "867.3"}}, {"frequency_hz": 867_300_000}, None),
    "another one": ({"Extra": {"frequency": 512.3}}, {"frequency_hz": 512_300_000}, None),
    "bandwidth": ({"Extra": {"modBW": "62.5", "sf": "12"}}, {"bandwidth_hz": 62_500, "spreading_factor": 12}, None),
    "values that are no numbers": (
        {"Extra": {"frequency": "high", "modBW": None, "sf": "SF9", "seqno": "4.2", "rssi": "nan", "snr": True}},
        {},
        {"frequency": "high", "modBW": None, "sf": "SF9", "seqno": "4.2", "rssi": "nan", "snr": True},
    ),
    "numbers beyond what readers of JSON share": (
        {"Extra": {"seqno": 2**53 + 1, "frequency": "1e300"}}, {}, {"seqno": 2**53 + 1, "frequency": "1e300"},
    ),
    # newer installations
    "gateways in Extra": (
        {
            "GatewayEUIs": ["aa", "cc"],
            "Extra": {"rssi": -1, "gw": [{"mac": "AA", "rssi": -87, "loRaSNR": 6.2}, {"mac": "bb"}]},
        },
        {
            "rx_info": [
                {"gateway_eui": "aa", "rssi_dbm": -87, "snr_db": 6.2}, {"gateway_eui": "bb"}, {"gateway_eui": "cc"},
            ]
        },
        {"rssi": -1, "gw": [{"mac": "AA", "rssi": -87, "loRaSNR": 6.2}, {"mac": "bb"}]},
    ),
    "gateways as Extra itself": (
        {"Extra": [{"mac": "AA", "rssi": "-87"}]},
        {"rx_info": [{"gateway_eui": "aa", "rssi_dbm": -87}]},
        {"Extra": [{"mac": "AA", "rssi": "-87"}]},
    ),
    "a list in Extra that is none of gateways": (
        {"Extra": {"gw": [{"mac": "aa"}, {"name": "b"}]}}, {}, {"gw": [{"mac": "aa"}, {"name": "b"}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "said", "left"), LEFT.values(), ids=LEFT)
def test_an_uplinks_field_is_read_or_left_in_extra(
    fields: dict[str, Any], said: dict[str, Any], left: dict[str, Any] | None
) -> None:
    told = rx(**fields)
    assert data(told) == said
    assert told.extra == left


@pytest.mark.parametrize("nothing", NOTHING, ids=repr)
@pytest.mark.parametrize("frame", [frame for frame, _ in SAID.values()], ids=SAID)
def test_any_field_may_be_empty_or_missing(frame: str, nothing: Any) -> None:
    """ "Depending on the type … some of the fields can be empty or nil"."""
    message = json.loads(frame)
    for key in message:
        if key not in ("CommType", "MsgType"):
            without = {name: value for name, value in message.items() if name != key}
            assert read({**message, key: nothing}) == read(without)


@pytest.mark.parametrize(
    "fields",
    [
        {"Port": True},
        {"Port": [5]},
        {"Port": {"a": 1}},
        {"Payload": 1234},
        {"AppEui": 70},
        {"DevEui": ["a817"]},
        {"GatewayEUIs": 5},
        {"GatewayEUIs": 0},
        {"GatewayEUIs": {"a": 1}},
        {"GatewayEUIs": [1]},
        {"GatewayEUIs": [["aa"]]},
        {"DT": 1709622990},
        {"Connector": 12},
        {"CommType": "comm_tx", "Confirmation": 1},
        {"CommType": "comm_tx", "Confirmation": "maybe"},
        {"CommType": "comm_tx", "Reference": 5},
        {"CommType": "comm_tx", "Command": {"a": 1}},
        {"CommType": "comm_txsendack", "Error": 5},
        {"CommType": "tx_confirm", "Reference": ["a"]},
        {"CommType": "comm_gwalive", "GatewayEUIs": [None]},
    ],
    ids=json.dumps,
)
def test_a_known_field_of_a_wrong_type_is_a_wrong_shape(fields: dict[str, Any]) -> None:
    with pytest.raises(WrongShape):
        rx(**fields)


@pytest.mark.parametrize(
    ("confirmation", "confirmed"),
    [(True, True), (False, False), ("true", True), ("False", False), ("", None), (None, None)],
)
def test_confirmation_is_a_boolean_or_its_text(confirmation: object, confirmed: bool | None) -> None:
    told = communication({"CommType": "comm_tx", "Confirmation": confirmation})
    assert data(told).get("confirmed") is confirmed


def test_a_gateway_kind_is_one_event_for_each_gateway() -> None:
    told = communication({"CommType": "comm_gwalive", "GatewayEUIs": ["AA", "bb"], "Connector": "c", "DevEui": "x"})
    assert told.gateways == ("aa", "bb")
    assert told.data == (Alive("aa", "c"), Alive("bb", "c"))
    assert told.extra == {"DevEui": "x"}


def test_a_gateway_with_two_aerials_is_one_event_with_both() -> None:
    heard = [{"mac": "AA", "rssi": -87}, {"mac": "AA", "rssi": -90}, {"mac": "bb", "rssi": -99}]
    told = communication({"CommType": "comm_gwrx", "GatewayEUIs": ["AA", "bb", "AA"], "Extra": {"gw": heard}})
    assert told.gateways == ("aa", "bb")
    assert [one.rx_info for one in told.data if isinstance(one, Uplink)] == [
        [RxInfo("aa", -87), RxInfo("aa", -90)],
        [RxInfo("bb", -99)],
    ]


@pytest.mark.parametrize("kind", ["comm_gwalive", "comm_gwrx"])
def test_a_gateway_kind_without_a_gateway_is_one_event(kind: str) -> None:
    told = communication({"CommType": kind, "Connector": "c"})
    assert told.gateways == ()
    assert data(told) == {"connector": "c"}


# Replies to commands.


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        ({"Result": "Success", "Details": "", "Reference": "r"}, Reply(True, "", "r")),
        ({"Result": "Fail", "Details": "device not found"}, Reply(False, "device not found", "")),
        ({"result": "SUCCESS", "REFERENCE": None}, Reply(True, "", "")),
        ({"Result": "Success", "CommType": ""}, Reply(True, "", "")),
    ],
    ids=["success", "fail", "case", "empty CommType"],
)
def test_what_has_a_result_and_no_kind_is_a_reply(message: dict[str, Any], reply: Reply) -> None:
    assert read(message) == reply


def test_what_has_a_kind_is_no_reply() -> None:
    told = communication({"CommType": "comm_tx", "Result": "Success"})
    assert (told.kind, told.extra) == ("tx", {"Result": "Success"})


@pytest.mark.parametrize("result", ["Maybe", 5, True, ["Success"], "", None])
def test_a_reply_that_says_neither_yes_nor_no_is_a_wrong_shape(result: object) -> None:
    with pytest.raises(WrongShape):
        read({"Result": result})


# Values.


@pytest.mark.parametrize("kilohertz", range(863_000, 870_001, 25))
def test_no_channel_is_a_hertz_short(kilohertz: int) -> None:
    written = f"{kilohertz // 1000}.{kilohertz % 1000:03d}"
    assert hertz_of_mega(written) == hertz_of_mega(float(written)) == hertz_of_kilo(kilohertz) == kilohertz * 1000


@given(st.integers() | st.floats() | st.text() | st.from_regex(r"[+-]?\d{1,25}(\.\d{0,5})?(e\d{1,3})?", fullmatch=True))
@settings(deadline=None, print_blob=True)
def test_a_number_that_is_read_is_exactly_what_was_told(value: Any) -> None:
    """What cannot be kept exactly is not read, and so stays in extra as it was told."""
    read_whole, read_any = whole(value), number(value)
    if read_whole is not None:
        assert read_whole == (int(value) if isinstance(value, str) and value.strip("+-").isdigit() else float(value))
        assert abs(read_whole) <= EXACT
    if read_any is not None:
        assert read_any == float(value)
        assert msgspec.json.encode(read_any) != b"null"
        assert str(read_any) != "-0.0"


# The usual uplink, read in one go, is the same as read field by field.


USUAL = (RESIOT_UP, RESIOT_JOIN, RESIOT_ALIVE, RESIOT_TX)


@st.composite
def nearly_usual(draw: st.DrawFn) -> str:
    """One of the page's messages with a few values said otherwise."""
    message = json.loads(draw(st.sampled_from(USUAL)))
    values = st.sampled_from(
        [5, "5", 5.0, "5.0", "05", " 5", "+5", "1_0", -1, "-0", -0.0, 0, 300, "1e3", 1e3, 2**53, 2**53 + 1, str(2**60),
         10**30, "1e12", "nan", "inf", "", None, True, "true", "True", "5.", ".5", "٥", [], ["AA"], ["aa", "aa"], [""],
         "ff", "FF", "f f", "\u0660\u0661", "2024-03-05T08:16:30Z", "0001-01-01T00:00:00Z", "İ"]
    )  # fmt: skip
    for _ in range(draw(st.integers(0, 3))):
        holder = message["Extra"] if draw(st.booleans()) else message
        key = draw(st.sampled_from([name for name in (*holder, "more") if name not in ("CommType", "Extra")]))
        holder[key] = draw(values)
    return json.dumps(message)


@given(nearly_usual())
@example(RESIOT_UP)
@settings(deadline=None, print_blob=True, max_examples=600)
def test_the_quick_way_reads_the_same_as_the_thorough_one(frame: str) -> None:
    quick = usual.read(frame.encode())
    if quick is not None:
        told = communication(json.loads(frame))
        assert quick.events == tuple(
            Event(subject, told.kind, data, told.time, told.extra, told.told)
            for subject, data in zip(subjects(told), told.data, strict=True)
        )
        assert quick.gateways == list(told.gateways)
        assert quick.reference == told.reference
        assert [msgspec.json.encode(one.data) for one in quick.events] == [
            msgspec.json.encode(one) for one in told.data
        ]


def subjects(told: Communication) -> list[str]:
    if told.kind == "alive":
        return [f"gateway/{level(eui)}" for eui in told.gateways]
    return [f"application/{level(told.app_eui)}/device/{level(told.dev_eui)}"]


@pytest.mark.parametrize("frame", USUAL)
def test_the_usual_messages_are_read_the_quick_way(frame: str) -> None:
    assert usual.read(frame.encode()) is not None


# Nothing is lost silently.

TOKENS = st.sampled_from(["one", "two", "drei", "4", "5.5", "TRUE", "a b", "-87", "ff", "FFF"])
SCALARS: st.SearchStrategy[Any] = TOKENS | st.integers(1, 10**6) | st.floats(0.5, 1e6) | st.booleans()
INNER = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.sampled_from(["p", "q", "mac", "rssi", "fieldname", "fieldvalue"]), inner, min_size=1)
    ),
    max_leaves=5,
)
RADIO = ("adr", "channel", "duplicate", "frequency", "modBW", "rssi", "seqno", "sf", "snr", "priority", "window")
EXTRA_MAP = st.dictionaries(st.sampled_from((*RADIO, "foo", "DevAddr", "Payload", "Extra")), INNER, max_size=5)
EXTRA = (
    EXTRA_MAP
    | EXTRA_MAP.map(lambda told: [{"fieldname": key, "fieldvalue": value} for key, value in told.items()])
    | EXTRA_MAP.map(json.dumps)
    | INNER
    | INNER.map(json.dumps)
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "Connector": TOKENS,
    "AppEui": TOKENS,
    "appEUI": TOKENS,
    "DevEui": TOKENS,
    "DevEUI": TOKENS,
    "Port": TOKENS | st.integers(-5, 300),
    "GatewayEUIs": st.lists(TOKENS, min_size=1, max_size=3) | TOKENS,
    "Payload": TOKENS,
    "Extra": EXTRA,
    "extra": EXTRA,
    "DT": st.sampled_from(["2024-03-05T08:16:30Z", "2024-03-05T08:16:30.5+01:00", "today"]),
    "DevAddr": INNER,
    "Reference": TOKENS,
    "Confirmation": st.booleans(),
    "Command": TOKENS,
    "Error": TOKENS,
    "Mine": st.booleans(),
    "MsgType": TOKENS,
    "Foo": INNER,
    "FOO": INNER,
}


def leaves(value: Any) -> list[Any]:
    """Every scalar of a JSON value, and of JSON in its texts; the names of {fieldname, fieldvalue} are keys."""
    if isinstance(value, str) and value.startswith(("[", "{", '"')):
        value = json.loads(value)
    if isinstance(value, dict):
        names = ("fieldname",) if value.keys() == {"fieldname", "fieldvalue"} else ()
        return [leaf for key, item in value.items() if key not in names for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def keys(value: Any) -> list[str]:
    """Every key of a JSON value."""
    if isinstance(value, dict):
        return [*value, *(key for item in value.values() for key in keys(item))]
    return [key for item in value for key in keys(item)] if isinstance(value, list) else []


def forms(leaf: Any) -> set[str]:
    """How a scalar of the platform may appear in what we say."""
    made = {str(leaf).lower(), str(utc(str(leaf)))}
    if (read_as := number(leaf)) is not None:
        made |= {str(float(said)) for said in (read_as, hertz_of_mega(leaf), hertz_of_kilo(leaf)) if said is not None}
    return made - {"None"}


@example("comm_gwrx", {"GatewayEUIs": ["one", "one"], "Extra": {"rssi": 1}})
@given(st.sampled_from(sorted(KINDS)), st.fixed_dictionaries({}, optional=FIELDS))
@settings(deadline=None, print_blob=True, max_examples=300)
def test_each_leaf_of_a_known_kind_is_found_again(kind: str, fields: dict[str, Any]) -> None:
    try:
        told = communication({"CommType": kind, **fields})
    except WrongShape:
        assume(False)
    said = [told.time, told.extra, *(msgspec.to_builtins(one) for one in told.data if isinstance(one, Struct))]
    found = {form for leaf in (*leaves(said), *keys(said)) for form in forms(leaf)}
    for key, value in fields.items():
        for leaf in leaves(value):
            assert forms(leaf) & found, f"{leaf!r} of {key} is lost"


@given(st.sampled_from(sorted(KINDS)), EXTRA, EXTRA)
@settings(deadline=None, print_blob=True)
def test_extra_makes_no_difference_to_what_is_told(kind: str, one: Any, other: Any) -> None:
    """What we do not know does not count for identity: data is the same with and without it."""
    assert communication({"CommType": kind, "Foo": one}).data == communication({"CommType": kind, "Foo": other}).data
