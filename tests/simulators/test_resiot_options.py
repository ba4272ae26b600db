"""The simulated ResIOT on the command line."""

import argparse
import re

import msgspec
import pytest

from bridge.simulators.resiot import Faults, ResiotSimOptions, add_arguments, from_arguments


def parsed(*args: str) -> ResiotSimOptions:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return from_arguments(parser.parse_args(args))


def test_no_arguments_are_the_defaults() -> None:
    assert parsed() == ResiotSimOptions()


def test_every_field_has_an_option() -> None:
    every = {
        "port": 8088,
        "host": "::1",
        "token": "t",
        "profile": "schema",
        "devices": 3,
        "gateways": 2,
        "rate": 5.0,
        "alive": 2.5,
        "seed": 9,
        "class_c": 0.5,
        "gwrx": True,
        "unauthorized": 403,
        "tls_cert": "c",
        "tls_key": "k",
    }
    told = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}") for name, value in every.items()]
    options = parsed(*told, "--fault=no-reply", "--fault", "late-reply=3", "--fault=tx-error=a=b")
    assert msgspec.structs.asdict(options) == {
        **every,
        "faults": Faults(no_reply=True, late_reply=3.0, tx_error="a=b"),
    }
    assert set(every) == set(ResiotSimOptions.__struct_fields__) - {"faults"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--fault", "nope"], "unknown fault 'nope'; known: refuse, no-reply, late-reply"),
        (["--fault", "late-reply"], "fault 'late-reply' needs a value"),
        (["--fault", "malformed=x"], "Expected `int`"),
        (["--fault", "malformed=-1"], "Expected `int` >= 0"),
        (["--rate", "-1"], "Expected `float` >= 0.0"),
        (["--rate", "x"], "Expected `float`"),
        (["--port", "65536"], "Expected `int` <= 65535"),
        (["--profile", "x"], "argument --profile"),
        (["--unauthorized", "500"], "argument --unauthorized"),
    ],
)
def test_bad_arguments(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parsed(*args)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_help_names_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--help")
    told = re.sub(r"\s+", "", capsys.readouterr().out)
    assert all(name.replace("_", "-") in told for name in Faults.__struct_fields__)


def test_a_key_needs_its_certificate() -> None:
    with pytest.raises(ValueError, match="certificate"):
        parsed("--tls-key", "k")
