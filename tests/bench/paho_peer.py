"""What one writes in a day: websockets, json, paho with a thread of its own, publishing without waiting.

At most a window of publishes is unacknowledged, so that nothing has to be dropped.

python -m tests.bench.paho_peer URL PORT
"""

import asyncio
import json
import sys
from typing import Any

import paho.mqtt.client as paho
import websockets
from paho.mqtt.enums import CallbackAPIVersion

from tests.bench.naive import message

_WINDOW = 2_000


async def bridge(url: str, port: int) -> None:
    loop, flying, free = asyncio.get_running_loop(), 0, asyncio.Event()

    def taken() -> None:
        nonlocal flying
        flying -= 1
        free.set()

    def on_publish(*told: Any) -> None:  # in paho's thread
        loop.call_soon_threadsafe(taken)

    broker = paho.Client(CallbackAPIVersion.VERSION2)
    broker.max_inflight_messages_set(0)  # no limit of its own
    broker.on_publish = on_publish
    broker.connect("127.0.0.1", port)
    broker.loop_start()
    async with websockets.connect(url) as platform:
        async for text in platform:
            topic, payload = message(json.loads(text))
            broker.publish(topic, payload, qos=1)
            flying += 1
            while flying >= _WINDOW:
                free.clear()
                await free.wait()


if __name__ == "__main__":
    asyncio.run(bridge(sys.argv[1], int(sys.argv[2])))
