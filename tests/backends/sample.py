"""What each platform says and takes: the material of the contract suite.

`{key}` in a frame stands for the key of a command that is open; the frames are ours, in the platform's shape.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from bridge.backends.session import Answer, Call
from bridge.options import BackendOptions


class SampleCommand(Struct, frozen=True):
    """A command as its sender writes it, well or badly, and where it goes."""

    name: str
    subject: str
    fields: dict[str, Any]


class Samples(Struct, frozen=True):
    """Of one platform.

    frames: what it says, well-formed · answers: to HTTP calls · outlive: commands that may stay open after their
    deadline, or a loss, once the platform has answered · other_types: event types of the frames that no list names.
    frames: what it says, well-formed, on the link "main" · answers: to HTTP calls, of any kind · greeting: how it
    answers what is asked until the session is online, None: not at all · opening: what it says on the open link until
    then · outlive: commands that may stay open after their deadline, once the platform has answered · survive: commands
    that a loss does not end, since they go another way.
    """

    options: BackendOptions
    frames: tuple[str, ...]
    commands: tuple[SampleCommand, ...]
    answers: tuple[Answer, ...] = ()
    outlive: frozenset[str] = frozenset()
    other_types: frozenset[str] = frozenset()
    greeting: Callable[[Call], Answer | None] = lambda call: None
    opening: tuple[str, ...] = ()
    survive: frozenset[str] = frozenset()
