"""Tests wait for what they need to see, as long as it takes: no test depends on the speed of the machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 300.0
"""A net for what never comes, far above what a busy machine needs; pytest's own limit for a test is above it."""


async def until(condition: Callable[[], object], *, every_s: float = 0.01) -> None:
    """Returns once the condition holds; fails when it never does."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"this never became true: {condition.__qualname__}"
        await asyncio.sleep(every_s)
