"""What the outbox and a file on disk hand each other: events by position, written and forgotten in chunks."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from bridge.model import Instant, Message

PLACE = 48  # bytes beside the message that an event takes on the shelf
_GROUP_BYTES = 4 * 2**20


def group_bytes(max_bytes: int) -> int:
    """Bytes that are written at once, but for an event that is larger alone."""
    return min(_GROUP_BYTES, max_bytes // 16)


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """One event that waits. position: its place in the order · recorded: when it was read."""

    position: int
    message: Message
    recorded: Instant


class Found(Struct, frozen=True):
    """What a shelf held when it was opened: positions from `first` up to (not with) `end`."""

    first: int
    end: int
    events: int
    bytes: int


class Chunk(Struct):
    """Events that were written together, and are forgotten together.

    left: how many of them still wait, in memory · total: how many were written.
    """

    first: int
    last: int
    total: int
    bytes: int
    left: int


class Shelf(Protocol):
    """Where what was written can be read again. used: bytes it takes, with what the next group may take at most."""

    used: int

    def read(self, position: int) -> tuple[Chunk, Sequence[Entry]] | None:
        """The chunk at or behind a position, with its events from there on (none where they cannot be decoded).

        None: there is no such chunk. Raises OSError where the shelf cannot be read.
        """


class Group(Struct, frozen=True):
    """What is to be written at once.

    gone: chunks to forget, by their first position · head: what is before it has left · whole: no
    other event is unwritten · more: there is more of what was asked for.
    """

    entries: list[Entry]
    gone: list[int]
    head: int
    whole: bool
    more: bool = False
