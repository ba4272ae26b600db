"""A gap, filled from the platform's data log: what was logged while we heard nothing, as values with `replay`.

1. The window is the gap by the platform's clock, as far as that is known, and a little wider; what was told before the
   gap is left out by its time, and doubles have equal ids.
2. Only `backfill.max` of the past is asked for. What is older, or could not be read, makes the backfill `partial`.
3. A backfill that is interrupted is owed: the next one begins where it began, after a restart, too.
"""

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Struct

from bridge.backends.session import Gap, gap_event
from bridge.backends.smartserver.datalog import BACKFILL, DataLog, Run, Window, queries
from bridge.backends.smartserver.frames import Update
from bridge.backends.smartserver.moments import moment
from bridge.backends.smartserver.points import Points
from bridge.backends.smartserver.talk import Talk
from bridge.model import Event, Instant
from bridge.times import rfc3339, unix

_MARGIN_S = 5.0
_BELIEVED_S = 3600.0
_TRIES = 3


class _Memory(Struct, omit_defaults=True):
    """since: where an unfinished backfill began, RFC 3339 UTC."""

    since: str = ""


class Backfill:
    """longest: seconds of the past · id_of: the id of a device, by SID, protocol and DID."""

    def __init__(
        self, talk: Talk, log: DataLog, points: Points, longest: float, id_of: Callable[[str, str, str], str]
    ) -> None:
        self._talk, self._log, self._points, self._longest, self._id_of = talk, log, points, longest, id_of
        self._gap: Gap | None = None
        self._cut = False  # the window is shorter than the gap
        self._owed = ""
        self._told: dict[str, str] = {}
        self._remember: bytes | None = None
        self._ahead = 0.0  # seconds of the platform's clock
        self._now = 0.0

    def remembered(self, memory: bytes | None) -> None:
        """What an earlier session remembered, whatever it is."""
        try:
            since = msgspec.json.decode(memory or b"{}", type=_Memory).since
        except (ValueError, RecursionError):
            return
        self._owed = moment(since) or ""

    def clock(self, told: str | None, now: Instant) -> None:
        """What the platform says that the time is, RFC 3339 UTC; what is far from ours is not believed."""
        ahead = unix(told) - now.unix if told is not None else 0.0
        self._ahead = ahead if abs(ahead) <= _BELIEVED_S else 0.0

    def remember(self) -> bytes | None:
        """For the Step, where there is anything new."""
        remember, self._remember = self._remember, None
        return remember

    def blind(self) -> None:
        """The connection is lost: what was told until now will not be told again."""
        self._told = self._points.blind()
        self.stopped()

    def stopped(self) -> None:
        """The program, or the talk, ends."""
        if self._log.close(BACKFILL, "stopped") is not None:
            self._close("partial")

    def begin(self, gap: Gap, now: Instant) -> None:
        """Says the gap, and begins to fill it."""
        earliest = rfc3339(now.unix - self._longest)
        since = min(self._owed or gap.since, gap.since)
        self._cut = since < earliest
        since = max(since, earliest)
        if not self._points.qualifiers or since >= gap.until or not self._longest:
            self._talk.say(gap_event(gap))
            return
        self._gap = msgspec.structs.replace(gap, backfill="started")
        self._talk.say(gap_event(self._gap))
        self._owe(since)
        self._now = now.unix
        first, last = (unix(one) + self._ahead for one in (since, gap.until))
        window = Window(rfc3339(first - _MARGIN_S), rfc3339(last + _MARGIN_S))
        asked = queries(self._points.qualifiers, self._id_of)
        run = Run(BACKFILL, asked, window, self._event, self._ended, skip=self._known, tries=_TRIES)
        self._log.begin(run, now)

    def _event(self, update: Update) -> Event:
        event = self._points.event(update, replay=True)
        self._points.picture(update, Instant(0.0, self._now))
        return event

    def _known(self, update: Update) -> bool:
        time = update.time
        return time is not None and (time <= self._told.get(update.qualifier, "") or self._points.has(update))

    def _ended(self, run: Run, fault: str | None, now: Instant) -> None:
        self._log.runs.pop(run.link, None)
        self._owe("")
        self._close("partial" if fault or self._cut else "done")

    def _close(self, how: Literal["done", "partial"]) -> None:
        gap, self._gap = self._gap, None
        if gap is not None:
            self._talk.say(gap_event(msgspec.structs.replace(gap, backfill=how)))

    def _owe(self, since: str) -> None:
        if since != self._owed:
            self._owed = since
            self._remember = msgspec.json.encode(_Memory(since))
