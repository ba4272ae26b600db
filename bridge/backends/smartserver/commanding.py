"""What each command does: its request, and what its answer means."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from bridge.backends.session import Answer
from bridge.backends.smartserver import answers, names
from bridge.backends.smartserver.alarms import LIST, Alarms, active
from bridge.backends.smartserver.catalogue import Catalogue
from bridge.backends.smartserver.command import DataLog as Asked
from bridge.backends.smartserver.command import datapoint_path
from bridge.backends.smartserver.data import Cleared, InForce, Logged, ReadValue
from bridge.backends.smartserver.datalog import DataLog, Run, Window, queries
from bridge.backends.smartserver.fields import Id
from bridge.backends.smartserver.orders import Flight, Orders
from bridge.backends.smartserver.pages import Pages
from bridge.backends.smartserver.points import Points
from bridge.backends.smartserver.reads import Reads, values
from bridge.backends.smartserver.subscription import Subscription
from bridge.backends.smartserver.talk import Ask, Talk
from bridge.errors import BadCommand
from bridge.model import Instant


class Commanding:
    """Begins commands. filtered: another list is in force · restore: it is not, the old one is to be."""

    def __init__(
        self,
        talk: Talk,
        points: Points,
        catalogue: Catalogue,
        alarms: Alarms,
        reads: Reads,
        log: DataLog,
        subscription: Subscription,
        filtered: Callable[[tuple[str, ...], list[tuple[str, str | None]], Instant], None],
        restore: Callable[[Instant], None],
    ) -> None:
        self._talk, self._points, self._catalogue, self._alarms = talk, points, catalogue, alarms
        self._reads, self._log, self._subscription = reads, log, subscription
        self._filtered, self._restore = filtered, restore
        self.orders = Orders(talk, self._begin)
        self.globs: tuple[str, ...] = ()
        self.release: tuple[int, ...] | None = None
        self._does: dict[str, Callable[[Flight, Instant], None]] = {
            "write": self._write,
            "release": self._write,
            "read": self._read,
            "test": self._device,
            "wink": self._device,
            "clear_alarms": self._clear,
            "filter": self._filter,
            "datalog": self._datalog,
        }

    def _begin(self, flight: Flight, now: Instant) -> None:
        self._does[flight.command.name](flight, now)

    # Datapoints and devices

    def _write(self, flight: Flight, now: Instant) -> None:
        self.orders.ask(flight, flight.command.body.request(self._place(flight)), now)

    def _read(self, flight: Flight, now: Instant) -> None:
        body = flight.command.body
        qualifier, asked = "/".join(names.told_by(flight.command.subject)), now.mono

        def done(answer: Answer, now: Instant) -> None:
            found = values(answer)
            told = next((one for one in found if one.qualifier == qualifier), found[0] if len(found) == 1 else None)
            if told is not None:
                data = ReadValue(told.value, told.time, told.preset, told.localized, told.priority)
                self._talk.succeed(flight.command, data)
            elif answers.rows(answer) == []:
                self._talk.fail(flight.command, 404, "no_such_subject", "the platform knows no such datapoint")
            else:
                self._talk.fail(flight.command, 502, "unreadable", "the platform's answer cannot be read")
            if body.max_age == 0 and qualifier in self._points:
                self._reads.forced((qualifier,), asked, now)
            self.orders.finished(flight, now)

        self.orders.ask(flight, body.request(self._place(flight)), now, done)

    def _place(self, flight: Flight) -> str:
        sid, protocol, did, block, index, datapoint = names.told_by(flight.command.subject)
        return datapoint_path(self.id_of(sid, protocol, did), block, index, datapoint, self.release)

    def id_of(self, sid: str, protocol: str, did: str) -> str:
        """The device's id, or the handle that is taken as well."""
        known = self._catalogue.named(sid, protocol, did)
        return str(known.id) if known else f"{sid}.{did}"

    def _device(self, flight: Flight, now: Instant) -> None:
        """`test`, `wink`: the id stands in the path and in the body (vendor's page)."""
        sid, protocol, did = names.told_by(flight.command.subject)
        known = self._catalogue.named(sid, protocol, did)
        id_ = known.id if known else f"{sid}.{did}"
        if names.unspeakable(str(id_)):
            raise BadCommand(f"the platform cannot be asked for {id_!r}", code=404, kind="no_such_subject")
        path = f"/iap/devs/{names.escaped(str(id_))}/{flight.command.name}"
        self.orders.ask(flight, Ask("PUT", path, msgspec.json.encode({"ID": id_})), now)

    # Alarms

    def _clear(self, flight: Flight, now: Instant) -> None:
        asked = flight.command.body.ids
        if asked is not None:
            self._clear_these(flight, [self._alarms.id_of(one) for one in asked], now)
            return

        def listed(rows: list[Any] | None, why: str, now: Instant) -> None:
            if rows is not None:
                self._clear_these(flight, [one.data.id for one in active(rows)], now)
                return
            self._talk.fail(flight.command, 502, "refused", f"the active alarms cannot be read: {why}")
            self.orders.finished(flight, now)

        pages = Pages(self._talk, LIST, listed)  # what frames have told of may be ten seconds behind
        flight.cancel = lambda now: pages.cancel()

    def _clear_these(self, flight: Flight, ids: list[Id], now: Instant) -> None:
        if not ids:
            self._talk.succeed(flight.command, Cleared(ids=[]))
            self.orders.finished(flight, now)
            return

        def done(answer: Answer, now: Instant) -> None:
            self._talk.succeed(flight.command, Cleared(ids=ids))
            self._alarms.read_soon(now)
            self.orders.finished(flight, now)

        self.orders.ask(flight, Ask("PUT", "/iap/alarms/clear", msgspec.json.encode(ids)), now, done)

    # Which datapoints

    def _filter(self, flight: Flight, now: Instant) -> None:
        globs = flight.command.body.datapoints
        if globs is None:
            self._in_force(flight, now)
            return
        found = partial(self._offer, flight, globs)
        flight.cancel = partial(self._unfilter, found)
        self._catalogue.resolve(globs, found, now)

    def _offer(self, flight: Flight, globs: tuple[str, ...], found: list[tuple[str, str | None]], now: Instant) -> None:
        def done(answer: Answer, now: Instant) -> None:
            if answers.good(answer):
                self._filtered(globs, found, now)
                self._in_force(flight, now)
                return
            self._restore(now)
            said = f"the platform refused the list, the old one is in force: {answers.words(answer)}"
            self._talk.fail(flight.command, 502, "refused", said)
            self.orders.finished(flight, now)

        left = max(0.1, flight.command.deadline - now.mono)
        self._subscription.offer(tuple(qualifier for qualifier, _ in found), left, done)

    def _unfilter(self, found: Any, now: Instant) -> None:
        """Given up: the old list is sent, whatever became of the new one."""
        self._catalogue.forget_wish(found)
        self._subscription.withdraw()
        self._restore(now)

    def _in_force(self, flight: Flight, now: Instant) -> None:
        self._talk.succeed(flight.command, InForce(datapoints=self.globs, count=len(self._points.qualifiers)))
        self.orders.finished(flight, now)

    # The data log

    def _datalog(self, flight: Flight, now: Instant) -> None:
        body: Asked = flight.command.body
        found = partial(self._log_of, flight, Window(*body.window()))
        flight.cancel = lambda now: self._catalogue.forget_wish(found)
        self._catalogue.resolve(body.datapoints, found, now)

    def _log_of(self, flight: Flight, window: Window, found: list[tuple[str, str | None]], now: Instant) -> None:
        command, link = flight.command, self._log.free()
        if not found:
            self._talk.fail(command, 404, "no_such_subject", "no datapoint fits", field="datapoints")
        elif link is None:
            self._talk.fail(command, 429, "too_fast", "four data logs are being read already: try again later")
        else:
            asked = queries((qualifier for qualifier, _ in found), self.id_of)
            request = command.key if command.id is None else command.id
            event = partial(self._points.event, replay=True, type_="log", request=request)
            run = Run(link, asked, window, event, self._log_ended, most=command.body.limit, command=command)
            self._log.begin(run, now)
        self.orders.finished(flight, now)

    def _log_ended(self, run: Run, fault: str | None, now: Instant) -> None:
        self._log.runs.pop(run.link, None)
        assert run.command is not None
        told = Logged(count=run.count, request=run.command.key if run.command.id is None else run.command.id)
        if fault is None:
            self._talk.succeed(run.command, Logged(**told, limited=True) if run.limited else told)
            return
        said = f"the platform ended the data log before its end: {fault}"
        self._talk.fail(run.command, 502, "partial", said, Logged(**told, partial=True))

    def log_expired(self, run: Run) -> None:
        """The platform did not answer in time."""
        if run.command is not None:
            self._talk.fail(run.command, 408, "timeout", "the platform did not open its data log in time")

    def stopped(self, now: Instant) -> None:
        """Every command gets its final response."""
        self.orders.lost(now, "ws2mqtt stopped")
        for link, run in list(self._log.runs.items()):
            self._log.close(link, "stopped")
            if run.command is not None:
                data = Logged(count=run.count, partial=True)
                self._talk.fail(run.command, 408, "stopped", "ws2mqtt stopped before the data log ended", data)
