"""The end of a connection to the broker, on the wire: our goodbye is heard, whatever the broker still has to say."""

import asyncio
import socket
import time

from bridge.broker import connect
from bridge.model import Message
from bridge.options import MqttOptions
from tests.support import PATIENCE_S, V5, Connack, Puback, write_connack, write_puback

GOODBYE = bytes((0xE0, 0))  # DISCONNECT, normal (MQTT 5, 3.14)


def _slow(server: socket.socket) -> bytes:
    """A broker that is behind: it reads and acknowledges only when our goodbye is there already; all that it read."""
    connection, _ = server.accept()
    with connection:
        connection.settimeout(10)
        connection.recv(65_536)
        connection.sendall(write_connack(Connack(), V5))
        while not connection.recv(65_536, socket.MSG_PEEK).endswith(GOODBYE):
            time.sleep(0.001)
        heard = b""
        while data := connection.recv(64):
            heard += data
            if not heard.endswith(GOODBYE):
                connection.sendall(write_puback(Puback(1), V5))
        return heard


async def test_a_broker_that_is_behind_comes_to_our_goodbye() -> None:
    """Else it would publish the will, `bridge gone`, although we left in order."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = asyncio.create_task(asyncio.to_thread(_slow, server))
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        async with asyncio.timeout(PATIENCE_S):
            async with connect(MqttOptions(), url, "leaving", None) as connection:
                for number in range(50):
                    connection.publish(Message(f"a/{number}", b"x" * 50), 1)
            heard = await broker
    assert heard.endswith(GOODBYE)
    assert heard.count(b"x" * 50) == 50
