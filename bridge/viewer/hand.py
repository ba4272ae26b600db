"""What the person at a live view wants: paused, and which lines. Told by single keys.

space pauses and goes on · / begins a filter, each word of which must be in a line · Enter keeps it, Escape takes it
away · q ends. While a filter is typed every other key is a part of it.
"""

from dataclasses import dataclass

from bridge.viewer.lines import cut, width_of
from bridge.viewer.reading import printable

_LONGEST = 100  # signs of a filter


@dataclass
class Hand:
    """typed: the filter · typing: it is being typed · over: enough was seen · came: in a pause, and not told yet."""

    paused: bool = False
    typed: str = ""
    typing: bool = False
    over: bool = False
    came: int = 0

    def press(self, key: str) -> None:
        """One key: a sign, or what a terminal sends for one."""
        if key in ("\x1b", "\x15"):  # Escape, Ctrl-U
            self.typed, self.typing = "", False
        elif self.typing:
            self._type(key)
        elif key in (" ", "p"):
            self.paused = not self.paused
        elif key == "/":
            self.typing = True
        elif key in ("q", "\x04"):
            self.over = True

    def _type(self, key: str) -> None:
        if key in ("\r", "\n"):
            self.typing = False
        elif key in ("\x7f", "\b"):
            self.typed = self.typed[:-1]
        elif key.isprintable():
            self.typed = (self.typed + key)[:_LONGEST]

    def wants(self, text: str) -> bool:
        """Whether a line that says this is to be shown."""
        told = text.lower()
        return all(word in told for word in self.typed.lower().split())

    def told(self, width: int) -> str:
        """The line that says so, and which keys there are."""
        if self.typing:
            head, tail = f"filter: {printable(self.typed)}▏", "Enter keeps  Esc clears"
        elif self.paused:
            head, tail = f"paused, {self.came:,} came", "space goes on  / filter  q ends"
        elif self.typed:
            head, tail = f"filter: {printable(self.typed)}", "Esc clears  / changes  space pauses  q ends"
        else:
            head, tail = "", "space pauses  / filter  q ends"
        for text in filter(None, ("   ".join(filter(None, (head, tail))), head)):
            if width_of(text) <= width:
                return text
        return cut(head or tail, width)
