"""One backend, and the bridge itself, as channels, messages and operations of an AsyncAPI document."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any, get_args

import msgspec
from msgspec import Struct, field

from bridge.about import BRIDGE_SPECS, BridgeInfo, BridgeState, Health
from bridge.asyncapi.schemas import Schema, Schemas
from bridge.backends.session import CommandSpec, Gap, Platform, Subject
from bridge.commands import CODES, COMMON, CommonFields, ResponsePayload
from bridge.model import UnreadReason
from bridge.options import BackendOptions, MqttOptions
from bridge.payloads import CloudEvent
from bridge.state_topic import BackendState
from bridge.topics import join, matches

SHARED = (CloudEvent, ResponsePayload, CommonFields, BackendState, Gap, BridgeState, BridgeInfo, Health)
_LEVEL = re.compile(r"\{(\w+)\}")
_JSON = "application/json"
_ID = {"location": "$message.payload#/id", "description": "the sender's own; on MQTT 5 there is Correlation Data, too"}
_EXTRA = {"type": "object", "description": "the platform's fields that have no name here, under their own names"}
_CLEARED = "; zero-length when the subject is gone or has another name"
# By channel, each backend called as its platform: what real sessions made of frames, and commands. The tests make it.
EXAMPLES: dict[str, Any] = msgspec.json.decode((files(__package__) / "examples.json").read_bytes())
_PARAMETER = (
    "one level of the topic: any text, with % + # /, control characters and noncharacters percent-encoded, "
    "% alone for none"
)


class Backend(Struct, frozen=True):
    """One to be described; options None: any of that platform."""

    name: str
    platform: Platform
    options: BackendOptions | None = None

    def commands(self) -> Iterable[CommandSpec]:
        """Those that are allowed."""
        if self.options is None:
            return (*self.platform.commands, *COMMON)
        specs, allow = (*self.platform.commands_of(self.options), *COMMON), self.options.commands.allow
        return [spec for spec in specs if any(fnmatchcase(spec.name, one) for one in allow)]

    def told(self, event: str) -> bool:
        return self.options is None or event not in self.options.ignore


class Channels(Struct):
    """channels and operations: as the document has them."""

    mqtt: MqttOptions
    schemas: Schemas = field(default_factory=Schemas)
    channels: dict[str, Schema] = field(default_factory=dict)
    operations: dict[str, Schema] = field(default_factory=dict)

    def bridge(self) -> None:
        """`<base>/bridge/…`."""
        self.schemas.add("", dict.fromkeys((*SHARED, *_types(BRIDGE_SPECS))))
        self.schemas.named(ResponsePayload)["allOf"] = [_goes_with(status, codes) for status, codes in CODES.items()]
        for name, kind in (("state", BridgeState), ("info", BridgeInfo)):
            self._says(("bridge", name), "bridge", name, _message(self.schemas.of(kind)), retain=True)
        self._says(("bridge", "health"), "bridge", "health", _message(self.schemas.of(Health)))
        for spec in BRIDGE_SPECS:
            self._command("bridge", spec, "", "")

    def backend(self, one: Backend) -> None:
        """`<base>/<backend>/…`."""
        word, subjects, specs = one.platform.word, one.platform.subjects, list(one.commands())
        scope = word if one.options is None or not one.platform.own_commands(one.options) else one.name
        self._types(scope, subjects, specs)
        state = _message(self.schemas.of(BackendState), "how the backend stands with its platform; also the will")
        self._says((one.name, "state"), one.name, "state", state, retain=True)
        self._event(one, "", "gap", self.schemas.of(Gap))
        for subject in subjects:
            self._subject(one, subject, scope)
        dead = {"summary": "a frame that could not be read, as received, cut at 64 KiB", "contentType": _ANY}
        reasons = {"reason": {"enum": sorted(get_args(UnreadReason)), "description": "why"}}
        self._says((one.name, "dead"), one.name, "dead/{reason}", dead, parameters=reasons, qos=0)
        for spec in specs:
            shared = "" if spec in COMMON else scope
            levels = next((s.levels for s in subjects if s.levels and matches(spec.subject, _pattern(s.levels))), "")
            self._command(one.name, spec, levels, shared)

    def _types(self, scope: str, subjects: Iterable[Subject], specs: Iterable[CommandSpec]) -> None:
        events = [kind for subject in subjects for kind in subject.events.values() if kind is not Any]
        states = [subject.state for subject in subjects if subject.state is not None]
        own = [spec for spec in specs if spec not in COMMON]
        self.schemas.add(scope, dict.fromkeys((*events, *states, *_types(own))))
        for kind in events:
            told = self.schemas.named(kind, scope)
            told["properties"].setdefault("extra", _EXTRA)
            if (tag := kind.__struct_config__.tag_field) is not None:
                told["properties"][tag]["description"] = "which event it is, in the platform's word"
            told.pop("additionalProperties", None)

    def _subject(self, one: Backend, subject: Subject, scope: str) -> None:
        for kind, data in subject.events.items():
            if one.told(kind):
                self._event(one, subject.levels, kind, self.schemas.of(data, scope))
        if subject.others:
            self._event(one, subject.levels, "{type}", {"type": "object"})
        if subject.state is not None:
            said = _message(self.schemas.of(subject.state, scope), f"the latest picture{_CLEARED}")
            place = (one.name, _slug(subject.levels), "state")
            said |= _examples(_named(one.platform.word, *place[1:]))
            self._says(place, one.name, join(subject.levels, "state"), said, retain=True)

    def _event(self, one: Backend, levels: str, kind: str, data: Schema) -> None:
        source = join(self.mqtt.base_topic, one.name)
        told = f"{one.platform.word}.{kind}"
        typed = {"pattern": f"^{re.escape(one.platform.word)}\\."} if "{" in kind else {"const": told}
        attributes: Schema = {"source": {"const": f"/{source}"}, "type": typed}
        absent = {} if levels else {"not": {"required": ["subject"]}}
        name = kind.strip("{}")
        title = _named(one.platform.word, _slug(levels), "event", name)  # generators name types by it
        said = _event_message(self.mqtt, title, attributes, data, levels, absent) | {"name": told}
        if title in EXAMPLES:
            said["examples"] = [_event_example(self.mqtt, {**EXAMPLES[title], "source": f"/{source}"})]
        self._says((one.name, _slug(levels), "event", name), one.name, join(levels, "event", kind), said)

    def _command(self, where: str, spec: CommandSpec, levels: str, scope: str) -> None:
        place = (where, _slug(levels))
        body = self.schemas.named(spec.body, scope)
        body["properties"] = {**body["properties"], **self.schemas.named(CommonFields)["properties"]}
        told = _message(self.schemas.of(spec.body, scope)) | {"name": spec.name, "correlationId": _ID}
        told |= _examples(_named(scope, place[1], "command", spec.name))
        statuses = [one for one in CODES if spec.sent or 202 not in CODES[one]]
        answer: Schema = {"properties": {"command": {"const": spec.name}, "status": {"enum": statuses}}}
        if spec.result is None:
            answer["not"] = {"required": ["data"]}
        else:
            answer["properties"]["data"] = self.schemas.of(spec.result, scope)
        name = _named(scope, spec.name, "response")
        payload = {"title": name, "allOf": [self.schemas.of(ResponsePayload), answer]}
        said = _message(payload) | {"name": f"{spec.name}.response", "correlationId": _ID}
        said["examples"] = [_rejected(spec.name)]
        response = self._channel((*place, "response", spec.name), where, join(levels, "response", spec.name), said)
        command = self._channel((*place, "command", spec.name), where, join(levels, "command", spec.name), told)
        self.operations[command] = {
            "action": "receive",
            **_channel_and_messages(command),
            "reply": _channel_and_messages(response),
            "bindings": {"mqtt": {"qos": 1, "retain": False, "bindingVersion": "0.2.0"}},
        }

    def _says(
        self,
        place: tuple[str, ...],
        where: str,
        path: str,
        message: Schema,
        *,
        retain: bool = False,
        parameters: Schema | None = None,
        qos: int | None = None,
    ) -> None:
        """Something that the bridge publishes."""
        name = self._channel(place, where, path, message, parameters)
        quality = self.mqtt.qos if qos is None else qos
        self.operations[name] = {
            "action": "send",
            **_channel_and_messages(name),
            "bindings": {"mqtt": {"qos": quality, "retain": retain, "bindingVersion": "0.2.0"}},
        }

    def _channel(
        self, place: tuple[str, ...], where: str, path: str, message: Schema, parameters: Schema | None = None
    ) -> str:
        name = _named(*place)
        found = parameters or {level: {"description": _PARAMETER} for level in _LEVEL.findall(path)}
        base = self.mqtt.base_topic
        if "{" in base or "}" in base:  # an address cannot quote them, and would take them for a parameter's
            found = {"base_topic": {"enum": [base], "default": base, "description": "mqtt.base_topic"}} | found
            base = "{base_topic}"
        address = join(base, where, path)
        made: Schema = {"address": address, "messages": {"message": message}}
        self.channels[name] = made | ({"parameters": found} if found else {})
        return name


_ANY = "application/octet-stream"


def _types(specs: Iterable[CommandSpec]) -> Iterable[Any]:
    for spec in specs:
        yield spec.body
        if spec.result not in (None, Any):
            yield spec.result


def _pattern(levels: str) -> str:
    return _LEVEL.sub("+", levels)


def _slug(levels: str) -> str:
    """A subject's fixed levels: `application/{app_eui}/device/{dev_eui}` → `application-device`."""
    return "-".join(level for level in levels.split("/") if level and not _LEVEL.fullmatch(level))


def _message(payload: Schema, summary: str = "") -> Schema:
    return {**({"summary": summary} if summary else {}), "contentType": _JSON, "payload": payload}


def _named(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _goes_with(status: str, codes: Iterable[int]) -> Schema:
    """What a response with this status says besides; 202 is not final, and what went well has no error."""
    well = 200 in codes or 202 in codes
    final = {"if": _is({"code": 202}), "then": _is({"final": False}), "else": _is({"final": True})}
    error = {"not": {"required": ["error"]}} if well else {"required": ["error"]}
    return {"if": _is({"status": status}), "then": {"properties": {"code": {"enum": [*codes]}}, **error, **final}}


def _is(values: Schema) -> Schema:
    return {"properties": {name: {"const": value} for name, value in values.items()}}


def _examples(name: str) -> Schema:
    return {"examples": [{"payload": EXAMPLES[name]}]} if name in EXAMPLES else {}


def _event_example(mqtt: MqttOptions, event: Schema) -> Schema:
    """In the form in which events are written; MessagePack as the JSON that it stands for."""
    if mqtt.envelope == "structured":
        return {"payload": event}
    attributes = {name: value for name, value in event.items() if name != "data"}
    headers = {"headers": attributes | ({"replay": "true"} if "replay" in event else {})}
    return {"payload": event["data"], **(headers if mqtt.version == "5" else {})}


def _rejected(command: str) -> Schema:
    """The example that every command has."""
    error = {"kind": "invalid_field", "message": "timeout: not a duration", "field": "timeout", "value": 300}
    told = {"command": command, "status": "rejected", "final": True, "code": 400, "time": "2024-03-05T07:16:30.101222Z"}
    return {"name": "rejected", "summary": "not carried out", "payload": {**told, "id": "abc", "error": error}}


def _event_message(
    mqtt: MqttOptions, title: str, attributes: Schema, data: Schema, levels: str, absent: Schema
) -> Schema:
    """By the form in which events are written."""
    form = "msgpack" if mqtt.payload == "msgpack" else "json"
    required = {"required": ["subject"]} if levels else absent
    cloud = {"$ref": "#/components/schemas/CloudEvent"}
    if mqtt.envelope == "structured":
        payload = {"title": title, "allOf": [cloud, {"properties": {**attributes, "data": data}, **required}]}
        return {"contentType": f"application/cloudevents+{form}", "payload": payload}
    message: Schema = {"contentType": f"application/{form}", "payload": data}
    if mqtt.version == "5":
        headers = {"$ref": "#/components/schemas/CloudEventAttributes"}
        message["headers"] = {"type": "object", "allOf": [headers, {"properties": attributes, **required}]}
    return message


def _channel_and_messages(name: str) -> Schema:
    return {
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/message"}],
    }
