"""The talk with ResIOT: one socket that pushes communications and takes downlinks, one at a time.

1. The socket is the login: its URL holds the token, and open means online. 401 and 403 are a refused login.
2. There is no history: every blindness is a gap without backfill.
3. One downlink is on its way at a time, so that a reply without Reference can only be its.
4. A gateway is online while it is heard; being blind ourselves is no silence of a gateway.
"""

from bridge.backends.reading import Object
from bridge.backends.reading import read as read_json
from bridge.backends.resiot import frames
from bridge.backends.resiot.data import Referred
from bridge.backends.resiot.downlink import Downlink
from bridge.backends.resiot.downlinks import Downlinks
from bridge.backends.resiot.gateways import Gateways
from bridge.backends.resiot.options import ResiotOptions
from bridge.backends.resiot.usual import Usual
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
COMMANDS = (CommandSpec("downlink", Downlink, "application/+/device/+", Downlink.bytes, sent=True, result=Referred),)
MAIN = "main"

Heard = Event | State | Unread


class ResiotSession:
    """One ResIOT socket (the platform's second one, of its own actions, is a second backend)."""

    def __init__(self, options: ResiotOptions) -> None:
        self._options = options
        self._blind = Blindness()
        self._open = False
        self._gateways = Gateways(options.gateway_timeout)
        self._downlinks = Downlinks()

    def started(self, memory: bytes | None, seen: Instant | None, now: Instant) -> Step:
        self._blind.begins(seen, "restarted")
        self._gateways.recall(memory, now)
        return Step(heard=(Condition("connecting"),), do=(Dial(MAIN, self._options.url),))

    def opened(self, link: str, now: Instant) -> Step:
        self._open = True
        self._gateways.opened(now)
        gap = self._blind.ends(now)
        told = (Login("ok"), Condition("online"), *((gap_event(gap),) if gap else ()))
        return Step(heard=told, wake=self._wake())

    def received(self, link: str, frame: bytes, now: Instant) -> Step:
        if (usual := read_usual(frame)) is not None:
            return self._usual(usual, now)
        heard: list[Heard] = []
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
        states = self._gateways.fell_silent(now) if self._open else ()
        do = self._downlinks.woken(now)
        memory = self._gateways.memory(now)
        return Step((*states, *self._downlinks.take()), do, self._wake(), memory)

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
        return Step(self._downlinks.take(), remember=self._gateways.memory(now, last=True))

    def _wake(self) -> float | None:
        """The next moment at which something falls due."""
        due = [self._downlinks.due(), self._gateways.remember_at]
        if self._open:
            due.append(self._gateways.due())
        return min((moment for moment in due if moment is not None), default=None)

    def _usual(self, told: Usual, now: Instant) -> Step:
        if told.events[0].type == "alive":
            last = told.events[0].time or ""
            states = [self._gateways.alive(eui, last, now) for eui in told.gateways]
        else:
            states = self._gateways.heard(told.gateways, now) if told.gateways else []
            if told.reference:
                self._downlinks.told(told.events[0].type, told.reference, now)
                return Step((*told.events, *states, *self._downlinks.take()), wake=self._wake())
        return Step((*told.events, *states), wake=self._wake()) if states else Step(told.events)

    def _communication(self, told: frames.Communication, heard: list[Heard], now: Instant) -> None:
        if told.kind in ("alive", "rx") and told.gateways:
            subjects = tuple(f"gateway/{level(eui)}" for eui in told.gateways)
        else:
            subjects = (self._subject(told),)
        for subject, data in zip(subjects, told.data, strict=True):
            heard.append(Event(subject, told.kind, data, told.time, told.extra, told.told))
        if told.kind == "alive":
            last = told.time or rfc3339(now.unix)
            heard += [self._gateways.alive(eui, last, now) for eui in told.gateways]
        else:
            heard += self._gateways.heard(told.gateways, now)
        if told.reference:
            self._downlinks.told(told.kind, told.reference, now)

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
