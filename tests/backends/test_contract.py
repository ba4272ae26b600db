"""The promises of a session, asked of every platform.

Garbage, half frames, wrong types, unknown fields, doubled frames, loss at any moment: it never raises, every Step can
be carried out, every command is answered exactly once.

A new platform is tested by adding its samples to samples.py.
"""

import json
import math
import re
from collections.abc import Callable
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bridge.backends import PLATFORMS
from bridge.backends.session import Answer, Call, CommandSpec, Dial, Hang, Loss, Send, Session, Step
from bridge.model import Census, Command, Condition, Event, Instant, Login, Response, State, Unread
from bridge.options import from_text, revealed
from bridge.payloads import Writer
from bridge.topics import level, matches, text_of, too_long
from tests.backends.sample import Samples
from tests.backends.samples import SAMPLES

SETTINGS = settings(
    deadline=None,
    derandomize=False,
    print_blob=True,
    max_examples=80,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
EPOCH = 1_709_622_990.0
RECORDED = "2024-03-05T07:16:30.101222Z"
CODES: dict[str, set[int]] = {
    "accepted": {202},
    "sent": {200, 202},
    "succeeded": {200},
    "failed": {502},
    "expired": {410},
    "rejected": {400, 403, 404, 409, 429, 503},
    "unknown": {408},
}
LOSSES = ("refused", "failed", "closed", "ping", "idle", "too_large", "asked")
HAPPENS = ("opened", "received", "received", "lost", "answered", "ordered", "woken", "stopped")
STATUSES = (0, 200, 201, 204, 302, 400, 401, 403, 404, 408, 429, 500, 503, 504)

# What no platform should say.

NASTY: list[Any] = [
    None, "", [], {}, True, False, 0, -1, 256, 12.0, 12.5, -0.0, 1e308, 2**53 + 1, 2**64, 10**30, -(10**30),
    float("nan"), float("inf"), "\ud800", "a/b+#%\0", "x" * 70_000, "١٢", "1_000", " 12 ", "1e300", "NaN", "-inf",
    "9" * 30, "9" * 5000, "[]", "{}", "[1,2]", '[{"mac":"\\ud800","rssi":1e999}]', "[" * 80 + "]" * 80,
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "2024-03-05T08:16:30.123456789+01:00", ["a", None],
    [["a"]], {"a": {"b": [1]}},
    [{"fieldname": "a"}], [{"fieldname": 1, "fieldvalue": 2}], {"\ud800": 1, "": 2, "a\0": 3},
]  # fmt: skip
KEYS = ("x", "", "type", "extra", "Extra", "MsgType", "commtype", "DevEUI", "Result", "Reference", "\ud800", "a" * 300)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something is, in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, one in inner for path in paths(one, (*at, key)))]


def replace(draw: st.DrawFn, container: Any, at: Any) -> None:
    container[at] = draw(st.sampled_from(NASTY))


def leave_out(draw: st.DrawFn, container: Any, at: Any) -> None:
    del container[at]


def add(draw: st.DrawFn, container: Any, at: Any) -> None:
    if isinstance(container[at], dict):
        container[at][draw(st.sampled_from(KEYS))] = draw(st.sampled_from(NASTY))
    elif isinstance(container[at], list):
        container[at].append(draw(st.sampled_from(NASTY)))


def rename(draw: st.DrawFn, container: Any, at: Any) -> None:
    if isinstance(container, dict):
        container[draw(st.sampled_from((str(at).upper(), str(at).lower(), *KEYS)))] = container.pop(at)


def wrap(draw: st.DrawFn, container: Any, at: Any) -> None:
    """Said as text, in a list, or twice."""
    told = container[at]
    container[at] = draw(st.sampled_from((json.dumps(told), [told], [told] * 2)))


CHANGES = (replace, replace, leave_out, add, rename, wrap)


@st.composite
def mutated(draw: st.DrawFn, frames: tuple[str, ...]) -> str:
    """A sample with something in it replaced, left out, added, renamed or said twice."""
    holder = [json.loads(draw(st.sampled_from(frames)))]
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths(holder)[1:] or [(0,)]))
        container: Any = holder
        for key in path[:-1]:
            container = container[key]
        draw(st.sampled_from(CHANGES))(draw, container, path[-1])
        holder = json.loads(json.dumps(holder)) or [None]
    return json.dumps(holder[0])


@st.composite
def deep(draw: st.DrawFn, frames: tuple[str, ...]) -> str:
    """A sample with a field nested deeper than anybody can read, or just so that it can be read."""
    depth = draw(st.sampled_from((10, 62, 63, 64, 65, 100, 400, 900, 3000)))
    opened, closed = draw(st.sampled_from((("[", "]"), ('{"a":', "}"))))
    inside = (
        opened * depth + ("1" if opened != "[" else "") + closed * draw(st.sampled_from((depth, depth, depth // 2)))
    )
    return draw(st.sampled_from((inside, draw(st.sampled_from(frames))[:-1] + ',"x":' + inside + "}")))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(NASTY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)


def any_frames(frames: tuple[str, ...]) -> st.SearchStrategy[bytes]:
    """What may come through a socket: mostly what the platform says, well or badly."""
    sample = st.sampled_from(frames)
    texts = st.one_of(
        sample,
        sample,
        mutated(frames),
        mutated(frames),
        deep(frames),
        JSON.map(json.dumps),
        st.lists(sample | st.sampled_from(("1", "null", "[]", "[{}]", "1e400", "NaN")), max_size=4).map(
            lambda told: f"[{','.join(told)}]"
        ),
        sample.map(lambda told: "\ufeff" + told),
    )
    whole = texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
    half = st.tuples(whole, st.integers(0, 400)).map(lambda cut: cut[0][: cut[1]])
    broken = st.tuples(whole, st.integers(0, 300), st.binary(min_size=1, max_size=3)).map(
        lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] + 1 :]
    )
    return st.one_of(whole, whole, whole, half, broken, st.binary(max_size=50))


def any_answers(answers: tuple[Answer, ...]) -> st.SearchStrategy[Answer]:
    made = st.builds(
        Answer,
        status=st.sampled_from(STATUSES),
        body=st.binary(max_size=20) | JSON.map(lambda value: json.dumps(value).encode()),
        headers=st.sampled_from(
            ((), (("retry-after", "5"),), (("retry-after", "soon"), ("content-type", "text/html")))
        ),
        error=st.text(max_size=3),
    )
    return made | st.sampled_from(answers) if answers else made


LOSS = st.builds(
    Loss,
    kind=st.sampled_from(LOSSES),
    error=st.text(max_size=5),
    seen=st.builds(Instant, st.floats(0, 1e6), st.floats(EPOCH - 1e6, EPOCH)),
    status=st.none() | st.sampled_from(STATUSES),
    after=st.none() | st.floats(0, 1000),
)
MEMORY = st.none() | st.binary(max_size=20)
SEEN = st.none() | st.builds(Instant, st.floats(0, 1e6), st.floats(EPOCH - 1e6, EPOCH))
WRITERS = [
    Writer(base="ws2mqtt", backend="b", platform="p", session="1", payload=payload, envelope=envelope)
    for payload in ("json", "msgpack")
    for envelope in ("structured", "binary")
]


class Talk:
    """A session and everything known of it; every Step is checked as it comes."""

    def __init__(self, word: str) -> None:
        self.platform, self.samples = PLATFORMS[word], SAMPLES[word]
        self.session: Session = self.platform.session(self.samples.options)
        self.now = Instant(1000.0, EPOCH)
        self.links: dict[str, bool] = {}  # dialled ones, and whether they are open
        self.calls: dict[str, Call] = {}
        self.open: dict[str, Command] = {}
        self.answered: set[str] = set()
        self.wake: float | None = None
        self.number = 0
        self.steps: list[Step] = []
        self.strict = True  # what happens is what a crossing lets happen
        self.checks: dict[type, Callable[[Any], None]] = {
            Event: self.event,
            State: self.state,
            Response: self.response,
            Unread: unread,
            Condition: condition,
            Login: lambda login: None,
            Census: census,
            Dial: self.dial,
            Send: self.send,
            Call: self.call,
            Hang: self.hang,
        }

    def later(self, seconds: float) -> None:
        self.now = Instant(self.now.mono + seconds, self.now.unix + seconds)

    def begin(self, memory: bytes | None = None, seen: Instant | None = None, *, reached: bool = True) -> None:
        """Starts the session; reached: the platform greets it, as far as it can."""
        self.carry(self.session.started(memory, seen, self.now))
        if reached:
            self.greet()

    def greet(self) -> None:
        """The platform takes every connection and every request, and says what it says first."""
        for _ in range(100):
            closed = [name for name, is_open in self.links.items() if not is_open]
            greeted = {id_: answer for id_, call in self.calls.items() if (answer := self.samples.greeting(call))}
            if not closed and not greeted:
                break
            for link in closed:
                if link in self.links:
                    self.links[link] = True
                    self.carry(self.session.opened(link, self.now))
            for id_, answer in greeted.items():
                self.answer(id_, answer)
        for frame in self.samples.opening:
            self.receive("main", frame.encode())

    def answer(self, id_: str, answer: Answer) -> None:
        if self.calls.pop(id_, None) is not None:
            self.carry(self.session.answered(id_, answer, self.now))

    def order(self, sample: int, timeout: float, expiry: float) -> None:
        asked = self.samples.commands[sample % len(self.samples.commands)]
        spec = next(spec for spec in self.platform.commands_of(self.samples.options) if spec.name == asked.name)
        self.number += 1
        deadline = self.now.mono + timeout
        command = Command(
            key=f"k{self.number}",
            name=asked.name,
            subject=asked.subject,
            body=body(spec, asked.fields),
            send_by=min(deadline, self.now.mono + expiry),
            deadline=deadline,
        )
        self.open[command.key] = command
        self.carry(self.session.ordered(command, self.now))

    def receive(self, link: str, frame: bytes, which: int = -1) -> None:
        """`{key}` in the frame becomes the key of an open command, of the last one if not told otherwise."""
        key = [*self.open, "none"][which % len(self.open) if self.open else -1]
        self.carry(self.session.received(link, frame.replace(b"{key}", key.encode()), self.now))

    def carry(self, step: Step) -> None:
        self.steps.append(step)
        for heard in step.heard:
            self.checks[type(heard)](heard)
        for do in step.do:
            self.checks[type(do)](do)
        assert step.wake is None or (isinstance(step.wake, float | int) and math.isfinite(step.wake))
        assert step.remember is None or isinstance(step.remember, bytes)
        if step.wake is not None:
            self.wake = step.wake if self.wake is None else min(self.wake, step.wake)

    def woken(self, now: Instant) -> None:
        self.wake = None
        self.carry(self.session.woken(now))

    def follow_wakes(self, until: float) -> None:
        """Time passes up to a moment, and the session is woken whenever it asks for it."""
        at_once = 0
        while self.wake is not None and self.wake <= until:
            if self.wake > self.now.mono:
                self.later(self.wake - self.now.mono)
                at_once = 0
            at_once += 1
            assert at_once < 50, "a wake in the past, again and again"
            self.woken(Instant(max(self.now.mono, self.wake), self.now.unix))

    # What is heard.

    def event(self, event: Event) -> None:
        if event.subject:
            subject(event.subject)
        assert event.type
        assert level(text_of(event.type)) == event.type
        assert event.time is None or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event.time, re.ASCII)
        for writer in WRITERS:
            message = writer.event(event, 1, RECORDED)
            assert message.topic.endswith(f"/event/{event.type}")
        said = strict_json(WRITERS[0].event(event, 1, RECORDED).payload)
        assert said["data"] == msgspec.json.decode(WRITERS[1].event(event, 1, RECORDED).payload)

    def state(self, state: State) -> None:
        subject(state.subject)
        payload = WRITERS[0].state(state).payload
        assert state.data is None if not payload else isinstance(strict_json(payload), dict)

    def response(self, response: Response) -> None:
        assert response.command not in self.answered, "answered after its final response"
        assert response.command in self.open, "a response to nobody's command"
        assert response.code in CODES[response.status]
        assert response.final == (response.code != 202)
        assert (response.error is None) == (response.code in (200, 202))
        strict_json(msgspec.json.encode(response))
        if response.final:
            del self.open[response.command]
            self.answered.add(response.command)

    # What is to be done.

    def dial(self, dial: Dial) -> None:
        self.links[dial.link] = False
        assert dial.after is None or dial.after >= 0

    def send(self, send: Send) -> None:
        revealed(send.frame).encode()
        if self.strict:
            assert self.links.get(send.link), "a frame for a link that is not open"

    def call(self, call: Call) -> None:
        assert call.id not in self.calls, "two calls of one id"
        assert call.deadline > 0
        self.calls[call.id] = call

    def hang(self, hang: Hang) -> None:
        self.links.pop(hang.link, None)


def body(spec: CommandSpec, fields: dict[str, Any]) -> Any:
    return msgspec.convert(fields, spec.body, dec_hook=from_text)


def subject(levels: str) -> None:
    for one in levels.split("/"):
        assert one
        assert level(text_of(one)) == one
    assert not too_long(levels) or len(levels) > 10_000


def unread(told: Unread) -> None:
    assert isinstance(told.frame, bytes)
    assert told.reason in ("not_json", "not_text", "wrong_shape", "too_large")


def condition(told: Condition) -> None:
    assert told.state in ("connecting", "online", "degraded", "offline", "auth_failed", "disabled")
    (told.error or "").encode()


def census(told: Census) -> None:
    assert told.subjects, "all that there is, rather than that all is gone"
    for one in told.subjects:
        subject(one)


def strict_json(payload: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(payload.decode(), parse_constant=refuse)


class Machine(RuleBasedStateMachine):
    """One platform's session in a crossing, with everything happening in any order that a crossing allows."""

    word: str

    def __init__(self) -> None:
        super().__init__()
        self.talk = Talk(self.word)

    @initialize(memory=MEMORY, seen=SEEN, reached=st.sampled_from((True, True, False)))
    def started(self, memory: bytes | None, seen: Instant | None, reached: bool) -> None:
        self.talk.begin(memory, seen, reached=reached)
        assert self.talk.links or self.talk.calls, "a session that begins with nothing"

    @precondition(lambda self: not all(self.talk.links.values()))
    @rule(data=st.data())
    def opened(self, data: st.DataObject) -> None:
        talk = self.talk
        link = data.draw(st.sampled_from(sorted(name for name, is_open in talk.links.items() if not is_open)))
        talk.links[link] = True
        talk.carry(talk.session.opened(link, talk.now))

    @precondition(lambda self: any(self.talk.links.values()))
    @rule(data=st.data(), times=st.sampled_from((1, 1, 1, 2)))
    def received(self, data: st.DataObject, times: int) -> None:
        talk = self.talk
        link = data.draw(st.sampled_from(sorted(name for name, is_open in talk.links.items() if is_open)))
        frame = data.draw(any_frames(talk.samples.frames))
        for _ in range(times):
            if talk.links.get(link):
                talk.receive(link, frame)

    @precondition(lambda self: any(self.talk.links.values()))
    @rule(data=st.data())
    def received_well_formed(self, data: st.DataObject) -> None:
        talk = self.talk
        link = data.draw(st.sampled_from(sorted(name for name, is_open in talk.links.items() if is_open)))
        talk.receive(link, data.draw(st.sampled_from(talk.samples.frames)).encode())

    @precondition(lambda self: self.talk.open and any(self.talk.links.values()))
    @rule(data=st.data())
    def received_about_a_command(self, data: st.DataObject) -> None:
        talk = self.talk
        about = [frame for frame in talk.samples.frames if "{key}" in frame]
        link = data.draw(st.sampled_from(sorted(name for name, is_open in talk.links.items() if is_open)))
        talk.receive(
            link, data.draw(st.sampled_from(about or talk.samples.frames)).encode(), data.draw(st.integers(0, 3))
        )

    @precondition(lambda self: self.talk.links)
    @rule(data=st.data(), loss=LOSS, chance=st.integers(0, 4))
    def lost(self, data: st.DataObject, loss: Loss, chance: int) -> None:
        if chance:
            return
        talk = self.talk
        link = data.draw(st.sampled_from(sorted(talk.links)))
        del talk.links[link]
        talk.carry(talk.session.lost(link, loss, talk.now))

    @precondition(lambda self: self.talk.calls)
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        talk = self.talk
        id_ = data.draw(st.sampled_from(sorted(talk.calls)))
        usual = talk.samples.greeting(talk.calls[id_])
        told = any_answers(talk.samples.answers)
        talk.answer(id_, data.draw(told if usual is None else st.just(usual) | told))

    @precondition(lambda self: self.talk.samples.commands)
    @rule(
        sample=st.integers(0, 20),
        timeout=st.sampled_from((10.0, 10.0, 20.0, 10.0, 1.5, 0.0)),
        expiry=st.sampled_from((60.0, 60.0, 60.0, 60.0, 5.0, -1.0)),
    )
    def ordered(self, sample: int, timeout: float, expiry: float) -> None:
        self.talk.order(sample, timeout, expiry)

    @rule(seconds=st.sampled_from((0.1, 1.0, 1.0, 7.0, 40.0)))
    def time_passes(self, seconds: float) -> None:
        self.talk.later(seconds)

    @rule()
    def woken_early_or_late(self) -> None:
        self.talk.woken(self.talk.now)

    @precondition(lambda self: self.talk.wake is not None)
    @rule()
    def woken_when_asked(self) -> None:
        self.talk.follow_wakes(self.talk.wake or 0.0)

    @invariant()
    def nobody_waits_without_a_timer(self) -> None:
        assert not self.talk.open or self.talk.wake is not None

    def teardown(self) -> None:
        talk = self.talk
        if talk.number % 2:
            last = max((command.deadline for command in talk.open.values()), default=0.0)
            self.talk.follow_wakes(last + 0.001)
            assert {command.name for command in talk.open.values()} <= talk.samples.outlive
        talk.carry(talk.session.stopped(talk.now))
        assert not talk.open, "commands without a final response"


@pytest.fixture(params=sorted(PLATFORMS))
def word(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_platform_has_samples() -> None:
    assert SAMPLES.keys() == PLATFORMS.keys()


def test_every_command_and_every_event_type_is_in_the_samples(word: str) -> None:
    samples, platform = SAMPLES[word], PLATFORMS[word]
    specs = platform.commands_of(samples.options)
    assert {command.name for command in samples.commands} == {spec.name for spec in specs}
    assert event_types(word, samples) - samples.other_types <= set(platform.events)


def event_types(word: str, samples: Samples) -> set[str]:
    talk = Talk(word)
    talk.begin()
    steps = [talk.session.received("main", frame.encode(), talk.now) for frame in samples.frames]
    return {heard.type for step in steps for heard in step.heard if isinstance(heard, Event)}


def test_every_command_lives_where_its_platform_says(word: str) -> None:
    for sample in SAMPLES[word].commands:
        specs = PLATFORMS[word].commands_of(SAMPLES[word].options)
        spec = next(spec for spec in specs if spec.name == sample.name)
        assert matches(spec.subject, sample.subject)


def test_in_any_order_every_step_can_be_carried_out_and_every_command_is_answered_once(word: str) -> None:
    machine = type(f"Machine_{word}", (Machine,), {"word": word})
    run_state_machine_as_test(machine, settings=SETTINGS)


@pytest.mark.parametrize("end", ["stopped", "lost", "lost and stopped", "silence"])
def test_a_command_is_answered_once_whatever_the_platform_says_to_it(word: str, end: str) -> None:
    """Every command, every two things that may be said to it, every end."""
    about = [frame for frame in SAMPLES[word].frames if "{key}" in frame]
    said = [(), *product(about), *product(about, repeat=2)]
    for sample, frames in product(range(len(SAMPLES[word].commands)), said):
        talk = Talk(word)
        talk.begin()
        talk.order(sample, 10.0, 60.0)
        for frame in frames:
            talk.receive("main", frame.replace("{key}", "k1").encode())
        if "lost" in end:
            del talk.links["main"]
            talk.carry(talk.session.lost("main", Loss("closed", "gone", talk.now), talk.now))
        if end == "silence":
            talk.follow_wakes(talk.now.mono + 1e6)
            assert not talk.open
        if end == "lost":
            assert {one.name for one in talk.open.values()} <= talk.samples.outlive | talk.samples.survive
        talk.carry(talk.session.stopped(talk.now))
        assert talk.answered == {"k1"}


def test_any_frame_at_all_is_heard_without_an_error(word: str) -> None:
    @given(st.lists(any_frames(SAMPLES[word].frames), min_size=1, max_size=4))
    @settings(SETTINGS, max_examples=300)
    def hear(frames: list[bytes]) -> None:
        talk = Talk(word)
        talk.begin()
        for frame in frames:
            for link in [name for name, is_open in talk.links.items() if is_open]:
                talk.receive(link, frame)

    hear()


@pytest.mark.parametrize("depth", [10, 60, 64, 65, 100, 300, 400, 500, 900, 1100, 10_000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
def test_a_frame_of_any_depth_is_heard_without_an_error(word: str, depth: int, opened: str, closed: str) -> None:
    inside = opened * depth + "1" + closed * depth
    talk = Talk(word)
    talk.strict = False
    talk.begin()
    text = json.dumps(inside)
    for frame in talk.samples.frames:
        for told in (inside, f"[{inside}]", *(f'{frame[:-1]},"{key}":{inside}}}' for key in ("x", "Extra")), text):
            talk.receive("main", told.encode())


def anything(talk: Talk, what: str, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """Something happens to a link that may not even exist."""
    session, frames, answers = talk.session, talk.samples.frames, talk.samples.answers
    link = draw(st.sampled_from((*sorted(talk.links), "other")))
    match what:
        case "opened":
            talk.carry(session.opened(link, talk.now))
        case "received":
            talk.receive(link, draw(any_frames(frames)))
        case "lost":
            talk.carry(session.lost(link, draw(LOSS), talk.now))
        case "answered":
            talk.carry(session.answered("nobody's", draw(any_answers(answers)), talk.now))
        case "ordered":
            talk.order(draw(st.integers(0, 20)), draw(st.floats(-1, 20)), draw(st.floats(-1, 20)))
        case "woken":
            talk.later(draw(st.floats(0, 60)))
            talk.woken(talk.now)
        case _:
            talk.carry(session.stopped(talk.now))
            assert not talk.open


def test_what_no_crossing_does_raises_no_error_either(word: str) -> None:
    """Opened twice, lost before it was opened, frames of unknown links, answers to calls that nobody made."""

    @given(st.lists(st.tuples(st.sampled_from(HAPPENS), st.data()), max_size=12))
    @settings(SETTINGS, max_examples=100)
    def happen(things: list[tuple[str, st.DataObject]]) -> None:
        talk = Talk(word)
        talk.strict = False
        talk.carry(talk.session.started(None, None, talk.now))
        for what, data in things:
            anything(talk, what, data.draw)
        talk.carry(talk.session.stopped(talk.now))
        assert not talk.open

    happen()


def test_a_session_says_the_same_to_the_same(word: str) -> None:
    """No clock, no chance: two sessions that hear the same answer with equal Steps."""
    samples = SAMPLES[word]

    def steps() -> list[Step]:
        talk = Talk(word)
        talk.begin()
        for frame in samples.frames:
            talk.carry(talk.session.received("main", frame.encode(), talk.now))
        return talk.steps

    assert steps() == steps()
