"""Now, by both clocks."""

import time

from bridge.model import Instant


def instant() -> Instant:
    """mono for deadlines, unix for what people read."""
    return Instant(time.monotonic(), time.time())
