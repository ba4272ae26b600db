"""What a ResIOT backend is told."""

from collections.abc import Iterator
from typing import Annotated

from bridge.options import BackendOptions, Duration, Secret, about, address_fault


class ResiotOptions(BackendOptions, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="resiot"):
    """A ResIOT LoRaWAN network server."""

    url: Annotated[Secret, about("the address that ResIOT's page Websocket Server shows; it holds the token")]
    gateway_timeout: Annotated[Duration, about("silence after which a gateway counts as offline")] = Duration(300.0)
    ignore: Annotated[tuple[str, ...], about("event types that are not published, only counted")] = ("rx",)

    def check(self) -> Iterator[tuple[str, str]]:
        """The address is one of a WebSocket; a silence of no length would make every gateway offline."""
        fault = address_fault(self.url.reveal(), ("wss", "ws"))
        if fault:
            yield "url", fault
        if self.gateway_timeout <= 0:
            yield "gateway_timeout", "must be longer than 0s"
