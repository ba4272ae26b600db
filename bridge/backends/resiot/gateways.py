"""The gateways of a ResIOT installation: which are heard, which fell silent, and what is known of them after a restart.

1. A keep-alive makes a gateway known; anything it is named in keeps it online.
2. Being blind ourselves is no silence of a gateway: its time begins anew when the socket opens.
"""

from collections import OrderedDict
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from bridge.backends.resiot.data import GatewayState
from bridge.model import Instant, State
from bridge.topics import level

_CHANGED_S, _ALIVE_S = 5.0, 60.0  # how often they are remembered: with a change of who is online, without one


class _Gateway(Struct, gc=False):
    """seen: Instant.mono of its last sign of life · last_alive: RFC 3339 UTC of its last keep-alive."""

    seen: float
    last_alive: str


class _Memory(Struct, array_like=True):
    """EUI to the time of the last keep-alive."""

    online: dict[str, str]
    silent: dict[str, str]


class Gateways:
    """timeout: seconds of silence after which one counts as offline."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._online: OrderedDict[str, _Gateway] = OrderedDict()  # the longest silent one first
        self._silent: dict[str, str] = {}
        self._remember_at: float | None = None  # Instant.mono; None: nothing is new

    def recall(self, memory: bytes | None, now: Instant) -> None:
        """Takes up what memory() gave to an earlier session; what cannot be read is nothing."""
        try:
            known = msgspec.json.decode(memory or b"[{},{}]", type=_Memory)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        self._silent = known.silent
        self._online = OrderedDict((eui, _Gateway(now.mono, last)) for eui, last in known.online.items())

    def opened(self, now: Instant) -> None:
        for gateway in self._online.values():
            gateway.seen = now.mono

    def heard(self, euis: Iterable[str], now: Instant) -> list[State]:
        """They were named in something; one that was silent is back."""
        back: list[State] = []
        for eui in euis:
            gateway = self._online.get(eui)
            if gateway is not None:
                gateway.seen = now.mono
                self._online.move_to_end(eui)
            elif eui in self._silent:
                back.append(self.alive(eui, self._silent[eui], now))
        return back

    def alive(self, eui: str, last_alive: str, now: Instant) -> State:
        """A keep-alive of it, and when that was."""
        new = eui not in self._online
        self._silent.pop(eui, None)
        self._online[eui] = _Gateway(now.mono, last_alive)
        self._online.move_to_end(eui)
        self._changed(now, _CHANGED_S if new else _ALIVE_S)
        return State(f"gateway/{level(eui)}", GatewayState("online", last_alive))

    def fell_silent(self, now: Instant) -> list[State]:
        """Those that are offline from now on."""
        gone: list[State] = []
        while self._online:
            eui, gateway = next(iter(self._online.items()))
            if gateway.seen + self._timeout > now.mono:
                break
            del self._online[eui]
            self._silent[eui] = gateway.last_alive
            self._changed(now, _CHANGED_S)
            gone.append(State(f"gateway/{level(eui)}", GatewayState("offline", gateway.last_alive)))
        return gone

    def due(self) -> float | None:
        """When the next one would fall silent."""
        return next(iter(self._online.values())).seen + self._timeout if self._online else None

    def memory(self, now: Instant, *, last: bool = False) -> bytes | None:
        """What recall() takes, where it is time to say it; last: there will be no later time."""
        if self._remember_at is None or (now.mono < self._remember_at and not last):
            return None
        self._remember_at = None
        online = {eui: gateway.last_alive for eui, gateway in self._online.items()}
        return msgspec.json.encode(_Memory(online, self._silent))

    @property
    def remember_at(self) -> float | None:
        """When memory() has something new to say (Instant.mono)."""
        return self._remember_at

    def _changed(self, now: Instant, delay: float) -> None:
        if self._remember_at is None or self._remember_at > now.mono + delay:
            self._remember_at = now.mono + delay
