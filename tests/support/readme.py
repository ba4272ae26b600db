"""The README as its readers see it: sections, blocks of code, tables, links. Tests hold it against the program.

Only what our README uses of Markdown is read: `#` headings, fences of three backticks, tables with `|` at both ends.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"

_CELL = re.compile(r"(?<!\\)\|")
_CODE = re.compile(r"``(.+?)``|`([^`]+)`")
_PICTURE = re.compile(r"!\[[^\]]+\]\(([^)\s]+)\)")
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """language: as after the fence, "" for none."""

    section: str
    language: str
    text: str


@dataclass
class Table:
    """rows: without the head and the rule below it."""

    section: str
    head: tuple[str, ...]
    ruled: bool = False
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def column(self, name: str) -> list[str]:
        place = self.head.index(name)
        return [row[place] for row in self.rows]


@dataclass
class Readme:
    """headings: with their level (1 to 6) · prose: everything outside the blocks."""

    headings: list[tuple[int, str]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)

    def of(self, section: str, language: str) -> list[str]:
        """The blocks of one section in a language."""
        return [one.text for one in self.blocks if (one.section, one.language) == (section, language)]

    def table(self, section: str, *head: str) -> Table:
        """The first table of a section whose head begins so. Raises LookupError."""
        for one in self.tables:
            if one.section == section and one.head[: len(head)] == head:
                return one
        raise LookupError(f"no table {head} under {section!r}")

    def pictures(self) -> list[str]:
        return [link for line in self.prose for link in _PICTURE.findall(line)]

    def links(self) -> list[str]:
        return [link for line in self.prose for link in _LINK.findall(line)]


def read(text: str) -> Readme:
    """Raises ValueError for a fence that is never closed and a table row outside a table or of another width."""
    told, section, language = Readme(), "", ""
    block: list[str] | None = None
    table: Table | None = None
    for line in text.splitlines():
        if line.startswith("```"):
            if block is None:
                block, language, table = [], line[3:].strip(), None
            else:
                told.blocks.append(Block(section, language, "\n".join(block) + "\n"))
                block = None
        elif block is not None:
            block.append(line)
        else:
            told.prose.append(line)
            if match := re.match(r"(#+) (.+)", line):
                section = match[2]
                told.headings.append((len(match[1]), section))
            table = _row(told, table, section, line)
    if block is not None:
        raise ValueError(f"the block under {section!r} never ends")
    return told


def _row(told: Readme, table: Table | None, section: str, line: str) -> Table | None:
    """The table that is being read after this line."""
    if not line.startswith("|"):
        return None
    cells = tuple(cell.strip() for cell in _CELL.split(line)[1:-1])
    if table is None:
        table = Table(section, cells)
        told.tables.append(table)
        return table
    if len(cells) != len(table.head):
        raise ValueError(f"under {section!r}: {len(cells)} cells in a table of {len(table.head)}: {line}")
    rule = not set("".join(cells)) - set("-:")
    if rule == table.ruled:
        raise ValueError(f"under {section!r}: a table has one rule, below its head: {line}")
    if rule:
        table.ruled = True
    else:
        table.rows.append(cells)
    return table


def codes(cell: str) -> list[str]:
    """What is between backticks, `\\|` as it is shown."""
    return [(twice or once).strip().replace("\\|", "|") for twice, once in _CODE.findall(cell)]


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def commands(block: str) -> Iterator[str]:
    """The lines of a shell block that are commands."""
    return (line for line in block.splitlines() if line and not line.startswith("#"))


def readme() -> Readme:
    return read(README.read_text("utf-8"))
