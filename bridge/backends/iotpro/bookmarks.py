"""What is remembered over a restart: of every asset its subject, and up to where each of its keys was told.

Compact: [version, [keys], [[id, subject, milliseconds], …]], where milliseconds is one number for all keys of the
list, or one per key (0: never told). An asset with a hole is remembered as before it: a bookmark never lies beyond
what was not told.
"""

from collections.abc import Iterable

import msgspec

from bridge.backends.iotpro.assets import Asset

_VERSION = 1
_Written = tuple[int, list[str], list[tuple[str, str, int | list[int]]]]
Known = dict[str, tuple[str, dict[str, int]]]

_decode = msgspec.msgpack.Decoder(_Written).decode


def written(assets: Iterable[Asset]) -> bytes:
    """The bookmarks of all assets."""
    numbers: dict[str, int] = {}
    rows: list[tuple[str, str, list[int]]] = []
    for asset in assets:
        points = asset.points if asset.hole is None else asset.hole.again(asset.points).low
        for key in points:
            numbers.setdefault(key, len(numbers))
        row = [0] * len(numbers)
        for key, ts in points.items():
            row[numbers[key]] = ts if -(2**63) < ts < 2**63 else 0
        rows.append((asset.id, asset.subject, row))
    return msgspec.msgpack.encode(
        (_VERSION, list(numbers), [(name, at, _short(row, len(numbers))) for name, at, row in rows])
    )


def _short(row: list[int], keys: int) -> int | list[int]:
    return row[0] if len(row) == keys and len(set(row)) == 1 else row


def read(memory: bytes | None) -> Known:
    """What was remembered; nothing, where that cannot be read."""
    try:
        version, keys, rows = _decode(memory or b"")
    except (ValueError, RecursionError):
        return {}
    if version != _VERSION:
        return {}
    return {name: (subject, _points(keys, told)) for name, subject, told in rows}


def _points(keys: list[str], told: int | list[int]) -> dict[str, int]:
    row = [told] * len(keys) if isinstance(told, int) else told
    return {key: ts for key, ts in zip(keys, row, strict=False) if ts > 0}
