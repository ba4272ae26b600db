"""One message, one line: time, backend, subject, event type, and what it says in words.

Two layouts. Short, for a terminal: subjects in brief, cut to its width. Whole, for a pipe: `<backend> <type> <subject>`
as they are in the topic, nothing cut but very long texts.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from unicodedata import east_asian_width

from bridge.viewer.reading import NOT_READ, Place, Said, json_line, place, printable, said, words
from bridge.viewer.saying import details, mark

__all__ = ["Lines", "Look", "cut", "json_line", "width_of"]

# SGR numbers out of the 256 colours that every terminal shows alike, and that contrast with white and with black by
# 3.6 to 1 at least. Of backends: no green and red, which mean online and offline.
_COLOURS = tuple(f"38;5;{number}" for number in (31, 130, 98, 30, 163, 100, 63, 132))
QUIET, BOLD, RED, GREEN, AMBER = "38;5;244", "1", "38;5;160", "38;5;28", "38;5;166"
TONES = {"●": GREEN, "○": RED, "◐": AMBER, "!": RED}
_TEXT = 200  # characters of a payload that is no event
_NAME = 12  # columns that a backend's name is filled up to, at most
_NARROW = 60  # columns of a terminal that has no room for the time
_NAMES = 64  # backends that are remembered: anybody may publish below the base
_LATE_S = 60.0  # an event older than that tells its own time


@dataclass(frozen=True)
class Look:
    """width: columns of the terminal, None: whole lines · colour: with ANSI colours."""

    width: int | None = None
    colour: bool = False


@dataclass
class Lines:
    """Makes the lines of one view; remembers which backend has which colour."""

    base: str = "ws2mqtt"
    look: Look = Look()
    _colours: dict[str, str] = field(default_factory=dict)

    def line(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool,
        now: datetime,
        attributes: Mapping[str, str] | None = None,
    ) -> str:
        """A line without its end. now: aware; it tells the time and its zone · attributes: MQTT 5 user properties."""
        where, what = place(topic, self.base), said(payload, attributes or {})
        parts = [*self._head(where, what, now), *self._body(where, what, payload)]
        if when := _own_time(what, now):
            parts.append((when, QUIET))
        if retain:
            parts.append(("(retained)", QUIET))
        shown = [(printable(text), colour) for text, colour in parts if text]
        return self._joined(shown)

    def colour_of(self, backend: str) -> str:
        """The SGR number of a backend: the same in every run, unless another backend was there first."""
        if backend not in self._colours:
            start = zlib.crc32(backend.encode("utf-8", "replace")) % len(_COLOURS)
            order = _COLOURS[start:] + _COLOURS[:start]
            if len(self._colours) >= _NAMES:
                return order[0]
            taken = set(self._colours.values())
            self._colours[backend] = next((one for one in order if one not in taken), order[0])
        return self._colours[backend]

    def painted(self, text: str, colour: str) -> str:
        """The text in a colour ("": none), where there are colours."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.look.colour and colour else text

    def _head(self, where: Place, what: Said, now: datetime) -> list[tuple[str, str]]:
        width, kind = self.look.width, _kind(where)
        clock = ("" if width is not None and width < _NARROW else f"{now:%H:%M:%S}", QUIET)
        colour = self.colour_of(where.backend) if where.backend else ""
        if width is None:
            whole = what.type if where.role == "event" and what.type else kind
            return [clock, (where.backend, colour), (whole, BOLD), (where.subject, "")]
        column = min(_NAME, max(map(len, self._colours), default=0)) if where.backend else 0
        subject = where.subject if where.role == "other" else words(where.subject)
        return [clock, (where.backend.ljust(column), colour), (subject, ""), (kind, BOLD)]

    def _body(self, where: Place, what: Said, payload: bytes) -> list[tuple[str, str]]:
        if what.data is None and not payload:
            return [("(gone)" if where.role == "state" else "(empty)", QUIET)]
        if what.data is NOT_READ or where.role == "dead":
            text = payload[: 4 * _TEXT].decode("utf-8", "replace")
            return [
                (text if len(text) <= _TEXT else f"{text[:_TEXT]}…", ""),
                (f"{len(payload):,} bytes", QUIET),
            ]
        sign = mark(where, what.data)
        said_so = [(text, "") for text in details(where, what.data)]
        return [(sign, TONES.get(sign[:1], "")), *said_so]

    def _joined(self, parts: list[tuple[str, str]]) -> str:
        """One space after the time; then two, where the line fits so. On a terminal the subjects are in one column."""
        width = self.look.width
        tight = width is None or sum(width_of(text) for text, _ in parts) + 2 * len(parts) - 3 > width
        room, line = (width if width is not None else 1 << 30), ""
        for number, (text, colour) in enumerate(parts, 0 if width is None or width >= _NARROW else 1):
            gap = "  " if number == 2 and width is not None else " " if tight or number == 1 else "  "
            if line:
                if room <= len(gap):
                    break
                line, room = line + gap, room - len(gap)
            shown = cut(text, room)
            line, room = line + self.painted(shown, colour), room - width_of(shown)
        return line


def _kind(where: Place) -> str:
    """What a message is, in a word: the event type, `state`, `command downlink`, `dead not_json`."""
    if where.role in ("event", "state", "bridge"):
        return where.name
    return "" if where.role == "other" else f"{where.role} {where.name}"


def _own_time(what: Said, now: datetime) -> str:
    """When it happened, where that is not just now."""
    try:
        moment = datetime.fromisoformat(what.time).astimezone(now.tzinfo)
        late = abs((now - moment).total_seconds()) > _LATE_S
    except (ValueError, OverflowError, TypeError):
        return ""
    when = f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S}"
    return f"{'replay ' if what.replay else ''}of {when}" if late or what.replay else ""


def width_of(text: str) -> int:
    """Columns the text takes: wide characters two, all others at most one."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int) -> str:
    """The text, or its beginning and `…`, in at most `width` columns."""
    if width_of(text) <= width:
        return text
    room, kept = width - 1, ""
    for character in text:
        room -= width_of(character)
        if room < 0:
            break
        kept += character
    return f"{kept}…" if width > 0 else ""
