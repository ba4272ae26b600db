"""One backend's crossing: the links to its platform on one side, its outbox and MQTT connection on the other.

1. The session is told what happens and its Steps are carried out at once, on the event loop: nothing runs beside it.
2. Only reading ends a link: a failed send leaves the reader what has arrived.
3. A bug in a session restarts the talk of this backend alone; outbox, MQTT connection and waiting commands live on.
4. The state topic says at every moment how the backend stands, and when the next try is.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bridge.backends.session import Call, Dial, Gap, Hang, Platform, Send, Session, Step
from bridge.clock import instant
from bridge.links.backoff import Backoff
from bridge.links.http import Caller
from bridge.links.websocket import Gone, Link, open_link
from bridge.model import Command, Condition, Event, Instant, Login, Response, State, Unread
from bridge.options import BackendOptions
from bridge.outbox import Outbox
from bridge.payloads import Writer
from bridge.publisher import Publisher
from bridge.state_topic import StateTopic
from bridge.times import rfc3339
from bridge.watch.metrics import Meter

_ROOM_S = 0.05  # how often what is pulled looks for room


@dataclass
class _Line:
    """A link of the session, from Dial until it is lost or hung up."""

    dial: Dial
    task: asyncio.Task[None] | None = None
    link: Link | None = None
    frames: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    opened: float = 0.0  # time.monotonic()
    asked: bool = False  # closed by a command
    hung: bool = False  # by the session, which hears no more of it


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
        seen: Instant | None = None,
    ) -> None:
        self.name, self.platform, self.options = name, platform, options
        self._outbox, self._publisher, self._writer, self._meter, self._log = outbox, publisher, writer, meter, log
        self._abandon, self._redact = abandon, redact
        self.state = StateTopic(
            say=lambda state: publisher.state(writer.plain("state", state)),
            redact=redact,
            last_event=lambda: meter.last_event,
        )
        self._session: Session = platform.session(options)
        self._caller = Caller(options)
        self._calls: set[asyncio.Task[None]] = set()
        self._lines: dict[str, _Line] = {}
        self._backoffs: dict[str, Backoff] = {}  # by link
        self._retries = Backoff(options.reconnect)  # of calls
        self._hasten = asyncio.Event()  # no back-off now: set and cleared at once
        self._group: asyncio.TaskGroup | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at: float | None = None
        self.seen = seen  # the last sign of life of any link
        self._paused = not options.enabled
        self._changed = asyncio.Event()  # paused or resumed
        self._hears: dict[type, Callable[[Any], None]] = {
            Event: self._event,
            State: self._state,
            Unread: self._unread,
            Response: respond,
            Condition: self._condition,
            Login: self._login,
        }
        self._does: dict[type, Callable[[Any], None]] = {
            Dial: self._dial,
            Send: self._send,
            Hang: self._hang,
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
        self.seen = instant()
        self._abandon("the backend was restarted after an internal error")
        self.state.set("offline", "internal error, see the log", delay)
        self.state.tell()

    async def _talk(self) -> None:
        """One session from its start to a pause, or to a bug."""
        self._session = self.platform.session(self.options)
        self._backoffs.clear()
        self._retries.success()
        self._caller = Caller(self.options)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._carry(self._session.started(None, self.seen, instant()))
                await self._changed.wait()
                await self._hang_all()
                self._carry(self._session.stopped(instant()))
                for call in self._calls:
                    call.cancel()
        finally:
            self._group = None
            await self._caller.close()
            self._lines.clear()
            self._meter.websocket_connected = False
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._wake_at = None

    async def stop(self) -> None:
        """No more from the platform: closes the links, reads what has arrived, answers what waits."""
        if self._group is not None:
            await self._hang_all()
            self._carry(self._session.stopped(instant()))

    async def _hang_all(self) -> None:
        """Closes every link and waits until its reader has read what was there."""
        lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            if line.link is None and line.task is not None:
                line.task.cancel()
        closing = [line.link.close() for line in lines if line.link is not None]
        await asyncio.gather(*closing, return_exceptions=True)
        tasks = [line.task for line in lines if line.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)

    # What commands ask of the crossing itself.

    def reconnect(self) -> None:
        """Closes the links; they are dialled again at once, and calls do not wait for their next try."""
        self._hasten.set()
        self._hasten.clear()
        for line in list(self._lines.values()):
            if line.link is None:
                if line.task is not None:
                    line.task.cancel()
                self._dial(msgspec.structs.replace(line.dial, again=None, after=None))
            else:
                line.asked = True
                self._spawn(line.link.close())

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
        self._spawn(self._guarded(lambda: self._session.ordered(command, instant())))

    # Carrying out what follows.

    def _carry(self, step: Step) -> None:
        for heard in step.heard:
            self._hears[type(heard)](heard)
        for do in step.do:
            self._does[type(do)](do)
        if step.wake is not None and (self._wake_at is None or step.wake < self._wake_at):
            self._set_timer(step.wake)
        self.state.tell()

    def _event(self, event: Event) -> None:
        if event.type in self.options.ignore:
            self._meter.ignored += 1
            return
        now = instant()
        self._meter.last_event = now.unix
        self._meter.replayed += event.replay
        if isinstance(event.data, Gap):
            self._gap(event.data)
        self._outbox.append(self._writer.event(event, self._outbox.number(), rfc3339(now.unix)), event.type, now)
        self._publisher.wake()

    def _state(self, state: State) -> None:
        self._publisher.state(self._writer.state(state))

    def _unread(self, unread: Unread) -> None:
        self._meter.unread[unread.reason] += 1
        self._publisher.say(self._writer.dead(unread))

    def _condition(self, condition: Condition) -> None:
        self.state.set(condition.state, condition.error)

    def _login(self, login: Login) -> None:
        self._meter.auth[login.outcome] += 1
        if login.outcome == "ok":
            self._retries.success()

    def _send(self, send: Send) -> None:
        if (line := self._lines.get(send.link)) is not None:
            line.frames.put_nowait(send.frame)

    def _call(self, call: Call) -> None:
        """Runs beside the reading, which it never holds up."""
        delay = call.after if call.again is None else self._retries.after(call.again, call.after)
        if call.again is not None:
            self._next_try(delay, self._retries)
        if (task := self._spawn(self._called(call, self._caller, delay))) is not None:
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _called(self, call: Call, caller: Caller, delay: float) -> None:
        if delay:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await (self._hasten.wait() if call.again else asyncio.sleep(delay))
        while call.pull and not self._outbox.room():
            await asyncio.sleep(_ROOM_S)
        answer = await caller.call(call)
        self._carry(self._session.answered(call.id, answer, instant()))

    def _gap(self, gap: Gap) -> None:
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
        self._spawn(self._guarded(lambda: self._session.woken(instant())))

    async def _guarded(self, happened: Callable[[], Step]) -> None:
        """In a child of the group, so that a bug reaches the supervisor."""
        self._carry(happened())

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """A child of the talk; without one, or while a bug is ending it, there is nothing to do it for."""
        try:
            if self._group is not None:
                return self._group.create_task(coroutine)
        except RuntimeError:  # the group is shutting down
            pass
        coroutine.close()
        return None

    # Links.

    def _dial(self, dial: Dial) -> None:
        """Starts a link, at once or after the back-off."""
        backoff = self._backoffs.setdefault(dial.link, Backoff(self.options.reconnect))
        delay = dial.after or 0.0
        if dial.again is not None:
            delay = backoff.after(dial.again, dial.after)
            self._next_try(delay, backoff)
        line = _Line(dial)
        self._lines[dial.link] = line
        if self._group is not None:
            line.task = self._group.create_task(self._link(line, delay, backoff))

    def _next_try(self, delay: float, backoff: Backoff) -> None:
        self.state.set(self.state.now.state, self.state.now.error, delay, backoff.attempt)

    def _hang(self, hang: Hang) -> None:
        line = self._lines.pop(hang.link, None)
        if line is None:
            return
        line.hung = True
        if line.link is not None:
            self._spawn(line.link.close())
        elif line.task is not None:
            line.task.cancel()
        self._count_links()

    def _count_links(self) -> None:
        open_ones = (line for line in self._lines.values() if line.link is not None and not line.dial.pull)
        self._meter.websocket_connected = any(open_ones)

    async def _link(self, line: _Line, delay: float, backoff: Backoff) -> None:
        """One link from its delay to its loss."""
        if delay:
            await asyncio.sleep(delay)
        if self.state.now.state == "offline":
            self.state.set("connecting", self.state.now.error, attempt=backoff.attempt)
            self.state.tell()
        try:
            async with AsyncExitStack() as stack:
                link = await stack.enter_async_context(open_link(line.dial, self.options))
                self._opened(line, link, backoff)
                sender = asyncio.ensure_future(self._sender(line, link))
                stack.push_async_callback(_ended, sender)
                await self._read(line, link, backoff)
        except Gone as gone:
            self._lost(line, gone)

    def _opened(self, line: _Line, link: Link, backoff: Backoff) -> None:
        line.link, line.opened = link, instant().mono
        self._meter.websocket_connects["ok"] += 1
        self._count_links()
        if not line.dial.pull:  # of history there may be hundreds
            self._log.info("connected", extra={"link": line.dial.link, "attempt": backoff.attempt})
        self._carry(self._session.opened(line.dial.link, instant()))

    async def _read(self, line: _Line, link: Link, backoff: Backoff) -> None:
        meter, received, name, limit = self._meter, self._session.received, line.dial.link, self.options.max_frame
        fresh = True
        async for frame in link.frames():
            while line.dial.pull and not self._outbox.room():
                await asyncio.sleep(_ROOM_S)
            if line.hung:
                return
            meter.frames += 1
            meter.frame_bytes += len(frame)
            if fresh:  # an open socket alone proves little: a platform may accept and close at once
                fresh = False
                backoff.success()
            if len(frame) > limit:
                self._carry(Step(heard=(Unread("too_large", frame),)))
            else:
                self._carry(received(name, frame, instant()))

    async def _sender(self, line: _Line, link: Link) -> None:
        with contextlib.suppress(Gone):
            while True:
                await link.send(await line.frames.get())

    def _lost(self, line: _Line, gone: Gone) -> None:
        name, now = line.dial.link, instant()
        if line.link is None:
            outcome = "refused" if gone.kind == "refused" else "failed"
            self._meter.websocket_connects[outcome] += 1
        seen = self._last_sign(line, gone, now)
        if gone.kind == "too_large":
            self._carry(Step(heard=(Unread("too_large", b""),)))
        if line.link is not None and now.mono - line.opened > self.options.reconnect.max:
            self._backoffs[name].success()
        if self._lines.get(name) is not line:
            return  # hung up by the session, or replaced
        del self._lines[name]
        self._count_links()
        if line.asked:
            gone = Gone("asked", "reconnect was asked for")
        loss = gone.loss(seen, self._redact)  # a platform may say our own token back to us
        self._carry(self._session.lost(name, loss, now))
        if line.dial.pull:  # the platform ends it where its history ends
            return
        self._meter.websocket_reconnects[gone.kind] += 1
        if not line.asked:
            extra = {"link": name, "reason": loss.error, "next_retry": self.state.now.next_retry}
            self._log.warning("lost" if line.link else "not connected", extra=extra)

    def _last_sign(self, line: _Line, gone: Gone, now: Instant) -> Instant:
        """When the link was last alive: now, if the platform itself closed it."""
        if line.link is None:
            return self.seen or now
        mono = now.mono if gone.kind in ("closed", "asked", "too_large") else line.link.heard or now.mono
        self.seen = Instant(mono, now.unix - (now.mono - mono))
        return self.seen


async def _ended(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
