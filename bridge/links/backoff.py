"""How long to wait before the next try."""

import random
from collections.abc import Callable

from bridge.backends.session import Again
from bridge.options import Reconnect

LOGIN_DELAYS = (30.0, 60.0, 120.0, 300.0)  # after a refused login; the last one repeats


class Backoff:
    """Exponential with full jitter; refused logins have their own, slower schedule. success() starts both anew."""

    def __init__(self, options: Reconnect, jitter: Callable[[], float] = random.random) -> None:
        self._options, self._jitter = options, jitter
        self._tries = self._refusals = 0

    @property
    def attempt(self) -> int:
        """Tries since the last success."""
        return self._tries + self._refusals

    @property
    def longest(self) -> float:
        """Seconds that after_failure() gives at most of its own accord."""
        return self._options.max

    def success(self) -> None:
        self._tries = self._refusals = 0

    def after(self, again: Again, asked: float | None = None) -> float:
        """Seconds to wait; `asked`: at least so long, where the other side said so (Retry-After)."""
        return self.after_refusal(asked) if again == "refusal" else self.after_failure(asked)

    def after_failure(self, asked: float | None = None) -> float:
        """As after(), when the other side was not reached, or went away."""
        ceiling = min(self._options.max, self._options.initial * 2.0 ** min(self._tries, 32))
        self._tries += 1
        return max(ceiling * self._jitter(), asked or 0.0)

    def after_refusal(self, asked: float | None = None) -> float:
        """As after(), when the other side does not accept who we are."""
        delay = LOGIN_DELAYS[min(self._refusals, len(LOGIN_DELAYS) - 1)]
        self._refusals += 1
        return max(delay, asked or 0.0)
