"""What the chart renders, as objects. Helm is a child process; the same values are rendered once."""

import base64
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "ws2mqtt"
CI = sorted((CHART / "ci").glob("*-values.yaml"))
ALL = [file.name.removesuffix("-values.yaml") for file in CI]
RELEASE, NAMESPACE = "w", "iot"
NAME = "w-ws2mqtt"

Object = dict[str, Any]


def content(one: Object) -> dict[str, str]:
    """The files of a ConfigMap or Secret."""
    held: dict[str, str] = one.get("data", {})
    if one["kind"] == "Secret":
        return {name: base64.b64decode(text).decode() for name, text in held.items()}
    return held


class Rendered(list[Object]):
    """All objects of a release."""

    def of(self, kind: str) -> list[Object]:
        return [one for one in self if one["kind"] == kind]

    def one(self, kind: str, name: str = NAME) -> Object:
        (found,) = [one for one in self.of(kind) if one["metadata"]["name"] == name]
        return found

    @property
    def workload(self) -> Object:
        """The StatefulSet or Deployment."""
        (found,) = self.of("StatefulSet") + self.of("Deployment")
        return found

    @property
    def pod(self) -> Object:
        template: Object = self.workload["spec"]["template"]
        return template

    @property
    def container(self) -> Object:
        (found,) = [one for one in self.pod["spec"]["containers"] if one["name"] == "ws2mqtt"]
        return dict(found)

    def volume(self, name: str) -> Object:
        (found,) = [one for one in self.pod["spec"]["volumes"] if one["name"] == name]
        return dict(found)

    @property
    def config(self) -> str:
        """The configuration file's text."""
        kept = self.volume("config")
        if "secret" in kept:
            return content(self.one("Secret", kept["secret"]["secretName"]))["ws2mqtt.yaml"]
        return content(self.one("ConfigMap", kept["configMap"]["name"]))["ws2mqtt.yaml"]

    def holding(self, text: str) -> list[str]:
        """Kinds of the objects in which this text is, in whatever form."""
        return [one["kind"] for one in self if text in json.dumps([one, content(one)])]

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Every pod there will be, as (what it is, its spec): the workload's and the test's."""
        yield "workload", self.pod["spec"]
        for one in self.of("Pod"):
            yield "test", one["spec"]


def rendered(
    ci: str = "", *, kube: str = "1.32", release: str = RELEASE, namespace: str = NAMESPACE, **values: Any
) -> Rendered:
    """With the values of that file in ci/, and these over them. Raises AssertionError with what Helm says."""
    done = _helm(ci, kube, json.dumps(values), release=release, namespace=namespace)
    assert done.returncode == 0, done.stderr
    return Rendered(one for one in yaml.safe_load_all(done.stdout) if one)


def complaint(ci: str, **values: Any) -> str | None:
    """What Helm says against these values, if anything."""
    done = _helm(ci, "1.32", json.dumps(values))
    return done.stderr if done.returncode else None


def refused(**values: Any) -> str:
    """What Helm says to values that it must not take."""
    done = _helm("", "1.32", json.dumps(values))
    assert done.returncode != 0, f"taken: {values}"
    return done.stderr


@cache
def _helm(
    ci: str, kube: str, values: str, chart: Path = CHART, *, release: str = RELEASE, namespace: str = NAMESPACE
) -> subprocess.CompletedProcess[str]:
    files = ["-f", str(CHART / "ci" / f"{ci}-values.yaml")] if ci else []
    command = ["helm", "template", release, str(chart), "-n", namespace, "--kube-version", kube, *files, "-f", "-"]
    return subprocess.run(command, input=values, capture_output=True, text=True, timeout=180, check=False)


def notes(ci: str = "", **values: Any) -> str:
    """NOTES.txt. `helm template` leaves it out: here a copy of the chart has it as the text of an object."""
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(folder) / "ws2mqtt"
        for file in filter(Path.is_file, CHART.rglob("*")):
            copy = chart / file.relative_to(CHART)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(file.read_text())
        (chart / "templates" / "NOTES.txt").rename(chart / "files" / "NOTES.txt")
        told = 'kind: Notes\ntext: {{ tpl (.Files.Get "files/NOTES.txt") . | toJson }}\n'
        (chart / "templates" / "notes.yaml").write_text(told)
        done = _helm(ci, "1.32", json.dumps(values), chart)
    assert done.returncode == 0, done.stderr
    (found,) = [one for one in yaml.safe_load_all(done.stdout) if one and one["kind"] == "Notes"]
    return re.sub(r"\n{3,}", "\n\n", str(found["text"]))
