"""A story told to the judge by hand, so that it can be broken anywhere."""

from collections.abc import Iterable
from typing import Any

from tests.faults.heard import Copy, Gap, Heard
from tests.faults.judge import judge
from tests.faults.lives import Life, Lives, Picture
from tests.faults.told import Told

START = 1_700_000_000.0


class Story:
    """A stream that can be broken anywhere. Numbers come every 10 ms; sequence and number go together in life 1."""

    def __init__(self, durable: bool = False) -> None:
        self.durable = durable
        self.told, self.heard, self.lives = Told(), Heard(), Lives()
        self.clock = START
        self.connection = 0
        self.begin()
        self.connect()

    def begin(self) -> Life:
        self.clock += 1.0
        self.since = self.clock
        self.told.turn(len(self.lives.all) + 1, 0, self.clock)
        return self.lives.begin(self.clock, not self.durable)

    def connect(self) -> None:
        self.connection += 1
        self.told.turn(self.lives.now, self.connection, self.clock)

    def blind(self) -> None:
        self.told.turn(self.lives.now, 0, self.clock)

    def end(self, how: str, shut_down: int = 0) -> None:
        life = self.lives.all[-1]
        life.end, life.ended, life.shut_down = how, self.clock, shut_down  # type: ignore[assignment]
        self.told.tear(self.connection)
        self.told.turn(0, 0, self.clock)

    def say(self, count: int) -> list[int]:
        found = []
        for _ in range(count):
            self.clock += 0.01
            found.append(self.told.say(self.clock))
        return found

    def hear(self, numbers: Iterable[int], *, shift: int = 0, life: int = 0, **other: Any) -> None:
        """shift: sequence less number."""
        for number in numbers:
            session = str(int(self.lives.all[life - 1].began * 1000))
            copy = Copy(number, f"{number:032x}", session, number + shift, hash((session, number)))
            self.take(copy._replace(**other))

    def gap(self, since: float, until: float, sequence: int) -> None:
        session = str(int(self.lives.all[-1].began * 1000))
        self.take(Copy(0, f"ff{sequence:030x}", session, sequence, sequence, Gap(since, until, "closed", session)))

    def take(self, copy: Copy) -> None:
        self.lives.acknowledged(copy.session, copy.sequence, self.since)
        self.heard.acknowledged(copy, self.clock, self.told.last)

    def scrape(
        self,
        received: int,
        published: int,
        waiting: int = 0,
        dropped: int = 0,
        recovered: int = 0,
        *,
        cut: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """seconds: how long the answer took."""
        begun = self.clock - seconds
        picture = Picture(begun, self.clock, received, recovered, published, dropped, waiting, cut)
        self.lives.scraped(self.lives.all[-1], picture)

    def problems(self) -> list[str]:
        return judge(self.told, self.heard, self.lives, durable=self.durable).problems
