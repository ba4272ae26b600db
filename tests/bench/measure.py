"""CPU time of pieces of work that are held against each other, and the tables in which figures are told.

1. Rounds are interleaved, each piece in turn, and the best of each counts: noise only ever adds.
2. The yardstick is measured beside every piece in every round: the ratio to it is what can be told elsewhere.
"""

import gc
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

Work = Callable[[], Awaitable[object]]


@dataclass
class Piece:
    """events: what one call of `work` gets through."""

    name: str
    events: int
    work: Work


@dataclass
class Cost:
    """In microseconds of CPU. ratio: to the yardstick of the same run."""

    name: str
    per_event: float
    ratio: float


async def costs(pieces: Sequence[Piece], yardstick: Piece, rounds: int) -> list[Cost]:
    """Each piece's best of so many rounds, after one that does not count."""
    best = dict.fromkeys(range(len(pieces)), float("inf"))
    measure = float("inf")
    for number in range(rounds + 1):
        for place, piece in enumerate(pieces):
            gc.collect()
            beside, spent = await _spent(yardstick), await _spent(piece)
            if number:
                measure, best[place] = min(measure, beside), min(best[place], spent)
        measure = min([measure, *(best[place] for place, piece in enumerate(pieces) if piece is yardstick)])
    return [Cost(piece.name, best[place], best[place] / measure) for place, piece in enumerate(pieces)]


async def _spent(piece: Piece) -> float:
    """Microseconds of CPU per event, of this process with all its threads."""
    start = time.process_time()
    await piece.work()
    return (time.process_time() - start) / piece.events * 1e6


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; the first column is words, the others are figures."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([_line(head, widths), f"|{rule}|", *(_line(row, widths) for row in cells)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"


def _cell(value: object) -> str:
    """Three digits that say something."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
