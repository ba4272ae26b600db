"""The configuration file in the pod is the one that was given, and the program takes it; secrets stay in Secrets."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.cli import OK, main
from tests.chart.rendering import ALL, CHART, NAME, Rendered, content, refused, rendered
from tests.support.mosquitto import Certificates

LORA: dict[str, Any] = {"type": "resiot", "url_file": "/run/secrets/lora"}
CLASSIFIED = "s3cret-Wr17ten-1n"
NEEDED: dict[str, dict[str, Any]] = {
    "resiot": {"url": "ws://h/?type=node&token=${T}"},
    "iotpro": {"url": "https://h", "username": "u", "password": "${P}", "keys": ["k"]},
    "smartserver": {"url": "https://h", "username": "u", "password": "${P}", "datapoints": ["*"]},
    "isymphony": {"url": "ws://h:58080", "username": "u", "password": "${P}"},
}


def secret_keys() -> list[tuple[str, str]]:
    """Of all secrets there are: the platform, "" for the broker, and the key. As the schema tells them."""
    kinds = json.loads((CHART / "values.schema.json").read_text())["definitions"]["config"]["definitions"]
    named = {"MqttOptions": "", **{f"backend-{word}": word for word in NEEDED}}
    found = {name: [key for key, told in kind["properties"].items() if told.get("writeOnly")]
             for name, kind in kinds.items() if "properties" in kind}  # fmt: skip
    assert {name for name in found if found[name]} == set(named), "secrets in a place that this test does not know"
    return [(word, key) for name, word in named.items() for key in found[name]]


def with_secret(word: str, key: str, value: object) -> dict[str, Any]:
    if not word:
        return {"mqtt": {"url": "mqtt://b", "username": "u", key: value}}
    return {"backends": {"one": {"type": word, **NEEDED[word], key: value}}}


def placed(config: str, folder: Path, certificates: Certificates) -> Path:
    """The file as it is in a pod, with the files it names in this folder instead of /run."""
    for name in re.findall(r"/run/([\w./-]+)", config):
        content = {"ca.crt": certificates.ca_file, "tls.crt": certificates.client.cert_file,
                   "tls.key": certificates.client.key_file}.get(Path(name).name)  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(Path(content).read_bytes() if content else b"wss://resiot.example/?token=1")
    file = folder / "ws2mqtt.yaml"
    file.write_text(config.replace("/run/", f"{folder}/").replace("/var/lib/ws2mqtt", f"{folder}/outbox"))
    return file


@pytest.mark.parametrize("ci", ALL)
def test_the_program_takes_what_is_rendered(
    ci: str,
    tmp_path: Path,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = rendered(ci).config
    for name in re.findall(r"\$\{(\w+)\}", config):
        monkeypatch.setenv(name, "given-by-the-environment")
    assert main(["check", "-c", str(placed(config, tmp_path, certificates))]) == OK, capsys.readouterr().err


@pytest.mark.parametrize("ci", ALL)
def test_the_files_it_names_are_where_something_is_mounted(ci: str) -> None:
    objects = rendered(ci)
    mounts = [one["mountPath"] for one in objects.container["volumeMounts"]]
    for name in re.findall(r"(/(?:run|var)/[\w./-]+)", objects.config):
        assert any(f"{name}/".startswith(f"{mount}/") for mount in mounts), name


def test_every_value_arrives_as_it_was_given() -> None:
    config: dict[str, Any] = {
        "mqtt": {
            "url": ["mqtts://a", "mqtts://b"],
            "version": "3.1.1",
            "password": "${P:-}",
            "base_topic": "a/{{ b }}",
            "client_id": "${CLIENT}",
        },
        "outbox": {"max_bytes": 268435456, "max_age": "7d", "path": "/var/lib/ws2mqtt"},
        "http": {"listen": "[::]:9108"},
        "log": {"level": "info"},
        "shutdown_grace": "1m",
        "backends": {"lora": LORA | {"ping": False, "proxy": "${PROXY}", "ignore": []}},
    }
    assert yaml.safe_load(rendered(config=config).config) == config


def test_placeholders_and_braces_are_not_helms() -> None:
    action = {"path": "a/{extension}", "body": {"a": "{{ .Values.image }}", "b": "$${x}", "c": "${Y}"}}
    pbx = {"type": "isymphony", **NEEDED["isymphony"], "actions": {"call": action}}
    config = yaml.safe_load(rendered(config={"backends": {"pbx": pbx}}).config)
    assert config["backends"]["pbx"]["actions"]["call"] == action


@pytest.mark.parametrize(("word", "key"), secret_keys())
def test_a_secret_in_config_makes_a_secret_of_it(word: str, key: str) -> None:
    value = CLASSIFIED if key == "password" else f"wss://{CLASSIFIED}.example/"
    objects = rendered(config=with_secret(word, key, value))
    assert CLASSIFIED in objects.config
    assert objects.holding(CLASSIFIED) == ["Secret"]
    assert objects.of("ConfigMap") == []


@pytest.mark.parametrize(("word", "key"), secret_keys())
def test_a_secret_is_not_a_number(word: str, key: str) -> None:
    """Helm has made 83 of 0123 before anybody sees it."""
    said = refused(config=with_secret(word, key, 83))
    assert f"{key}: Invalid type" in said


def test_an_address_is_a_secret_where_the_platform_is_not_known() -> None:
    backends = {"one": {"type": "${KIND}", "url": f"wss://{CLASSIFIED}.example/"}}
    assert rendered(config={"backends": backends}).of("ConfigMap") == []


@pytest.mark.parametrize(("word", "key"), secret_keys())
def test_a_placeholder_is_no_secret(word: str, key: str) -> None:
    objects = rendered(config=with_secret(word, key, "wss://h/?token=${TOKEN}"))
    assert "${TOKEN}" in objects.one("ConfigMap", f"{NAME}-config")["data"]["ws2mqtt.yaml"]
    assert objects.of("Secret") == []


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("", "password", f"${{P:-{CLASSIFIED}}}"),
        ("", "password", f"{CLASSIFIED}$a$"),
        ("", "password", f"$${{{CLASSIFIED}}}"),
        ("resiot", "url", f"wss://${{HOST}}/WebSocketServer/?type=node&token={CLASSIFIED}"),
        ("resiot", "url", f"wss://${{HOST}}/?Token={CLASSIFIED}&type=${{KIND}}"),
    ],
)
def test_a_placeholder_beside_it_hides_no_secret(word: str, key: str, value: str) -> None:
    assert rendered(config=with_secret(word, key, value)).holding(CLASSIFIED) == ["Secret"]


@pytest.mark.parametrize("value", ["${P}", "${P:-}", "wss://${HOST:-}/?token=${T}", "wss://h/?token=${T}&type=node"])
def test_an_empty_default_is_no_secret(value: str) -> None:
    assert rendered(config=with_secret("resiot", "url", value)).of("Secret") == []


@pytest.mark.parametrize("ci", ALL)
def test_no_secret_is_an_argument(ci: str) -> None:
    objects = rendered(ci, secrets={"lora": CLASSIFIED})
    assert objects.holding(CLASSIFIED) == ["Secret"]


def files_of(objects: Rendered) -> list[Any]:
    sources: list[Any] = objects.volume("secrets")["projected"]["sources"]
    return sources


@pytest.mark.parametrize(
    ("existing", "sources"),
    [
        ("one", [{"secret": {"name": "one"}}]),
        (["one", "two"], [{"secret": {"name": "one"}}, {"secret": {"name": "two"}}]),
        (
            [{"name": "one", "items": [{"key": "password", "path": "hq"}]}, "two"],
            [{"secret": {"name": "one", "items": [{"key": "password", "path": "hq"}]}}, {"secret": {"name": "two"}}],
        ),
    ],
    ids=["one", "several", "by key"],
)
def test_existing_secrets_are_files(existing: Any, sources: list[Any]) -> None:
    objects = rendered(existingSecret=existing)
    assert files_of(objects) == sources
    assert {"name": "secrets", "mountPath": "/run/secrets", "readOnly": True} in objects.container["volumeMounts"]
    assert objects.of("Secret") == []


def test_secrets_for_trials_are_files_beside_them() -> None:
    objects = rendered(existingSecret="one", secrets={"lora": "wss://h"})
    assert files_of(objects) == [{"secret": {"name": "one"}}, {"secret": {"name": f"{NAME}-files"}}]
    assert content(objects.one("Secret", f"{NAME}-files")) == {"lora": "wss://h"}


def test_a_secret_that_is_no_more_goes_from_the_cluster() -> None:
    """A key that leaves stringData stays in the Secret."""
    objects = rendered(secrets={"lora": "wss://h"}, config=with_secret("", "password", CLASSIFIED))
    assert [set(one) & {"data", "stringData"} for one in objects.of("Secret")] == [{"data"}] * 2


def test_the_release_takes_no_name_that_a_secret_of_yours_may_have() -> None:
    """The README's own example calls release and Secret alike."""
    objects = rendered(config=with_secret("", "password", CLASSIFIED), secrets={"a": "b"}, release="ws2mqtt")
    assert {one["metadata"]["name"] for one in objects.of("Secret")} == {"ws2mqtt-config", "ws2mqtt-files"}


@pytest.mark.parametrize("mqtt", [{"url": "mqtt://b"}, {"client_id": None}, {"client_id": ""}, None])
def test_two_releases_have_two_client_ids(mqtt: Any) -> None:
    each = [yaml.safe_load(rendered(config={"mqtt": mqtt}, release=one).config)["mqtt"] for one in ("east", "west")]
    assert [one["client_id"] for one in each] == ["east-ws2mqtt", "west-ws2mqtt"]


def test_a_release_of_the_chart_s_name_has_the_client_id_of_the_program() -> None:
    assert yaml.safe_load(rendered(release="ws2mqtt").config)["mqtt"]["client_id"] == "ws2mqtt"


def test_without_secrets_nothing_is_mounted_for_them() -> None:
    assert "/run/secrets" not in [one["mountPath"] for one in rendered().container["volumeMounts"]]


def test_certificates_are_files_of_configmaps_and_secrets() -> None:
    items = [{"key": "tls.crt", "path": "tls.crt"}]
    objects = rendered(certificates=[{"configMap": "ca"}, {"secret": "mine", "items": items}])
    sources = objects.volume("certificates")["projected"]["sources"]
    assert sources == [{"configMap": {"name": "ca"}}, {"secret": {"name": "mine", "items": items}}]
    assert "/run/certificates" in [one["mountPath"] for one in objects.container["volumeMounts"]]


@pytest.mark.parametrize(
    ("grace", "seconds"),
    [("20s", 30), ("1m", 70), ("1500ms", 12), ("1.5m", 100), ("0.5h", 1810), ("1d", 86410), ("0s", 10), ("1ms", 11),
     (" 5s ", 15), ("0.1s", 11), (None, 30), ("", 30)],
)  # fmt: skip
def test_the_pod_is_given_ten_seconds_more(grace: str | None, seconds: int) -> None:
    spec = rendered(config={"shutdown_grace": grace}).pod["spec"]
    assert spec["terminationGracePeriodSeconds"] == seconds


@pytest.mark.parametrize(("listen", "port"), [("0.0.0.0:9108", 9108), ("[::]:80", 80), ("0.0.0.0:65535", 65535)])
def test_everything_asks_the_port_of_the_configuration(listen: str, port: int) -> None:
    objects = rendered(config={"http": {"listen": listen}})
    assert objects.container["ports"] == [{"name": "http", "containerPort": port}]
    assert objects.one("Service")["spec"]["ports"][0]["targetPort"] == "http"


@pytest.mark.parametrize("off", ["off", False, "No"])
def test_without_a_port_nothing_asks(off: object) -> None:
    objects = rendered(config={"http": {"listen": off}})
    assert not {"ports", "startupProbe", "livenessProbe", "readinessProbe"} & objects.container.keys()
    assert objects.of("Service") == objects.of("Pod") == []


def test_a_change_of_the_configuration_makes_a_new_pod_and_nothing_else_does() -> None:
    def sums(**values: Any) -> dict[str, str]:
        notes: dict[str, str] = rendered(**values).pod["metadata"]["annotations"]
        return notes

    before = sums()
    assert sums(config={"log": {"level": "debug"}})["checksum/config"] != before["checksum/config"]
    assert sums(secrets={"a": "b"})["checksum/secrets"] != before["checksum/secrets"]
    assert sums(service={"port": 80}) == before


def test_a_variable_cannot_stand_for_what_the_chart_has_to_know() -> None:
    assert "listen" in refused(config={"http": {"listen": "${LISTEN}"}})
