"""What a backend needs to know again after a restart, beside its events; and what of it is not on disk yet."""

from collections.abc import Mapping

from msgspec import Struct

from bridge.model import Instant


class Recalled(Struct, frozen=True):
    """What was noted by an earlier process. seen: the last sign of life, Unix time."""

    memory: bytes | None
    seen: float | None
    topics: set[str]


class Change(Struct, frozen=True):
    """What is to be written; None: nothing new. topics: True for one retained, False for one cleared."""

    memory: bytes | None = None
    seen: Instant | None = None
    topics: Mapping[str, bool] = {}

    def __bool__(self) -> bool:
        return self.memory is not None or self.seen is not None or bool(self.topics)


class Notes:
    """Lives as long as the process: a session that is replaced finds it again, too.

    memory: the session's bookmarks · seen: the platform's last sign of life while it told what happens · topics: the
    retained ones.
    """

    def __init__(self) -> None:
        self.kept = False  # on disk
        self.memory: bytes | None = None
        self.seen: Instant | None = None
        self.topics: set[str] = set()
        self._memory_saved: bytes | None = None
        self._seen_saved: Instant | None = None
        self._topics_unsaved: dict[str, bool] = {}

    def found(self, memory: bytes | None, seen: Instant | None, topics: set[str]) -> None:
        """What an earlier process wrote."""
        self.memory = self._memory_saved = memory
        self.seen = self._seen_saved = seen
        self.topics |= topics

    def retained(self, topic: str, there: bool) -> None:
        """A topic has a retained message from now on, or none any more."""
        if there is not (topic in self.topics):
            (self.topics.add if there else self.topics.discard)(topic)
            if self.kept:
                self._topics_unsaved[topic] = there

    def lost(self) -> None:
        """What was written is gone: all of it is to be written again."""
        self._memory_saved = self._seen_saved = None
        self._topics_unsaved.update(dict.fromkeys(self.topics, True))

    def news(self) -> bool:
        """Whether there is a new memory: it is to be written together with every event before it."""
        return self.memory is not self._memory_saved

    @property
    def begun(self) -> bool:
        """Whether a sign of life is on disk: without one, a restart is no gap."""
        return self._seen_saved is not None

    def stale(self, sign: Instant, older: float) -> bool:
        """Whether a sign of life is so much (seconds) later than what is on disk that it is to be written."""
        return self._seen_saved is None or sign.mono - self._seen_saved.mono > older

    def unsaved(self, *, memory: bool, older: float) -> Change:
        """memory: with the memory · older: how long ago (seconds) `seen` must have been written to be written again."""
        return Change(
            self.memory if memory and self.news() else None,
            self.seen if self.seen is not None and self.stale(self.seen, older) else None,
            dict(self._topics_unsaved),
        )

    def saved(self, change: Change) -> None:
        """A change of unsaved() is on disk."""
        if change.memory is not None:
            self._memory_saved = change.memory
        if change.seen is not None:
            self._seen_saved = change.seen
        for topic, there in change.topics.items():
            if self._topics_unsaved.get(topic) is there:
                del self._topics_unsaved[topic]
