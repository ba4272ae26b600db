"""Where events wait: order, the ledger, and what goes when it is full; by table, and against a plain model."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.ledger import DROP_REASONS, DropReason
from bridge.model import Instant, Message
from bridge.options import Duration, OutboxOptions, Size
from bridge.outbox import Outbox
from bridge.shelf import Entry
from bridge.topics import MAX_TOPIC_BYTES

TYPES = ("up", "join")


def outbox(max_bytes: int = 1000, max_age: float = 100.0) -> Outbox:
    return Outbox(OutboxOptions(max_bytes=Size(max_bytes), max_age=Duration(max_age)), TYPES)


def message(name: str, size: int = 10) -> Message:
    """A message of that many bytes in all."""
    return Message("t", name.encode().ljust(size - 1, b"."))


def name(entry: Entry | None) -> str:
    return entry.message.payload.decode().rstrip(".") if entry else ""


def filled(names: str, size: int = 10, max_bytes: int = 1000) -> Outbox:
    """One event for each letter, read one second after the other."""
    made = outbox(max_bytes)
    for n, letter in enumerate(names):
        made.append(message(letter, size), "up", Instant(float(n), 1000.0 + n))
    return made


def waiting(box: Outbox) -> str:
    """What waits, in the order in which it would be sent again."""
    box.rewind()
    return "".join(iter(lambda: name(box.peek()), ""))


def balanced(box: Outbox) -> bool:
    ledger = box.ledger
    return sum(ledger.received.values()) + ledger.recovered == (
        ledger.published + sum(ledger.dropped.values()) + len(box)
    )


def dropped(box: Outbox) -> dict[str, int]:
    return {reason: count for reason, count in box.ledger.dropped.items() if count}


def test_events_are_given_in_the_order_of_reading() -> None:
    box = filled("abc")
    assert [name(box.peek()) for _ in range(4)] == ["a", "b", "c", ""]


def test_an_event_waits_until_it_is_committed() -> None:
    box = filled("ab")
    first = box.peek()
    assert first is not None
    assert (len(box), box.bytes, name(box.oldest())) == (2, 20, "a")
    assert box.commit(first.position) == first
    assert (len(box), box.bytes, name(box.oldest()), box.ledger.published) == (1, 10, "b", 1)


def test_a_second_commit_counts_nothing() -> None:
    box = filled("ab")
    first = box.peek()
    assert first is not None
    box.commit(first.position)
    assert box.commit(first.position) is None
    box.drop(first.position, "refused")
    assert (box.ledger.published, dropped(box)) == (1, {})


def test_what_was_on_its_way_is_given_again_after_a_rewind() -> None:
    box = filled("abcd")
    first, second, third = box.peek(), box.peek(), box.peek()
    assert first
    assert second
    assert third
    box.commit(second.position)  # the broker acknowledged out of order
    assert waiting(box) == "acd"


def test_an_event_dropped_on_its_way_is_not_given_again() -> None:
    box = filled("abc")
    first = box.peek()
    assert first
    box.drop(first.position, "too_large")
    assert dropped(box) == {"too_large": 1}
    assert waiting(box) == "bc"


def test_when_full_the_oldest_event_goes() -> None:
    box = filled("abcde", size=10, max_bytes=30)
    assert (waiting(box), dropped(box), box.bytes) == ("cde", {"outbox_full": 2}, 30)


def test_when_full_what_is_on_its_way_stays() -> None:
    box = filled("abc", size=10, max_bytes=30)
    box.peek()
    box.append(message("d"), "up", Instant(3.0, 0.0))
    assert (waiting(box), dropped(box)) == ("acd", {"outbox_full": 1})


def test_when_everything_else_is_on_its_way_the_new_event_goes() -> None:
    box = filled("abc", size=10, max_bytes=30)
    while box.peek():
        pass
    box.append(message("d"), "up", Instant(3.0, 0.0))
    assert (waiting(box), dropped(box)) == ("abc", {"outbox_full": 1})


def test_an_event_larger_than_everything_is_dropped_and_counted() -> None:
    box = outbox(max_bytes=30)
    box.append(message("a", 31), "up", Instant(0.0, 0.0))
    assert (len(box), box.bytes, dropped(box)) == (0, 0, {"outbox_full": 1})


@pytest.mark.parametrize(("now", "left"), [(100.0, "abc"), (100.5, "bc"), (102.0, "c"), (1000.0, "")])
def test_what_is_older_than_max_age_goes(now: float, left: str) -> None:
    box = filled("abc")
    box.expire(Instant(now, 0.0))
    assert waiting(box) == left
    assert dropped(box) == ({"too_old": 3 - len(left)} if len(left) < 3 else {})


def test_what_is_too_old_goes_before_something_new_is_dropped_for_space() -> None:
    box = filled("abc", size=10, max_bytes=30)
    box.append(message("d"), "up", Instant(101.5, 0.0))
    assert (waiting(box), dropped(box)) == ("cd", {"too_old": 2})


def test_age_is_measured_by_the_clock_that_only_goes_forward() -> None:
    box = filled("a")
    box.expire(Instant(50.0, 1e12))
    assert waiting(box) == "a"


def test_what_still_waits_at_the_end_is_counted_as_lost() -> None:
    box = filled("abc")
    box.peek()
    box.abandon()
    assert (len(box), box.bytes, dropped(box)) == (0, 0, {"shutdown": 3})
    assert box.peek() is None


@pytest.mark.parametrize("char", ["a", "é"])
def test_a_topic_too_long_for_mqtt_is_dropped_and_counted(char: str) -> None:
    """MQTT 5, 1.5.4."""
    box = outbox(max_bytes=10**6)
    box.append(Message("aa" + char * (MAX_TOPIC_BYTES // len(char.encode())), b""), "up", Instant(0.0, 0.0))
    assert (len(box), dropped(box)) == (0, {"topic_too_long": 1})
    assert box.ledger.received == {"up": 1, "join": 0, "other": 0}


def test_every_event_is_counted_by_its_type_and_strange_ones_together() -> None:
    box = outbox()
    for kind in ("up", "up", "join", "weather", ""):
        box.append(message("a"), kind, Instant(0.0, 0.0))
    assert box.ledger.received == {"up": 2, "join": 1, "other": 2}


def test_every_reason_is_counted_from_the_start() -> None:
    assert outbox().ledger.dropped == dict.fromkeys(DROP_REASONS, 0)


def test_numbers_count_from_one() -> None:
    box = outbox()
    assert [box.number() for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(("events", "room"), [(0, True), (49, True), (50, False), (100, False)])
def test_there_is_room_for_history_while_it_is_less_than_half_full(events: int, room: bool) -> None:
    assert filled("x" * events, size=10, max_bytes=1000).room() is room


def test_new_options_hold_from_the_next_event_on() -> None:
    box = filled("abc")
    box.options = OutboxOptions(max_bytes=Size(20))
    box.append(message("d"), "up", Instant(9.0, 0.0))
    assert waiting(box) == "cd"


def test_many_events_are_committed_out_of_order_in_reasonable_time() -> None:
    """The order of acknowledgements costs nothing: a hundred thousand events backwards."""
    box = outbox(max_bytes=10**9)
    for _ in range(100_000):
        box.append(message("a"), "up", Instant(0.0, 0.0))
    positions = [entry.position for entry in iter(box.peek, None)]
    for position in reversed(positions):
        box.commit(position)
    assert (len(box), box.bytes, box.ledger.published) == (0, 0, 100_000)


class Twin(RuleBasedStateMachine):
    """The outbox beside a list that does the same, slowly and plainly."""

    LIMIT = 100
    MAX_AGE = 50.0

    def __init__(self) -> None:
        super().__init__()
        self.box = outbox(self.LIMIT, self.MAX_AGE)
        self.waits: list[tuple[str, int, float]] = []  # name, bytes, when it was read; in order
        self.flying: dict[str, int] = {}  # on its way: name, position
        self.positions: dict[str, int] = {}
        self.received = self.published = 0
        self.lost = dict.fromkeys(DROP_REASONS, 0)
        self.now = 0.0

    def gone(self, one: str) -> None:
        self.waits = [entry for entry in self.waits if entry[0] != one]
        self.flying.pop(one, None)

    def drop(self, one: str, reason: DropReason) -> None:
        self.gone(one)
        self.lost[reason] += 1

    @rule(size=st.integers(10, 120), kind=st.sampled_from((*TYPES, "weather")))
    def append(self, size: int, kind: str) -> None:
        new = str(self.received)
        self.received += 1
        self.box.append(message(new, size), kind, Instant(self.now, self.now))
        if size > self.LIMIT:
            self.lost["outbox_full"] += 1
            return
        self.waits.append((new, size, self.now))
        if sum(size for _, size, _ in self.waits) > self.LIMIT:
            self.grow_old()
        while sum(size for _, size, _ in self.waits) > self.LIMIT:
            unsent = [one for one, _, _ in self.waits if one not in self.flying]
            self.drop(unsent[0] if unsent else self.waits[0][0], "outbox_full")

    @rule(more=st.integers(0, 3))
    def append_with_a_topic_too_long(self, more: int) -> None:
        self.received += 1
        self.lost["topic_too_long"] += 1
        self.box.append(Message("t" * (MAX_TOPIC_BYTES + 1 + more), b""), "up", Instant(self.now, self.now))

    @rule()
    def peek(self) -> None:
        unsent = [one for one, _, _ in self.waits if one not in self.flying]
        entry = self.box.peek()
        assert name(entry) == (unsent[0] if unsent else "")
        if entry is not None:
            self.flying[unsent[0]] = entry.position
            assert self.positions.setdefault(unsent[0], entry.position) == entry.position

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def commit_in_any_order(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(sorted(self.flying)))
        assert name(self.box.commit(self.flying[one])) == one
        self.gone(one)
        self.published += 1

    @precondition(lambda self: self.positions)
    @rule(data=st.data())
    def commit_what_may_be_gone(self, data: st.DataObject) -> None:
        """A late acknowledgement: of something dropped or committed long ago, or of a connection before."""
        one = data.draw(st.sampled_from(sorted(self.positions)))
        still = any(entry[0] == one for entry in self.waits)
        assert name(self.box.commit(self.positions[one])) == (one if still else "")
        if still:
            self.gone(one)
            self.published += 1

    @precondition(lambda self: self.positions)
    @rule(data=st.data(), reason=st.sampled_from(("refused", "too_large")))
    def drop_one(self, data: st.DataObject, reason: DropReason) -> None:
        one = data.draw(st.sampled_from(sorted(self.positions)))
        self.box.drop(self.positions[one], reason)
        if any(entry[0] == one for entry in self.waits):
            self.drop(one, reason)

    @rule()
    def rewind(self) -> None:
        self.box.rewind()
        self.flying.clear()

    @rule(seconds=st.floats(0, 30))
    def expire(self, seconds: float) -> None:
        self.now += seconds
        self.box.expire(Instant(self.now, self.now))
        self.grow_old()

    def grow_old(self) -> None:
        for one, _, when in list(self.waits):
            if when < self.now - self.MAX_AGE:
                self.drop(one, "too_old")

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(often=st.integers(0, 20))
    def abandon(self, often: int) -> None:
        if often == 0:
            self.box.abandon()
            for one, _, _ in list(self.waits):
                self.drop(one, "shutdown")

    @invariant()
    def the_ledger_balances(self) -> None:
        assert balanced(self.box)
        assert sum(self.box.ledger.received.values()) == self.received
        assert self.box.ledger.published == self.published
        assert self.box.ledger.dropped == self.lost
        assert self.box.ledger.recovered == 0

    @invariant()
    def the_same_waits(self) -> None:
        assert len(self.box) == len(self.waits)
        assert self.box.bytes == sum(size for _, size, _ in self.waits) <= self.LIMIT
        assert name(self.box.oldest()) == (self.waits[0][0] if self.waits else "")
        assert self.box.room() == (self.box.bytes * 2 < self.LIMIT)

    def teardown(self) -> None:
        assert waiting(self.box) == "".join(one for one, _, _ in self.waits)


TestTwin = Twin.TestCase
TestTwin.settings = settings(
    deadline=None,
    print_blob=True,
    max_examples=60,
    stateful_step_count=50,
    suppress_health_check=list(HealthCheck),
)
