"""One process on one folder."""

import contextlib
import fcntl
import os
from pathlib import Path

from bridge.errors import Fatal


def lock(folder: Path) -> int:
    """Takes the folder for this process, for as long as it lives; returns the lock's descriptor.

    Raises Fatal where another process has it, OSError where the folder cannot be made or written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = os.read(descriptor, 20).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise Fatal(
            f"outbox.path: {folder} is in use by another ws2mqtt (process {other or 'unknown'}); "
            "stop that one, or give each a folder of its own"
        ) from None
    with contextlib.suppress(OSError):  # a full disk: the lock holds without the number
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    return descriptor
