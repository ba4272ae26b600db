"""A message's topic and payload, taken apart: where it belongs, what it is, what it says. Never raises."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from bridge.topics import text_of
from bridge.watch.logs import escaped

Role = Literal["event", "state", "command", "response", "dead", "bridge", "other"]

NOT_READ = object()  # stands for a payload that is neither JSON nor MessagePack
_ROLES: dict[str, Role] = {"event": "event", "command": "command", "response": "response"}
_BROKEN = (ValueError, TypeError, RecursionError, OverflowError)  # what msgspec raises on bytes of strangers


@dataclass(frozen=True)
class Place:
    """What a topic tells.

    backend: "" for a topic outside the base · subject: levels as written, joined, "" without one · name: event type,
    command, or reason of a dead frame.
    """

    role: Role
    backend: str = ""
    subject: str = ""
    name: str = ""

    @property
    def of_backend(self) -> bool:
        """A state that tells how a whole backend, or the bridge, is doing."""
        return self.name == "state" and not self.subject and self.role in ("state", "bridge")

    @property
    def rare(self) -> bool:
        """Worth a line even in a flood: how a backend is doing, gaps, commands and their responses."""
        return self.of_backend or self.role in ("command", "response") or (self.role == "event" and self.name == "gap")


@dataclass(frozen=True)
class Said:
    """What a payload tells.

    type: the CloudEvents type, "" without · time: when it happened, RFC 3339 or "" · replay: from history ·
    data: what it is about, or NOT_READ.
    """

    data: Any
    type: str = ""
    time: str = ""
    replay: bool = False


def place(topic: str, base: str) -> Place:
    """Where a topic belongs in the tree below `base`."""
    backend, _, rest = topic.removeprefix(f"{base}/").partition("/")
    if not topic.startswith(f"{base}/") or not rest:
        return Place("other", subject=topic)
    head, _, last = rest.rpartition("/")
    before, _, kind = head.rpartition("/")
    if backend == "bridge" and not head:
        return Place("bridge", backend, name=last)
    if kind in _ROLES:
        return Place(_ROLES[kind], backend, before, last)
    if head == "dead":
        return Place("dead", backend, name=last)
    return Place("state", backend, head, "state") if last == "state" else Place("other", backend, rest)


def read(payload: bytes) -> Any:
    """JSON or MessagePack as Python values, else NOT_READ; None for no payload at all."""
    if not payload:
        return None
    packed = 0x80 <= payload[0] <= 0x9F or 0xDC <= payload[0] <= 0xDF  # maps and arrays; no JSON text begins so
    try:
        return msgspec.msgpack.decode(payload) if packed else msgspec.json.decode(payload)
    except _BROKEN:
        return NOT_READ


def said(payload: bytes, attributes: Mapping[str, str]) -> Said:
    """attributes: the MQTT 5 user properties, which in binary mode hold what the envelope holds else."""
    value = read(payload)
    if not (isinstance(value, dict) and "specversion" in value and "type" in value):
        return Said(value, attributes.get("type", ""), attributes.get("time", ""), "replay" in attributes)
    texts = {name: text for name in ("type", "time") if isinstance(text := value.get(name), str)}
    return Said(value.get("data"), replay=value.get("replay") is True, **texts)


def words(subject: str) -> str:
    """A subject in short, decoded: `application/…/device/a817` → `device a817`."""
    levels = [text_of(level) for level in subject.split("/")] if subject else []
    match levels:
        case [*_, ("device" | "gateway" | "user" | "extension") as what, name]:
            return f"{what} {name}"
        case ["asset", _, name]:
            return f"asset {name}"
        case [_, "dev", protocol, device]:
            return f"{protocol} {device}"
        case [_, "dev", _, device, "if", block, index, point]:
            return f"{device} {block}/{index}/{point}"
    return " ".join(levels[-2:])


def printable(text: str) -> str:
    """The text with a space for every white space and `·` for all that is not printable: escapes, controls, bidi."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "·" for c in text)


def json_line(topic: str, payload: bytes, retain: bool) -> str:
    """One JSON object: topic, retain, payload: the value, null for none, or base64 with `"encoding":"base64"`."""
    shown: dict[str, Any] = {"topic": topic, "retain": retain}
    value = read(payload)
    try:
        text = msgspec.json.encode({**shown, "payload": _plain(value)}).decode()
    except (*_BROKEN, NotImplementedError):
        shown |= {"payload": base64.b64encode(payload).decode(), "encoding": "base64"}
        text = msgspec.json.encode(shown).decode()
    return escaped(text)


def _plain(value: Any) -> Any:
    if value is NOT_READ:
        raise TypeError("no JSON value")
    return value
