"""What the bridge has on disk, seen by somebody else; and a disk of one's own, to be filled and locked."""

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bridge.shelf import Entry
from tests.support import PATIENCE_S, NotSeen

_POLL_S = 0.02


def waiting(folder: Path, backend: str = "lora") -> list[Any]:
    """Every event in a backend's file, in order: its payload. Of a bridge that runs, or of one that was killed."""
    with tempfile.TemporaryDirectory() as copied:
        file = folder / f"{backend}.sqlite"
        if not file.exists():
            return []
        if not (folder / f"{backend}.sqlite-wal").exists():  # ended in order
            file = Path(shutil.copy(file, copied))
        with contextlib.closing(sqlite3.connect(file, timeout=5.0)) as connection:
            try:
                rows = connection.execute("SELECT body FROM chunk ORDER BY first").fetchall()
            except sqlite3.OperationalError:  # it has not begun
                return []
    entries = [entry for (body,) in rows for entry in msgspec.msgpack.decode(body[:-4], type=list[Entry])]
    return [json.loads(entry.message.payload) for entry in entries]


async def until_on_disk(folder: Path, count: int, backend: str = "lora", timeout: float = PATIENCE_S) -> list[Any]:
    """Until so many events are in a backend's file. Raises NotSeen."""
    found: list[Any] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            while len(found := waiting(folder, backend)) < count:
                await asyncio.sleep(_POLL_S)
            return found
    raise NotSeen(f"{len(found)} of {count} events on disk within {timeout:g} s")


@dataclass
class Disk:
    """A file system in memory, of so many bytes."""

    path: Path

    def fill(self) -> None:
        """Nothing more fits; what is there may still be overwritten."""
        with (self.path / "ballast").open("ab", buffering=0) as ballast:
            for size in (65_536, 4_096, 1):
                with contextlib.suppress(OSError):
                    while ballast.write(bytes(size)):
                        pass

    def free(self) -> None:
        (self.path / "ballast").unlink()

    def read_only(self, locked: bool) -> None:
        """Raises CalledProcessError, as where a file is open for writing."""
        _run("mount", "-o", f"remount,{'ro' if locked else 'rw'}", str(self.path))


@contextlib.contextmanager
def disk(path: Path, size: str = "3m") -> Iterator[Disk]:
    """Mounted here while the context lasts. Needs root."""
    path.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "ws2mqtt-test", str(path))
    try:
        yield Disk(path)
    finally:
        _run("umount", "--lazy", str(path))


def may_mount() -> bool:
    """Not everywhere root may."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            with disk(Path(folder) / "disk"):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=10, capture_output=True)
