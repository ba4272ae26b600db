"""The published document as a judge of what was heard: code and document cannot part.

Every configuration that a bridge is given is a promise for its base topic; every ear that closes holds all it heard
below such a topic against it. The document leaves room for more fields in later versions, the judge does not.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec

from bridge.asyncapi import document
from bridge.config import Config, load
from bridge.errors import BadConfig
from tests.support import Publish

_OPEN = ("CloudEvent", "CloudEventAttributes", "ResponsePayload")  # parts of a whole that is closed
_SHOWN = 3
_DECODERS: dict[str, Callable[[bytes], Any]] = {"json": msgspec.json.decode, "msgpack": msgspec.msgpack.decode}


class Judge:
    """Of one document."""

    def __init__(self, promised: Mapping[str, Any]) -> None:
        self._channels = promised["channels"]
        self._components = {"schemas": {name: _closed(name, one) for name, one in _schemas(promised).items()}}
        ordered = sorted(self._channels.items(), key=lambda one: one[1]["address"].count("{"))
        self._addresses = [(name, _pattern(one["address"])) for name, one in ordered]
        self._known: dict[str, str | None] = {}
        self._validators: dict[tuple[str, str], jsonschema_rs.Draft202012Validator] = {}

    def fault(self, message: Publish) -> str | None:
        """What the document has against it."""
        if _others(message) or not message.payload:  # or: what is cleared
            return None
        if message.topic not in self._known:
            found = (name for name, address in self._addresses if address.fullmatch(message.topic))
            self._known[message.topic] = next(found, None)
        name = self._known[message.topic]
        if name is not None:
            return self._judged(name, message)
        return self._refusal(message) if "/response/" in message.topic else "no channel has this address"

    def answer(self, message: Publish) -> str | None:
        """As fault(), of a response that was asked for elsewhere than in its usual place."""
        try:
            command = msgspec.json.decode(message.payload)["command"]
        except (msgspec.DecodeError, TypeError, KeyError):
            return "nobody of this name was configured, and it is no response"
        names = [name for name in self._channels if name.endswith(f".response.{command}")]
        faults = [*(self._judged(name, message) for name in names), self._refusal(message)]
        return None if None in faults else faults[0]

    def _judged(self, name: str, message: Publish) -> str | None:
        said = self._channels[name]["messages"]["message"]
        if "payload" not in said:
            return None
        told = message.properties.get("content_type", said["contentType"])
        if told != said["contentType"]:
            return f"content type {told} instead of {said['contentType']}"
        if "headers" in said and (fault := self._wrong(name, "headers", dict(message.user_properties))):
            return f"user properties: {fault}"
        decode = _DECODERS[re.split(r"[/+]", said["contentType"])[-1]]
        return self._wrong(name, "payload", decode(message.payload))

    def _wrong(self, name: str, part: str, value: Any) -> str | None:
        if (name, part) not in self._validators:
            schema = self._channels[name]["messages"]["message"][part]
            self._validators[name, part] = self._validator(schema)
        return _fault(self._validators[name, part], value)

    def _validator(self, schema: Mapping[str, Any]) -> jsonschema_rs.Draft202012Validator:
        closed = {"unevaluatedProperties": False} if "allOf" in schema else {}
        return jsonschema_rs.Draft202012Validator({**schema, **closed, "components": self._components})

    def _refusal(self, message: Publish) -> str | None:
        """A command that is not there, or not allowed, is answered in its own place."""
        value = msgspec.json.decode(message.payload)
        if value.get("code") not in (403, 404):
            return "no channel has this address, and it is no refusal"
        return _fault(self._validator({"allOf": [{"$ref": "#/components/schemas/ResponsePayload"}]}), value)


def _fault(validator: jsonschema_rs.Draft202012Validator, value: Any) -> str | None:
    if validator.is_valid(value):
        return None
    found = [f"{'.'.join(map(str, one.instance_path))}: {one.message}" for one in validator.iter_errors(value)]
    return "; ".join(found)[:600]


def _schemas(promised: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = promised["components"]["schemas"]
    return found


def _closed(name: str, schema: Any) -> Any:
    if "properties" in schema and "additionalProperties" not in schema and name not in _OPEN:
        return {**schema, "additionalProperties": False}
    return schema


def _pattern(address: str) -> re.Pattern[str]:
    parts = re.split(r"\{\w+\}", address)
    return re.compile("[^/]+".join(map(re.escape, parts)))


# What was promised in this test process, by base topic

_SAID: set[tuple[str, bytes]] = set()
_PROMISES: dict[str, list["_Promise"]] = {}


def _others(message: Publish) -> bool:
    """What the bridge does not say: commands, and a test's own words."""
    return "/command/" in message.topic or (message.topic, message.payload) in _SAID


class _Promise:
    def __init__(self, config: Config) -> None:
        self._config = config
        self.names = ("bridge", *config.backends)
        self._judge: Judge | None = None

    def fault(self, message: Publish) -> str | None:
        return self._made.fault(message)

    def stranger(self, message: Publish) -> str | None:
        """What is neither the bridge's nor a backend's: somebody's own word, or a response to a topic of theirs."""
        return None if _others(message) else self._made.answer(message)

    @property
    def _made(self) -> Judge:
        if self._judge is None:
            self._judge = Judge(document(self._config))
        return self._judge


def said(topic: str, payload: bytes) -> None:
    """A test's own word: nobody promised it."""
    _SAID.add((topic, payload))


def promised(file: Path, environ: Mapping[str, str]) -> None:
    """A bridge is given this configuration; one that it will refuse promises nothing."""
    try:
        promise(load(str(file), environ))
    except BadConfig:
        return


def promise(config: Config) -> None:
    """As promised(), of one that is no file."""
    _PROMISES.setdefault(config.mqtt.base_topic, []).append(_Promise(config))


def judge(messages: Iterable[Publish]) -> None:
    """Raises AssertionError for what no configuration of its base topic has promised."""
    faults: dict[str, str] = {}
    for message in messages:
        for base, promises in _PROMISES.items():
            if message.topic.startswith(f"{base}/"):
                name = message.topic[len(base) + 1 :].partition("/")[0]
                found = [one.fault(message) for one in promises if name in one.names]
                found = found or [one.stranger(message) for one in promises]
                if None not in found:
                    faults.setdefault(message.topic, f"{found[0]}\n{message.payload[:600]!r}")
    if faults:
        shown = [f"{topic}: {fault}" for topic, fault in list(faults.items())[:_SHOWN]]
        raise AssertionError(f"{len(faults)} topics are not as published (ws2mqtt asyncapi):\n" + "\n".join(shown))
