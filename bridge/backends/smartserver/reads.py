"""On-demand reads: every subscribed datapoint once after subscribing, and again every `poll`; the platform's pace.

1. At most 10 datapoints a request and one request every 2 s, as the vendor's page does; slower when the CPU is at
   more than 94 percent.
2. Such a read makes the platform ask the device: what it answers is what was known before, the new value comes as an
   update (wiki, "Using WebSockets with Custom Web Pages"). No update at all within 10 s: somebody else has the list.
3. A device that is down brings no update, and proves nothing.
4. Without polling the question is asked by itself: after ten minutes without an update, and when updates come of
   datapoints that are not ours, one datapoint is read.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable

from bridge.backends.session import Answer
from bridge.backends.smartserver import answers, names
from bridge.backends.smartserver.fields import WrongShape
from bridge.backends.smartserver.frames import Update, update
from bridge.backends.smartserver.subscription import passing
from bridge.backends.smartserver.talk import Ask, Talk
from bridge.model import Instant

_GROUP = 10
_PACE_S, _BUSY_PACE_S = 2.0, 10.0
_BUSY_PERCENT = 94
_PROOF_S = 10.0
_TRIES = 3
_AGAIN_S = (60.0, 120.0, 300.0)  # between two suspicions
_SILENT_S = 600.0
_DOUBT_S = 60.0  # between two questions because of what is not ours


class Reads:
    """cached: told what an answer tells · stolen: updates stay away; told the group that was read."""

    def __init__(
        self,
        talk: Talk,
        poll: float | None,
        cached: Callable[[Update, Instant], None],
        stolen: Callable[[tuple[str, ...], Instant], None],
    ) -> None:
        self._talk, self._poll, self._cached, self._stolen = talk, poll, cached, stolen
        self._line: deque[str] = deque()
        self._all: tuple[str, ...] = ()
        self._id: str | None = None
        self._next = 0.0
        self._round: float | None = None  # when the next one begins
        self._proof: float | None = None  # when an update must have come
        self._asked: tuple[str, ...] = ()
        self._suspicions = self._tries = 0
        self._not_before = self._reask = 0.0
        self._silent: float | None = None  # when it has been silent for too long
        self._heard_at = self._doubted = float("-inf")
        self.busy = False
        self.may_prove: Callable[[str], bool] = lambda qualifier: True

    def begin(self, qualifiers: tuple[str, ...], now: Instant) -> None:
        """A round over all of them; the old one ends."""
        self.rest()
        self._all = qualifiers
        self._line = deque(qualifiers)
        self._round = now.mono + self._poll if self._poll else None
        self._silent = now.mono + _SILENT_S
        self.woken(now)

    def also(self, qualifiers: Iterable[str], everything: tuple[str, ...], now: Instant) -> None:
        """These, too; everything: what a round is over from now on."""
        self._all, known = everything, set(everything)
        if known.isdisjoint(self._asked):  # a device that is removed proves nothing any more
            self._proof = None
        self._line = deque(one for one in self._line if one in known)
        self._line.extendleft(one for one in qualifiers if one in known)
        self.woken(now)

    def rest(self) -> None:
        """The connection is gone."""
        self._talk.drop(self._id)
        self._id = self._proof = self._round = self._silent = None
        self._suspicions = 0
        self._line.clear()

    def load(self, kind: str, value: object) -> None:
        """What the platform says of its load."""
        if kind in ("cpu", "sc_cpu"):
            told = value.values() if isinstance(value, dict) else [value]
            self.busy = any(isinstance(one, int | float) and one > _BUSY_PERCENT for one in told)

    def due(self) -> float | None:
        moments = [self._proof, self._round, self._silent]
        if self._line and self._id is None:
            moments.append(self._next)
        elif self._suspicions and self._id is None and self._proof is None:
            moments.append(self._reask)
        return min((one for one in moments if one is not None), default=None)

    def woken(self, now: Instant) -> None:
        if self._proof is not None and self._proof <= now.mono:
            self._suspect(now)
        if self._silent is not None and self._silent <= now.mono:
            self._silent = max(self._heard_at, now.mono - _SILENT_S / 2) + _SILENT_S
            if self._heard_at + _SILENT_S <= now.mono:
                self._ask_one()
        if self._round is not None and self._round <= now.mono:
            self._round = now.mono + (self._poll or 0.0)
            if not self._line:  # else the last round is not over
                self._line = deque(self._all)
        if self._suspicions and not self._line and self._id is None and self._proof is None and self._reask <= now.mono:
            self._line = deque(self._asked)  # is it ours again?
            self._reask = now.mono + _AGAIN_S[-1]
        if self._line and self._id is None and self._next <= now.mono:
            group = tuple(self._line.popleft() for _ in range(min(_GROUP, len(self._line))))
            self._tries = 0
            self._read(group, now, None)

    def heard(self, now: Instant) -> None:
        """An update of a subscribed datapoint came: the list is ours."""
        self._proof = None
        self._suspicions = 0
        self._heard_at = now.mono

    def doubt(self, now: Instant) -> None:
        """An update of a datapoint came that is not subscribed: is the list still ours?"""
        if self._doubted + _DOUBT_S <= now.mono and self._heard_at + _PROOF_S <= now.mono:
            self._doubted = now.mono
            self._ask_one()
            self.woken(now)

    def _ask_one(self) -> None:
        """One datapoint whose device should answer."""
        if not self._line and self._proof is None:
            self._line.extend(itertools.islice(filter(self.may_prove, self._all), 1))

    def excused(self, qualifiers_of: Callable[[str], bool]) -> None:
        """A device does not answer: no update of its datapoints is to be expected."""
        if self._proof is not None and any(qualifiers_of(one) for one in self._asked):
            self._proof = None

    def forced(self, group: tuple[str, ...], asked: float, now: Instant) -> None:
        """The platform has taken a read that goes to the device; asked: when. The update may come before the answer."""
        if self._heard_at > asked:
            return
        if self._proof is None and now.mono >= self._not_before and any(self.may_prove(one) for one in group):
            self._proof, self._asked = now.mono + _PROOF_S, group

    def _suspect(self, now: Instant) -> None:
        self._proof = None
        self._not_before = self._reask = now.mono + _AGAIN_S[min(self._suspicions, len(_AGAIN_S) - 1)]
        self._suspicions += 1
        self._stolen(self._asked, now)

    def _read(self, group: tuple[str, ...], now: Instant, failed: Answer | None) -> None:
        self._next = now.mono + (_BUSY_PACE_S if self.busy else _PACE_S)
        asked = now.mono

        def answered(answer: Answer, now: Instant) -> None:
            self._answered(group, asked, answer, now)

        listed = ",".join(map(names.escaped, group))
        path = f"/iap/devs/*/if/*/*/*+qualifier=-{listed}/value?max_age=0&noxs=true"
        if failed is None:
            ask = Ask("GET", path)
        else:
            ask = Ask("GET", path, again="failure", after=answers.retry_after(failed) or 0.0)
        self._id = self._talk.ask(ask, answered)

    def _answered(self, group: tuple[str, ...], asked: float, answer: Answer, now: Instant) -> None:
        self._id = None
        if not answers.good(answer):
            self._tries += 1
            if passing(answer) and (self._tries < _TRIES or answer.status == 429):
                self._read(group, now, answer)
            return
        for told in values(answer):
            self._cached(told, now)
        self.forced(group, asked, now)


def values(answer: Answer) -> list[Update]:
    """The datapoints of an answer, as far as they can be read."""
    found = []
    for row in answers.rows(answer) or ():
        try:
            found.append(update(row))
        except WrongShape:
            continue
    return found
