"""What gathers while one thing that happened is answered, until it leaves as a Step."""

from bridge.backends.session import Call, Dial, Hang, Send
from bridge.model import Condition, Event, Login, Response, State, Unread

Heard = Event | State | Response | Unread | Condition | Login
Do = Dial | Send | Call | Hang


class Turn:
    """heard, do: in order, as in Step."""

    __slots__ = ("do", "heard")

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.do: list[Do] = []
