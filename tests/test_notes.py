"""What a backend needs to know again: what of it is on disk, and what is to be written."""

import pytest

from bridge.model import Instant
from bridge.notes import Change, Notes


def at(mono: float) -> Instant:
    return Instant(mono, 1.7e9 + mono)


def kept() -> Notes:
    """On disk."""
    notes = Notes()
    notes.kept = True
    return notes


def test_nothing_is_no_change() -> None:
    assert not Notes().unsaved(memory=True, older=0.0)


def test_what_an_earlier_process_wrote_is_no_news() -> None:
    notes = kept()
    notes.found(b"bookmark", at(1.0), {"a", "b"})
    assert (notes.memory, notes.seen, notes.topics) == (b"bookmark", at(1.0), {"a", "b"})
    assert not notes.news()
    assert not notes.unsaved(memory=True, older=0.0)


def test_a_new_memory_is_written_where_it_may_be() -> None:
    notes = kept()
    notes.memory = b"one"
    assert notes.news()
    assert not notes.unsaved(memory=False, older=0.0)
    change = notes.unsaved(memory=True, older=0.0)
    assert change == Change(b"one")
    notes.memory = b"two"  # while it is being written
    notes.saved(change)
    assert notes.unsaved(memory=True, older=0.0) == Change(b"two")


@pytest.mark.parametrize(("seen", "told"), [(5.0, False), (10.0, False), (10.5, True), (20.0, True)])
def test_a_sign_of_life_is_written_when_it_is_old(seen: float, told: bool) -> None:
    notes = kept()
    notes.seen = at(5.0)
    notes.saved(notes.unsaved(memory=True, older=5.0))
    notes.seen = at(seen)
    assert bool(notes.unsaved(memory=True, older=5.0)) is told
    assert bool(notes.unsaved(memory=True, older=0.0)) is (seen > 5.0), "at the end, every newer one"


def test_topics_are_written_once() -> None:
    notes = kept()
    notes.retained("a", True)
    notes.retained("a", True)
    change = notes.unsaved(memory=True, older=0.0)
    assert change.topics == {"a": True}
    notes.saved(change)
    notes.retained("a", True)
    assert not notes.unsaved(memory=True, older=0.0)
    notes.retained("a", False)
    assert notes.unsaved(memory=True, older=0.0).topics == {"a": False}
    assert notes.topics == set()


def test_a_topic_cleared_while_it_is_being_written() -> None:
    notes = kept()
    notes.retained("a", True)
    change = notes.unsaved(memory=True, older=0.0)
    notes.retained("a", False)
    notes.saved(change)
    assert notes.unsaved(memory=True, older=0.0).topics == {"a": False}


def test_a_topic_that_was_never_there_is_not_cleared() -> None:
    notes = kept()
    notes.retained("a", False)
    assert not notes.unsaved(memory=True, older=0.0)


def test_where_the_file_is_lost_everything_is_written_again() -> None:
    notes = kept()
    notes.found(b"bookmark", at(1.0), {"a", "b"})
    notes.retained("b", False)
    notes.lost()
    assert notes.unsaved(memory=True, older=5.0) == Change(b"bookmark", at(1.0), {"a": True, "b": False})


def test_without_a_disk_nothing_piles_up_for_it() -> None:
    notes = Notes()
    notes.retained("a", True)
    assert notes.topics == {"a"}
    assert not notes.unsaved(memory=True, older=0.0).topics
