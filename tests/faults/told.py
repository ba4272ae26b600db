"""What the source said: numbers from 1, when, and to whom.

1. A number is handed to exactly one connection, or to nobody while nobody listens; the platform talks on all the same.
2. A connection that ends in good order has brought everything. One that was torn may have lost its end, nothing else.
"""

from array import array
from dataclasses import dataclass


@dataclass
class Stretch:
    """Numbers in a row that went the same way. life: of the bridge, 0 while none runs · connection: 0 to nobody ·
    began: Unix time · last: below `first` where nothing was said.
    """

    life: int
    connection: int
    began: float
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


class Told:
    """The source's own book."""

    def __init__(self) -> None:
        self.at = array("d", [0.0])  # by number: when it was said, Unix time
        self.handed = 0  # numbers that went to a living socket
        self.stretches: list[Stretch] = []
        self.torn: dict[int, int] = {}  # by connection: the first number that may be lost

    @property
    def last(self) -> int:
        """The newest number; 0: nothing was said yet."""
        return len(self.at) - 1

    def turn(self, life: int, connection: int, at: float) -> None:
        """From now on numbers go there."""
        latest = self.stretches[-1] if self.stretches else None
        if latest is None or (latest.life, latest.connection) != (life, connection):
            self.stretches.append(Stretch(life, connection, at, self.last + 1, self.last))

    def say(self, at: float) -> int:
        """The next number."""
        self.at.append(at)
        stretch = self.stretches[-1]
        stretch.last = len(self.at) - 1
        self.handed += stretch.connection != 0 and stretch.connection not in self.torn
        return stretch.last

    def tear(self, connection: int, first: int | None = None) -> None:
        """The connection ended without a goodbye. first: the first number that may be lost; None: any of its own."""
        self.torn.setdefault(connection, 0 if first is None else first)

    def is_torn(self, number: int) -> bool:
        """Whether it may be lost, so far: said to a torn connection, or to nobody."""
        part = next(one for one in reversed(self.stretches) if one.first <= number <= one.last)
        return not part.connection or number >= self.torn.get(part.connection, number + 1)

    def life_of(self, number: int) -> int:
        """The life of the bridge in which it was said."""
        for stretch in reversed(self.stretches):
            if stretch.first <= number <= stretch.last:
                return stretch.life
        raise LookupError(f"number {number} was never said")
