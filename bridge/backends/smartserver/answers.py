"""What the platform's REST side answers, read without trusting it (wiki, "IAP/REST API").

Error bodies are not documented but for one `message`; a session that is over may answer with a page or a redirect.
"""

from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from bridge.backends.reading import Object, too_deep
from bridge.backends.session import Answer
from bridge.times import rfc3339

_WORDS = 300  # characters of an error's body


def good(answer: Answer) -> bool:
    return 200 <= answer.status < 300


def is_over(answer: Answer) -> bool:
    """Whether the session is gone: 401, or something that leads to the login page, or is that page."""
    if answer.status == 401 or 300 <= answer.status < 400:
        return True
    return good(answer) and answer.body.lstrip().startswith(b"<")


def header(answer: Answer, name: str) -> str:
    return next((value.lower() for key, value in answer.headers if key == name), "")


def date(answer: Answer) -> str | None:
    """When it was answered, RFC 3339 UTC, by the clock of the other side (RFC 9110, 6.6.1)."""
    told = next((value for key, value in answer.headers if key == "date"), "")
    try:
        return rfc3339(parsedate_to_datetime(told).timestamp())
    except (ValueError, OverflowError):
        return None


def retry_after(answer: Answer) -> float | None:
    """Seconds, where the platform says so."""
    told = header(answer, "retry-after").strip()
    return float(told) if told.isdecimal() and told.isascii() and len(told) < 7 else None


def cookie(answer: Answer) -> str | None:
    """`cmsSID=…` of a login's answer; the platform needs no other (wiki, "CMS Login IAP/REST Service")."""
    found = None
    for name, value in answer.headers:
        if name == "set-cookie" and value.strip().startswith("cmsSID="):
            found = value.partition(";")[0].strip()
    if found is None or len(found) <= len("cmsSID=") or not (found.isascii() and found.isprintable()):
        return None
    return found


def value_of(answer: Answer) -> Any:
    """The JSON of a good answer, bare or as `{"value": …}`; None for none."""
    told = _json(answer)
    return told.get("value") if isinstance(told, dict) and "value" in told else told


def rows(answer: Answer) -> list[Any] | None:
    """The members of a list, of a page's `resources`, or a lone object; None for anything else."""
    told = _json(answer)
    if isinstance(told, dict):
        resources = told.get("resources")
        return resources if isinstance(resources, list) else [told] if told else []
    return told if isinstance(told, list) else None


def page(answer: Answer) -> tuple[int | None, str | None]:
    """Of a paged answer: how many pages remain, and its snapshot; None: it is no page."""
    told = _json(answer)
    if not isinstance(told, dict) or not isinstance(told.get("resources"), list):
        return None, None
    remaining, snapshot = told.get("remainingPages"), told.get("snapshot")
    return remaining if type(remaining) is int else 0, None if snapshot is None else str(snapshot)


def words(answer: Answer) -> str:
    """Why it is no good answer, for people: the status, and the platform's words where it has some."""
    if not answer.status:
        return answer.error or "no answer"
    told = _json(answer) if answer.body else None
    said = _message(told) if isinstance(told, dict) else told if isinstance(told, str) else None
    if said is None and answer.body and not answer.body.lstrip().startswith((b"<", b"{", b"[")):
        said = answer.body.decode("utf-8", "replace")
    said = " ".join((said or "").split())[:_WORDS]
    return f"HTTP {answer.status}: {said}" if said else f"HTTP {answer.status}"


def message(answer: Answer) -> str:
    """The `message` of an error, "" without one."""
    told = _json(answer)
    return (_message(told) or "") if isinstance(told, dict) else ""


def _message(told: Object) -> str | None:
    for name in ("message", "error", "details"):
        if isinstance(said := told.get(name), str) and said:
            return said
    return None


def _json(answer: Answer) -> Any:
    try:
        told = msgspec.json.decode(answer.body)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return None if too_deep(told) else told
