"""What the parts of a session share: what one Step says, and the requests under way.

1. Every request carries the cookie of the newest login; the cookie is a Secret and in no text.
2. A request that is told that its session is over was not carried out: it waits for the next login and is made once
   more, once. One that is asked for meanwhile waits, too.
3. Who asked is called back exactly once, unless the request is dropped.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from msgspec import Struct

from bridge.backends.session import Again, Answer, Call, Dial, Hang, Step
from bridge.backends.smartserver import answers
from bridge.model import Census, Command, CommandError, Condition, Event, Instant, Login, Response, State, Unread
from bridge.options import Secret

JSON = "application/json; charset=utf-8"

Heard = Event | State | Response | Unread | Condition | Login | Census
Then = Callable[[Answer, Instant], None]
Method = Literal["GET", "PUT", "POST", "DELETE"]


class Ask(Struct, frozen=True):
    """One request. path: below the base, beginning with / · after, again, pull: as in Call."""

    method: Method
    path: str
    body: bytes | Mapping[str, Any] | None = None
    deadline: float = 30.0
    after: float = 0.0
    again: Again | None = None
    pull: bool = False


class _Asked(Struct, frozen=True):
    ask: Ask
    then: Then
    visit: int
    repeated: bool = False


class Talk:
    """on_over: called when the present session turns out to be over, once."""

    def __init__(self, url: str) -> None:
        self._base = url.rstrip("/")
        self._socket = "ws" + self._base.removeprefix("http")
        self._origin = "/".join(self._base.split("/")[:3])
        self.on_over: Callable[[Instant], None] = lambda now: None
        self.visit = 0
        """How many logins there were."""
        self.over = True
        """Whether there is no session (any more) to ask in."""
        self.cookie: Secret | None = None
        self._text = ""  # the cookie's value, to keep it out of what the platform says of errors
        self._heard: list[Heard] = []
        self._do: list[Dial | Hang | Call] = []
        self._asked: dict[str, _Asked] = {}
        self._waiting: dict[str, _Asked] = {}  # for the next login
        self._number = 0

    # What a Step says

    def say(self, *heard: Heard) -> None:
        self._heard += heard

    def step(self, wake: float | None, remember: bytes | None = None) -> Step:
        """All that was said and is to be done since the last one."""
        step = Step(tuple(self._heard), tuple(self._do), wake, remember)
        self._heard, self._do = [], []
        return step

    def succeed(self, command: Command, data: Any = None) -> None:
        self.say(Response(command.key, "succeeded", 200, data=data))

    def fail(
        self, command: Command, code: int, kind: str, text: str, data: Any = None, field: str | None = None
    ) -> None:
        """The final response to a command that was not carried out, or of which nobody knows."""
        status: Any = {410: "expired", 502: "failed", 408: "unknown"}.get(code, "rejected")
        self.say(Response(command.key, status, code, error=CommandError(kind, self.clean(text), field), data=data))

    def clean(self, text: str) -> str:
        """Without our own cookie, should the platform say it back to us."""
        return text.replace(self._text, "…") if self._text else text

    # Links

    def dial(self, link: str, query: str = "", again: Again | None = None, after: float | None = None) -> None:
        """The general purpose WebSocket takes no query; with one it is a data log's."""
        url = f"{self._socket}/iap/ws{'?' if query else ''}{query}"
        self._do.append(Dial(link, url, self._headers(), again=again, after=after, pull=bool(query)))

    def hang(self, link: str, why: str) -> None:
        self._do.append(Hang(link, why))

    def _headers(self) -> dict[str, str | Secret]:
        """As a browser's page would send them."""
        return {"Origin": self._origin, "Cookie": self.cookie or Secret()}

    # Requests

    def login(self, body: Mapping[str, Any], then: Then, again: Again | None, after: float = 0.0) -> None:
        """Not in any session, so nothing of the above."""
        ask = Ask("POST", "/iap/auth/login", body, after=after, again=again)
        self._begin(_Asked(ask, then, -1, repeated=True), {"Content-Type": JSON})

    def logout(self, cookie: Secret, method: Method = "POST") -> None:
        """The wiki says PUT, the vendor's own pages POST; how it ends makes no difference."""

        def answered(answer: Answer, now: Instant) -> None:
            if method == "POST" and answer.status in (404, 405):
                self.logout(cookie, "PUT")

        asked = _Asked(Ask(method, "/iap/auth/logout", b""), answered, -1, repeated=True)
        self._begin(asked, {"Content-Type": JSON, "Cookie": cookie})

    def ask(self, ask: Ask, then: Then) -> str:
        """Asks in the present session, or in the next one; its id, for drop()."""
        asked = _Asked(ask, then, self.visit)
        if self.over:
            id_ = self._next_id()
            self._waiting[id_] = asked
            return id_
        return self._begin(asked, self._own())

    def answered(self, call: str, answer: Answer, now: Instant) -> None:
        asked = self._asked.pop(call, None)
        if asked is None:
            return
        if asked.repeated or not answers.is_over(answer):
            asked.then(answer, now)
            return
        again = _Asked(asked.ask, asked.then, self.visit, repeated=True)
        if asked.visit != self.visit and not self.over:  # there is a newer one already
            self._begin(again, self._own(), call)
            return
        self._waiting[call] = again
        self.end(now)

    def drop(self, id_: str | None) -> None:
        """Nobody wants the answer any more; what waits is not asked at all."""
        if id_ is not None:
            self._asked.pop(id_, None)
            self._waiting.pop(id_, None)

    def waits(self, id_: str) -> bool:
        """Whether a request waits for the next login, and so is not carried out."""
        return id_ in self._waiting

    def end(self, now: Instant) -> None:
        """The session is over."""
        if not self.over:
            self.over = True
            self.on_over(now)

    def admitted(self, cookie: str) -> None:
        """A login was taken: what waited is asked now."""
        self.visit += 1
        self.over = False
        self._text = cookie.partition("=")[2]
        self.cookie = Secret(cookie)
        waiting, self._waiting = self._waiting, {}
        for id_, asked in waiting.items():
            self._begin(_Asked(asked.ask, asked.then, self.visit, asked.repeated), self._own(), id_)

    def _own(self) -> dict[str, str | Secret]:
        return {"Cookie": self.cookie or Secret()}

    def _begin(self, asked: _Asked, headers: dict[str, str | Secret], id_: str | None = None) -> str:
        ask = asked.ask
        id_ = id_ or self._next_id()
        if ask.body is not None:
            headers = {"Content-Type": JSON, **headers}
        self._asked[id_] = asked
        self._do.append(
            Call(
                id_,
                ask.method,
                self._base + ask.path,
                headers,
                body=ask.body,
                deadline=ask.deadline,
                after=ask.after,
                again=ask.again,
                pull=ask.pull,
            )
        )
        return id_

    def _next_id(self) -> str:
        self._number += 1
        return f"c{self._number}"
