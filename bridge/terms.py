"""Terms of leadership, one after the other: between them this replica stands by, connected nowhere.

1. A term begins with a lease that was asked for after everything of the last one was stopped.
2. It ends before the lease does: in order while there is time, else at once, and silently.
3. Who led before has told since when the platforms are not heard: the gap of a term begins there.
"""

import asyncio
import contextlib
import logging
from typing import Any, Protocol

from bridge.clock import instant
from bridge.lease import Lease
from bridge.links.backoff import Backoff
from bridge.model import Instant
from bridge.notes import Notes
from bridge.options import Reconnect
from bridge.supervisor import supervise
from bridge.unit import cancelled

_ORDERLY = 0.5  # of the time until the lease ends: the other half is for closing what does not answer
_FRESH_S = 10.0  # how much older our own notes may be than the last sign of life that we are told of


class Work(Protocol):
    """What is done in a term. settling: held while it changes · leads: told when one begins, and when it is to end ·
    begin: connects everything · cease: stops it in order, the outboxes may drain until `grace` (of the loop's time) ·
    last_words: the bridge's own · cut: ends at once what still runs."""

    settling: asyncio.Lock

    def leads(self, active: bool) -> None: ...
    def begin(self) -> None: ...
    async def cease(self, grace: float) -> None: ...
    async def last_words(self) -> None: ...
    async def cut(self) -> None: ...


class Terms:
    """Those of one process."""

    def __init__(self, lease: Lease, work: Work, log: logging.LoggerAdapter[logging.Logger]) -> None:
        self._lease, self._work, self._log = lease, work, log
        self._asking: asyncio.Task[None] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until stop; a term that runs then is left to cease()."""
        lease, since = self._lease, None
        asking = supervise(lease.run, lambda delay: None, Backoff(Reconnect()), self._log)
        self._asking = asyncio.create_task(asking)
        while await _before(stop, asyncio.ensure_future(lease.confirmed(since))):
            self._log.info("active", extra={"lease": str(lease), "holder": lease.election.me})
            async with self._work.settling:
                self._work.leads(True)
                self._work.begin()
            losing = asyncio.ensure_future(lease.lost())
            if not await _before(stop, losing):
                return
            await self._let_go(losing.result())
            since = lease.clock()

    async def _let_go(self, why: str) -> None:
        lease = self._lease
        self._work.leads(False)
        self._log.warning("standby: not active any more", extra={"lease": str(lease), "reason": why})
        if left := lease.left() * _ORDERLY:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left), self._work.settling:
                    await self._work.cease(asyncio.get_running_loop().time() + left / 2)
                    await self._work.last_words()
        await self._work.cut()

    async def last(self, grace: float) -> None:
        """The end of a term because the process is to end; the lease may be lost in the middle of it."""
        ending = asyncio.create_task(self._in_order(grace))
        losing = asyncio.create_task(self._lease.lost())
        await asyncio.wait((ending, losing), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((ending,), timeout=self._lease.left() * _ORDERLY)
        await cancelled(losing, ending)
        await self._work.cut()
        if not ending.cancelled():
            ending.result()

    async def _in_order(self, grace: float) -> None:
        await self._work.cease(grace)
        await self._work.last_words()

    async def end(self) -> None:
        """Nothing is connected any more: others may lead."""
        self._work.leads(False)
        await cancelled(self._asking)
        await self._lease.give_back()

    def inherit(self, name: str, notes: Notes) -> None:
        """Where who led before has heard the platform later than we, nobody did since then."""
        election, now = self._lease.election, instant()
        told = election.inherited.get(name, election.inherited_all)
        if told is None or (notes.seen is not None and notes.seen.unix >= told):
            return
        if notes.seen is None or notes.seen.unix < told - _FRESH_S:
            notes.memory = None  # what it holds for new was told meanwhile
        told = min(told, now.unix)
        notes.seen = Instant(now.mono - (now.unix - told), told)


async def _before(stop: asyncio.Event, waiting: asyncio.Future[Any]) -> bool:
    """Whether it happened before the stop; it is ended in any case."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
        return not stop.is_set()
    finally:
        await cancelled(waiting, stopping)
