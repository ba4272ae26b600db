"""The roll call: after each connect the Live REST API is asked who is logged in, since events tell only of changes.

    coreServers ──▶ coreServers/{id}/users ──▶ coreServers/{id}/users/{id}/logins, one per user, a few at a time

Who is in none of the lists of users, where all could be read, is no user any more.

It is a favour: where the API is not there or says no, nothing is said of it, and presence stays unknown until told.
Ids are good for this: they are used at once (Live API: an object's id lives until its server restarts).
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from bridge.backends.isymphony.actions import Request
from bridge.backends.session import Answer, Call

_AT_ONCE = 4
_DEADLINE_S = 15.0
_MOST = 100_000  # users
_GIVE_UP = (0, 401, 403, 429)  # what one request is answered, the next one will be, too


class Logins(Struct, frozen=True):
    """The logins of a user: their ids, and how many had none."""

    username: str
    ids: tuple[str, ...]
    nameless: int


class _Asked(Struct, frozen=True):
    path: str
    username: str = ""  # of whose logins


class Roll:
    """One roll call after the other.

    call: makes the Call of an id, a request and seconds · follows: whether we would hear of changes of this user.
    """

    def __init__(self, call: Callable[[str, Request, float], Call], follows: Callable[[str], bool]) -> None:
        self._call, self._follows = call, follows
        self._number = 0
        self.cores: tuple[str, ...] = ()  # the ids of the core servers there are
        self._line: deque[_Asked] = deque()
        self._asked: dict[str, _Asked] = {}
        self._stale: set[str] = set()  # users who came or went while they were asked about
        self._names: set[str] | None = None  # of the users listed so far; None: not all can be known
        self._lists = 0  # of users that are to be read still

    def begins(self) -> tuple[Call, ...]:
        """Anew; answers to what was asked before are not waited for."""
        self.ends()
        self.cores = ()
        self._names, self._lists = set(), 0
        self._line.append(_Asked("coreServers"))
        return self._next()

    def ends(self) -> None:
        self._line.clear()
        self._asked.clear()
        self._stale.clear()
        self._names = None

    def changed(self, username: str) -> None:
        """An event told of this user: an answer that is on its way may be older."""
        if self._asked:
            self._stale.add(username)

    def answered(self, call: str, answer: Answer) -> tuple[Logins | None, tuple[Call, ...]]:
        """What is known now, and what to ask next."""
        asked = self._asked.pop(call, None)
        if asked is None:
            return None, ()
        if answer.status in _GIVE_UP:
            self.ends()
            return None, ()
        told = None
        if asked.username and asked.username in self._stale:
            self._stale.discard(asked.username)
            self._line.append(asked)
        elif (listed := _listed(answer)) is not None:
            told = self._heard(asked, listed)
        return told, self._next()

    def everybody(self) -> frozenset[str]:
        """The names of all users there are, once, when all lists of them are read; else none."""
        if not self._names or self._lists:
            return frozenset()
        names, self._names = frozenset(self._names), None
        return names

    def _heard(self, asked: _Asked, listed: list[Any]) -> Logins | None:
        objects = [one for one in listed if isinstance(one, dict)]
        if asked.username:
            ids = tuple(one for one, _ in _identified(objects))
            return Logins(asked.username, ids, len(listed) - len(ids))
        if asked.path == "coreServers":
            self.cores = tuple(known for known, _ in _identified(objects))
            self._lists = len(self.cores)
            if self._lists < len(listed):
                self._names = None
        else:
            self._lists -= 1
            if self._names is not None:
                self._names.update(name for one in objects if isinstance(name := one.get("userName"), str))
        for known, one in _identified(objects):
            path, name = f"{asked.path}/{quote(known, safe='')}", one.get("userName")
            if asked.path == "coreServers":
                self._line.append(_Asked(f"{path}/users"))
            elif isinstance(name, str) and name and self._follows(name) and len(self._line) < _MOST:
                self._line.append(_Asked(f"{path}/logins", name))
        return None

    def _next(self) -> tuple[Call, ...]:
        calls = []
        while self._line and len(self._asked) < _AT_ONCE:
            asked = self._line.popleft()
            self._number += 1
            call = f"roll-{self._number}"
            self._asked[call] = asked
            self._stale.discard(asked.username)
            calls.append(self._call(call, Request("GET", asked.path), _DEADLINE_S))
        return tuple(calls)


def _listed(answer: Answer) -> list[Any] | None:
    """The list that the answer is; None for any other."""
    if answer.status != 200:
        return None
    try:
        value = msgspec.json.decode(answer.body)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return value if isinstance(value, list) else None


def _identified(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Those that have an id which can be a level of a path."""
    return ((known, one) for one in objects if isinstance(known := one.get("id"), str) and known not in ("", ".", ".."))
