"""An independent subscriber: hears every message a broker gives out and keeps it; it can also say something.

It speaks MQTT by itself, over plain sockets, and shares no code with the bridge. It is subscribed when its context is
entered. Every message is acknowledged at once. When it closes, all that it heard of a bridge is held against the
document that bridge publishes.
"""

import asyncio
import contextlib
import itertools
import json
import secrets
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from tests.support import (
    PATIENCE_S,
    V5,
    V311,
    Connack,
    Connect,
    Disconnect,
    Malformed,
    Packet,
    Pairs,
    Pingresp,
    Properties,
    Puback,
    Publish,
    Record,
    Suback,
    Subscribe,
    Subscription,
    close,
    frame,
    matches,
    read_packet,
    write_connect,
    write_disconnect,
    write_puback,
    write_publish,
    write_subscribe,
)
from tests.support.published import judge, said

Message = Publish

_AGAIN_S = 0.02
_KEEPALIVE_S = 30
_PINGREQ = 12


class Ear:
    """What was heard is in `messages`, in the order of arrival.

    url: mqtt:// or mqtts://. filters: at least one. qos: the highest that is heard. tls: needed for mqtts://.
    reconnect: comes back by itself when the broker does, and subscribes again.
    durable: its session stays at the broker, which keeps messages for it meanwhile (a broker with persistence).
    retain_as_published: a message shows its retain flag as the sender set it (MQTT 5; on 3.1.1 only copies that were
    kept show it). retain_handling: 0 what is retained comes first, 2 it does not come.
    """

    def __init__(
        self,
        url: str,
        *filters: str,
        version: Literal["5", "3.1.1"] = "5",
        qos: Literal[0, 1] = 1,
        client_id: str | None = None,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        reconnect: bool = False,
        durable: bool = False,
        retain_as_published: bool = True,
        retain_handling: Literal[0, 1, 2] = 0,
    ) -> None:
        address = urlsplit(url)
        if address.scheme not in ("mqtt", "mqtts") or not filters:
            raise ValueError("an ear needs mqtt:// or mqtts://, and something to listen to")
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 1883
        self._tls = (tls or ssl.create_default_context()) if address.scheme == "mqtts" else None
        self._version = V5 if version == "5" else V311
        self._connect = Connect(
            client_id or f"ear-{secrets.token_hex(6)}",
            self._version,
            not durable,
            _KEEPALIVE_S,
            username,
            None if password is None else password.encode(),
            properties={"session_expiry_interval": 3600} if durable else {},
        )
        self._wanted = tuple(Subscription(text, qos, False, retain_as_published, retain_handling) for text in filters)
        self._reconnect = reconnect
        self._ids = itertools.cycle(range(1, 0x10000))
        self._heard: Record[Message] = Record(f"ear on {' '.join(filters)}")
        self._answers: dict[int, asyncio.Future[Packet]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._up = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._connects: Record[int] = Record("the ear's connections")

    @property
    def connects(self) -> int:
        """How often it was subscribed."""
        return len(self._connects.items)

    @property
    def messages(self) -> list[Message]:
        return self._heard.items

    async def __aenter__(self) -> Self:
        """Raises ConnectionRefusedError where the broker says no, OSError where it is not reached."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                reader = await self._open()
                self._tasks = [asyncio.create_task(self._live(reader)), asyncio.create_task(self._ping())]
                await self._subscribe()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reconnect = False
        if self._writer is not None and self._up.is_set():
            self._writer.write(write_disconnect(Disconnect(), self._version))
            with contextlib.suppress(OSError):
                async with asyncio.timeout(1.0):
                    await self._writer.drain()
        await self._close()
        if kind is None:
            judge(self.messages)

    # Hearing

    async def wait_for(
        self, predicate: Callable[[Message], bool], timeout: float = PATIENCE_S, *, since: int = 0
    ) -> Message:
        """The first message that fits, from place `since` of `messages` on. Raises NotSeen."""
        return (await self._heard.wait(predicate, timeout, 1, since))[0]

    async def wait_count(
        self, count: int, topic_filter: str = "#", timeout: float = PATIENCE_S, *, since: int = 0
    ) -> list[Message]:
        """The first `count` messages on such topics. Raises NotSeen."""
        return await self._heard.wait(lambda m: matches(topic_filter, m.topic), timeout, count, since)

    async def wait_topic(
        self,
        topic_filter: str,
        predicate: Callable[[Message], bool] = lambda m: True,
        timeout: float = PATIENCE_S,
        *,
        since: int = 0,
    ) -> Message:
        """The first message on such a topic that fits. Raises NotSeen."""
        return await self.wait_for(lambda m: matches(topic_filter, m.topic) and predicate(m), timeout, since=since)

    def on(self, topic_filter: str) -> list[Message]:
        """What was heard on such topics so far."""
        return [message for message in self.messages if matches(topic_filter, message.topic)]

    @staticmethod
    def json(message: Message) -> Any:
        return json.loads(message.payload)

    async def wait_connected(self, connects: int = 1, timeout: float = PATIENCE_S) -> None:
        """Until it was subscribed n times: after a restart of the broker that is 2. Raises NotSeen."""
        await self._connects.wait(lambda number: number >= connects, timeout)

    # Saying

    async def publish(
        self,
        topic: str,
        payload: bytes | str | Mapping[str, Any] = b"",
        *,
        qos: Literal[0, 1] = 1,
        retain: bool = False,
        properties: Properties | None = None,
        user_properties: Pairs = (),
    ) -> int:
        """Publishes, a mapping as JSON; at QoS 1 returns with the PUBACK, and its reason code."""
        number = next(self._ids) if qos else 0
        told = Publish(
            topic, _bytes(payload), qos, retain, False, number,
            properties=properties or {}, user_properties=user_properties,
        )  # fmt: skip
        data = write_publish(told, self._version)
        said(topic, told.payload)
        if not qos:
            self._send(data)
            return 0
        answer = await self._ask(number, data)
        return answer.code if isinstance(answer, Puback) else -1

    # The connection

    async def _open(self) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        self._writer = writer
        writer.write(write_connect(self._connect))
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await read_packet(reader, self._version)
        except asyncio.IncompleteReadError:
            raise ConnectionResetError("the broker closed the connection instead of answering CONNECT") from None
        if not isinstance(answer, Connack) or answer.code:
            raise ConnectionRefusedError(f"the broker refused the ear: {answer}")
        return reader

    async def _subscribe(self) -> None:
        number = next(self._ids)
        answer = await self._ask(number, write_subscribe(Subscribe(number, self._wanted), self._version))
        if not isinstance(answer, Suback) or max(answer.codes) >= 0x80:
            raise ConnectionRefusedError(f"the broker refused the ear's subscription: {answer}")
        self._up.set()
        self._connects.append(self.connects + 1)

    async def _ask(self, number: int, data: bytes) -> Packet:
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._send(data)
            async with asyncio.timeout(PATIENCE_S):
                packet: Packet = await answer
                return packet
        finally:
            self._answers.pop(number, None)

    def _send(self, data: bytes) -> None:
        if self._writer is None or self._writer.is_closing():
            raise ConnectionResetError("the ear is not connected")
        self._writer.write(data)

    async def _live(self, reader: asyncio.StreamReader) -> None:
        """One connection after the other, while there is a reason."""
        while True:
            ended = await self._listen(reader)
            await self._lost(ended)
            if not self._reconnect:
                self._heard.end(f"the connection ended: {ended}")
                return
            reader = await self._open_again()

    async def _open_again(self) -> asyncio.StreamReader:
        while True:
            try:
                reader = await self._open()
            except (OSError, Malformed):
                await self._lost("not reached")
                await asyncio.sleep(_AGAIN_S)
                continue
            self._tasks.append(asyncio.create_task(self._subscribe_again()))
            return reader

    async def _subscribe_again(self) -> None:
        with contextlib.suppress(OSError):  # the connection went once more: the next one subscribes
            await self._subscribe()

    async def _listen(self, reader: asyncio.StreamReader) -> str:
        """Why it ended."""
        try:
            while True:
                packet = await read_packet(reader, self._version)
                if isinstance(packet, Disconnect):
                    return f"DISCONNECT {packet.code:#04x}"
                self._take(packet)
        except (asyncio.IncompleteReadError, OSError, Malformed) as error:
            return f"{type(error).__name__}: {error}"

    def _take(self, packet: Packet) -> None:
        if isinstance(packet, Publish):
            self._heard.append(packet)
            if packet.qos:
                self._send(write_puback(Puback(packet.packet_id), self._version))
        elif isinstance(packet, Suback | Puback):
            waiting = self._answers.get(packet.packet_id)
            if waiting is not None and not waiting.done():
                waiting.set_result(packet)
        elif not isinstance(packet, Pingresp):
            raise Malformed(f"the broker sent {packet}")

    async def _lost(self, why: str) -> None:
        self._up.clear()
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(ConnectionResetError(why))
        if self._writer is not None:
            await close(self._writer)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(_KEEPALIVE_S / 2)
            with contextlib.suppress(OSError):
                self._send(frame(_PINGREQ, 0, b""))

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._lost("closed")
        self._heard.end("the ear was closed")


def _bytes(payload: bytes | str | Mapping[str, Any]) -> bytes:
    if isinstance(payload, bytes):
        return payload
    return (payload if isinstance(payload, str) else json.dumps(payload)).encode()
