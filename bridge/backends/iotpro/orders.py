"""The commands under way: one at a time, in the order in which they came.

    ordered ──▶ in line ──▶ begun ──(who is the device? ──▶) sent ──2xx──▶ succeeded
                   │          │                               ├─404──▶ rejected · other words──▶ failed
                   └─send_by──┴──▶ expired                    └─no answer, deadline, stop──▶ unknown
    a lost connection: what is in line was not sent ──▶ rejected

Nothing is sent twice, but for a request that the platform refused for its token (it was not carried out then).
"""

from collections import deque
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.backends.iotpro.selection import Selection
from bridge.backends.iotpro.turn import Turn
from bridge.backends.iotpro.words import retry_after, words
from bridge.backends.session import Answer
from bridge.errors import BadCommand
from bridge.model import Command, CommandError, Instant, Response
from bridge.options import about

_UNKNOWN = (0, 408, 504)  # it may have been carried out
_FAILED = "failed"


class AttributesBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of `attributes`."""

    values: Annotated[dict[str, Any], Meta(min_length=1), about("attributes to write, by key")]
    scope: Annotated[Literal["SERVER", "SHARED"], about("SHARED: the asset's device sees them, too")] = "SERVER"


class Rpc(Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of `rpc`: a call to a device."""

    method: Annotated[str, Meta(min_length=1), about("what the device is asked for, in its own words")]
    params: Annotated[Any, about("any JSON, as the device takes it")] = {}
    oneway: Annotated[bool, about("true: the device's answer is not waited for")] = False
    device: Annotated[
        Annotated[str, Meta(min_length=1)] | None, about("its id or name; left out: the asset's one related device")
    ] = None


class Filter(Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of `filter`; what is left out stays."""

    keys: Annotated[
        list[str] | dict[str, list[str]] | UnsetType,
        about("time series to follow: a list for all assets, or a map from profile to list"),
    ] = UNSET
    profiles: Annotated[list[str] | UnsetType, about("only assets of these; []: all")] = UNSET

    def over(self, old: Selection) -> Selection:
        """What is to be in force."""
        keys, profiles = old.keys, old.profiles
        if isinstance(self.keys, dict):
            keys = {profile: tuple(one) for profile, one in self.keys.items()}
        elif isinstance(self.keys, list):
            keys = tuple(self.keys)
        return Selection(keys, profiles if isinstance(self.profiles, UnsetType) else tuple(self.profiles))

    def check(self) -> None:
        """Raises BadCommand."""
        if fault := self.over(Selection()).fault():
            raise BadCommand(f"{fault[0]}: {fault[1]}", kind="invalid_field", field=fault[0])


class Resync(Struct, frozen=True, forbid_unknown_fields=True):
    """`resync` has no fields."""


Begin = Callable[[Command, Turn, Instant], None]


class Orders:
    """Owns every command until its final response. begin: carries one out; it calls sent(), then one of the ends."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._line: deque[Command] = deque()
        self._now: Command | None = None
        self._sent = False
        self._advancing = False
        self._stopped = False

    def due(self) -> float | None:
        """When woken() has something to do."""
        if self._now is None and not self._line:
            return None
        moments = [min(one.send_by, one.deadline) for one in self._line]
        if self._now is not None:
            moments.append(self._now.deadline)
        return min(moments, default=None)

    def ordered(self, command: Command, ready: bool, turn: Turn, now: Instant) -> None:
        """ready: in step with the platform."""
        if self._stopped or not ready:
            why = "ws2mqtt stopped" if self._stopped else "the connection was lost"
            self._not_sent(command, f"{why} before the command was sent", turn)
            return
        self._line.append(command)
        self._next(turn, now)

    def is_now(self, command: Command) -> bool:
        """Whether this one is still waited for."""
        return self._now is command

    def sent(self, command: Command) -> None:
        """From now on it may have been carried out."""
        self._sent = self._sent or self._now is command

    def end(self, command: Command, response: Response, turn: Turn, now: Instant) -> None:
        """Its final response; of one that has had it already, nothing."""
        if self._now is command:
            self._now = None
            turn.heard.append(response)
            self._next(turn, now)

    def done(self, command: Command, data: Any, turn: Turn, now: Instant) -> None:
        self.end(command, Response(command.key, "succeeded", 200, data=data), turn, now)

    def refused(self, command: Command, said: str, turn: Turn, now: Instant) -> None:
        """The platform said no, in its own words."""
        error = CommandError("refused", said)
        self.end(command, Response(command.key, _FAILED, 502, error=error), turn, now)  # type: ignore[arg-type]

    def rejected(self, command: Command, bad: BadCommand, turn: Turn, now: Instant) -> None:
        error = CommandError(bad.kind, str(bad), bad.field)
        self.end(command, Response(command.key, "rejected", bad.code, error=error), turn, now)

    def unknown(self, command: Command, kind: str, said: str, turn: Turn, now: Instant) -> None:
        self.end(command, _unknown(command, kind, said), turn, now)

    def answered(self, command: Command, answer: Answer, turn: Turn, now: Instant) -> None:
        """The platform's answer was not a good one."""
        if answer.status == 404:
            self.rejected(command, BadCommand(words(answer), code=404, kind="not_found"), turn, now)
        elif answer.status in _UNKNOWN or (answer.status == 500 and b"timeout" in answer.body.lower()):
            self.unknown(command, "timeout", f"{words(answer)}: it may have been carried out", turn, now)
        else:
            self.refused(command, words(answer), turn, now)

    def woken(self, turn: Turn, now: Instant) -> None:
        one = self._now
        if one is not None and one.deadline <= now.mono:
            if self._sent:
                self.unknown(one, "timeout", "the platform did not answer in time; it may be carried out", turn, now)
            else:
                self.end(one, _expired(one), turn, now)
        for one in [one for one in self._line if min(one.send_by, one.deadline) <= now.mono]:
            self._line.remove(one)
            turn.heard.append(_expired(one))

    def lost(self, turn: Turn, why: str = "the connection was lost") -> None:
        """What is in line was not sent; what was sent by HTTP may still be answered."""
        while self._line:
            self._not_sent(self._line.popleft(), f"{why} before the command was sent", turn)

    def stopped(self, turn: Turn) -> None:
        """Answers everything; a command that was on its way here meanwhile is not taken."""
        self._stopped = True
        self.lost(turn, "ws2mqtt stopped")
        one, self._now = self._now, None
        if one is not None and self._sent:
            turn.heard.append(_unknown(one, "stopped", "ws2mqtt stopped before the platform answered"))
        elif one is not None:
            self._not_sent(one, "ws2mqtt stopped before the command was sent", turn)

    def _next(self, turn: Turn, now: Instant) -> None:
        if self._advancing:  # one that ended as soon as it had begun: the loop below goes on
            return
        self._advancing = True
        while self._now is None and self._line:
            one = self._line.popleft()
            if min(one.send_by, one.deadline) <= now.mono:
                turn.heard.append(_expired(one))
                continue
            self._now, self._sent = one, False
            self._begin(one, turn, now)
        self._advancing = False

    def _not_sent(self, command: Command, why: str, turn: Turn) -> None:
        error = CommandError("not_connected", why)
        turn.heard.append(Response(command.key, "rejected", 503, error=error))


def pause(answer: Answer, command: Command, now: Instant, initial: float) -> float | None:
    """Seconds until a request that came too fast (429: not carried out) is sent again; None: it is not."""
    if answer.status != 429:
        return None
    seconds = retry_after(answer) or initial
    return seconds if now.mono + seconds < command.deadline else None


def result(answer: Answer) -> Any:
    """What a device said: JSON, a text, or nothing."""
    if not answer.body:
        return None
    try:
        return msgspec.json.decode(answer.body)
    except (ValueError, RecursionError):
        return answer.body.decode(errors="replace")


def _expired(command: Command) -> Response:
    error = CommandError("expired", "its time ran out before it could be sent; it was not carried out")
    return Response(command.key, "expired", 410, error=error)


def _unknown(command: Command, kind: str, said: str) -> Response:
    return Response(command.key, "unknown", 408, error=CommandError(kind, said))
