"""Why the other side was not reached, as every door says it, and what libraries make of the system's errors."""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable

import pytest

from bridge.backends.session import Call, Dial
from bridge.broker import connect
from bridge.errors import Transient
from bridge.links.failures import why
from bridge.links.http import Caller
from bridge.links.websocket import Gone, open_link
from bridge.options import BackendOptions, MqttOptions, Secret
from tests.support import PATIENCE_S

URL = "wss://me:hunter2@platform.example/hunter2?token=hunter2"
SEVERAL = OSError(
    "Multiple exceptions: [Errno 111] Connect call failed ('::1', 9, 0, 0), [Errno 101] Connect call failed"
)


def _wrapped(inner: BaseException) -> Exception:
    """As libraries hide what happened: raised anew, in a group."""
    try:
        try:
            raise ExceptionGroup("multiple connection attempts failed", [inner])  # type: ignore[type-var]
        except ExceptionGroup:
            raise ConnectionError("All connection attempts failed") from None
    except ConnectionError as error:
        return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 8088)"),
         "nothing listens on platform.example:443 (connection refused)"),
        (SEVERAL, "nothing listens on platform.example:443 (connection refused)"),
        (_wrapped(OSError(errno.EHOSTUNREACH, "x")), "no route to platform.example:443"),
        (OSError("[Errno 101] Connect call failed"), "no route to platform.example:443"),
        (socket.gaierror(socket.EAI_NONAME, "x"), "the name platform.example is not known (DNS)"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "the name platform.example cannot be looked up now (DNS)"),
        (TimeoutError(), "timed out: no answer from platform.example:443"),
        (TimeoutError(errno.ETIMEDOUT, "x"), "timed out: no answer from platform.example:443"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "connection reset by peer"),
        (FileNotFoundError(errno.ENOENT, "x", "/ca.pem"), "no such file or directory: /ca.pem"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"), "wrong version number"),
        (ConnectionError("the certificate has another fingerprint"), "the certificate has another fingerprint"),
        (EOFError(), "EOFError"),
    ],
)  # fmt: skip
def test_errors_in_words(error: BaseException, said: str) -> None:
    told = why(error, URL)
    assert said in told
    assert [raw for raw in ("[Errno", "_ssl.c", "hunter2", "Connect call") if raw in told] == []


@pytest.mark.parametrize("url", ["", "no url", "wss://h:port/", "wss://[::1"])
def test_what_is_no_address_hurts_nobody(url: str) -> None:
    assert why(ConnectionRefusedError(errno.ECONNREFUSED, "x"), url) == (
        "nothing listens on the other side (connection refused)"
    )


def test_an_error_without_end() -> None:
    one, other = ValueError("a"), ValueError("b")
    one.__cause__, other.__cause__ = other, one
    assert why(one) == "a"


async def _by_http(address: str, options: BackendOptions) -> str:
    caller = Caller(options)
    try:
        return (await caller.call(Call("c", "GET", f"http://{address}/hunter2"))).error
    finally:
        await caller.close()


async def _by_websocket(address: str, options: BackendOptions) -> str:
    with pytest.raises(Gone) as gone:
        async with open_link(Dial("main", Secret(f"ws://{address}/?token=hunter2")), options):
            pass
    return str(gone.value)


async def _by_mqtt(address: str, options: BackendOptions) -> str:
    with pytest.raises(Transient) as failed:
        async with connect(MqttOptions(), f"mqtt://{address}", "c", None):
            pass
    return str(failed.value)


async def _by_mqtt_over_websockets(address: str, options: BackendOptions) -> str:
    with pytest.raises(Transient) as failed:
        async with connect(MqttOptions(), f"ws://{address}/mqtt?token=hunter2", "c", None):
            pass
    return str(failed.value)


DOORS = [_by_http, _by_websocket, _by_mqtt, _by_mqtt_over_websockets]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_nobody_there_in_the_same_words_at_every_door(
    door: Callable[[str, BackendOptions], object], host: str, free_port: Callable[[], int]
) -> None:
    address = f"{host}:{free_port()}"
    told = await door(address, BackendOptions())  # type: ignore[misc]
    assert told == f"nothing listens on {address} (connection refused)"


@pytest.mark.parametrize("door", DOORS)
async def test_no_such_name_at_every_door(door: Callable[[str, BackendOptions], object]) -> None:
    told = await door("no-such-host.invalid:1", BackendOptions())  # type: ignore[misc]
    assert str(told).startswith("the name no-such-host.invalid ")
    assert str(told).endswith(" (DNS)")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("door", [_by_http, _by_websocket])
async def test_of_a_proxy_that_is_away_the_proxy_is_told(
    door: Callable[[str, BackendOptions], object], scheme: str, free_port: Callable[[], int]
) -> None:
    proxy = f"127.0.0.1:{free_port()}"
    options = BackendOptions(proxy=Secret(f"{scheme}://me:hunter2@{proxy}"))
    told = await door("platform.example", options)  # type: ignore[misc]
    assert told == f"nothing listens on the proxy {proxy} (connection refused)"


async def test_a_header_that_http_does_not_carry_is_not_said_back() -> None:
    caller = Caller(BackendOptions())
    call = Call("c", "GET", "http://127.0.0.1:1/", headers={"X-Token": Secret("hunter2\nx")})
    try:
        told = (await caller.call(call)).error
    finally:
        await caller.close()
    assert "hunter2" not in told
    assert told


async def test_what_a_proxy_cannot_carry_is_said() -> None:
    told = await _by_http("platform.example", BackendOptions(proxy=Secret("socks4://me:hunter2@127.0.0.1:9")))
    assert told == "requests do not go through a socks4:// proxy: use socks5:// or http://"


async def test_a_server_without_tls_is_told() -> None:
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        url = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(Gone, match="the server does not speak TLS"):
            async with open_link(Dial("main", url), BackendOptions()):
                pass
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()  # else its socket outlives the test
