"""Trouble in the log: told when it begins, then now and then while it lasts, never once per try.

1. Trouble is a line that tells its `reason` and when the next try is. What else is logged passes.
2. It is the same while backend, side (broker or platform) and reason are; a new reason is told at once.
3. It is over with `mqtt connected`, or when the platform is `online`: what comes then is new.
4. At level debug every try is told.
"""

import logging
from dataclasses import dataclass

from bridge.times import rfc3339

_AFTER_S = (60.0, 300.0, 900.0)  # since it began; then each hour
_HOURLY_S = 3600.0
_MOST = 1000  # troubles that are remembered
_OVER = {"mqtt connected": "broker", "online": "platform"}


@dataclass
class _Trouble:
    began: float
    message: str
    held: int = 0  # lines of that message that were not told
    told: int = 0  # reminders

    def due(self) -> float:
        """When it is to be told again, Unix."""
        later = _AFTER_S[self.told] if self.told < len(_AFTER_S) else (self.told - len(_AFTER_S) + 1) * _HOURLY_S
        return self.began + later


class Reminders(logging.Filter):
    """Of one handler; The lines that remind tell `since` when, and how often it was `repeated` untold."""

    def __init__(self) -> None:
        super().__init__()
        self._troubles: dict[tuple[str, str, str], _Trouble] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is told."""
        fields, message = record.__dict__, record.getMessage()
        backend = str(fields.get("backend", ""))
        if (side := _OVER.get(message)) is not None:
            self._troubles = {key: one for key, one in self._troubles.items() if key[:2] != (backend, side)}
        if "reason" not in fields or not ("retry_s" in fields or "next_retry" in fields):
            return True
        key = (backend, "broker" if message.startswith("mqtt") else "platform", str(fields["reason"]))
        return self._tells(key, record) or logging.getLogger(record.name).isEnabledFor(logging.DEBUG)

    def _tells(self, key: tuple[str, str, str], record: logging.LogRecord) -> bool:
        trouble = self._troubles.get(key)
        if trouble is None:
            if len(self._troubles) < _MOST:
                self._troubles[key] = _Trouble(record.created, record.getMessage())
            return True
        if record.created < trouble.due():
            trouble.held += record.getMessage() == trouble.message
            return False
        while trouble.due() <= record.created:
            trouble.told += 1
        record.since, record.repeated = rfc3339(trouble.began), trouble.held
        return True
