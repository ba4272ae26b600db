"""`python -m tests.image`: builds the image, checks it, and says what holds and what does not. As root, on Debian."""

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from tests.image import base, pods, running, still
from tests.image.engine import Broken, Engine
from tests.support import NotSeen


async def holds(name: str, check: Awaitable[None]) -> bool:
    try:
        await check
    except (AssertionError, Broken) as error:
        print(f"FAILED  {_words(name)}: {error}", flush=True)
        return False
    print(f"ok      {_words(name)}", flush=True)
    return True


def _words(name: str) -> str:
    return name.replace("_", " ")


async def checked(folder: Path) -> bool:
    me = asyncio.current_task()
    assert me is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)  # what was begun is cleared away
    async with Engine(folder) as engine:
        begun = time.monotonic()
        await base.make(engine, still.ROOT / "Dockerfile")
        print(f"base    {time.monotonic() - begun:.0f} s", flush=True)
        await engine.build(still.ROOT, still.TAG, REVISION=still.REVISION, SOURCE=still.SOURCE)
        print(f"build   {time.monotonic() - begun:.0f} s", flush=True)
        found = await still.looked(engine)
        held = [await holds(check.__name__, check(engine, found)) for check in still.CHECKS]
        async with running.scene(engine) as here:
            held += [await holds(check.__name__, check(here)) for check in running.CHECKS]
            if not all(held):
                print(f"the bridge's log:\n{await engine.logs(running.BRIDGE)}", flush=True)
        async with pods.cluster(engine) as there:
            held += [await holds(check.__name__, check(there)) for check in pods.CHECKS]
        print(f"{held.count(True)} of {len(held)} hold; {time.monotonic() - begun:.0f} s", flush=True)
        return all(held)


def main() -> int:
    try:
        return 0 if asyncio.run(checked(Path(tempfile.mkdtemp(prefix="ws2mqtt-image-")))) else 1
    except (Broken, NotSeen) as error:
        print(error, file=sys.stderr)
    except asyncio.CancelledError:
        print("ended by SIGTERM", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
