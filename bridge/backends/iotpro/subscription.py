"""One subscription of all assets, page by page, from the first command until every page was told.

    page 0 asked ──told──▶ the others asked ──told──▶ complete ──▶ pages told anew where somebody enters or leaves
                                                             └──▶ a page more, once the last one is full

The pages are sorted by creation: a new asset is on the last one. The last one is never full, so that it has room there.
A removed asset makes those behind it move up: for up to a refresh of the platform they may be on no page at all.
"""

from collections.abc import Iterator

from bridge.backends.iotpro.asks import Ask, Asking, forget
from bridge.backends.iotpro.selection import Selection
from bridge.backends.iotpro.wire import Page, TornPage
from bridge.model import Command

PATIENCE_S = 30.0  # until the first answer, and between two of them

_AT_ONCE = 20  # pages


class _Page:
    __slots__ = ("cmd", "ids", "number")

    def __init__(self, cmd: int, number: int) -> None:
        self.cmd, self.number = cmd, number
        self.ids: frozenset[str] | None = None  # not told yet


class Subscription:
    """Follows the pages of one Asking. numbers: for its commands; no two of one socket are the same.

    since, missed: see Assets.enter · command: that asked for it, if one did.
    """

    def __init__(
        self,
        selection: Selection,
        asking: Asking,
        numbers: Iterator[int],
        now: float,
        *,
        since: int,
        missed: int | None = None,
        command: Command | None = None,
    ) -> None:
        self.selection, self.since, self.missed, self.command = selection, since, missed, command
        self._asking = asking
        self._numbers = numbers
        self._pages: dict[int, _Page] = {}
        self._where: dict[str, int] = {}  # by asset: the command of the page that told it last
        self.patience = now + PATIENCE_S  # Instant.mono
        self._untold = 0
        self.complete = False  # every page was told

    def __contains__(self, cmd: int) -> bool:
        return cmd in self._pages

    def has(self, asset: str) -> bool:
        """Whether a page told it, and none told that it is gone."""
        return asset in self._where

    def first(self) -> list[Ask]:
        return [self._ask(0)]

    def fresh(self, cmd: int) -> bool:
        """Whether this page was not told yet."""
        return self._pages[cmd].ids is None

    def told(self, cmd: int, told: Page, now: float) -> tuple[list[Ask], list[str], bool]:
        """A page came: what to ask next, who is not on it any more, and whether they may have moved to another page."""
        page = self._pages[cmd]
        ids = frozenset(item.entityId.id for item in told.data)
        if isinstance(told, TornPage):
            ids |= {name for name in page.ids or () if self._where.get(name) == cmd}  # others have moved
        gone = [name for name in (page.ids or ()) if name not in ids and self._where.get(name) == cmd]
        self._untold -= page.ids is None
        page.ids = ids
        self._where.update(dict.fromkeys(ids, cmd))
        for name in gone:
            del self._where[name]
        self.patience = now + PATIENCE_S
        more = self._more(page, told)
        self.complete = not self._untold
        return more, gone, page.number > 0

    def _more(self, page: _Page, told: Page) -> list[Ask]:
        full = told.hasNext or len(told.data) >= self._asking.page_size
        if not full:
            return []
        upto = min(max(told.totalPages, page.number + 2), page.number + 1 + _AT_ONCE)
        numbers = {one.number for one in self._pages.values()}
        return [self._ask(number) for number in range(page.number + 1, upto) if number not in numbers]

    def _ask(self, number: int) -> Ask:
        page = _Page(next(self._numbers), number)
        self._pages[page.cmd] = page
        self._untold += 1
        return self._asking.page(page.cmd, number)

    def forget(self) -> list[Ask]:
        """Ends every page of it."""
        return [forget(cmd) for cmd in self._pages]
