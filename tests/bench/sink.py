"""The listener of a benchmark, as a process: QoS 1, a socket read with as little ado as Python can.

    python -m tests.bench.sink PORT COUNT FILTER...

Every PUBLISH is acknowledged and kept; only when COUNT of them are there (or nothing came for a while) are they looked
at. A message is known by its backend, the second level of its topic, and by the first time in its payload.
"""

import json
import re
import select
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from tests.bench.traffic import FLAT_OUT
from tests.support import V311, Connect, Subscribe, Subscription, write_connect, write_subscribe

_TIME = re.compile(rb'"time":"([^".]+)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)"')
_IDLE_S, _FIRST_S, _LINGER_S = 8.0, 90.0, 0.5
_GATHER_S = 0.001  # flat out: fewer and larger reads leave more of the machine to the others
_PUBLISH = 3

Arrival = tuple[float, bytes, bytes]  # when (Unix time), topic, payload


def subscribed(port: int, filters: Sequence[str]) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 2**20)
    line.sendall(write_connect(Connect("bench-sink", version=V311, keepalive=0)))
    wanted = tuple(Subscription(one, 1) for one in filters)
    line.sendall(write_subscribe(Subscribe(1, wanted), V311))
    answer = b""
    while len(answer) < 4 + 4 + len(wanted):  # CONNACK and SUBACK
        answer += line.recv(64)
    return line


def packets(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The whole packets: the first byte, where the body begins and where it ends."""
    at, end = 0, len(data)
    while end - at >= 2:
        length, body, shift = data[at + 1] & 127, at + 2, 7
        while data[body - 1] & 128 and body < end:
            length |= (data[body] & 127) << shift
            body, shift = body + 1, shift + 7
        if data[body - 1] & 128 or body + length > end:
            return
        yield data[at], body, body + length
        at = body + length


def collect(line: socket.socket, count: int) -> list[Arrival]:
    arrivals: list[Arrival] = []
    rest, until = b"", time.time() + _FIRST_S
    while select.select([line], [], [], max(0.0, until - time.time()))[0]:
        more = line.recv(2**20)
        if not more:
            break  # the broker has gone
        now = time.time()
        rest, acks = _take(rest + more, now, arrivals)
        line.sendall(b"".join(acks))
        until = now + (_IDLE_S if len(arrivals) < count else _LINGER_S)
        if len(acks) > 1:
            time.sleep(_GATHER_S)
    return arrivals


def _take(data: bytes, now: float, arrivals: list[Arrival]) -> tuple[bytes, list[bytes]]:
    """What is left of the data, and the PUBACKs to send."""
    end, acks = 0, []
    for first, body, end in packets(data):
        if first >> 4 != _PUBLISH:
            continue
        behind = body + 2 + (data[body] << 8 | data[body + 1])
        topic = data[body + 2 : behind]
        if first & 6:
            acks.append(b"\x40\x02" + data[behind : behind + 2])
            behind += 2
        if b"/event/" in topic:
            arrivals.append((now, topic, data[behind:end]))
    return data[end:], acks


@lru_cache(64)
def _second(text: bytes, zone: bytes) -> int:
    return int(datetime.fromisoformat((text + zone.replace(b"Z", b"+00:00")).decode()).timestamp()) * 1_000_000


def moment(payload: bytes) -> int | None:
    """Microseconds since 1970."""
    found = _TIME.search(payload)
    return None if found is None else _second(found[1], found[3]) + int((found[2] or b"0")[:6].ljust(6, b"0"))


def result(arrivals: Sequence[Arrival], count: int) -> dict[str, Any]:
    """lost, doubled, disordered: counted per backend · p50, p99: milliseconds from the time due, not for flat out."""
    by_backend: defaultdict[bytes, list[int | None]] = defaultdict(list)
    late: list[float] = []
    for at, topic, payload in arrivals:
        when = moment(payload)
        by_backend[topic.split(b"/")[1]].append(when)
        if when is not None and when > FLAT_OUT + 86_400_000_000:
            late.append(at * 1e3 - when / 1e3)
    distinct = sum(len(set(times)) for times in by_backend.values())
    late.sort()
    seconds = arrivals[-1][0] - arrivals[0][0] if arrivals else 0.0
    return {
        "received": len(arrivals),
        "lost": count - distinct,
        "doubled": len(arrivals) - distinct,
        "disordered": sum(_disordered(times) for times in by_backend.values()),
        "first": arrivals[0][0] if arrivals else None,
        "seconds": seconds,
        "per_second": len(arrivals) / seconds if seconds else None,
        "p50": late[len(late) // 2] if late else None,
        "p99": late[len(late) * 99 // 100] if late else None,
        "bytes": sum(len(payload) for _, _, payload in arrivals) / max(1, len(arrivals)),
    }


def _disordered(times: Sequence[int | None]) -> int:
    latest, found, seen = 0, 0, set()
    for when in times:
        if when is None or when in seen:
            continue
        seen.add(when)
        found += when < latest
        latest = max(latest, when)
    return found


def main() -> None:
    port, count, *filters = sys.argv[1:]
    line = subscribed(int(port), filters)
    print(json.dumps({"event": "ready"}), flush=True)
    arrivals = collect(line, int(count))
    print(json.dumps({"event": "collected"}), flush=True)
    print(json.dumps({"event": "result", **result(arrivals, int(count))}), flush=True)


if __name__ == "__main__":
    main()
