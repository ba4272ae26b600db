"""The talk about filters: a filter lives as long as the connection, one request is on its way at a time.

    opened ──▶ flying ──success──▶ in force            a command: ──▶ flying ──success──▶ in force, 200
                  └─error, silence──▶ degraded:                         └─error──▶ the old one is sent again, 502
                    we filter alone                                     └─silence──▶ the old one is sent again, 408

Whatever the server does, an event that the filter in force does not let through is not told. While a command's filter
is on its way both count, since events may come before the reply.
"""

from collections import deque

from msgspec import Struct

from bridge.backends.isymphony.data import InForce
from bridge.backends.isymphony.filters import Filter
from bridge.backends.isymphony.frames import Reply, Told
from bridge.backends.session import Send
from bridge.model import Command, CommandError, Instant, Response

MAIN = "main"
_REPLY_S = 5.0
_REMEMBERED = 64


class _Flying(Struct, frozen=True):
    """A filter on its way; command: whose it is, None: our own."""

    correlation: str
    filter: Filter
    until: float
    command: Command | None = None


class Filtering:
    """force: the filter that decides · warning: what a person should know, None while all is well."""

    def __init__(self, configured: Filter) -> None:
        self.force = configured
        self._flying: _Flying | None = None
        self._number = 0
        self._own = ""  # the correlation of the last sending of the filter in force
        self._past: deque[str] = deque(maxlen=_REMEMBERED)  # correlations that are no longer waited for
        self.warning: str | None = None

    @property
    def busy(self) -> bool:
        """Whether a filter is on its way."""
        return self._flying is not None

    @property
    def commanded(self) -> bool:
        """Whether a command's filter is on its way."""
        return self._flying is not None and self._flying.command is not None

    def due(self) -> float | None:
        return self._flying.until if self._flying else None

    def passes(self, told: Told) -> bool:
        if not self.force.wanted or self.force.passes(told.value):
            return True
        flying = self._flying
        return flying is not None and flying.command is not None and flying.filter.passes(told.value)

    def opened(self, now: Instant) -> tuple[Send, ...]:
        """A new connection, which has no filter: every event comes."""
        self._past.clear()
        self.warning = None
        return self._restore(now) if self.force.wanted else ()

    def ordered(self, command: Command, wanted: Filter) -> tuple[Send, ...]:
        """A command's filter; not called while busy."""
        self._flying = _Flying(command.key, wanted, command.deadline, command)
        return (Send(MAIN, wanted.frame(command.key)),)

    def told(self) -> InForce:
        """What is in force."""
        return self.force.told()

    def replied(self, reply: Reply, now: Instant) -> tuple[tuple[Response, ...], tuple[Send, ...]] | None:
        """None where nobody waits for it, nor ever did."""
        flying = self._flying
        if flying is None or reply.correlation not in (None, flying.correlation):
            return self._late(reply)
        self._flying = None
        if flying.command is None:
            self.warning = None if reply.success else _refused(reply)
            return (), ()
        if reply.success:
            self.force, self.warning = flying.filter, None
            return (Response(flying.command.key, "succeeded", 200, data=self.told()),), ()
        error = CommandError("refused", reply.words or "the platform refused the filter and gave no reason")
        response = Response(flying.command.key, "failed", 502, error=error, data=self.told())
        return (response,), self._restore(now)

    def woken(self, now: Instant) -> tuple[tuple[Response, ...], tuple[Send, ...]]:
        flying = self._flying
        if flying is None or flying.until > now.mono:
            return (), ()
        self._flying = None
        if flying.command is None:
            self.warning = "the platform does not answer to the filter: ws2mqtt filters alone"
            return (), ()
        self._past.append(flying.correlation)
        error = CommandError("timeout", "the platform did not answer in time; the filter before it is sent again")
        return (Response(flying.command.key, "unknown", 408, error=error, data=self.told()),), self._restore(now)

    def lost(self, why: str) -> tuple[Response, ...]:
        flying, self._flying = self._flying, None
        if flying is None or flying.command is None:
            return ()
        error = CommandError("disconnected", f"{why} before the platform answered; the filter before it stays")
        return (Response(flying.command.key, "unknown", 408, error=error, data=self.told()),)

    def _restore(self, now: Instant) -> tuple[Send, ...]:
        """Sends what is in force."""
        if self._own:
            self._past.append(self._own)
        self._number += 1
        self._own = f"ws2mqtt-{self._number}"
        self._flying = _Flying(self._own, self.force, now.mono + _REPLY_S)
        return (Send(MAIN, self.force.frame(self._own)),)

    def _late(self, reply: Reply) -> tuple[tuple[Response, ...], tuple[Send, ...]] | None:
        if reply.correlation == self._own and self._own:
            self.warning = None if reply.success else _refused(reply)
            return (), ()
        return ((), ()) if reply.correlation in self._past else None


def _refused(reply: Reply) -> str:
    return f"the platform refused the filter, ws2mqtt filters alone: {reply.words or 'no reason given'}"
