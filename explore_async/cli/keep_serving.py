"""`explore-async serve`: starts a server and keeps it until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from explore_async.cli.signals import leave
from explore_async.errors import EXIT_SIGINT, EXIT_SIGTERM
from explore_async.serving.servers.launch import make_server
from explore_async.serving.servers.own_server import OwnServer
from explore_async.serving.simulated.engine import Profile
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.serving.simulated.universe import Universe
from explore_async.settings.operation import ServerSettings

_FULL_SHARE = 0.9
_SIGMA = 0.5  # about as much as the lengths of real completions vary


async def keep_serving(settings: ServerSettings, *, port: int, say: Callable[[str], None]) -> None:
    """Serves on loopback until SIGINT or SIGTERM. One that comes before the server is ready ends the process."""
    await _keep(lambda: make_server(settings, model_name=None, log_path=None, report=say, port=port), say)


async def keep_simulating(
    *,
    port: int,
    slots: int,
    latency_s: float,
    profile: Profile | None,
    context_tokens: int,
    universe: Universe | None,
    say: Callable[[str], None],
) -> None:
    """Serves the simulated model until SIGINT or SIGTERM. `latency_s`: mean time of a completion, lognormal. Nearly all
    completions hold all that is asked for, as those of a capable model do.
    """
    latency = Latency(latency_s, _SIGMA if latency_s else 0.0)

    async def make() -> SimulatedServer:
        return SimulatedServer(
            *(slots, latency),
            profile=profile,
            full_share=_FULL_SHARE,
            universe=universe,
            context_tokens=context_tokens,
            port=port,
        )

    await _keep(make, say)


async def _keep(
    make_one: Callable[[], Awaitable[AbstractAsyncContextManager[Any]]], say: Callable[[str], None]
) -> None:
    stop, is_ready = asyncio.Event(), False
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None

    def end(code: int) -> None:
        stop.set()
        if not is_ready:
            say("stopping: the server is not ready yet")
            main.cancel(code)

    for number, code in ((signal.SIGINT, EXIT_SIGINT), (signal.SIGTERM, EXIT_SIGTERM)):
        loop.add_signal_handler(number, end, code)
    try:
        async with await make_one() as running:
            is_ready = True
            say(f"serving at {running.url}  (Ctrl-C stops)")
            await _stopped_or_died(stop, running)
    except asyncio.CancelledError as stopped:
        leave(stopped.args[0])
    say("stopped")


async def _stopped_or_died(stop: asyncio.Event, running: object) -> None:
    """Returns when it is to stop. Raises ServerError when a process of ours has died."""
    waiting = [asyncio.create_task(stop.wait())]
    if isinstance(running, OwnServer):
        waiting.append(asyncio.create_task(running.watch()))
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    if not stop.is_set():
        for task in done:
            await task
