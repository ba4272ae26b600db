"""Why connections to the broker end; above all, whether another bridge takes our sessions over.

MQTT 5 has a reason code for that. Brokers before it, and some after, say nothing: then connections end again and again
soon after they began.

Or a broker does not let the bridge publish something, and ends the connection with the refusal, as Mosquitto 2.0 does;
its PUBACK gets lost then, unless that message was alone on its way. So after such an end it is.
"""

import asyncio
import time

from bridge.broker import SESSION_TAKEN_OVER, Lost, NotNow
from bridge.errors import Refused, Transient

TAKEN_OVER_S = 30.0  # not before then is the next try
_YOUNG_S, _YOUNG_DEATHS = 3.0, 3
_WHY_S = 0.1


class Endings:
    """Of one publisher."""

    def __init__(self) -> None:
        self._taken_over = False
        self._died_young = 0  # connections in a row that ended soon after they began
        self._young_until = 0.0
        self._refused_until = 0.0  # until then a refusal may be why the connection ended
        self.wary = False  # whether the last one ended because of a refusal, perhaps
        self._calm_at = 0.0  # when a connection has lasted long enough to forget that it was taken over

    def began(self, now: float) -> None:
        """A connection stands. now: time.monotonic()."""
        self._calm_at, self._young_until = now + 2 * TAKEN_OVER_S, now + _YOUNG_S

    def careful(self, now: float) -> bool:
        """Whether one message at a time goes out."""
        return self.wary and now < self._young_until

    def refused(self, now: float) -> None:
        """The broker has refused a message."""
        self._refused_until, self._died_young = now + _YOUNG_S, 0

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
        now = time.monotonic()
        by_refusal, young = (error.code is None and now < until for until in (self._refused_until, self._young_until))
        self.wary = by_refusal or young
        if by_refusal:
            return "closed", Lost(f"{error} after the broker refused a message"), 0.0
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
