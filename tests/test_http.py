"""The REST door, against real sockets: what is sent, what comes back, and what must never leave."""

import asyncio
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.backends.session import Answer, Call
from bridge.links.http import Caller
from bridge.options import BackendOptions, PlatformTls, Secret
from tests.support.mosquitto import Certificates

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nhi"
MOVED = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/elsewhere\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Server:
    """Answers every request with the same bytes and keeps what it was asked."""

    url: str = ""
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@asynccontextmanager
async def serving(answer: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """answer None: never."""
    server = Server()
    silent = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            server.asked.append((first, headers, body))
            if answer is None:
                await silent.wait()
            else:
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield server
        silent.set()


async def called(call: Call, options: BackendOptions | None = None) -> Answer:
    caller = Caller(options or BackendOptions())
    try:
        return await caller.call(call)
    finally:
        await caller.close()


async def test_secrets_are_revealed_only_on_the_wire() -> None:
    body: Mapping[str, Any] = {"username": "u", "password": Secret("s3cret"), "deep": [{"x": Secret("y")}]}
    async with serving(OK) as server:
        call = Call("login", "POST", f"{server.url}/login?x=1", headers={"X-Token": Secret("t0ken")}, body=body)
        assert "s3cret" not in repr(call)
        answer = await called(call)
    first, headers, sent = server.asked[0]
    assert first == "POST /login?x=1 HTTP/1.1"
    assert headers["x-token"] == "t0ken"
    assert headers["content-type"] == "application/json"
    assert json.loads(sent) == {"username": "u", "password": "s3cret", "deep": [{"x": "y"}]}
    assert (answer.status, answer.body, answer.error) == (200, b"hi", "")
    assert [value for name, value in answer.headers if name == "set-cookie"] == ["a=1", "b=2"]


async def test_basic_login_goes_out_as_rfc_7617_says() -> None:
    async with serving(OK) as server:
        await called(Call("c", "GET", server.url, basic=("ann", Secret("pw"))))
    assert server.asked[0][1]["authorization"] == "Basic YW5uOnB3"


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with serving(MOVED) as server:
        assert (await called(Call("c", "GET", server.url))).status == 302
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [("http://127.0.0.1:9/", "connection"), ("http://nonexistent.invalid/", ""), ("no url at all", "")],
    ids=["nobody there", "no such name", "no url"],
)
async def test_without_an_answer_there_is_a_reason(url: str, says: str) -> None:
    answer = await called(Call("c", "GET", url))
    assert answer.status == 0
    assert answer.error
    assert says in answer.error.lower()


async def test_the_deadline_ends_a_silent_server() -> None:
    async with serving(None) as server:
        assert await called(Call("c", "GET", server.url, deadline=0.3)) == Answer(0, error="no answer within 0.3 s")


TlsOptions = Callable[[Certificates, str], PlatformTls]


def fingerprint_of(certificates: Certificates) -> str:
    pem = certificates.server.cert_file.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n"
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


@pytest.mark.parametrize(
    ("tls", "accepted"),
    [
        (lambda c, f: PlatformTls(ca_file=str(c.ca_file)), True),
        (lambda c, f: PlatformTls(), False),
        (lambda c, f: PlatformTls(insecure=True), True),
        (lambda c, f: PlatformTls(fingerprint=f), True),
        (lambda c, f: PlatformTls(fingerprint=":".join(f[i : i + 2].upper() for i in range(0, 64, 2))), True),
        (lambda c, f: PlatformTls(fingerprint="00" * 32), False),
    ],
    ids=["ca_file", "unknown issuer", "insecure", "fingerprint", "with colons", "another fingerprint"],
)
async def test_nothing_leaves_before_the_certificate_is_accepted(
    certificates: Certificates, tls: TlsOptions, accepted: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server.cert_file, certificates.server.key_file)
    options = BackendOptions(tls=tls(certificates, fingerprint_of(certificates)))
    async with serving(OK, context) as server:
        answer = await called(Call("c", "GET", server.url), options)
    assert (answer.status == 200) is accepted, answer
    assert bool(server.asked) is accepted


async def test_cookies_are_what_the_session_says_and_nothing_else() -> None:
    async with serving(OK) as server:
        caller = Caller(BackendOptions())
        for call in (Call("1", "GET", server.url), Call("2", "GET", server.url, headers={"Cookie": Secret("a=2")})):
            await caller.call(call)
            await caller.call(call)
        await caller.close()
    assert [headers.get("cookie") for _, headers, _ in server.asked] == [None, None, "a=2", "a=2"]
