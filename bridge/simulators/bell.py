"""A way to wait until something is true, for simulators and those who test with them."""

import asyncio
from collections.abc import Callable


class Bell:
    """Wakes everybody who waits for something to become true."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()
        self._rung = asyncio.Event()

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._rung.wait()
