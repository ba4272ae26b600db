"""Keeps the parts of the house running: the one place that catches what nobody expected."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from bridge.clock import instant
from bridge.links.backoff import Backoff


async def supervise(
    run: Callable[[], Awaitable[None]],
    failed: Callable[[float], None],
    backoff: Backoff,
    log: logging.LoggerAdapter[logging.Logger],
) -> None:
    """Keeps one part running: a bug in it is logged with its traceback and costs a restart of that part alone."""
    while True:
        began = instant().mono
        try:
            return await run()
        except Exception:  # the one broad except of the program
            if instant().mono - began > backoff.longest:
                backoff.success()
            delay = backoff.after_failure()
            log.exception("internal error; restarting", extra={"retry_s": round(delay, 1)})
            failed(delay)
            await asyncio.sleep(delay)
