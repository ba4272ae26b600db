"""iSymphony on bad days: refused, redirected, dropped, restarted, silent, garbled; each with a bridge of its own."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from bridge.simulators.isymphony import Faults, IsymphonySimOptions, IsymphonySimulator
from tests.support import free_port
from tests.support.house import balanced, ran
from tests.support.isymphony import PASSWORD, Centre, centre
from tests.support.mosquitto import Certificates, Mosquitto
from tests.support.process import PROGRAM

LOGINS = {"type": ["userLogin", "userLogout", "hangup"]}
FOREVER = {"initial": "50ms", "max": "50ms"}


# Who does not come in


@pytest.mark.parametrize(
    ("simulator", "backend", "state", "words"),
    [
        ({}, {"password": "wrong-one-5"}, "auth_failed", "(HTTP 401): check username and password"),
        ({"acl": "192.0.2.1"}, {}, "auth_failed", "only localhost is allowed by default"),
        ({"ssl_only": True}, {}, "offline", "use wss and port 55050"),
        ({"faults": Faults(refuse=404)}, {}, "offline", "no event socket at this address: check url"),
        ({"faults": Faults(refuse=503)}, {}, "offline", "HTTP 503"),
    ],
    ids=["password", "acl", "tls only", "path", "503"],
)
async def test_a_refusal_names_its_remedy(
    mosquitto: Mosquitto,
    tmp_path: Path,
    base: str,
    simulator: dict[str, Any],
    backend: dict[str, Any],
    state: str,
    words: str,
) -> None:
    async with centre(mosquitto, tmp_path, base, simulator=simulator, backend=backend, online=False) as pbx:
        told = await pbx.home.state(state, "pbx")
        assert words in told["error"]
        assert told["next_retry"]
        scrape = await pbx.home.bridge.wait_scrape(lambda s: s.total("ws2mqtt_websocket_reconnects_total") > 0)
        refused = scrape.of("ws2mqtt_auth_total", backend="pbx", outcome="refused")
        assert (refused > 0) == (state == "auth_failed")
        for secret in (PASSWORD, "wrong-one-5"):
            assert secret not in pbx.home.bridge.log
            assert not any(secret.encode() in one.payload for one in pbx.home.ear.messages)


async def test_a_password_file_that_is_mended_lets_the_bridge_in(
    mosquitto: Mosquitto, tmp_path: Path, base: str
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong-one-5\n")
    backend = {"password": None, "password_file": str(file)}
    async with centre(mosquitto, tmp_path, base, backend=backend, online=False) as pbx:
        await pbx.home.state("auth_failed", "pbx")
        file.write_text(PASSWORD + "\n")
        await pbx.command("reconnect")
        await pbx.online()
        assert (await pbx.command("live", path="coreServers"))["code"] == 200
        file.write_text("wrong-one-5\n")
        told = await pbx.command("live", path="coreServers")
        assert (told["code"], "HTTP 401" in told["error"]["message"]) == (502, True)


async def test_wss_with_a_certificate_of_its_own(
    mosquitto: Mosquitto, tmp_path: Path, base: str, certificates: Certificates
) -> None:
    port = free_port()
    simulator = {
        "ssl_only": True, "tls_port": port, "tls_cert": str(certificates.server.cert_file),
        "tls_key": str(certificates.server.key_file), "inside": 1,
    }  # fmt: skip
    backend = {"url": f"wss://127.0.0.1:{port}", "tls": {"ca_file": str(certificates.ca_file)}}
    async with centre(mosquitto, tmp_path, base, simulator=simulator, backend=backend) as pbx:
        await pbx.user("anna", "in")
        assert (await pbx.command("live", path="coreServers"))["code"] == 200


async def test_the_vendors_password_is_warned_of(tmp_path: Path) -> None:
    pbx = {"type": "isymphony", "url": "ws://localhost", "username": "manager", "password": "manag3rpa55word",
           "filters": {"type": ["login"]}}  # fmt: skip
    file = tmp_path / "ws2mqtt.yaml"
    file.write_text(json.dumps({"backends": {"pbx": pbx}}))
    told = await ran([*PROGRAM[:3], "check", "-c", str(file)])
    assert told.code == 0
    assert "backends.pbx.password: is the vendor's default" in told.err
    assert "no event is called login; userLogin is sent in its place" in told.err
    assert "manag3rpa55word" not in told.err + told.out


# What is known ends


async def test_after_a_loss_presence_is_unknown_until_it_is_read(
    mosquitto: Mosquitto, tmp_path: Path, base: str
) -> None:
    async with centre(mosquitto, tmp_path, base, simulator={"inside": 2}, backend={"filters": LOGINS}) as pbx:
        await pbx.user("anna", "in")
        await pbx.user("frank", "out")
        mark = pbx.mark
        await pbx.platform.drop()
        assert (await pbx.user("anna", "unknown", mark))["logins"] == 0
        await pbx.user("frank", "unknown", mark)
        gap = (await pbx.event("gap", mark))["data"]
        assert (gap["backfill"], gap["from"] <= gap["to"]) == ("none", True)
        await pbx.user("anna", "in", mark)
        await pbx.user("frank", "out", mark)
        await pbx.platform.asked(2)
        first, again = (json.loads(one) for one in pbx.platform.messages[:2])
        assert first["filters"] == again["filters"]
        assert len(first["filters"]) == 3


async def test_a_restart_of_the_server_brings_new_ids_and_the_same_names(
    mosquitto: Mosquitto, tmp_path: Path, base: str
) -> None:
    async with centre(mosquitto, tmp_path, base, simulator={"inside": 1}) as pbx:
        await pbx.user("anna", "in")
        old, mark = pbx.platform.world.user("anna").id, pbx.mark
        await pbx.platform.restart()
        await pbx.user("anna", "unknown", mark)
        await pbx.user("anna", "out", mark)
        await pbx.platform.admissions(2)
        told = await pbx.command("live", path=f"coreServers/getByName/default/users/{old}")
        assert (told["code"], "getByName" in told["error"]["message"]) == (404, True)
        mark = pbx.mark
        pbx.platform.tell(*pbx.platform.world.login(pbx.platform.world.user("anna")))
        assert (await pbx.user("anna", "in", mark))["logins"] == 1


async def test_a_new_core_server_id_on_the_same_socket(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with centre(mosquitto, tmp_path, base, faults={"rest_status": 404}) as pbx:
        world = pbx.platform.world
        pbx.platform.tell(*world.login(world.user("anna")))
        await pbx.user("anna", "in")
        world.restart()
        mark = pbx.mark
        pbx.platform.tell(*world.login(world.user("ben")))
        await pbx.user("anna", "unknown", mark)
        await pbx.user("ben", "in", mark)


async def test_the_end_of_the_bridge_leaves_no_presence_behind(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with centre(mosquitto, tmp_path, base, simulator={"inside": 1}) as pbx:
        await pbx.user("anna", "in")
        mark = pbx.mark
        assert await pbx.home.bridge.terminate() == 0
        await pbx.user("anna", "unknown", mark)


# Filters that the server does not take


async def test_a_filter_without_an_answer(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    """The bridge filters alone, tells so, and goes on; a late answer is as good as any."""
    backend = {"filters": {"type": ["hangup"]}}
    async with centre(mosquitto, tmp_path, base, faults={"no_reply": True}, backend=backend) as pbx:
        assert "does not answer" in (await pbx.home.state("degraded", "pbx"))["error"]
        mark, sent = pbx.mark, json.loads(pbx.platform.messages[0])
        pbx.platform.say('{"type":"userLogin","username":"anna"}')
        pbx.platform.say('{"type":"hangup","username":"anna"}')
        await pbx.event("user/anna/hangup", mark)
        assert pbx.types(mark) == ["user/anna isymphony.hangup"]
        told = await pbx.command("filter", filters={"type": ["userLogin"]}, timeout="1s")
        assert (told["status"], told["code"], told["data"]) == ("unknown", 408, {"filters": {"type": ["hangup"]}})
        mark = pbx.mark
        await pbx.platform.asked(3)
        restored = json.loads(pbx.platform.messages[-1])
        assert restored["filters"] == sent["filters"]
        success = {"type": "success", "correlationId": restored["correlationId"], "time": 1}
        pbx.platform.say(json.dumps(success))
        await pbx.online(mark)


async def test_a_refused_and_an_ignored_filter_are_kept_by_the_bridge(
    mosquitto: Mosquitto, tmp_path: Path, base: str
) -> None:
    backend = {"filters": {"type": ["hangup"], "username": "ben"}}
    async with centre(mosquitto, tmp_path, base, faults={"error_reply": "no"}, backend=backend, online=False) as pbx:
        told = await pbx.home.state("degraded", "pbx")
        assert told["error"] == "the platform refused the filter, ws2mqtt filters alone: no"
        pbx.faults(ignore_filters=True, null_correlation=True)
        mark = pbx.mark
        assert (await pbx.command("filter", filters={"type": ["hangup"]}))["code"] == 200
        await pbx.online(mark)
        world = pbx.platform.world
        call, events = world.ring(world.user("anna"), world.user("ben"))
        pbx.platform.tell(*events, *world.hang_up(call))
        await pbx.event("user/ben/hangup", mark)
        assert pbx.types(mark) == ["user/anna isymphony.hangup", "user/ben isymphony.hangup"]


async def test_a_server_that_says_our_password_back_is_not_repeated(
    mosquitto: Mosquitto, tmp_path: Path, base: str
) -> None:
    faults = {"error_reply": f"manager:{PASSWORD} may not"}
    async with centre(mosquitto, tmp_path, base, faults=faults) as pbx:
        mark = pbx.mark
        told = await pbx.command("filter", filters={"type": ["hangup"]})
        assert (told["code"], told["error"]["message"]) == (502, "manager:*** may not")
        assert "manager:*** may not" in (await pbx.home.state("degraded", "pbx", since=mark))["error"]
        assert not any(PASSWORD.encode() in one.payload for one in pbx.home.ear.messages)


# Commands


@pytest.mark.parametrize(
    ("faults", "code", "status", "words"),
    [
        ({"rest_status": 403}, 502, "failed", "its ACL"),
        ({"rest_status": 500}, 502, "failed", "(HTTP 500): refused by the simulator"),
        ({"rest_status": 412}, 502, "failed", "calls the JSON invalid"),
        ({"rest_status": 302}, 502, "failed", "use wss and port 55050"),
        ({"rest_status": 404}, 404, "rejected", "use getByName"),
        ({"rest_cut": True}, 408, "unknown", "may have been carried out"),
        ({"rest_late": 30.0}, 408, "unknown", "may have been carried out"),
    ],
)
async def test_a_call_that_is_refused_or_not_answered(
    mosquitto: Mosquitto, tmp_path: Path, base: str, faults: dict[str, Any], code: int, status: str, words: str
) -> None:
    async with centre(mosquitto, tmp_path, base, faults=faults) as pbx:
        told = await pbx.command("dnd", extension="7001", on=True, timeout="2s" if "rest_late" in faults else "60s")
        assert (told["code"], told["status"]) == (code, status)
        assert words in told["error"]["message"]
        sent = [one for one in pbx.platform.requests if one.method == "POST"]
        assert len(sent) == 1  # nothing is sent twice


async def test_the_end_answers_who_waits(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with centre(mosquitto, tmp_path, base, faults={"rest_late": 30.0}) as pbx:
        mark = pbx.mark
        waiting = [asyncio.ensure_future(pbx.command(name, **fields)) for name, fields in (
            ("dnd", {"extension": "7001", "on": True}), ("live", {"path": "coreServers"}),
        )]  # fmt: skip
        await pbx.platform.requested("/dnd")
        assert await pbx.home.bridge.terminate() == 0
        told = await asyncio.gather(*waiting)
        assert [(one["status"], one["code"]) for one in told] == [("unknown", 408), ("rejected", 503)]
        assert (await pbx.home.state("offline", "pbx", since=mark))["error"] is None


async def test_a_reload_takes_new_actions_and_filters(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with centre(mosquitto, tmp_path, base, simulator={"inside": 1}) as pbx:
        await pbx.command("filter", filters={"type": ["hangup"]})
        changed = {**pbx.home.config["backends"]["pbx"], "actions": {"cores": {"method": "GET", "path": "coreServers"}}}
        pbx.home.reconfigure(backends={"pbx": changed})
        mark = pbx.mark
        assert (await pbx.home.command("bridge/reload"))["data"]["changed"] == ["pbx"]
        await pbx.online(mark)
        await pbx.user("anna", "in", mark)
        info = await pbx.home.told("bridge/info", since=mark)
        assert "cores" in info["backends"]["pbx"]["commands"]
        assert (await pbx.command("cores"))["code"] == 200
        assert (await pbx.command("dnd", extension="1", on=True))["code"] == 404
        assert (await pbx.command("filter"))["data"] == {"filters": {}}
        scrape = await pbx.home.bridge.scrape()
        assert scrape.of("ws2mqtt_commands_total", backend="pbx", command="cores", outcome="succeeded") == 1
        assert scrape.of("ws2mqtt_commands_total", backend="pbx", command="filter", outcome="succeeded") == 2
        assert scrape.total("ws2mqtt_commands_total", command="originate") == 0


# Noise


async def test_garbage_hurts_nobody(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with centre(mosquitto, tmp_path, base, simulator={"rate": 300.0}, faults={"malformed": 7}) as pbx:
        await pbx.home.heard("pbx/user/anna/state")
        await pbx.home.ear.wait_topic(f"{base}/pbx/dead/not_json")
        pbx.faults(time_as_text=True, extra=True, array=True, binary=True, big_name=3000, no_core=True)
        await pbx.home.bridge.wait_scrape(lambda s: s.total("ws2mqtt_events_published_total", backend="pbx") > 300)
        scrape = await pbx.home.bridge.scrape()
        assert balanced(scrape, "pbx")
        assert scrape.total("ws2mqtt_events_dropped_total", backend="pbx") == 0


async def gap_because(pbx: Centre, words: str, since: int) -> None:
    """Not the next one: a busy machine may be late with a pong, too, and that is one gap more."""
    await pbx.home.told("pbx/event/gap", lambda one: words in one["data"]["reason"], since=since)


async def test_half_open_and_closed_in_every_way(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    async with centre(mosquitto, tmp_path, base, backend={"ping": "2s", "reconnect": FOREVER}) as pbx:
        for end, words in {1001: "1001", 1006: "broke", 1011: "1011", None: "no pong came in time"}.items():
            await pbx.platform.connected()
            mark = pbx.mark
            if end is not None:
                await pbx.platform.drop(end)
            else:
                pbx.platform.freeze()
            await gap_because(pbx, words, mark)
            await pbx.online(mark)
        scrape = await pbx.home.bridge.scrape()
        assert scrape.of("ws2mqtt_gaps_total", backend="pbx") >= 4
        assert scrape.of("ws2mqtt_websocket_reconnects_total", backend="pbx", reason="ping") >= 1


async def test_a_platform_that_comes_later(mosquitto: Mosquitto, tmp_path: Path, base: str) -> None:
    port = free_port()
    backend = {"url": f"ws://127.0.0.1:{port}/communication_manager/ws/event", "reconnect": FOREVER}
    async with centre(mosquitto, tmp_path, base, backend=backend, online=False) as pbx:
        await pbx.home.state("offline", "pbx")
        assert (await pbx.command("live", path="coreServers"))["code"] == 503
        async with IsymphonySimulator(IsymphonySimOptions(port=port, rate=0.0, password=PASSWORD)):
            await pbx.online()
            assert (await pbx.command("live", path="coreServers"))["code"] == 200
