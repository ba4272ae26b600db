"""The simulated Live REST API: what can be read of the world, and a few actions.

The resources, their fields, `getByName` and the statuses are the pages'. The actions are the simulator's own: the
pages that name them could not be read (`originate`, `dnd`, `status`, `transfer`).
Source: iSymphony developer documentation, Live API, REST API Documentation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import msgspec

from bridge.simulators.isymphony_world import Event, User, World

STATUSES = ("available", "unavailable", "away", "xa", "dnd", "chat", "altblue", "altgreen", "altpink", "altpurple",
            "altred")  # fmt: skip


@dataclass
class Answered:
    """status, and JSON or text · events: what happened by it."""

    status: int
    body: Any = None
    events: list[Event] = field(default_factory=list)


_MISSING = Answered(404, "No such object.")


class Live:
    """Answers requests below the Live REST root."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._actions: dict[tuple[str, str], Callable[[User, dict[str, Any]], Answered]] = {
            ("extensions", "originate"): self._originate,
            ("extensions", "dnd"): self._dnd,
            ("users", "status"): self._status,
        }

    def request(self, method: str, path: str, body: bytes) -> Answered:
        """path: as it came, below the root."""
        levels = [unquote(level) for level in path.strip("/").split("/")]
        if levels[0] != "coreServers":
            return _MISSING
        core = {"id": self._world.core, "slug": self._world.slug}
        if len(levels) == 1:
            return Answered(200, [core]) if method == "GET" else Answered(405)
        found, rest = _named(levels[1:])
        if found not in (core["id"], f"={core['slug']}"):
            return _MISSING
        if not rest:
            return Answered(200, core) if method == "GET" else Answered(405)
        if method == "GET":
            return self._read(rest)
        return self._act(rest, body) if method == "POST" else Answered(405)

    def _read(self, levels: list[str]) -> Answered:
        kind, (found, rest) = levels[0], _named(levels[1:])
        objects = self._objects(kind)
        if objects is None:
            return _MISSING
        if not found:
            return Answered(200, [shown for _, shown in objects])
        known = next((shown for name, shown in objects if found in (shown["id"], f"={name}")), None)
        if known is None:
            return _MISSING
        if not rest:
            return Answered(200, known)
        return self._below(self._user(kind, found), rest) if kind == "users" else _MISSING

    def _objects(self, kind: str) -> list[tuple[str, dict[str, Any]]] | None:
        """By their names; None for a kind that there is not."""
        users = self._world.users
        if kind == "users":
            return [(user.name, {"id": user.id, "userName": user.name, "displayedName": user.shown}) for user in users]
        if kind == "extensions":
            return [(user.extension, _extension(user)) for user in users]
        names = {"conferences": self._world.rooms, "queues": self._world.queues}.get(kind)
        if names is None:
            return None
        return [(name, {"id": known, "displayName": name, "identifier": name}) for name, known in names.items()]

    def _below(self, user: User | None, rest: list[str]) -> Answered:
        if user is None or len(rest) > 1:
            return _MISSING
        status = {"type": user.status, "name": user.status.title(), "note": "", "returnTime": -1, "userCreated": False}
        below = {
            "logins": [{"id": login, "ip": address} for login, address in user.logins.items()],
            "status": status,
            "extensions": [_extension(user)],
        }
        return Answered(200, below[rest[0]]) if rest[0] in below else _MISSING

    def _act(self, levels: list[str], body: bytes) -> Answered:
        kind, (found, rest) = levels[0], _named(levels[1:])
        user = self._user(kind, found)
        action = self._actions.get((kind, rest[0])) if len(rest) == 1 else None
        if user is None or action is None:
            return _MISSING
        try:
            fields = msgspec.json.decode(body or b"{}", type=dict[str, Any])
        except msgspec.DecodeError as error:
            return Answered(412, f"The JSON is invalid: {error}")
        return action(user, fields)

    def _user(self, kind: str, found: str) -> User | None:
        for user in self._world.users:
            keys = (user.id, f"={user.name}") if kind == "users" else (user.extension_id, f"={user.extension}")
            if found in keys and kind in ("users", "extensions"):
                return user
        return None

    def _originate(self, user: User, fields: dict[str, Any]) -> Answered:
        number = fields.get("number")
        if not isinstance(number, str) or not number:
            return Answered(412, "number missing")
        called = next((one for one in self._world.users if one.extension == number), None)
        return Answered(204, events=self._world.ring(user, called, number)[1])

    def _dnd(self, user: User, fields: dict[str, Any]) -> Answered:
        if not isinstance(enabled := fields.get("enabled"), bool):
            return Answered(412, "enabled missing")
        user.dnd = enabled
        return Answered(204)

    def _status(self, user: User, fields: dict[str, Any]) -> Answered:
        if fields.get("type") not in STATUSES:
            return Answered(412, "type missing or unknown")
        user.status = fields["type"]
        return Answered(204)


def _extension(user: User) -> dict[str, Any]:
    return {"id": user.extension_id, "extensionNumber": user.extension, "displayName": user.shown}


def _named(levels: list[str]) -> tuple[str, list[str]]:
    """An object's id, or `=name` of `getByName/name`, and what follows; "" where none is named."""
    if not levels:
        return "", []
    if levels[0] == "getByName":
        return f"={levels[1]}" if len(levels) > 1 else "=", levels[2:]
    return levels[0], levels[1:]
