"""`check` as a person reads it: the place of each problem, its line without secrets, and what belongs there."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.config.findings import Findings, check
from tests.test_config import LORA, REFUSED, SECRET

TOKEN = "wss://h/?type=node&token=hunter2"


def found(
    folder: Path, text: str | bytes, environ: Mapping[str, str] | None = None, *, colour: bool = False
) -> Findings:
    file = folder / "f.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return check(str(file), environ or {}, colour=colour)


def said(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> str:
    """What is said, with the file's name alone."""
    return found(folder, text, environ).said.replace(f"{folder}/", "")


def block(text: str) -> str:
    return textwrap.dedent(text).strip("\n")


def test_the_place_the_line_and_what_belongs_there(tmp_path: Path) -> None:
    text = (
        "# the broker\nmqtt:\n  keepalive: soon   # hunter2\n  passwort: hunter2\nbackends:\n  four: {type: resiot}\n"
    )
    assert said(tmp_path, text) == block("""
        mqtt.keepalive: not a duration: write it like 500ms, 30s, 5m or 24h
          --> f.yaml:3:14
             3 |   keepalive: soon
               |              ^^^^
          = 1s to 65535s; also how long a missing PUBACK is waited for (a duration: 500ms 30s 5m 24h; default: 30s)
        mqtt.passwort: unknown key; did you mean password?
          --> f.yaml:4:3
             4 |   passwort: ***
               |   ^^^^^^^^
        backends.four.url: is required (or url_file)
          --> f.yaml:6:3
             6 |   four: {type: resiot}
               |   ^^^^
          = the address that ResIOT's page Websocket Server shows; it holds the token
        3 problems in f.yaml
    """)


# What is shown of a line: text, the excerpt, the columns below it
EXCERPTS = [
    ("mqtt: {qos: 7, password: hunter2}", "mqtt: {qos: 7, password: ***}", 12, 1),
    (f"backends: {{a: {{type: resiot, url: '{TOKEN}', ping: 0s}}}}",
     "backends: {a: {type: resiot, url: ***, ping: 0s}}", 45, 2),
    (f"backends: {{a: {{type: resiot, url: 'x{TOKEN}'}}}}", "backends: {a: {type: resiot, url: ***}}", 34, 3),
    ("backends: {a: {type: resiot, url: 'http://h/${TOKEN}'}}",
     "backends: {a: {type: resiot, url: ***${TOKEN}}}", 34, 11),
    ("mqtt: {username: '${A:-hunter2}${B}', password: x}", "mqtt: {username: ***${B}, password: ***}", 17, 7),
    ("mqtt: {url: 'mqtt://me:hunter2@b'}", "mqtt: {url: mqtt://***}", 12, 10),
    ("mqtt: {url: [mqtt://a, 'mqtt://b:99999']}", "mqtt: {url: [mqtt://a, 'mqtt://b:99999']}", 23, 16),
    ("mqtt: {keepalive: hunter2}", "mqtt: {keepalive: ***}", 18, 3),
    ("mqtt:\n  qos: [1]", "  qos: [***]", 2, 3),
    ("mqtt: {qos: 1}\nlog: {level: }\nhttp: {listen: 1}\nbackends: [a]", "http: {listen: 1}", 15, 1),
    ('mqtt:\n  password: |\n   hunter2\n  username: "a\n    hunter2"\n  qos: 3', "  qos: 3", 7, 1),
    ("mqtt: {client_id: &a [x], username: *a}", "mqtt: {client_id: &*** [***], username: ****}", 7, 9),
    ("mqtt: {password: &a wordy, username: *a, qos: 9}", "mqtt: {password: ***, username: ****, qos: 9}", 43, 1),
    ("bakends: {hunter2: x}", "bakends: {***: ***}", 0, 7),
    ("mqtt:\n  url: a: hunter2", "  url: ***: ***", 10, 1),
    ("mqtt:\n\tqos: 1", "→qos: ***", 0, 1),
    ("mqtt: {url: hunter2, qos]", "mqtt: ***]", 9, 1),
    ("mqtt: {password: *hunter2}", "mqtt: ***", 6, 3),
    ("mqtt: [", "mqtt: ***", 9, 1),
    ("a: 1\n---\nb: 2", "---", 0, 1),
    ("mqtt: {qos: 1, qos: 0}", "mqtt: {qos: 1, qos: 0}", 15, 3),
    ("mqtt: {password:hunter2, qos: 1}", "mqtt: {password***, qos: 1}", 7, 11),
    ("mqtt: {password'hunter2', qos: 1}", "mqtt: {password***, qos: 1}", 7, 11),
    ("mqtt: {password hunter2, qos: 1}", "mqtt: {***, qos: 1}", 7, 3),
    ("backends: {p: {type: iotpro, password |\n hunter2\n more\n }}", "backends: {p: {type: iotpro, ***", 29, 3),
    ("mqtt: {tls: {ca_file: hunter2}}", "mqtt: {tls: {ca_file: ***}}", 22, 3),
    ("mqtt: {password hunter2 x=y, qos: 1}", "mqtt: {***, qos: 1}", 7, 3),
    ("mqtt: {'" + "\ufeff" * 9 + "': 1, password: hunter2, qosqosqos: 0}", None, 0, 1),
    ("温度: 1", "温度: ***", 0, 4),
    (f"mqtt: {{{'a: 1, ' * 40}qos: 9}}", None, 0, 1),
]  # fmt: skip


@pytest.mark.parametrize(("text", "excerpt", "column", "width"), EXCERPTS)
def test_the_line_and_its_mark(tmp_path: Path, text: str, excerpt: str | None, column: int, width: int) -> None:
    told = said(tmp_path, text)
    assert "hunter2" not in told
    pairs = re.findall(r"^ +\d+ \| (.*)\n +\| ( *)(\^+)$", told, re.MULTILINE)
    if excerpt is None:
        assert all(len(line) <= 100 for line, *_ in pairs)
        assert "9" not in text or "9" in [line[len(spaces) : len(spaces) + len(marks)] for line, spaces, marks in pairs]
        return
    assert (excerpt, column, width) in [(line, len(spaces), len(marks)) for line, spaces, marks in pairs]


def test_what_the_environment_says_is_not_looked_for_in_the_file(tmp_path: Path) -> None:
    told = said(tmp_path, "mqtt: {qos: 1}", {"WS2MQTT__MQTT__QOS": "7", "WS2MQTT__MQTT__QSO": "1"})
    assert "-->" not in told
    assert "mqtt.qos: must be one of 0, 1 (set by WS2MQTT__MQTT__QOS)\n  = of events and states (default: 1)" in told
    listed = said(tmp_path, LORA, {"WS2MQTT__BACKENDS__LORA__IGNORE": "[jion]"})
    assert "(set by WS2MQTT__BACKENDS__LORA__IGNORE)" in listed
    assert "-->" not in listed


def test_warnings_are_shown_in_the_same_way(tmp_path: Path) -> None:
    told = found(tmp_path, LORA + "mqtt:\n  tls: {insecure: true}\n")
    assert told.good
    assert told.backends == ("lora",)
    assert told.said.startswith("warning: mqtt.tls: has no effect: ")
    assert "  --> " in told.said
    assert ":3:3\n" in told.said
    assert found(tmp_path, LORA) == Findings(True, "", ("lora",))


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        assert check(str(path), {}).said.startswith(f"{path}: cannot be read: ")
    assert said(tmp_path, "").startswith("warning: backends: none")
    assert (
        found(tmp_path, b"mqtt:\n  username: \xff")
        .said.splitlines()[0]
        .endswith("line 2: not UTF-8; save the file as UTF-8")
    )


def test_colours_are_only_colours(tmp_path: Path) -> None:
    text = "mqtt: {qos: 7}\nmqqt: {}\n"
    painted = found(tmp_path, text, colour=True).said
    assert "\x1b[1;31m^\x1b[0m" in painted
    assert re.sub(r"\x1b\[[\d;]+m", "", painted) == found(tmp_path, text).said


@pytest.mark.parametrize("text", sorted({text for text, *_ in REFUSED if isinstance(text, str) and len(text) < 5000}))
def test_whatever_is_refused_is_pointed_at(tmp_path: Path, text: str) -> None:
    """Every problem of the file has its line there; none shows the secret that is in many of them."""
    told = said(tmp_path, text)
    assert SECRET not in told
    for problem in re.split(r"\n(?! )", told)[:-1]:
        if "\n" not in problem:
            assert re.match(r"f\.yaml: (must be|is nested|not YAML)", problem), problem
            continue
        where = re.search(r"\n  --> f\.yaml:(\d+):(\d+)\n", problem)
        assert where, problem
        lines = re.split(r"\r\n|[\n\r\x85\u2028\u2029]", text)
        assert 1 <= int(where[1]) <= len(lines)
        assert 1 <= int(where[2]) <= len(lines[int(where[1]) - 1]) + 1


def test_a_bomb_of_aliases_takes_no_time(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 5))
    assert "a4: unknown key" in said(tmp_path, bomb)


SIGNS = [
    *"ab1 :{}[],-?&*!|>'\"%@`#\\$\t\n\r\ufeff\x85\u2028\x00",
    "mqtt:\n  ",
    "password: ",
    "- ",
    "<<: ",
    "${A:-",
    "---\n",
]


@given(st.binary(max_size=200) | st.lists(st.sampled_from(SIGNS), max_size=60).map("".join).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_whatever_the_file_holds_it_is_told_in_words(tmp_path: Path, content: bytes) -> None:
    told = found(tmp_path, content)
    assert told.good or re.search(r"\d+ problems? in ", told.said)
    assert all(one.isprintable() for one in told.said.split("\n"))
