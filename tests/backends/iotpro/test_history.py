"""Filling holes: what is asked, what is told of it, what happens where that does not work."""

import pytest

from bridge.backends.iotpro.bookmarks import read
from bridge.backends.iotpro.history import LIMIT, SETTLE_S
from bridge.backends.iotpro.session import IotproSession
from bridge.backends.session import Answer, Call, Loss, Step
from bridge.options import BackfillOptions, Duration
from tests.backends.iotpro.talk import (
    BUOY,
    DEVICE,
    FIRST,
    LATITUDE,
    MS,
    SUBJECT,
    at,
    calls,
    events,
    gaps,
    history,
    item,
    lat,
    page,
    stamped,
    started,
    talking,
    told,
    update,
)

TWO = "b" * 36


def blind(*later: dict[str, object], seconds: float = 60.0, **options: object) -> tuple[IotproSession, Step]:
    """A buoy whose latitude was told at 0; blind; what the next snapshot says leads to, once history is written."""
    session = talking(item(values={DEVICE: (0, "0"), **lat(0)}), **options)
    session.lost("main", Loss("closed", "gone", at(seconds - 10)), at(seconds))
    session.opened("main", at(seconds))
    return session, settled(session, page(*later or (item(values=lat(9000)),), cmd=FIRST + 1), seconds + 1)


def overtaken(picture: int) -> tuple[IotproSession, Step]:
    """Told at 0, and blind; then the page's newest value, and a newer one before history is read."""
    session = talking(item(values=lat(0)))
    session.lost("main", Loss("closed", "gone", at(50)), at(60))
    session.opened("main", at(60))
    told(session, page(item(values=lat(picture)), cmd=FIRST + 1), 61)
    told(session, update(lat(9500, "5")), 61.5)
    return session, session.woken(at(61 + SETTLE_S))


def settled(session: IotproSession, message: dict[str, object], seconds: float) -> Step:
    """The last page is told, and a while has passed."""
    step = told(session, message, seconds)
    assert (calls(step), gaps(step)) == ([], ["started"])
    assert step.wake is not None
    assert step.wake <= 1000.0 + seconds + SETTLE_S
    return session.woken(at(seconds + SETTLE_S))


def asked(step: Step) -> dict[str, str]:
    """The query of the one call."""
    (call,) = calls(step)
    return dict(part.split("=") for part in call.url.partition("?")[2].split("&"))


def test_pages_go_up_to_where_every_key_was_told() -> None:
    session, step = blind(item(values={DEVICE: (9000, "1"), **lat(9000)}))
    (call,) = calls(step)
    full = [(number, str(number)) for number in range(1, LIMIT + 1)]
    step = session.answered(call.id, history({LATITUDE: full, DEVICE: [(5, "5"), (LIMIT + 500, "x")]}), at(62))
    assert len(events(step)) == LIMIT
    assert events(step)[4] == (SUBJECT, 5, {LATITUDE: 5, DEVICE: "5"})
    assert asked(step)["startTs"] == str(MS + LIMIT + 1)
    (call,) = calls(step)
    step = session.answered(call.id, history({LATITUDE: [(LIMIT + 500, "7")], DEVICE: [(LIMIT + 500, "x")]}), at(63))
    assert events(step) == [(SUBJECT, LIMIT + 500, {LATITUDE: 7, DEVICE: "x"})]
    assert gaps(step) == ["done"]


def test_a_platform_that_does_not_go_on_is_not_asked_for_ever() -> None:
    session, step = blind()
    answer = history({LATITUDE: [(-number, "1") for number in range(LIMIT)]})
    step = session.answered(calls(step)[0].id, answer, at(62))
    assert (calls(step), gaps(step)) == ([], ["partial"])


def test_live_events_go_on_and_are_not_told_twice() -> None:
    session, step = blind()
    (call,) = calls(step)
    assert events(told(session, update(lat(9500)), 62)) == [(SUBJECT, 9500, {LATITUDE: 1.5})]
    answer = history({LATITUDE: [(100, "1"), (9000, "1.5"), (9500, "1.5")]})
    assert events(session.answered(call.id, answer, at(63))) == [(SUBJECT, 100, {LATITUDE: 1})]


def test_not_more_than_max_is_filled() -> None:
    _, step = blind(item(values=lat(100_000_000)), seconds=100_000, backfill=BackfillOptions(Duration(3600)))
    assert asked(step)["startTs"] == str(MS + int(100_001 + SETTLE_S) * 1000 - 3_600_000)


def test_what_is_cut_by_max_is_partial() -> None:
    session, step = blind(item(values=lat(100_000_000)), seconds=100_000, backfill=BackfillOptions(Duration(3600)))
    assert gaps(session.answered(calls(step)[0].id, Answer(200, b"{}"), at(100_002))) == ["partial"]


def test_a_few_assets_at_a_time() -> None:
    items = [item(f"B{number}", f"{number:036d}", values=lat(0)) for number in range(9)]
    session = talking(*items)
    session.lost("main", Loss("closed", "gone", at(50)), at(60))
    session.opened("main", at(60))
    later = [item(f"B{number}", f"{number:036d}", values=lat(9000)) for number in range(9)]
    under_way = calls(settled(session, page(*later, cmd=FIRST + 1), 61))
    total = len(under_way)
    assert total == 4
    while under_way:
        under_way = under_way[1:] + calls(step := session.answered(under_way[0].id, Answer(200, b"{}"), at(62)))
        total += len(calls(step))
        assert len(under_way) <= 4
    assert (total, gaps(step)) == (9, ["done"])


@pytest.mark.parametrize(("status", "end"), [(404, "done"), (403, "partial"), (400, "partial")])
def test_what_is_refused_is_not_asked_again(status: int, end: str) -> None:
    session, step = blind()
    step = session.answered(calls(step)[0].id, Answer(status), at(62))
    assert (calls(step), gaps(step)) == ([], [end])


@pytest.mark.parametrize("answer", [Answer(0, error="no route"), Answer(500), Answer(200, b"<html>")])
def test_what_fails_is_asked_a_few_times_ever_later(answer: Answer) -> None:
    session, step = blind()
    seconds = 65.0
    for _ in range(4):
        step = session.answered(calls(step)[0].id, answer, at(seconds))
        assert (calls(step), gaps(step)) == ([], [])
        assert step.wake is not None
        seconds = step.wake - 1000.0
        step = session.woken(at(seconds))
    assert gaps(session.answered(calls(step)[0].id, answer, at(seconds))) == ["partial"]


def test_too_many_requests_are_waited_for_as_long_as_it_takes() -> None:
    session, step = blind()
    seconds = 65.0
    for _ in range(9):
        step = session.answered(calls(step)[0].id, Answer(429, b"", (("retry-after", "20"),)), at(seconds))
        assert step.wake == 1000.0 + seconds + 20
        seconds += 20
        step = session.woken(at(seconds))
    assert gaps(session.answered(calls(step)[0].id, Answer(200, b"{}"), at(seconds))) == ["done"]


def test_blind_again_before_it_is_filled_begins_where_it_was() -> None:
    session, step = blind()
    (call,) = calls(step)
    session.lost("main", Loss("closed", "gone", at(70)), at(70))
    session.opened("main", at(71))
    assert events(session.answered(call.id, history({LATITUDE: [(100, "1")]}), at(72))) == []
    step = settled(session, page(item(values=lat(20_000)), cmd=FIRST + 2), 73)
    assert (asked(step)["startTs"], asked(step)["endTs"]) == (str(MS + 1), str(MS + 20_000))
    assert gaps(session.answered(calls(step)[0].id, Answer(200, b"{}"), at(74))) == ["done", "done"]


def test_bookmarks_do_not_pass_over_a_hole() -> None:
    session, step = blind()
    remembered = told(session, update(lat(9500)), 80).remember
    assert read(remembered) == {BUOY: (SUBJECT, {DEVICE: MS, LATITUDE: MS})}
    session.answered(calls(step)[0].id, history({LATITUDE: [(100, "1")]}), at(81))
    assert read(session.stopped(at(82)).remember) == {BUOY: (SUBJECT, {DEVICE: MS, LATITUDE: MS + 9500})}


def test_a_key_with_a_comma_cannot_be_asked_for() -> None:
    session = talking(item(values={"a,b": (0, "1")}), keys=("a,b",))
    session.lost("main", Loss("closed", "gone", at(50)), at(60))
    session.opened("main", at(60))
    step = settled(session, page(item(values={"a,b": (9000, "1")}), cmd=FIRST + 1), 61)
    assert (calls(step), gaps(step)) == ([], ["partial"])


def test_history_is_pulled() -> None:
    call: Call = calls(blind()[1])[0]
    assert (call.pull, call.deadline) == (True, 30.0)


def test_what_was_saved_between_the_picture_and_the_next_update_is_read() -> None:
    """The platform reads a page first, and follows it later: what is overtaken in between is told by nobody."""
    session, step = overtaken(picture=9000)
    assert (asked(step)["startTs"], asked(step)["endTs"]) == (str(MS + 1), str(MS + 9500))
    answer = history({LATITUDE: [(9000, "1.5"), (9200, "3"), (9500, "5")]})
    step = session.answered(calls(step)[0].id, answer, at(65))
    assert (events(step), gaps(step)) == ([(SUBJECT, 9200, {LATITUDE: 3})], ["done"])


def test_a_picture_that_is_older_than_the_gap_is_no_end_of_it() -> None:
    _, step = overtaken(picture=0)
    assert (asked(step)["startTs"], asked(step)["endTs"]) == (str(MS + 1), str(MS + 9500))


def test_blind_again_before_history_is_written_begins_where_it_was() -> None:
    session = talking(item(values=lat(0)))
    for seconds, cmd in ((60, FIRST + 1), (63, FIRST + 2)):
        session.lost("main", Loss("closed", "gone", at(seconds)), at(seconds))
        session.opened("main", at(seconds))
        told(session, page(item(values=lat(9000)), cmd=cmd), seconds + 1)
    assert asked(session.woken(at(64 + SETTLE_S)))["startTs"] == str(MS + 1)


def test_what_is_corrected_while_it_is_withheld_is_told_anew() -> None:
    session, step = overtaken(picture=9000)
    (call,) = calls(step)
    step = session.answered(call.id, history({LATITUDE: [(9000, "2")]}), at(65))
    assert events(step) == [(SUBJECT, 9000, {LATITUDE: 2})]


def test_a_stop_ends_the_backfill_and_leaves_the_rest_to_the_next_start() -> None:
    session, _ = blind()
    told(session, update(lat(9500)), 65)
    step = session.stopped(at(66))
    assert gaps(step) == ["partial"]
    assert read(step.remember) == {BUOY: (SUBJECT, {DEVICE: MS, LATITUDE: MS})}


@pytest.mark.parametrize("again", [False, True], ids=["reconnected", "restarted"])
def test_a_new_asset_that_a_gap_overtakes_has_its_first_minute_read(again: bool) -> None:
    """It is not noticed yet when the connection is lost, or the program killed."""
    new = stamped(item("Two", TWO, values=lat(5000)), 46_000, created=4000)
    if again:
        session = started(None, at(40))
    else:
        session = talking(item(values=lat(0)))
        session.lost("main", Loss("closed", "gone", at(40)), at(40))
        session.opened("main", at(45))
    step = told(session, page(stamped(item(values=lat(0)), 46_000), new, cmd=FIRST + (not again)), 46)
    assert ("asset/sea-buoy/Two", 5000, {LATITUDE: 1.5}) in events(step)
    (call,) = [one for one in calls(session.woken(at(46 + SETTLE_S))) if TWO in one.url]
    assert f"startTs={MS + 4000}&" in call.url


def test_a_platform_whose_clock_is_behind_is_asked_from_when_it_was_then() -> None:
    """Forty seconds behind: what a key says for the first time is after the last sign of life, and seems older."""
    session = started(None, at(40))
    step = told(session, page(stamped(item(values=lat(0)), 10_000)), 50)
    assert events(step) == [(SUBJECT, 0, {LATITUDE: 1.5})]


def test_a_new_asset_is_new_by_the_clock_of_the_platform() -> None:
    session = talking(item(values=lat(0)))
    new = stamped(item("Two", TWO, values=lat(65_000)), 70_000, created=60_000)
    told(session, page(item(values=lat(0)), new), 30)
    (call,) = calls(session.woken(at(30 + SETTLE_S)))
    assert f"startTs={MS + 60_000}&" in call.url
