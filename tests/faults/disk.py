"""The disk under the outbox: a small file system of its own, so that it can be full or read-only; and what is on it.

Mounting needs root. Without it the outbox lies in a common folder, and the troubles of disks are left out.
"""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

SIZE = "96m"
_CHECK_SUM = 4  # bytes at the end of what is written


class Disk:
    """A mounted tmpfs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Not a byte is left."""
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(self._folder).free))
            file.seek(0, os.SEEK_END)
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def read_only(self, wanted: bool) -> None:
        """Nobody may have a file open for writing."""
        _run("mount", "-o", "remount,ro" if wanted else "remount,rw", str(self._folder))


@contextmanager
def mounted(folder: Path) -> Iterator[Disk | None]:
    """A disk at that folder; None where mounting is not allowed."""
    folder.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "ws2mqtt-faults", str(folder))
    except (OSError, subprocess.SubprocessError):
        yield None
        return
    try:
        yield Disk(folder)
    finally:
        _run("umount", "-l", str(folder))


def _run(*words: str) -> None:
    subprocess.run(words, check=True, timeout=60, capture_output=True)


def waiting_in(outbox: Path, backend: str) -> int | None:
    """Events that wait in a backend's file, which nobody has open; None: there is no file.

    It is looked at in a copy, so that looking changes nothing.
    """
    with tempfile.TemporaryDirectory(prefix="ws2mqtt-look-") as folder:
        copies = [
            shutil.copy(file, folder) for file in outbox.glob(f"{backend}.sqlite*") if "unreadable" not in file.name
        ]
        if not copies:
            return None
        with contextlib.closing(sqlite3.connect(Path(folder) / f"{backend}.sqlite")) as connection:
            return _count(connection)


def _count(connection: sqlite3.Connection) -> int:
    told = connection.execute("SELECT value FROM note WHERE key = 'head'").fetchone()
    head = int(str(told[0]).partition(" ")[0]) if told else 0  # behind it is a check sum
    chunks = connection.execute("SELECT first, events, body FROM chunk").fetchall()
    return sum(_left(head, *chunk) for chunk in chunks)


def _left(head: int, first: int, events: int, body: bytes) -> int:
    """What of a chunk still waits: what is behind the head."""
    if first >= head:
        return events
    positions = [entry[0] for entry in msgspec.msgpack.decode(body[:-_CHECK_SUM])]
    return sum(position - positions[0] + first >= head for position in positions)
