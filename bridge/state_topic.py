"""How a backend stands with its platform, as its state topic tells it."""

import logging
from collections.abc import Callable
from typing import Annotated

from msgspec import Struct

from bridge.clock import instant
from bridge.model import ConditionState
from bridge.options import about
from bridge.times import rfc3339


class BackendState(Struct, frozen=True):
    """`<base>/<backend>/state`, retained. Times: RFC 3339 UTC; attempt: tries since the last success."""

    state: Annotated[ConditionState, about("auth_failed: the login is refused; degraded: not all of it works")]
    since: Annotated[str | None, about("when it became so, UTC")]
    attempt: Annotated[int, about("tries since the last success")] = 0
    next_retry: Annotated[str | None, about("when the next try is, UTC")] = None
    error: Annotated[str | None, about("why, in words; without secrets")] = None
    last_event: Annotated[str | None, about("when the last event was read, UTC")] = None


class StateTopic:
    """Keeps the state, and says it where it changed.

    say: publishes it · redact: takes secrets out of the error · last_event: Unix time of the last event, if any ·
    log: where changes are noted, None: nowhere.
    """

    def __init__(
        self,
        *,
        say: Callable[[BackendState], None],
        redact: Callable[[str], str],
        last_event: Callable[[], float | None],
    ) -> None:
        self._say, self._redact, self._last_event = say, redact, last_event
        self.now = BackendState("connecting", rfc3339(instant().unix))
        self._told: BackendState | None = None
        self._noted = self.now
        self.log: logging.LoggerAdapter[logging.Logger] | None = None
        self._warnings: dict[str, str] = {}  # about our own side, by what they are about

    def set(self, state: ConditionState, error: str | None, delay: float = 0.0, attempt: int = 0) -> None:
        """delay: seconds to the next try, 0: none is planned."""
        now, last_event = instant().unix, self._last_event()
        self.now = BackendState(
            state=state,
            since=self.now.since if self.now.state == state else rfc3339(now),
            attempt=attempt,
            next_retry=rfc3339(now + delay) if delay else None,
            error=self._redact(error) if error else None,
            last_event=rfc3339(last_event) if last_event else None,
        )

    def tell(self) -> None:
        """Says it, if it has not been said."""
        if self.now is not self._told:
            self._told = self.now
            self._say(self.shown())
            self._note()

    def _note(self) -> None:
        """A line in the log: where it is well again, and of each try that was in vain (the log tells few of those)."""
        now, before = self.now, self._noted
        if self.log is None or (now.state == "connecting" and now.error in (None, before.error)):
            return
        self._noted = now
        if now.state in ("online", "disabled"):
            if (now.state, now.error) != (before.state, before.error):
                self.log.info(now.state)
        elif now.error:
            self.log.warning(now.state, extra={"reason": now.error, "next_retry": now.next_retry})

    def warn(self, about: str, warning: str | None) -> None:
        """Something wrong on our own side, shown until it is taken back; says the state again in any case."""
        self._warnings.pop(about, None)
        if warning is not None:
            self._warnings[about] = warning
        self._told = None
        self.tell()

    def shown(self) -> BackendState:
        """As it is published: our own trouble makes an online backend degraded."""
        now = self.now
        if not self._warnings:
            return now
        warning = "; ".join((*self._warnings.values(), *((now.error,) if now.error else ())))
        state: ConditionState = "degraded" if now.state == "online" else now.state
        return BackendState(state, now.since, now.attempt, now.next_retry, warning, now.last_event)

    def farewell(self, state: ConditionState, error: str | None) -> None:
        """The last word; why it ends, the log says elsewhere."""
        self.log = None
        self.set(state, error)
        self.tell()
