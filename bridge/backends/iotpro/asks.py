"""What we ask the platform: commands of its WebSocket, and addresses of its REST side.

The platform reads commands strictly: one member that it does not know, and the whole frame is refused (ThingsBoard,
JacksonUtil). It takes frames of at most 32,768 characters; its own page sends at most ten commands in one.
"""

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from bridge.backends.iotpro.selection import Selection
from bridge.backends.iotpro.wire import ATTRIBUTE, ENTITY_FIELD, TIME_SERIES

FIELDS = ("name", "type", "label", "createdTime")
_MOST_CHARACTERS, _MOST_COMMANDS = 32_000, 10
_AUTH_CHARACTERS = 4_096  # a token's, and more
_encode = msgspec.json.Encoder().encode

Ask = dict[str, Any]


def _keys(kind: str, names: Iterable[str]) -> list[dict[str, str]]:
    return [{"type": kind, "key": name} for name in names]


class Asking:
    """Writes the commands of one selection. Pages are sorted, so that they neither overlap nor leave anybody out."""

    def __init__(self, selection: Selection, attributes: tuple[str, ...], page_size: int) -> None:
        self._keys = [*_keys(TIME_SERIES, selection.every_key()), *_keys(ATTRIBUTE, attributes)]
        self._filter: Ask = {"type": "entityType", "entityType": "ASSET"}
        if selection.profiles:
            self._filter = {"type": "assetType", "assetTypes": list(selection.profiles), "assetNameFilter": ""}
        self.page_size = page_size

    def page(self, cmd: int, number: int) -> Ask:
        """Follow one page of assets; dynamic: tell when somebody enters or leaves it."""
        return {
            "cmdId": cmd,
            "type": "ENTITY_DATA",
            "query": {
                "entityFilter": self._filter,
                "pageLink": {
                    "pageSize": self.page_size,
                    "page": number,
                    "textSearch": None,
                    "dynamic": True,
                    "sortOrder": {"key": {"type": ENTITY_FIELD, "key": "createdTime"}, "direction": "ASC"},
                },
                "entityFields": _keys(ENTITY_FIELD, FIELDS),
                "latestValues": self._keys,
                "keyFilters": [],
            },
            "latestCmd": {"keys": self._keys},
        }


def forget(cmd: int) -> Ask:
    """End a subscription; there is no answer."""
    return {"cmdId": cmd, "type": "ENTITY_DATA_UNSUBSCRIBE"}


def frames(commands: Iterable[Ask], token: str | None = None) -> Iterator[str]:
    """The commands in frames that the platform takes; with the login in the first one (and only there)."""
    head = (
        f'{{"authCmd":{_encode({"cmdId": 0, "token": token}).decode()},"cmds":[' if token is not None else '{"cmds":['
    )
    batch: list[str] = []
    room = _MOST_CHARACTERS - _AUTH_CHARACTERS
    for command in commands:
        text = _encode(command).decode()
        if batch and (len(batch) == _MOST_COMMANDS or sum(map(len, batch)) + len(text) > room):
            yield f"{head}{','.join(batch)}]}}"
            head, batch = '{"cmds":[', []
        batch.append(text)
    if batch:
        yield f"{head}{','.join(batch)}]}}"


# The REST side, below the platform's address.

LOGIN = "/api/auth/login"
RENEW = "/api/auth/token"
ME = "/api/auth/user"


def socket(url: str) -> str:
    """The WebSocket's address, from that of the web page: wss for https."""
    scheme, _, rest = url.rstrip("/").partition("://")
    return f"{'wss' if scheme.lower() == 'https' else 'ws'}://{rest}/api/ws"


def asset_list(path: str, page: int, size: int) -> str:
    """A page of assets, sorted. path: below /api."""
    return f"/api/{path}?{urlencode(_page(page, size))}"


def _page(page: int, size: int) -> dict[str, str | int]:
    return {"pageSize": size, "page": page, "sortProperty": "createdTime", "sortOrder": "ASC"}


def history(asset: str, keys: Iterable[str], start: int, end: int, limit: int) -> str:
    """Points in [start, end), milliseconds; at most `limit` of each key, the oldest first."""
    names = ",".join(quote(key, safe="") for key in keys)
    told = {"startTs": start, "endTs": end, "limit": limit, "agg": "NONE", "orderBy": "ASC"}
    return f"/api/plugins/telemetry/ASSET/{quote(asset, safe='')}/values/timeseries?keys={names}&{urlencode(told)}"


def attributes(asset: str, scope: str) -> str:
    return f"/api/plugins/telemetry/ASSET/{quote(asset, safe='')}/attributes/{scope}_SCOPE"


def rpc(device: str, oneway: bool) -> str:
    return f"/api/rpc/{'oneway' if oneway else 'twoway'}/{quote(device, safe='')}"


def related(asset: str, direction: str) -> str:
    """The asset's relations. direction: from (it has devices) · to (devices have it)."""
    return f"/api/relations?{urlencode({f'{direction}Id': asset, f'{direction}Type': 'ASSET'})}"


FIND = "/api/entitiesQuery/find"


def device_named(name: str) -> Ask:
    """A query for devices whose name begins so; the platform knows no exact one for every role."""
    return {
        "entityFilter": {"type": "entityName", "entityType": "DEVICE", "entityNameFilter": name.replace("%", "")},
        "entityFields": _keys(ENTITY_FIELD, ("name",)),
        "latestValues": [],
        "keyFilters": [],
        "pageLink": {
            "pageSize": 100,
            "page": 0,
            "textSearch": None,
            "sortOrder": {"key": {"type": ENTITY_FIELD, "key": "name"}, "direction": "ASC"},
            "dynamic": False,
        },
    }
