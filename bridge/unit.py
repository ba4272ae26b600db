"""One backend as the process holds it: what lasts (outbox, ledger, counts) and what a reload may replace (the rest)."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.about import BackendHealth, Health
from bridge.backends import PLATFORMS
from bridge.clock import instant
from bridge.commands import COMMON, Commands, filters
from bridge.crossing import Crossing
from bridge.keeping import Keeping
from bridge.links.backoff import Backoff
from bridge.model import Census, Message
from bridge.notes import Notes
from bridge.options import BackendOptions, MqttOptions, OutboxOptions
from bridge.outbox import Outbox
from bridge.payloads import Writer
from bridge.permit import ALWAYS, Permit
from bridge.publisher import Publisher
from bridge.spool import Spool
from bridge.state_topic import BackendState
from bridge.supervisor import supervise
from bridge.times import rfc3339
from bridge.watch.logs import BackendLog
from bridge.watch.metrics import OWN_COMMANDS, Meter, commands_table


@dataclass
class House:
    """What every backend shares."""

    mqtt: MqttOptions
    session: str  # the bridge's start, in milliseconds since 1970
    announced: asyncio.Event  # bridge/state is out
    redact: Callable[[str], str]
    permit: Permit = ALWAYS


@dataclass
class Lasting:
    """What outlives a reload and a restart of the backend: its events, what is counted of them, and what is noted.

    keeping: of all that on disk, where there is one.
    """

    outbox: Outbox
    meter: Meter
    notes: Notes
    keeping: Keeping | None = None

    @classmethod
    def of(cls, name: str, platform: str, options: OutboxOptions, session: str) -> "Lasting":
        known = PLATFORMS[platform]
        outbox, notes, keeping = Outbox(options, known.events), Notes(), None
        names = [spec.name for spec in (*known.commands, *COMMON)]
        meter = Meter(outbox.ledger, lambda: _waiting(outbox), commands_table(names))
        if options.path is not None:
            spool = Spool(Path(options.path), name, platform=platform, session=session, max_bytes=options.max_bytes)
            keeping = Keeping(outbox, notes, spool, BackendLog(name))
            keeping.open()
            keeping.start()
        return cls(outbox, meter, notes, keeping)

    async def end(self) -> int:
        """What still waits is on disk, or lost and counted: how many."""
        if self.keeping is not None:
            await self.keeping.close()
        before = len(self.outbox)
        self.outbox.abandon()
        return before - len(self.outbox)


def _waiting(outbox: Outbox) -> tuple[int, int, float | None]:
    oldest = outbox.oldest()
    return len(outbox), outbox.bytes, oldest.recorded.unix if oldest else None


@dataclass
class Unit:
    """One backend, running."""

    name: str
    platform: str
    options: BackendOptions
    lasting: Lasting
    crossing: Crossing
    publisher: Publisher
    commands: Commands
    log: logging.LoggerAdapter[logging.Logger]
    goodbye: Message  # to a broker that is left for another
    talk: asyncio.Task[None] | None = None
    publishing: asyncio.Task[None] | None = None

    def start(self) -> None:
        talk = supervise(self.crossing.run, self.crossing.failed, Backoff(self.options.reconnect), self.log)
        self.talk = asyncio.create_task(talk)
        self._publish()

    def _publish(self) -> None:
        run = supervise(self.publisher.run, self.publisher.failed, Backoff(self.options.reconnect), self.log)
        self.publishing = asyncio.create_task(run)

    async def stop_intake(self) -> None:
        """No more events; every command answered."""
        self.commands.stop()
        await self.crossing.stop()
        self.commands.abandon("ws2mqtt stopped before it was answered")

    def clear_states(self) -> None:
        """The retained states of its subjects are gone, for whoever hears of the broker's topics later."""
        self.crossing.census(Census(frozenset()))

    @property
    def uncleared(self) -> set[str]:
        """What of that the broker has not taken."""
        return self.lasting.notes.topics - {self.goodbye.topic}

    async def leave_broker(self, seconds: float) -> None:
        """Ends the MQTT connection; the talk with the platform goes on, and what it says waits for join_broker()."""
        self.publisher.state(self.goodbye)
        await self.spoken(seconds)
        await cancelled(self.publishing)

    def join_broker(self, mqtt: MqttOptions) -> None:
        """Another broker, or another way to it."""
        self.publisher.options, self.publisher.client_id = mqtt, f"{mqtt.client_id}-{self.name}"
        self.crossing.state.warn("mqtt", None)  # tells its state again; a trouble was the old connection's
        self._publish()

    async def spoken(self, seconds: float, events: bool = False) -> None:
        """Waits so long for states and responses (and events) to be with the broker; not at all without one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds if self.publisher.connected else 0):
                await (self.publisher.drained() if events else self.publisher.spoken())

    async def end(self) -> None:
        """Ends both sides; the MQTT connection says goodbye, so that no will is published."""
        await cancelled(self.talk, self.publishing)

    def picture(self) -> BackendHealth:
        """The ledger, in the words of the metrics."""
        ledger, (waiting, size, _) = self.lasting.outbox.ledger, self.lasting.meter.waiting()
        return BackendHealth(
            state=self.crossing.state.shown().state,
            events_received=sum(ledger.received.values()),
            events_recovered=ledger.recovered,
            events_published=ledger.published,
            events_dropped={reason: count for reason, count in ledger.dropped.items() if count},
            outbox_events=waiting,
            outbox_bytes=size,
        )

    def ready(self) -> bool:
        return not (self.options.required and self.options.enabled) or self.crossing.ready()


async def cancelled(*tasks: asyncio.Future[Any] | None) -> None:
    """Ends them, and waits for that."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def make(house: House, name: str, options: BackendOptions, lasting: Lasting) -> Unit:
    """A backend, built but not started. The three rooms know each other by what they call: hence the lambdas."""
    word = options.__struct_config__.tag
    assert isinstance(word, str)
    platform, log, meter = PLATFORMS[word], BackendLog(name), lasting.meter
    mqtt, specs = house.mqtt, (*platform.commands_of(options), *COMMON)
    named = [spec.name for spec in (*platform.commands, *COMMON, *platform.own_commands(options)[:OWN_COMMANDS])]
    meter.commands = {series: meter.commands.get(series, 0) for series in commands_table(named)}  # a reload may change
    writer = Writer(
        base=mqtt.base_topic,
        backend=name,
        platform=word,
        session=house.session,
        payload=mqtt.payload,
        envelope=mqtt.envelope,
    )

    def gone(error: str) -> Message:
        return writer.plain("state", BackendState("offline", None, error=error))

    publisher = Publisher(
        mqtt,
        client_id=f"{mqtt.client_id}-{name}",
        will=lambda: gone("bridge gone"),
        filters=filters(writer.prefix),
        incoming=lambda message: commands.arrived(message),
        meter=meter.mqtt,
        log=log,
        outbox=lasting.outbox,
        changed=lambda warning: crossing.state.warn("mqtt", warning),
        retained=lasting.notes.retained,
        after=house.announced,
        permit=house.permit,
    )
    crossing = Crossing(
        name,
        platform,
        options,
        outbox=lasting.outbox,
        publisher=publisher,
        writer=writer,
        meter=meter,
        log=log,
        respond=lambda response: commands.respond(response),
        abandon=lambda why: commands.abandon(why),
        redact=house.redact,
        notes=lasting.notes,
        permit=house.permit,
    )
    crossing.state.log = log
    commands = Commands(
        base=mqtt.base_topic,
        prefix=writer.prefix,
        session=house.session,
        specs=specs,
        local={
            "reconnect": lambda _: crossing.reconnect(),
            "pause": lambda _: crossing.pause(),
            "resume": lambda _: crossing.pause(False),
        },
        options=options.commands,
        publish=publisher.respond,
        counts=meter.commands,
        seconds=meter.command_seconds,
        ready=lambda: None if crossing.ready() else crossing.state.now.state,
        order=crossing.ordered,
    )
    if lasting.keeping is not None:
        lasting.keeping.attend(crossing.sign, lambda warning: crossing.state.warn("outbox", warning), publisher.wake)
    for topic in [topic for topic in lasting.notes.topics if not topic.startswith(f"{writer.prefix}/")]:
        publisher.state(Message(topic, b""))  # of another base_topic
    return Unit(name, word, options, lasting, crossing, publisher, commands, log, gone("reloading"))


def health(units: Mapping[str, Unit], session: str) -> Health:
    """`bridge/health`: the ledger of every backend."""
    return Health(rfc3339(instant().unix), session, {name: unit.picture() for name, unit in units.items()})
