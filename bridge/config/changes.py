"""What differs between two configurations, as a reload sees it."""

from msgspec import Struct

from bridge.config import Config

_GROUPS = ("mqtt", "outbox", "http", "log", "shutdown_grace")
_WRITTEN = ("base_topic", "payload", "envelope")  # of mqtt: what is in the messages themselves


class Changes(Struct, frozen=True):
    """groups: of keys · the others: names of backends; retyped: gone, or another platform's now."""

    groups: list[str]
    removed: list[str]
    added: list[str]
    changed: list[str]
    retyped: list[str]


def changes(old: Config, new: Config) -> Changes:
    """From one to the other."""
    removed = [name for name in old.backends if name not in new.backends]
    kept = [name for name in old.backends if name in new.backends]
    rewritten = any(getattr(old.mqtt, name) != getattr(new.mqtt, name) for name in _WRITTEN)
    return Changes(
        groups=[name for name in _GROUPS if getattr(old, name) != getattr(new, name)],
        removed=removed,
        added=[name for name in new.backends if name not in old.backends],
        changed=[name for name in kept if rewritten or old.backends[name] != new.backends[name]],
        retyped=[name for name in old.backends if type(old.backends[name]) is not type(new.backends.get(name))],
    )
