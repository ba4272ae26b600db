"""The election as tables of what was answered, and as random schedules of replicas that nothing goes well for.

Time is a number here: nobody waits.
"""

import heapq
import itertools
import json
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.election import NEVER, SEEN, Ask, Election, Heard, Timing
from bridge.model import Instant
from tests.support.kube import No, Store

ME, OTHER = "pod-a_1", "pod-b_2"
T0 = 1_709_622_990.0  # 2024-03-05T07:16:30Z
PATH = "/apis/coordination.k8s.io/v1/namespaces/iot/leases"


def at(mono: float, wall: float = T0) -> Instant:
    return Instant(mono, wall + mono)


def lease(holder: str | None, version: int = 7, renewed: float = 0.0, **spec: Any) -> bytes:
    second = int(renewed)
    told = {
        "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3,
        "acquireTime": "2024-03-05T07:00:00.000000Z", "renewTime": f"2024-03-05T07:16:{30 + second}.000000Z", **spec,
    }  # fmt: skip
    metadata = {"name": "bridge", "namespace": "iot", "resourceVersion": str(version), "labels": {"app": "x"}}
    return json.dumps({"metadata": metadata, "spec": told}).encode()


def election(timing: Timing | None = None) -> Election:
    return Election(ME, "iot", "bridge", timing or Timing(), jitter=lambda: 0.5)


def answer(one: Election, heard: Heard, began: float, now: float | None = None) -> tuple[Ask, float]:
    """Asks and is answered; the ask, and seconds until the next."""
    ask = one.ask(at(began), {})
    return ask, one.answered(ask, heard, at(began), at(began if now is None else now))


def sent(ask: Ask) -> Any:
    assert ask.body is not None
    return json.loads(ask.body)


def holding(since: float = 0.0) -> Election:
    """One that has just taken a free lease."""
    one = election()
    answer(one, Heard(200, lease("")), since)
    answer(one, Heard(200, lease(ME, 8)), since)
    assert one.until == since + 10
    return one


# Getting it


def test_it_makes_the_lease_where_there_is_none() -> None:
    one = election()
    look, pause = answer(one, Heard(404), 0.0)
    assert (look, pause) == (Ask("look"), 0.0)
    create, pause = answer(one, Heard(201, lease(ME)), 1.0, 1.5)
    assert (create.method, 1.6 <= pause <= 2.0) == ("POST", True)
    assert sent(create)["metadata"] == {"name": "bridge", "namespace": "iot"}
    assert sent(create)["spec"] == {
        "holderIdentity": ME, "leaseDurationSeconds": 15, "leaseTransitions": 0,
        "acquireTime": "2024-03-05T07:16:31.000000Z", "renewTime": "2024-03-05T07:16:31.000000Z",
    }  # fmt: skip
    assert (one.granted, one.until, one.ends) == (1.0, 11.0, 16.0), "counted from when the request was begun"
    assert one.inherited_all is None, "nobody led before"


def test_it_takes_one_that_was_given_back_at_once_and_keeps_what_it_does_not_know() -> None:
    one = election()
    _, pause = answer(one, Heard(200, lease("", renewed=1.0, preferredHolder="x")), 2.0)
    assert pause == 0.0
    take, _ = answer(one, Heard(200, lease(ME, 8)), 2.5)
    assert take.method == "PUT"
    assert sent(take)["metadata"]["resourceVersion"] == "7"
    assert sent(take)["metadata"]["labels"] == {"app": "x"}
    assert sent(take)["spec"]["preferredHolder"] == "x"
    assert (sent(take)["spec"]["leaseTransitions"], sent(take)["spec"]["holderIdentity"]) == (4, ME)
    assert one.until == 12.5


@pytest.mark.parametrize(("told", "patience"), [(15, 15.0), (60, 60.0), (1, 1.0), (None, 15.0)])
def test_it_waits_as_long_as_the_holder_was_promised(told: int | None, patience: float) -> None:
    """From when it was seen, however old renewTime says that it is."""
    one = election()
    silent = lease(OTHER, leaseDurationSeconds=told, renewTime="2001-01-01T00:00:00.000000Z")
    _, pause = answer(one, Heard(200, silent), 0.0)
    assert 0.6 <= pause <= 1.2
    now = 0.0
    while now + pause < patience:
        now += pause
        ask, pause = answer(one, Heard(200, silent), now)
        assert ask == Ask("look")
    assert now + pause == pytest.approx(patience), "not a moment later than it may"
    ask, _ = answer(one, Heard(200, lease(ME, 8)), patience)
    assert ask.method == "PUT"


def test_a_holder_that_goes_on_is_left_alone_and_other_changes_do_not_count() -> None:
    one = election()
    for second in range(0, 29, 2):
        ask, _ = answer(one, Heard(200, lease(OTHER, version=second, renewed=second)), float(second))
        assert ask == Ask("look")
    for second in range(30, 42, 2):  # somebody labels it, meanwhile
        ask, _ = answer(one, Heard(200, lease(OTHER, version=second, renewed=28)), float(second))
        assert ask == Ask("look")
    ask, _ = answer(one, Heard(200, lease(ME, 50)), 43.0)
    assert ask.method == "PUT"


def test_faster_ones_win() -> None:
    one = election()
    answer(one, Heard(200, lease("")), 0.0)
    ask, pause = answer(one, Heard(409), 0.0)
    assert (ask.method, pause, one.until) == ("PUT", 0.0, NEVER)
    ask, _ = answer(one, Heard(200, lease(OTHER, 8)), 0.0)
    assert (ask, one.holder, one.until) == (Ask("look"), OTHER, NEVER)


# Keeping it


def test_it_renews_and_says_since_when_it_holds() -> None:
    one = holding()
    take, _ = answer(one, Heard(200, lease(ME, 9)), 2.0)
    assert sent(take)["metadata"]["resourceVersion"] == "8"
    assert sent(take)["spec"]["acquireTime"] == "2024-03-05T07:00:00.000000Z"
    assert sent(take)["spec"]["renewTime"] == "2024-03-05T07:16:32.000000Z"
    assert sent(take)["spec"]["leaseTransitions"] == 3
    assert (one.granted, one.until, one.ends) == (2.0, 12.0, 17.0)


@pytest.mark.parametrize(
    "heard", [Heard(0, error="hung up"), Heard(500), Heard(200, b"<html>"), Heard(401), Heard(429)]
)
def test_without_a_usable_answer_nothing_is_given_and_nothing_is_taken(heard: Heard) -> None:
    one = holding()
    _, pause = answer(one, heard, 2.0, 4.0)
    assert (one.granted, one.until, one.ends) == (0.0, 10.0, 15.0)
    assert one.trouble
    assert 0.8 <= pause <= 1.2
    ask, pause = answer(one, Heard(200, lease(ME, 9)), 5.0)  # it was carried out after all
    assert (ask, pause, one.until) == (Ask("look"), 0.0, 10.0), "looking gives nothing"
    ask, _ = answer(one, Heard(200, lease(ME, 10)), 5.1)
    assert sent(ask)["metadata"]["resourceVersion"] == "9"
    assert (one.until, one.trouble) == (15.1, "")


def test_somebody_else_has_it() -> None:
    one = holding()
    _, pause = answer(one, Heard(409), 2.0)
    assert (pause, one.until) == (0.0, 10.0)
    answer(one, Heard(200, lease(OTHER, 9)), 2.0)
    assert (one.holder, one.until, one.ends) == (OTHER, NEVER, NEVER), "at once, whatever our clock says"


def test_the_lease_is_deleted() -> None:
    one = holding()
    _, pause = answer(one, Heard(404), 2.0)
    assert (pause, one.until) == (0.0, NEVER)
    ask, _ = answer(one, Heard(409), 2.0)
    assert ask.method == "POST"
    assert answer(one, Heard(200, lease(OTHER, 9)), 2.0)[0] == Ask("look")


def test_an_answer_that_comes_after_the_time_is_over_gives_nothing_to_do() -> None:
    """A paused process: what it asked for before was granted then."""
    one = holding()
    answer(one, Heard(200, lease(ME, 9)), 2.0, 60.0)
    assert (one.until, one.ends) == (12.0, 17.0)


def test_a_server_that_always_says_conflict_is_not_asked_without_a_pause() -> None:
    one = election()
    told = [Heard(409) if number % 2 else Heard(200, lease("", number)) for number in range(20)]
    pauses = [answer(one, heard, 0.0)[1] for heard in told]
    assert sum(pause > 0 for pause in pauses) >= 5


def test_retry_after_is_obeyed() -> None:
    assert answer(election(), Heard(429, after=7.0), 0.0)[1] == 7.0


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        (Heard(403, b'{"message":"leases is forbidden"}'), "leases is forbidden: the service account needs a Role"),
        (Heard(401), "HTTP 401 to GET: is the token"),
        (Heard(0, error="no route"), "no route"),
        (Heard(503, b"{"), "the API server answered HTTP 503 to GET"),
    ],
)
def test_trouble_names_the_remedy(heard: Heard, words: str) -> None:
    one = election()
    answer(one, heard, 0.0)
    assert words in one.trouble


# Giving it back


def test_it_is_given_back() -> None:
    one = holding()
    ask = one.give_back(at(3.0), {"lora": T0 + 2.5})
    assert (one.until, one.ends) == (NEVER, NEVER)
    assert ask is not None
    assert sent(ask)["spec"] == {
        "holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 3,
        "acquireTime": "2024-03-05T07:16:33.000000Z", "renewTime": "2024-03-05T07:16:33.000000Z",
    }  # fmt: skip
    assert json.loads(sent(ask)["metadata"]["annotations"][SEEN]) == {"lora": "2024-03-05T07:16:32.500000Z"}
    one.answered(ask, Heard(409), at(3.0), at(3.0))  # a renewal without an answer was carried out before
    look = one.give_back(at(3.1), {})
    assert look == Ask("look")
    one.answered(look, Heard(200, lease(ME, 9)), at(3.1), at(3.1))
    again = one.give_back(at(3.2), {})
    assert again is not None
    one.answered(again, Heard(200, lease("", 10)), at(3.2), at(3.2))
    assert one.give_back(at(3.3), {}) is None


@pytest.mark.parametrize("there", [Heard(200, lease("")), Heard(404)])
def test_a_request_in_flight_may_have_been_carried_out(there: Heard) -> None:
    """Stopped while it asks for the lease: it looks whether it has it."""
    one = election()
    answer(one, there, 0.0)
    assert one.ask(at(0.0), {}).action in ("take", "create")
    look = one.give_back(at(0.1), {})
    assert look == Ask("look")
    one.answered(look, Heard(200, lease(ME, 8)), at(0.1), at(0.1))
    back = one.give_back(at(0.2), {})
    assert back is not None
    assert sent(back)["spec"]["holderIdentity"] == ""


def test_where_there_is_no_lease_nothing_is_given_back() -> None:
    one = holding()
    one.ask(at(1.0), {})
    look = one.give_back(at(1.1), {})
    assert look is not None
    one.answered(look, Heard(404), at(1.1), at(1.1))
    assert one.give_back(at(1.2), {}) is None


def test_what_was_never_held_is_not_given_back() -> None:
    one = election()
    answer(one, Heard(200, lease(OTHER)), 0.0)
    assert one.give_back(at(1.0), {}) is None


# What is handed on


@pytest.mark.parametrize("skew", [0.0, 3600.0, -3600.0])
def test_since_when_nobody_hears_the_platforms(skew: float) -> None:
    """By our clock, whatever the other's says: it was renewed between two of our looks."""
    other = election()
    other.answered(other.ask(at(0.0), {}), Heard(404), at(0.0), at(0.0))
    ask = other.ask(Instant(0.0, T0 + skew + 9.0), {"lora": T0 + skew + 8.5, "old": T0 + skew - 600.0})
    record = sent(ask)
    record["metadata"]["resourceVersion"] = "8"
    one = election()
    answer(one, Heard(200, lease(OTHER)), 8.0)
    answer(one, Heard(200, json.dumps(record).encode()), 10.0)
    assert one.holder == ME  # the same name in this test: it is taken by the next ask
    answer(one, Heard(200, lease(ME, 9)), 11.0)
    assert 8.0 <= one.inherited["lora"] - T0 + 0.5 <= 10.0
    assert one.inherited["lora"] - one.inherited["old"] == pytest.approx(608.5)
    assert one.inherited_all is None


def test_who_led_before_was_of_another_kind() -> None:
    one = election()
    answer(one, Heard(200, lease(OTHER, renewed=4.0)), 5.0)
    answer(one, Heard(200, lease(ME, 9)), 30.0)
    assert (one.inherited, one.inherited_all) == ({}, T0 + 4.0)


# Random schedules: a world of its own, with one true time


@dataclass
class Replica:
    """offset, skew: of its clocks · paused: until then nothing runs in it."""

    name: str
    election: Election
    offset: float
    skew: float
    paused: float = 0.0
    ended: bool = False
    spans: list[tuple[float, float]] = field(default_factory=list)  # true times in which it was allowed to act


class World:
    """Replicas, a server that does what it wants, and a queue of what happens next."""

    def __init__(self, seed: int) -> None:
        self.random, self.store = random.Random(seed), Store()
        self.now, self.order = 0.0, itertools.count()
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.replicas = [self.replica(f"pod-{number}") for number in range(self.random.choice((2, 2, 3)))]
        self.bad = self.random.uniform(0.0, 0.5)
        self.out = [(begin, begin + self.random.uniform(1, 40)) for begin in self.times(3)]

    def times(self, count: int) -> list[float]:
        return [self.random.uniform(0, 300) for _ in range(count)]

    def replica(self, name: str) -> Replica:
        made = Election(f"{name}_{self.random.getrandbits(32):x}", "iot", "bridge", Timing(), self.random.random)
        replica = Replica(name, made, self.random.uniform(0, 1e6), self.random.uniform(-1e4, 1e4))
        self.at(self.random.choice((0.0, self.random.uniform(0, 5))), lambda: self.ask(replica))
        return replica

    def at(self, delay: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (self.now + delay, next(self.order), happens))

    def clock(self, one: Replica) -> Instant:
        return Instant(self.now + one.offset, T0 + self.now + one.skew)

    def run(self, until: float) -> None:
        for one in self.replicas:
            for moment in self.times(2):
                self.at(moment, lambda one=one: self.pause(one))  # type: ignore[misc]
            for moment in self.times(1):
                self.at(moment, lambda one=one: self.jump(one))  # type: ignore[misc]
        self.at(self.random.uniform(50, 300), lambda: self.leave(self.random.choice(self.replicas)))
        self.go(until)

    def go(self, until: float) -> None:
        while self.queue and self.queue[0][0] < until:
            self.now, _, happens = heapq.heappop(self.queue)
            happens()

    def pause(self, one: Replica) -> None:
        one.paused = self.now + self.random.choice((0.5, 3.0, 12.0, 16.0, 40.0))

    def jump(self, one: Replica) -> None:
        one.skew += self.random.choice((-3600.0, 3600.0, 20.0, -20.0))

    def leave(self, one: Replica) -> None:
        """SIGTERM: it gives back what it holds, and another process begins in its place."""
        if one.ended or one.paused > self.now:
            return
        one.ended = True
        self.allowed(one, self.now)
        ask = one.election.give_back(self.clock(one), {})
        if ask is not None and ask.action == "take":
            self.carried_out(ask)
        self.replicas.append(self.replica(f"{one.name}-again"))

    def allowed(self, one: Replica, until: float) -> None:
        """Its last span ends there: nothing was given since, and nothing is left."""
        if one.spans and one.spans[-1][1] > until:
            one.spans[-1] = (one.spans[-1][0], until)

    def ask(self, one: Replica) -> None:
        if one.ended:
            return
        if one.paused > self.now:
            self.at(one.paused - self.now, lambda: self.ask(one))
            return
        began = self.clock(one)
        ask = one.election.ask(began, {"lora": began.unix})
        fate = self.random.random()
        there = fate / 2 if fate < self.bad else self.random.uniform(0.0, 0.4)
        late = self.random.uniform(2.0, 20.0) if self.random.random() < 0.3 else there
        lost = any(begin < self.now < end for begin, end in self.out) or fate < self.bad
        heard = Heard(0, error="hung")
        if lost and self.random.random() < 0.5:
            self.at(late, lambda: self.answer(one, ask, began, self.carried_out(ask), silent=True))
        elif not lost:
            self.at(there, lambda: self.serve(one, ask, began))
            return
        self.at(2.0, lambda: self.answer(one, ask, began, heard))

    def serve(self, one: Replica, ask: Ask, began: Instant) -> None:
        heard = Heard(500) if self.random.random() < 0.05 else self.carried_out(ask)
        self.at(self.random.uniform(0.0, 0.4), lambda: self.answer(one, ask, began, heard))

    def carried_out(self, ask: Ask) -> Heard:
        path = PATH if ask.action == "create" else f"{PATH}/bridge"
        try:
            status, told = self.store.carry_out(ask.method, path, ask.body)
        except No as no:
            return Heard(no.code, json.dumps(no.body).encode())
        return Heard(status, json.dumps(told).encode())

    def answer(self, one: Replica, ask: Ask, began: Instant, heard: Heard, silent: bool = False) -> None:
        """silent: it was carried out, and nobody hears of it."""
        if silent or one.ended:
            return
        if one.paused > self.now:
            self.at(one.paused - self.now, lambda: self.answer(one, ask, began, heard))
            return
        granted = one.election.granted
        pause = one.election.answered(ask, heard, began, self.clock(one))
        if one.election.granted != granted:
            self.allowed(
                one, one.election.granted - one.offset
            )  # the old and the new one may overlap: they are its own
            one.spans.append((one.election.granted - one.offset, one.election.ends - one.offset))
        elif one.election.ends == NEVER:
            self.allowed(one, self.now)
        self.at(pause, lambda: self.ask(one))


SEED = secrets.randbits(32)


@pytest.mark.parametrize("number", range(100))
def test_never_two(number: int) -> None:
    """The times in which one may act, from the request that gave it to the end of the lease, overlap no other's."""
    seed = SEED + number
    print(f"World({seed})")
    world = World(seed)
    world.run(400.0)
    spans = sorted((*span, one.name) for one in world.replicas for span in one.spans)
    assert spans, "somebody led"
    for (_, end, who), (begin, _, other) in itertools.pairwise(spans):
        assert who == other or end <= begin + 1e-6, f"{who} and {other} at {begin}"


@pytest.mark.parametrize("number", range(10))
def test_there_is_one_again_soon_after_the_last(number: int) -> None:
    """A crash, with a server that answers: less than the lease and a few seconds."""
    print(f"World({SEED + number})")
    world = World(SEED + number)
    world.bad, world.out = 0.0, []
    world.go(60.0)
    leader = max((one for one in world.replicas if one.spans), key=lambda one: one.spans[-1][1])
    leader.ended, crashed = True, world.now
    world.go(120.0)
    begins = [begin for one in world.replicas if one is not leader for begin, _ in one.spans if begin > crashed]
    assert min(begins) < crashed + 15.0 + 5.0
