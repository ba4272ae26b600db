"""The bridge as users run it: a child process with a configuration file, its log, its signals and its endpoints.

It ends with the context manager, by its own process id; an exception that leaves it carries the end of the log.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

import bridge
from tests.support import PATIENCE_S, NotSeen, Record, free_port
from tests.support.published import promised

PROGRAM = (sys.executable, "-m", "bridge", "run")
_POLL_S = 0.02
_LINE = 2**20

T = TypeVar("T")
Series = tuple[str, frozenset[tuple[str, str]]]


class Scrape(dict[Series, float]):
    """One picture of /metrics: (name, labels) -> value."""

    def of(self, name: str, **labels: str) -> float:
        """The value of one series. Raises KeyError."""
        return self[name, frozenset(labels.items())]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series of that name that have these labels; 0 for none."""
        wanted = labels.items()
        return sum(value for (one, told), value in self.items() if one == name and wanted <= set(told))


@dataclass(frozen=True)
class Line:
    """A line the child wrote. fields: what is in it where it is a JSON object, else empty."""

    stream: Literal["stdout", "stderr"]
    text: str
    fields: Mapping[str, Any]

    @property
    def message(self) -> str:
        return str(self.fields.get("message", ""))

    def __str__(self) -> str:
        return self.text


class BridgeProcess:
    """`ws2mqtt run` on a configuration; started when its context is entered, ended by SIGKILL when that is left.

    config: written as YAML to the folder; where it says nothing on `http`, it listens on http_port (None: a free one).
    environment: added to ours. arguments: more of the command line. program: another one that takes `-c FILE`.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        folder: Path,
        *,
        http_port: int | None = None,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.folder = folder
        self.http_port = http_port or free_port()
        self.config_file = folder / "ws2mqtt.yaml"
        self._config, self._environment = config, environment or {}
        self._arguments, self._program = arguments, program
        self._lines: Record[Line] = Record("the bridge's log")
        self._child: asyncio.subprocess.Process | None = None
        self._log: asyncio.Task[None]

    @property
    def pid(self) -> int:
        """Raises RuntimeError before start()."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: ended by that signal."""
        return self._process.returncode

    @property
    def lines(self) -> list[Line]:
        """Everything it wrote so far, over all its starts."""
        return self._lines.items

    @property
    def log(self) -> str:
        return "\n".join(line.text for line in self.lines)

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()
        if error is not None:
            error.add_note("the end of the bridge's log:\n" + "\n".join(line.text for line in self.lines[-60:]))

    async def start(self) -> None:
        """Returns at once: wait_log() or wait_http() tell when it is up. Also again, after it ended."""
        if self._child is not None and self._child.returncode is None:
            raise RuntimeError("this bridge runs already")
        self.configure(self._config)
        self._lines.go_on()
        self._child = child = await asyncio.create_subprocess_exec(
            *self._program, "-c", str(self.config_file), "--log-format", "json", *self._arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=self.folder, env=self._env(), limit=_LINE,
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        self._log = asyncio.create_task(self._follow(child, child.stdout, child.stderr))

    def configure(self, config: Mapping[str, Any]) -> None:
        """Writes the file; hup() makes a running bridge read it."""
        self._config = config
        listen = {"http": {"listen": f"127.0.0.1:{self.http_port}"}}
        self.config_file.write_text(yaml.safe_dump({**listen, **config}, sort_keys=False), "utf-8")
        promised(self.config_file, {**os.environ, **self._environment})

    # Ending it and other signals

    async def terminate(self, timeout: float = PATIENCE_S) -> int:
        """SIGTERM; returns the exit code. Raises NotSeen, and kills it, where it does not end in time."""
        self.signal(signal.SIGTERM)
        return await self.wait_exit(timeout)

    async def interrupt(self, timeout: float = PATIENCE_S) -> int:
        """SIGINT, as Ctrl-C; like terminate()."""
        self.signal(signal.SIGINT)
        return await self.wait_exit(timeout)

    async def wait_exit(self, timeout: float = PATIENCE_S) -> int:
        """The exit code, when the whole log was read too. Raises NotSeen, and kills it, where it does not end."""
        try:
            async with asyncio.timeout(timeout):
                code = await self._process.wait()
                await self._log
        except TimeoutError:
            await self.kill()
            raise NotSeen(f"the bridge did not end within {timeout:g} s; its log:\n{self.log[-3000:]}") from None
        return code

    async def kill(self) -> None:
        """SIGKILL, as a crash; also where it is frozen or has ended."""
        if self._child is None:
            return
        if self._child.returncode is None:
            self._child.kill()
        async with asyncio.timeout(PATIENCE_S):
            await self._child.wait()
            await self._log

    def hup(self) -> None:
        """Makes it read its configuration again."""
        self.signal(signal.SIGHUP)

    def freeze(self) -> None:
        """Its sockets stay open, and nothing answers any more."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Nothing where it has ended."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    # Seeing what it does

    async def wait_log(self, predicate: Callable[[Line], bool], timeout: float = PATIENCE_S, *, since: int = 0) -> Line:
        """The first line that fits, from place `since` of `lines` on. Raises NotSeen, at once where it ended."""
        return (await self._lines.wait(predicate, timeout, 1, since))[0]

    async def wait_logs(self, count: int, message: str, timeout: float = PATIENCE_S) -> list[Line]:
        """The first `count` lines with this message. Raises NotSeen, at once where it ended."""
        return await self._lines.wait(lambda line: line.message == message, timeout, count)

    async def get(self, path: str) -> httpx.Response:
        """GET on its HTTP endpoints. Raises httpx.TransportError."""
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
            return await client.get(self.http_url + path)

    async def scrape(self) -> Scrape:
        """Raises httpx.HTTPError."""
        answer = (await self.get("/metrics")).raise_for_status()
        families = text_string_to_metric_families(answer.text)
        samples = [sample for family in families for sample in family.samples]
        return Scrape({(one.name, frozenset(one.labels.items())): one.value for one in samples})

    async def wait_http(self, path: str = "/readyz", status: int = 200, timeout: float = PATIENCE_S) -> httpx.Response:
        """The first answer with that status. Raises NotSeen, at once where the bridge ended."""
        seen: object = "nothing asked"

        async def ask() -> httpx.Response | None:
            nonlocal seen
            try:
                answer = await self.get(path)
            except httpx.TransportError as error:
                seen = repr(error)
                return None
            seen = f"{answer.status_code} {answer.text[:300]}"
            return answer if answer.status_code == status else None

        return await self._poll(ask, timeout, lambda: f"{path} never said {status}; last: {seen}")

    async def wait_scrape(self, predicate: Callable[[Scrape], bool], timeout: float = PATIENCE_S) -> Scrape:
        """The first scrape that fits. Raises NotSeen, at once where the bridge ended."""
        last = Scrape()

        async def ask() -> Scrape | None:
            nonlocal last
            try:
                last = await self.scrape()
            except httpx.TransportError:
                return None
            return last if predicate(last) else None

        return await self._poll(ask, timeout, lambda: f"no scrape fitted; last: {_ours(last)}")

    async def _poll(self, ask: Callable[[], Awaitable[T | None]], timeout: float, tell: Callable[[], str]) -> T:
        """Nothing tells us when an endpoint changes: it is asked again and again."""
        why = f"within {timeout:g} s"
        try:
            async with asyncio.timeout(timeout):
                while self.exit_code is None:
                    if (found := await ask()) is not None:
                        return found
                    await asyncio.sleep(_POLL_S)
                why = f"and the bridge ended with {self.exit_code}"
        except TimeoutError:
            pass
        raise NotSeen(f"{tell()}; {why}; the end of its log:\n{self.log[-3000:]}")

    # Its parts

    @property
    def _process(self) -> asyncio.subprocess.Process:
        if self._child is None:
            raise RuntimeError("this bridge was never started")
        return self._child

    def _env(self) -> dict[str, str]:
        root = str(Path(bridge.__file__).parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **self._environment}

    async def _follow(
        self, child: asyncio.subprocess.Process, out: asyncio.StreamReader, err: asyncio.StreamReader
    ) -> None:
        await asyncio.gather(self._read("stdout", out), self._read("stderr", err))
        self._lines.end(f"the bridge ended with exit code {await child.wait()}")

    async def _read(self, stream: Literal["stdout", "stderr"], reader: asyncio.StreamReader) -> None:
        while data := await reader.readline():
            text = data.decode("utf-8", "replace").rstrip("\n")
            self._lines.append(Line(stream, text, _fields(text)))


def _fields(text: str) -> Mapping[str, Any]:
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _ours(scrape: Scrape) -> str:
    found = ((name, dict(labels), value) for (name, labels), value in scrape.items() if name.startswith("ws2mqtt_"))
    return "\n".join(f"{name}{labels} {value:g}" for name, labels, value in found if value)
