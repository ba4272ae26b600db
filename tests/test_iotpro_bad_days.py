"""IoT Pro on bad days, with real parts: drops, restarts, dead tokens, refused logins, limits, garbage.

Every point that was written meanwhile is accounted for by the list of who wrote it.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge.simulators.iotpro import Faults
from tests.support import PATIENCE_S
from tests.support.fleet import KEYS, LATITUDE, Fleet, fleet, subject
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.asyncio


def some(house: Fleet, count: int = 5) -> None:
    """Some points of every asset, each of a moment of its own."""
    for asset in house.assets:
        for number in range(count):
            values: dict[str, Any] = {LATITUDE: house.last % 1000 + 0.5}
            if number % 2:
                values["device_id"] = f"{number:04d}"
            house.write(asset, values)


@pytest.mark.parametrize("code", [1006, 1001, 1012, 4500])
async def test_a_drop_leaves_no_hole(mosquitto: Mosquitto, tmp_path: Path, base: str, code: int) -> None:
    async with fleet(mosquitto, tmp_path, base) as house:
        some(house)
        await house.accounted()
        mark = house.mark
        await house.platform.drop(code)
        some(house, 5)
        started = await house.gap("started", since=mark)
        done = await house.gap("done", since=mark)
        assert {**done, "backfill": "started"} == started
        assert started["from"] <= started["to"]
        some(house, 2)
        await house.accounted()
        assert house.told() == house.written
        ids = [event["id"] for event in house.events()]
        assert len(ids) == len(set(ids)), "nothing was told twice"
        assert any(event.get("replay") for event in house.events())


async def test_more_points_than_one_answer_holds(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base, platform={"assets": 2}) as house:
        asset = house.assets[0]
        await house.platform.drop()
        for number in range(2500):
            house.write(asset, {LATITUDE: number / 8})
        await house.accounted()
        replayed = [event["time"] for event in house.events() if event.get("replay")]
        assert replayed == sorted(replayed)
        assert house.told() == house.written


async def test_days_of_short_lived_tokens(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    """Renewals, one that fails, tokens that are outdated, sockets that drop: every point is told."""
    async with fleet(mosquitto, tmp_path, base, platform={"token_life": 0.8, "refresh_life": 60}) as house:
        platform = house.platform
        async with asyncio.timeout(PATIENCE_S):
            await platform.until(lambda: platform.rest.renewals >= 2)
            some(house)
            platform.faults = Faults(renewal=401)
            await platform.until(lambda: platform.rest.logins >= 2)
            platform.faults = Faults()
            platform.tokens.outdate()
            await platform.drop()
            some(house, 3)
            await platform.until(lambda: bool(platform.talks) and platform.talks[-1].admitted)
            some(house, 3)
            answer = await house.command(f"{subject(house.assets[0])}/attributes", {"values": {"a": 1}})
            assert answer["code"] == 200
            renewals = platform.rest.renewals
            await platform.until(lambda: platform.rest.renewals >= renewals + 2)
            some(house, 3)
        await house.accounted()
        assert house.told() == house.written
        scrape = await house.bridge.scrape()
        assert scrape.of("ws2mqtt_auth_total", backend="port", outcome="refused") == 0


async def test_a_request_with_a_dead_token_is_sent_once_more(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base) as house:
        house.platform.tokens.outdate()
        answer = await house.command(f"{subject(house.assets[0])}/attributes", {"values": {"a": 1}})
        assert (answer["code"], len(house.platform.rest.posts)) == (200, 1)
        assert house.platform.rest.logins == 2
        assert house.platform.admitted == 1, "the socket outlives the token"


@pytest.mark.parametrize(
    ("platform", "word"),
    [
        ({"password": "another"}, "Invalid username or password"),
        ({"faults": Faults(half_login=True)}, "second factor"),
        ({"faults": Faults(expired_password=True)}, "password has expired"),
        ({"faults": Faults(login=429)}, "429"),
        ({"faults": Faults(refuse_token=True)}, "does not take the token"),
    ],
    ids=["password", "second factor", "expired", "too many", "token"],
)
async def test_a_refused_login_waits_and_says_why(
    mosquitto: Mosquitto, tmp_path: Path, base: str, platform: dict[str, Any], word: str
) -> None:
    async with fleet(
        mosquitto, tmp_path, base, platform=platform, backend={"password": "sea-buoys"}, online=False
    ) as house:
        told = await house.state("auth_failed")
        assert word in told["error"]
        assert told["next_retry"] is not None
        logins = house.platform.rest.logins
        assert logins <= 2
        answer = await house.command("resync")
        assert (answer["code"], answer["error"]["kind"]) == (503, "not_connected")
        assert house.platform.rest.logins == logins, "no hammering"
        text = house.bridge.log + "".join(one.topic + one.payload.decode() for one in house.ear.messages)
        assert "sea-buoys" not in text
        assert "eyJ" not in text, "no token anywhere"


async def test_corrected_it_goes_on_by_reconnect(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    platform = {"faults": Faults(login=401)}
    async with fleet(mosquitto, tmp_path, base, platform=platform, online=False) as house:
        await house.state("auth_failed")
        house.platform.faults = Faults()
        await house.command("reconnect")
        await house.state("online")


async def test_too_many_updates_is_a_gap(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base) as house:
        some(house)
        await house.accounted()
        house.platform.faults, mark = Faults(throttle=True), house.mark
        some(house, 4)
        told = await house.state("degraded", since=mark)
        assert "Too many updates!" in told["error"]
        assert house.told() < house.written
        house.platform.faults = Faults()
        house.write(house.assets[0], {LATITUDE: 99.5})
        started = await house.gap("started", since=mark)
        assert started["reason"] == "Too many updates!"
        await house.gap("done", since=mark)
        await house.state("online", since=mark)
        await house.accounted()
        assert house.told() == house.written


async def test_history_that_is_refused_makes_a_partial_gap(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base) as house:
        house.platform.faults, mark = Faults(history=400), house.mark
        await house.platform.drop()
        some(house)
        await house.gap("partial", since=mark)
        await house.state("online", since=mark)


async def test_a_busy_platform_is_asked_again(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base) as house:
        house.platform.faults, mark = Faults(rest=429, rest_after=1), house.mark
        await house.platform.drop()
        some(house)
        await house.gap("started", since=mark)
        asked = len(house.platform.rest.requests)
        async with asyncio.timeout(PATIENCE_S):
            await house.platform.until(lambda: len(house.platform.rest.requests) > asked)
        house.platform.faults = Faults()
        await house.gap("done", since=mark)
        await house.accounted()


async def test_pause_and_resume_is_a_gap_with_backfill(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base) as house:
        await house.command("pause")
        await house.state("disabled")
        some(house)
        mark = house.mark
        await house.command("resume")
        started = await house.gap("started", since=mark)
        assert started["reason"] == "restarted"
        await house.gap("done", since=mark)
        await house.accounted()


async def test_garbage_is_dead_and_the_rest_is_heard(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base) as house:
        house.platform.say('{"cmdId":1,"upd')
        house.platform.say('{"cmdId":1,"update":{"a":1},"cmdUpdateType":"ENTITY_DATA"}')
        house.platform.say('{"cmdId":1,"count":3,"cmdUpdateType":"COUNT_DATA"}')
        some(house)
        await house.accounted()
        dead = await house.ear.wait_count(2, f"{base}/port/dead/+")
        assert [one.topic.rpartition("/")[2] for one in dead] == ["not_json", "wrong_shape"]
        (unknown,) = house.events("unknown")
        assert unknown["data"] == {"cmdId": 1, "count": 3, "cmdUpdateType": "COUNT_DATA"}


async def test_frames_that_overtake_each_other_lose_nothing(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base, platform={"faults": Faults(reorder=True), "assets": 2}) as house:
        some(house, 6)
        await house.accounted()
        newest = house.assets[0].latest[LATITUDE][1]
        state = await house.heard(f"{subject(house.assets[0])}/state", lambda told: told["values"][LATITUDE] == newest)
        assert state["values"].keys() == set(KEYS)


async def test_a_platform_that_is_away_at_the_start(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base, platform={"faults": Faults(login=503)}, online=False) as house:
        told = await house.state("offline")
        assert "503" in told["error"]
        house.platform.faults = Faults()
        await house.state("online")
        assert house.events("gap") == []
