"""A gap, filled from the platform's data log: what was logged while we heard nothing, as values with `replay`.

1. The window is the gap by the platform's clock, which is asked for with every new socket, and a little wider; what was
   told before the gap is left out by its time, and doubles have equal ids.
2. The log may be written later than values are pushed: its end is read once more a little later, after `done`, and is
   owed until then.
3. Only `backfill.max` of the past is asked for. What is older, or could not be read, makes the backfill `partial`; so
   does a clock that cannot be right, and datapoints that could not be found out.
4. A backfill that is interrupted is owed: the next one begins where it began, after a restart, too; what was told live
   in between says nothing about what is owed.
"""

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Struct

from bridge.backends.session import Answer, Gap, gap_event
from bridge.backends.smartserver import answers
from bridge.backends.smartserver.datalog import BACKFILL, DataLog, Run, Window, queries
from bridge.backends.smartserver.frames import Update
from bridge.backends.smartserver.moments import moment
from bridge.backends.smartserver.points import Points, identity
from bridge.backends.smartserver.talk import Ask, Talk
from bridge.model import Event, Instant
from bridge.times import rfc3339, unix

_MARGIN_S = 5.0
_BELIEVED_S = 3600.0
_TRIES = 3
_GRAIN_S = 2.0  # the platform tells its time in whole seconds, and a moment ago
_SETTLE_S = 3.0  # by so much later than a value its entry may be written


class _Memory(Struct, omit_defaults=True):
    """since: where an unfinished backfill began, RFC 3339 UTC."""

    since: str = ""


class _Filling(Struct):
    """One gap. since: from where the log is still to be read · settled: Instant.mono, when the log has all of it ·
    cut: what can be asked for is less · first, until: the gap by the platform's clock, once that is known · fresh: what
    is later may not be in the log yet · read: what of that was there already · over: its end is told.
    """

    gap: Gap
    since: str
    settled: float
    cut: bool
    first: str = ""
    until: str = ""
    fresh: str = ""
    read: set[tuple[str, str | None, bytes]] = msgspec.field(default_factory=set)
    over: bool = False


class Backfill:
    """longest: seconds of the past · id_of: the id of a device, by SID, protocol and DID."""

    def __init__(
        self, talk: Talk, log: DataLog, points: Points, longest: float, id_of: Callable[[str, str, str], str]
    ) -> None:
        self._talk, self._log, self._points, self._longest, self._id_of = talk, log, points, longest, id_of
        self._filling: _Filling | None = None
        self._due: float | None = None  # when it is looked once more
        self._asked: str | None = None  # what time it is
        self._owed = ""
        self._told: dict[str, str] = {}
        self._remember: bytes | None = None
        self._ahead = 0.0  # seconds of the platform's clock
        self._believed = True
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
        if told is not None:
            ahead = unix(told) - now.unix
            self._believed = abs(ahead) <= _BELIEVED_S
            self._ahead = ahead if self._believed else 0.0

    def remember(self) -> bytes | None:
        """For the Step, where there is anything new."""
        remember, self._remember = self._remember, None
        return remember

    def blind(self) -> None:
        """The connection is lost: what was told until now will not be told again."""
        told = self._points.blind()
        if not self._owed:
            self._told = told
        self.stopped()

    def stopped(self) -> None:
        """The program, or the talk, ends."""
        self._log.close(BACKFILL, "stopped")
        filling, self._filling, self._due = self._filling, None, None
        if filling is not None and not filling.over:
            self._end(filling, "partial")

    def ask(self) -> None:
        """There is a new socket: what time is it there?"""
        self._talk.drop(self._asked)
        self._asked = self._talk.ask(Ask("GET", "/iap/cms/info/time"), self._timed)

    def due(self) -> float | None:
        return self._due

    def woken(self, now: Instant) -> None:
        if self._filling is not None and self._due is not None and self._due <= now.mono:
            self._due = None
            self._look(self._filling, self._filling.fresh, now)

    def begin(self, gap: Gap, now: Instant, *, whole: bool) -> None:
        """Says the gap, and begins to fill it; whole: all datapoints are known."""
        earliest = rfc3339(now.unix - self._longest)
        since = min(self._owed or gap.since, gap.since)
        cut = since < earliest or not whole
        since = max(since, earliest)
        if not self._points.qualifiers or since >= gap.until or not self._longest:
            self._talk.say(gap_event(gap))
            return
        gap = msgspec.structs.replace(gap, backfill="started")
        self._talk.say(gap_event(gap))
        self._owe(since)
        self._filling = _Filling(gap, since, now.mono + _SETTLE_S, cut)
        if self._asked is None:
            self._begin(self._filling, now)

    def _timed(self, answer: Answer, now: Instant) -> None:
        """The platform's clock (since 4.1); older ones tell it with every answer."""
        self._asked = None
        told = moment(answers.value_of(answer)) if answers.good(answer) else None
        self.clock(told or answers.date(answer), now)
        if self._filling is not None and not self._filling.first:
            self._begin(self._filling, now)

    def _begin(self, filling: _Filling, now: Instant) -> None:
        """The clock is known, as far as it is told."""
        self._now = now.unix
        filling.cut = filling.cut or not self._believed
        filling.first, filling.until = (rfc3339(unix(one) + self._ahead) for one in (filling.since, filling.gap.until))
        filling.since = max(filling.since, rfc3339(now.unix - _SETTLE_S))
        filling.fresh = rfc3339(unix(filling.since) + self._ahead)
        self._look(filling, filling.first, now)

    def _look(self, filling: _Filling, since: str, now: Instant) -> None:
        window = Window(rfc3339(unix(since) - _MARGIN_S), rfc3339(unix(filling.until) + _MARGIN_S))
        asked = queries(self._points.qualifiers, self._id_of)
        run = Run(BACKFILL, asked, window, self._event, self._ended, skip=self._known, tries=_TRIES)
        self._log.begin(run, now)

    def _event(self, update: Update) -> Event:
        event = self._points.event(update, replay=True)
        self._points.picture(update, Instant(0.0, self._now))
        if self._filling is not None and (update.time or "") >= rfc3339(unix(self._filling.fresh) - _MARGIN_S):
            self._filling.read.add(_told(update))
        return event

    def _known(self, update: Update) -> bool:
        """Whether it was told: before the gap, since then, as the newest, or in the first look."""
        if update.time is None or self._filling is None:
            return False
        before = self._told.get(update.qualifier, "")
        if before > rfc3339(unix(self._filling.first) + _GRAIN_S):  # by a clock that was set back since
            before = self._filling.first
        if update.time <= before or (update.time > self._filling.until and self._points.heard(update)):
            return True
        return self._points.has(update) or _told(update) in self._filling.read

    def _ended(self, run: Run, fault: str | None, now: Instant) -> None:
        self._log.runs.pop(run.link, None)
        filling = self._filling
        if filling is None:
            return
        if filling.over:
            self._filling = None
            self._owe(filling.since if fault else "")  # what came late is for the next one
            return
        self._end(filling, "partial" if fault or filling.cut else "done")
        if fault:
            self._filling = None
            self._owe("")
            return
        filling.over = True
        self._due = max(filling.settled, now.mono)
        self._owe(filling.since)

    def _end(self, filling: _Filling, how: Literal["done", "partial"]) -> None:
        self._talk.say(gap_event(msgspec.structs.replace(filling.gap, backfill=how)))

    def _owe(self, since: str) -> None:
        if since != self._owed:
            self._owed = since
            self._remember = msgspec.json.encode(_Memory(since))


def _told(update: Update) -> tuple[str, str | None, bytes]:
    return update.qualifier, update.time, identity(update.value)
