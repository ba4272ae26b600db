"""What a simulated ResIOT can be told: its size and speed, its shapes, and the faults it commits on purpose.

The fields describe themselves: their descriptions are the help texts of the command line, their bounds its checks.
"""

import argparse
from typing import Annotated, Literal

from msgspec import Meta, Struct

from bridge.simulators import arguments

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
    arguments.add_arguments(parser, ResiotSimOptions)


def from_arguments(args: argparse.Namespace) -> ResiotSimOptions:
    """The options that parsed arguments stand for. Raises ValueError for a TLS key without its certificate."""
    return arguments.from_arguments(args, ResiotSimOptions)
