"""What is counted, and how a scrape is made of it.

Rooms count in plain numbers (a Meter per backend); a scrape is rendered on the event loop from one picture of them, so
that the ledger balances in every single one. All known series exist from the start; labels come from closed sets.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge import __version__
from bridge.backends import PLATFORMS
from bridge.backends.session import Gap
from bridge.ledger import Ledger

BRIDGE = "bridge"
CONNECT_OUTCOMES = ("ok", "refused", "failed")
WEBSOCKET_LOSSES = ("refused", "failed", "closed", "ping", "idle", "too_large", "asked", "bug")
MQTT_LOSSES = ("closed", "refused", "failed", "timeout", "taken_over", "bug")
UNREAD = ("not_json", "not_text", "wrong_shape", "too_large")
ENDS = ("succeeded", "failed", "expired", "rejected", "unknown")  # of a command that a platform carries out
_LOCAL_ENDS = ("succeeded", "expired", "rejected")  # of one that is only a word to ourselves
_OTHER = ("other", "unknown")  # where an end is counted that no table foresaw
_ENDS = {"reconnect": _LOCAL_ENDS, "pause": _LOCAL_ENDS, "resume": _LOCAL_ENDS}
_SENT = {spec.name for platform in PLATFORMS.values() for spec in platform.commands if spec.sent}
BRIDGE_COMMANDS = ("ping", "health", "log_level", "reload")
RELOADS = ("ok", "failed")
OWN_COMMANDS = 4  # that a configuration names are counted by name, more as `other`: at most 150 series per backend

_RECENT = 50
_LATENCY = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0)  # few: at most 150 series per backend
_COMMAND = (0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)


class Histogram:
    """Counts by upper bound, in seconds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def add_to(self, family: HistogramMetricFamily, label: str) -> None:
        total, buckets = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric([label], buckets, self.sum)


def _zeros(*keys: str) -> dict[str, int]:
    return dict.fromkeys(keys, 0)


@dataclass
class MqttMeter:
    """One MQTT connection."""

    connects: dict[str, int] = field(default_factory=lambda: _zeros(*CONNECT_OUTCOMES))
    reconnects: dict[str, int] = field(default_factory=lambda: _zeros(*MQTT_LOSSES))
    connected: bool = False
    inflight: int = 0
    publish_seconds: Histogram = field(default_factory=lambda: Histogram(_LATENCY))
    latency: Histogram = field(default_factory=lambda: Histogram(_LATENCY))
    states_published: int = 0


Told = tuple[int, str, str | None, str, str, bool]
"""What is remembered of an event: its number, when it was read, when it was (None: not told), type, subject, replay.

None of its data, which may be large; and a plain tuple, since one is made of every event.
"""


@dataclass
class Meter:
    """One backend. recent: its last events, for people."""

    ledger: Ledger
    waiting: Callable[[], tuple[int, int, float | None]]  # events, bytes, Unix time of the oldest
    commands: dict[tuple[str, str], int]
    mqtt: MqttMeter = field(default_factory=MqttMeter)
    frames: int = 0
    frame_bytes: int = 0
    unread: dict[str, int] = field(default_factory=lambda: _zeros(*UNREAD))
    ignored: int = 0
    replayed: int = 0
    websocket_connects: dict[str, int] = field(default_factory=lambda: _zeros(*CONNECT_OUTCOMES))
    websocket_reconnects: dict[str, int] = field(default_factory=lambda: _zeros(*WEBSOCKET_LOSSES))
    websocket_connected: bool = False
    gaps: int = 0
    gap_seconds: float = 0.0
    auth: dict[str, int] = field(default_factory=lambda: _zeros(*CONNECT_OUTCOMES))
    last_event: float | None = None
    last_gap: Gap | None = None
    recent: deque[Told] = field(default_factory=lambda: deque(maxlen=_RECENT))
    command_seconds: Histogram = field(default_factory=lambda: Histogram(_COMMAND))


def commands_table(names: Collection[str]) -> dict[tuple[str, str], int]:
    """The counts of commands by name and each status that can be its last; a name nobody has is `other`."""
    places = [(name, status) for name in (*names, "other") for status in _ENDS.get(name, ENDS)]
    return dict.fromkeys([*((name, "sent") for name in names if name in _SENT), *places], 0)


def count_command(table: dict[tuple[str, str], int], name: str, status: str) -> None:
    """One more that ended so."""
    place = next((one for one in ((name, status), ("other", status)) if one in table), _OTHER)
    table[place] += 1


@dataclass
class Meters:
    """The whole process."""

    backends: dict[str, Meter] = field(default_factory=dict)
    bridge: MqttMeter = field(default_factory=MqttMeter)
    bridge_commands: dict[tuple[str, str], int] = field(default_factory=lambda: commands_table(BRIDGE_COMMANDS))
    bridge_command_seconds: Histogram = field(default_factory=lambda: Histogram(_COMMAND))
    reloads: dict[str, int] = field(default_factory=lambda: _zeros(*RELOADS))
    leader: bool | None = None  # None: there is no election

    def render(self) -> bytes:
        """The scrape, Prometheus text format."""
        registry = CollectorRegistry()
        registry.register(_Picture(self))
        return generate_latest(registry)


class _Picture(Collector):
    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._ledger()
        yield from self._platform()
        yield from self._commands()
        yield from self._mqtt()
        yield from self._process()

    def _counter(self, name: str, text: str, value: Callable[[Meter], float]) -> Metric:
        family = CounterMetricFamily(f"ws2mqtt_{name}", text, labels=["backend"])
        for backend, meter in self._meters.backends.items():
            family.add_metric([backend], value(meter))
        return family

    def _counters(self, name: str, text: str, label: str, value: Callable[[Meter], Mapping[str, int]]) -> Metric:
        family = CounterMetricFamily(f"ws2mqtt_{name}", text, labels=["backend", label])
        for backend, meter in self._meters.backends.items():
            for key, count in value(meter).items():
                family.add_metric([backend, key], count)
        return family

    def _gauge(self, name: str, text: str, value: Callable[[Meter], float | None]) -> Metric:
        family = GaugeMetricFamily(f"ws2mqtt_{name}", text, labels=["backend"])
        for backend, meter in self._meters.backends.items():
            if (number := value(meter)) is not None:
                family.add_metric([backend], number)
        return family

    def _ledger(self) -> Iterator[Metric]:
        yield self._counters("events_received", "Events read from the platform", "type", lambda m: m.ledger.received)
        yield self._counter("events_recovered", "Events found on disk at start", lambda m: m.ledger.recovered)
        yield self._counter("events_published", "Events the broker has taken", lambda m: m.ledger.published)
        yield self._counters("events_dropped", "Events lost, by reason", "reason", lambda m: m.ledger.dropped)
        yield self._gauge("outbox_events", "Events that wait for the broker", lambda m: m.waiting()[0])
        yield self._gauge("outbox_bytes", "Bytes that wait for the broker", lambda m: m.waiting()[1])
        yield self._gauge(
            "outbox_oldest_timestamp_seconds", "When the longest waiting event was read", lambda m: m.waiting()[2]
        )

    def _platform(self) -> Iterator[Metric]:
        yield self._counter("frames_received", "WebSocket frames received", lambda m: m.frames)
        yield self._counter("frame_bytes", "Bytes of WebSocket frames received", lambda m: m.frame_bytes)
        yield self._counters("frames_unread", "Frames that could not be read, by reason", "reason", lambda m: m.unread)
        yield self._counter("events_ignored", "Events not published because of `ignore`", lambda m: m.ignored)
        yield self._counter("events_replayed", "Events read from the platform's history", lambda m: m.replayed)
        yield self._counters(
            "websocket_connects", "Attempts to open a WebSocket", "outcome", lambda m: m.websocket_connects
        )
        yield self._counters(
            "websocket_reconnects", "New attempts, by what they follow", "reason", lambda m: m.websocket_reconnects
        )
        yield self._counter("gaps", "Windows in which the backend was blind", lambda m: m.gaps)
        yield self._counter("gap_seconds", "Seconds in which the backend was blind", lambda m: m.gap_seconds)
        yield self._counters("auth", "Logins, by outcome", "outcome", lambda m: m.auth)
        yield self._gauge("websocket_connected", "1 while the WebSocket is open", lambda m: m.websocket_connected)
        yield self._gauge("last_event_timestamp_seconds", "When the last event was read", lambda m: m.last_event)

    def _commands(self) -> Iterator[Metric]:
        counts = CounterMetricFamily(
            "ws2mqtt_commands", "Commands, by final status", labels=["backend", "command", "outcome"]
        )
        seconds = HistogramMetricFamily(
            "ws2mqtt_command_duration_seconds", "From a command's arrival to its final response", labels=["backend"]
        )
        tables = {name: (m.commands, m.command_seconds) for name, m in self._meters.backends.items()}
        tables[BRIDGE] = (self._meters.bridge_commands, self._meters.bridge_command_seconds)
        for backend, (table, histogram) in tables.items():
            for (command, outcome), count in table.items():
                counts.add_metric([backend, command, outcome], count)
            histogram.add_to(seconds, backend)
        yield counts
        yield seconds

    def _mqtt(self) -> Iterator[Metric]:
        all_mqtt = {name: meter.mqtt for name, meter in self._meters.backends.items()} | {BRIDGE: self._meters.bridge}
        connects = CounterMetricFamily(
            "ws2mqtt_mqtt_connects", "Attempts to connect to the broker", labels=["backend", "outcome"]
        )
        reconnects = CounterMetricFamily(
            "ws2mqtt_mqtt_reconnects", "New attempts, by what they follow", labels=["backend", "reason"]
        )
        connected = GaugeMetricFamily("ws2mqtt_mqtt_connected", "1 while connected to the broker", labels=["backend"])
        inflight = GaugeMetricFamily("ws2mqtt_mqtt_inflight", "Publishes not yet acknowledged", labels=["backend"])
        publish = HistogramMetricFamily("ws2mqtt_mqtt_publish_seconds", "Publish to PUBACK", labels=["backend"])
        for name, meter in all_mqtt.items():
            for outcome, count in meter.connects.items():
                connects.add_metric([name, outcome], count)
            for reason, count in meter.reconnects.items():
                reconnects.add_metric([name, reason], count)
            connected.add_metric([name], meter.connected)
            inflight.add_metric([name], meter.inflight)
            meter.publish_seconds.add_to(publish, name)
        latency = HistogramMetricFamily("ws2mqtt_event_latency_seconds", "Frame read to PUBACK", labels=["backend"])
        for name, backend in self._meters.backends.items():
            backend.mqtt.latency.add_to(latency, name)
        states = self._counter("states_published", "States the broker has taken", lambda m: m.mqtt.states_published)
        yield from (connects, reconnects, connected, inflight, publish, latency, states)

    def _process(self) -> Iterator[Metric]:
        reloads = CounterMetricFamily("ws2mqtt_config_reloads", "Reloads of the configuration", labels=["outcome"])
        for outcome, count in self._meters.reloads.items():
            reloads.add_metric([outcome], count)
        yield reloads
        if self._meters.leader is not None:
            yield GaugeMetricFamily("ws2mqtt_leader", "1 while this replica is active", value=self._meters.leader)
        info = GaugeMetricFamily("ws2mqtt_build_info", "Always 1; the version is a label", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
