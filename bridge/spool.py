"""One backend's file on disk (SQLite): the events that wait, and what is to be known again after a restart.

1. Everything of one write() is there after a crash, or nothing of it; what was written survives a power cut.
2. Events lie in chunks: written together, read together, deleted when none of them waits any more.
3. write() is for a worker thread, read() for the event loop: each has its connection, and WAL keeps them apart.
4. A file that cannot be read is moved aside, never deleted and never a reason not to start.
"""

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count, pairwise
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from bridge.model import Instant
from bridge.notes import Change, Recalled
from bridge.shelf import PLACE, Chunk, Entry, Found, Group, group_bytes

_APPLICATION, _VERSION = 0x77733271, 1  # of the file: "ws2q"
_PAGE, _SMALL_PAGE = 16 * 1024, 4 * 1024  # large pages leave little unused between payloads of a kilobyte
_SMALL = 16 * 2**20  # max_bytes below which pages are small
_CHUNK_EVENTS, _CHUNK_BYTES = 512, 512 * 1024  # at most
_WAL_PAGES = 256
_SHARED_MEMORY = 32 * 1024  # beside a file in WAL mode, as long as its log is short
_BUSY_S = 5.0
_SPARE_PAGES = 64  # an empty file that is larger is made small again, at the latest

# What our statements, which never change, meet only in a file that is not as we wrote it
_CORRUPT = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
)

# What a disk may do to a file SQLite does not see: `sum` is of the row's other columns, but for the body, which ends
# with its own.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS chunk (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, session TEXT NOT NULL,
    events INTEGER NOT NULL, bytes INTEGER NOT NULL, sum INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS note (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retained (topic TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_TABLES = {"chunk", "note", "retained"}
_ROW = "first, last, session, events, bytes, sum"


class Unusable(Exception):
    """The file cannot be used now: no space, no rights, no folder … corrupt: it never can."""

    def __init__(self, error: Exception, *, corrupt: bool = False) -> None:
        super().__init__(_words(error))
        code = getattr(error, "sqlite_errorcode", 0)
        self.corrupt = corrupt or code & 0xFF in _CORRUPT or code == sqlite3.SQLITE_READONLY_DBMOVED


class _Damaged(Exception):
    """A file that SQLite can read, but that is not as it was written."""


class Spool:
    """The file of one backend, below a folder. session: of this process · max_bytes: of the outbox."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        platform: str,
        session: str,
        max_bytes: int,
        now: Callable[[], Instant] = lambda: Instant(time.monotonic(), time.time()),
    ) -> None:
        self.file = folder / f"{name}.sqlite"
        self._platform, self._session, self._now = platform, session, now
        self._page = _SMALL_PAGE if max_bytes < _SMALL else _PAGE
        self._opened = now()
        self._shift = 0  # positions in this process are so much higher than in the file
        self._wal_pages = max(4, min(_WAL_PAGES, max_bytes // 64 // self._page))
        self._spare_pages = min(_SPARE_PAGES, max_bytes // 16 // self._page)
        self._reserve = self._wal_pages * self._page + 2 * group_bytes(max_bytes) + _SHARED_MEMORY
        self.used = 0
        self._chunk_bytes = min(_CHUNK_BYTES, max_bytes // 64)
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[Entry]).decode

    def open(self, after: int = 0) -> tuple[Found, Recalled]:
        """Makes the file where there is none. The events in it get positions from `after` on. Raises Unusable."""
        self._opened, self._shift = self._now(), 0
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._writer = self._connect()
            self._prepare(self._writer)
            found = self._found(self._writer, after)
            notes = self._notes(self._writer)
            self._measure(self._writer)
            self._reader = self._connect()
            return found, notes
        except (sqlite3.Error, OSError, _Damaged) as error:
            self.close()
            raise Unusable(error, corrupt=isinstance(error, _Damaged)) from None

    def recall(self) -> Recalled | None:
        """What is noted in a file that cannot be written now. None where it cannot be read either."""
        log = Path(f"{self.file}-wal")
        alone = not log.exists() or not log.stat().st_size  # else the file is not all of it
        address = f"{self.file.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
        with contextlib.suppress(sqlite3.Error, OSError), contextlib.closing(sqlite3.connect(address, uri=True)) as db:
            self._recognise(db)
            return self._notes(db)
        return None

    def close(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
        self._writer = self._reader = None

    def set_aside(self) -> Path:
        """Moves a file that cannot be read out of the way; where to. Raises OSError."""
        self.close()
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        aside = self.file.with_name(f"{self.file.name}.unreadable-{moment}")
        for number in count(2):
            if not aside.exists():
                break
            aside = aside.with_name(f"{self.file.name}.unreadable-{moment}-{number}")
        for more in ("", "-wal", "-shm"):  # what is in them belongs to that file
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.file}{more}", f"{aside}{more}")
        return aside

    # Writing.

    def write(self, group: Group, change: Change) -> list[Chunk]:
        """All of it, or nothing. Returns the chunks that the entries are in. Raises Unusable."""
        if self._writer is None:
            raise Unusable(OSError("not open"))
        try:
            with _transaction(self._writer) as writer:
                writer.executemany(
                    "DELETE FROM chunk WHERE first = ?", [(first - self._shift,) for first in group.gone]
                )
                chunks = [self._insert(writer, entries) for entries in self._portions(group.entries)]
                _note(writer, "head", _signed(group.head - self._shift))
                self._write_change(writer, change)
        except (sqlite3.Error, OSError) as error:
            raise Unusable(error) from None
        with contextlib.suppress(sqlite3.Error, OSError):  # it is written, whatever fails now
            self._measure(self._writer)
            if group.gone and not chunks:
                self._shrink(self._writer)
        return chunks

    def _insert(self, writer: sqlite3.Connection, entries: Sequence[Entry], session: str = "") -> Chunk:
        size = sum(entry.message.size + PLACE for entry in entries)
        first, last = entries[0].position, entries[-1].position
        row = (first - self._shift, last - self._shift, session or self._session, len(entries), size)
        body = self._encode(entries)
        body += crc32(body).to_bytes(4, "big")
        writer.execute("INSERT OR REPLACE INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, _sum(row), body))
        return Chunk(first, last, len(entries), size, len(entries))

    def _portions(self, entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
        """What goes into one chunk each."""
        portion: list[Entry] = []
        size = 0
        for entry in entries:
            if portion and (len(portion) == _CHUNK_EVENTS or size + entry.message.size > self._chunk_bytes):
                yield portion
                portion, size = [], 0
            portion.append(entry)
            size += entry.message.size
        if portion:
            yield portion

    def _write_change(self, writer: sqlite3.Connection, change: Change) -> None:
        if change.memory is not None:
            _note(writer, "memory", change.memory)
        if change.seen is not None:
            _note(writer, "seen", change.seen.unix)
        added = [(topic,) for topic, written in change.topics.items() if written]
        cleared = [(topic,) for topic, written in change.topics.items() if not written]
        writer.executemany("INSERT OR IGNORE INTO retained VALUES (?)", added)
        writer.executemany("DELETE FROM retained WHERE topic = ?", cleared)

    def _shrink(self, writer: sqlite3.Connection) -> None:
        """After a long outage, and all of it delivered, the space is given back."""
        if _one(writer, "PRAGMA freelist_count") > self._spare_pages and not _one(writer, "SELECT count(*) FROM chunk"):
            writer.execute("VACUUM")
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _measure(self, writer: sqlite3.Connection) -> None:
        """What is free in the file is used again; its log is as long as the largest transaction made it."""
        pages = _one(writer, "PRAGMA page_count") - _one(writer, "PRAGMA freelist_count")
        log = Path(f"{self.file}-wal")
        self.used = pages * _one(writer, "PRAGMA page_size") + self._reserve
        self.used += max(0, (log.stat().st_size if log.exists() else 0) - self._wal_pages * self._page)

    # Reading.

    def read(self, position: int) -> tuple[Chunk, Sequence[Entry]] | None:
        """As Shelf has it."""
        if self._reader is None:
            raise OSError("not open")
        asked = f"SELECT {_ROW}, body FROM chunk WHERE first >= ? ORDER BY first LIMIT 1"
        try:
            row = self._reader.execute(asked, (position - self._shift,)).fetchone()
            if row is None:
                return None
            *told, body = row
            first, last, session, events, size = _checked(told)
        except (sqlite3.Error, _Damaged) as error:
            raise OSError(_words(error)) from None
        chunk = Chunk(first + self._shift, last + self._shift, events, size, events)
        return chunk, self._placed(self._entries(body), chunk.first, session == self._session)

    def _entries(self, body: object) -> Sequence[Entry]:
        """None where they are not as they were written."""
        if not isinstance(body, bytes) or crc32(body[:-4]).to_bytes(4, "big") != body[-4:]:
            return ()
        try:
            return self._decode(body[:-4])
        except msgspec.DecodeError:
            return ()

    def _placed(self, entries: Sequence[Entry], first: int, ours: bool) -> Sequence[Entry]:
        """Positions may have been moved since; another process's monotonic clock says nothing here.

        What the other clock does later does not change the age of an event.
        """
        shift = first - entries[0].position if entries else 0
        if ours and not shift:
            return entries
        if ours:
            return [Entry(entry.position + shift, entry.message, entry.recorded) for entry in entries]
        opened = self._opened
        return [
            Entry(
                entry.position + shift,
                entry.message,
                Instant(opened.mono - max(0.0, opened.unix - entry.recorded.unix), entry.recorded.unix),
            )
            for entry in entries
        ]

    # Opening.

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        try:
            connection.execute(f"PRAGMA page_size = {self._page}")
            self._recognise(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = OFF")  # some builds overwrite what is deleted: twice the work
            connection.execute(f"PRAGMA wal_autocheckpoint = {self._wal_pages}")
            connection.execute(f"PRAGMA journal_size_limit = {self._wal_pages * self._page}")
            connection.execute("PRAGMA cache_size = -1024")
            connection.execute("PRAGMA temp_store = MEMORY")
        except (sqlite3.Error, OSError):
            connection.close()
            raise
        return connection

    def _recognise(self, connection: sqlite3.Connection) -> None:
        """A file that is not ours is not touched. Raises OSError."""
        application, version = _one(connection, "PRAGMA application_id"), _one(connection, "PRAGMA user_version")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        ours = not tables or (tables == _TABLES and (application, version) == (_APPLICATION, _VERSION))
        if not ours or (application, version) not in ((0, 0), (_APPLICATION, _VERSION)):
            raise OSError(f"{self.file} is not a file of this version of ws2mqtt")

    def _prepare(self, writer: sqlite3.Connection) -> None:
        begun = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION};"
        writer.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {begun} COMMIT;")
        with _transaction(writer):  # now, rather than with the first event: can it be written at all?
            if _value(writer, "platform") != self._platform:
                writer.execute("DELETE FROM note WHERE key IN ('memory', 'seen')")
            _note(writer, "platform", self._platform)

    def _found(self, writer: sqlite3.Connection, after: int) -> Found:
        head = _value(writer, "head")
        with _transaction(writer):
            if head is not None:
                head = _read_signed(head)
                writer.execute("DELETE FROM chunk WHERE last < ?", (head,))
                self._cut(writer, head)
            rows = [_checked(row) for row in writer.execute(f"SELECT {_ROW} FROM chunk ORDER BY first")]
        if not rows:
            return Found(after, after, 0, 0)
        if any(one.last >= two.first for one, two in pairwise(rows)):
            raise _Damaged("what is in it overlaps")
        self._shift = after - rows[0].first
        end = rows[-1].last + 1 + self._shift
        return Found(after, end, sum(row.events for row in rows), sum(row.bytes for row in rows))

    def _cut(self, writer: sqlite3.Connection, head: int) -> None:
        """What is before the head has left; the chunk that it lies in is written anew without that."""
        asked = f"SELECT {_ROW}, body FROM chunk WHERE first < ? AND last >= ?"
        row = writer.execute(asked, (head, head)).fetchone()
        if row is None:
            return
        first, _, session, _, _ = _checked(row[:-1])
        entries = self._entries(row[-1])
        if not entries:
            return
        shift = first - entries[0].position
        rest = [
            Entry(entry.position + shift, entry.message, entry.recorded)
            for entry in entries
            if entry.position + shift >= head
        ]
        writer.execute("DELETE FROM chunk WHERE first = ?", (first,))
        if rest:
            self._insert(writer, rest, session)

    def _notes(self, connection: sqlite3.Connection) -> Recalled:
        ours = _value(connection, "platform") == self._platform  # another's bookmarks say nothing here
        memory, seen = (_value(connection, key) if ours else None for key in ("memory", "seen"))
        return Recalled(
            memory if isinstance(memory, bytes) else None,
            min(float(seen), self._opened.unix) if isinstance(seen, int | float) and seen > 0 else None,
            {topic for (topic,) in connection.execute("SELECT topic FROM retained") if isinstance(topic, str)},
        )


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


class _Row(NamedTuple):
    first: int
    last: int
    session: str
    events: int
    bytes: int


def _checked(told: Sequence[Any]) -> _Row:
    """The columns of _ROW. Raises _Damaged where they are not as they were written."""
    if _sum(told[:-1]) != told[-1]:
        raise _Damaged("what is in it is not what was written")
    return _Row(*told[:-1])


def _sum(columns: Sequence[object]) -> int:
    return crc32(repr(tuple(columns)).encode())


def _signed(number: int) -> str:
    return f"{number} {_sum((number,))}"


def _read_signed(told: object) -> int:
    """What _signed() wrote. Raises _Damaged for anything else."""
    number = str(told).partition(" ")[0]
    if re.fullmatch(r"-?[0-9]{1,18}", number) and told == _signed(int(number)):
        return int(number)
    raise _Damaged("its head is not what was written")


def _note(writer: sqlite3.Connection, key: str, value: bytes | float | str) -> None:
    writer.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (key, value))


def _value(connection: sqlite3.Connection, key: str) -> object:
    row = connection.execute("SELECT value FROM note WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def _one(connection: sqlite3.Connection, asked: str) -> int:
    return int(connection.execute(asked).fetchone()[0])


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror.lower()}: {error.filename}" if error.filename else error.strerror.lower()
    return str(error) or type(error).__name__
