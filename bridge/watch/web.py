"""/metrics, /livez, /readyz and a page for people: a small HTTP server on h11, on the bridge's own event loop.

It runs on that loop on purpose: /livez answers while the loop turns, and a scrape is one picture of it.
"""

import asyncio
import contextlib
import html
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import h11

from bridge.errors import Fatal

_REQUEST_S = 10.0
Reply = tuple[int, str, bytes]  # status, content type, body
_SECURITY = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
    ("Cache-Control", "no-store"),
)


@asynccontextmanager
async def serve(listen: str, routes: Mapping[str, Callable[[], Reply]]) -> AsyncIterator[int]:
    """Answers GET and HEAD of the routes; gives the port. Raises Fatal where the address cannot be used."""
    host, _, port = listen.rpartition(":")
    clients: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        clients.add(task)
        try:
            async with asyncio.timeout(_REQUEST_S):
                await _converse(reader, writer, routes)
        except (OSError, TimeoutError, h11.RemoteProtocolError, h11.LocalProtocolError):
            pass
        except asyncio.CancelledError:
            pass  # by the end of the server alone; asyncio would log it as an error
        finally:
            clients.discard(task)
            writer.close()

    try:
        server = await asyncio.start_server(connected, host.strip("[]") or None, int(port))
    except OSError as error:
        raise Fatal(f"http.listen: cannot listen on {listen}: {error.strerror or error}; choose another port") from None
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        with contextlib.suppress(OSError):
            await server.wait_closed()


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, routes: Mapping[str, Callable[[], Reply]]
) -> None:
    """Requests of one connection until it closes, or until one cannot be answered on it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)
    while True:
        event = await _next(connection, reader)
        if not isinstance(event, h11.Request):
            return
        await _answer(connection, writer, event, _reply(event, routes))
        while not isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            event = await _next(connection, reader)
        if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
            return
        connection.start_next_cycle()


async def _next(connection: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(16 * 1024))
    return event


def _reply(request: h11.Request, routes: Mapping[str, Callable[[], Reply]]) -> Reply:
    path = request.target.decode("ascii", "replace").partition("?")[0]
    route = routes.get(path)
    if route is None:
        return 404, "text/plain; charset=utf-8", b"not found; there are " + ", ".join(routes).encode() + b"\n"
    if request.method not in (b"GET", b"HEAD"):
        return 405, "text/plain; charset=utf-8", b"only GET\n"
    return route()


async def _answer(connection: h11.Connection, writer: asyncio.StreamWriter, request: h11.Request, reply: Reply) -> None:
    status, kind, body = reply
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), *_SECURITY]
    if status == 405:
        headers.append(("Allow", "GET, HEAD"))
    writer.write(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
    if request.method != b"HEAD":
        writer.write(connection.send(h11.Data(data=body)) or b"")
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()


def page(title: str, rows: list[tuple[str, ...]], note: str = "") -> bytes:
    """A plain table for people, with a line above it."""
    cells = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows[1:])
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    style = "body{font:16px system-ui;margin:2rem;color-scheme:light dark}td,th{text-align:left;padding:.3rem 1rem 0 0}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title><style>{style}</style>'
        f"<h1>{html.escape(title)}</h1><p>{html.escape(note)}</p><table><tr>{head}</tr>{cells}</table></html>"
    ).encode()
