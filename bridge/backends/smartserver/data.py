"""The data of SmartServer's events and states: the contract's field names; absent means not told by the platform."""

from typing import Any, Literal, NotRequired, TypedDict

from msgspec import Struct

from bridge.backends.session import Subject


class Value(Struct, frozen=True, omit_defaults=True):
    """`value` and `log`. value, values, localized: any JSON · unit: as the platform names it · priority: 1 (highest)
    to 17 · request: the `datalog` command that asked for it.
    """

    datapoint: str
    value: Any
    values: Any = None
    preset: Any = None
    localized: Any = None
    unit: str | None = None
    priority: int | None = None
    request: str | int | None = None


class Latest(Struct, frozen=True):
    """State of a datapoint; time: RFC 3339 UTC, the platform's where it tells one, else when it was read."""

    value: Any
    time: str


class Status(Struct, frozen=True, omit_defaults=True):
    """`status`: a device in the platform's words: provisioned, created …; normal, down …"""

    state: str | None
    health: str | None
    name: str | None = None
    id: str | int | None = None
    category: str | None = None
    uid: str | None = None
    device_type: str | None = None


class DeviceState(Struct, frozen=True):
    """State of a device; time: RFC 3339 UTC, when it was read."""

    state: str | None
    health: str | None
    name: str | None
    time: str


class Tested(Struct, frozen=True, omit_defaults=True):
    """`test`: passed as the platform's own pages judge it; state, health, error: its words."""

    result: Literal["passed", "failed"]
    state: str | None = None
    health: str | None = None
    error: str | None = None
    device_id: str | int | None = None


class Removed(Struct, frozen=True, omit_defaults=True):
    """`removed`: a device is no more."""

    id: str | int | None = None
    name: str | None = None


class AlarmData(Struct, frozen=True, omit_defaults=True):
    """`alarm`, and an entry of the `alarms` state (without `change`). time: RFC 3339 UTC, of the alarm."""

    id: str | int
    severity: str | None
    text: str | None
    change: Literal["raised", "updated", "cleared"] | None = None
    time: str | None = None
    type: str | None = None
    category: str | None = None
    state: str | None = None
    target: str | None = None
    device: str | None = None
    device_id: str | int | None = None


class Alarms(Struct, frozen=True):
    """State `alarms`: what is active, oldest first."""

    active: tuple[AlarmData, ...]
    count: int
    time: str


class Notification(Struct, frozen=True, omit_defaults=True):
    """`notification`: what the platform's pages show for a moment."""

    message: str | None
    target_type: str | None = None
    target_name: str | None = None


class Join(Struct, frozen=True, omit_defaults=True):
    """`join`: a service pin was pressed. uid: e.g. a neuron id · type: program id, 16 hex digits."""

    uid: str | None
    type: str | None = None
    protocol: str | None = None


class Monitoring(Struct, frozen=True):
    """`monitoring`: whether the platform polls its devices in the background."""

    active: bool


class Time(Struct, frozen=True):
    """`time`: the platform's clock, as it writes it."""

    value: str


class Load(Struct, frozen=True):
    """`load`. kind: cpu, sc_cpu (percent), eps, total_eps, sc_eps (events/s), sc_memory; sc_…: by controller."""

    kind: str
    value: Any


class ReadValue(Struct, frozen=True, omit_defaults=True):
    """What `read` answers. time: of the platform's copy, RFC 3339 UTC."""

    value: Any
    time: str | None = None
    preset: Any = None
    localized: Any = None
    priority: int | None = None


class InForce(TypedDict):
    """In the response to `filter`: the globs, and how many datapoints they name."""

    datapoints: tuple[str, ...]
    count: int


class Cleared(TypedDict):
    """In the response to `clear_alarms`."""

    ids: list[int | str]


class Logged(TypedDict):
    """In the response to `datalog`: how many entries were told, with which `request` · limited: at `limit` it was cut ·
    partial: it ended too early.
    """

    count: int
    request: NotRequired[str | int]
    limited: NotRequired[bool]
    partial: NotRequired[bool]


_DEVICE = {"status": Status, "test": Tested, "removed": Removed}
_PLATFORM = {
    "alarm": AlarmData,
    "notification": Notification,
    "join": Join,
    "monitoring": Monitoring,
    "time": Time,
    "load": Load,
    "unknown": Any,
}
SUBJECTS = (
    Subject("{sid}/dev/{protocol}/{did}/if/{block}/{index}/{dp}", {"value": Value, "log": Value}, state=Latest),
    Subject("{sid}/dev/{protocol}/{did}", _DEVICE, state=DeviceState),
    Subject("alarms", state=Alarms),
    Subject("", {**_PLATFORM, "test": Tested, "removed": Removed}),  # of a device that is not known
)
