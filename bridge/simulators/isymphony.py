"""An iSymphony server to talk to: the event socket and the Live REST API on one port, an invented call centre, faults.

Who may come in is asked in the platform's order: is TLS demanded (a redirect), is the address in the ACL (403), are
user name and password right (401). Every client gets every event that its own filters let through. The server never
pings. Source: iSymphony developer documentation, WebSocket API (Event), REST API, Security.
"""

import argparse
import asyncio
import base64
import contextlib
import hmac
import random
import ssl
import time
from collections.abc import Iterable
from typing import Self

import msgspec

from bridge.simulators import arguments
from bridge.simulators.bell import Bell
from bridge.simulators.isymphony_client import ABORT, BadFilter, Client, asked, correlation
from bridge.simulators.isymphony_http import Rejected, Request, converse, read_head, refuse
from bridge.simulators.isymphony_live import Live
from bridge.simulators.isymphony_options import Faults, IsymphonySimOptions
from bridge.simulators.isymphony_world import Event, World

__all__ = ["EVENTS", "LIVE", "Faults", "IsymphonySimOptions", "IsymphonySimulator"]

EVENTS = "/communication_manager/ws/event"
LIVE = "/communication_manager/rest/live/"
_GRACE_S = 1.0


class IsymphonySimulator:
    """The server, an async context manager; `faults` may be replaced at any time (of handshakes: the next ones).

    world: users, calls, rooms · messages: what clients said, in order · requests: of the Live REST API, in order ·
    admitted, refused: handshakes since the start.
    """

    def __init__(self, options: IsymphonySimOptions | None = None) -> None:
        self.options = options = options or IsymphonySimOptions()
        self.faults = options.faults
        self.world = World(
            users=options.users, seed=options.seed, link_start=options.link_start, room_join=options.room_join
        )
        for user in self.world.users[: options.inside]:
            self.world.login(user)
        self.messages: list[str] = []
        self.requests: list[Request] = []
        self.admitted = self.refused = 0
        self._live = Live(self.world)
        self._told = 0
        self._order = random.Random(options.seed)
        self._clients: set[Client] = set()
        self._bell = Bell()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._life: asyncio.Task[None] | None = None

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """One option per field of IsymphonySimOptions; `--fault NAME[=VALUE]`, repeatable."""
        arguments.add_arguments(parser, IsymphonySimOptions)

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Self:
        """A simulator, not started. Raises ValueError for options that do not go together."""
        return cls(arguments.from_arguments(args, IsymphonySimOptions))

    # Running

    async def __aenter__(self) -> Self:
        """Listens. Raises OSError where a port is taken or a TLS file cannot be read."""
        options = self.options
        try:
            await self._listen(options.port, None)
            if options.tls_cert:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(options.tls_cert, options.tls_key or None)
                await self._listen(options.tls_port, context)
        except OSError:
            self._close()
            raise
        self._life = asyncio.create_task(self._live_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes every client with 1001 and ends. Raises what went wrong inside."""
        assert self._life is not None
        self._close()
        await self.drop(1001)
        for task in (*self._tasks, self._life):
            task.cancel()
        await asyncio.wait({*self._tasks, self._life})
        if not self._life.cancelled():
            self._life.result()

    async def serve_forever(self) -> None:
        """Until cancelled."""
        assert self._life is not None, "not started"
        await asyncio.wait({self._life})
        return None if self._life.cancelled() else self._life.result()

    @property
    def port(self) -> int:
        """The TCP port of ws and http, once started."""
        return self._port(0)

    @property
    def tls_port(self) -> int:
        """The TCP port of wss and https, where there is a certificate."""
        return self._port(1)

    @property
    def url(self) -> str:
        """What an operator configures; user name and password are beside it."""
        return f"ws://{self._host}:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"wss://{self._host}:{self.tls_port}"

    @property
    def _host(self) -> str:
        return f"[{self.options.host}]" if ":" in self.options.host else self.options.host

    async def _listen(self, port: int, tls: ssl.SSLContext | None) -> None:
        self._servers.append(await asyncio.start_server(self._connected, self.options.host, port, ssl=tls))

    def _port(self, which: int) -> int:
        assert len(self._servers) > which, "not started"
        return int(self._servers[which].sockets[0].getsockname()[1])

    def _close(self) -> None:
        for server in self._servers:
            server.close()

    async def _live_on(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if self.options.rate:
                tasks.create_task(self._happenings(self.options.rate))
            if self.options.restart:
                tasks.create_task(self._restarts(self.options.restart))
            await asyncio.get_running_loop().create_future()  # until cancelled

    async def _happenings(self, rate: float) -> None:
        await self.connected()
        while True:
            self.tell(*self.world.happening())
            await asyncio.sleep(1 / rate)

    async def _restarts(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self.restart()

    # Connections

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests one after the other; a handshake makes the rest of the connection a client's."""
        while (head := await read_head(reader)) is not None:
            if not head.upgrade:
                if not await converse(head, reader, writer, self._answered):
                    return
                continue
            try:
                self._admit(head.path, head.headers, writer, EVENTS, self.faults.refuse)
            except Rejected as rejected:
                self.refused += 1
                self._bell.ring()
                await refuse(writer, rejected)
                return
            await self._talk(head.raw, reader, writer)
            return

    def _admit(
        self, path: str, headers: dict[str, str], writer: asyncio.StreamWriter, below: str, refused: int
    ) -> None:
        """Raises Rejected."""
        if refused:
            raise Rejected(refused, "refused by the simulator")
        if self.options.ssl_only and writer.get_extra_info("ssl_object") is None:
            port = self.tls_port if len(self._servers) > 1 else 55050
            raise Rejected(302, "use TLS", {"Location": f"https://{self._host}:{port}{path}"})
        if writer.get_extra_info("peername")[0] not in self.options.acl.split(","):
            raise Rejected(403, "this address is not in the ACL")
        wanted = base64.b64encode(f"{self.options.username}:{self.options.password}".encode()).decode()
        if not hmac.compare_digest(headers.get("authorization", ""), f"Basic {wanted}"):
            challenge = {"WWW-Authenticate": 'Basic realm="communication_manager"'}
            raise Rejected(401, "user name or password wrong", challenge)
        if not path.startswith(below):
            raise Rejected(404, "not here")

    async def _answered(self, request: Request, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
        """A Live REST request. Raises Rejected; ConnectionError where it is to be cut."""
        faults = self.faults
        self._admit(request.path, request.headers, writer, LIVE, 0)
        self.requests.append(request)
        self._bell.ring()
        if faults.rest_late:
            await asyncio.sleep(faults.rest_late)
        if faults.rest_status:
            raise Rejected(faults.rest_status, "refused by the simulator")
        answered = self._live.request(request.method, request.path.removeprefix(LIVE), request.body)
        self.tell(*answered.events)
        if faults.rest_cut:
            raise ConnectionError
        if isinstance(answered.body, str):
            raise Rejected(answered.status, answered.body)
        return answered.status, b"" if answered.body is None else msgspec.json.encode(answered.body)

    async def _talk(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(reader, writer, self.faults)
        if not client.accept(head):
            return
        self._clients.add(client)
        self.admitted += 1
        self._bell.ring()
        try:
            if client.frozen:
                await asyncio.get_running_loop().create_future()
            async for frame in client.frames():
                self._said(client, frame)
        finally:
            self._clients.discard(client)
            self._bell.ring()

    # Clients

    @property
    def clients(self) -> int:
        """How many are connected, as far as the server can know."""
        return len(self._clients)

    async def connected(self, count: int = 1) -> None:
        """Waits until at least this many clients are connected."""
        await self._bell.until(lambda: len(self._clients) >= count)

    async def admissions(self, count: int) -> None:
        """Waits until this many handshakes have succeeded since the start."""
        await self._bell.until(lambda: self.admitted >= count)

    async def refusals(self, count: int) -> None:
        """Waits until this many handshakes have been refused since the start."""
        await self._bell.until(lambda: self.refused >= count)

    async def asked(self, count: int) -> None:
        """Waits until this many messages have come from clients since the start."""
        await self._bell.until(lambda: len(self.messages) >= count)

    async def requested(self, path: str) -> None:
        """Waits until there was a Live REST request whose path ends so."""
        await self._bell.until(lambda: any(one.path.endswith(path) for one in self.requests))

    async def drop(self, code: int = ABORT) -> None:
        """Closes all clients with this code, or aborts their TCP at once; returns when they are gone."""
        clients = set(self._clients)
        for client in clients:
            client.close(code)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await self._bell.until(lambda: not clients & self._clients)
        for client in clients & self._clients:
            client.close(ABORT)

    def freeze(self) -> None:
        """Makes the present clients half-open."""
        for client in self._clients:
            client.freeze()

    async def restart(self) -> None:
        """The server starts anew: sockets closed, every id a new one, nobody logged in."""
        self.world.restart()
        await self.drop(1001)

    # Filters

    def _said(self, client: Client, frame: bytes) -> None:
        self.messages.append(frame.decode("utf-8", "replace"))
        self._bell.ring()
        if delay := self.faults.late_reply:
            asyncio.get_running_loop().call_later(delay, self._filter, client, frame)
        else:
            self._filter(client, frame)

    def _filter(self, client: Client, frame: bytes) -> None:
        faults = self.faults
        reply: Event = {"correlationId": correlation(frame), "time": time.time_ns() // 1_000_000}
        try:
            filters, _ = asked(frame, self.options.lenient)
            if faults.error_reply:
                raise BadFilter(faults.error_reply)
            client.filters = {} if faults.ignore_filters else filters
            reply |= {"type": "success"}
        except BadFilter as bad:
            reply |= {"type": "error", "error": str(bad)}
        if faults.null_correlation:
            reply["correlationId"] = None
        if not faults.no_reply:
            client.tell(msgspec.json.encode(reply))

    # Events

    def tell(self, *events: Event) -> None:
        """These events, now, to every client whose filters let them through."""
        for event in events:
            told = self._dressed(event)
            frame = self._written(told)
            for client in tuple(self._clients):
                if client.passes(told):
                    client.tell(frame, self.faults.binary)

    def say(self, frame: str | bytes) -> None:
        """One frame as it is to every client, past their filters."""
        data = frame.encode() if isinstance(frame, str) else frame
        for client in tuple(self._clients):
            client.tell(data, isinstance(frame, bytes))

    async def flood(self, frames: Iterable[str]) -> int:
        """Every frame to every client, past their filters, as fast as they take it; how many were handed to sockets."""
        handed = 0
        for number, frame in enumerate(frames):
            if number % 50 == 0:
                await asyncio.sleep(0)
            for client in tuple(self._clients):
                handed += client.tell(frame.encode())
                await client.drain()
        return handed

    def _dressed(self, event: Event) -> Event:
        """With its time, and what the faults add and take."""
        faults, now = self.faults, time.time_ns() // 1_000_000
        told: Event = {"type": event["type"], "time": str(now) if faults.time_as_text else now, **event}
        if faults.no_core:
            told.pop("coreServerId", None)
        if faults.extra:
            told["simulated"] = {"by": "ws2mqtt"}
        for name in [name for name in told if name.startswith("callerIdName")] if faults.big_name else ():
            told[name] = str(told[name]).ljust(faults.big_name, "ß")
        if self.options.order == "page":
            return told
        names = sorted(told)
        if self.options.order == "shuffled":
            self._order.shuffle(names)
        return {name: told[name] for name in names}

    def _written(self, told: Event) -> bytes:
        self._told += 1
        frame = msgspec.json.encode([told] if self.faults.array else told)
        cut = self.faults.malformed and self._told % self.faults.malformed == 0
        return frame[: len(frame) // 2] if cut else frame
