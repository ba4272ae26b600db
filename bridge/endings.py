"""Why connections to the broker end; above all, whether another bridge takes our sessions over.

MQTT 5 has a reason code for that. Brokers before it, and some after, say nothing: then connections end again and again
soon after they began.

Or a broker does not let the bridge publish something, and ends the connection with the refusal, as Mosquitto 2.0 does;
its PUBACK gets lost then, unless that message was alone on its way. So after such an end it is. Some have no PUBACK
for it at all, and 3.1.1 has none that says no. That a message is why is believed when five connections in a row ended
over it, each soon after it began, with this message alone on its way and another one taken before. The last three first
stood without it for longer than the one before them did: what else ends connections, ends them then. Mosquitto takes it
on 3.1.1, and ends the connection then: so with a suspect, nothing follows at once on what was taken.
"""

import asyncio
import time
from collections.abc import Collection
from typing import Literal

from msgspec import Struct

from bridge.broker import SESSION_TAKEN_OVER, Lost, NotNow
from bridge.errors import Refused, Transient
from bridge.model import Message

TAKEN_OVER_S = 30.0  # not before then is the next try
_YOUNG_S, _YOUNG_DEATHS, _STRIKES, _LONGER = 3.0, 3, 5, 1.5
# What a DISCONNECT because of a message says, if anything: malformed, protocol error, not authorized, topic name
# invalid, packet too large, payload format invalid (MQTT 5, 3.14.2.1)
_OVER_A_MESSAGE = (None, 0x81, 0x82, 0x87, 0x90, 0x95, 0x99)
_WHY_S = 0.1

Kind = Literal["event", "state", "response", "once"]


class Flight(Struct, frozen=True, gc=False):
    """A message on its way. position: of an event · sent: time.monotonic()."""

    kind: Kind
    position: int
    message: Message
    sent: float

    def same(self, other: "Flight | None") -> bool:
        """Whether the other is this one, tried again; a state's may be newer."""
        if other is None or (self.kind, self.position) != (other.kind, other.position):
            return False
        return self.message.topic == other.message.topic and (self.kind == "state" or self.message == other.message)


class Endings:
    """Of one publisher."""

    def __init__(self) -> None:
        self._taken_over = False
        self._died_young = 0  # connections in a row that ended soon after they began
        self._young_until = 0.0
        self._refused_until = 0.0  # until then a refusal may be why the connection ended
        self.wary = False  # whether the last one ended because of a refusal, perhaps
        self.taken = False  # whether the broker has taken something on this connection
        self._alone: Flight | None = None  # on its way when the last one ended
        self._suspect: Flight | None = None  # what was alone on its way before
        self._strikes = 0  # connections in a row that ended over it
        self._began = self._hold = self._quiet_until = 0.0
        self._last: Flight | None = None  # the state that was taken last
        self._calm_at = 0.0  # when a connection has lasted long enough to forget that it was taken over

    def began(self, now: float) -> None:
        """A connection stands. now: time.monotonic()."""
        self.taken, self._began, self._last = False, now, None
        self._quiet_until = now + self._hold
        self._calm_at, self._young_until = now + 2 * TAKEN_OVER_S, now + _YOUNG_S

    def careful(self, now: float) -> bool:
        """Whether one message at a time goes out."""
        return self.wary and now < self._young_until + self._hold

    def held(self, now: float) -> float:
        """For how many seconds nothing goes out, to see whether the connection ends all the same."""
        return max(0.0, self._quiet_until - now) if self.taken else 0.0

    def took(self, flight: Flight | None, now: float) -> None:
        """What the broker has taken last."""
        if self._suspect is not None and self.careful(now):
            self._last = flight if self.taken and flight is not None and flight.kind == "state" else None
            self._quiet_until = max(self._quiet_until, now + _WHY_S)
        self.taken = True

    @property
    def untried(self) -> bool:
        """Whether the broker is to take a state first: what then ends the connection is to blame for it."""
        return self.wary and not self.taken

    def refused(self, now: float) -> None:
        """The broker has refused a message."""
        self._refused_until, self._died_young = now + _YOUNG_S, 0

    def left(self, flying: Collection[Flight]) -> None:
        """What was on its way when the connection ended."""
        if not flying:
            self._alone = self._last if time.monotonic() < self._quiet_until else None
        else:
            self._alone = next(iter(flying)) if self.taken and len(flying) == 1 else None

    def poison(self) -> Flight | None:
        """The message that ends connections, once."""
        alone, self._alone = self._alone, None
        if self._strikes < _STRIKES:
            return None
        self._strikes, self._hold, self._suspect = 0, 0.0, None
        return alone

    def over(self, now: float) -> bool:
        """Whether a take-over is history from now on."""
        if not self._taken_over or now <= self._calm_at:
            return False
        self._taken_over = False
        return True

    def why(self, error: Transient, client_id: str) -> tuple[str, Transient, float]:
        """One of the meter's reasons, the error in words that say what to do, and seconds to wait at least."""
        if not isinstance(error, Lost):
            return ("refused" if isinstance(error, Refused | NotNow) else "failed"), error, 0.0
        now, over_a_message = time.monotonic(), error.code in _OVER_A_MESSAGE
        by_refusal, young = (over_a_message and now < until for until in (self._refused_until, self._young_until))
        self._strike(self._alone, young, now)
        self.wary = by_refusal or young or self._strikes > 0
        if by_refusal:
            return "closed", Lost(f"{error} after the broker refused a message"), 0.0
        if self._strikes:
            return "closed", error, 0.0
        self._died_young = self._died_young + 1 if young else 0
        if error.code == SESSION_TAKEN_OVER:
            self._taken_over, self._died_young = True, 0
            return "taken_over", error, TAKEN_OVER_S
        if self._died_young >= _YOUNG_DEATHS:
            self._taken_over, self._died_young = True, 0
            error = Lost(
                f"{error}; again and again soon after connecting: do two bridges share the client id "
                f"{client_id}, or do access rules end the connection?"
            )
            return "taken_over", error, TAKEN_OVER_S
        return ("timeout" if error.code == -1 else "closed"), error, 0.0

    def _strike(self, alone: Flight | None, young: bool, now: float) -> None:
        again = alone is not None and alone.same(self._suspect)
        if alone is None or not (young or (again and now < alone.sent + _YOUNG_S)):
            self._strikes, alone = 0, None
        else:
            self._strikes = self._strikes + 1 if again else 1
        self._suspect = alone
        self._hold = _LONGER * (now - self._began) + _WHY_S if self._strikes > 1 else 0.0


async def unless_ended(asking: "asyncio.Future[None]", listening: "asyncio.Future[None]") -> None:
    """What is asked of the broker; where the connection ends meanwhile, it is the listening that knows why."""
    try:
        await asyncio.wait((asking, listening), return_when=asyncio.FIRST_COMPLETED)
        if not asking.done() or isinstance(asking.exception(), Lost):
            await asyncio.wait((listening,), timeout=_WHY_S)
            if listening.done():
                listening.result()
        await asking
    finally:
        asking.cancel()
