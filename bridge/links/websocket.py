"""The door towards a platform's WebSocket.

1. Redirects are not followed: the URL and its headers hold secrets that are meant for one server.
2. With a fingerprint the certificate is compared after the TLS handshake and before the first byte of the request.
3. Frames are handed on as bytes, so that one that is no UTF-8 is a dead frame and not the end of the connection.
4. No error text holds a URL.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import websockets.asyncio.client as client
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.frames import CloseCode
from websockets.headers import build_authorization_basic

from bridge.backends.session import Dial, Loss
from bridge.errors import BridgeError
from bridge.links.failures import why
from bridge.links.stream import Stream
from bridge.links.tls import compare, tls_context
from bridge.model import Instant
from bridge.options import BackendOptions, revealed

_OPEN_S = 15.0
_CLOSE_S = 10.0
_SILENT_S = 2.0  # in closing, or where the connection has failed: the other side is gone
_HARD_LIMIT = 4  # times max_frame: what is larger is not even read, the connection ends with 1009

Kind = Literal["refused", "failed", "closed", "ping", "idle", "too_large", "asked"]


class Gone(BridgeError):
    """The link is not there (any more): why, as Loss has it."""

    def __init__(
        self,
        kind: Kind,
        text: str,
        status: int | None = None,
        after: float | None = None,
        code: int | None = None,
    ) -> None:
        super().__init__(text)
        self.kind: Kind = kind
        self.status, self.after, self.code = status, after, code

    def loss(self, seen: Instant, redact: Callable[[str], str]) -> Loss:
        return Loss(self.kind, redact(str(self)), seen, self.status, self.after, self.code)


class _Connect(client.connect):
    fingerprint: str | None = None

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc

    async def open_tcp_connection(self) -> client.ClientConnection:
        connection = await super().open_tcp_connection()
        if self.fingerprint is not None:
            tls = connection.transport.get_extra_info("ssl_object")
            try:
                compare(tls.getpeercert(binary_form=True), self.fingerprint)
            except ConnectionError:
                connection.transport.abort()
                raise
        return connection


class Link:
    """One open WebSocket."""

    def __init__(self, socket: Stream, options: BackendOptions) -> None:
        self._socket, self._options = socket, options

    @property
    def heard(self) -> float:
        """time.monotonic() of the last sign of life."""
        return self._socket.heard

    @property
    def read(self) -> float:
        """The same, but not later than what has been read of it."""
        return self._socket.read

    async def frames(
        self, take: Callable[[list[bytes]], None] | None = None, few: int = 0
    ) -> AsyncIterator[list[bytes]]:
        """Data frames in batches, until the end: raises Gone. `take`, `few`: as in Stream.batches."""
        idle = self._options.idle
        try:
            async for batch in self._socket.batches(idle, take, few):
                yield batch
        except TimeoutError:
            raise Gone("idle", f"nothing was heard for {idle:g} s") from None
        except ConnectionClosed as closed:
            raise _gone(closed) from None

    async def send(self, frame: str) -> None:
        """Raises Gone where the connection has ended; only reading ends a crossing."""
        try:
            await self._socket.send(frame)
        except ConnectionClosed as closed:
            raise _gone(closed) from None

    async def close(self) -> None:
        """Says goodbye; what has arrived can still be read."""
        await _closed(self._socket)


@asynccontextmanager
async def open_link(dial: Dial, options: BackendOptions) -> AsyncIterator[Link]:
    """Opens what a session dials. Raises Gone."""
    try:
        connecting = _prepared(dial, options)
    except (OSError, ValueError, InvalidURI) as error:
        text = "the url is not a WebSocket URL" if isinstance(error, InvalidURI) else why(error)
        raise Gone("failed", text) from None
    try:
        socket = await connecting
    except InvalidStatus as error:
        raise _answered(error.response.status_code, error.response.headers) from None
    except InvalidProxy:
        raise Gone(
            "failed", "the proxy is not one: write http://host:port, with user:password@ where it asks"
        ) from None
    except ImportError:
        raise Gone("failed", "a SOCKS proxy needs the package python-socks, which is not installed") from None
    except InvalidProxyStatus as error:
        raise Gone("failed", f"the proxy answered {error.response.status_code}") from None
    except (OSError, TimeoutError, InvalidHandshake, ProxyError, EOFError, ValueError) as error:
        raise Gone("failed", why(error, revealed(dial.url), _proxy(options))) from None
    assert isinstance(socket, Stream)
    try:
        yield Link(socket, options)
    finally:
        await asyncio.shield(_closed(socket))


async def _closed(socket: Stream) -> None:
    """Until the other side has closed, too: what it still says before that is read, however much; silence ends it."""
    socket.close_timeout = _CLOSE_S
    closing = asyncio.ensure_future(socket.close())
    while not (await asyncio.wait((closing,), timeout=_SILENT_S / 8))[0]:
        if time.monotonic() - socket.heard > _SILENT_S:
            socket.transport.abort()


def _prepared(dial: Dial, options: BackendOptions) -> _Connect:
    url = revealed(dial.url)
    headers = {name: revealed(value) for name, value in dial.headers.items()}
    if dial.basic is not None:
        headers["Authorization"] = build_authorization_basic(dial.basic[0], revealed(dial.basic[1]))
    tls: dict[str, Any] = {}
    if url.startswith("wss:"):
        tls["ssl"] = tls_context(options.tls)
    connecting = _Connect(
        url,
        additional_headers=headers,
        compression="deflate",
        proxy=_proxy(options) or None,
        open_timeout=_OPEN_S,
        close_timeout=_SILENT_S,
        ping_interval=options.ping,
        ping_timeout=options.ping,
        max_size=options.max_frame * _HARD_LIMIT,
        max_queue=256,
        user_agent_header="ws2mqtt",
        create_connection=Stream,
        **tls,
    )
    if options.tls.fingerprint and url.startswith("wss:"):
        connecting.fingerprint = options.tls.fingerprint
    return connecting


def _answered(status: int, headers: Any) -> Gone:
    """Another answer than 101."""
    after = _seconds(headers.get("Retry-After"))
    if status in (401, 403):
        return Gone("refused", f"the platform refused the login (HTTP {status})", status, after)
    if 300 <= status < 400:
        return Gone("failed", f"the platform answered with a redirect (HTTP {status}), which is not followed", status)
    return Gone("failed", f"the platform answered HTTP {status} instead of opening a WebSocket", status, after)


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds (RFC 9110, 10.2.3); a date is not worth a clock."""
    return float(header) if header is not None and header.isdecimal() else None


def _proxy(options: BackendOptions) -> str:
    return options.proxy.reveal() if options.proxy else ""


def _gone(closed: ConnectionClosed) -> Gone:
    """Why a connection ended, from the close frames or from what broke."""
    received, sent = closed.rcvd, closed.sent
    if sent is not None and sent.code == CloseCode.MESSAGE_TOO_BIG and not closed.rcvd_then_sent:
        return Gone("too_large", "a frame was larger than max_frame allows")
    if sent is not None and sent.code == CloseCode.INTERNAL_ERROR and "ping" in sent.reason:
        return Gone("ping", "no pong came in time")
    if received is not None:
        told = f"{received.code} {received.reason}".rstrip()
        return Gone("closed", f"the platform closed the connection ({told})", code=int(received.code))
    cause = closed.__cause__
    return Gone("closed", f"the connection broke: {why(cause)}" if cause else "the connection broke")
