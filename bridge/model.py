"""The nouns of the house: what is heard, what is said, and how the world is told.

Everything here is a frozen value. `Event`, `State`, `Unread`, `Condition`, `Login`, `Census` and `Response` are
what a session hears; `Message` is what leaves by the MQTT door; `Command` is what comes in by it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct


class Instant(Struct, frozen=True, order=True, array_like=True, gc=False):
    """A moment, by both clocks.

    mono: seconds that only ever go forward: for deadlines and timers · unix: seconds since 1970: for what people read.
    """

    mono: float
    unix: float


class Event(Struct, frozen=True, gc=False):
    """Something that happened on a platform.

    subject: topic levels as written (percent-encoded, see topics.level), "" without one · type: the event type ·
    data: a Struct with the contract's field names, or finished JSON · time: RFC 3339 UTC with six digits, when the
    platform says it happened, None when it does not say · extra: the platform's fields that we do not know ·
    told: what identity is made of where that is not all of `data` · replay: from history.
    """

    subject: str
    type: str
    data: Struct | Raw
    time: str | None = None
    extra: Mapping[str, Any] | None = None
    told: bytes | None = None
    replay: bool = False


class State(Struct, frozen=True, gc=False):
    """The latest picture of a subject; `data` None: the subject is gone."""

    subject: str
    data: Struct | Raw | None


UnreadReason = Literal["not_json", "not_text", "wrong_shape", "too_large"]


class Unread(Struct, frozen=True):
    """A frame (or one message of it) that could not be read, and why."""

    reason: UnreadReason
    frame: bytes


ConditionState = Literal["connecting", "online", "degraded", "offline", "auth_failed", "disabled"]


class Condition(Struct, frozen=True):
    """How the backend stands with its platform; `error` says in words what a person should know."""

    state: ConditionState
    error: str | None = None


class Census(Struct, frozen=True):
    """Every subject that has a state: a state that any other subject was given, before a restart even, is gone."""

    subjects: frozenset[str]


class Login(Struct, frozen=True):
    """How an attempt to log in ended: taken, told no, or not reached."""

    outcome: Literal["ok", "refused", "failed"]


ResponseStatus = Literal["accepted", "sent", "succeeded", "failed", "expired", "rejected", "unknown"]


class CommandError(Struct, frozen=True, omit_defaults=True):
    """Why a command did not succeed."""

    kind: Annotated[str, Meta(description="one word for programs, e.g. invalid_field, not_connected, expired, refused")]
    message: Annotated[str, Meta(description="for people: what was wrong, and the remedy")]
    field: Annotated[str | None, Meta(description="the field that was wrong")] = None
    value: Annotated[float | bool | None, Meta(description="its value, where that is a number or a boolean")] = None


class Response(Struct, frozen=True):
    """What is said to a command: `command` is its key (Command.key).

    Statuses and codes go together as the README's table of commands says.
    """

    command: str
    status: ResponseStatus
    code: int
    final: bool = True
    error: CommandError | None = None
    data: Any = None


class Command(Struct, frozen=True):
    """A checked command on its way to a session.

    key: ours, unique in this process · name: e.g. "downlink" · subject: as in Event · body: the command's own Struct ·
    send_by, deadline: Instant.mono until which it must have been sent, and the platform must have answered first ·
    id: the sender's own, for events that follow from the command.
    """

    key: str
    name: str
    subject: str
    body: Any
    send_by: float
    deadline: float
    id: str | int | None = None


class Message(Struct, frozen=True, array_like=True, gc=False):
    """One PUBLISH, made once: topic and payload, and the encoded MQTT 5 properties (without their length prefix)."""

    topic: str
    payload: bytes
    properties: bytes = b""

    @property
    def size(self) -> int:
        """Bytes it takes: topic, payload and properties."""
        return len(self.topic) + len(self.payload) + len(self.properties)
