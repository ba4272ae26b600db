"""What a simulated SmartServer can be told: its size and speed, its release, and the faults it commits on purpose.

The fields describe themselves: their descriptions are the help texts of the command line, their bounds its checks.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0)]
Status = Annotated[int, Meta(ge=0, le=599)]
Seconds = Annotated[float, Meta(ge=0)]


class Faults(Struct, frozen=True, kw_only=True):
    """What goes wrong, on purpose; each is off by its default."""

    login: Annotated[Status, Meta(description="answer every login with this status: 401, 403, 503")] = 0
    locked: Annotated[bool, Meta(description="answer every login with 429, too many failed attempts")] = False
    refuse: Annotated[Status, Meta(description="answer every handshake with this status: 401, 302, 503")] = 0
    busy: Annotated[Status, Meta(description="answer every other request with this status: 429, 503")] = 0
    late: Annotated[Seconds, Meta(description="seconds until a request is answered")] = 0.0
    list_limit: Annotated[Count, Meta(description="refuse a longer list of datapoints")] = 0
    refuse_unknown: Annotated[bool, Meta(description="refuse a list that names an unknown datapoint")] = False
    refuse_list: Annotated[Status, Meta(description="answer every list with this status")] = 0
    list_per_session: Annotated[bool, Meta(description="one list per session instead of one per user")] = False
    single_session: Annotated[bool, Meta(description="a second login of a user ends the first session")] = False
    session_end: Annotated[
        Literal["close", "drop", "silent"], Meta(description="what becomes of the sockets of a session that is over")
    ] = "close"
    no_proof: Annotated[bool, Meta(description="writes are taken, and the device never answers")] = False
    no_end: Annotated[bool, Meta(description="data logs are closed without their end")] = False
    no_log: Annotated[bool, Meta(description="handshakes of data logs are answered with 503")] = False
    objects: Annotated[bool, Meta(description="one update is an object, not a list of one")] = False
    text_ids: Annotated[bool, Meta(description="ids and indexes are text")] = False
    bare_alarms: Annotated[bool, Meta(description="alarm frames carry ids only")] = False
    extra_fields: Annotated[bool, Meta(description="fields that no page tells of")] = False
    foo: Annotated[bool, Meta(description="every update comes with one of an unknown kind")] = False
    malformed: Annotated[Count, Meta(description="every n-th update is cut in half: broken JSON")] = 0
    half_open: Annotated[bool, Meta(description="accept sockets, then neither read nor send: no pongs")] = False


class SmartserverSimOptions(Struct, frozen=True, kw_only=True):
    """A simulated SmartServer. Same options and seed, same requests: the same story (but for the times in it).

    Raises ValueError for a TLS key without its certificate.
    """

    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port; 0 takes a free one")] = 0
    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    username: Annotated[str, Meta(min_length=1, description="user of the CMS")] = "mqttbridge"
    password: Annotated[str, Meta(min_length=1, description="the user's password")] = "correct-horse"
    release: Annotated[str, Meta(description="of the CMS; before 4.10 there are no time stamps")] = "4.30.015"
    rooms: Annotated[int, Meta(ge=0, le=5000, description="number of rooms, of four datapoints each")] = 6
    rate: Annotated[float, Meta(ge=0, description="values per second over all rooms; 0: none by itself")] = 2.0
    log: Annotated[float, Meta(ge=0, description="hours of data log that are there at the start")] = 1.0
    session: Annotated[float, Meta(gt=0, description="seconds until a session is over")] = 86_400.0
    heartbeat: Annotated[Seconds, Meta(description="seconds between two NTF:TIME and load frames; 0: none")] = 10.0
    lively: Annotated[bool, Meta(description="lamps are switched, and devices go down and come back")] = False
    seed: Annotated[int, Meta(description="seed of everything that is random")] = 1
    batch: Annotated[int, Meta(ge=1, le=1000, description="values in one frame")] = 1
    tls_cert: Annotated[str, Meta(description="certificate file (PEM): serve https:// and wss://")] = ""
    tls_key: Annotated[str, Meta(description="its key file (PEM), if a separate one")] = ""
    faults: Annotated[Faults, Meta(description="a fault, NAME or NAME=VALUE, repeatable")] = Faults()

    def __post_init__(self) -> None:
        if self.tls_key and not self.tls_cert:
            raise ValueError("a TLS key needs its certificate")
