"""What `ws2mqtt check` says: every problem in a line of its own; below it its place, the line, what belongs there."""

from collections.abc import Mapping
from dataclasses import dataclass

from bridge.backends import PLATFORMS
from bridge.config import Platforms, counted, in_one_line, load_text
from bridge.config.excerpt import Excerpt, Mark
from bridge.config.schema import schema
from bridge.config.yamlfile import read
from bridge.errors import BadConfig, Problem

_BOLD, _RED, _YELLOW, _QUIET = "1", "1;31", "1;33", "36"


@dataclass(frozen=True)
class Findings:
    """good: it can be used · said: what there is to say of it, "" for nothing · backends: their names."""

    good: bool
    said: str = ""
    backends: tuple[str, ...] = ()


def check(path: str, environ: Mapping[str, str], *, colour: bool = False, platforms: Platforms = PLATFORMS) -> Findings:
    """Of a file. Raises nothing: that it cannot be read is a problem like any other."""
    text = ""
    try:
        text = read(path)
        config = load_text(text, environ, platforms)
    except BadConfig as bad:
        told = _Told(text, path, colour, platforms)
        ends = told.painted(in_one_line(counted(len(bad.problems), "problem", path)), _BOLD)
        return Findings(False, "\n".join([*told.all(bad.problems, "", _RED), ends]))
    backends = tuple(config.backends)
    if not config.warnings:
        return Findings(True, "", backends)
    warnings = [Problem(path, message) for path, _, message in (one.partition(": ") for one in config.warnings)]
    told = _Told(text, path, colour, platforms)
    return Findings(True, "\n".join(told.all(warnings, "warning: ", _YELLOW)), backends)


class _Told:
    """Problems of one text, in the order of its lines; what is not of the file comes last."""

    def __init__(self, text: str, path: str, colour: bool, platforms: Platforms) -> None:
        self._path, self._colour = path, colour
        self._excerpt = Excerpt(text, schema(platforms))

    def painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and text else text

    def all(self, problems: list[Problem], level: str, tone: str) -> list[str]:
        found = [(self._mark(problem), problem) for problem in problems]
        found.sort(key=lambda one: (one[0] is None, one[0].line if one[0] else 0, one[0].start if one[0] else 0))
        return [line for mark, problem in found for line in self._one(mark, problem, level, tone)]

    def _mark(self, problem: Problem) -> Mark | None:
        if isinstance(problem.spot, tuple):
            line, column = problem.spot
            return Mark(line - 1, column - 1, column)
        if problem.spot == "environment" or not problem.path:
            return None
        return self._excerpt.mark(problem.path, of_key=problem.spot == "key")

    def _one(self, mark: Mark | None, problem: Problem, level: str, tone: str) -> list[str]:
        where = self.painted(in_one_line(problem.path or self._path), _BOLD)
        lines = [f"{self.painted(level, tone)}{where}: {in_one_line(problem.message)}"]
        if mark is not None:
            lines += self._place(mark, tone)
        if problem.spot != "key" and (about := self._excerpt.about(problem.path)):
            lines.append(f"  {self.painted('=', _QUIET)} {in_one_line(about)}")
        return lines

    def _place(self, mark: Mark, tone: str) -> list[str]:
        line, pointer = self._excerpt.shown(mark)
        number, bar = f"{mark.line + 1:4}", self.painted("|", _QUIET)
        where = in_one_line(f"{self._path}:{mark.line + 1}:{mark.start + 1}")
        return [
            f"  {self.painted('-->', _QUIET)} {where}",
            f"  {self.painted(number, _QUIET)} {bar} {in_one_line(line)}",
            f"  {' ' * len(number)} {bar} {pointer.rstrip('^')}{self.painted(pointer.strip(), tone)}",
        ]
