"""The data of SmartServer's events and states: the contract's field names; absent means not told by the platform."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Struct

from bridge.backends.session import Subject
from bridge.options import about

_Preset = Annotated[Any, about("the name of the preset that the value is, where it is one")]
_Localized = Annotated[Any, about("the value in the units of the platform's user")]
_State = Annotated[str | None, about("the platform's word: provisioned, unprovisioned, created …")]
_Health = Annotated[str | None, about("the platform's word: normal, down …")]
_DeviceName = Annotated[str | None, about("the device's name")]
_Id = Annotated[str | int | None, about("the platform's id of the device")]


class Value(Struct, frozen=True, omit_defaults=True):
    """`value` and `log`: a datapoint's value."""

    datapoint: Annotated[str, about("its dpQualifier: sid/protocol/device/block/index/datapoint")]
    value: Annotated[Any, about("null, a number, a text, or an object with the fields of a structured one")]
    values: Annotated[Any, about("the priority array, where the platform tells it")] = None
    preset: _Preset = None
    localized: _Localized = None
    unit: Annotated[str | None, about("as the platform names it")] = None
    priority: Annotated[int | None, about("at which it is in force, 1 (highest) to 17")] = None
    request: Annotated[str | int | None, about("of `log`: the id of the `datalog` command that asked for it")] = None


class Latest(Struct, frozen=True):
    """State of a datapoint."""

    value: Annotated[Any, about("the newest, as in `value` events")]
    time: Annotated[str, about("the platform's where it tells one, else when it was read, UTC")]


class Status(Struct, frozen=True, omit_defaults=True):
    """`status`: a device in the platform's words."""

    state: _State = None
    health: _Health = None
    name: _DeviceName = None
    id: _Id = None
    category: Annotated[str | None, about("the platform's word, e.g. EDGE")] = None
    uid: Annotated[str | None, about("the device's own id, e.g. a neuron id")] = None
    device_type: Annotated[str | None, about("the name of its type")] = None


class DeviceState(Struct, frozen=True):
    """State of a device."""

    state: _State
    health: _Health
    name: _DeviceName
    time: Annotated[str, about("when it was read, UTC")]


class Tested(Struct, frozen=True, omit_defaults=True):
    """`test`: the result of the command `test`."""

    result: Annotated[Literal["passed", "failed"], about("as the platform's own pages judge it")]
    state: Annotated[str | None, about("in the platform's words")] = None
    health: _Health = None
    error: Annotated[str | None, about("what went wrong, in the platform's words")] = None
    device_id: _Id = None


class Removed(Struct, frozen=True, omit_defaults=True):
    """`removed`: a device is no more."""

    id: _Id = None
    name: _DeviceName = None


class AlarmData(Struct, frozen=True, omit_defaults=True):
    """`alarm`, and an entry of the `alarms` state (without `change`)."""

    id: Annotated[str | int, about("the platform's id of the alarm")]
    severity: Annotated[str | None, about("the platform's word, e.g. Major Fault")] = None
    text: Annotated[str | None, about("what it says")] = None
    change: Annotated[Literal["raised", "updated", "cleared"] | None, about("what happened to it")] = None
    time: Annotated[str | None, about("of the alarm, UTC")] = None
    type: Annotated[str | None, about("the platform's word, e.g. Device not communicating")] = None
    category: Annotated[str | None, about("the platform's word, e.g. System-HW")] = None
    state: Annotated[str | None, about("the platform's word, e.g. Active")] = None
    target: Annotated[str | None, about("the kind of what it is about, e.g. DEVICE")] = None
    device: _DeviceName = None
    device_id: _Id = None


class Alarms(Struct, frozen=True):
    """State `alarms`: what is active."""

    active: Annotated[tuple[AlarmData, ...], about("oldest first")]
    count: Annotated[int, about("how many are active")]
    time: Annotated[str, about("when it became so, UTC")]


class Notification(Struct, frozen=True, omit_defaults=True):
    """`notification`: what the platform's pages show for a moment."""

    message: Annotated[str | None, about("its text")] = None
    target_type: Annotated[str | None, about("the kind of what it is about, e.g. DEVICE")] = None
    target_name: Annotated[str | None, about("the name of that")] = None


class Join(Struct, frozen=True, omit_defaults=True):
    """`join`: a service pin was pressed."""

    uid: Annotated[str | None, about("the device's own id, e.g. a neuron id")] = None
    type: Annotated[str | None, about("program id, 16 hex digits")] = None
    protocol: Annotated[str | None, about("the platform's word, e.g. lon")] = None


class Monitoring(Struct, frozen=True):
    """`monitoring`: whether the platform polls its devices in the background."""

    active: Annotated[bool, about("false: paused")]


class Time(Struct, frozen=True):
    """`time`: the platform's clock."""

    value: Annotated[str, about("as the platform writes it")]


class Load(Struct, frozen=True):
    """`load`: how busy the platform is."""

    kind: Annotated[str, about("cpu, sc_cpu: percent; eps, total_eps, sc_eps: events per second; sc_memory")]
    value: Annotated[Any, about("a number; of sc_… by controller")]


class ReadValue(Struct, frozen=True, omit_defaults=True):
    """What `read` answers: the platform's copy."""

    value: Annotated[Any, about("as in `value` events")]
    time: Annotated[str | None, about("of the platform's copy, UTC")] = None
    preset: _Preset = None
    localized: _Localized = None
    priority: Annotated[int | None, about("at which it is in force, 1 (highest) to 17")] = None


class InForce(TypedDict):
    """In the response to `filter`: what is in force."""

    datapoints: Annotated[tuple[str, ...], about("the globs")]
    count: Annotated[int, about("how many datapoints they name")]


class Cleared(TypedDict):
    """In the response to `clear_alarms`."""

    ids: Annotated[list[int | str], about("those that were cleared")]


class Logged(TypedDict):
    """In the response to `datalog`."""

    count: Annotated[int, about("how many entries were told")]
    request: NotRequired[Annotated[str | int, about("what these `log` events name")]]
    limited: NotRequired[Annotated[bool, about("there were more than `limit`")]]
    partial: NotRequired[Annotated[bool, about("it ended too early")]]


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
