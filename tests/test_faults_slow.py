"""The fault suite on a machine that is slow, and under troubles that meet: whoever is innocent is not blamed, and no
excuse is wider than that."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.faults.heard import Copy
from tests.faults.story import START, Story
from tests.faults.wire import Wire
from tests.faults.witness import Witness
from tests.support import Connect, Puback, Publish, read_packet, write_connect, write_puback, write_publish
from tests.support.ear import Ear


def goodbye(story: Story, lag: float, since: float) -> None:
    """The platform says goodbye, and is quiet a little; the bridge has read the last before it `lag` later, and its gap
    begins at `since` (both seconds after the goodbye was said)."""
    numbers = story.say(10)
    said = story.clock
    story.blind()
    story.say(1)
    story.clock += 5.0
    story.hear(numbers, recorded=said + lag)
    story.say(1)
    story.connect()
    story.clock += 1.0
    story.gap(said + since, story.clock, 11)
    story.hear(story.say(3), shift=-1)


def read_late(story: Story) -> None:
    story.clock += 10.0
    goodbye(story, 3.0, 3.1)


def no_turn(story: Story) -> None:
    """What came before was read at once, the goodbye not: as long as no scrape was answered."""
    story.hear(story.say(10))
    said = story.clock
    story.blind()
    story.say(1)
    story.clock = said + 2.0
    story.scrape(10, 10, seconds=1.85)
    story.say(1)
    story.connect()
    story.clock += 1.0
    story.gap(said + 1.95, story.clock, 11)
    story.hear(story.say(3), shift=-1)


def lived_a_moment(story: Story) -> None:
    """A connection that brought nothing lies between two gaps; the bridge saw it late, and its end at once."""
    story.hear(story.say(10))
    since = story.clock
    story.blind()
    story.say(200)
    story.connect()
    story.say(3)
    story.told.tear(2)
    middle = story.clock + 0.8
    story.blind()
    story.say(200)
    story.gap(since, middle, 11)
    story.connect()
    story.gap(middle, story.clock, 12)
    story.hear(story.say(3), shift=-401)


def never_seen_through(story: Story) -> None:
    """The platform took a first connection, and it was torn before the bridge knew; without a disk, nothing is known
    of before."""
    story.say(10)
    story.told.tear(1)
    story.blind()
    story.say(300)
    story.connect()
    story.hear(story.say(3), shift=-310)


def old_between_new(story: Story) -> None:
    """What lay on a disk that was not to be had came behind what was read then; so it was written, and so it comes."""
    numbers = story.say(10)
    story.end("terminated")
    story.clock += 1.0
    story.heard.held_back(10, str(int((story.clock + 1) * 1000)))
    story.begin().on_disk = None
    story.connect()
    later = story.say(4)
    story.end("terminated")
    story.begin().on_disk = 14
    story.hear(later[:2], life=2, shift=-10)
    story.hear(numbers, life=1)
    story.hear(later[2:], life=2, shift=-10)
    story.scrape(0, 14, recovered=14)


def scraped_at_the_end(story: Story) -> None:
    """The books are closed already, and what is lost by that is in them."""
    story.hear(story.say(10)[:4])
    story.scrape(10, 4, cut=6)
    story.end("terminated", shut_down=6)
    story.begin()
    story.connect()
    story.hear(story.say(5), shift=-10)


def busy_at_the_end(story: Story) -> None:
    """Read, counted, and killed before it had another turn: nobody can say that there was time to write."""
    numbers = story.say(10)
    story.hear(numbers[:4])
    story.scrape(10, 4, waiting=6)
    story.clock += 3.0
    story.end("killed")
    story.begin()
    story.connect()
    story.gap(START, story.clock, 1)
    story.hear(story.say(5), shift=-9)


@pytest.mark.parametrize(
    ("tell", "durable"),
    [
        (read_late, False), (no_turn, False), (lived_a_moment, False), (never_seen_through, False),
        (old_between_new, True), (scraped_at_the_end, False), (busy_at_the_end, True),
    ],
)  # fmt: skip
def test_what_a_slow_machine_does(tell: Callable[[Story], None], durable: bool) -> None:
    story = Story(durable)
    tell(story)
    assert story.problems() == []


def begun_later_than_read(story: Story) -> None:
    story.clock += 10.0
    goodbye(story, 1.0, 1.5)


def read_in_the_future(story: Story) -> None:
    """Nothing was read after it was acknowledged, whatever the bridge says of that."""
    story.hear(story.say(10), recorded=story.clock + 100.0)
    said = story.clock
    story.blind()
    story.say(500)
    story.connect()
    story.gap(said + 3.0, story.clock, 11)
    story.hear(story.say(3), shift=-499)


def between_two_gaps(story: Story) -> None:
    story.hear(story.say(10))
    since = story.clock
    story.blind()
    story.say(300)
    story.gap(since, since + 1.0, 11)
    story.connect()
    story.gap(since + 1.1, story.clock, 12)
    story.hear(story.say(3), shift=-298)


def seen_and_untold(story: Story) -> None:
    """Never seen through, but something of it was heard."""
    story.hear(story.say(10)[:1])
    story.told.tear(1)
    story.blind()
    story.say(300)
    story.connect()
    story.hear(story.say(3), shift=-309)


def cut_counts_once(story: Story) -> None:
    """What was told at the end excuses no hole, though a last scrape has counted it already."""
    numbers = story.say(10)
    story.hear(numbers[:2] + numbers[5:7])
    story.scrape(10, 4, cut=3, waiting=3)
    story.end("terminated", shut_down=3)
    story.begin()
    story.connect()
    story.hear(story.say(5), shift=-10)


@pytest.mark.parametrize(
    ("tell", "verdict"),
    [
        (begun_later_than_read, "untold gap: no gap covers numbers 11 to 12 (blind"),
        (read_in_the_future, "untold gap: no gap covers numbers 11 to 510 (blind"),
        (between_two_gaps, "untold gap: no gap covers numbers 11 to 310 (blind"),
        (seen_and_untold, "untold gap: no gap covers numbers 2 to 10 (torn"),
        (cut_counts_once, "hole uncounted: session"),
    ],
)
def test_what_it_does_not_do(tell: Callable[[Story], None], verdict: str) -> None:
    story = Story()
    tell(story)
    assert any(one.startswith(verdict) for one in story.problems()), story.problems()


# The ear on the wire


class Both:
    """Both ends of a wire: the bridge's, and a broker that acknowledges what it gets, and says what that was."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.heard: list[int] = []

    async def broker(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_packet(reader, 5)
        while True:
            try:
                packet = await read_packet(reader, 5)
            except (asyncio.IncompleteReadError, OSError):
                writer.close()
                return
            assert isinstance(packet, Publish)
            self.got.append(packet.packet_id)
            writer.write(write_puback(Puback(packet.packet_id, 0), 5))

    def took(self, copy: Copy, at: float, since: float) -> None:
        self.heard.append(copy.number)


def published(*numbers: int) -> bytes:
    """Events with these numbers, which are their packet ids, too."""

    def one(number: int) -> bytes:
        told: dict[str, Any] = {
            "id": f"{number:032x}",
            "session": "1",
            "sequence": f"{number}",
            "type": "resiot.uplink",
        }
        told |= {"recordedtime": "2026-01-01T00:00:00Z", "data": {"f_cnt": number}}
        return write_publish(Publish("b/lora/x/event/uplink", msgspec.json.encode(told), qos=1, packet_id=number), 5)

    return b"".join(map(one, numbers))


async def test_a_quota_ends_with_the_event_that_it_began_with() -> None:
    """What is behind that is refused, although it comes when the quota is not exceeded any more."""
    both = Both()
    broker = await asyncio.start_server(both.broker, "127.0.0.1", 0)
    port = broker.sockets[0].getsockname()[1]
    async with broker, Wire(lambda: port, "b/lora/", both.took) as wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        codes = []

        async def told(count: int) -> None:
            for _ in range(count):
                packet = await read_packet(reader, 5)
                assert isinstance(packet, Puback)
                codes.append((packet.packet_id, packet.code))

        writer.write(write_connect(Connect("c")) + published(1))
        await told(1)
        wire.quota = True
        writer.write(published(2, 3))
        await told(2)
        wire.quota = False
        writer.write(published(4, 5))
        await told(2)
        writer.write(published(2))
        await told(1)
        writer.write(published(3, 4, 5))
        await told(3)
        writer.close()
    assert codes == [(1, 0), *((number, 0x97) for number in (2, 3, 4, 5)), *((number, 0) for number in (2, 3, 4, 5))]
    assert both.got == both.heard == [1, 2, 3, 4, 5]


async def test_nothing_is_made_of_what_comes_behind_a_hole_in_the_stream() -> None:
    both = Both()
    broker = await asyncio.start_server(both.broker, "127.0.0.1", 0)
    port = broker.sockets[0].getsockname()[1]
    async with broker, Wire(lambda: port, "b/lora/", both.took) as wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        stream = write_connect(Connect("c")) + published(1, 2, 3)
        writer.write(stream[: len(stream) - 50])
        await read_packet(reader, 5)
        await read_packet(reader, 5)
        (passage,) = wire._passages
        wire.swallowing = True
        passage.up(stream[-50:-25])
        wire.swallowing = False
        assert passage.up(stream[-25:] + published(4)) == b""
        writer.close()
    assert (both.heard, wire.broken) == ([1, 2], [])


def test_the_last_number_is_said_again_where_its_connection_was_torn() -> None:
    story = Story()
    *_, last = story.say(3)
    assert not story.told.is_torn(last)
    story.told.tear(1, last)
    assert [story.told.is_torn(number) for number in (last - 1, last)] == [False, True]
    story.blind()
    (nobody,) = story.say(1)
    assert story.told.is_torn(nobody)


def test_a_killed_broker_may_forget_what_it_had_not_saved() -> None:
    """Up to the next start: what it had said before it died may be heard late. What it had saved it may not."""
    story = Story()
    witness = Witness(Ear("mqtt://127.0.0.1:1", "#"), story.heard)
    for at, number in enumerate(story.say(5)):
        story.clock = START + at
        story.hear([number])
    witness.forgets(START + 2, START + 3)
    assert witness.missing() == [1, 2, 5]
