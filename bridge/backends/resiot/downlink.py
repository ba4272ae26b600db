"""The downlink command: what its sender writes, what ResIOT reads.

Source: ResIOT docs, Websocket Server, "Sending a Downlink with the WebSocket".
"""

import base64
import binascii
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from bridge.errors import BadCommand
from bridge.options import Duration, about
from bridge.topics import text_of


class Downlink(Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of `downlink`. Exactly one of payload (base64), payload_hex and text (UTF-8) says what to send."""

    f_port: Annotated[int, Meta(ge=1, le=255), about("LoRaWAN FPort")]
    payload: Annotated[str | None, about("the bytes to send, in base64")] = None
    payload_hex: Annotated[str | None, about("the bytes to send, as hex")] = None
    text: Annotated[str | None, about("the bytes to send, as text in UTF-8")] = None
    confirmed: Annotated[bool, about("the device is to acknowledge it: `succeeded` comes when it has")] = False
    connector: Annotated[str, about("the platform's id of the way to take; empty: its choice")] = ""
    ws_command: Annotated[str, about("a command of the platform's own; empty: none")] = ""
    reference: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}(?!\n)$")] | None,
        about("by which the platform's feedback names it; left out: one of ours"),
    ] = None
    confirm_timeout: Annotated[Duration, about("of a confirmed one: how long to wait for the device")] = Duration(
        86_400.0
    )

    def bytes(self) -> bytes:
        """What the device gets. Raises BadCommand that names the field."""
        told = [name for name in ("payload", "payload_hex", "text") if getattr(self, name) is not None]
        if len(told) != 1:
            raise BadCommand(
                "give exactly one of payload (base64), payload_hex and text"
                + (f", not {' and '.join(told)}" if told else ""),
                kind="invalid_field" if told else "missing_field",
                field=told[1] if told else "payload",
            )
        if self.text is not None:
            return self.text.encode()
        try:
            if self.payload is not None:
                return base64.b64decode(self.payload, validate=True)
            if self.payload_hex and not self.payload_hex.isalnum():
                raise ValueError
            return bytes.fromhex(self.payload_hex or "")
        except (ValueError, binascii.Error):
            form = "base64 (standard alphabet, padded)" if self.payload is not None else "an even number of hex digits"
            raise BadCommand(f"{told[0]}: write it as {form}", kind="invalid_field", field=told[0]) from None


def request(subject: str, body: Downlink, reference: str) -> str:
    """The frame for a device's subject `application/{app_eui}/device/{dev_eui}`. Raises BadCommand."""
    _, app_eui, _, dev_eui = subject.split("/")
    device = text_of(dev_eui).lower()
    wire = {
        "function": "TX",
        "Payload": body.bytes().hex(),
        "AppEui": text_of(app_eui).lower(),
        "DevEUI": device,  # the page's table spells it so,
        "DevEui": device,  # its example so
        "Connector": body.connector,
        "Port": body.f_port,
        **({"WSCommand": body.ws_command} if body.ws_command else {}),  # the page: only of a WebSocket connector
        "Reference": reference,
        "Raw": False,  # said, though it is the default: with true, the page's meaning of Payload is another
        "Confirm": body.confirmed,
    }
    return msgspec.json.encode(wire).decode()
