"""The published contract: every topic and payload as an AsyncAPI 3.0 document, made of the types that the code uses.

Nothing is said here that the code does not know: subjects and commands are those of the platforms' registry, payloads
those of the Structs that are encoded, examples what real sessions said. The tests hold every message on the wire
against it.
"""

import copy
from urllib.parse import urlsplit

from bridge import __version__
from bridge.asyncapi.channels import Backend, Channels
from bridge.asyncapi.schemas import Schema
from bridge.backends import PLATFORMS
from bridge.config import Config
from bridge.options import MqttOptions
from bridge.topics import join

_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_DESCRIPTION = """\
A bridge from WebSockets of IoT and telephony platforms to MQTT. Events are never lost silently and keep their order
per backend; states are retained, and conflated: the newest wins. A command gets one final response, on its response
topic or on its MQTT 5 Response Topic, with its Correlation Data; one that is not there is answered 404 in the same way.
"""


def document(config: Config | None = None) -> Schema:
    """Of one configuration; without one: of every platform, each as a backend of its platform's name."""
    mqtt = MqttOptions() if config is None else config.mqtt
    made = Channels(mqtt)
    made.bridge()
    for backend in _examples() if config is None else _configured(config):
        made.backend(backend)
    schemas = made.schemas.components
    del schemas["CommonFields"]  # they are among those of each command
    if mqtt.envelope == "binary":
        schemas["CloudEventAttributes"] = _attributes(schemas["CloudEvent"])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ws2mqtt",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(mqtt),
        "channels": made.channels,
        "operations": made.operations,
        "components": {
            "schemas": schemas,
            **({"securitySchemes": schemes} if (schemes := _security(mqtt)) else {}),
        },
    }


def _examples() -> list[Backend]:
    return [Backend(word, platform) for word, platform in PLATFORMS.items()]


def _configured(config: Config) -> list[Backend]:
    return [
        Backend(name, PLATFORMS[str(options.__struct_config__.tag)], options)
        for name, options in config.backends.items()
    ]


def _servers(mqtt: MqttOptions) -> Schema:
    """The brokers, and the bridge's own connection; what an address has behind `?` may be a secret, and is left out."""
    servers, schemes = {}, _security(mqtt)
    connection = {
        "clientId": mqtt.client_id,
        "cleanSession": True,
        "keepAlive": int(mqtt.keepalive),
        "lastWill": {"topic": join(mqtt.base_topic, "bridge", "state"), "qos": mqtt.qos, "retain": True},
        "bindingVersion": "0.2.0",
    }
    for number, url in enumerate(mqtt.url, 1):
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        servers["broker" if number == 1 else f"broker-{number}"] = {
            "host": f"{host}:{parts.port or _PORTS[scheme]}",
            "protocol": scheme,
            "protocolVersion": mqtt.version,
            **({"pathname": parts.path or "/mqtt"} if scheme in ("ws", "wss") else {}),
            **({"security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in schemes]} if schemes else {}),
            "bindings": {"mqtt": connection},
        }
    return servers


def _security(mqtt: MqttOptions) -> Schema:
    """What the bridge shows to the broker."""
    account: Schema = {"account": {"type": "userPassword"}} if mqtt.username else {}
    return account | ({"certificate": {"type": "X509"}} if mqtt.tls.cert_file else {})


def _attributes(cloud: Schema) -> Schema:
    """The envelope as MQTT 5 user properties, which are all texts."""
    made = copy.deepcopy(cloud)
    del made["properties"]["data"]
    made["properties"]["replay"] = {"description": made["properties"]["replay"]["description"], "enum": ["true"]}
    made["required"] = [name for name in made["required"] if name != "data"]
    return made
