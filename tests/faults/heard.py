"""What the broker acknowledged, in its order: the stream as every subscriber gets it.

Judged while it flows, against these rules:

1. First occurrences come in order: of (session, sequence), and of the source's numbers. What a disk held that was not
   to be had when the bridge began (held_back) may come behind newer events: in order within its session.
2. Said twice it is the same, byte by byte: session, sequence, id and everything else were made once.
3. Nothing is heard that was never said. An id belongs to one event (looked at in the end: repeated_ids).
"""

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

SHOWN = 5  # problems of a kind that are told in full


class Gap(NamedTuple):
    """A window in which the backend says it was blind, Unix times."""

    since: float
    until: float
    reason: str
    session: str


class Copy(NamedTuple):
    """One event as it was published. number: the source's, 0 in a gap · mark: a digest of the whole message · recorded:
    when the bridge read it, as it says, Unix time."""

    number: int
    id: str
    session: str
    sequence: int
    mark: int
    gap: Gap | None = None
    recorded: float = 0.0


@dataclass
class Session:
    """What was heard of one session of the bridge; every sequence between 1 and `highest` that is not counted is a
    hole."""

    name: str
    highest: int = 0
    count: int = 0

    @property
    def holes(self) -> int:
        return self.highest - self.count


class Problems:
    """Sentences by kind: a few in full, the rest counted."""

    def __init__(self) -> None:
        self._told: dict[str, list[str]] = {}
        self._count: Counter[str] = Counter()

    def add(self, kind: str, what: str) -> None:
        self._count[kind] += 1
        if self._count[kind] <= SHOWN:
            self._told.setdefault(kind, []).append(f"{kind}: {what}")

    def __iter__(self) -> Iterator[str]:
        for kind, told in self._told.items():
            yield from told
            if (more := self._count[kind] - len(told)) > 0:
                yield f"{kind}: … and {more} more"


class Heard:
    """The stream."""

    def __init__(self) -> None:
        self.problems = Problems()
        self.held = 0  # numbers up to it may come behind newer ones
        self._held_session = ""  # so may events of sessions before it
        self.flags = bytearray(1)  # by number: 1 where it was heard
        self.first_at = array("d", [0.0])
        self.read_at = array("d", [0.0])  # when the bridge read it: never later than it was acknowledged
        self.doubled = 0
        self.sessions: dict[str, Session] = {}
        self.gaps: list[Gap] = []
        self.highest = 0
        self._marks = array("q", [0])
        self._ids = bytearray(16)
        self._gap_marks: dict[str, int] = {}
        self._key = ("", 0)

    @property
    def count(self) -> int:
        """Numbers heard, each once."""
        return self.flags.count(1)

    def any(self, first: int, last: int) -> bool:
        """Whether one of these numbers was heard."""
        return self.flags.find(1, first, last + 1) >= 0

    def held_back(self, number: int, session: str) -> None:
        """A disk is not to be had, and events wait on it: of numbers up to that one, of sessions before that one."""
        self.held, self._held_session = number, session

    def acknowledged(self, copy: Copy, at: float, said: int) -> bool:
        """The broker has it. said: the newest number of the source. Returns whether it was the first time."""
        if copy.gap is not None:
            return self._gap(copy, copy.gap)
        number = copy.number
        if not 0 < number <= said:
            self.problems.add("never said", f"number {number} was published, the source is at {said}")
            return False
        self._room(said)
        if self.flags[number]:
            self._again(copy)
            return False
        self.flags[number], self.first_at[number], self._marks[number] = 1, at, copy.mark
        self.read_at[number] = min(copy.recorded, at)
        self._ids[number * 16 : number * 16 + 16] = _id(copy.id)
        if self.held < number < self.highest:
            self.problems.add("out of order", f"number {number} was first heard after {self.highest}")
        self.highest = max(self.highest, number)
        self._first(copy)
        return True

    def repeated_ids(self) -> list[tuple[int, int]]:
        """Pairs of numbers that have one id between them."""
        seen: dict[bytes, int] = {}
        found = []
        for number, flag in enumerate(self.flags):
            if flag:
                known = seen.setdefault(bytes(self._ids[number * 16 : number * 16 + 16]), number)
                found += [(known, number)] if known != number else []
        return found

    def _room(self, said: int) -> None:
        if (more := said + 1 - len(self.flags)) > 0:
            more += 4096
            self.flags.extend(bytes(more))
            self.first_at.extend([0.0] * more)
            self.read_at.extend([0.0] * more)
            self._marks.extend([0] * more)
            self._ids.extend(bytes(16 * more))

    def _gap(self, copy: Copy, gap: Gap) -> bool:
        if copy.id in self._gap_marks:
            self.doubled += 1
            if self._gap_marks[copy.id] != copy.mark:
                self.problems.add("changed", f"gap {copy.id} was said again in other words")
            return False
        self._gap_marks[copy.id] = copy.mark
        self.gaps.append(gap)
        self._first(copy)
        return True

    def _again(self, copy: Copy) -> None:
        self.doubled += 1
        number = copy.number
        if self._ids[number * 16 : number * 16 + 16] != _id(copy.id):
            self.problems.add("unrecognisable double", f"number {number} came again with another id ({copy.id})")
        elif self._marks[number] != copy.mark:
            where = f"now session {copy.session} sequence {copy.sequence}"
            self.problems.add("changed", f"number {number} came again in other words ({where})")

    def _first(self, copy: Copy) -> None:
        session = self.sessions.setdefault(copy.session, Session(copy.session))
        before = (copy.session, session.highest) if copy.session < self._held_session else self._key
        if (key := (copy.session, copy.sequence)) <= before:
            self.problems.add("out of order", f"{_spell(key)} (number {copy.number}) came after {_spell(before)}")
        self._key = max(self._key, key)
        session.highest = max(session.highest, copy.sequence)
        session.count += 1


def _id(text: str) -> bytes:
    """Raises ValueError where it is not hex."""
    return bytes.fromhex(text)[:16].ljust(16, b"\0")


def _spell(key: tuple[str, int]) -> str:
    return f"session {key[0]} sequence {key[1]}"
