"""One backend's file: how large it gets, what it refuses, and that a broken one is never more than moved aside."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import Fatal
from bridge.lock import lock
from bridge.model import Instant, Message
from bridge.notes import Change, Recalled
from bridge.options import OutboxOptions, Size
from bridge.outbox import Outbox
from bridge.shelf import PLACE, Group
from bridge.spool import Spool, Unusable
from bridge.times import rfc3339

DEVICE = "application/70b3d57ed0001122/device/a81758fffe0a0b0c"
KIB, MIB = 1024, 1024**2


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder that is quick to write to, where there is one."""
    quick = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=quick if quick.is_dir() else tmp_path))
    yield folder
    shutil.rmtree(folder)


OPENED: list[Spool] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Whatever a test has opened: Python 3.13 warns of a connection that is left to the garbage collector."""
    yield
    while OPENED:
        OPENED.pop().close()


def spool(folder: Path, max_bytes: int = 16 * MIB, session: str = "1", platform: str = "resiot", **more: Any) -> Spool:
    OPENED.append(Spool(folder, "lora", platform=platform, session=session, max_bytes=max_bytes, **more))
    return OPENED[-1]


def taken(folder: Path) -> int:
    """Bytes that the folder's files take."""
    return sum(path.stat().st_size for path in folder.iterdir())


class Full:
    """An outbox that is filled and emptied through its file, as the service does it but without waiting."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes, self.most = folder, max_bytes, 0
        self.box = Outbox(OutboxOptions(max_bytes=Size(max_bytes)), ("up",))
        self.spool = spool(folder, max_bytes)
        found, _ = self.spool.open()
        self.box.attach(self.spool, found)

    def append(self, payload: bytes) -> None:
        self.box.append(
            Message("ws2mqtt/lora/application/70b3/device/a817/event/up", payload), "up", Instant(1.0, 1.7e9)
        )

    def write(self) -> None:
        """Everything; the most that was taken is kept."""
        while not self.box.idle(group := self.box.unwritten(None)):
            self.box.wrote(group, self.spool.write(group, Change()))
            self.most = max(self.most, taken(self.folder))

    def publish(self) -> int:
        done = 0
        while (entry := self.box.peek()) is not None:
            assert self.box.commit(entry.position) is entry
            done += 1
            if done % 500 == 0:
                self.write()
        return done


@pytest.mark.parametrize("at_once", [1, 7, 500], ids="{}-at-once".format)
@pytest.mark.parametrize(
    ("max_bytes", "size"),
    [(256 * KIB, size) for size in (100, 900, 2_100, 20_000)]
    + [(MIB, size) for size in (100, 900, 2_100, 20_000, 300_000)]
    + [(16 * MIB, size) for size in (900, 20_000, 300_000)],
)
def test_the_disk_is_never_fuller_than_max_bytes(max_bytes: int, size: int, at_once: int, memory: Path) -> None:
    """Overflowing, then emptied: at every moment."""
    full = Full(memory, max_bytes)
    events = min(3 * max_bytes // size, 20_000 if at_once > 1 else 600)
    for number in range(events):
        full.append(os.urandom(8) * (size // 8))
        if number % at_once == 0:
            full.write()
    full.write()
    waiting = len(full.box)
    assert full.publish() == waiting, "what waits can be read"
    full.write()
    assert full.most <= max_bytes
    assert taken(memory) < max(max_bytes // 4, 120 * KIB), "emptied, it is small"


@pytest.mark.parametrize("at_once", [1, 7, 500], ids="{}-at-once".format)
def test_most_of_max_bytes_is_for_events(at_once: int, memory: Path) -> None:
    full = Full(memory, 4 * MIB)
    for number in range(8_000):
        full.append(os.urandom(8) * 120)
        if number % at_once == 0:
            full.write()
    assert full.box.ledger.dropped["outbox_full"]
    assert full.box.bytes > 4 * MIB * 0.6


def test_an_hour_without_a_broker(memory: Path) -> None:
    """Counted flat out: memory stays small, the disk below max_bytes, and the newest are there, without a hole."""
    full, events = Full(memory, 16 * MIB), 300_000
    try:
        for number in range(1, events + 1):
            full.append(number.to_bytes(4, "big") * 60)
            if number % 1_000 == 0:
                full.write()
            if number == events - 30_000:  # as many as are dropped from then on; watching all of them takes its time
                tracemalloc.start(1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 * MIB
    assert full.most <= 16 * MIB
    waiting, dropped = len(full.box), full.box.ledger.dropped["outbox_full"]
    assert waiting + dropped == events
    first = full.box.peek()
    assert first is not None
    assert int.from_bytes(first.message.payload[:4], "big") == dropped + 1
    full.box.rewind()
    assert full.publish() == waiting


# What is in the file


def test_what_was_noted_is_there_again(tmp_path: Path) -> None:
    full = Full(tmp_path, MIB)
    nothing = Group([], [], 0, whole=True)
    full.spool.write(nothing, Change(b"bookmark", Instant(5.0, 1.6e9), {"a": True, "b": True}))
    full.spool.write(nothing, Change(topics={"a": False, "c": True}))
    full.spool.close()
    _, recalled = spool(tmp_path).open()
    assert recalled == Recalled(b"bookmark", 1.6e9, {"b", "c"})


def test_another_platform_does_not_get_the_bookmarks_but_clears_the_states(tmp_path: Path) -> None:
    full = Full(tmp_path, MIB)
    full.spool.write(Group([], [], 0, whole=True), Change(b"bookmark", Instant(5.0, 1.6e9), {"a": True}))
    full.spool.close()
    _, recalled = spool(tmp_path, platform="iotpro").open()
    assert recalled == Recalled(None, None, {"a"})


def test_a_sign_of_life_is_not_of_the_future(tmp_path: Path) -> None:
    """The clock on the wall was put back meanwhile."""
    full = Full(tmp_path, MIB)
    full.spool.write(Group([], [], 0, whole=True), Change(seen=Instant(5.0, 4e9)))
    full.spool.close()
    again = spool(tmp_path, MIB, "2", now=lambda: Instant(1.0, 1.7e9))
    assert again.open()[1].seen == 1.7e9


def test_a_chunk_is_bounded(tmp_path: Path) -> None:
    full = Full(tmp_path, 16 * MIB)
    for _ in range(3_000):
        full.append(bytes(200))
    full.write()
    with closing(sqlite3.connect(full.spool.file)) as file:
        rows = file.execute("SELECT events, bytes FROM chunk").fetchall()
    assert sum(events for events, _ in rows) == 3_000
    assert max(events for events, _ in rows) == 512
    assert max(size for _, size in rows) <= 16 * MIB // 64 + 512 * PLACE


def test_what_fails_after_the_writing_does_not_make_it_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be written twice, in other chunks."""
    full = Full(tmp_path, MIB)
    full.append(b"x")

    def fails(writer: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(full.spool, "_measure", fails)
    monkeypatch.setattr(full.spool, "_shrink", fails)
    full.write()
    assert full.publish() == 1
    full.write()
    assert full.box.idle(full.box.unwritten(None))


@pytest.mark.parametrize("head", [None, 10**9, "1000000000", "9 9", b"\xff", "- 1", ""])
def test_a_head_that_is_not_as_it_was_written_does_not_empty_the_file(head: object, sound: bytes, memory: Path) -> None:
    (memory / "lora.sqlite").write_bytes(sound)
    with closing(sqlite3.connect(memory / "lora.sqlite", isolation_level=None)) as file:
        file.execute("UPDATE note SET value = ? WHERE key = 'head'", (head,))
    if head is None:
        assert read_all(memory) == (list(NUMBERS), 0)
        return
    with pytest.raises(Unusable) as refused:
        spool(memory).open()
    assert refused.value.corrupt
    with closing(sqlite3.connect(memory / "lora.sqlite")) as file:
        assert file.execute("SELECT total(events) FROM chunk").fetchone()[0] == len(NUMBERS)


# What it refuses


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE recipe (name)")


def newer(path: Path) -> None:
    made = spool(path.parent)
    made.open()
    made.close()
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 2")


def somebody_elses(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA application_id = 1")


@pytest.mark.parametrize("make", [foreign, newer, somebody_elses])
def test_a_file_that_is_not_ours_is_left_alone(make: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / "lora.sqlite"
    make(file)
    before = file.read_bytes()
    with pytest.raises(Unusable, match="is not a file of this version") as refused:
        spool(tmp_path).open()
    assert not refused.value.corrupt
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "broken",
    [b"not a database " * 400, b"\0" * 8192, b"SQLite format 3\0", b"SQLite format 3\0" + b"\xff" * 8000],
    ids=["garbage", "zeros", "short", "head-only"],
)
def test_a_file_that_is_none_is_moved_aside(broken: bytes, tmp_path: Path) -> None:
    file = tmp_path / "lora.sqlite"
    asides = []
    for _ in range(3):
        file.write_bytes(broken)
        one = spool(tmp_path)
        with pytest.raises(Unusable) as refused:
            one.open()
        assert refused.value.corrupt
        asides.append(one.set_aside())
        assert not file.exists()
    assert len({*asides}) == 3, "none takes the place of another"
    assert [aside.read_bytes() for aside in asides] == [broken] * 3
    assert spool(tmp_path).open()[0].events == 0


def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "lora.sqlite").write_bytes(b"")
    assert spool(tmp_path).open()[0].events == 0


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "lora.sqlite").mkdir()
    with pytest.raises(Unusable):
        spool(tmp_path).open()


# A disk that forgets


NUMBERS = range(1, 201)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file with 200 events in many chunks, bookmarks and topics."""
    full = Full(tmp_path_factory.mktemp("sound"), MIB)
    for number in NUMBERS:
        full.append(f"{number:04}".encode() * 150)
        if number % 5 == 0:
            full.write()
    topics = {f"ws2mqtt/lora/{number}/state": True for number in range(200)}
    full.spool.write(Group([], [], 0, whole=True), Change(b"bookmark" * 100, Instant(5.0, 1.6e9), topics))
    full.spool.close()
    return full.spool.file.read_bytes()


def read_all(folder: Path) -> tuple[list[int], int]:
    """What a process makes of it, as the service does: the events it gives out, and how many it counts as lost."""
    one = spool(folder, MIB, "2")
    try:
        found, recalled = one.open()
    except Unusable:
        return [], 0
    box = Outbox(OutboxOptions(max_bytes=Size(MIB)), ("up",))
    box.attach(one, found)
    given = []
    while (entry := box.peek()) is not None:
        given.append(entry.message.payload)
        box.commit(entry.position)
        with suppress(Unusable):
            if len(given) % 20 == 0 and not box.broken:
                group = box.unwritten(None)
                box.wrote(group, one.write(group, Change()))
    one.close()
    rfc3339(recalled.seen or 0.0)
    lost = sum(box.ledger.dropped.values())
    assert len(box) == box.bytes == 0
    assert len(given) + lost == found.events
    numbers = [int(payload[:4]) for payload in given]
    assert given == [f"{number:04}".encode() * 150 for number in numbers], "what is given out is what was written"
    assert numbers == sorted({*numbers})
    return numbers, lost


@pytest.mark.parametrize("part", range(8))
def test_a_flipped_bit_costs_no_more_than_what_it_hit(part: int, sound: bytes, memory: Path) -> None:
    """At places of every page: nothing is raised that is not expected, and nothing wrong is given out."""
    dice = random.Random(part)
    whole = 0
    for page in range(len(sound) // 4096):
        for _ in range(3):
            place, bit = page * 4096 + dice.randrange(4096 if page else 300), 1 << dice.randrange(8)
            flipped = bytearray(sound)
            flipped[place] ^= bit
            for path in memory.iterdir():
                path.unlink()
            (memory / "lora.sqlite").write_bytes(flipped)
            given, lost = read_all(memory)
            whole += given == list(NUMBERS) and not lost
    assert whole, "most of a file is not sensitive"


def test_a_file_cut_anywhere(sound: bytes, memory: Path) -> None:
    for length in [*range(0, len(sound), 4096), *range(1, len(sound), 5003)]:
        for path in memory.iterdir():
            path.unlink()
        (memory / "lora.sqlite").write_bytes(sound[:length])
        read_all(memory)


# Two processes


def test_one_process_has_the_folder(tmp_path: Path) -> None:
    """And it is free again when that one dies, however it does."""
    program = (
        "import sys, pathlib, bridge.lock; bridge.lock.lock(pathlib.Path(sys.argv[1])); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"locked\n"
        with pytest.raises(Fatal) as refused:
            lock(tmp_path)
        assert str(tmp_path) in str(refused.value)
        assert f"process {child.pid}" in str(refused.value)
    finally:
        child.kill()
        child.communicate()
    os.close(lock(tmp_path))


def test_a_lock_in_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        lock(tmp_path / "file" / "outbox")
