"""The composition root: builds every room from the configuration, runs them, and ends them in order.

Start: the bridge's own connection announces itself, then the backends theirs; platforms are dialled at once.
End: intake stops, commands are answered, the outboxes drain within the grace, backends say `offline`, the bridge last.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from bridge import __version__
from bridge.backends import PLATFORMS
from bridge.backends.session import CommandSpec
from bridge.clock import instant
from bridge.commands import COMMON, Commands, NoFields, filters
from bridge.config import Config, secrets
from bridge.crossing import supervise
from bridge.errors import BadCommand, BadConfig
from bridge.links.backoff import Backoff
from bridge.model import Message
from bridge.options import CommandOptions
from bridge.payloads import JSON_PROPERTIES
from bridge.publisher import Publisher
from bridge.times import rfc3339
from bridge.unit import House, Lasting, Unit, health, make
from bridge.watch import logs, web
from bridge.watch.logs import BackendLog, Redactor
from bridge.watch.metrics import BRIDGE, Meters

HEALTH_S = 30.0
_LAST_WORDS_S = 2.0
_GROUPS = ("mqtt", "outbox", "http", "log", "shutdown_grace")


class LogLevel(Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of `log_level`."""

    level: logs.Level


BRIDGE_SPECS = (
    CommandSpec("ping", NoFields),
    CommandSpec("health", NoFields),
    CommandSpec("log_level", LogLevel),
    CommandSpec("reload", NoFields),
)


class App:
    """The running service. load: reads the configuration anew, for reload; raises BadConfig."""

    def __init__(self, config: Config, load: Callable[[], Config]) -> None:
        self.config, self._load = config, load
        self.redact = Redactor(secrets(config))
        self.log = BackendLog(None)
        self.session = str(time.time_ns() // 1_000_000)
        self.meters = Meters()
        self.units: dict[str, Unit] = {}
        self.lasting: dict[str, Lasting] = {}
        self.draining = False
        self.port: int | None = None  # of http
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._announced = asyncio.Event()
        self._house = House(config.mqtt, self.session, self._announced, self.redact)
        self._tasks: list[asyncio.Task[None]] = []
        self._web = contextlib.AsyncExitStack()

    async def run(self) -> int:
        """Until stop(). Returns the exit code. Raises Fatal where it cannot start."""
        await self._listen()
        self._open_bridge()
        self._tasks.append(asyncio.create_task(self._report()))
        for name, options in self.config.backends.items():
            self._start(name, options)
        self._say_info()
        for warning in self.config.warnings:
            self.log.warning(warning)
        self.log.info(
            "started",
            extra={
                "version": __version__,
                "backends": ",".join(self.units) or "none",
                "mqtt": ",".join(self.config.mqtt.url),
                "base_topic": self.config.mqtt.base_topic,
                "http": self.config.http.listen or "off",
            },
        )
        try:
            await self._stop.wait()
        finally:
            await self._end()
        return 0

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
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._hup)

    # The bridge's own connection.

    def _open_bridge(self) -> None:
        mqtt, prefix = self.config.mqtt, f"{self.config.mqtt.base_topic}/{BRIDGE}"
        self.publisher = Publisher(
            mqtt,
            client_id=mqtt.client_id,
            will=lambda: self._state_message("offline"),
            filters=filters(prefix, 0),
            incoming=lambda message: self.commands.arrived(message),
            meter=self.meters.bridge,
            log=BackendLog(BRIDGE),
        )
        self.publisher.announced = self._announced
        self.commands = Commands(
            base=mqtt.base_topic,
            prefix=prefix,
            session=self.session,
            specs=BRIDGE_SPECS,
            local={
                "ping": lambda _: {"version": __version__, "session": self.session},
                "health": lambda _: health(self.units, self.session),
                "log_level": self._log_level,
                "reload": lambda _: self.reload(),
            },
            options=CommandOptions(),
            publish=lambda message: self.publisher.respond(message),  # a reload may replace the publisher
            counts=self.meters.bridge_commands,
            seconds=self.meters.bridge_command_seconds,
        )
        self.publisher.state(self._state_message("online"))
        log = BackendLog(BRIDGE)
        run = supervise(self.publisher.run, self.publisher.failed, Backoff(mqtt.reconnect), log)
        self._bridge_task = asyncio.create_task(run)

    def _message(self, path: str, value: object) -> Message:
        return Message(f"{self.config.mqtt.base_topic}/{BRIDGE}/{path}", msgspec.json.encode(value), JSON_PROPERTIES)

    def _state_message(self, state: str) -> Message:
        return self._message(
            "state",
            {
                "state": state,
                "session": self.session,
                "instance": socket.gethostname(),
                "version": __version__,
                "time": rfc3339(instant().unix),
            },
        )

    def _say_info(self) -> None:
        backends = {
            name: {
                "type": unit.platform,
                "commands": [spec.name for spec in (*PLATFORMS[unit.platform].commands, *COMMON)],
                "subjects": {spec.name: spec.subject for spec in PLATFORMS[unit.platform].commands if spec.subject},
            }
            for name, unit in self.units.items()
        }
        info = {
            "version": __version__,
            "session": self.session,
            "commands": [spec.name for spec in BRIDGE_SPECS],
            "backends": backends,
        }
        self.publisher.state(self._message("info", info))

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_S)
            self.redact.refresh()
            self.publisher.say(self._message("health", health(self.units, self.session)), self.config.mqtt.qos)

    # Backends.

    def _start(self, name: str, options: Any) -> None:
        word = options.__struct_config__.tag
        lasting = self.lasting.get(name)
        if lasting is None:
            lasting = self.lasting[name] = Lasting.of(word, self.config.outbox)
        self.meters.backends[name] = lasting.meter
        unit = self.units[name] = make(self._house, name, options, lasting)
        unit.start()

    async def _halt(self, name: str, gone: bool) -> None:
        """Ends one backend for a reload; its outbox stays."""
        unit = self.units.pop(name)
        await unit.stop_intake()
        unit.crossing.farewell(*(("disabled", "removed from the configuration") if gone else ("offline", "reloading")))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await unit.publisher.spoken()
        await unit.end()

    def _hup(self) -> None:
        async def attempt() -> None:
            with contextlib.suppress(BadCommand):
                await self.reload()

        self._tasks.append(asyncio.ensure_future(attempt()))

    async def reload(self) -> dict[str, list[str]]:
        """Takes a changed configuration; refused as a whole where it is wrong. Returns what changed.

        Raises BadCommand that names every problem.
        """
        async with self._reloading:
            try:
                config = await asyncio.to_thread(self._load)
            except BadConfig as bad:
                self.meters.reloads["failed"] += 1
                for problem in bad.problems:
                    self.log.error("configuration refused", extra={"problem": self.redact(str(problem))})
                text = self.redact(str(bad))
                raise BadCommand(f"the configuration is refused: {text}", kind="bad_configuration") from None
            changed = await self._take(config)
            self.meters.reloads["ok"] += 1
            self.log.info("reloaded", extra={"changed": ",".join(map(str, changed["changed"])) or "nothing"})
            return changed

    async def _take(self, config: Config) -> dict[str, list[str]]:
        old, self.config = self.config, config
        self.redact.set(secrets(config))
        groups = [name for name in _GROUPS if getattr(old, name) != getattr(config, name)]
        removed = [name for name in old.backends if name not in config.backends]
        added = [name for name in config.backends if name not in old.backends]
        kept = [name for name in old.backends if name in config.backends]
        changed = [name for name in kept if "mqtt" in groups or old.backends[name] != config.backends[name]]
        for name in (*removed, *changed):
            await self._halt(name, gone=name in removed)
            if type(old.backends[name]) is not type(config.backends.get(name)):
                self._forget(name)
        await self._take_groups(groups)
        for name in (*changed, *added):
            self._start(name, config.backends[name])
        self._say_info()
        return {"changed": [*groups, *changed], "added": added, "removed": removed}

    async def _take_groups(self, groups: list[str]) -> None:
        if "mqtt" in groups:
            await self._reopen_bridge()
        if "log" in groups:
            logs.set_up(self.config.log, self.redact)
        if "http" in groups:
            await self._listen()
        for lasting in self.lasting.values():
            lasting.outbox.options = self.config.outbox

    def _forget(self, name: str) -> None:
        """A backend that is gone, or became another platform: what it still held is lost, counted and said."""
        lasting = self.lasting.pop(name)
        if waiting := len(lasting.outbox):
            BackendLog(name).warning("events of a removed backend dropped", extra={"events": waiting})
        lasting.outbox.abandon()
        self.meters.backends.pop(name, None)

    async def _reopen_bridge(self) -> None:
        """Another broker, or another way to it: says goodbye to the old one."""
        await self._last_words()
        self._house.mqtt = self.config.mqtt
        self._announced.clear()
        self._open_bridge()

    async def _last_words(self) -> None:
        """`offline`, and the end of the bridge's own connection."""
        self.publisher.state(self._state_message("offline"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S if self.publisher.connected else 0):
                await self.publisher.drained()
        self._bridge_task.cancel()
        await asyncio.gather(self._bridge_task, return_exceptions=True)

    def _log_level(self, body: LogLevel) -> dict[str, str]:
        logs.set_level(body.level)
        return {"level": body.level}

    # Seen from outside.

    async def _listen(self) -> None:
        await self._web.aclose()
        if self.config.http.listen is not None:
            self.port = await self._web.enter_async_context(web.serve(self.config.http.listen, self.routes()))

    def routes(self) -> dict[str, Callable[[], web.Reply]]:
        return {
            "/": self._page,
            "/metrics": lambda: (200, "text/plain; version=0.0.4; charset=utf-8", self.meters.render()),
            "/livez": lambda: (200, "application/json", b'{"live":true}'),
            "/readyz": self._readyz,
        }

    def waiting(self) -> list[str]:
        """What readiness waits for."""
        waiting = [] if self.publisher.connected else ["mqtt"]
        return waiting + [name for name, unit in self.units.items() if not unit.ready()]

    def _readyz(self) -> web.Reply:
        waiting = self.waiting()
        ready = not waiting and not self.draining
        body = msgspec.json.encode({"ready": ready, "waiting": waiting})
        return 200 if ready else 503, "application/json", body

    def _page(self) -> web.Reply:
        head = ("backend", "type", "state", "since", "received", "published", "waiting", "error")
        rows: list[tuple[str, ...]] = [head]
        for name, unit in self.units.items():
            status, ledger = unit.crossing.shown(), unit.lasting.outbox.ledger
            received, waiting = sum(ledger.received.values()), len(unit.lasting.outbox)
            counts = (str(received), str(ledger.published), str(waiting))
            rows.append((name, unit.platform, status.state, status.since or "", *counts, status.error or ""))
        return 200, "text/html; charset=utf-8", web.page(f"ws2mqtt {__version__}", rows)

    # The end.

    async def _end(self) -> None:
        self.draining = True
        self.publisher.state(self._state_message("draining"))
        grace = asyncio.get_running_loop().time() + self.config.shutdown_grace
        self.commands.stop()
        await asyncio.gather(*(unit.stop_intake() for unit in self.units.values()))
        for unit in self.units.values():
            unit.crossing.farewell("offline", None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(grace):
                await asyncio.gather(*(unit.publisher.drained() for unit in self.units.values()))
        await asyncio.gather(*(unit.end() for unit in self.units.values()))
        for name, lasting in self.lasting.items():
            if waiting := len(lasting.outbox):
                BackendLog(name).warning("events lost: the broker was not reached", extra={"events": waiting})
                lasting.outbox.abandon()
        await self._last_words()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._web.aclose()
        self.log.info("stopped")


async def serve(config: Config, load: Callable[[], Config]) -> int:
    """`ws2mqtt run`."""
    app = App(config, load)
    logs.set_up(config.log, app.redact, colour=sys.stderr.isatty() and "NO_COLOR" not in os.environ)
    app.handle_signals()
    return await app.run()
