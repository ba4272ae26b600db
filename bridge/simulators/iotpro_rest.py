"""The REST side of a simulated IoT Pro: logins, lists of assets, time series, attributes, rpc (ThingsBoard)."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from bridge.simulators.iotpro_http import Reply, Request
from bridge.simulators.iotpro_options import Faults, IotproSimOptions
from bridge.simulators.iotpro_tokens import REFRESH, BadToken, Tokens
from bridge.simulators.iotpro_world import Asset, World, java

CUSTOMER = "2c77aa90-c1d2-11ef-9a11-3d1f0c7a2b41"
_TELEMETRY = "/api/plugins/telemetry/ASSET/"
_AT = 1_767_222_000_123

Set = Callable[[Asset, str, dict[str, Any]], None]


class Rest:
    """set_attributes: carries them out, and tells the sockets · posts: what was asked for with POST, but logins."""

    def __init__(
        self,
        options: IotproSimOptions,
        world: World,
        tokens: Tokens,
        faults: Callable[[], Faults],
        set_attributes: Set,
        rung: Callable[[], None],
    ) -> None:
        self._options, self._world, self._tokens = options, world, tokens
        self._faults, self._set, self._rung = faults, set_attributes, rung
        self.requests: list[Request] = []
        self.posts: list[tuple[str, Any]] = []
        self.logins = self.renewals = self.refusals = 0

    async def answer(self, asked: Request) -> Reply:
        self.requests.append(asked)
        try:
            if asked.path == "/api/auth/login":
                return self._login(asked)
            if asked.path == "/api/auth/token":
                return self._renew(asked)
            return await self._authorized(asked)
        finally:
            self._rung()

    # Logins.

    def _login(self, asked: Request) -> Reply:
        faults = self._faults()
        told = _read(asked.body, dict[str, str])
        good = told == {"username": self._options.username, "password": self._options.password}
        self.logins += 1
        if faults.login:
            return _error(faults.login, 10, "Too many requests" if faults.login == 429 else "said so")
        if asked.method != "POST" or told is None or told.keys() != {"username", "password"}:
            return self._no(10, "Authentication failed")
        if not good:
            return self._no(10, "Invalid username or password")
        if faults.expired_password:
            return self._no(15, "User password expired!")
        return Reply(200, self._tokens.half() if faults.half_login else self._tokens.pair())

    def _renew(self, asked: Request) -> Reply:
        self.renewals += 1
        told = _read(asked.body, dict[str, str])
        if self._faults().renewal:
            return _error(self._faults().renewal, 10, "said so")
        if told is None or told.keys() != {"refreshToken"}:
            return self._no(10, "Authentication failed")
        try:
            self._tokens.read(told["refreshToken"], REFRESH)
        except BadToken as bad:
            return self._no(11 if bad.expired else 10, "Token has expired" if bad.expired else str(bad))
        return Reply(200, self._tokens.pair())

    def _no(self, code: int, words: str) -> Reply:
        self.refusals += 1
        return _error(401, code, words)

    async def _authorized(self, asked: Request) -> Reply:
        faults = self._faults()
        token = asked.headers.get("x-authorization", asked.headers.get("authorization", ""))
        if not token.startswith("Bearer "):
            return self._no(10, "Authentication failed")
        try:
            self._tokens.read(token.removeprefix("Bearer "))
        except BadToken as bad:
            return self._no(
                11 if bad.expired else 10, "Token has expired" if bad.expired else "Invalid username or password"
            )
        if faults.rest:
            headers = {"Retry-After": str(faults.rest_after)} if faults.rest_after else {}
            words = "Too many requests for current tenant!" if faults.rest == 429 else "said so"
            return Reply(faults.rest, _fault(faults.rest, 33, words), headers)
        return await self._route(asked)

    async def _route(self, asked: Request) -> Reply:
        path = asked.path
        if path.startswith(_TELEMETRY):
            return self._telemetry(asked)
        if path.startswith("/api/rpc/") and asked.method == "POST":
            return await self._rpc(asked)
        if path == "/api/auth/user":
            authority = "TENANT_ADMIN" if self._options.role == "tenant" else "CUSTOMER_USER"
            return Reply(200, {"authority": authority, "customerId": {"entityType": "CUSTOMER", "id": CUSTOMER}})
        if path == "/api/relations":
            return self._relations(asked)
        if path == "/api/entitiesQuery/find" and asked.method == "POST":
            return self._find(asked)
        return self._assets(asked)

    # Assets.

    def _assets(self, asked: Request) -> Reply:
        lists = {
            "/api/user/assets": self._options.edition == "pe",
            "/api/tenant/assets": self._options.role == "tenant",
            f"/api/customer/{CUSTOMER}/assets": True,
        }
        if asked.path == "/api/user/assets" and not lists[asked.path]:  # taken as /api/user/{userId}
            return _error(400, 31, "Invalid UUID string: assets")
        if asked.path not in lists:
            return Reply(404, _fault(404, 32, "Not found"))
        if not lists[asked.path]:
            return _error(403, 20, "You don't have permission to perform this operation!")
        page, size = asked.query.get("page", ""), asked.query.get("pageSize", "")
        if not (page.isdecimal() and size.isdecimal() and int(size)):
            return _error(400, 31, f"Incorrect page link page size '{size}'. Page size must be greater than zero.")
        every = list(self._world.assets.values())
        first, last = int(page) * int(size), (int(page) + 1) * int(size)
        told = [_asset(one) for one in every[first:last]]
        pages = -(-len(every) // int(size))
        return Reply(
            200, {"data": told, "totalPages": pages, "totalElements": len(every), "hasNext": last < len(every)}
        )

    def _relations(self, asked: Request) -> Reply:
        asset = self._world.assets.get(asked.query.get("fromId", asked.query.get("toId", "")))
        if asset is None:
            return Reply(404, b"Asset with requested id wasn't found!")
        if "toId" in asked.query or not asset.device:
            return Reply(200, [])
        relation = {
            "from": {"entityType": "ASSET", "id": asset.id},
            "to": {"entityType": "DEVICE", "id": asset.device},
            "type": "Contains",
            "typeGroup": "COMMON",
            "version": 1,
            "additionalInfo": None,
        }
        return Reply(200, [relation])

    def _find(self, asked: Request) -> Reply:
        told = _read(asked.body, dict[str, Any])
        wanted = told.get("entityFilter", {}) if told else {}
        if wanted.get("type") != "entityName" or wanted.get("entityType") != "DEVICE":
            return _error(400, 31, "Invalid request body")
        prefix = str(wanted.get("entityNameFilter", "")).lower()
        found = [
            one for one in self._world.assets.values() if one.device and one.device_name.lower().startswith(prefix)
        ]
        data = [
            {
                "entityId": {"entityType": "DEVICE", "id": one.device},
                "latest": {"ENTITY_FIELD": {"name": {"ts": _AT, "value": one.device_name}}},
                "timeseries": {},
                "aggLatest": {},
            }
            for one in found
        ]
        return Reply(200, {"data": data, "totalPages": 1, "totalElements": len(data), "hasNext": False})

    # Time series, attributes, rpc.

    def _telemetry(self, asked: Request) -> Reply:
        name, _, rest = asked.path.removeprefix(_TELEMETRY).partition("/")
        asset = self._world.assets.get(name)
        if asset is None:
            return Reply(404, b"Asset with requested id wasn't found!")
        if rest == "values/timeseries" and asked.method == "GET":
            return self._history(asset, asked.query)
        what, _, scope = rest.partition("/")
        if what == "attributes" and asked.method == "POST":
            return self._attributes(asset, scope, asked)
        if rest.startswith("values/attributes") and asked.method == "GET":
            told = [{"lastUpdateTs": ts, "key": key, "value": value} for key, (ts, value) in asset.attributes.items()]
            return Reply(200, told)
        return Reply(404, _fault(404, 32, "Not found"))

    def _history(self, asset: Asset, query: dict[str, str]) -> Reply:
        if self._faults().history:
            return _error(self._faults().history, 2, "said so")
        limit = int(query.get("limit", "100"))
        if limit < 1:
            return Reply(400, b"Incorrect TsKvQuery. Limit must be greater than zero")
        start, end = int(query["startTs"]), int(query["endTs"])
        newest_first = query.get("orderBy", "DESC") == "DESC"
        told = {}
        for key in query["keys"].split(","):
            if points := self._world.range(asset, key, start, end, limit, newest_first):
                told[key] = [{"ts": ts, "value": java(value)} for ts, value in points]
        return Reply(200, told)

    def _attributes(self, asset: Asset, scope: str, asked: Request) -> Reply:
        values = _read(asked.body, dict[str, Any])
        self.posts.append((asked.path, values))
        if scope not in ("SERVER_SCOPE", "SHARED_SCOPE"):
            return Reply(400, f"Invalid scope: {scope}".encode())
        if values is None:
            return Reply(400, b"Request is not a JSON object")
        if not values:
            return Reply(400, b"No attributes data found in request body!")
        if "" in values:
            return Reply(400, b"Key cannot be blank")
        if None in values.values():
            return _error(500, 2, "Cannot invoke a method on null")
        self._set(asset, scope, values)
        return Reply(200)

    async def _rpc(self, asked: Request) -> Reply:
        told = _read(asked.body, dict[str, Any])
        self.posts.append((asked.path, told))
        way, _, device = asked.path.removeprefix("/api/rpc/").partition("/")
        if told is None:
            return _error(400, 31, "Invalid request body")
        if "method" not in told or "params" not in told:
            return _error(500, 2, "Cannot invoke a method on null")
        if not any(one.device == device for one in self._world.assets.values()):
            return Reply(404, b"Device with requested id wasn't found!")
        if self._faults().offline_devices:
            await asyncio.sleep(max(5000, int(told.get("timeout", 10_000))) / 1000)
            return Reply(504)
        return Reply(200) if way == "oneway" else Reply(200, {"done": told["method"], "params": told["params"]})


def _asset(one: Asset) -> dict[str, Any]:
    return {
        "id": {"entityType": "ASSET", "id": one.id},
        "createdTime": one.created,
        "customerId": {"entityType": "CUSTOMER", "id": CUSTOMER},
        "name": one.name,
        "type": one.profile,
        "label": one.label,
        "version": 4,
        "additionalInfo": {"description": ""},
    }


def _fault(status: int, code: int, words: str) -> dict[str, Any]:
    return {"status": status, "message": words, "errorCode": code, "timestamp": _AT}


def _error(status: int, code: int, words: str) -> Reply:
    return Reply(status, _fault(status, code, words))


def _read(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError):
        return None
