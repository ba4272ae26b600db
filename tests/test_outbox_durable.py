"""The outbox with its file on disk, against a plain list: what waits, in which order, and what a crash leaves."""

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.ledger import DropReason
from bridge.model import Instant, Message
from bridge.notes import Change
from bridge.options import Duration, OutboxOptions, Size
from bridge.outbox import Outbox, keep
from bridge.shelf import PLACE, Chunk, Entry, Group, group_bytes
from bridge.spool import Spool, Unusable

TYPES = ("up", "join")
MAX_BYTES = 128 * 1024
MAX_AGE = 1000.0
WINDOW = 12
MEMORY = Path("/dev/shm")  # quicker than a disk, where there is one


def message(name: str, size: int) -> Message:
    """A message of that many bytes in all."""
    return Message("t", name.encode().ljust(size - 1, b"."))


def name(entry: Entry) -> str:
    return entry.message.payload.decode().rstrip(".")


OPENED: list[Spool] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Whatever a test has opened: Python 3.13 warns of a connection that is left to the garbage collector."""
    yield
    while OPENED:
        OPENED.pop().close()


class Process:
    """An outbox with its file, as one process has it; without a file until attach()."""

    def __init__(self, folder: Path, mono: float = 1000.0, unix: float = 1.7e9) -> None:
        self.at = Instant(mono, unix)
        self.box = Outbox(OutboxOptions(max_bytes=Size(MAX_BYTES), max_age=Duration(MAX_AGE)), TYPES)
        self.spool = Spool(
            folder, "lora", platform="resiot", session=str(mono), max_bytes=MAX_BYTES, now=lambda: self.at
        )
        OPENED.append(self.spool)

    def attach(self) -> Self:
        found, _ = self.spool.open(self.box.end)
        self.box.attach(self.spool, found)
        return self

    def append(self, names: str, size: int = 100) -> None:
        for one in names:
            self.box.append(message(one, size), "up", self.at)

    def write(self) -> None:
        while not self.box.idle(group := self.box.unwritten(None)):
            self.box.wrote(group, self.spool.write(group, Change()))

    def peeked(self, count: int = 1000) -> str:
        return "".join(name(entry) for entry in islice(iter(self.box.peek, None), count))

    def waiting(self) -> str:
        self.box.rewind()
        return self.peeked()


def left_behind(folder: Path, names: str, size: int = 100) -> None:
    """By a process that crashed."""
    process = Process(folder, 1.0).attach()
    process.append(names, size)
    process.write()
    process.spool.close()


def test_what_was_written_is_found_again(tmp_path: Path) -> None:
    left_behind(tmp_path, "abc")
    process = Process(tmp_path).attach()
    process.append("d")
    assert (len(process.box), process.box.ledger.recovered) == (4, 3)
    assert process.waiting() == "abcd"


def test_a_jump_of_the_clock_on_the_wall_makes_nobody_older(tmp_path: Path) -> None:
    left_behind(tmp_path, "abc")
    process = Process(tmp_path).attach()
    process.at = Instant(1001.0, 2.7e9)
    process.box.expire(process.at)
    assert process.waiting() == "abc"


@pytest.mark.parametrize("peeked", [0, 1, 3, 6])
def test_found_late_it_comes_behind_what_waits_in_memory(tmp_path: Path, peeked: int) -> None:
    """The file could not be opened at the start. A crash after that loses nothing either, nor turns it round."""
    left_behind(tmp_path, "abc")
    process = Process(tmp_path)
    process.append("uvw")
    process.attach()
    process.append("xyz")
    process.peeked(peeked)
    process.write()
    assert process.waiting() == "uvwabcxyz"
    process.spool.close()
    after = Process(tmp_path, 2000.0).attach()
    assert after.waiting() == "uvwabcxyz"
    assert after.box.ledger.recovered == 9


def test_found_late_it_is_published_though_everything_is_to_be_written_first(tmp_path: Path) -> None:
    left_behind(tmp_path, "abc")
    process = Process(tmp_path)
    process.append("u")
    process.attach()
    process.box.hold = True
    assert process.waiting() == ""
    process.write()
    assert process.waiting() == "uabc"


def test_what_is_found_late_and_too_much_goes_at_once(tmp_path: Path) -> None:
    left_behind(tmp_path, "ab", MAX_BYTES // 5)
    process = Process(tmp_path)
    process.append("uvwx", MAX_BYTES // 5)
    process.attach()
    assert process.box.bytes <= process.box.limit() < MAX_BYTES
    assert process.waiting() == "uvwxab"[-len(process.box) :]


def test_one_write_is_bounded_in_bytes(tmp_path: Path) -> None:
    process = Process(tmp_path).attach()
    process.append("abcdef", 3000)
    process.append("g", group_bytes(MAX_BYTES) + 1)
    process.append("h", 3000)
    sizes = []
    while not process.box.idle(group := process.box.unwritten(None)):
        sizes.append(len(group.entries))
        process.box.wrote(group, process.spool.write(group, Change()))
    assert sizes == [2, 2, 2, 1, 1]


def test_what_has_to_be_written_is_written_at_once_and_what_has_not_is_no_reason_to_go_on(tmp_path: Path) -> None:
    """A busy broker makes young events come and go all the time."""
    process = Process(tmp_path).attach()
    process.append("abc", 3000)
    process.at = Instant(1001.0, 1.7e9)
    process.append("d")
    first = process.box.unwritten(1000.5)
    assert (len(first.entries), first.more, first.whole) == (2, True, False)
    process.box.wrote(first, process.spool.write(first, Change()))
    rest = process.box.unwritten(1000.5)
    assert (len(rest.entries), rest.more, rest.whole) == (1, False, False)


@dataclass(eq=False)
class One:
    """An event of the twin. mono: by this process's clock; written: it is on disk."""

    name: str
    size: int
    unix: float
    mono: float
    written: bool = False
    place: int = 0
    flying: int | None = None  # its position, on its way


class Twin(RuleBasedStateMachine):
    """The outbox beside a list that does the same, slowly and plainly."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.unix, self.names, self.processes = 1.7e9, 0, 0
        self.waits: list[One] = []
        self.must: list[One] = []  # on disk since the last write, and to be found again
        self.ever: list[One] = []  # what may still be on disk
        self.places = 0
        self.spool: Spool
        self.pending: tuple[Group, list[One], list[One]] | None = None

    @initialize()
    def begin(self) -> None:
        self.start()
        self.attach()

    def start(self) -> None:
        """A process."""
        self.processes += 1
        self.mono = 1000.0 * self.processes
        options = OutboxOptions(max_bytes=Size(MAX_BYTES), max_age=Duration(MAX_AGE))
        self.box = Outbox(options, TYPES)
        self.attached, self.late, self.pending = False, False, None
        self.received = self.published = self.recovered = 0
        self.lost: dict[str, int] = {}
        self.furthest = 0  # the most bytes on their way since memory was last made free
        self.waits = []
        self.spool = Spool(
            self.folder, "lora", platform="resiot", session=str(self.processes), max_bytes=MAX_BYTES, now=self.now
        )

    def now(self) -> Instant:
        return Instant(self.mono, self.unix)

    @property
    def limit(self) -> int:
        return self.box.limit()

    def size(self, one: One) -> int:
        return one.size + (PLACE if self.attached else 0)

    def bytes(self) -> int:
        return sum(map(self.size, self.waits))

    def gone(self, one: One) -> None:
        self.waits.remove(one)
        one.flying = None

    def drop(self, one: One, reason: DropReason) -> None:
        self.gone(one)
        self.lost[reason] = self.lost.get(reason, 0) + 1

    def make_room(self) -> None:
        while self.bytes() > self.limit:
            self.drop(next((one for one in self.waits if one.flying is None), self.waits[0]), "outbox_full")

    def grow_old(self) -> None:
        """What is too old leaves at the front alone."""
        while self.waits and self.waits[0].mono < self.mono - MAX_AGE:
            self.drop(self.waits[0], "too_old")

    def flying(self) -> list[One]:
        return [one for one in self.waits if one.flying is not None]

    # Events come and go.

    @rule(count=st.integers(1, 40), size=st.integers(100, 6000), kind=st.sampled_from((*TYPES, "weather")))
    def append(self, count: int, size: int, kind: str) -> None:
        for _ in range(count):
            self.names += 1
            self.places += 1
            self.received += 1
            self.box.append(message(str(self.names), size), kind, self.now())
            self.waits.append(One(str(self.names), size, self.unix, self.mono, place=self.places))
            if self.bytes() > self.limit:
                self.grow_old()
            self.make_room()

    @rule(count=st.integers(1, WINDOW))
    def peek(self, count: int) -> None:
        for _ in range(count):
            unsent = [one for one in self.waits if one.flying is None]
            if len(self.flying()) >= WINDOW:
                break
            entry = self.box.peek()
            assert (entry and name(entry)) == (unsent[0].name if unsent else None)
            if entry is not None:
                assert len(entry.message.payload) + 1 == unsent[0].size
                assert entry.recorded.unix == unsent[0].unix
                unsent[0].flying = entry.position
        self.furthest = max(self.furthest, sum(map(self.size, self.flying())))

    @precondition(lambda self: self.flying())
    @rule(data=st.data(), count=st.integers(1, WINDOW))
    def commit_in_any_order(self, data: st.DataObject, count: int) -> None:
        for one in data.draw(st.permutations(self.flying()))[:count]:
            self.commit(one)

    @rule(count=st.integers(1, 100))
    def publish(self, count: int) -> None:
        """As with a broker that is well."""
        for _ in range(count):
            for one in self.flying():
                self.commit(one)
            self.peek(WINDOW)

    def commit(self, one: One) -> None:
        assert one.flying is not None
        position = one.flying
        entry = self.box.commit(position)
        assert entry is not None
        assert name(entry) == one.name
        self.gone(one)
        self.published += 1
        assert self.box.commit(position) is None

    @precondition(lambda self: self.flying())
    @rule(data=st.data(), reason=st.sampled_from(("refused", "too_large")))
    def drop_one(self, data: st.DataObject, reason: DropReason) -> None:
        one = data.draw(st.sampled_from(self.flying()))
        assert one.flying is not None
        self.box.drop(one.flying, reason)
        self.drop(one, reason)

    @rule()
    def rewind(self) -> None:
        self.box.rewind()
        for one in self.waits:
            one.flying = None

    @rule(seconds=st.sampled_from((0.0, 1.0, 300.0, 900.0)))
    def time_passes(self, seconds: float) -> None:
        self.mono += seconds
        self.unix += seconds
        self.box.expire(self.now())
        self.grow_old()

    @rule(seconds=st.sampled_from((-1e9, -3600.0, 3600.0, 1e9)))
    def the_clock_on_the_wall_jumps(self, seconds: float) -> None:
        self.unix += seconds

    # The disk.

    @precondition(lambda self: self.attached and self.pending is None)
    @rule()
    def write(self) -> None:
        """Everything, as fast as it goes."""
        more = True
        while more or any(not one.written for one in self.waits):
            self.begin_to_write(True)
            assert self.pending is not None
            more = self.pending[0].more
            self.written()

    @precondition(lambda self: self.attached and self.pending is None)
    @rule(fresh=st.booleans())
    def begin_to_write(self, fresh: bool) -> None:
        """fresh: everything; else what is a second old."""
        before = None if fresh else self.mono - 1.0
        group = self.box.unwritten(before)
        unwritten = [one for one in self.waits if not one.written]
        writing = unwritten[: len(group.entries)]
        assert [name(entry) for entry in group.entries] == [one.name for one in writing]
        assert all(before is None or one.mono <= before for one in writing)
        assert not group.whole or len(writing) == len(unwritten)
        assert group.entries or group.whole or before is not None
        assert group.more or before is not None or (group.whole and len(group.gone) == len(self.box._gone))
        size = sum(map(self.size, writing))
        assert len(writing) < 2 or size <= group_bytes(MAX_BYTES)
        if len(writing) < len(unwritten):  # something made it stop
            more = before is not None and unwritten[len(writing)].mono > before
            around = any(one.written for one in self.waits[: self.waits.index(unwritten[len(writing)])])
            assert more or around or size + self.size(unwritten[len(writing)]) > group_bytes(MAX_BYTES)
        self.pending = group, writing, list(self.waits)

    @precondition(lambda self: self.pending is not None)
    @rule()
    def written(self) -> None:
        """The thread is done."""
        self.wrote(self.on_disk())

    def wrote(self, chunks: list[Chunk]) -> None:
        assert self.pending is not None
        self.box.wrote(self.pending[0], chunks)
        for one in self.pending[1]:
            one.written = True
        self.pending = None
        self.make_room()
        self.furthest = sum(map(self.size, self.flying()))

    @precondition(lambda self: self.pending is not None)
    @rule()
    def not_written(self) -> None:
        """The disk is full."""
        writer = self.spool._writer
        assert writer is not None
        writer.execute("PRAGMA max_page_count = 1")  # no more than there are
        try:
            chunks = self.on_disk()
        except Unusable:
            self.pending = None
        else:  # what was free in the file was enough
            self.wrote(chunks)
        writer.execute("PRAGMA max_page_count = 4294967294")

    def on_disk(self) -> list[Chunk]:
        """What a crash leaves from now on. Raises Unusable, and nothing is changed."""
        assert self.pending is not None
        group, writing, waits = self.pending
        chunks = self.spool.write(group, Change())
        self.must = [one for one in waits if one in self.ever or one in writing]
        known = [one for one in (*self.ever, *writing) if self.must and one.place >= waits[0].place]
        self.ever = sorted(known, key=lambda one: one.place)
        return chunks

    @rule(how=st.sampled_from(("crash", "order", "lost")), late=st.booleans(), written=st.booleans())
    def an_end(self, how: str, late: bool, written: bool) -> None:
        """Rarer than the rest."""
        if not self.attached:
            self.end_without_a_disk() if how == "order" else self.attach()
        elif how == "crash":
            self.crash(written, late)
        elif how == "order":
            self.end_in_order(late)
        elif self.pending is None:
            self.the_file_is_lost()

    def crash(self, written: bool, late: bool) -> None:
        """written: the thread was done, and nobody heard of it any more."""
        if written and self.pending is not None:
            self.on_disk()
        self.begin_again(late)

    def end_in_order(self, late: bool) -> None:
        if self.pending is not None:
            self.written()
        self.begin_to_write(True)
        self.written()
        self.write()
        self.box.abandon()
        waited = [one.name for one in self.waits]
        assert [one.name for one in self.must if one in self.waits] == waited
        assert len(self.box) == len(waited)
        self.begin_again(late)

    def end_without_a_disk(self) -> None:
        self.box.abandon()
        assert len(self.box) == 0
        assert self.box.ledger.dropped["shutdown"] == len(self.waits)
        self.begin_again(late=False)

    def begin_again(self, late: bool) -> None:
        self.spool.close()
        self.unix += 10.0
        self.start()
        if not late:
            self.attach()

    def attach(self) -> None:
        """At the start, or when the disk is well again: what is there comes behind what waits in memory."""
        found, _ = self.spool.open(self.box.end)
        before = len(self.box)
        full = self.box.ledger.dropped["outbox_full"]
        self.box.attach(self.spool, found)
        full = self.box.ledger.dropped["outbox_full"] - full
        self.attached = True
        self.recovered += found.events
        back = list(self.found())
        assert len(back) == found.events == len(self.box) + full - before
        assert [one for one in back if one in self.must] == self.must, "all of it, in order"
        assert back == [one for one in self.ever if one in back]
        for one in back:
            one.mono = self.mono - max(0.0, self.unix - one.unix)
            one.written, one.flying = True, None
        self.waits += back
        for place, one in enumerate(self.waits):
            one.place = place
        self.places = len(self.waits)
        self.must, self.ever = back, back
        self.late = before > 0
        self.make_room()

    def found(self) -> Iterator[One]:
        """What is in the file, read by somebody else."""
        with contextlib.closing(sqlite3.connect(self.spool.file)) as file:
            reader = Spool(self.folder, "lora", platform="resiot", session="another", max_bytes=MAX_BYTES)
            for (body,) in file.execute("SELECT body FROM chunk ORDER BY first"):
                for entry in reader._entries(body):
                    one = next(one for one in self.ever if one.name == name(entry))
                    assert (len(entry.message.payload) + 1, entry.recorded.unix) == (one.size, one.unix)
                    yield one

    def the_file_is_lost(self) -> None:
        """What is in memory goes on."""
        before = self.box.ledger.dropped.get("unreadable", 0)
        self.box.detach()
        self.spool.set_aside()
        lost = self.box.ledger.dropped.get("unreadable", 0) - before
        self.rewind()
        left = {name(entry) for entry in iter(self.box.peek, None)}
        self.rewind()
        for one in [one for one in self.waits if one.name not in left]:
            assert one.written
            self.drop(one, "unreadable")
            lost -= 1
        assert lost == 0
        for one in self.waits:
            one.written = False
        self.attached, self.must, self.ever = False, [], []

    # What always holds.

    @rule()
    def the_oldest(self) -> None:
        entry = self.box.oldest()
        assert (entry and name(entry)) == (self.waits[0].name if self.waits else None)
        if entry is not None:
            assert entry.recorded.mono == self.waits[0].mono

    @invariant()
    def the_ledger_balances(self) -> None:
        ledger = self.box.ledger
        assert sum(ledger.received.values()) == self.received
        assert (ledger.recovered, ledger.published) == (self.recovered, self.published)
        assert {reason: count for reason, count in ledger.dropped.items() if count} == self.lost
        assert self.received + self.recovered == self.published + sum(self.lost.values()) + len(self.box)

    @invariant()
    def the_same_waits(self) -> None:
        assert len(self.box) == len(self.waits)
        assert self.box.bytes == self.bytes() <= self.limit
        assert self.box.room() == (self.box.bytes * 2 < self.limit)

    @invariant()
    def memory_is_bounded(self) -> None:
        """The front, what is not written yet, what is on its way, and a chunk that was fetched."""
        if not self.attached or self.late:
            return
        held = sum(entry.message.size + PLACE for entry in self.box._entries.values())
        unwritten = sum(self.size(one) for one in self.waits if not one.written)
        writing = sum(map(self.size, self.pending[1])) if self.pending else 0
        assert held <= keep(MAX_BYTES) + unwritten + writing + 2 * self.furthest + 2 * (MAX_BYTES // 64 + 6100)

    def teardown(self) -> None:
        with contextlib.suppress(AttributeError):
            self.box.rewind()
            assert [name(entry) for entry in iter(self.box.peek, None)] == [one.name for one in self.waits]
            self.spool.close()
        shutil.rmtree(self.folder)


TestTwin = Twin.TestCase
TestTwin.settings = settings(
    deadline=None,
    print_blob=True,
    max_examples=60,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
