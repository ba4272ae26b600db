"""An IoT Pro (ThingsBoard) to talk to: REST and WebSocket on one port, a fleet of sea buoys, faults on demand.

Buoys drift and report by turns, watched or not, as the real platform's do; with rate 0 only what write() is told.
"""

import argparse
import asyncio
import time
from collections.abc import Callable
from typing import Any, Self

from bridge.simulators import arguments
from bridge.simulators.bell import Bell
from bridge.simulators.iotpro_http import Front, Request, Socket
from bridge.simulators.iotpro_options import Faults, IotproSimOptions
from bridge.simulators.iotpro_rest import Rest
from bridge.simulators.iotpro_talk import Talk
from bridge.simulators.iotpro_tokens import Tokens
from bridge.simulators.iotpro_world import Asset, World

__all__ = ["Faults", "IotproSimOptions", "IotproSimulator"]

_GRACE_S = 1.0


def _now() -> int:
    return time.time_ns() // 1_000_000


class IotproSimulator:
    """The server, an async context manager; `faults` may be replaced at any time.

    world: the fleet · rest: what was asked by REST · talks: the sockets that are open · admitted: sockets so far.
    """

    def __init__(self, options: IotproSimOptions | None = None) -> None:
        self.options = options = options or IotproSimOptions()
        self.faults = options.faults
        self.world = World(assets=options.assets, seed=options.seed, kept=options.kept, now=_now())
        authority = "TENANT_ADMIN" if options.role == "tenant" else "CUSTOMER_USER"
        self.tokens = Tokens(options.username, authority, options.token_life, options.refresh_life)
        self._bell = Bell()
        self.rest = Rest(options, self.world, self.tokens, lambda: self.faults, self._set, self._bell.ring)
        self.talks: list[Talk] = []
        self.admitted = 0
        self._front = Front(self.rest.answer, self._talk)
        self._server: asyncio.Server | None = None
        self._life: list[asyncio.Task[None]] = []

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        arguments.add_arguments(parser, IotproSimOptions)

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Self:
        """A simulator, not started."""
        return cls(arguments.from_arguments(args, IotproSimOptions))

    # Running

    async def __aenter__(self) -> Self:
        """Listens. Raises OSError where the port is taken."""
        self._server = await asyncio.start_server(self._front.converse, self.options.host, self.options.port)
        self._life = [asyncio.create_task(self._refreshes())]
        if self.options.rate:
            self._life.append(asyncio.create_task(self._reports(self.options.rate)))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes every socket with 1001 and ends."""
        assert self._server is not None
        self._server.close()
        await self.drop(1001)
        for task in self._life:
            task.cancel()
        await asyncio.gather(*self._life, return_exceptions=True)
        for connection in list(self._front.connections):
            connection.transport.abort()
        await self._server.wait_closed()

    async def serve_forever(self) -> None:
        """Until cancelled; starts by itself where `async with` has not done so."""
        if self._server is None:
            async with self:
                return await self.serve_forever()
        await asyncio.get_running_loop().create_future()
        return None

    @property
    def port(self) -> int:
        """The TCP port it listens on, once started."""
        assert self._server is not None, "not started"
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Of the web page: what a backend is configured with."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"http://{host}:{self.port}"

    async def _talk(self, asked: Request, socket: Socket) -> None:
        if asked.path != "/api/ws":
            socket.close(1007, "Unknown session type")
        talk = Talk(socket, self.world, self.tokens, lambda: self.faults, self._bell.ring)
        self.talks.append(talk)
        self.admitted += 1
        self._bell.ring()
        try:
            await talk.live(self.options.auth_wait)
        finally:
            self.talks.remove(talk)
            self._bell.ring()

    async def _refreshes(self) -> None:
        while True:
            await asyncio.sleep(self.options.page_refresh)
            self.refresh()

    async def _reports(self, rate: float) -> None:
        """One buoy after the other, as fast as it is told."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            due = max(due + 1 / rate, clock() - 1.0)
            await asyncio.sleep(max(0.0, due - clock()))
            if (asset := self.world.turn()) is not None:
                self.write(asset, self.world.measured(asset, _now()))

    # What happens in the world

    def write(self, asset: Asset, values: dict[str, Any], ts: int | None = None) -> int:
        """Values of an asset, now or at another moment (milliseconds, which is given back)."""
        ts = _now() if ts is None else ts
        newest = self.world.write(asset, ts, values)
        if newest:
            for talk in self.talks:
                talk.told(asset, newest)
        return ts

    def _set(self, asset: Asset, scope: str, values: dict[str, Any]) -> None:
        self.set_attributes(asset, values)

    def set_attributes(self, asset: Asset, values: dict[str, Any], ts: int | None = None) -> int:
        ts = _now() if ts is None else ts
        points = {key: (ts, value) for key, value in values.items()}
        asset.attributes.update(points)
        for talk in self.talks:
            talk.told(asset, points, attributes=True)
        return ts

    def refresh(self) -> None:
        """The platform looks who is on the dynamic pages: now."""
        for talk in self.talks:
            talk.refresh()

    def say(self, frame: bytes | str) -> None:
        """One frame as it is, to every socket."""
        for talk in self.talks:
            talk.say(frame.encode() if isinstance(frame, str) else frame)

    # Sockets

    async def until(self, true: Callable[[], bool]) -> None:
        """Waits until something is true, looked at whenever something was asked."""
        await self._bell.until(true)

    async def subscribed(self, pages: int = 1) -> None:
        """Waits until somebody follows at least so many pages."""
        await self.until(lambda: any(len(talk.subscriptions) >= pages for talk in self.talks))

    async def drop(self, code: int = 1006, reason: str = "") -> None:
        """Closes all sockets with this code (1006: aborts TCP), and waits until they are gone."""
        talks = list(self.talks)
        for talk in talks:
            talk.socket.close(code, reason)
        try:
            async with asyncio.timeout(_GRACE_S):
                await self.until(lambda: not any(talk in self.talks for talk in talks))
        except TimeoutError:
            for talk in talks:
                talk.socket.close(1006)
            await self.until(lambda: not any(talk in self.talks for talk in talks))

    def freeze(self) -> None:
        """Makes the present sockets half-open: nothing is read from them any more."""
        for talk in self.talks:
            talk.socket.freeze()
