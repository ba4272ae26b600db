"""The Live REST API's answers as responses to commands (REST API Documentation, "HTTP status").

200 and 204 are done. Only the platform's 404 is a 404: after a restart of its server every id is another one. All else
that it says is its refusal, 502, with its own words.
"""

from typing import Any

import msgspec

from bridge.backends.reading import too_deep
from bridge.backends.session import Answer
from bridge.model import CommandError, Response
from bridge.topics import clean

_WORDS = 500
_MEANINGS = {
    400: "the platform calls the request invalid",
    401: "the platform does not accept username and password",
    403: "the platform does not allow it: its ACL (only localhost by default), or username and password",
    404: "the platform knows no such object; after a restart of its server all ids are new: use getByName",
    405: "the platform does not take this method here",
    412: "the platform calls the JSON invalid",
    500: "the platform failed",
}
TLS_DEMANDED = "the server demands TLS: use wss and port 55050"


def response(key: str, answer: Answer) -> Response:
    """The final response to the command of this key."""
    if 200 <= answer.status < 300:
        return Response(key, "succeeded", 200, data=told(answer))
    if answer.status == 0:
        why = answer.error or "no reason given"
        error = CommandError("no_answer", f"no answer from the platform, it may have been carried out: {clean(why)}")
        return Response(key, "unknown", 408, error=error)
    error = CommandError("no_such_object" if answer.status == 404 else "refused", meaning(answer))
    if answer.status == 404:
        return Response(key, "rejected", 404, error=error)
    return Response(key, "failed", 502, error=error)


def meaning(answer: Answer) -> str:
    """A refusal in words: what the status means, and what the platform says."""
    redirected = 300 <= answer.status < 400
    said = TLS_DEMANDED if redirected else _MEANINGS.get(answer.status, "the platform refused")
    words = "" if redirected else _words(answer.body)
    return f"{said} (HTTP {answer.status})" + (f": {words}" if words else "")


def told(answer: Answer) -> Any:
    """The body as JSON; as text where it is none; None where there is none."""
    if not answer.body.strip():
        return None
    try:
        value = msgspec.json.decode(answer.body)
        return value if not too_deep(value) else _text(answer.body)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return _text(answer.body)


def _words(body: bytes) -> str:
    """What a person can read of it: no page of markup."""
    text = " ".join(_text(body[: _WORDS * 8]).split())
    return "" if text.startswith("<") else text[:_WORDS]


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")
