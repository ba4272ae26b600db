"""The commands under way: one is with the platform, the others wait in line, in the order of their arrival.

    ordered ──▶ in line ──▶ filter on its way ──reply──▶ final      (filtering.py)
                  │     └─▶ call on its way ──answer──▶ final
                  └─deadline──▶ expired         └─deadline, stop──▶ unknown

Nothing is sent twice, but for a call that was answered 401 and so was not carried out: once more, since the password
may have been changed meanwhile (it is read anew at each call). A call outlives the event socket.
"""

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from bridge.backends.isymphony.actions import Request
from bridge.backends.isymphony.filtering import Filtering
from bridge.backends.isymphony.rest import response
from bridge.backends.session import Answer, Call, Send
from bridge.errors import BadCommand
from bridge.model import Command, CommandError, Instant, Response

Do = tuple[Send | Call, ...]


class _Called(Struct, frozen=True):
    """A call on its way; again: it was answered 401 before."""

    id: str
    command: Command
    request: Request
    again: bool = False


class Orders:
    """Owns every command from ordered() until its final response is taken.

    request: of a command that is a call, None for `filter`; raises BadCommand · call: made of id, request and seconds.
    """

    def __init__(
        self,
        filtering: Filtering,
        request: Callable[[Command], Request | None],
        call: Callable[[str, Request, float], Call],
    ) -> None:
        self._filtering, self._request, self._call = filtering, request, call
        self._line: deque[Command] = deque()
        self._called: _Called | None = None
        self._number = 0
        self._responses: list[Response] = []

    def take(self) -> tuple[Response, ...]:
        """The responses since the last call."""
        responses, self._responses = tuple(self._responses), []
        return responses

    def due(self) -> float | None:
        """When woken() has something to do."""
        moments = [_latest(one) for one in self._line]
        if self._called:
            moments.append(self._called.command.deadline)
        return min(moments, default=None)

    def ordered(self, command: Command, now: Instant) -> Do:
        self._line.append(command)
        return self.next(now)

    def answered(self, call: str, answer: Answer, now: Instant) -> Do:
        called = self._called
        if called is None or called.id != call:
            return ()
        self._called = None
        if answer.status == 401 and not called.again and called.command.deadline > now.mono:
            return (self._calls(called.command, called.request, now, again=True),)
        self._responses.append(response(called.command.key, answer))
        return self.next(now)

    def responded(self, responses: tuple[Response, ...]) -> None:
        """What became of a command's filter."""
        self._responses += responses

    def woken(self, now: Instant) -> Do:
        called = self._called
        if called is not None and called.command.deadline <= now.mono:
            self._unknown(called, "timeout", "the platform did not answer in time; it may have been carried out")
        waiting, self._line = self._line, deque()
        for one in waiting:
            if _latest(one) <= now.mono:
                self._expired(one)
            else:
                self._line.append(one)
        return self.next(now)

    def lost(self, why: str) -> None:
        """The event socket is gone; a call goes on, what is in line is not carried out."""
        self._responses += self._filtering.lost(why)
        while self._line:
            self.refuse(self._line.popleft(), f"{why} before it was sent")

    def stopped(self) -> None:
        """Answers everything."""
        self.lost("ws2mqtt stopped")
        if self._called is not None:
            self._unknown(self._called, "stopped", "ws2mqtt stopped before the platform answered")

    def refuse(self, command: Command, why: str) -> None:
        error = CommandError("not_connected", why)
        self._responses.append(Response(command.key, "rejected", 503, error=error))

    def next(self, now: Instant) -> Do:
        """Takes out of the line what can be sent now."""
        while self._line and self._called is None and not self._filtering.commanded:
            command = self._line[0]
            if _latest(command) <= now.mono:
                self._expired(self._line.popleft())
                continue
            try:
                do = self._begun(command, now)
            except BadCommand as bad:
                error = CommandError(bad.kind, str(bad), bad.field)
                self._responses.append(Response(command.key, "rejected", bad.code, error=error))
                do = ()
            if do is None:
                return ()
            self._line.popleft()
            if do:
                return do
        return ()

    def _begun(self, command: Command, now: Instant) -> Do | None:
        """What it sends; nothing where it is answered already; None: it has to wait. Raises BadCommand."""
        request = self._request(command)
        if request is not None:
            return (self._calls(command, request, now),)
        wanted = command.body.wanted()
        if wanted is None:
            self._responses.append(Response(command.key, "succeeded", 200, data=self._filtering.told()))
            return ()
        return None if self._filtering.busy else self._filtering.ordered(command, wanted)

    def _calls(self, command: Command, request: Request, now: Instant, again: bool = False) -> Call:
        self._number += 1
        self._called = _Called(f"call-{self._number}", command, request, again)
        return self._call(self._called.id, request, command.deadline - now.mono)

    def _expired(self, command: Command) -> None:
        error = CommandError("expired", "its time ran out before it could be sent; it was not sent")
        self._responses.append(Response(command.key, "expired", 410, error=error))

    def _unknown(self, called: _Called, kind: str, message: str) -> None:
        self._called = None
        self._responses.append(Response(called.command.key, "unknown", 408, error=CommandError(kind, message)))


def _latest(command: Command) -> float:
    """Instant.mono until which it has to be sent."""
    return min(command.send_by, command.deadline)
