"""`ws2mqtt schema`: what an editor takes is what the reader takes, as far as types go, and every key is explained."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from bridge.backends import PLATFORMS
from bridge.cli import main
from bridge.config.schema import DIALECT, schema
from tests.test_config import BOTH, LORA, OTHER_HEAD, REFUSED, TAKEN

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "config").glob("*.yaml"))


class Loader(yaml.SafeLoader):
    """YAML as an editor reads it: there are no dates in JSON, and what looks like one is a text."""


Loader.yaml_implicit_resolvers = {
    sign: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
    for sign, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def tree(text: str | bytes) -> Any:
    return yaml.load(text, Loader)


def validator(platforms: Any = BOTH) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema(platforms))


def test_it_is_a_schema() -> None:
    assert schema()["$schema"] == DIALECT
    jsonschema_rs.meta.validate(schema())


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_examples(file: Path) -> None:
    text = file.read_text()
    assert text.startswith("# yaml-language-server: $schema=ws2mqtt.schema.json\n"), "an editor finds it by this line"
    validator(PLATFORMS).validate(tree(text))


def test_the_schema_beside_the_examples_is_the_one_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Made anew by `ws2mqtt schema > config/ws2mqtt.schema.json`."""
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == (ROOT / "config" / "ws2mqtt.schema.json").read_text()


@pytest.mark.parametrize("text", sorted({text for text, *_ in TAKEN}))
def test_what_is_taken_is_valid(text: str) -> None:
    validator().validate(tree(text))


MORE = [
    "backends: {a: {type: '${TYPE}', anything: 1}}",
    "backends: {a: {type: resiot, url_file: /x}}",
    "backends: {a: {type: resiot, url: '', url_file: /x}}",
    "backends: {a: {type: resiot, url: '${URL:-}', url_file: /x}}",
    "backends: {a: {type: resiot, url: ws://h, idle: OFF, ping: 'No', ignore: }}",
    "mqtt: {qos: '${Q}', keepalive: '${K:-30s}', tls: , reconnect: ''}",
    OTHER_HEAD + "    password: p\n    limit: '9'\n    title: 123",
]


@pytest.mark.parametrize("text", MORE)
def test_what_else_is_valid(text: str) -> None:
    validator().validate(tree(text))


# What an editor marks: text, and the path of what is wrong
WRONG = [
    ("[]", []),
    ("mqqt: {}", []),
    ("mqtt: 5", ["mqtt"]),
    ("mqtt: {qso: 1}", ["mqtt"]),
    ("mqtt: {qos: 2}", ["mqtt", "qos"]),
    ("mqtt: {version: 4}", ["mqtt", "version"]),
    ("mqtt: {keepalive: 30}", ["mqtt", "keepalive"]),
    ("mqtt: {keepalive: soon}", ["mqtt", "keepalive"]),
    ("mqtt: {keepalive: off}", ["mqtt", "keepalive"]),
    ("mqtt: {username: yes}", ["mqtt", "username"]),
    ("mqtt: {url: [[mqtt://h]]}", ["mqtt", "url"]),
    ("mqtt: {url: {a: b}}", ["mqtt", "url"]),
    ("mqtt: {tls: {insecure: 7}}", ["mqtt", "tls", "insecure"]),
    ("mqtt: {tls: '${TLS}'}", ["mqtt", "tls"]),
    ("mqtt: {password: a, password_file: b}", ["mqtt"]),
    ("outbox: {max_bytes: 5 cats}", ["outbox", "max_bytes"]),
    ("outbox: {max_bytes: -1}", ["outbox", "max_bytes"]),
    ("log: {level: loud}", ["log", "level"]),
    ("shutdown_grace: '5'", ["shutdown_grace"]),
    ("backends: [a]", ["backends"]),
    ("backends: {a: }", ["backends"]),
    ("backends: {a: {url: ws://h}}", ["backends"]),
    ("backends: {a: {type: resoit}}", ["backends"]),
    ("backends: {a: {type: resiot}}", ["backends"]),
    ("backends: {Lora: {type: resiot, url: ws://h}}", ["backends"]),
    ("backends: {bridge: {type: resiot, url: ws://h}}", ["backends"]),
    (LORA[:-3] + ", pnig: 1s}}", ["backends"]),
    (LORA[:-3] + ", ping: 1}}", ["backends", "lora", "ping"]),
    (LORA[:-3] + ", ignore: [jion]}}", ["backends"]),
    (LORA[:-3] + ", commands: {rate: 5}}}", ["backends", "lora", "commands", "rate"]),
    (OTHER_HEAD, ["backends"]),
    (OTHER_HEAD + "    password: p\n    limit: 0", ["backends"]),
    (OTHER_HEAD + "    password: p\n    title: abcd", ["backends"]),
    (OTHER_HEAD + "    password: p\n    actions: {a: {method: GET}}", ["backends"]),
    (OTHER_HEAD + "    password: p\n    actions: {a: {path: x, method: PATCH}}", ["backends"]),
]


@pytest.mark.parametrize(("text", "path"), WRONG)
def test_what_is_wrong(text: str, path: list[str]) -> None:
    value = tree(text)
    with pytest.raises(jsonschema_rs.ValidationError):
        validator().validate(value)
    assert {tuple(error.instance_path[: len(path)]) for error in validator().iter_errors(value)} == {tuple(path)}


def test_much_of_what_the_reader_refuses_is_marked() -> None:
    """What is a matter of types; what is not, only `ws2mqtt check` can know."""
    texts = [text for text, *_ in REFUSED if len(text) < 500 and "&" not in str(text)]  # no bombs
    found = [text for text in texts if _is_json(text) and not validator().is_valid(tree(text))]
    assert len(found) >= 40


def _is_json(text: str | bytes) -> bool:
    try:
        value = tree(text)
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (yaml.YAMLError, TypeError, ValueError):
        return False


def properties(made: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key of the file that the schema knows."""
    if isinstance(made, list):
        for one in made:
            yield from properties(one, at)
    elif isinstance(made, dict):
        for name, one in made.get("properties", {}).items() if "additionalProperties" in made else ():
            yield f"{at}.{name}", one
        for name, one in made.items():
            yield from properties(one, at if name in ("anyOf", "properties") else f"{at}.{name}")


def test_every_key_is_explained_and_has_its_default() -> None:
    found = dict(properties(schema()))
    assert len(found) > 90
    for path, one in found.items():
        assert "const" in one or len(one["description"]) > 8, f"{path} has no words"
    lora = schema()["$defs"]["backend-resiot"]["properties"]
    assert lora["gateway_timeout"]["default"] == "5m"
    assert (lora["ping"]["default"], lora["idle"]["default"], lora["max_frame"]["default"]) == ("20s", "off", "16MiB")
    assert lora["ignore"]["default"] == ["rx"]
    assert lora["reconnect"]["properties"]["max"]["default"] == "60s"
    assert "default" not in lora["url"]
    shared = schema()["$defs"]
    assert shared["CommandOptions"]["properties"]["rate"]["default"] == "5/s"
    assert shared["MqttOptions"]["properties"]["reconnect"]["$ref"] == "#/$defs/Reconnect"
    assert shared["Reconnect"]["properties"]["initial"]["default"] == "1s"
    assert shared["OutboxOptions"]["properties"]["flush"]["default"] == "50ms"


def test_an_editor_shows_one_description_so_it_says_all() -> None:
    """The YAML language server shows the words of the form that fits, where it has any, in place of the key's own."""
    made = schema()
    keepalive = made["$defs"]["MqttOptions"]["properties"]["keepalive"]
    assert keepalive["description"] == (
        "1s to 65535s; also how long a missing PUBACK is waited for (a duration: 500ms 30s 5m 24h; default: 30s)"
    )
    for name in ("Boolean", "Duration", "Integer", "NotSet", "Number", "Off", "Rate", "Size", "Text", "Variable"):
        assert "description" not in made["$defs"][name], name
    assert made["$defs"]["backend-resiot"]["properties"]["idle"]["description"].endswith("default: off)")


def test_a_default_that_is_shown_is_the_default() -> None:
    """Each of them, written into a file, is valid."""
    for path, one in properties(schema()):
        if "default" in one:
            made = {**one, "$defs": schema()["$defs"], "$schema": DIALECT}
            assert jsonschema_rs.Draft202012Validator(made).is_valid(one["default"]), path


# What users were told of the file, in a table by hand: key, default (NONE: not set, MUST: has to be), how it is written

NONE, MUST = None, "must be given"
BACK_OFF = [("reconnect.initial", "1s", "a duration"), ("reconnect.max", "30s", "a duration")]
TLS = [("tls.ca_file", NONE, ""), ("tls.cert_file", NONE, ""), ("tls.key_file", NONE, ""), ("tls.insecure", False, "")]
FILE = [
    ("mqtt.url", ["mqtt://127.0.0.1:1883"], ""), ("mqtt.version", "5", ""), ("mqtt.client_id", "ws2mqtt", ""),
    ("mqtt.username", NONE, ""), ("mqtt.password", NONE, ""), ("mqtt.password_file", NONE, ""),
    ("mqtt.base_topic", "ws2mqtt", ""), ("mqtt.qos", 1, ""), ("mqtt.keepalive", "30s", "a duration"),
    *((f"mqtt.{key}", *rest) for key, *rest in (*BACK_OFF, *TLS)),
    ("mqtt.payload", "json", ""), ("mqtt.envelope", "structured", ""),
    ("outbox.path", NONE, ""), ("outbox.max_bytes", "256MiB", "a size"), ("outbox.max_age", "24h", "a duration"),
    ("outbox.flush", "50ms", "a duration"), ("http.listen", "127.0.0.1:9108", ""), ("log.level", "info", ""),
    ("log.format", "text", ""), ("shutdown_grace", "20s", "a duration"),
]  # fmt: skip
EVERY_BACKEND = [
    ("enabled", True, ""), ("required", False, ""), *TLS, ("tls.fingerprint", NONE, ""), ("proxy", NONE, ""),
    ("proxy_file", NONE, ""), ("reconnect.initial", "1s", "a duration"), ("reconnect.max", "60s", "a duration"),
    ("ping", "20s", "a duration"), ("idle", "off", "a duration"), ("max_frame", "16MiB", "a size"), ("ignore", [], ""),
    ("commands.allow", ["*"], ""), ("commands.rate", "5/s", "a rate"),
]  # fmt: skip
ACCOUNT = [("url", MUST, ""), ("username", MUST, ""), ("password", MUST, ""), ("password_file", NONE, "")]
BACKFILL = ("backfill.max", "24h", "a duration")
OWN: dict[str, list[tuple[str, Any, str]]] = {
    "resiot": [
        ("url", MUST, ""), ("url_file", NONE, ""), ("gateway_timeout", "5m", "a duration"), ("ignore", ["rx"], ""),
    ],
    "iotpro": [
        *ACCOUNT, ("keys", [], ""), ("attributes", [], ""), ("profiles", [], ""), ("text_keys", [], ""),
        ("page_size", 1000, ""), BACKFILL,
    ],
    "smartserver": [
        *ACCOUNT, ("datapoints", [], ""), ("poll", "off", "a duration"), BACKFILL, ("ignore", ["time", "load"], ""),
    ],
    "isymphony": [*ACCOUNT, ("filters", {}, ""), ("actions", {}, "")],
}  # fmt: skip


def told(of: Any, at: str = "") -> Iterator[tuple[str, Any, str]]:
    """Each key as the tables have it."""
    needed = {*of.get("required", ()), *(name for rule in of.get("allOf", ()) for name in _either(rule))}
    for name, one in of["properties"].items():
        inner = schema()["$defs"][one["$ref"].rpartition("/")[2]] | one if "$ref" in one else one
        if "properties" in inner:
            yield from told(inner, f"{at}{name}.")
        elif "const" not in one:
            form = next((form for form in ("a duration", "a size", "a rate") if f"({form}:" in one["description"]), "")
            yield f"{at}{name}", MUST if name in needed else one.get("default"), form


def _either(rule: Any) -> list[str]:
    """Of a secret that has to be given: itself, not its file."""
    return [one["required"][0] for one in rule.get("anyOf", ())][:1]


def test_keys_of_the_file_are_those_that_users_were_told() -> None:
    made = schema()
    del made["properties"]["backends"]
    assert sorted(told(made), key=str) == sorted(FILE, key=str)


@pytest.mark.parametrize("word", OWN)
def test_keys_of_a_backend_are_those_that_users_were_told(word: str) -> None:
    wanted = {one[0]: one for one in (*EVERY_BACKEND, *OWN[word])}
    assert sorted(told(schema()["$defs"][f"backend-{word}"]), key=str) == sorted(wanted.values(), key=str)
