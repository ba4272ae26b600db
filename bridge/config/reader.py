"""A tree of scalars to Structs, by the types of their fields: a new platform's options need no code here.

Rules that bind here: every problem is noted and reading goes on · a value is never shown, since any may be a secret
in the wrong place · an empty value is not set · a Secret `x` may be given as `x_file`.
"""

import difflib
import re
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UNSET, Struct, UnsetType
from msgspec.structs import FieldInfo

from bridge.config.leaves import INT, LEAVES, NAMES, WORDS, Wrong, interpolate, like, unreadable
from bridge.config.yamlfile import Scalar, Tree, below
from bridge.errors import Problem, Spot
from bridge.options import Duration, Secret

Checks = Callable[[Any, Collection[str]], Iterable[tuple[str, str]]]

_MAX_SECRET = 2**20
_RULE = re.compile(r"must be `\w+`( of length)? (<=|>=|<|>) (\S+)")
_SIGNS = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}


class _Bad:
    """Stands for what could not be read; the problem is noted."""


BAD = _Bad()


def members(kind: object) -> tuple[object, ...]:
    """The types a value may have, None left out: `str | None` → (str,)."""
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(one for one in get_args(kind) if one is not type(None))
    return (kind,)


def is_secret(kind: object) -> bool:
    """Whether it is `Secret` or `Secret | None`."""
    return members(kind) == (Secret,)


def may_be_off(field: FieldInfo, default: object = None) -> bool:
    """Whether `off` is None: of durations, and where another value is the default."""
    other = default if default is not None else field.default
    return type(None) in get_args(field.type) and (Duration in members(field.type) or other not in (None, NODEFAULT))


def group(kind: object) -> type[Struct] | None:
    """The Struct that a field of this type holds."""
    return next((one for one in members(kind) if isinstance(one, type) and issubclass(one, Struct)), None)


def fields(kind: type[Struct]) -> list[FieldInfo]:
    """A Struct's fields, their types without the words that are only said about them."""
    return [msgspec.structs.replace(one, type=_bare(one.type)) for one in msgspec.structs.fields(kind)]


def _bare(kind: Any) -> Any:
    """`Annotated` is left where it constrains."""
    if get_origin(kind) is not Annotated:
        return kind
    inner, *said = get_args(kind)
    rules = tuple(one for one in said if one != msgspec.Meta(description=one.description))
    return Annotated[(inner, *rules)] if rules else inner


def keys(kind: type[Struct]) -> dict[str, Any]:
    """The keys that a Struct is written with, and their types, the `_file` twins of secrets included."""
    found: dict[str, Any] = {}
    for field in fields(kind):
        found[field.encode_name] = field.type
        if is_secret(field.type):
            found[f"{field.encode_name}_file"] = str
    return found


class Reader:
    """Reads values by type and notes what is wrong in `problems`.

    checks: what is to be said of a Struct that was read, as (path below it, message), given also the names of fields
    that could not be read and hold a stand-in.
    """

    def __init__(self, environ: Mapping[str, str], problems: list[Problem], checks: Checks) -> None:
        self._environ, self._problems, self._checks = environ, problems, checks
        self._generic: dict[object, Callable[[Any, Tree, str], object]] = {
            Annotated: self._annotated, Literal: self._literal, tuple: self._items, list: self._items,
            dict: self._entries, Union: self._union, types.UnionType: self._union,
        }  # fmt: skip

    def complain(self, at: str, message: str, tree: Tree | None = None, spot: Spot = "value") -> _Bad:
        """Notes a problem; one with a value from the environment names the variable."""
        first = tree[0] if isinstance(tree, list) and tree else tree
        if isinstance(first, Scalar) and first.source:
            message, spot = f"{message} (set by {first.source})", "environment"
        self._problems.append(Problem(at, message, spot))
        return BAD

    def struct(
        self, kind: type[Struct], tree: Tree, at: str, *, base: object = None, known: Mapping[str, object] | None = None
    ) -> Any:
        """A Struct of that type, or BAD.

        base: gives the values of fields that are not set · known: fields that were read elsewhere (UNSET: not a field).
        """
        given = {} if _is_null(tree) else tree
        if not isinstance(given, dict):
            return self.complain(at, "must be a mapping of keys to values", tree)
        known = known or {}
        wanted = [field for field in fields(kind) if field.encode_name not in known]
        self._unknown(given, {*keys(kind), *known}, at)
        values: dict[str, Any] = {name: value for name, value in known.items() if value is not UNSET}
        bad = {name for name, value in values.items() if value is BAD}
        for field in wanted:
            value = self._field(field, given, at, getattr(base, field.name, field.default))
            if value is UNSET and base is not None:
                value = getattr(base, field.name)
            if value is BAD:
                bad.add(field.name)
                value = _stand_in(field)
            if value is not UNSET:
                values[field.name] = value
        return BAD if BAD in values.values() else self._checked(kind(**values), given, at, bad)

    def _checked(self, made: Struct, given: Mapping[str, Tree], at: str, bad: Collection[str]) -> object:
        """The Struct, or BAD; a stand-in is not blamed."""
        for path, message in self._checks(made, bad):
            name, _, rest = path.partition(".")
            if name in bad:
                continue
            value = getattr(made, name, None)
            if isinstance(value, Secret) and value.file is not None:
                name = f"{name}_file"
            self.complain(".".join(filter(None, (at, name, rest))), message, given.get(name.partition("[")[0]))
        return BAD if bad else made

    def _unknown(self, given: Iterable[str], known: Collection[str], at: str) -> None:
        for key in given:
            if key not in known:
                self.complain(below(at, key), f"unknown key{like(key, sorted(known))}", spot="key")

    def _field(self, field: FieldInfo, given: Mapping[str, Tree], at: str, default: object) -> object:
        """The value, UNSET or BAD."""
        name = field.encode_name
        path = below(at, name)
        if is_secret(field.type):
            return self._secret(field, given, at)
        tree = self._resolved(given.get(name), path)
        if tree is BAD:
            return BAD
        if isinstance(tree, UnsetType):
            return self.complain(path, "is required") if field.required else UNSET
        assert not isinstance(tree, _Bad)
        if may_be_off(field, default) and isinstance(tree, Scalar) and WORDS.get(tree.text.lower()) is False:
            return None
        inner = group(field.type)
        if inner is not None and isinstance(tree, dict):
            return self.struct(inner, tree, path, base=default if isinstance(default, Struct) else _default(field))
        return self.read(field.type, tree, path)

    def _secret(self, field: FieldInfo, given: Mapping[str, Tree], at: str) -> object:
        name, twin = field.encode_name, f"{field.encode_name}_file"
        text = self._resolved(given.get(name), below(at, name))
        file = self._resolved(given.get(twin), below(at, twin))
        if isinstance(text, _Bad) or isinstance(file, _Bad):
            return BAD
        if not isinstance(text, UnsetType):
            if not isinstance(file, UnsetType):
                return self.complain(below(at, name), f"is given twice: keep {name} or {twin}")
            return self.read(Secret, text, below(at, name))
        if isinstance(file, UnsetType):
            return self.complain(below(at, name), f"is required (or {twin})") if field.required else UNSET
        path = self.read(str, file, below(at, twin))
        return path if isinstance(path, _Bad) else self._secret_file(str(path), file, below(at, twin), field.required)

    def _secret_file(self, path: str, tree: Tree, at: str, required: bool) -> object:
        fault = unreadable(path)
        if not fault and Path(path).stat().st_size > _MAX_SECRET:
            fault = f"cannot read {path}: too large for a secret"
        if fault:
            return self.complain(at, fault, tree)
        secret = Secret(file=path)
        try:
            empty = not secret.reveal()
        except (OSError, UnicodeDecodeError):
            return self.complain(at, f"cannot read {path}: not UTF-8 text", tree)
        return self.complain(at, f"{path} is empty", tree) if empty and required else secret

    def _resolved(self, tree: Tree | None, at: str) -> Tree | UnsetType | _Bad:
        """The tree with variables replaced where it is a text; UNSET where it is empty."""
        if tree is None or _is_null(tree):
            return UNSET
        if isinstance(tree, Scalar) and not tree.source and "${" in tree.text:
            try:
                tree = Scalar(interpolate(tree.text, self._environ))
            except Wrong as error:
                return self.complain(at, str(error))
        return UNSET if isinstance(tree, Scalar) and not tree.text else tree

    def read(self, kind: Any, tree: Tree, at: str) -> object:
        """A value of that type (whose variables are replaced), or BAD."""
        try:
            return self._value(kind, tree, at)
        except Wrong as error:
            return self.complain(at, str(error), tree)

    def _value(self, kind: Any, tree: Tree, at: str) -> object:
        generic = self._generic.get(get_origin(kind) or kind)
        if generic:
            return generic(kind, tree, at)
        if kind is Any:
            return self._anything(tree, at)
        inner = group(kind)
        if inner:
            return self.struct(inner, tree, at)
        if not isinstance(tree, Scalar):
            form = "list" if isinstance(tree, list) else "mapping"
            raise Wrong(f"must be {NAMES.get(kind, 'one value')}, not a {form}")
        return LEAVES[kind](tree)

    def _union(self, kind: Any, tree: Tree, at: str) -> object:
        """By the form of what is written; a lone value may stand for a list of one."""
        forms = (dict, Struct) if isinstance(tree, dict) else (list, tuple) if isinstance(tree, list) else ()
        options = members(kind)
        chosen = [one for one in options if _form(one) in forms or (group(one) and Struct in forms)]
        if isinstance(tree, Scalar):
            chosen = [one for one in options if one in LEAVES or _form(one) in (Literal, Annotated)]
            chosen += [one for one in options if _form(one) in (tuple, list)]
        value = self._value((chosen or options)[0], tree, at)
        if isinstance(value, Duration) and value <= 0 and type(None) in get_args(kind):
            raise Wrong("must be longer than 0s; write off for none")
        return value

    def _annotated(self, kind: Any, tree: Tree, at: str) -> object:
        value = self._value(get_args(kind)[0], tree, at)
        if type(value) not in (int, float, str):
            return value
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:  # it tells of the rule, not of the value
            raise Wrong(_rule(str(error))) from None

    def _literal(self, kind: Any, tree: Tree, at: str) -> object:
        known = {str(one): one for one in get_args(kind)}
        if not isinstance(tree, Scalar):
            raise Wrong(f"must be one of {', '.join(known)}")
        if tree.text not in known:
            close = difflib.get_close_matches(tree.text[:64].lower(), known, 1)
            raise Wrong(f"must be one of {', '.join(known)}" + (f"; did you mean {close[0]}?" if close else ""))
        return known[tree.text]

    def _items(self, kind: Any, tree: Tree, at: str) -> object:
        if isinstance(tree, dict):
            raise Wrong("must be a list, not a mapping")
        lone = isinstance(tree, Scalar)
        trees = [tree] if isinstance(tree, Scalar) else tree
        values: list[object] = []
        for number, one in enumerate(trees):
            path = at if lone else below(at, number)
            item = one if lone else self._resolved(one, path)
            if not isinstance(item, UnsetType):
                values.append(item if isinstance(item, _Bad) else self.read(get_args(kind)[0], item, path))
        return BAD if BAD in values else (get_origin(kind) or kind)(values)

    def _entries(self, kind: Any, tree: Tree, at: str) -> object:
        if not isinstance(tree, dict):
            raise Wrong("must be a mapping of keys to values")
        keyed, valued = get_args(kind) or (str, Any)
        values: dict[object, object] = {}
        for key, one in tree.items():
            path = below(at, key)
            item = one if valued is Any else self._resolved(one, path)
            if not isinstance(item, UnsetType):
                value = item if isinstance(item, _Bad) else self.read(valued, item, path)
                values[self.read(keyed, Scalar(key), path)] = value
        return BAD if BAD in values or BAD in values.values() else values

    def _anything(self, tree: Tree, at: str) -> object:
        """What YAML (1.1, decimal numbers only) makes of it; empty texts and nulls are themselves."""
        if isinstance(tree, list):
            return [self._anything(one, below(at, number)) for number, one in enumerate(tree)]
        if isinstance(tree, dict):
            return {key: self._anything(one, below(at, key)) for key, one in tree.items()}
        if tree.kind == "null":
            return None
        found = self._resolved(tree, at)
        if not isinstance(found, Scalar):
            return BAD if isinstance(found, _Bad) else ""
        if found.kind == "bool":
            return WORDS[found.text.lower()]
        if found.kind in ("int", "float"):
            return LEAVES[int if INT.fullmatch(found.text) else float](found)
        return found.text


def _rule(said: str) -> str:
    """msgspec's words for a rule that a value breaks, in ours: Expected `int` <= 9 - at `$` -> must be at most 9."""
    rule = said.partition(" - at")[0].replace("Expected", "must be")
    found = _RULE.fullmatch(rule)
    if found is None:
        return rule
    length, sign, bound = found.groups()
    return f"must be {_SIGNS[sign]} {bound}{' characters long' if length else ''}"


def _is_null(tree: Tree) -> bool:
    return isinstance(tree, Scalar) and tree.kind == "null"


def _form(kind: object) -> object:
    return get_origin(kind) or kind


def _default(field: FieldInfo) -> object:
    return field.default_factory() if callable(field.default_factory) else None


def _stand_in(field: FieldInfo) -> object:
    """Something of the field's type, so that the rest of its Struct can be checked; BAD: there is none."""
    if not field.required:
        return UNSET  # the default
    kind = members(field.type)[0]
    form: Any = get_args(kind)[0] if get_origin(kind) is Annotated else _form(kind)
    return get_args(kind)[0] if form is Literal else BAD if form is Any or group(kind) else form()
