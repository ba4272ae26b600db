"""What `run` says at its start and while it waits: five lines, every change, and now and then a reminder."""

import logging
from pathlib import Path
from typing import Any

import pytest

from bridge.config import load_text
from bridge.opening import opening
from bridge.watch.reminders import Reminders
from tests.conftest import MosquittoFactory
from tests.support.house import FAST, TOKEN, house
from tests.support.process import Line

FULL = f"""
mqtt: {{url: ["mqtt://a", "wss://b/mqtt?token=hunter2"], base_topic: site/1}}
outbox: {{path: /var/lib/ws2mqtt}}
http: {{listen: off}}
backends:
  lora: {{type: resiot, url: "wss://me:hunter2@resiot.example:8443/hunter2/?token={TOKEN}"}}
  pbx: {{type: isymphony, url: "ws://pbx.example", username: u, password: hunter2, commands: {{allow: [filter, live]}}}}
  gone: {{type: resiot, url_file: FILE, enabled: false, commands: {{allow: []}}}}
"""


def test_five_lines_that_say_what_it_does(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("wss://h/")
    config = load_text(FULL.replace("FILE", str(secret)), {})
    secret.unlink()
    lines = list(opening(config, "ns/lease"))
    assert [message for message, _ in lines] == [
        "started", "broker", "platforms", "outbox on disk", "no status page, no metrics",
    ]  # fmt: skip
    fields = {name: value for _, told in lines for name, value in told.items()}
    assert fields["standby_for"] == "ns/lease"
    assert (fields["mqtt"], fields["base_topic"]) == ("mqtt://a,wss://b/mqtt", "site/1")
    assert fields["platforms"] == (
        "lora: resiot at resiot.example:8443, commands: all; pbx: isymphony at pbx.example, commands: filter live; "
        "gone: resiot at ?, commands: none, disabled"
    )
    assert (fields["path"], fields["max_bytes"]) == ("/var/lib/ws2mqtt", "256MiB")
    assert "hunter2" not in repr(lines)
    assert TOKEN not in repr(lines)


def test_the_lines_of_the_least_configuration() -> None:
    lines = list(opening(load_text("", {}), None))
    assert [message for message, _ in lines] == [
        "started", "broker", "platforms", "outbox in memory only: a crash loses what waits",
        "status page, metrics and health",
    ]  # fmt: skip
    assert lines[2][1] == {"platforms": "none"}
    assert lines[4][1] == {"http": "127.0.0.1:9108"}


# Reminders


class Log:
    """What passes, as (seconds, message, fields)."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str, Any]] = []
        self._reminders = Reminders()

    def say(self, at: float, message: str, backend: str = "lora", **fields: Any) -> bool:
        record = logging.makeLogRecord({"name": "ws2mqtt", "msg": message, "backend": backend, "created": at, **fields})
        passes = self._reminders.filter(record)
        if passes:
            self.told.append((at, message, record.__dict__))
        return passes


@pytest.fixture(autouse=True)
def _at_info() -> Any:
    logger = logging.getLogger("ws2mqtt")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(before)


def test_what_lasts_is_told_when_it_begins_and_now_and_then() -> None:
    log = Log()
    for at in range(0, 3 * 3600 + 1, 10):
        log.say(float(at), "mqtt not connected", reason="refused", retry_s=10.0)
    assert [at for at, *_ in log.told] == [0, 60, 300, 900, 3600, 7200, 10800]
    _, _, last = log.told[1]
    assert (last["since"], last["repeated"]) == ("1970-01-01T00:00:00.000000Z", 5)
    assert "since" not in log.told[0][2]


def test_a_try_of_which_two_lines_tell_is_one() -> None:
    log = Log()
    for at in range(0, 61, 10):
        log.say(at, "offline", reason="x", next_retry="…")
        log.say(at, "not connected", reason="x", next_retry="…")
    assert [(at, message) for at, message, _ in log.told] == [(0, "offline"), (60, "offline")]
    assert log.told[1][2]["repeated"] == 5


def test_reminders_that_were_missed_are_one() -> None:
    log = Log()
    log.say(0, "not connected", reason="x", next_retry="…")
    assert [log.say(at, "not connected", reason="x", next_retry="…") for at in (1000, 1001, 3600)] == [
        True,
        False,
        True,
    ]


def test_another_reason_side_or_backend_is_told_at_once() -> None:
    log = Log()
    for message, backend, reason in (
        ("mqtt not connected", "lora", "refused"),
        ("mqtt not connected", "lora", "timed out"),
        ("mqtt not connected", "port", "refused"),
        ("not connected", "lora", "refused"),
    ):
        assert log.say(0, message, backend, reason=reason, next_retry="…")
        assert not log.say(1, message, backend, reason=reason, next_retry="…")


def test_two_brokers_that_are_away_in_turn_are_told_once_each() -> None:
    log = Log()
    told = [log.say(at, "mqtt not connected", reason=("a", "b")[at % 2], retry_s=1) for at in range(20)]
    assert sum(told) == 2


def test_after_it_was_well_the_same_is_new() -> None:
    log = Log()
    for _ in range(2):
        assert log.say(0, "mqtt lost", reason="x", retry_s=1)
        assert log.say(0, "offline", reason="x", next_retry="…")
        assert not log.say(1, "mqtt lost", reason="x", retry_s=1)
        assert log.say(2, "mqtt connected")
        assert not log.say(3, "offline", reason="x", next_retry="…"), "the platform is another side"
        assert log.say(4, "online", reason=None)


def test_what_is_no_trouble_passes() -> None:
    log = Log()
    for at in range(3):
        assert log.say(at, "gap", reason="closed")
        assert log.say(at, "connected", link="main")


def test_at_debug_every_try_is_told() -> None:
    logging.getLogger("ws2mqtt").setLevel(logging.DEBUG)
    log = Log()
    assert all(log.say(at, "mqtt not connected", reason="x", retry_s=1) for at in range(5))


def test_troubles_without_end_are_bounded() -> None:
    log = Log()
    assert all(log.say(0, "not connected", reason=str(number), next_retry="…") for number in range(3000))


# As a whole


async def test_a_bad_day_in_the_log(broker: MosquittoFactory, base: str, tmp_path: Path, free_port: Any) -> None:
    """A platform that is away, and a login that is refused: one line each, however often it is tried."""
    there = await broker()
    nowhere = f"http://127.0.0.1:{free_port()}"
    backends: dict[str, dict[str, Any]] = {
        "away": {
            "type": "smartserver",
            "url": nowhere,
            "username": "u",
            "password": "p",
            "datapoints": ["*/*/*/*/*/*"],
        },
        "dead": {"type": "resiot", "url": nowhere.replace("http", "ws"), "reconnect": FAST},
    }
    async with house(there, tmp_path, base, backends=backends, online=False) as home:
        wrong = home.platform.url.replace(TOKEN, "wrong")
        home.reconfigure(backends={**home.config["backends"], "wrong": {"type": "resiot", "url": wrong}})
        await home.state("online")
        home.bridge.hup()
        await home.state("auth_failed", "wrong")
        await home.told("dead/state", lambda told: told["attempt"] >= 5)
        assert await home.bridge.terminate() == 0

        def said(backend: str) -> list[Line]:
            own = [line for line in home.bridge.lines if line.fields.get("backend") == backend]
            return [line for line in own if not line.message.startswith("mqtt")]

        opened = [line.message for line in home.bridge.lines[:5]]
        assert opened[:3] == ["started", "broker", "platforms"]
        assert home.bridge.lines[0].fields["config"] == str(home.bridge.config_file)
        assert [line.message for line in said("dead")] == ["offline"]
        assert said("away")[0].message == "offline"
        assert said("wrong")[0].message == "auth_failed"
        assert "401" in said("wrong")[0].fields["reason"]
        assert "online" in [line.message for line in said("lora")]
        assert {line.fields["level"] for line in said("lora")} == {"info"}
        assert not [line for line in home.bridge.lines if line.fields.get("reason") in ("reloading", "")]
