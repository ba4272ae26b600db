"""The composition root: builds every room from the configuration, runs them, and ends them in order.

Start: the bridge's own connection announces itself, then the backends theirs; platforms are dialled at once.
End: intake stops, commands are answered, the outboxes drain within the grace, backends say `offline`, the bridge last.
With a lease (terms.py) all that happens once per term; what was counted, and what waits, lives on.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from bridge import __version__
from bridge.about import LogLevel, Pong, Reloaded
from bridge.config import Config, secrets
from bridge.config.changes import changes
from bridge.errors import BadCommand, BadConfig, Fatal
from bridge.lease import Lease, LeaseOptions
from bridge.lock import lock
from bridge.opening import opening
from bridge.options import BackendOptions, OutboxOptions
from bridge.permit import ALWAYS
from bridge.picture import Pages, Picture, of, row
from bridge.terms import Terms
from bridge.unit import House, Lasting, Unit, cancelled, health, make
from bridge.voice import LAST_WORDS_S, Voice
from bridge.watch import logs, web
from bridge.watch.logs import BackendLog, Redactor
from bridge.watch.metrics import Meters
from bridge.watch.page import page

HEALTH_S = 30.0


class App:
    """The running service. load: reads the configuration anew, for reload; raises BadConfig.

    lease: what makes this replica the active one; None: it is the only one.
    """

    def __init__(self, config: Config, load: Callable[[], Config], lease: Lease | None = None) -> None:
        self.config, self._load, self.lease = config, load, lease
        self.redact = Redactor([*secrets(config), *([lease.server.secret] if lease else [])])
        self.log = BackendLog(None)
        self.session = _milliseconds()
        self.meters = Meters()
        self.units: dict[str, Unit] = {}
        self.lasting: dict[str, Lasting] = {}
        self._numbered: dict[str, int] = {}  # events of backends that were removed: they may come back
        self.draining = False
        self.port: int | None = None  # of http
        self._stop = asyncio.Event()
        self.settling = asyncio.Lock()  # the start, a reload, the end, a term's beginning or end: one at a time
        self._active = False  # connected, or about to be
        self._announced = asyncio.Event()
        self._house = House(config.mqtt, self.session, self._announced, self.redact, lease or ALWAYS)
        self._terms = Terms(lease, self, self.log) if lease else None
        self._tasks: list[asyncio.Task[None]] = []
        self._web = contextlib.AsyncExitStack()
        self._held = contextlib.ExitStack()  # the outbox's folder
        self._pages = Pages(self._picture, lambda: self.units.values())

    async def run(self) -> int:
        """Until stop(). Returns the exit code. Raises Fatal where it cannot start."""
        self._lock()  # first: a second process of the same configuration is to hear of this, not of the port
        async with self.settling:
            await self._listen(self.config.http.listen)
            self._tasks.append(asyncio.create_task(self._report()))
            if self._terms is None:
                self.begin()
            else:
                self.leads(False)
        for warning in self.config.warnings:
            self.log.warning(warning)
        for message, told in opening(self.config, str(self.lease) if self.lease else None):
            self.log.info(message, extra=told)
        try:
            if self._terms is not None:
                await self._terms.run(self._stop)
            await self._stop.wait()
        finally:
            await self._end()
        return 0

    # A term: all of the process's life, where there is no lease.

    def leads(self, active: bool) -> None:
        """Whether this replica is the active one. Before its first term what will be counted is there already.

        Its session is that of the first term: two may be started in the same millisecond, but do not begin to lead so.
        """
        self.meters.leader = active
        if active and not (self.lasting or self._numbered):
            self.session = self._house.session = _milliseconds()
        if self.lease is not None:
            self.lease.seen = self._seen
        for name, options in self.config.backends.items():
            if name not in self.lasting:
                self.meters.backends[name] = Lasting.of(name, _word(options), OutboxOptions(), self.session).meter

    def begin(self) -> None:
        """Connects everything."""
        self._active = True
        self._announced.clear()
        self._speak()
        for name, options in self.config.backends.items():
            self._start(name, options)
        self.voice.tells(self.units)

    async def cut(self) -> None:
        """Ends at once what still runs; without permission nothing is published by that."""
        self._active = False
        units, self.units = list(self.units.values()), {}
        self.voice.hears_no_more()
        for unit in units:
            unit.commands.stop()
        await asyncio.gather(*(unit.end() for unit in units), self.voice.cut())

    def _seen(self) -> dict[str, float]:
        """When each platform was last heard (Unix), for whoever leads next."""
        signs = {name: unit.crossing.sign() for name, unit in self.units.items()}
        signs = {name: signs.get(name) or lasting.notes.seen for name, lasting in self.lasting.items()}
        return {name: sign.unix for name, sign in signs.items() if sign is not None}

    def _lock(self) -> None:
        """The outbox's folder is this process's alone. Raises Fatal where it is another's."""
        if self.config.outbox.path is None:
            return
        try:
            self._held.callback(os.close, lock(Path(self.config.outbox.path)))
        except OSError as error:  # said again by each backend, and tried again
            self.log.error("outbox.path cannot be used", extra={"path": self.config.outbox.path, "reason": str(error)})

    def stop(self) -> None:
        """Asks for the orderly end; asked again, the end is at once."""
        if self._stop.is_set():
            self.log.warning("stopped at once; what was waiting is lost")
            os._exit(1)
        self.log.info("stopping", extra={"grace_s": float(self.config.shutdown_grace)})
        self._stop.set()

    def handle_signals(self) -> None:
        """SIGTERM and SIGINT stop, SIGHUP reloads."""
        loop = asyncio.get_running_loop()
        for number, act in ((signal.SIGTERM, self.stop), (signal.SIGINT, self.stop), (signal.SIGHUP, self._hup)):
            loop.add_signal_handler(number, act)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def _speak(self) -> None:
        """Opens the bridge's own connection."""
        local = {
            "ping": lambda _: Pong(version=__version__, session=self.session),
            "health": lambda _: health(self.units, self.session),
            "log_level": self._log_level,
            "reload": lambda _: self.reload(),
        }
        self.voice = Voice(self._house, self.meters, local, respond=lambda message: self.voice.respond(message))

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_S)
            self.redact.refresh()
            if self._active:
                self.voice.reports(self.units)

    # Backends.

    def _start(self, name: str, options: Any) -> None:
        lasting = self.lasting.get(name)
        if lasting is None:
            lasting = self.lasting[name] = Lasting.of(name, _word(options), self.config.outbox, self.session)
            lasting.outbox.numbered = self._numbered.get(name, 0)
        if self._terms is not None:
            self._terms.inherit(name, lasting.notes)
        self.meters.backends[name] = lasting.meter
        self.voice.leaves(name)
        unit = self.units[name] = make(self._house, name, options, lasting)
        unit.start()

    async def _halt(self, name: str, gone: bool) -> None:
        """Ends one backend for a reload; its outbox stays, or is emptied where the backend is gone."""
        unit = self.units.pop(name)
        await unit.stop_intake()
        if gone:
            unit.clear_states()
        unit.crossing.state.farewell(
            *(("disabled", "removed from the configuration") if gone else ("offline", "reloading"))
        )
        await unit.spoken(LAST_WORDS_S, events=gone)
        await unit.end()
        self.voice.clears(unit.uncleared if gone else ())

    def _hup(self) -> None:
        async def attempt() -> None:
            with contextlib.suppress(BadCommand):
                await self.reload()

        self._tasks.append(asyncio.ensure_future(attempt()))

    async def reload(self) -> Reloaded:
        """Takes a changed configuration; refused as a whole where it is wrong. Returns what changed.

        Raises BadCommand that names every problem.
        """
        async with self.settling:
            if self._stop.is_set():
                raise BadCommand("ws2mqtt is stopping", code=503, kind="stopping")
            try:
                config = await asyncio.to_thread(self._load)
                if config.outbox.path != self.config.outbox.path:
                    raise self._refused(["outbox.path: cannot change while ws2mqtt runs; restart it"])
                if config.http != self.config.http:
                    await self._listen(config.http.listen)
            except BadConfig as bad:
                raise self._refused(map(str, bad.problems)) from None
            except Fatal as error:  # the new address is not to be had
                await self._listen(self.config.http.listen)
                raise self._refused([str(error)]) from None
            changed = await self._take(config)
            self.meters.reloads["ok"] += 1
            told = {what: ",".join(names) for what, names in changed.items() if isinstance(names, list) and names}
            self.log.info("reloaded", extra=told or {"changed": "nothing"})
            return changed

    def _refused(self, problems: Iterable[str]) -> BadCommand:
        """The old configuration goes on: counts it, logs each problem, and what to answer."""
        self.meters.reloads["failed"] += 1
        told = [self.redact(problem) for problem in problems]
        for problem in told:
            self.log.error("configuration refused", extra={"problem": problem})
        return BadCommand(f"the configuration is refused: {'; '.join(told)}", kind="bad_configuration")

    async def _take(self, config: Config) -> Reloaded:
        what, self.config = changes(self.config, config), config
        self.redact.set(secrets(config))
        ended = [name for name in (*what.removed, *what.changed) if name in self.units]
        await asyncio.gather(*(self._halt(name, gone=name in what.removed) for name in ended))
        for name in what.retyped:
            await self._forget(name)
        await self._take_groups(what.groups)
        if self._active:
            for name in (*what.changed, *what.added):
                self._start(name, config.backends[name])
            self.voice.tells(self.units)
        else:
            self.leads(False)
        return Reloaded(changed=[*what.groups, *what.changed], added=what.added, removed=what.removed)

    async def _take_groups(self, groups: list[str]) -> None:
        if "mqtt" in groups:
            await self._change_broker()
        if "log" in groups:
            logs.set_up(self.config.log, self.redact, colour=logs.colour())
        for lasting in self.lasting.values():
            lasting.outbox.options = self.config.outbox

    async def _forget(self, name: str) -> None:
        """A backend that is gone, or became another platform: what it still held is on disk, or lost and counted."""
        if name in self.lasting:
            lasting = self.lasting.pop(name)
            await self._put_away(name, lasting, "removed from the configuration")
            self._numbered[name] = lasting.outbox.numbered
        self.meters.backends.pop(name, None)

    async def _change_broker(self) -> None:
        """Another broker, or another way to it: goodbye to the old one, the bridge last; talks with platforms go on."""
        if self._active:
            await asyncio.gather(*(unit.leave_broker(LAST_WORDS_S) for unit in self.units.values()))
            await self.voice.last_words()
        self._house.mqtt = self.config.mqtt
        if not self._active:  # or not any more
            return
        self._announced.clear()
        self._speak()
        for unit in self.units.values():
            unit.join_broker(self.config.mqtt)

    async def _put_away(self, name: str, lasting: Lasting, why: str) -> None:
        """The end of what a backend still holds."""
        if lost := await lasting.end():
            BackendLog(name).warning("events lost", extra={"events": lost, "reason": why})
        if kept := len(lasting.outbox):
            BackendLog(name).info("events kept on disk", extra={"events": kept, "reason": why})

    async def last_words(self) -> None:
        """The bridge says `offline`, and its own connection ends."""
        await self.voice.last_words()

    def _log_level(self, body: LogLevel) -> LogLevel:
        logs.set_level(body.level)
        return body

    # Seen from outside.

    async def _listen(self, listen: str | None) -> None:
        """There and nowhere else (None: nowhere). Raises Fatal."""
        await self._web.aclose()
        if listen is not None:
            self.port = await self._web.enter_async_context(web.serve(listen, self.routes()))

    def routes(self) -> web.Routes:
        return {
            "/": lambda: page(map(row, map(of, self.units.values())), self.lease.status() if self.lease else ""),
            "/events": self._pages.open,
            "/metrics": lambda: web.Reply(200, "text/plain; version=0.0.4; charset=utf-8", self.meters.render()),
            "/livez": lambda: web.Reply(200, "application/json", b'{"live":true}'),
            "/readyz": self._readyz,
        }

    def waiting(self) -> list[str]:
        """What readiness waits for; a standby is ready."""
        if not self._active:
            return []
        waiting = [] if self.voice.connected else ["mqtt"]
        return waiting + [name for name, unit in self.units.items() if not unit.ready()]

    def _readyz(self) -> web.Reply:
        waiting = self.waiting()
        ready = not waiting and not self.draining
        body = msgspec.json.encode({"ready": ready, "waiting": waiting})
        return web.Reply(200 if ready else 503, "application/json", body)

    def _picture(self) -> Picture:
        waiting = self.waiting()
        return Picture(
            version=__version__,
            instance=socket.gethostname(),
            session=self.session,
            base_topic=self.config.mqtt.base_topic,
            mqtt=self._active and self.voice.connected,
            ready=not waiting and not self.draining,
            draining=self.draining,
            waiting=waiting,
            lease=self.lease.status() if self.lease else None,
            backends=[of(unit) for unit in self.units.values()],
        )

    # The end.

    async def _end(self) -> None:
        async with self.settling:  # one that runs is ended first: it may be about to start a backend
            await self._end_in_order()

    async def _end_in_order(self) -> None:
        self.draining = True
        grace = asyncio.get_running_loop().time() + self.config.shutdown_grace
        if self._terms is None:
            await self.cease(grace)
        elif self._active:
            await self._terms.last(grace)
        if self._terms is not None:
            await self._terms.end()
        await asyncio.gather(
            *(self._put_away(name, lasting, "the broker was not reached") for name, lasting in self.lasting.items())
        )
        if self._active:
            await self.last_words()
        await cancelled(*self._tasks)
        await self._web.aclose()
        self._held.close()
        self.log.info("stopped")

    async def cease(self, grace: float) -> None:
        """Ends the backends in order; until `grace` (of the loop's time) their outboxes may drain."""
        self.voice.says("draining")
        self.voice.hears_no_more()
        await asyncio.gather(*(unit.stop_intake() for unit in self.units.values()))
        for unit in self.units.values():
            unit.crossing.state.farewell("offline", None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(grace):
                await asyncio.gather(*(unit.publisher.drained() for unit in self.units.values()))
        await asyncio.gather(*(unit.end() for unit in self.units.values()))


def _milliseconds() -> str:
    return str(time.time_ns() // 1_000_000)


def _word(options: BackendOptions) -> str:
    """Its type."""
    word = options.__struct_config__.tag
    assert isinstance(word, str)
    return word


async def serve(config: Config, load: Callable[[], Config], election: LeaseOptions | None = None) -> int:
    """`ws2mqtt run`; election: one of several replicas is active. Raises Fatal where it cannot start."""
    lease = None if election is None else Lease(election, BackendLog(None), environ=os.environ)
    app = App(config, load, lease)
    logs.set_up(config.log, app.redact, colour=logs.colour())
    app.handle_signals()
    return await app.run()
