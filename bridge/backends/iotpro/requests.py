"""Requests to the REST side, and who waits for their answers.

A 401 means that a request was not carried out: it waits for one new login and is then sent once more (only once).
"""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from bridge.backends.iotpro.login import Tokens
from bridge.backends.iotpro.turn import Turn
from bridge.backends.session import Answer, Call
from bridge.model import Instant

Then = Callable[[Answer, Turn, Instant], None]
JSON_HEADERS = {"Accept": "application/json"}


class _Request(Struct, frozen=True):
    method: str
    path: str
    body: Mapping[str, Any] | None
    deadline: float
    after: float
    pull: bool
    then: Then
    repeated: bool = False


class Requests:
    """url: of the platform."""

    def __init__(self, url: str, tokens: Tokens) -> None:
        self._url, self._tokens = url.rstrip("/"), tokens
        self._under_way: dict[str, _Request] = {}
        self._waiting: list[tuple[_Request, Answer]] = []  # for a login, and what they were answered
        self._number = 0

    @property
    def need_login(self) -> bool:
        """Whether a token was refused."""
        return bool(self._waiting)

    def ask(
        self,
        turn: Turn,
        method: str,
        path: str,
        then: Then,
        *,
        body: Mapping[str, Any] | None = None,
        deadline: float = 30.0,
        after: float = 0.0,
        pull: bool = False,
    ) -> None:
        """then: is told the answer."""
        self._send(turn, _Request(method, path, body, deadline, after, pull, then))

    def _send(self, turn: Turn, request: _Request) -> None:
        self._number += 1
        name = f"{request.method.lower()}-{self._number}"
        self._under_way[name] = request
        bearer = self._tokens.bearer
        turn.do.append(
            Call(
                name,
                request.method,
                f"{self._url}{request.path}",
                headers=JSON_HEADERS if bearer is None else {**JSON_HEADERS, "X-Authorization": bearer},
                body=request.body,
                deadline=request.deadline,
                after=request.after,
                pull=request.pull,
            )
        )

    def answered(self, call: str, answer: Answer, turn: Turn, now: Instant) -> None:
        """An answer; one to nobody's request is passed over."""
        request = self._under_way.pop(call, None)
        if request is None:
            return
        if answer.status == 401 and not request.repeated:
            self._waiting.append((request, answer))
        else:
            request.then(answer, turn, now)

    def logged_in(self, turn: Turn) -> None:
        """Sends once more what was refused."""
        waiting, self._waiting = self._waiting, []
        for one, _ in waiting:
            again = _Request(one.method, one.path, one.body, one.deadline, 0.0, one.pull, one.then, repeated=True)
            self._send(turn, again)

    def gave_up(self, turn: Turn, now: Instant) -> None:
        """There is no login: what waits for it is answered as it was."""
        waiting, self._waiting = self._waiting, []
        for one, answer in waiting:
            one.then(answer, turn, now)
