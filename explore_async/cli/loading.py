"""The loading of modules, as quick and as quiet as it can be."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from explore_async.errors import EXIT_SIGINT

_STDERR = 2


@contextmanager
def loading() -> Iterator[None]:
    """Around imports. Ctrl-C ends the process at once: as an exception it would appear inside a library, and some
    libraries swallow it. The garbage collector rests: modules stay, so its passes over them are in vain and cost up to
    a third of the time.
    """
    before = signal.signal(signal.SIGINT, _end)
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        signal.signal(signal.SIGINT, before)


def _end(_number: int, _frame: FrameType | None) -> None:
    os.write(_STDERR, b"stopped\n")
    os._exit(EXIT_SIGINT)
