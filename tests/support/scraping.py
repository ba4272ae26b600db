"""Somebody who scrapes all the time: the ledger has to balance in every single scrape."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import httpx

from tests.support.house import balanced
from tests.support.process import BridgeProcess, Scrape


@asynccontextmanager
async def scraping(bridge: BridgeProcess, backends: Iterable[str] = ("lora",)) -> AsyncIterator[list[Scrape]]:
    """Scrapes while the context lasts, and at its end; gives the scrapes. Raises AssertionError for a wrong one."""
    scrapes: list[Scrape] = []
    names = tuple(backends)

    async def scrape() -> None:
        while True:
            with contextlib.suppress(httpx.HTTPError):  # it has not begun, or has ended: nothing to see
                scrapes.append(await bridge.scrape())
            await asyncio.sleep(0.05)  # reading a scrape takes its time, too

    task = asyncio.create_task(scrape())
    try:
        yield scrapes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if bridge.exit_code is None:
        scrapes.append(await bridge.scrape())
    assert scrapes, "the bridge was never seen"
    for number, seen in enumerate(scrapes):
        for name in names:
            assert balanced(seen, name), f"scrape {number} of {len(scrapes)} does not balance for {name}"
