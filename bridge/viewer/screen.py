"""The terminal of a live view: event lines scroll, below them a few lines stay and are drawn anew in place.

After drawing, the cursor is put back to the first column of the first line that stays. A terminal that wraps its text
anew when it is resized takes the cursor along, so that "clear from here to the end" always clears just those lines.
"""

import re
import select
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from io import UnsupportedOperation
from os import get_terminal_size
from typing import Any, TextIO

from bridge.viewer.hand import Hand
from bridge.viewer.lines import AMBER, GREEN, QUIET, RED, Lines, width_of
from bridge.viewer.reading import Place, printable, read
from bridge.viewer.saying import mark

LINES_PER_SECOND = 25.0
BURST = 10.0
SEARCHED_PER_SECOND = 2000.0  # messages held against a filter; of more, the rest is left out
_RATE_S = 5.0  # events per second are the mean of this long
_KEPT = 1000  # lines that wait for a terminal that takes none
_LOW = 6  # rows of a terminal that has none for the keys
_TOLD_S = 1.0  # how often the lines left out are counted
_CLEAR, _HIDE, _SHOW = "\x1b[J", "\x1b[?25l", "\x1b[?25h"
_SIGNS = {"●": GREEN, "○": RED, "◐": AMBER}
_AWAY = "no broker"
_NAMES, _OTHERS = 2000, "others"  # anybody may publish below the base: so many names are counted on their own
_PAINT = re.compile(r"\x1b\[[\d;]*m")


class Allowance:
    """How many lines may still be printed: `rate` a second, `burst` of them at once."""

    def __init__(self, clock: Callable[[], float], rate: float = LINES_PER_SECOND, burst: float = BURST) -> None:
        self._clock, self._rate, self._burst = clock, rate, burst
        self._left, self._at = burst, clock()

    def take(self) -> bool:
        """Whether one more line may be printed; then it is counted."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass
class Tally:
    """What the status line tells: events per second and state of each backend, totals since `start`.

    away: there is no connection to the broker, and nobody knows how the backends are.
    """

    clock: Callable[[], float] = time.monotonic
    events: Counter[str] = field(default_factory=Counter)
    signs: dict[str, str] = field(default_factory=dict)
    messages: int = 0
    away: bool = False

    def __post_init__(self) -> None:
        self.start = self.clock()
        self._marks: deque[tuple[float, Counter[str]]] = deque([(self.start, Counter())])

    def count(self, where: Place, payload: bytes) -> None:
        """One message, of any kind."""
        self.messages += 1
        name = where.backend
        if name not in self.events and name not in self.signs and len(self.events) + len(self.signs) >= _NAMES:
            name = _OTHERS
        if where.role == "event":
            self.events[name] += 1
        elif where.of_backend:
            self.signs[name] = mark(where, read(payload))[:1]

    def rates(self) -> dict[str, float]:
        """Events per second of each backend that was seen, by name."""
        now = self.clock()
        while len(self._marks) > 1 and self._marks[1][0] <= now - _RATE_S:
            self._marks.popleft()
        since, before = self._marks[0]
        if now - self._marks[-1][0] >= _TOLD_S:
            self._marks.append((now, self.events.copy()))
        span = max(now - since, _TOLD_S)
        seen = sorted((self.events.keys() | self.signs.keys()) - {"bridge"})
        return {name: (self.events[name] - before[name]) / span for name in seen}

    def seconds(self) -> int:
        """Since the start."""
        return int(self.clock() - self.start)


def status(tally: Tally, lines: Lines, width: int) -> str:
    """`lora ● 12/s  port ○ 0/s  +2 more   1,204 events  0:42`, in at most `width` columns."""
    minutes, seconds = divmod(tally.seconds(), 60)
    events = f"{sum(tally.events.values()):,}"
    parts = _backends(tally, lines)
    for total, more in ((f"{events} events  {minutes}:{seconds:02d}", 0), (f"{events}  {minutes}:{seconds:02d}", 10)):
        room, shown = width - len(total) - 1, 0
        while shown < len(parts) and (room := room - width_of(parts[shown][0]) - 2) >= more * (shown + 1 < len(parts)):
            shown += 1
        if shown == len(parts):
            break
    left = [painted for _, painted in parts[:shown]] + [f"+{len(parts) - shown} more"] * (shown < len(parts))
    if not parts:
        left = ["waiting for messages"]
    return f"{'  '.join(left)}   {total}" if width >= len(total) + 24 else total[: max(width, 0)]


def _backends(tally: Tally, lines: Lines) -> list[tuple[str, str]]:
    """One piece for each backend, as it is measured and as it is painted; `bridge` only where it is not well."""
    pieces = [(_AWAY, lines.painted(_AWAY, RED))] if tally.away else []
    if (sign := tally.signs.get("bridge", "●")) != "●":
        pieces.append((f"bridge {sign}", f"bridge {lines.painted(sign, _SIGNS.get(sign, ''))}"))
    for name, rate in tally.rates().items():
        sign = "?" if tally.away else tally.signs.get(name) or " "
        told = f"{rate:,.0f}/s" if rate >= 10 or not rate else f"{rate:.1f}/s"
        shown = printable(name)[:32]
        coloured = lines.painted(shown, lines.colour_of(name)), lines.painted(sign, _SIGNS.get(sign, "")), told
        pieces.append((f"{shown} {sign} {told}", " ".join(coloured)))
    return pieces


class Screen:
    """Lines above, what stays below. `show` collects, `draw` writes; what cannot be shown in time is counted.

    hand: who steers it; None: nobody can.
    """

    def __init__(
        self, out: TextIO, lines: Lines, header: Iterable[str], clock: Callable[[], float], hand: Hand | None = None
    ) -> None:
        self._out, self._lines, self._header, self._clock = out, lines, list(header), clock
        self.hand = hand
        self._allowed, self._allowed_rare = Allowance(clock), Allowance(clock)
        self._searched = Allowance(clock, SEARCHED_PER_SECOND, SEARCHED_PER_SECOND / 4)
        self._waiting: deque[str] = deque(maxlen=_KEPT)
        self._left_out = 0
        self._told_at = clock()
        self.tally = Tally(clock)

    def open(self) -> None:
        """Hides the cursor. A header too long to stay is printed once."""
        columns, rows = size(self._out)
        if sum(_rows(line, columns) for line in self._header) > rows // 4:
            self._waiting.extendleft(reversed(self._header))
            self._header = []
        write(self._out, _HIDE)
        self.draw()

    def close(self) -> None:
        """Leaves what was shown, the totals as a last line, and the cursor below it."""
        self.hand = None
        self.draw()
        rows = "\n".join(self._staying(size(self._out)[0]))
        write(self._out, f"\r{_CLEAR}{rows}\n{_SHOW}")

    def wants(self, where: Place) -> bool:
        """Whether there is room for a line about this; if not, it is counted."""
        if (where.rare and self._allowed_rare.take()) or self._allowed.take():
            return True
        self._left_out += 1
        return False

    def looks_for(self, text: Callable[[], str]) -> bool:
        """Whether a line that says this is wanted now; what comes in a pause is counted. text: made where needed."""
        hand = self.hand
        if hand is None or not (hand.paused or hand.typed):
            return True
        if hand.paused and not hand.typed:
            hand.came += 1
            return False
        if not self._searched.take():
            self._left_out += 1
            return False
        found = hand.wants(text())
        hand.came += found and hand.paused
        return found and not hand.paused

    def show(self, line: str) -> None:
        """A finished line, for the next draw."""
        self._waiting.append(line)

    def draw(self) -> None:
        """New lines and the lines that stay, in one write."""
        paused = self.hand is not None and self.hand.paused
        if self._left_out and not paused and self._clock() - self._told_at >= _TOLD_S:
            self._waiting.append(self._lines.painted(f"… +{self._left_out:,} more", QUIET))
            self._left_out = 0
        if not self._left_out:
            self._told_at = self._clock()
        if self.hand and self.hand.came and not paused:
            self._waiting.append(self._lines.painted(f"… +{self.hand.came:,} in the pause", QUIET))
            self.hand.came = 0
        columns, _ = size(self._out)
        staying = self._staying(columns)
        up = sum(_rows(_PAINT.sub("", line), columns) for line in staying[:-1])
        above = "".join(f"{line}\r\n" for line in self._waiting)
        self._waiting.clear()
        back, below = f"\x1b[{up}A\r" if up else "\r", "\r\n".join(staying)
        write(self._out, f"\r{_CLEAR}{above}{below}{back}")

    def _staying(self, columns: int) -> list[str]:
        """The lines below, as they are painted; the last one is never wider than the terminal."""
        rows = size(self._out)[1]
        fits = sum(_rows(line, columns) for line in self._header) <= rows // 4
        header = [self._lines.painted(line, QUIET) for line in self._header] if fits else []
        keys = self._lines.painted(self.hand.told(columns - 1), QUIET) if self.hand and rows > _LOW else None
        return [*header, status(self.tally, self._lines, columns - 1), *([keys] if keys else [])]


def _rows(line: str, columns: int) -> int:
    return max(1, -(-width_of(line) // max(columns, 1)))


def size(out: TextIO) -> tuple[int, int]:
    """Columns and rows of the terminal; 80 and 24 where it does not tell."""
    with suppress(OSError, ValueError, UnsupportedOperation):
        columns, rows = get_terminal_size(out.fileno())
        if columns > 0 and rows > 0:
            return columns, rows
    return 80, 24


def writable(out: TextIO) -> bool:
    """Whether a terminal takes something: not where it was stopped (Ctrl-S), or its line is slow."""
    with suppress(OSError, ValueError, UnsupportedOperation):
        return bool(select.select([], [out.fileno()], [], 0)[1])
    return True


def write(out: TextIO, text: str) -> None:
    """At once, with `?` for what the terminal's encoding does not have. Raises OSError where nobody reads any more."""
    encoding: Any = getattr(out, "encoding", None) or "utf-8"
    out.write(text.encode(encoding, "replace").decode(encoding))
    out.flush()
