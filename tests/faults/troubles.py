"""What can go wrong, one after the other or two at a time; each one breaks something and heals it again.

A trouble belongs to a place. Two of one place never meet; one that is `alone` meets no other; one with `disk` needs
a disk that can be broken.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from tests.faults.disk import Disk
from tests.faults.world import BACKEND, PASSWORD, World

Place = Literal["broker", "platform", "bridge", "disk"]
_BACK_S = 60.0


@dataclass(frozen=True)
class Trouble:
    """name: as the report says it · run: from its beginning to its end."""

    name: str
    place: Place
    run: Callable[[World], Awaitable[None]]
    alone: bool = False
    disk: bool = False


async def _lasts(world: World, least: float, most: float) -> None:
    """A trouble's duration, in seconds: short ones are more frequent."""
    await asyncio.sleep(least + (most - least) * world.rng.random() ** 2)


# The broker, and the way to it


async def killed(world: World) -> None:
    world.source.burst()
    await world.mosquitto.kill()
    await _lasts(world, 0.0, 2.0)
    world.witness.forgets(world.mosquitto.saved, time.time())
    await world.mosquitto.start()


async def restarted(world: World) -> None:
    world.source.burst()
    await world.mosquitto.stop()
    await _lasts(world, 0.0, 2.0)
    await world.mosquitto.start()


async def frozen(world: World) -> None:
    """Sometimes for longer than the bridge waits for a PUBACK."""
    world.mosquitto.freeze()
    await _lasts(world, 0.2, 5.0)
    world.mosquitto.thaw()


async def slow(world: World) -> None:
    world.wire.rate = world.rng.uniform(20_000, 200_000)
    await _lasts(world, 0.5, 3.0)
    world.wire.rate = None


async def unreachable(world: World) -> None:
    world.source.burst()
    world.wire.shut()
    await _lasts(world, 0.1, 2.0)
    await world.wire.open()


async def wrong_password(world: World) -> None:
    mark = len(world.bridge.lines)
    world.word.write_text("a wrong word\n")
    world.wire.cut()
    with contextlib.suppress(AssertionError):  # not where a bridge is just being killed, or waits for something else
        await world.bridge.wait_log(lambda line: "mqtt.password" in str(line.fields.get("reason")), 3.0, since=mark)
    await _lasts(world, 0.0, 1.0)
    world.word.write_text(PASSWORD + "\n")


async def cut(world: World) -> None:
    world.source.burst()
    world.wire.cut(world.rng.choice((None, f"{world.base}-{BACKEND}")))


async def swallowed(world: World) -> None:
    """A half-open connection; sometimes for longer than the bridge waits."""
    world.wire.swallowing = True
    await _lasts(world, 0.3, 5.0)
    world.wire.swallowing = False
    world.wire.cut()


async def pubacks_lost(world: World) -> None:
    """The broker takes everything, and its word is not heard."""
    world.source.burst()
    world.wire.mute = True
    await _lasts(world, 0.2, 4.0)
    world.wire.mute = False
    world.wire.cut()


async def quota(world: World) -> None:
    """PUBACK 0x97 for every event."""
    world.wire.quota = True
    await _lasts(world, 0.2, 2.0)
    world.wire.quota = False


# The platform


async def dropped(world: World) -> None:
    world.source.burst()
    world.source.abort()


async def closed(world: World) -> None:
    world.source.burst()
    world.source.goodbye()


async def half_open(world: World) -> None:
    """Until the bridge finds out, and comes again."""
    world.source.burst()
    world.source.swallow()
    await world.until(lambda: world.source.listened, "the bridge leaves a half-open connection", _BACK_S)


async def unavailable(world: World) -> None:
    world.source.refusing = 503
    world.source.abort()
    await _lasts(world, 0.2, 2.0)
    world.source.refusing = 0


async def token_refused(world: World) -> None:
    """A refused login is tried again after 30 s; the command `reconnect` shortens that."""
    refused = world.source.refused
    world.source.refusing = 401
    world.source.abort()
    await world.until(lambda: world.source.refused > refused, "the bridge asks with its token", _BACK_S)
    await _lasts(world, 0.0, 1.0)
    world.source.refusing = 0
    deadline = time.monotonic() + _BACK_S
    while not world.source.listened and time.monotonic() < deadline:
        with contextlib.suppress(OSError, TimeoutError):  # the broker may be in trouble, too
            await world.witness.ear.publish(f"{world.base}/{BACKEND}/command/reconnect", b"{}")
        await asyncio.sleep(0.3)


# The bridge


async def killed_bridge(world: World) -> None:
    world.source.burst()
    await world.kill()
    await _lasts(world, 0.0, 0.5)
    await world.start()


async def killed_twice(world: World) -> None:
    """The second time at its start: while it recovers, or connects."""
    await killed_bridge(world)
    await _lasts(world, 0.1, 2.0)
    await killed_bridge(world)


async def terminated(world: World) -> None:
    await world.terminate()
    await _lasts(world, 0.0, 0.5)
    await world.start()


async def frozen_bridge(world: World) -> None:
    world.source.burst()
    since = time.time()
    world.bridge.freeze()
    await _lasts(world, 0.2, 3.0)
    world.life.frozen.append((since, time.time()))
    world.bridge.thaw()


async def reloaded(world: World) -> None:
    await world.reload()


async def reconfigured(world: World) -> None:
    """Changed and changed back, while everything flows."""
    rng = world.rng
    changes = (
        {"mqtt": {"keepalive": "3s"}},
        {"backend": {"gateway_timeout": "1m"}},
        {"backend": {"ping": "3s"}},
        {"mqtt": {"keepalive": "3s"}, "backend": {"idle": "20s"}},
        {"outbox": {"max_bytes": "128MiB"}},
    )
    await world.reload(world.config(**rng.choice(changes)))
    await _lasts(world, 0.0, 1.0)
    await world.reload()


async def at_qos_0(world: World) -> None:
    """Nobody acknowledges then; on a wire that is well nothing gets lost all the same. It ends in a silence: what was
    written to the old connection may get lost, or come behind, where a new one takes its place."""
    world.sure = False
    await world.reload(world.config(mqtt={"qos": 0}))
    await world.progress(300, _BACK_S)
    last = await world.hush(_BACK_S)
    await world.until(lambda: world.witness.highest >= last, "the witness has heard all", _BACK_S)
    await world.reload()
    world.source.hushed = False
    await world.progress(100, _BACK_S)
    world.sure = True


async def squeezed(world: World) -> None:
    """The broker is away, and there is next to no room: the oldest go, counted."""
    await world.reload(world.config(outbox={"max_bytes": "64KiB"}))
    world.wire.shut()
    await world.talk(1000, _BACK_S)
    await world.wire.open()
    await world.progress(100, _BACK_S)
    await world.scraped(_BACK_S)  # the next trouble may be the end of this life, and what it dropped is to be known
    await world.reload()


async def restarted_in_an_outage(world: World) -> None:
    """While the broker is away, so that all depends on what is on disk; once, or again and again."""
    world.wire.shut()
    world.source.rate = max(world.source.rate, 1500.0)
    for _ in range(world.rng.choice((1, 1, 2, 3))):
        await world.talk(world.rng.randrange(50, 3000), _BACK_S)
        await world.rng.choice((world.kill, world.kill, world.terminate))()
        await world.start()
    await _lasts(world, 0.0, 2.0)
    await world.wire.open()


# The disk


def _disk(world: World) -> Disk:
    assert world.disk is not None
    return world.disk


async def disk_full(world: World) -> None:
    world.disk_breaks()
    await asyncio.to_thread(_disk(world).fill)
    await _lasts(world, 0.5, 4.0)
    _disk(world).free()
    world.disk_broken = False


async def disk_read_only(world: World) -> None:
    """From one start of the bridge to the next, or until it is mended while the bridge runs; empty or with events."""
    end = world.rng.choice((world.kill, world.terminate))
    if world.rng.random() < 0.5:
        world.wire.shut()
        await world.talk(world.rng.randrange(50, 3000), _BACK_S)
    await end()
    await world.wire.open()
    world.disk_breaks()
    _disk(world).read_only(True)
    await world.start()
    await world.progress(world.rng.randrange(50, 500), _BACK_S)
    if world.rng.random() < 0.5:
        await end()
        _disk(world).read_only(False)
        world.disk_broken = False
        await world.start()
    else:
        mark = len(world.bridge.lines)
        _disk(world).read_only(False)
        world.disk_broken = False
        await world.bridge.wait_log(lambda line: "on disk again" in line.message, _BACK_S, since=mark)


TROUBLES = (
    Trouble("broker killed", "broker", killed),
    Trouble("broker restarted", "broker", restarted),
    Trouble("broker frozen", "broker", frozen),
    Trouble("broker slow", "broker", slow),
    Trouble("broker unreachable", "broker", unreachable),
    Trouble("broker refuses the password", "broker", wrong_password),
    Trouble("broker connection cut", "broker", cut),
    Trouble("broker connection half-open", "broker", swallowed),
    Trouble("PUBACKs lost", "broker", pubacks_lost),
    Trouble("broker's quota exceeded", "broker", quota),
    Trouble("platform connection reset", "platform", dropped),
    Trouble("platform connection closed", "platform", closed),
    Trouble("platform connection half-open", "platform", half_open),
    Trouble("platform unavailable", "platform", unavailable),
    Trouble("platform refuses the token", "platform", token_refused),
    Trouble("bridge killed", "bridge", killed_bridge),
    Trouble("bridge killed twice", "bridge", killed_twice),
    Trouble("bridge terminated", "bridge", terminated),
    Trouble("bridge frozen", "bridge", frozen_bridge),
    Trouble("bridge reloaded", "bridge", reloaded),
    Trouble("bridge reconfigured", "bridge", reconfigured),
    Trouble("bridge at QoS 0 for a while", "bridge", at_qos_0, alone=True),
    Trouble("bridge restarted in an outage", "bridge", restarted_in_an_outage, alone=True),
    Trouble("bridge without room", "bridge", squeezed, alone=True),
    Trouble("disk full", "disk", disk_full, disk=True),
    Trouble("disk read-only", "disk", disk_read_only, alone=True, disk=True),
)
