"""The small types that options are made of: durations, sizes, secrets, and the groups that several rooms share.

A Duration is seconds as a float, a Size bytes as an int: options hold plain numbers once they are read.
A Secret never shows what it holds: not in repr, not in errors, not in logs. Doors reveal it, at the moment of use.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|kB|KB|MB|GB)?")
_BYTES = {
    None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9,
}  # fmt: skip


class Duration(float):
    """Seconds. Written `500ms`, `30s`, `5m`, `24h`, `7d`."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Raises ValueError with the remedy for anything that is not a duration."""
        found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
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
        found = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
        if not found:
            raise ValueError("not a size: write it like 64KiB, 16MiB or a number of bytes")
        return cls(int(float(found[1]) * _BYTES[found[2]]))


class Rate(float):
    """Per second. Written `5/s`, `100/m`."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Raises ValueError with the remedy for anything that is not a rate."""
        number, _, unit = text.strip().partition("/") if isinstance(text, str) else ("", "", "")
        try:
            value = float(number) / {"s": 1.0, "m": 60.0, "h": 3600.0}[unit.strip()]
        except (KeyError, ValueError):
            raise ValueError("not a rate: write it like 5/s or 100/m") from None
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


def revealed(hidden: str | Secret) -> str:
    """The text, where it may be a secret. For doors, at the moment of use."""
    return hidden.reveal() if isinstance(hidden, Secret) else hidden


class Reconnect(Struct, frozen=True, forbid_unknown_fields=True):
    """Exponential back-off with full jitter between `initial` and `max` seconds."""

    initial: Duration = Duration(1.0)
    max: Duration = Duration(30.0)


class Tls(Struct, frozen=True, forbid_unknown_fields=True):
    """How the other side's certificate is checked, and which one we show."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False


class PlatformTls(Tls, frozen=True, forbid_unknown_fields=True):
    """As Tls; fingerprint: SHA-256 of the platform's certificate in hex, colons allowed: only that one is trusted."""

    fingerprint: str | None = None


class CommandOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Which commands are taken (globs over names), and how fast they go to the platform."""

    allow: tuple[str, ...] = ("*",)
    rate: Rate = Rate(5.0)


class BackfillOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """How far back a gap is filled from the platform's history; 0s: not at all."""

    max: Duration = Duration(86_400.0)


class BackendOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """What every backend takes. Subclasses add their own fields, with `tag="<type>"`.

    Durations that may be `off` are None then.
    """

    enabled: bool = True
    required: bool = False
    tls: PlatformTls = PlatformTls()
    proxy: Secret | None = None
    reconnect: Reconnect = field(default_factory=lambda: Reconnect(max=Duration(60.0)))
    ping: Duration | None = Duration(20.0)
    idle: Duration | None = None
    max_frame: Size = Size(16 * 2**20)
    ignore: tuple[str, ...] = ()
    commands: CommandOptions = CommandOptions()

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


Qos = Literal[0, 1]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class MqttOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The broker, and how messages are written for it.

    url: tried in order, the next one when one fails · keepalive: also how long a missing PUBACK is waited for.
    """

    url: tuple[str, ...] = ("mqtt://127.0.0.1:1883",)
    version: Literal["5", "3.1.1"] = "5"
    client_id: str = "ws2mqtt"
    username: str | None = None
    password: Secret | None = None
    base_topic: str = "ws2mqtt"
    qos: Qos = 1
    keepalive: Duration = Duration(30.0)
    reconnect: Reconnect = Reconnect()
    tls: Tls = Tls()
    payload: Literal["json", "msgpack"] = "json"
    envelope: Literal["structured", "binary"] = "structured"


class OutboxOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Where events wait for the broker. `path` None: in memory only. `flush` 0: written before it is published."""

    path: str | None = None
    max_bytes: Size = Size(256 * 2**20)
    max_age: Duration = Duration(86400.0)
    flush: Duration = Duration(0.05)


class HttpOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`listen`: host:port of /metrics, /livez, /readyz and the status page; None: none."""

    listen: str | None = "127.0.0.1:9108"


class LogOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """How much is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
