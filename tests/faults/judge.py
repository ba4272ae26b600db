"""Whether the promise was kept: what was said is laid beside what was heard, and every difference needs its excuse.

Excuses for a number that was never heard, and nothing else is one:

- blind: it was said to nobody. A gap event tells of it.
- torn: it was the end of a connection that was torn, in buffers that nobody had read. A gap event tells of it.
- killed: it was the end of what a life had read when it was killed. In memory, everything unacknowledged; with a disk,
  only what was younger than `flush`, and a gap event tells of it.
- shut down: it was the end of what a life that keeps its events in memory could not deliver, and it said how many.
- dropped: the ledger has it: as many holes in the session's sequence, as many drops counted.

In memory only, a gap need not be told where the life that was blind ended before it could see again, nor for the time
before its first sight. A gap may begin where a bridge woke that was frozen or had no turn, and where it had read what
came before: it cannot know how long that lay in its socket.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tests.faults.heard import Gap, Heard, Problems, Session
from tests.faults.lives import Life, Lives
from tests.faults.told import Stretch, Told

LATE_S = 0.3  # with a disk: this much longer than `flush` may pass until an event is written
BLUR_S = 0.25  # between what the source wrote and the last sign of life that the bridge saw
BUFFERS_S = 1.0  # the same for what was torn: it may have lain in buffers

Why = Literal["blind", "torn", "killed", "shut down", "dropped"]


class Missing(NamedTuple):
    """Numbers in a row that were never heard, and their excuse."""

    first: int
    last: int
    life: int
    why: Why

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass
class Verdict:
    """problems: empty where the promise was kept · lost: numbers by excuse · at_kill: by kill -9, how many it cost, and
    how long before it the first of them was said, seconds · worst_s: from saying to PUBACK.
    """

    problems: list[str] = field(default_factory=list)
    lost: Counter[Why] = field(default_factory=Counter)
    at_kill: list[tuple[int, float]] = field(default_factory=list)
    worst_s: float = 0.0


def judge(told: Told, heard: Heard, lives: Lives, *, durable: bool, flush: float = 0.05) -> Verdict:
    """After the end, when everything that waited was delivered. flush: seconds."""
    problems = Problems()
    highest = {life.number: _highest_of(life, told, heard) for life in lives.all}
    missing = [one for stretch in told.stretches for one in _missing(stretch, told, heard, lives, highest)]
    _condemn_uncounted(missing, told, heard, lives, problems)
    _condemn_shut_down(missing, lives, problems)
    for life in lives.all:
        _condemn_unkept(life, heard, lives, flush, problems)
    for one in missing:
        _condemn_untold(one, told, heard, lives, durable, problems)
    for number, other in heard.repeated_ids():
        problems.add("one id, two events", f"numbers {number} and {other}")
    verdict = Verdict([*heard.problems, *lives.problems, *problems])
    for one in missing:
        verdict.lost[one.why] += len(one)
    for life in lives.all:
        killed = [one for one in missing if one.life == life.number and one.why == "killed"]
        if life.end == "killed":
            age = life.ended - told.at[killed[0].first] if killed else 0.0
            verdict.at_kill.append((sum(map(len, killed)), max(0.0, age)))
    latencies = (
        heard.first_at[n] - told.at[n] for n in range(1, min(len(heard.flags), told.last + 1)) if heard.flags[n]
    )
    verdict.worst_s = max(latencies, default=0.0)
    return verdict


def _missing(stretch: Stretch, told: Told, heard: Heard, lives: Lives, newest: dict[int, int]) -> Iterator[Missing]:
    """What was not heard of a stretch, with the excuse that would fit. newest: by life, its newest number heard."""
    runs = _runs(heard, stretch.first, stretch.last)
    if not stretch.connection:
        yield from (Missing(first, last, stretch.life, "blind") for first, last in runs)
        return
    highest = heard.flags.rfind(1, stretch.first, stretch.last + 1)
    life = lives.all[stretch.life - 1]
    for first, last in runs:
        if first < highest:
            yield Missing(first, last, life.number, "dropped")
        elif first > newest[life.number] and (life.end == "killed" or life.shut_down):
            yield Missing(first, last, life.number, "killed" if life.end == "killed" else "shut down")
        else:
            yield from _end(first, last, life.number, told.torn.get(stretch.connection, last + 1))


def _end(first: int, last: int, life: int, tear: int) -> Iterator[Missing]:
    """The end of a connection that was torn there."""
    if first < tear:
        yield Missing(first, min(last, tear - 1), life, "dropped")
    if last >= tear:
        yield Missing(max(first, tear), last, life, "torn")


def _runs(heard: Heard, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Numbers in a row that were not heard, within these bounds."""
    flags = heard.flags
    while first <= last:
        begin = flags.find(0, first, last + 1) if first < len(flags) else first
        if begin < 0:
            return
        end = flags.find(1, begin, last + 1)
        end = last if end < 0 else end - 1
        yield begin, end
        first = end + 1


def _highest_of(life: Life, told: Told, heard: Heard) -> int:
    """The newest number of that life that was heard."""
    mine = [one for one in told.stretches if one.life == life.number and one.connection]
    return max((heard.flags.rfind(1, one.first, one.last + 1) for one in mine), default=0)


def _sessions(life: Life, heard: Heard, lives: Lives) -> list[Session]:
    return [session for session in heard.sessions.values() if lives.of(session.name) is life]


def _condemn_uncounted(missing: list[Missing], told: Told, heard: Heard, lives: Lives, problems: Problems) -> None:
    """Every number that went missing in the middle is a hole, and every hole is a counted drop; one that was told of at
    the end of a life, and lies there, excuses no hole."""
    told_of = {life.number: life.dropped for life in lives.all}
    for one in missing:
        if one.why == "shut down":
            told_of[one.life] -= len(one)
    for session in heard.sessions.values():
        life = lives.of(session.name)
        counted = sum(max(0, told_of[one.number]) for one in lives.all if life is None or one.number >= life.number)
        if session.holes > counted:
            told_ = f"session {session.name} has {session.holes} holes, {counted} drops were counted since it began"
            problems.add("hole uncounted", told_)
    holes, drops = sum(one.holes for one in heard.sessions.values()), sum(max(0, one) for one in told_of.values())
    if holes > drops:
        problems.add("hole uncounted", f"{holes} holes in all sessions, {drops} drops counted in all lives")
    for life in lives.all:
        gone = [one for one in missing if one.life == life.number and one.why == "dropped"]
        count, room = sum(map(len, gone)), sum(one.holes for one in _sessions(life, heard, lives))
        for one in gone if count > room else ():
            said = f"said {told.at[one.first]:.3f} to {told.at[one.last]:.3f}"
            problems.add("lost", f"{_numbers(one)} of life {life.number} ({said}), and nothing accounts for them")


def _condemn_shut_down(missing: list[Missing], lives: Lives, problems: Problems) -> None:
    for life in lives.all:
        lost = sum(len(one) for one in missing if one.life == life.number and one.why == "shut down")
        if lost > life.shut_down:
            problems.add("lost", f"{lost} numbers at the end of life {life.number}, which told of {life.shut_down}")


def _condemn_unkept(life: Life, heard: Heard, lives: Lives, flush: float, problems: Problems) -> None:
    """What a scrape counted as read was delivered: all of it; after kill -9 with a disk, what was older than flush."""
    if life.end == "killed" and life.volatile:
        return
    moment = life.turned(flush + LATE_S) if life.end == "killed" else float("inf")
    read = life.received_before(moment) - life.shut_down
    highest = max((session.highest for session in _sessions(life, heard, lives)), default=0)
    if highest < read:
        how = f"{life.end or 'still running'}, {read} read and to be kept, only {highest} were ever delivered"
        problems.add("lost", f"life {life.number} ({how})")


def _condemn_untold(one: Missing, told: Told, heard: Heard, lives: Lives, durable: bool, problems: Problems) -> None:
    """Blindness that no gap event tells of."""
    if one.why in ("dropped", "shut down") or (one.why == "killed" and not durable):
        return
    later = heard.flags.find(1, one.last + 1)
    if later < 0:
        problems.add("no end", f"nothing was heard after {_numbers(one)}")
        return
    seer = told.life_of(later)
    before = (part for part in told.stretches if part.connection and (durable or part.life == seer))
    if not any(heard.any(part.first, min(part.last, one.first)) for part in before):
        return  # who sees again had never seen anything, as far as it can know
    blur = BUFFERS_S if one.why == "torn" else BLUR_S
    since, until = _blind_since(one, told, heard, lives, blur), told.at[one.last] - blur
    if not any(first <= since and last >= until for first, last in _windows(heard.gaps)):
        near = [gap for gap in heard.gaps if abs(gap.since - since) < 30][:3]
        said = f"{_numbers(one)} ({one.why}, life {one.life}, said {told.at[one.first]:.3f} to {told.at[one.last]:.3f})"
        problems.add("untold gap", f"no gap covers {said}; near it: {near or 'none'}")


def _blind_since(one: Missing, told: Told, heard: Heard, lives: Lives, blur: float) -> float:
    """Where a gap may begin at the latest: when it was said, or when the bridge had read what came before it."""
    since = max(told.at[one.first], heard.read_at[max(0, heard.flags.rfind(1, 0, one.first))])
    if not one.life:
        return since + blur
    life = lives.all[one.life - 1]
    return life.awake(life.awake(since) + blur)


def _windows(gaps: list[Gap]) -> list[list[float]]:
    """Those that touch are one: between them lies a connection that brought nothing."""
    found: list[list[float]] = []
    for gap in sorted(gaps):
        if found and gap.since <= found[-1][1]:
            found[-1][1] = max(found[-1][1], gap.until)
        else:
            found.append([gap.since, gap.until])
    return found


def _numbers(one: Missing) -> str:
    return f"number {one.first}" if len(one) == 1 else f"numbers {one.first} to {one.last}"
