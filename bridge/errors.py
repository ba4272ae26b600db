"""What can go wrong, sorted by what to do about it.

BridgeError
├── Transient    try again, after the back-off (or after `after` seconds, where the other side said so)
│   └── Refused  the other side said no to who we are: try again slowly, tell a person
├── Fatal        tell a person: trying again changes nothing (exit 1)
├── BadConfig    tell a person: every problem of the configuration at once (exit 78)
└── BadCommand   tell the sender of the command
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias


class BridgeError(Exception):
    """The root: everything this program raises on purpose."""


class Transient(BridgeError):
    """Worth another try.

    after: seconds the other side asked us to wait (Retry-After), or None.
    """

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Refused(Transient):
    """The other side does not accept our credentials."""


class Fatal(BridgeError):
    """Trying again changes nothing."""


# Where in the file a problem is: the value of its path, the key itself, nowhere in it, or line and column, from 1.
Spot: TypeAlias = Literal["value", "key", "environment"] | tuple[int, int]


@dataclass(frozen=True)
class Problem:
    """One thing wrong in the configuration: where, what, and what to do about it."""

    path: str
    message: str
    spot: Spot = field(default="value", compare=False)

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class BadConfig(BridgeError):
    """The configuration cannot be used; holds every problem found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


class BadCommand(BridgeError):
    """A command that is not executed, and what its sender is told.

    code: as in HTTP (400, 403, 404, 409, 410, 429, 503) · kind: one word for programs · field, value: what was wrong.
    """

    def __init__(
        self, message: str, *, code: int = 400, kind: str = "invalid", field: str | None = None, value: object = None
    ) -> None:
        super().__init__(message)
        self.code, self.kind, self.field, self.value = code, kind, field, value
