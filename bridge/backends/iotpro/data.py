"""The data of IoT Pro's events and states; absent means not told by the platform."""

from typing import Annotated, Any, TypedDict

from msgspec import Struct

from bridge.backends.iotpro.selection import Keys
from bridge.backends.session import Subject
from bridge.options import about


class Telling(Struct, frozen=True):
    """`telemetry` and `attributes`: which asset, and what of it."""

    asset_id: Annotated[str, about("the platform's id, a UUID")]
    asset_name: Annotated[str, about("as the platform shows it")]
    asset_profile: Annotated[str, about("the name of its profile")]
    values: Annotated[dict[str, Any], about("by key; text that is a number or a boolean is told as one")]


class AssetState(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """State of an asset: the newest of everything."""

    id: Annotated[str, about("the platform's id, a UUID")]
    name: Annotated[str, about("as the platform shows it")]
    profile: Annotated[str, about("the name of its profile")]
    label: Annotated[str, about("the asset's label; absent without one")] = ""
    time: Annotated[str | None, about("of the newest of it, UTC")] = None
    values: Annotated[dict[str, Any], about("time series: the newest of each key")]
    attributes: Annotated[dict[str, Any], about("of the server scope, by key")]


class Result(TypedDict):
    """In the response to `rpc`."""

    result: Annotated[Any, about("what the device said; null to a oneway call")]


class InForce(TypedDict):
    """In the response to `filter`: what is in force."""

    keys: Annotated[Keys, about("time series: a list for all assets, or a map from profile to list")]
    profiles: Annotated[tuple[str, ...], about("only assets of these; []: all")]


class Resynced(TypedDict):
    """In the response to `resync`."""

    assets: Annotated[int, about("how many there are")]


SUBJECTS = (
    Subject("asset/{profile}/{name}", {"telemetry": Telling, "attributes": Telling}, state=AssetState),
    Subject("", {"unknown": Any}),
)
