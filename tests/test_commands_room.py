"""The room between MQTT message and session (bridge.commands), alone: plain values in, responses and orders out."""

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from bridge.backends.resiot.options import ResiotOptions
from bridge.backends.resiot.session import COMMANDS, ResiotSession
from bridge.backends.session import CommandSpec
from bridge.broker import Incoming
from bridge.command_fields import MAX_PAYLOAD, converted, fields_of
from bridge.commands import COMMON, MAX_DEPTH, MAX_LINE, Commands, NoFields, filters
from bridge.errors import BadCommand, Fatal
from bridge.model import Command, CommandError, Instant, Message, Response
from bridge.options import CommandOptions, Rate, Secret
from bridge.topics import matches
from bridge.watch.metrics import Histogram, commands_table, count_command
from tests.support import PATIENCE_S

PREFIX = "home/ws/lora"
DEVICE = "application/70b3d57ed0001122/device/a81758fffe0a0b0c"
DOWNLINK = f"{PREFIX}/{DEVICE}/command/downlink"
SPECS = (*COMMANDS, *COMMON, CommandSpec("slow", NoFields), CommandSpec("broken", NoFields))
GOOD = {"f_port": 1, "text": "a"}
STATUSES = {
    200: {"succeeded", "sent"},
    **{code: {"rejected"} for code in (400, 403, 404, 409, 429, 503)},
    408: {"unknown"},
    410: {"expired"},
    502: {"failed"},
}


ENDS: Mapping[str, tuple[str, int, bool]] = {
    "accept": ("accepted", 202, False),
    "answer": ("sent", 200, True),
    "fail": ("failed", 502, True),
}


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.mono = 1000.0

    def __call__(self) -> Instant:
        return Instant(self.mono, 1_700_000_000.0 + self.mono)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("bridge.commands.instant", made)
    return made


@dataclass
class Room:
    """A room, and what came out of it."""

    rate: float = 5.0
    allow: tuple[str, ...] = ("*",)
    why: str | None = None  # not ready
    said: list[Message] = field(default_factory=list)
    orders: list[Command] = field(default_factory=list)
    local: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    broken: BaseException | None = None

    def __post_init__(self) -> None:
        self.counts = commands_table([spec.name for spec in SPECS])
        self.commands = Commands(
            base="home/ws",
            prefix=PREFIX,
            session="s",
            specs=SPECS,
            local={
                "reconnect": lambda _: self.local.append("reconnect"),
                "pause": lambda _: self.local.append("pause"),
                "resume": lambda _: self.local.append("resume"),
                "slow": self._slow,
                "broken": self._broken,
            },
            options=CommandOptions(allow=self.allow, rate=Rate(self.rate)),
            publish=self.said.append,
            counts=self.counts,
            seconds=Histogram((1.0,)),
            ready=lambda: self.why,
            order=self.orders.append,
        )

    async def _slow(self, _: object) -> str:
        await self.gate.wait()
        return "done"

    def _broken(self, _: object) -> None:
        if self.broken is not None:
            raise self.broken

    def send(self, body: object = None, topic: str = DOWNLINK, **properties: Any) -> "Heard":
        payload = body if isinstance(body, bytes) else json.dumps(GOOD if body is None else body).encode()
        heard = Heard(self, len(self.said), len(self.orders))
        self.commands.arrived(Incoming(topic, payload, properties.pop("retain", False), **properties))
        return heard

    def done(self, command: Command, status: Any = "sent", code: int = 200, final: bool = True) -> None:
        self.commands.respond(Response(command.key, status, code, final, data={"reference": command.key}))

    @property
    def finals(self) -> list[dict[str, Any]]:
        return [told for message in self.said if (told := json.loads(message.payload))["final"]]


@dataclass
class Heard:
    """What came out since a command went in."""

    room: Room
    _said: int
    _orders: int

    @property
    def messages(self) -> list[Message]:
        return self.room.said[self._said :]

    @property
    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(message.payload) for message in self.messages]

    @property
    def codes(self) -> list[int]:
        return [answer["code"] for answer in self.answers]

    @property
    def orders(self) -> list[Command]:
        return self.room.orders[self._orders :]


@pytest.fixture
async def room(clock: Clock) -> Room:
    return Room()


async def turns(count: int = 5) -> None:
    """Lets everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


# Any message


def levels() -> st.SearchStrategy[str]:
    text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/+#\0"), max_size=6)
    return st.one_of(st.sampled_from(["application", "device", "a", "", "command", "response", "%"]), text)


@st.composite
def topics(draw: st.DrawFn) -> str:
    """Any topic that the subscriptions let through."""
    if draw(st.booleans()):
        return f"{PREFIX}/{draw(st.sampled_from(['', DEVICE + '/']))}command/{draw(names())}"
    subject = draw(st.lists(levels(), max_size=MAX_DEPTH))
    return "/".join([PREFIX, *subject, "command", draw(st.one_of(names(), levels()))])


def names() -> st.SearchStrategy[str]:
    return st.sampled_from([spec.name for spec in SPECS])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(
    st.sampled_from([*COMMANDS[0].body.__struct_fields__, "id", "timeout", "idempotency_key", "x", "a`b", ""]),
    st.one_of(JSON, st.sampled_from([1, 5.0, "10s", "0s", "ff01", "/w==", "9" * 400 + "d", "a\n", 2**70, -0.0, True])),
    max_size=6,
)


def payloads() -> st.SearchStrategy[bytes]:
    good = FIELDS.map(lambda told: json.dumps({**GOOD, **told}).encode())
    cut = good.flatmap(lambda text: st.integers(0, len(text)).map(lambda end: text[:end]))
    deep = st.sampled_from([b"[", b'{"id":', b'{"f_port":[']).map(lambda one: one * 3000)
    other = JSON.map(lambda told: json.dumps(told).encode())
    return st.one_of(st.binary(max_size=40), good, FIELDS.map(lambda told: json.dumps(told).encode()), cut, deep, other)


RESPONSE_TOPICS = st.one_of(
    st.none(),
    st.sampled_from(["my/answers", "", "a/+", "#", DOWNLINK, "home/ws", "home/ws/", "/"]),
    st.text(max_size=9),
)


@settings(max_examples=400, deadline=None)
@given(
    topics(),
    payloads(),
    st.booleans(),
    RESPONSE_TOPICS,
    st.none() | st.binary(max_size=9),
    st.sampled_from([None, 0, 9]),
)
def test_any_message_gets_exactly_one_final_response(
    topic: str, payload: bytes, retain: bool, answers: str | None, correlation: bytes | None, expiry: int | None
) -> None:
    async def check() -> None:
        room = Room()
        room.gate.set()
        room.commands.arrived(Incoming(topic, payload, retain, answers, correlation, expiry))
        await turns()
        assert len(room.orders) + len(room.finals) <= 1
        for command in room.orders:
            room.done(command, "accepted", 202, final=False)
            room.done(command)
        [final] = room.finals
        assert final["status"] in STATUSES[final["code"]]
        assert final["command"] == topic.rpartition("/")[2]
        plain = "/".join([*topic.split("/")[:-2], "response", topic.rpartition("/")[2]])
        assert {message.topic for message in room.said} <= {plain, answers}
        assert sum(room.counts.values()) == 1
        if retain:
            assert not room.orders
            assert not room.local

    asyncio.run(check())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.sampled_from(["k", "l", ""]), st.sampled_from(["0s", "1s", "1h"])),
            st.tuples(
                st.sampled_from(["local", "slow", "answer", "accept", "fail", "later", "gone", "back", "abandon"])
            ),
        ),
        max_size=150,
    ),
    st.sampled_from([1.0, 5.0, 1000.0]),
)
def test_whatever_happens_each_command_ends_once(happenings: list[tuple[str, ...]], rate: float) -> None:
    """Commands come, are answered or not, time passes, the backend goes and comes, and at the end the program stops."""

    async def check() -> None:
        room, clock = Room(rate=rate), Clock()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bridge.commands.instant", clock)
            sent = 0
            for what, *told in happenings:
                sent += what in ("send", "local", "slow")
                happens(room, clock, what, told, sent)
                await turns(2)
            room.commands.stop()
            room.commands.abandon("the end")
            await turns(2)
            ids = [final["id"] for final in room.finals]
            assert sorted(ids) == list(range(1, sent + 1))
            keys = [command.key for command in room.orders]
            assert len(set(keys)) == len(keys)
            answers = [json.loads(message.payload) for message in room.said]
            for number in ids:
                assert [answer["final"] for answer in answers if answer["id"] == number][-1]

    asyncio.run(check())


def happens(room: Room, clock: Clock, what: str, told: list[str], number: int) -> None:
    match what:
        case "send":
            key = {"idempotency_key": told[0]} if told[0] else {}
            room.send({**GOOD, "id": number, "timeout": told[1], **key})
        case "local" | "slow":
            room.send({"id": number}, f"{PREFIX}/command/{'pause' if what == 'local' else 'slow'}")
        case "later":
            clock.mono += 0.7
            room.commands._again()
        case "gone" | "back":
            room.why = "offline" if what == "gone" else None
        case "abandon":
            room.commands.abandon("a bug")
        case _:
            for command in room.orders[-1:]:
                room.done(command, *ENDS[what])


# Topics


def test_the_subscriptions_hear_commands_and_nothing_of_our_own() -> None:
    heard = filters(PREFIX)
    for depth in range(MAX_DEPTH + 1):
        topic = "/".join([PREFIX, *["x"] * depth, "command", "go"])
        assert sum(matches(one, topic) for one in heard) == 1
    for own in ("state", "event/gap", f"{DEVICE}/event/up", f"{DEVICE}/state", "dead/not_json", "response/x"):
        assert not any(matches(one, f"{PREFIX}/{own}") for one in heard)
    assert filters("b/bridge", 0) == ["b/bridge/command/+"]


async def test_where_responses_go(room: Room) -> None:
    assert room.send({}).messages[0].topic == f"{PREFIX}/{DEVICE}/response/downlink"
    assert room.send({}, f"{PREFIX}/command/").messages[0].topic.endswith("/response/")
    told = room.send({}, response_topic="my/answers", correlation=b"\0\xff").messages[0]
    assert told.topic == "my/answers"
    assert told.properties.endswith(b"\x09\x00\x02\x00\xff")
    assert room.send({}, correlation=b"").messages[0].properties.endswith(b"\x09\x00\x00")
    assert b"\x09\x00" not in room.send({}).messages[0].properties


@pytest.mark.parametrize(
    ("topic", "taken"),
    [
        ("my/answers", True),
        ("home/ws/lora/answers", True),
        ("home/ws", True),
        ("home/wsx/command/a", True),
        ("command/a", True),
        ("home/ws/lora/command/a", False),
        ("home/ws/bridge/command/ping", False),
        ("home/ws/other/x/y/command/a", False),
        ("home/ws/command/a", False),
        ("a/+/b", False),
        ("a/#", False),
        ("", False),
    ],
)
async def test_which_response_topic_is_taken(room: Room, topic: str, taken: bool) -> None:
    heard = room.send({"id": 1, **GOOD}, response_topic=topic, correlation=b"c")
    assert len(heard.orders) == taken
    if not taken:
        assert heard.messages[0].topic == f"{PREFIX}/{DEVICE}/response/downlink"
        assert heard.messages[0].properties.endswith(b"\x09\x00\x01c")
        assert (heard.codes, heard.answers[0]["id"]) == ([400], 1)


# What is asked of the session


async def test_a_command_is_handed_over_as_it_was_said(room: Room, clock: Clock) -> None:
    [command] = room.send({**GOOD, "timeout": "3s", "id": 5}, expiry=60).orders
    assert (command.name, command.subject, command.body.text) == ("downlink", DEVICE, "a")
    assert (command.send_by, command.deadline) == (clock.mono + 3, clock.mono + 3)
    [command] = room.send(expiry=4).orders
    assert (command.send_by, command.deadline) == (clock.mono + 4, clock.mono + 10)


async def test_keys_are_unique_in_the_process_and_fit_for_a_reference(room: Room) -> None:
    keys = [one.send().orders[0].key for one in (room, Room(), Room()) for _ in range(3)]
    assert len(set(keys)) == 9
    assert all(len(key) <= 32 and key.replace("-", "").isalnum() for key in keys)


async def test_after_the_final_response_nothing_more_is_said(room: Room) -> None:
    heard = room.send()
    for _ in range(2):
        room.done(heard.orders[0])
    room.done(heard.orders[0], "unknown", 408)
    assert heard.codes == [200]
    room.commands.respond(Response("s-0", "sent", 200))
    room.commands.abandon("late")
    assert heard.codes == [200]


async def test_abandon_answers_only_what_the_session_had(room: Room) -> None:
    given_ = [room.send({**GOOD, "id": n}) for n in range(5)]
    waiting = room.send({**GOOD, "id": 5})
    slow = room.send({}, f"{PREFIX}/command/slow")
    room.commands.abandon("an internal error")
    finals = list(room.finals)
    assert [(final["id"], final["code"], final["status"]) for final in finals] == [
        (n, 408, "unknown") for n in range(5)
    ]
    assert finals[0]["error"]["message"] == "an internal error"
    assert not slow.codes[5:]
    assert len(given_[-1].orders) == 1
    room.commands.stop()
    assert room.finals[5]["id"] == waiting.answers[-2]["id"] == 5


def test_a_session_that_has_ended_refuses_what_was_on_its_way_to_it() -> None:
    """As a pause may do: nobody would ever answer it."""
    session = ResiotSession(ResiotOptions(url=Secret("ws://platform/")))
    now = Instant(1.0, 1.0)
    session.started(None, None, now)
    session.opened("main", now)
    body = COMMANDS[0].body(f_port=1, text="a")
    taken = session.ordered(Command("k-1", "downlink", DEVICE, body, 9.0, 9.0), now)
    assert [(one.code, one.final) for one in taken.heard if isinstance(one, Response)] == [(202, False)]
    ended = session.stopped(now)
    assert [(one.code, one.final) for one in ended.heard if isinstance(one, Response)] == [(408, True)]
    late = session.ordered(Command("k-2", "downlink", DEVICE, body, 9.0, 9.0), now)
    assert [(one.code, one.final) for one in late.heard if isinstance(one, Response)] == [(503, True)]
    assert late.do == ()


# Order and rate


async def test_a_burst_at_once_a_hundred_in_line_the_rest_refused(room: Room, clock: Clock) -> None:
    heard = [room.send({**GOOD, "id": n, "timeout": "1h"}) for n in range(5 + MAX_LINE)]
    assert len(room.orders) == 5
    assert not room.said
    over = room.send({**GOOD, "id": "over"})
    assert (over.codes, over.answers[0]["error"]["kind"]) == ([429], "too_fast")
    for second in range(20):
        clock.mono += 1.0
        room.commands._again()
        assert len(room.orders) == 5 + 5 * (second + 1)
    assert [command.key for command in room.orders] == sorted(
        (command.key for command in room.orders), key=lambda key: int(key.rpartition("-")[2])
    )
    assert not heard[0].codes[1:]


@pytest.mark.parametrize("name", ["reconnect", "pause", "resume"])
async def test_what_the_bridge_does_itself_does_not_wait_behind_the_platforms_line(room: Room, name: str) -> None:
    for _ in range(5 + MAX_LINE):
        room.send({**GOOD, "timeout": "1h"})
    assert room.send().codes == [429]
    heard = room.send({}, f"{PREFIX}/command/{name}")
    await turns()
    assert heard.codes == [200]
    assert room.local == [name]
    assert len(room.orders) == 5


async def test_what_the_bridge_does_itself_has_a_rate_too(room: Room, clock: Clock) -> None:
    for _ in range(5 + MAX_LINE):
        room.send({"timeout": "1h"}, f"{PREFIX}/command/reconnect")
    await turns()
    assert len(room.local) == 5
    assert room.send({}, f"{PREFIX}/command/reconnect").codes == [429]
    clock.mono += 1.0
    room.commands._again()
    await turns()
    assert len(room.local) == 10
    room.commands.stop()
    await turns()
    assert Counter(one["code"] for one in room.finals) == {200: 10, 429: 1, 503: 95}


async def test_a_burst_never_saves_up_more_than_one_second(room: Room, clock: Clock) -> None:
    clock.mono += 3600
    for _ in range(8):
        room.send()
    assert len(room.orders) == 5


@pytest.mark.parametrize("rate", [1 / 60, 0.5, 1.0])
async def test_a_slow_rate_still_lets_one_go(clock: Clock, rate: float) -> None:
    room = Room(rate=rate)
    room.send()
    room.send({**GOOD, "timeout": "1h"})
    assert len(room.orders) == 1
    clock.mono += 1 / rate + 0.001
    room.commands._again()
    assert len(room.orders) == 2


async def test_what_runs_out_in_line_is_told_at_once_and_costs_no_turn(room: Room, clock: Clock) -> None:
    for _ in range(5):
        room.send()
    brief, long = room.send({**GOOD, "timeout": "100ms", "id": "brief"}), room.send({**GOOD, "id": "long"})
    clock.mono += 0.1
    room.commands._again()
    assert [(one["id"], one["code"], one["status"]) for one in brief.answers] == [("brief", 410, "expired")]
    assert not long.orders
    clock.mono += 0.1
    room.commands._again()
    assert len(long.orders) == 1
    fresh = Room()
    for _ in range(20):
        assert fresh.send({**GOOD, "timeout": "0s"}).codes == [410]
        assert fresh.send(expiry=0).codes == [410]
    assert len(fresh.send().orders) == 1


async def test_the_line_moves_by_itself() -> None:
    """By the real clock: 5/s, so the sixth waits 200 ms; and where the next turn is an hour away, time runs out."""
    room, still = Room(), Room(rate=1 / 3600)
    for _ in range(5):
        room.send()
    last = room.send()
    still.send()
    brief = still.send({**GOOD, "timeout": "5ms", "id": "brief"})
    async with asyncio.timeout(PATIENCE_S):
        while not last.orders or not brief.codes:
            await asyncio.sleep(0.001)
    assert (brief.codes, brief.orders) == ([410], [])


async def test_a_backend_that_went_away_meanwhile(room: Room, clock: Clock) -> None:
    for _ in range(5):
        room.send()
    waiting = room.send()
    room.why = "offline"
    assert not waiting.codes
    clock.mono += 0.2
    room.commands._again()
    assert (waiting.codes, waiting.answers[0]["error"]["kind"]) == ([503], "not_connected")
    assert not waiting.orders


async def test_what_takes_no_time_to_refuse_is_refused_before_the_line(room: Room) -> None:
    for _ in range(6):
        room.send()
    assert room.send({}).codes == [400]
    assert room.send(topic=f"{PREFIX}/command/x").codes == [404]
    room.why = "disabled"
    refused = room.send()
    assert refused.codes == [503]
    assert "disabled" in refused.answers[0]["error"]["message"]


# What is refused, and in which order it is looked at


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, 503),
        ({"body": {**GOOD, "f_port": 0}}, 400),
        ({"allow": ("re*",)}, 403),
        ({"topic": f"{PREFIX}/a/command/downlink"}, 404),
        ({"topic": f"{PREFIX}/{DEVICE}/command/x"}, 404),
        ({"retain": True}, 400),
    ],
    ids=["not connected", "invalid", "not allowed", "wrong subject", "unknown", "retained"],
)
async def test_what_is_wrong_with_the_command_counts_before_the_backends_state(
    clock: Clock, change: Mapping[str, Any], code: int
) -> None:
    room = Room(allow=change.get("allow", ("*",)), why="offline")
    heard = room.send(change.get("body"), change.get("topic", DOWNLINK), retain=change.get("retain", False))
    assert heard.codes == [code]


@pytest.mark.parametrize(
    ("allow", "taken"),
    [(("*",), True), ((), False), (("downlink",), True), (("down*",), True), (("re*", "d?wnlink"), True),
     (("Downlink",), False), (("reconnect",), False)],
)  # fmt: skip
async def test_which_commands_are_allowed(clock: Clock, allow: tuple[str, ...], taken: bool) -> None:
    room = Room(allow=allow)
    heard = room.send()
    assert len(heard.orders) == taken
    assert heard.codes == ([] if taken else [403])
    assert room.send({"id": 1}, f"{PREFIX}/command/x").codes == [404]  # there is none, allowed or not


async def test_a_retained_command_that_is_not_json_is_refused_too(room: Room) -> None:
    assert room.send(b"on", retain=True).codes == [400]
    assert room.send({}, f"{PREFIX}/command/pause", retain=True).codes == [400]
    assert not room.local


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        (b"", {}),
        (b"{}", {}),
        (b' {"a": 1} ', {"a": 1}),
        (b'{"a":1.0,"b":[2.5,3e2],"c":-0.0}', {"a": 1, "b": [2.5, 300], "c": 0}),
        (b'{"a":12345678901234567890.0}', {"a": 12345678901234567890.0}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"{}" + b" " * (MAX_PAYLOAD - 2), {}),
    ],
)
def test_what_a_payload_says(payload: bytes, fields: dict[str, Any]) -> None:
    told = fields_of(payload)
    assert told == fields
    assert json.dumps(told) == json.dumps(fields)


@pytest.mark.parametrize(
    "payload", [b"{}" + b" " * (MAX_PAYLOAD - 1), b"null", b"[]", b"\xff", b'{"a":1e999}', b"{'a':1}"]
)
def test_what_is_no_payload(payload: bytes) -> None:
    with pytest.raises(BadCommand) as caught:
        fields_of(payload)
    assert caught.value.code == 400


# What the bridge does itself


@pytest.mark.parametrize("why", [None, "offline", "auth_failed", "disabled", "connecting"])
async def test_the_crossings_own_commands_are_carried_out_in_every_state(room: Room, why: str | None) -> None:
    room.why = why
    for name in ("reconnect", "pause", "resume"):
        heard = room.send({"id": name}, f"{PREFIX}/command/{name}")
        await turns()
        assert [(one["id"], one["status"], one["code"]) for one in heard.answers] == [(name, "succeeded", 200)]
    assert room.local == ["reconnect", "pause", "resume"]
    assert not room.orders


async def test_one_that_takes_its_time(room: Room) -> None:
    heard = room.send({}, f"{PREFIX}/command/slow")
    await turns()
    assert not heard.codes
    room.gate.set()
    await turns()
    assert [(one["code"], one["data"]) for one in heard.answers] == [(200, "done")]


@pytest.mark.parametrize("started", [False, True])
async def test_a_stop_answers_what_the_bridge_was_doing(room: Room, started: bool) -> None:
    heard = room.send({}, f"{PREFIX}/command/slow")
    await turns(2 if started else 0)
    room.commands.stop()
    await turns()
    assert [(one["status"], one["code"]) for one in heard.answers] == [("unknown", 408)]


async def test_a_stop_answers_the_line_and_takes_nothing_more(room: Room) -> None:
    for n in range(7):
        room.send({**GOOD, "id": n})
    room.commands.stop()
    assert [(one["id"], one["code"], one["error"]["kind"]) for one in room.finals] == [
        (5, 503, "stopping"),
        (6, 503, "stopping"),
    ]
    assert room.send({**GOOD, "id": 7}).codes == [503]
    assert len(room.orders) == 5


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadCommand("no", code=409, kind="k"), "rejected", 409),
        (BadCommand("no", code=410, kind="k"), "expired", 410),
        (BadCommand("no", code=502, kind="k"), "failed", 502),
        (Fatal("cannot listen"), "failed", 502),
    ],
)
async def test_one_that_fails(room: Room, error: BaseException, status: str, code: int) -> None:
    room.broken = error
    heard = room.send({}, f"{PREFIX}/command/broken")
    await turns()
    assert [(one["status"], one["code"]) for one in heard.answers] == [(status, code)]
    assert heard.answers[0]["error"]["message"] == str(error)


async def test_a_bug_is_answered_and_not_hidden(room: Room) -> None:
    bugs: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: bugs.append(context["exception"]))
    room.broken = ZeroDivisionError("secret")
    heard = room.send({}, f"{PREFIX}/command/broken")
    await turns()
    assert [(one["status"], one["code"]) for one in heard.answers] == [("unknown", 408)]
    assert "secret" not in json.dumps(heard.answers)
    gc.collect()  # only then it is told
    assert [type(bug) for bug in bugs] == [ZeroDivisionError]


# Idempotency


async def test_a_key_is_remembered_for_ten_minutes(room: Room, clock: Clock) -> None:
    body = {**GOOD, "idempotency_key": "k"}
    first = room.send(body)
    room.done(first.orders[0])
    clock.mono += 599.9
    again = room.send({**body, "id": 7}, response_topic="mine", correlation=b"c")
    assert not again.orders
    assert (again.codes, again.answers[0]["id"], again.messages[0].topic) == ([200], 7, "mine")
    assert again.answers[0]["data"] == first.answers[0]["data"]
    clock.mono += 0.2
    assert len(room.send(body).orders) == 1


async def test_a_key_that_runs_longer_does_not_disturb_its_successor(room: Room, clock: Clock) -> None:
    body = {**GOOD, "idempotency_key": "k"}
    old = room.send(body).orders[0]
    clock.mono += 601
    new = room.send(body).orders[0]
    room.done(old, "unknown", 408)
    assert room.send(body).codes == [409]  # the new one still runs
    room.done(new)
    assert room.send(body).codes == [200]


async def test_an_old_refusal_does_not_forget_the_successor(room: Room, clock: Clock) -> None:
    body = {**GOOD, "idempotency_key": "k"}
    old = room.send(body).orders[0]
    clock.mono += 601
    new = room.send(body).orders[0]
    room.done(old, "rejected", 409)
    assert room.send(body).codes == [409]
    room.done(new)
    assert room.send(body).codes == [200]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"text": "a", "f_port": 1}, 200),
        ({"text": "a", "f_port": 1.0}, 200),
        ({"text": "a", "f_port": 1, "timeout": "1m"}, 200),
        ({"text": "a", "f_port": 1, "id": "other"}, 200),
        ({"text": "b", "f_port": 1}, 409),
        ({"text": "a", "f_port": 1, "confirmed": False}, 409),
        ({"text": "a", "f_port": 1, "f_prot": 1}, 400),
    ],
)
async def test_what_is_the_same_body(room: Room, body: dict[str, Any], code: int) -> None:
    room.done(room.send({**GOOD, "idempotency_key": "k"}).orders[0])
    again = room.send({**body, "idempotency_key": "k"})
    assert (again.codes, again.orders) == ([code], [])


@pytest.mark.parametrize("end", [("succeeded", 200), ("failed", 502), ("unknown", 408)])
async def test_what_was_or_may_have_been_carried_out_is_remembered(room: Room, end: tuple[str, int]) -> None:
    body = {**GOOD, "idempotency_key": ""}
    room.done(room.send(body).orders[0], *end)
    again = room.send(body)
    assert [(one["status"], one["code"]) for one in again.answers] == [end]
    assert not again.orders


@pytest.mark.parametrize("end", [("rejected", 503), ("expired", 410)])
async def test_what_was_not_carried_out_frees_its_key(room: Room, end: tuple[str, int]) -> None:
    body = {**GOOD, "idempotency_key": "k"}
    room.done(room.send(body).orders[0], *end)
    assert len(room.send(body).orders) == 1


async def test_a_refusal_before_the_session_frees_the_key_too(room: Room) -> None:
    body = {**GOOD, "idempotency_key": "k"}
    room.why = "offline"
    assert room.send(body).codes == [503]
    room.why = None
    assert len(room.send(body).orders) == 1


async def test_an_answer_from_memory_works_while_the_backend_is_away(room: Room) -> None:
    body = {**GOOD, "idempotency_key": "k"}
    room.done(room.send(body).orders[0])
    room.why = "offline"
    assert room.send(body).codes == [200]


async def test_a_key_belongs_to_its_topic(room: Room) -> None:
    body = {**GOOD, "idempotency_key": "k"}
    other = DOWNLINK.replace("0c/", "0d/")
    assert len(room.send(body).orders) == len(room.send(body, other).orders) == 1


async def test_no_more_keys_than_10_000(clock: Clock) -> None:
    room = Room(rate=1e6)
    for n in range(10_001):
        room.done(room.send({**GOOD, "idempotency_key": f"k{n}"}).orders[0])
    assert len(room.commands._once) == 10_000
    assert room.send({**GOOD, "idempotency_key": "k10000"}).codes == [200]


# Counting


async def test_each_end_is_counted_once_by_name_and_status(room: Room) -> None:
    room.done(room.send().orders[0])
    room.send({})
    room.send({}, f"{PREFIX}/command/nonsense")
    room.send({}, f"{PREFIX}/command/pause")
    await turns()
    assert {key: count for key, count in room.counts.items() if count} == {
        ("downlink", "sent"): 1,
        ("downlink", "rejected"): 1,
        ("other", "rejected"): 1,
        ("pause", "succeeded"): 1,
    }


async def test_an_error_of_the_session_is_passed_on(room: Room) -> None:
    command = room.send().orders[0]
    error = CommandError("refused", "in its own words", "f_port", False)
    room.commands.respond(Response(command.key, "failed", 502, error=error))
    assert room.finals[0]["error"] == {
        "kind": "refused",
        "message": "in its own words",
        "field": "f_port",
        "value": False,
    }


class Inner(Struct, forbid_unknown_fields=True):
    a: int


class Outer(Struct, forbid_unknown_fields=True):
    inners: list[Inner] = []


@pytest.mark.parametrize(
    ("fields", "field", "kind"),
    [
        ({"inners": [{}]}, "inners[0].a", "missing_field"),
        ({"inners": [{"a": 1, "b": 2}]}, "inners[0].b", "unknown_field"),
        ({"b`c": 1}, "b`c", "unknown_field"),
    ],
)
def test_a_field_within_a_field_is_named_with_its_way(fields: dict[str, Any], field: str, kind: str) -> None:
    with pytest.raises(BadCommand) as bad:
        converted(fields, Outer)
    assert (bad.value.field, bad.value.kind) == (field, kind)


def test_commands_are_counted_under_each_end_that_they_can_have() -> None:
    table = commands_table(["downlink", "write", "pause"])
    ends = {name: {status for one, status in table if one == name} for name, _ in table}
    assert ends == {
        "downlink": {"sent", "succeeded", "failed", "expired", "rejected", "unknown"},
        "write": {"succeeded", "failed", "expired", "rejected", "unknown"},
        "pause": {"succeeded", "expired", "rejected"},
        "other": {"succeeded", "failed", "expired", "rejected", "unknown"},
    }
    for name, status in (("write", "failed"), ("no-such", "rejected"), ("no-such", "sent"), ("pause", "unknown")):
        count_command(table, name, status)
    assert {place: count for place, count in table.items() if count} == {
        ("write", "failed"): 1,
        ("other", "rejected"): 1,
        ("other", "unknown"): 2,
    }
