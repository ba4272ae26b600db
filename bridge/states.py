"""The table of retained topics: the newest message of each, and which of them the broker does not have yet."""

from collections.abc import Callable

from bridge.model import Message

_TRY_AGAIN_S = (60.0, 3600.0)  # topics over which the broker ends connections: each try ends some more


class States:
    """The newest message of each retained topic, and which of them the broker does not have yet.

    retained: told of each topic that has a message from now on, and of each that has none any more.
    """

    def __init__(self, retained: Callable[[str, bool], None] = lambda topic, there: None) -> None:
        self._retained = retained
        self._latest: dict[str, Message] = {}
        self._dirty: dict[str, None] = {}
        self._flying: set[str] = set()
        self._refused: set[str] = set()  # topics of which the broker refused what was sent last
        self._barred: set[str] = set()  # of those, the ones over which it ended the connection, perhaps
        self._barred_until, self._pause = 0.0, _TRY_AGAIN_S[0]

    def put(self, message: Message) -> None:
        if message.payload:
            self._retained(message.topic, True)
        self._latest[message.topic] = message
        if message.topic not in self._barred:
            self._dirty[message.topic] = None

    def forget(self, prefix: str) -> None:
        """Topics that are somebody else's from now on."""
        for topic in [topic for topic in self._latest if topic.startswith(prefix)]:
            del self._latest[topic]
            self._dirty.pop(topic, None)

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
        self._refused.discard(message.topic)
        if not taken:
            self._dirty[message.topic] = None
        elif not message.payload and self._latest.get(message.topic) is message:
            del self._latest[message.topic]  # cleared, and nothing newer
            self._retained(message.topic, False)

    def refused(self, message: Message) -> None:
        """The broker does not want it."""
        self.done(message, taken=True)
        self._refused.add(message.topic)

    def again(self, wary: bool, now: float) -> None:
        """After a reconnect: everything, in the order in which it was first said.

        wary: the connection ended because a message was refused, perhaps; then without the topics of those that were,
        until they are tried again. now: time.monotonic().
        """
        if not wary:
            self._barred.clear()
            self._pause = _TRY_AGAIN_S[0]
        elif self._refused:
            self._barred |= self._refused
            self._barred_until = now + self._pause
        self._refused.clear()
        self._flying.clear()
        self._dirty = {topic: None for topic in self._latest if topic not in self._barred}

    def try_again(self, now: float) -> None:
        """Called now and then. now: time.monotonic()."""
        if self._barred and now >= self._barred_until:
            self._dirty.update(dict.fromkeys(self._barred & self._latest.keys()))
            self._barred.clear()
            self._pause = min(2 * self._pause, _TRY_AGAIN_S[1])

    def pending(self) -> bool:
        return bool(self._dirty or self._flying)
