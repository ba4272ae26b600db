"""The data log of a simulated SmartServer: which entries a query means (wiki, "Data Log WebSocket Queries")."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from bridge.simulators.smartserver_json import element, entry
from bridge.simulators.smartserver_options import Faults
from bridge.simulators.smartserver_world import SID, Point, World


def entries(world: World, query: Mapping[str, str], faults: Faults) -> Iterator[dict[str, Any]]:
    """Datapoint by datapoint, oldest first."""
    since, until = _bounds(query.get("value", "*"))
    number = 90_000
    for point in [one for one in world.points.values() if _asked(one, query)]:
        for at, value in list(point.log):
            if since < at <= until:
                number += 1
                yield entry(point, at, value, number, faults)


def _bounds(value: str) -> tuple[float, float]:
    """Of `*+utc>{start}&utc<={end}`, in ms since 1970; times without a zone, UTC."""
    since, until = float("-inf"), float("inf")
    for pair in value.removeprefix("*").removeprefix("+").split("&"):
        if pair.startswith("utc<="):
            until = _ms(pair.removeprefix("utc<="))
        elif pair.startswith("utc>"):
            since = _ms(pair.removeprefix("utc>"))
    return since, until


def _ms(text: str) -> float:
    return round(datetime.fromisoformat(f"{text}+00:00").timestamp() * 1000)


def _asked(point: Point, query: Mapping[str, str]) -> bool:
    """Whether a data log's query means this datapoint; what is not given is any."""
    one = point.device
    dev = query.get("dev", "*")
    return (
        (element(dev, one.id, one.name, "") or dev == f"{SID}.{one.did}")
        and element(query.get("blockName", "*"), "", point.block, point.block)
        and query.get("blockIndex", "*") in ("*", str(point.index))
        and element(query.get("dpName", "*"), "", point.name, point.name)
    )
