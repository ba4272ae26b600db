"""Filling gaps from the platform's time series: a few assets at a time, page by page, from the oldest point on.

1. Only what lies in an asset's hole, and was not told live, is told; a point has the id that it would have had live,
   where the moment's values are the same.
2. A page tells of every key up to the same moment: what one key has beyond it is asked for again.
3. The platform writes history later than it tells of it: holes are shut, and read, a little after the gap.
4. When nothing is left to ask, every open gap is closed: `done`, or `partial` where something could not be had.
"""

from collections import deque
from typing import Any

import msgspec
from msgspec import Struct

from bridge.backends.iotpro import asks
from bridge.backends.iotpro.assets import Asset, Assets, telemetry
from bridge.backends.iotpro.holes import Hole
from bridge.backends.iotpro.requests import Requests
from bridge.backends.iotpro.turn import Turn
from bridge.backends.iotpro.values import plain, typed
from bridge.backends.iotpro.words import retry_after
from bridge.backends.session import Answer, Gap, gap_event
from bridge.model import Instant
from bridge.options import Reconnect

AT_ONCE = 4
LIMIT = 1000  # points of one key in one answer
SETTLE_S = 1.0  # by so much later than it is told a value may be written: ten of the batches that platforms write
_TRIES = 5  # of one page, in which nothing was said but that it failed


class _Point(Struct, gc=False):
    ts: int
    value: Any = None


_Points = dict[str, list[_Point]]
_decode = msgspec.json.Decoder(_Points).decode


class _Job(Struct):
    """One asset being filled. tries: of its next page, so far."""

    asset: str
    hole: Hole
    tries: int = 0


class History:
    """longest: seconds that are filled at most."""

    def __init__(
        self, assets: Assets, requests: Requests, longest: float, text_keys: tuple[str, ...], reconnect: Reconnect
    ) -> None:
        self._assets, self._requests, self._longest, self._reconnect = assets, requests, longest, reconnect
        self._text_keys = frozenset(text_keys)
        self._settling: deque[tuple[float, _Job]] = deque()  # Instant.mono when its hole is shut
        self._line: deque[_Job] = deque()
        self._flying = 0
        self._gaps: list[Gap] = []
        self._partial = False
        self._not_before = 0.0  # Instant.mono
        self.going = False  # in step with the platform

    def wake(self) -> float | None:
        """When woken() has something to do."""
        if not self.going:
            return None
        moments = [self._settling[0][0]] if self._settling else []
        if self._line and self._flying < AT_ONCE:
            moments.append(self._not_before)
        return min(moments, default=None)

    def begin(self, gap: Gap, turn: Turn) -> None:
        """Tells of a gap, which is told of again when all holes are filled."""
        if self._longest > 0:
            gap = msgspec.structs.replace(gap, backfill="started")
            self._gaps.append(gap)
        turn.heard.append(gap_event(gap))

    def fill(self, turn: Turn, now: Instant) -> None:
        """All holes there are: their blindness is over."""
        for asset in self._assets.by_id.values():
            hole = asset.hole
            if self._longest <= 0:
                asset.hole = None
            elif hole is not None and not hole.waits:
                hole.waits = True
                self._settling.append((now.mono + SETTLE_S, _Job(asset.id, hole)))
        self.woken(turn, now)

    def woken(self, turn: Turn, now: Instant) -> None:
        """Asks for what may be asked now."""
        while self.going and self._settling and self._settling[0][0] <= now.mono:
            self._shut(self._settling.popleft()[1])
        while self.going and self._line and self._flying < AT_ONCE and self._not_before <= now.mono:
            job = self._line.popleft()
            asset = self._asset(job)
            if asset is not None:
                self._ask(job, asset, turn, now)
        if self.going and not (self._settling or self._line or self._flying):
            self._close(turn)

    def _shut(self, job: _Job) -> None:
        asset = self._asset(job)
        if asset is None:
            return
        job.hole.shut(asset.points)
        if job.hole.open():
            self._line.append(job)
        else:
            self._over(asset)

    def _over(self, asset: Asset) -> None:
        asset.hole = None
        self._assets.changed = True

    def _asset(self, job: _Job) -> Asset | None:
        """None: it is gone, or was blind again since, with a hole that has taken in this one."""
        asset = self._assets.by_id.get(job.asset)
        return asset if asset is not None and asset.hole is job.hole else None

    def _ask(self, job: _Job, asset: Asset, turn: Turn, now: Instant) -> None:
        missing = job.hole.open()
        earliest = int((now.unix - self._longest) * 1000)
        keys = [key for key in missing if "," not in key and key in asset.keys]  # the platform splits them at commas
        start = min((missing[key][0] for key in keys), default=0) + 1
        self._partial |= len(keys) < len(missing) or start < earliest
        end = max((missing[key][1] for key in keys), default=0)
        start = max(start, earliest)
        if start >= end:
            self._over(asset)
            return
        self._flying += 1
        path = asks.history(asset.id, keys, start, end, LIMIT)
        self._requests.ask(
            turn, "GET", path, lambda answer, turn, now: self._answered(job, (start, end), answer, turn, now), pull=True
        )

    def _answered(self, job: _Job, asked: tuple[int, int], answer: Answer, turn: Turn, now: Instant) -> None:
        self._flying -= 1
        asset = self._asset(job)
        if asset is not None:
            points = _points(answer)
            if points is not None:
                job.tries = 0
                self._told(job, asset, points, asked, turn)
            elif answer.status in (403, 404):  # the platform says so where there is none, too
                self._partial |= answer.status == 403
                self._over(asset)
            else:
                self._failed(job, asset, answer, now)
        self.woken(turn, now)

    def _failed(self, job: _Job, asset: Asset, answer: Answer, now: Instant) -> None:
        if self.going and answer.status != 429:
            job.tries += 1
        if job.tries >= _TRIES or answer.status == 400:
            self._partial = True
            self._over(asset)
            return
        pause = min(self._reconnect.max, self._reconnect.initial * 2.0**job.tries)
        self._not_before = max(self._not_before, now.mono + max(pause, retry_after(answer) or 0.0))
        self._line.appendleft(job)

    def _told(self, job: _Job, asset: Asset, points: _Points, asked: tuple[int, int], turn: Turn) -> None:
        """Tells what is in the hole, up to the moment to which every key was told; the rest is asked for again."""
        full = [told[-1].ts for told in points.values() if len(told) >= LIMIT]
        upto = min(full, default=asked[1])
        groups: dict[int, dict[str, Any]] = {}
        for key, (low, high) in job.hole.open().items():
            for point in points.get(key, ()):
                if not low < point.ts < high or point.ts > upto or point.value is None:
                    continue
                value = plain(point.value) if key in self._text_keys else typed(point.value)
                if not job.hole.has(key, point.ts, value):
                    groups.setdefault(point.ts, {})[key] = value
        for ts in sorted(groups):
            turn.heard.append(telemetry(asset, ts, groups[ts], None, replay=True))
        self._assets.changed = True
        job.hole.filled(upto)
        if full and upto >= asked[0] and job.hole.open():
            self._line.append(job)
            return
        self._partial |= bool(full) and upto < asked[0]  # the platform does not go on
        self._over(asset)

    def stopped(self, turn: Turn) -> None:
        """What is not filled yet is for whoever goes on from the bookmarks."""
        self._partial = True
        self._close(turn)

    def _close(self, turn: Turn) -> None:
        end = "partial" if self._partial else "done"
        for gap in self._gaps:
            turn.heard.append(gap_event(msgspec.structs.replace(gap, backfill=end)))
        self._gaps, self._partial = [], False


def _points(answer: Answer) -> _Points | None:
    """What is in an answer, by key, the oldest first; None where it is none."""
    if answer.status != 200:
        return None
    try:
        points = _decode(answer.body)
    except (ValueError, RecursionError):
        return None
    return {key: sorted(told, key=lambda point: point.ts) for key, told in points.items()}
