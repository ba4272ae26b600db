"""IoT Pro with real parts: the simulated platform, the bridge as a process, a broker, an independent listener."""

from pathlib import Path
from typing import Any

import pytest

from bridge.simulators.iotpro import Faults
from tests.support.ear import Ear
from tests.support.fleet import DEVICE, KEYS, LATITUDE, fleet, subject
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("edition", "nameless"),
    [(("pe", "customer"), False), (("pe", "tenant"), True), (("ce", "tenant"), True), (("ce", "customer"), True)],
    ids=["told", "user's list", "tenant's list", "customer's list"],
)
async def test_both_editions_from_login_to_events(
    mosquitto: Mosquitto, tmp_path: Path, base: str, edition: tuple[str, str], nameless: bool
) -> None:
    """Snapshots without names: the lists of the REST side tell them, whichever there is for the account."""
    platform = {"edition": edition[0], "role": edition[1], "faults": Faults(nameless=nameless)}
    async with fleet(mosquitto, tmp_path, base, platform=platform) as house:
        asset = house.assets[1]
        first = await house.heard(f"{subject(asset)}/state")
        assert first["id"] == asset.id
        assert first["values"] == {key: asset.latest[key][1] for key in KEYS}
        assert first["attributes"] == {"assetDetails": asset.attributes["assetDetails"][1]}
        assert (first["name"], first["profile"], first["label"]) == (asset.name, asset.profile, asset.label)
        assert house.events() == []
        ts = house.write(asset, {LATITUDE: 36.0, DEVICE: "007"})
        await house.accounted()
        (event,) = house.events()
        assert event["subject"] == subject(asset)
        assert event["type"] == "iotpro.telemetry"
        assert event["data"] == {
            "asset_id": asset.id,
            "asset_name": asset.name,
            "asset_profile": asset.profile,
            "values": {LATITUDE: 36, DEVICE: "007"},
        }
        assert "replay" not in event
        state = await house.heard(f"{subject(asset)}/state", lambda told: told["values"][LATITUDE] == 36)
        assert state["time"] == event["time"]
        assert state["time"].startswith(f"{1970 + ts // 31_556_952_000}")


async def test_thousands_of_assets_come_page_by_page(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base, platform={"assets": 3000}, backend={"page_size": 700}) as house:
        states = f"{base}/port/asset/+/+/state"
        await house.ear.wait_count(3000, states)
        assert {Ear.json(one)["id"] for one in house.ear.on(states)} == set(house.platform.world.assets)
        assert house.events() == []
        for asset in house.assets[::10]:
            house.write(asset, {LATITUDE: 1.5})
        await house.accounted()
        assert len(house.events()) == 300


async def test_assets_that_come_and_go_are_noticed(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base, platform={"assets": 4}, backend={"page_size": 4}) as house:
        world = house.platform.world
        new = world.add("Pier/1 #2", "harbour light", created=1_800_000_000_000)
        house.write(new, {LATITUDE: 1.25})
        house.platform.refresh()
        name = "asset/harbour light/Pier%2F1 %232"
        state = await house.heard(f"{name}/state")
        assert state["values"] == {LATITUDE: 1.25}
        await house.accounted()
        house.write(new, {LATITUDE: 1.5})
        await house.accounted()
        old = house.assets[0]
        del world.assets[old.id]
        house.platform.refresh()
        assert await house.heard(f"{subject(old)}/state", lambda told: told is None) is None
        mark = house.mark
        last = house.assets[-1]
        last.name = "Pier 2"
        answer = await house.command("resync")
        assert (answer["code"], answer["data"]) == (200, {"assets": 4})
        await house.heard(f"{name}/state", lambda told: told is None, since=mark)
        renamed = await house.heard("asset/harbour light/Pier 2/state", since=mark)
        assert renamed["values"] == {LATITUDE: 1.5}


async def test_attributes_are_told_on_change(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base) as house:
        asset = house.assets[0]
        house.platform.set_attributes(asset, {"assetDetails": '{"maker": "Other", "capacity_kwh": 12.0}', "other": 1})
        event = await house.heard(f"{subject(asset)}/event/attributes")
        assert event["data"]["values"] == {"assetDetails": {"maker": "Other", "capacity_kwh": 12.0}}
        state = await house.heard(f"{subject(asset)}/state", lambda told: told["attributes"] == event["data"]["values"])
        assert state["values"] == {key: asset.latest[key][1] for key in KEYS}


async def test_values_have_their_types_and_the_same_value_the_same_id(
    mosquitto: Mosquitto, tmp_path: Path, base: str
) -> None:
    """The platform writes 12.0 live and 12 in snapshots: one value, one id."""
    values: list[tuple[Any, Any]] = [
        (12.0, 12), (1.2e-4, 0.00012), (1e7, 10_000_000), (True, True), ("true", True), ("007", "007"), ("", ""),
        (2**53, 2**53), (2**53 + 1, str(2**53 + 1)), ({"a": 1.5}, '{"a":1.5}'), ("1e3", 1000), (" 12", " 12"),
    ]  # fmt: skip
    async with fleet(mosquitto, tmp_path, base, backend={"keys": ["value", DEVICE]}) as house:
        asset = house.assets[0]
        for said, heard in values:
            mark = house.mark
            house.platform.write(asset, {"value": said}, house.tick())
            event = await house.heard(f"{subject(asset)}/event/telemetry", since=mark)
            told = event["data"]["values"]["value"]
            assert (told, type(told)) == (heard, type(heard))


async def test_a_profile_may_have_keys_of_its_own(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(
        mosquitto, tmp_path, base, backend={"keys": {"sea-buoy": [LATITUDE], "harbour light": ["lamp"]}}
    ) as house:
        light = house.platform.world.add("Pier 1", "harbour light", created=1_800_000_000_000)
        house.platform.write(light, {"lamp": "on", LATITUDE: 1.0})
        house.platform.refresh()
        state = await house.heard("asset/harbour light/Pier 1/state")
        assert state["values"] == {"lamp": "on"}
        buoy = await house.heard(f"{subject(house.assets[0])}/state")
        assert buoy["values"].keys() == {LATITUDE}


# Commands.


async def test_attributes_and_rpc(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base) as house:
        asset, posts = house.assets[0], house.platform.rest.posts
        path = f"/api/plugins/telemetry/ASSET/{asset.id}/attributes"
        answer = await house.command(f"{subject(asset)}/attributes", {"id": "a", "values": {"mode": "eco", "n": 1.5}})
        assert (answer["status"], answer["code"], answer["id"]) == ("succeeded", 200, "a")
        assert posts.pop() == (f"{path}/SERVER_SCOPE", {"mode": "eco", "n": 1.5})
        await house.command(f"{subject(asset)}/attributes", {"values": {"mode": "eco"}, "scope": "SHARED"})
        assert posts.pop() == (f"{path}/SHARED_SCOPE", {"mode": "eco"})
        answer = await house.command(f"{subject(asset)}/rpc", {"method": "beep", "params": {"n": 2}})
        assert answer["data"] == {"result": {"done": "beep", "params": {"n": 2}}}
        where, told = posts.pop()
        assert where == f"/api/rpc/twoway/{asset.device}"
        assert 5000 <= told.pop("timeout") <= 25_000
        assert told == {"method": "beep", "params": {"n": 2}, "persistent": False}
        other = house.assets[1]
        fields = {"method": "beep", "oneway": True, "device": other.device_name}
        answer = await house.command(f"{subject(asset)}/rpc", fields)
        assert (answer["code"], answer["data"]) == (200, {"result": None})
        assert posts.pop()[0] == f"/api/rpc/oneway/{other.device}"


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("attributes", {"values": {}}, 400, "values"),
    ("attributes", {"values": {"a": 1}, "scope": "CLIENT"}, 400, "scope"),
    ("attributes", {"values": {"": 1}}, 502, "Key cannot be blank"),
    ("attributes", {"values": {"a": None}}, 502, "Cannot invoke"),
    ("rpc", {"params": 1}, 400, "method"),
    ("rpc", {"method": "beep", "device": "nobody"}, 404, "no device"),
    ("rpc", {"method": "beep", "device": "7f3c1c20-c1d3-11ef-9a11-3d1f0c7a2b41"}, 404, "wasn't found"),
    ("rpc", {"method": "beep", "more": 1}, 400, "more"),
    ("filter", {"keys": [1]}, 400, "keys"),
    ("filter", {"keys": [""]}, 400, "empty name"),
    ("resync", {"keys": []}, 400, "keys"),
]


async def test_refusals_say_why(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base, backend={"commands": {"rate": "100/s"}}) as house:
        at = f"{subject(house.assets[0])}/"
        for command, fields, code, word in REFUSED:
            answer = await house.command(command if command in ("filter", "resync") else f"{at}{command}", fields)
            assert answer["code"] == code
            assert word in answer["error"]["message"]
        answer = await house.command("asset/sea-buoy/nobody/attributes", {"values": {"a": 1}})
        assert (answer["status"], answer["code"]) == ("rejected", 404)


async def test_filter_changes_what_is_followed_until_the_next_start(
    mosquitto: Mosquitto, tmp_path: Path, base: str
) -> None:
    async with fleet(mosquitto, tmp_path, base) as house:
        light = house.platform.world.add("Pier 1", "harbour light", created=1_800_000_000_000)
        house.platform.refresh()
        await house.heard("asset/harbour light/Pier 1/state")
        buoy, mark = house.assets[0], house.mark
        answer = await house.command("filter", {"profiles": ["sea-buoy"], "keys": ["telemetry_param_battery"]})
        assert answer["data"] == {"keys": ["telemetry_param_battery"], "profiles": ["sea-buoy"]}
        await house.heard("asset/harbour light/Pier 1/state", lambda told: told is None, since=mark)
        state = await house.heard(f"{subject(buoy)}/state", since=mark)
        assert state["values"].keys() == {"telemetry_param_battery"}
        assert house.events() == []
        await house.platform.drop()
        await house.state("online", since=mark)
        house.write(buoy, {"telemetry_param_battery": 3.5})
        house.platform.write(buoy, {LATITUDE: 1.0})
        house.platform.write(light, {LATITUDE: 1.0})
        await house.accounted()
        assert house.told() == house.written
        answer = await house.command("filter", {})
        assert answer["data"] == {"keys": ["telemetry_param_battery"], "profiles": ["sea-buoy"]}


async def test_a_filter_that_the_platform_refuses_changes_nothing(
    mosquitto: Mosquitto, tmp_path: Path, base: str
) -> None:
    async with fleet(mosquitto, tmp_path, base) as house:
        house.platform.faults = Faults(refuse_subscription=True)
        answer = await house.command("filter", {"keys": ["other"]})
        assert (answer["status"], answer["code"]) == ("failed", 502)
        assert "Exceeded rate limit" in answer["error"]["message"]
        house.platform.faults = Faults()
        house.write(house.assets[0], {LATITUDE: 3.5})
        await house.accounted()


async def test_at_most_150_series(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with fleet(mosquitto, tmp_path, base) as house:
        scrape = await house.bridge.scrape()
        mine = [labels for _, labels in scrape if ("backend", "port") in labels]
        assert 50 < len(mine) <= 150
        assert scrape.of("ws2mqtt_auth_total", backend="port", outcome="ok") == 1
