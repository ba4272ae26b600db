"""YAML text to a tree whose scalars keep their text: `22:30`, `0042` and `on` stay what was written.

Rules that bind here: nothing of the file is shown in a problem except its keys (a value may be a secret) · duplicate
keys are problems · aliases are shared, never copied, and what they multiply to is bounded · whatever the bytes are,
only BadConfig is raised.
"""

import json
import re
from pathlib import Path
from typing import Literal, TypeAlias

import yaml
from msgspec import Struct
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from bridge.errors import BadConfig, Problem, Spot

Kind = Literal["null", "bool", "int", "float", "text"]

MAX_BYTES = 2**20  # a thousand backends are some 300 KiB
MAX_VALUES = 100_000  # counted as if every alias were written out
MAX_DEPTH = 50
HIDDEN = "***"

_TAG = "tag:yaml.org,2002:"
_KINDS: dict[str, Kind] = {
    "null": "null", "bool": "bool", "int": "int", "float": "float",
    "str": "text", "timestamp": "text", "value": "text", "merge": "text",
}  # fmt: skip
_PLAIN_KEY = re.compile(r"[\w-]{1,64}", re.ASCII)
_LONGEST_KEY = 64  # characters that are shown
_VALUE_IN_KEY = re.compile(r"[:=|>'\"]|(?<=.)[&*!%@`]")  # `password:x` and `password"x"` are keys without a value
_CHUNK = re.compile(r"[^\W\d_]{0,16}|[0-9]{1,9}[^\W\d_]{0,3}")
# What the parser quotes is a piece of the file, unless it is one sign or the name of a token such as '<scalar>'.
_QUOTED = re.compile(r"""(['"])(?!(?:<[a-z ]+>|.)\1).*\1""", re.DOTALL)
_TOKENS = re.compile(r"""(?:[^'"]|'(?:<[a-z ]+>|[^'])')*""")  # all that is quoted is a sign or a token's name
_HINTS = (
    ("\\t", "a tab: YAML is indented with spaces"),
    ("undefined alias", "an alias without its anchor; put a text that begins with * in quotes"),
    ("mapping values are not allowed", "a ': ' that does not belong here; put a text that holds one in quotes"),
    ("could not find expected ':'", "a key without ':'"),
    ("another document", "a second document ('---'); one is enough"),
)


class Scalar(Struct, frozen=True):
    """One value as written.

    kind: what YAML takes it for · source: the environment variable it is from, "" = the file.
    """

    text: str
    kind: Kind = "text"
    source: str = ""


Tree: TypeAlias = Scalar | list["Tree"] | dict[str, "Tree"]

NULL = Scalar("", "null")


def below(path: str, key: str | int) -> str:
    """The path of what is beneath `path`; keys that would not read well in one line are quoted."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    shown = key if _PLAIN_KEY.fullmatch(key) else json.dumps(named(key))
    return f"{path}.{shown}" if path else shown


def named(key: str) -> str:
    """A key as it may be shown: without what looks like a value that got into it, for want of a space or a colon."""
    found = _VALUE_IN_KEY.search(key)
    head = key[: found.start()] if found else key
    shown = head[:_LONGEST_KEY] if wordy(head) or _PLAIN_KEY.fullmatch(head) else ""
    return shown if found is None and (shown or not key) else f"{shown}{HIDDEN}"


def wordy(text: str) -> bool:
    """Whether it reads as words and numbers: what looks like a password does not."""
    return len(text) <= _LONGEST_KEY and all(map(_CHUNK.fullmatch, re.split(r"[\W_]+", text)))


def read(path: str) -> str:
    """The text of a file. Raises BadConfig where there is none."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        raise BadConfig([Problem("", f"cannot be read: {reason}")]) from None
    if len(content) > MAX_BYTES:
        raise BadConfig([Problem("", f"is larger than {MAX_BYTES} bytes: not a configuration file")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadConfig([Problem("", f"line {line}: not UTF-8; save the file as UTF-8")]) from None


def parse(text: str, problems: list[Problem], source: str = "", path: str = "") -> Tree:
    """The tree of a YAML text; an empty text is NULL. Duplicate keys and the like are added to `problems`.

    Raises BadConfig where nothing can be made of it.
    """
    spot: Spot = "environment" if source else "value"
    try:
        node = yaml.SafeLoader(text).get_single_node()
        return NULL if node is None else _Builder(problems, source).build(node, path)
    except yaml.YAMLError as error:
        message, found = _explain(error, text)
        spot = spot if source else found
    except RecursionError:
        message = f"is nested deeper than {MAX_DEPTH} levels"
    except (ValueError, OverflowError):  # PyYAML, on escapes and directives with impossible numbers
        message = "not YAML: an escape or a directive with an impossible number"
    raise BadConfig([Problem(path, message, spot)])


def plain(text: str, source: str) -> Scalar:
    """The scalar that an unquoted text is in YAML."""
    # An own loader, for its rules alone: it reads nothing.
    tag = yaml.SafeLoader("").resolve(ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return Scalar(text, _KINDS.get(str(tag).removeprefix(_TAG), "text"), source)


def _explain(error: yaml.YAMLError, text: str) -> tuple[str, Spot]:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        return f"line {line}, column {column}: a control character; YAML takes none", (line, column)
    assert isinstance(error, yaml.MarkedYAMLError), "PyYAML's reader, scanner, parser and composer raise no other"
    words = error.problem or error.context or "not YAML"
    told = words if _TOKENS.fullmatch(words) else _QUOTED.sub("…", words)
    said = next((hint for sign, hint in _HINTS if sign in words), told)
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return said, "value"
    line, column = mark.line + 1, mark.column + 1
    return f"line {line}, column {column}: {said}", (line, column)


class _Builder:
    """Nodes to a tree; every node is built once, however often an alias names it."""

    def __init__(self, problems: list[Problem], source: str) -> None:
        self._problems, self._source = problems, source
        self._built: dict[int, Tree] = {}
        self._extent: dict[int, tuple[int, int]] = {}  # values and levels, as if aliases were written out

    def build(self, node: Node, path: str) -> Tree:
        """Raises BadConfig where aliases go round in circles or multiply too much."""
        key = id(node)
        if key not in self._built:
            self._extent[key] = (0, 0)
            self._built[key] = self._make(node, path)
            self._measure(key, node, path)
        elif self._extent[key] == (0, 0):
            raise BadConfig([Problem(path, f"line {_line(node)}: an alias that contains itself", _spot(node))])
        return self._built[key]

    def _make(self, node: Node, path: str) -> Tree:
        tag = node.tag.removeprefix(_TAG)
        if isinstance(node, ScalarNode) and tag in _KINDS:
            return Scalar(node.value, _KINDS[tag], self._source)
        if isinstance(node, SequenceNode) and tag == "seq":
            self._built[id(node)] = NULL
            return [self.build(item, below(path, at)) for at, item in enumerate(node.value)]
        if isinstance(node, MappingNode) and tag == "map":
            self._built[id(node)] = NULL
            return self._mapping(node, path)
        said = f"line {_line(node)}: has a tag; put a text that begins with ! in quotes"
        self._problems.append(Problem(path, said, _spot(node)))
        return NULL

    def _mapping(self, node: MappingNode, path: str) -> dict[str, Tree]:
        own: dict[str, Tree] = {}
        lines: dict[str, int] = {}
        inherited: list[dict[str, Tree]] = []
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._problems.append(Problem(path, f"line {_line(key)}: a key must be a text", _spot(key)))
            elif key.tag == f"{_TAG}merge":
                inherited += self._merged(value, path)
            elif key.value in own:
                where = f"at line {lines[key.value]} and again at line {_line(key)}"
                self._problems.append(Problem(below(path, key.value), f"given twice, {where}", _spot(key)))
            else:
                own[key.value], lines[key.value] = self.build(value, below(path, key.value)), _line(key)
        merged: dict[str, Tree] = {}
        for one in reversed(inherited):  # of several, the first wins
            merged |= one
        return merged | own

    def _merged(self, value: Node, path: str) -> list[dict[str, Tree]]:
        tree = self.build(value, path)
        trees = tree if isinstance(tree, list) else [tree]
        found = [one for one in trees if isinstance(one, dict)]
        if len(found) < len(trees):
            said = f"line {_line(value)}: '<<' takes a mapping or a list of mappings"
            self._problems.append(Problem(path, said, _spot(value)))
        return found

    def _measure(self, key: int, node: Node, path: str) -> None:
        extents = [(0, 0)]
        if isinstance(node, SequenceNode):
            extents += [self._extent.get(id(item), (1, 1)) for item in node.value]
        elif isinstance(node, MappingNode):
            extents += [self._extent.get(id(item), (1, 1)) for _, item in node.value]
        values, depth = 1 + sum(size for size, _ in extents), 1 + max(levels for _, levels in extents)
        self._extent[key] = values, depth
        if depth > MAX_DEPTH:
            raise BadConfig([Problem(path, f"is nested deeper than {MAX_DEPTH} levels")])
        if values > MAX_VALUES:
            said = f"line {_line(node)}: more than {MAX_VALUES} values, aliases written out"
            raise BadConfig([Problem(path, said, _spot(node))])


def _line(node: Node) -> int:
    return node.start_mark.line + 1


def _spot(node: Node) -> tuple[int, int]:
    return _line(node), node.start_mark.column + 1
