"""A small call centre: who sits where, who is logged in, who talks to whom; what the platform says of it.

Everything random comes from one seed, ids included. A restart gives every object a new id; names stay. The pages do not
print the events `dial`, the start of a link and the joining of a room: their fields here are an assumption, those of
their counterparts. Source: iSymphony developer documentation, the event pages and Live API.
"""

import random
import uuid
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]

_NAMES = (
    ("anna", "Anna Berg"), ("ben", "Ben Okoye"), ("carla", "Carla Díaz"), ("dev", "Dev Rao"), ("elif", "Elif Şahin"),
    ("frank", "Frank/Reception"), ("gül+1", "Gül #1"), ("7008", "Desk 7008"),
)  # fmt: skip
_OUTSIDE = (("Baker & Sons", "+15550100"), ("Müller", "+4930555017"), ("", "anonymous"), ("Lee", "0015550163"))
_DIDS = ("5550199", "5550198", "s", None)


@dataclass
class User:
    """extension: its number · logins: userLoginIds by client address."""

    name: str
    shown: str
    extension: str
    id: str = ""
    extension_id: str = ""
    logins: dict[str, str] = field(default_factory=dict)  # id → address
    status: str = "available"
    dnd: bool = False


@dataclass
class Leg:
    """One segment of a call; user None: outside."""

    id: str
    name: str
    number: str
    did: str | None = None
    user: User | None = None

    def told(self, suffix: str = "") -> Event:
        """The segment block of an event."""
        user = self.user
        block = {
            "callSegmentId": self.id, "callerIdName": self.name, "callerIdNumber": self.number, "did": self.did,
            "extensionId": user and user.extension_id, "extensionNumber": user and user.extension,
            "userId": user and user.id, "username": user and user.name,
        }  # fmt: skip
        return {f"{key}{suffix}": value for key, value in block.items()}


@dataclass
class Call:
    """legs: caller and called · linked: answered · room: of a conference, which has one leg."""

    legs: list[Leg]
    linked: bool = False
    room: str = ""


class World:
    """link_start, room_join: the types of the events that no page names."""

    def __init__(self, *, users: int, seed: int, link_start: str, room_join: str) -> None:
        self._random = random.Random(seed)
        self._link_start, self._room_join = link_start, room_join
        self.users = [_user(number) for number in range(users)]
        self.rooms = {"Main": "", "Stand-up": ""}
        self.queues = {"Sales": ""}
        self.calls: list[Call] = []
        self.slug = "default"
        self.core = ""
        self.restart()

    def restart(self) -> None:
        """Every object gets a new id; nobody is logged in, no call goes on."""
        self.core = self.id()
        self.calls.clear()
        for user in self.users:
            user.id, user.extension_id = self.id(), self.id()
            user.logins.clear()
        for names in (self.rooms, self.queues):
            names.update({name: self.id() for name in names})

    def id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def user(self, name: str) -> User:
        """By its name. Raises KeyError."""
        for user in self.users:
            if user.name == name:
                return user
        raise KeyError(name)

    # What may happen

    def login(self, user: User, address: str = "192.0.2.10") -> list[Event]:
        login = self.id()
        user.logins[login] = address
        return [self._login("userLogin", user, login, address)]

    def logout(self, user: User) -> list[Event]:
        """The oldest login ends; nothing where there is none."""
        if not user.logins:
            return []
        login = next(iter(user.logins))
        return [self._login("userLogout", user, login, user.logins.pop(login))]

    def ring(self, caller: User | None, called: User | None, number: str = "") -> tuple[Call, list[Event]]:
        """None: from, or to, outside. number: of the called one outside."""
        first, second = self._leg(caller), self._leg(called, number)
        if caller is None:
            first.did = self._random.choice(_DIDS)
        call = Call([first, second])
        self.calls.append(call)
        return call, [self._both("dial", call)]

    def answer(self, call: Call) -> list[Event]:
        call.linked = True
        return [self._both(self._link_start, call)]

    def transfer(self, call: Call, to: User) -> list[Event]:
        """The second leg gives the call to somebody: the link ends without a hangup, another one begins."""
        ended = self._both("linkEnd", call)
        gone = call.legs[1]
        call.legs[1] = self._leg(to)
        return [ended, self._both("dial", call), self._both(self._link_start, call), self._event("hangup", gone.told())]

    def hang_up(self, call: Call) -> list[Event]:
        self.calls.remove(call)
        if call.room:
            return [self._room("confRoomCallLeave", call), self._event("hangup", call.legs[0].told())]
        ended = [self._both("linkEnd", call)] if call.linked else []
        return [*ended, *(self._event("hangup", leg.told()) for leg in call.legs)]

    def join(self, user: User, room: str) -> tuple[Call, list[Event]]:
        call = Call([self._leg(user)], linked=True, room=room)
        self.calls.append(call)
        return call, [self._room(self._room_join, call)]

    def happening(self) -> list[Event]:
        """Something plausible: people come in, calls ring, are answered, transferred, end."""
        chance, people = self._random.random(), self.users
        busy = {leg.user.name for call in self.calls for leg in call.legs if leg.user}
        inside = [user for user in people if user.logins]
        free = [user for user in inside if user.name not in busy]
        if len(inside) * 3 < len(people) * 2 and chance < 0.6:
            return self.login(self._random.choice([user for user in people if not user.logins]))
        if chance < 0.05 and len(inside) > 2 and free:
            return self.logout(self._random.choice(free))
        if self.calls and (chance < 0.65 or not free):
            return self._goes_on(self._random.choice(self.calls), free)
        if not free:
            return []
        if chance > 0.93:
            return self.join(self._random.choice(free), self._random.choice(list(self.rooms)))[1]
        called = self._random.choice(free)
        others = [user for user in free if user is not called]
        caller = self._random.choice([None, None, *others])
        return self.ring(caller, called)[1]

    def _goes_on(self, call: Call, free: list[User]) -> list[Event]:
        chance = self._random.random()
        if not call.linked:
            return self.answer(call) if chance < 0.85 else self.hang_up(call)
        if not call.room and free and chance < 0.2:
            return self.transfer(call, self._random.choice(free))
        return self.hang_up(call) if chance < 0.7 else []

    # Events

    def _event(self, kind: str, fields: Event) -> Event:
        return {"type": kind, "coreServerId": self.core, **fields}

    def _login(self, kind: str, user: User, login: str, address: str) -> Event:
        port = 50000 + self._random.randrange(10000)
        named = {"userId": user.id, "username": user.name, "userLoginId": login, "ip": address, "port": port}
        return self._event(kind, named)

    def _both(self, kind: str, call: Call) -> Event:
        return self._event(kind, {**call.legs[0].told("1"), **call.legs[1].told("2")})

    def _room(self, kind: str, call: Call) -> Event:
        room = {"conferenceRoomId": self.rooms[call.room], "conferenceRoomName": call.room}
        return self._event(kind, {**call.legs[0].told(), **room})

    def _leg(self, user: User | None, number: str = "") -> Leg:
        if user is not None:
            return Leg(self.id(), user.shown, user.extension, user=user)
        name, other = self._random.choice(_OUTSIDE)
        return Leg(self.id(), "" if number else name, number or other)


def _user(number: int) -> User:
    name, shown = _NAMES[number] if number < len(_NAMES) else (f"{7001 + number}", f"Desk {7001 + number}")
    return User(name, shown, f"{7001 + number}")
