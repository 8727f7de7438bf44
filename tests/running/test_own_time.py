"""Where a run's own time goes."""

from __future__ import annotations

import asyncio
import time

import pytest

from explore_async.running.own_time import OwnTime, OwnTimeFigures


async def measured(own_time: OwnTime, seconds: float, busy_s: float) -> OwnTimeFigures:
    """Hold the loop for `busy_s` at a time."""
    task = asyncio.create_task(own_time.measure())
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        with own_time.of("committing"):
            end = time.perf_counter() + busy_s
            while time.perf_counter() < end:
                pass
        await asyncio.sleep(0.01)
    task.cancel()
    return own_time.figures()


async def test_a_busy_loop_is_late() -> None:
    """Holding the loop for a quarter of a second shows in the lag and in the part that did it."""
    figures = await measured(OwnTime(), 1.5, 0.25)
    assert figures.loop_lag_ms.max > 100
    assert figures.committing_s > 1.0
    assert figures.writing_s == 0


async def test_an_idle_loop_is_not() -> None:
    """A loop with little to do is on time, at the median at least, as soon as the machine lets it; a few beats say nothing
    yet.
    """
    for _ in range(100):
        own_time = OwnTime()
        figures = await measured(own_time, 1.0, 0.0)
        assert not own_time.is_late
        if figures.loop_lag_ms.p50 < 50:
            return
    pytest.fail("never on time")
