"""The configuration: what is taken, what is refused with which words, and that no secret is ever shown."""

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from bridge.backends import PLATFORMS
from bridge.backends.session import Platform
from bridge.config import Config, describe, load, secrets
from bridge.config.findings import check
from bridge.errors import BadConfig, Problem
from bridge.options import BackendOptions, Duration, Secret

SECRET = "hunter2-s3cr3t"
ROOT = Path(__file__).parent.parent
LORA = f"backends: {{lora: {{type: resiot, url: 'wss://h/?token={SECRET}'}}}}\n"


class Action(Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    method: Literal["GET", "POST"] = "POST"
    body: dict[str, Any] = field(default_factory=dict)


class OtherOptions(BackendOptions, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="other"):
    """A platform of another shape: what is read by type alone."""

    url: str
    username: str
    password: Secret
    keys: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    poll: Duration | None = None
    page_size: int = 1000
    factor: float = 1.0
    limit: Annotated[int, Meta(ge=1)] = 10
    title: Annotated[str, Meta(max_length=3)] = "t"
    wait: Annotated[Duration, Meta(description="seconds")] = Duration(1.0)
    either: Literal["a", 7] | None = None
    actions: dict[str, Action] = field(default_factory=dict)

    def check(self) -> Iterator[tuple[str, str]]:
        if self.password.reveal() == "weak":
            yield "password", "too weak"

    @property
    def exclusive(self) -> tuple[str, ...] | None:
        return ("title", self.title) if self.title == "own" else None


OTHER = Platform(
    word="other", options=OtherOptions, session=PLATFORMS["resiot"].session, events=("value", "load"), commands=()
)
BOTH = {"resiot": PLATFORMS["resiot"], "other": OTHER}  # two are enough, and their words are in messages
OTHER_HEAD = "backends:\n  hq:\n    type: other\n    url: http://h\n    username: u\n"


def read(folder: Path, text: str | bytes, environ: Mapping[str, str] | None = None) -> Config:
    file = folder / "ws2mqtt.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(str(file), environ or {}, BOTH)


def refused(folder: Path, text: str | bytes, environ: Mapping[str, str] | None = None) -> list[Problem]:
    with pytest.raises(BadConfig) as caught:
        read(folder, text, environ)
    assert SECRET not in str(caught.value)
    return caught.value.problems


def at(value: object, path: str) -> object:
    for name in path.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value.reveal() if isinstance(value, Secret) else value


# What is taken: text, environment, path, value
TAKEN: list[tuple[str, dict[str, str], str, object]] = [
    ("", {}, "mqtt.url", ("mqtt://127.0.0.1:1883",)),
    ("", {}, "shutdown_grace", 20.0),
    ("", {}, "backends", {}),
    ("backends:", {}, "backends", {}),
    ("mqtt:", {}, "mqtt.qos", 1),
    ("\ufeffmqtt: {qos: 0}", {}, "mqtt.qos", 0),
    # variables
    ("mqtt: {username: '${U}'}", {"U": "me"}, "mqtt.username", "me"),
    ("mqtt: {username: 'a-${U:-you}-${V:-}'}", {}, "mqtt.username", "a-you-"),
    ("mqtt: {username: '${U:-you}'}", {"U": ""}, "mqtt.username", "you"),
    ("mqtt: {username: '$${U} $5'}", {"U": "me"}, "mqtt.username", "${U} $5"),
    ("mqtt: {username: '${U}'}", {"U": "${V}"}, "mqtt.username", "${V}"),
    ("mqtt: {qos: '${Q}'} # ${UNSET}", {"Q": "0"}, "mqtt.qos", 0),
    ("mqtt: {tls: {insecure: '${I}'}}", {"I": "true"}, "mqtt.tls.insecure", True),
    ("http: {listen: '${L}'}", {"L": "off"}, "http.listen", None),
    ("mqtt: {url: ['${A:-}', '${B}']}", {"B": "ws://b"}, "mqtt.url", ("ws://b",)),
    ("mqtt: {password: '${P}'}", {"P": "a: #b"}, "mqtt.password", "a: #b"),
    # an empty value is not set
    ("mqtt: {username: '', base_topic: null, qos: ''}", {}, "mqtt.base_topic", "ws2mqtt"),
    ("mqtt: {username: ''}", {}, "mqtt.username", None),
    ("mqtt: {client_id: '${C:-}'}", {}, "mqtt.client_id", "ws2mqtt"),
    # texts keep what was written
    ("mqtt: {client_id: 42}", {}, "mqtt.client_id", "42"),
    ("mqtt: {client_id: 007}", {}, "mqtt.client_id", "007"),
    ("mqtt: {username: 22:30}", {}, "mqtt.username", "22:30"),
    ("mqtt: {username: 2024-01-01}", {}, "mqtt.username", "2024-01-01"),
    ("mqtt: {username: 'on'}", {}, "mqtt.username", "on"),
    # types
    ("mqtt: {version: 5}", {}, "mqtt.version", "5"),
    ("mqtt: {version: 3.1.1}", {}, "mqtt.version", "3.1.1"),
    ("mqtt: {url: 'wss://[::1]:9001/mqtt?x=1'}", {}, "mqtt.url", ("wss://[::1]:9001/mqtt?x=1",)),
    ("mqtt: {url: [mqtts://a, 'mqtt://b:1/']}", {}, "mqtt.url", ("mqtts://a", "mqtt://b:1/")),
    ("mqtt: {base_topic: a/b c}", {}, "mqtt.base_topic", "a/b c"),
    ("shutdown_grace: 500ms", {}, "shutdown_grace", 0.5),
    ("shutdown_grace: 0s", {}, "shutdown_grace", 0.0),
    ("outbox: {max_bytes: 1KiB}", {}, "outbox.max_bytes", 1024),
    ("outbox: {max_bytes: 1000}", {}, "outbox.max_bytes", 1000),
    ("http: {listen: off}", {}, "http.listen", None),
    ("http: {listen: 'OFF'}", {}, "http.listen", None),
    ("http: {listen: '[::]:9108'}", {}, "http.listen", "[::]:9108"),
    (LORA, {}, "backends.lora.url", f"wss://h/?token={SECRET}"),
    (LORA, {}, "backends.lora.ignore", ("rx",)),
    (LORA[:-3] + ", ignore: []}}", {}, "backends.lora.ignore", ()),
    (LORA[:-3] + ", ignore: up}}", {}, "backends.lora.ignore", ("up",)),
    (LORA[:-3] + ", ping: off, idle: 1m}}", {}, "backends.lora.ping", None),
    (LORA[:-3] + ", ping: 'off', idle: 1m}}", {}, "backends.lora.idle", 60.0),
    (LORA[:-3] + ", ping: null}}", {}, "backends.lora.ping", 20.0),
    (LORA[:-3] + ", reconnect: {initial: 40s}}}", {}, "backends.lora.reconnect.max", 60.0),
    (LORA[:-3] + ", commands: {rate: 30/m}}}", {}, "backends.lora.commands.rate", 0.5),
    (LORA[:-3] + ", proxy: 'socks5h://u:p@h:1080'}}", {}, "backends.lora.proxy", "socks5h://u:p@h:1080"),
    (LORA[:-3] + f", tls: {{fingerprint: {'12:' * 31}34}}}}}}", {}, "backends.lora.tls.fingerprint", "12:" * 31 + "34"),
    # YAML's own means
    ("mqtt: {tls: &t {insecure: yes}}\nbackends: {a: {type: resiot, url: ws://h, tls: *t}}", {},
     "backends.a.tls.insecure", True),
    ("backends: {a: &a {type: resiot, url: ws://h, ping: 1s}, b: {<<: *a, ping: 2s}}", {}, "backends.b.ping", 2.0),
    ("backends: {a: &a {type: resiot, url: ws://h}, b: {<<: [*a, {ping: 3s}]}}", {}, "backends.b.ping", 3.0),
    ("backends: {a: &a {type: resiot, url: ws://a}, b: {<<: [{url: ws://b}, *a]}}", {}, "backends.b.url", "ws://b"),
    # overrides
    ("mqtt: {qos: 1}", {"WS2MQTT__MQTT__QOS": "0"}, "mqtt.qos", 0),
    ("", {"ws2mqtt__Mqtt__qos": "0"}, "mqtt.qos", 0),
    ("", {"WS2MQTT_MQTT_QOS": "7", "WS2MQTT__MQTT__QOS": ""}, "mqtt.qos", 1),
    ("mqtt: {username: '${UNSET}'}", {"WS2MQTT__MQTT__USERNAME": "a: ${b} #c"}, "mqtt.username", "a: ${b} #c"),
    ("", {"WS2MQTT__MQTT__USERNAME": "on"}, "mqtt.username", "on"),
    ("", {"WS2MQTT__MQTT__USERNAME": "'q'"}, "mqtt.username", "q"),
    ("", {"WS2MQTT__MQTT__USERNAME": "'q"}, "mqtt.username", "'q"),
    ("", {"WS2MQTT__MQTT__PASSWORD": " [\"x'"}, "mqtt.password", " [\"x'"),
    ("", {"WS2MQTT__MQTT__URL": "[mqtt://a, mqtt://b]"}, "mqtt.url", ("mqtt://a", "mqtt://b")),
    ("", {"WS2MQTT__MQTT__URL": "mqtt://a"}, "mqtt.url", ("mqtt://a",)),
    ("", {"WS2MQTT__MQTT__TLS__INSECURE": "yes"}, "mqtt.tls.insecure", True),
    ("", {"WS2MQTT__MQTT__TLS": "{insecure: true}"}, "mqtt.tls.insecure", True),
    ("", {"WS2MQTT__HTTP__LISTEN": "off"}, "http.listen", None),
    ("", {"WS2MQTT__HTTP__LISTEN": "[::1]:80"}, "http.listen", "[::1]:80"),
    ("", {"WS2MQTT_LISTEN": "0.0.0.0:1"}, "http.listen", "0.0.0.0:1"),
    ("http: {listen: '${L:-}'}", {"WS2MQTT_LISTEN": "0.0.0.0:1"}, "http.listen", "0.0.0.0:1"),
    ("http: {listen: 127.0.0.1:9108}", {"WS2MQTT_LISTEN": "0.0.0.0:1"}, "http.listen", "127.0.0.1:9108"),
    ("http: {listen: off}", {"WS2MQTT_LISTEN": "0.0.0.0:1"}, "http.listen", None),
    ("http: {listen: off}", {"WS2MQTT_LISTEN": "off"}, "http.listen", None),
    ("", {"WS2MQTT_LISTEN": "0.0.0.0:1", "WS2MQTT__HTTP__LISTEN": "[::1]:80"}, "http.listen", "[::1]:80"),
    ("http: {}", {"WS2MQTT_LISTEN": ""}, "http.listen", "127.0.0.1:9108"),
    ("outbox: {path: /tmp}", {"WS2MQTT__OUTBOX__PATH": "null"}, "outbox.path", None),
    ("mqtt: {password_file: /nonexistent}", {"WS2MQTT__MQTT__PASSWORD": "p"}, "mqtt.password", "p"),
    (LORA.replace("lora", "my-lora"), {"WS2MQTT__BACKENDS__MY_LORA__IGNORE": "[up, tx]"}, "backends.my-lora.ignore",
     ("up", "tx")),
    (LORA, {"WS2MQTT__BACKENDS__NEW_ONE__TYPE": "resiot", "WS2MQTT__BACKENDS__NEW_ONE__URL": "ws://n"},
     "backends.new-one.url", "ws://n"),
    ("backends: {a: &a {type: resiot, url: ws://h}, b: *a}", {"WS2MQTT__BACKENDS__B__URL": "ws://b"},
     "backends.a.url", "ws://h"),
    # another platform, by its types alone
    (OTHER_HEAD + "    password: p\n    keys: [a, 1]", {}, "backends.hq.keys", ("a", "1")),
    (OTHER_HEAD + "    password: p\n    keys: a", {}, "backends.hq.keys", ("a",)),
    (OTHER_HEAD + "    password: p\n    keys: {x: [a], y: b}", {}, "backends.hq.keys", {"x": ("a",), "y": ("b",)}),
    (OTHER_HEAD + "    password: p\n    poll: off", {}, "backends.hq.poll", None),
    (OTHER_HEAD + "    password: p\n    poll: 2s", {}, "backends.hq.poll", 2.0),
    (OTHER_HEAD + "    password: p\n    factor: 2.5", {}, "backends.hq.factor", 2.5),
    (OTHER_HEAD + "    password: p\n    limit: 9", {}, "backends.hq.limit", 9),
    (OTHER_HEAD + "    password: p\n    wait: 2m", {}, "backends.hq.wait", 120.0),
    (OTHER_HEAD + "    password: p\n    either: 7", {}, "backends.hq.either", 7),
    (OTHER_HEAD + "    password: p", {"WS2MQTT__BACKENDS__HQ__PAGE_SIZE": "7"}, "backends.hq.page_size", 7),
    (OTHER_HEAD + "    password: p", {"WS2MQTT__BACKENDS__HQ__KEYS__X": "[a]"}, "backends.hq.keys", {"x": ("a",)}),
    (OTHER_HEAD + "    password: p\n    actions: {dial: {path: x, body: {n: '{n}', k: [1, 2.5, yes, null, '']}}}", {},
     "backends.hq.actions.dial.body", {"n": "{n}", "k": [1, 2.5, True, None, ""]}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "environ", "path", "value"), TAKEN)
def test_taken(tmp_path: Path, text: str, environ: dict[str, str], path: str, value: object) -> None:
    found = at(read(tmp_path, text, environ), path)
    assert found == value
    assert type(found) is not bool or isinstance(value, bool)


BILLION = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))

# What is refused: text, path, part of the message
REFUSED: list[tuple[str | bytes, str, str]] = [
    # not YAML, or not of the form
    ("- a", "", "must be a mapping"),
    ("a", "", "must be a mapping"),
    ("mqtt: [", "", "line 1, column 8: "),
    ("mqtt: {qos]", "", "line 1, column 11: expected ',' or '}', but got ']'"),
    ("mqtt:\n\tqos: 1", "", "line 2, column 1: a tab"),
    ("mqtt: {password: *hunter2-s3cr3t}", "", "alias without its anchor"),
    ("mqtt: {password: !hunter2-s3cr3t x}", "mqtt.password", "put a text that begins with ! in quotes"),
    ("mqtt: {password: !!set {hunter2-s3cr3t: }}", "mqtt.password", "has a tag"),
    ("mqtt:\n  url: a: b", "", "line 2, column 9: a ': '"),
    ("a: 1\n---\nb: 2", "", "a second document"),
    (b"mqtt:\n  username: \xff", "", "line 2: not UTF-8"),
    (b"mqtt:\n  username: \x01", "", "line 2, column 13: a control character"),
    ('mqtt: {username: "\\U7fffffff"}', "", "not YAML"),
    ("[" * 5000, "", "nested deeper"),
    ("x: " + "[" * 51 + "]" * 51, "x", "nested deeper"),
    ("x: &x [*x]", "x[0]", "an alias that contains itself"),
    (BILLION, "a5", "values, aliases written out"),
    ("? [a]\n: b", "", "a key must be a text"),
    ("mqtt: {<<: 1}", "mqtt", "'<<' takes a mapping"),
    ("#" * 2_000_000, "", "larger than"),
    ("mqtt: {qos: 1}\nlog: {}\nmqtt: {}", "mqtt", "given twice, at line 1 and again at line 3"),
    ("mqtt: {qos: 1, qos: 0}", "mqtt.qos", "given twice"),
    ("mqtt: []", "mqtt", "must be a mapping"),
    ("mqtt: {tls: true}", "mqtt.tls", "must be a mapping"),
    ("backends: [lora]", "backends", "must be a mapping"),
    ("backends: {lora: resiot}", "backends.lora", "must be a mapping"),
    # unknown keys, at every level
    ("mqqt: {}", "mqqt", "unknown key; did you mean mqtt?"),
    ("warnings: []", "warnings", "unknown key; known: backends"),
    ("1: {}", "1", "unknown key"),
    ("'a\\nb': {}", '"a\\\\nb"', "unknown key"),
    ("mqtt: {uri: x}", "mqtt.uri", "unknown key; did you mean url?"),
    ("mqtt: {tls: {ca: x}}", "mqtt.tls.ca", "unknown key"),
    ("mqtt: {tls: {fingerprint: x}}", "mqtt.tls.fingerprint", "unknown key"),
    ("mqtt: {username_file: x}", "mqtt.username_file", "unknown key; did you mean username?"),
    (LORA[:-3] + ", gatewaytimeout: 1m}}", "backends.lora.gatewaytimeout", "did you mean gateway_timeout?"),
    (LORA[:-3] + ", reconnect: {min: 1s}}}", "backends.lora.reconnect.min", "unknown key"),
    # variables
    ("mqtt: {username: '${NOBODY}'}", "mqtt.username", "environment variable NOBODY is not set"),
    ("mqtt: {url: ['${NOBODY}']}", "mqtt.url[0]", "environment variable NOBODY is not set"),
    ("backends: {a: {type: '${NOBODY}'}}", "backends.a.type", "environment variable NOBODY is not set"),
    (f"mqtt: {{password: '${{{SECRET}'}}", "mqtt.password", "without a name"),
    # types
    ("mqtt: {qos: 2}", "mqtt.qos", "must be one of 0, 1"),
    ("mqtt: {qos: [1]}", "mqtt.qos", "must be one of 0, 1"),
    ("mqtt: {version: 3.11}", "mqtt.version", "did you mean 3.1.1?"),
    ("mqtt: {payload: JSON}", "mqtt.payload", "did you mean json?"),
    ("mqtt: {username: on}", "mqtt.username", "put it in quotes"),
    ("mqtt: {username: {a: b}}", "mqtt.username", "must be a text, not a mapping"),
    (f"mqtt: {{password: [{SECRET}]}}", "mqtt.password", "must be a text, not a list"),
    ('mqtt: {username: "a\\0"}', "mqtt.username", "characters that UTF-8 text cannot carry"),
    ('mqtt: {username: "\\ud800"}', "mqtt.username", "characters that UTF-8 text cannot carry"),
    ("mqtt: {tls: {insecure: maybe}}", "mqtt.tls.insecure", "must be true or false"),
    ("mqtt: {tls: {insecure: 1}}", "mqtt.tls.insecure", "must be true or false"),
    ("mqtt: {keepalive: 30}", "mqtt.keepalive", "not a duration: write it like"),
    ("mqtt: {keepalive: off}", "mqtt.keepalive", "cannot be off"),
    ("mqtt: {keepalive: -1s}", "mqtt.keepalive", "not a duration"),
    (f"shutdown_grace: {'9' * 400}h", "shutdown_grace", "is too large"),
    ("outbox: {max_bytes: 64 monkeys}", "outbox.max_bytes", "not a size"),
    ("outbox: {max_bytes: -1}", "outbox.max_bytes", "not a size"),
    (f"outbox: {{max_bytes: {'9' * 400}}}", "outbox.max_bytes", "is too large"),
    (LORA[:-3] + ", commands: {rate: 5}}}", "backends.lora.commands.rate", "not a rate"),
    (LORA[:-3] + ", commands: {rate: 0/s}}}", "backends.lora.commands.rate", "not a rate above zero"),
    (LORA[:-3] + ", commands: {rate: inf/s}}}", "backends.lora.commands.rate", "is too large"),
    (LORA[:-3] + ", commands: {allow: {a: b}}}}", "backends.lora.commands.allow", "must be a list, not a mapping"),
    (LORA[:-3] + ", ping: 0s}}", "backends.lora.ping", "write off for none"),
    # between keys
    ("mqtt: {url: []}", "mqtt.url", "at least one broker"),
    ("mqtt: {url: broker}", "mqtt.url", "no scheme; begin with mqtt://"),
    ("mqtt: {url: http://broker}", "mqtt.url", "wrong scheme; begin with mqtt://"),
    ("mqtt: {url: 'mqtt://:1883'}", "mqtt.url", "no host"),
    ("mqtt: {url: 'mqtt://a:99999'}", "mqtt.url", "a port is 1 to 65535"),
    ("mqtt: {url: 'mqtt://a:0'}", "mqtt.url", "a port is 1 to 65535"),
    ("mqtt: {url: 'mqtt://[::1'}", "mqtt.url", "look at its host and port"),
    ("mqtt: {url: 'mqtt://a b'}", "mqtt.url", "has spaces"),
    ("mqtt: {url: 'mqtt://a,b'}", "mqtt.url", "one address each"),
    ("mqtt: {url: 'mqtt://a/topic'}", "mqtt.url", "has a path"),
    ("mqtt: {url: 'ws://a/#x'}", "mqtt.url", "has a #"),
    (f"mqtt: {{url: [mqtt://a, 'mqtt://me:{SECRET}@b']}}", "mqtt.url[1]", "give mqtt.username and mqtt.password"),
    (f"mqtt: {{url: 'ws://me:12/{SECRET}@b'}}", "mqtt.url", "give mqtt.username and mqtt.password"),
    ("mqtt: {keepalive: 500ms}", "mqtt.keepalive", "between 1s and 65535s"),
    ("mqtt: {keepalive: 24h}", "mqtt.keepalive", "between 1s and 65535s"),
    ("mqtt: {client_id: ' '}", "mqtt.client_id", "must not be blank"),
    *((f"mqtt: {{base_topic: '{topic}'}}", "mqtt.base_topic", part) for topic, part in (
        ("a/+", "wildcard"), ("#", "wildcard"), ("$SYS", "begins with $"), ("/a", "empty level"), ("a/", "empty level"),
        ("a//b", "empty level"), ("a" * 2000, "at most"))),
    ('mqtt: {base_topic: "a\\tb"}', "mqtt.base_topic", "control characters"),
    ("mqtt: {reconnect: {initial: 0s}}", "mqtt.reconnect.initial", "must be longer than 0s"),
    ("mqtt: {reconnect: {initial: 31s}}", "mqtt.reconnect.initial", "must not be longer than max"),
    ("mqtt: {reconnect: {initial: 0s, max: 0s}}", "mqtt.reconnect.max", "must be longer than 0s"),
    ("mqtt: {tls: {ca_file: /nonexistent}}", "mqtt.tls.ca_file", "cannot read /nonexistent: No such file"),
    ("mqtt: {tls: {ca_file: /tmp}}", "mqtt.tls.ca_file", "cannot read /tmp: not a regular file"),
    (f"mqtt: {{tls: {{cert_file: '{__file__}'}}}}", "mqtt.tls.cert_file", "needs key_file"),
    (f"mqtt: {{tls: {{key_file: '{__file__}'}}}}", "mqtt.tls.key_file", "needs cert_file"),
    ('outbox: {path: " "}', "outbox.path", "must name a folder"),
    ("outbox: {max_bytes: 0}", "outbox.max_bytes", "must be above 0"),
    ("outbox: {max_age: 0s}", "outbox.max_age", "must be longer than 0s"),
    *((f"http: {{listen: '{listen}'}}", "http.listen", "must be host:port") for listen in (
        "9108", ":9108", "h:0", "h:65536", "h:x", "a b:1", "::1:80")),
    # backends
    *((f"backends: {{'{name}': {{type: resiot, url: 'ws://h'}}}}", f"backends.{path}", part) for name, path, part in (
        ("bridge", "bridge", "reserved"), ("Lora", "Lora", "not a backend's name"), ("my_lora", "my_lora", "not a"),
        ("-a", "-a", "not a"), ("a" * 33, "a" * 33, "not a"), ("a b", '"a b"', "not a"), ("", '""', "not a"))),
    ("backends: {lora: }", "backends.lora.type", "is required (one of: resiot, other)"),
    ("backends: {lora: {url: x}}", "backends.lora.type", "is required"),
    ("backends: {lora: {type: resoit}}", "backends.lora.type", "did you mean resiot? (one of: resiot, other)"),
    ("backends: {lora: {type: [resiot]}}", "backends.lora.type", "must be a text"),
    ("backends: {lora: {type: resiot}}", "backends.lora.url", "is required (or url_file)"),
    ("backends: {lora: {type: resiot, url: ''}}", "backends.lora.url", "is required"),
    (f"backends: {{lora: {{type: resiot, url: h/{SECRET}}}}}", "backends.lora.url", "no scheme; begin with wss://"),
    (f"backends: {{lora: {{type: resiot, url: 'https://h/{SECRET}'}}}}", "backends.lora.url", "wrong scheme"),
    (f"backends: {{lora: {{type: resiot, url: 'wss://?{SECRET}'}}}}", "backends.lora.url", "no host"),
    (f"backends: {{lora: {{type: resiot, url: 'wss://[{SECRET}]'}}}}", "backends.lora.url", "not an address"),
    (LORA[:-3] + ", gateway_timeout: 0s}}", "backends.lora.gateway_timeout", "longer than 0s"),
    (LORA[:-3] + ", max_frame: 0}}", "backends.lora.max_frame", "must be above 0"),
    (LORA[:-3] + ", ignore: [up, jion]}}", "backends.lora.ignore[1]", "unknown event type; did you mean join?"),
    (LORA[:-3] + f", proxy: 'ftp://{SECRET}@h'}}}}", "backends.lora.proxy", "wrong scheme; begin with http://"),
    (LORA[:-3] + ", tls: {fingerprint: abc}}}", "backends.lora.tls.fingerprint", "64 digits"),
    (LORA[:-3] + ", reconnect: {initial: 2m}}}", "backends.lora.reconnect.initial", "not be longer than max"),
    (OTHER_HEAD + "    password: weak", "backends.hq.password", "too weak"),
    (OTHER_HEAD + "    password: p\n    page_size: -1", "backends.hq.page_size", "must not be negative"),
    (OTHER_HEAD + "    password: p\n    page_size: 1.5", "backends.hq.page_size", "must be a whole number"),
    (OTHER_HEAD + "    password: p\n    limit: 0", "backends.hq.limit", "must be at least 1"),
    (OTHER_HEAD + "    password: p\n    title: abcd", "backends.hq.title", "must be at most 3 characters long"),
    (OTHER_HEAD + "    password: p\n    factor: x", "backends.hq.factor", "must be a number"),
    (OTHER_HEAD + "    password: p\n    actions: []", "backends.hq.actions", "must be a mapping"),
    (OTHER_HEAD + "    password_file: /dev/zero", "backends.hq.password_file", "not a regular file"),
    (OTHER_HEAD + "    password_file: [x]", "backends.hq.password_file", "must be a text"),
    (OTHER_HEAD + "    password_file: '${NOBODY}'", "backends.hq.password_file", "NOBODY is not set"),
    (OTHER_HEAD + "    password: p\n    factor: -1", "backends.hq.factor", "not negative"),
    (OTHER_HEAD + "    password: p\n    factor: .inf", "backends.hq.factor", "must be a number"),
    (OTHER_HEAD + "    password: p\n    ignore: [rx]", "backends.hq.ignore[0]", "known: value, load"),
    (OTHER_HEAD + "    password: p\n    actions: {d: {method: GET}}", "backends.hq.actions.d.path", "is required"),
    (OTHER_HEAD + "    password: p\n    keys: {x: {y: z}}", "backends.hq.keys.x", "must be a list"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "part"), REFUSED)
def test_refused(tmp_path: Path, text: str | bytes, path: str, part: str) -> None:
    problems = refused(tmp_path, text)
    assert [one for one in problems if one.path == path and part in one.message], problems


# What is refused of the environment: name, value, path, part of the message
OVERRIDES = [
    ("WS2MQTT__MQTT__QSO", "1", "WS2MQTT__MQTT__QSO", "did you mean WS2MQTT__MQTT__QOS?"),
    ("WS2MQTT__MQQT__QOS", "1", "WS2MQTT__MQQT__QOS", "did you mean WS2MQTT__MQTT?"),
    ("WS2MQTT__MQTT__QOS__X", "1", "WS2MQTT__MQTT__QOS__X", "unknown key"),
    ("WS2MQTT____QOS", "1", "WS2MQTT____QOS", "unknown key"),
    ("WS2MQTT__MQTT__QOS", "9", "mqtt.qos", "must be one of 0, 1 (set by WS2MQTT__MQTT__QOS)"),
    ("WS2MQTT__MQTT__URL", "[mqtt://a", "WS2MQTT__MQTT__URL", "not YAML in one line"),
    ("WS2MQTT__BACKENDS__LOAR__URL", "ws://h", "WS2MQTT__BACKENDS__LOAR__URL", "did you mean lora?"),
    ("WS2MQTT__BACKENDS__LOAR__URL", "ws://h", "WS2MQTT__BACKENDS__LOAR__URL", "needs WS2MQTT__BACKENDS__LOAR__TYPE"),
    ("WS2MQTT_LISTEN", "9108", "http.listen", "(set by WS2MQTT_LISTEN)"),
    ("WS2MQTT__BACKENDS__NEW__TYPE", "resoit", "backends.new.type", "(set by WS2MQTT__BACKENDS__NEW__TYPE)"),
    ("WS2MQTT__BACKENDS__LORA__URL", SECRET, "backends.lora.url", "no scheme"),
    ("WS2MQTT__BACKENDS__LORA__PNG", "1s", "WS2MQTT__BACKENDS__LORA__PNG", "WS2MQTT__BACKENDS__LORA__PING?"),
    ("WS2MQTT__BACKENDS", "{a: {type: 1, type: 2}}", "WS2MQTT__BACKENDS", "given twice"),
    ("WS2MQTT__BACKENDS__LORA__TYPE", "resoit", "backends.lora.type", "did you mean resiot?"),
    ("WS2MQTT__BACKENDS__NEW__TYPE", "resiot", "backends.new.url", "is required"),
    ("WS2MQTT__MQTT__USERNAME", "\udcff", "mqtt.username", "UTF-8"),
]


@pytest.mark.parametrize(("name", "value", "path", "part"), OVERRIDES)
def test_override_refused(tmp_path: Path, name: str, value: str, path: str, part: str) -> None:
    problems = refused(tmp_path, LORA, {name: value})
    assert [one for one in problems if one.path == path and part in one.message], problems


def test_override_of_an_unknown_type(tmp_path: Path) -> None:
    """One problem, the type; what its keys would be is not known."""
    problems = refused(tmp_path, "backends: {a: {type: x}}", {"WS2MQTT__BACKENDS__A__URL": "ws://h"})
    assert [one.path for one in problems] == ["backends.a.type"]
    assert refused(tmp_path, "mqtt: [x]", {"WS2MQTT__MQTT__QOS": "1"})[0].path == "mqtt"


def test_override_given_twice(tmp_path: Path) -> None:
    problems = refused(tmp_path, "", {"WS2MQTT__MQTT__QOS": "1", "ws2mqtt__mqtt__qos": "0"})
    assert [one.path for one in problems] == ["ws2mqtt__mqtt__qos"]
    both = {"WS2MQTT__MQTT__PASSWORD": "p", "WS2MQTT__MQTT__PASSWORD_FILE": __file__}
    assert "is given twice" in refused(tmp_path, "", both)[0].message


def test_every_problem_at_once(tmp_path: Path) -> None:
    text = "mqtt: {qos: 7, url: x, keepalive: 3, reconnect: {initial: 0s}}\nlgo: {}\nlog: {level: x}\nmqtt: {}"
    backend = "\nbackends: {a: {type: resiot, url: h, ping: 1, ignore: [x]}, b: {type: no}}"
    paths = {one.path for one in refused(tmp_path, text.removesuffix("\nmqtt: {}") + backend)}
    assert paths == {
        "mqtt.qos", "mqtt.url", "mqtt.keepalive", "mqtt.reconnect.initial", "lgo", "log.level",
        "backends.a.url", "backends.a.ping", "backends.a.ignore[0]", "backends.b.type",
    }  # fmt: skip


def test_a_wrong_value_is_blamed_once(tmp_path: Path) -> None:
    """Not also for what stands in for it."""
    assert len(refused(tmp_path, "mqtt: {reconnect: {initial: 60s, max: x}}")) == 1
    assert len(refused(tmp_path, "mqtt: {tls: {cert_file: [x], key_file: null}}")) == 1
    assert len(refused(tmp_path, "backends: {a: {type: resiot, url: [x]}}")) == 1


def test_secret_files(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    text = OTHER_HEAD + f"    password_file: {file}\n"
    config = read(tmp_path, text)
    assert at(config, "backends.hq.password") == SECRET
    file.write_text("rotated")
    assert at(config, "backends.hq.password") == "rotated"

    file.write_text("weak\n")
    assert refused(tmp_path, text)[0] == Problem("backends.hq.password_file", "too weak")
    file.write_text("\n")
    assert refused(tmp_path, text)[0] == Problem("backends.hq.password_file", f"{file} is empty")
    file.write_bytes(b"\xff")
    assert refused(tmp_path, text)[0] == Problem("backends.hq.password_file", f"cannot read {file}: not UTF-8 text")
    file.write_bytes(b"x" * 2_000_000)
    assert refused(tmp_path, text)[0].message == f"cannot read {file}: too large for a secret"
    file.unlink()
    assert refused(tmp_path, text)[0].message == f"cannot read {file}: No such file or directory"
    assert refused(tmp_path, text + f"    password: {SECRET}")[0] == Problem(
        "backends.hq.password", "is given twice: keep password or password_file"
    )


def test_an_empty_secret_leaves_its_file(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("x")
    config = read(tmp_path, f"mqtt: {{password: '${{P:-}}', password_file: {tmp_path / 'p'}}}")
    assert at(config, "mqtt.password") == "x"


def test_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(BadConfig) as caught:
            load(str(path), {})
        assert caught.value.problems[0].message.startswith("cannot be read: ")
        assert describe(caught.value.problems, str(path)).startswith(f"{path}: cannot be read: ")


WARNED = [
    ("", ["backends"]),
    (LORA, []),
    (LORA + "mqtt: {tls: {insecure: true}}", ["mqtt.tls"]),
    (LORA + "mqtt: {tls: {insecure: true}, url: mqtts://h}", []),
    (LORA + "mqtt: {password: p}", ["mqtt.password"]),
    (LORA[:-3] + ", tls: {insecure: true}}}", []),
    (LORA.replace("wss", "ws")[:-3] + ", tls: {insecure: true}}}", ["backends.lora.tls"]),
    (OTHER_HEAD + "    password: p\n    tls: {insecure: true}", ["backends.hq.tls"]),
]


@pytest.mark.parametrize(("text", "paths"), WARNED)
def test_warnings(tmp_path: Path, text: str, paths: list[str]) -> None:
    warnings = read(tmp_path, text).warnings
    assert [one.partition(":")[0] for one in warnings] == paths
    assert SECRET not in "".join(warnings)


def test_secrets_are_found(tmp_path: Path) -> None:
    text = LORA[:-3] + ", proxy: 'http://u:p@h'}}\nmqtt: {username: u, password: mine}"
    config = read(tmp_path, text)
    found = {secret.reveal() for secret in secrets(config)}
    assert found == {f"wss://h/?token={SECRET}", "http://u:p@h", "mine"}
    assert SECRET not in repr(config)


def test_describe() -> None:
    problems = [Problem("mqtt.qos", "must be one of 0, 1"), Problem("", "line 1: a\nb\ud800\x1b[31m")]
    assert describe(problems, "x.yaml") == (
        "mqtt.qos: must be one of 0, 1\nx.yaml: line 1: a\\nb\\ud800\\x1b[31m\n2 problems in x.yaml"
    )
    assert describe(problems[:1], "x.yaml").endswith("\n1 problem in x.yaml")


def test_examples(tmp_path: Path) -> None:
    environ = {
        "RESIOT_TOKEN": "t",
        "RESIOT_URL": "wss://h",
        **dict.fromkeys(("ISYMPHONY_PASSWORD", "IOTPRO_PASSWORD", "SMARTSERVER_PASSWORD"), "p"),
    }
    for file in sorted((ROOT / "config").glob("*.yaml")):
        assert load(str(file), environ).warnings == ()
    shown = load(str(ROOT / "config" / "resiot.yaml"), environ)
    url = "wss://resiot.example/WebSocketServer/DeviceMsg/?type=node&token=t"
    plain = read(tmp_path, f"backends: {{lora: {{type: resiot, url: '{url}'}}}}")
    assert replace(shown, file=plain.file) == plain, "a default shown is not one"


def test_the_example_shows_every_key() -> None:
    tree = yaml.safe_load((ROOT / "config" / "resiot.yaml").read_text())
    config = load(str(ROOT / "config" / "resiot.yaml"), {"RESIOT_TOKEN": "t"})

    def missing(shown: Any, value: object) -> Iterator[str]:
        for name in value.__struct_fields__ if isinstance(value, Struct) else ():
            if name not in shown:
                yield name
            else:
                yield from missing(shown[name], getattr(value, name))

    assert list(missing(tree, config)) == ["warnings", "file"]
    assert list(missing(tree["backends"]["lora"], config.backends["lora"])) == []


# Whatever is written, only BadConfig is raised, and no secret is in it

_KEYS = st.sampled_from(
    ["mqtt", "url", "qos", "tls", "password", "password_file", "reconnect", "initial", "backends", "lora", "type",
     "ping", "ignore", "http", "listen", "outbox", "path", "max_bytes", "commands", "rate", "keys", "actions", "${x"]
)  # fmt: skip
_LEAF = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.text(max_size=12)
    | st.sampled_from(["resiot", "other", "off", "1s", "ws://h", "${U}", "${", "$${", "1e999/s", "nan/s", "/dev/zero"])
)  # fmt: skip
_ANY = st.recursive(
    _LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=4), inner, max_size=5)
)
_BACKEND = st.dictionaries(st.sampled_from(list(OtherOptions.__struct_fields__)), _ANY).map(
    lambda one: {"type": "other", **one}
)
_FILE = st.fixed_dictionaries(
    {}, optional={"mqtt": _ANY, "outbox": _ANY, "http": _ANY, "log": _ANY, "backends": st.dictionaries(_KEYS, _BACKEND)}
)
_count = itertools.count()


def attempt(folder: Path, text: str | bytes, environ: Mapping[str, str]) -> str:
    """What is said, in brief and by `check`; nothing else than BadConfig may be raised."""
    try:
        said = repr(read(folder, text, environ).warnings)
    except BadConfig as error:
        said = describe(error.problems, "f") + str(error)
    found = check(str(folder / "ws2mqtt.yaml"), environ, platforms=BOTH)
    assert found.good is not (" in f" in said)
    assert all(line.isprintable() for line in found.said.splitlines())
    return said + found.said


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80)
@given(tree=_FILE | _ANY)
def test_any_tree(tmp_path: Path, tree: object) -> None:
    said = attempt(tmp_path, yaml.safe_dump(tree, allow_unicode=False), {})
    said.encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(text=st.text(st.sampled_from("ab:-[]{}&*!|>'\"%@`#?, \t\n<~\\xU0\ud7ff"), max_size=40) | st.binary(max_size=40))
@example(text="! ")
@example(text="%YAML 99999999999999999999.1\n--- a")
@example(text='"\\U00110000"')
def test_any_text(tmp_path: Path, text: str | bytes) -> None:
    attempt(tmp_path, text, {})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    levels=st.lists(_KEYS | st.sampled_from(["", "x"]), min_size=1, max_size=4), value=st.text(max_size=12), file=_FILE
)
def test_any_override(tmp_path: Path, levels: list[str], value: str, file: object) -> None:
    attempt(tmp_path, yaml.safe_dump(file), {"WS2MQTT__" + "__".join(levels).upper(): value})


_AROUND = st.text(st.characters(codec="utf-8", exclude_characters="$"), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(before=_AROUND, after=_AROUND, wrapped=st.sampled_from(["", "list", "map"]), raw=st.booleans())
def test_no_secret_is_shown(tmp_path: Path, before: str, after: str, wrapped: str, raw: bool) -> None:
    """Whether it is a secret of any kind, wrongly shaped, wrongly quoted, or in the environment."""
    text = before + SECRET + after
    value: object = [text] if wrapped == "list" else {"x": text} if wrapped == "map" else text
    tree = {
        "mqtt": {"url": f"mqtt://u:{text}@h", "password": value, "qos": 9, "keepalive": text, "payload": text},
        "backends": {"a": {"type": "resiot", "url": value, "proxy": value}, "b": {"type": "other", "password": value}},
    }
    file = yaml.safe_dump(tree)
    if raw:
        file = re.sub(r"'|\"", "", file)
    environ = {"WS2MQTT__BACKENDS__A__URL": text} if wrapped and "\0" not in text else {}
    said = attempt(tmp_path, file, environ)
    if not raw:  # without its quotes a text may well become a key, which is shown
        assert SECRET not in said
        assert "mqtt.qos" in said


def test_what_a_platform_gives_to_one_client_is_used_by_one_enabled_backend(tmp_path: Path) -> None:
    def backends(**enabled: bool) -> str:
        own = "type: other, url: http://h, username: u, password: p, title: own"
        each = (f"{name}: {{{own}, enabled: {str(on).lower()}}}" for name, on in enabled.items())
        return f"backends: {{{', '.join(each)}}}"

    assert [str(one.path) for one in refused(tmp_path, backends(a=True, b=True, c=False, d=True))] == [
        "backends.b",
        "backends.d",
    ]
    assert "same title as backends.a" in refused(tmp_path, backends(a=True, b=True))[0].message
    assert read(tmp_path, backends(a=True, b=False))
