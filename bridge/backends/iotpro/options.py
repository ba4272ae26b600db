"""What an IoT Pro (ThingsBoard) backend is told."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, field

from bridge.backends.iotpro.selection import Keys, Selection
from bridge.options import BackendOptions, BackfillOptions, Secret, address_fault


class IotproOptions(BackendOptions, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="iotpro"):
    """url: of the platform's web page · keys: time series to follow, of all assets, or by profile · attributes: of the
    server scope · profiles: only assets of these, () is all · text_keys: values that stay text · page_size: assets
    asked for at once.
    """

    url: str
    username: str
    password: Secret
    keys: Keys = ()
    attributes: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    text_keys: tuple[str, ...] = ()
    page_size: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    backfill: BackfillOptions = field(default_factory=BackfillOptions)

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
