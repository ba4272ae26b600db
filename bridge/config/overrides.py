"""`WS2MQTT__MQTT__URL=…` laid over the tree of the configuration file.

Names: two underscores between levels, any case, `-` is written `_`. Rules that bind here: an empty value is not set ·
an override of `x` or `x_file` takes the place of both · where a text belongs the value is taken as it stands, elsewhere
as YAML in one line · every problem names its variable and never shows its value.
"""

from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin

from msgspec import Struct

from bridge.config.leaves import Wrong, like
from bridge.config.reader import group, is_secret, keys, members
from bridge.config.yamlfile import Scalar, Tree, parse, plain
from bridge.errors import BadConfig, Problem
from bridge.options import BackendOptions

PREFIX = "WS2MQTT__"

OptionsOf = Callable[[Tree], type[BackendOptions] | None]


class _Place(Struct, frozen=True):
    """A key of the configuration: its path, its type, and the other half of a secret's pair."""

    path: tuple[str, ...]
    kind: Any
    twin: str | None = None


class _Moot(Exception):
    """The backend's type is not known, so its keys are not: that is told elsewhere."""


def override(
    tree: Tree, environ: Mapping[str, str], root: Mapping[str, Any], options_of: OptionsOf, problems: list[Problem]
) -> Tree:
    """The tree with what the environment says.

    root: the keys of the file and their types · options_of: a backend's tree → its Options, None for an unknown type.
    """
    taken: dict[tuple[str, ...], str] = {}
    for variable, levels, value in _given(environ):
        try:
            if levels in taken:
                raise Wrong(f"is the same key as {taken[levels]}")
            taken[levels] = variable
            place = _locate(levels, root, tree, options_of)
            tree = _put(tree, place.path, _tree(value, place, variable), place.twin)
        except _Moot:
            continue
        except Wrong as error:
            problems.append(Problem(variable, str(error), "environment"))
    return tree


def _given(environ: Mapping[str, str]) -> list[tuple[str, tuple[str, ...], str]]:
    """Variable, levels, value: outer levels first, and a backend's type before what depends on it."""
    found = [
        (name, tuple(name[len(PREFIX) :].lower().split("__")), value)
        for name, value in environ.items()
        if name.upper().startswith(PREFIX) and value.strip()
    ]
    return sorted(found, key=lambda one: (len(one[1]), one[1][-1] != "type", one[0]))


def _locate(levels: tuple[str, ...], root: Mapping[str, Any], tree: Tree, options_of: OptionsOf) -> _Place:
    """Raises Wrong where there is no such key."""
    path: tuple[str, ...] = ()
    twin: str | None = None
    known: dict[str, Any] | None = dict(root)
    kind: Any = None
    here: Tree | None = tree
    for depth, level in enumerate(levels):
        if known is None:
            known = _keys(kind, here, options_of)
        key = next((one for one in known if _spelled(one) == level), None)
        if key is None:
            key = _new_key(kind, level, levels, depth, known)
        twin = _twin(key, known)
        kind = known[key] if key in known else get_args(_mapping(kind))[-1]
        path, known = (*path, key), None
        here = here.get(key) if isinstance(here, dict) else None
    return _Place(path, kind, twin)


def _keys(kind: Any, here: Tree | None, options_of: OptionsOf) -> dict[str, Any]:
    """The keys there are below a value, and their types."""
    if kind is BackendOptions:
        options = options_of(here) if here is not None else None
        return {"type": str, **(keys(options) if options else {})}
    inner = group(kind)
    if inner:
        return keys(inner)
    mapping = _mapping(kind)
    return dict.fromkeys(here, get_args(mapping)[-1]) if mapping and isinstance(here, dict) else {}


def _new_key(kind: Any, level: str, levels: tuple[str, ...], depth: int, known: Mapping[str, Any]) -> str:
    """The key that is not there yet, where keys may be added: backends (with their type), maps of names."""
    mapping = _mapping(kind)
    if mapping and level:
        backends = get_args(mapping)[-1] is BackendOptions
        if not backends:
            return level
        if levels[depth + 1 :] in ((), ("type",)):
            return level.replace("_", "-")
        typed = _variable((*levels[: depth + 1], "type"))
        raise Wrong(f"no such backend{like(level, map(_spelled, known))}; a new one needs {typed}")
    if kind is BackendOptions and len(known) == 1:
        raise _Moot
    names = [_variable((*levels[:depth], _spelled(one))) for one in known]
    raise Wrong(f"unknown key{like(_variable(levels[: depth + 1]), names)}")


def _mapping(kind: Any) -> Any:
    return next((one for one in members(kind) if get_origin(one) is dict), None)


def _twin(key: str, known: Mapping[str, Any]) -> str | None:
    if is_secret(known.get(key)):
        return f"{key}_file"
    name = key.removesuffix("_file")
    return name if name != key and is_secret(known.get(name)) else None


def _spelled(key: str) -> str:
    return key.replace("-", "_").lower()


def _variable(levels: tuple[str, ...]) -> str:
    return PREFIX + "__".join(levels).upper()


def _tree(value: str, place: _Place, variable: str) -> Tree:
    """The value as its type wants it: `[a, b]`, `{a: b}` and quoted texts are YAML; a secret is taken to the letter."""
    if is_secret(place.kind):
        return Scalar(value, source=variable)
    text = value.strip()
    textual = members(place.kind) == (str,)
    if text[0] in ("\"'" if textual else "\"'[{"):
        try:
            return _parsed(text, variable)
        except Wrong:
            if not textual:
                raise
    found = plain(text, variable)
    return Scalar(text, source=variable) if textual and found.kind != "null" else found


def _parsed(text: str, variable: str) -> Tree:
    problems: list[Problem] = []
    try:
        tree = parse(text, problems, source=variable)
    except BadConfig as error:
        problems = error.problems
    for problem in problems:
        raise Wrong(f"not YAML in one line: {problem}")
    return tree


def _put(tree: Tree | None, path: tuple[str, ...], value: Tree, twin: str | None) -> Tree:
    """A copy with the value in its place: parts of a tree may be shared by aliases."""
    if not path:
        return value
    if tree is None or (isinstance(tree, Scalar) and not tree.text):
        tree = {}
    if not isinstance(tree, dict):
        return tree  # told when it is read
    head, *rest = path
    copy = tree | {head: _put(tree.get(head), tuple(rest), value, twin)}
    if not rest and twin is not None and not _sourced(copy.get(twin)):
        copy.pop(twin, None)
    return copy


def _sourced(tree: Tree | None) -> bool:
    return isinstance(tree, Scalar) and bool(tree.source)
