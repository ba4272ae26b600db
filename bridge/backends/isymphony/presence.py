"""Who is logged in, as far as it was told (userLogin, userLogout) or read (Live REST): a state per user.

    unknown ──userLogin, read──▶ in ──last userLogout──▶ out          any ──gap, new coreServerId, stop──▶ unknown
       └──not listed any more──▶ (no state)

A login is known by its userLoginId, so that one told twice counts once; one without an id is only counted.
"""

from collections.abc import Callable, Iterable

from msgspec import Struct, field

from bridge.backends.isymphony.data import InOrOut, UserState
from bridge.model import State
from bridge.topics import level

_MOST = 100_000  # users


class _User(Struct):
    """logins: by id · nameless: those without one."""

    presence: InOrOut = "unknown"
    logins: set[str] = field(default_factory=set)
    nameless: int = 0


class Presence:
    """The users by name: names outlive a restart of the platform's server, ids do not."""

    def __init__(self) -> None:
        self._users: dict[str, _User] = {}

    def __len__(self) -> int:
        return len(self._users)

    @property
    def names(self) -> tuple[str, ...]:
        """Of whom a state was told."""
        return tuple(self._users)

    def login(self, name: str, login_id: str, time: str) -> tuple[State, ...]:
        """login_id: "" where it was not told."""
        if (user := self._user(name)) is None or (login_id and login_id in user.logins):
            return ()
        if login_id:
            user.logins.add(login_id)
        else:
            user.nameless += 1
        return (_told(name, user, time),)

    def logout(self, name: str, login_id: str, time: str) -> tuple[State, ...]:
        """Of a login that we do not know: one without an id, if there is any."""
        if (user := self._user(name)) is None:
            return ()
        if login_id in user.logins:
            user.logins.discard(login_id)
        elif user.nameless:
            user.nameless -= 1
        elif not login_id and user.logins:
            user.logins.pop()
        elif user.presence != "unknown":
            return ()
        return (_told(name, user, time),)

    def read(self, name: str, ids: Iterable[str], nameless: int, time: str) -> tuple[State, ...]:
        """The logins that the platform lists now."""
        if (user := self._user(name)) is None:
            return ()
        user.logins, user.nameless = set(ids), nameless
        return (_told(name, user, time),)

    def forget(self, time: str, but: Callable[[str], bool] = lambda name: False) -> tuple[State, ...]:
        """Nothing is known any more of all users but some."""
        states = []
        for name, user in self._users.items():
            if user.presence != "unknown" and not but(name):
                user.presence, user.logins, user.nameless = "unknown", set(), 0
                states.append(_state(name, user, time))
        return tuple(states)

    def gone(self, listed: frozenset[str]) -> tuple[State, ...]:
        """Those who are not among all users there are, and of whom nothing was told since."""
        names = [name for name, user in self._users.items() if user.presence == "unknown" and name not in listed]
        for name in names:
            del self._users[name]
        return tuple(State(_subject(name), None) for name in names)

    def remembered(self, names: Iterable[str], time: str) -> tuple[State, ...]:
        """Users of an earlier life, whose states the broker still has."""
        users = [(name, user) for name in names if (user := self._user(name)) is not None]
        return tuple(_state(name, user, time) for name, user in users)

    def _user(self, name: str) -> _User | None:
        """None for one too many."""
        user = self._users.get(name)
        if user is None and len(self._users) < _MOST:
            user = self._users[name] = _User()
        return user


def _told(name: str, user: _User, time: str) -> State:
    user.presence = "in" if user.logins or user.nameless else "out"
    return _state(name, user, time)


def _state(name: str, user: _User, time: str) -> State:
    return State(_subject(name), UserState(user.presence, len(user.logins) + user.nameless, time))


def _subject(name: str) -> str:
    return f"user/{level(name)}"
