"""Leadership by a Kubernetes Lease: asks the API server again and again, and is the Permit of everything that connects.

1. What may be done is counted by a clock that never goes back and does not stop while the machine sleeps.
2. Token and CA are read anew for every call: Kubernetes rotates both.
3. No error text holds the token. Proxies of the environment are not used, redirects not followed.
"""

import asyncio
import contextlib
import logging
import math
import os
import random
import re
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
from msgspec import Struct

from bridge.clock import instant
from bridge.election import Ask, Election, Heard, Timing
from bridge.errors import Fatal
from bridge.links.failures import why
from bridge.model import Instant
from bridge.options import Secret
from bridge.permit import Permit

CREDENTIALS = "/var/run/secrets/kubernetes.io/serviceaccount"
_CALL_S = 2.0
_GIVING_BACK = 4  # requests at most
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"({_LABEL})/({_LABEL}(?:\.{_LABEL})*)")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class LeaseOptions(Struct, frozen=True):
    """What the command line says."""

    namespace: str
    name: str
    credentials: str = CREDENTIALS
    timing: Timing = Timing()


def parse(lease: str) -> tuple[str, str]:
    """NAMESPACE/NAME. Raises ValueError with the remedy."""
    found = _NAME.fullmatch(lease)
    if found is None or len(found[2]) > 253:
        raise ValueError("write NAMESPACE/NAME, both as Kubernetes names: a-z, 0-9 and '-'")
    return found[1], found[2]


def check(timing: Timing) -> None:
    """Raises ValueError with the remedy."""
    if not all(map(math.isfinite, (timing.duration, timing.deadline, timing.retry))):
        raise ValueError("--lease-duration, --lease-deadline and --lease-retry: write them like 15s")
    if timing.retry <= 0:
        raise ValueError("--lease-retry has to be longer than 0s")
    if timing.deadline <= timing.retry:
        raise ValueError("--lease-deadline has to be longer than --lease-retry: one attempt alone may fail")
    if timing.duration <= timing.deadline:
        raise ValueError("--lease-duration has to be longer than --lease-deadline: in between everything is stopped")


class Server:
    """The API server, as one Lease of it needs it. Raises Fatal where nothing says where it is."""

    def __init__(self, options: LeaseOptions, environ: Mapping[str, str]) -> None:
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise Fatal(
                "--lease: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: run it in a pod, where they "
                "are, or set them to the address of the API server"
            )
        self._token = Secret(file=str(Path(options.credentials, "token")))
        self._ca = Path(options.credentials, "ca.crt")
        for file in (Path(options.credentials, "token"), self._ca):
            if not os.access(file, os.R_OK):
                raise Fatal(
                    f"--lease: {file} cannot be read: the pod needs automountServiceAccountToken: true, or give the "
                    "folder with token and ca.crt by --lease-credentials"
                )
        root = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        self._leases = f"{root}/apis/coordination.k8s.io/v1/namespaces/{options.namespace}/leases"
        self._name = options.name
        self._limit = min(_CALL_S, options.timing.deadline / 3)
        self._trusted = b""
        self._client: httpx.AsyncClient | None = None

    @property
    def secret(self) -> Secret:
        return self._token

    async def call(self, ask: Ask) -> Heard:
        """Makes the request, within its limit."""
        try:
            async with asyncio.timeout(self._limit):
                return await self._made(ask)
        except TimeoutError:
            return Heard(0, error=f"the API server did not answer within {self._limit:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return Heard(0, error=f"the API server was not reached: {_reason(error, self._leases)}")

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            with contextlib.suppress(TimeoutError, OSError, httpx.HTTPError):
                async with asyncio.timeout(self._limit):
                    await client.aclose()

    async def _made(self, ask: Ask) -> Heard:
        token = self._token.reveal().strip()
        if not token or not token.isascii() or not token.isprintable():
            return Heard(0, error=f"{self._token.file} holds no token")  # httpx would say it in its error
        client = await self._opened()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        url = self._leases if ask.action == "create" else f"{self._leases}/{self._name}"
        response = await client.request(ask.method, url, headers=headers, content=ask.body)
        after = response.headers.get("Retry-After", "")
        return Heard(response.status_code, response.content, after=float(after) if after.isdecimal() else 0.0)

    async def _opened(self) -> httpx.AsyncClient:
        """The client for the CA there is."""
        trusted = self._ca.read_bytes()
        if self._client is None or trusted != self._trusted:
            await self.close()
            context = ssl.create_default_context(cadata=trusted.decode())
            self._client = httpx.AsyncClient(verify=context, trust_env=False, timeout=None, follow_redirects=False)
            self._trusted = trusted
        return self._client


def _reason(error: Exception, url: str) -> str:
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted by ca.crt: {error.__context__.verify_message}"
    return why(error, url)


def holder() -> str:
    """A name that no other process has, nor this one after a restart."""
    return f"{os.environ.get('HOSTNAME') or socket.gethostname()}_{secrets.token_hex(4)}"


class Lease(Permit):
    """Holds the lease whenever it can be had, while run() runs.

    seen: Unix times when backends were last heard, told to whoever leads next.
    """

    def __init__(
        self,
        options: LeaseOptions,
        log: logging.LoggerAdapter[logging.Logger],
        *,
        environ: Mapping[str, str],
        clock: Callable[[], float] = lambda: time.clock_gettime(_CLOCK),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.server = Server(options, environ)
        self.election = Election(holder(), options.namespace, options.name, options.timing, jitter)
        self.seen: Callable[[], Mapping[str, float]] = dict
        self.clock, self._log = clock, log  # type: ignore[method-assign]
        self._stir = asyncio.Event()  # ask now
        self._bell = asyncio.Event()  # something was answered: set and cleared at once
        self._said: str | None = None
        self._trouble = False

    def __str__(self) -> str:
        return f"{self.election.namespace}/{self.election.name}"

    # As a Permit.

    def holds(self) -> bool:
        return self.clock() < self.election.until

    def lasts(self) -> bool:
        return self.clock() < self.election.ends

    async def confirmed(self, since: float | None = None) -> None:
        def given() -> bool:
            return self.holds() and (since is None or self.election.granted >= since)

        if not given():
            self._stir.set()
        while not given():
            await self._bell.wait()

    # What the composition root waits for.

    async def lost(self) -> str:
        """Returns when nothing new may begin any more: why."""
        while (left := self.election.until - self.clock()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._bell.wait()
        if self.lasts():
            return self.election.trouble or "the API server did not answer in time"
        others = self.election.holder
        return f"{others} holds the lease" if others not in ("", self.election.me) else "its time was over"

    def left(self) -> float:
        """Seconds until everything has to be stopped."""
        return max(0.0, self.election.ends - self.clock())

    def status(self) -> str:
        """For people."""
        if self.holds():
            return f"active: this replica holds the lease {self}"
        others = self.election.holder
        known = f"{others} holds the lease {self}" if others else f"nobody is known to hold the lease {self}"
        return f"standby: {known}" + (f" ({self.election.trouble})" if self.election.trouble else "")

    # Asking.

    async def run(self) -> None:
        """Asks until cancelled."""
        while True:
            self._stir.clear()
            pause = await self._asked(self.election.ask(self._now(), self.seen()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stir.wait()

    async def give_back(self) -> None:
        """Makes room for others at once. Everything is stopped, and run() is ended."""
        for _ in range(_GIVING_BACK):
            ask = self.election.give_back(self._now(), self.seen())
            if ask is None:
                break
            await self._asked(ask)
            if self.election.trouble:
                self._log.warning("the lease was not given back: it runs out", extra={"reason": self.election.trouble})
                break
        await self.server.close()

    async def _asked(self, ask: Ask) -> float:
        """Seconds until the next ask."""
        began = self._now()
        heard = await self.server.call(ask)
        pause = self.election.answered(ask, heard, began, self._now())
        self._say()
        self._bell.set()
        self._bell.clear()
        return pause

    def _now(self) -> Instant:
        return Instant(self.clock(), instant().unix)

    def _say(self) -> None:
        """What has changed."""
        election = self.election
        if election.trouble and not self._trouble:
            self._log.warning("no answer about the lease", extra={"lease": str(self), "reason": election.trouble})
        elif self._trouble and not election.trouble:
            self._log.info("answers about the lease again", extra={"lease": str(self)})
        self._trouble = bool(election.trouble)
        if election.holder != self._said and election.holder:
            self._said = election.holder
            if election.holder != election.me:
                self._log.info("standby: another replica is active", extra={"lease": str(self), "holder": self._said})
