"""What a simulated ResIOT can be told: its size and speed, its shapes, and the faults it commits on purpose.

The fields describe themselves: their descriptions are the help texts of the command line, their bounds its checks.
"""

import argparse
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

Shape = Literal["doc2017", "newer", "schema"]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]


class Faults(Struct, frozen=True, kw_only=True):
    """What goes wrong, on purpose; each is off by its default. Seconds, bytes, counts of frames."""

    refuse: Annotated[int, Meta(ge=0, le=599, description="answer every handshake with this status: 401, 403, 503")] = 0
    no_reply: Annotated[bool, Meta(description="commands are carried out, but never answered")] = False
    late_reply: Annotated[Seconds, Meta(description="seconds until a command is carried out and answered")] = 0.0
    reply_after_tx: Annotated[bool, Meta(description="the answer comes after the comm_tx")] = False
    reply_without_reference: Annotated[bool, Meta(description="answers do not say to which command")] = False
    broadcast_replies: Annotated[bool, Meta(description="every client gets every answer")] = False
    ignore_bad_json: Annotated[bool, Meta(description="a request that is no JSON object gets no answer")] = False
    tx_error: Annotated[str, Meta(description="the gateway refuses every downlink with this Error text")] = ""
    no_ack: Annotated[bool, Meta(description="devices never acknowledge a confirmed downlink")] = False
    malformed: Annotated[Count, Meta(description="every n-th communication is cut in half: broken JSON")] = 0
    nulls: Annotated[bool, Meta(description="empty fields are null instead of empty text, list or map")] = False
    zero_dt: Annotated[bool, Meta(description="DT is the zero time of year 1")] = False
    port_as_number: Annotated[bool, Meta(description="events carry Port as a number, or null")] = False
    binary: Annotated[bool, Meta(description="communications come as binary frames")] = False
    big_frame: Annotated[Count, Meta(description="bytes of every comm_rx, filled up")] = 0
    close_after: Annotated[Count, Meta(description="close a client after this many frames, see close-code")] = 0
    close_code: Annotated[int, Meta(ge=1000, le=4999, description="close-after with this code; 1006 aborts TCP")] = 1001
    half_open: Annotated[bool, Meta(description="accept clients, then neither read nor send: no pongs")] = False
    deaf: Annotated[bool, Meta(description="send, but read nothing: no pongs, no answers")] = False
    slow_reader: Annotated[Seconds, Meta(description="seconds between reading one request and the next")] = 0.0


class ResiotSimOptions(Struct, frozen=True, kw_only=True):
    """A simulated ResIOT. Same options, seed and requests: the same story (but for the times in it).

    alive None: 30 s where uplinks come by themselves, else off, so that `rate=0` sends only what it is told to.
    Raises ValueError for a TLS key without its certificate.
    """

    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port; 0 takes a free one")] = 0
    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    token: Annotated[str, Meta(min_length=1, description="token the clients need")] = "5157e0b2c94f4d0f8f1f7a6b3c2d1e00"
    profile: Annotated[
        Literal["doc2017", "newer", "schema", "mixed"],
        Meta(description="shape of communications: doc2017 as the samples, newer, schema (MsgType), mixed"),
    ] = "doc2017"
    devices: Annotated[int, Meta(ge=0, le=65535, description="number of devices")] = 8
    gateways: Annotated[int, Meta(ge=1, le=4096, description="number of gateways")] = 3
    rate: Annotated[float, Meta(ge=0, description="uplinks per second over all devices; 0 sends none")] = 1.0
    alive: Annotated[
        Seconds | None,
        Meta(description="seconds between two comm_gwalive of a gateway; 0 sends none (default: 30 if rate > 0)"),
    ] = None
    seed: Annotated[int, Meta(description="seed of everything that is random")] = 1
    class_c: Annotated[float, Meta(ge=0, le=1, description="share of class C devices")] = 0.25
    gwrx: Annotated[bool, Meta(description="also send comm_gwrx, one per gateway and radio packet")] = False
    unauthorized: Annotated[Literal[401, 403], Meta(description="HTTP status for a bad or missing token")] = 401
    tls_cert: Annotated[str, Meta(description="certificate file (PEM): serve wss://")] = ""
    tls_key: Annotated[str, Meta(description="its key file (PEM), if a separate one")] = ""
    faults: Annotated[Faults, Meta(description="a fault, NAME or NAME=VALUE, repeatable")] = Faults()

    def __post_init__(self) -> None:
        if self.tls_key and not self.tls_cert:
            raise ValueError("a TLS key needs its certificate")

    @property
    def alive_period(self) -> float:
        """Seconds between two comm_gwalive of one gateway; 0: none."""
        if self.alive is None:
            return 30.0 if self.rate else 0.0
        return self.alive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option per field of ResiotSimOptions; `--fault NAME[=VALUE]`, repeatable, for each of the Faults."""
    for field in msgspec.structs.fields(ResiotSimOptions):
        flag, about = f"--{_dashed(field.name)}", _about(field)
        if field.type.__origin__ is Faults:
            parser.add_argument(
                "--fault", action="append", default=[], type=_fault, metavar="NAME[=VALUE]", help=_fault_help(about)
            )
        elif field.type.__origin__ is bool:
            parser.add_argument(flag, action="store_true", help=about)
        else:
            default = "" if field.default in (None, "") else f" (default: {field.default})"
            read = _typed(field.type)
            parser.add_argument(flag, default=field.default, type=read, help=about + default, **_values(field))


def from_arguments(args: argparse.Namespace) -> ResiotSimOptions:
    """The options that parsed arguments stand for. Raises ValueError for a TLS key without its certificate."""
    names = ResiotSimOptions.__struct_fields__
    plain = {name: getattr(args, name) for name in names if name != "faults"}
    return ResiotSimOptions(**plain, faults=Faults(**dict(args.fault)))


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _about(field: msgspec.structs.FieldInfo) -> str:
    """The description in an annotation; argparse reads % as a format."""
    told = [meta.description for meta in field.type.__metadata__ if meta.description]
    return str(told[-1]).replace("%", "%%")


def _values(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    """What argparse shows and allows as value: the members of a Literal, else a word."""
    if get_origin(field.type.__origin__) is Literal:
        return {"choices": get_args(field.type.__origin__)}
    return {"metavar": field.name.rpartition("_")[2].upper()}


def _typed(kind: Any) -> Callable[[str], object]:
    """An argparse type that checks against an annotation and its bounds. kind: any type msgspec knows."""

    def read(text: str) -> object:
        try:
            value: object = msgspec.convert(text, kind, strict=False)
        except msgspec.ValidationError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
        return value

    return read


def _fault(text: str) -> tuple[str, object]:
    """`late-reply=3` → ("late_reply", 3.0) · `no-reply` → ("no_reply", True)."""
    name, equals, value = text.partition("=")
    known = {_dashed(field.name): field for field in msgspec.structs.fields(Faults)}
    if (field := known.get(_dashed(name))) is None:
        raise argparse.ArgumentTypeError(f"unknown fault {name!r}; known: {', '.join(known)}")
    if not equals and field.type.__origin__ is not bool:
        raise argparse.ArgumentTypeError(f"fault {name!r} needs a value: {name}=VALUE ({_about(field)})")
    return field.name, _typed(field.type)(value if equals else "true")


def _fault_help(about: str) -> str:
    """Every fault with what it does; `=…` where it takes a value."""
    fields = msgspec.structs.fields(Faults)
    takes = {True: "", False: "=…"}
    told = [f"{_dashed(f.name)}{takes[f.type.__origin__ is bool]} ({_about(f)})" for f in fields]
    return f"{about}: {'; '.join(told)}"
