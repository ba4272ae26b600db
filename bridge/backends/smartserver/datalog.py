"""What the platform has logged, each query on a socket of its own (wiki, "Data Log WebSocket Queries and Parameters").

1. A query names a time range and one datapoint, or a device of which several are wanted; what was not asked for is
   left out here. Entries come without an envelope, in any order, then `"end"`; a close without it is partial.
2. A command's query is made once. A backfill's is made up to three times; then it is partial.
3. The sockets are history: the crossing reads them only while there is room.
"""

from collections import deque
from collections.abc import Callable, Iterable

from msgspec import Struct

from bridge.backends.session import Loss
from bridge.backends.smartserver import names
from bridge.backends.smartserver.frames import Update
from bridge.backends.smartserver.talk import Talk
from bridge.model import Command, Event, Instant

BACKFILL = "log-backfill"
SLOTS = ("log-1", "log-2", "log-3", "log-4")  # of commands
END = b'"end"'
_SILENT_S = 600.0
_TRIES = 3
_OVER = (401, 403, 404)  # of a handshake: perhaps the session is over


class Query(Struct, frozen=True):
    """device: an id, or a handle · wanted: dpQualifiers, all of this device."""

    device: str
    wanted: frozenset[str]

    def text(self, since: str, until: str) -> str:
        """The URL's query, all of it escaped; times: UTC in ms, without a Z (vendor's page)."""
        said = [f"dev={names.escaped(self.device)}"]
        if len(self.wanted) == 1 and (one := names.parts(next(iter(self.wanted)))) is not None:
            block, index, datapoint = (names.escaped(name) for name in one[3:])
            said += [f"blockName={block}", f"blockIndex={index}", f"dpName={names.escaped('*+xifName==')}{datapoint}"]
        bounds = f"*+utc>{since[:23]}&utc<={until[:23]}"
        return "&".join([*said, f"value={names.escaped(bounds)}"])


class Window(Struct, frozen=True):
    """From (not with) and until (with), RFC 3339 UTC."""

    since: str
    until: str


class Run:
    """Queries one after the other on one link; ended: with how many entries were told, and what is wrong if anything.

    skip: whether an entry is known already · most: entries to tell, then the rest is not wanted.
    """

    def __init__(
        self,
        link: str,
        queries: Iterable[Query],
        window: Window,
        event: Callable[[Update], Event],
        ended: Callable[["Run", str | None, Instant], None],
        *,
        skip: Callable[[Update], bool] = lambda told: False,
        most: int | None = None,
        tries: int = 1,
        command: Command | None = None,
    ) -> None:
        self.link, self.window, self.command = link, window, command
        self._queries, self._event, self._ended, self._skip = deque(queries), event, ended, skip
        self._most, self._tries = most, tries
        self._failed = 0
        self.count = 0
        self.opened = False
        self.parked = False
        """Waits for the next login."""
        self._relogged = False
        self.heard_at = 0.0
        self.fault: str | None = None

    @property
    def limited(self) -> bool:
        return self._most is not None and self.count >= self._most

    def dial(self, talk: Talk, now: Instant, loss: Loss | None = None) -> None:
        """Asks the first query that is left; loss: of the last try."""
        self.heard_at, self.opened = now.mono, False
        self.parked = talk.over
        if not self.parked and self._queries:
            query = self._queries[0].text(self.window.since, self.window.until)
            talk.dial(self.link, query, "failure" if loss else None, loss.after if loss else None)

    def told(self, talk: Talk, update: Update) -> None:
        """An entry of the log."""
        if update.qualifier not in self._queries[0].wanted or self._skip(update):
            return
        if update.time is not None and not self.window.since <= update.time <= self._last():
            return
        self.count += 1
        talk.say(self._event(update))

    def _last(self) -> str:
        return f"{self.window.until[:23]}999Z"  # the log knows milliseconds

    def end(self, talk: Talk, now: Instant) -> None:
        """This query is complete, or no more is wanted."""
        talk.hang(self.link, "complete")
        self._queries.popleft()
        self._failed = 0
        if self._queries and not self.limited:
            self.dial(talk, now)
        else:
            self._ended(self, self.fault, now)

    def lost(self, talk: Talk, loss: Loss, now: Instant) -> None:
        """It ended by itself."""
        status = loss.status or 0
        if not self.opened and not self._relogged and (status in _OVER or 300 <= status < 400):
            self._relogged = self.parked = True
            talk.end(now)
            return
        self._failed += 1
        if self._failed < self._tries:
            self.dial(talk, now, loss)
            return
        self.fault = loss.error
        self._failed = 0
        self._queries.popleft()
        if self._queries and self._tries > 1:
            self.dial(talk, now)
        else:
            self._ended(self, self.fault, now)


class DataLog:
    """The runs under way, by link."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.runs: dict[str, Run] = {}

    def free(self) -> str | None:
        """A link for a command."""
        return next((slot for slot in SLOTS if slot not in self.runs), None)

    def begin(self, run: Run, now: Instant) -> None:
        self.runs[run.link] = run
        run.dial(self._talk, now)

    def close(self, link: str, why: str) -> Run | None:
        """Ends a run without a word."""
        run = self.runs.pop(link, None)
        if run is not None:
            self._talk.hang(link, why)
        return run

    def admitted(self, now: Instant) -> None:
        """There is a new session."""
        for run in list(self.runs.values()):
            if run.parked:
                run.dial(self._talk, now)

    def opened(self, link: str, now: Instant) -> None:
        self.runs[link].opened = True
        self.runs[link].heard_at = now.mono

    def told(self, link: str, update: Update, now: Instant) -> None:
        run = self.runs[link]
        run.heard_at = now.mono
        run.told(self._talk, update)
        if run.limited:
            run.end(self._talk, now)

    def ended(self, link: str, now: Instant) -> None:
        self.runs[link].end(self._talk, now)

    def lost(self, link: str, loss: Loss, now: Instant) -> None:
        self.runs[link].lost(self._talk, loss, now)

    def due(self) -> float | None:
        moments = [run.heard_at + _SILENT_S for run in self.runs.values()]
        moments += [run.command.deadline for run in self.runs.values() if run.command and not run.opened]
        return min(moments, default=None)

    def woken(self, now: Instant, expired: Callable[[Run], None]) -> None:
        """expired: the platform's first answer to a command did not come in time."""
        for link, run in list(self.runs.items()):
            if run.command is not None and not run.opened and run.command.deadline <= now.mono:
                self.close(link, "no answer in time")
                expired(run)
            elif run.heard_at + _SILENT_S <= now.mono:
                self._talk.hang(link, "silent")
                run.lost(self._talk, Loss("idle", f"nothing was heard for {_SILENT_S:g} s", now), now)


def queries(qualifiers: Iterable[str], device_of: Callable[[str, str, str], str]) -> list[Query]:
    """By device; device_of: the id of a device, by SID, protocol and DID."""
    by_device: dict[tuple[str, str, str], set[str]] = {}
    for qualifier in qualifiers:
        told = names.parts(qualifier)
        if told is not None:
            by_device.setdefault(told[:3], set()).add(qualifier)
    return [Query(device_of(*place), frozenset(wanted)) for place, wanted in by_device.items()]
