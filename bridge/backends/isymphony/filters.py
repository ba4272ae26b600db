"""Which events are wanted: property → values; the same property OR, different ones AND, `*` any value.

The server filters, and so do we again: it covers a server that did not take the filter, and the time until it has.
The vendor's page prints its filter objects with a colon where JSON needs a comma; what goes out is JSON.
Source: WebSocket API Documentation (Event), "Filtering".
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.backends.isymphony.data import InForce
from bridge.errors import BadCommand
from bridge.options import about

ALIASES = {"login": "userLogin", "logout": "userLogout"}  # the page's examples; its own events are called otherwise

Wanted = dict[str, tuple[str, ...]]


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """One filter as the vendor writes it."""

    property: Annotated[str, Meta(min_length=1), about("of an event, by the vendor's name")]
    value: Annotated[str, about("what it has to be; * is any")]


class SetFilter(Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of `filter`."""

    filters: Annotated[
        dict[str, list[str] | str] | list[Entry] | UnsetType,
        about("a map of property to values (or one), or the vendor's list; {}: all events; left out: changes nothing"),
    ] = UNSET

    def wanted(self) -> "Filter | None":
        """None where it is not told. Raises BadCommand."""
        if isinstance(self.filters, UnsetType):
            return None
        if isinstance(self.filters, list):
            pairs = [(one.property, one.value) for one in self.filters]
        else:
            lists = {name: [one] if isinstance(one, str) else one for name, one in self.filters.items()}
            empty = next((name for name, values in lists.items() if not name or not values), None)
            if empty is not None:
                said = f"filters.{empty}: names no value" if empty else "filters: has an empty property name"
                raise BadCommand(f'{said}; write ["*"] for any', kind="invalid_field", field="filters")
            pairs = [(name, value) for name, values in lists.items() for value in values]
        return Filter.of(pairs)


class Filter(Struct, frozen=True):
    """wanted: what goes to the server, each value once · aliased: the names that were replaced in it."""

    wanted: Wanted = {}
    aliased: tuple[str, ...] = ()

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> "Filter":
        """From (property, value)."""
        wanted: dict[str, dict[str, None]] = {}
        aliased: dict[str, None] = {}
        for name, value in pairs:
            if name == "type" and value in ALIASES:
                aliased[value] = None
                value = ALIASES[value]
            wanted.setdefault(name, {})[value] = None
        return cls({name: tuple(values) for name, values in wanted.items()}, tuple(aliased))

    @classmethod
    def configured(cls, filters: Mapping[str, Iterable[str]]) -> "Filter":
        """As the configuration has it."""
        return cls.of((name, value) for name, values in filters.items() for value in values)

    def frame(self, correlation: str) -> str:
        """The message that sets it in place of the one before."""
        filters = [{"property": name, "value": value} for name, values in self.wanted.items() for value in values]
        return msgspec.json.encode({"type": "filter", "correlationId": correlation, "filters": filters}).decode()

    def passes(self, value_of: Callable[[str], Any]) -> bool:
        """value_of: an event's property by its name, UNSET without it; null is none. Values are compared as text."""
        for name, values in self.wanted.items():
            value = value_of(name)
            if value is UNSET or value is None:
                return False
            if "*" not in values and _text(value) not in values:
                return False
        return True

    def follows(self, username: str) -> bool:
        """Whether a user's logins and logouts both come through."""

        def comes(kind: str) -> bool:
            known: dict[str, object] = {"type": kind, "username": username}
            return self.passes(lambda name: known.get(name, UNSET))

        return comes("userLogin") and comes("userLogout")

    def told(self) -> InForce:
        """For a response: what is in force."""
        warnings = [f"no event is called {one}; {ALIASES[one]} is sent in its place" for one in self.aliased]
        told: InForce = {"filters": self.wanted}
        if warnings:
            told["warnings"] = warnings
        return told


def _text(value: Any) -> str:
    return value if type(value) is str else msgspec.json.encode(value).decode()
