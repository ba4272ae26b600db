"""A configuration file as it may be shown: which line tells of a path, and that line without what may be a secret.

1. Shown are keys, YAML's own signs, and values of keys that the schema knows to hold no secret, where they read as
   words and numbers: a secret may be in the wrong place. All else is `***`; comments are left out.
2. A reference to a variable is shown, its default is not.
3. Whatever the text is, nothing is raised, and the work is bounded.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from unicodedata import east_asian_width

import yaml
from msgspec import Struct
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from bridge.config.yamlfile import HIDDEN, MAX_DEPTH, below, named, wordy

Schema = dict[str, Any]

_WIDTH = 100  # columns of a line that are shown
_MAX_NODES = 20_000  # what lies behind is pointed at by what it is in
_LINES = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")  # as YAML 1.1 counts them
_SIGNS = " {}[],:?-|>&*!\"'\t"
_POINTED = ":{}[],?-|>&\"'\t%@`"
_NAMED = re.compile(r"(\$\{[A-Za-z_][A-Za-z0-9_]*\})")
_BROKEN_KEY = re.compile(r"[\s-]*[\w.-]{1,64}\s*:(?=\s|$)")


class Mark(Struct, frozen=True):
    """Columns of one line, from 0; end: behind the last one."""

    line: int
    start: int
    end: int


class Guide:
    """What the schema says of a key; a place is a part of the schema, None: nothing is known there."""

    def __init__(self, schema: Schema) -> None:
        self.root, self._defs = schema, schema["$defs"]

    def of_type(self, place: Schema | None, word: str) -> Schema | None:
        """The place itself; a backend's by its type."""
        chosen = place is not None and any("if" in rule for rule in place.get("allOf", ()))
        return self._defs.get(f"backend-{word}", place) if chosen else place

    def below(self, place: Schema | None, key: str | int) -> Schema | None:
        """What is beneath a key, or is an item."""
        for one in self._forms(place):
            found = one.get("items") if isinstance(key, int) else one.get("properties", {}).get(key)
            if found is None and isinstance(key, str):
                found = one.get("additionalProperties")
            if isinstance(found, dict) and found:
                return found
        return None

    def _forms(self, place: Schema | None) -> Iterator[Schema]:
        if place is None:
            return
        if reference := place.get("$ref"):
            yield from self._forms(self._defs[reference.rpartition("/")[2]])
        yield place
        for one in place.get("anyOf", ()):
            yield from self._forms(one)


class Excerpt:
    """Of one text."""

    def __init__(self, text: str, schema: Schema) -> None:
        self._lines, self._guide = _LINES.split(text), Guide(schema)
        self._keys: dict[str, Mark] = {}
        self._values: dict[str, Mark] = {}
        self._places: dict[str, Schema | None] = {"": self._guide.root}
        self._spans: dict[tuple[int, int], tuple[int, str]] = {}  # line and start: end, and what is shown instead
        self._nodes = 0
        try:
            node = yaml.SafeLoader(text).get_single_node()
        except (yaml.YAMLError, RecursionError, ValueError, OverflowError):
            node = None
        self.broken = node is None
        if node is not None:
            self._walk(node, "", self._guide.root, 0)

    def mark(self, path: str, *, of_key: bool) -> Mark | None:
        """Where a path is; one that is not in the file is where it belongs."""
        at = path
        while at and at not in self._keys and at not in self._values:
            at = _above(at)
        key, value = self._keys.get(at), self._values.get(at)
        written = value is not None and value.end > value.start
        return value if written and at == path and not of_key else key or value

    def about(self, path: str) -> str:
        """What the schema says of a key; "" where it says nothing."""
        at, rest = path, list[str]()
        while at and at not in self._places:
            above = _above(at)
            at, rest = above, [at[len(above) :].strip("."), *rest]
        place = self._places.get(at)
        for key in rest:
            place = self._guide.below(place, key)
        said = (place or {}).get("description", "")
        return str(said) if path else ""

    def shown(self, mark: Mark) -> tuple[str, str]:
        """The line, and what stands below it to point at the marked columns."""
        line = self._lines[mark.line] if mark.line < len(self._lines) else ""
        pieces = list(_broken(line, mark.start) if self.broken else self._pieces(mark.line, line))
        text, start, end = "", -1, 0
        for begin, until, piece in pieces:
            if until > mark.start and begin < max(mark.end, mark.start + 1):
                start = len(text) if start < 0 else start
                end = len(text) + len(piece)
            text += piece
        text = text.rstrip()
        start, end = (len(text), len(text) + 1) if start < 0 else (start, max(min(end, len(text)), start + 1))
        if end > _WIDTH:
            cut = min(start, end - _WIDTH // 2) - 10
            text, start, end = f"…{text[cut:]}", start - cut + 1, end - cut + 1
        if len(text) > _WIDTH:
            text, end = f"{text[: _WIDTH - 1]}…", min(end, _WIDTH)
        return text, " " * _columns(text[:start]) + "^" * max(1, _columns(text[start:end]))

    # Reading the nodes

    def _walk(self, node: Node, path: str, place: Schema | None, depth: int) -> None:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > _MAX_NODES:
            return
        self._places.setdefault(path, place)
        if isinstance(node, ScalarNode):
            self._values.setdefault(path, _first_line(node))
            self._hide(node, _open(node.value, place))
        elif isinstance(node, SequenceNode):
            for number, one in enumerate(node.value):
                self._keys.setdefault(below(path, number), _first_line(one))
                self._walk(one, below(path, number), self._guide.below(place, number), depth + 1)
        elif isinstance(node, MappingNode):
            self._mapping(node, path, place, depth)

    def _mapping(self, node: MappingNode, path: str, place: Schema | None, depth: int) -> None:
        types = (one.value for key, one in node.value if key.value == "type" and isinstance(one, ScalarNode))
        place = self._guide.of_type(place, next(types, ""))
        self._places[path] = place
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._walk(key, path, None, depth + 1)
                self._walk(value, path, None, depth + 1)
                continue
            merged = key.tag.endswith(":merge")
            at = path if merged else below(path, key.value)
            self._hide(key, _key(key.value, place))
            if not merged:
                self._keys.setdefault(at, _first_line(key))
            self._walk(value, at, place if merged else self._guide.below(place, key.value), depth + 1)

    def _hide(self, node: ScalarNode, text: str) -> None:
        """Puts a text in the place of a scalar, where that is not the scalar itself."""
        first, last = node.start_mark, node.end_mark
        if first.line == last.line:
            written = self._lines[first.line][first.column : last.column]
            is_it = text == node.value and text in written  # PyYAML does not count a BOM as a column
            self._put(first.line, first.column, last.column, written if is_it else text)
            return
        for line in range(first.line, min(last.line, len(self._lines) - 1) + 1):
            start, end = 0, last.column if line == last.line else len(self._lines[line])
            if line == first.line:
                start, text = first.column, node.style if node.style in ("|", ">") else HIDDEN
            self._put(line, start, end, text)
            text = HIDDEN

    def _put(self, line: int, start: int, end: int, shown: str) -> None:
        """What is hidden once stays hidden, whatever else an alias makes of it."""
        known = self._spans.get((line, start))
        if end > start and (known is None or HIDDEN not in known[1]):
            self._spans[line, start] = (end, _printable(shown))

    def _pieces(self, number: int, line: str) -> Iterator[tuple[int, int, str]]:
        """The line in pieces: from column, to column, and what is shown."""
        column, hiding = 0, False
        while column < len(line):
            end, piece = self._spans.get((number, column), (column + 1, ""))
            sign = line[column]
            if not piece and sign == "#" and (column == 0 or line[column - 1] in " \t"):
                return
            if not piece:
                known = sign in _SIGNS
                piece = sign.replace("\t", "→") if known else "" if hiding else HIDDEN
                hiding = not known
            else:
                hiding = False
            yield column, end, piece
            column = end


def _key(name: str, place: Schema | None) -> str:
    """A key as it may be shown: where keys are known every one, elsewhere such as read as words."""
    if place is None:
        return name if wordy(name) else HIDDEN
    return HIDDEN if place.get("writeOnly") or len(name) > 64 else named(name)


def _open(value: str, place: Schema | None) -> str:
    """A value as it may be shown: itself, a part of it, or nothing of it."""
    named = _NAMED.split(value)
    if place is not None and not place.get("writeOnly") and len(named) == 1:
        scheme, found, rest = value.partition("://")
        if wordy(value) and not (found and re.search("[@?=&#%]", rest)):
            return value
        if found and scheme.isalpha() and len(scheme) < 8:
            return f"{scheme}://{HIDDEN}"
    return "".join(part if at % 2 else HIDDEN for at, part in enumerate(named) if part)


def _broken(line: str, column: int) -> Iterator[tuple[int, int, str]]:
    """A line that is no YAML: its key, and the sign that is pointed at; what is around them may be anything."""
    found = _BROKEN_KEY.match(line)
    known = found.end() if found and wordy(found[0]) else len(line) - len(line.lstrip(" -\t"))
    for at in range(known):
        yield at, at + 1, "→" if line[at] == "\t" else _printable(line[at])
    pointed = column >= known and line[column : column + 1] in _POINTED
    cuts = (known, column, column + 1, len(line)) if pointed else (known, len(line))
    for start, end in pairwise(cuts):
        part = line[start:end]
        if pointed and start == column:
            yield start, end, part.replace("\t", "→")
        elif part:
            spaces = len(part) - len(part.lstrip(" "))
            yield start, start + spaces, part[:spaces]
            yield start + spaces, end, HIDDEN if part.strip() else ""


def _first_line(node: Node) -> Mark:
    first, last = node.start_mark, node.end_mark
    end = last.column if last.line == first.line else first.column + 1
    return Mark(first.line, first.column, end)


def _above(path: str) -> str:
    """The path that it is beneath."""
    return path[: max(path.rfind("."), path.rfind("["), 0)]


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "·" for sign in text)


def _columns(text: str) -> int:
    return sum(2 if east_asian_width(sign) in "WF" else 1 for sign in text)
