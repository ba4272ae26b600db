"""Bad days of a SmartServer: one thing after the other goes wrong, and each is told, survived and accounted for."""

import hashlib
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.simulators.smartserver import Faults, SmartserverSimOptions, SmartserverSimulator
from tests.support import free_port
from tests.support.ear import Ear
from tests.support.house import balanced
from tests.support.mosquitto import Certificates, Mosquitto
from tests.support.process import Line
from tests.support.smartserver import DEVICE_SUBJECT, LAMP_SUBJECT, LUX, LUX_SUBJECT, PASSWORD, Building, building

pytestmark = pytest.mark.asyncio(loop_scope="module")


def simulator(**faults: Any) -> SmartserverSimulator:
    return SmartserverSimulator(SmartserverSimOptions(rooms=2, rate=0, heartbeat=0, faults=Faults(**faults)))


def change(platform: SmartserverSimulator, **faults: Any) -> None:
    platform.faults = msgspec.structs.replace(platform.faults, **faults)


async def well(home: Building, number: int, *, since: int = 0) -> Any:
    """A value gets through."""
    home.platform.put(LUX, number)
    path = f"{LUX_SUBJECT}/event/value"
    return await home.told(path, lambda one: one["data"]["value"] == number, since=since)


def quiet(home: Building) -> None:
    """No bug, no secret in the log or in anything that was published."""
    said = home.bridge.log + "".join(one.payload.decode("utf-8", "replace") for one in home.ear.messages)
    assert "Traceback" not in said
    assert PASSWORD not in said
    assert "sid000" not in said


@pytest.mark.parametrize(
    ("fault", "state", "words"),
    [
        ({"login": 401}, "auth_failed", "username and password"),
        ({"login": 403}, "auth_failed", "SAML"),
        ({"locked": True}, "auth_failed", "Too many failed"),
        ({"login": 503}, "offline", "HTTP 503"),
        ({"refuse": 503}, "offline", "HTTP 503"),
        ({"refuse": 302}, "offline", "redirect"),
    ],
    ids=["password", "another way in", "locked", "starting", "no socket", "a socket elsewhere"],
)
async def test_not_let_in_then_let_in(
    mosquitto: Mosquitto, tmp_path: Path, base: str, fault: dict[str, Any], state: str, words: str
) -> None:
    async with building(mosquitto, tmp_path, base, simulator(**fault), online=False) as home:
        told = await home.told("state", lambda one: one["state"] == state and words in (one["error"] or ""))
        assert told["next_retry"] or state == "offline"
        refused = await home.command(f"{LAMP_SUBJECT}/write", {"value": 1})
        assert refused["code"] == 503
        home.platform.faults = Faults()
        assert (await home.command("reconnect"))["code"] == 200
        await home.state("online")
        await well(home, 1)
        quiet(home)


async def test_a_platform_that_is_not_there_yet(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    port = free_port()
    options = msgspec.structs.replace(simulator().options, port=port)
    async with building(mosquitto, tmp_path, base, simulator(), online=False, url=f"http://127.0.0.1:{port}") as home:
        await home.state("offline")
        async with SmartserverSimulator(options) as later:
            await home.state("online")
            assert later.logins == 1
        mark = home.mark
        await home.state("offline", since=mark)
        quiet(home)


async def test_a_session_that_ends_in_the_middle_of_everything(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    """401 on a request: one login, the request once more. What becomes of the sockets is anybody's guess."""
    async with building(mosquitto, tmp_path, base, simulator()) as home:
        platform = home.platform
        for number, end in enumerate(("silent", "close", "drop"), 1):
            mark = home.mark
            change(platform, session_end=end)
            platform.expire()
            if end == "silent":
                answer = await home.command(f"{LAMP_SUBJECT}/write", {"value": {"value": number, "state": 1}})
                assert answer["code"] == 200
            await platform.until(lambda want=number + 1: platform.logins >= want)
            await platform.subscribed(number + 1)
            await platform.connected()
            await home.told("state", lambda one: one["state"] == "online", since=mark if end != "silent" else 0)
            await well(home, number, since=mark)
        quiet(home)


async def test_a_stolen_list_is_told_and_taken_back(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with building(mosquitto, tmp_path, base, simulator(), datapoints=[LUX]) as home:
        await well(home, 1)
        home.platform.steal()
        mark = home.mark
        assert (await home.command(f"{LUX_SUBJECT}/read", {"max_age": "0s"}))["code"] == 200
        told = await home.state("degraded", since=mark)
        assert "another program" in told["error"]
        await home.platform.subscribed(2)
        await home.state("online", since=mark)
        await well(home, 2, since=mark)


async def test_a_list_with_names_that_are_not_there(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    names = ["*/*/*/*/*/*", "17qz7ab/lon/99/Gone/0/x"]
    fault = simulator(refuse_unknown=True)
    async with building(mosquitto, tmp_path, base, fault, online=False, datapoints=names) as home:
        told = await home.state("degraded")
        known = len(home.platform.world.points)
        assert f"only {known} of {known + 1} datapoints" in told["error"]
        await well(home, 1)


async def test_odd_shapes(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    odd = simulator(objects=True, text_ids=True, extra_fields=True, foo=True)
    async with building(mosquitto, tmp_path, base, odd) as home:
        told = await well(home, 1)
        assert told["data"]["extra"] == {"quality": 192}
        mark = home.mark
        home.platform.alarm(12, "Lamp broken")
        raised = await home.told("event/alarm", since=mark)
        assert (raised["data"]["change"], raised["data"]["text"]) == ("raised", "Lamp broken")
        home.platform.remove(12)
        await home.told(f"{DEVICE_SUBJECT}/event/removed", since=mark)
        assert await home.told(f"{DEVICE_SUBJECT}/state", lambda one: one is None, since=mark) is None
        assert await home.told(f"{LUX_SUBJECT}/state", lambda one: one is None, since=mark) is None
        await home.told("event/unknown", since=0)


async def test_garbage_does_not_end_the_talk(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with building(mosquitto, tmp_path, base, simulator(malformed=2)) as home:
        for frame in ("", "{", "[", '{"action":"UPD:DATAPOINT","payload":[{"value":1}]}', b"\xff\xfe", "7", "null"):
            home.platform.say(frame)
        await home.ear.wait_topic(f"{base}/hq/dead/not_text")
        await home.ear.wait_topic(f"{base}/hq/dead/wrong_shape")
        for number in range(6):  # every other frame is cut
            home.platform.put(LUX, number)
        path = f"{LUX_SUBJECT}/event/value"
        await home.told(path, lambda one: one["data"]["value"] in (4, 5))
        assert home.bridge.exit_code is None
        assert balanced(await home.bridge.scrape(), "hq")


async def test_a_device_that_does_not_answer(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with building(mosquitto, tmp_path, base, simulator(no_proof=True)) as home:
        mark = home.mark
        assert (await home.command(f"{LAMP_SUBJECT}/write", {"value": 1}))["code"] == 200
        told = await home.told("event/notification", since=mark)
        assert told["data"]["target_name"] == "Lobby-1"


async def test_a_busy_platform(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with building(mosquitto, tmp_path, base, simulator(busy=503), online=False) as home:
        await home.told("state", lambda one: one["state"] == "connecting" and "503" in (one["error"] or ""))
        home.platform.faults = Faults()
        await home.state("online")
        change(home.platform, busy=429)
        answer = await home.command(f"{LAMP_SUBJECT}/write", {"value": 1})
        assert (answer["code"], answer["error"]["message"].endswith("sending data too fast")) == (502, True)
        change(home.platform, busy=0, late=5.0)
        answer = await home.command(f"{LAMP_SUBJECT}/write", {"value": 1, "timeout": "1s"})
        assert (answer["status"], answer["code"]) == ("unknown", 408)


@pytest.mark.parametrize("fault", ["no_end", "no_log"])
async def test_a_log_without_an_end(mosquitto: Mosquitto, tmp_path: Path, base: str, fault: str) -> None:
    async with building(mosquitto, tmp_path, base, simulator(**{fault: True})) as home:
        window = {"from": "2020-01-01T00:00:00Z", "to": "2050-01-01T00:00:00Z"}
        answer = await home.command("datalog", {"datapoints": [LUX], **window})
        assert (answer["code"], answer["data"]["partial"]) == (502, True)
        assert answer["data"]["count"] == len(home.events(f"{LUX_SUBJECT}/event/log"))
        mark = home.mark
        await well(home, 1)
        await home.platform.drop()
        home.platform.put(LUX, 2)
        await home.told("event/gap", lambda one: one["data"]["backfill"] == "partial", since=mark)
        quiet(home)


async def test_a_half_open_socket_is_found_by_pings(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with building(mosquitto, tmp_path, base, simulator(half_open=True), ping="1s") as home:
        told = await home.told("state", lambda one: one["state"] == "offline" and "pong" in one["error"])
        change(home.platform, half_open=False)
        await home.told("state", lambda one: one["state"] == "online" and one["since"] > told["since"])
        await home.told("event/gap", since=0)
        await well(home, 1)


async def test_one_session_per_user(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    """A second login ends the first session and its socket: a renewal is an interruption then, and filled."""
    options = SmartserverSimOptions(rooms=1, rate=0, heartbeat=0, session=3.0, faults=Faults(single_session=True))
    async with building(mosquitto, tmp_path, base, SmartserverSimulator(options)) as home:
        await well(home, 1)
        await home.platform.subscribed(3)
        await home.told("event/gap", lambda one: one["data"]["backfill"] == "done")
        await well(home, 2)
        quiet(home)


async def test_a_list_per_session(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    options = SmartserverSimOptions(rooms=1, rate=0, heartbeat=0, session=3.0, faults=Faults(list_per_session=True))
    async with building(mosquitto, tmp_path, base, SmartserverSimulator(options)) as home:
        await home.platform.until(lambda: home.platform.logouts >= 1)
        await well(home, 1)
        assert not home.events("event/gap")


async def test_an_old_release_has_no_time_stamps(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    options = SmartserverSimOptions(rooms=1, rate=0, heartbeat=0, release="3.10.020")
    async with building(mosquitto, tmp_path, base, SmartserverSimulator(options)) as home:
        told = await well(home, 1)
        assert told["time"] == told["recordedtime"]
        assert (await home.command(f"{LAMP_SUBJECT}/write", {"value": 1}))["code"] == 200
        assert "PUT /iap/devs/12/if/Lamp/0/nviValue/value" in home.platform.requests


Tls = Callable[[Certificates, str], dict[str, Any]]


@pytest.mark.parametrize(
    ("tls", "taken"),
    [
        (lambda c, f: {"insecure": True}, True),
        (lambda c, f: {"ca_file": str(c.ca_file)}, True),
        (lambda c, f: {"fingerprint": f}, True),
        (lambda c, f: {}, False),
        (lambda c, f: {"fingerprint": "00" * 32}, False),
    ],
    ids=["insecure", "ca_file", "fingerprint", "unknown issuer", "another fingerprint"],
)
async def test_certificates(
    mosquitto: Mosquitto, certificates: Certificates, tmp_path: Path, base: str, tls: Tls, taken: bool
) -> None:
    cert, key = certificates.server.cert_file, certificates.server.key_file
    pem = cert.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n"
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    options = SmartserverSimOptions(rooms=1, rate=0, heartbeat=0, tls_cert=str(cert), tls_key=str(key))
    secure = SmartserverSimulator(options)
    async with building(mosquitto, tmp_path, base, secure, online=taken, tls=tls(certificates, fingerprint)) as home:
        if taken:
            await well(home, 1)
            return
        told = await home.state("offline")
        assert "certificate" in told["error"]
        assert not home.platform.requests


async def test_a_restart_of_the_bridge_takes_the_states_again(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with building(mosquitto, tmp_path, base, simulator()) as home:
        await well(home, 7)
        assert await home.bridge.terminate() == 0
        async with Ear(mosquitto.url(), f"{base}/hq/{LUX_SUBJECT}/state") as late:
            kept = await late.wait_count(1)
            assert json.loads(kept[0].payload)["value"] == 7
        mark = home.mark
        await home.bridge.start()
        await home.state("online", since=mark)
        await well(home, 8, since=mark)


def _broken(line: Line) -> bool:
    return line.message == "offline" and "broke" in str(line.fields.get("reason"))


@pytest.mark.parametrize("dropped", [False, True])
async def test_a_life_in_which_nothing_was_told_ends_no_gap(
    mosquitto: Mosquitto, tmp_path: Path, base: str, dropped: bool
) -> None:
    """A socket without the list is no sign that the platform tells us anything."""
    async with building(mosquitto, tmp_path / "house", base, simulator(), outbox=tmp_path / "outbox") as home:
        await well(home, 1, since=home.mark)
        assert await home.bridge.terminate() == 0
        home.platform.put(LUX, 2)
        change(home.platform, refuse_list=503)
        mark, lines = home.mark, len(home.bridge.lines)
        await home.bridge.start()
        await home.told("state", lambda one: "503" in (one["error"] or ""), since=mark)
        if dropped:
            await home.platform.drop()
            await home.bridge.wait_log(_broken, since=lines)  # it is back too soon for its state to be told in any case
        assert await home.bridge.terminate() == 0
        change(home.platform, refuse_list=0)
        mark = home.mark
        await home.bridge.start()
        await home.told("event/gap", lambda one: one["data"]["backfill"] == "done", since=mark)
        path = f"{LUX_SUBJECT}/event/value"
        assert await home.told(path, lambda one: one["data"]["value"] == 2 and one.get("replay"), since=mark)
        entry = next(one for one in home.events(path) if one["data"]["value"] == 2)
        gap = home.events("event/gap", mark)[0]["data"]
        assert gap["from"] < entry["time"] < gap["to"]


async def test_states_of_a_device_that_went_while_the_bridge_was_away_are_cleared(
    mosquitto: Mosquitto, tmp_path: Path, base: str
) -> None:
    async with building(mosquitto, tmp_path / "house", base, simulator(), outbox=tmp_path / "outbox") as home:
        await well(home, 7, since=home.mark)
        await home.told(f"{DEVICE_SUBJECT}/state")
        assert await home.bridge.terminate() == 0
        gone = next(id_ for id_, one in home.platform.world.devices.items() if LUX in {p.qualifier for p in one.points})
        home.platform.remove(gone)
        mark = home.mark
        await home.bridge.start()
        for subject in (LUX_SUBJECT, DEVICE_SUBJECT):
            assert await home.told(f"{subject}/state", lambda told: told is None, since=mark) is None
        assert await home.told("alarms/state", since=mark), "what is there stays"


async def test_two_backends_with_one_user_are_refused(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with building(mosquitto, tmp_path, base, simulator()) as home:
        mark = len(home.bridge.lines)
        home.config["backends"]["copy"] = home.config["backends"]["hq"]
        home.bridge.configure(home.config)
        home.bridge.hup()
        line = await home.bridge.wait_log(lambda one: "backends.copy" in one.text, since=mark)
        assert "url and username" in line.text
        await well(home, 1)
