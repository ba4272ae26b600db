"""Outbox → broker, for one MQTT connection; beside it the table of states, the responses and what is said once.

1. Events go in order; none overtakes an older one of the same backend. At most a window of them is unacknowledged.
2. What is not acknowledged when a connection ends is sent again on the next one, from the outbox.
3. States are conflated: the newest per topic wins, one of a topic is on its way at a time, and every one is sent again
   after a reconnect. Responses are sent until they are acknowledged. What is said once (dead frames) may be lost.
4. PUBACK 0x97 (quota) is tried again after a pause, one at a time until it passes; any other code of 0x80 and above
   drops that one message, counted, so that a poisoned one never blocks the rest; one over which the broker ends one
   connection after the other (endings.py) is dropped in the same way.
5. A missing PUBACK means a new connection.
6. Nothing connects or publishes without permission; after a loss, only with one that was given since (permit.py).
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bridge.broker import QUOTA_EXCEEDED, REFUSED, Connection, Incoming, Lost, connect
from bridge.clock import instant
from bridge.endings import Endings, Flight, Kind, unless_ended
from bridge.errors import Transient
from bridge.links.backoff import Backoff
from bridge.model import Message
from bridge.options import MqttOptions, plain
from bridge.outbox import Outbox
from bridge.permit import ALWAYS, Permit
from bridge.states import States
from bridge.topics import too_long
from bridge.watch.metrics import MqttMeter

WINDOW = 2_000  # unacknowledged publishes at most; the broker's Receive Maximum may say less
_IN_A_ROW = 16  # events between two states
_QUOTA_PAUSE_S = (0.2, 5.0)


class Publisher:
    """Keeps one MQTT connection and empties an outbox through it."""

    def __init__(
        self,
        options: MqttOptions,
        *,
        client_id: str,
        will: Callable[[], Message],
        filters: Sequence[str],
        incoming: Callable[[Incoming], None],
        meter: MqttMeter,
        log: logging.LoggerAdapter[logging.Logger],
        outbox: Outbox | None = None,
        changed: Callable[[str | None], None] = lambda error: None,
        retained: Callable[[str, bool], None] = lambda topic, there: None,
        after: asyncio.Event | None = None,
        permit: Permit = ALWAYS,
    ) -> None:
        self.options, self.client_id = options, client_id
        self._will, self._filters, self._incoming = will, filters, incoming
        self._meter, self._log, self._outbox, self._changed, self._after = meter, log, outbox, changed, after
        self._permit = permit
        self.states = States(retained)
        self._responses: deque[Message] = deque()
        self._refused_for_now: list[Message] = []  # responses, by quota
        self._once: deque[tuple[Message, int]] = deque(maxlen=1000)
        self._connection: Connection | None = None
        self._flying: dict[int, Flight] = {}
        self._turn = False
        self._scheduled = self._pumping = False
        self._careful = False  # after a quota refusal: one event at a time
        self._paused_until = 0.0
        self._pause = _QUOTA_PAUSE_S[0]
        self._lost: asyncio.Future[None] | None = None
        self._endings = Endings()
        self._idle = asyncio.Event()
        self.announced = asyncio.Event()  # the first connection has sent its states

    # What others hand in: at once, never waiting.

    def state(self, message: Message) -> None:
        if too_long(message.topic):  # its events are counted as topic_too_long
            return
        self.states.put(message)
        self.wake()

    def respond(self, message: Message) -> None:
        self._responses.append(message)
        self.wake()

    def say(self, message: Message, qos: int = 0) -> None:
        """Now or never."""
        if self._connection is not None:
            self._once.append((message, qos))
            self.wake()

    def wake(self) -> None:
        """There is something to publish: does it once in this turn of the loop."""
        if not self._scheduled and self._connection is not None:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._pump_now)

    def _pump_now(self) -> None:
        self._scheduled = False
        self._pump()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """What is handed in within is published at the end of it, together."""
        scheduled, self._scheduled = self._scheduled, True
        try:
            yield
        finally:
            self._scheduled = scheduled
            self._pump()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def drained(self) -> None:
        """Returns when everything handed in so far is with the broker; without one, when no event would be lost."""
        while not self._empty() and (self._connection is not None or (self._outbox and not self._outbox.kept)):
            self._idle.clear()
            await self._idle.wait()

    async def spoken(self) -> None:
        """Returns when states and responses are with the broker; events may still wait."""
        while self._responses or self.states.pending():
            self._idle.clear()
            await self._idle.wait()

    def failed(self, delay: float) -> None:
        """A bug ended run(), which is called again after the delay."""
        self._meter.reconnects["bug"] += 1

    def _empty(self) -> bool:
        return not (self._flying or self._responses or self.states.pending() or (self._outbox and len(self._outbox)))

    # The connection.

    async def run(self) -> None:
        """Connects, publishes and comes back until cancelled."""
        aging = asyncio.ensure_future(self._age())
        try:
            await self._come_back()
        finally:
            aging.cancel()

    async def _age(self) -> None:
        """Once a second, connected or not: the age of what waits."""
        while self._outbox is not None:
            self._outbox.expire(instant())
            self._idle.set()
            await asyncio.sleep(1.0)

    async def _come_back(self) -> None:
        backoff = Backoff(self.options.reconnect)
        urls, index = self.options.url, 0
        if self._after is not None:
            await self._after.wait()
        lost: float | None = None
        while True:
            await self._permit.confirmed(lost)
            try:
                await self._connected(urls[index], backoff)
            except Transient as error:
                lost = self._permit.clock() if isinstance(error, Lost) else lost
                delay = self._failed(error, urls[index], backoff, round_done=(index + 1) % len(urls) == 0)
                index = (index + 1) % len(urls)
                await asyncio.sleep(delay)

    def _failed(self, error: Transient, url: str, backoff: Backoff, round_done: bool) -> float:
        """Counts and logs the end of a connection or of an attempt; seconds until the next."""
        reason, error, delay = self._endings.why(error, self.client_id)
        if (poison := self._endings.poison()) is not None:
            self._refused(poison, "connection ended")
        if reason in ("refused", "failed"):
            self._meter.connects[reason] += 1
        self._meter.reconnects[reason] += 1
        if reason == "taken_over":
            self._changed(str(error))
        elif round_done or isinstance(error, Lost):
            delay = backoff.after_failure()
        self._log.warning("mqtt lost" if isinstance(error, Lost) else "mqtt not connected",
                          extra={"url": plain(url), "reason": str(error), "retry_s": round(delay, 1)})  # fmt: skip
        return delay

    async def _connected(self, url: str, backoff: Backoff) -> None:
        async with connect(self.options, url, self.client_id, self._will()) as connection:
            self._meter.connects["ok"] += 1
            connection.acknowledged = self._acknowledged
            self._lost = asyncio.get_running_loop().create_future()
            listening = asyncio.ensure_future(self._listen(connection))
            tasks = [listening, asyncio.ensure_future(self._tick())]
            try:
                await self._subscribe(connection, listening)
                await self._permit.confirmed()
                self._attach(connection)
                backoff.success()
                await asyncio.wait((*tasks, self._lost), return_when=asyncio.FIRST_COMPLETED)
                for ended in (*tasks, self._lost):
                    if ended.done():
                        ended.result()
            finally:
                self._detach()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _subscribe(self, connection: Connection, listening: "asyncio.Future[None]") -> None:
        if self._filters:
            await unless_ended(asyncio.ensure_future(connection.subscribe(self._filters)), listening)

    def _attach(self, connection: Connection) -> None:
        self._connection = connection
        self._meter.connected = True
        self._log.info("mqtt connected", extra={"client_id": self.client_id})
        now = time.monotonic()
        self._endings.began(now)
        self._turn = False
        self.states.again(self._endings.wary, now)
        if self._outbox is not None:
            self._outbox.expire(instant())
        self._pump()

    def _detach(self) -> None:
        if self._connection is not None:
            self._connection.acknowledged = lambda acks: None
        self._connection = None
        self._meter.connected = False
        self._endings.left(self._flying.values())
        self._refused_for_now += [flight.message for flight in self._flying.values() if flight.kind == "response"]
        self._flying.clear()
        self._start_over()
        self._meter.inflight = 0
        self._once.clear()

    def _start_over(self) -> None:
        """Nothing is on its way: what was is to be sent again, in its order."""
        self._paused_until = 0.0
        self._responses.extendleft(reversed(self._refused_for_now))
        self._refused_for_now.clear()
        if self._outbox is not None:
            self._outbox.rewind()

    async def _listen(self, connection: Connection) -> None:
        async for message in connection.messages():
            if self._permit.lasts():
                self._incoming(message)

    async def _tick(self) -> None:
        """Once a second: the PUBACK deadline, and whether a take-over is history.

        PUBACKs come in order (MQTT 5, 4.6): the deadline of each begins when it is the next one, so that a slow broker
        may take its time.
        """
        head, since = None, 0.0
        while True:
            await asyncio.sleep(1.0)
            now = instant()
            oldest = next(iter(self._flying.values()), None)
            if oldest is not head:
                head, since = oldest, now.mono
            elif oldest is not None and since + self.options.keepalive < now.mono:
                raise Lost(f"no PUBACK within {self.options.keepalive:g} s", -1)
            if self._endings.over(now.mono):
                self._changed(None)
            self.states.try_again(now.mono)
            self._pump()

    # Publishing.

    def _pump(self) -> None:
        """Publishes what the window allows."""
        connection = self._connection
        now = time.monotonic()
        if connection is None or self._paused_until > now or not self._permit.lasts():
            return
        if held := self._endings.held(now):
            self._paused_until = now + held
            asyncio.get_running_loop().call_later(held + 0.01, self.wake)
            return
        if not self._flying and self._paused_until:
            self._start_over()
        careful = self._careful or self._endings.careful(now)
        window = 1 if careful else min(WINDOW, connection.receive_maximum)
        self._pumping = True
        try:
            with connection.gathered():
                while len(self._flying) < window and not self._paused_until and self._publish_next(connection, window):
                    pass
        except Lost as error:
            self._end(error)
        finally:
            self._pumping = False
        self._meter.inflight = len(self._flying)
        if not self._flying:
            self._idle.set()
            if not self.announced.is_set() and not self.states.pending():
                self.announced.set()

    def _publish_next(self, connection: Connection, window: int) -> bool:
        """Some of what waits: responses first, then states and events in turn."""
        if self._responses and not (self._endings.untried and self.states.pending()):
            self._send(connection, "response", self._responses[0], 1)
            self._responses.popleft()  # only now: publishing may find the connection gone
            return True
        self._turn = not self._turn
        if self._turn and (state := self.states.next()) is not None:
            self._send(connection, "state", state, self.options.qos)
            return True
        if self._outbox is not None and self._publish_events(connection, window):
            return True
        if (state := self.states.next()) is not None:
            self._send(connection, "state", state, self.options.qos)
            return True
        if self._once:
            self._send(connection, "once", *self._once.popleft())
            return True
        return False

    def _publish_events(self, connection: Connection, window: int) -> bool:
        """Whether there were any."""
        assert self._outbox is not None
        flying, peek, publish, fits = self._flying, self._outbox.peek, connection.publish, connection.fits
        qos, now, any_sent = self.options.qos, time.monotonic(), False
        room = min(window - len(flying), _IN_A_ROW if self.states.waiting() else window)
        while room > 0 and (entry := peek()) is not None:
            message, any_sent = entry.message, True
            if connection.maximum_packet_size is not None and not fits(message):
                self._outbox.drop(entry.position, "too_large")
                continue
            flying[publish(message, qos)] = Flight("event", entry.position, message, now)
            room -= 1
        return any_sent

    def _send(self, connection: Connection, kind: Kind, message: Message, qos: int) -> None:
        if not connection.fits(message):
            self._log.warning("message larger than the broker takes", extra={"topic": message.topic})
            if kind == "state":
                self.states.done(message, taken=True)
            return
        packet = connection.publish(message, qos, retain=kind == "state")
        self._flying[packet] = Flight(kind, -1, message, time.monotonic())

    def _acknowledged(self, acks: Sequence[tuple[int, int]]) -> None:
        now, pop, flight = time.monotonic(), self._flying.pop, None
        for packet, code in acks:
            flight = pop(packet, None)
            if flight is None:
                continue
            if code < REFUSED:
                self._meter.publish_seconds.observe(now - flight.sent)
                self._careful, self._pause = False, _QUOTA_PAUSE_S[0]
                self._taken(flight, now)
            elif code == QUOTA_EXCEEDED:
                self._quota(flight, now)
            else:
                self._refused(flight, hex(code))
        self._endings.took(flight, now)
        if self._pumping:  # QoS 0: acknowledged as soon as it is written
            self.wake()
        else:
            self._pump()

    def _taken(self, flight: Flight, now: float) -> None:
        if flight.kind == "event" and self._outbox is not None:
            if (entry := self._outbox.commit(flight.position)) is not None:
                self._meter.latency.observe(now - entry.recorded.mono)
        elif flight.kind == "state":
            self._meter.states_published += 1
            self.states.done(flight.message, taken=True)

    def _quota(self, flight: Flight, now: float) -> None:
        if not self._paused_until:
            self._log.warning("the broker's quota is exceeded", extra={"retry_s": self._pause})
            self._paused_until = now + self._pause
            self._pause = min(self._pause * 2, _QUOTA_PAUSE_S[1])
            asyncio.get_running_loop().call_later(self._paused_until - now + 0.01, self.wake)
        self._careful = True
        if flight.kind == "state":
            self.states.done(flight.message, taken=False)
        elif flight.kind == "response":
            self._refused_for_now.append(flight.message)

    def _refused(self, flight: Flight, code: str) -> None:
        about = {"topic": flight.message.topic, "bytes": flight.message.size, "code": code}
        self._log.warning("the broker refused a message", extra=about)
        self._endings.refused(time.monotonic())
        if flight.kind == "event" and self._outbox is not None:
            self._outbox.drop(flight.position, "refused")
        elif flight.kind == "state":
            self.states.refused(flight.message)
        elif flight.message in self._responses:
            self._responses.remove(flight.message)

    def _end(self, error: Lost) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(error)
