"""The house seen from outside: every metric from the start, a ledger that balances in every scrape, HTTP, health."""

import asyncio
import contextlib
import re
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from bridge import __version__, app
from tests.support import PATIENCE_S
from tests.support.house import DEVICE, TOKEN, House, balanced, house, ran, up, ups
from tests.support.mosquitto import Mosquitto
from tests.support.process import BridgeProcess, Scrape

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNTERS: dict[str, set[str]] = {
    "frames_received_total": {"backend"},
    "frame_bytes_total": {"backend"},
    "frames_unread_total": {"backend", "reason"},
    "events_received_total": {"backend", "type"},
    "events_recovered_total": {"backend"},
    "events_published_total": {"backend"},
    "events_dropped_total": {"backend", "reason"},
    "events_ignored_total": {"backend"},
    "events_replayed_total": {"backend"},
    "states_published_total": {"backend"},
    "websocket_connects_total": {"backend", "outcome"},
    "websocket_reconnects_total": {"backend", "reason"},
    "gaps_total": {"backend"},
    "gap_seconds_total": {"backend"},
    "auth_total": {"backend", "outcome"},
    "commands_total": {"backend", "command", "outcome"},
    "mqtt_connects_total": {"backend", "outcome"},
    "mqtt_reconnects_total": {"backend", "reason"},
    "config_reloads_total": {"outcome"},
}
GAUGES: dict[str, set[str]] = {
    "websocket_connected": {"backend"},
    "mqtt_connected": {"backend"},
    "mqtt_inflight": {"backend"},
    "outbox_events": {"backend"},
    "outbox_bytes": {"backend"},
    "build_info": {"version"},
}
STAMPS = {"last_event_timestamp_seconds", "outbox_oldest_timestamp_seconds"}
HISTOGRAMS = {"event_latency_seconds", "mqtt_publish_seconds", "command_duration_seconds"}
LABELS = {
    "events_dropped_total": {"outbox_full", "too_old", "too_large", "topic_too_long", "refused", "shutdown"},
    "frames_unread_total": {"not_json", "not_text", "wrong_shape", "too_large"},
    "events_received_total": {"up", "join", "tx", "txack", "ack", "alive", "rx", "unknown", "gap", "other"},
    "websocket_connects_total": {"ok", "refused", "failed"},
    "mqtt_connects_total": {"ok", "refused", "failed"},
    "auth_total": {"ok", "refused", "failed"},
    "commands_total": {"sent", "succeeded", "failed", "expired", "rejected", "unknown"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(mosquitto: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("watched")
    async with house(mosquitto, folder, folder.name, backend={"required": True}) as made:
        await made.bridge.wait_http("/readyz")
        yield made


async def families(home: House) -> dict[str, Metric]:
    """By the name in the text, without the prefix. Raises ValueError for what Prometheus would not read."""
    answer = await home.bridge.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, Metric] = {}
    for one in text_string_to_metric_families(answer.text):
        name = one.name + ("_total" if one.type == "counter" else "")
        assert name.startswith("ws2mqtt_"), "nothing but ours"
        assert one.documentation
        assert name not in found, "told once"
        found[name.removeprefix("ws2mqtt_")] = one
    assert answer.text.endswith("\n")
    return found


# These come first: nothing has happened yet.


async def test_every_metric_exists_from_the_start(home: House) -> None:
    found = await families(home)
    assert set(found) == {*COUNTERS, *GAUGES, *HISTOGRAMS, *STAMPS}
    for name, labels in {**COUNTERS, **GAUGES}.items():
        assert found[name].type == ("counter" if name in COUNTERS else "gauge")
        assert found[name].samples, f"{name} has no series"
        for sample in found[name].samples:
            assert set(sample.labels) == labels
    for name in STAMPS:
        assert not found[name].samples, "there is no time yet"
    for name in HISTOGRAMS:
        assert found[name].type == "histogram"
        assert {one.labels["backend"] for one in found[name].samples} >= {"lora"}


async def test_what_has_not_happened_is_0(home: House) -> None:
    found = await families(home)
    happened = {"states_published_total", "websocket_connects_total", "auth_total", "mqtt_connects_total"}
    for name in set(COUNTERS) - happened:
        assert {one.value for one in found[name].samples} == {0}, name
    for name in ("event_latency_seconds", "command_duration_seconds"):
        assert {one.value for one in found[name].samples} == {0}
    one = {(sample.labels["backend"], sample.labels["outcome"]): sample.value for sample in
           found["mqtt_connects_total"].samples}  # fmt: skip
    assert one == {(who, what): float(what == "ok") for who in ("bridge", "lora") for what in LABELS["auth_total"]}
    assert {sample.value for sample in found["build_info"].samples} == {1}
    assert {sample.labels["version"] for sample in found["build_info"].samples} == {__version__}


async def test_labels_come_from_closed_sets_and_no_series_is_needless(home: House) -> None:
    await home.say(up(1), '{"CommType":"comm_weather"}', "{")
    await home.ear.publish(f"{home.base}/lora/command/no-such-command", {})
    await home.heard("lora/response/no-such-command")
    await home.bridge.wait_scrape(lambda one: one.of("ws2mqtt_events_published_total", backend="lora") == 2)
    found = await families(home)
    for name, values in LABELS.items():
        (label,) = COUNTERS[name] - {"backend", "command"}
        assert {one.labels[label] for one in found[name].samples} == values, name
    commands = {(one.labels["backend"], one.labels["command"]) for one in found["commands_total"].samples}
    assert commands == {
        *(("lora", one) for one in ("downlink", "reconnect", "pause", "resume", "other")),
        *(("bridge", one) for one in ("ping", "health", "log_level", "reload", "other")),
    }
    assert {label for one in found["config_reloads_total"].samples for label in one.labels.values()} == {"ok", "failed"}
    samples = [sample for family in found.values() for sample in family.samples]
    assert not [one.name for one in samples if one.name.endswith("_created")]
    for backend in ("lora", "bridge"):
        series = [one for one in samples if one.labels.get("backend") == backend]
        assert len(series) <= 150, f"{backend} has {len(series)}"
    assert {one.labels["backend"] for one in samples if "backend" in one.labels} == {"lora", "bridge"}


async def test_the_ledger_balances_in_every_scrape_under_load(home: House) -> None:
    seen, waiting = 0, 0.0
    for _ in range(10):  # until a scrape was taken while something waited
        before = (await home.bridge.scrape()).of("ws2mqtt_events_published_total", backend="lora")
        flood = asyncio.create_task(home.platform.flood(ups(5000)))
        while True:
            scrape = await home.bridge.scrape()
            assert balanced(scrape)
            seen, waiting = seen + 1, max(waiting, scrape.of("ws2mqtt_outbox_events", backend="lora"))
            if (published := scrape.of("ws2mqtt_events_published_total", backend="lora")) == before + 5000:
                break
        assert await flood == 5000
        if seen > 3 and waiting:
            break
    assert waiting
    assert scrape.of("ws2mqtt_frames_received_total", backend="lora") >= 5000
    assert scrape.of("ws2mqtt_frame_bytes_total", backend="lora") >= 5000 * len(up(1))
    assert scrape.of("ws2mqtt_event_latency_seconds_count", backend="lora") == published
    assert scrape.of("ws2mqtt_outbox_bytes", backend="lora") == 0
    assert scrape.of("ws2mqtt_last_event_timestamp_seconds", backend="lora") > 1_700_000_000
    assert scrape.total("ws2mqtt_outbox_oldest_timestamp_seconds") == 0, "nothing waits"


# HTTP


async def test_livez_readyz_and_the_page(home: House) -> None:
    live, ready, page = [await home.bridge.get(path) for path in ("/livez", "/readyz", "/")]
    assert live.status_code == 200
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "waiting": []})
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "lora" in page.text
    assert "online" in page.text
    assert TOKEN not in page.text


async def test_what_is_not_there_and_what_is_not_get(home: House) -> None:
    async with httpx.AsyncClient(base_url=home.bridge.http_url, trust_env=False) as client:
        assert (await client.get("/nothing")).status_code == 404
        assert (await client.get("/livez?verbose")).status_code == 200
        for method in ("POST", "PUT", "DELETE"):
            answer = await client.request(method, "/metrics", content=b"x" * 1000)
            assert answer.status_code == 405
            assert "GET" in answer.headers["allow"]  # RFC 9110, 15.5.6
        for path in ("/", "/metrics", "/livez", "/readyz", "/nothing"):
            got, head = await client.get(path), await client.head(path)
            assert head.status_code == got.status_code
            assert head.content == b""
            assert abs(int(head.headers["content-length"]) - len(got.content)) < 100


async def test_head_has_no_body_and_the_connection_goes_on(home: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", home.bridge.http_port)
    ask = "{} /livez HTTP/1.1\r\nHost: x\r\n{}\r\n"
    writer.write((ask.format("HEAD", "") + ask.format("GET", "Connection: close\r\n")).encode())
    async with asyncio.timeout(PATIENCE_S):
        answers = await reader.read()
    writer.close()
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert answers.count(b'{"live":true}') == 1


async def test_nonsense_on_the_http_port_harms_nobody(home: House) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 9000):
        reader, writer = await asyncio.open_connection("127.0.0.1", home.bridge.http_port)
        writer.write(nonsense)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionResetError):  # it may not have read all of it
                await reader.read()
        writer.close()
    assert (await home.bridge.get("/livez")).status_code == 200
    assert "Traceback" not in home.bridge.log


async def test_readiness_names_what_it_waits_for(
    mosquitto: Mosquitto, base: str, tmp_path: Path, free_port: Any
) -> None:
    dead = {"type": "resiot", "url": f"ws://127.0.0.1:{free_port()}/"}
    backends = {"hq": dead | {"required": True}, "spare": dead, "off": dead | {"required": True, "enabled": False}}
    nowhere = {"url": f"mqtt://127.0.0.1:{free_port()}", "base_topic": base}
    async with BridgeProcess({"mqtt": nowhere, "backends": backends}, tmp_path) as bridge:
        answer = await bridge.wait_http("/readyz", 503)
        assert answer.json() == {"ready": False, "waiting": ["mqtt", "hq"]}
        assert (await bridge.get("/livez")).status_code == 200
        bridge.configure({"mqtt": nowhere | {"url": mosquitto.url()}, "backends": backends})
        bridge.hup()
        async with asyncio.timeout(PATIENCE_S):
            while (await bridge.get("/readyz")).json()["waiting"] != ["hq"]:
                await asyncio.sleep(0.02)


async def test_listen_off_opens_no_port(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    async with house(mosquitto, tmp_path, base, http={"listen": False}) as home:
        with pytest.raises(httpx.ConnectError):
            await home.bridge.get("/livez")
        probe = await ran((sys.executable, "-m", "bridge", "healthcheck", "-c", str(home.bridge.config_file)))
        assert (probe.code, probe.out) == (1, "")
        assert "off" in probe.err


async def test_a_port_that_is_taken_is_named(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        config = {"mqtt": {"url": mosquitto.url(), "base_topic": base}, "http": {"listen": listen}, "backends": {}}
        async with BridgeProcess(config, tmp_path) as bridge:
            assert await bridge.wait_exit() == 1
        assert listen in bridge.log
        assert "http.listen" in bridge.log
        assert "Traceback" not in bridge.log


async def test_healthcheck_asks_the_running_bridge(home: House, tmp_path: Path, free_port: Any) -> None:
    program = (sys.executable, "-m", "bridge", "healthcheck", "-c")
    good = await ran((*program, str(home.bridge.config_file)))
    assert (good.code, good.out, good.err) == (0, "", "")
    environment = {"http_proxy": "http://127.0.0.1:9", "PATH": "/usr/bin"}  # what is meant for the platform's side
    assert (await ran((*program, str(home.bridge.config_file)), environment=environment)).code == 0
    dead = tmp_path / "dead.yaml"
    dead.write_text(f"http: {{listen: '127.0.0.1:{free_port()}'}}\nbackends: {{}}\n")
    bad = await ran((*program, str(dead)))
    assert (bad.code, bad.out) == (1, "")
    assert bad.err.startswith("not live: ")
    assert "Traceback" not in bad.err


async def test_healthcheck_is_not_misled_by_another_server(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        config = tmp_path / "other.yaml"
        config.write_text(f"http: {{listen: '127.0.0.1:{server.sockets[0].getsockname()[1]}'}}\nbackends: {{}}\n")
        bad = await ran((sys.executable, "-m", "bridge", "healthcheck", "-c", str(config)))
    assert bad.code == 1
    assert "Traceback" not in bad.err


# bridge/health


HEALTHY = """
import sys, bridge.app, bridge.cli
bridge.app.HEALTH_S = 0.2
sys.exit(bridge.cli.main(["run", *sys.argv[1:]]))
"""


async def test_the_health_topic_tells_the_ledger(mosquitto: Mosquitto, base: str, tmp_path: Path) -> None:
    assert app.HEALTH_S == 30
    program = {"program": (sys.executable, "-c", HEALTHY)}  # the same bridge, in more of a hurry
    async with house(mosquitto, tmp_path, base, bridge=program, platforms=("lora", "other")) as home:
        await home.platform.flood(ups(20))
        await home.until_uplinks(20)
        heard = await home.heard("bridge/health", lambda told: told["backends"]["lora"]["events_published"] == 20)
        assert (heard.qos, heard.retain) == (1, False)
        told = home.ear.json(heard)
        assert re.fullmatch(r"\d+", told["session"])
        assert set(told["backends"]) == {"lora", "other"}
        lora = told["backends"]["lora"]
        assert (lora["events_received"], lora["events_recovered"], lora["outbox_events"]) == (20, 0, 0)
        assert lora["events_dropped"] == {}
        assert lora["state"] == "online"
        asked = await home.command("bridge/health")
        assert set(asked["data"]) == set(told)
        assert asked["data"]["backends"]["lora"] == lora


async def test_device_topics_do_not_become_series(home: House) -> None:
    def settled(scrape: Scrape) -> bool:
        return scrape.of("ws2mqtt_outbox_events", backend="lora") == 0

    before = await home.bridge.wait_scrape(settled)
    await home.say(*(up(1, DevEui=f"{number:016x}") for number in range(50)))
    await home.heard(f"lora/{DEVICE.rpartition('/')[0]}/{49:016x}/event/up")
    after = await home.bridge.wait_scrape(settled)
    assert {name for name, _ in after} - {name for name, _ in before} <= {"ws2mqtt_last_event_timestamp_seconds"}
    assert len(after) <= len(before) + 1
