"""The platform's own words: JSON with a message, a bare sentence, or nothing (ThingsboardErrorResponseHandler)."""

import msgspec
from msgspec import Struct

from bridge.backends.session import Answer
from bridge.topics import clean

_LONGEST = 300


class _Message(Struct):
    message: str


def words(answer: Answer) -> str:
    """Why an answer is not what was hoped for: the platform's words, else the status, else why there is none."""
    if not answer.status:
        return answer.error or "no answer"
    if 300 <= answer.status < 400:
        return f"the platform answered with a redirect (HTTP {answer.status}), which is not followed"
    try:
        said = msgspec.json.decode(answer.body, type=_Message).message
    except (ValueError, RecursionError):
        said = answer.body.decode(errors="replace")
    said = "".join(one if one.isprintable() else " " for one in clean(said)).strip()
    if not said or said.startswith(("<", "{")):  # a proxy's page
        return f"HTTP {answer.status}"
    return f"{said[:_LONGEST]} (HTTP {answer.status})"


def retry_after(answer: Answer) -> float | None:
    """Seconds of Retry-After (RFC 9110, 10.2.3), where it is a number."""
    for name, value in dict(answer.headers).items():
        if name.lower() == "retry-after" and value.isascii() and value.isdecimal() and len(value) < 7:
            return float(value)
    return None
