"""The list of datapoints that the platform sends updates of: `PUT /iap/dp/updates/subscribe`, always complete.

1. There is one list per user login, and the last request counts (wiki, "IAP/WS Fundamentals"): what is sent replaces
   what was there, so it is sent again after every login and every new socket.
2. How long a list may be and what becomes of an unknown name is not documented. A refused list is halved until what
   can be taken is found: names refused by themselves are left out, and after three of those in a row it is taken for
   a limit of length.
"""

from collections import deque
from collections.abc import Callable

import msgspec
from msgspec import Struct

from bridge.backends.session import Answer
from bridge.backends.smartserver import answers
from bridge.backends.smartserver.talk import Ask, Talk
from bridge.model import Instant

_PATH = "/iap/dp/updates/subscribe"
_ALONE = 3  # names refused one by one, before it counts as a limit
_TRIES = 80
_AGAIN = (0, 408, 425, 429)  # as 5xx, not a word on the list itself


def passing(answer: Answer) -> bool:
    """Whether the same may be taken later."""
    return answer.status in _AGAIN or answer.status >= 500 or answers.is_over(answer)


class _Offer(Struct, frozen=True):
    wanted: tuple[str, ...]
    deadline: float
    then: Callable[[Answer, Instant], None]


class Subscription:
    """wanted: the complete list, as it is now · settled: the platform has it, or what it takes of it, with the words of
    a refusal · stuck: it answers neither, just now, and why.

    One list is on its way at a time: of two, nobody could say which one counts.
    """

    def __init__(
        self,
        talk: Talk,
        wanted: Callable[[], tuple[str, ...]],
        settled: Callable[[str | None, Instant], None],
        stuck: Callable[[str], None],
    ) -> None:
        self._talk, self._wanted, self._settled, self._stuck = talk, wanted, settled, stuck
        self._id: str | None = None
        self._again = False  # the list is to be sent once what is on its way is answered
        self._offered: _Offer | None = None  # waits for its turn, or is on its way
        self._whole: tuple[str, ...] = ()
        self._good: list[str] = []
        self._chunks: deque[list[str]] = deque()
        self._trying: list[str] = []
        self._alone = self._tries = 0
        self._refusal: str | None = None

    def send(self) -> None:
        """The complete list, from its beginning."""
        if self._id is not None and not self._talk.waits(self._id):
            self._again = True
            return
        self._talk.drop(self._id)
        self._again = False
        self._whole, self._good, self._chunks = self._wanted(), [], deque()
        self._alone = self._tries = 0
        self._refusal = None
        self._put(list(self._whole))

    def offer(self, wanted: tuple[str, ...], deadline: float, then: Callable[[Answer, Instant], None]) -> None:
        """Another list, as a whole or not at all; deadline: seconds, after which there is an answer in any case."""
        self._offered = _Offer(wanted, deadline, then)
        if self._id is None:
            self._offer()

    def cancel(self) -> None:
        """Whatever is on its way, nobody waits for it."""
        self._talk.drop(self._id)
        self._id = self._offered = None
        self._again = False

    def withdraw(self) -> None:
        """What was offered is wanted no more, and the complete list is to be in force."""
        if self._offered is not None:
            self.cancel()

    def _offer(self) -> None:
        offer = self._offered
        if offer is not None:
            ask = msgspec.structs.replace(_request(offer.wanted), deadline=offer.deadline)
            self._id = self._talk.ask(ask, self._judged)

    def _judged(self, answer: Answer, now: Instant) -> None:
        offer, self._id, self._offered = self._offered, None, None
        if offer is not None:
            offer.then(answer, now)
        if self._again and self._id is None:
            self.send()

    def _put(self, chunk: list[str], answer: Answer | None = None) -> None:
        """What is known to be good, and these; answer: of the last try, which is made again."""
        self._trying = chunk
        ask = _request((*self._good, *chunk))
        if answer is not None:
            ask = msgspec.structs.replace(ask, again="failure", after=answers.retry_after(answer) or 0.0)
        self._id = self._talk.ask(ask, self._answered)

    def _answered(self, answer: Answer, now: Instant) -> None:
        self._id = None
        if self._again:
            self.send()
            return
        self._tries += 1
        chunk = self._trying
        if answers.good(answer):
            self._good += chunk
            self._alone = 0
        elif passing(answer):
            self._stuck(answers.words(answer))
            self._put(chunk, answer)
            return
        else:
            self._refused(chunk, answer)
        if self._chunks and self._alone < _ALONE and self._tries < _TRIES:
            self._put(self._chunks.popleft())
        elif answers.good(answer) or not self._good or not chunk:
            self._done(now)
        else:  # what was sent last is not what is in force
            self._chunks.clear()
            self._put([])

    def _refused(self, chunk: list[str], answer: Answer) -> None:
        self._refusal = self._refusal or answers.words(answer)
        if len(chunk) > 1:
            middle = (len(chunk) + 1) // 2
            self._chunks.extendleft((chunk[middle:], chunk[:middle]))
        else:
            self._alone += 1

    def _done(self, now: Instant) -> None:
        missing = len(self._whole) - len(self._good)
        if missing:
            said = f"the platform takes only {len(self._good)} of {len(self._whole)} datapoints: {self._refusal}"
            self._settled(said, now)
        else:
            self._settled(self._refusal, now)
        if self._id is None:
            self._offer()


def _request(wanted: tuple[str, ...]) -> Ask:
    return Ask("PUT", _PATH, msgspec.json.encode(wanted))
