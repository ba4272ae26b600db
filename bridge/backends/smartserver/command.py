"""The commands: what their senders write, and what the platform reads (wiki, "Datapoint Value", "Managing Overrides").

Nobody there checks values. What would be another path, or an expression over many datapoints, is refused here.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.backends.session import CommandSpec
from bridge.backends.smartserver import names
from bridge.backends.smartserver.data import Cleared, InForce, Logged, ReadValue
from bridge.backends.smartserver.moments import moment
from bridge.backends.smartserver.talk import Ask
from bridge.errors import BadCommand
from bridge.options import Duration, about
from bridge.times import unix

DATAPOINT, DEVICE = "+/dev/+/+/if/+/+/+", "+/dev/+/+"
NORMAL = 17  # the priority of a plain write (wiki, "Datapoint Value")
_BARE_NAMES = (3, 20, 114)  # releases before take a datapoint's XIF name as it is


class Write(Struct, frozen=True, forbid_unknown_fields=True):
    """A value, or the name of a preset."""

    value: Annotated[Any, about("any JSON; of a structured one all fields")] = UNSET
    preset: Annotated[str | UnsetType, about("the name of a preset, in place of a value")] = UNSET
    priority: Annotated[int, Meta(ge=1, le=NORMAL), about("1 is the highest, 17 that of a plain write")] = NORMAL

    def check(self) -> None:
        """Raises BadCommand."""
        given = [name for name in ("value", "preset") if getattr(self, name) is not UNSET]
        if len(given) != 1:
            kind = "invalid_field" if given else "missing_field"
            raise BadCommand("give either value or preset", kind=kind, field="preset" if given else "value")
        if self.preset == "":
            raise BadCommand("preset: must not be empty", kind="invalid_field", field="preset")

    def request(self, place: str) -> Ask:
        """place: the datapoint's path. A preset goes out bare, without quotes, as in the vendor's page."""
        at = "" if self.priority == NORMAL else f"/overrides/{self.priority}"
        if self.preset is not UNSET:
            return Ask("PUT", f"{place}{at}/presets/value", str(self.preset).encode())
        return Ask("PUT", f"{place}{at}/value", msgspec.json.encode(self.value))


class Release(Struct, frozen=True, forbid_unknown_fields=True):
    """Takes back what was written at this priority."""

    priority: Annotated[int, Meta(ge=1, le=NORMAL - 1), about("at which it was written")]

    def request(self, place: str) -> Ask:
        """The vendor's page repeats the number as the body."""
        return Ask("DELETE", f"{place}/overrides/{self.priority}/value", str(self.priority).encode())


class Read(Struct, frozen=True, forbid_unknown_fields=True):
    """Tells the platform's own copy; where that is too old the device is asked, whose value comes as an event."""

    max_age: Annotated[Duration | None, about("of the copy; 0s: the device is asked; left out: as old as it is")] = None

    def request(self, place: str) -> Ask:
        aged = "" if self.max_age is None else f"max_age={self.max_age:.10g}&"
        return Ask("GET", f"{place}/value?{aged}noxs=true")


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """`test` and `wink`."""


class Filter(Struct, frozen=True, forbid_unknown_fields=True):
    """Other globs, until the next start; without any: what is in force."""

    datapoints: Annotated[tuple[str, ...] | None, about("globs over dpQualifiers; left out: only tells")] = None

    def check(self) -> None:
        """Raises BadCommand."""
        _check(self.datapoints or ())


class ClearAlarms(Struct, frozen=True, forbid_unknown_fields=True):
    """Takes alarms back."""

    ids: Annotated[tuple[int | str, ...] | None, about("of these; left out: of all that are active")] = None


class DataLog(Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}):
    """What the platform has logged of these datapoints, told as `log` events."""

    datapoints: Annotated[tuple[str, ...], about("globs over dpQualifiers")]
    since: Annotated[str, about("not with it: RFC 3339 with a zone, 2025-03-02T07:00:00Z")]
    until: Annotated[str, about("with it: RFC 3339 with a zone")]
    limit: Annotated[int, Meta(ge=1, le=10_000_000), about("at most so many entries")] = 10_000

    def check(self) -> None:
        """Raises BadCommand."""
        if not self.datapoints:
            raise BadCommand("datapoints: name at least one", kind="invalid_field", field="datapoints")
        _check(self.datapoints)
        since, until = self.window()
        if unix(since) >= unix(until):
            raise BadCommand("from: must be before to", kind="invalid_field", field="from")

    def window(self) -> tuple[str, str]:
        """In our form. Raises BadCommand."""
        found = []
        for field, told in (("from", self.since), ("to", self.until)):
            if (at := moment(told)) is None:
                text = f"{field}: write a time with its zone, like 2025-03-02T07:00:00Z"
                raise BadCommand(text, kind="invalid_field", field=field)
            found.append(at)
        return found[0], found[1]


def _check(patterns: tuple[str, ...]) -> None:
    for number, pattern in enumerate(patterns):
        if fault := names.glob_fault(pattern):
            place = f"datapoints[{number}]"
            raise BadCommand(f"{place}: {fault}", kind="invalid_field", field=place)


def datapoint_path(device: str, block: str, index: str, datapoint: str, release: tuple[int, ...] | None) -> str:
    """A datapoint below its device (an id or a handle). Raises BadCommand for names that no path can hold."""
    for name in (device, block, index, datapoint):
        if names.unspeakable(name):
            raise BadCommand(f"the platform cannot be asked for {name!r}", code=404, kind="no_such_subject")
    xif = "" if release is not None and release < _BARE_NAMES else "*+xifName=="
    named = [names.escaped(name) for name in (device, block, index, datapoint)]
    return f"/iap/devs/{named[0]}/if/{named[1]}/{named[2]}/{xif}{named[3]}"


COMMANDS = (
    CommandSpec("write", Write, DATAPOINT, Write.check),
    CommandSpec("release", Release, DATAPOINT),
    CommandSpec("read", Read, DATAPOINT, result=ReadValue),
    CommandSpec("test", Nothing, DEVICE),
    CommandSpec("wink", Nothing, DEVICE),
    CommandSpec("filter", Filter, "", Filter.check, result=InForce),
    CommandSpec("datalog", DataLog, "", DataLog.check, result=Logged),
    CommandSpec("clear_alarms", ClearAlarms, result=Cleared),
)
