"""How `attributes` and `rpc` are carried out over the REST side (ThingsBoard, TelemetryController, RpcV2Controller).

An rpc goes to a device, what we follow are assets: the device is named by the sender, or is the one that the asset has
a relation with. A device that does not answer within the time is a 504: it may have been carried out.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from bridge.backends.iotpro import asks
from bridge.backends.iotpro.assets import Asset, Assets
from bridge.backends.iotpro.orders import AttributesBody, Orders, Rpc, pause, result
from bridge.backends.iotpro.requests import Requests
from bridge.backends.iotpro.turn import Turn
from bridge.backends.iotpro.wire import ENTITY_FIELD
from bridge.backends.iotpro.words import words
from bridge.backends.session import Answer
from bridge.errors import BadCommand
from bridge.model import Command, Instant

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SHORTEST_MS, _LONGEST_MS = 5_000, 25_000  # the platform raises shorter ones, and ends longer ones at 30 s by itself
_MARGIN_S = 1.5  # its answer comes up to 1 s after the time it was given

Devices = Callable[[list[str], Turn, Instant], None]


class _Entity(Struct):
    id: str
    entityType: str = ""  # noqa: N815 - the platform's names


class _Relation(Struct):
    to: _Entity
    from_: _Entity = msgspec.field(name="from")


class _Name(Struct):
    value: str | None = None


class _Found(Struct):
    entityId: _Entity  # noqa: N815
    latest: dict[str, dict[str, _Name]]


class _FoundPage(Struct):
    data: list[_Found]


class Downlinks:
    """initial: seconds before something that came too fast is sent again, where the platform does not say."""

    def __init__(self, assets: Assets, requests: Requests, orders: Orders, initial: float) -> None:
        self._assets, self._requests, self._orders, self._initial = assets, requests, orders, initial

    def begin(self, command: Command, turn: Turn, now: Instant) -> None:
        asset = self._assets.at(command.subject)
        if asset is None:
            bad = BadCommand(f"no asset is at {command.subject}", code=404, kind="no_such_subject")
            self._orders.rejected(command, bad, turn, now)
        elif isinstance(command.body, AttributesBody):
            path = asks.attributes(asset.id, command.body.scope)
            self._post(command, path, lambda _: command.body.values, lambda _: None, turn, now)
        else:
            self._rpc(command, asset, turn, now)

    def _post(
        self,
        command: Command,
        path: str,
        body: Callable[[Instant], dict[str, Any]],
        data: Callable[[Answer], Any],
        turn: Turn,
        now: Instant,
        after: float = 0.0,
    ) -> None:
        """body: as it is at that moment · data: of the final response."""

        def answered(answer: Answer, turn: Turn, now: Instant) -> None:
            if 200 <= answer.status < 300:
                self._orders.done(command, data(answer), turn, now)
            elif self._orders.is_now(command) and (wait := pause(answer, command, now, self._initial)) is not None:
                self._post(command, path, body, data, turn, now, wait)
            else:
                self._orders.answered(command, answer, turn, now)

        self._orders.sent(command)
        deadline = max(0.1, command.deadline - now.mono)
        self._requests.ask(turn, "POST", path, answered, body=body(now), deadline=deadline, after=after)

    # Remote procedure calls.

    def _rpc(self, command: Command, asset: Asset, turn: Turn, now: Instant) -> None:
        device: str | None = command.body.device
        if device is None:
            self._related(command, asset, "from", turn, now)
        elif _UUID.fullmatch(device):
            self._call(command, device, turn, now)
        else:
            self._named(command, device, turn, now)

    def _call(self, command: Command, device: str, turn: Turn, now: Instant) -> None:
        body: Rpc = command.body

        def told(now: Instant) -> dict[str, Any]:
            left = int((command.deadline - now.mono - _MARGIN_S) * 1000)
            timeout = min(_LONGEST_MS, max(_SHORTEST_MS, left))
            return {"method": body.method, "params": body.params, "timeout": timeout, "persistent": False}

        path = asks.rpc(device, body.oneway)
        self._post(command, path, told, lambda answer: {"result": result(answer)}, turn, now)

    def _ask(self, command: Command, turn: Turn, now: Instant, then: Devices, path: str, body: Any, read: Any) -> None:
        """Asks who the device is. read: their ids from an answer's body, raises ValueError."""

        def answered(answer: Answer, turn: Turn, now: Instant) -> None:
            if not self._orders.is_now(command):
                return
            try:
                devices = read(answer.body) if answer.status == 200 else None
            except (ValueError, RecursionError):
                devices = None
            if devices is None:
                self._not_asked(command, answer, turn, now)
            else:
                then(devices, turn, now)

        deadline = max(0.1, command.deadline - now.mono)
        self._requests.ask(turn, "POST" if body else "GET", path, answered, body=body, deadline=deadline)

    def _not_asked(self, command: Command, answer: Answer, turn: Turn, now: Instant) -> None:
        """Who the device is could not be had: nothing was carried out."""
        if answer.status == 200:
            self._orders.refused(command, "the platform's answer about the device could not be read", turn, now)
        elif answer.status == 404:
            self._orders.answered(command, answer, turn, now)
        else:
            self._orders.refused(command, f"which device it is could not be asked: {words(answer)}", turn, now)

    def _related(self, command: Command, asset: Asset, direction: str, turn: Turn, now: Instant) -> None:
        """By the asset's relations: those that lead from it, else those that lead to it."""

        def read(body: bytes) -> list[str]:
            relations = msgspec.json.decode(body, type=list[_Relation])
            ends = [one.to if direction == "from" else one.from_ for one in relations]
            return list(dict.fromkeys(end.id for end in ends if end.entityType == "DEVICE"))

        def then(devices: list[str], turn: Turn, now: Instant) -> None:
            if not devices and direction == "from":
                self._related(command, asset, "to", turn, now)
            else:
                self._one(command, devices, "the asset is related to", turn, now)

        self._ask(command, turn, now, then, asks.related(asset.id, direction), None, read)

    def _named(self, command: Command, name: str, turn: Turn, now: Instant) -> None:
        def read(body: bytes) -> list[str]:
            found = msgspec.json.decode(body, type=_FoundPage).data
            return [one.entityId.id for one in found if _name_of(one) == name]

        def then(devices: list[str], turn: Turn, now: Instant) -> None:
            self._one(command, devices, "this name belongs to", turn, now)

        self._ask(command, turn, now, then, asks.FIND, asks.device_named(name), read)

    def _one(self, command: Command, devices: list[str], what: str, turn: Turn, now: Instant) -> None:
        """Goes on where it is clear which device is meant."""
        if len(devices) == 1:
            self._call(command, devices[0], turn, now)
            return
        if not devices:
            bad = BadCommand(f"{what} no device that this account sees", code=404, kind="no_device", field="device")
        else:
            told = f"{what} {len(devices)} devices: name one by its id in `device`"
            bad = BadCommand(told, kind="invalid_field", field="device")
        self._orders.rejected(command, bad, turn, now)


def _name_of(found: _Found) -> str | None:
    return found.latest.get(ENTITY_FIELD, {}).get("name", _Name()).value
