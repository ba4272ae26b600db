"""Keeps what waits in one outbox, and what is to be known again, on disk.

1. What is not acknowledged within `flush` is written, in groups, on a thread of its own: a healthy broker needs
   no disk.
2. With `flush: 0s` nothing is published before it is written.
3. A session's memory, and the last sign of life, are written together with every event that was read before: what
   they let a later session believe to be told is on disk.
4. While the disk fails (full, read-only …) events wait in memory as without one; that is said, and tried again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bridge.clock import instant
from bridge.links.backoff import Backoff
from bridge.model import Instant
from bridge.notes import Notes, Recalled
from bridge.options import Reconnect
from bridge.outbox import Outbox
from bridge.spool import Spool, Unusable
from bridge.supervisor import supervise

SEEN_S = 5.0  # how old the noted sign of life may be
_RETRY_S = 1.0
_LOOK = 0.2  # of `flush`: how often what waits is looked at
_TICK_S = 0.005  # at least
_FIRST_S, _CALM_S = 0.05, 1.0  # what is not events is looked at so often: before the first sign of life, after it


class Keeping:
    """One backend's."""

    def __init__(self, outbox: Outbox, notes: Notes, spool: Spool, log: logging.LoggerAdapter[logging.Logger]) -> None:
        self._sign: Callable[[], Instant | None] = lambda: None
        self._warn: Callable[[str | None], None] = lambda warning: None
        self._wake: Callable[[], None] = lambda: None
        self._outbox, self._notes, self._spool, self._log = outbox, notes, spool, log
        notes.kept = True
        self._open = False
        self._trouble: str | None = None
        self._lost = 0  # events that the disk lost, of which was told
        self._closing = False
        self._stir = asyncio.Event()
        self._look: asyncio.TimerHandle | None = None  # None: no event waits
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"outbox-{spool.file.stem}")
        self._task: asyncio.Task[None] | None = None
        outbox.appended = self._appended

    def open(self) -> None:
        """Finds what an earlier process left. What cannot be opened is tried again while run() runs."""
        try:
            self._attach()
        except Unusable as error:
            self._failed(error)
            if self._trouble is None:  # the new file
                self._reopened()
            elif recalled := self._spool.recall():
                self._remember(recalled)

    def attend(
        self, sign: Callable[[], Instant | None], warn: Callable[[str | None], None], wake: Callable[[], None]
    ) -> None:
        """The unit that runs now. sign: last sign of life · warn: of the disk · wake: there is something to publish."""
        self._sign, self._warn, self._wake = sign, warn, wake
        if self._trouble is not None:
            warn(self._trouble)

    def start(self) -> None:
        run = supervise(self._run, lambda delay: None, Backoff(Reconnect()), self._log)
        self._task = asyncio.create_task(run)

    async def close(self) -> bool:
        """What still waits is on disk afterwards; False where that was not to be had."""
        self._closing = True
        self._stir.set()
        if self._task is not None:
            await self._task
        while await self._write(everything=True):
            pass
        if self._look is not None:
            self._look.cancel()
        self._worker.shutdown()
        self._spool.close()
        return self._open and self._trouble is None

    async def _run(self) -> None:
        if self._look is None:
            self._looked()
        while not self._closing:
            await self._pause()
            while await self._write(everything=self._outbox.hold):
                pass

    async def _pause(self) -> None:
        """Until something is to be written, or may be."""
        self._say()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience()):
                await self._stir.wait()
        self._stir.clear()

    def _patience(self) -> float:
        if self._trouble:
            return _RETRY_S
        return _CALM_S if self._notes.begun else _FIRST_S

    def _appended(self) -> None:
        """An event that is watched for."""
        if self._outbox.hold:
            self._stir.set()
        else:
            self._outbox.watched = False
            self._look_later()

    def _old(self) -> float:
        """Whoever was read before is old enough to be written: at the next look it would be too late."""
        return instant().mono - self._outbox.options.flush * (1 - _LOOK)

    def _look_later(self) -> None:
        delay = max(self._outbox.options.flush * _LOOK, _TICK_S)
        self._look = asyncio.get_running_loop().call_later(delay, self._looked)

    def _looked(self) -> None:
        """No more than a look while the broker is healthy: what was read a while ago has left."""
        self._look = None
        outbox = self._outbox
        if self._trouble is None and outbox.due(self._old()):
            self._stir.set()
        outbox.watched = outbox.hold or not len(outbox)
        if not outbox.watched:
            self._look_later()

    def _say(self) -> None:
        """Tells the outbox how the disk is, and whether the next event is waited for."""
        outbox = self._outbox
        outbox.kept = self._open and self._trouble is None
        outbox.hold = outbox.kept and not outbox.options.flush
        outbox.watched = outbox.hold or self._look is None

    async def _write(self, *, everything: bool) -> bool:
        """Writes one group. Whether there was one, and there may be more."""
        if self._outbox.broken:
            self._failed(Unusable(OSError("what was written cannot be read again"), corrupt=True))
        if lost := self._lately_lost():
            extra = {"events": lost, "file": str(self._spool.file)}
            self._log.error("events on disk are not as they were written, and lost", extra=extra)
        if not self._open and not self._reopened():
            return False
        notes, outbox = self._notes, self._outbox
        sign = self._sign()
        everything = everything or notes.news() or (sign is not None and notes.stale(sign, SEEN_S))
        group = outbox.unwritten(None if everything else self._old())
        if sign is not None and group.whole:
            notes.seen = sign
        change = notes.unsaved(memory=group.whole, older=self._older())
        if outbox.idle(group) and not change:
            return False
        try:
            loop = asyncio.get_running_loop()
            chunks = await loop.run_in_executor(self._worker, self._spool.write, group, change)
        except Unusable as error:
            self._failed(error)
            return False
        outbox.wrote(group, chunks)
        notes.saved(change)
        self._mended()
        if outbox.hold:
            self._wake()
        return group.more

    def _older(self) -> float:
        """How old the noted sign of life may be; in trouble it is written anyhow: that shows its end."""
        if self._trouble:
            return -1.0
        return 0.0 if self._closing else SEEN_S

    def _reopened(self) -> bool:
        try:
            self._attach()
        except Unusable as error:
            self._failed(error)
        return self._open

    def _attach(self) -> None:
        found, recalled = self._spool.open(self._outbox.end)
        self._outbox.attach(self._spool, found)
        self._open = True
        self._say()
        self._remember(recalled)
        if found.events:
            self._log.info("events recovered", extra={"events": found.events, "file": str(self._spool.file)})
        self._mended()

    def _remember(self, recalled: Recalled) -> None:
        """Unless this process knows better: it may open the file late."""
        if self._notes.seen is None and self._notes.memory is None:
            now, seen = instant(), recalled.seen
            moment = None if seen is None else Instant(now.mono - max(0.0, now.unix - seen), seen)
            self._notes.found(recalled.memory, moment, recalled.topics)

    def _failed(self, error: Unusable) -> None:
        if error.corrupt:
            self._start_anew(error)
            return
        if self._trouble is None:
            self._log.error("the outbox cannot be written: events wait in memory only", extra={
                "file": str(self._spool.file), "reason": str(error), "remedy": "free space or rights; tried again"
            })  # fmt: skip
        self._trouble = f"the outbox on disk cannot be written ({error}): events wait in memory only"
        self._say()
        self._warn(self._trouble)
        self._wake()

    def _start_anew(self, error: Unusable) -> None:
        """The file is of no use: it is kept for whoever can read it, and a new one is begun."""
        self._outbox.detach()
        self._notes.lost()
        self._open = False
        try:
            aside = str(self._spool.set_aside())
        except OSError as why:
            self._failed(Unusable(why))
            return
        lost = self._lately_lost()
        self._log.error("the outbox file cannot be read: a new one is begun", extra={
            "file": str(self._spool.file), "reason": str(error), "aside": aside, "lost": lost
        })  # fmt: skip

    def _lately_lost(self) -> int:
        """Since it was asked last."""
        told, self._lost = self._lost, self._outbox.ledger.dropped.get("unreadable", 0)
        return self._lost - told

    def _mended(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            self._say()
            self._log.info("the outbox is on disk again", extra={"file": str(self._spool.file)})
            self._warn(None)
