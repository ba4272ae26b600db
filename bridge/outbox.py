"""Where events wait: the only place between session and broker that may hold them.

1. An event leaves by commit() or by a drop counted with its reason.
2. Order is the order of append().
3. received + recovered == published + dropped + waiting, at every moment.
4. When it is full the oldest event goes that is not on its way already; on its way means peeked and not rewound.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from bridge.model import Instant, Message
from bridge.options import OutboxOptions
from bridge.topics import too_long

DropReason = Literal["outbox_full", "too_old", "too_large", "topic_too_long", "refused", "shutdown"]
DROP_REASONS: tuple[DropReason, ...] = ("outbox_full", "too_old", "too_large", "topic_too_long", "refused", "shutdown")


class Ledger(Struct):
    """Every event of this process, by what became of it (README, Metrics)."""

    received: dict[str, int]
    dropped: dict[str, int]
    recovered: int = 0
    published: int = 0

    @classmethod
    def of(cls, types: Iterable[str]) -> "Ledger":
        return cls(received=dict.fromkeys((*types, "other"), 0), dropped=dict.fromkeys(DROP_REASONS, 0))


class Entry(Struct, frozen=True):
    """One event that waits. position: its place in the order · recorded: when it was read."""

    position: int
    message: Message
    recorded: Instant


class Outbox:
    """The waiting events of one backend. Lives as long as the process: it outlasts restarts of the backend."""

    def __init__(self, options: OutboxOptions, types: Iterable[str]) -> None:
        self.options = options  # a reload may replace them
        self.ledger = Ledger.of(types)
        self._entries: dict[int, Entry] = {}
        self._head = 0  # the oldest that waits
        self._unsent = 0  # the oldest that is not on its way
        self._end = 0
        self.bytes = 0
        self._number = 0

    def number(self) -> int:
        """The next event's number, from 1: given on reading, so that a hole is a counted drop."""
        self._number += 1
        return self._number

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, message: Message, kind: str, now: Instant) -> None:
        """Takes an event in; kind: its type, for the count."""
        received = self.ledger.received
        received[kind if kind in received else "other"] += 1
        if too_long(message.topic):
            self.ledger.dropped["topic_too_long"] += 1
            return
        self.expire(now)
        if message.size > self.options.max_bytes:  # it would push out all others, and then go itself
            self.ledger.dropped["outbox_full"] += 1
            return
        self._entries[self._end] = Entry(self._end, message, now)
        self._end += 1
        self.bytes += message.size
        while self.bytes > self.options.max_bytes and self._entries:
            self._drop(self._oldest_unsent(), "outbox_full")

    def room(self) -> bool:
        """Whether what is pulled (history) may be appended: less than half full."""
        return self.bytes * 2 < self.options.max_bytes

    def oldest(self) -> Entry | None:
        """The longest waiting one."""
        return self._entries.get(self._head)

    def peek(self) -> Entry | None:
        """The next event that is not on its way; from now on it is."""
        while self._unsent < self._end:
            entry = self._entries.get(self._unsent)
            self._unsent += 1
            if entry is not None:
                return entry
        return None

    def unsent(self) -> bool:
        """Whether peek() would give something (or came close)."""
        return self._unsent < self._end

    def rewind(self) -> None:
        """Nothing is on its way any more: everything that waits is to be sent again, in order."""
        self._unsent = self._head

    def commit(self, position: int) -> Entry | None:
        """The broker has it. None where it was dropped meanwhile."""
        entry = self._take(position)
        if entry is not None:
            self.ledger.published += 1
        return entry

    def drop(self, position: int, reason: DropReason) -> None:
        """It will never reach the broker."""
        self._drop(position, reason)

    def expire(self, now: Instant) -> None:
        """Drops what is older than max_age."""
        limit = now.mono - self.options.max_age
        while (entry := self.oldest()) is not None and entry.recorded.mono < limit:
            self._drop(entry.position, "too_old")

    def abandon(self) -> None:
        """The program ends and there is no disk: what still waits is lost, counted."""
        for position in list(self._entries):
            self._drop(position, "shutdown")

    def _oldest_unsent(self) -> int:
        """Steps over what is gone, so that a full outbox is not searched anew for every event."""
        while self._unsent < self._end and self._unsent not in self._entries:
            self._unsent += 1
        return self._unsent if self._unsent < self._end else self._head

    def _drop(self, position: int, reason: DropReason) -> None:
        if self._take(position) is not None:
            self.ledger.dropped[reason] += 1

    def _take(self, position: int) -> Entry | None:
        entry = self._entries.pop(position, None)
        if entry is not None:
            self.bytes -= entry.message.size
            while self._head < self._end and self._head not in self._entries:
                self._head += 1
            self._unsent = max(self._unsent, self._head)
        return entry
