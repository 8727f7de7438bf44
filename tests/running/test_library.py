"""A run as a call of a library: the event loop, the signals and the garbage collector stay the caller's."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from blockbuster import BlockBuster
from support.cli import RECIPE, check_counts, derived

from explore_async.config.load import load
from explore_async.exploration.values import Event
from explore_async.running.observer import SilentObserver
from explore_async.running.start import run
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.settings.run_settings import RunSettings

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def _files_on_the_loop(blockbuster: BlockBuster) -> None:
    blockbuster.deactivate()  # a run opens and closes its files on the loop, when nothing else is going on


def settings(folder: Path, url: str) -> RunSettings:
    path = folder / "config.yaml"
    path.write_text(RECIPE)
    return load(str(path), operation={"endpoints": [{"url": url, "concurrency": 8}]})


async def test_a_run_beside_another_server(tmp_path: Path) -> None:
    """On the loop of somebody's web server a run comes to its end; the server responds meanwhile and afterwards, and no
    coroutine of the run is left.
    """

    async def respond(_: web.Request) -> web.Response:
        return web.Response(text="here")

    application = web.Application()
    application.router.add_get("/", respond)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = runner.addresses[0]
    heard: list[str] = []

    async def ask_often(session: aiohttp.ClientSession) -> None:
        while True:
            async with session.get(f"http://{url[0]}:{url[1]}/") as response:
                heard.append(await response.text())
            await asyncio.sleep(0.01)

    async with SimulatedServer(64, Latency(0.02)) as server, aiohttp.ClientSession() as session:
        asking = asyncio.create_task(ask_often(session))
        await asyncio.sleep(0.05)
        first = await run(settings(tmp_path, server.url), tmp_path / "run")
        during = len(heard)
        again = await run(settings(tmp_path, server.url), tmp_path / "run")
        while len(heard) < during + 5:
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.wait([asking])
    await runner.cleanup()
    assert during > 5
    assert set(heard) == {"here"}
    assert first.kept == again.kept == 100
    assert again.stats.this_time is not None
    assert again.stats.this_time.asked == 0
    check_counts(again.stats.document(), tmp_path / "run")
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_signals_and_collector_stay_the_callers(tmp_path: Path) -> None:
    """While a run is on and after it, the handlers, the thresholds and the frozen objects are those of before."""

    def state() -> tuple[object, ...]:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        return (*map(signal.getsignal, numbers), gc.get_threshold(), gc.get_freeze_count(), gc.isenabled())

    seen = []

    class Looking(SilentObserver):
        def committed(self, events: Sequence[Event]) -> None:
            seen.append(state())

    before = state()
    async with SimulatedServer() as server:
        await run(settings(tmp_path, server.url), tmp_path / "run", observer=Looking())
    assert seen
    assert {before, state(), *seen} == {before}


async def test_they_are_changed_where_asked_for_and_put_back(tmp_path: Path) -> None:
    """The command line's two switches take effect while a run is on, and end with it."""
    before = signal.getsignal(signal.SIGTERM), gc.get_threshold()
    seen = []

    class Looking(SilentObserver):
        def committed(self, events: Sequence[Event]) -> None:
            seen.append((signal.getsignal(signal.SIGTERM), gc.get_threshold()))

    async with SimulatedServer() as server:
        await run(
            settings(tmp_path, server.url),
            tmp_path / "run",
            observer=Looking(),
            handle_signals=True,
            tune_collector=True,
        )
    assert all(handler != before[0] and thresholds != before[1] for handler, thresholds in seen)
    assert (signal.getsignal(signal.SIGTERM), gc.get_threshold()) == before


async def test_a_cancelled_run_goes_on(tmp_path: Path) -> None:
    """Cancelled from outside, a run ends with its files closed and unlocked; the next one goes on from there, asks
    nothing again that was stored, and makes the bytes of a run that nobody cancelled.
    """
    async with SimulatedServer(64, Latency(0.02)) as server:
        whole = await run(settings(tmp_path, server.url), tmp_path / "whole")
        running = asyncio.create_task(run(settings(tmp_path, server.url), tmp_path / "run"))
        asked = server.statistics().requests
        while server.statistics().requests < asked + 20:
            await asyncio.sleep(0.005)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        result = await run(settings(tmp_path, server.url), tmp_path / "run")
    assert result.ending == whole.ending
    assert result.stats.this_time is not None
    assert result.stats.this_time.replayed > 0
    assert derived(tmp_path / "run") == derived(tmp_path / "whole")
