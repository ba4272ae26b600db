"""The configuration file as JSON Schema (2020-12), for editors and for the chart: made of the Options that read it.

The file, not what is read of it: a variable may stand for any value, an empty value is not set, a secret may be in a
file. What holds between keys only `ws2mqtt check` knows, and it judges with the environment; the schema never refuses
what the reader takes of the file alone.
"""

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo

from bridge.backends import PLATFORMS
from bridge.backends.session import Platform
from bridge.config import RESERVED, Settings
from bridge.config.leaves import INT, WORDS
from bridge.config.reader import fields, group, is_secret, may_be_off, members
from bridge.options import DURATION, RATE, SIZE, Duration, Name, Rate, Secret, Size, written

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EMPTY = {"type": ["object", "null", "string"], "maxLength": 0}  # a mapping, or nothing; not by anyOf: see _value
# How a value is written, said with each key: an editor shows the words of the key or those of its form, not both.
_WRITTEN = {Duration: "a duration: 500ms 30s 5m 24h", Size: "a size: 64KiB 16MiB", Rate: "a rate: 5/s 100/m"}
_LEAVES: dict[Any, str] = {
    bool: "Boolean", int: "Integer", float: "Number", str: "Text", Secret: "Text",
    Duration: "Duration", Size: "Size", Rate: "Rate",
}  # fmt: skip


def schema(platforms: Mapping[str, Platform] = PLATFORMS) -> Schema:
    """Of the whole file."""
    defs = _shared()
    root = _struct(Settings, defs)
    root["properties"]["backends"] = {
        "description": "one entry per platform, by its name, which is a level of every topic",
        **_backends(platforms, defs),
    }
    return {
        "$schema": DIALECT,
        "title": "ws2mqtt configuration",
        "description": "Durations: 500ms 30s 5m 24h 7d. Sizes: 64KiB 16MiB. ${NAME} and ${NAME:-default} stand for "
        "variables of the environment. An empty value is not set.",
        **root,
        "$defs": dict(sorted(defs.items())),
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _shared() -> dict[str, Schema]:
    """What every value is made of."""
    return {
        "Variable": {"$comment": "${NAME} or ${NAME:-default}", "type": "string", "pattern": r"\$\{"},
        "NotSet": {"$comment": "an empty value is not set", "enum": [None, ""]},
        "Given": {"not": {"anyOf": [_ref("NotSet"), _ref("Variable")]}},
        "Boolean": {"anyOf": [{"type": "boolean"}, _spelled(WORDS)]},
        "Off": {"anyOf": [{"enum": ["off", False]}, _spelled(w for w in WORDS if not WORDS[w])]},
        "Integer": {"anyOf": [{"type": "integer", "minimum": 0}, _text(INT)]},
        "Number": {"anyOf": [{"type": "number", "minimum": 0}, _text(re.compile(r"[+]?[0-9.]+([eE][+-]?[0-9]+)?"))]},
        "Text": {"$comment": "a text; a number is taken as it is written", "type": ["string", "number"]},
        "Duration": _text(DURATION, "not a duration: write it like 500ms, 30s, 5m or 24h"),
        "Size": {
            "$comment": "kB MB GB are powers of 1000; a number is bytes",
            "anyOf": [{"type": "integer", "minimum": 0}, _text(SIZE, "not a size: write it like 64KiB or 16MiB")],
        },
        "Rate": _text(RATE, "not a rate: write it like 5/s or 100/m"),
    }


def _text(pattern: re.Pattern[str], wrong: str = "") -> Schema:
    """wrong: what the YAML language server says in place of the pattern."""
    made = {"type": "string", "pattern": rf"^\s*(?:{pattern.pattern})\s*$"}
    return made | ({"patternErrorMessage": wrong} if wrong else {})


def _spelled(words: Any) -> Schema:
    """Any of the words, as a text, in any case."""
    spelled = ("".join(f"[{sign.upper()}{sign}]" for sign in word) for word in words)
    return {"type": "string", "pattern": f"^({'|'.join(spelled)})$"}


def _optional(kinds: list[Schema]) -> Schema:
    return {"anyOf": [*kinds, _ref("Variable"), _ref("NotSet")]}


# Mappings


def _struct(
    kind: type[Struct], defs: dict[str, Schema], base: Struct | None = None, ignorable: tuple[str, ...] = ()
) -> Schema:
    """A mapping with the keys of a Struct. base: has the defaults · ignorable: what may stand in `ignore`."""
    properties: dict[str, Schema] = {}
    required: list[str] = []
    rules: list[Schema] = []
    for field, told in zip(fields(kind), msgspec.structs.fields(kind), strict=True):
        name, default = field.encode_name, _default(field, base)
        said = {} if field.required else _default_said(field, default)
        said = _words_of(told.type, said.get("default")) | said
        if is_secret(field.type):
            twin = f"{name}_file"
            properties[name] = {**said, "writeOnly": True, **_optional([_ref("Text")])}
            properties[twin] = {
                "description": f"the file that holds {name}; it is read again when it changes",
                **_optional([_ref("Text")]),
            }
            rules += [_not_both(name, twin), *([_one_of(name, twin)] if field.required else [])]
        elif field.required:
            properties[name] = {**said, **_required(field.type, defs)}
            required.append(name)
        else:
            properties[name] = {**said, **_value(field.type, defs, default, off=may_be_off(field))}
    if ignorable:
        properties["ignore"] |= _value(tuple[Literal[ignorable], ...], defs)  # type: ignore[valid-type]
    made: Schema = {**_EMPTY, "properties": properties, "additionalProperties": False}
    return made | ({"required": required} if required else {}) | ({"allOf": rules} if rules else {})


def _words_of(kind: Any, default: Any) -> Schema:
    """What a key is for, how it is written, and its default: all that an editor shows of it."""
    inner, *metas = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    words = [meta.description for meta in metas if meta.description]
    form = [_WRITTEN[one] for one in members(inner) if isinstance(one, type) and one in _WRITTEN]
    shown = str(default).lower() if isinstance(default, bool) else default
    if isinstance(shown, str | int | float) and shown != "":
        form.append(f"default: {shown}")
    return {"description": " ".join([words[-1], *([f"({'; '.join(form)})"] if form else [])])} if words else {}


def _default(field: FieldInfo, base: Struct | None) -> Any:
    if base is not None:
        return getattr(base, field.name)
    return field.default_factory() if callable(field.default_factory) else field.default


def _default_said(field: FieldInfo, default: Any) -> Schema:
    """As it would stand in the file; of a mapping each key has its own."""
    if isinstance(default, Struct | Secret):
        return {}
    return {"default": "off" if default is None and may_be_off(field) else written(default)}


def _not_both(name: str, twin: str) -> Schema:
    given = {name: _ref("Given"), twin: _ref("Given")}
    return {"not": {"type": "object", "required": [name, twin], "properties": given}}


def _one_of(name: str, twin: str) -> Schema:
    return {"anyOf": [{"required": [name]}, {"required": [twin]}]}


def _required(kind: Any, defs: dict[str, Schema]) -> Schema:
    """As _value(), but not empty."""
    made = _value(kind, defs)
    left = [one for one in made["anyOf"] if one != _ref("NotSet")]
    return {"anyOf": left, "not": _ref("NotSet")}


def _backends(platforms: Mapping[str, Platform], defs: dict[str, Schema]) -> Schema:
    for word, platform in platforms.items():
        made = _struct(platform.options, defs, ignorable=() if platform.names_types else platform.events)
        made["properties"] = {"type": {"const": word}, **made["properties"]}
        made |= {"type": "object", "description": _words(platform.options)}
        del made["maxLength"]
        defs[f"backend-{word}"] = made
    chosen = [
        {
            "if": {"required": ["type"], "properties": {"type": {"const": word}}},
            "then": _ref(f"backend-{word}"),
        }
        for word in platforms
    ]
    kind = {
        "description": "which platform it is",
        "anyOf": [{"enum": list(platforms)}, _ref("Variable")],
    }
    one = {"type": "object", "required": ["type"], "properties": {"type": kind}, "allOf": chosen}
    wrong = "not a backend's name: 1 to 32 of a-z, 0-9 and '-', not beginning with '-'"
    name = msgspec.json.schema(Name) | {"not": {"const": RESERVED}, "patternErrorMessage": wrong}
    return {**_EMPTY, "propertyNames": name, "additionalProperties": one}


def _words(kind: type[Struct]) -> str:
    return (kind.__doc__ or "").partition("\n\n")[0]


# Values


def _value(kind: Any, defs: dict[str, Schema], default: Any = None, *, off: bool = False) -> Schema:
    """A value of that type, or what stands for one. off: it may be switched off.

    A mapping stands alone: below an anyOf, what is wrong within it would be told of the whole.
    """
    if kind is Any:
        return {}
    if group(kind) is not None:
        return _group(kind, defs, default)
    kinds = [one for member in members(kind) for one in _kinds(member, defs)]
    return _optional([*kinds, *([_ref("Off")] if off else [])])


def _kinds(kind: Any, defs: dict[str, Schema]) -> list[Schema]:
    """The forms in which a value of that type may be written; a lone value may stand for a list of one."""
    form, args = get_origin(kind) or kind, get_args(kind)
    if kind in _LEAVES:
        return [_ref(_LEAVES[kind])]
    if form in (Union, types.UnionType):
        return [one for member in members(kind) for one in _kinds(member, defs)]
    if form is Literal:
        return [{"enum": [spelled for one in args for spelled in _spellings(one)]}]
    if form is Annotated:
        return [{"allOf": [*_kinds(args[0], defs), _rules(kind)]}]
    if form in (tuple, list):
        return [{"type": "array", "items": _value(args[0], defs)}, *_kinds(args[0], defs)]
    if form is dict:
        return [{"type": "object", "additionalProperties": _value(args[1], defs)}]
    return [_group(kind, defs)]


def _rules(kind: Any) -> Schema:
    """What constrains a value; JSON Schema asks minimum of numbers alone and maxLength of texts alone."""
    schema = msgspec.json.schema(kind)
    return {name: rule for name, rule in schema.items() if name not in ("type", "description")}


def _group(kind: Any, defs: dict[str, Schema], default: Any = None) -> Schema:
    inner = group(kind)
    assert inner is not None, f"{kind} has no form in a file"
    if isinstance(default, inner) and default != inner():
        return {"description": _words(inner), **_struct(inner, defs, default)}
    if inner.__name__ not in defs:
        defs[inner.__name__] = {"description": _words(inner), **_struct(inner, defs)}
    return _ref(inner.__name__)


def _spellings(word: object) -> list[object]:
    """`version: 5` and `version: "5"` are the same."""
    text = str(word)
    return [int(text), text] if text.isdecimal() else [word]
