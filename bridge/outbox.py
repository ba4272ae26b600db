"""Where events wait: the only place between session and broker that may hold them.

1. An event leaves by commit() or by a drop counted with its reason.
2. Order is the order of append().
3. received + recovered == published + dropped + waiting, at every moment.
4. When it is full the oldest event goes that is not on its way already; on its way means peeked and not rewound.
5. With a shelf (a file on disk), what has been written may leave memory. By position it is then: those in memory at the
   front · those on the shelf only · those in memory at the back. Nothing is ever peeked from behind the shelf.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from bridge.ledger import DropReason, Ledger
from bridge.model import Instant, Message
from bridge.options import OutboxOptions
from bridge.shelf import PLACE, Chunk, Entry, Found, Group, Shelf, group_bytes
from bridge.topics import too_long

_NONE = -1
_KEEP = 4 * 2**20  # bytes at the front that stay in memory though they are on the shelf, at most
_GROUP = 5_000  # events written at once, at most


def keep(max_bytes: int) -> int:
    """Bytes that stay in memory though they are on the shelf."""
    return min(_KEEP, max_bytes // 4)


class Outbox:
    """The waiting events of one backend. Lives as long as the process: it outlasts restarts of the backend."""

    def __init__(self, options: OutboxOptions, types: Iterable[str]) -> None:
        self._beside = 0  # bytes that the shelf takes beside the events
        self.options = options
        self.ledger = Ledger.of(types)
        self.bytes = 0  # of all that waits
        self.kept = False  # what waits outlives the process
        self.hold = False  # nothing is peeked before it is written
        self.watched = False  # `appended` is called
        self.appended: Callable[[], None] = lambda: None
        self.broken = False  # the shelf could not be read: what it alone had is lost, and counted
        self._entries: dict[int, Entry] = {}
        self._head = 0  # the oldest that waits
        self._unsent = 0  # the oldest that is not on its way
        self._end = 0
        self.numbered = 0  # events so far; goes on where the backend comes back in the same process
        self._place = 0
        self._shelf: Shelf | None = None
        self._loose = 0  # bytes that are not on it
        self._away = self._back = _NONE  # from _away up to _back: on the shelf only
        self._stored = self._stored_bytes = 0  # that are there
        self._written = 0  # what is before it and still waits is on the shelf
        self._head_written = 0
        self._chunks: deque[Chunk] = deque()  # those in memory, in order; some with nothing left
        self._chunk_of: dict[int, Chunk] = {}
        self._gone: list[int] = []

    def number(self) -> int:
        """The next event's number, from 1: given on reading, so that a hole is a counted drop."""
        self.numbered += 1
        return self.numbered

    def __len__(self) -> int:
        return len(self._entries) + self._stored

    @property
    def end(self) -> int:
        """The position of the next event."""
        return self._end

    def append(self, message: Message, kind: str, now: Instant) -> None:
        """Takes an event in; kind: its type, for the count."""
        received = self.ledger.received
        received[kind if kind in received else "other"] += 1
        if too_long(message.topic):
            self.ledger.dropped["topic_too_long"] += 1
            return
        size = message.size + self._place
        if size > self._limit:  # it would push out all others, and then go itself
            self.ledger.dropped["outbox_full"] += 1
            return
        self._entries[self._end] = Entry(self._end, message, now)
        self._end += 1
        self.bytes += size
        self._loose += size
        if self.bytes > self._limit:
            self.expire(now)
            self._fit()
        if self.watched:
            self.appended()

    @property
    def options(self) -> OutboxOptions:
        """A reload may replace them."""
        return self._options

    @options.setter
    def options(self, options: OutboxOptions) -> None:
        self._options = options
        self._set_limit()

    def limit(self) -> int:
        """Bytes that may wait: on a shelf, what it needs beside the events is taken off."""
        return self._limit

    def _set_limit(self) -> None:
        whole = self._options.max_bytes
        self._limit = max(whole - self._beside, whole // 4)

    def _fit(self) -> None:
        while self.bytes > self._limit and len(self):
            self._drop(self._oldest_unsent(), "outbox_full")

    def _measure(self) -> None:
        """Anew, what the shelf takes beside the events that wait on it."""
        if self._shelf is not None:
            self._beside = max(0, self._shelf.used - (self.bytes - self._loose))
            self._set_limit()
        self._fit()

    def room(self) -> bool:
        """Whether what is pulled (history) may be appended: less than half full."""
        return self.bytes * 2 < self._limit

    def oldest(self) -> Entry | None:
        """The longest waiting one."""
        while self._head == self._away:
            self._fetch()
        return self._entries.get(self._head)

    def peek(self) -> Entry | None:
        """The next event that is not on its way; from now on it is."""
        while self._unsent < self._end:
            if self._unsent == self._away:
                self._fetch()
                continue
            entry = self._entries.get(self._unsent)
            if self.hold and entry is not None and self._unsent not in self._chunk_of:
                return None
            self._unsent += 1
            if entry is not None:
                return entry
        return None

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
        """The program ends: what is not on a shelf is lost, counted."""
        for position in list(self._entries):
            if position not in self._chunk_of:
                self._drop(position, "shutdown")

    # The shelf.

    def attach(self, shelf: Shelf, found: Found) -> None:
        """From now on there is a shelf; what it holds comes behind what is in memory (nothing, at the start)."""
        self._shelf, self._place = shelf, PLACE
        self.bytes += PLACE * len(self._entries)
        self._loose = self.bytes
        if not self._entries:
            self._head = self._unsent = self._head_written = found.first
            self._written = found.end
        if found.events:
            self._away, self._back = found.first, found.end
            self._stored, self._stored_bytes = found.events, found.bytes
            self.bytes += found.bytes
            self.ledger.recovered += found.events
        self._end = max(self._end, found.end)
        self._measure()

    def detach(self) -> None:
        """The shelf is gone, with everything that only it had; what is in memory is to be written anew."""
        self._forget_stored()
        self.bytes -= self._place * len(self._entries)
        self._shelf, self._place, self._beside, self._loose = None, 0, 0, self.bytes
        self._set_limit()
        self.kept = self.hold = self.broken = False
        self._chunks.clear()
        self._chunk_of.clear()
        self._gone.clear()
        self._written = self._head

    def unwritten(self, since: float | None) -> Group:
        """What is to be written: events read before `since` (Instant.mono; None: all), chunks to forget."""
        entries: list[Entry] = []
        position, left = max(self._written, self._head), group_bytes(self.options.max_bytes)
        gone = self._gone[: left // 2048]  # each may touch a page of its own
        more = len(gone) < len(self._gone)
        while position < self._end:
            entry = self._entries.get(position)
            if position == self._away or position in self._chunk_of:  # there already; no chunk may lie around another
                if entries:
                    more = True
                    break
                position = max(position + 1, self._back if position == self._away else 0)
                continue
            if entry is not None:
                if since is not None and entry.recorded.mono > since:
                    break
                left -= entry.message.size + self._place
                if entries and (left < 0 or len(entries) == _GROUP):
                    more = True
                    break
                entries.append(entry)
            position += 1
        there = self._chunk_of or self._gone  # else nothing on the shelf is before it
        head = self._head if there else self._head_written
        return Group(entries, gone, head, whole=position >= self._end, more=more)

    def due(self, since: float) -> bool:
        """Whether unwritten(since) has something to say; a look that may be taken every few milliseconds."""
        if self._gone or (self._chunk_of and self._head != self._head_written):
            return True
        position = max(self._written, self._head)
        while position < self._end:
            entry = self._entries.get(position)
            if entry is not None and position not in self._chunk_of:
                return entry.recorded.mono <= since
            position = max(position + 1, self._back if position == self._away else 0)
        return False

    def idle(self, group: Group) -> bool:
        """Whether a group says nothing new."""
        return not group.entries and not group.gone and group.head == self._head_written

    def wrote(self, group: Group, chunks: Iterable[Chunk]) -> None:
        """A group of unwritten() is on the shelf, in these chunks; what left meanwhile is forgotten with them."""
        del self._gone[: len(group.gone)]
        self._head_written = group.head
        if group.entries:
            self._written = group.entries[-1].position + 1
        entries = iter(group.entries)
        for chunk in chunks:
            waiting = islice(entries, chunk.total)
            left = [entry.position for entry in waiting if entry.position in self._entries]
            whole = len(left) == chunk.total
            self._loose -= chunk.bytes if whole else sum(self._entries[at].message.size + self._place for at in left)
            self._place_chunk(chunk, left)
        self._make_room()
        self._measure()

    def _place_chunk(self, chunk: Chunk, left: Sequence[int]) -> None:
        """A chunk's events are in memory (and on the shelf)."""
        chunk.left = len(left)
        if not left:
            self._gone.append(chunk.first)
            return
        self._chunks.append(chunk)
        self._chunk_of.update(dict.fromkeys(left, chunk))

    def _make_room(self) -> None:
        """What is on the shelf leaves memory, but for the front."""
        while self._chunks and not self._chunks[0].left:
            self._chunks.popleft()
        if self._stored:
            start = self._back
        elif self.bytes > keep(self.options.max_bytes):
            start = self._behind_front()
        else:
            return
        while self._chunks and self._chunks[-1].first >= start:
            chunk = self._chunks.pop()
            for position in range(chunk.first, chunk.last + 1):
                if self._entries.pop(position, None) is not None:
                    del self._chunk_of[position]
            self._stored += chunk.total
            self._stored_bytes += chunk.bytes
            self._away = min(self._away, chunk.first) if self._away != _NONE else chunk.first
            self._back = max(self._back, chunk.last + 1)

    def _behind_front(self) -> int:
        """The first position that may leave memory: not on its way, and from there on every chunk is whole."""
        front, start, stay = 0, self._end, keep(self.options.max_bytes) // 2
        for chunk in self._chunks:
            front += chunk.bytes
            whole = chunk.left == chunk.total
            if not whole or chunk.first < self._unsent or front <= stay:
                start = self._end
            elif start == self._end:
                start = chunk.first
        return start

    def _fetch(self) -> None:
        """The next chunk from the shelf into memory."""
        assert self._shelf is not None
        try:
            read = self._shelf.read(self._away)
        except OSError:
            self.broken = True
            read = None
        if read is None or read[0].first >= self._back:
            self._forget_stored()
            return
        chunk, entries = read
        lost = chunk.total - len(entries)
        self._entries.update((entry.position, entry) for entry in entries)
        self._place_chunk(chunk, [entry.position for entry in entries])
        self._stored -= chunk.total
        self._stored_bytes -= chunk.bytes
        if lost:
            self._unreadable(lost)
            self.bytes -= chunk.bytes - sum(entry.message.size + self._place for entry in entries)
        self._away = chunk.last + 1
        if self._away >= self._back:
            self._forget_stored()
        self._skip()

    def _forget_stored(self) -> None:
        """Nothing is on the shelf only (any more); what should have been there is lost."""
        if self._stored:
            self._unreadable(self._stored)
        self.bytes -= self._stored_bytes
        self._stored = self._stored_bytes = 0
        self._away = self._back = _NONE
        self._skip()

    def _unreadable(self, events: int) -> None:
        """The disk has lost them: so rare that the series begins with the first."""
        self.ledger.dropped["unreadable"] = self.ledger.dropped.get("unreadable", 0) + events

    # Leaving.

    def _oldest_unsent(self) -> int:
        """Steps over what is gone, so that a full outbox is not searched anew for every event."""
        while self._unsent < self._end and self._unsent not in self._entries:
            if self._unsent == self._away:
                self._fetch()
            else:
                self._unsent += 1
        return self._unsent if self._unsent < self._end else self._head

    def _drop(self, position: int, reason: DropReason) -> None:
        if self._take(position) is not None:
            self.ledger.dropped[reason] += 1

    def _take(self, position: int) -> Entry | None:
        entry = self._entries.pop(position, None)
        if entry is None:
            return None
        self.bytes -= entry.message.size + self._place
        if (chunk := self._chunk_of.pop(position, None)) is None:
            self._loose -= entry.message.size + self._place
        else:
            chunk.left -= 1
            if not chunk.left:
                self._gone.append(chunk.first)
        if position == self._head:
            self._skip()
        return entry

    def _skip(self) -> None:
        """The head steps over what has left."""
        while self._head < self._end and self._head not in self._entries and self._head != self._away:
            self._head += 1
        self._unsent = max(self._unsent, self._head)
