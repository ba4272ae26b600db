"""One backend's crossing: the links to its platform on one side, its outbox and MQTT connection on the other.

1. The session is told what happens and its Steps are carried out at once, on the event loop: nothing runs beside it.
2. A bug in a session restarts the talk of this backend alone; outbox, MQTT connection and waiting commands live on.
3. The state topic says at every moment how the backend stands, and when the next try is.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from bridge.backends.session import Call, Dial, Gap, Hang, Platform, Send, Session, Step
from bridge.clock import instant
from bridge.lines import Lines
from bridge.links.backoff import Backoff
from bridge.links.http import Caller
from bridge.model import Census, Command, Condition, Event, Instant, Login, Message, Response, State, Unread
from bridge.notes import Notes
from bridge.options import BackendOptions
from bridge.outbox import Outbox
from bridge.payloads import Writer
from bridge.permit import ALWAYS, Permit
from bridge.publisher import Publisher
from bridge.state_topic import StateTopic
from bridge.times import rfc3339
from bridge.watch.metrics import Meter

_ROOM_S = 0.05  # how often what is pulled looks for room


class Crossing:
    """Runs one backend."""

    def __init__(
        self,
        name: str,
        platform: Platform,
        options: BackendOptions,
        *,
        outbox: Outbox,
        publisher: Publisher,
        writer: Writer,
        meter: Meter,
        log: logging.LoggerAdapter[logging.Logger],
        respond: Callable[[Response], None],
        abandon: Callable[[str], None],
        redact: Callable[[str], str],
        notes: Notes,
        permit: Permit = ALWAYS,
    ) -> None:
        self.name, self.platform, self.options = name, platform, options
        self._outbox, self._publisher, self._writer, self._meter, self._log = outbox, publisher, writer, meter, log
        self._respond, self._abandon, self._redact = respond, abandon, redact
        self.state = StateTopic(
            say=lambda state: publisher.state(writer.plain("state", state)),
            redact=redact,
            last_event=lambda: meter.last_event,
        )
        self.session: Session = platform.session(options)
        self._caller = Caller(options)
        self._calls: set[asyncio.Task[None]] = set()
        self._lines = Lines(self, meter, log, redact)
        self._retries = Backoff(options.reconnect)  # of calls
        self._hasten = asyncio.Event()  # no back-off now: set and cleared at once
        self._group: asyncio.TaskGroup | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at: float | None = None
        self.notes, self.permit = notes, permit
        self._now = self._stamped = instant()  # what is carried out happened then
        self._stamp = rfc3339(self._now.unix)
        self.told = False
        """Whether the platform tells us what happens: a link may be open long before that."""
        self._paused = not options.enabled
        self._changed = asyncio.Event()  # paused or resumed
        self._hears: dict[type, Callable[[Any], None]] = {
            Event: self._event,
            State: self._state,
            Unread: self._unread,
            Response: self._response,
            Condition: self._condition,
            Login: self._login,
            Census: self.census,
        }
        self._does: dict[type, Callable[[Any], None]] = {
            Dial: lambda dial: self._lines.dial(dial),
            Send: lambda send: self._lines.send(send),
            Hang: lambda hang: self._lines.hang(hang),
            Call: self._call,
        }

    # Running.

    async def run(self) -> None:
        """Talks to the platform until cancelled; a pause ends the talk until it is resumed."""
        while True:
            self._changed.clear()
            if self._paused:
                self.state.set("disabled", None)
                self.state.tell()
                await self._changed.wait()
            else:
                await self._talk()

    def failed(self, delay: float) -> None:
        """A bug ended run(), which is called again after the delay."""
        self._meter.websocket_reconnects["bug"] += 1
        if self.told:
            self.notes.seen = instant()
        self._abandon("the backend was restarted after an internal error")
        self.state.set("offline", "internal error, see the log", delay)
        self.state.tell()

    async def _talk(self) -> None:
        """One session from its start to a pause, or to a bug."""
        self.session = self.platform.session(self.options)
        self.told = False
        self._lines = Lines(self, self._meter, self._log, self._redact)
        self._retries.success()
        self._caller = Caller(self.options)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                now = instant()
                self.carry(self.session.started(self.notes.memory, self.notes.seen, now), now)
                await self._changed.wait()
                await self._lines.close()
                now = instant()
                self.carry(self.session.stopped(now), now)
                for call in self._calls:
                    call.cancel()
        finally:
            self._group = None
            await self._caller.close()
            self._meter.websocket_connected = False
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._wake_at = None

    async def stop(self) -> None:
        """No more from the platform: closes the links, reads what has arrived, answers what waits."""
        if self._group is not None:
            await self._lines.close()
            now = instant()
            self.carry(self.session.stopped(now), now)

    # What commands ask of the crossing itself.

    def reconnect(self) -> None:
        """Closes the links; they are dialled again at once, and calls do not wait for their next try."""
        self._hasten.set()
        self._hasten.clear()
        self._lines.reconnect()

    def pause(self, paused: bool = True) -> None:
        """Ends the talk, or begins it again."""
        if paused is not self._paused:
            self._paused = paused
            if paused:  # from now on nothing is taken, though the talk still has to end
                self.state.set("disabled", None)
                self.state.tell()
            self._changed.set()

    def ready(self) -> bool:
        """Whether commands for the platform are taken."""
        return self.state.now.state in ("online", "degraded")

    def ordered(self, command: Command) -> None:
        """A checked command for the session."""
        self.spawn(self._guarded(lambda now: self.session.ordered(command, now)))

    # Carrying out what follows.

    def sign(self) -> Instant | None:
        """The platform's last sign of life, while it tells us what happens."""
        return self._lines.sign() if self.told else None

    def carry(self, step: Step, now: Instant) -> None:
        """Does what follows from what happened then."""
        self._now = now
        for heard in step.heard:
            self._hears[type(heard)](heard)
        for do in step.do:
            self._does[type(do)](do)
        if step.wake is not None and (self._wake_at is None or step.wake < self._wake_at):
            self._set_timer(step.wake)
        if step.remember is not None:
            self.notes.memory = step.remember
        self.state.tell()

    def _event(self, event: Event) -> None:
        if event.type in self.options.ignore:
            self._meter.ignored += 1
            return
        now, meter = self._now, self._meter
        if now is not self._stamped:  # frames that were read together have one time of reading
            self._stamped, self._stamp = now, rfc3339(now.unix)
            meter.last_event = now.unix
        if event.replay:
            meter.replayed += 1
        if type(event.data) is Gap:
            self._gap(event.data)
        number = self._outbox.number()
        meter.recent.append((number, self._stamp, event.time, event.type, event.subject, event.replay))
        self._outbox.append(self._writer.event(event, number, self._stamp), event.type, now)
        self._publisher.wake()

    def _state(self, state: State) -> None:
        self._publisher.state(self._writer.state(state))

    def _unread(self, unread: Unread) -> None:
        self._meter.unread[unread.reason] += 1
        self._publisher.say(self._writer.dead(unread))

    def _response(self, response: Response) -> None:
        """A platform may say our own secret back to us."""
        if (error := response.error) is not None:
            error = msgspec.structs.replace(error, message=self._redact(error.message))
            response = msgspec.structs.replace(response, error=error)
        self._respond(response)

    def _condition(self, condition: Condition) -> None:
        self.told = condition.state in ("online", "degraded")
        self.state.set(condition.state, condition.error)

    def _login(self, login: Login) -> None:
        self._meter.auth[login.outcome] += 1
        if login.outcome == "ok":
            self._retries.success()

    def census(self, census: Census) -> None:
        """Clears the retained states of subjects that are no more."""
        there = {self._writer.state_topic(subject) for subject in census.subjects}
        there.add(self._writer.state_topic(""))
        for topic in self.notes.topics - there:
            self._publisher.state(Message(topic, b""))

    def _call(self, call: Call) -> None:
        """Runs beside the reading, which it never holds up."""
        delay = call.after if call.again is None else self._retries.after(call.again, call.after)
        if call.again is not None:
            self.next_try(delay, self._retries)
        if (task := self.spawn(self._called(call, self._caller, delay))) is not None:
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _called(self, call: Call, caller: Caller, delay: float) -> None:
        if delay:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await (self._hasten.wait() if call.again else asyncio.sleep(delay))
        if call.pull:
            await self.made_room()
        await self.permit.confirmed()
        answer = await caller.call(call)
        now = instant()
        self.carry(self.session.answered(call.id, answer, now), now)

    def _gap(self, gap: Gap) -> None:
        self._meter.last_gap = gap
        if gap.backfill in ("none", "started"):
            self._meter.gaps += 1
            self._meter.gap_seconds += max(0.0, gap.seconds)
        self._log.info("gap", extra={"from": gap.since, "to": gap.until, "reason": gap.reason})

    def _set_timer(self, wake: float) -> None:
        """An earlier wake; a later one needs nothing: the session is woken early and says when again."""
        if self._timer is not None:
            self._timer.cancel()
        self._wake_at = wake
        delay = max(0.0, wake - instant().mono)
        self._timer = asyncio.get_running_loop().call_later(delay, self._woken)

    def _woken(self) -> None:
        self._timer = self._wake_at = None
        self.spawn(self._guarded(lambda now: self.session.woken(now)))

    async def _guarded(self, happened: Callable[[Instant], Step]) -> None:
        """In a child of the group, so that a bug reaches the supervisor."""
        now = instant()
        self.carry(happened(now), now)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """A child of the talk; without one, or while a bug is ending it, there is nothing to do it for."""
        try:
            if self._group is not None:
                return self._group.create_task(coroutine)
        except RuntimeError:  # the group is shutting down
            pass
        coroutine.close()
        return None

    def next_try(self, delay: float, backoff: Backoff) -> None:
        """Tells when that is."""
        self.state.set(self.state.now.state, self.state.now.error, delay, backoff.attempt)

    async def made_room(self) -> None:
        """Returns when the outbox has some for history."""
        while not self._outbox.room():
            await asyncio.sleep(_ROOM_S)

    def gathered(self) -> AbstractContextManager[None]:
        """What is published within goes out together."""
        return self._publisher.gathered()
