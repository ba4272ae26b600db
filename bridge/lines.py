"""The links of one talk: dialled, read, lost, dialled again.

1. Only reading ends a link: a failed send leaves the reader what has arrived.
2. A link that brings history is read only while the outbox has room.
3. Frames that were read together are carried out together, but others have their turn in between.
4. What is noted as the platform's last sign of life is of a link that tells what happens, and never too late: from then
   on a restart asks for what was missed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from bridge.backends.session import Dial, Hang, Hidden, Send, Session, Step
from bridge.clock import instant
from bridge.links.backoff import Backoff
from bridge.links.websocket import Gone, Link, open_link
from bridge.model import Instant, Unread
from bridge.notes import Notes
from bridge.options import BackendOptions, revealed
from bridge.permit import Permit
from bridge.state_topic import StateTopic
from bridge.watch.metrics import Meter

_TURN = 32  # frames of one link that are read before others have their turn


class Talk(Protocol):
    """The crossing, as its links see it. carry: does what follows · spawn: a child of the talk · made_room: waits until
    the outbox has room for history · gathered: what is published within goes out together · told: whether the platform
    tells what happens, by now."""

    options: BackendOptions
    session: Session
    state: StateTopic
    notes: Notes
    permit: Permit
    told: bool

    def carry(self, step: Step, now: Instant) -> None: ...
    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None: ...
    def next_try(self, delay: float, backoff: Backoff) -> None: ...
    async def made_room(self) -> None: ...
    def gathered(self) -> AbstractContextManager[None]: ...


@dataclass
class _Line:
    """A link of the session, from Dial until it is lost or hung up."""

    dial: Dial
    task: asyncio.Task[None] | None = None
    link: Link | None = None
    frames: asyncio.Queue[Hidden] = field(default_factory=asyncio.Queue)
    opened: float = 0.0  # time.monotonic()
    asked: bool = False  # closed by a command
    hung: bool = False  # by the session, which hears no more of it


class Lines:
    """Those of one talk."""

    def __init__(
        self,
        talk: Talk,
        meter: Meter,
        log: logging.LoggerAdapter[logging.Logger],
        redact: Callable[[str], str],
    ) -> None:
        self._talk, self._meter, self._log, self._redact = talk, meter, log, redact
        self._lines: dict[str, _Line] = {}
        self._backoffs: dict[str, Backoff] = {}

    # What the session asks for.

    def dial(self, dial: Dial) -> None:
        """Starts a link, at once or after the back-off."""
        backoff = self._backoffs.setdefault(dial.link, Backoff(self._talk.options.reconnect))
        delay = dial.after or 0.0
        if dial.again is not None:
            delay = backoff.after(dial.again, dial.after)
            self._talk.next_try(delay, backoff)
        line = _Line(dial)
        self._lines[dial.link] = line
        line.task = self._talk.spawn(self._link(line, delay, backoff))

    def send(self, send: Send) -> None:
        if (line := self._lines.get(send.link)) is not None:
            line.frames.put_nowait(send.frame)

    def hang(self, hang: Hang) -> None:
        line = self._lines.pop(hang.link, None)
        if line is None:
            return
        line.hung = True
        if line.link is not None:
            self._talk.spawn(line.link.close())
        elif line.task is not None:
            line.task.cancel()
        self._count()

    # What commands and the end ask for.

    def reconnect(self) -> None:
        """Closes the links; they are dialled again at once."""
        for line in list(self._lines.values()):
            if line.link is None:
                if line.task is not None:
                    line.task.cancel()
                self.dial(msgspec.structs.replace(line.dial, again=None, after=None))
            else:
                line.asked = True
                self._talk.spawn(line.link.close())

    async def close(self) -> None:
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

    def sign(self) -> Instant | None:
        """The last sign of life of the link that was silent longest; what it said until then has been read."""
        mono = min((line.link.read for line in self._lines.values() if line.link and not line.dial.pull), default=0.0)
        now = instant()
        return Instant(mono, now.unix - (now.mono - mono)) if mono else None

    # One link.

    async def _link(self, line: _Line, delay: float, backoff: Backoff) -> None:
        """One link from its delay to its loss."""
        if delay:
            await asyncio.sleep(delay)
        await self._talk.permit.confirmed()
        if self._talk.state.now.state == "offline":
            self._talk.state.set("connecting", self._talk.state.now.error, attempt=backoff.attempt)
            self._talk.state.tell()
        try:
            async with AsyncExitStack() as stack:
                link = await stack.enter_async_context(open_link(line.dial, self._talk.options))
                self._opened(line, link, backoff)
                sender = asyncio.ensure_future(self._sender(line, link))
                stack.push_async_callback(_ended, sender)
                await self._read(line, link, backoff)
        except Gone as gone:
            self._lost(line, gone)

    def _opened(self, line: _Line, link: Link, backoff: Backoff) -> None:
        line.link, line.opened = link, instant().mono
        self._meter.websocket_connects["ok"] += 1
        self._count()
        if not line.dial.pull:  # of history there may be hundreds
            self._log.info("connected", extra={"link": line.dial.link, "attempt": backoff.attempt})
        now = instant()
        self._talk.carry(self._talk.session.opened(line.dial.link, now), now)

    async def _read(self, line: _Line, link: Link, backoff: Backoff) -> None:
        def take(frames: list[bytes]) -> None:
            backoff.success()  # an open socket alone proves little: a platform may accept and close at once
            self._take(line, frames)

        direct = None if line.dial.pull else take
        async for batch in link.frames(direct, _TURN):
            for start in range(0, len(batch), _TURN):
                if line.dial.pull:
                    await self._talk.made_room()
                if line.hung:
                    return
                take(batch[start : start + _TURN])
                if start + _TURN < len(batch):
                    await asyncio.sleep(0)

    def _take(self, line: _Line, frames: list[bytes]) -> None:
        """Frames that were read together: carried out together."""
        meter, received, carry = self._meter, self._talk.session.received, self._talk.carry
        name, limit, now = line.dial.link, self._talk.options.max_frame, instant()
        with self._talk.gathered():
            for frame in frames:
                if line.hung:
                    return
                meter.frames += 1
                meter.frame_bytes += len(frame)
                if len(frame) > limit:
                    carry(Step(heard=(Unread("too_large", frame),)), now)
                else:
                    carry(received(name, frame, now), now)

    async def _sender(self, line: _Line, link: Link) -> None:
        with contextlib.suppress(Gone):
            while True:
                await link.send(revealed(await line.frames.get()))

    def _lost(self, line: _Line, gone: Gone) -> None:
        name, now = line.dial.link, instant()
        if line.link is None:
            outcome = "refused" if gone.kind == "refused" else "failed"
            self._meter.websocket_connects[outcome] += 1
        seen = self._last_sign(line, now)
        if gone.kind == "too_large":
            self._talk.carry(Step(heard=(Unread("too_large", b""),)), now)
        if line.link is not None and now.mono - line.opened > self._talk.options.reconnect.max:
            self._backoffs[name].success()
        if self._lines.get(name) is not line:
            return  # hung up by the session, or replaced
        del self._lines[name]
        self._count()
        if line.asked:
            gone = Gone("asked", "reconnect was asked for")
        loss = gone.loss(seen, self._redact)  # a platform may say our own token back to us
        self._talk.carry(self._talk.session.lost(name, loss, now), now)
        if line.dial.pull:  # the platform ends it where its history ends
            return
        self._meter.websocket_reconnects[gone.kind] += 1
        if not line.asked:
            extra = {"link": name, "reason": loss.error, "next_retry": self._talk.state.now.next_retry}
            self._log.warning("lost" if line.link else "not connected", extra=extra)

    def _last_sign(self, line: _Line, now: Instant) -> Instant:
        """When the link was last alive; a close frame is a sign of life, too."""
        if line.link is None:
            return self._talk.notes.seen or now
        mono = line.link.heard or now.mono
        seen = Instant(mono, now.unix - (now.mono - mono))
        if self._talk.told and not line.dial.pull:
            self._talk.notes.seen = seen
        return seen

    def _count(self) -> None:
        open_ones = (line for line in self._lines.values() if line.link is not None and not line.dial.pull)
        self._meter.websocket_connected = any(open_ones)


async def _ended(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
