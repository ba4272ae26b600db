"""What a ResIOT backend is told."""

from collections.abc import Iterator

from bridge.options import BackendOptions, Duration, Secret, address_fault


class ResiotOptions(BackendOptions, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="resiot"):
    """url: the address shown on the Websocket Server page, a secret as a whole (it holds the token).

    gateway_timeout: silence after which a gateway counts as offline.
    """

    url: Secret
    gateway_timeout: Duration = Duration(300.0)
    ignore: tuple[str, ...] = ("rx",)

    def check(self) -> Iterator[tuple[str, str]]:
        """The address is one of a WebSocket; a silence of no length would make every gateway offline."""
        fault = address_fault(self.url.reveal(), ("wss", "ws"))
        if fault:
            yield "url", fault
        if self.gateway_timeout <= 0:
            yield "gateway_timeout", "must be longer than 0s"
