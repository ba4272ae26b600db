"""What an IoT Pro backend is told, and what is wrong with it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.backends.iotpro.options import IotproOptions
from bridge.config import load
from bridge.errors import BadConfig
from bridge.options import BackfillOptions, Duration, Secret

ROOT = Path(__file__).parents[3]
LEAST = {"type": "iotpro", "url": "https://a.example", "username": "u", "password": "p", "keys": ["a"]}


def made(tmp_path: Path, **changes: Any) -> IotproOptions:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"backends": {"port": {**LEAST, **changes}}}))
    options = load(str(path), {}).backends["port"]
    assert isinstance(options, IotproOptions)
    return options


def test_the_least_there_is_to_say(tmp_path: Path) -> None:
    assert made(tmp_path) == IotproOptions(url="https://a.example", username="u", password=Secret("p"), keys=("a",))


def test_everything_there_is_to_say(tmp_path: Path) -> None:
    told: dict[str, Any] = {"attributes": ["b"], "profiles": ["p"], "text_keys": ["a"], "page_size": 10}
    options = made(tmp_path, keys={"p": ["a", "c"], "q": "d"}, backfill={"max": "2h"}, **told)
    assert options.keys == {"p": ("a", "c"), "q": ("d",)}
    assert (options.attributes, options.profiles, options.text_keys, options.page_size) == (("b",), ("p",), ("a",), 10)
    assert options.backfill == BackfillOptions(Duration(7200))


@pytest.mark.parametrize(
    ("changes", "path", "word"),
    [
        ({"url": "wss://a.example"}, "url", "https://"),
        ({"url": "https://u:p@a.example"}, "url", "without user"),
        ({"username": None}, "username", "is required"),
        ({"password": None}, "password", "is required"),
        ({"keys": []}, "keys", "at least one"),
        ({"keys": [f"key_{number:0100d}" for number in range(200)]}, "keys", "too many"),
        ({"profiles": [f"profile_{number:0100d}" for number in range(200)]}, "profiles", "too many"),
        ({"page_size": 0}, "page_size", "at least 1"),
        ({"ignore": ["up"]}, "ignore[0]", "unknown event type"),
        ({"backfill": {"max": "1"}}, "backfill.max", "not a duration"),
        ({"key": ["a"]}, "key", "did you mean keys"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(tmp_path: Path, changes: dict[str, Any], path: str, word: str) -> None:
    with pytest.raises(BadConfig) as bad:
        made(tmp_path, **changes)
    (problem,) = bad.value.problems
    assert (problem.path, word in problem.message) == (f"backends.port.{path}", True)


def test_the_example_shows_every_key_with_its_default() -> None:
    shown = load(str(ROOT / "config" / "iotpro.yaml"), {"IOTPRO_PASSWORD": "p"}).backends["port"]
    assert shown == IotproOptions(
        url="https://iotpro.example.com",
        username="bridge@example.com",
        password=Secret("p"),
        keys=("device_id", "telemetry_param_latitude", "telemetry_param_longitude"),
    )
    tree = yaml.safe_load((ROOT / "config" / "iotpro.yaml").read_text())["backends"]["port"]
    assert tree.keys() == {*IotproOptions.__struct_fields__, "type"}
