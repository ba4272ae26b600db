"""The HTTP door against clients that do not take what they asked for: for long they cost nothing."""

import asyncio
import select
import socket
from collections.abc import AsyncGenerator, Callable

import pytest

from bridge.watch import web
from tests.support import PATIENCE_S

LARGE = b"x" * (8 * 2**20)


async def _told() -> AsyncGenerator[bytes, None]:
    while True:
        yield LARGE


ROUTES: web.Routes = {
    "/large": lambda: web.Reply(200, "text/plain", LARGE),
    "/told": lambda: web.Stream("text/plain", _told()),
    "/small": lambda: web.Reply(200, "text/plain", b"x"),
}


def _asked(port: int, path: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    return client


def _left(client: socket.socket) -> None:
    """It does not take anything."""


def _half_closed(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("path", ["/large", "/told"])
@pytest.mark.parametrize("then", [_left, _half_closed])
async def test_who_takes_nothing_is_cut_off(path: str, then: Callable[[socket.socket], None]) -> None:
    """Not only given up, with megabytes waiting for it: the connection is gone."""
    async with asyncio.timeout(PATIENCE_S), web.serve("127.0.0.1:0", ROUTES, patience=0.2) as port:
        with _asked(port, path) as client:
            then(client)
            poll = select.poll()
            poll.register(client, 0)  # POLLERR and POLLHUP are told in any case
            while not any(events & select.POLLERR for _, events in poll.poll(0)):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)  # others are answered all the time
                writer.write(b"GET /small HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()


@pytest.mark.parametrize(
    ("listen", "family", "client"),
    [
        ("[::]:0", socket.AF_INET6, "::1"),
        ("[::]:0", socket.AF_INET, "127.0.0.1"),
        ("[::1]:0", socket.AF_INET6, "::1"),
        ("0.0.0.0:0", socket.AF_INET, "127.0.0.1"),
    ],
)
async def test_where_it_listens(listen: str, family: socket.AddressFamily, client: str) -> None:
    """[::] is every address, as in other programs: a probe or a scrape may come by IPv4."""
    async with web.serve(listen, ROUTES) as port:
        reader, writer = await asyncio.open_connection(client, port, family=family)
        writer.write(b"GET /small HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
