"""One scalar to one value: the types that options are made of, and the variables in texts.

Rules that bind here: what is wrong is said without the value, which may be a secret in the wrong place.
"""

import difflib
import math
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bridge.config.yamlfile import Scalar, wordy
from bridge.options import Duration, Rate, Secret, Size

WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
INT = re.compile(r"[+-]?[0-9]{1,18}")

_VARIABLE = re.compile(r"\$(\$?)\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
# Beyond these lie only mistakes: ten years, what SQLite can count, a million a second.
_MOST: dict[type, float] = {Duration: 3650 * 86400, Size: 2**62, Rate: 1e6}


class Wrong(ValueError):
    """What is wrong with one value, and the remedy; free of the value."""


def like(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?` where a known word is close, else all of them."""
    words = list(known)
    close = difflib.get_close_matches(word[:64], words, 1) or difflib.get_close_matches(word[:64].lower(), words, 1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(words) or 'none'}"


def interpolate(text: str, environ: Mapping[str, str]) -> str:
    """`${NAME}` and `${NAME:-default}` replaced, `$${` to `${`. Raises Wrong; names the variable, not the text."""

    def replace(found: re.Match[str]) -> str:
        escaped, name, default = found.groups()
        if escaped:
            return found[0][1:]
        if name is None:
            raise Wrong("has '${' without a name and '}': write ${NAME} or ${NAME:-default}, or $${ for the signs")
        if default is not None:
            return environ.get(name) or str(default)
        if name not in environ:
            raise Wrong(f"environment variable {name} is not set: set it, or write ${{{name}:-default}}")
        return environ[name]

    return _VARIABLE.sub(replace, text)


def unreadable(path: str) -> str | None:
    """Why a file cannot be read, None where it can. What may be a secret in the place of a file's name is not shown."""
    shown = path if path.startswith(("/", "./", "../", "~")) or wordy(path) else "the file"
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return f"cannot read {shown}: not a regular file"
        with Path(path).open("rb"):
            return None
    except OSError as error:
        return f"cannot read {shown}: {error.strerror}"


def _bool(scalar: Scalar) -> bool:
    try:
        return WORDS[scalar.text.lower()]
    except KeyError:
        raise Wrong("must be true or false") from None


def _int(scalar: Scalar) -> int:
    if not INT.fullmatch(scalar.text):
        raise Wrong("must be a whole number")
    if int(scalar.text) < 0:
        raise Wrong("must not be negative")
    return int(scalar.text)


def _float(scalar: Scalar) -> float:
    try:
        value = float(scalar.text)
    except ValueError:
        raise Wrong("must be a number") from None
    if not 0 <= value < math.inf:
        raise Wrong("must be a number, not negative and not infinite")
    return value


def _str(scalar: Scalar) -> str:
    if scalar.kind == "bool":
        raise Wrong("is true or false in YAML where a text belongs: put it in quotes")
    if _NOT_TEXT.search(scalar.text):
        raise Wrong("holds characters that UTF-8 text cannot carry")
    return scalar.text


def _measure(kind: type[Duration] | type[Size] | type[Rate]) -> Callable[[Scalar], object]:
    def parse(scalar: Scalar) -> object:
        if scalar.kind == "bool" and scalar.text.lower() in ("off", "false", "no"):
            raise Wrong("cannot be off")
        number = kind is Size and INT.fullmatch(scalar.text)
        try:
            value = kind.parse(int(scalar.text) if number else scalar.text)
        except OverflowError:
            raise Wrong("is too large") from None
        except ValueError as error:
            raise Wrong(str(error)) from None
        if value > _MOST[kind]:
            raise Wrong("is too large")
        return value

    return parse


LEAVES: dict[Any, Callable[[Scalar], object]] = {
    bool: _bool, int: _int, float: _float, str: _str, Secret: lambda scalar: Secret(_str(scalar)),
    Duration: _measure(Duration), Size: _measure(Size), Rate: _measure(Rate),
}  # fmt: skip
NAMES: dict[Any, str] = {
    bool: "true or false", int: "a number", float: "a number", str: "a text", Secret: "a text",
    Duration: "a duration", Size: "a size", Rate: "a rate",
}  # fmt: skip
