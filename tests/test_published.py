"""The published document says what users were told: topics, payloads, commands and answers, in tables of their own.

The tables are written by hand, not made of the code: a name, a limit or a code that changes has to change here, too.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, get_args

import jsonschema_rs
import pytest

from bridge.asyncapi import document
from bridge.commands import Code
from bridge.config import Config
from bridge.model import ResponseStatus
from bridge.options import MqttOptions

WHOLE = document()

# Subject: types of events, whether it has a state, commands.

Told = tuple[set[str], bool, set[str]]
DEVICE, GATEWAY = {"up", "join", "tx", "txack", "ack"}, {"alive", "rx"}
CALLS = {"dial", "hangup", "linkEnd", "confRoomCallLeave", "unknown", "{type}"}
LOGINS = {"userLogin", "userLogout"}
BACKEND = {"reconnect", "pause", "resume"}
SUBJECTS: dict[str, dict[str, Told]] = {
    "resiot": {
        "application/{app_eui}/device/{dev_eui}": (DEVICE, False, {"downlink"}),
        "gateway/{gateway_eui}": (GATEWAY, True, set()),
        "": ({"unknown", "gap"} | DEVICE | GATEWAY, True, BACKEND),
    },
    "iotpro": {
        "asset/{profile}/{name}": ({"telemetry", "attributes"}, True, {"attributes", "rpc"}),
        "": ({"unknown", "gap"}, True, BACKEND | {"filter", "resync"}),
    },
    "smartserver": {
        "{sid}/dev/{protocol}/{did}/if/{block}/{index}/{dp}": ({"value", "log"}, True, {"write", "release", "read"}),
        "{sid}/dev/{protocol}/{did}": ({"status", "test", "removed"}, True, {"test", "wink"}),
        "alarms": (set(), True, set()),
        "": (
            {"alarm", "notification", "join", "monitoring", "time", "load", "unknown", "gap", "test", "removed"},
            True,
            BACKEND | {"filter", "datalog", "clear_alarms"},
        ),
    },
    "isymphony": {
        "user/{username}": (LOGINS | CALLS, True, set()),
        "extension/{extensionNumber}": (CALLS, False, set()),
        "": ({"gap"} | LOGINS | CALLS, True, BACKEND | {"filter", "live"}),
    },
}
BRIDGE = {"ping", "health", "log_level", "reload"}

# Fields of payloads. A `?` behind a name: it may be absent; `extra` goes with every event but unknown and gap.

FIELDS = {
    "bridge.state": "state session instance version time",
    "bridge.info": "version session commands backends",
    "bridge.health": "time session backends",
    "resiot.state": "state since attempt? next_retry? error? last_event?",
    "resiot.event.gap": "from to reason backfill?",
    "resiot.application-device.event.up": "dev_eui? app_eui? gateway_eui? f_port? f_cnt? payload? payload_hex? adr? "
    "duplicate? rx_info? frequency_hz? bandwidth_hz? spreading_factor? connector? extra?",
    "resiot.application-device.event.tx": "dev_eui? app_eui? f_port? payload? payload_hex? reference? confirmed? "
    "command? priority? window? connector? extra?",
    "resiot.application-device.event.txack": "dev_eui? app_eui? stage? reference? error? connector? extra?",
    "resiot.application-device.event.ack": "dev_eui? app_eui? reference? connector? extra?",
    "resiot.gateway.event.alive": "gateway_eui? connector? extra?",
    "resiot.gateway.state": "state last_alive",
    "iotpro.asset.event.telemetry": "asset_id asset_name asset_profile values extra?",
    "iotpro.asset.event.attributes": "asset_id asset_name asset_profile values extra?",
    "iotpro.asset.state": "id name profile label? time? values attributes",
    "smartserver.dev-if.event.value": "datapoint value values? preset? localized? unit? priority? request? extra?",
    "smartserver.dev-if.state": "value time",
    "smartserver.dev.state": "state health name time",
    "smartserver.alarms.state": "active count time",
    "isymphony.user.state": "presence logins time",
    "isymphony.user.event.hangup": "type time? coreServerId? callSegmentId? callerIdName? callerIdNumber? did? "
    "extensionId? extensionNumber? userId? username? extra?",
}
ENVELOPE = "specversion id source type subject? time recordedtime session sequence replay? datacontenttype data"

# Commands: what is taken and what is not, with the defaults of what is left out.

OK, NOT = True, False
DOWNLINK, ATTRIBUTES, RPC = "resiot.application-device", "iotpro.asset", "iotpro.asset"
WINDOW = {"from": "2025-03-02T07:00:00Z", "to": "2025-03-02T09:00:00Z"}
BODIES: list[tuple[str, str, list[tuple[bool, Any]]]] = [
    ("resiot.application-device", "downlink", [
        (OK, {"f_port": 1, "payload": "/wE="}), (OK, {"f_port": 255, "text": "on"}), (NOT, {"f_port": 0, "text": "on"}),
        (NOT, {"f_port": 256, "text": "on"}), (NOT, {"text": "on"}), (NOT, {"f_port": 1.5, "text": "on"}),
        (OK, {"f_port": 2, "payload_hex": "ff", "confirmed": True, "connector": "c", "ws_command": "w"}),
        (OK, {"f_port": 2, "text": "on", "reference": "A-z_9" + "x" * 27}), (NOT, {"f_port": 2, "text": "", "a": 1}),
        (NOT, {"f_port": 2, "text": "on", "reference": "x" * 33}), (NOT, {"f_port": 2, "text": "on", "reference": ""}),
        (OK, {"f_port": 2, "text": "on", "confirm_timeout": "24h"}), (NOT, {"f_port": 2, "text": "", "confirmed": 1}),
        (OK, {"f_port": 2, "text": "on", "id": "a", "timeout": "10s", "idempotency_key": "k"}),
        (OK, {"f_port": 2, "text": "on", "id": 7}), (NOT, {"f_port": 2, "text": "on", "timeout": 10}),
    ]),
    ("iotpro.asset", "attributes", [
        (OK, {"values": {"a": 1}}), (OK, {"values": {"a": None}, "scope": "SHARED"}), (NOT, {"values": {}}),
        (OK, {"values": {"a": 1}, "scope": "SERVER"}), (NOT, {"values": {"a": 1}, "scope": "CLIENT"}), (NOT, {}),
    ]),
    ("iotpro.asset", "rpc", [
        (OK, {"method": "m"}), (NOT, {"method": ""}), (NOT, {"params": {}}), (OK, {"method": "m", "params": [1]}),
        (OK, {"method": "m", "oneway": True, "device": "d"}), (NOT, {"method": "m", "oneway": "yes"}),
    ]),
    ("iotpro", "filter", [(OK, {}), (OK, {"keys": ["a"]}), (OK, {"keys": {"p": ["a"]}, "profiles": []}),
                          (NOT, {"keys": "a"}), (NOT, {"attributes": ["a"]})]),
    ("iotpro", "resync", [(OK, {}), (NOT, {"assets": 1})]),
    ("smartserver.dev-if", "write", [
        (OK, {"value": None}), (OK, {"value": {"value": 1}, "priority": 1}), (OK, {"preset": "ON", "priority": 17}),
        (NOT, {"value": 1, "priority": 0}), (NOT, {"value": 1, "priority": 18}), (NOT, {"preset": 1}),
    ]),
    ("smartserver.dev-if", "release", [(OK, {"priority": 16}), (NOT, {"priority": 17}), (NOT, {})]),
    ("smartserver.dev-if", "read", [(OK, {}), (OK, {"max_age": "0s"}), (NOT, {"max_age": 0})]),
    ("smartserver.dev", "test", [(OK, {}), (NOT, {"value": 1})]),
    ("smartserver.dev", "wink", [(OK, {}), (NOT, {"value": 1})]),
    ("smartserver", "datalog", [
        (OK, {"datapoints": ["*"], **WINDOW}), (NOT, {"datapoints": ["*"]}), (NOT, WINDOW),
        (OK, {"datapoints": ["*"], **WINDOW, "limit": 1}), (NOT, {"datapoints": ["*"], **WINDOW, "limit": 0}),
    ]),
    ("smartserver", "clear_alarms", [(OK, {}), (OK, {"ids": [1, "2"]}), (NOT, {"ids": 1})]),
    ("smartserver", "filter", [(OK, {}), (OK, {"datapoints": ["a/*"]}), (NOT, {"datapoints": "a"})]),
    ("isymphony", "filter", [
        (OK, {}), (OK, {"filters": {}}), (OK, {"filters": {"type": ["hangup"]}}), (NOT, {"filters": "hangup"}),
        (OK, {"filters": [{"property": "type", "value": "hangup"}]}), (NOT, {"filters": [{"property": "type"}]}),
    ]),
    ("isymphony", "live", [(OK, {"path": "coreServers"}), (NOT, {})]),
    *((*place, [(OK, {}), (OK, {"id": "a"}), (NOT, {"force": True})]) for place in sorted(product(SUBJECTS, BACKEND))),
    *(("bridge", name, [(OK, {}), (NOT, {"x": 1})]) for name in ("ping", "health", "reload")),
    ("bridge", "log_level", [(OK, {"level": "debug"}), (NOT, {"level": "loud"}), (NOT, {})]),
]  # fmt: skip
DEFAULTS = {
    "resiot.Downlink": {"confirmed": False, "connector": "", "ws_command": "", "confirm_timeout": "24h"},
    "iotpro.AttributesBody": {"scope": "SERVER"},
    "iotpro.Rpc": {"params": {}, "oneway": False},
    "smartserver.Write": {"priority": 17},
    "smartserver.DataLog": {"limit": 10_000},
}

# Answers: status and code, and `data` of success; no table row: nothing in it.

ANSWERS = {
    "accepted": {202}, "sent": {200, 202}, "succeeded": {200}, "failed": {502}, "expired": {410}, "unknown": {408},
    "rejected": {400, 403, 404, 409, 429, 503},
}  # fmt: skip
DATA = {
    "resiot.application-device.response.downlink": {"reference": "r"},
    "iotpro.asset.response.rpc": {"result": [1]},
    "iotpro.response.filter": {"keys": ["a"], "profiles": []},
    "iotpro.response.resync": {"assets": 3},
    "smartserver.dev-if.response.read": {"value": 1},
    "smartserver.response.datalog": {"count": 0},
    "smartserver.response.filter": {"datapoints": ["a"], "count": 1},
    "smartserver.response.clear_alarms": {"ids": [1]},
    "isymphony.response.filter": {"filters": {}},
    "isymphony.response.live": [1],
    "bridge.response.ping": {"version": "1", "session": "2"},
}


def resolved(schema: Any) -> Any:
    name = schema.get("$ref", "").rpartition("/")[2]
    return WHOLE["components"]["schemas"][name] if name else schema


def payload(name: str, of: Any = WHOLE) -> Any:
    return of["channels"][name]["messages"]["message"]["payload"]


def validator(name: str) -> jsonschema_rs.Draft7Validator:
    return jsonschema_rs.Draft7Validator({"allOf": [payload(name)], "components": WHOLE["components"]})


def valid(name: str, value: Any) -> bool:
    return validator(name).is_valid(value)


def fields(schema: Any) -> str:
    """As in the tables."""
    found = resolved(schema)
    return " ".join(name if name in found.get("required", ()) else f"{name}?" for name in found["properties"])


def topics() -> Iterator[tuple[str, bool, int]]:
    """Every topic, whether it is retained, and its QoS."""
    for name in ("state", "info", "health"):
        yield f"ws2mqtt/bridge/{name}", name != "health", 1
    for name in BRIDGE:
        yield from _asked(f"ws2mqtt/bridge/command/{name}")
    for word, subjects in SUBJECTS.items():
        yield f"ws2mqtt/{word}/dead/{{reason}}", False, 0
        for subject, (events, state, commands) in subjects.items():
            place = f"ws2mqtt/{word}/{subject}" if subject else f"ws2mqtt/{word}"
            yield from ((f"{place}/event/{kind}", False, 1) for kind in events)
            yield from [(f"{place}/state", True, 1)] if state else []
            for name in commands:
                yield from _asked(f"{place}/command/{name}")


def _asked(command: str) -> Iterator[tuple[str, bool, int]]:
    yield command, False, 1
    yield command.replace("/command/", "/response/"), False, 1


def test_every_topic_whether_it_is_retained_and_its_qos() -> None:
    said = set()
    for one in WHOLE["operations"].values():
        mqtt = one["bindings"]["mqtt"]
        said.add((WHOLE["channels"][_last(one["channel"])]["address"], mqtt["retain"], mqtt["qos"]))
        if "reply" in one:
            said.add((WHOLE["channels"][_last(one["reply"]["channel"])]["address"], False, 1))
    assert said == set(topics())
    assert {one["address"] for one in WHOLE["channels"].values()} == {topic for topic, *_ in said}


def _last(reference: Any) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_payloads(name: str) -> None:
    told = payload(name)
    schema = told["allOf"][1]["properties"]["data"] if ".event." in name else told
    assert sorted(fields(schema).split()) == sorted(FIELDS[name].split())


def test_the_envelope_and_its_forms() -> None:
    cloud = WHOLE["components"]["schemas"]["CloudEvent"]
    assert sorted(fields(cloud).split()) == sorted(ENVELOPE.split())
    forms = product(("5", "3.1.1"), ("json", "msgpack"), ("structured", "binary"))
    for version, packed, envelope in forms:
        mqtt = MqttOptions(version=version, payload=packed, envelope=envelope)  # type: ignore[arg-type]
        made = document(Config(mqtt=mqtt))
        assert payload("bridge.state", made) == payload("bridge.state"), "plain JSON in every form"
        assert made["channels"]["bridge.state"]["messages"]["message"]["contentType"] == "application/json"


def test_what_a_frame_is_unread_for() -> None:
    reasons = WHOLE["channels"]["resiot.dead"]["parameters"]["reason"]["enum"]
    assert set(reasons) == {"not_json", "not_text", "wrong_shape", "too_large"}


def test_states_that_are_words() -> None:
    schemas = WHOLE["components"]["schemas"]
    backend = {"connecting", "online", "degraded", "offline", "auth_failed", "disabled"}
    for name, key, words in (
        ("BridgeState", "state", {"online", "draining", "offline"}), ("BackendState", "state", backend),
        ("Gap", "backfill", {"none", "started", "done", "partial"}),
        ("resiot.GatewayState", "state", {"online", "offline"}),
        ("isymphony.UserState", "presence", {"in", "out", "unknown"}),
        ("smartserver.Tested", "result", {"passed", "failed"}),
    ):  # fmt: skip
        assert set(schemas[name]["properties"][key]["enum"]) == words, name


# Commands


def test_bodies_of_every_command() -> None:
    told = {(place, name) for place, name, _ in BODIES}
    there = {tuple(one.split(".command.")) for one in WHOLE["channels"] if ".command." in one}
    assert told == there


@pytest.mark.parametrize(("place", "name", "bodies"), BODIES, ids=lambda one: one if isinstance(one, str) else "")
def test_what_a_command_takes(place: str, name: str, bodies: list[tuple[bool, Any]]) -> None:
    for taken, body in bodies:
        assert valid(f"{place}.command.{name}", body) is taken, body


def test_defaults_of_fields() -> None:
    for name, wanted in DEFAULTS.items():
        properties = WHOLE["components"]["schemas"][name]["properties"]
        told = {key: one["default"] for key, one in properties.items() if one.get("default") is not None}
        assert told == wanted, name


@pytest.mark.parametrize("name", [one for one in WHOLE["channels"] if ".response." in one])
def test_statuses_and_codes_of_responses(name: str) -> None:
    """Every status with every code, final or not, with an error or not: what goes together is valid, nothing else."""
    command = name.rpartition(".")[2]
    usual = {"command": command, "time": "2024-03-05T07:16:30.101222Z"}
    error = {"kind": "x", "message": "y"}
    judge = validator(name)
    for status, code, final, bad in product(get_args(ResponseStatus), get_args(Code), (True, False), (True, False)):
        told = {**usual, "status": status, "code": code, "final": final, **({"error": error} if bad else {})}
        known = status not in ("accepted", "sent") or command == "downlink"
        right = code in ANSWERS[status] and final == (code != 202) and bad == (code not in (200, 202))
        assert judge.is_valid(told) is (known and right), told


@pytest.mark.parametrize("name", [one for one in WHOLE["channels"] if ".response." in one])
def test_data_of_responses(name: str) -> None:
    command = name.rpartition(".")[2]
    usual = {"command": command, "time": "2024-03-05T07:16:30.101222Z", "status": "succeeded", "code": 200}
    assert valid(name, {**usual, "final": True})
    has = command in ("health", "log_level", "reload") or name in DATA
    assert valid(name, {**usual, "final": True, "data": DATA.get(name, {"x": 1})}) is (name in DATA), name
    assert ("data" in payload(name)["allOf"][1]["properties"]) is has
