"""What `run` says first, in five lines: what it is, the broker, the platforms, where events wait, who may look.

Of an address only host and port: the rest of it may be a secret.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from bridge import __version__
from bridge.config import Config
from bridge.options import BackendOptions, plain, revealed, written

Fields = dict[str, object]


def opening(config: Config, standby_for: str | None) -> Iterator[tuple[str, Fields]]:
    """Each line as a message and its fields. standby_for: the lease, where there are several replicas."""
    mqtt, outbox, http = config.mqtt, config.outbox, config.http.listen
    names = ",".join(config.backends) or "none"
    brokers = ",".join(plain(url) for url in mqtt.url)
    memory = outbox.path is None
    yield "started", {
        "version": __version__, "config": config.file or None, "backends": names, "standby_for": standby_for,
    }  # fmt: skip
    yield "broker", {
        "mqtt": brokers, "mqtt_version": mqtt.version, "base_topic": mqtt.base_topic, "client_id": mqtt.client_id,
    }  # fmt: skip
    yield "platforms", {"platforms": "; ".join(_told(*one) for one in config.backends.items()) or "none"}
    yield (
        "outbox in memory only: a crash loses what waits" if memory else "outbox on disk",
        {"path": outbox.path, "max_bytes": written(outbox.max_bytes), "max_age": written(outbox.max_age)},
    )
    yield "status page, metrics and health" if http else "no status page, no metrics", {"http": http or "off"}


def _told(name: str, options: BackendOptions) -> str:
    """`lora: resiot at resiot.example, commands: all`."""
    allow = options.commands.allow
    commands = "all" if "*" in allow else " ".join(allow) or "none"
    off = "" if options.enabled else ", disabled"
    return f"{name}: {options.__struct_config__.tag} at {_host(options)}, commands: {commands}{off}"


def _host(options: BackendOptions) -> str:
    try:
        return urlsplit(revealed(getattr(options, "url", ""))).netloc.rpartition("@")[2] or "?"
    except (OSError, ValueError):  # a file that is gone, or what is in it now
        return "?"
