"""Where a run's own time goes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from explore_async.running.own_time import Pulse


async def beating(pulse: Pulse, seconds: float, busy_s: float) -> Any:
    """Hold the loop for `busy_s` at a time."""
    task = asyncio.create_task(pulse.beat())
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        with pulse.of("committing"):
            end = time.perf_counter() + busy_s
            while time.perf_counter() < end:
                pass
        await asyncio.sleep(0.01)
    task.cancel()
    return pulse.document()


async def test_a_busy_loop_is_late() -> None:
    """Holding the loop for a quarter of a second shows in the lag and in the part that did it."""
    document = await beating(Pulse(), 1.5, 0.25)
    assert document["loop_lag_ms"]["max"] > 100
    assert document["committing_s"] > 1.0
    assert document["writing_s"] == 0


async def test_an_idle_loop_is_not() -> None:
    """A loop with little to do is on time, at the median at least; a few beats say nothing yet."""
    pulse = Pulse()
    document = await beating(pulse, 1.0, 0.0)
    assert document["loop_lag_ms"]["p50"] < 50
    assert not pulse.is_late
