"""Types of the house as schemas of an AsyncAPI document: JSON Schema in draft 07, as AsyncAPI 3 has it.

What we say may have more fields in a later version, and its schemas are open; what we are told may not, and unknown
fields of commands are refused.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct

from bridge.options import DURATION, Duration, written

Schema = dict[str, Any]


class Schemas:
    """What `components.schemas` holds; it grows with what is asked for."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._references: dict[tuple[str, Any], Schema] = {}

    def add(self, scope: str, kinds: Iterable[Any]) -> None:
        """Types that are named alike in two scopes are two; "" is the scope of what all share."""
        wanted = list(kinds)
        prefix = f"{scope}." if scope else ""
        template = f"#/components/schemas/{prefix}{{name}}"
        forms = [_written(kind) for kind in wanted]
        made, found = msgspec.json.schema_components(forms, schema_hook=_hook, ref_template=template)
        self._references |= {(scope, kind): one for kind, one in zip(wanted, made, strict=True)}
        self.components |= {prefix + name: _tidy(one) for name, one in found.items()}

    def of(self, kind: Any, scope: str = "") -> Schema:
        """A type's schema: a reference, where it has a name."""
        return {} if kind is Any else self._references[scope, kind]

    def named(self, kind: Any, scope: str = "") -> Schema:
        """The schema of a type that has a name, to be changed in place."""
        return self.components[self.of(kind, scope)["$ref"].rpartition("/")[2]]


def _written(kind: Any) -> Any:
    """The type with durations as texts, where one is a default: msgspec has no form for those."""
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return kind
    fields = msgspec.structs.fields(kind)
    if not any(isinstance(one.default, Duration) for one in fields):
        return kind
    columns = [
        (one.name, one.type, written(one.default) if isinstance(one.default, Duration) else one.default)
        if one.default is not NODEFAULT
        else (one.name, one.type)
        for one in fields
    ]
    config = kind.__struct_config__
    return msgspec.defstruct(
        kind.__name__,
        columns,
        namespace={"__doc__": kind.__doc__},
        rename={one.name: one.encode_name for one in fields},
        forbid_unknown_fields=config.forbid_unknown_fields,
        omit_defaults=config.omit_defaults,
    )


def _hook(kind: type) -> Schema:
    if kind is Duration:
        return {"type": "string", "pattern": f"^(?:{DURATION.pattern})$", "description": "500ms, 30s, 5m, 24h, 7d"}
    raise NotImplementedError(f"{kind} has no form in JSON")


def _tidy(schema: Schema) -> Schema:
    """Without the names that are those of our classes."""
    schema.pop("title", None)
    return schema
