"""The data of IoT Pro's events and states; absent means not told by the platform."""

from typing import Any, TypedDict

from msgspec import Struct

from bridge.backends.iotpro.selection import Keys
from bridge.backends.session import Subject


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


class Result(TypedDict):
    """In the response to `rpc`: what the device said."""

    result: Any


class InForce(TypedDict):
    """In the response to `filter`."""

    keys: Keys
    profiles: tuple[str, ...]


class Resynced(TypedDict):
    """In the response to `resync`: how many there are."""

    assets: int


SUBJECTS = (
    Subject("asset/{profile}/{name}", {"telemetry": Telling, "attributes": Telling}, state=AssetState),
    Subject("", {"unknown": Any}),
)
