"""The command line: exit codes, usage, `check`, `simulate`; where it matters as a process of its own."""

import asyncio
import os
import pty
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from bridge import __version__
from bridge.cli import main
from tests.support import PATIENCE_S
from tests.support.house import TOKEN, ran
from tests.support.mosquitto import Mosquitto

PROGRAM = (sys.executable, "-m", "bridge")
GOOD = f"""
mqtt: {{url: mqtt://127.0.0.1:1}}
backends:
  lora: {{type: resiot, url: "ws://127.0.0.1:1/?type=node&token={TOKEN}"}}
"""
BAD = """
mqtt: {keepalive: soon}
bakends: {}
backends:
  Lora: {type: resiot, url: ws://a}
  two: {type: resiott}
  three: {type: resiot, url: "http://h/?token=t0psecret"}
  four: {type: resiot, uri: ws://a}
"""
PROBLEMS = ("mqtt.keepalive: ", "bakends: ", "backends.Lora: ", "backends.two.type: ", "backends.three.url: ",
            "backends.four.uri: ", "backends.four.url: ")  # fmt: skip


@pytest.fixture(autouse=True)
def _no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WS2MQTT_CONFIG", raising=False)


def file(folder: Path, text: str) -> str:
    path = folder / "ws2mqtt.yaml"
    path.write_text(text)
    return str(path)


async def test_version() -> None:
    told = await ran((*PROGRAM, "--version"))
    assert (told.code, told.out, told.err) == (0, f"ws2mqtt {__version__}\n", "")


async def test_check_of_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\x1b.yaml"
    Path(os.fsdecode(path)).write_text(GOOD)
    told = await ran(
        (*PROGRAM, "check", "-c", os.fsdecode(path)), environment={**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    )
    assert (told.code, told.err) == (0, "")
    assert told.out.endswith("\\udcff\\x1b.yaml: ok; backends: lora\n")


def test_no_command_is_usage_and_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr().out
    for command in ("run", "check", "demo", "simulate", "watch", "send", "schema", "asyncapi", "healthcheck"):
        assert re.search(rf"\n    {command}\s", shown), command


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-option"],
        ["fly"],
        ["run"],
        ["check"],
        ["healthcheck"],
        ["run", "-c", "x", "--no-such-option"],
        ["run", "-c", "x", "--log-level", "loud"],
        ["run", "-c", "x", "--log-format", "xml"],
        ["send"],
        ["send", "a/command/b", "{}", "more"],
        ["send", "a/command/b", "--timeout", "soon"],
        ["demo", "--port", "many"],
        ["demo", "--seconds", "few"],
        ["simulate"],
        ["simulate", "iotpro2"],
        ["simulate", "resiot", "--port", "66000"],
        ["simulate", "resiot", "--fault", "no-such-fault"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "usage: ws2mqtt" in told.err


@pytest.mark.parametrize(
    "command", ["run", "check", "healthcheck", "schema", "asyncapi", "demo", "simulate", "watch", "send"]
)
def test_every_command_has_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: ws2mqtt {command}")


# Configuration


def test_check_of_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file(tmp_path, GOOD)
    assert main(["check", "-c", path]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{path}: ok")
    assert "lora" in told.out
    assert told.err == ""


def test_check_tells_warnings_and_is_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", file(tmp_path, "backends: {}\n")]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("warning: backends: ")
    assert ": ok" in told.out


def test_the_environment_names_the_file_and_overrides_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WS2MQTT_CONFIG", file(tmp_path, GOOD))
    assert main(["check"]) == 0
    monkeypatch.setenv("WS2MQTT__MQTT__KEEPALIVE", "soon")
    assert main(["check"]) == 78
    assert "mqtt.keepalive: " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "healthcheck", "watch"])
def test_every_problem_of_a_bad_file_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    path = file(tmp_path, BAD)
    assert main([command, "-c", path]) == 78
    told = capsys.readouterr()
    assert told.out == ""
    *lines, last = told.err.splitlines()
    assert last == f"{len(PROBLEMS)} problems in {path}"
    for problem in PROBLEMS:
        assert [line for line in lines if line.startswith(problem)], problem
    assert "did you mean backends?" in told.err
    assert "did you mean resiot?" in told.err
    assert "did you mean url?" in told.err
    assert "t0psecret" not in told.err
    assert len(lines) == len(PROBLEMS)


def test_check_shows_where_each_problem_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first line of each as the other commands have it: programs read those."""
    path = file(tmp_path, BAD)
    assert main(["run", "-c", path]) == 78
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, ()), "nobody inherits what was for the start"
    brief = capsys.readouterr().err.splitlines()
    assert main(["check", "-c", path]) == 78
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert sorted(line for line in lines if not line.startswith(" ")) == sorted(brief)
    assert lines[-1] == brief[-1]
    assert f"  --> {path}:2:19" in lines
    assert "     2 | mqtt: {keepalive: soon}" in lines
    assert "t0psecret" not in told.err
    assert "\x1b" not in told.err


@pytest.mark.parametrize("arguments", [["check"], ["run"], ["healthcheck"], ["watch"], ["send", "a/command/b"]])
def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    path = str(tmp_path / "nowhere.yaml")
    assert main([*arguments, "-c", path]) == 78
    assert path in capsys.readouterr().err


async def test_run_as_a_process_with_a_bad_file(tmp_path: Path) -> None:
    told = await ran((*PROGRAM, "run", "-c", file(tmp_path, BAD)))
    assert (told.code, told.out) == (78, "")
    assert "Traceback" not in told.err


def test_send_refuses_what_cannot_be_a_command(mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]) -> None:
    url = ["--mqtt-url", mosquitto.url()]
    assert main(["send", *url, "nobody/lora/command/reconnect", "[1"]) == 2
    assert main(["send", *url, "nobody/lora/+/command/reconnect"]) == 2
    assert capsys.readouterr().err.count("ws2mqtt send: ") == 2


def test_a_broker_that_is_not_there(capsys: pytest.CaptureFixture[str], free_port: Any) -> None:
    assert main(["send", "--mqtt-url", f"mqtt://127.0.0.1:{free_port()}", "a/b/command/c"]) == 1
    assert capsys.readouterr().err.startswith("ws2mqtt: ")


# Colours


@pytest.mark.parametrize(("no_colour", "painted"), [(None, True), ("", True), ("1", False)])
async def test_the_log_of_a_terminal_is_painted_unless_no_color(
    tmp_path: Path, mosquitto: Mosquitto, free_port: Any, no_colour: str | None, painted: bool
) -> None:
    config = file(tmp_path, f"mqtt: {{url: '{mosquitto.url()}', base_topic: '{tmp_path.name}', client_id: "
                  f"'{tmp_path.name}'}}\nhttp: {{listen: '127.0.0.1:{free_port()}'}}\nbackends: {{}}\n")  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    if no_colour is not None:
        environment["NO_COLOR"] = no_colour
    ours, theirs = pty.openpty()
    child = await asyncio.create_subprocess_exec(*PROGRAM, "run", "-c", config, stderr=theirs, env=environment)
    os.close(theirs)
    text = ""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while "mqtt connected" not in text:
                text += (await asyncio.to_thread(os.read, ours, 65_536)).decode()
        child.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE_S):
            assert await child.wait() == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        os.close(ours)
    assert ("\x1b[" in text) is painted


# simulate


@asynccontextmanager
async def simulating(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`simulate resiot`, and the first line it prints."""
    child = await asyncio.create_subprocess_exec(
        *PROGRAM, "simulate", "resiot", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield child, (await child.stdout.readline()).decode()
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def test_simulate_prints_its_url_and_talks_until_ctrl_c(free_port: Any) -> None:
    port = free_port()
    async with simulating("--port", str(port), "--rate", "100") as (child, line):
        url = line.rpartition(" ")[2].strip()
        assert line.startswith("resiot simulator: ws://")
        assert f":{port}/" in url
        async with connect(url) as socket:
            assert "CommType" in str(await asyncio.wait_for(socket.recv(), PATIENCE_S))
        child.send_signal(signal.SIGINT)
        _, errors = await child.communicate()
        assert (child.returncode, errors) == (0, b"")


async def test_simulate_on_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = await ran((*PROGRAM, "simulate", "resiot", "--port", port))
    assert told.code == 1
    assert "in use" in told.err
    assert port in told.err
    assert "Traceback" not in told.err


def test_simulate_with_options_that_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "resiot", "--tls-key", "x.key"]) == 2
    assert "certificate" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "schema"], ids=["little to say", "much to say"])
async def test_a_reader_that_goes_is_no_error(command: str, tmp_path: Path) -> None:
    """As `ws2mqtt schema | head`; one that reads nothing is gone for certain."""
    (tmp_path / "good.yaml").write_text(GOOD)
    more = ["-c", str(tmp_path / "good.yaml")] if command == "check" else []
    reading, writing = os.pipe()
    os.close(reading)
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    child = await asyncio.create_subprocess_exec(
        *PROGRAM, command, *more, stdout=writing, stderr=asyncio.subprocess.PIPE, env=usual
    )
    os.close(writing)
    async with asyncio.timeout(PATIENCE_S):
        _, said = await child.communicate()
    assert (child.returncode, said) == (0, b"")


@pytest.mark.parametrize("command", ["check", "schema"], ids=["little to say", "much to say"])
async def test_a_full_disk_is_told_in_one_line(command: str, tmp_path: Path) -> None:
    """As `ws2mqtt schema > file`; that device takes nothing, like a disk that is full."""
    (tmp_path / "good.yaml").write_text(GOOD)
    more = ["-c", str(tmp_path / "good.yaml")] if command == "check" else []
    with Path("/dev/full").open("wb") as full:
        child = await asyncio.create_subprocess_exec(
            *PROGRAM, command, *more, stdout=full, stderr=asyncio.subprocess.PIPE
        )
    async with asyncio.timeout(PATIENCE_S):
        _, said = await child.communicate()
    assert (child.returncode, said) == (1, b"ws2mqtt: cannot write: no space left on the device\n")
