"""A SmartServer's CMS to talk to: real sockets, an invented building, faults on demand (wiki, "IAP/WS Fundamentals").

Every path but the version and the login wants the cookie of a session. General frames go to every socket, updates of
datapoints to those whose list names them: one list per user, the last request counts. A data log is a socket with a
query. What a device says comes a moment after it was asked.
"""

import argparse
import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from bridge.simulators import arguments
from bridge.simulators import smartserver_life as life
from bridge.simulators.bell import Bell
from bridge.simulators.smartserver_door import GRACE, Door, Reply, Request, Socket
from bridge.simulators.smartserver_json import device, update
from bridge.simulators.smartserver_log import entries
from bridge.simulators.smartserver_options import Faults, SmartserverSimOptions
from bridge.simulators.smartserver_rest import NO_CONTENT, Rest
from bridge.simulators.smartserver_world import Device, Point, World

__all__ = ["Faults", "SmartserverSimOptions", "SmartserverSimulator"]

_ANSWER_S = 0.02  # until a device answers
_LOCKED = Reply.json({"message": "Too many failed login attempts. Try again later."}, 429)
_UNAUTHORIZED = Reply.json({"message": "not logged in"}, 401)
_CMS = (("Location", "/cms"),)


@dataclass
class _Session:
    """One login. wanted: its list, where each session has its own."""

    timer: asyncio.TimerHandle
    wanted: set[str] = field(default_factory=set)


class SmartserverSimulator:
    """The server, an async context manager; `faults` may be replaced at any time.

    world: the building · requests: every request, in order, as "PUT /iap/…" · logins: taken so far · lists: every list
    of datapoints that was taken, in order.
    """

    def __init__(self, options: SmartserverSimOptions | None = None) -> None:
        self.options = options = options or SmartserverSimOptions()
        self.faults = options.faults
        self.world = World(options.rooms, options.seed, options.log, self.now())
        self.rest = Rest(self, options.release)
        self.requests: list[str] = []
        self.lists: list[list[str]] = []
        self.logins = self.logouts = 0
        self._wanted: set[str] = set()
        self._sessions: dict[str, _Session] = {}
        self._sockets: dict[Socket, str] = {}  # general ones, and their cookies
        self._told = 0
        self._bell = Bell()
        self._door: Door | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        arguments.add_arguments(parser, SmartserverSimOptions)

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Self:
        """A simulator, not started. Raises ValueError for options that do not go together."""
        return cls(arguments.from_arguments(args, SmartserverSimOptions))

    # Running

    async def __aenter__(self) -> Self:
        """Listens. Raises OSError where the port is taken or a TLS file cannot be read."""
        self._door = Door(self._answer, self._admit, self._talk, self._tls())
        await self._door.open(self.options.host, self.options.port)
        if self.options.rate:
            self._spawn(life.values(self, self.options.rate))
        if self.options.heartbeat:
            self._spawn(life.heartbeats(self, self.options.heartbeat))
        if self.options.lively:
            self._spawn(life.people(self, self.options.seed))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._door is not None
        await self.drop(1001)
        for task in self._tasks:
            task.cancel()
        for session in self._sessions.values():
            session.timer.cancel()
        await self._door.close()

    async def serve_forever(self) -> None:
        """Until cancelled; starts by itself where `async with` has not done so."""
        if self._door is None:
            async with self:
                return await self.serve_forever()
        await asyncio.get_running_loop().create_future()
        return None

    @property
    def port(self) -> int:
        assert self._door is not None, "not started"
        return self._door.port

    @property
    def url(self) -> str:
        """What goes into `url`; username and password are options."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"{'https' if self.options.tls_cert else 'http'}://{host}:{self.port}"

    def _tls(self) -> ssl.SSLContext | None:
        if not self.options.tls_cert:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.options.tls_cert, self.options.tls_key or None)
        return context

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def now(self) -> int:
        """ms since 1970."""
        return time.time_ns() // 1_000_000

    # Requests

    async def _answer(self, request: Request) -> Reply:
        self.requests.append(f"{request.method} /{'/'.join(request.path)}")
        self._bell.ring()
        if self.faults.late:
            await asyncio.sleep(self.faults.late)
        open_to_all = {("iap", "version"): self._version, ("iap", "auth", "login"): self._login}
        if (route := open_to_all.get(request.path)) is not None:
            return route(request)
        session = self._sessions.get(request.cookie)
        if session is None:
            return _UNAUTHORIZED if request.path[:1] == ("iap",) else Reply(302, b"", _CMS)
        if request.path[:2] == ("iap", "auth"):
            return self._auth(request, session)
        if self.faults.busy:
            return Reply.json({"message": "sending data too fast"}, self.faults.busy)
        return self.rest.answer(request) if request.path[:1] == ("iap",) else Reply(404)

    def _version(self, request: Request) -> Reply:
        return Reply.json({"type": "CMS", "value": self.options.release})

    def _login(self, request: Request) -> Reply:
        if self.faults.locked:
            return _LOCKED
        if self.faults.login:
            return Reply.json({"message": "login refused"}, self.faults.login)
        with contextlib.suppress(ValueError):
            asked = json.loads(request.body)
            mine = {"username": self.options.username, "password": self.options.password}
            if request.method == "POST" and isinstance(asked, dict) and mine.items() <= asked.items():
                return self._logged_in()
        return Reply.json({"message": "Invalid credentials"}, 401)

    def _logged_in(self) -> Reply:
        if self.faults.single_session:
            self.expire()
        self.logins += 1
        cookie = f"sid{self.logins:04d}-{hash((self.options.seed, self.logins)) & 0xFFFFFFFF:08x}"
        timer = asyncio.get_running_loop().call_later(self.options.session, self._end, cookie)
        self._sessions[cookie] = _Session(timer)
        self._bell.ring()
        told = {"id": 214, "userName": self.options.username, "locale": "en_US", "customerId": 3}
        return Reply.json(
            told, 200, ("Set-Cookie", f"cmsSID={cookie}; Path=/; HttpOnly{'; Secure' if self.options.tls_cert else ''}")
        )

    def _auth(self, request: Request, session: _Session) -> Reply:
        if request.path[2:] == ("sessionTimeout",):
            return Reply.json(int(self.options.session * 1000))
        if request.path[2:] == ("logout",) and request.method in ("POST", "PUT"):
            self.logouts += 1
            self._end(request.cookie)
            return NO_CONTENT
        return Reply(404)

    def _end(self, cookie: str) -> None:
        """A session is over; its sockets as `session_end` says."""
        session = self._sessions.pop(cookie, None)
        if session is None:
            return
        session.timer.cancel()
        for socket, mine in list(self._sockets.items()):
            if mine == cookie and self.faults.session_end != "silent":
                socket.close(1006 if self.faults.session_end == "drop" else 1000)
            elif mine == cookie:
                del self._sockets[socket]
        self._bell.ring()

    # Sockets

    def _admit(self, request: Request) -> Reply | None:
        self.requests.append(f"WS {request.target}")
        self._bell.ring()
        if request.path != ("iap", "ws"):
            return Reply(404)
        if request.cookie not in self._sessions:
            return _UNAUTHORIZED
        refused = (503 if self.faults.no_log else 0) if "?" in request.target else self.faults.refuse
        return Reply(refused, b"", _CMS if 300 <= refused < 400 else ()) if refused else None

    async def _talk(self, socket: Socket) -> None:
        if socket.request.query:
            await self._data_log(socket)
            return
        if self.faults.half_open:
            socket.freeze()
        self._sockets[socket] = socket.request.cookie
        self._bell.ring()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._sockets.pop(socket, None)
            self._bell.ring()

    async def _data_log(self, socket: Socket) -> None:
        for told in entries(self.world, socket.request.query, self.faults):
            socket.send(json.dumps(told))
            await socket.drained()
        if not self.faults.no_end:
            socket.send('"end"')
        socket.close(1000)

    @property
    def clients(self) -> int:
        """How many general sockets are open."""
        return len(self._sockets)

    async def until(self, true: Any) -> None:
        """Waits until something of this becomes true."""
        await self._bell.until(true)

    async def connected(self, count: int = 1) -> None:
        await self.until(lambda: self.clients >= count)

    async def subscribed(self, count: int = 1) -> None:
        """Waits until so many lists were taken since the start."""
        await self.until(lambda: len(self.lists) >= count)

    async def drop(self, code: int = 1006) -> None:
        """Closes all general sockets; returns when they are gone."""
        for socket in list(self._sockets):
            socket.close(code)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self.until(lambda: not self._sockets)
        for socket in list(self._sockets):
            socket.close(1006)

    def expire(self) -> None:
        """Every session is over."""
        for cookie in list(self._sessions):
            self._end(cookie)

    # Who gets what

    def subscribe(self, request: Request, wanted: list[str]) -> Reply:
        faults = self.faults
        unknown = [one for one in wanted if one not in self.world.points]
        if faults.refuse_list:
            return Reply.json({"message": "refused"}, faults.refuse_list)
        if faults.list_limit and len(wanted) > faults.list_limit:
            return Reply.json({"message": f"at most {faults.list_limit} datapoints"}, 400)
        if faults.refuse_unknown and unknown:
            return Reply.json({"message": f"unknown datapoint {unknown[0]}"}, 400)
        self._wanted = self._sessions[request.cookie].wanted = set(wanted)
        self.lists.append(wanted)
        self._bell.ring()
        return NO_CONTENT

    def steal(self, wanted: Iterable[str] = ()) -> None:
        """Another program with this user's name sends its own list."""
        self._wanted = set(wanted)
        for session in self._sessions.values():
            session.wanted = self._wanted

    def say(self, *frames: str | bytes) -> None:
        """As they are, to every general socket."""
        for frame in frames:
            for socket in self._sockets:
                socket.send(frame)

    def tell(self, action: str, payload: Any) -> None:
        """A general frame."""
        more = {"seq": self._told} if self.faults.extra_fields else {}
        self.say(json.dumps({"action": action, "payload": payload, **more}))

    @property
    def newer(self) -> bool:
        """Whether the release has time stamps, and tells its time."""
        return tuple(map(int, self.options.release.split(".")[:2])) >= (4, 10)

    def update(self, points: Sequence[Point]) -> None:
        """The present values, to whom they belong."""
        for socket, cookie in self._sockets.items():
            session = self._sessions.get(cookie)
            wanted = session.wanted if self.faults.list_per_session and session else self._wanted
            mine = [update(one, self.faults, stamped=self.newer) for one in points if one.qualifier in wanted]
            if mine:
                socket.send(self._written(mine))

    def _written(self, updates: list[dict[str, Any]]) -> str:
        self._told += 1
        payload: Any = updates[0] if self.faults.objects and len(updates) == 1 else updates
        frame = json.dumps({"action": "UPD:DATAPOINT", "payload": payload}, separators=(",", ":"))
        if self.faults.foo:
            self.say('{"action":"UPD:FOO","payload":{"bar":1}}')
        cut = self.faults.malformed and self._told % self.faults.malformed == 0
        return frame[: len(frame) // 2] if cut else frame

    # What happens

    def put(self, qualifier: str, value: Any) -> None:
        """A datapoint has a new value."""
        point = self.world.points[qualifier]
        self.world.put(point, value, self.now())
        self.update([point])

    def refreshed(self, points: Sequence[Point]) -> None:
        """A read goes to the devices."""
        self._spawn(self._device_answers(points))

    def changed(self, points: Sequence[Point]) -> None:
        """A write goes to the devices."""
        self._spawn(self._device_answers(points, written=True))

    async def _device_answers(self, points: Sequence[Point], *, written: bool = False) -> None:
        await asyncio.sleep(_ANSWER_S)
        silent = [one for one in points if one.device.health == "down" or (written and self.faults.no_proof)]
        for name in dict.fromkeys(one.device.name for one in silent):
            message = "queryStatus  Device does not respond!"
            self.tell("CRT:NOTIFICATION", {"message": message, "targetType": "DEVICE", "targetName": name})
        answering = [one for one in points if one not in silent]
        backs = [self.world.feedback(one, self.now()) for one in answering] if written else []
        if not written:
            for point in answering:
                self.world.put(point, point.value, self.now())
        self.update([*answering, *(one for one in backs if one is not None)])

    def tested(self, one: Device) -> None:
        results = {"state": "Configured Online", "health": "normal"}
        if one.health == "down":
            results = {"state": "Unconfigured Offline", "health": "down", "error": "Device does not respond!"}
        self.tell("UPD:DEVICE_TEST_RESULT", {"deviceId": one.id, "results": results})

    def health(self, id_: int, health: str) -> None:
        """A device goes down, or comes back; an alarm with it."""
        one = self.world.devices[id_]
        one.health = health
        self.tell("UPD:DEVICE", device(one, self.faults))

    def add(self, one: Device) -> None:
        """A device is added."""
        self.world.devices[one.id] = one
        self.world.points |= {point.qualifier: point for point in one.points}
        self.tell("UPD:DEVICE", device(one, self.faults))

    def remove(self, id_: int) -> None:
        gone = self.world.devices.pop(id_)
        for point in gone.points:
            self.world.points.pop(point.qualifier, None)
        self.tell("DEL:DEVICE", {"id": id_})

    def alarm(self, id_: int, text: str) -> int:
        """Raises one; its id."""
        told = self.world.alarm(self.world.devices[id_], text, self.now())
        self.tell("CRT:ALARM", told["id"] if self.faults.bare_alarms else told)
        return int(told["id"])

    def cleared(self, ids: list[int]) -> None:
        for id_ in ids:
            if self.world.alarms.pop(id_, None) is not None:
                self.tell("DEL:ALARM", id_ if self.faults.bare_alarms else {"id": id_})
