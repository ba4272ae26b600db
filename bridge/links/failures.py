"""Why the other side was not reached, in words for people: platforms, brokers and the API server alike.

1. Of an address nothing is said but host and port: the rest of it may be a secret.
2. Libraries wrap what the system said: the words are made of the first error within that says what happened.
3. The same failure has the same words each time: the log tells of it once (watch/reminders.py).
"""

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "mqtt": 1883, "mqtts": 8883, "socks5": 1080, "socks5h": 1080,
         "socks4": 1080}  # fmt: skip
_DEEPEST = 20  # errors within errors
_NO_ROUTE = {
    errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL,
}  # fmt: skip
_NUMBER = re.compile(r"\[Errno (-?\d+)\]")  # asyncio, of several addresses: "Multiple exceptions: [Errno 111] …, …"
_RAW = re.compile(r"\[(?:Errno -?\d+|SSL[^\]]*)\] ?| ?\(_ssl\.c:\d+\)")
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")


def why(error: BaseException, url: str = "", proxy: str = "") -> str:
    """In words, never empty.

    url, proxy: what was to be reached, "" where it had been reached already. They may be secrets.
    """
    host, where = _dialled(url, proxy)
    for one in _within(error):
        if said := _said(one, host, where):
            return said
    text = _RAW.sub("", str(error)).strip()
    return text or type(error).__name__


def _dialled(url: str, proxy: str) -> tuple[str, str]:
    """Host, and how the place is called."""
    try:
        address = urlsplit(proxy or url)
        host, port = address.hostname or "", address.port or PORTS.get(address.scheme, 0)
    except ValueError:  # of a file that changed
        host = ""
    if not host:
        return "", "the other side"
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return host, f"the proxy {where}" if proxy else where


def _within(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that led to it, outermost first."""
    waiting, seen = [error], 0
    while waiting and seen < _DEEPEST:
        one, seen = waiting.pop(0), seen + 1
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        waiting += [inner for inner in (one.__cause__ or one.__context__,) if inner is not None]


def _said(error: BaseException, host: str, where: str) -> str:
    """Of one error alone; "" where it says no more than its text."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or ""
        said = reason.replace("_", " ").lower() or _RAW.sub("", str(error))
        return f"the server does not speak TLS ({said})" if reason in _NO_TLS else f"TLS failed: {said}"
    if isinstance(error, socket.gaierror):
        known = "cannot be looked up now" if error.errno == socket.EAI_AGAIN else "is not known"
        return f"the name {host} {known} (DNS)"
    if isinstance(error, OSError):
        return _of_system(error, where)
    return ""


def _of_system(error: OSError, where: str) -> str:
    numbers = [error.errno] if error.errno else [int(one) for one in _NUMBER.findall(str(error))]
    if errno.ECONNREFUSED in numbers:
        return f"nothing listens on {where} (connection refused)"
    if isinstance(error, TimeoutError) or errno.ETIMEDOUT in numbers:
        return f"timed out: no answer from {where}"
    if _NO_ROUTE.intersection(numbers):
        return f"no route to {where}"
    if not numbers or error.errno is None:
        return ""
    text = os.strerror(error.errno)
    file = f": {error.filename}" if isinstance(error.filename, str) else ""
    return f"{text[:1].lower()}{text[1:]}{file}"
