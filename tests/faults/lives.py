"""The lives of the bridge: one process each, what it said of itself in every scrape, and how it ended.

Judged while they are lived: the ledger balances in every scrape, counters never go back, and nothing counts as
published that the broker has not acknowledged.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tests.faults.heard import Problems

End = Literal["killed", "terminated"]


class Picture(NamedTuple):
    """One scrape. begun, finished: Unix time · dropped: for all reasons but `shutdown` (cut), which is the end's."""

    begun: float
    finished: float
    received: int
    recovered: int
    published: int
    dropped: int
    waiting: int
    cut: int = 0

    @property
    def balanced(self) -> bool:
        return self.received + self.recovered == self.published + self.dropped + self.cut + self.waiting


@dataclass
class Life:
    """One process.

    volatile: when it is killed it may lose whatever is not acknowledged (memory only, or the disk was not to be had) ·
    on_disk: events that waited there before it began; None: it could not know · shut_down: events it said, at its end,
    that it loses · frozen: from when until when it was stopped (SIGSTOP) · acknowledged: events, doubles too ·
    revived: of those, events of earlier lives, each once.
    """

    number: int
    began: float
    volatile: bool
    on_disk: int | None = 0
    pictures: list[Picture] = field(default_factory=list)
    end: End | None = None
    ended: float = 0.0
    shut_down: int = 0
    frozen: list[tuple[float, float]] = field(default_factory=list)
    acknowledged: int = 0
    revived: int = 0
    revived_to: dict[str, int] = field(default_factory=dict)

    def awake(self, moment: float) -> float:
        """That moment, or the first one after it at which it could see anything: a life that is frozen cannot, nor one
        that has no turn to answer a scrape."""
        turns = [*self.frozen, *((one.begun, one.finished) for one in self.pictures)]
        return max((until for since, until in turns if since <= moment <= until), default=moment)

    @property
    def dropped(self) -> int:
        """Every drop it has told of."""
        return (self.pictures[-1].dropped if self.pictures else 0) + self.shut_down

    def turned(self, seconds: float) -> float:
        """Before that moment it had so many seconds to its end at least, and turns in them: a scrape that was begun so
        long after it was answered."""
        return max((one.begun for one in self.pictures), default=0.0) - seconds

    def received_before(self, moment: float) -> int:
        """What it had certainly read by then, less what it had dropped."""
        known = [one.received - one.dropped - one.cut for one in self.pictures if one.finished <= moment]
        return max(known, default=0)


class Lives:
    """All of them, from 1; 0 is nobody."""

    def __init__(self) -> None:
        self.problems = Problems()
        self.all: list[Life] = []
        self.scrapes = 0

    def begin(self, at: float, volatile: bool, on_disk: int | None = 0) -> Life:
        life = Life(len(self.all) + 1, at, volatile, on_disk)
        self.all.append(life)
        return life

    @property
    def now(self) -> int:
        """The one that runs; 0: none."""
        return self.all[-1].number if self.all and self.all[-1].end is None else 0

    def of(self, session: str) -> Life | None:
        """Whose session that is: it is named after the moment of its start, in milliseconds."""
        return self._at(int(session) / 1000)

    def _at(self, moment: float) -> Life | None:
        return next((life for life in reversed(self.all) if life.began <= moment), None)

    def acknowledged(self, session: str, sequence: int, since: float) -> None:
        """The broker has an event. since: when the connection began that brought it (Unix time): a frozen broker takes
        what a life sent after that was killed.
        """
        life = self._at(since) or self.all[0]
        life.acknowledged += 1
        if sequence > life.revived_to.get(session, 0) and self.of(session) is not life:
            life.revived += 1
            life.revived_to[session] = sequence

    def scraped(self, life: Life, picture: Picture, *, sure: bool = True) -> None:
        """sure: what is published is acknowledged, as it is at QoS 1."""
        self.scrapes += 1
        where = f"life {life.number}, scrape {len(life.pictures) + 1}"
        if not picture.balanced:
            self.problems.add("ledger", f"{where} does not balance: {picture}")
        if sure and picture.published > life.acknowledged:
            told = f"{picture.published} published, the broker has acknowledged {life.acknowledged}"
            self.problems.add("claimed", f"{where}: {told}")
        if life.on_disk is not None:
            self._condemn_recovered(life, life.on_disk, picture, where)
        if life.pictures and any(new < old for new, old in zip(picture[2:6], life.pictures[-1][2:6], strict=True)):
            self.problems.add("ledger", f"{where}: a counter went back: {life.pictures[-1]} then {picture}")
        life.pictures.append(picture)

    def _condemn_recovered(self, life: Life, on_disk: int, picture: Picture, where: str) -> None:
        """What it found is what was there, and what it says of earlier lives is what it found."""
        told = f"{where}: {picture.recovered} recovered"
        if picture.recovered != on_disk:
            self.problems.add("recovered", f"{told}, {on_disk} were on disk")
        if life.revived > picture.recovered:
            self.problems.add("recovered", f"{told}, {life.revived} of earlier lives published")
        if not picture.waiting and not picture.dropped and life.revived < picture.recovered:
            self.problems.add("recovered", f"{told}, nothing waits, and only {life.revived} of them were published")
