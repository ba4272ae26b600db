"""A list by REST, page by page, in either of the platform's forms (vendor's page: `pg`, `sz`, `xs`).

Without `noxs` a page is an envelope `{"snapshot", "remainingPages", "resources"}`; a later page of another snapshot
means that the list has changed: it is begun anew. A server that knows no pages answers everything as a bare array.
"""

from collections.abc import Callable
from typing import Any

from bridge.backends.session import Answer
from bridge.backends.smartserver import answers
from bridge.backends.smartserver.subscription import passing
from bridge.backends.smartserver.talk import Ask, Talk
from bridge.model import Instant

_SIZE = 200
_ANEW = 3  # times that a list may change while it is read
_MOST = 2000  # pages
_TRIES = 3

Done = Callable[[list[Any] | None, str, Instant], None]


class Pages:
    """Reads one list; done is called once: with all rows, or with None and why.

    stuck: told what may pass, which is then tried for ever; else three times · paged: ask for pages.
    """

    def __init__(
        self, talk: Talk, path: str, done: Done, stuck: Callable[[str], None] | None = None, *, paged: bool = False
    ) -> None:
        self._talk, self._path, self._done, self._stuck, self._paged = talk, path, done, stuck, paged
        self._rows: list[Any] = []
        self._page, self._tries, self._anew = 1, 0, 0
        self._snapshot: str | None = None
        self._id: str | None = None
        self._ask(None)

    def cancel(self) -> None:
        self._talk.drop(self._id)

    def _ask(self, failed: Answer | None) -> None:
        asked = self._path
        if self._paged or self._page > 1:
            asked += f"{'&' if '?' in self._path else '?'}pg={self._page}&sz={_SIZE}"
        if self._snapshot is not None:
            asked += f"&xs={self._snapshot}"
        if failed is None:
            ask = Ask("GET", asked)
        else:
            ask = Ask("GET", asked, again="failure", after=answers.retry_after(failed) or 0.0)
        self._id = self._talk.ask(ask, self._answered)

    def _answered(self, answer: Answer, now: Instant) -> None:
        self._id = None
        rows = answers.rows(answer) if answers.good(answer) else None
        if rows is None:
            self._refused(answer, now)
            return
        self._tries = 0
        remaining, snapshot = answers.page(answer)
        if remaining is None:
            self._bare(rows, now)
            return
        if self._snapshot is not None and snapshot != self._snapshot and self._anew < _ANEW:
            self._anew += 1
            self._rows, self._page, self._snapshot = [], 1, None
            self._ask(None)
            return
        self._rows += rows
        self._snapshot = snapshot if snapshot is not None and snapshot.isalnum() else None
        self._further(bool(rows) and remaining > 0, now)

    def _bare(self, rows: list[Any], now: Instant) -> None:
        """A full page may have others behind it; a server without pages says the same again."""
        again = bool(rows) and rows == self._rows[: len(rows)]
        if not again:
            self._rows += rows
        self._further(self._paged and not again and len(rows) == _SIZE, now)

    def _further(self, more: bool, now: Instant) -> None:
        if more and self._page < _MOST:
            self._page += 1
            self._ask(None)
        else:
            self._done(self._rows, "", now)

    def _refused(self, answer: Answer, now: Instant) -> None:
        self._tries += 1
        if passing(answer) and (self._stuck is not None or self._tries < _TRIES):
            if self._stuck is not None:
                self._stuck(answers.words(answer))
            self._ask(answer)
        else:
            self._done(None, answers.words(answer), now)
