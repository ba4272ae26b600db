"""Whether this process may connect and publish just now. Without an election: always. lease.py has the other answer.

1. Whoever is about to connect asks first, and asks again after every wait: the process may have been paused meanwhile.
2. Whoever lost a connection to the broker may have been replaced there: it connects again only with a permission that
   was given after the loss.
3. What is connected may still say its last words when nothing new may begin any more.
"""

import time


class Permit:
    """Always. Moments are seconds of clock(), which never goes back."""

    def clock(self) -> float:
        return time.monotonic()

    def holds(self) -> bool:
        """Whether something may begin."""
        return True

    def lasts(self) -> bool:
        """Whether what has begun may still publish."""
        return True

    async def confirmed(self, since: float | None = None) -> None:
        """Returns when something may begin, by a permission that was asked for later than `since`."""


ALWAYS = Permit()
