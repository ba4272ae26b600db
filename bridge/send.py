"""`ws2mqtt send`: publishes a command and waits for its final response; suggests what was meant."""

import asyncio
import contextlib
import difflib
import secrets
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, TypeAlias

import msgspec

from bridge.about import BridgeInfo
from bridge.broker import REFUSED, Connection, Incoming, connect
from bridge.command_fields import fields_of, identity
from bridge.errors import BadCommand, BridgeError, Refused, Transient
from bridge.model import Message
from bridge.options import MqttOptions
from bridge.payloads import JSON_PROPERTIES
from bridge.topics import matches
from bridge.viewer.reading import printable
from bridge.watch.logs import escaped

OK, FAILED, USAGE = 0, 1, 2
NO_SUBSCRIBERS = 0x10  # MQTT 5, 3.4.2.1
_Messages: TypeAlias = "asyncio.Queue[Incoming | BridgeError]"
_INFO_S = 1.0


async def send(options: MqttOptions, topic: str, text: str, *, timeout: float, json_lines: bool) -> int:
    """The exit code: 0 succeeded, 1 not, 2 for usage. Raises BridgeError."""
    try:
        fields = fields_of(text.encode("utf-8", "surrogateescape"))
        topic.encode()
    except (BadCommand, UnicodeEncodeError) as bad:
        return _usage(str(bad))
    if identity(fields | {"id": fields.get("id", "")}) is None:
        return _usage("id: write a text or a whole number")
    if set("+#\0") & set(topic):
        return _usage("the topic has wildcards")
    async with AsyncExitStack() as stack:
        connection = await _connected(stack, options)
        messages: _Messages = asyncio.Queue()
        listening = asyncio.create_task(_listen(connection, messages))
        stack.push_async_callback(_end, listening)
        info = await _info(connection, messages, options.base_topic)
        known = _known(info, options.base_topic)
        if topic.split("/")[1:][-2:-1] != ["command"]:
            return _usage(f"{topic} is not a command topic{_meant(topic, known)}")
        hint = _meant(topic, known) if info else f"; no bridge has announced itself below {options.base_topic}/"
        return await _ask(connection, messages, topic, fields, _How(timeout, json_lines, hint))


class _How(NamedTuple):
    timeout: float
    json_lines: bool
    hint: str  # what may be wrong where nobody answers


async def _ask(connection: Connection, messages: _Messages, topic: str, fields: dict[str, Any], how: _How) -> int:
    """Publishes the command and shows what is answered."""
    before, _, name = topic.rpartition("/command/")
    answers = f"{before}/response/{name}"
    await connection.subscribe([answers])
    mine = fields.setdefault("id", f"send-{secrets.token_hex(6)}")

    def acknowledged(acks: Sequence[tuple[int, int]]) -> None:
        code = acks[0][1]  # of the one command
        if code == NO_SUBSCRIBERS:
            messages.put_nowait(Refused(f"nobody is subscribed to {topic}{how.hint}"))
        elif code >= REFUSED:
            messages.put_nowait(
                Refused(f"the broker does not take what is published to {topic}: check its access rules")
            )

    connection.acknowledged = acknowledged
    connection.publish(Message(topic, msgspec.json.encode(fields), JSON_PROPERTIES), 1)
    try:
        async with asyncio.timeout(how.timeout):
            return await _final(messages, answers, mine, how.json_lines)
    except TimeoutError:
        print(printable(f"no final response within {how.timeout:g} s{how.hint}"), file=sys.stderr)
        return FAILED


async def _connected(stack: AsyncExitStack, options: MqttOptions) -> Connection:
    """To the first broker of the list that takes us. Raises Transient: why the last one did not."""
    name = f"ws2mqtt-send-{secrets.token_hex(4)}"
    for url in options.url[:-1]:
        with contextlib.suppress(Transient):
            return await stack.enter_async_context(connect(options, url, name, None))
    return await stack.enter_async_context(connect(options, options.url[-1], name, None))


def _fields(text: str) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _usage(text: str) -> int:
    print(f"ws2mqtt send: {printable(text)}", file=sys.stderr)
    return USAGE


async def _listen(connection: Connection, messages: _Messages) -> None:
    try:
        async for message in connection.messages():
            messages.put_nowait(message)
    except BridgeError as error:
        messages.put_nowait(error)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _next(messages: _Messages) -> Incoming:
    message = await messages.get()
    if isinstance(message, BridgeError):
        raise message
    return message


async def _final(messages: _Messages, answers: str, mine: object, json_lines: bool) -> int:
    while True:
        message = await _next(messages)
        if message.topic != answers or message.retain:
            continue
        response = _fields(message.payload.decode("utf-8", "replace"))
        if response is None or response.get("id") != mine:
            continue
        told = escaped(msgspec.json.encode(response).decode()) if json_lines else printable(_readable(response))
        print(told, flush=True)
        if response.get("final"):
            return OK if response.get("code") == 200 else FAILED


def _readable(response: dict[str, Any]) -> str:
    """`sent 200  reference=…`, or `rejected 400  f_port: …`."""
    words = [f"{response.get('status')} {response.get('code')}"]
    error = response.get("error")
    if isinstance(error, dict):
        words.append(f"{error.get('kind')}: {error.get('message')}")
    data = response.get("data")
    if isinstance(data, dict):
        words += [f"{key}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
                  for key, value in data.items()]  # fmt: skip
    elif data is not None:
        words.append(msgspec.json.encode(data).decode())
    return "  ".join(words)


async def _info(connection: Connection, messages: _Messages, base: str) -> BridgeInfo | None:
    """`bridge/info`, which is retained; None where no bridge is there, or another has written something there."""
    await connection.subscribe([f"{base}/bridge/info"], retained=True)
    with contextlib.suppress(TimeoutError, msgspec.MsgspecError, ValueError, RecursionError):
        async with asyncio.timeout(_INFO_S):
            while True:
                message = await _next(messages)
                if message.topic == f"{base}/bridge/info":
                    return msgspec.json.decode(message.payload, type=BridgeInfo)
    return None


def _known(info: BridgeInfo | None, base: str) -> list[str]:
    """The command topics there are; `+` stands for a level of a device."""
    if info is None:
        return []
    topics = [f"{base}/bridge/command/{name}" for name in info.commands]
    for backend, about in info.backends.items():
        for name in about.commands:
            subject = about.subjects.get(name, "")
            topics.append("/".join(filter(None, (base, backend, subject, "command", name))))
    return topics


def _meant(topic: str, known: list[str]) -> str:
    """What the sender may have meant; nothing where the topic is one of those there are."""
    if any(matches(one, topic) for one in known):
        return ""
    close = difflib.get_close_matches(topic, known, 1, 0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(known)}" if known else ""
