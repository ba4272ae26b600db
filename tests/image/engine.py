"""buildah and podman as child processes, on a storage, a state folder and a network of their own.

They run without systemd and in a machine that may be a container itself: hence runc, host network and given limits.
Whatever they leave (containers, images, mounts) goes when the context is left.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_CALL_S = 180.0
_BUILD_S = 600.0
MACHINE = ("--runtime=runc", "--ulimit=nofile=1024:20000", "--ulimit=nproc=4096:4096")  # where podman runs at all
# What a careful person gives it; the image has to be content with that.
HARDENED = (
    *MACHINE, "--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges",
)  # fmt: skip
_SETTINGS = ("cert", "index-url", "extra-index-url", "proxy", "timeout", "trusted-host")  # of this machine's pip


class Broken(Exception):
    """A command failed: which one, how, and what it said."""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


async def done(
    *command: str | Path, timeout: float = _CALL_S, stdin: str = "", environment: Mapping[str, str] | None = None
) -> Done:
    """Runs it to its end; environment: beside ours. Raises Broken, and ends it and its children, if it takes longer."""
    child = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        start_new_session=True, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout):
            out, err = await child.communicate(stdin.encode())
    except TimeoutError:
        raise Broken(f"{_line(command)}: not done within {timeout:g} s") from None
    finally:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    assert child.returncode is not None
    return Done(child.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


async def ended(
    *command: str | Path, timeout: float = _CALL_S, stdin: str = "", environment: Mapping[str, str] | None = None
) -> str:
    """What it printed. Raises Broken where it failed."""
    found = await done(*command, timeout=timeout, stdin=stdin, environment=environment)
    if found.code:
        raise Broken(f"{_line(command)}: exit {found.code}\n{found.out[-3000:]}{found.err[-3000:]}")
    return found.out


def _line(command: tuple[str | Path, ...]) -> str:
    return " ".join(map(str, command))[:200]


class Engine:
    """folder: an empty one, for everything there is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = folder / "storage"
        self._storage = ("--storage-driver=overlay", f"--root={self._root}", f"--runroot={folder / 'run'}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(Broken):  # they may not even be there
            await self.podman("rm", "--all", "--force", "--volumes", "--time=0")
            await self.podman("rmi", "--all", "--force")
        for mount in reversed(self._mounts()):
            await ended("umount", mount)
        if left := self._mounts():  # removing the folder would reach beyond it
            raise Broken(f"still mounted: {left}")
        await asyncio.to_thread(shutil.rmtree, self.folder)

    def _mounts(self) -> list[str]:
        places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        return [one for one in places if one.startswith(f"{self.folder}/")]

    async def podman(self, *arguments: str | Path) -> str:
        return await ended(*self._podman(arguments))

    async def tried(self, *arguments: str | Path) -> Done:
        """What may fail, and shows how."""
        return await done(*self._podman(arguments))

    async def first_line(self, *arguments: str) -> str:
        """What it prints first; that ends it. Raises Broken."""
        child = await asyncio.create_subprocess_exec(
            *self._podman(arguments), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        try:
            async with asyncio.timeout(_CALL_S):
                return (await child.stdout.readline()).decode()
        except TimeoutError:
            raise Broken(f"{_line(arguments)}: no line within {_CALL_S:g} s") from None
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()

    def _podman(self, arguments: tuple[str | Path, ...]) -> tuple[str | Path, ...]:
        own = ("--cgroup-manager=cgroupfs", "--events-backend=none", f"--tmpdir={self.folder / 'state'}")
        return ("podman", *self._storage, *own, *arguments)

    async def build(self, source: Path, tag: str, **arguments: str) -> None:
        """The Dockerfile as it is; what this machine's pip needs to reach its index is mounted over the build."""
        options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        for file, place in (await self._pip()).items():
            options.append(f"--volume={file}:{place}:ro")
        await ended(
            "buildah", *self._storage, "bud", "--quiet", "--pull-never", "--isolation=chroot", "--network=host",
            "--format=docker", *options, "--tag", tag, source,
            timeout=_BUILD_S, environment={"TMPDIR": str(self.folder)},
        )  # fmt: skip

    async def _pip(self) -> dict[Path, str]:
        """This machine's file -> place in the build."""
        told = await ended(sys.executable, "-m", "pip", "config", "list")
        found = {}
        for key, _, value in (line.partition("=") for line in told.splitlines()):
            if key.rpartition(".")[2] in _SETTINGS:
                found[key.rpartition(".")[2]] = value.strip("'\"")
        config = self.folder / "pip.conf"
        config.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in found.items()))
        mounts = {config: "/etc/pip.conf"}
        if "cert" in found:
            mounts[Path(found["cert"])] = found["cert"]
        return mounts

    async def inspect(self, name: str) -> dict[str, Any]:
        """Of an image or a container."""
        told: list[dict[str, Any]] = json.loads(await self.podman("inspect", name))
        return told[0]

    async def logs(self, name: str) -> str:
        found = await self.tried("logs", name)
        return found.out + found.err
