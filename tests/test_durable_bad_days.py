"""Bad days of the disk: full, locked, broken, taken, not there. The bridge goes on, says so, and mends itself."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.times import unix
from tests.conftest import MosquittoFactory
from tests.support.disk import Disk, disk, may_mount, until_on_disk, waiting
from tests.support.house import counters, house, ran, sequences, up, ups
from tests.support.mosquitto import Mosquitto
from tests.support.process import PROGRAM, Line
from tests.support.scraping import scraping

LASTING = {"durable": True, "reconnect": True}
ANEW = "the outbox file cannot be read: a new one is begun"
TROUBLE = "the outbox on disk cannot be written"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Disk]:
    if not may_mount():
        pytest.skip("only root may mount a disk that is to be full")
    with disk(tmp_path / "disk") as made:
        yield made


def on(path: Path, **outbox: str) -> dict[str, Any]:
    return {"outbox": {"path": str(path), "max_bytes": "1MiB", **outbox}}


def troubled(line: Line) -> bool:
    return line.message == "the outbox cannot be written: events wait in memory only"


def mended(line: Line) -> bool:
    return line.message == "the outbox is on disk again"


async def test_a_disk_that_gets_full(broker: MosquittoFactory, base: str, tmp_path: Path, small: Disk) -> None:
    """While the broker is away: what comes waits in memory, and goes to disk as soon as there is room."""
    mosquitto, outbox = await broker(persistence=True), small.path / "outbox"
    async with (
        house(mosquitto, tmp_path, base, ear=LASTING, **on(outbox)) as home,
        scraping(home.bridge),
    ):
        await mosquitto.stop()
        await home.say(*ups(50))
        await until_on_disk(outbox, 50)
        small.fill()
        await home.platform.flood(ups(450, 51))
        line = await home.bridge.wait_log(troubled)
        assert "full" in line.fields["reason"]
        assert line.fields["file"] == str(outbox / "lora.sqlite")
        await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 500)
        assert (await home.bridge.get("/")).text.count(TROUBLE) == 1
        small.free()
        await home.bridge.wait_log(mended)
        await until_on_disk(outbox, 500)
        await home.bridge.kill()
        await mosquitto.start()
        await home.bridge.start()
        assert counters(await home.until_uplinks(500)) == list(range(1, 501))
        scrape = await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 0)
        assert scrape.of("ws2mqtt_events_recovered_total", backend="lora") == 500
        assert "Traceback" not in home.bridge.log


async def test_a_full_disk_holds_nothing_up(mosquitto: Mosquitto, base: str, tmp_path: Path, small: Disk) -> None:
    """Everything is to be written first, and cannot be: it is published all the same, and the state says so."""
    async with house(mosquitto, tmp_path, base, **on(small.path / "outbox", flush="0s")) as home:
        small.fill()
        mark = home.mark
        await home.platform.flood(ups(400))
        state = await home.state("degraded", since=mark)
        assert state["error"].startswith(TROUBLE)
        assert counters(await home.until_uplinks(400)) == list(range(1, 401))
        mark = home.mark
        small.free()
        assert (await home.state("online", since=mark))["error"] is None
        await home.say(up(401))
        assert counters(await home.until_uplinks(401)) == list(range(1, 402))
        assert "Traceback" not in home.bridge.log


async def test_locked_from_the_start(broker: MosquittoFactory, base: str, tmp_path: Path, small: Disk) -> None:
    """What an earlier process left is not lost, though it is found late."""
    mosquitto, outbox = await broker(persistence=True), small.path / "outbox"
    async with house(mosquitto, tmp_path, base, ear=LASTING, **on(outbox)) as home:
        await mosquitto.stop()
        await home.say(*ups(20))
        await until_on_disk(outbox, 20)
        await home.bridge.kill()
        small.read_only(True)
        lines = len(home.bridge.lines)
        await home.bridge.start()
        await home.bridge.wait_log(troubled, since=lines)
        await home.platform.admissions(2)
        async with scraping(home.bridge):
            await home.platform.flood(ups(30, 21))
            await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") >= 30)
            small.read_only(False)
            await home.bridge.wait_log(mended, since=lines)
            scrape = await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") >= 50)
            assert scrape.of("ws2mqtt_events_recovered_total", backend="lora") == 20
            await until_on_disk(outbox, 50)
            await mosquitto.start()
            assert sorted(counters(await home.until_uplinks(50))) == list(range(1, 51))
        assert "Traceback" not in home.bridge.log


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("full", [False, True], ids=["read-only", "full"])
async def test_a_restart_on_such_a_disk_is_told(
    full: bool, kill: bool, broker: MosquittoFactory, base: str, tmp_path: Path, small: Disk
) -> None:
    """What is noted there is read, though nothing can be written; once the events can be had, it is not told again."""
    mosquitto, outbox = await broker(persistence=True), small.path / "outbox"
    async with house(mosquitto, tmp_path, base, ear=LASTING, **on(outbox)) as home:
        await mosquitto.stop()
        await home.say(up(1))
        (kept,) = await until_on_disk(outbox, 1)
        await (home.bridge.kill() if kill else home.bridge.terminate())
        small.fill() if full else small.read_only(True)
        ended, lines, mark = time.time(), len(home.bridge.lines), home.mark
        await mosquitto.start()
        await home.bridge.start()
        gap = (await home.told("lora/event/gap", since=mark))["data"]
        assert gap["reason"] == "restarted"
        assert unix(kept["recordedtime"]) - 60 < unix(gap["from"]) <= ended, "a sign of life that was noted"
        await home.bridge.wait_log(troubled, since=lines)
        small.free() if full else small.read_only(False)
        await home.bridge.wait_log(mended, since=lines)
        assert counters(await home.until_uplinks(1)) == [1]
        await home.say(up(2))
        assert counters(await home.until_uplinks(2)) == [1, 2]
        assert len(home.ear.on(f"{base}/lora/event/gap")) == 1
        assert "Traceback" not in home.bridge.log


async def test_a_broken_file_is_moved_aside(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    outbox.mkdir()
    (outbox / "lora.sqlite").write_bytes(b"no database " * 2000)
    async with house(mosquitto, tmp_path, base, **on(outbox)) as home:
        line = await home.bridge.wait_log(
            lambda line: line.message == "the outbox file cannot be read: a new one is begun"
        )
        assert "not a database" in line.fields["reason"]
        assert Path(line.fields["aside"]).read_bytes() == b"no database " * 2000
        await home.say(*ups(5))
        assert counters(await home.until_uplinks(5)) == [1, 2, 3, 4, 5]
        assert (await home.told("lora/state"))["error"] is None
        assert "Traceback" not in home.bridge.log
        assert await home.bridge.terminate() == 0


async def test_a_file_that_is_broken_while_it_is_used(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    """What is in memory goes on; what only the file had is counted."""
    mosquitto, outbox = await broker(persistence=True), tmp_path / "outbox"
    async with (
        house(mosquitto, tmp_path, base, ear=LASTING, **on(outbox)) as home,
        scraping(home.bridge),
    ):
        await mosquitto.stop()
        await home.platform.flood(ups(700))
        await until_on_disk(outbox, 700)
        size = (outbox / "lora.sqlite").stat().st_size
        with (outbox / "lora.sqlite").open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))
        await mosquitto.start()
        await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 0)
        await home.say(up(2000))
        await home.ear.wait_topic(f"{base}/lora/application/+/device/+/event/up", lambda one: counters([one]) == [2000])
        heard = sequences(home.uplinks())
        line = await home.bridge.wait_log(lambda line: line.message == ANEW)
        scrape = await home.bridge.scrape()
        lost = scrape.total("ws2mqtt_events_dropped_total", backend="lora")
        assert lost == line.fields["lost"] > 0
        assert len({*heard}) + lost == 701
        assert heard == sorted(heard)
        assert "Traceback" not in home.bridge.log


async def test_a_bit_flipped_on_disk(broker: MosquittoFactory, base: str, tmp_path: Path) -> None:
    """What it hit is not published, but counted and said; the rest comes."""
    mosquitto, outbox = await broker(persistence=True), tmp_path / "outbox"
    async with house(mosquitto, tmp_path, base, ear=LASTING, **on(outbox)) as home:
        await mosquitto.stop()
        for first in range(1, 101, 20):  # chunks of their own
            await home.say(*ups(20, first))
            await until_on_disk(outbox, first + 19)
        assert await home.bridge.terminate() == 0
        held = (outbox / "lora.sqlite").read_bytes()
        place = held.index(b'"f_cnt":50')
        (outbox / "lora.sqlite").write_bytes(held[: place + 8] + b"9" + held[place + 9 :])
        await mosquitto.start()
        await home.bridge.start()
        line = await home.bridge.wait_log(lambda line: line.message.startswith("events on disk are not as they were"))
        scrape = await home.bridge.wait_scrape(lambda seen: seen.of("ws2mqtt_outbox_events", backend="lora") == 0)
        lost = scrape.of("ws2mqtt_events_dropped_total", backend="lora", reason="unreadable")
        assert 0 < lost == line.fields["events"] <= 20
        heard = counters(await home.until_uplinks(100 - int(lost)))
        assert 50 not in heard
        assert 90 in heard


@pytest.mark.parametrize("same_port", [False, True], ids=["its-own-endpoint", "the-same-file"])
async def test_a_second_process_on_the_folder(same_port: bool, mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    async with house(mosquitto, tmp_path, base, **on(outbox)) as home:
        file = home.bridge.config_file
        if not same_port:
            file = tmp_path / "second.yaml"
            file.write_text(json.dumps({**home.config, "http": {"listen": "off"}}))
        done = await ran([*PROGRAM, "-c", str(file)])
        assert done.code == 1
        assert f"outbox.path: {outbox} is in use by another ws2mqtt (process {home.bridge.pid})" in done.err
        assert "Traceback" not in done.err
        await home.say(up(1))
        assert counters(await home.until_uplinks(1)) == [1], "the first one goes on"
        await home.bridge.kill()
        await home.bridge.start()
        await home.platform.admissions(2)


async def test_a_folder_that_cannot_be_made(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    """It is said, and the bridge does what it can."""
    (tmp_path / "file").touch()
    outbox = tmp_path / "file" / "outbox"
    async with house(mosquitto, tmp_path, base, online=False, **on(outbox)) as home:
        assert (await home.state("degraded"))["error"].startswith(TROUBLE)
        line = await home.bridge.wait_log(lambda line: line.message == "outbox.path cannot be used")
        assert line.fields["path"] == str(outbox)
        await home.say(*ups(3))
        assert counters(await home.until_uplinks(3)) == [1, 2, 3]
        mark = home.mark
        (tmp_path / "file").unlink()
        await home.state("online", since=mark)
        assert await home.bridge.terminate() == 0
        assert waiting(outbox) == []
        assert "Traceback" not in home.bridge.log
