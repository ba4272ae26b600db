"""The bridge's own connection: what it says of itself below `<base>/bridge/`, and the commands it takes there."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec

from bridge import __version__
from bridge.about import BRIDGE_SPECS, BackendInfo, BridgeInfo, BridgeState
from bridge.backends import PLATFORMS
from bridge.clock import instant
from bridge.commands import COMMON, Commands, filters
from bridge.links.backoff import Backoff
from bridge.model import Message
from bridge.options import CommandOptions
from bridge.payloads import JSON_PROPERTIES
from bridge.publisher import Publisher
from bridge.supervisor import supervise
from bridge.times import rfc3339
from bridge.unit import House, Unit, cancelled, health
from bridge.watch.logs import BackendLog
from bridge.watch.metrics import BRIDGE, Meters

LAST_WORDS_S = 2.0
Local = Callable[[Any], object]


class Voice:
    """One connection, from when it is made to its last words.

    local: what carries out the commands, by name · respond: says what came of one, maybe by another voice: a reload may
    change the broker.
    """

    def __init__(
        self, house: House, meters: Meters, local: Mapping[str, Local], respond: Callable[[Message], None]
    ) -> None:
        self._house, mqtt = house, house.mqtt
        self._base = mqtt.base_topic  # also while a reload is about to change it
        prefix, log = f"{self._base}/{BRIDGE}", BackendLog(BRIDGE)
        self._publisher = Publisher(
            mqtt,
            client_id=mqtt.client_id,
            will=lambda: self._message("state", self._state("offline")),
            filters=filters(prefix, 0),
            incoming=lambda message: self._commands.arrived(message),
            meter=meters.bridge,
            log=log,
        )
        self._publisher.announced = house.announced
        self._commands = Commands(
            base=self._base,
            prefix=prefix,
            session=house.session,
            specs=BRIDGE_SPECS,
            local=local,
            options=CommandOptions(),
            publish=respond,
            counts=meters.bridge_commands,
            seconds=meters.bridge_command_seconds,
        )
        self.says("online")
        run = supervise(self._publisher.run, self._publisher.failed, Backoff(mqtt.reconnect), log)
        self._task = asyncio.create_task(run)

    @property
    def connected(self) -> bool:
        return self._publisher.connected

    def respond(self, message: Message) -> None:
        self._publisher.respond(message)

    def says(self, state: Literal["online", "draining", "offline"]) -> None:
        """`state`: how the bridge is."""
        self._publisher.state(self._message("state", self._state(state)))

    def tells(self, units: Mapping[str, Unit]) -> None:
        """`info`: what there is."""
        backends = {}
        for name, unit in units.items():
            own = PLATFORMS[unit.platform].commands_of(unit.options)
            names = [spec.name for spec in (*own, *COMMON)]
            subjects = {spec.name: spec.subject for spec in own if spec.subject}
            backends[name] = BackendInfo(unit.platform, names, subjects)
        info = BridgeInfo(__version__, self._house.session, [spec.name for spec in BRIDGE_SPECS], backends)
        self._publisher.state(self._message("info", info))

    def reports(self, units: Mapping[str, Unit]) -> None:
        """`health`: the ledger of every backend."""
        told = self._message("health", health(units, self._house.session))
        self._publisher.say(told, self._house.mqtt.qos)

    def clears(self, topics: Iterable[str]) -> None:
        """What a removed backend could not clear itself, the broker being away."""
        for topic in topics:
            self._publisher.state(Message(topic, b""))

    def leaves(self, backend: str) -> None:
        """That backend is back, and sees to its topics itself."""
        self._publisher.states.forget(f"{self._base}/{backend}/")

    def hears_no_more(self) -> None:
        """No command is taken from now on; those that wait are answered."""
        self._commands.stop()

    async def last_words(self) -> None:
        """`offline`, and the end of the connection."""
        self.says("offline")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S if self.connected else 0):
                await self._publisher.drained()
        await self.cut()

    async def cut(self) -> None:
        """Ends at once."""
        await cancelled(self._task)

    def _state(self, state: Literal["online", "draining", "offline"]) -> BridgeState:
        return BridgeState(state, self._house.session, socket.gethostname(), __version__, rfc3339(instant().unix))

    def _message(self, path: str, value: object) -> Message:
        return Message(f"{self._base}/{BRIDGE}/{path}", msgspec.json.encode(value), JSON_PROPERTIES)
