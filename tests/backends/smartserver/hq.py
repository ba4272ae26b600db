"""A session in a world of answers: what it asks is answered from a table, what it dials is opened; no I/O, own clock.

Answers are by method and the beginning of the path, the test's own first, the longest one wins. None: not answered
until the test does it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from bridge.backends.session import Answer, Call, Dial, Hang, Loss, Step
from bridge.backends.smartserver import PLATFORM
from bridge.backends.smartserver.options import SmartserverOptions
from bridge.backends.smartserver.session import SmartserverSession
from bridge.model import Command, Condition, Event, Instant, Login, Response, State, Unread
from bridge.options import Duration, Secret, from_text
from bridge.payloads import Writer
from bridge.times import rfc3339

URL = "https://hq.example"
LUX = "17qz7ab/lon/4/LightSensor/0/nvoLuxLevel"
LAMP = "17qz7ab/lon/4/Lamp/0/nviValue"
LUX_SUBJECT = "17qz7ab/dev/lon/4/if/LightSensor/0/nvoLuxLevel"
LAMP_SUBJECT = "17qz7ab/dev/lon/4/if/Lamp/0/nviValue"
DEVICE_SUBJECT = "17qz7ab/dev/lon/4"
DEVICE: dict[str, Any] = {
    "name": "MS-Lobby", "category": "EDGE", "id": 12, "status": {"state": "provisioned", "health": "normal"},
    "scId": "17qz7ab", "uid": "04A1B2C3D4F0", "protocol": "lon", "deviceTypeName": "LobbySensorType", "DID": "4",
}  # fmt: skip
METER: dict[str, Any] = {**DEVICE, "name": "Meter", "id": 13, "protocol": "modbus", "DID": "2.1"}
POINTS: list[dict[str, Any]] = [
    {"dpQualifier": LUX, "value": 1, "lon": {"cfg": {"unit": "lux"}}},
    {"dpQualifier": LAMP, "value": {"value": 0, "state": 0}},
]
EPOCH = 1_740_903_300.0  # 2025-03-02T08:15:00Z
OK = Answer(204)

Table = Mapping[str, Answer | Callable[[Call], Answer | None] | None]


def told(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode())


def cookie(name: str = "one") -> Answer:
    return Answer(200, b"{}", (("set-cookie", f"cmsSID={name}; Path=/; HttpOnly"),))


ANSWERS: dict[str, Any] = {
    "POST /iap/auth/login": cookie(),
    "POST /iap/auth/logout": OK,
    "GET /iap/auth/sessionTimeout": told(86_400_000),
    "GET /iap/cms/info/time": Answer(404),
    "GET /iap/version": told({"type": "CMS", "value": "4.30.015"}),
    "GET /iap/devs": told([DEVICE, METER]),
    "GET /iap/devs/12/if/*/*/*/*": told(POINTS),
    "GET /iap/devs/13/if/*/*/*/*": told([]),
    "GET /iap/devs/*/if/*/*/*+qualifier": told([]),
    "PUT /iap/dp/updates/subscribe": OK,
    "GET /iap/alarms": told([]),
    "GET /iap/dlaRules/monitoring": told({"value": True}),
    "PUT /iap": None,
    "DELETE /iap": None,
}


class Hq:
    """heard: everything the session said, in order · done: everything it did · lively: reads bring updates."""

    def __init__(self, answers: Table | None = None, **options: Any) -> None:
        given = {"datapoints": ("*/lon/*/*/*/*",), **options}
        self.options = SmartserverOptions(url=URL, username="mqttbridge", password=Secret("pw"), **given)
        self.session = SmartserverSession(self.options)
        self.answers: dict[str, Any] = {**(answers or {})}
        self.now = Instant(1000.0, EPOCH)
        self.heard: list[Any] = []
        self.done: list[Any] = []
        self.calls: dict[str, Call] = {}
        self.links: dict[str, Dial] = {}
        self.opened: set[str] = set()
        self.opens: Callable[[str], bool] = lambda link: True
        self.wake: float | None = None
        self.remembered: bytes | None = None
        self.lively = False
        self._orders = 0

    # What happens

    def start(self, memory: bytes | None = None, seen: Instant | None = None) -> "Hq":
        self._carry(self.session.started(memory, seen, self.now))
        return self.settle()

    def settle(self) -> "Hq":
        """Until nothing is left that can be opened or answered at once."""
        kept: set[str] = set()  # those that are left to the test
        while True:
            closed = [name for name, dial in self.links.items() if name not in self.opened and self._at_once(dial)]
            ready = [one for one in self.calls.values() if self._at_once(one) and one.id not in kept]
            if not closed and not ready:
                return self
            for link in closed:
                if link in self.links:
                    self.open(link)
            for call in ready:
                if self.calls.get(call.id) is not call:
                    continue
                if (answer := self.answer_to(call)) is None:
                    kept.add(call.id)
                else:
                    self.answer(call, answer)
                    self._lively(call)

    def _lively(self, call: Call) -> None:
        link = next((one for one in ("main", "main-2") if one in self.opened), None)
        if self.lively and link and "qualifier=-" in call.url:
            self.value(self.now.mono, link=link)

    def _at_once(self, do: Call | Dial) -> bool:
        return do.again is None and not do.after and (isinstance(do, Call) or self.opens(do.link))

    def answer_to(self, call: Call) -> Answer | None:
        asked = path_of(call)
        for table in (self.answers, ANSWERS):
            found = max((one for one in table if asked.startswith(one)), key=len, default=None)
            if found is not None:
                break
        answer = table[found] if found is not None else None
        return answer(call) if callable(answer) else answer

    def answer(self, call: Call | str, answer: Answer) -> "Hq":
        """This call, or the first whose path begins so."""
        if isinstance(call, str):
            call = next(one for one in self.calls.values() if path_of(one).startswith(call))
        del self.calls[call.id]
        self._carry(self.session.answered(call.id, answer, self.now))
        return self

    def open(self, link: str) -> "Hq":
        self.opened.add(link)
        self._carry(self.session.opened(link, self.now))
        return self

    def receive(self, frame: Any, link: str = "main") -> "Hq":
        data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
        self._carry(self.session.received(link, data, self.now))
        return self.settle()

    def tell(self, action: str, payload: Any, link: str = "main") -> "Hq":
        return self.receive({"action": action, "payload": payload}, link)

    def value(self, value: Any, qualifier: str = LUX, link: str = "main", **fields: Any) -> "Hq":
        """An update, stamped with the present time unless told otherwise."""
        stamp = {"timestamp": rfc3339(self.now.unix), **fields}
        return self.tell("UPD:DATAPOINT", [{"datapointQualifier": qualifier, "value": value, **stamp}], link)

    def lose(
        self, link: str = "main", kind: Any = "closed", status: int | None = None, seen_before: float = 0.0, **more: Any
    ) -> "Hq":
        """seen_before: seconds since its last sign of life."""
        self.links.pop(link, None)
        self.opened.discard(link)
        seen = Instant(self.now.mono - seen_before, self.now.unix - seen_before)
        loss = Loss(kind, "the connection broke", seen, status, **more)
        self._carry(self.session.lost(link, loss, self.now))
        return self.settle()

    def later(self, seconds: float) -> "Hq":
        """Time passes; the session is woken whenever it asks for it."""
        until = self.now.mono + seconds
        while self.wake is not None and self.wake <= until:
            self._pass(max(0.0, self.wake - self.now.mono))
            self._carry(self.session.woken(self.now))
            self.settle()
        self._pass(until - self.now.mono)
        return self

    def _pass(self, seconds: float) -> None:
        self.now = Instant(self.now.mono + seconds, self.now.unix + seconds)

    def order(self, name: str, subject: str = "", timeout: float = 10.0, **fields: Any) -> str:
        spec = next(one for one in PLATFORM.commands if one.name == name)
        body = msgspec.convert(fields, spec.body, dec_hook=from_text)
        spec.check(body)
        self._orders += 1
        key, deadline = f"k{self._orders}", self.now.mono + timeout
        command = Command(key, name, subject, body, deadline, deadline, id=f"id{self._orders}")
        self._carry(self.session.ordered(command, self.now))
        self.settle()
        return key

    def stop(self) -> "Hq":
        self._carry(self.session.stopped(self.now))
        return self

    def _carry(self, step: Step) -> None:
        self.heard += step.heard
        self.done += step.do
        self.wake = step.wake
        self.remembered = step.remember or self.remembered
        for do in step.do:
            match do:
                case Call():
                    assert do.id not in self.calls
                    self.calls[do.id] = do
                case Dial():
                    assert do.link not in self.links, "dialled while it is there"
                    self.links[do.link] = do
                case Hang():
                    self.links.pop(do.link, None)
                    self.opened.discard(do.link)

    # What was seen

    def of(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.heard if isinstance(one, kind)]

    def events(self, *types: str) -> list[Any]:
        return [one for one in self.of(Event) if one.type in types]

    def states(self, subject: str) -> list[Any]:
        return [one.data for one in self.of(State) if one.subject == subject]

    def values(self, qualifier: str = LUX) -> list[Any]:
        return [one.data.value for one in self.events("value") if one.data.datapoint == qualifier]

    @property
    def condition(self) -> Any:
        last: Condition = self.of(Condition)[-1]
        return last.state, last.error

    def logins(self) -> list[str]:
        return [one.outcome for one in self.of(Login)]

    def response(self, key: str) -> Response | None:
        """The final one."""
        found = [one for one in self.of(Response) if one.command == key]
        assert len(found) <= 1
        return found[0] if found else None

    def unread(self) -> list[str]:
        return [one.reason for one in self.of(Unread)]

    def asked(self, beginning: str = "") -> list[Call]:
        return [one for one in self.done if isinstance(one, Call) and path_of(one).startswith(beginning)]

    def lists(self) -> list[list[str]]:
        """Every list of datapoints that was sent."""
        return [json.loads(call.body) for call in self.asked("PUT /iap/dp/updates") if isinstance(call.body, bytes)]

    def ids(self, type_: str = "value") -> list[str]:
        """The ids that these events get."""
        writer = Writer(base="b", backend="hq", platform="smartserver", session="1")
        made = [
            writer.event(one, number, "2025-03-02T08:15:00.000000Z") for number, one in enumerate(self.events(type_))
        ]
        return [json.loads(one.payload)["id"] for one in made]


def path_of(call: Call) -> str:
    return f"{call.method} {call.url.removeprefix(URL)}"


def online(answers: Table | None = None, **options: Any) -> Hq:
    hq = Hq(answers, **options).start()
    assert hq.condition == ("online", None)
    return hq


POLL = Duration(60.0)
