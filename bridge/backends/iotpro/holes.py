"""What was missed of one asset: between what was told before a blindness and the first thing told after it."""


class Hole:
    """low: milliseconds of the last value told before, by key · since: the same for keys that were never told ·
    high: of the first value told after it, by key; only what lies between is missing.
    """

    __slots__ = ("high", "low", "since", "waits")

    def __init__(self, low: dict[str, int], since: int) -> None:
        self.low, self.since = low, since
        self.high: dict[str, int] = {}
        self.waits = False  # to be filled, or being filled

    def again(self, points: dict[str, int]) -> "Hole":
        """Blind once more before it was filled: from where it began, to what will be told next."""
        return Hole({**points, **{key: low for key, (low, _) in self.open().items()}}, self.since)

    def seen(self, key: str, ts: int) -> None:
        """The first value since, of this key."""
        if key not in self.high and ts >= self.low.get(key, self.since):
            self.high[key] = ts

    def open(self) -> dict[str, tuple[int, int]]:
        """What is missing, by key: after the one and before the other."""
        between = {key: (self.low.get(key, self.since), high) for key, high in self.high.items()}
        return {key: (low, high) for key, (low, high) in between.items() if high > low + 1}

    def filled(self, upto: int) -> None:
        """Everything up to here (milliseconds) has been told."""
        self.low = {**self.low, **{key: max(self.low.get(key, self.since), upto) for key in self.high}}
