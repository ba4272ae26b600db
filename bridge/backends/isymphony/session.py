"""The talk with iSymphony: one socket that pushes events and takes filters, and the Live REST API beside it.

1. The handshake is the login (HTTP Basic). 401, 403 (the server's ACL) and a redirect (it speaks TLS only) are told
   apart, since each has another remedy.
2. A new connection brings every event: it is online once it is open. The filter narrows it; if the server does not
   take it we filter alone, and say so.
3. There is no history: every blindness is a gap without backfill, and ends what was known of presence. So does a
   coreServerId that is new on this connection: its server has restarted.
"""

from typing import Any

import msgspec

from bridge.backends.isymphony.actions import Live, Request, checked, fields_struct
from bridge.backends.isymphony.data import InForce, UserLogin, UserLogout
from bridge.backends.isymphony.filtering import MAIN, Filtering
from bridge.backends.isymphony.filters import Filter, SetFilter
from bridge.backends.isymphony.frames import Reply, Told, read
from bridge.backends.isymphony.options import IsymphonyOptions
from bridge.backends.isymphony.orders import Orders
from bridge.backends.isymphony.presence import Presence
from bridge.backends.isymphony.rest import TLS_DEMANDED
from bridge.backends.isymphony.roll import Roll
from bridge.backends.session import (
    Again,
    Answer,
    Blindness,
    Call,
    CommandSpec,
    Dial,
    Loss,
    Send,
    Step,
    gap_event,
)
from bridge.model import Command, Condition, Event, Instant, Login, Response, State, Unread
from bridge.times import rfc3339

EVENTS = ("userLogin", "userLogout", "dial", "linkEnd", "hangup", "confRoomCallLeave", "unknown", "gap")
COMMANDS = (
    CommandSpec("filter", SetFilter, check=SetFilter.wanted, result=InForce),
    CommandSpec("live", Live, check=Live.request, result=Any),
)
_REMEMBER_S = 5.0
_CORES = 64

Heard = Event | State | Unread | Response | Condition | Login


def own_commands(options: IsymphonyOptions) -> tuple[CommandSpec, ...]:
    """The configured actions."""
    return tuple(
        CommandSpec(name, fields_struct(name, action), check=checked(action), result=Any)
        for name, action in options.actions.items()
    )


class IsymphonySession:
    """One iSymphony server."""

    def __init__(self, options: IsymphonyOptions) -> None:
        self._options = options
        self._blind = Blindness()
        self._open = self._stopped = False
        self._warned: str | None = None  # of the filter, as it was told
        self._filtering = Filtering(Filter.configured(options.filters))
        self._presence = Presence()
        self._roll = Roll(self._call, self._follows)
        self._cores: dict[str, None] = {}  # the coreServerIds of this connection
        self._actions = {name: checked(action) for name, action in options.actions.items()}
        self._orders = Orders(self._filtering, self._request, self._call)
        self._remembered, self._remember_at = 0, 0.0  # users that were said to `remember`; mono of the next saying

    def started(self, memory: bytes | None, seen: Instant | None, now: Instant) -> Step:
        self._blind.begins(seen, "restarted")
        states = self._presence.remembered(_names(memory), rfc3339(now.unix))
        self._remembered = len(self._presence)
        return Step((*states, Condition("connecting")), (self._dial(),))

    def opened(self, link: str, now: Instant) -> Step:
        self._open, self._warned = True, None
        self._cores.clear()
        gap = self._blind.ends(now)
        heard: tuple[Heard, ...] = (Login("ok"), Condition("online"), *((gap_event(gap),) if gap else ()))
        return Step(heard, (*self._filtering.opened(now), *self._roll.begins()), self._wake())

    def received(self, link: str, frame: bytes, now: Instant) -> Step:
        heard: list[Heard] = []
        do: list[Send | Call] = []
        for one in read(frame):
            if isinstance(one, Told):
                self._told(one, heard, do, now)
            elif isinstance(one, Reply):
                self._replied(one, heard, do, now)
            else:
                heard.append(one)
        return Step(tuple(heard), tuple(do), self._wake(), self._remember(now))

    def answered(self, call: str, answer: Answer, now: Instant) -> Step:
        do = self._orders.answered(call, answer, now)
        logins, calls = self._roll.answered(call, answer)
        states: tuple[State, ...] = ()
        if logins is not None:
            states = self._presence.read(logins.username, logins.ids, logins.nameless, rfc3339(now.unix))
        if everybody := self._roll.everybody():
            states += self._presence.gone(everybody)
        return Step((*states, *self._orders.take()), (*do, *calls), self._wake(), self._remember(now))

    def ordered(self, command: Command, now: Instant) -> Step:
        if not self._open or self._stopped:  # lost while the command was on its way here
            self._orders.refuse(command, "the connection was lost before it was sent")
            return Step(self._orders.take(), wake=self._wake())
        do = self._orders.ordered(command, now)
        return Step(self._orders.take(), do, self._wake())

    def woken(self, now: Instant) -> Step:
        responses, sends = self._filtering.woken(now)
        self._orders.responded(responses)
        do = (*sends, *self._orders.woken(now))
        return Step((*self._orders.take(), *self._condition()), do, self._wake(), self._remember(now))

    def lost(self, link: str, loss: Loss, now: Instant) -> Step:
        if self._open:
            self._blind.begins(loss.seen, loss.error)
        self._open = False
        self._orders.lost("the connection was lost")
        self._roll.ends()
        refused = loss.kind == "refused" or loss.status == 429  # the handshake is the login
        condition = Condition("auth_failed" if refused else "offline", self._why(loss))
        login = (Login("refused"),) if refused else ()
        again: Again | None = None if loss.kind == "asked" else "refusal" if refused else "failure"
        states = self._presence.forget(rfc3339(now.unix))
        return Step((*states, *self._orders.take(), *login, condition), (self._dial(again, loss.after),), self._wake())

    def stopped(self, now: Instant) -> Step:
        """Nobody keeps the states true from now on."""
        self._stopped = True
        self._roll.ends()
        self._orders.stopped()
        return Step((*self._orders.take(), *self._presence.forget(rfc3339(now.unix))))

    # What is heard.

    def _told(self, told: Told, heard: list[Heard], do: list[Send | Call], now: Instant) -> None:
        if told.core and told.core not in self._cores:
            do += self._met(told.core, heard, now)
        if not self._filtering.passes(told):
            return
        data = told.data
        heard += [Event(subject, told.kind, data, told.time, told.extra, told.told) for subject in told.subjects]
        if not isinstance(data, UserLogin | UserLogout) or not data.username:
            return
        change = self._presence.login if isinstance(data, UserLogin) else self._presence.logout
        heard += change(data.username, data.user_login_id or "", told.time or rfc3339(now.unix))
        self._roll.changed(data.username)

    def _met(self, core: str, heard: list[Heard], now: Instant) -> tuple[Call, ...]:
        """A core server of whom nothing was heard on this connection; if others were, one has restarted."""
        known = core in self._roll.cores or not (self._cores or self._roll.cores)
        if len(self._cores) >= _CORES:
            self._cores.clear()
        self._cores[core] = None
        if known:
            return ()
        heard += self._presence.forget(rfc3339(now.unix))
        return self._roll.begins()

    def _replied(self, reply: Reply, heard: list[Heard], do: list[Send | Call], now: Instant) -> None:
        before = self._filtering.force
        known = self._filtering.replied(reply, now)
        if known is None:
            self._told(reply.told, heard, do, now)
            return
        self._orders.responded(known[0])
        do += known[1]
        if self._filtering.force is not before:  # of other users than before it is heard who comes and goes
            heard += self._presence.forget(rfc3339(now.unix), but=self._follows)
            do += self._roll.begins()
        do += self._orders.next(now)
        heard += self._orders.take()
        heard += self._condition()

    def _condition(self) -> tuple[Condition, ...]:
        """How the backend stands, where the filter changed that."""
        warning = self._filtering.warning
        if not self._open or warning == self._warned:
            return ()
        self._warned = warning
        return (Condition("online") if warning is None else Condition("degraded", warning),)

    # What is done.

    def _follows(self, username: str) -> bool:
        return self._filtering.force.follows(username)

    def _dial(self, again: Again | None = None, after: float | None = None) -> Dial:
        basic = (self._options.username, self._options.password)
        return Dial(MAIN, self._options.socket_url, basic=basic, again=again, after=after)

    def _call(self, call: str, request: Request, seconds: float) -> Call:
        basic = (self._options.username, self._options.password)
        headers = {"Accept": "application/json"}
        url = f"{self._options.live_url}{request.path}"
        return Call(call, request.method, url, headers, basic, request.body, seconds)

    def _request(self, command: Command) -> Request | None:
        if isinstance(command.body, SetFilter):
            return None
        if isinstance(command.body, Live):
            return command.body.request()
        return self._actions[command.name](command.body)

    def _why(self, loss: Loss) -> str:
        """A loss in words, with its remedy."""
        remedy = {
            401: "check username and password",
            403: "the server's ACL does not let this machine in (only localhost is allowed by default): add its "
            "address in security.xml; or username and password are wrong",
            404: "there is no event socket at this address: check url",
        }.get(loss.status or 0)
        if loss.status is not None and 300 <= loss.status < 400:
            remedy = "check url" if self._options.secure else TLS_DEMANDED
        return f"{loss.error}: {remedy}" if remedy else loss.error

    def _wake(self) -> float | None:
        """The next moment at which something falls due."""
        due = [self._filtering.due(), self._orders.due()]
        if self._remembered != len(self._presence):
            due.append(self._remember_at)
        return min((moment for moment in due if moment is not None), default=None)

    def _remember(self, now: Instant) -> bytes | None:
        """The users that have a state, where there are new ones, every few seconds at most."""
        if len(self._presence) == self._remembered or now.mono < self._remember_at:
            return None
        self._remembered, self._remember_at = len(self._presence), now.mono + _REMEMBER_S
        return msgspec.json.encode(self._presence.names)


def _names(memory: bytes | None) -> tuple[str, ...]:
    """What _remember() said; nothing where it is anything else."""
    try:
        return msgspec.json.decode(memory or b"[]", type=tuple[str, ...])
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return ()
