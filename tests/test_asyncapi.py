"""`ws2mqtt asyncapi`: the document is whole, speaks of one configuration, and the tests' judge takes it at its word.

That it is true is seen elsewhere: every ear of every suite holds what it heard against it. That AsyncAPI's own parser
takes it is a step of `.ci/run`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from bridge import __version__
from bridge.asyncapi import document
from bridge.backends import PLATFORMS
from bridge.backends.resiot.options import ResiotOptions
from bridge.cli import main
from bridge.command_fields import converted
from bridge.config import Config, load
from bridge.errors import BadCommand
from bridge.options import MqttOptions, Secret, Tls
from tests.backends import examples
from tests.backends.examples import written
from tests.backends.samples import SAMPLES
from tests.support import Publish, published
from tests.support.published import Judge, promised

SECRETS = {"RESIOT_TOKEN": "t0psecret", "P": "passw0rd"}
CONFIG = """
mqtt:
  url: [mqtts://broker.example, "wss://[::1]:9001/socket?key=passw0rd"]
  username: me
  password: ${P}
  base_topic: a/b
  qos: 0
  payload: msgpack
  envelope: binary
backends:
  lora: {type: resiot, url: "wss://h/?token=${RESIOT_TOKEN}", ignore: [rx, tx], commands: {allow: [down*]}}
  pbx:
    type: isymphony
    url: ws://h
    username: u
    password: ${P}
    actions: {dial-out: {path: "a/{extension}", body: {n: "{number}"}}}
  pbx-2: {type: isymphony, url: ws://g, username: u, password: "${P}", actions: {dial-out: {path: "b/{who}"}}}
"""


@pytest.fixture(scope="module")
def whole() -> Any:
    return document()


@pytest.fixture
def configured(tmp_path: Path) -> Any:
    file = tmp_path / "ws2mqtt.yaml"
    file.write_text(CONFIG)
    return document(load(str(file), SECRETS))


def addresses(made: Any) -> set[str]:
    return {one["address"] for one in made["channels"].values()}


def references(made: Any) -> Iterator[str]:
    if isinstance(made, dict):
        for name, one in made.items():
            if name == "$ref":
                yield one
            else:
                yield from references(one)
    elif isinstance(made, list):
        for one in made:
            yield from references(one)


def test_every_reference_leads_somewhere(whole: Any, configured: Any) -> None:
    for made in (whole, configured):
        for reference in references(made):
            found = made
            for name in reference.removeprefix("#/").split("/"):
                found = found[name]


def test_every_schema_is_one(whole: Any) -> None:
    for schema in whole["components"]["schemas"].values():
        jsonschema_rs.Draft7Validator({**schema, "components": whole["components"]})


def test_every_field_is_explained(whole: Any, configured: Any) -> None:
    for made in (whole, configured):
        fields = [(name, *one) for name, of in made["components"]["schemas"].items() for one in _properties(of)]
        assert len(fields) > 150
        assert [(name, key) for name, key, one in fields if len(one.get("description", "")) < 4] == []


def _properties(schema: Any) -> Iterator[tuple[str, Any]]:
    yield from schema.get("properties", {}).items()


def test_generators_find_names(whole: Any) -> None:
    told = [one for one in whole["channels"].values() if "/response/" in one["address"] or "/event/" in one["address"]]
    titles = {one["messages"]["message"]["payload"]["title"] for one in told}
    assert {"resiot.application-device.event.up", "resiot.downlink.response"} <= titles


# Examples


def test_examples_are_what_sessions_and_the_writer_make_of_the_samples() -> None:
    """Made anew by `python -m tests.backends.examples > bridge/asyncapi/examples.json`."""
    assert (Path(examples.__file__).parents[2] / "bridge/asyncapi/examples.json").read_text("utf-8") == written()


def test_every_example_is_used_and_every_type_of_event_has_one(whole: Any) -> None:
    used = {name for name, one in whole["channels"].items() if "examples" in one["messages"]["message"]}
    assert examples.examples().keys() == {name for name in used if ".response." not in name}
    for word, platform in PLATFORMS.items():
        told = {name.rpartition(".")[2] for name in used if name.startswith(f"{word}.") and ".event." in name}
        assert told - {"type"} == set(platform.events)
        states = {subject.levels for subject in platform.subjects if subject.state is not None}
        assert len([name for name in used if name.startswith(f"{word}.") and name.endswith(".state")]) == len(states)
        for spec in platform.commands:
            assert any(name.startswith(f"{word}.") and name.endswith(f"command.{spec.name}") for name in used)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("payload", ["json", "msgpack"])
@pytest.mark.parametrize("envelope", ["structured", "binary"])
def test_examples_are_valid_in_every_form(version: Any, payload: Any, envelope: Any) -> None:
    mqtt = MqttOptions(version=version, payload=payload, envelope=envelope, base_topic="a/b")
    lora = ResiotOptions(url=Secret("ws://h"), ignore=())
    made = document(Config(mqtt=mqtt, backends={"lora": lora}))
    found = 0
    for name, channel in made["channels"].items():
        message = channel["messages"]["message"]
        for example in message.get("examples", ()):
            for part in ("payload", *(("headers",) if "headers" in message else ())):
                _validator(made, message[part]).validate(example[part])
                found += 1
            if ".event." in name and envelope == "structured":
                assert example["payload"]["source"] == "/a/b/lora"
    assert found > 20


def _validator(made: Any, schema: Any) -> jsonschema_rs.Draft7Validator:
    return jsonschema_rs.Draft7Validator({"allOf": [schema], "components": made["components"]})


def test_examples_of_every_platform_are_valid(whole: Any) -> None:
    for channel in whole["channels"].values():
        message = channel["messages"]["message"]
        for example in message.get("examples", ()):
            _validator(whole, message["payload"]).validate(example["payload"])


@pytest.mark.parametrize("word", PLATFORMS)
def test_every_event_and_command_of_a_platform_is_there(whole: Any, word: str) -> None:
    platform = PLATFORMS[word]
    told = {kind for subject in platform.subjects for kind in subject.events}
    assert told | {"gap"} == set(platform.events)
    events = {
        one.rpartition("/")[2] for one in addresses(whole) if one.startswith(f"ws2mqtt/{word}/") and "/event/" in one
    }
    assert events - {"{type}"} == set(platform.events)
    for spec in platform.commands:
        path = "/".join(filter(None, (spec.subject, "command", spec.name)))
        wanted = [
            one
            for one in addresses(whole)
            if one.startswith(f"ws2mqtt/{word}/") and one.endswith(f"command/{spec.name}")
        ]
        assert len(wanted) == 1
        assert len(wanted[0].split("/")) == 2 + len(path.split("/")), "where the command is taken"


def test_the_bridge_itself(whole: Any) -> None:
    assert whole["asyncapi"] == "3.0.0"
    assert whole["info"]["version"] == __version__
    will = {"topic": "ws2mqtt/bridge/state", "qos": 1, "retain": True}
    mqtt = {"clientId": "ws2mqtt", "cleanSession": True, "keepAlive": 30, "lastWill": will, "bindingVersion": "0.2.0"}
    there = {"host": "127.0.0.1:1883", "protocol": "mqtt", "protocolVersion": "5", "bindings": {"mqtt": mqtt}}
    assert whole["servers"]["broker"] == there
    own = {f"ws2mqtt/bridge/{one}" for one in ("state", "info", "health")}
    both = {
        f"ws2mqtt/bridge/{way}/{one}"
        for way in ("command", "response")
        for one in ("ping", "health", "log_level", "reload")
    }
    assert {one for one in addresses(whole) if one.startswith("ws2mqtt/bridge/")} == own | both


def test_what_is_retained_and_who_speaks(whole: Any) -> None:
    retained = {
        whole["channels"][one["channel"]["$ref"].rpartition("/")[2]]["address"]
        for one in whole["operations"].values()
        if one["bindings"]["mqtt"]["retain"]
    }
    assert all(one.endswith(("/state", "bridge/info")) for one in retained)
    assert {one for one in addresses(whole) if one.endswith("/state")} <= retained
    for name, one in whole["operations"].items():
        command = "command" in name.split(".")
        assert one["action"] == ("receive" if command else "send")
        assert ("reply" in one) is command
        assert one["bindings"]["mqtt"]["qos"] == (0 if name.endswith(".dead") else 1)


def test_of_one_configuration(configured: Any) -> None:
    assert {one.split("/")[2] for one in addresses(configured)} == {"bridge", "lora", "pbx", "pbx-2"}
    there = {one.removeprefix("a/b/lora/") for one in addresses(configured)}
    device = "application/{app_eui}/device/{dev_eui}"
    assert {f"{device}/event/up", f"{device}/command/downlink", "state", "event/gap"} <= there
    assert not there & {f"{device}/event/tx", "gateway/{gateway_eui}/event/rx", "command/reconnect"}
    assert configured["operations"]["lora.state"]["bindings"]["mqtt"]["qos"] == 0
    up = configured["channels"]["lora.application-device.event.up"]["messages"]["message"]
    assert up["contentType"] == "application/msgpack"
    assert up["payload"] == {"$ref": "#/components/schemas/resiot.Uplink"}
    assert up["headers"]["allOf"][1]["properties"]["source"] == {"const": "/a/b/lora"}


def test_actions_of_one_configuration(configured: Any) -> None:
    """Two backends may have two actions of one name."""
    for backend, fields in (("pbx", {"extension", "number"}), ("pbx-2", {"who"})):
        message = configured["channels"][f"{backend}.command.dial-out"]["messages"]["message"]
        found = configured["components"]["schemas"][message["payload"]["$ref"].rpartition("/")[2]]
        assert set(found["properties"]) == fields | {"id", "timeout", "idempotency_key"}
        assert set(found["required"]) == fields


def test_braces_in_the_base_topic_are_no_parameter_of_a_channel(tmp_path: Path) -> None:
    file = tmp_path / "ws2mqtt.yaml"
    file.write_text("mqtt: {base_topic: 'a {b c}/{'}\nbackends: {lora: {type: resiot, url: ws://h}}")
    for name, channel in document(load(str(file), {}))["channels"].items():
        assert channel["address"].startswith("{base_topic}/"), name
        assert channel["parameters"]["base_topic"]["enum"] == ["a {b c}/{"], name
        assert set(re.findall(r"\{([^{}]*)\}", channel["address"])) == set(channel["parameters"]), name


def test_the_brokers(configured: Any) -> None:
    account = {"security": [{"$ref": "#/components/securitySchemes/account"}]}
    for server in configured["servers"].values():
        assert server.pop("bindings")["mqtt"]["lastWill"] == {"topic": "a/b/bridge/state", "qos": 0, "retain": True}
    assert configured["servers"] == {
        "broker": {"host": "broker.example:8883", "protocol": "mqtts", "protocolVersion": "5", **account},
        "broker-2": {"host": "[::1]:9001", "protocol": "wss", "protocolVersion": "5", "pathname": "/socket", **account},
    }
    for secret in SECRETS.values():
        assert secret not in json.dumps(configured)


def test_a_certificate_is_a_way_to_be_known() -> None:
    tls = Tls(cert_file="client.pem", key_file="client.key")
    made = document(Config(mqtt=MqttOptions(url=("mqtts://h",), username="me", tls=tls)))
    told = [one["$ref"].rpartition("/")[2] for one in made["servers"]["broker"]["security"]]
    assert [made["components"]["securitySchemes"][one]["type"] for one in told] == ["userPassword", "X509"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WS2MQTT_CONFIG", raising=False)
    assert main(["asyncapi"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(document()))
    file = tmp_path / "ws2mqtt.yaml"
    file.write_text("mqtt: {base_topic: x}\nbackends: {lora: {type: resiot, url: ws://h}}")
    assert main(["asyncapi", "-c", str(file)]) == 0
    assert {one.split("/")[0] for one in addresses(json.loads(capsys.readouterr().out))} == {"x"}
    assert main(["asyncapi", "-c", str(tmp_path / "none.yaml")]) == 78


# Commands: what the document refuses, the bridge refuses


@pytest.mark.parametrize("word", PLATFORMS)
def test_sample_commands(whole: Any, word: str) -> None:
    specs = {spec.name: spec for spec in PLATFORMS[word].commands}
    for sample in SAMPLES[word].commands:
        if (spec := specs.get(sample.name)) is None:
            continue
        channel = next(
            one
            for name, one in whole["channels"].items()
            if name.startswith(f"{word}.") and name.endswith(f"command.{spec.name}")
        )
        schema = {**channel["messages"]["message"]["payload"], "components": whole["components"]}
        valid = jsonschema_rs.Draft7Validator({"allOf": [{"$ref": schema.pop("$ref")}], **schema}).is_valid(
            sample.fields
        )
        try:
            converted(sample.fields, spec.body)
        except BadCommand:
            assert not valid, sample
        else:
            assert valid, sample


# The judge

UP = {
    "specversion": "1.0", "id": "a8479d80e47fa41f6fc0759d4c8db499", "source": "/ws2mqtt/resiot", "type": "resiot.up",
    "subject": "application/70b3/device/a817", "time": "2024-03-05T07:16:30.007145Z",
    "recordedtime": "2024-03-05T07:16:30.101222Z", "session": "1709622990101", "sequence": "0000000000000042",
    "datacontenttype": "application/json", "data": {"dev_eui": "a817", "f_port": 5, "extra": {"DevAddr": "1"}},
}  # fmt: skip
UP_TOPIC = "ws2mqtt/resiot/application/70b3/device/a817/event/up"
RESPONSE = {"command": "downlink", "status": "sent", "final": True, "code": 200, "time": "2024-03-05T07:16:30.007145Z"}
ERROR = {"kind": "no_such_command", "message": "no command 'nonsense'"}
NONSENSE = {**RESPONSE, "command": "nonsense", "status": "rejected", "code": 404, "error": ERROR}
OTHER = {**UP, "source": "/ws2mqtt/isymphony", "type": "isymphony.somethingNew", "data": {"a": 1}}
STATE = {"state": "online", "since": None, "attempt": 0, "next_retry": None, "error": None, "last_event": None}

GOOD: list[tuple[str, Any]] = [
    (UP_TOPIC, UP),
    (UP_TOPIC.replace("event/up", "command/downlink"), "whatever a test says"),
    (UP_TOPIC.replace("event/up", "response/downlink"), {**RESPONSE, "id": 7, "data": {"reference": "r"}}),
    (UP_TOPIC.replace("event/up", "response/nonsense"), NONSENSE),
    ("ws2mqtt/resiot/state", STATE),
    ("ws2mqtt/isymphony/user/anna/event/somethingNew", OTHER),
]  # fmt: skip
BAD: list[tuple[str, Any, str]] = [
    (UP_TOPIC, {**UP, "id": "A8"}, "id: "),
    (UP_TOPIC, {**UP, "type": "resiot.down"}, "type: "),
    (UP_TOPIC, {**UP, "source": "/x"}, "source: "),
    (UP_TOPIC, {**UP, "surprise": 1}, "surprise"),
    (UP_TOPIC, {name: one for name, one in UP.items() if name != "subject"}, "subject"),
    (UP_TOPIC, {**UP, "data": {"dev_eui": "a817", "rssi": 5}}, "rssi"),
    (UP_TOPIC, {**UP, "data": {"f_port": "5"}}, "data.f_port: "),
    (UP_TOPIC, {**UP, "data": {"rx_info": [{"gateway_eui": "a", "colour": 1}]}}, "colour"),
    (UP_TOPIC.replace("/up", "/upp"), UP, "no channel"),
    ("ws2mqtt/resiot/event/gap", {**UP, "type": "resiot.gap", "data": {}}, "subject"),
    (UP_TOPIC.replace("event/up", "response/downlink"), {**RESPONSE, "code": 201}, "code: "),
    (UP_TOPIC.replace("event/up", "response/downlink"), {**RESPONSE, "data": {"refrence": "r"}}, "data"),
    (UP_TOPIC.replace("event/up", "response/nonsense"), {**RESPONSE, "command": "nonsense"}, "no refusal"),
    ("ws2mqtt/resiot/response/reconnect", {**RESPONSE, "command": "reconnect", "data": 1}, "not allowed"),
    ("ws2mqtt/resiot/state", {**STATE, "state": "fine"}, "state: "),
    ("ws2mqtt/resiot/state", {**STATE, "mood": "fine"}, "mood"),
    ("ws2mqtt/resiot/gateway/0a/state", {"state": "online"}, "last_alive"),
    ("ws2mqtt/resiot/weather", {}, "no channel"),
]  # fmt: skip


def said(topic: str, value: Any) -> Publish:
    return Publish(topic, msgspec.json.encode(value))


def test_the_judge_takes_what_is_published(whole: Any) -> None:
    judge = Judge(whole)
    for topic, value in GOOD:
        assert judge.fault(said(topic, value)) is None, topic


@pytest.mark.parametrize(("topic", "value", "part"), BAD)
def test_the_judge_finds_what_is_not(whole: Any, topic: str, value: Any, part: str) -> None:
    fault = Judge(whole).fault(said(topic, value))
    assert fault is not None
    assert part in fault


def test_the_judge_knows_answers_elsewhere(whole: Any) -> None:
    judge = Judge(whole)
    for right in (RESPONSE, NONSENSE):
        assert judge.answer(said("my/answers", right)) is None
    wrongs: list[Any] = [{**RESPONSE, "code": 400}, {**RESPONSE, "command": "nonsense"}, {"a": 1}, [], 7]
    for wrong in wrongs:
        assert judge.answer(said("my/answers", wrong)) is not None, wrong


def test_nothing_below_a_base_topic_escapes_the_judge(tmp_path: Path) -> None:
    file = tmp_path / "ws2mqtt.yaml"
    file.write_text(f"mqtt: {{base_topic: {tmp_path.name}}}\nbackends: {{lora: {{type: resiot, url: ws://h}}}}")
    promised(file, {})
    published.judge([said(f"{tmp_path.name}/lora/state", STATE), said("elsewhere/x", 1)])
    published.said(f"{tmp_path.name}/mine", b"1")
    published.judge([said(f"{tmp_path.name}/mine", 1), said(f"{tmp_path.name}/lora/command/x", 1)])
    for path, value in (("lroa/state", STATE), ("x", 1), ("lora/state", {})):
        with pytest.raises(AssertionError, match="not as published"):
            published.judge([said(f"{tmp_path.name}/{path}", value)])


def test_the_judge_looks_at_the_envelope(configured: Any) -> None:
    judge, topic = Judge(configured), "a/b/lora/application/70b3/device/a817/event/up"
    payload = msgspec.msgpack.encode({"dev_eui": "a817"})
    attributes = {name: one for name, one in UP.items() if name != "data"} | {"source": "/a/b/lora"}
    whole = Publish(topic, payload, user_properties=tuple((name, str(one)) for name, one in attributes.items()))
    assert judge.fault(whole) is None
    assert "user properties" in str(judge.fault(Publish(topic, payload)))
    told = Publish(topic, payload, properties={"content_type": "application/json"})
    assert "content type" in str(judge.fault(told))
