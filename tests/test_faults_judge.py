"""The judge of the fault suite, shown broken streams: each of them it must condemn, and no good one."""

from collections.abc import Callable

import pytest

from tests.faults.story import START, Story


def good(story: Story) -> None:
    story.hear(story.say(10))
    story.scrape(10, 10)


def doubled(story: Story) -> None:
    story.hear(story.say(10))
    story.hear(range(6, 11))


def torn_and_told(story: Story) -> None:
    story.hear(story.say(10)[:7])
    since = story.clock - 0.05
    story.told.tear(1)
    story.blind()
    story.say(5)
    story.connect()
    story.gap(since, story.clock, 8)
    story.hear(story.say(5), shift=-7)


def dropped_and_counted(story: Story) -> None:
    numbers = story.say(10)
    story.hear(numbers[:3] + numbers[6:])
    story.scrape(10, 7, dropped=3)


def killed_in_memory(story: Story) -> None:
    story.hear(story.say(10)[:4])
    story.end("killed")
    story.say(3)
    story.begin()
    story.say(2)
    story.connect()
    story.hear(story.say(5), shift=-15)


def killed_while_the_broker_was_frozen(story: Story) -> None:
    """What lay in its socket is taken while the next life runs already."""
    since, numbers = story.since, story.say(10)
    story.hear(numbers[:4])
    story.end("killed")
    began = story.begin().began
    story.since = since
    story.hear(numbers[4:8], life=1)
    story.since = began
    story.scrape(0, 0)
    story.connect()
    story.hear(story.say(5), shift=-10)


def killed_with_a_disk(story: Story) -> None:
    """Read but younger than `flush`: lost, and told. What was older comes first in the next life, as it was."""
    numbers = story.say(10)
    story.hear(numbers[:4])
    story.clock += 1.0
    story.scrape(10, 4, waiting=6)
    story.clock += 1.0
    story.scrape(10, 4, waiting=6)
    since = story.clock
    story.say(2)
    story.end("killed")
    story.begin()
    story.hear(numbers[4:], life=1)
    story.connect()
    story.gap(since, story.clock, 1)
    story.hear(story.say(5), shift=-11)


def held_back(story: Story, *, order: int = 1) -> None:
    """A disk that is not to be had while the next life begins: what it holds comes later. order: of the newer ones."""
    numbers = story.say(10)
    story.hear(numbers[:4])
    story.end("terminated")
    story.clock += 1.0
    story.heard.held_back(10, str(int(story.clock * 1000)))
    story.begin()
    story.connect()
    story.hear(story.say(5), shift=-10)
    story.end("terminated")
    story.begin()
    story.connect()
    story.hear(numbers[4:8], life=1)
    story.hear(story.say(2)[::order], shift=-15)
    story.hear(numbers[8:], life=1)


def shut_down_and_said(story: Story) -> None:
    story.hear(story.say(10)[:4])
    story.end("terminated", shut_down=6)
    story.begin()
    story.connect()
    story.hear(story.say(5), shift=-10)


def never_connected(story: Story) -> None:
    story.blind()
    story.say(3)
    story.connect()
    story.gap(START, story.clock, 1)
    story.hear(story.say(3), shift=-2)


@pytest.mark.parametrize(
    ("tell", "durable"),
    [
        (good, False), (doubled, False), (torn_and_told, False), (dropped_and_counted, False),
        (killed_in_memory, False), (killed_with_a_disk, True), (shut_down_and_said, False), (never_connected, False),
        (killed_while_the_broker_was_frozen, False), (held_back, False),
    ],
)  # fmt: skip
def test_what_is_allowed(tell: Callable[[Story], None], durable: bool) -> None:
    story = Story(durable)
    tell(story)
    assert story.problems() == []


# What is not


def one_lost(story: Story) -> None:
    numbers = story.say(10)
    numbers.remove(5)
    story.hear(numbers[:4])
    story.hear(numbers[4:], shift=-1)  # no hole in the sequence: it was never numbered


def end_lost(story: Story) -> None:
    story.hear(story.say(10)[:8])
    story.blind()
    story.connect()
    story.hear(story.say(3), shift=-2)


def read_and_lost(story: Story) -> None:
    """The connection was torn, but a scrape had counted what was lost."""
    story.hear(story.say(10)[:8])
    story.scrape(10, 8, waiting=2)
    story.told.tear(1)


def middle_of_a_torn_connection_lost(story: Story) -> None:
    numbers = story.say(10)
    story.hear(numbers[:3])
    story.hear(numbers[5:], shift=-2)
    story.told.tear(1)


def another_id(story: Story) -> None:
    story.hear(story.say(10))
    story.hear([7], id="ab" * 16)


def another_sequence(story: Story) -> None:
    story.hear(story.say(10))
    story.hear([7], sequence=11, mark=1)


def one_id_for_two(story: Story) -> None:
    story.hear(story.say(4), id="ab" * 16)


def reordered(story: Story) -> None:
    first, second, third = story.say(3)
    story.hear([first, third, second])


def sequence_reordered(story: Story) -> None:
    for number, sequence in zip(story.say(3), (1, 3, 2), strict=True):
        story.hear([number], sequence=sequence)


def sequence_twice(story: Story) -> None:
    story.hear(story.say(3))
    story.hear(story.say(1), shift=-1)


def new_before_recovered(story: Story) -> None:
    numbers = story.say(10)
    story.hear(numbers[:4])
    story.end("terminated")
    story.begin()
    story.connect()
    story.hear(story.say(1), shift=-10)
    story.hear(numbers[4:], life=1)


def new_reordered_beside_what_was_held_back(story: Story) -> None:
    held_back(story, order=-1)


def reordered_in_what_was_held_back(story: Story) -> None:
    story.heard.held_back(10, str(int((story.clock + 5) * 1000)))
    reordered(story)


def hole_uncounted(story: Story) -> None:
    numbers = story.say(10)
    story.hear(numbers[:3] + numbers[6:])
    story.scrape(10, 7, dropped=2, waiting=1)


def unbalanced(story: Story) -> None:
    story.hear(story.say(10))
    story.scrape(10, 8, waiting=1)


def counted_back(story: Story) -> None:
    story.hear(story.say(10))
    story.scrape(10, 10)
    story.scrape(9, 9)


def claimed(story: Story) -> None:
    story.hear(story.say(10)[:8])
    story.scrape(10, 10)


def invented(story: Story) -> None:
    story.say(3)
    story.hear([1, 2, 3, 4])


def gap_untold(story: Story) -> None:
    story.hear(story.say(5))
    story.blind()
    story.say(5)
    story.connect()
    story.hear(story.say(5), shift=-5)


def gap_too_short(story: Story) -> None:
    story.hear(story.say(5))
    story.blind()
    since = story.clock
    story.say(200)
    story.connect()
    story.gap(since + 1.0, story.clock, 6)
    story.hear(story.say(5), shift=-199)


def lost_from_the_disk(story: Story) -> None:
    """Old enough to be on disk when it was killed, and never heard again."""
    numbers = story.say(10)
    story.hear(numbers[:4])
    story.clock += 1.0
    story.scrape(10, 4, waiting=6)
    story.clock += 1.0
    story.scrape(10, 4, waiting=6)
    story.end("killed")
    story.begin()
    story.connect()
    story.gap(START, story.clock, 1)
    story.hear(story.say(5), shift=-9)


def lost_at_shutdown(story: Story) -> None:
    story.hear(story.say(10)[:4])
    story.end("terminated", shut_down=2)
    story.begin()
    story.connect()
    story.hear(story.say(5), shift=-10)


def restart_untold(story: Story) -> None:
    story.hear(story.say(5))
    story.end("terminated")
    story.say(3)
    story.begin()
    story.connect()
    story.hear(story.say(5), shift=-8)


def recovered_miscounted(story: Story) -> None:
    story.hear(story.say(10)[:4])
    story.end("terminated")
    story.begin().on_disk = 6
    story.scrape(0, 0, waiting=5, recovered=5)


def recovered_from_nowhere(story: Story) -> None:
    numbers = story.say(10)
    story.hear(numbers[:4])
    story.end("terminated")
    story.begin().on_disk = 5
    story.hear(numbers[4:], life=1)
    story.scrape(0, 5, recovered=5)


def recovered_and_withheld(story: Story) -> None:
    numbers = story.say(10)
    story.hear(numbers[:4])
    story.end("terminated")
    story.begin().on_disk = 6
    story.hear(numbers[4:8], life=1)
    story.hear(numbers[6:8], life=1)
    story.scrape(0, 6, recovered=6)


@pytest.mark.parametrize(
    ("tell", "durable", "verdict"),
    [
        (recovered_miscounted, True, "recovered: life 2, scrape 1: 5 recovered, 6 were on disk"),
        (recovered_from_nowhere, True, "recovered: life 2, scrape 1: 5 recovered, 6 of earlier lives published"),
        (recovered_and_withheld, True, "recovered: life 2, scrape 1: 6 recovered, nothing waits, and only 4"),
        (one_lost, False, "lost: number 5 of life 1"),
        (end_lost, False, "lost: numbers 9 to 10 of life 1"),
        (read_and_lost, False, "lost: life 1"),
        (middle_of_a_torn_connection_lost, False, "lost: numbers 4 to 5 of life 1"),
        (another_id, False, "unrecognisable double: number 7"),
        (another_sequence, False, "changed: number 7"),
        (one_id_for_two, False, "one id, two events: numbers 1 and 2"),
        (reordered, False, "out of order: number 2 was first heard after 3"),
        (sequence_reordered, False, "out of order: session"),
        (sequence_twice, False, "out of order: session"),
        (new_before_recovered, True, "out of order: number 5"),
        (new_reordered_beside_what_was_held_back, False, "out of order: number 16 was first heard after 17"),
        (reordered_in_what_was_held_back, False, "out of order: session"),
        (hole_uncounted, False, "hole uncounted: session"),
        (unbalanced, False, "ledger: life 1, scrape 1 does not balance"),
        (counted_back, False, "ledger: life 1, scrape 2: a counter went back"),
        (claimed, False, "claimed: life 1, scrape 1: 10 published, the broker has acknowledged 8"),
        (invented, False, "never said: number 4"),
        (gap_untold, False, "untold gap: no gap covers numbers 6 to 10 (blind"),
        (gap_too_short, False, "untold gap: no gap covers numbers 6 to 205 (blind"),
        (lost_from_the_disk, True, "lost: life 1 (killed, 10 read and to be kept, only 4 were ever delivered)"),
        (lost_at_shutdown, False, "lost: 6 numbers at the end of life 1, which told of 2"),
        (restart_untold, True, "untold gap: no gap covers numbers 6 to 8 (blind"),
    ],
)
def test_what_is_condemned(tell: Callable[[Story], None], durable: bool, verdict: str) -> None:
    story = Story(durable)
    tell(story)
    assert any(one.startswith(verdict) for one in story.problems()), story.problems()
