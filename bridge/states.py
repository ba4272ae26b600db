"""The table of retained topics: the newest message of each, and which of them the broker does not have yet."""

from collections.abc import Callable

from bridge.model import Message


class States:
    """The newest message of each retained topic, and which of them the broker does not have yet.

    retained: told of each topic that has a message from now on, and of each that has none any more.
    """

    def __init__(self, retained: Callable[[str, bool], None] = lambda topic, there: None) -> None:
        self._retained = retained
        self._latest: dict[str, Message] = {}
        self._dirty: dict[str, None] = {}
        self._flying: set[str] = set()
        self._refused: dict[str, Message] = {}  # by brokers that end the connection with it

    def put(self, message: Message) -> None:
        if message.payload:
            self._retained(message.topic, True)
        self._latest[message.topic] = message
        self._dirty[message.topic] = None

    def next(self) -> Message | None:
        """The first that is not on its way."""
        for topic in self._dirty:
            if topic not in self._flying:
                del self._dirty[topic]
                self._flying.add(topic)
                return self._latest[topic]
        return None

    def waiting(self) -> bool:
        """Whether any is to be sent (or is on its way already, and to be sent again)."""
        return bool(self._dirty)

    def done(self, message: Message, taken: bool) -> None:
        """taken: the broker has it, or never will; else it is to be sent again, unless there is a newer one."""
        self._flying.discard(message.topic)
        if not taken:
            self._dirty[message.topic] = None
        elif not message.payload and self._latest.get(message.topic) is message:
            del self._latest[message.topic]  # cleared, and nothing newer
            self._retained(message.topic, False)

    def refused(self, message: Message) -> None:
        """The broker does not want it."""
        self.done(message, taken=True)
        self._refused[message.topic] = message

    def again(self, wary: bool = False) -> None:
        """After a reconnect: everything, in the order in which it was first said.

        wary: the connection ended because a message was refused, perhaps; then without those that were.
        """
        if not wary:
            self._refused.clear()
        self._flying.clear()
        self._dirty = {topic: None for topic, one in self._latest.items() if self._refused.get(topic) is not one}

    def pending(self) -> bool:
        return bool(self._dirty or self._flying)
