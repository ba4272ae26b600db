"""The downlinks under way: one waits for the platform's reply, others in line, confirmed ones for their device.

    ordered → accepted → in line ──▶ in flight ──Success──▶ sent (final), or confirmed: awaiting ──ack──▶ succeeded
                            │            ├─Fail──▶ failed                                └─confirm_timeout──▶ unknown
                            └─deadline   └─deadline, loss, stop──▶ unknown
                               ▼
                            expired

Nothing is ever sent twice. A confirmed downlink outlives a lost connection; what was in line then was not sent.
"""

from collections import OrderedDict, deque

from msgspec import Struct

from bridge.backends.resiot.data import Referred
from bridge.backends.resiot.downlink import Downlink, request
from bridge.backends.resiot.frames import Reply
from bridge.backends.session import Send
from bridge.errors import BadCommand
from bridge.model import Command, CommandError, Instant, Response

_REMEMBERED_S = 86_400.0  # a class A device's feedback may come hours later
_REMEMBERED = 100_000


class _Downlink(Struct, frozen=True):
    command: Command
    body: Downlink
    reference: str
    frame: str


class Downlinks:
    """Owns every downlink from ordered() until its final response is taken."""

    def __init__(self) -> None:
        self._line: deque[_Downlink] = deque()
        self._flying: _Downlink | None = None
        self._confirmed = False  # the one in flight, by its device: that may overtake the platform's reply
        self._awaiting: dict[str, tuple[_Downlink, float]] = {}  # by reference; Instant.mono when given up
        self._subjects: OrderedDict[str, tuple[str, float]] = OrderedDict()  # by reference; mono when forgotten
        self._responses: list[Response] = []
        self._stopped = False

    def take(self) -> tuple[Response, ...]:
        """The responses since the last call."""
        responses, self._responses = tuple(self._responses), []
        return responses

    def subject(self, reference: str) -> str | None:
        """Whose downlink this reference was."""
        known = self._subjects.get(reference)
        return known and known[0]

    def due(self) -> float | None:
        """When woken() has something to do."""
        moments = [min(one.command.send_by, one.command.deadline) for one in self._line]
        moments += [until for _, until in self._awaiting.values()]
        if self._flying:
            moments.append(self._flying.command.deadline)
        return min(moments, default=None)

    def ordered(self, command: Command, now: Instant) -> tuple[Send, ...]:
        body: Downlink = command.body
        reference = body.reference or command.key
        try:
            if self._stopped:
                raise BadCommand("the talk with the platform has ended", code=503, kind="not_connected")
            if self._in_use(reference):
                raise BadCommand(
                    f"reference {reference!r} belongs to a downlink under way: choose another",
                    code=409,
                    kind="reference_in_use",
                    field="reference",
                )
            one = _Downlink(command, body, reference, request(command.subject, body, reference))
        except BadCommand as bad:
            error = CommandError(bad.kind, str(bad), bad.field)
            self._responses.append(Response(command.key, "rejected", bad.code, error=error))
            return ()
        self._respond(one, "accepted", 202, final=False)
        self._line.append(one)
        return self._next(now)

    def replied(self, reply: Reply, now: Instant) -> tuple[Send, ...] | None:
        """The platform's answer; None when nobody waits for it."""
        one = self._flying
        if one is None or reply.reference not in ("", one.reference):
            return None
        self._flying = None
        if not reply.success:
            error = CommandError("refused", reply.details or "the platform said Fail without a reason")
            self._responses.append(Response(one.command.key, "failed", 502, error=error))
        elif one.body.confirmed:
            self._respond(one, "sent", 202, final=False)
            if self._confirmed:
                self._respond(one, "succeeded", 200)
            else:
                self._awaiting[one.reference] = (one, now.mono + one.body.confirm_timeout)
        else:
            self._respond(one, "sent", 200)
        return self._next(now)

    def told(self, kind: str, reference: str, now: Instant) -> None:
        """A communication that names a reference."""
        if kind != "ack":
            return
        if (awaiting := self._awaiting.pop(reference, None)) is not None:
            self._respond(awaiting[0], "succeeded", 200)
        elif self._flying is not None and self._flying.reference == reference:
            self._confirmed = True

    def woken(self, now: Instant) -> tuple[Send, ...]:
        one = self._flying
        if one is not None and one.command.deadline <= now.mono:
            self._flying = None
            if self._confirmed:  # the device's word is better than the platform's
                self._respond(one, "succeeded", 200)
            else:
                self._unknown(one, "timeout", "the platform did not answer in time; the downlink may have been sent")
        for reference, (awaiting, until) in list(self._awaiting.items()):
            if until <= now.mono:
                del self._awaiting[reference]
                self._unknown(awaiting, "timeout", "the device did not confirm within confirm_timeout")
        waiting, self._line = self._line, deque()
        for one in waiting:
            if min(one.command.send_by, one.command.deadline) <= now.mono:
                self._expired(one)
            else:
                self._line.append(one)
        return self._next(now)

    def lost(self, now: Instant, why: str = "the connection was lost") -> None:
        """The connection is gone: nobody knows of the one in flight; those in line were not sent."""
        if self._flying is not None:
            self._unknown(self._flying, "disconnected", f"{why} before the platform answered")
            self._flying = None
        while self._line:
            error = CommandError("not_connected", f"{why} before the downlink was sent")
            self._responses.append(Response(self._line.popleft().command.key, "rejected", 503, error=error))

    def stopped(self, now: Instant) -> None:
        """Answers everything; a command that was on its way here meanwhile is not taken."""
        self._stopped = True
        self.lost(now, "ws2mqtt stopped")
        for awaiting, _ in self._awaiting.values():
            self._unknown(awaiting, "stopped", "ws2mqtt stopped before the device confirmed")
        self._awaiting.clear()

    def _next(self, now: Instant) -> tuple[Send, ...]:
        while self._flying is None and self._line:
            one = self._line.popleft()
            if min(one.command.send_by, one.command.deadline) <= now.mono:
                self._expired(one)
                continue
            self._flying, self._confirmed = one, False
            self._remember(one, now)
            return (Send("main", one.frame),)
        return ()

    def _in_use(self, reference: str) -> bool:
        flying = self._flying is not None and self._flying.reference == reference
        return flying or reference in self._awaiting or any(one.reference == reference for one in self._line)

    def _remember(self, one: _Downlink, now: Instant) -> None:
        self._subjects[one.reference] = (one.command.subject, now.mono + _REMEMBERED_S)
        self._subjects.move_to_end(one.reference)
        while self._subjects:
            reference, (_, until) = next(iter(self._subjects.items()))
            if until > now.mono and len(self._subjects) <= _REMEMBERED:
                return
            del self._subjects[reference]

    def _respond(self, one: _Downlink, status: str, code: int, final: bool = True) -> None:
        data: Referred = {"reference": one.reference}
        self._responses.append(Response(one.command.key, status, code, final, data=data))  # type: ignore[arg-type]

    def _expired(self, one: _Downlink) -> None:
        error = CommandError("expired", "its time ran out before it could be sent; it was not sent")
        self._responses.append(Response(one.command.key, "expired", 410, error=error))

    def _unknown(self, one: _Downlink, kind: str, message: str) -> None:
        error = CommandError(kind, message)
        data: Referred = {"reference": one.reference}
        self._responses.append(Response(one.command.key, "unknown", 408, error=error, data=data))
