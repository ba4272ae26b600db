"""The pod: restricted as the Pod Security Standards ask, probed, given time, and made of what the values say."""

import re
from typing import Any

import pytest

from tests.chart.rendering import ALL, NAME, Object, rendered

# Source: Kubernetes documentation, "Pod Security Standards": the volume types of the profile Restricted.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
PODS = [(ci, which) for ci in ALL for which, _ in rendered(ci).pods()]


def spec_of(ci: str, which: str) -> Object:
    return dict(rendered(ci).pods())[which]


def containers(spec: Object) -> list[Object]:
    return [*spec["containers"], *spec.get("initContainers", [])]


# Restricted, and the Baseline that it includes


@pytest.mark.parametrize(("ci", "which"), PODS)
def test_baseline(ci: str, which: str) -> None:
    spec = spec_of(ci, which)
    assert not [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    pod = spec["securityContext"]
    unsafe = ("seLinuxOptions", "sysctls", "procMount", "windowsOptions", "appArmorProfile", "privileged")
    for context in (pod, *(one["securityContext"] for one in containers(spec))):
        assert not [key for key in unsafe if context.get(key)]
    assert not [port for one in containers(spec) for port in one.get("ports", []) if "hostPort" in port]


@pytest.mark.parametrize(("ci", "which"), PODS)
def test_restricted(ci: str, which: str) -> None:
    spec = spec_of(ci, which)
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    for one in containers(spec):
        mine = one["securityContext"]
        assert mine["allowPrivilegeEscalation"] is False
        assert mine["capabilities"] == {"drop": ["ALL"]}
        assert mine.get("runAsUser", 1) > 0
        assert mine.get("runAsNonRoot", True) is True
    for volume in spec.get("volumes", []):
        assert set(volume) - {"name"} <= VOLUMES


@pytest.mark.parametrize(("ci", "which"), PODS)
def test_more_than_restricted(ci: str, which: str) -> None:
    spec = spec_of(ci, which)
    assert [spec["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")] == [10001] * 3
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    for one in containers(spec):
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
        assert one["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in one["resources"]["limits"]
    for volume in spec.get("volumes", []):
        assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}), "an emptyDir without an end"


@pytest.mark.parametrize("ci", [ci for ci in ALL if ci != "ha"])
def test_no_token_without_a_lease(ci: str) -> None:
    objects = rendered(ci)
    assert "serviceAccountToken" not in str([spec["volumes"] for which, spec in objects.pods() if which == "workload"])
    assert all(one["automountServiceAccountToken"] is False for one in objects.of("ServiceAccount"))


# What it runs, and how it is watched


def test_it_runs_the_service_on_the_mounted_file() -> None:
    container = rendered().container
    assert container["args"] == ["run", "-c", "/etc/ws2mqtt/ws2mqtt.yaml"]
    assert {"name": "config", "mountPath": "/etc/ws2mqtt", "readOnly": True} in container["volumeMounts"]
    assert {"name": "outbox", "mountPath": "/var/lib/ws2mqtt"} in container["volumeMounts"]
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


def test_probes() -> None:
    container = rendered().container
    paths = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    live, ready = {"path": "/livez", "port": "http"}, {"path": "/readyz", "port": "http"}
    assert paths == {"startupProbe": live, "livenessProbe": live, "readinessProbe": ready}
    assert rendered(livenessProbe={"periodSeconds": 3}).container["livenessProbe"]["periodSeconds"] == 3


def test_files_may_be_read_by_the_group_alone() -> None:
    for ci in ("existing-secrets", "full", "ha"):
        for volume in rendered(ci).pod["spec"]["volumes"]:
            kept = volume.get("configMap") or volume.get("secret") or volume.get("projected")
            assert kept is None or kept["defaultMode"] == 0o440


def test_a_lost_node_is_let_go_of_after_30_seconds() -> None:
    tolerations = rendered().pod["spec"]["tolerations"]
    assert {one["key"].partition("/")[2]: one["tolerationSeconds"] for one in tolerations} == {
        "not-ready": 30,
        "unreachable": 30,
    }


# What the values say


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({}, "ws2mqtt:"),
        ({"image": {"tag": "9"}}, "ws2mqtt:9"),
        ({"image": {"registry": "r.example", "tag": "9"}}, "r.example/ws2mqtt:9"),
        ({"image": {"registry": "r.a", "tag": "9"}, "global": {"imageRegistry": "g.a/"}}, "g.a/ws2mqtt:9"),
        ({"image": {"repository": "a/b", "tag": "9", "digest": "sha256:" + "0" * 64}}, "a/b@sha256:" + "0" * 64),
    ],
)  # fmt: skip
def test_image(values: dict[str, Any], image: str) -> None:
    objects = rendered(**values)
    assert objects.container["image"].startswith(image)
    assert {one["image"] for _, spec in objects.pods() for one in spec["containers"]} == {objects.container["image"]}


def test_pull_secrets_of_all_charts_and_of_this_one() -> None:
    values: dict[str, Any] = {"global": {"imagePullSecrets": ["a"]}, "imagePullSecrets": ["b", {"name": "c"}]}
    objects = rendered(**values)
    for _, spec in objects.pods():
        assert spec["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}, {"name": "c"}]


BESIDE = {"name": "beside", "image": "b"}
PLAIN: dict[str, Any] = {
    "nodeSelector": {"a": "b"},
    "affinity": {"podAffinity": {}},
    "priorityClassName": "high",
    "runtimeClassName": "gvisor",
    "tolerations": [{"operator": "Exists"}],
}


@pytest.mark.parametrize("key", PLAIN)
def test_what_kubernetes_knows_by_the_same_name(key: str) -> None:
    values = {key: PLAIN[key]}
    assert rendered(**values).pod["spec"][key] == PLAIN[key]


@pytest.mark.parametrize(
    ("key", "place", "one"),
    [
        ("extraEnv", "env", {"name": "A", "value": "b"}),
        ("extraEnvFrom", "envFrom", {"secretRef": {"name": "s"}}),
        ("extraArgs", "args", "--lease-duration=30s"),
        ("extraVolumeMounts", "volumeMounts", {"name": "v", "mountPath": "/v"}),
    ],
)
def test_more_of_the_container(key: str, place: str, one: Any) -> None:
    values: dict[str, Any] = {key: [one]}
    assert rendered(**values).container[place][-1] == one


@pytest.mark.parametrize(
    ("key", "place", "one"),
    [
        ("extraContainers", "containers", BESIDE),
        ("extraInitContainers", "initContainers", BESIDE),
        ("extraVolumes", "volumes", {"name": "v", "emptyDir": {}}),
    ],
)
def test_more_of_the_pod(key: str, place: str, one: Any) -> None:
    values: dict[str, Any] = {key: [one]}
    assert rendered(**values).pod["spec"][place][-1] == one


def test_labels_and_annotations() -> None:
    objects = rendered(
        podLabels={"p": "1"}, podAnnotations={"q": "2"}, commonLabels={"c": "3"}, commonAnnotations={"d": "4"}
    )
    assert objects.pod["metadata"]["labels"].items() >= {"p": "1", "c": "3"}.items()
    assert objects.pod["metadata"]["annotations"].items() >= {"q": "2", "d": "4"}.items()
    for one in objects:
        if "helm.sh/hook" not in one["metadata"].get("annotations", {}):
            assert one["metadata"]["annotations"]["d"] == "4"
        assert one["metadata"]["labels"]["c"] == "3"


@pytest.mark.parametrize("ci", ALL)
def test_selectors_find_the_pod_and_stay_as_they_are(ci: str) -> None:
    objects = rendered(ci, commonLabels={"app.kubernetes.io/name": "another", "x": "y"})
    selector = objects.workload["spec"]["selector"]["matchLabels"]
    assert selector == {"app.kubernetes.io/name": "ws2mqtt", "app.kubernetes.io/instance": "w"}
    assert objects.pod["metadata"]["labels"].items() >= selector.items()
    for one in objects.of("Service"):
        assert one["spec"]["selector"] == selector
    for one in objects.of("Pod"):
        assert not one["metadata"]["labels"].items() >= selector.items(), "the test would be taken for the bridge"


@pytest.mark.parametrize("ci", ALL)
def test_the_pod_is_not_replaced_for_a_new_chart_alone(ci: str) -> None:
    assert not re.search(r"helm\.sh/chart|app\.kubernetes\.io/version", str(rendered(ci).pod["metadata"]))


def test_names() -> None:
    assert rendered().workload["metadata"]["name"] == NAME
    assert rendered(nameOverride="w").workload["metadata"]["name"] == "w"
    assert rendered(fullnameOverride="hall").workload["metadata"]["name"] == "hall"
    assert len(rendered(fullnameOverride="x" * 80).workload["metadata"]["name"]) == 52


def test_more_objects_as_they_are_or_as_templates() -> None:
    map_ = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plain"}, "data": {"a": "{{ b }}"}}
    template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-x'}\n"
    objects = rendered(extraObjects=[map_, template])
    assert objects.one("ConfigMap", "plain") == map_
    assert objects.one("ConfigMap", "w-x")
