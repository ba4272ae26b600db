"""The processes of a benchmark: what they say, what they use (Linux), and their end, by their own ids."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

_GRACE_S = 8.0
_SCHEDULED = 2  # of a process, all its threads together (Linux, posix-timers.h: CPUCLOCK_SCHED)


class Failed(Exception):
    """A process did not do what was expected of it; the end of what it wrote."""


class Child:
    """One process; its standard output is lines of JSON, its standard error a file."""

    def __init__(self, name: str, log: Path, running: asyncio.subprocess.Process) -> None:
        self.name, self.pid = name, running.pid
        self._log, self._running = log, running
        self._said: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self._running.stdout is not None
        async for line in self._running.stdout:
            async with self._news:
                with suppress(ValueError):
                    self._said.append(json.loads(line))
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    async def said(self, event: str, count: int = 1, timeout: float = 120.0) -> dict[str, Any]:
        """The last of so many lines of this event. Raises Failed where it ends or takes too long before that."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self._said if line.get("event") == event]

        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: len(found()) >= count or self._running.returncode is not None)
        except TimeoutError:
            pass
        if len(found()) < count:
            raise Failed(f"{self.name} did not say {event!r}:\n{self._log.read_text('utf-8', 'replace')[-2000:]}")
        return found()[count - 1]

    def tell(self, line: str) -> None:
        assert self._running.stdin is not None
        self._running.stdin.write(f"{line}\n".encode())

    def cpu(self) -> float:
        """Seconds, with its children's."""
        return sum(cpu(pid) for pid in _tree(self.pid))

    def memory(self, peak: bool = True) -> float:
        """MiB, of it alone."""
        return memory(self.pid, peak)

    async def end(self) -> None:
        if self._running.returncode is None:
            self._running.terminate()
            try:
                await asyncio.wait_for(self._running.wait(), _GRACE_S)
            except TimeoutError:
                self._running.kill()
                await self._running.wait()
        await self._reading


@asynccontextmanager
async def started(name: str, command: Sequence[str], folder: Path) -> AsyncIterator[Child]:
    log = folder / f"{name}.log"
    with log.open("ab") as errors:
        running = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors, limit=2**24
        )
    child = Child(name, log, running)
    try:
        yield child
    finally:
        await child.end()


def python(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def cpu(pid: int) -> float:
    """Seconds of CPU a process has used, finer than /proc tells."""
    return time.clock_gettime(~pid << 3 | _SCHEDULED)


def memory(pid: int, peak: bool) -> float:
    """Resident MiB."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(wanted):
            return int(line.split()[1]) / 1024
    return 0.0


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in os.listdir(f"/proc/{pid}/task"):
        with suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                yield from _tree(int(child))
