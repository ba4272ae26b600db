"""A ResIOT "Websocket Server" to talk to: real sockets, an invented world, faults on demand (ResIOT docs).

Every client gets every communication. Each has its own queue and its own writer, so that a slow one holds up nobody;
one that falls 64 MiB behind is cut off. Uplinks start with the first client and then go on, watched or not, as the
real platform's do. The server itself never pings: what a bridge's own pings find out is for the bridge to show.
"""

import argparse
import asyncio
import contextlib
import hmac
import random
import ssl
import time
import weakref
from collections.abc import Iterable
from typing import Self
from urllib.parse import parse_qs, quote, urlsplit

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from bridge.simulators.bell import Bell
from bridge.simulators.resiot_client import ABORT, GRACE, Client, remembered_in
from bridge.simulators.resiot_frames import NOT_JSON, NOT_OBJECT, Communication, Downlink, asked, dt, reply, written
from bridge.simulators.resiot_options import Faults, ResiotSimOptions, Shape, add_arguments, from_arguments
from bridge.simulators.resiot_world import World

__all__ = ["PATH", "Downlink", "Faults", "ResiotSimOptions", "ResiotSimulator", "add_arguments", "from_arguments"]

PATH = "/WebSocketServer/DeviceMsg/"
_SHAPES: tuple[Shape, ...] = ("doc2017", "newer", "schema")


class ResiotSimulator:
    """The server, an async context manager; `faults` may be replaced at any time (of handshakes: the next ones).

    faults: what goes wrong from now on · world: devices and gateways · commands: every request received, in order ·
    admitted, refused: handshakes since the start.
    """

    def __init__(self, options: ResiotSimOptions | None = None) -> None:
        self.options = options = options or ResiotSimOptions()
        self.faults = options.faults
        self.world = World(
            devices=options.devices,
            gateways=options.gateways,
            class_c=options.class_c,
            seed=options.seed,
            gwrx=options.gwrx,
        )
        self.commands: list[Downlink] = []
        self.admitted = 0
        self.refused = 0
        self._handed = 0
        self._told = 0
        self._shapes = random.Random(options.seed)
        self._sockets: weakref.WeakSet[ServerConnection] = weakref.WeakSet()
        self._clients: set[Client] = set()
        self._bell = Bell()
        self._server: Server | None = None
        self._life: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """As the module's add_arguments: every simulator class has it."""
        add_arguments(parser)

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Self:
        """A simulator, not started. Raises ValueError for options that do not go together."""
        return cls(from_arguments(args))

    # Running

    async def __aenter__(self) -> Self:
        """Listens. Raises OSError where the port is taken or a TLS file cannot be read."""
        self._server = await serve(
            self._converse,
            self.options.host,
            self.options.port,
            process_request=self._admit,
            ssl=self._tls(),
            compression=None,
            ping_interval=None,
            close_timeout=GRACE,
            create_connection=remembered_in(self._sockets),
        )
        self._life = asyncio.create_task(self._live())
        self._life.add_done_callback(lambda _: self._bell.ring())
        await self.started()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes every client with 1001 and ends. Raises what went wrong inside."""
        assert self._server is not None
        assert self._life is not None
        self._server.close(close_connections=False)
        await self.drop(1001)
        for socket in list(self._sockets):
            socket.transport.abort()  # those that never finished their handshake
        await self._server.wait_closed()
        self._life.cancel()
        await asyncio.wait({self._life})
        if not self._life.cancelled():
            self._life.result()

    async def started(self) -> None:
        """Waits until it listens."""
        await self._bell.until(lambda: self._tasks is not None)

    async def serve_forever(self) -> None:
        """Until cancelled; starts by itself where `async with` has not done so."""
        if self._life is None:
            async with self:
                return await self.serve_forever()
        await asyncio.wait({self._life})
        return None if self._life.cancelled() else self._life.result()

    @property
    def port(self) -> int:
        """The TCP port it listens on, once started."""
        assert self._server is not None, "not started"
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def url(self) -> str:
        """ws:// or wss://, with path and token: what an operator copies from the platform's page."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        scheme = "wss" if self.options.tls_cert else "ws"
        token = quote(self.options.token, safe="")
        return f"{scheme}://{host}:{self.port}{PATH}?type=node&token={token}"

    def _tls(self) -> ssl.SSLContext | None:
        if not self.options.tls_cert:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.options.tls_cert, self.options.tls_key or None)
        return context

    async def _live(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._bell.ring()
            if self.options.rate:
                tasks.create_task(self._uplinks(self.options.rate))
            if period := self.options.alive_period:
                for index in range(self.options.gateways):
                    tasks.create_task(self._alives(index, period))
            await asyncio.get_running_loop().create_future()  # until cancelled

    # Clients

    @property
    def clients(self) -> int:
        """How many are connected, as far as the server can know: a half-open one stays until it is dropped."""
        return len(self._clients)

    async def connected(self, count: int = 1) -> None:
        """Waits until at least this many clients are connected."""
        await self._bell.until(lambda: len(self._clients) >= count)

    async def deserted(self) -> None:
        """Waits until no client is connected."""
        await self._bell.until(lambda: not self._clients)

    async def admissions(self, count: int) -> None:
        """Waits until this many handshakes have succeeded since the start."""
        await self._bell.until(lambda: self.admitted >= count)

    async def refusals(self, count: int) -> None:
        """Waits until this many handshakes have been refused since the start."""
        await self._bell.until(lambda: self.refused >= count)

    async def drop(self, code: int | None = None) -> None:
        """Closes all clients with this code, after what waits for them; None (or 1006): aborts their TCP at once.

        Returns when they are gone; one that does not take part within a second is aborted.
        """
        clients = set(self._clients)
        for client in clients:
            client.close(code or ABORT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self._bell.until(lambda: not clients & self._clients)
        for client in clients & self._clients:
            client.close(ABORT)
        await self._bell.until(lambda: not clients & self._clients)

    def freeze(self) -> None:
        """Makes the present clients half-open: nothing is read from them nor sent to them any more."""
        for client in self._clients:
            client.freeze()

    def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        """The handshake: None lets it pass."""
        address = urlsplit(request.path)
        query = parse_qs(address.query)
        token = query.get("token", [""])[-1]
        if address.path != PATH or query.get("type") != ["node"]:
            status = 404
        elif not hmac.compare_digest(token.encode(), self.options.token.encode()):
            status = self.options.unauthorized
        else:
            status = 0
        if status := self.faults.refuse or status:
            self.refused += 1
            self._bell.ring()
            return socket.respond(status, "refused by the simulator\n")
        return None

    async def _converse(self, socket: ServerConnection) -> None:
        """One client, from the end of its handshake to the end of its connection."""
        client = Client(socket, self.faults)
        self._clients.add(client)
        self.admitted += 1
        self._bell.ring()
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(client.write())
                await self._listen(client)
                writer.cancel()
        finally:
            self._clients.discard(client)
            client.forget()
            self._bell.ring()

    async def _listen(self, client: Client) -> None:
        if client.deaf:
            await client.socket.wait_closed()
        with contextlib.suppress(ConnectionClosed):
            async for frame in client.socket:
                self._request(client, frame)
                if self.faults.slow_reader:
                    await asyncio.sleep(self.faults.slow_reader)

    # Requests

    async def command(self) -> Downlink:
        """The next request received: the first call gives the first one, every further call the one after it."""
        self._handed += 1
        mine = self._handed
        await self._bell.until(lambda: len(self.commands) >= mine)
        return self.commands[mine - 1]

    def _request(self, client: Client, frame: str | bytes) -> None:
        downlink = asked(frame)
        if not downlink.problem:
            downlink = msgspec.structs.replace(downlink, problem=self.world.objection(downlink))
        self.commands.append(downlink)
        self._bell.ring()
        if delay := self.faults.late_reply:
            assert self._tasks is not None
            self._tasks.create_task(self._later(delay, client, downlink))
        else:
            self._carry_out(client, downlink)

    async def _later(self, delay: float, client: Client, downlink: Downlink) -> None:
        await asyncio.sleep(delay)
        self._carry_out(client, downlink)

    def _carry_out(self, client: Client, downlink: Downlink) -> None:
        """Answer, comm_tx, feedback: in this order, but for the fault `reply_after_tx`."""
        faults = self.faults
        issued: list[Communication] = []
        if not downlink.problem:
            issued = self.world.issue(downlink, error=faults.tx_error, acknowledges=not faults.no_ack)
        before = 1 if faults.reply_after_tx else 0
        self._tell(issued[:before])
        self._reply(client, downlink)
        self._tell(issued[before:])

    def _reply(self, client: Client, downlink: Downlink) -> None:
        faults = self.faults
        unread = downlink.problem in (NOT_JSON, NOT_OBJECT)
        if faults.no_reply or (faults.ignore_bad_json and unread):
            return
        frame = reply(downlink, named=not faults.reply_without_reference)
        for receiver in self._clients if faults.broadcast_replies else {client} & self._clients:
            receiver.offer(frame)

    # Communications

    async def say(self, frame: str | bytes) -> None:
        """One frame as it is to every client; returns when they were handed to the sockets."""
        self._offer(frame)
        await self._flushed()

    async def uplink(self, dev_eui: str | None = None) -> None:
        """One device speaks now (None: whose turn it is), with all that follows from it. Raises KeyError: unknown."""
        self._tell(self.world.uplink(dev_eui))
        await self._flushed()

    async def keepalive(self, index: int = 0) -> None:
        """One gateway says now that it is alive."""
        self._tell([self.world.alive(index)])
        await self._flushed()

    async def flood(self, frames: Iterable[str]) -> int:
        """Every frame to every client, as fast as they take it: past their queues, one after the other.

        Returns how many were handed to sockets; who leaves or joins meanwhile misses the rest or the beginning.
        """
        handed = 0
        for number, frame in enumerate(frames):
            if number % 50 == 0:
                await asyncio.sleep(0)  # a socket that takes all at once never waits: others have their turn, pongs too
            for client in tuple(self._clients):
                handed += await client.hand(frame)
        return handed

    def _tell(self, told: Iterable[Communication]) -> None:
        for communication in told:
            self._told += 1
            faults, profile = self.faults, self.options.profile
            shape = self._shapes.choice(_SHAPES) if profile == "mixed" else profile
            cut = bool(faults.malformed) and self._told % faults.malformed == 0
            self._offer(written(communication, shape, dt(time.time_ns()), faults, cut=cut))

    def _offer(self, frame: str | bytes) -> None:
        for client in self._clients:
            client.offer(frame)

    async def _flushed(self) -> None:
        await asyncio.gather(*(client.queue.join() for client in self._clients))

    async def _uplinks(self, rate: float) -> None:
        await self.connected()
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - clock()))
            self._tell(self.world.uplink())

    async def _alives(self, index: int, period: float) -> None:
        await asyncio.sleep(period * (index + 1) / self.options.gateways)  # not all gateways at once
        while True:
            self._tell([self.world.alive(index)])
            await asyncio.sleep(period)
