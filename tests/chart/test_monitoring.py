"""Alerts, dashboard and `helm test`, held against a bridge that runs with the arguments of the chart."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.chart.rendering import CHART, NAME, NAMESPACE, rendered
from tests.support.house import House, house
from tests.support.kube import Kube
from tests.support.mosquitto import Certificates, Mosquitto

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())
UNIT_TESTS = yaml.safe_load((Path(__file__).parent / "alerts.test.yaml").read_text())
NAMES = [rule["alert"] for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
RULES = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
GRAFANA = re.compile(r"\$\w+")  # its variables: intervals, and texts
ON = {"enabled": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kube(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kube]:
    async with Kube(certificates, tmp_path_factory.mktemp("kube")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(kube: Kube, mosquitto: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A bridge with the chart's arguments, active."""
    given = [one for one in rendered("ha").container["args"] if one.startswith("--lease")]
    where = f"--lease-credentials={kube.credentials('w-0')}"
    arguments = [where if one.startswith("--lease-credentials") else one for one in given]
    bridge = {"environment": kube.environment, "arguments": arguments}
    async with AsyncExitStack() as stack:
        made = house(mosquitto, tmp_path_factory.mktemp("home"), "chart", bridge=bridge)
        yield await stack.enter_async_context(made)


async def metrics(home: House) -> str:
    return (await home.bridge.get("/metrics")).text


def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=180, check=False)


async def test_prometheus_likes_the_metrics(home: House) -> None:
    done = run("promtool", "check", "metrics", stdin=await metrics(home))
    assert (done.returncode, done.stderr) == (0, "")


def series(expression: str) -> set[str]:
    """Names of metrics in an expression; of a choice of names, each."""
    choices = re.findall(r'__name__=~"(\w+)\(([\w|]+)\)(\w*)"', expression)
    chosen = {f"{begin}{one}{end}" for begin, middle, end in choices for one in middle.split("|")}
    return chosen | set(re.findall(r"\bws2mqtt_\w+", re.sub(r"\{__name__[^}]*\}", "", expression)))


@pytest.mark.parametrize("expression", [*RULES, *PANELS])
async def test_each_metric_and_label_in_them_is_there(home: House, expression: str) -> None:
    told = await metrics(home)
    known: dict[str, set[str]] = {name: set() for name in re.findall(r"# TYPE (\w+)", told)}
    known |= {name: {"backend"} for name in known if name.endswith("_timestamp_seconds")}  # not told before an event
    known |= {line.partition("{")[0]: set(re.findall(r'(\w+)="', line)) for line in told.splitlines() if "{" in line}
    found = series(expression)
    assert found
    assert found <= known.keys()
    by = {label for group in re.findall(r"(?:by|on) \(([\w, ]+)\)", expression) for label in group.split(", ")}
    picked = {label for group in re.findall(r"\{([^}]*)\}", expression) for label in re.findall(r"(\w+)=", group)}
    from_prometheus = {"namespace", "job", "pod", "le", "__name__"}
    own = set[str]().union(*(known[name] for name in found))
    assert (by | picked) - from_prometheus <= own


async def test_every_metric_is_on_the_dashboard(home: House) -> None:
    there = {name for name, _ in re.findall(r"# TYPE (\w+) (\w+)", await metrics(home))}
    shown = {name for expression in PANELS for name in series(expression)}
    assert there - {name.removesuffix("_bucket") for name in shown} == set()


async def test_prometheus_reads_the_dashboards_expressions(tmp_path: Path) -> None:
    records = [{"record": f"panel:{n}", "expr": GRAFANA.sub("5m", one)} for n, one in enumerate(PANELS)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
    done = run("promtool", "check", "rules", str(tmp_path / "rules.yaml"))
    assert done.returncode == 0, done.stderr
    assert f"{len(PANELS)} rules found" in done.stdout


async def test_the_dashboard_is_one() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {"${datasource}"}
    defined = {one["name"] for one in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(DASHBOARD)))
    assert used == defined


@pytest.mark.parametrize("name", NAMES)
async def test_each_alert_is_seen_to_be_told_and_not_to_be(name: str) -> None:
    expected = [
        one["exp_alerts"] for test in UNIT_TESTS["tests"] for one in test["alert_rule_test"] if one["alertname"] == name
    ]
    assert any(expected)
    assert not all(expected)


async def test_the_rules_are_the_file_word_for_word() -> None:
    objects = rendered(metrics={"rules": {**ON, "labels": {"release": "p"}}})
    assert objects.one("PrometheusRule")["spec"] == ALERTS
    assert objects.one("PrometheusRule")["metadata"]["labels"]["release"] == "p"


async def test_the_dashboard_is_the_file_word_for_word() -> None:
    objects = rendered(metrics={"dashboard": {**ON, "annotations": {"folder": "IoT"}}})
    made = objects.one("ConfigMap", f"{NAME}-dashboard")
    assert json.loads(made["data"]["ws2mqtt.json"]) == DASHBOARD
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert made["metadata"]["annotations"] == {"folder": "IoT"}


@pytest.mark.parametrize(
    ("kind", "key", "endpoints"),
    [("ServiceMonitor", "serviceMonitor", "endpoints"), ("PodMonitor", "podMonitor", "podMetricsEndpoints")],
)
async def test_monitors_find_the_port_by_its_name(kind: str, key: str, endpoints: str) -> None:
    objects = rendered(metrics={key: {**ON, "interval": "15s", "labels": {"release": "p"}}})
    monitor = objects.one(kind)
    assert monitor["spec"][endpoints] == [{"port": "http", "path": "/metrics", "interval": "15s"}]
    assert monitor["metadata"]["labels"]["release"] == "p"
    found = objects.one("Service")["metadata"] if kind == "ServiceMonitor" else objects.pod["metadata"]
    assert found["labels"].items() >= monitor["spec"]["selector"]["matchLabels"].items()


# The lease, and the test


async def test_the_lease_is_taken_with_no_more_and_no_less_than_the_role_allows(home: House, kube: Kube) -> None:
    await kube.until_asked(lambda one: one.method == "PUT")  # renewed, after it was taken
    verbs = {"GET": "get", "PUT": "update", "POST": "create"}
    asked = {verbs[one.method] for one in kube.asked.items}
    assert asked == {verb for rule in rendered("ha").one("Role")["rules"] for verb in rule["verbs"]}
    assert kube.holder(NAME)


def told_by_test(url: str, patience: str) -> subprocess.CompletedProcess[str]:
    """As the container of the test's pod runs it."""
    (pod,) = rendered().of("Pod")
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["python3", "-c"]
    script, address = container["args"]
    assert address == f"http://{NAME}.{NAMESPACE}:9108"
    return run(sys.executable, "-c", script, url, patience)


async def test_helm_test_is_content_with_a_bridge_that_is_ready(home: House) -> None:
    done = await asyncio.to_thread(told_by_test, home.bridge.http_url, "30")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"/metrics 200 ws2mqtt_build_info\{", done.stdout)


async def test_helm_test_is_not_content_with_a_bridge_that_is_not_ready(mosquitto: Mosquitto, tmp_path: Path) -> None:
    nowhere: dict[str, Any] = {"url": "mqtt://127.0.0.1:1"}
    async with house(mosquitto, tmp_path, "chart-away", mqtt=nowhere, online=False) as away:
        await away.bridge.wait_http("/livez")
        done = await asyncio.to_thread(told_by_test, away.bridge.http_url, "0")
    assert done.returncode == 1
    assert '"waiting":["mqtt"]' in done.stdout.replace(" ", "")


async def test_helm_test_is_not_content_with_nobody(free_port: Any) -> None:
    done = await asyncio.to_thread(told_by_test, f"http://127.0.0.1:{free_port()}", "0")
    assert done.returncode == 1
