"""Commands, one at a time: the next one waits for the platform's answer to the one before it.

    ordered ─▶ in line ─▶ in flight ──2xx──▶ succeeded
                 │            ├─ 404 ──▶ rejected, anything else ──▶ failed
                 └─ too late  ├─ told that the session is over: once more after a new login
                     ▼        └─ deadline, loss, stop ──▶ unknown (expired, where it waited for a login)
                  expired

1. Nothing is carried out twice: only a request that was refused for its session is made again.
2. A data log is on a socket of its own and holds up nobody, once it is asked for.
"""

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from bridge.backends.session import Answer
from bridge.backends.smartserver import answers
from bridge.backends.smartserver.talk import Ask, Talk
from bridge.errors import BadCommand
from bridge.model import Command, Instant

_HIGHER = "a higher priority is active: the value is stored in the priority array, but not in force"

Done = Callable[[Answer, Instant], None]


class Flight(Struct):
    """The command in flight. cancel: takes back what it has begun · request: its Call."""

    command: Command
    request: str | None = None
    cancel: Callable[[Instant], None] = lambda now: None


class Orders:
    """begin: starts a command, and sees to it that finished() is called, or raises BadCommand."""

    def __init__(self, talk: Talk, begin: Callable[[Flight, Instant], None]) -> None:
        self._talk, self._begin = talk, begin
        self._line: deque[Command] = deque()
        self._flying: Flight | None = None

    def ordered(self, command: Command, now: Instant) -> None:
        self._line.append(command)
        self._next(now)

    def ask(self, flight: Flight, ask: Ask, now: Instant, done: Done | None = None) -> None:
        """The request of a command; done: what its 2xx means, else it succeeds."""

        def answered(answer: Answer, now: Instant) -> None:
            if answers.good(answer) and not answers.is_over(answer):
                (done or self._succeeded(flight))(answer, now)
            else:
                self._refused(flight, answer)
                self.finished(flight, now)

        left = max(0.1, flight.command.deadline - now.mono)
        ask = Ask(ask.method, ask.path, ask.body, deadline=left)
        flight.request = self._talk.ask(ask, answered)

    def finished(self, flight: Flight, now: Instant) -> None:
        """It was answered, or is answered elsewhere from now on."""
        if flight is self._flying:
            self._flying = None
            self._next(now)

    def due(self) -> float | None:
        moments = [min(one.send_by, one.deadline) for one in self._line]
        if self._flying is not None:
            moments.append(self._flying.command.deadline)
        return min(moments, default=None)

    def woken(self, now: Instant) -> None:
        if self._flying is not None and self._flying.command.deadline <= now.mono:
            text = "its time ran out before there was a new login; it was not carried out"
            self._give_up(
                "timeout", "the platform did not answer in time; it may have been carried out", now, 410, text
            )
        waiting, self._line = self._line, deque()
        for one in waiting:
            if min(one.send_by, one.deadline) <= now.mono:
                self._expired(one)
            else:
                self._line.append(one)
        self._next(now)

    def lost(self, now: Instant, why: str = "the connection was lost") -> None:
        """Nobody knows of the one in flight; those in line were not sent."""
        line, self._line = self._line, deque()
        self._give_up("disconnected", f"{why} before the platform answered", now, 503, f"{why} before it was sent")
        for one in line:
            self._talk.fail(one, 503, "not_connected", f"{why} before it was sent")

    def _give_up(self, kind: str, text: str, now: Instant, unsent: int, unsent_text: str) -> None:
        """unsent: what is said where it waits for a login, and so was not carried out."""
        flight, self._flying = self._flying, None
        if flight is None:
            return
        waits = flight.request is not None and self._talk.waits(flight.request)
        self._talk.drop(flight.request)
        flight.cancel(now)
        if waits:
            self._talk.fail(flight.command, unsent, "expired" if unsent == 410 else "not_connected", unsent_text)
        else:
            self._talk.fail(flight.command, 408, kind, text)

    def _next(self, now: Instant) -> None:
        while self._flying is None and self._line:
            command = self._line.popleft()
            if min(command.send_by, command.deadline) <= now.mono:
                self._expired(command)
                continue
            self._flying = flight = Flight(command)
            try:
                self._begin(flight, now)
            except BadCommand as bad:
                self._talk.fail(command, bad.code, bad.kind, str(bad), field=bad.field)
                self._flying = None

    def _succeeded(self, flight: Flight) -> Done:
        def done(answer: Answer, now: Instant) -> None:
            self._talk.succeed(flight.command)
            self.finished(flight, now)

        return done

    def _refused(self, flight: Flight, answer: Answer) -> None:
        said = answers.words(answer)
        if not answer.status:
            self._talk.fail(flight.command, 408, "no_answer", f"{said}; it may have been carried out")
        elif answer.status == 404:
            self._talk.fail(flight.command, 404, "no_such_subject", f"the platform does not know it: {said}")
        elif answer.status == 422:
            self._talk.fail(flight.command, 502, "higher_priority", f"{_HIGHER} ({said})")
        else:
            self._talk.fail(flight.command, 502, "refused", f"the platform refused it: {said}")

    def _expired(self, command: Command) -> None:
        self._talk.fail(command, 410, "expired", "its time ran out before it could be sent; it was not carried out")
