"""`explore-async serve`: starts a server and keeps it until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from explore_async.serving.servers.launch import make_server
from explore_async.serving.simulated.engine import Profile
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.settings.operation import ServerSettings

_SIGMA = 0.5  # about as much as the lengths of real completions vary


async def keep_serving(settings: ServerSettings, *, port: int, say: Callable[[str], None]) -> None:
    """Serves on loopback until SIGINT or SIGTERM."""
    await _keep(await make_server(settings, model_name=None, log_path=None, report=say, port=port), say)


async def keep_simulating(
    *, port: int, slots: int, latency_s: float, profile: Profile | None, context_tokens: int, say: Callable[[str], None]
) -> None:
    """Serves the simulated model until SIGINT or SIGTERM. `latency_s`: mean time of a completion, lognormal."""
    latency = Latency(latency_s, _SIGMA if latency_s else 0.0)
    await _keep(SimulatedServer(slots, latency, profile=profile, context_tokens=context_tokens, port=port), say)


async def _keep(server: AbstractAsyncContextManager[Any], say: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with server as running:
        say(f"serving at {running.url}  (Ctrl-C stops)")
        await stop.wait()
    say("stopped")
