"""Before and around a run: compiled kernels, and a garbage collector that stops the event loop less often."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

_COMPILING = (
    "compiling the code of the ROUGE-L filter, once for this installation (about 30 s on an idle machine): completions "
    "are judged when that is done"
)


async def import_kernels() -> None:
    """The half of `load_kernels` that takes no longer where nothing is compiled yet, for the time of the first round
    trips. An error is raised by `load_kernels` again.
    """
    with suppress(Exception):
        await asyncio.to_thread(import_module, "rouge_kernels.index")


async def load_kernels(tell: Callable[[str], None]) -> None:
    """Loads or compiles the kernels in a thread: the loop goes on, and requests are answered meanwhile. `tell` gets a
    sentence where they are compiled.
    """
    loop = asyncio.get_running_loop()

    def on_compilation() -> None:
        with suppress(RuntimeError):  # the run has been stopped, and its loop is closed
            loop.call_soon_threadsafe(tell, _COMPILING)

    await asyncio.to_thread(_load, on_compilation)


def _load(on_compilation: Callable[[], None]) -> None:
    from rouge_kernels import warm_up

    warm_up(on_compilation)


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
