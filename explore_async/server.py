"""`explore-async serve`: a server of its own, kept until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from explore_async.serving.simulator import Latency, SimulatedServer

ENGINES: Final = ("embedded", "simulated")
_SIGMA = 0.5  # answers of language models differ in length about so much


async def keep_serving(
    engine: str, *, model: str, port: int, slots: int, latency_s: float, say: Callable[[str], None]
) -> None:
    """Serves on loopback until SIGINT or SIGTERM. `latency_s`: mean time of a simulated answer, lognormal."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server: AbstractAsyncContextManager[Any]
    if engine == "embedded":
        from explore_async.serving.embedded import EmbeddedServer
        from explore_async.serving.models import fetch

        say(f"model {model}")
        path = await asyncio.to_thread(fetch, model)
        say(f"starting llama.cpp with {path.name}")
        server = EmbeddedServer(path, model_name=model, slots=slots, port=port)
    else:
        server = SimulatedServer(slots, Latency(latency_s, _SIGMA if latency_s else 0.0), port=port)
    async with server as running:
        say(f"serving at {running.url}  (Ctrl-C stops)")
        await stop.wait()
    say("stopped")
