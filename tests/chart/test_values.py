"""The chart's values: the schema is the program's own, what it takes can run, what cannot run is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.backends import PLATFORMS
from tests.chart.rendering import ALL, CHART, ROOT, complaint, refused, rendered
from tests.chart.values_schema import FILE, made

EXAMPLES = sorted((ROOT / "config").glob("*.yaml"))
LORA = {"type": "resiot", "url_file": "/run/secrets/lora"}


def test_the_configurations_part_is_made_of_the_programs_schema() -> None:
    """Made anew by `python -m tests.chart.values_schema`."""
    assert made(FILE.read_text()) == FILE.read_text()


def references(tree: Any) -> set[str]:
    if isinstance(tree, list):
        return {ref for one in tree for ref in references(one)}
    if not isinstance(tree, dict):
        return set()
    mine = {tree["$ref"]} if isinstance(tree.get("$ref"), str) else set()
    return mine | {ref for one in tree.values() for ref in references(one)}


def test_every_reference_stays_in_the_file() -> None:
    whole = json.loads(FILE.read_text())
    found = references(whole)
    assert "#/definitions/config" in found
    for ref in found:
        place = whole
        for step in ref.removeprefix("#/").split("/"):
            place = place[step]


def objects(tree: Any, path: str = "") -> list[str]:
    """Where the chart's own part has a mapping with named keys that takes others, too."""
    if not isinstance(tree, dict):
        return []
    mine = [path] if "properties" in tree and tree.get("additionalProperties") is not False else []
    below = tree.get("properties", {}) | ({"[]": tree["items"]} if isinstance(tree.get("items"), dict) else {})
    return mine + [one for name, kind in below.items() for one in objects(kind, f"{path}.{name}")]


def test_a_mistyped_value_is_refused_everywhere() -> None:
    """But for `global`, which belongs to the charts around this one as well."""
    assert objects(json.loads(FILE.read_text())) == [".global"]


def test_the_versions_are_the_programs() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in project
    assert rendered().container["image"] == f"ws2mqtt:{chart['appVersion']}"


@pytest.mark.parametrize("ci", ALL)
def test_each_way_of_use_is_taken(ci: str) -> None:
    assert rendered(ci)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_the_examples_of_the_program_are_taken_as_config(file: Path) -> None:
    config = yaml.safe_load(file.read_text())
    config["http"] = {"listen": "0.0.0.0:9108"}
    assert yaml.safe_load(rendered(config=config).config)["backends"] == config["backends"]


@pytest.mark.parametrize("kind", PLATFORMS)
def test_a_mistyped_key_of_each_platform_is_refused(kind: str) -> None:
    said = refused(config={"backends": {"one": {"type": kind, "uri": "x"}}})
    assert "config.backends.one: Additional property uri is not allowed" in said


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"replicas": 2}, "Additional property replicas"),
        ({"persistence": {"enable": True}}, "persistence: Additional property enable"),
        ({"persistence": {"size": "much"}}, "persistence.size"),
        ({"image": {"digest": "sha256:abc"}}, "image.digest"),
        ({"image": {"pullPolicy": "Sometimes"}}, "image.pullPolicy"),
        ({"service": {"port": 0}}, "service.port"),
        ({"podLabels": {"a": 1}}, "podLabels.a"),
        ({"secrets": {"a/b": "c"}}, "secrets"),
        ({"certificates": [{"secret": "a", "configMap": "b"}]}, "certificates.0"),
        ({"certificates": [{}]}, "certificates.0"),
        ({"existingSecret": [{"items": []}]}, "existingSecret"),
        ({"extraEnv": [{"value": "nameless"}]}, "extraEnv.0"),
        ({"extraEnv": [{"name": "A", "value": 5}]}, "extraEnv.0.value"),
        ({"extraEnv": [{"name": "A", "valeu": "b"}]}, "extraEnv.0: Additional property valeu"),
        ({"livenessProbe": {"exec": {}}}, "livenessProbe"),
        ({"config": {"mqtt": {"ulr": "mqtt://b"}}}, "config.mqtt: Additional property ulr"),
        ({"config": {"mqtt": {"qos": 2}}}, "config.mqtt.qos"),
        ({"config": {"backends": {"bridge": LORA}}}, 'Property name of "bridge"'),
        ({"config": {"backends": {"Lora": LORA}}}, 'Property name of "Lora"'),
        ({"config": {"backends": {"lora": {"type": "resiot"}}}}, "url is required"),
        ({"config": {"backends": {"lora": LORA | {"url": "wss://h"}}}}, "config.backends.lora"),
        ({"config": {"shutdown_grace": "soon"}}, "config.shutdown_grace"),
        ({"config": {"shutdown_grace": "${GRACE}"}}, "config.shutdown_grace"),
        ({"config": {"http": {"listen": "127.0.0.1:9108"}}}, "config.http.listen"),
        ({"config": {"http": {"listen": None}}}, "config.http: listen is required"),
        ({"config": {"http": None}}, "config: http is required"),
        ({"config": None}, "config is required"),
        ({"persistence": None}, "persistence is required"),
        ({"persistence": {"size": None}}, "persistence: size is required"),
        ({"service": {"port": None}}, "service: port is required"),
        ({"image": {"repository": None}}, "image: repository is required"),
        ({"imagePullSecrets": [{}]}, "imagePullSecrets.0"),
        ({"fullnameOverride": "My-Bridge"}, "fullnameOverride"),
        ({"fullnameOverride": "-a"}, "fullnameOverride"),
        ({"nameOverride": "my_bridge"}, "nameOverride"),
        ({"nameOverride": "n" * 53}, "nameOverride"),
    ],
    ids=lambda one: json.dumps(one) if isinstance(one, dict) else "",
)
def test_what_cannot_be_meant_is_refused(values: dict[str, Any], told: str) -> None:
    assert told in refused(**values)


def paths(tree: Any, *above: str) -> Iterator[tuple[str, ...]]:
    """Every key there is."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield (*above, key)
        yield from paths(value, *above, key)


DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.mark.parametrize("path", list(paths(DEFAULTS)), ids=".".join)
@pytest.mark.parametrize("ci", ["", "ha", "full"])
def test_a_default_that_is_taken_away_is_done_without_or_asked_for(path: tuple[str, ...], ci: str) -> None:
    """`key:` with nothing behind it, or null: Helm takes the chart's own value away."""
    values: dict[str, Any] = {path[-1]: None}
    for key in path[-2::-1]:
        values = {key: values}
    said = complaint(ci, **values)
    assert said is None or f"{path[-1]} is required" in said


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_a_probe_may_be_left_out(probe: str) -> None:
    values: dict[str, Any] = {probe: None}
    left = {"startupProbe", "livenessProbe", "readinessProbe"} & rendered(**values).container.keys()
    assert len(left) == 2
    assert probe not in left


ON = {"enabled": True}


@pytest.mark.parametrize(
    "values",
    [
        {"metrics": {"serviceMonitor": ON, "podMonitor": ON}},
        {"metrics": {"serviceMonitor": ON}, "service": {"enabled": False}},
        {"metrics": {"podMonitor": ON}, "config": {"http": {"listen": "off"}}},
        {"ha": ON, "persistence": {"existingClaim": "one-for-both"}},
        {"ha": ON, "serviceAccount": {"create": False}},
    ],
    ids=json.dumps,
)
def test_what_cannot_go_together_is_refused(values: dict[str, Any]) -> None:
    refused(**values)
    for one in values:
        rendered(**{name: value for name, value in values.items() if name != one})  # each alone is taken


def test_a_chart_around_it_may_have_globals_of_its_own() -> None:
    values: dict[str, Any] = {"global": {"theirs": 1}}
    assert rendered(**values)
