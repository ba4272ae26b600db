"""Whether a program can say a text: whether each of its words is part of a longer piece that stands in the code.

What is filled in when it is said (numbers, names in capitals, addresses) need not be there.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_LEAST = 10  # characters of a piece, else any word would be found somewhere
_NEXT_TO_A_HOLE = re.compile(r"\W*[a-z]{4,}\W*")  # shorter ones count as a whole


class Texts:
    """All texts in Python files, cut where something is filled in."""

    def __init__(self, files: Iterable[Path]) -> None:
        told = [text for file in files for text in _texts(ast.parse(file.read_text("utf-8")))]
        self._all = "\n".join(text for text, _ in told)
        self._short = {text for text, hole in told if hole and _NEXT_TO_A_HOLE.fullmatch(text)}

    def missing(self, said: str) -> list[str]:
        """The words that are in no piece."""
        there = [False] * len(said)
        for start in range(len(said) - _LEAST + 1):
            end = start + _LEAST
            while end <= len(said) and said[start:end] in self._all:
                there[start:end] = [True] * (end - start)
                end += 1
        for short in self._short:
            if (start := said.find(short)) >= 0:
                there[start : start + len(short)] = [True] * len(short)
        words = re.finditer(r"(?<![\w.])[a-z]{3,}", said)
        return [word[0] for word in words if not all(there[word.start() : word.end()])]


def _texts(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Each with whether something is filled in beside it."""
    filled = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, id(node) in filled
