"""What an IoT Pro (ThingsBoard) backend is told."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, field

from bridge.backends.iotpro.selection import Keys, Selection
from bridge.options import BackendOptions, BackfillOptions, Secret, about, address_fault


class IotproOptions(BackendOptions, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="iotpro"):
    """IoT Pro, which is ThingsBoard under another name."""

    url: Annotated[str, about("of the web page, https:// or http://; REST and WebSocket are below it")]
    username: Annotated[str, about("an account of its own, without a second factor, that may read the assets")]
    password: Annotated[Secret, about("of that account")]
    keys: Annotated[
        Keys,
        about("time series to follow: a list for all assets, or a map from asset profile to list"),
    ] = ()
    attributes: Annotated[tuple[str, ...], about("attributes of the server scope to follow")] = ()
    profiles: Annotated[tuple[str, ...], about("only assets of these profiles; []: all that the account may read")] = ()
    text_keys: Annotated[tuple[str, ...], about("keys whose values stay text even where they look like numbers")] = ()
    page_size: Annotated[int, Meta(ge=1, le=10_000), about("assets asked for at once, about 1 KiB of a frame each")] = (
        1000
    )
    backfill: Annotated[BackfillOptions, about("how gaps are filled from the platform's history")] = field(
        default_factory=BackfillOptions
    )

    def selection(self) -> Selection:
        """What is followed until a `filter` says otherwise."""
        return Selection(self.keys, self.profiles)

    def check(self) -> Iterator[tuple[str, str]]:
        """Of the address its scheme and host matter; the rest is a path in front of /api."""
        fault = address_fault(self.url, ("https", "http"))
        if fault:
            yield "url", fault
        elif "?" in self.url or "@" in self.url:
            yield "url", "write https://host, without user, password and query"
        if not self.selection().every_key() and not self.attributes:
            yield "keys", "name at least one time series, or one of attributes"
        if wrong := self.selection().fault(self.attributes):
            yield wrong
