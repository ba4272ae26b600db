"""One WebSocket client of a simulated IoT Pro: its login, its subscriptions, what it is told (ThingsBoard, /api/ws).

Commands are read as strictly as the platform does: one unknown member, and nothing of the frame is carried out.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridge.simulators.iotpro_http import Socket
from bridge.simulators.iotpro_options import Faults
from bridge.simulators.iotpro_tokens import BadToken, Tokens
from bridge.simulators.iotpro_world import Asset, Point, World, database, java

ENTITY_FIELD, TIME_SERIES = "ENTITY_FIELD", "TIME_SERIES"
_ATTRIBUTES = ("ATTRIBUTE", "CLIENT_ATTRIBUTE", "SHARED_ATTRIBUTE", "SERVER_ATTRIBUTE")
_BACKLOG = 64 * 2**20
_KINDS = Literal["ENTITY_FIELD", "TIME_SERIES", "ATTRIBUTE", "CLIENT_ATTRIBUTE", "SHARED_ATTRIBUTE", "SERVER_ATTRIBUTE"]


class _Key(Struct, frozen=True, forbid_unknown_fields=True):
    type: _KINDS
    key: str


class _Sort(Struct, forbid_unknown_fields=True):
    key: _Key
    direction: Literal["ASC", "DESC"] = "ASC"


class _PageLink(Struct, forbid_unknown_fields=True):
    pageSize: int = 0  # noqa: N815 - the platform's names
    page: int = 0
    textSearch: str | None = None  # noqa: N815
    sortOrder: _Sort | None = None  # noqa: N815
    dynamic: bool = False


class _Query(Struct):
    """Of a query and its filter, unknown members are passed over."""

    entityFilter: dict[str, Any]  # noqa: N815
    pageLink: _PageLink  # noqa: N815
    entityFields: list[_Key] | None = None  # noqa: N815
    latestValues: list[_Key] | None = None  # noqa: N815


class _Latest(Struct, forbid_unknown_fields=True):
    keys: list[_Key]


class _Cmd(Struct, forbid_unknown_fields=True):
    cmdId: int  # noqa: N815
    type: Literal["ENTITY_DATA", "ENTITY_DATA_UNSUBSCRIBE", "ENTITY_COUNT", "ENTITY_COUNT_UNSUBSCRIBE"]
    query: _Query | UnsetType = UNSET
    latestCmd: _Latest | UnsetType = UNSET  # noqa: N815


class _Auth(Struct, forbid_unknown_fields=True):
    cmdId: int  # noqa: N815
    token: str


class _Wrapper(Struct, forbid_unknown_fields=True):
    authCmd: _Auth | None = None  # noqa: N815
    cmds: list[_Cmd] = []


_decode = msgspec.json.Decoder(_Wrapper).decode
_encode = msgspec.json.Encoder().encode


class Subscription(Struct):
    """ids: who is on its page, in order."""

    cmd: int
    query: _Query
    keys: list[_Key]
    ids: list[str]
    series: frozenset[str]
    attributes: dict[str, str]  # key → kind
    whole: set[str]


def chosen(world: World, query: _Query) -> list[Asset]:
    """All that the filter takes, in the order of the page link. Raises ValueError for a filter we do not know."""
    told, assets = query.entityFilter, list(world.assets.values())
    match told.get("type"):
        case "entityType":
            assets = assets if told.get("entityType") == "ASSET" else []
        case "assetType":
            types = told.get("assetTypes") or [told.get("assetType")]
            prefix = told.get("assetNameFilter") or ""
            assets = [one for one in assets if one.profile in types and one.name.lower().startswith(prefix.lower())]
        case "entityList":
            assets = [world.assets[one] for one in told.get("entityList", ()) if one in world.assets]
        case _:
            raise ValueError("Failed to parse the payload")
    order = query.pageLink.sortOrder
    if order is not None:
        assets.sort(key=lambda one: _field(one, order.key.key), reverse=order.direction == "DESC")
    return assets


def _field(asset: Asset, name: str) -> Any:
    return {"createdTime": asset.created, "name": asset.name, "type": asset.profile, "label": asset.label}.get(name, "")


class Talk:
    """rung: called when something has changed for those who wait."""

    def __init__(
        self, socket: Socket, world: World, tokens: Tokens, faults: Callable[[], Faults], rung: Callable[[], None]
    ) -> None:
        self.socket = socket
        self._world, self._tokens, self._faults, self._rung = world, tokens, faults, rung
        self.admitted = False
        self.subscriptions: dict[int, Subscription] = {}
        self.commands: list[dict[str, Any]] = []
        self._told = 0
        self._throttled = False
        self._held: bytes | None = None

    async def live(self, auth_wait: float) -> None:
        """Until it ends."""
        loop = asyncio.get_running_loop()
        late = loop.call_later(auth_wait, self._late)
        pings = loop.create_task(self._pings())
        try:
            await self.socket.frames(self._heard)
        finally:
            late.cancel()
            pings.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pings

    async def _pings(self) -> None:
        while True:
            await asyncio.sleep(10.0)
            self.socket.ping()

    def _late(self) -> None:
        if not self.admitted:
            self.socket.close(1008, "Authentication timeout")

    # What it asks.

    def _heard(self, frame: bytes) -> None:
        try:
            wrapper = _decode(frame)
            if any(cmd.type.endswith("UNSUBSCRIBE") and cmd.query is not UNSET for cmd in wrapper.cmds):
                raise ValueError("an unsubscription has no query")
        except (ValueError, RecursionError):
            if not self.admitted:
                self.socket.close(1007, "Failed to parse the payload")
            else:
                self._error(1, 2, "Failed to parse the payload")
            return
        if not self.admitted and not self._admit(wrapper.authCmd):
            return
        for cmd in wrapper.cmds:
            self.commands.append({"cmdId": cmd.cmdId, "type": cmd.type})
            self._command(cmd)
        self._rung()

    def _admit(self, auth: _Auth | None) -> bool:
        if auth is None:
            self.socket.close(1008, "Auth cmd is missing")
            return False
        try:
            self._tokens.read(auth.token)
        except BadToken as bad:
            self.socket.close(1007, str(bad))
            return False
        faults = self._faults()
        if faults.refuse_token:
            self.socket.close(1007, "Token is outdated")
        elif faults.session_limit:
            self.socket.close(1008, "Max tenant sessions limit reached!")
        else:
            self.admitted = True
        return self.admitted

    def _command(self, cmd: _Cmd) -> None:
        if cmd.type == "ENTITY_DATA_UNSUBSCRIBE":
            self.subscriptions.pop(cmd.cmdId, None)
        elif cmd.type == "ENTITY_COUNT":
            self._send(
                {"cmdId": cmd.cmdId, "errorCode": 0, "count": len(self._world.assets), "cmdUpdateType": "COUNT_DATA"}
            )
        elif cmd.type == "ENTITY_DATA":
            self._subscribe(cmd)

    def _subscribe(self, cmd: _Cmd) -> None:
        faults, query = self._faults(), cmd.query
        if isinstance(query, UnsetType):
            return self._error(cmd.cmdId, 2, "Query is empty!")
        if faults.refuse_subscription:
            return self._error(cmd.cmdId, 2, "Exceeded rate limit for WS subscriptions per tenant")
        if query.pageLink.pageSize < 1 or (cmd.latestCmd is not UNSET and query.latestValues is None):
            return self._error(cmd.cmdId, 1, "Failed to process command")
        try:
            chosen(self._world, query)
        except ValueError as wrong:
            return self._error(1, 2, str(wrong))
        keys = [] if isinstance(cmd.latestCmd, UnsetType) else cmd.latestCmd.keys
        subscription = Subscription(
            cmd.cmdId,
            query,
            keys,
            [],
            frozenset(key.key for key in keys if key.type == TIME_SERIES),
            {key.key: key.type for key in keys if key.type in _ATTRIBUTES},
            set(),
        )
        self.subscriptions[cmd.cmdId] = subscription
        if not faults.silent:
            self._picture(subscription)
        return None

    def _error(self, cmd: int, code: int, words: str) -> None:
        self._send({"subscriptionId": cmd, "errorCode": code, "errorMsg": words, "data": None, "latestValues": {}})

    # What it is told.

    def refresh(self) -> None:
        """Looks who is on the dynamic pages: those that changed are told anew."""
        for one in list(self.subscriptions.values()):
            if one.query.pageLink.dynamic and {asset.id for asset in self._page(one)[0]} != one.whole:
                self._picture(one)

    def _page(self, one: Subscription) -> tuple[list[Asset], int]:
        link, assets = one.query.pageLink, chosen(self._world, one.query)
        return assets[link.page * link.pageSize : (link.page + 1) * link.pageSize], len(assets)

    def _picture(self, one: Subscription) -> None:
        assets, total = self._page(one)
        one.whole = {asset.id for asset in assets}
        link = one.query.pageLink
        keys = list(dict.fromkeys([*(one.query.latestValues or ()), *one.keys]))
        fields = [] if self._faults().nameless else one.query.entityFields or []
        data = {
            "data": [_entity(asset, [*fields, *keys]) for asset in assets],
            "totalPages": -(-total // link.pageSize),
            "totalElements": total,
            "hasNext": (link.page + 1) * link.pageSize < total,
        }
        self._update(one.cmd, data, None)

    def told(self, asset: Asset, points: dict[str, Point], attributes: bool = False) -> None:
        """Newest values of an asset, to every subscription that wants them."""
        for one in self.subscriptions.values():
            if asset.id not in one.whole:
                continue
            kinds = {key: one.attributes[key] for key in points if key in one.attributes} if attributes else {}
            if not attributes:
                kinds = {key: TIME_SERIES for key in points if key in one.series}
            if not kinds or self._drops(one):
                continue
            latest: dict[str, dict[str, Any]] = {}
            for key, kind in kinds.items():
                ts, value = points[key]
                latest.setdefault(kind, {})[key] = {"ts": ts, "value": java(value)}
            entity = {"entityType": "ASSET", "id": asset.id}
            self._update(one.cmd, None, [{"entityId": entity, "latest": latest, "timeseries": None, "aggLatest": None}])

    def gone(self, asset: Asset, keys: list[str]) -> None:
        """Keys of it were deleted."""
        self.told(asset, dict.fromkeys(keys, (0, "")))

    def _drops(self, one: Subscription) -> bool:
        throttle = self._faults().throttle
        if throttle and not self._throttled:
            self._error(one.cmd, 34, "Too many updates!")
        self._throttled = throttle
        return throttle

    def _update(self, cmd: int, data: Any, update: Any) -> None:
        told = {"cmdId": cmd, "data": data, "update": update, "errorCode": 0, "errorMsg": None}
        self._send({**told, "allowedEntities": 10_000, "cmdUpdateType": "ENTITY_DATA"}, hold=update is not None)

    def _send(self, told: dict[str, Any], hold: bool = False) -> None:
        faults = self._faults()
        frame = _encode(told)
        if faults.reorder and hold and self._held is None:
            self._held = frame
            return
        self.say(frame)
        if self._held is not None:
            held, self._held = self._held, None
            self.say(held)

    def say(self, frame: bytes) -> None:
        """A frame as it is; one that is too far behind is closed as the platform does."""
        faults = self._faults()
        self._told += 1
        if faults.malformed and self._told % faults.malformed == 0:
            frame = frame[: len(frame) // 2]
        if self.socket.behind > _BACKLOG:
            self.socket.close(1008, "Max pending updates limit reached!")
            return
        self.socket.send(frame)
        if faults.close_after and self._told == faults.close_after:
            self.socket.close(faults.close_code)


def _entity(asset: Asset, keys: list[_Key]) -> dict[str, Any]:
    latest: dict[str, dict[str, Any]] = {}
    for key in keys:
        latest.setdefault(key.type, {})[key.key] = _latest(asset, key)
    entity = {"entityType": "ASSET", "id": asset.id}
    return {"entityId": entity, "latest": latest, "timeseries": {}, "aggLatest": {}}


def _latest(asset: Asset, key: _Key) -> dict[str, Any]:
    if key.type == ENTITY_FIELD:
        return {"ts": asset.created, "value": str(_field(asset, key.key))}
    ts, value = (asset.latest if key.type == TIME_SERIES else asset.attributes).get(key.key, (0, ""))
    return {"ts": ts, "value": database(value)}
