"""The lease as the Permit of a process: against an API server over HTTPS, with a clock of the test's own."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.cli import main
from bridge.election import Timing
from bridge.errors import Fatal
from bridge.lease import Lease, LeaseOptions, check, parse
from tests.support import PATIENCE_S, free_port
from tests.support.kube import Kube
from tests.support.mosquitto import Certificates

FAST = Timing(duration=15.0, deadline=10.0, retry=0.05)


class Clock:
    """Stands still until it is told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def asking(kube: Kube, clock: Clock, who: str = "a", timing: Timing = FAST) -> AsyncIterator[Lease]:
    """A lease whose run() runs."""
    options = LeaseOptions("iot", "bridge", str(kube.credentials(who)), timing)
    log = logging.LoggerAdapter(logging.getLogger("ws2mqtt"))
    lease = Lease(options, log, environ=kube.environment, clock=clock)
    task = asyncio.create_task(lease.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield lease
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await lease.server.close()


@pytest.fixture
async def kube(certificates: Certificates, tmp_path: Path) -> AsyncIterator[Kube]:
    async with Kube(certificates, tmp_path) as running:
        yield running


async def test_it_is_got_renewed_and_given_back(kube: Kube) -> None:
    clock = Clock()
    async with asking(kube, clock) as lease:
        assert not lease.holds()
        await lease.confirmed()
        assert lease.holds()
        assert lease.lasts()
        assert kube.holder() == lease.election.me
        assert "active" in lease.status()
        clock.now += 5.0
        await lease.confirmed(clock.now)
        assert lease.left() == 15.0
        clock.now += 9.999
        assert (lease.election.granted, lease.lasts()) == (1005.0, True)
    await lease.give_back()
    assert (kube.holder(), lease.holds(), lease.lasts()) == ("", False, False)
    spec = (kube.lease() or {})["spec"]
    assert spec["leaseTransitions"] == 0


async def test_confirmed_asks_at_once(kube: Kube) -> None:
    """Not only when the next renewal is due."""
    clock = Clock()
    async with asking(kube, clock, timing=Timing(3600.0, 1800.0, 600.0)) as lease:
        await lease.confirmed()
        clock.now += 1.0
        await lease.confirmed(clock.now)
        assert lease.election.granted == clock.now


async def test_a_jump_of_the_clock_ends_it_until_it_is_given_anew(kube: Kube) -> None:
    """The machine slept: nothing may connect, nothing publish, before the server was asked."""
    clock = Clock()
    async with asking(kube, clock) as lease:
        await lease.confirmed()
        kube.faults["a"] = "hang"
        await kube.until_asked(lambda asked: asked.status == 0)
        clock.now += 11.0
        assert (lease.holds(), lease.lasts()) == (False, True)
        clock.now += 5.0
        assert (lease.holds(), lease.lasts(), lease.left()) == (False, False, 0.0)
        assert await lease.lost() == "its time was over"
        waiting = asyncio.create_task(lease.confirmed(clock.now))
        kube.faults.clear()
        await waiting
        assert lease.holds()


async def test_only_one_of_two(kube: Kube) -> None:
    clock = Clock()
    async with asking(kube, clock) as first:
        await first.confirmed()
        async with asking(kube, clock, "b") as second:
            await kube.asked.wait(lambda asked: asked.who == "b", PATIENCE_S, 5, kube.mark)
            assert not second.holds()
            assert second.status() == f"standby: {first.election.me} holds the lease iot/bridge"
            kube.faults["a"] = "reset"
            await kube.asked.wait(lambda asked: asked.who == "b", PATIENCE_S, 2, kube.mark)  # has seen the last renewal
            clock.now += 14.9
            await kube.asked.wait(lambda asked: asked.who == "b", PATIENCE_S, 5, kube.mark)
            assert (first.holds(), first.lasts(), second.holds()) == (False, True, False)
            clock.now += 5.2
            await second.confirmed()
            assert not first.lasts()
            kube.faults.clear()
            while first.election.holder != second.election.me:
                await asyncio.sleep(0)
            assert not first.holds()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("hang", "did not answer within"),
        ("reset", "was not reached"),
        (500, "HTTP 500"),
        (403, "needs a Role with get, create and update"),
        (302, "HTTP 302"),
    ],
)
async def test_trouble_is_said_once_and_its_end_too(
    kube: Kube, caplog: pytest.LogCaptureFixture, fault: Any, words: str
) -> None:
    caplog.set_level(logging.INFO, "ws2mqtt")
    kube.faults["a"] = fault
    limit = 0.6 if fault == "hang" else 60.0  # an answer may take its time
    async with asking(kube, Clock(), timing=Timing(2.5 * limit, limit, 0.05)) as lease:
        await kube.asked.wait(lambda asked: True, PATIENCE_S, 4)
        assert words in lease.election.trouble
        kube.faults.clear()
        await lease.confirmed()
    told = [record.getMessage() for record in caplog.records]
    assert told == ["no answer about the lease", "answers about the lease again"]
    assert "token-of-a" not in str([record.__dict__ for record in caplog.records])


async def test_token_and_ca_are_read_anew(kube: Kube, certificates: Certificates, tmp_path: Path) -> None:
    clock = Clock()
    async with asking(kube, clock) as lease:
        await lease.confirmed()
        folder = tmp_path / "credentials-a"
        (folder / "ca.crt").write_bytes(certificates.stranger_file.read_bytes())
        while "certificate" not in lease.election.trouble:
            await asyncio.sleep(0)
        kube.credentials("a")
        clock.now += 1.0
        await lease.confirmed(clock.now)
        (folder / "token").write_text("two\nlines\x00")
        while "holds no token" not in lease.election.trouble:
            await asyncio.sleep(0)
        (folder / "token").unlink()
        while "no such file" not in lease.election.trouble:
            await asyncio.sleep(0)


async def test_a_server_that_is_not_there(kube: Kube) -> None:
    await kube.stop()
    async with asking(kube, Clock()) as lease:
        while not lease.election.trouble:
            await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await lease.confirmed()
        assert not lease.holds()
        await kube.start()
        await lease.confirmed()


# What the command line says


@pytest.mark.parametrize(
    ("environment", "files", "words"),
    [
        ({}, ("token", "ca.crt"), "KUBERNETES_SERVICE_HOST"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ("token", "ca.crt"), "KUBERNETES_SERVICE_PORT"),
        ({"KUBERNETES_SERVICE_HOST": "h", "KUBERNETES_SERVICE_PORT": "1"}, ("token",), "automountServiceAccountToken"),
        ({"KUBERNETES_SERVICE_HOST": "h", "KUBERNETES_SERVICE_PORT": "1"}, ("ca.crt",), "--lease-credentials"),
    ],
)
async def test_where_it_cannot_work_it_says_so(
    tmp_path: Path, environment: Mapping[str, str], files: tuple[str, ...], words: str
) -> None:
    for name in files:
        (tmp_path / name).write_text("x")
    log = logging.LoggerAdapter(logging.getLogger("ws2mqtt"))
    with pytest.raises(Fatal, match=words):
        Lease(LeaseOptions("iot", "bridge", str(tmp_path)), log, environ=environment)


@pytest.mark.parametrize("text", ["", "bridge", "/bridge", "iot/", "iot/Bridge", "iot/a/b", "iot/a b", "-a/b", "a/b\n"])
def test_no_lease(text: str) -> None:
    with pytest.raises(ValueError, match="NAMESPACE/NAME"):
        parse(text)


def test_a_lease() -> None:
    assert parse("iot/ws2mqtt.example") == ("iot", "ws2mqtt.example")


@pytest.mark.parametrize(
    ("timing", "words"),
    [
        (Timing(15, 10, 0), "--lease-retry"),
        (Timing(15, 2, 2), "--lease-deadline"),
        (Timing(10, 10, 2), "--lease-duration"),
        (Timing(float("nan"), 10, 2), "--lease-duration"),
    ],
)
def test_times_that_do_not_fit(timing: Timing, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check(timing)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lease", "bridge"], "--lease: write NAMESPACE/NAME"),
        (["--lease-retry", "1s"], "--lease-retry needs --lease"),
        (["--lease", "a/b", "--lease-deadline", "20s"], "--lease-duration has to be longer than --lease-deadline"),
        (["--lease", "a/b", "--lease-retry", "soon"], "write it like 30s or 5m"),
    ],
)
def test_usage(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main(["run", "-c", "none.yaml", *arguments])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert words in capsys.readouterr().err


def test_outside_of_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    (tmp_path / "c.yaml").write_text(f"http: {{listen: '127.0.0.1:{free_port()}'}}\n")
    assert main(["run", "-c", str(tmp_path / "c.yaml"), "--lease", "iot/bridge"]) == 1
    assert "run it in a pod" in capsys.readouterr().err
