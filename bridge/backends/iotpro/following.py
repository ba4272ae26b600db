"""Which assets there are and what they say, as long as one socket is open: subscriptions, and what goes wrong in them.

    opened ──▶ first subscription ──every page──▶ in step ──error 34──▶ throttled ──next update──▶ repairing ──▶ in step
                     └─refused, silent──▶ broken       └─another error──▶ repaired a minute later

Beside the subscription in force there may be a second one, of a command or a repair: it takes over when complete.
"""

from collections import OrderedDict
from itertools import count
from typing import Protocol

from bridge.backends.iotpro import asks, names
from bridge.backends.iotpro.assets import ALWAYS, NEVER, Assets
from bridge.backends.iotpro.data import InForce, Resynced
from bridge.backends.iotpro.frames import Failure, Told
from bridge.backends.iotpro.history import History
from bridge.backends.iotpro.orders import Filter, Orders
from bridge.backends.iotpro.requests import Requests
from bridge.backends.iotpro.selection import Selection
from bridge.backends.iotpro.subscription import Subscription
from bridge.backends.iotpro.turn import Turn
from bridge.backends.iotpro.wire import ENTITY_FIELD, Item
from bridge.backends.session import Send
from bridge.errors import BadCommand
from bridge.model import Command, Instant
from bridge.options import Secret

MAIN = "main"
TOO_MANY, UNAUTHORIZED = 34, 3  # errorCode
_FIRST_CMD = 1_000_001  # the platform names its own subscriptions 1, 2 …, in some errors
_REPAIR_S = 60.0
_CALM_S = 10.0
_MOVES_S = 90.0  # the platform looks anew who is on a page every 60 s
_STRANGERS, _HELD = 1000, 16
_MARGIN_S = 5.0
_NEW_MS = 15 * 60_000
_BELIEVED_MS = 60 * 60_000  # by so much the platform's clock may differ from ours


class Talk(Protocol):
    """What the session does about it."""

    def in_step(self, turn: Turn, now: Instant) -> None: ...
    def blind(self, why: str, turn: Turn, now: Instant) -> None: ...
    def sees(self, turn: Turn, now: Instant) -> None: ...
    def broken(self, why: str, turn: Turn, now: Instant, *, token: bool = False) -> None: ...


class Following:
    """in_step: every page was told since the socket was opened."""

    def __init__(
        self,
        talk: Talk,
        assets: Assets,
        history: History,
        requests: Requests,
        orders: Orders,
        *,
        selection: Selection,
        attributes: tuple[str, ...],
        page_size: int,
    ) -> None:
        self._talk, self._assets, self._history, self._orders = talk, assets, history, orders
        self._names = names.Names(requests, self._named)
        self._attributes, self._page_size = attributes, page_size
        self.selection = selection
        self.in_step = False
        self.ever = False  # in step before: what is new from now on is an event
        self._sub: Subscription | None = None
        self._second: Subscription | None = None
        self._since = NEVER
        self._missed: int | None = None  # milliseconds since when nothing is heard, by our clock
        self._behind = 0  # milliseconds of the platform's clock; it is never taken as ahead
        self._numbers = count(_FIRST_CMD)
        self._strangers: OrderedDict[str, list[Item]] = OrderedDict()
        self._nameless: list[tuple[Subscription, Item, bool]] = []
        self._leaving: dict[str, float] = {}  # by asset: Instant.mono when it is taken as gone
        self._throttled = False
        self._repair_at: float | None = None  # Instant.mono
        self._calm_at = 0.0  # Instant.mono: not before may a throttling end, lest each second has its repair

    def wake(self) -> float | None:
        """When woken() has something to do."""
        moments = [one.patience for one in (self._sub, self._second) if one is not None and not one.complete]
        if self._repair_at is not None:
            moments.append(self._repair_at)
        return min([*moments, *self._leaving.values()]) if moments or self._leaving else None

    # The socket.

    def was_blind(self, since: Instant) -> None:
        """Since then nothing was heard: what comes next leaves holes.

        Of what was never told (or not remembered) it is only known by our clock when that began, and the platform's may
        be behind (what it says of its own is heard with the next page): a little is asked for twice rather than missed.
        """
        began = int((since.unix - _MARGIN_S) * 1000)
        self._missed = began if self._missed is None else min(began, self._missed)
        if self.ever:
            self._assets.blind(self._missed - self._behind)
        else:
            self._since = self._missed

    def opened(self, token: Secret, turn: Turn, now: Instant) -> None:
        since = ALWAYS if self.ever else self._since
        self._names.forget()
        self._sub = self._subscription(self.selection, now, since=since, missed=self._missed)
        for frame in asks.frames(self._sub.first(), token.reveal()):
            turn.do.append(Send(MAIN, Secret(frame)))

    def lost(self, turn: Turn, now: Instant) -> None:
        self.in_step = self._throttled = False
        self._end_second("the connection was lost before the platform had answered", turn, now, lost=True)
        self._sub = None
        self._repair_at = None
        self._nameless = []
        self._leaving.clear()
        self._strangers.clear()

    def _subscription(
        self,
        selection: Selection,
        now: Instant,
        *,
        since: int,
        missed: int | None = None,
        command: Command | None = None,
    ) -> Subscription:
        asking = asks.Asking(selection, self._attributes, self._page_size)
        return Subscription(selection, asking, self._numbers, now.mono, since=since, missed=missed, command=command)

    def _send(self, commands: list[asks.Ask], turn: Turn) -> None:
        turn.do += [Send(MAIN, frame) for frame in asks.frames(commands)]

    # What is said.

    def told(self, told: Told, turn: Turn, now: Instant) -> None:
        if told.page is not None:
            self._page(told, turn, now)
        for item in told.items:
            if not self._assets.update(item, turn.heard):
                self._stranger(item)
        if self._throttled and told.items and self.in_step and now.mono >= self._calm_at:
            self._throttled = False
            self._recover(turn, now)

    def _stranger(self, item: Item) -> None:
        """It may be told before the page that it is on: held until then."""
        held = self._strangers.setdefault(item.entityId.id, [])
        if len(held) < _HELD:
            held.append(item)
        if len(self._strangers) > _STRANGERS:
            self._strangers.popitem(last=False)

    def _page(self, told: Told, turn: Turn, now: Instant) -> None:
        which = next((one for one in (self._sub, self._second) if one is not None and told.cmd in one), None)
        if which is None or told.page is None:
            return  # of a subscription that has ended
        fresh, was_complete = which.fresh(told.cmd), which.complete
        more, gone, may_move = which.told(told.cmd, told.page, now.mono)
        self._send(more, turn)
        for item in told.page.data:
            self._arrived(which, item, fresh, turn, now)
        for name in gone if which is self._sub else ():
            if may_move:
                self._leaving[name] = now.mono + _MOVES_S
            else:
                self._assets.leave(name, turn.heard)
        if not was_complete:
            self._completed(which, turn, now)
        elif self.in_step and not self._mending():
            self._history.fill(turn, now)

    def _arrived(self, which: Subscription, item: Item, fresh: bool, turn: Turn, now: Instant) -> None:
        if names.told(item):
            self._enter(which, item, fresh, turn, now)
        elif self._names.knows(item) or not self._names.ask(turn, now):
            self._enter(which, self._names.of(item), fresh, turn, now)
        else:
            self._nameless.append((which, item, fresh))

    def _enter(self, which: Subscription, item: Item, fresh: bool, turn: Turn, now: Instant) -> None:
        fields = (item.latest or {})[ENTITY_FIELD]
        if not which.selection.takes(str(fields["type"].value)):
            return
        name = item.entityId.id
        if self._leaving.pop(name, None) is not None and (asset := self._assets.by_id.get(name)) is not None:
            self._assets.blind_one(asset, _clock(item, now) - _NEW_MS)
        platform = _clock(item, now)
        self._behind = max(0, int(now.unix * 1000) - platform)
        since, missed = (which.since, which.missed) if fresh else (ALWAYS, None)
        if since != NEVER:
            moments = (_born(item, platform), None if missed is None else missed - self._behind)
            missed = min((one for one in moments if one is not None), default=None)
        if missed is not None and since != ALWAYS:
            since = missed
        self._assets.enter(item, turn.heard, since=since, missed=missed)
        for held in self._strangers.pop(name, ()):
            self._assets.update(held, turn.heard)

    def _named(self, turn: Turn, now: Instant) -> None:
        """The lists have been read: those who waited for their names come in."""
        nameless, self._nameless = self._nameless, []
        for which, item, fresh in nameless:
            self._enter(which, self._names.of(item), fresh, turn, now)
        for which in {id(which): which for which, _, _ in nameless}.values():
            if which in (self._sub, self._second):
                self._completed(which, turn, now)

    def _completed(self, which: Subscription, turn: Turn, now: Instant) -> None:
        """Perhaps; then it is in force."""
        if not which.complete or any(one is which for one, _, _ in self._nameless):
            return
        if which is self._second and self._sub is not None:
            self._send(self._sub.forget(), turn)
            self._sub, self._second = which, None
            self.selection = which.selection
            self._leaving.clear()
        self._only(which, turn)
        if which.command is not None:
            self._assets.select(self.selection.keys_of, turn.heard)
            self._orders.done(which.command, self._in_force(which.command), turn, now)
        self._now_in_step(which, turn, now)

    def _only(self, which: Subscription, turn: Turn) -> None:
        """All others are not followed any more."""
        for name, asset in list(self._assets.by_id.items()):
            there = (which.has(name) or name in self._leaving) and which.selection.takes(asset.profile)
            if not there:
                self._assets.leave(name, turn.heard)

    def _now_in_step(self, which: Subscription, turn: Turn, now: Instant) -> None:
        first, self.in_step, self.ever = not self.in_step, True, True
        if not self._throttled:
            self._missed = None
        if first:
            self._assets.settled(turn.heard)
            self._talk.in_step(turn, now)
            if self._throttled:
                self._trouble("Too many updates!", turn, now)
        elif not self._mending():
            self._history.going = True
            self._history.fill(turn, now)

    def _in_force(self, command: Command) -> InForce | Resynced:
        if isinstance(command.body, Filter):
            return {"keys": self.selection.keys, "profiles": self.selection.profiles}
        return {"assets": len(self._assets)}

    # What goes wrong.

    def failed(self, failure: Failure, turn: Turn, now: Instant) -> None:
        """The platform refuses something, or drops updates."""
        words = failure.words
        if failure.code == TOO_MANY:
            if self.in_step and not self._throttled:
                self._trouble(words, turn, now)
            self._throttled = True
        elif self._sub is None:
            return
        elif not self.in_step:
            token = failure.code == UNAUTHORIZED
            self._talk.broken(f"the platform refused the subscription: {words}", turn, now, token=token)
        elif self._second is not None and failure.id not in self._sub:
            self._refused(words, turn, now)
        elif not self._mending():
            self._trouble(words, turn, now)
            self._repair_at = now.mono + _REPAIR_S

    def _mending(self) -> bool:
        """Whether holes are open of which it is not known yet how far they go."""
        repairing = self._second is not None and self._second.command is None
        return self._throttled or repairing or self._repair_at is not None

    def _trouble(self, words: str, turn: Turn, now: Instant) -> None:
        self.was_blind(now)
        self._history.going = False
        self._talk.blind(words, turn, now)

    def _recover(self, turn: Turn, now: Instant) -> None:
        """It is over: a subscription anew tells whose values were dropped."""
        self._repair_at, self._calm_at = None, now.mono + _CALM_S
        self._talk.sees(turn, now)
        self._end_second("the subscription had to be made anew", turn, now)
        self._second = self._subscription(self.selection, now, since=ALWAYS, missed=self._missed)
        self._send(self._second.first(), turn)

    def woken(self, turn: Turn, now: Instant) -> None:
        if self._repair_at is not None and self._repair_at <= now.mono and self.in_step:
            self._recover(turn, now)
        for name in [name for name, until in self._leaving.items() if until <= now.mono]:
            del self._leaving[name]
            self._assets.leave(name, turn.heard)
        second = self._second
        if second is not None and second.patience <= now.mono:
            if second.command is None:
                self._talk.broken("the platform did not answer the subscription", turn, now)
            else:
                self._end_second("the platform did not answer the subscription", turn, now)
        elif self._sub is not None and not self._sub.complete and self._sub.patience <= now.mono:
            self._talk.broken("the platform did not answer the subscription", turn, now)

    # Commands.

    def change(self, command: Command, turn: Turn, now: Instant) -> None:
        """`filter` and `resync`."""
        selection = self.selection
        if isinstance(command.body, Filter):
            selection = command.body.over(selection)
        if not self.in_step or self._mending():
            bad = BadCommand("the subscription is being made anew: try again later", code=503, kind="not_connected")
            self._orders.rejected(command, bad, turn, now)
            return
        if fault := selection.fault(self._attributes):
            bad = BadCommand(f"{fault[0]}: {fault[1]}", kind="invalid_field", field=fault[0])
            self._orders.rejected(command, bad, turn, now)
            return
        self._end_second("another command took its place", turn, now)
        self._names.forget()
        old = self.selection
        self._assets.select(lambda profile: old.keys_of(profile) | selection.keys_of(profile), turn.heard)
        since = NEVER if isinstance(command.body, Filter) else ALWAYS
        self._second = self._subscription(selection, now, since=since, command=command)
        self._orders.sent(command)
        self._send(self._second.first(), turn)

    def _refused(self, words: str, turn: Turn, now: Instant) -> None:
        second = self._second
        if second is not None and second.command is not None:
            self._end_second("", turn, now)
            self._orders.refused(second.command, words, turn, now)
        else:
            self._talk.broken(f"the platform refused the subscription: {words}", turn, now)

    def _end_second(self, why: str, turn: Turn, now: Instant, *, lost: bool = False) -> None:
        """The old selection stays. why: told to the command that asked for another; "": that is told already."""
        second, self._second = self._second, None
        if second is None:
            return
        if not lost:
            self._send(second.forget(), turn)
        self._nameless = [one for one in self._nameless if one[0] is not second]
        if second.command is None or self._sub is None:
            return
        self._assets.select(self.selection.keys_of, turn.heard)
        self._only(self._sub, turn)
        if why:
            self._orders.unknown(second.command, "unanswered", why, turn, now)


def _clock(item: Item, now: Instant) -> int:
    """Milliseconds by the platform's clock, with which it stamps the fields of a page; by ours, where it does not."""
    fields = (item.latest or {})[ENTITY_FIELD].values()
    told, ours = max(field.ts for field in fields), int(now.unix * 1000)
    return told if abs(told - ours) <= _BELIEVED_MS else ours


def _born(item: Item, now: int) -> int | None:
    """Milliseconds from which a new asset's values were missed: its creation, where that was just now."""
    told = (item.latest or {})[ENTITY_FIELD].get("createdTime")
    text = told.value if told is not None else None
    if not isinstance(text, str) or not (text.isascii() and text.isdecimal() and len(text) < 16):
        return None
    return int(text) - 1 if 0 <= now - int(text) < _NEW_MS else None
