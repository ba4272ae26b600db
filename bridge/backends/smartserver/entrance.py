"""How we get in and stay in: login, cookie, the general purpose socket, and the next ones before these end.

    current  the socket that tells, with the list taken     coming  the one that is being opened, or waits for its list
    leaving  the old one, for a second after a renewal

1. A refused login is repeated slowly: each one is an audit event in the CMS, and too many lock the user out.
2. The session's time is asked for; half of it later there is a new login beside it. Without an answer it is 24 h.
3. A handshake that is refused may mean that the session is over: one new login, then back-off. Then the same again.
"""

from collections.abc import Callable

from msgspec import Struct

from bridge.backends.session import Again, Answer, Loss
from bridge.backends.smartserver import answers
from bridge.backends.smartserver.options import SmartserverOptions
from bridge.backends.smartserver.talk import Ask, Talk
from bridge.model import Condition, ConditionState, Instant, Login
from bridge.options import Secret

MAIN, OTHER = "main", "main-2"  # in turn
_LIFE_S = 86_400.0  # wiki, "Authentication"
_LONGEST_S = 10 * 365 * 86_400.0
_GRACE_S = 1.0
_BUSY_S = 5.0  # between two looks whether an old session is still needed
_LOCKED = "Too many failed login attempts"  # vendor's Web Connector: wait five minutes
_LOCKED_S = 300.0
_REFUSED = (401, 403, 404)  # of a handshake: which of them an old cookie gets is not documented


class _Line(Struct):
    name: str
    open: bool = False


class _Leaving(Struct, frozen=True):
    name: str
    due: float
    cookie: Secret | None


class Entrance:
    """opened: a socket is open, its list is to be sent · blind: nothing is told any more · entered: there is a new
    session · renewing: the login beside the present one is in trouble, and which, or is not · busy: whether something
    else still needs the old session.
    """

    def __init__(
        self,
        talk: Talk,
        options: SmartserverOptions,
        *,
        opened: Callable[[Instant], None],
        entered: Callable[[Instant], None],
        blind: Callable[[Loss, Instant], None],
        renewing: Callable[[str | None, Instant], None],
        busy: Callable[[], bool],
    ) -> None:
        self._talk, self._options = talk, options
        self._opened, self._entered, self._blind, self._renewing, self._busy = opened, entered, blind, renewing, busy
        self._current: _Line | None = None
        self._coming: _Line | None = None
        self._leaving: _Leaving | None = None
        self._farewell: Secret | None = None  # the cookie of the session that is to be left
        self._goodbyes: list[Secret] = []  # of sessions that are left, and not logged out yet
        self._goodbye_at: float | None = None
        self._renew_at: float | None = None
        self._asked_at = 0.0
        self._logging_in = False
        self._refusals = 0  # of handshakes in a row
        self.barred: Condition | None = None
        """What is to be said while the present socket tells, but there is no session to ask in."""
        talk.on_over = self._over

    @property
    def telling(self) -> bool:
        """Whether there is a socket with its list taken."""
        return self._current is not None

    @property
    def is_open(self) -> bool:
        """Whether there is a socket to send a list for."""
        return self.telling or (self._coming is not None and self._coming.open)

    def holds(self, link: str) -> bool:
        return link in (MAIN, OTHER)

    def due(self) -> float | None:
        moments = [self._renew_at, self._goodbye_at, self._leaving.due if self._leaving else None]
        return min((one for one in moments if one is not None), default=None)

    def woken(self, now: Instant) -> None:
        if self._leaving is not None and self._leaving.due <= now.mono:
            self._leave(now)
        if self._goodbye_at is not None and self._goodbye_at <= now.mono:
            self._goodbye(None, now)
        if self._renew_at is not None and self._renew_at <= now.mono:
            self._renew_at = None
            self.login(now)

    # Logging in

    def login(self, now: Instant, again: Again | None = None, after: float | None = None) -> None:
        if self._logging_in:
            return
        self._logging_in = True
        body = {"username": self._options.username, "password": self._options.password}
        self._talk.login(body, self._logged_in, again, after or 0.0)

    def _over(self, now: Instant) -> None:
        """A request was told so."""
        self._farewell = self._renew_at = None
        self.login(now)

    def _logged_in(self, answer: Answer, now: Instant) -> None:
        self._logging_in = False
        cookie = answers.cookie(answer) if answers.good(answer) else None
        if cookie is None:
            self._not_in(answer, now)
            return
        self._talk.say(Login("ok"))
        self.barred = None
        old = None if self._talk.over else self._talk.cookie
        if self._farewell is not None:  # of a renewal that was never completed
            self._goodbye(self._farewell, now)
        self._farewell = old
        self._talk.admitted(cookie)
        self._renewing(None, now)
        self._renew_at, self._asked_at = now.mono + _LIFE_S / 2, now.mono
        self._talk.ask(Ask("GET", "/iap/auth/sessionTimeout"), self._timed)
        if self._coming is not None:
            self._talk.hang(self._coming.name, "a newer login")
        self._come(now)
        self._entered(now)

    def _timed(self, answer: Answer, now: Instant) -> None:
        """Milliseconds; a bare number."""
        told = answers.value_of(answer) if answers.good(answer) else None
        if isinstance(told, str) and told.isdecimal() and told.isascii() and len(told) < 16:
            told = int(told)
        if isinstance(told, int | float) and not isinstance(told, bool) and told > 0 and self._renew_at is not None:
            self._renew_at = self._asked_at + min(told / 2000, _LONGEST_S)

    def _not_in(self, answer: Answer, now: Instant) -> None:
        """Words of the platform's own where it has some; what to do in any case."""
        again: Again = "failure"
        state: ConditionState = "offline"
        after = answers.retry_after(answer)
        said = answers.words(answer)
        if answer.status == 429:
            again, state, error = (
                "refusal",
                "auth_failed",
                f"the platform takes no login now ({said}): it is tried again",
            )
            if answers.message(answer).startswith(_LOCKED):
                after = max(after or 0.0, _LOCKED_S)
        elif answer.status == 401:
            again, state = "refusal", "auth_failed"
            error = f"the platform refused the login ({said}): check username and password"
        elif answer.status == 403 or answers.good(answer):
            again, state = "refusal", "auth_failed"
            error = f"the platform gave no session for this password ({said}): is SAML, OAuth or a second factor asked?"
        else:
            error = f"the login failed ({said})"
        self._talk.say(Login("refused" if again == "refusal" else "failed"))
        self._trouble(state, error, now)
        self.login(now, again, after)

    def _trouble(self, state: ConditionState, error: str, now: Instant) -> None:
        """While the present session tells on, a renewal that fails makes it degraded at most."""
        error = self._talk.clean(error)
        if not self.telling:
            self._talk.say(Condition(state, error))
            return
        if self._talk.over and state == "auth_failed":  # told on as long as the socket lives, but nothing can be asked
            self.barred = Condition(state, error)
        self._renewing(f"the session cannot be renewed: {error}", now)

    # Sockets

    def _come(self, now: Instant, again: Again | None = None, after: float | None = None) -> None:
        name = OTHER if self._current is not None and self._current.name == MAIN else MAIN
        if self._leaving is not None and self._leaving.name == name:
            self._leave(now)
        self._coming = _Line(name)
        self._talk.dial(name, again=again, after=after)

    def _leave(self, now: Instant) -> None:
        leaving, self._leaving = self._leaving, None
        if leaving is not None:
            self._talk.hang(leaving.name, "renewed")
            self._goodbye(leaving.cookie, now)

    def _goodbye(self, cookie: Secret | None, now: Instant) -> None:
        """Logs an old session out: later, while a data log is read in it."""
        if cookie is not None:
            self._goodbyes.append(cookie)
        self._goodbye_at = now.mono + _BUSY_S if self._goodbyes and self._busy() else None
        if self._goodbye_at is None:
            for one in self._goodbyes:
                self._talk.logout(one)
            self._goodbyes.clear()

    def opened(self, link: str, now: Instant) -> None:
        if self._coming is not None and self._coming.name == link and not self._coming.open:
            self._coming.open = True
            self._refusals = 0
            self._opened(now)

    def listed(self, now: Instant) -> bool:
        """The list is taken; whether that ends a blindness."""
        if self._coming is None or not self._coming.open:
            return False
        old, self._current, self._coming = self._current, self._coming, None
        self._renewing(None, now)
        cookie, self._farewell = self._farewell, None
        if old is not None:
            self._leave(now)
            self._leaving = _Leaving(old.name, now.mono + _GRACE_S, cookie)
        else:
            self._goodbye(cookie, now)
        return old is None

    def lost(self, link: str, loss: Loss, now: Instant) -> None:
        if self._leaving is not None and self._leaving.name == link:
            self._leave(now)
        elif self._coming is not None and self._coming.name == link:
            self._coming = None
            self._redial(loss, now)
        elif self._current is not None and self._current.name == link:
            self._current = None
            self._blind(loss, now)
            if self._coming is None:
                self._redial(loss, now)
            else:
                self._talk.say(Condition("offline", loss.error))

    def _redial(self, loss: Loss, now: Instant) -> None:
        status = loss.status or 0
        if self._talk.over:  # a login is under way, and dials
            self._trouble("offline", loss.error, now)
        elif status in _REFUSED or loss.kind == "refused" or 300 <= status < 400:
            self._refused(loss, now)
        else:
            self._trouble("offline", loss.error, now)
            self._come(now, None if loss.kind == "asked" else "failure", loss.after)

    def _refused(self, loss: Loss, now: Instant) -> None:
        self._refusals += 1
        if self._refusals % 2:
            self._trouble("offline", loss.error, now)
            self._talk.end(now)
            return
        known = loss.kind == "refused"
        error = f"{loss.error}: may this user use the platform's WebSocket?" if known else loss.error
        self._trouble("auth_failed" if known else "offline", error, now)
        self._come(now, "refusal" if known else "failure", loss.after)
