"""A real Mosquitto as a child process, with a configuration of its own, on free ports of 127.0.0.1.

It ends with the context manager, by its own process id. Its log goes to a file, not through a pipe, and its end is
awaited in a thread, so that one broker can be shared by tests that run on different event loops.
"""

import asyncio
import datetime
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from tests.support import PATIENCE_S, Connack, Connect, Malformed, close, free_port, read_packet, write_connect

HOST = "127.0.0.1"
_STOP_S = 20.0
_POLL_S = 0.01
_TRIES = 3


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, as PEM files."""

    cert_file: Path
    key_file: Path


@dataclass(frozen=True)
class Certificates:
    """One certificate authority and what it signed; `stranger_file` is the certificate of another authority."""

    ca_file: Path
    stranger_file: Path
    server: Certificate
    expired: Certificate
    wrong_host: Certificate
    client: Certificate

    @classmethod
    def make(cls, folder: Path) -> Self:
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        trustme.CA().cert_pem.write_to_path(str(folder / "stranger.pem"))
        year = [datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2020, 2021)]
        expired = ca.issue_cert(HOST, "localhost", not_before=year[0], not_after=year[1])
        return cls(
            folder / "ca.pem",
            folder / "stranger.pem",
            _write(folder / "server", ca.issue_cert(HOST, "localhost")),
            _write(folder / "expired", expired),
            _write(folder / "wrong-host", ca.issue_cert("elsewhere.example")),
            _write(folder / "client", ca.issue_cert("client@ws2mqtt.example", common_name="client")),
        )

    def context(self, client: bool = False) -> ssl.SSLContext:
        """For a client that trusts the authority; client: it also shows the client certificate."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if client:
            context.load_cert_chain(self.client.cert_file, self.client.key_file)
        return context


def _write(stem: Path, issued: trustme.LeafCert) -> Certificate:
    made = Certificate(stem.with_suffix(".pem"), stem.with_suffix(".key"))
    issued.private_key_pem.write_to_path(str(made.key_file))
    for pem in issued.cert_chain_pems:
        pem.write_to_path(str(made.cert_file), append=True)
    return made


class Mosquitto:
    """A broker; mqtt:// is always there, mqtts:// with `tls`, ws:// with `websockets`, wss:// with both.

    folder: for its files. port: that of mqtt://, 0 a free one. users: name -> password; nobody else may come in.
    tls: the server's certificate; client_ca: a client must show a certificate of this authority on mqtts:// and wss://.
    persistence: what it holds survives restart(), and, but for the last milliseconds (see save()), kill().
    acl: lines of an ACL file.
    max_inflight: also the Receive Maximum it tells its clients. lines: more of mosquitto.conf, before the listeners.
    Its queue for a slow client is as good as unlimited (Mosquitto's default is 1000): no message gets lost there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        users: Mapping[str, str] | None = None,
        tls: Certificate | None = None,
        client_ca: Path | None = None,
        websockets: bool = False,
        persistence: bool = False,
        acl: Sequence[str] = (),
        max_inflight: int = 20,
        lines: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._users, self._tls, self._client_ca, self._acl = users, tls, client_ca, acl
        self._persistence, self._max_inflight, self._lines = persistence, max_inflight, lines
        schemes = ["mqtt", *["mqtts"] * bool(tls), *["ws"] * websockets, *["wss"] * bool(tls and websockets)]
        self.ports = dict.fromkeys(schemes, 0) | {"mqtt": port}
        self._child: subprocess.Popen[bytes] | None = None
        self._frozen = False

    @property
    def port(self) -> int:
        """That of mqtt://, once started."""
        return self.ports["mqtt"]

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def log(self) -> str:
        """What it has written so far, over all its starts."""
        path = self.folder / "mosquitto.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def url(self, scheme: str = "mqtt", host: str = HOST) -> str:
        """For example `mqtts://127.0.0.1:40123`. Raises KeyError for a listener that was not asked for."""
        return f"{scheme}://{host}:{self.ports[scheme]}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Returns when a CONNECT was answered. Raises RuntimeError, with its log, where it does not come up."""
        if self.pid is not None:
            raise RuntimeError("this Mosquitto runs already")
        binary = _binary("mosquitto")
        await asyncio.to_thread(self._write_files)
        chosen = [scheme for scheme, port in self.ports.items() if not port]
        for _ in range(_TRIES if chosen else 1):
            self.ports |= {scheme: free_port() for scheme in chosen}
            config = self.folder / "mosquitto.conf"
            config.write_text(self._configuration(), "utf-8")
            with (self.folder / "mosquitto.log").open("ab") as log:
                self._child = subprocess.Popen([binary, "-c", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self._frozen = False
            if await self._ready():
                return
        raise RuntimeError(f"Mosquitto does not start:\n{self.log[-3000:]}")

    async def stop(self) -> None:
        """By SIGTERM: it says goodbye to its clients; by SIGKILL where that takes too long or it is frozen."""
        if self.pid is not None:
            self._signal(signal.SIGKILL if self._frozen else signal.SIGTERM)
            if not await self._ended(_STOP_S):
                await self.kill()

    async def kill(self) -> None:
        """By SIGKILL, as a crash."""
        if self.pid is not None:
            self._signal(signal.SIGKILL)
            await self._ended(_STOP_S)

    async def restart(self) -> None:
        """On the same ports."""
        await self.stop()
        await self.start()

    @property
    def saved(self) -> float:
        """When it wrote the newest of its savings that is whole, Unix time; it acknowledges nothing meanwhile."""
        return (self.folder / "mosquitto.db").stat().st_mtime

    async def save(self, timeout: float = PATIENCE_S) -> None:
        """Has written what it holds, so that it survives even kill(). Raises TimeoutError. Only with `persistence`."""
        path = self.folder / "mosquitto.db"

        def written() -> tuple[int, int]:
            return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else (0, 0)

        before = written()
        self._signal(signal.SIGUSR1)
        async with asyncio.timeout(timeout):
            while written() == before:
                await asyncio.sleep(_POLL_S)

    def freeze(self) -> None:
        """Its sockets stay open, and nothing answers any more."""
        self._signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self._frozen = False

    def _signal(self, number: signal.Signals) -> None:
        if self._child is None:
            raise RuntimeError("this Mosquitto was never started")
        self._child.send_signal(number)

    async def _ended(self, limit: float) -> bool:
        child = self._child
        if child is None:
            return True
        try:
            await asyncio.to_thread(child.wait, limit)
        except subprocess.TimeoutExpired:
            return False
        return True

    async def _ready(self) -> bool:
        """False where it ended by itself, which a port that was taken meanwhile does."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self.pid is not None:
                    if await answers(self.port):
                        return True
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            await self.kill()
            raise RuntimeError(f"Mosquitto does not answer:\n{self.log[-3000:]}") from None
        return False

    # Its files

    def _write_files(self) -> None:
        if self._acl:
            _private(self.folder / "acl", "\n".join(self._acl) + "\n")
        if self._users:
            _private(self.folder / "passwords", "")
            told = [_binary("mosquitto_passwd"), "-b", str(self.folder / "passwords")]
            for name, password in self._users.items():
                subprocess.run([*told, name, password], check=True, timeout=60, capture_output=True)

    def _configuration(self) -> str:
        lines = [
            f"max_inflight_messages {self._max_inflight}",
            "max_queued_messages 100000000",  # 0, unlimited, makes 2.0.11 cut whoever publishes what it may not
            "max_queued_bytes 0",
            "sys_interval 0",
            "log_dest stderr",
            f"allow_anonymous {str(not self._users).lower()}",
            f"persistence {str(self._persistence).lower()}",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else it becomes `mosquitto`, which may not read a test's folder
        if self._persistence:
            lines += [f"persistence_location {self.folder}/", "autosave_on_changes true", "autosave_interval 1"]
        if self._users:
            lines.append(f"password_file {self.folder / 'passwords'}")
        if self._acl:
            lines.append(f"acl_file {self.folder / 'acl'}")
        lines += self._lines
        for scheme in self.ports:
            lines += self._listener(scheme)
        return "\n".join(lines) + "\n"

    def _listener(self, scheme: str) -> list[str]:
        lines = [f"listener {self.ports[scheme]} {HOST}"]
        if scheme.startswith("ws"):
            lines.append("protocol websockets")
        if scheme in ("mqtts", "wss") and self._tls is not None:
            lines += [f"certfile {self._tls.cert_file}", f"keyfile {self._tls.key_file}"]
            if self._client_ca is not None:
                lines += [f"cafile {self._client_ca}", "require_certificate true"]
        return lines


async def answers(port: int) -> bool:
    """Whether a CONNECT there is answered, be it with a refusal."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    try:
        writer.write(write_connect(Connect("ready")))
        return isinstance(await read_packet(reader, 5), Connack)
    except (OSError, asyncio.IncompleteReadError, Malformed):
        return False
    finally:
        await close(writer)


def _private(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(0o600)


def _binary(name: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"])
    if found := shutil.which(name, path=path):
        return found
    raise RuntimeError(f"the tests need the program {name}: apt-get install mosquitto (macOS: brew install mosquitto)")
