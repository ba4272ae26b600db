"""What the bridge says of itself, and the commands it takes for itself: `<base>/bridge/…`."""

from typing import Literal, TypedDict

from msgspec import Struct

from bridge.backends.session import CommandSpec
from bridge.commands import NoFields
from bridge.model import ConditionState
from bridge.watch.logs import Level


class BridgeState(Struct, frozen=True):
    """`state`, retained: birth, will and farewell. session: the start in ms since 1970 · instance: the host's name."""

    state: Literal["online", "draining", "offline"]
    session: str
    instance: str
    version: str
    time: str


class BackendInfo(Struct, frozen=True):
    """type: which platform · subjects: of its commands that have one, `+` is any level."""

    type: str
    commands: list[str]
    subjects: dict[str, str]


class BridgeInfo(Struct, frozen=True):
    """`info`, retained: what there is. commands: of the bridge itself."""

    version: str
    session: str
    commands: list[str]
    backends: dict[str, BackendInfo]


class BackendHealth(Struct, frozen=True):
    """The ledger, since the start: received + recovered = published + dropped (all reasons) + outbox_events."""

    state: ConditionState
    events_received: int
    events_recovered: int
    events_published: int
    events_dropped: dict[str, int]
    outbox_events: int
    outbox_bytes: int


class Health(Struct, frozen=True):
    """`health`, every 30 s."""

    time: str
    session: str
    backends: dict[str, BackendHealth]


class LogLevel(Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of `log_level`, and what it answers."""

    level: Level


class Pong(TypedDict):
    """In the response to `ping`."""

    version: str
    session: str


class Reloaded(TypedDict):
    """In the response to `reload`: backends, and groups of keys, by what became of them."""

    changed: list[str]
    added: list[str]
    removed: list[str]


BRIDGE_SPECS = (
    CommandSpec("ping", NoFields, result=Pong),
    CommandSpec("health", NoFields, result=Health),
    CommandSpec("log_level", LogLevel, result=LogLevel),
    CommandSpec("reload", NoFields, result=Reloaded),
)
