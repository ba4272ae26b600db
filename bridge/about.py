"""What the bridge says of itself, and the commands it takes for itself: `<base>/bridge/…`."""

from typing import Annotated, Literal, TypedDict

from msgspec import Struct

from bridge.backends.session import CommandSpec
from bridge.commands import NoFields
from bridge.model import ConditionState
from bridge.options import about
from bridge.watch.logs import Level

_Session = Annotated[str, about("the bridge's start in ms since 1970")]
_Version = Annotated[str, about("of ws2mqtt")]
_Time = Annotated[str, about("when it was said, UTC")]


class BridgeState(Struct, frozen=True):
    """`state`, retained: birth, will and farewell. session: the start in ms since 1970 · instance: the host's name."""

    state: Annotated[Literal["online", "draining", "offline"], about("draining: it stops, and publishes what waits")]
    session: _Session
    instance: Annotated[str, about("the host's name")]
    version: _Version
    time: _Time


class BackendInfo(Struct, frozen=True):
    """type: which platform · subjects: of its commands that have one, `+` is any level."""

    type: Annotated[str, about("which platform")]
    commands: Annotated[list[str], about("names of those it has")]
    subjects: Annotated[dict[str, str], about("of commands that have one: + is any level")]


class BridgeInfo(Struct, frozen=True):
    """`info`, retained: what there is. commands: of the bridge itself."""

    version: _Version
    session: _Session
    commands: Annotated[list[str], about("names of the bridge's own")]
    backends: Annotated[dict[str, BackendInfo], about("by name")]


class BackendHealth(Struct, frozen=True):
    """The ledger, since the start: received + recovered = published + dropped (all reasons) + outbox_events."""

    state: Annotated[ConditionState, about("how it stands with its platform")]
    events_received: Annotated[int, about("events read from the platform")]
    events_recovered: Annotated[int, about("events found on disk at the start")]
    events_published: Annotated[int, about("events that the broker acknowledged")]
    events_dropped: Annotated[dict[str, int], about("events lost, by reason")]
    outbox_events: Annotated[int, about("events that wait")]
    outbox_bytes: Annotated[int, about("their size")]


class Health(Struct, frozen=True):
    """`health`, every 30 s."""

    time: _Time
    session: _Session
    backends: Annotated[dict[str, BackendHealth], about("by name")]


class LogLevel(Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of `log_level`, and what it answers."""

    level: Annotated[Level, about("the least that is logged, until the next start")]


class Pong(TypedDict):
    """In the response to `ping`."""

    version: _Version
    session: _Session


class Reloaded(TypedDict):
    """In the response to `reload`: backends, and groups of keys, by what became of them."""

    changed: Annotated[list[str], about("groups of keys, and backends that were restarted")]
    added: Annotated[list[str], about("new backends")]
    removed: Annotated[list[str], about("backends that are gone")]


BRIDGE_SPECS = (
    CommandSpec("ping", NoFields, result=Pong),
    CommandSpec("health", NoFields, result=Health),
    CommandSpec("log_level", LogLevel, result=LogLevel),
    CommandSpec("reload", NoFields, result=Reloaded),
)
