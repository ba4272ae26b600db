"""What the README says is so: its links, keys, defaults, commands, metrics, options, topics and quoted messages.

Each list is compared both ways with the thing itself, so that neither can change without the other.
"""

import argparse
import io
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from paho.mqtt import reasoncodes

from bridge import cli
from bridge.about import BRIDGE_SPECS
from bridge.backends import PLATFORMS
from bridge.backends.session import CommandSpec
from bridge.commands import COMMON, CommonFields
from bridge.config.schema import schema
from bridge.simulators import SIMULATORS
from bridge.watch.metrics import Meters
from tests.support.mosquitto import Certificates
from tests.support.quoted import Texts
from tests.support.readme import ROOT, Block, Table, anchor, codes, read, readme

README = readme()
SECTIONS = {
    "resiot": "ResIOT",
    "iotpro": "IoT Pro (ThingsBoard)",
    "smartserver": "SmartServer IoT",
    "isymphony": "iSymphony",
}
CONFIGURATIONS = [one for one in README.blocks if one.language == "yaml" and "backends:" in one.text]


# The page itself


def test_the_contents_are_its_headings() -> None:
    told = [line for line in README.prose if line.startswith("- [")]
    listed = [link for line in told for link in re.findall(r"\[([^\]]+)\]\(#([^)]+)\)", line)]
    there = [heading for level, heading in README.headings if level > 1 and heading != "Contents"]
    assert listed == [(heading, anchor(heading)) for heading in there]


def test_every_link_leads_somewhere() -> None:
    anchors = [f"#{anchor(heading)}" for _, heading in README.headings]
    assert len(anchors) == len(set(anchors)), "two headings of one name: a link finds only the first"
    assert README.pictures()
    for link in (*README.links(), *README.pictures()):
        assert link.startswith("https://") or link in anchors or (ROOT / link).exists(), link


def test_the_tests_that_hold_the_promises_are_there() -> None:
    named = [code for cell in README.table("How it is tested", "promise").column("held by") for code in codes(cell)]
    assert len(named) > 15
    assert [one for one in named if not (ROOT / one).is_file()] == []


@pytest.mark.parametrize(
    "broken",
    ["| a | b |\n|---|---|\n| 1 |\n", "text\n\n| a | b |\n| 1 | 2 |\n", "```sh\nno end\n"],
    ids=["a row of another width", "no rule", "an open fence"],
)
def test_a_broken_page_is_seen(broken: str) -> None:
    with pytest.raises(ValueError, match=r"under|block"):
        read(broken)


# Configuration


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=lambda one: one.section)
def test_a_configuration_passes_the_check(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: Certificates
) -> None:
    for name in re.findall(r"\$\{(\w+)\}", block.text):
        monkeypatch.setenv(name, "wss://resiot.example/x")
    client = certificates.client
    files = {"ca.pem": certificates.ca_file, "client.pem": client.cert_file, "client.key": client.key_file}
    text = re.sub(r"/etc/ws2mqtt/([\w.]+)", lambda found: str(files[found[1]]), block.text)
    text = textwrap.dedent(text.removeprefix("config:\n"))  # values of the chart
    for name in re.findall(r"/run/secrets/(\w+)", text):
        (tmp_path / name).write_text("wss://resiot.example/x")
    config = tmp_path / "ws2mqtt.yaml"
    config.write_text(text.replace("/run/secrets", str(tmp_path)))
    assert _ran("check", "-c", str(config))[0] == 0


def test_the_problems_that_the_check_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = next(one.text for one in README.blocks if "problems in ws2mqtt.yaml" in one.text)
    monkeypatch.chdir(tmp_path)
    lines = ("mqtt:", "  keepalive: 30", "backends:", "  lora:", "    type: resiot", "    uri: ${RESIOT_URL}", "")
    Path("ws2mqtt.yaml").write_text("\n".join(lines))
    monkeypatch.setenv("RESIOT_URL", "wss://resiot.example")
    assert _ran("check", "-c", "ws2mqtt.yaml") == (78, told)


def test_keys_and_their_defaults() -> None:
    told, there = _told(_tables("Configuration")[0]), _there(schema())
    del told["backends.<name>"], there["backends"]
    assert told == there


@pytest.mark.parametrize("word", PLATFORMS)
def test_keys_of_a_backend_and_their_defaults(word: str) -> None:
    common, (own,) = _tables("Configuration")[1], _tables(SECTIONS[word])
    cells = {codes(row[0])[0]: row[1] for row in common.rows}
    told = _told(common) | _told(own)
    told["ignore"] = yaml.safe_load(dict(re.findall(r"(\w+) `(.+?)`", cells["ignore"])).get(word, "[]"))
    assert cells["tls"] == "as `mqtt.tls`", "and one key more"
    told |= {f"tls.{key}": value for key, value in _there(schema()["$defs"]["Tls"]).items()} | {"tls.fingerprint": None}
    del told["type"], told["tls"]
    there = _there(schema()["$defs"][f"backend-{word}"])
    del there["type"]
    assert told == there


def _tables(section: str) -> list[Table]:
    return [one for one in README.tables if one.section == section and one.head[:2] == ("key", "default")]


def _told(table: Table) -> dict[str, Any]:
    """Each key with its default; one that is a map stands for the keys in it."""
    told: dict[str, Any] = {}
    for keys, cell, _ in table.rows:
        for key in codes(keys):
            default = _default(key, cell)
            deeper = isinstance(default, dict) and default
            told |= {f"{key}.{one}": inner for one, inner in default.items()} if deeper else {key: default}
    return told


def _default(key: str, cell: str) -> Any:
    if cell in ("required", "none", "null"):
        return "required" if cell == "required" else None
    text = codes(cell)[0]
    value = text if text == "off" or key == "mqtt.version" else yaml.safe_load(text)
    return [value] if key == "mqtt.url" else value


def _there(of: Mapping[str, Any]) -> dict[str, Any]:
    """Each key of a schema with its default. That a secret may be in a file is said once, not at each."""
    twins = ("password_file", "url_file", "proxy_file")
    return {key: value for key, value in _flat(of) if not key.endswith(twins)}


def _flat(of: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """ "required" where there must be a value."""
    definitions = schema()["$defs"]
    for key, about in of.get("properties", {}).items():
        deeper = definitions[about["$ref"].split("/")[-1]] | about if "$ref" in about else about
        if "properties" in deeper:
            yield from _flat(deeper, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", about.get("default", "required")


# Commands, topics, events


def test_commands_and_their_fields() -> None:
    told = {(of, one): fields for of, name, _, fields in README.table("Commands", "of").rows for one in codes(name)}
    del told["isymphony", "actions"]
    there = {(word, one.name): one for word, platform in PLATFORMS.items() for one in platform.commands}
    there |= {("all", one.name): one for one in COMMON} | {("bridge", one.name): one for one in BRIDGE_SPECS}
    assert told.keys() == there.keys()
    for place, spec in there.items():
        assert set(_fields(spec)) <= set(codes(told[place])), place
    common = [codes(row[0])[0] for row in README.table("Commands", "field").rows]
    assert common == [one.encode_name for one in msgspec.structs.fields(CommonFields)]


def _fields(spec: CommandSpec) -> list[str]:
    return [one.encode_name for one in msgspec.structs.fields(spec.body)]


def test_levels_of_subjects() -> None:
    rows = README.table("Which filter for what", "platform", "levels").rows
    told = {(codes(of)[0], codes(subject)[0], int(levels)) for of, levels, subject, _ in rows if of != "all"}
    there = {
        (word, subject.levels, subject.levels.count("/") + 1)
        for word, platform in PLATFORMS.items()
        for subject in platform.subjects
        if subject.levels
    }
    assert told == there


@pytest.mark.parametrize("word", PLATFORMS)
def test_types_of_events(word: str) -> None:
    table = README.table(SECTIONS[word], "subject", "event types")
    told = {code for row in table.rows for code in codes(row[1])}
    assert set(PLATFORMS[word].events) - {"unknown"} <= told, "in the table of subjects"
    data = README.table(SECTIONS[word], "event")
    assert set(PLATFORMS[word].events) - {"unknown", "dial"} <= {code for row in data.rows for code in codes(row[0])}


def test_platforms() -> None:
    assert [codes(row[1])[0] for row in README.table("Platforms", "platform").rows] == list(PLATFORMS)


# The program


def test_commands_of_the_program_and_their_options() -> None:
    rows = README.table("Command line", "command").rows
    told = {codes(row[0])[0].split()[1]: codes(row[0])[0] for row in rows}
    there = _subcommands(cli._parser())
    assert told.keys() == there.keys()
    for name, usage in told.items():
        options = {text for action in there[name]._actions for text in action.option_strings if text.startswith("--")}
        known = {"--help", "--log-format", "--log-level", "--config"}
        known |= {one for one in options if one.startswith("--lease")}
        assert set(re.findall(r"--[\w-]+", usage)) - {"--port"} == options - known - {"--port"}, name
    leases = {one for row in README.table("Two replicas on Kubernetes", "option").rows for one in codes(row[0])}
    run = {text for action in there["run"]._actions for text in action.option_strings if text.startswith("--lease")}
    assert {one.split()[0] for one in leases} == run


def test_exit_codes() -> None:
    told = [int(code) for code in README.table("Command line", "exit code").column("exit code")]
    assert told == [cli.OK, cli.FAILED, cli.USAGE, cli.CONFIG]


def test_options_and_faults_of_simulators() -> None:
    rows = README.table("Simulators", "platform").rows
    assert [codes(row[0])[0] for row in rows] == list(SIMULATORS)
    for word, _, options, faults in rows:
        parser = argparse.ArgumentParser()
        SIMULATORS[codes(word)[0]].add_arguments(parser)
        flags = {action.option_strings[-1]: action for action in parser._actions}
        assert set(codes(options)) == flags.keys() - {"--help", "--host", "--port", "--fault"}, word
        named = re.findall(r"(?:: |; )([a-z-]+)(?:=…)? \(", flags["--fault"].help or "")
        assert [one.split("=")[0] for one in codes(faults)] == named, word


def _families() -> set[str]:
    return set(re.findall(r"^# TYPE (ws2mqtt_\w+)", Meters(leader=True).render().decode(), re.M))


def test_metrics() -> None:
    told = [code for cell in README.table("Metrics", "metric, labels beside `backend`").column(
        "metric, labels beside `backend`") for code in codes(cell)]  # fmt: skip
    assert {f"ws2mqtt_{code.split('{')[0]}" for code in told if not code.startswith("--")} == _families()


def test_metrics_of_alerts_and_options_exist() -> None:
    named = {name for line in README.prose for code in codes(line) for name in re.findall(r"ws2mqtt_[a-z_]+", code)}
    assert named
    assert named - {"ws2mqtt_"} <= _families()


# What is quoted


def _texts() -> Texts:
    """Ours, and the words of MQTT's reason codes."""
    return Texts([*sorted((ROOT / "bridge").rglob("*.py")), Path(reasoncodes.__file__)])


def test_quoted_messages_are_what_the_program_says() -> None:
    texts = _texts()
    tables = [one for one in README.tables if one.head == ("message", "cause", "what to do")]
    quoted = [code for table in tables for row in table.rows for code in codes(row[0])]
    assert len(quoted) > 40
    assert not {piece: missing for text in quoted for piece in _pieces(text) if (missing := texts.missing(piece))}


def _pieces(text: str) -> list[str]:
    """The parts of a quoted message between `...`; single words and topics are no messages."""
    parts = (part.strip() for part in text.split("..."))
    return [part for part in parts if part.count(" ") >= 2]


def test_a_message_that_nobody_says_is_noticed() -> None:
    texts = _texts()
    assert texts.missing("the platform refused the login (HTTP 401): ask the operator") == ["ask", "the", "operator"]
    assert texts.missing("no PUBACK within 30 minutes") == ["minutes"]


def test_blocks_of_json_are_json() -> None:
    for block in README.blocks:
        if block.language == "json" and ", ..." not in block.text:
            json.loads(block.text)


def _subcommands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    raise LookupError("no subcommands")


def _ran(*arguments: str) -> tuple[int, str]:
    """A command's exit code, and all that it said."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = cli.main(list(arguments))
    return code, said.getvalue()
