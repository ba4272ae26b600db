"""What iSymphony says and we pass on: events keep the vendor's own field names and types, so that both are one.

A field that was not told is UNSET and is not written; null stays null; numbers that came as text stay text.
Source: iSymphony developer documentation: User Login, User Logout, Hangup, Link End, Conference Room Call Leave Event.
"""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import UNSET, Struct, UnsetType

from bridge.backends.session import Subject
from bridge.options import about

Text = str | None | UnsetType
Number = int | float | str | None | UnsetType  # the pages write integers; text is passed on as text


class Documented(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag_field="type", kw_only=True):
    """What all of these have."""

    time: Annotated[Number, about("ms since 1970")] = UNSET
    core_server_id: Annotated[Text, about("the server's id, a new one at each of its starts")] = UNSET


class _UserLogin(Documented, frozen=True, kw_only=True):
    """A login to the client interface."""

    user_id: Annotated[Text, about("the user's id, another after each start")] = UNSET
    username: Annotated[Text, about("who it is about")] = UNSET
    user_login_id: Annotated[Text, about("of this login: one user may have several")] = UNSET
    ip: Annotated[Text, about("of the client")] = UNSET
    port: Annotated[Number, about("the local one of the client's connection")] = UNSET


class UserLogin(_UserLogin, frozen=True, kw_only=True, tag="userLogin"):
    """A user logged in to the client interface."""


class UserLogout(_UserLogin, frozen=True, kw_only=True, tag="userLogout"):
    """A user logged out of it."""


class _Segment(Documented, frozen=True, kw_only=True):
    """One leg of a call."""

    call_segment_id: Annotated[Text, about("of this leg of the call")] = UNSET
    caller_id_name: Annotated[Text, about("the name that the call shows")] = UNSET
    caller_id_number: Annotated[Text, about("the number that the call shows")] = UNSET
    did: Annotated[Text, about("the number by which it came in")] = UNSET
    extension_id: Annotated[Text, about("the extension's id, another after each start")] = UNSET
    extension_number: Annotated[Text, about("the extension")] = UNSET
    user_id: Annotated[Text, about("the user's id, another after each start")] = UNSET
    username: Annotated[Text, about("who it is about")] = UNSET


class Hangup(_Segment, frozen=True, kw_only=True, tag="hangup"):
    """A leg ended."""


class ConfRoomCallLeave(_Segment, frozen=True, kw_only=True, tag="confRoomCallLeave"):
    """A leg left a conference room."""

    conference_room_id: Annotated[Text, about("the room's id, another after each start")] = UNSET
    conference_room_name: Annotated[Text, about("the room")] = UNSET


class LinkEnd(Documented, frozen=True, kw_only=True, tag="linkEnd"):
    """Two legs are no longer linked: hung up, or transferred."""

    call_segment_id_1: Annotated[Text, about("of this leg of the call; of the first leg")] = UNSET
    caller_id_name_1: Annotated[Text, about("the name that the call shows; of the first leg")] = UNSET
    caller_id_number_1: Annotated[Text, about("the number that the call shows; of the first leg")] = UNSET
    did_1: Annotated[Text, about("the number by which it came in; of the first leg")] = UNSET
    extension_id_1: Annotated[Text, about("the extension's id, another after each start; of the first leg")] = UNSET
    extension_number_1: Annotated[Text, about("the extension; of the first leg")] = UNSET
    user_id_1: Annotated[Text, about("the user's id, another after each start; of the first leg")] = UNSET
    username_1: Annotated[Text, about("who it is about; of the first leg")] = UNSET
    call_segment_id_2: Annotated[Text, about("of this leg of the call; of the second leg")] = UNSET
    caller_id_name_2: Annotated[Text, about("the name that the call shows; of the second leg")] = UNSET
    caller_id_number_2: Annotated[Text, about("the number that the call shows; of the second leg")] = UNSET
    did_2: Annotated[Text, about("the number by which it came in; of the second leg")] = UNSET
    extension_id_2: Annotated[Text, about("the extension's id, another after each start; of the second leg")] = UNSET
    extension_number_2: Annotated[Text, about("the extension; of the second leg")] = UNSET
    user_id_2: Annotated[Text, about("the user's id, another after each start; of the second leg")] = UNSET
    username_2: Annotated[Text, about("who it is about; of the second leg")] = UNSET


DOCUMENTED: dict[str, type[Documented]] = {
    "userLogin": UserLogin,
    "userLogout": UserLogout,
    "hangup": Hangup,
    "linkEnd": LinkEnd,
    "confRoomCallLeave": ConfRoomCallLeave,
}


InOrOut = Literal["in", "out", "unknown"]


class UserState(Struct, frozen=True):
    """State of a user: whether somebody is logged in as this."""

    presence: Annotated[InOrOut, about("unknown: after every gap, until told or read")]
    logins: Annotated[int, about("how many are open")]
    time: Annotated[str, about("since when, UTC")]


class InForce(TypedDict):
    """In the responses to `filter`: what is in force."""

    filters: Annotated[dict[str, tuple[str, ...]], about("values by property; {}: all events")]
    warnings: NotRequired[Annotated[list[str], about("what was replaced in them")]]


_CALLS = {"dial": Any, "hangup": Hangup, "linkEnd": LinkEnd, "confRoomCallLeave": ConfRoomCallLeave}
_EVENTS = {"userLogin": UserLogin, "userLogout": UserLogout, **_CALLS, "unknown": Any}
SUBJECTS = (
    Subject("user/{username}", _EVENTS, others=True, state=UserState),
    Subject("extension/{extensionNumber}", {**_CALLS, "unknown": Any}, others=True),
    Subject("", _EVENTS, others=True),
)
