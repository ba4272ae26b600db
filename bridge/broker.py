"""The MQTT door: the only module, with its fast way out (wire.py), that knows aiomqtt and paho.

1. A new client object per connection: a reused paho client sends again by itself, which doubles and overtakes.
2. publish() never waits; what became of it is told to `acknowledged` with the PUBACK's reason code (QoS 0: 0, once it
   is written to the socket). aiomqtt hides that code, so paho's callback is taken from below it.
3. The session begins clean and ends with the connection: a command sent while we are away is never executed later.
"""

import asyncio
import functools
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.errors import Refused, Transient
from bridge.links.failures import PORTS, why
from bridge.links.tls import tls_context
from bridge.model import Message
from bridge.options import MqttOptions
from bridge.wire import Acknowledged, Wire, install, publish_packet, variable

QUOTA_EXCEEDED = 0x97
SESSION_TAKEN_OVER = 0x8E
REFUSED = 0x80  # reason codes from here on mean no (MQTT 5, 2.4)
_KEEP_ALIVE = 0x8D  # what paho says where a PINGREQ has no answer
_RETAIN_UNKNOWN, _QOS_UNKNOWN = 0x9A, 0x9B
_REFUSING = {  # what to look at where trying again changes nothing
    0x84: "mqtt.version",
    0x85: "mqtt.client_id",
    **dict.fromkeys((0x86, 0x87, 0x8A, 0x8C), "mqtt.username and mqtt.password"),  # of 0x8A: banned · 0x8C: the method
}
_CONNECT_S = 10.0
_ABANDON_S = 1.0
_log = logging.getLogger("ws2mqtt")


class Lost(Transient):
    """The connection ended. code: the DISCONNECT's reason code, where the broker gave one; -1: it does not answer."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class NotNow(Transient):
    """The broker's answer to CONNECT is no, for now."""


@dataclass(frozen=True)
class Incoming:
    """A message that came in; the MQTT 5 properties are absent on 3.1.1."""

    topic: str
    payload: bytes
    retain: bool
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry: int | None = None
    attributes: tuple[tuple[str, str], ...] = ()  # user properties


@dataclass
class Connection:
    """One connection to the broker, from its CONNACK to its end."""

    version: int
    receive_maximum: int = 65_535
    maximum_packet_size: int | None = None
    maximum_qos: int = 2
    retain_available: bool = True
    acknowledged: Acknowledged = lambda acks: None
    answered: bool = False  # CONNACK is here
    entered: bool = False  # from here on aiomqtt tells how it ended
    dismissed: bool = False  # the broker itself said DISCONNECT
    _client: aiomqtt.Client = field(default=cast(aiomqtt.Client, None), repr=False)
    _paho: paho.Client = field(default=cast(paho.Client, None), repr=False)
    _wire: Wire | None = None

    def publish(self, message: Message, qos: int, retain: bool = False) -> int:
        """The packet id under which it will be acknowledged. Raises Lost where the connection is gone."""
        wire = self._wire
        if wire is None:
            return self._publish_by_paho(message, qos, retain)
        packet = wire.identifier()
        qos = min(qos, self.maximum_qos)
        encoded = publish_packet(
            message.topic.encode(),
            message.payload,
            message.properties,
            qos=qos,
            retain=retain and self.retain_available,
            packet=packet,
            version=self.version,
        )
        wire.write(encoded, None if qos else packet)
        return packet

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """What is published within goes out together, at once."""
        if self._wire is None:
            yield
            return
        self._wire.cork()
        try:
            yield
        finally:
            self._wire.uncork()

    def _publish_by_paho(self, message: Message, qos: int, retain: bool) -> int:
        """The public way, for a paho that has changed inside."""
        info = self._paho.publish(
            message.topic,
            message.payload,
            min(qos, self.maximum_qos),
            retain and self.retain_available,
            _properties(message.properties) if self.version == 5 and message.properties else None,
        )
        if info.rc not in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_QUEUE_SIZE):
            raise Lost(paho.error_string(info.rc))
        return info.mid

    def fits(self, message: Message) -> bool:
        """Whether the broker's Maximum Packet Size allows it."""
        if self.maximum_packet_size is None:
            return True
        # topic length 2, packet id 2; before them the fixed header (MQTT 5, 2.1 and 3.3)
        properties = len(message.properties)
        size = len(message.topic.encode()) + len(message.payload) + properties + len(variable(properties)) + 4
        return 1 + len(variable(size)) + size <= self.maximum_packet_size

    async def subscribe(self, filters: Sequence[str], retained: bool = False, qos: int = 1) -> None:
        """What is retained comes only where asked for (on 3.1.1 always, marked). Raises Transient."""
        try:
            if self.version == 5:
                options = SubscribeOptions(qos, retainAsPublished=True, retainHandling=0 if retained else 2)
                codes = await self._client.subscribe([(one, options) for one in filters])
            else:
                codes = await self._client.subscribe([(one, qos) for one in filters])
        except aiomqtt.MqttError as error:
            raise Lost(f"subscription failed: {error}") from None
        if any((code.value if isinstance(code, ReasonCode) else code) >= REFUSED for code in codes):
            raise Refused(f"the broker does not allow the subscription to {', '.join(filters)}: check its access rules")

    async def messages(self) -> AsyncIterator[Incoming]:
        """What comes in, until the connection ends: raises Lost."""
        try:
            async for message in self._client.messages:
                yield _incoming(message)
        except aiomqtt.MqttError as error:
            cause = error.__cause__ or error
            reason = cause.rc if isinstance(cause, aiomqtt.MqttCodeError) else None
            raise _lost(reason, self.dismissed) from None


@asynccontextmanager
async def connect(options: MqttOptions, url: str, client_id: str, will: Message | None) -> AsyncIterator[Connection]:
    """A connection to one of the brokers; a regular end takes the will back.

    Raises Refused (not accepted), NotNow, Transient (not reached), Lost (ended, from publish, subscribe or messages).
    """
    qos, retain = options.qos, True
    while True:
        try:
            client, connection = await _entered(options, url, client_id, _will(will, options.version, qos, retain))
            break
        except aiomqtt.MqttCodeError as error:
            code = error.rc.value if isinstance(error.rc, ReasonCode) else None
            if code not in (_RETAIN_UNKNOWN, _QOS_UNKNOWN) or (qos, retain) == (0, False):
                raise _refusal(error.rc) from None
            qos, retain = 0, False  # it does not take such a will (MQTT 5, 3.2.2.3.4 and 3.2.2.3.5): a plainer one
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            raise Transient(why(error, url)) from None
    try:
        yield connection
    finally:
        await _leave(client)


async def _entered(
    options: MqttOptions, url: str, client_id: str, will: aiomqtt.Will | None
) -> tuple[aiomqtt.Client, Connection]:
    """A connection that was answered with CONNACK."""
    try:
        client, connection, wired = _client(options, url, client_id, will)
    except (OSError, ValueError) as error:
        raise Transient(f"the password file or the TLS files cannot be used: {why(error)}") from None
    gone = _gone(client._client, connection)
    entering = asyncio.ensure_future(client.__aenter__())
    try:
        await asyncio.wait((entering, gone), return_when=asyncio.FIRST_COMPLETED)
        if not entering.done() and not connection.answered:
            entering.cancel()
            raise Transient("the broker closed the connection instead of answering CONNECT")
        await asyncio.wait((entering,))
        entering.result()
        if gone.done():
            raise _lost(gone.result(), connection.dismissed)
    except asyncio.CancelledError:  # aiomqtt connects in a thread, which cannot be stopped
        await _abandon(client, connection, entering)
        raise
    except BaseException:
        client._client._sock_close()
        raise
    connection.entered, connection._wire = True, wired()
    return client, connection


def _gone(client: paho.Client, connection: Connection) -> "asyncio.Future[ReasonCode]":
    """Done with the reason when the connection ends before or right after CONNACK, which aiomqtt does not notice.

    Nor does it pass on whether a reason is the broker's or paho's own.
    """
    gone = asyncio.get_running_loop().create_future()
    above = cast(Callable[..., None], client.on_disconnect)

    def on_disconnect(c: Any, userdata: Any, flags: paho.DisconnectFlags, reason: ReasonCode, *told: Any) -> None:
        connection.dismissed = flags.is_disconnect_packet_from_server
        if connection.entered:
            above(c, userdata, flags, reason, *told)
        elif not gone.done():
            gone.set_result(reason)

    client.on_disconnect = on_disconnect
    return gone


async def _abandon(client: aiomqtt.Client, connection: Connection, entering: "asyncio.Future[aiomqtt.Client]") -> None:
    """If the broker is just saying welcome, we say goodbye: else it would publish the will."""

    def close(done: "asyncio.Future[aiomqtt.Client]") -> None:
        if not done.cancelled():
            done.exception()
        client._client._sock_close()

    await asyncio.wait((entering,), timeout=_ABANDON_S)
    if entering.done() and not entering.cancelled() and not entering.exception():
        connection.entered = True
        await _leave(client)
    entering.add_done_callback(close)


async def _leave(client: aiomqtt.Client) -> None:
    end = _second_end(client._client)
    try:
        async with asyncio.timeout(2.0):
            await client.__aexit__(None, None, None)
            await _heard_out(end)
    except (aiomqtt.MqttError, TimeoutError, OSError):
        pass
    finally:
        if (sock := client._client.socket()) is not None:  # a frozen broker: paho still waits to say goodbye
            client._client._sock_close()
            sock.close()
        if end is not None:
            end.close()


def _second_end(client: paho.Client) -> socket.socket | None:
    """The connection once more: paho closes its own right behind DISCONNECT.

    A broker that still has to acknowledge what it read before would be answered with a reset then, never come to our
    goodbye, and publish the will.
    """
    sock = client.socket()
    try:
        return None if sock is None else socket.socket(fileno=os.dup(sock.fileno()))
    except OSError:
        return None


async def _heard_out(end: socket.socket | None) -> None:
    """Until the broker has closed, too."""
    if end is not None:
        end.setblocking(False)
        end.shutdown(socket.SHUT_WR)
        while await asyncio.get_running_loop().sock_recv(end, 65_536):
            pass


def _client(
    options: MqttOptions, url: str, client_id: str, will: aiomqtt.Will | None
) -> tuple[aiomqtt.Client, Connection, Callable[[], Wire | None]]:
    address = urlsplit(url)
    version = 5 if options.version == "5" else 4
    web = address.scheme in ("ws", "wss")
    path = (address.path or "/mqtt") + (f"?{address.query}" if address.query else "")
    versioned: dict[str, Any] = {"clean_start": True} if version == 5 else {"clean_session": True}
    client = aiomqtt.Client(
        address.hostname or "127.0.0.1",
        address.port or PORTS[address.scheme],
        username=options.username,
        password=options.password.reveal() if options.password else None,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5 if version == 5 else aiomqtt.ProtocolVersion.V311,
        will=will,
        transport="websockets" if web else "tcp",
        websocket_path=path if web else None,
        timeout=_CONNECT_S,
        keepalive=max(1, int(options.keepalive)),
        max_inflight_messages=0,  # the publisher keeps the window
        max_queued_outgoing_messages=0,
        tls_context=tls_context(options.tls) if address.scheme in ("mqtts", "wss") else None,
        **versioned,
    )
    client._client.disable_logger()  # to paho a lost connection is an error; we tell it, in our words
    connection = Connection(version, _client=client, _paho=client._client)
    _listen_below(client._client, connection)
    wired = install(client._client, lambda acks: connection.acknowledged(acks))
    if wired is None:
        _log.info("publishing the slow way: this paho-mqtt has changed inside")
    return client, connection, wired or (lambda: None)


def _will(will: Message | None, version: str, qos: int, retain: bool) -> aiomqtt.Will | None:
    if will is None:
        return None
    properties = _properties(will.properties, PacketTypes.WILLMESSAGE) if version == "5" and will.properties else None
    return aiomqtt.Will(will.topic, will.payload, qos, retain=retain, properties=properties)


def _listen_below(client: paho.Client, connection: Connection) -> None:
    """CONNACK's properties and PUBACK's reason code, which aiomqtt does not pass on."""
    above = cast(Callable[..., None], client.on_connect)

    def on_connect(c: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None = None) -> None:
        connection.answered = True
        if properties is not None:
            connection.receive_maximum = getattr(properties, "ReceiveMaximum", 65_535)
            connection.maximum_packet_size = getattr(properties, "MaximumPacketSize", None)
            connection.maximum_qos = getattr(properties, "MaximumQoS", 2)
            connection.retain_available = bool(getattr(properties, "RetainAvailable", 1))
        above(c, userdata, flags, reason, properties)

    def on_publish(c: Any, userdata: Any, packet: int, reason: ReasonCode, properties: Any = None) -> None:
        connection.acknowledged([(packet, reason.value)])

    client.on_connect = on_connect
    client.on_publish = on_publish


@functools.lru_cache(64)
def _properties(encoded: bytes, packet: int = PacketTypes.PUBLISH) -> Properties:
    """paho's form of encoded properties."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    properties.unpack(variable(len(encoded)) + encoded)  # type: ignore[no-untyped-call]
    return properties


def _incoming(message: aiomqtt.Message) -> Incoming:
    payload = message.payload if isinstance(message.payload, bytes) else b""
    properties = message.properties
    return Incoming(
        str(message.topic),
        payload,
        bool(message.retain),
        getattr(properties, "ResponseTopic", None),
        getattr(properties, "CorrelationData", None),
        getattr(properties, "MessageExpiryInterval", None),
        tuple(getattr(properties, "UserProperty", ())),
    )


def _refusal(reason: ReasonCode | int | None) -> Transient:
    code = reason.value if isinstance(reason, ReasonCode) else int(reason or 0)
    text = f"the broker refused the connection: {reason} (code {code})"
    return Refused(f"{text}; check {_REFUSING[code]}") if code in _REFUSING else NotNow(text)


def _lost(reason: ReasonCode | int | None, dismissed: bool) -> Lost:
    code = reason.value if isinstance(reason, ReasonCode) else None
    if not dismissed:
        return Lost("the broker no longer answers", -1) if code == _KEEP_ALIVE else Lost("the connection broke")
    if code == SESSION_TAKEN_OVER:
        return Lost("session taken over: two bridges share this client id; give each its own mqtt.client_id", code)
    return Lost(f"the broker ended the connection: {reason} (code {code})", code)
