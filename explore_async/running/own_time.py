"""The time that this process itself takes: lateness of its event loop, and the seconds that its parts have used."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Literal, NoReturn, get_args

MEASURED_EVERY_S: Final = 0.1
LATE_S: Final = 0.1
"""When one measurement in a hundred is later than this, completions wait for us and not we for them."""
_LAGS_KEPT: Final = 600
_BUSY_FROM: Final = 0.5
"""Of its time the event loop computes, where it is late by itself; else the machine is busy with other work."""

_TURN_S: Final = 0.005
"""After this long other coroutines have a turn: completions of thousands of requests wait to be read."""

Part = Literal["asking", "committing", "writing", "rendering"]


@dataclass(frozen=True, slots=True)
class LoopLag:
    """Lateness of the event loop when it wakes a coroutine, in milliseconds: of the last minute, and the worst."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class OwnTimeFigures:
    """Lateness of the event loop, and the seconds that each part of this process has used."""

    loop_lag_ms: LoopLag
    asking_s: float
    committing_s: float
    writing_s: float
    rendering_s: float


class _Stopwatch:
    """Adds up the seconds of the blocks that it is entered for. A generator's context would take longer than some of
    these blocks.
    """

    __slots__ = ("_began", "seconds")

    def __init__(self) -> None:
        self.seconds = self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


class OwnTime:
    """Counts the time that a run spends in its own code.

    `measure` runs beside a run; its parts count their time through `of`.
    """

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=_LAGS_KEPT)
        self._ticks: deque[tuple[float, float]] = deque(maxlen=_LAGS_KEPT)
        """The clock and the processor time of the loop's thread, at each measurement."""
        self._worst_s = 0.0
        self._watches: dict[Part, _Stopwatch] = {part: _Stopwatch() for part in get_args(Part)}

    async def measure(self) -> NoReturn:
        """Measures how much later than due the event loop wakes it. Runs until it is cancelled."""
        while True:
            began = time.perf_counter()
            await asyncio.sleep(MEASURED_EVERY_S)
            lag_s = max(0.0, time.perf_counter() - began - MEASURED_EVERY_S)
            self._lags.append(lag_s)
            self._ticks.append((time.perf_counter(), time.thread_time()))
            self._worst_s = max(self._worst_s, lag_s)

    def of(self, part: Part) -> AbstractContextManager[None]:
        """Counts the time of the block, which must not await, nor hold another block of this part."""
        return self._watches[part]

    @property
    def is_late(self) -> bool:
        """True when this process was too busy over the last minute to keep up with the servers."""
        is_known = len(self._lags) >= _LAGS_KEPT / 6
        return is_known and self._lag_s(0.99) > LATE_S and self._busy_share >= _BUSY_FROM

    @property
    def _busy_share(self) -> float:
        """The part of the last minute in which the event loop computed."""
        (began, used), (now, used_now) = self._ticks[0], self._ticks[-1]
        return (used_now - used) / max(now - began, MEASURED_EVERY_S)

    def figures(self) -> OwnTimeFigures:
        """The figures at this moment."""
        lag = LoopLag(*(round(1e3 * lag_s, 2) for lag_s in (self._lag_s(0.5), self._lag_s(0.99), self._worst_s)))
        return OwnTimeFigures(lag, **{f"{part}_s": round(watch.seconds, 3) for part, watch in self._watches.items()})

    def _lag_s(self, share: float) -> float:
        lags = sorted(self._lags)
        return lags[int(share * (len(lags) - 1))] if lags else 0.0


class Turn:
    """The turn of a long Python loop on the event loop, where nothing that it awaits lets others run. It goes by the
    event loop's own clock: on a virtual clock nothing takes long, and a rehearsal stays a function of its recipe.
    """

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        self._began = self._now()

    async def pass_on(self) -> None:
        """Lets other coroutines run if this turn has been long."""
        if self._now() - self._began > _TURN_S:
            await asyncio.sleep(0)
            self._began = self._now()
