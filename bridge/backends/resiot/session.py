"""The talk with ResIOT: one socket that pushes communications and takes downlinks, one at a time.

1. The socket is the login: its URL holds the token, and open means online. 401 and 403 are a refused login.
2. There is no history: every blindness is a gap without backfill.
3. One downlink is on its way at a time, so that a reply without Reference can only be its.
4. A gateway is online while it is heard; being blind ourselves is no silence of a gateway.
"""

from collections import OrderedDict

from msgspec import Struct

from bridge.backends.reading import Object
from bridge.backends.reading import read as read_json
from bridge.backends.resiot import frames
from bridge.backends.resiot.data import GatewayState
from bridge.backends.resiot.downlink import Downlink
from bridge.backends.resiot.downlinks import Downlinks
from bridge.backends.resiot.options import ResiotOptions
from bridge.backends.resiot.usual import read as read_usual
from bridge.backends.session import (
    NOTHING,
    Again,
    Answer,
    Blindness,
    CommandSpec,
    Dial,
    Loss,
    Send,
    Step,
    gap_event,
)
from bridge.model import Command, CommandError, Condition, Event, Instant, Login, Response, State, Unread
from bridge.times import rfc3339
from bridge.topics import level

EVENTS = ("up", "join", "tx", "txack", "ack", "alive", "rx", "unknown", "gap")
COMMANDS = (CommandSpec("downlink", Downlink, "application/+/device/+", Downlink.bytes, sent=True),)
MAIN = "main"

Heard = Event | State | Unread


class ResiotSession:
    """One ResIOT socket (the platform's second one, of its own actions, is a second backend)."""

    def __init__(self, options: ResiotOptions) -> None:
        self._options = options
        self._blind = Blindness()
        self._open = False
        self._gateways: OrderedDict[str, _Gateway] = OrderedDict()  # the longest silent one first
        self._silent: dict[str, str] = {}  # gateways that count as offline, and their last keep-alive
        self._downlinks = Downlinks()

    def started(self, memory: bytes | None, seen: Instant | None, now: Instant) -> Step:
        self._blind.begins(seen, "restarted")
        return Step(heard=(Condition("connecting"),), do=(Dial(MAIN, self._options.url),))

    def opened(self, link: str, now: Instant) -> Step:
        self._open = True
        for eui, gateway in self._gateways.items():
            self._gateways[eui] = gateway.heard(now)
        gap = self._blind.ends(now)
        told = (Login("ok"), Condition("online"), *((gap_event(gap),) if gap else ()))
        return Step(heard=told, wake=self._wake())

    def received(self, link: str, frame: bytes, now: Instant) -> Step:
        heard: list[Heard] = []
        if (usual := read_usual(frame)) is not None:
            self._communication(usual, heard, now)
            return Step(tuple(heard), wake=self._wake())
        do: list[Send] = []
        for message in read_json(frame):
            if isinstance(message, Unread):
                heard.append(message)
                continue
            try:
                read = frames.read(message)
            except frames.WrongShape:
                heard.append(Unread("wrong_shape", frame))
                continue
            if isinstance(read, frames.Reply):
                do += self._reply(read, message, heard, now)
            else:
                self._communication(read, heard, now)
        return Step((*heard, *self._downlinks.take()), tuple(do), self._wake())

    def answered(self, call: str, answer: Answer, now: Instant) -> Step:
        return NOTHING

    def ordered(self, command: Command, now: Instant) -> Step:
        if not self._open:  # lost while the command was on its way here
            error = CommandError("not_connected", "the connection was lost before the downlink was sent")
            return Step((Response(command.key, "rejected", 503, error=error),), wake=self._wake())
        do = self._downlinks.ordered(command, now)
        return Step(self._downlinks.take(), do, self._wake())

    def woken(self, now: Instant) -> Step:
        states: list[State] = []
        while self._open and self._gateways:
            eui, gateway = next(iter(self._gateways.items()))
            if gateway.seen + self._options.gateway_timeout > now.mono:
                break
            del self._gateways[eui]
            self._silent[eui] = gateway.last_alive
            states.append(State(f"gateway/{level(eui)}", GatewayState("offline", gateway.last_alive)))
        do = self._downlinks.woken(now)
        return Step((*states, *self._downlinks.take()), do, self._wake())

    def lost(self, link: str, loss: Loss, now: Instant) -> Step:
        if self._open:
            self._blind.begins(loss.seen, loss.error)
        self._open = False
        self._downlinks.lost(now)
        refused = loss.kind == "refused" or loss.status == 429  # the handshake is the login
        error = f"{loss.error}: check the token in url" if loss.kind == "refused" else loss.error
        condition = Condition("auth_failed" if refused else "offline", error)
        login = (Login("refused"),) if refused else ()
        again: Again | None = None if loss.kind == "asked" else "refusal" if refused else "failure"
        dial = Dial(MAIN, self._options.url, again=again, after=loss.after)
        return Step((*self._downlinks.take(), *login, condition), (dial,), self._wake())

    def stopped(self, now: Instant) -> Step:
        self._downlinks.stopped(now)
        return Step(self._downlinks.take())

    def _wake(self) -> float | None:
        """The next moment at which something falls due."""
        due = [self._downlinks.due()]
        if self._open and self._gateways:
            due.append(next(iter(self._gateways.values())).seen + self._options.gateway_timeout)
        return min((moment for moment in due if moment is not None), default=None)

    def _communication(self, told: frames.Communication, heard: list[Heard], now: Instant) -> None:
        if told.kind in ("alive", "rx") and told.gateways:
            subjects = tuple(f"gateway/{level(eui)}" for eui in told.gateways)
        else:
            subjects = (self._subject(told),)
        for subject, data in zip(subjects, told.data, strict=True):
            heard.append(Event(subject, told.kind, data, told.time, told.extra, told.told))
        for eui in told.gateways:
            self._gateway(eui, told, heard, now)
        if told.reference:
            self._downlinks.told(told.kind, told.reference, now)

    def _gateway(self, eui: str, told: frames.Communication, heard: list[Heard], now: Instant) -> None:
        """A gateway was heard: by a keep-alive it becomes known, by anything it lives on."""
        known = self._gateways.get(eui)
        if told.kind == "alive":
            last = told.time or rfc3339(now.unix)
        elif known is not None:
            self._gateways[eui] = known.heard(now)
            self._gateways.move_to_end(eui)
            return
        elif eui in self._silent:
            last = self._silent[eui]
        else:
            return
        self._silent.pop(eui, None)
        self._gateways[eui] = _Gateway(now.mono, last)
        self._gateways.move_to_end(eui)
        heard.append(State(f"gateway/{level(eui)}", GatewayState("online", last)))

    def _subject(self, told: frames.Communication) -> str:
        if told.kind in ("unknown", "alive", "rx"):
            return ""
        if not told.dev_eui and told.reference:
            return self._downlinks.subject(told.reference) or ""
        if not told.dev_eui and not told.app_eui and told.kind in ("txack", "ack"):
            return ""
        if not told.app_eui and told.reference and (known := self._downlinks.subject(told.reference)):
            return known
        return f"application/{level(told.app_eui)}/device/{level(told.dev_eui)}"

    def _reply(self, reply: frames.Reply, message: Object, heard: list[Heard], now: Instant) -> tuple[Send, ...]:
        """A reply that nobody waits for is told as `unknown`."""
        do = self._downlinks.replied(reply, now)
        if do is not None:
            return do
        unmatched = frames.unknown(message)
        heard.append(Event("", "unknown", unmatched.data[0], None, None, unmatched.told))
        return ()


class _Gateway(Struct, frozen=True):
    """seen: Instant.mono of its last sign of life · last_alive: RFC 3339 UTC of its last keep-alive."""

    seen: float
    last_alive: str

    def heard(self, now: Instant) -> "_Gateway":
        return _Gateway(now.mono, self.last_alive)
