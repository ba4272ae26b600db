"""The data of IoT Pro's events and states; absent means not told by the platform."""

from typing import Any

from msgspec import Struct


class Telling(Struct, frozen=True):
    """`telemetry` and `attributes`: which asset, and what of it."""

    asset_id: str
    asset_name: str
    asset_profile: str
    values: dict[str, Any]


class AssetState(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """State of an asset: the newest of everything. time: RFC 3339 UTC of the newest of it."""

    id: str
    name: str
    profile: str
    label: str = ""
    time: str | None = None
    values: dict[str, Any]
    attributes: dict[str, Any]
