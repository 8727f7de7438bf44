"""Before and around a run: compiled kernels, and a garbage collector that stops the event loop less often."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

from explore_async.running.observer import Observer

_SILENT_S = 3.0


@contextmanager
def compilation_noticed(observer: Observer) -> Iterator[None]:
    """Tells the observer why the block takes long, where it does. Kernels from the cache take less than a second."""
    text = "compiling the kernels, once on this machine: about 30 s"
    notice = asyncio.get_running_loop().call_later(_SILENT_S, observer.phase, text)
    try:
        yield
    finally:
        notice.cancel()


async def import_kernels() -> None:
    """The half of `load_kernels` that takes no longer where nothing is compiled yet, for the time of the first round
    trips. An error is raised by `load_kernels` again.
    """
    with suppress(Exception):
        await asyncio.to_thread(import_module, "rouge_kernels.index")


async def load_kernels(observer: Observer) -> None:
    """Loads or compiles the kernels in a thread: the loop goes on, and requests are answered meanwhile."""
    with compilation_noticed(observer):
        await asyncio.to_thread(_load)


def _load() -> None:
    from rouge_kernels import warm_up

    warm_up()


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Garbage in cycles, of which a run makes little, is searched for seldom, and never among the objects that exist
    now. With thousands of requests in flight a full search stops the event loop for 0.1 to 0.3 s.

    This changes the garbage collector of the whole process, until the block ends.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
