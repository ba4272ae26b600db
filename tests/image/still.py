"""The image before anything runs for good: what it says of itself, what is in it, and what is not."""

import json
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.image.engine import HARDENED, Engine, ended

ROOT = Path(__file__).parents[2]
TAG = "ws2mqtt"
REVISION, SOURCE = "0123abc", "https://git.example/ws2mqtt"

# Runs inside, as root so that it sees everything.
_LOOK = """
import importlib.metadata, json, os, pathlib, shutil, sys, bridge.app
packages = [str(one) for one in pathlib.Path("/").glob("[!ps]*/**/*-packages/*")]
cached = [path for one in list(sys.modules.values()) if (path := getattr(one, "__cached__", None))]
own = [os.path.join(at, one) for top in ("/opt", "/usr", "/etc") for at, _, names in os.walk(top) for one in names]
print(json.dumps({
    "distributions": {one.name: one.version for one in importlib.metadata.distributions()},
    "tools": [one for one in sys.argv[1:] if shutil.which(one, path=os.environ["PATH"])],
    "packages": sorted({os.path.basename(one) for one in packages}),
    "installers": sorted(one for one in own if os.path.basename(one).startswith(("pip-", "ensurepip"))),
    "uncached": [one for one in cached if not os.path.exists(one)],
    "owned": [one for one in own if not os.path.islink(one) and (os.stat(one).st_uid or os.stat(one).st_mode & 2)],
    "source": os.path.exists("/src"),
    "sbom": pathlib.Path("/opt/ws2mqtt/sbom.cdx.json").read_text(),
}))
"""
_TOOLS = ("pip", "pip3", "uv", "gcc", "cc", "g++", "make", "ld", "git", "curl", "wget", "cyclonedx-py", "easy_install")
_VALID = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
fault = JsonStrictValidator(SchemaVersion.from_version(sys.argv[1])).validate_str(sys.stdin.read())
sys.exit(str(fault)[:2000] if fault else None)
"""


def same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: {found!r}, not {wanted!r}")


async def looked(engine: Engine) -> dict[str, Any]:
    told = await engine.podman(
        "run", "--rm", "--no-healthcheck", *HARDENED, "--network=none", "--user=0:0", "--entrypoint=python", TAG,
        "-c", _LOOK, *_TOOLS,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(told)
    return found


async def what_it_says_of_itself(engine: Engine, found: Mapping[str, Any]) -> None:
    image = await engine.inspect(TAG)
    config = image["Config"]
    same("user", config.get("User"), "10001:10001")
    same("entrypoint", config.get("Entrypoint"), ["ws2mqtt"])
    same("command", config.get("Cmd"), ["run", "-c", "/etc/ws2mqtt/ws2mqtt.yaml"])
    same("volumes", list(config.get("Volumes", {})), ["/var/lib/ws2mqtt"])
    same("ports", list(config.get("ExposedPorts", {})), ["9108/tcp"])
    same("stop signal", config.get("StopSignal"), "SIGTERM")
    same("healthcheck", image.get("Healthcheck", {}).get("Test"), ["CMD", "ws2mqtt", "healthcheck"])


async def labels(engine: Engine, found: Mapping[str, Any]) -> None:
    project = _project()
    wanted = {
        "title": project["name"], "description": project["description"], "version": project["version"],
        "licenses": project["license"], "revision": REVISION, "source": SOURCE,
    }  # fmt: skip
    told = (await engine.inspect(TAG))["Config"]["Labels"]
    prefix = "org.opencontainers.image."
    same("labels", {key.removeprefix(prefix): text for key, text in told.items() if key.startswith(prefix)}, wanted)


async def nothing_that_builds_or_installs(engine: Engine, found: Mapping[str, Any]) -> None:
    same("tools", found["tools"], [])
    same("installers", found["installers"], [])
    unwanted = {"pip", "setuptools", "wheel", "pkg_resources", "cyclonedx", "cyclonedx_py", "tests"}
    same("packages that build", unwanted & set(found["packages"]), set())
    same("the source", found["source"], False)


async def what_was_pinned_is_installed(engine: Engine, found: Mapping[str, Any]) -> None:
    pins = re.findall(r"^([^\s=]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    wanted = {_normal(name): version for name, version in [*pins, ("ws2mqtt", _project()["version"])]}
    same("distributions", {_normal(name): version for name, version in found["distributions"].items()}, wanted)


async def the_sbom_is_valid_and_complete(engine: Engine, found: Mapping[str, Any]) -> None:
    sbom = json.loads(found["sbom"])
    await ended(sys.executable, "-c", _VALID, sbom["specVersion"], stdin=found["sbom"])
    parts = [sbom["metadata"]["component"], *sbom["components"]]
    listed = {_normal(one["name"]): one.get("version") for one in parts}
    same("components", listed, {_normal(name): version for name, version in found["distributions"].items()})


async def it_starts_without_compiling(engine: Engine, found: Mapping[str, Any]) -> None:
    same("modules without bytecode", found["uncached"], [])


async def its_user_owns_no_program(engine: Engine, found: Mapping[str, Any]) -> None:
    same("files that others than root may write", found["owned"], [])


CHECKS = (
    what_it_says_of_itself,
    labels,
    nothing_that_builds_or_installs,
    what_was_pinned_is_installed,
    the_sbom_is_valid_and_complete,
    it_starts_without_compiling,
    its_user_owns_no_program,
)


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
