"""An MQTT broker for the demo: nothing to install, one port on 127.0.0.1 for MQTT 3.1.1 and 5, gone when it is left.

The broker is rumqttd, which comes inside the wheel `iotcore`. rumqttd wants a port for each protocol version, so a
front on the one port reads which version a CONNECT speaks and from then on copies bytes both ways, unchanged but for
what 3.1.1 subscribers cannot bear (demo_plain.py).

Measured with iotcore 0.4.0. Works on both versions, and between them: QoS 0, 1 and 2 in order, `+` and `#`, retained
messages (replaced, cleared, matched by wildcards), wills, sessions kept over a reconnect, 1 MiB payloads, and on 5
user properties, response topic, correlation data and message expiry from publisher to subscriber.
What does not work:

- A subscriber that lags behind more than the log holds (40 MiB for each filter) loses messages without a word. Good
  for a demo and for quick looks, not for counting.
- Of retained messages, a subscription gets the first 10,000.
- Subscription options of MQTT 5: no-local, Retain As Published and Retain Handling have no effect: retained messages
  come at every subscription, later ones without the flag.
- A client whose id is taken over is cut off without the reason "session taken over".
- CONNACK tells no Receive Maximum and no Maximum Packet Size; a payload over 8 MiB ends the connection.
- Every user name and password is let in. Other programs on this machine can connect; other machines cannot.
- A 3.1.1 subscriber is cut off when a message with such properties reaches it; Content Type is taken out for it.
- Retained messages and sessions live in memory: they end with the broker.
"""

import asyncio
import contextlib
import errno
import importlib.util
import re
import socket
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.demo_plain import Plain, length
from bridge.errors import Fatal

HOST = "127.0.0.1"
PORT = 1883

_START_S = 10.0  # until the broker must take connections
_STOP_S = 5.0
_HEAD_S = 10.0  # a client that has connected says CONNECT within this time
_CHUNK = 256 * 1024
_TRIES = 3  # a free port may be taken by somebody else before the broker binds it
_POLL_S = 0.02
_TURN_S = 0.25  # at most, for rumqttd to take a client in or let it go
_SETTLE_S = 0.005
_FLUSH_S = 1.0
_GOODBYE = re.compile(rb"\xe0(\x00|\x01.|\x02..)\Z", re.DOTALL)  # DISCONNECT (MQTT 5, 3.14)

_CONFIG = """\
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 10000
max_segment_size = 4194304
max_segment_count = 10
"""
_LISTENER = """\
[{version}.1]
name = "{version}"
listen = "{host}:{port}"
next_connection_delay_ms = 1
    [{version}.1.connections]
    connection_timeout_ms = 60000
    max_payload_size = 8388608
    max_inflight_count = 1000
    dynamic_filters = true
"""

# Not iotcore.Broker: its child writes to our terminal, and dies of the terminal's Ctrl-C before the bridge could say
# goodbye. Like there, the child ends when its standard input does, that is with us, however we end. rumqttd logs every
# message it routes as an error, so nothing is logged.
_CHILD = """\
import logging, os, sys, threading
from iotcore import IotCoreBroker
logging.basicConfig(level=logging.CRITICAL)
def end_with_the_parent():
    sys.stdin.buffer.read()
    os._exit(0)
threading.Thread(target=end_with_the_parent, daemon=True).start()
IotCoreBroker(config_path=sys.argv[1]).run_forever()
"""


class DemoBroker:
    """An async context manager; clients may connect as soon as it is entered.

    port: where it listens on 127.0.0.1; 0: any free one, known once it is entered.
    Entering raises Fatal, with the remedy, where the port is taken, iotcore is missing, or the broker does not start.
    """

    def __init__(self, port: int = PORT) -> None:
        self.port = port
        self._stack = AsyncExitStack()
        self._ports = (0, 0)
        self._clients: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """For example `mqtt://127.0.0.1:1883`."""
        return f"mqtt://{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process, while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and running else None

    async def __aenter__(self) -> Self:
        if importlib.util.find_spec("iotcore") is None:
            raise Fatal(
                "the demo's own broker is not installed: pip install 'ws2mqtt[demo]', or name yours with --mqtt-url"
            )
        async with AsyncExitStack() as stack:
            listener = _listen(self.port)
            stack.callback(listener.close)
            self.port = listener.getsockname()[1]
            await self._start(stack)
            server = await asyncio.start_server(self._accept, sock=listener, limit=_CHUNK)
            stack.push_async_callback(self._close, server)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # The broker's process

    async def _start(self, stack: AsyncExitStack) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ws2mqtt-demo-")))
        told = folder / "broker.log"
        for _ in range(_TRIES):
            self._ports = _free_ports()
            config = folder / "rumqttd.toml"
            config.write_text(_configuration(*self._ports), "utf-8")
            self._process = process = await _spawn(config, told)
            stack.push_async_callback(_stop, process)
            if await self._ready(process):
                return
        lines = told.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise Fatal(f"the demo's own broker does not start ({lines[-1]}); name another one with --mqtt-url")

    async def _ready(self, process: asyncio.subprocess.Process) -> bool:
        """Whether both listeners take connections, before the process or the time ends."""
        waiting = list(self._ports)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_S):
                while waiting and process.returncode is None:
                    if await _answers(waiting[0]):
                        waiting.pop(0)
                    else:
                        await asyncio.sleep(_POLL_S)
        return not waiting and process.returncode is None

    # The front

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            await _Client(reader, writer, self._turn).serve(self._ports)
        except asyncio.CancelledError:
            pass  # only _close cancels; asyncio's own callback would call the cancelled task an error
        finally:
            self._clients.discard(task)

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        while self._clients:
            for task in self._clients:
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
        await server.wait_closed()


class _Client:
    """One client's connection, and its twin to rumqttd.

    turn: clients come and go one at a time. rumqttd tells itself twice that a client has said goodbye; a client that
    comes between the two gets the leaving one's number, and with it the second goodbye (measured: 1 of 200 was lost).
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, turn: asyncio.Lock) -> None:
        self._reader, self._writer, self._turn = reader, writer, turn
        self._ended = asyncio.Event()

    async def serve(self, ports: tuple[int, int]) -> None:
        """Until either side ends. ports: of 3.1.1 and of 5."""
        try:
            async with asyncio.timeout(_HEAD_S):
                head = await _connect_head(self._reader)
            await self._twin(head, ports[head[-1] == 5])
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass
        finally:
            await _close(self._writer)

    async def _twin(self, head: bytes, port: int) -> None:
        async with AsyncExitStack() as stack:
            async with self._turn:
                up, down = await asyncio.open_connection(HOST, port, limit=_CHUNK)
                stack.push_async_callback(_close, down)
                down.write(head)
                plain = Plain(_left(head)) if head[-1] == 5 else None
                sending = asyncio.create_task(self._send(down, plain))
                stack.push_async_callback(_end, sending)
                with contextlib.suppress(TimeoutError):  # CONNACK
                    self._writer.write(await asyncio.wait_for(up.read(_CHUNK), _TURN_S))
            try:
                while chunk := await up.read(_CHUNK):
                    self._writer.write(chunk)
                    await self._writer.drain()
            finally:
                self._ended.set()
            await asyncio.wait({sending}, timeout=_TURN_S)

    async def _send(self, down: asyncio.StreamWriter, plain: Plain | None) -> None:
        """What the client says; its end is passed on."""
        try:
            while chunk := await self._reader.read(_CHUNK):
                down.write(plain.feed(chunk) if plain else chunk)
                if _GOODBYE.search(chunk[-4:]):
                    await self._goodbye(down)
                await down.drain()
            down.write_eof()
        except OSError:
            down.transport.abort()

    async def _goodbye(self, down: asyncio.StreamWriter) -> None:
        """Nobody comes until rumqttd has let this one go. (What only looks like a goodbye costs a moment.)"""
        async with self._turn:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _TURN_S)
            await asyncio.sleep(_SETTLE_S)


async def _close(writer: asyncio.StreamWriter) -> None:
    """What is written may still go out, for a moment."""
    writer.close()
    try:
        await asyncio.wait_for(writer.wait_closed(), _FLUSH_S)
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _connect_head(reader: asyncio.StreamReader) -> bytes:
    """CONNECT as far as its last byte here, the protocol level (MQTT 5, 3.1.1 and 3.1.2). Raises ValueError."""
    head = await reader.readexactly(2)
    if head[0] != 0x10:
        raise ValueError("the first packet is not CONNECT")
    for _ in range(3):  # the remaining length has at most four bytes (MQTT 5, 1.5.5)
        if head[-1] < 128:
            break
        head += await reader.readexactly(1)
    name = await reader.readexactly(6)
    if name != b"\x00\x04MQTT":
        raise ValueError("not MQTT 3.1.1 or 5")
    return head + name + await reader.readexactly(1)


def _left(head: bytes) -> int:
    """Bytes of CONNECT behind its head."""
    told = length(head, 1)
    assert told is not None
    return told[0] - (len(head) - told[1])


def _listen(port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise Fatal(f"there is no port {port}: choose one from 1 to 65535 with --port")
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Fatal(
                f"port {port} on {HOST} is taken: choose another one with --port, "
                f"or use the broker that is there with --mqtt-url mqtt://{HOST}:{port}"
            ) from None
        raise Fatal(f"cannot listen on {HOST}:{port} ({error.strerror}): choose another port with --port") from None


def _free_ports() -> tuple[int, int]:
    with socket.create_server((HOST, 0)) as one, socket.create_server((HOST, 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _configuration(old: int, new: int) -> str:
    """rumqttd's TOML: 3.1.1 listens on port `old`, 5 on `new`."""
    listeners = (
        _LISTENER.format(version=version, host=HOST, port=port) for version, port in (("v4", old), ("v5", new))
    )
    return _CONFIG + "".join(listeners)


async def _spawn(config: Path, told: Path) -> asyncio.subprocess.Process:
    with told.open("ab") as file:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a folder named iotcore in the working directory is not the package
            "-c",
            _CHILD,
            str(config),
            stdin=asyncio.subprocess.PIPE,
            stdout=file,
            stderr=file,
            start_new_session=True,  # the terminal's Ctrl-C is for us
        )


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if process.stdin is not None:
        process.stdin.close()
        with contextlib.suppress(OSError):
            await process.stdin.wait_closed()
    await process.wait()


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    await _close(writer)
    return True
