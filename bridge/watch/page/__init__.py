"""The status page: one self-contained document, allowed by its Content-Security-Policy to be what it is and no more.

It comes with the backends as they are, and keeps itself up to date by /events, where there is JavaScript.
"""

import base64
import hashlib
import html
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from bridge.watch.web import Reply

_HEAD = ("State", "Events per second", "Latency", "Waiting", "Last event", "Last gap", "Next try")
_LEASE, _ROWS, _STYLE, _SCRIPT = "<!-- lease -->", "<!-- backends -->", "/* page.css */", "/* page.js */"
_POLICY = (
    "default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


class Row:
    """One backend, as texts. state: one of its states · words: what else is told of it, by the column's number."""

    def __init__(self, name: str, kind: str, state: str, error: str, words: dict[int, str]) -> None:
        self._cells = {
            0: f'<span class="badge" data-state="{state}">{state}</span><small class="error">{_e(error)}</small>'
        }
        self._cells |= {column: f"<span>{_e(text)}</span>" for column, text in words.items()}
        self._head = f'<th role="rowheader" scope="row">{_e(name)}<small>{_e(kind)}</small></th>'

    def __str__(self) -> str:
        cells = (
            f'<td role="cell" data-label="{label}">{self._cells.get(column, "")}</td>'
            for column, label in enumerate(_HEAD)
        )
        return f'<tr role="row">{self._head}{"".join(cells)}</tr>'


def page(rows: Iterable[Row], lease: str = "") -> Reply:
    """With the backends of now. lease: whether this replica is the active one, where there are several."""
    text, policy = _page()
    body = text.replace(_LEASE, _e(lease)).replace(_ROWS, "".join(map(str, rows)))
    return Reply(200, "text/html; charset=utf-8", body.encode(), policy)


@cache
def _page() -> tuple[str, str]:
    """Put together once, when it is first asked for: the document without lease and rows, and what it may do."""
    here = files(__package__)
    text, style, script = (here.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    whole = text.replace(_STYLE, style).replace(_SCRIPT, script)
    return whole, _POLICY.format(style=_hash(style), script=_hash(script))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _e(text: str) -> str:
    return html.escape(text)
