"""What a simulated iSymphony can be told: who works there, how lively it is, and the faults it commits on purpose.

The fields describe themselves: their descriptions are the help texts of the command line, their bounds its checks.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Status = Annotated[int, Meta(ge=0, le=599)]


class Faults(Struct, frozen=True, kw_only=True):
    """What goes wrong, on purpose; each is off by its default."""

    refuse: Annotated[Status, Meta(description="answer every handshake with this status: 401, 403, 404, 503")] = 0
    no_reply: Annotated[bool, Meta(description="filters are taken, but never answered")] = False
    late_reply: Annotated[Seconds, Meta(description="seconds until a filter is taken and answered")] = 0.0
    error_reply: Annotated[str, Meta(description="every filter is refused with this text")] = ""
    null_correlation: Annotated[bool, Meta(description="replies do not say to which filter")] = False
    ignore_filters: Annotated[bool, Meta(description="success is said, but every event is sent")] = False
    malformed: Annotated[Count, Meta(description="every n-th event is cut in half: broken JSON")] = 0
    time_as_text: Annotated[bool, Meta(description="`time` is text")] = False
    no_core: Annotated[bool, Meta(description="events do not name their core server")] = False
    extra: Annotated[bool, Meta(description="events have a property that no page documents")] = False
    array: Annotated[bool, Meta(description="every event comes in an array of one")] = False
    binary: Annotated[bool, Meta(description="events come as binary frames")] = False
    big_name: Annotated[Count, Meta(description="characters of every callerIdName, filled up")] = 0
    close_after: Annotated[Count, Meta(description="close a client after this many frames, see close-code")] = 0
    close_code: Annotated[int, Meta(ge=1000, le=4999, description="close-after with this code; 1006 aborts TCP")] = 1001
    half_open: Annotated[bool, Meta(description="accept clients, then neither read nor send: no pongs")] = False
    rest_status: Annotated[Status, Meta(description="answer every Live REST request with this status")] = 0
    rest_late: Annotated[Seconds, Meta(description="seconds until a Live REST request is answered")] = 0.0
    rest_cut: Annotated[bool, Meta(description="carry Live REST requests out, but end TCP instead of answering")] = (
        False
    )


class IsymphonySimOptions(Struct, frozen=True, kw_only=True):
    """A simulated iSymphony. Same options, seed and requests: the same story (but for the times in it).

    Raises ValueError for a TLS key without its certificate, and for a TLS port without one.
    """

    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port of ws and http; 0 takes a free one")] = 0
    tls_port: Annotated[
        int, Meta(ge=0, le=65535, description="TCP port of wss and https, with tls-cert; 0 takes a free one")
    ] = 0
    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    username: Annotated[str, Meta(min_length=1, description="user name the clients need")] = "manager"
    password: Annotated[str, Meta(min_length=1, description="password the clients need")] = "simulated-9f2c"
    acl: Annotated[str, Meta(description="addresses let in, separated by commas")] = "127.0.0.1,::1"
    ssl_only: Annotated[bool, Meta(description="answer every request on the plain port with a redirect to https")] = (
        False
    )
    tls_cert: Annotated[str, Meta(description="certificate file (PEM): serve wss and https, too")] = ""
    tls_key: Annotated[str, Meta(description="its key file (PEM), if a separate one")] = ""
    users: Annotated[int, Meta(ge=1, le=1000, description="number of users, each with an extension")] = 8
    inside: Annotated[Count, Meta(description="how many of them are logged in at the start")] = 0
    rate: Annotated[float, Meta(ge=0, description="happenings per second; 0: only what it is told to")] = 1.0
    restart: Annotated[Seconds, Meta(description="restart the server so often, with new ids; 0: never")] = 0.0
    seed: Annotated[int, Meta(description="seed of everything that is random")] = 1
    order: Annotated[
        Literal["page", "alphabetical", "shuffled"], Meta(description="order of properties: type first, or another")
    ] = "page"
    lenient: Annotated[bool, Meta(description="also take filters as the vendor's page prints them, with colons")] = (
        False
    )
    link_start: Annotated[str, Meta(min_length=1, description="type of the event of an answered call, a guess")] = (
        "linkStart"
    )
    room_join: Annotated[str, Meta(min_length=1, description="type of the event of a joined room, a guess")] = (
        "confRoomCallJoin"
    )
    faults: Annotated[Faults, Meta(description="a fault, NAME or NAME=VALUE, repeatable")] = Faults()

    def __post_init__(self) -> None:
        if (self.tls_key or self.tls_port) and not self.tls_cert:
            raise ValueError("a TLS key or port needs a certificate")
