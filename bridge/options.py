"""The small types that options are made of: durations, sizes, secrets, and the groups that several rooms share.

A Duration is seconds as a float, a Size bytes as an int: options hold plain numbers once they are read.
A Secret never shows what it holds: not in repr, not in errors, not in logs. Doors reveal it, at the moment of use.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field
from msgspec.structs import fields

DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(B|KiB|MiB|GiB|kB|KB|MB|GB)?")
RATE = re.compile(r"([^\s/]+)\s*/\s*(s|m|h)")
_BYTES = {
    None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9,
}  # fmt: skip


class Duration(float):
    """Seconds. Written `500ms`, `30s`, `5m`, `24h`, `7d`."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Raises ValueError with the remedy for anything that is not a duration."""
        found = DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
        if not found:
            raise ValueError("not a duration: write it like 500ms, 30s, 5m or 24h")
        return cls(float(found[1]) * _SECONDS[found[2]])


class Size(int):
    """Bytes. Written `64KiB`, `16MiB`, or a plain number of bytes."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Raises ValueError with the remedy for anything that is not a size."""
        if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
            return cls(text)
        found = SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
        if not found:
            raise ValueError("not a size: write it like 64KiB, 16MiB or a number of bytes")
        return cls(int(float(found[1]) * _BYTES[found[2]]))


class Rate(float):
    """Per second. Written `5/s`, `100/m`."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Raises ValueError with the remedy for anything that is not a rate."""
        found = RATE.fullmatch(text.strip()) if isinstance(text, str) else None
        try:
            value = float(found[1]) / _SECONDS[found[2]] if found else 0.0
        except ValueError:
            found = None
        if not found:
            raise ValueError("not a rate: write it like 5/s or 100/m")
        if not value > 0:
            raise ValueError("not a rate above zero: write it like 5/s or 100/m")
        return cls(value)


class Secret:
    """A text that must not be seen, or the file that holds it.

    A file is read anew at every use, so that a rotated secret is taken without a restart; its final newline is removed.
    """

    __slots__ = ("_file", "_text")

    def __init__(self, text: str = "", file: str | None = None) -> None:
        self._text, self._file = text, file

    def reveal(self) -> str:
        """The text itself. Raises OSError where the file cannot be read."""
        if self._file is None:
            return self._text
        return Path(self._file).read_text("utf-8").removesuffix("\n").removesuffix("\r")

    @property
    def file(self) -> str | None:
        """The file's name, where the secret is in a file."""
        return self._file

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self._text, self._file) == (other._text, other._file)

    def __hash__(self) -> int:
        return hash((self._text, self._file))


def address_fault(url: str, schemes: tuple[str, ...]) -> str | None:
    """What is wrong with an address and the remedy, None where nothing is. Never shows the address."""
    remedy = "begin with " + " or ".join(f"{scheme}://" for scheme in schemes)
    scheme, found, _ = url.partition("://")
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        return "has spaces or control characters in it"
    if not found:
        return f"no scheme; {remedy}"
    if scheme.lower() not in schemes:
        return f"wrong scheme; {remedy}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "not an address: look at its host and port (a port is 1 to 65535)"
    if not host or re.search(r"[,\\]", host):
        return "no host; write scheme://host:port, one address each"
    if port == 0:
        return "not an address: look at its host and port (a port is 1 to 65535)"
    return "has a #; write %23 where one is meant" if "#" in url else None


def plain(url: str) -> str:
    """An address without its query, where there may be a token."""
    return url.partition("?")[0]


def revealed(hidden: str | Secret) -> str:
    """The text, where it may be a secret. For doors, at the moment of use."""
    return hidden.reveal() if isinstance(hidden, Secret) else hidden


def about(text: str) -> Meta:
    """What a key is for: the one place that says it, for `ws2mqtt schema` and the editors that read that."""
    return Meta(description=text)


class Reconnect(Struct, frozen=True, forbid_unknown_fields=True):
    """Exponential back-off with full jitter."""

    initial: Annotated[Duration, about("the longest wait before the second try; it doubles with each further one")] = (
        Duration(1.0)
    )
    max: Annotated[Duration, about("the longest wait of all")] = Duration(30.0)


class Tls(Struct, frozen=True, forbid_unknown_fields=True):
    """How the other side's certificate is checked, and which one we show."""

    ca_file: Annotated[str | None, about("PEM file of the authorities to trust; left out: the system's")] = None
    cert_file: Annotated[str | None, about("PEM file of a client certificate, together with key_file")] = None
    key_file: Annotated[str | None, about("PEM file of the client certificate's key")] = None
    insecure: Annotated[bool, about("true: the other side's certificate is not checked")] = False


class PlatformTls(Tls, frozen=True, forbid_unknown_fields=True):
    """As tls of mqtt, or by fingerprint."""

    fingerprint: Annotated[
        str | None, about("SHA-256 of the platform's certificate in hex, colons allowed: only that one is trusted then")
    ] = None


class CommandOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Which commands are taken, and how fast they go to the platform."""

    allow: Annotated[tuple[str, ...], about("globs over names of commands, e.g. [downlink]; []: none")] = ("*",)
    rate: Annotated[Rate, about("commands of one second go at once; up to 100 more wait in line")] = Rate(5.0)


class BackfillOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """How a gap is filled from the platform's history."""

    max: Annotated[Duration, about("how far back; 0s: not at all")] = Duration(86_400.0)


class BackendOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """What every backend takes. Subclasses add their own fields, with `tag="<type>"`.

    Durations that may be `off` are None then.
    """

    enabled: Annotated[bool, about("false: state `disabled`, no connection to the platform")] = True
    required: Annotated[bool, about("true: /readyz waits for it")] = False
    tls: Annotated[PlatformTls, about("TLS towards the platform")] = PlatformTls()
    proxy: Annotated[Secret | None, about("http:// https:// socks5:// socks5h:// or socks4:// address")] = None
    reconnect: Annotated[Reconnect, about("back-off towards the platform")] = field(
        default_factory=lambda: Reconnect(max=Duration(60.0))
    )
    ping: Annotated[
        Duration | None, about("a WebSocket ping so often; no pong within the same time: the link is dead; off: none")
    ] = Duration(20.0)
    idle: Annotated[Duration | None, about("reconnect after so long without a frame; off: never")] = None
    max_frame: Annotated[Size, about("a larger frame is a dead frame; one above four times that ends the link")] = Size(
        16 * 2**20
    )
    ignore: Annotated[tuple[str, ...], about("event types that are not published, only counted")] = ()
    commands: Annotated[CommandOptions, about("commands for this backend")] = CommandOptions()

    @property
    def exclusive(self) -> tuple[str, ...] | None:
        """What the platform gives to one client at a time: its name ("url and username"), then what it is (no secrets).

        Two enabled backends with equal ones are a problem. None: there is no such thing.
        """
        return None

    def check(self) -> Iterable[tuple[str, str]]:
        """What is wrong beyond types, as (key, message with the remedy); secrets may be revealed, never shown.

        Secrets in files can be read when this is called; a field that was wrong by itself holds a stand-in of its type.
        """
        return ()

    def warnings(self) -> Iterable[tuple[str, str]]:
        """What is allowed, but hardly meant, as check() has it; asked only where nothing is wrong."""
        return ()


def from_text(kind: type, value: object) -> object:
    """For msgspec: makes our types of what JSON has. Raises ValueError with the remedy."""
    if issubclass(kind, Duration | Size | Rate):
        return kind.parse(value)
    raise NotImplementedError(f"{kind} is not made of JSON")


def written(value: object) -> object:
    """An option as a configuration file would have it, in what JSON has; None for a secret."""
    if isinstance(value, Struct):
        return {field.encode_name: written(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: written(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [written(one) for one in value]
    if isinstance(value, Duration):
        return _measure(value, {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001})
    if isinstance(value, Size):
        return _measure(value, {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "": 1})
    if isinstance(value, Rate):
        return _measure(value, {"/s": 1.0, "/m": 1 / 60.0, "/h": 1 / 3600.0})
    return None if isinstance(value, Secret) else value


def _measure(value: float, units: Mapping[str, float]) -> str:
    """In the largest unit of which it is a whole number above one, or in the unit itself: 24h, but 60s."""
    for unit, one in units.items():
        number = round(value / one, 6)
        if number.is_integer() and (number > 1 or one == 1):
            return f"{number:.0f}{unit}"
    return f"{value / one:g}{unit}"


Qos = Literal[0, 1]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class MqttOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The broker, and how messages are written for it."""

    url: Annotated[
        tuple[str, ...],
        about("mqtt:// mqtts:// ws:// or wss:// address, or a list of them: the next one is tried when one fails"),
    ] = ("mqtt://127.0.0.1:1883",)
    version: Annotated[Literal["5", "3.1.1"], about("of the MQTT protocol")] = "5"
    client_id: Annotated[
        str, about("of the bridge's own connection; each backend has one more: <client_id>-<backend>")
    ] = "ws2mqtt"
    username: Annotated[str | None, about("of the broker's account")] = None
    password: Annotated[Secret | None, about("of the broker's account")] = None
    base_topic: Annotated[str, about("every topic begins with it; it may have several levels")] = "ws2mqtt"
    qos: Annotated[Qos, about("of events and states")] = 1
    keepalive: Annotated[Duration, about("1s to 65535s; also how long a missing PUBACK is waited for")] = Duration(30.0)
    reconnect: Annotated[Reconnect, about("back-off towards the broker")] = Reconnect()
    tls: Annotated[Tls, about("TLS towards the broker, for mqtts:// and wss://")] = Tls()
    payload: Annotated[Literal["json", "msgpack"], about("how events are written")] = "json"
    envelope: Annotated[
        Literal["structured", "binary"],
        about("of events: attributes and data in one payload, or the attributes as MQTT 5 user properties"),
    ] = "structured"


class OutboxOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Where events wait for the broker."""

    path: Annotated[
        str | None, about("a folder, of this process alone; left out: in memory only, a crash loses what waits")
    ] = None
    max_bytes: Annotated[Size, about("per backend; when full the oldest event is dropped and counted")] = Size(
        256 * 2**20
    )
    max_age: Annotated[Duration, about("an event that waited longer is dropped and counted")] = Duration(86400.0)
    flush: Annotated[
        Duration,
        about("with a path: the longest time an unacknowledged event lives in memory only; 0s: written first"),
    ] = Duration(0.05)


class HttpOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Metrics, health and status page."""

    listen: Annotated[str | None, about("host:port of /metrics, /livez, /readyz and the status page; off: none")] = (
        "127.0.0.1:9108"
    )


class LogOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The log, on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], about("the least that is logged")] = "info"
    format: Annotated[Literal["text", "json"], about("of its lines")] = "text"
