"""Many hours with a platform that has a session's life, a list per user, a log and bad luck; every value is accounted.

The clock is the test's. What the platform says is numbered, so that a lost value has a number.
"""

import json
import random
from bisect import bisect_right
from collections import deque
from typing import Any
from urllib.parse import parse_qsl

import pytest

from bridge.backends.session import Answer, Call
from bridge.backends.smartserver.moments import moment
from bridge.options import Duration
from bridge.times import rfc3339, unix
from tests.backends.smartserver.hq import LAMP, LUX, OK, Hq, told

HALF_S = 1800.0  # of a session
TICK_S = 20.0
HOURS = 12


class World:
    """A platform in the shape of answers: sessions, a list per user, a log of everything, misfortune."""

    def __init__(self, seed: int) -> None:
        self.luck = random.Random(seed)
        self.cookies: dict[str, float] = {}  # and when they end
        self.log: list[tuple[str, int, str]] = []
        self.pending: deque[Any] = deque()
        self.list: set[str] = set()
        self.number = 0
        self.hq = Hq(
            {
                "POST /iap/auth/login": self.login,
                "GET /iap/auth/sessionTimeout": self.within(told(2 * HALF_S * 1000)),
                "PUT /iap/dp": self.subscribe,
                "POST /iap/auth/logout": self.logout,
                "GET /iap/devs/*/if": self.read,
                "GET /iap/alarms": self.within(told([])),
            },
            poll=(None, Duration(120.0))[seed % 2],
        )
        self.hq.opens = lambda link: True

    def login(self, call: Call) -> Answer:
        name = f"c{len(self.cookies)}"
        self.cookies[name] = self.hq.now.mono + 2 * HALF_S
        return Answer(200, b"{}", (("set-cookie", f"cmsSID={name}"),))

    def stands(self, call: Any) -> bool:
        return self.cookies.get(call.headers["Cookie"].reveal().partition("=")[2], 0.0) > self.hq.now.mono

    def within(self, answer: Answer) -> Any:
        return lambda call: answer if self.stands(call) else Answer(401)

    def logout(self, call: Call) -> Answer:
        self.cookies[call.headers["Cookie"].reveal().partition("=")[2]] = 0.0  # type: ignore[union-attr]
        return OK

    def subscribe(self, call: Call) -> Answer:
        if not self.stands(call):
            return Answer(401)
        self.list = set(json.loads(call.body if isinstance(call.body, bytes) else b""))
        return OK

    def read(self, call: Call) -> Answer:
        """An update follows, if the list is ours."""
        if not self.stands(call):
            return Answer(401)
        self.pending.append(None)
        return told([])

    def speak(self) -> None:
        """A value on every general socket of a session that stands, if it is listed; in the log in any case."""
        hq = self.hq
        self.number += 1
        qualifier, time = self.luck.choice((LUX, LAMP)), rfc3339(hq.now.unix)
        self.log.append((qualifier, self.number, time))
        if qualifier in self.list:
            for link in sorted(hq.opened & {"main", "main-2"}):
                if link in hq.opened:
                    hq.value(self.number, qualifier, link, timestamp=time)

    def serve_log(self) -> None:
        """Whatever log is asked for, with its end, or without."""
        hq = self.hq
        for link in [one for one in hq.opened if one.startswith("log")]:
            asked = dict(parse_qsl(str(hq.links[link].url).partition("?")[2]))
            since, _, until = asked["value"].removeprefix("*+utc>").partition("&utc<=")
            since, until = moment(since, "UTC") or "", moment(until, "UTC") or ""
            first = bisect_right(self.log, since, key=lambda one: one[2])
            for qualifier, number, time in self.log[first : bisect_right(self.log, until, key=lambda one: one[2])]:
                if link in hq.opened:
                    hq.receive({"dpQualifier": qualifier, "utc": time, "value": number}, link)
            if link in hq.opened:
                hq.lose(link) if self.luck.random() < 0.2 else hq.receive(b'"end"', link)

    def misfortune(self) -> None:
        hq = self.hq
        match self.luck.randrange(150):
            case 0 | 1:
                for link in sorted(hq.opened & {"main", "main-2"}):
                    hq.lose(link)
            case 2:
                self.list = set()  # another program
            case 3:
                for name in self.cookies:
                    self.cookies[name] = 0.0
            case _:
                pass

    def tick(self) -> None:
        hq = self.hq
        hq.later(self.luck.uniform(0.1, TICK_S))
        for link in [name for name, dial in hq.links.items() if name not in hq.opened and dial.again]:
            if self.stands(hq.links[link]):
                hq.open(link).settle()
            else:
                hq.lose(link, "refused", 401)
        for call in [one for one in hq.calls.values() if one.again or one.after]:
            if call.id in hq.calls and (answer := hq.answer_to(call)) is not None:
                hq.answer(call, answer).settle()
        if self.pending:
            self.pending.clear()
            self.speak()
        self.speak()
        self.serve_log()


@pytest.mark.parametrize("seed", range(4))
def test_every_value_of_many_hours_is_accounted_for(seed: int) -> None:
    """Told, or within a gap that says so, or while the list was somebody else's (which the state says)."""
    world = World(seed)
    hq = world.hq.start()
    taken: list[tuple[float, float]] = []
    while hq.now.mono < 1000 + HOURS * 3600:
        ours = bool(world.list)
        since = hq.now.unix
        world.tick()
        if not ours or not world.list:
            taken.append((since, hq.now.unix))
        world.misfortune()
    for _ in range(100):  # a quiet end
        world.tick()
    assert hq.condition == ("online", None)
    said = {one.data.value for one in hq.events("value")}
    partial = [one.data for one in hq.events("gap") if one.data.backfill == "partial"]
    missing = [one for one in world.log if one[1] not in said]
    unexplained = [
        one for one in missing
        if not any(start <= unix(one[2]) <= end for start, end in taken)
        and not any(gap.since <= one[2] <= gap.until for gap in partial)
    ]  # fmt: skip
    assert not unexplained, f"{len(unexplained)} of {len(world.log)}: {unexplained[:5]}"
    assert len(said) > 0.7 * len(world.log)
    assert hq.logins().count("ok") > HOURS
    closed = [one.data.backfill for one in hq.events("gap")]
    assert closed.count("started") == closed.count("done") + closed.count("partial")
    assert len(hq.links) == 1
    assert len(hq.calls) <= 1
