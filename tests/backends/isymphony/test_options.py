"""What an iSymphony backend is told: addresses, mistakes, warnings."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.backends.isymphony.actions import Action
from bridge.backends.isymphony.options import IsymphonyOptions
from bridge.config import load
from bridge.options import Secret


def options(**changes: Any) -> IsymphonyOptions:
    usual: dict[str, Any] = {"url": "ws://pbx.example:58080", "username": "manager", "password": Secret("p")}
    return IsymphonyOptions(**usual | changes)


@pytest.mark.parametrize(
    ("url", "socket", "live"),
    [
        ("ws://pbx:58080", "ws://pbx:58080", "http://pbx:58080"),
        ("wss://pbx:55050/", "wss://pbx:55050", "https://pbx:55050"),
        ("ws://pbx", "ws://pbx:58080", "http://pbx:58080"),
        ("WSS://pbx", "wss://pbx:55050", "https://pbx:55050"),
        ("wss://[::1]", "wss://[::1]:55050", "https://[::1]:55050"),
        ("wss://front:443/pbx", "wss://front:443/pbx", "https://front:443/pbx"),
        ("ws://pbx:58080/communication_manager/ws/event", "ws://pbx:58080", "http://pbx:58080"),
        ("ws://pbx:58080/x/communication_manager/", "ws://pbx:58080/x", "http://pbx:58080/x"),
    ],
)
def test_addresses(url: str, socket: str, live: str) -> None:
    told = options(url=url)
    assert not list(told.check())
    assert told.socket_url == f"{socket}/communication_manager/ws/event"
    assert told.live_url == f"{live}/communication_manager/rest/live/"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"url": "http://pbx"}, "url"),
        ({"url": "pbx:58080"}, "url"),
        ({"url": "ws://manager:p@pbx:58080"}, "url"),
        ({"url": "ws://pbx?x=1"}, "url"),
        ({"username": " "}, "username"),
        ({"username": "a:b"}, "username"),
        ({"filters": {"type": ()}}, "filters.type"),
        ({"filters": {"": ("a",)}}, "filters"),
        ({"actions": {"filter": Action(path="x")}}, "actions.filter"),
        ({"actions": {"dnd": Action(path="/x")}}, "actions.dnd.path"),
    ],
)
def test_mistakes(changes: dict[str, Any], key: str) -> None:
    (fault,) = options(**changes).check()
    assert fault[0] == key


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({}, []),
        ({"password": Secret("manag3rpa55word")}, ["password"]),
        ({"filters": {"type": ("login", "hangup"), "username": ("logout",)}}, ["filters.type"]),
    ],
)
def test_warnings(changes: dict[str, Any], keys: list[str]) -> None:
    assert [key for key, _ in options(**changes).warnings()] == keys


def test_the_commented_example_is_a_configuration() -> None:
    config = load(str(Path(__file__).parents[3] / "config" / "isymphony.yaml"), {"ISYMPHONY_PASSWORD": "p"})
    pbx = config.backends["pbx"]
    assert isinstance(pbx, IsymphonyOptions)
    assert config.warnings == ()
    assert set(pbx.actions) == {"originate", "dnd"}
    assert msgspec.structs.replace(pbx, url="", password=Secret(), filters={}, actions={}) == IsymphonyOptions(
        url="", username="manager", password=Secret()
    )


def test_an_event_that_no_page_names_can_be_ignored(tmp_path: Path) -> None:
    file = tmp_path / "ws2mqtt.yaml"
    backend = "{type: isymphony, url: 'ws://h', username: u, password: p, ignore: [linkUp]}"
    file.write_text(f"backends: {{pbx: {backend}}}")
    assert load(str(file), {}).backends["pbx"].ignore == ("linkUp",)
