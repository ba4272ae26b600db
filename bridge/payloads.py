"""Payload bytes: events as CloudEvents 1.0 (structured or binary, JSON or MessagePack), everything else as flat JSON.

A message's bytes are made once, when the event is read; they stay as they are through every retry and on disk.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from bridge.model import Event, Message, State, Unread
from bridge.options import about
from bridge.topics import join

DEAD_BYTES = 64 * 1024
_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()

_FORMAT_UTF8 = b"\x01\x01"  # MQTT 5, 3.3.2.3.2: Payload Format Indicator
_CONTENT_TYPE, _USER_PROPERTY = b"\x03", b"\x26"  # 3.3.2.3.9, 3.3.2.3.7


Moment = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$")]


class CloudEvent(Struct, kw_only=True, omit_defaults=True):
    """One event as it is published; `session`, `sequence`, `recordedtime` and `replay` are extension attributes."""

    specversion: Annotated[Literal["1.0"], about("of CloudEvents")]
    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$"), about("the same for the same thing told again: drop duplicates")]
    source: Annotated[str, about("/<base>/<backend>")]
    type: Annotated[str, about("<platform>.<event type>")]
    subject: Annotated[str, about("as written in the topic; absent without one")] = ""
    time: Annotated[Moment, about("when the platform says it happened, UTC; recordedtime where it does not say")]
    recordedtime: Annotated[Moment, about("when the bridge read it, UTC")]
    session: Annotated[str, Meta(pattern="^[0-9]+$"), about("the bridge's start in ms since 1970, as in bridge/state")]
    sequence: Annotated[
        str, Meta(pattern="^[0-9]{16,}$"), about("per backend and session from 1: a hole is an event that was dropped")
    ]
    replay: Annotated[bool, about("from the platform's history; absent where it is not")] = False
    datacontenttype: Annotated[Literal["application/json"], about("of data")]
    data: Annotated[Any, about("what happened; its form is that of the type")]


def _text(text: str) -> bytes:
    encoded = text.encode()[:65_535]  # a longer one is dropped for its topic
    return len(encoded).to_bytes(2, "big") + encoded


def content_type(name: str, utf8: bool = True) -> bytes:
    """The MQTT 5 properties of a payload of this media type."""
    return (_FORMAT_UTF8 if utf8 else b"") + _CONTENT_TYPE + _text(name)


JSON_PROPERTIES = content_type("application/json")


def event_id(source: str, event: Event, told: bytes, session: str, sequence: str) -> str:
    """32 hex digits: the same for the same thing said again; without a platform time, of this reading alone."""
    if event.time is None:
        parts = f"{source}\0{session}\0{sequence}".encode()
    else:
        parts = f"{source}\0{event.subject}\0{event.type}\0{event.time}\0".encode() + told
    return blake2b(parts, digest_size=16).hexdigest()


def json_data(event: Event) -> tuple[bytes, bytes]:
    """The event's data as JSON: what identity is made of, and the whole with `extra`."""
    data = event.data
    encoded = bytes(data) if isinstance(data, Raw) else _json.encode(data)
    told = encoded if event.told is None else event.told
    if event.extra:
        comma = b"," if len(encoded) > 2 else b""
        encoded = b'%b%b"extra":%b}' % (encoded[:-1], comma, _json.encode(event.extra))
    return told, encoded


def _pack(value: Any) -> bytes:
    """As MessagePack, which has no integers beyond 64 bits: such a one becomes a float, or text beyond floats."""
    try:
        return _msgpack.encode(value)
    except OverflowError:
        return _msgpack.encode(_narrow(msgspec.to_builtins(value)))


def _narrow(value: Any) -> Any:
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value) if abs(value) < 10**308 else str(value)
    if isinstance(value, list):
        return [_narrow(item) for item in value]
    if isinstance(value, dict):
        return {key: _narrow(item) for key, item in value.items()}
    return value


class _Place(Struct, frozen=True, gc=False):
    """Where events of one subject and type go, and what all of them say. constant: JSON from behind `id` to `time`."""

    topic: str
    identity: bytes
    constant: bytes


class Writer:
    """Makes the messages of one backend."""

    def __init__(
        self,
        *,
        base: str,
        backend: str,
        platform: str,
        session: str,
        payload: Literal["json", "msgpack"] = "json",
        envelope: Literal["structured", "binary"] = "structured",
    ) -> None:
        self.prefix = join(base, backend)
        self._source = f"/{self.prefix}"
        self._platform, self._session, self._session_bytes = platform, session, session.encode()
        self._packed, self._binary = payload == "msgpack", envelope == "binary"
        kind = "msgpack" if self._packed else "json"
        media = f"application/{kind}" if self._binary else f"application/cloudevents+{kind}"
        self._properties = content_type(media, utf8=not self._packed)
        self._place = lru_cache(8_192)(self._find_place)
        self.quick = not self._packed and not self._binary

    def event(self, event: Event, number: int, recorded: str) -> Message:
        """number: counts from 1 per backend · recorded: when the bridge read it, RFC 3339 UTC."""
        if self.quick and event.time is not None:
            return self._usual(event, event.time, number, recorded)
        sequence = f"{number:016d}"
        told, encoded = json_data(event)
        data: Any = msgspec.json.decode(encoded) if self._packed else Raw(encoded)
        cloud = CloudEvent(
            specversion="1.0",
            id=event_id(self._source, event, told, self._session, sequence),
            source=self._source,
            type=f"{self._platform}.{event.type}",
            subject=event.subject,
            time=event.time or recorded,
            recordedtime=recorded,
            session=self._session,
            sequence=sequence,
            replay=event.replay,
            datacontenttype="application/json",
            data=data,
        )
        topic = f"{join(self.prefix, event.subject)}/event/{event.type}"
        if self._binary:
            payload = _pack(data) if self._packed else encoded
            return Message(topic, payload, self._properties + _attributes(cloud))
        return Message(topic, _pack(cloud) if self._packed else _json.encode(cloud), self._properties)

    def _usual(self, event: Event, time: str, number: int, recorded: str) -> Message:
        """As event(), for what most say most of the time: structured JSON with a platform's time, written directly."""
        place = self._place(event.subject, event.type)
        told, encoded = json_data(event)
        moment = time.encode()
        identity = blake2b(b"%b%b\0%b" % (place.identity, moment, told), digest_size=16).hexdigest().encode()
        payload = (
            b'{"specversion":"1.0","id":"%b%b%b","recordedtime":"%b","session":"%b","sequence":"%016d",'
            b'%b"datacontenttype":"application/json","data":%b}'
        ) % (
            identity,
            place.constant,
            moment,
            recorded.encode(),
            self._session_bytes,
            number,
            b'"replay":true,' if event.replay else b"",
            encoded,
        )
        return Message(place.topic, payload, self._properties)

    def _find_place(self, subject: str, kind: str) -> _Place:
        names = (("source", self._source), ("type", f"{self._platform}.{kind}"), ("subject", subject))
        told = b"".join(b'"%b":%b,' % (name.encode(), _json.encode(text)) for name, text in names if text)
        identity = f"{self._source}\0{subject}\0{kind}\0".encode()
        return _Place(f"{join(self.prefix, subject)}/event/{kind}", identity, b'",%b"time":"' % told)

    def state_topic(self, subject: str) -> str:
        """Where a subject's state is retained; "": the backend's own."""
        return f"{join(self.prefix, subject)}/state"

    def state(self, state: State) -> Message:
        """Flat JSON; no payload at all when the subject is gone, which clears the retained message."""
        topic = self.state_topic(state.subject)
        if state.data is None:
            return Message(topic, b"")
        payload = bytes(state.data) if isinstance(state.data, Raw) else _json.encode(state.data)
        return Message(topic, payload, JSON_PROPERTIES)

    def dead(self, unread: Unread) -> Message:
        """A frame that could not be read, as it came, cut at 64 KiB."""
        return Message(f"{self.prefix}/dead/{unread.reason}", unread.frame[:DEAD_BYTES])

    def plain(self, path: str, value: Any) -> Message:
        """Flat JSON at a path below the backend: `state`, `health` …"""
        return Message(f"{self.prefix}/{path}", _json.encode(value), JSON_PROPERTIES)


def _attributes(cloud: CloudEvent) -> bytes:
    """The attributes as MQTT 5 user properties (CloudEvents MQTT binding, 3.1)."""
    return b"".join(
        _USER_PROPERTY + _text(name) + _text(value if isinstance(value, str) else "true")
        for name in CloudEvent.__struct_fields__
        if name != "data" and (value := getattr(cloud, name))
    )
