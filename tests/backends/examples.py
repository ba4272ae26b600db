"""Examples for the published document: what the samples of each platform become, by real sessions and the real writer.

`python -m tests.backends.examples > bridge/asyncapi/examples.json` makes them anew; a test says when that is due.
"""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import msgspec

from bridge.asyncapi import document
from bridge.backends import PLATFORMS
from bridge.backends.session import Loss
from bridge.command_fields import converted
from bridge.errors import BadCommand
from bridge.model import Event, Message, State
from bridge.payloads import Writer
from bridge.topics import join
from tests.backends.samples import SAMPLES
from tests.backends.test_contract import Talk

_BASE, _SESSION, _READ = "ws2mqtt", "1741000000000", "2025-03-03T11:06:41.101222Z"  # after all the samples


def examples() -> dict[str, Any]:
    """By the name of the channel, in order: of each the message that says most."""
    addresses = _addresses()
    found: dict[str, Any] = {}
    for word in PLATFORMS:
        for message in (*_said(word), *_asked(word)):
            name = next((name for name, address in addresses if address.fullmatch(message.topic)), None)
            if name is not None and message.payload:
                told = msgspec.json.decode(message.payload)
                found[name] = max(found.get(name, told), told, key=_says)
    return dict(sorted(found.items()))


def _says(message: Any) -> tuple[int, int]:
    """How many fields it has, and how long it is."""
    return len(message.get("data", message)), len(msgspec.json.encode(message))


def _addresses() -> list[tuple[str, re.Pattern[str]]]:
    """Those with the fewest parameters first."""
    channels = sorted(document()["channels"].items(), key=lambda one: one[1]["address"].count("{"))
    return [(name, re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(one["address"])))) for name, one in channels]


def _said(word: str) -> Iterator[Message]:
    """Of a talk for each frame, of one for each command, and the gap of one that was interrupted."""
    frames = SAMPLES[word].frames
    talks = [_talk(word, [frame]) for frame in frames if "{key}" not in frame]
    talks += [_talk(word, frames, command) for command in range(len(SAMPLES[word].commands))]
    told = [[one for step in talk.steps for one in step.heard if isinstance(one, Event | State)] for talk in talks]
    told.append(_gap(word))
    writer = Writer(base=_BASE, backend=word, platform=word, session=_SESSION)
    for heard in told:
        for number, one in enumerate(heard, 1):
            yield writer.event(one, number, _READ) if isinstance(one, Event) else writer.state(one)


def _talk(word: str, frames: Sequence[str], command: int | None = None) -> Talk:
    talk = Talk(word)
    talk.begin()
    if command is not None:
        talk.order(command, 10.0, 60.0)
        talk.greet()
    for link, frame in product(list(talk.links), [*frames, *frames]):  # the second time the command has been taken
        talk.receive(link, frame.encode())
    return talk


def _gap(word: str) -> list[Event | State]:
    talk = _talk(word, ())
    del talk.links["main"]
    talk.carry(talk.session.lost("main", Loss("closed", "closed by the platform", talk.now), talk.now))
    talk.later(20.0)
    talk.greet()
    for frame in SAMPLES[word].frames:
        talk.receive("main", frame.encode())
    heard = [one for step in talk.steps for one in step.heard]
    return [one for one in heard if isinstance(one, Event) and one.type == "gap"]


def _asked(word: str) -> Iterator[Message]:
    for sample in SAMPLES[word].commands:
        spec = next(one for one in PLATFORMS[word].commands_of(SAMPLES[word].options) if one.name == sample.name)
        try:
            spec.check(converted(sample.fields, spec.body))
        except BadCommand:
            continue
        topic = join(_BASE, word, sample.subject, "command", sample.name)
        yield Message(topic, msgspec.json.encode(sample.fields))


def written() -> str:
    """As it stands in the file."""
    return json.dumps(examples(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(written(), end="")
