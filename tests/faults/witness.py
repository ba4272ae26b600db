"""A second witness: a subscriber like any other, with a session that outlives its connections and the broker's.

The wire tells what the broker acknowledged, this one what a subscriber then got. A broker that is killed may forget
what it had acknowledged a moment ago: for that it is excused, and for nothing else.
"""

import asyncio
from types import TracebackType
from typing import Self

from tests.faults import packets
from tests.faults.heard import Heard, Problems
from tests.support.ear import Ear

_TURN_S = 0.1


class Witness:
    def __init__(self, ear: Ear, heard: Heard) -> None:
        self.ear, self._heard = ear, heard
        self.flags = bytearray(1)
        self.highest = 0
        self.doubled = 0
        self.problems = Problems()
        self._forgotten: list[tuple[float, float]] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.ear.__aenter__()
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.ear.__aexit__(kind, error, trace)

    @property
    def count(self) -> int:
        return self.flags.count(1)

    def forgets(self, saved: float, until: float) -> None:
        """The broker was killed, and what it acknowledged in that time it had not saved (Unix times)."""
        self._forgotten.append((saved, until))

    def missing(self) -> list[int]:
        """What the broker acknowledged and never gave out, without excuse."""
        known = self.flags.ljust(len(self._heard.flags), b"\0")
        found = [number for number, flag in enumerate(self._heard.flags) if flag and not known[number]]
        return [number for number in found if not self._excused(self._heard.first_at[number])]

    def _excused(self, at: float) -> bool:
        return any(since <= at <= until for since, until in self._forgotten)

    async def _listen(self) -> None:
        while True:
            await asyncio.sleep(_TURN_S)
            messages = self.ear.messages
            taken = messages[:]
            del messages[: len(taken)]  # a long run must not fill the memory
            for message in taken:
                if "/event/" in message.topic:
                    self._hear(packets.event(message.payload).number)

    def _hear(self, number: int) -> None:
        """0: a gap, which has no number of the source."""
        if number >= len(self.flags):
            self.flags.extend(bytes(number + 4096 - len(self.flags)))
        if not number or self.flags[number]:
            self.doubled += number != 0
            return
        self.flags[number] = 1
        if self._heard.held < number < self.highest:
            self.problems.add("out of order", f"the witness heard number {number} after {self.highest}")
        self.highest = max(self.highest, number)
