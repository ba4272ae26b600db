"""What iSymphony says and we pass on: events keep the vendor's own field names and types, so that both are one.

A field that was not told is UNSET and is not written; null stays null; numbers that came as text stay text.
Source: iSymphony developer documentation: User Login, User Logout, Hangup, Link End, Conference Room Call Leave Event.
"""

from typing import Any, NotRequired, TypedDict

from msgspec import UNSET, Struct, UnsetType

from bridge.backends.session import Subject

Text = str | None | UnsetType
Number = int | float | str | None | UnsetType  # the pages write integers; text is passed on as text


class Documented(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag_field="type", kw_only=True):
    """time: ms since 1970."""

    time: Number = UNSET
    core_server_id: Text = UNSET


class _UserLogin(Documented, frozen=True, kw_only=True):
    """port: the local one of the client's connection."""

    user_id: Text = UNSET
    username: Text = UNSET
    user_login_id: Text = UNSET
    ip: Text = UNSET
    port: Number = UNSET


class UserLogin(_UserLogin, frozen=True, kw_only=True, tag="userLogin"):
    """A user logged in to the client interface."""


class UserLogout(_UserLogin, frozen=True, kw_only=True, tag="userLogout"):
    """A user logged out of it."""


class _Segment(Documented, frozen=True, kw_only=True):
    """One leg of a call; did: the number by which it came in."""

    call_segment_id: Text = UNSET
    caller_id_name: Text = UNSET
    caller_id_number: Text = UNSET
    did: Text = UNSET
    extension_id: Text = UNSET
    extension_number: Text = UNSET
    user_id: Text = UNSET
    username: Text = UNSET


class Hangup(_Segment, frozen=True, kw_only=True, tag="hangup"):
    """A leg ended."""


class ConfRoomCallLeave(_Segment, frozen=True, kw_only=True, tag="confRoomCallLeave"):
    """A leg left a conference room."""

    conference_room_id: Text = UNSET
    conference_room_name: Text = UNSET


class LinkEnd(Documented, frozen=True, kw_only=True, tag="linkEnd"):
    """Two legs are no longer linked: hung up, or transferred."""

    call_segment_id_1: Text = UNSET
    caller_id_name_1: Text = UNSET
    caller_id_number_1: Text = UNSET
    did_1: Text = UNSET
    extension_id_1: Text = UNSET
    extension_number_1: Text = UNSET
    user_id_1: Text = UNSET
    username_1: Text = UNSET
    call_segment_id_2: Text = UNSET
    caller_id_name_2: Text = UNSET
    caller_id_number_2: Text = UNSET
    did_2: Text = UNSET
    extension_id_2: Text = UNSET
    extension_number_2: Text = UNSET
    user_id_2: Text = UNSET
    username_2: Text = UNSET


DOCUMENTED: dict[str, type[Documented]] = {
    "userLogin": UserLogin,
    "userLogout": UserLogout,
    "hangup": Hangup,
    "linkEnd": LinkEnd,
    "confRoomCallLeave": ConfRoomCallLeave,
}


class UserState(Struct, frozen=True):
    """State of a user: presence "in" | "out" | "unknown", how many logins are open, since when (RFC 3339 UTC)."""

    presence: str
    logins: int
    time: str


class InForce(TypedDict):
    """In the responses to `filter`."""

    filters: dict[str, tuple[str, ...]]
    warnings: NotRequired[list[str]]


_CALLS = {"dial": Any, "hangup": Hangup, "linkEnd": LinkEnd, "confRoomCallLeave": ConfRoomCallLeave}
_EVENTS = {"userLogin": UserLogin, "userLogout": UserLogout, **_CALLS, "unknown": Any}
SUBJECTS = (
    Subject("user/{username}", _EVENTS, others=True, state=UserState),
    Subject("extension/{extensionNumber}", {**_CALLS, "unknown": Any}, others=True),
    Subject("", _EVENTS, others=True),
)
