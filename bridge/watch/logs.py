"""Log lines: text for people, JSON for programs; secrets are taken out of both.

One line per change of state, never one per message nor per try (reminders.py). What a line is about is in `extra`;
the backend's name is in each.
"""

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TextIO
from urllib.parse import unquote, unquote_plus, urlsplit

from bridge.options import LogOptions, Secret
from bridge.times import rfc3339
from bridge.watch.reminders import Reminders

Level = Literal["debug", "info", "warning", "error"]
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_SHORTEST = 4  # a secret of fewer characters would take words out of every line
_SHORTEST_PART = 6  # of an address


class Redactor:
    """Takes the texts of secrets out of a text. Files are read when it is made and at refresh()."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._secrets: list[Secret] = list(secrets)
        self._texts: tuple[str, ...] = ()
        self.refresh()

    def set(self, secrets: Iterable[Secret]) -> None:
        """After a reload; the old ones are kept out of sight too."""
        self._secrets += [secret for secret in secrets if secret not in self._secrets]
        self.refresh()

    def refresh(self) -> None:
        texts = set(self._texts)
        for secret in self._secrets:
            try:
                texts.update(_parts(secret.reveal()))
            except (OSError, UnicodeDecodeError):
                continue
        self._texts = tuple(sorted(texts, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        for secret in self._texts:
            text = text.replace(secret, "***")
        return text


def _parts(text: str) -> Iterable[str]:
    """A secret, and where it is a URL the parts of it that are secret on their own, as written and decoded."""
    try:
        address = urlsplit(text if "://" in text else "")
    except ValueError:  # a password that only begins like an address
        address = urlsplit("")
    if not address.netloc:
        return [text] if len(text) >= _SHORTEST else []
    values = [pair.partition("=")[2] for pair in address.query.split("&")]
    parts = [part for one in (address.password or "", *values) for part in (one, unquote(one), unquote_plus(one))]
    return [part for part in (text, address.query, *parts) if len(part) >= _SHORTEST_PART]


class _Text(logging.Formatter):
    def __init__(self, redact: Callable[[str], str], colour: bool) -> None:
        super().__init__()
        self._redact, self._colour = redact, colour

    def format(self, record: logging.LogRecord) -> str:
        extra = _extra(record)
        backend = extra.pop("backend", None)
        words = " ".join(
            f"{key}={_plain(str(_clean(value, self._redact)))}" for key, value in extra.items() if value is not None
        )
        moment = rfc3339(record.created)[11:23]
        level = record.levelname.lower()
        if self._colour:
            level = f"\x1b[{_COLOURS.get(record.levelno, '0')}m{level}\x1b[0m"
        told = escaped(record.getMessage())
        line = " ".join(filter(None, (moment, level, f"[{backend}]" if backend else "", told, words)))
        return self._redact(line + _trace(record))


class _Json(logging.Formatter):
    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **{key: value for key, value in _extra(record).items() if value is not None},
        }
        if trace := _trace(record):
            line["traceback"] = trace.strip()
        return escaped(json.dumps(_clean(line, self._redact), ensure_ascii=False))


def _clean(value: object, redact: Callable[[str], str]) -> object:
    """Without secrets, before it is written as JSON or by repr(), which would write some of them in another way."""
    if isinstance(value, Mapping):
        return {str(key): _clean(one, redact) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(one, redact) for one in value]
    return value if value is None or isinstance(value, bool | int | float) else redact(str(value))


_COLOURS = {logging.WARNING: "33", logging.ERROR: "31", logging.DEBUG: "2"}


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in _OWN}


def _plain(text: str) -> str:
    whole = " " not in text and text.isprintable() and text
    return text if whole else escaped(json.dumps(text, ensure_ascii=False))


def escaped(text: str) -> str:
    """With `\\u009b` and the like for what is not printable: escapes, C1 controls and bidi signs steer terminals.

    In JSON they occur only within strings, where they mean the same.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(sign: str) -> str:
    if sign.isprintable():
        return sign
    units = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _trace(record: logging.LogRecord) -> str:
    return "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip() if record.exc_info else ""


def colour() -> bool:
    """Whether what goes to standard error is painted."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def set_up(
    options: LogOptions, redact: Callable[[str], str], stream: TextIO | None = None, colour: bool = False
) -> None:
    """Sends every logger of this process to the stream (default: standard error)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(Reminders())
    handler.setFormatter(_Json(redact) if options.format == "json" else _Text(redact, colour))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(options.level)


def set_level(level: Level) -> None:
    """Ours as asked; libraries only from warning on, since they speak per message below that."""
    logging.getLogger("ws2mqtt").setLevel(level.upper())
    logging.getLogger().setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    for name in ("websockets.client", "websockets.server", "mqtt", "asyncio"):
        logging.getLogger(name).setLevel(logging.ERROR)


class BackendLog(logging.LoggerAdapter[logging.Logger]):
    """A logger that puts the backend's name into each line."""

    def __init__(self, backend: str | None) -> None:
        super().__init__(logging.getLogger("ws2mqtt"), {})
        self._backend = backend

    def process(self, msg: Any, kwargs: Any) -> Any:
        extra = dict(kwargs.get("extra") or {})
        if self._backend is not None:
            extra["backend"] = self._backend
        kwargs["extra"] = extra
        return msg, kwargs
