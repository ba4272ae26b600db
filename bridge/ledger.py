"""The ledger: every event of this process, by what became of it."""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

DropReason = Literal["outbox_full", "too_old", "too_large", "topic_too_long", "refused", "shutdown", "unreadable"]
DROP_REASONS: tuple[DropReason, ...] = ("outbox_full", "too_old", "too_large", "topic_too_long", "refused", "shutdown")


class Ledger(Struct):
    """Every event of this process, by what became of it (README, Metrics)."""

    received: dict[str, int]
    dropped: dict[str, int]
    recovered: int = 0
    published: int = 0

    @classmethod
    def of(cls, types: Iterable[str]) -> "Ledger":
        return cls(received=dict.fromkeys((*types, "other"), 0), dropped=dict.fromkeys(DROP_REASONS, 0))
