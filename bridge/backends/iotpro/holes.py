"""What was missed of one asset: between what was told before a blindness and the newest that is told once it is over.

The first thing told after it is no end of it: what the platform saved while it looked, or withheld once more, is newer.
So a hole takes in what is told live until it is shut, and only the rest of it is missing.
"""

from typing import Any

from bridge.backends.iotpro.values import same

_NONE = object()


class Hole:
    """low: milliseconds of the last value told before, by key · since: the same for keys that were never told."""

    __slots__ = ("_high", "_told", "low", "since", "waits")

    def __init__(self, low: dict[str, int], since: int) -> None:
        self.low, self.since = low, since
        self._high: dict[str, int] | None = None  # of the newest value told, by key; None: not shut
        self._told: dict[str, dict[int, Any]] = {}  # since it began, by key and milliseconds
        self.waits = False  # to be filled, or being filled

    def again(self, points: dict[str, int]) -> "Hole":
        """Blind once more before it was filled: from where it began. points: milliseconds of the newest told value."""
        missing = points.keys() & (points if self._high is None else self.open()).keys()
        return Hole({**points, **{key: min(points[key], self._from(key)) for key in missing}}, self.since)

    def told(self, key: str, ts: int, value: Any) -> None:
        """A value was told live."""
        if self._high is None:
            self._told.setdefault(key, {})[ts] = value

    def shut(self, points: dict[str, int]) -> None:
        """Nothing more is missed from now on. points: as for again()."""
        self._high = dict(points)

    def open(self) -> dict[str, tuple[int, int]]:
        """What may be missing, by key: after the one and before the other."""
        between = {key: (self._from(key), high) for key, high in (self._high or {}).items()}
        return {key: (low, high) for key, (low, high) in between.items() if high > low + 1}

    def has(self, key: str, ts: int, value: Any) -> bool:
        """Whether this value was told live."""
        return same(self._told.get(key, {}).get(ts, _NONE), value)

    def filled(self, upto: int) -> None:
        """Everything up to here (milliseconds) has been told."""
        self.low = {**self.low, **{key: max(self._from(key), upto) for key in self._high or {}}}

    def _from(self, key: str) -> int:
        return self.low.get(key, self.since)
