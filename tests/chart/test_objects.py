"""What there is beside the pod: at most one bridge at a time, or two with a lease; who may do what; what is seen."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import ALL, CHART, NAME, NAMESPACE, ROOT, notes, rendered

ON, OFF = {"enabled": True}, {"enabled": False}
LORA = {"lora": {"type": "resiot", "url_file": "/run/secrets/lora"}}
WHOLE = {"mqtt": {"url": "mqtt://b"}, "backends": LORA}


@pytest.mark.parametrize("ci", ALL)
def test_every_object_is_of_the_release_and_there_once(ci: str) -> None:
    objects = rendered(ci)
    ours = [one for one in objects if one["metadata"]["name"].startswith((NAME, "hall"))]
    assert len({(one["kind"], one["metadata"]["name"]) for one in objects}) == len(objects)
    for one in ours:
        assert one["metadata"]["namespace"] == NAMESPACE
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "w"


def test_by_default_there_is_little() -> None:
    kinds = sorted(one["kind"] for one in rendered())
    assert kinds == ["ConfigMap", "Pod", "Service", "ServiceAccount", "StatefulSet"]


def test_off_is_off() -> None:
    assert sorted(one["kind"] for one in rendered("off")) == ["ConfigMap", "StatefulSet"]


# One replica


def test_at_most_one_bridge() -> None:
    spec = rendered().workload["spec"]
    assert (rendered().workload["kind"], spec["replicas"]) == ("StatefulSet", 1)
    assert spec["podManagementPolicy"] == "Parallel", "in order, an upgrade would wait for ever for a broken pod"


def claim(**persistence: Any) -> Any:
    (found,) = rendered(persistence=persistence).workload["spec"]["volumeClaimTemplates"]
    return found


def test_the_outbox_is_on_a_claim() -> None:
    assert claim()["metadata"]["name"] == "outbox"
    assert claim()["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}


@pytest.mark.parametrize(("name", "made"), [("fast", "fast"), ("-", "")])
def test_the_claims_storage_class(name: str, made: str) -> None:
    assert claim(storageClass=name)["spec"]["storageClassName"] == made


def test_the_claim_as_it_is_wanted() -> None:
    found = claim(size="5Gi", accessModes=["ReadWriteOncePod"], annotations={"a": "b"})
    assert found["spec"]["resources"]["requests"]["storage"] == "5Gi"
    assert found["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert found["metadata"]["annotations"] == {"a": "b"}


@pytest.mark.parametrize(
    ("kube", "policy"), [("1.25", None), ("1.27", {"whenDeleted": "Delete", "whenScaled": "Retain"})]
)
def test_the_claim_when_the_release_goes(kube: str, policy: Any) -> None:
    objects = rendered(kube=kube, persistence={"retention": {"whenDeleted": "Delete"}})
    assert objects.workload["spec"].get("persistentVolumeClaimRetentionPolicy") == policy


@pytest.mark.parametrize(
    ("persistence", "volume"),
    [
        ({"existingClaim": "mine"}, {"persistentVolumeClaim": {"claimName": "mine"}}),
        ({"enabled": False, "size": "1Gi"}, {"emptyDir": {"sizeLimit": "1Gi"}}),
    ],
    ids=["existing claim", "off"],
)
def test_the_outbox_elsewhere(persistence: Any, volume: Any) -> None:
    objects = rendered(persistence=persistence)
    assert objects.volume("outbox") == {"name": "outbox", **volume}
    assert "volumeClaimTemplates" not in objects.workload["spec"]


# Two replicas


def test_two_replicas_take_turns_by_a_lease() -> None:
    objects = rendered("ha")
    assert objects.workload["kind"] == "Deployment"
    assert objects.workload["spec"]["replicas"] == 2
    assert objects.workload["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert f"--lease={NAMESPACE}/{NAME}" in objects.container["args"]
    assert objects.volume("outbox")["emptyDir"], "each has an outbox of its own"


def test_only_the_container_has_the_token_and_it_is_renewed() -> None:
    objects = rendered("ha")
    sources = objects.volume("lease")["projected"]["sources"]
    assert [next(iter(one)) for one in sources] == ["serviceAccountToken", "configMap"]
    assert sources[0]["serviceAccountToken"]["path"] == "token"
    assert sources[1]["configMap"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    (mount,) = [one for one in objects.container["volumeMounts"] if one["name"] == "lease"]
    assert f"--lease-credentials={mount['mountPath']}" in objects.container["args"]
    assert not mount["mountPath"].startswith("/run/secrets"), "nothing can be mounted into a projected volume"


def test_it_may_read_and_write_this_one_lease_and_nothing_else() -> None:
    objects = rendered("ha")
    lease = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
    making, using = objects.one("Role")["rules"]
    assert making == {**lease, "verbs": ["create"]}, "which cannot be limited to a name"
    assert using == {**lease, "resourceNames": [NAME], "verbs": ["get", "update"]}
    binding = objects.one("RoleBinding")
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME}
    account = objects.pod["spec"]["serviceAccountName"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]
    assert objects.one("ServiceAccount", account)


def test_two_replicas_go_to_two_nodes_unless_told_otherwise() -> None:
    (apart,) = rendered("ha").pod["spec"]["topologySpreadConstraints"]
    assert (apart["topologyKey"], apart["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    assert apart["labelSelector"] == {"matchLabels": rendered("ha").workload["spec"]["selector"]["matchLabels"]}
    mine = {"maxSkew": 1, "topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}
    assert rendered("ha", topologySpreadConstraints=[mine]).pod["spec"]["topologySpreadConstraints"] == [mine]


@pytest.mark.parametrize(
    ("values", "count"),
    [({}, 0), ({"ha": ON}, 1), ({"ha": ON, "podDisruptionBudget": OFF}, 0)],
    ids=["one", "two", "two, off"],
)
def test_a_disruption_budget_with_two_only(values: Any, count: int) -> None:
    found = rendered(**values).of("PodDisruptionBudget")
    assert [one["spec"]["maxUnavailable"] for one in found] == [1] * count, "with one, no node could be drained"


@pytest.mark.parametrize("ci", [ci for ci in ALL if ci != "ha"])
def test_no_rights_without_a_lease(ci: str) -> None:
    assert not [one["kind"] for one in rendered(ci) if one["kind"] in ("Role", "RoleBinding")]


@pytest.mark.parametrize("ci", ALL)
def test_a_release_may_be_called_by_a_number(ci: str) -> None:
    names = {"fullnameOverride": "71", "nameOverride": "72", "priorityClassName": "73", "runtimeClassName": "74"}
    values: dict[str, Any] = {**names, "existingSecret": "75", "serviceAccount": {"name": "76"}}
    objects = rendered(ci, release="77", namespace="78", **values)
    found = re.findall(r"'[^']+': 7\d\b", str(objects))
    assert not found, "a number where a text has to be"


@pytest.mark.parametrize("release", ["a" * 53, "a.b", "ws2mqtt", "a" * 51 + "-b", "a" * 50 + "--b"])
def test_every_name_may_be_one(release: str) -> None:
    """Source: Kubernetes documentation, "Object Names and IDs": a Service's name is the narrowest."""
    objects = rendered("full", release=release, serviceAccount={"name": ""}, extraObjects=[])
    objects += rendered("ha", release=release)
    for one in objects:
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", one["metadata"]["name"])
        labels = one["metadata"].get("labels", {}).values()
        assert all(re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", label) for label in labels)
    assert all(len(one["metadata"]["name"]) <= 52 for one in objects.of("StatefulSet") + objects.of("Deployment"))


def test_service_account() -> None:
    assert rendered().pod["spec"]["serviceAccountName"] == NAME
    assert rendered(serviceAccount={"create": False}).pod["spec"]["serviceAccountName"] == "default"
    mine = rendered(serviceAccount={"create": False, "name": "mine"})
    assert mine.pod["spec"]["serviceAccountName"] == "mine"
    assert mine.of("ServiceAccount") == []


@pytest.mark.parametrize(("key", "kind"), [("service", "Service"), ("serviceAccount", "ServiceAccount")])
def test_annotations_of_one_object(key: str, kind: str) -> None:
    values: dict[str, Any] = {key: {"annotations": {"a": "b"}}}
    assert rendered(**values).one(kind)["metadata"]["annotations"] == {"a": "b"}


# Network


def test_the_service_shows_a_pod_that_has_trouble_too() -> None:
    spec = rendered().one("Service")["spec"]
    assert spec["publishNotReadyAddresses"] is True
    assert spec["ports"] == [{"name": "http", "port": 9108, "targetPort": "http"}]


def test_the_network_policy_is_off_unless_wanted() -> None:
    assert rendered().of("NetworkPolicy") == []


def test_the_network_policy_lets_in_the_port_alone_and_out_everything() -> None:
    spec = rendered(networkPolicy=ON).one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == [{"ports": [{"protocol": "TCP", "port": 9108}]}]
    assert spec["egress"] == [{}]


def test_the_network_policy_as_narrow_as_it_is_told() -> None:
    spec = rendered("ha").one("NetworkPolicy")["spec"]
    monitoring, test = spec["ingress"][0]["from"]
    assert "namespaceSelector" in monitoring
    (pod,) = rendered("ha").of("Pod")
    assert pod["metadata"]["labels"].items() >= test["podSelector"]["matchLabels"].items()
    ports = [(one["protocol"], one["port"]) for rule in spec["egress"] for one in rule["ports"]]
    assert ports == [("UDP", 53), ("TCP", 53), ("TCP", 443), ("TCP", 6443), ("TCP", 8883), ("TCP", 443)]


def test_the_network_policy_leaves_the_api_server_out_without_a_lease() -> None:
    egress = rendered("full").one("NetworkPolicy", "w-ws2mqtt")["spec"]["egress"]
    assert [one.get("ports", [{}])[0].get("port") for one in egress] == [53, None]


def test_without_a_port_the_network_policy_lets_nothing_in() -> None:
    objects = rendered(networkPolicy=ON, config={"http": {"listen": "off"}})
    assert objects.one("NetworkPolicy")["spec"]["ingress"] == []


# Notes


def test_notes_tell_three_commands() -> None:
    told = notes("minimal")
    assert f"kubectl -n {NAMESPACE} rollout status statefulset/{NAME}" in told
    assert f"kubectl -n {NAMESPACE} logs -f statefulset/{NAME}" in told
    assert f"kubectl -n {NAMESPACE} port-forward service/{NAME} 9108" in told
    assert "WARNING" not in told


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"config": {"backends": LORA}}, "config.mqtt.url is not set"),
        ({"config": {"mqtt": {"url": "mqtt://b"}}}, "config.backends is empty"),
        ({"config": WHOLE, "persistence": OFF}, "persistence is off"),
        ({"config": WHOLE | {"outbox": {"path": None}}}, "config.outbox.path is not set"),
        ({"config": WHOLE | {"outbox": {"path": "/tmp/x"}}}, "config.outbox.path is not below /var/lib/ws2mqtt"),
        ({"config": WHOLE | {"outbox": {"path": "/var/lib/ws2mqtt2"}}}, "config.outbox.path is not below"),
        ({"config": WHOLE | {"http": {"listen": "off"}}}, "config.http.listen is off"),
        ({"config": WHOLE, "ha": ON}, "two replicas share no outbox"),
        ({"config": WHOLE, "secrets": {"a": "b"}}, "`secrets` stay readable"),
        ({"config": WHOLE | {"mqtt": {"url": "mqtt://b", "username": "u", "password": "p"}}}, "in mqtt.password)"),
        ({"config": WHOLE | {"backends": {"lora": {"type": "resiot", "url": "ws://h"}}}}, "in lora)"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_notes_warn(values: Any, told: str) -> None:
    said = " ".join(notes(**values).split())
    assert told in said
    assert said.count("WARNING") == 1


@pytest.mark.parametrize("values", [{"ha": ON}, {"persistence": OFF}], ids=["two replicas", "no claim"])
def test_notes_warn_of_an_outbox_elsewhere_without_a_claim_too(values: Any) -> None:
    said = notes(config=WHOLE | {"outbox": {"path": "/data"}}, **values)
    assert "config.outbox.path is not below" in " ".join(said.split())


# helm test


def test_the_pod_of_helm_test_stays_for_its_log() -> None:
    (pod,) = rendered().of("Pod")
    notes = pod["metadata"]["annotations"]
    assert notes == {"helm.sh/hook": "test", "helm.sh/hook-delete-policy": "before-hook-creation"}


# The README


def test_the_readmes_first_commands_render(tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text().partition("\n### Kubernetes\n")[2].partition("\n### ")[0]
    (values,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    (tmp_path / "my-backends.yaml").write_text(values)
    (install,) = re.findall(r"^helm install (.*)$", section, re.MULTILINE)
    assert "--wait" in install, "the next one needs a pod that runs"
    command = ["helm", "template", *shlex.split(install.replace("helm/ws2mqtt", str(CHART)))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    objects = {one["kind"]: one for one in yaml.safe_load_all(done.stdout) if one}
    for place in re.findall(r"kubectl -n iot .*?(\w+/ws2mqtt)\b", section):
        assert place.partition("/")[0] in {kind.lower() for kind in objects} | {"deployment"}
    assert objects["StatefulSet"]["metadata"]["name"] == "ws2mqtt"
    config = yaml.safe_load(objects["ConfigMap"]["data"]["ws2mqtt.yaml"])
    assert config["backends"] == yaml.safe_load(values)["config"]["backends"]


def test_the_readme_names_values_that_there_are() -> None:
    section = (ROOT / "README.md").read_text().partition("\n### Kubernetes\n")[2].partition("\n### ")[0]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    paths = re.findall(r"`((?:persistence|ha|metrics|networkPolicy|image)\.[\w.]+)", section)
    assert len(paths) > 8
    for path in paths:
        place = values
        for step in path.split("."):
            place = place[step]
