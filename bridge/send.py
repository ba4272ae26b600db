"""`ws2mqtt send`: publishes a command and waits for its final response; suggests what was meant."""

import asyncio
import contextlib
import difflib
import secrets
import sys
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from bridge.broker import Connection, Incoming, connect
from bridge.commands import MAX_PAYLOAD
from bridge.errors import BridgeError
from bridge.model import Message
from bridge.options import MqttOptions
from bridge.payloads import JSON_PROPERTIES
from bridge.topics import matches

OK, FAILED, USAGE = 0, 1, 2
_INFO_S = 1.0


async def send(options: MqttOptions, topic: str, text: str, *, timeout: float, json_lines: bool) -> int:
    """The exit code: 0 succeeded, 1 not, 2 for usage."""
    fields = _fields(text)
    levels = topic.split("/")
    if fields is None or "+" in topic or "#" in topic:
        return _usage("the body is not a JSON object: write '{…}'" if fields is None else "the topic has wildcards")
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(
            connect(options, options.url[0], f"ws2mqtt-send-{secrets.token_hex(4)}", None)
        )
        messages: asyncio.Queue[Incoming | BridgeError] = asyncio.Queue()
        listening = asyncio.create_task(_listen(connection, messages))
        stack.push_async_callback(_end, listening)
        info = await _info(connection, messages, options.base_topic)
        known = _known(info, options.base_topic)
        if len(levels) < 2 or levels[-2] != "command":
            return _usage(f"{topic} is not a command topic{_meant(topic, known)}")
        answers = "/".join((*levels[:-2], "response", levels[-1]))
        await connection.subscribe([answers])
        identity = fields.setdefault("id", f"send-{secrets.token_hex(6)}")
        connection.publish(Message(topic, msgspec.json.encode(fields), JSON_PROPERTIES), 1)
        try:
            async with asyncio.timeout(timeout):
                return await _final(messages, answers, identity, json_lines)
        except TimeoutError:
            hint = "" if info else f": no bridge has announced itself below {options.base_topic}/"
            print(f"no final response within {timeout:g} s{hint or _meant(topic, known)}", file=sys.stderr)
            return FAILED


def _fields(text: str) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _usage(text: str) -> int:
    print(f"ws2mqtt send: {text}", file=sys.stderr)
    return USAGE


async def _listen(connection: Connection, messages: "asyncio.Queue[Incoming | BridgeError]") -> None:
    try:
        async for message in connection.messages():
            messages.put_nowait(message)
    except BridgeError as error:
        messages.put_nowait(error)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _next(messages: "asyncio.Queue[Incoming | BridgeError]") -> Incoming:
    message = await messages.get()
    if isinstance(message, BridgeError):
        raise message
    return message


async def _final(
    messages: "asyncio.Queue[Incoming | BridgeError]", answers: str, identity: object, json_lines: bool
) -> int:
    while True:
        message = await _next(messages)
        if message.topic != answers or message.retain:
            continue
        response = _fields(message.payload.decode("utf-8", "replace"))
        if response is None or response.get("id") != identity:
            continue
        print(msgspec.json.encode(response).decode() if json_lines else _readable(response), flush=True)
        if response.get("final"):
            return OK if response.get("code") == 200 else FAILED


def _readable(response: dict[str, Any]) -> str:
    """`sent 200  reference=…`, or `rejected 400  f_port: …`."""
    words = [f"{response.get('status')} {response.get('code')}"]
    if error := response.get("error"):
        words.append(f"{error.get('kind')}: {error.get('message')}")
    data = response.get("data")
    if isinstance(data, dict):
        words += [f"{key}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
                  for key, value in data.items()]  # fmt: skip
    elif data is not None:
        words.append(msgspec.json.encode(data).decode())
    return "  ".join(words)


async def _info(connection: Connection, messages: "asyncio.Queue[Incoming | BridgeError]", base: str) -> dict[str, Any]:
    """`bridge/info`, which is retained; nothing where no bridge is there."""
    await connection.subscribe([f"{base}/bridge/info"], retained=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_INFO_S):
            while True:
                message = await _next(messages)
                if message.topic == f"{base}/bridge/info":
                    return _fields(message.payload.decode("utf-8", "replace")) or {}
    return {}


def _known(info: dict[str, Any], base: str) -> list[str]:
    """The command topics there are; `+` stands for a level of a device."""
    topics = [f"{base}/bridge/command/{name}" for name in info.get("commands", ())]
    for backend, about in info.get("backends", {}).items():
        for name in about.get("commands", ()):
            subject = about.get("subjects", {}).get(name, "")
            topics.append("/".join(filter(None, (base, backend, subject, "command", name))))
    return topics


def _meant(topic: str, known: list[str]) -> str:
    close = difflib.get_close_matches(topic, known, 1, 0.5)
    if close and close[0] != topic:
        return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(known)}" if known else ""
