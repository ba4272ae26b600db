"""A pod of the chart, run by podman as a kubelet would run it: what its spec says, no more and no less.

Files of ConfigMaps, Secrets and tokens lie where a kubelet lays them, behind a link, with the volume's mode and the
pod's fsGroup; a claim is a folder of root's that this group may write to. A pod has the machine's network, or none, and
no network of pods: what is asked of it is asked from within, at an address other than the one that loopback means.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tests.chart.rendering import content
from tests.image.engine import MACHINE, Engine, done
from tests.support import PATIENCE_S, NotSeen

Files = Mapping[str, str]
Probe = Literal["startupProbe", "livenessProbe", "readinessProbe"]
_ASK = """
import sys, urllib.error, urllib.request
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with direct.open(sys.argv[1], timeout=float(sys.argv[2])) as answer:
        sys.exit(None if 200 <= answer.status < 400 else answer.status)
except urllib.error.HTTPError as error:
    sys.exit(f"{error.code} {error.read().decode()}")
except OSError as error:
    sys.exit(str(error))
"""
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def size(quantity: str) -> int:
    """Bytes."""
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]


def kept(objects: list[dict[str, Any]]) -> dict[str, Files]:
    """What ConfigMaps and Secrets among these hold, by name."""
    return {one["metadata"]["name"]: content(one) for one in objects if one["kind"] in ("ConfigMap", "Secret")}


class Pod:
    """One container of one pod. spec: the pod's · around: the files of each ConfigMap and Secret, and of `token`.

    environment: what a kubelet adds of its own · image: another one than the spec's · hosts: names, for this machine.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        spec: Mapping[str, Any],
        around: Mapping[str, Files],
        *,
        container: str = "ws2mqtt",
        network: Literal["host", "none"] = "host",
        environment: Files | None = None,
        image: str = "",
        hosts: tuple[str, ...] = (),
    ) -> None:
        self.name, self.spec = name, spec
        (self.container,) = [one for one in spec["containers"] if one["name"] == container]
        self._engine, self._around, self._image = engine, around, image or self.container["image"]
        self._folder = engine.folder / "pods" / name
        self._outside = [f"--network={network}", f"--hostname={name}", "--no-healthcheck"]
        self._outside += [f"--add-host={one}:127.0.0.1" for one in hosts]
        self._environment = dict(environment or {})

    async def start(self) -> None:
        await self._engine.podman("run", "--detach", *self._command(self.container.get("args", [])))

    async def run(self, *arguments: str) -> str:
        """To its end; arguments: instead of its own. What it printed. Raises Broken where it failed."""
        return await self._engine.podman("run", "--rm", *self._command(arguments or self.container.get("args", [])))

    async def until(self, probe: Probe) -> None:
        """Until it succeeds, for as long as a kubelet would go on. Raises NotSeen."""
        told = self.container[probe]
        patience = told.get("periodSeconds", 10) * told.get("failureThreshold", 3)
        heard = ""
        try:
            async with asyncio.timeout(max(patience, PATIENCE_S)):
                while heard := await self.asked(probe):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise NotSeen(f"{self.name}: {probe}: {heard}\n{await self._engine.logs(self.name)}") from None

    async def asked(self, probe: Probe) -> str:
        """What speaks against success; empty where nothing does."""
        told = self.container[probe]
        (port,) = [one["containerPort"] for one in self.container["ports"] if one["name"] == told["httpGet"]["port"]]
        url = f"http://127.0.0.2:{port}{told['httpGet']['path']}"
        enter = ("nsenter", f"--target={await self._pid()}", "--net")
        answer = await done(*enter, sys.executable, "-I", "-c", _ASK, url, str(told.get("timeoutSeconds", 1)))
        return answer.err if answer.code else ""

    async def first_line(self, *command: str) -> str:
        """Of a program that is run in it."""
        return await self._engine.first_line("exec", self.name, *command)

    def files(self, volume: str) -> set[str]:
        """Names of what is on that volume."""
        return {one.name for one in (self._folder / volume).iterdir()}

    async def most_memory(self) -> int:
        """Bytes that it has had at most."""
        status = Path(f"/proc/{await self._pid()}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    async def stop(self) -> int:
        """With the grace that it is given; its exit code, 137 where that was too short."""
        grace = self.spec["terminationGracePeriodSeconds"]
        await self._engine.podman("stop", f"--time={grace}", self.name)
        code: int = (await self._engine.inspect(self.name))["State"]["ExitCode"]
        return code

    async def _pid(self) -> int:
        state = (await self._engine.inspect(self.name))["State"]
        if state["Status"] != "running":
            raise AssertionError(f"{self.name} is {state['Status']}:\n{await self._engine.logs(self.name)}")
        pid: int = state["Pid"]
        return pid

    def _command(self, arguments: list[str] | tuple[str, ...]) -> list[str]:
        told = [f"--name={self.name}", "--pull=never", *MACHINE, *self._outside, *self._security()]
        told += [f"--env={name}={value}" for name, value in self._variables().items()]
        told += [f"--volume={self._volume(one)}" for one in self.container.get("volumeMounts", [])]
        if command := self.container.get("command"):
            told.append(f"--entrypoint={json.dumps(command)}")
        return [*told, self._image, *arguments]

    def _security(self) -> list[str]:
        pod, own = self.spec["securityContext"], self.container["securityContext"]
        told = [f"--user={pod['runAsUser']}:{pod['runAsGroup']}", f"--group-add={pod['fsGroup']}"]
        told += [f"--cap-drop={one}" for one in own["capabilities"]["drop"]]
        told += [] if own["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]
        return told + (["--read-only", "--read-only-tmpfs=false"] if own["readOnlyRootFilesystem"] else [])

    def _variables(self) -> dict[str, str]:
        found = dict(self._environment)
        for one in self.container.get("envFrom", []):
            found |= self._around[next(iter(one.values()))["name"]]
        for one in self.container.get("env", []):
            source = one.get("valueFrom", {}).get("secretKeyRef")
            found[one["name"]] = self._around[source["name"]][source["key"]] if source else one["value"]
        return found

    def _volume(self, mount: Mapping[str, Any]) -> str:
        """As `podman run` takes it; what is on a volume stays from start to start."""
        place = self._folder / mount["name"]
        if not place.exists():
            place.mkdir(parents=True)
            told = [one for one in self.spec.get("volumes", []) if one["name"] == mount["name"]]
            self._fill(place, told[0] if told else {})  # else it is a claim's
        return f"{place}:{mount['mountPath']}:{'ro' if mount.get('readOnly') else 'rw'}"

    def _fill(self, place: Path, volume: Mapping[str, Any]) -> None:
        files = self._files(volume)
        if files is None:
            self._give(place, 0o2777 if "emptyDir" in volume else 0o2775)
            return
        (source,) = (volume[kind] for kind in ("configMap", "secret", "projected") if kind in volume)
        real = place / "..2024_03_05"
        real.mkdir()
        for name, text in files.items():
            (real / name).write_text(text)
            self._give(real / name, source["defaultMode"])
            (place / name).symlink_to(f"..data/{name}")
        (place / "..data").symlink_to(real.name)
        self._give(real, 0o2750)
        self._give(place, 0o2777)

    def _give(self, place: Path, mode: int) -> None:
        os.chown(place, 0, self.spec["securityContext"]["fsGroup"])
        place.chmod(mode)

    def _files(self, volume: Mapping[str, Any]) -> Files | None:
        match volume:
            case {"configMap": source} | {"secret": source}:
                name = source.get("name") or source["secretName"]
                return self._around[name]
            case {"projected": {"sources": sources}}:
                return {path: text for one in sources for path, text in self._projected(one).items()}
        return None

    def _projected(self, told: Mapping[str, Any]) -> Files:
        ((kind, source),) = told.items()
        if kind == "serviceAccountToken":
            return {source["path"]: self._around["token"]["token"]}
        held = self._around[source["name"]]
        return {one["path"]: held[one["key"]] for one in source["items"]} if "items" in source else held
