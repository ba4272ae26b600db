"""The talk with IoT Pro (ThingsBoard): a login by REST, one WebSocket that follows all assets, history by REST.

    started ──▶ login ──ok──▶ dial ──▶ opened: authCmd and page 0 ──▶ every page told: online, gap, backfill
                  └─refused: auth_failed, again slowly      └─lost: offline ──▶ dial (it was the token: login)

1. The token goes into the first frame; an open socket outlives it. It is renewed before it ends, for the next socket.
2. The first picture makes states; afterwards what is newer than what was told makes events.
3. Being blind (a loss, a restart, "too many updates") is a gap, and each asset's part of it a hole to be filled.
"""

import msgspec
from msgspec import Raw

from bridge.backends.iotpro import asks, bookmarks, frames
from bridge.backends.iotpro.assets import Assets
from bridge.backends.iotpro.data import InForce, Result, Resynced
from bridge.backends.iotpro.downlinks import Downlinks
from bridge.backends.iotpro.following import MAIN, Following
from bridge.backends.iotpro.history import History
from bridge.backends.iotpro.login import Outcome, Tokens
from bridge.backends.iotpro.options import IotproOptions
from bridge.backends.iotpro.orders import AttributesBody, Filter, Orders, Resync, Rpc
from bridge.backends.iotpro.requests import Requests
from bridge.backends.iotpro.turn import Turn
from bridge.backends.session import Again, Answer, Blindness, CommandSpec, Dial, Hang, Loss, Step
from bridge.model import Command, Condition, Event, Instant, Login, Unread

EVENTS = ("telemetry", "attributes", "unknown", "gap")
_ASSET = "asset/+/+"
COMMANDS = (
    CommandSpec("attributes", AttributesBody, _ASSET),
    CommandSpec("rpc", Rpc, _ASSET, result=Result),
    CommandSpec("filter", Filter, check=Filter.check, result=InForce),
    CommandSpec("resync", Resync, result=Resynced),
)
_BAD_TOKEN = 1007  # close code, ThingsBoard TbWebSocketHandler
_LIMIT, _LIMIT_S = "sessions limit reached", 30.0
_REMEMBER_S, _REMEMBER_ASSETS = 5.0, 500  # at most once in so many seconds, and so many assets per second


class IotproSession:
    """One account on one platform."""

    def __init__(self, options: IotproOptions) -> None:
        self._options = options
        self._tokens = Tokens(options.url, options.username, options.password)
        self._requests = Requests(options.url, self._tokens)
        selection = options.selection()
        self._assets = Assets(selection.keys_of, options.attributes, options.text_keys)
        self._history = History(
            self._assets, self._requests, options.backfill.max, options.text_keys, options.reconnect
        )
        self._orders = Orders(self._begin)
        self._downlinks = Downlinks(self._assets, self._requests, self._orders, options.reconnect.initial)
        self._following = Following(
            self,
            self._assets,
            self._history,
            self._requests,
            self._orders,
            selection=selection,
            attributes=options.attributes,
            page_size=options.page_size,
        )
        self._blindness = Blindness()
        self._dialled = self._open = False
        self._refused = ""  # why the login is refused
        self._degraded = ""  # why there is less than everything
        self._tokens_refused = 0  # by sockets, one after the other
        self._again: Again | None = None  # how the next socket is dialled
        self._remember_at = 0.0  # Instant.mono

    # What happens.

    def started(self, memory: bytes | None, seen: Instant | None, now: Instant) -> Step:
        turn = Turn()
        self._assets.restore(bookmarks.read(memory))
        self._blindness.begins(seen, "restarted")
        if seen is not None:
            self._following.was_blind(seen)
        turn.heard.append(Condition("connecting"))
        turn.do.append(self._tokens.login())
        return self._step(turn, now)

    def opened(self, link: str, now: Instant) -> Step:
        turn = Turn()
        self._open = True
        if self._tokens.token is not None:
            self._following.opened(self._tokens.token, turn, now)
        return self._step(turn, now)

    def received(self, link: str, frame: bytes, now: Instant) -> Step:
        turn = Turn()
        for told in frames.read(frame):
            if type(told) is frames.Told:
                self._following.told(told, turn, now)
            elif type(told) is Unread:
                turn.heard.append(told)
            elif type(told) is frames.Unknown:
                turn.heard.append(Event("", "unknown", Raw(msgspec.json.encode(told.message))))
            elif type(told) is frames.Failure:
                words = self._tokens.redact(told.words)
                self._following.failed(msgspec.structs.replace(told, words=words), turn, now)
        return self._step(turn, now)

    def answered(self, call: str, answer: Answer, now: Instant) -> Step:
        turn = Turn()
        if self._tokens.mine(call):
            outcome = self._tokens.answered(call, answer, now)
            if outcome is not None:
                self._login(outcome, turn, now)
        else:
            self._requests.answered(call, answer, turn, now)
        return self._step(turn, now)

    def ordered(self, command: Command, now: Instant) -> Step:
        turn = Turn()
        self._orders.ordered(command, self._following.in_step, turn, now)
        return self._step(turn, now)

    def woken(self, now: Instant) -> Step:
        turn = Turn()
        if self._tokens.renew_at is not None and self._tokens.renew_at <= now.mono:
            turn.do.append(self._tokens.renew())
        self._following.woken(turn, now)
        self._orders.woken(turn, now)
        self._history.woken(turn, now)
        return self._step(turn, now)

    def lost(self, link: str, loss: Loss, now: Instant) -> Step:
        turn = Turn()
        error = self._tokens.redact(loss.error)
        token = loss.kind == "refused" or loss.code == _BAD_TOKEN
        after = max(loss.after or 0.0, _LIMIT_S) if _LIMIT in error else loss.after
        self._ended(error, loss.seen, turn, now)
        self._again_by(loss.kind == "asked", error, token, after, turn, now)
        return self._step(turn, now)

    def stopped(self, now: Instant) -> Step:
        turn = Turn()
        self._orders.stopped(turn)
        self._history.stopped(turn)
        return Step(tuple(turn.heard), tuple(turn.do), remember=self._bookmarks(now, at_once=True))

    # The login.

    def _login(self, outcome: Outcome, turn: Turn, now: Instant) -> None:
        if outcome.outcome == "renewal":
            turn.do.append(self._tokens.login())
            return
        turn.heard.append(Login(outcome.outcome))
        if outcome.outcome == "ok":
            self._logged_in(turn)
        elif outcome.outcome == "refused":
            self._refused = self._tokens.redact(outcome.error)
            self._requests.gave_up(turn, now)
            turn.heard.append(Condition("auth_failed", self._refused))
            turn.do.append(self._tokens.login("refusal", outcome.after))
        else:
            if not self._open:
                turn.heard.append(Condition("offline", self._tokens.redact(outcome.error)))
            turn.do.append(self._tokens.login("failure", outcome.after))

    def _logged_in(self, turn: Turn) -> None:
        self._requests.logged_in(turn)
        refused, self._refused = self._refused, ""
        if not self._dialled:
            self._dial(turn, None)
        elif refused and self._following.in_step:
            turn.heard.append(self._standing())

    def _standing(self) -> Condition:
        if self._refused:
            return Condition("auth_failed", self._refused)
        return Condition("degraded", self._degraded) if self._degraded else Condition("online")

    # The socket.

    def _dial(self, turn: Turn, after: float | None) -> None:
        self._dialled = True
        turn.do.append(Dial(MAIN, asks.socket(self._options.url), again=self._again, after=after))

    def _ended(self, why: str, seen: Instant, turn: Turn, now: Instant) -> None:
        """The socket is gone."""
        was_open, self._open, self._dialled = self._open, False, False
        if was_open and self._following.ever:
            self._blindness.begins(seen, why)
            self._following.was_blind(seen)
        self._history.going = False
        self._degraded = ""
        self._orders.lost(turn)
        self._following.lost(turn, now)

    def _again_by(self, asked: bool, why: str, token: bool, after: float | None, turn: Turn, now: Instant) -> None:
        """Comes back: with the token that there is, or with a new one."""
        self._again = None if asked else "failure"
        self._tokens_refused += token
        if token and self._tokens_refused > 1 and not self._tokens.asking:
            self._refused = f"{why}: the platform does not take the token that it has just given"
            turn.heard += [Login("refused"), Condition("auth_failed", self._refused)]
            turn.do.append(self._tokens.login("refusal", after))
            return
        turn.heard.append(Condition("auth_failed", self._refused) if self._refused else Condition("offline", why))
        if self._tokens.good(now) and not token:
            self._dial(turn, after)
        elif not self._tokens.asking:
            turn.do.append(self._tokens.login(None, after))

    # What the subscriptions come to (following.Talk).

    def in_step(self, turn: Turn, now: Instant) -> None:
        """Every asset was told."""
        self._tokens_refused = 0
        self._history.going = True
        turn.heard.append(self._standing())
        if (gap := self._blindness.ends(now)) is not None:
            self._history.begin(gap, turn)
        self._history.fill(turn, now)

    def blind(self, why: str, turn: Turn, now: Instant) -> None:
        """The platform keeps something from us."""
        self._blindness.begins(now, why)
        self._degraded = f"the platform withholds values: {why}"
        turn.heard.append(self._standing())

    def sees(self, turn: Turn, now: Instant) -> None:
        """It does no longer; what it kept is to be found out."""
        self._degraded = ""
        turn.heard.append(self._standing())
        if (gap := self._blindness.ends(now)) is not None:
            self._history.begin(gap, turn)

    def broken(self, why: str, turn: Turn, now: Instant, *, token: bool = False) -> None:
        """This socket is of no use."""
        turn.do.append(Hang(MAIN, why))
        self._ended(why, now, turn, now)
        self._again_by(False, why, token, None, turn, now)

    # Commands.

    def _begin(self, command: Command, turn: Turn, now: Instant) -> None:
        if isinstance(command.body, Filter | Resync):
            self._following.change(command, turn, now)
        else:
            self._downlinks.begin(command, turn, now)

    # What leaves.

    def _step(self, turn: Turn, now: Instant) -> Step:
        if self._requests.need_login and not self._tokens.asking:
            turn.do.append(self._tokens.login())
        remember = self._bookmarks(now)
        return Step(tuple(turn.heard), tuple(turn.do), self._wake(), remember)

    def _wake(self) -> float | None:
        remember_at = self._remember_at if self._assets.changed and self._following.ever else None
        earliest = None
        for one in (
            self._tokens.renew_at,
            remember_at,
            self._following.wake(),
            self._orders.due(),
            self._history.wake(),
        ):
            if one is not None and (earliest is None or one < earliest):
                earliest = one
        return earliest

    def _bookmarks(self, now: Instant, at_once: bool = False) -> bytes | None:
        """Only of a complete picture, and only where something is new."""
        if not self._assets.changed or not self._following.ever or (now.mono < self._remember_at and not at_once):
            return None
        self._assets.changed = False
        self._remember_at = now.mono + max(_REMEMBER_S, len(self._assets) / _REMEMBER_ASSETS)
        return bookmarks.written(self._assets.by_id.values())
