"""The talk with a SmartServer: a login by REST, a socket that pushes, a list that says what.

    login ─▶ cookie ─▶ socket ─▶ list ─▶ online ──half of the session's time──▶ login ─▶ new socket beside the old one
      ▲                  │         │                                                     ─▶ list ─▶ the old one goes
      └──────401, 3xx────┴─────────┴────── socket lost ──▶ offline ─▶ socket ─▶ list ─▶ a gap, filled from the log

1. The socket only tells (it takes no frame); everything else is REST. Both want the login's cookie.
2. The list is sent after every login and every new socket; online means that it is taken.
3. A session that is over on a request means one new login; the request is made once more.
4. A renewal is no interruption: the old socket stays a second longer than the new one has its list.
"""

from functools import partial

from bridge.backends.session import Answer, Blindness, Loss, Step
from bridge.backends.smartserver import answers, frames, names
from bridge.backends.smartserver.alarm import Alarm
from bridge.backends.smartserver.alarms import ALARMS, Alarms
from bridge.backends.smartserver.backfill import Backfill
from bridge.backends.smartserver.catalogue import Catalogue
from bridge.backends.smartserver.commanding import Commanding
from bridge.backends.smartserver.data import Load, Monitoring, Notification, Removed, Time
from bridge.backends.smartserver.datalog import END, DataLog
from bridge.backends.smartserver.device import Device
from bridge.backends.smartserver.entrance import Entrance
from bridge.backends.smartserver.options import SmartserverOptions
from bridge.backends.smartserver.points import Points
from bridge.backends.smartserver.reads import Reads
from bridge.backends.smartserver.subscription import Subscription
from bridge.backends.smartserver.talk import Ask, Talk
from bridge.backends.smartserver.usual import read as read_usual
from bridge.model import Census, Command, Condition, Event, Instant

EVENTS = (
    "value", "log", "status", "test", "removed", "alarm", "notification", "join", "monitoring", "time", "load",
    "unknown", "gap",
)  # fmt: skip
_RELOAD_S = 300.0  # a device list, or a device, that could not be read
_TAKEN = (
    "updates stay away although datapoints were read: another program with this username has taken the subscribe list"
    " (one per user); it was sent again. Give ws2mqtt a user of its own"
)


class SmartserverSession:
    """See bridge.backends.session."""

    def __init__(self, options: SmartserverOptions) -> None:
        self._options = options
        self._talk = talk = Talk(options.url)
        self._points = Points(talk)
        stuck = partial(self._stuck, "the list of datapoints")
        self._subscription = Subscription(talk, lambda: self._points.qualifiers, self._settled, stuck)
        self._catalogue = Catalogue(talk, self._resolve, partial(self._stuck, "the device list"))
        self._alarms = Alarms(talk)
        self._reads = Reads(talk, options.poll, self._points.cached, self._stolen)
        self._reads.may_prove = self._may_prove
        self._log = DataLog(talk)
        parts = (self._points, self._catalogue, self._alarms, self._reads, self._log, self._subscription)
        self._commands = Commanding(talk, *parts, self._filtered, self._send_list)
        self._commands.globs = options.datapoints
        self._backfill = Backfill(talk, self._log, self._points, options.backfill.max, self._commands.id_of)
        self._entrance = Entrance(
            talk,
            options,
            opened=self._opened,
            entered=self._entered,
            blind=self._blind,
            renewing=self._renewing,
            busy=lambda: bool(self._log.runs),
        )
        self._blindness = Blindness()
        self._resolved = self._resolving = self._again = self._counted = False
        self._partial: str | None = None  # why the platform takes less than the whole list
        self._renewal: str | None = None  # why the session cannot be renewed
        self._taken: tuple[str, ...] = ()  # what was read when the list was somebody else's
        self._monitoring = True
        self._reload_at: float | None = None
        self._stopped = False
        self._wake: float | None = None

    # What happened

    def started(self, memory: bytes | None, seen: Instant | None, now: Instant) -> Step:
        self._blindness.begins(seen, "restarted")
        self._backfill.remembered(memory)
        self._talk.say(Condition("connecting"))
        self._entrance.login(now)
        return self._step()

    def opened(self, link: str, now: Instant) -> Step:
        if link in self._log.runs:
            self._log.opened(link, now)
        else:
            self._entrance.opened(link, now)
        return self._step()

    def received(self, link: str, frame: bytes, now: Instant) -> Step:
        if (updates := read_usual(frame)) is not None:
            ours = self._points.usual(updates, now)
            self._whose(ours, now)
            return self._talk.step(self._wake) if ours else self._step()  # nothing falls due earlier by what is ours
        log = link in self._log.runs
        if log and frame.strip() == END:
            self._log.ended(link, now)
            return self._step()
        told, unread = frames.read_entry(frame) if log else frames.read(frame)
        self._talk.say(*unread)
        for one in told:
            if log and isinstance(one, frames.Update):
                if link in self._log.runs:
                    self._log.told(link, one, now)
            else:
                self._told(one, now)
        return self._step()

    def answered(self, call: str, answer: Answer, now: Instant) -> Step:
        self._talk.answered(call, answer, now)
        return self._step()

    def ordered(self, command: Command, now: Instant) -> Step:
        if not self._entrance.telling or self._stopped:  # lost while the command was on its way here
            self._talk.fail(command, 503, "not_connected", "the connection was lost before it was sent")
        else:
            self._commands.orders.ordered(command, now)
        return self._step()

    def woken(self, now: Instant) -> Step:
        self._entrance.woken(now)
        self._commands.orders.woken(now)
        self._log.woken(now, self._commands.log_expired)
        self._backfill.woken(now)
        self._reads.woken(now)
        self._alarms.woken(now)
        if self._reload_at is not None and self._reload_at <= now.mono:
            self._reload_at = None
            self._catalogue.load()
        return self._step()

    def lost(self, link: str, loss: Loss, now: Instant) -> Step:
        if link in self._log.runs:
            self._log.lost(link, loss, now)
        else:
            self._entrance.lost(link, loss, now)
        return self._step()

    def stopped(self, now: Instant) -> Step:
        self._stopped = True
        self._backfill.stopped()
        self._commands.stopped(now)
        return self._step()

    def _step(self) -> Step:
        parts = (self._entrance, self._commands.orders, self._log, self._backfill, self._reads, self._alarms)
        due = [self._reload_at, *(part.due() for part in parts)]
        self._wake = min((one for one in due if one is not None), default=None)
        return self._talk.step(self._wake, self._backfill.remember())

    # In and out

    def _opened(self, now: Instant) -> None:
        """There is a new socket."""
        self._backfill.ask()
        self._send_list(now)

    def _entered(self, now: Instant) -> None:
        """There is a new session."""
        self._log.admitted(now)
        if not self._catalogue.begun:
            self._catalogue.load()
            self._resolve(now)
            self._talk.ask(Ask("GET", "/iap/version"), self._versioned)

    def _versioned(self, answer: Answer, now: Instant) -> None:
        """`4.30.015`; without an answer it counts as a recent one."""
        told = answers.value_of(answer) if answers.good(answer) else None
        parts = told.split(".") if isinstance(told, str) else []
        if parts and all(part.isdecimal() and part.isascii() and len(part) < 9 for part in parts):
            self._commands.release = tuple(map(int, parts))

    def _blind(self, loss: Loss, now: Instant) -> None:
        """Nothing is told any more."""
        self._blindness.begins(loss.seen, loss.error)
        self._backfill.blind()
        self._reads.rest()
        self._alarms.rest()
        self._taken = ()
        self._commands.orders.lost(now)
        self._subscription.cancel()
        self._send_list(now)  # for the socket of a renewal that is under way

    def _renewing(self, trouble: str | None, now: Instant) -> None:
        if trouble != self._renewal:
            self._renewal = trouble
            self._stand()

    def _stand(self) -> None:
        """How the backend stands, while it is told anything."""
        if not self._entrance.telling:
            return
        if self._entrance.barred is not None:
            self._talk.say(self._entrance.barred)
            return
        empty = bool(self._commands.globs) and not self._points.qualifiers
        why = (
            (_TAKEN if self._taken else None)
            or self._renewal
            or self._partial
            or self._catalogue.trouble
            or ("no datapoint of the platform fits `datapoints`" if empty else None)
        )
        self._talk.say(Condition("degraded", self._talk.clean(why)) if why else Condition("online"))

    # Which datapoints

    def _stuck(self, what: str, why: str) -> None:
        """On the way in; it is tried again."""
        if not self._entrance.telling:
            self._talk.say(Condition("connecting", self._talk.clean(f"the platform does not serve {what} now: {why}")))

    def _resolve(self, now: Instant) -> None:
        """One at a time: what changes meanwhile is looked at afterwards."""
        if self._resolving:
            self._again = True
            return
        self._resolving = True
        globs = self._commands.globs
        self._catalogue.resolve(globs, partial(self._wanted, globs), now)

    def _wanted(self, globs: tuple[str, ...], found: list[tuple[str, str | None]], now: Instant) -> None:
        self._resolving = False
        if globs is not self._commands.globs:  # another filter is in force meanwhile
            self._resolve(now)
            return
        before = self._points.qualifiers
        self._points.want(found)
        first, self._resolved = not self._resolved, True
        if first or self._points.qualifiers != before:
            self._send_list(now)
            if self._entrance.telling:
                self._read_new(before, now)
        elif self._entrance.telling:
            self._stand()
        self._count()
        missing = self._catalogue.trouble or (globs and not found)
        self._reload_at = now.mono + _RELOAD_S if missing else None
        if self._again:
            self._again = False
            self._resolve(now)

    def _count(self) -> None:
        """Once all is known: states of what was there before a restart, and is no more, are cleared."""
        devices = self._catalogue.subjects
        if devices and not self._counted:
            self._counted = True
            self._talk.say(Census(frozenset(devices | self._points.subjects | {ALARMS})))

    def _filtered(self, globs: tuple[str, ...], found: list[tuple[str, str | None]], now: Instant) -> None:
        """The filter is in force: the platform has its list already."""
        before = self._points.qualifiers
        self._commands.globs = globs
        self._points.want(found)
        self._partial = None
        self._read_new(before, now)
        self._stand()

    def _read_new(self, before: tuple[str, ...], now: Instant) -> None:
        known, wanted = set(before), self._points.qualifiers
        self._reads.also([one for one in wanted if one not in known], wanted, now)

    def _send_list(self, now: Instant) -> None:
        """Whenever there is a socket to send it for."""
        if self._resolved and self._entrance.is_open:
            self._subscription.send()

    def _settled(self, refusal: str | None, now: Instant) -> None:
        """The platform has the list."""
        self._partial = refusal
        ended = self._entrance.listed(now)
        self._stand()
        if self._taken:  # is it ours again? What is read before the platform has the list proves nothing
            self._reads.also(self._taken, self._points.qualifiers, now)
        if not ended:
            return
        gap = self._blindness.ends(now)
        if gap is not None:
            self._backfill.begin(gap, now, whole=self._catalogue.trouble is None)
            self._catalogue.load()
        self._reads.begin(self._points.qualifiers, now)
        self._alarms.read(now)
        self._talk.ask(Ask("GET", "/iap/dlaRules/monitoring"), self._monitored)

    def _monitored(self, answer: Answer, now: Instant) -> None:
        """Whether the platform polls; told where it is other than we know."""
        told = answers.value_of(answer) if answers.good(answer) else None
        if isinstance(told, bool) and told is not self._monitoring:
            self._monitoring = told
            self._talk.say(Event("", "monitoring", Monitoring(told)))

    # Whose list it is

    def _whose(self, ours: bool, now: Instant) -> None:
        """ours: an update of a subscribed datapoint."""
        if not ours:
            self._reads.doubt(now)
            return
        self._reads.heard(now)
        if self._taken:
            self._taken = ()
            self._stand()

    def _stolen(self, group: tuple[str, ...], now: Instant) -> None:
        self._taken = group
        self._stand()
        self._send_list(now)

    def _may_prove(self, qualifier: str) -> bool:
        """A device that is down is silent whoever has the list."""
        told = names.parts(qualifier)
        device = self._catalogue.named(*told[:3]) if told else None
        return device is None or device.data.health in (None, "normal")

    # What is told

    def _told(self, told: frames.Told, now: Instant) -> None:
        match told:
            case frames.Update():
                self._whose(self._points.told(told, now), now)
            case Device():
                self._device(told, now)
            case Alarm():
                self._alarms.raised(told, now)
            case frames.Gone(kind="alarm"):
                self._alarms.gone(told.ids, now)
            case frames.Gone():
                self._removed(told, now)
            case frames.Test():
                device = self._catalogue.device(told.device)
                self._talk.say(Event(device.subject if device else "", "test", told.data, None, told.extra))
            case _:
                self._other(told, now)

    def _device(self, told: Device, now: Instant) -> None:
        new = self._catalogue.is_new(told)
        whole = self._catalogue.seen(told, now)
        if new and whole.subject:
            self._resolve(now)
        elif new:
            self._catalogue.load()

    def _removed(self, told: frames.Gone, now: Instant) -> None:
        for id_ in told.ids:
            self._catalogue.removed(id_, told.extra, now)
        if told.ids:
            self._resolve(now)
        else:
            self._talk.say(Event("", "removed", Removed(), None, told.extra))
            self._catalogue.load()

    def _other(self, told: frames.Other, now: Instant) -> None:
        self._talk.say(Event("", told.type, told.data, told.time, told.extra, told.told))
        match told.data:
            case Load(kind, value):
                self._reads.load(kind, value)
            case Time():
                self._backfill.clock(told.time, now)
            case Monitoring(active):
                self._monitoring = active
            case Notification(target_name=str(name)):
                self._reads.excused(lambda qualifier: self._is_of(qualifier, name))

    def _is_of(self, qualifier: str, name: str) -> bool:
        """Whether a datapoint belongs to the device of this name."""
        told = names.parts(qualifier)
        device = self._catalogue.named(*told[:3]) if told else None
        return device is not None and device.data.name == name
