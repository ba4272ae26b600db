"""What every test may ask for: brokers, certificates, the bridge as a process. See tests/support."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings

from tests.support import free_port as any_free_port
from tests.support.mosquitto import Certificates, Mosquitto
from tests.support.process import BridgeProcess
from tests.support.scripted import ScriptedBroker

settings.register_profile("house", deadline=None)  # how long an example takes says more of the machine than of us
settings.load_profile("house")

MosquittoFactory = Callable[..., Awaitable[Mosquitto]]
ScriptedFactory = Callable[..., Awaitable[ScriptedBroker]]
BridgeFactory = Callable[..., Awaitable[BridgeProcess]]


_LONG = ("test_replicas.py", "test_faults.py", "test_contract.py")  # they mostly wait


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first: with several workers, none is still at one when all others have ended."""
    items.sort(key=lambda item: item.path.name not in _LONG)


@pytest.fixture
def base() -> str:
    """A base topic that no other test uses, so that all may share one broker."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives a port of 127.0.0.1 that nobody listens on just now."""
    return any_free_port


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate authority with server certificates (good, expired, wrong host) and a client's."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mosquitto]:
    """One plain broker for all tests: keep below `base`, and do not stop it (for that, and for options: `broker`)."""
    async with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


@pytest.fixture
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MosquittoFactory]:
    """Starts a Mosquitto of the test's own: `await broker(users={"a": "b"})`, with the options of Mosquitto."""
    async with AsyncExitStack() as stack:

        async def start(**options: object) -> Mosquitto:
            made = Mosquitto(tmp_path_factory.mktemp("broker"), **options)  # type: ignore[arg-type]
            return await stack.enter_async_context(made)

        yield start


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedFactory]:
    """Starts a ScriptedBroker: `await scripted(hold=True)`. A client that breaks the standard fails the test."""
    async with AsyncExitStack() as stack:

        async def start(**script: object) -> ScriptedBroker:
            return await stack.enter_async_context(ScriptedBroker(**script))  # type: ignore[arg-type]

        yield start


@pytest.fixture
async def run_bridge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BridgeFactory]:
    """Starts the bridge: `await run_bridge({"mqtt": …, "backends": …})`, with the options of BridgeProcess.

    It is killed after the test; its log is printed then, which pytest shows where the test failed.
    """
    async with AsyncExitStack() as stack:

        async def start(config: dict[str, object], folder: Path | None = None, **options: object) -> BridgeProcess:
            made = BridgeProcess(config, folder or tmp_path_factory.mktemp("bridge"), **options)  # type: ignore[arg-type]
            stack.callback(lambda: print(f"--- log of {made.config_file}\n{made.log}"))
            return await stack.enter_async_context(made)

        yield start
