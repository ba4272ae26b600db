"""The configuration: a YAML file, the environment over it, secrets in files; all problems at once.

The Options of every room and platform say which keys there are (reader.py reads by their types); here is what holds
between keys. A platform's own rules are `check` of its Options. No message shows a value that could be a secret.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import singledispatch
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Struct, field

from bridge.backends import PLATFORMS
from bridge.backends.session import Platform
from bridge.config.leaves import Wrong, interpolate, like, unreadable
from bridge.config.overrides import override
from bridge.config.reader import Reader, keys
from bridge.config.yamlfile import NULL, Scalar, Tree, below, parse, read
from bridge.errors import BadConfig, Problem
from bridge.options import (
    BackendOptions,
    Duration,
    HttpOptions,
    LogOptions,
    MqttOptions,
    Name,
    OutboxOptions,
    PlatformTls,
    Reconnect,
    Secret,
    Tls,
    about,
    address_fault,
)

Platforms = Mapping[str, Platform]

RESERVED = "bridge"  # its topics are the bridge's own
LISTEN_ENV = "WS2MQTT_LISTEN"  # http.listen where nothing says it: loopback is of no use in a container
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_LISTEN = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]@]+):([0-9]{1,5})")
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31}")
_MAX_NAME = 1024  # bytes of base_topic and client_id: the rest of a topic has to find room, too
_PROXIES = ("http", "https", "socks5", "socks5h", "socks4")


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """The file's keys, but for the backends."""

    mqtt: Annotated[MqttOptions, about("the broker, and how messages are written for it")] = MqttOptions()
    outbox: Annotated[OutboxOptions, about("where events wait for the broker")] = OutboxOptions()
    http: Annotated[HttpOptions, about("metrics, health and status page")] = HttpOptions()
    log: Annotated[LogOptions, about("the log, on standard error")] = LogOptions()
    shutdown_grace: Annotated[Duration, about("on SIGTERM: the longest time to publish what waits")] = Duration(20.0)


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """What the program is told. warnings: what is allowed but hardly meant, as `path: message` · file: where it is."""

    backends: dict[Name, BackendOptions] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    file: str = ""


def load(path: str, environ: Mapping[str, str], platforms: Platforms = PLATFORMS) -> Config:
    """The configuration of a file, checked. Raises BadConfig with every problem there is."""
    return msgspec.structs.replace(load_text(read(path), environ, platforms), file=path)


def load_text(text: str, environ: Mapping[str, str], platforms: Platforms = PLATFORMS) -> Config:
    """As load(), of what a file holds."""
    problems: list[Problem] = []
    tree = parse(text, problems)
    root = {**keys(Settings), "backends": dict[str, BackendOptions]}
    tree = override(tree, environ, root, lambda one: _options_of(one, environ, platforms), problems)
    reader = Reader(environ, problems, lambda made, bad: [*faults(made, bad), *_not_events(made, platforms)])
    settings = reader.struct(Settings, tree, "", base=_defaults(reader, environ, problems), known={"backends": UNSET})
    given = tree.get("backends", NULL) if isinstance(tree, dict) else NULL
    backends = _backends(given, reader, environ, platforms)
    if problems:
        raise BadConfig(problems)
    return Config(**_fields(settings), backends=backends, warnings=tuple(_warnings(settings, backends)))


def _defaults(reader: Reader, environ: Mapping[str, str], problems: Collection[Problem]) -> Settings:
    listen = Scalar(environ.get(LISTEN_ENV, "").strip(), source=LISTEN_ENV)
    http = reader.struct(HttpOptions, {"listen": listen}, "http")
    return Settings() if problems else Settings(http=http)


def secrets(config: Config) -> list[Secret]:
    """Every secret of it, for redaction."""
    return list(_secrets(config))


def describe(problems: Iterable[Problem], path: str) -> str:
    """One line per problem, and one that counts them. path: the file's name."""
    lines = [in_one_line(f"{problem.path or path}: {problem.message}") for problem in problems]
    return "\n".join([*lines, in_one_line(counted(len(lines), "problem", path))])


def counted(number: int, what: str, path: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'} in {path}"


def in_one_line(text: str) -> str:
    """Such that every terminal can print it, and nothing steers one."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


def _fields(one: Struct) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def _secrets(value: object) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Struct):
        yield from _secrets(_fields(value))
    elif isinstance(value, Mapping):
        yield from _secrets(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _secrets(one)


# The backends


def _backends(tree: Tree, reader: Reader, environ: Mapping[str, str], platforms: Platforms) -> dict[str, Any]:
    if isinstance(tree, Scalar) and (tree.kind == "null" or not tree.text):
        return {}
    if not isinstance(tree, dict):
        reader.complain("backends", "must be a mapping of names to backends", tree)
        return {}
    found = {}
    for name, one in tree.items():
        at = below("backends", name)
        if not _NAME.fullmatch(name):
            said = "not a backend's name: 1 to 32 of a-z, 0-9 and '-', not beginning with '-'"
            reader.complain(at, said, spot="key")
        if name == RESERVED:
            reader.complain(at, "this name is reserved: take another", spot="key")
        found[name] = _backend(one, at, reader, environ, platforms)
    _alone(found, reader)
    return found


def _alone(found: Mapping[str, Any], reader: Reader) -> None:
    """What a platform gives to one client at a time is used by one backend."""
    holders: dict[tuple[str, ...], str] = {}
    for name, one in found.items():
        mine = one.exclusive if isinstance(one, BackendOptions) and one.enabled else None
        if mine is not None and (other := holders.setdefault(mine, name)) != name:
            at = below("backends", name)
            said = f"has the same {mine[0]} as {below('backends', other)}: the platform serves one only"
            reader.complain(at, said, spot="key")


def _backend(tree: Tree, at: str, reader: Reader, environ: Mapping[str, str], platforms: Platforms) -> object:
    if isinstance(tree, Scalar) and not tree.text:
        tree = {}
    if not isinstance(tree, dict):
        return reader.complain(at, "must be a mapping of keys to values", tree)
    options = _options_of(tree, environ, platforms)
    if options is not None:
        return reader.struct(options, tree, at, known={"type": UNSET})
    kind, known = tree.get("type", NULL), f" (one of: {', '.join(platforms)})"
    try:
        word = _word(kind, environ)
        said = (f"unknown type{like(word, platforms)}" if word else "is required") + known
    except Wrong as error:
        said = str(error)
    return reader.complain(below(at, "type"), said, kind)


def _options_of(tree: Tree, environ: Mapping[str, str], platforms: Platforms) -> type[BackendOptions] | None:
    """The Options of a backend's type; None where it is not given or not known."""
    try:
        word = _word(tree.get("type", NULL), environ) if isinstance(tree, dict) else ""
    except Wrong:
        return None
    return platforms[word].options if word in platforms else None


def _word(kind: Tree, environ: Mapping[str, str]) -> str:
    """The type as a text, "" where it is not set. Raises Wrong."""
    if not isinstance(kind, Scalar):
        raise Wrong("must be a text, not a list or a mapping")
    if kind.kind == "null":
        return ""
    return kind.text if kind.source else interpolate(kind.text, environ)


def _not_events(made: Struct, platforms: Platforms) -> Iterator[tuple[str, str]]:
    """What is to be ignored must be something that the platform says."""
    for platform in platforms.values():
        if isinstance(made, BackendOptions) and platform.options is type(made) and not platform.names_types:
            for number, event in enumerate(made.ignore):
                if event not in platform.events:
                    yield f"ignore[{number}]", f"unknown event type{like(event, platform.events)}"


# What holds between keys, and within them beyond their types: (path below, message)


@singledispatch
def faults(made: Struct, bad: Collection[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with Options that were read; fields named in `bad` hold a stand-in."""
    yield from ()


@faults.register
def _(made: MqttOptions, bad: Collection[str]) -> Iterator[tuple[str, str]]:
    if not made.url:
        yield "url", "must name at least one broker"
    for number, url in enumerate(made.url):
        fault = _broker_fault(url)
        if fault:
            yield "url" if len(made.url) == 1 else f"url[{number}]", fault
    if not 1 <= made.keepalive <= 65535:
        yield "keepalive", "must be between 1s and 65535s"
    if not made.client_id.strip() or len(made.client_id.encode()) > _MAX_NAME:
        yield "client_id", f"must not be blank, and at most {_MAX_NAME} bytes long"
    fault = _topic_fault(made.base_topic)
    if fault:
        yield "base_topic", fault


def _broker_fault(url: str) -> str | None:
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if "@" in host or "@" in rest.partition("?")[0] or ("@" in url and not slash):
        return "has user info in it: give mqtt.username and mqtt.password instead"
    if scheme.lower() in ("mqtt", "mqtts") and (path or "?" in host):
        return "has a path or a query: only ws:// and wss:// take one (topics begin with mqtt.base_topic)"
    return address_fault(url, ("mqtt", "mqtts", "ws", "wss"))


def _topic_fault(topic: str) -> str | None:
    if re.search(r"[+#]", topic):
        return "has a wildcard (+ or #) in it"
    if topic.startswith("$"):
        return "begins with $: those topics are the broker's own"
    if not all(topic.split("/")):
        return "has an empty level: no / at either end, none doubled"
    if re.search(r"[\x00-\x1f\x7f-\x9f]", topic):
        return "has control characters in it"
    return f"must be at most {_MAX_NAME} bytes long" if len(topic.encode()) > _MAX_NAME else None


@faults.register
def _(made: Tls, bad: Collection[str]) -> Iterator[tuple[str, str]]:
    for name in ("ca_file", "cert_file", "key_file"):
        path = getattr(made, name)
        fault = unreadable(path) if path is not None else None
        if fault:
            yield name, fault
    if not {"cert_file", "key_file"} & set(bad):
        if made.cert_file and not made.key_file:
            yield "cert_file", "needs key_file beside it"
        if made.key_file and not made.cert_file:
            yield "key_file", "needs cert_file beside it"
    if isinstance(made, PlatformTls) and made.fingerprint and not _FINGERPRINT.fullmatch(made.fingerprint):
        yield "fingerprint", "must be SHA-256 in hex: 64 digits, colons between them or not"


@faults.register
def _(made: Reconnect, bad: Collection[str]) -> Iterator[tuple[str, str]]:
    if made.initial <= 0:
        yield "initial", "must be longer than 0s"
    if made.max <= 0:
        yield "max", "must be longer than 0s"
    elif made.initial > made.max and not bad:
        yield "initial", "must not be longer than max"


@faults.register
def _(made: OutboxOptions, bad: Collection[str]) -> Iterator[tuple[str, str]]:
    if made.path is not None and not made.path.strip():
        yield "path", "must name a folder; null or left out: events wait in memory only"
    if made.max_bytes <= 0:
        yield "max_bytes", "must be above 0"
    if made.max_age <= 0:
        yield "max_age", "must be longer than 0s"


@faults.register
def _(made: HttpOptions, bad: Collection[str]) -> Iterator[tuple[str, str]]:
    found = _LISTEN.fullmatch(made.listen) if made.listen is not None else None
    if made.listen is not None and not (found and 1 <= int(found[1]) <= 65535):
        yield "listen", "must be host:port like 127.0.0.1:9108, port 1 to 65535 (0.0.0.0 is every address), or off"


@faults.register
def _(made: BackendOptions, bad: Collection[str]) -> Iterator[tuple[str, str]]:
    if made.max_frame <= 0:
        yield "max_frame", "must be above 0"
    fault = address_fault(made.proxy.reveal(), _PROXIES) if made.proxy is not None else None
    if fault:
        yield "proxy", fault
    yield from made.check()


# What is allowed, but hardly meant


def _warnings(settings: Settings, backends: Mapping[str, BackendOptions]) -> Iterator[str]:
    if not backends:
        yield "backends: none: nothing will be bridged"
    mqtt = settings.mqtt
    if mqtt.tls != Tls() and not any(_is_tls(url) for url in mqtt.url):
        yield "mqtt.tls: has no effect: mqtt.url does not begin with mqtts:// or wss://"
    if mqtt.password is not None and mqtt.username is None:
        yield "mqtt.password: has no effect without mqtt.username"
    for name, backend in backends.items():
        url = getattr(backend, "url", None)
        address = url.reveal() if isinstance(url, Secret) else url
        if isinstance(address, str) and backend.tls != PlatformTls() and not _is_tls(address):
            yield f"backends.{name}.tls: has no effect: the url does not begin with wss:// or https://"
        yield from (f"backends.{name}.{key}: {message}" for key, message in backend.warnings())


def _is_tls(url: str) -> bool:
    return url.partition("://")[0].lower() in ("mqtts", "wss", "https")
