"""What one writes in an afternoon: websockets, json, aiomqtt, every publish awaited. The peer that all is held against.

python -m tests.bench.naive URL PORT
"""

import asyncio
import json
import sys
from typing import Any

import aiomqtt
import websockets


def message(told: dict[str, Any]) -> tuple[str, str]:
    """Topic and payload of a frame."""
    device = f"application/{told['AppEui']}/device/{told['DevEui']}"
    subject = device if told["DevEui"] else f"gateway/{told['GatewayEUIs'][0]}"
    kind = told["CommType"].removeprefix("comm_")
    payload = json.dumps({"type": kind, "subject": subject, "time": told["DT"], "data": told}, separators=(",", ":"))
    return f"bench/lora/{subject}/event/{kind}", payload


async def bridge(url: str, port: int) -> None:
    async with aiomqtt.Client("127.0.0.1", port) as broker, websockets.connect(url) as platform:
        async for text in platform:
            topic, payload = message(json.loads(text))
            await broker.publish(topic, payload, qos=1)


if __name__ == "__main__":
    asyncio.run(bridge(sys.argv[1], int(sys.argv[2])))
