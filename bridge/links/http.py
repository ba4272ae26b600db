"""The door towards a platform's REST side: one client per talk, calls that run beside the reading.

1. Redirects are not followed: headers and body hold secrets that are meant for one server.
2. With a fingerprint the certificate is fetched and compared first; then only that one is trusted.
3. Whatever happens, a call ends with an Answer; status 0 says that there is none, and why.
4. Cookies are the session's: nothing is sent that it did not say.
"""

import asyncio
import ssl
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from bridge.backends.session import Answer, Call
from bridge.links.failures import why
from bridge.links.tls import compare, pinned, tls_context
from bridge.options import BackendOptions, Secret, revealed

MAX_ANSWER = 64 * 2**20
_FETCH_S = 10.0


class Caller:
    """Makes the calls of one backend."""

    def __init__(self, options: BackendOptions) -> None:
        self._options = options
        self._client: httpx.AsyncClient | None = None
        self._lock = asyncio.Lock()

    async def call(self, call: Call) -> Answer:
        """Makes it, within its deadline."""
        try:
            async with asyncio.timeout(call.deadline):
                return await self._made(call)
        except TimeoutError:
            return Answer(0, error=f"no answer within {call.deadline:g} s")
        except httpx.LocalProtocolError:  # whose text has the header in it, which may be a token
            return Answer(0, error="the request cannot be sent: a header holds what HTTP does not carry")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return Answer(0, error=why(error, call.url, self._proxy()))

    def _proxy(self) -> str:
        return self._options.proxy.reveal() if self._options.proxy else ""

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _made(self, call: Call) -> Answer:
        client = await self._opened(call.url)
        headers = {name: revealed(value) for name, value in call.headers.items()}
        body = call.body if isinstance(call.body, bytes | None) else msgspec.json.encode(_revealed(call.body))
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        auth = (call.basic[0], revealed(call.basic[1])) if call.basic else None
        async with client.stream(call.method, call.url, headers=headers, content=body, auth=auth) as response:
            read = bytearray()
            async for chunk in response.aiter_bytes():
                read += chunk
                if len(read) > MAX_ANSWER:
                    return Answer(0, error=f"the answer is larger than {MAX_ANSWER} bytes")
            told = [(name.lower(), value) for name, value in response.headers.multi_items()]
            return Answer(response.status_code, bytes(read), tuple(told))

    async def _opened(self, url: str) -> httpx.AsyncClient:
        """The client, made at the first call: with a fingerprint that needs a look at the server."""
        async with self._lock:
            if self._client is None:
                options = self._options
                if self._proxy().lower().startswith("socks4:"):
                    raise ValueError("requests do not go through a socks4:// proxy: use socks5:// or http://")
                context = tls_context(options.tls)
                if options.tls.fingerprint and url.startswith("https:"):
                    context = await _pinned(url, options.tls.fingerprint, context)
                self._client = httpx.AsyncClient(
                    verify=context,
                    proxy=self._proxy() or None,
                    cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                    follow_redirects=False,
                    trust_env=False,
                    timeout=None,  # each call has its deadline
                    headers={"User-Agent": "ws2mqtt"},
                )
            return self._client


async def _pinned(url: str, fingerprint: str, anybody: ssl.SSLContext) -> ssl.SSLContext:
    """A context that trusts the server's certificate alone, if it is the one. Raises OSError where it is not."""
    address = urlsplit(url)
    async with asyncio.timeout(_FETCH_S):
        _, writer = await asyncio.open_connection(address.hostname, address.port or 443, ssl=anybody)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    compare(certificate, fingerprint)
    return pinned(certificate)


def _revealed(value: Any) -> Any:
    """JSON with the secrets in it shown: the last moment before it leaves."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Mapping):
        return {key: _revealed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_revealed(item) for item in value]
    return value
