"""Ctrl-C while nothing is under way: while modules load, and while the process leaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from explore_async.errors import EXIT_SIGINT


@contextmanager
def at_once() -> Iterator[None]:
    """Around the loading of modules: Ctrl-C ends the process there and then. As an exception it would come up in the
    middle of a library, and some libraries swallow it.
    """
    before = signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def undisturbed() -> None:
    """All is done and said: no Ctrl-C may change the exit code now, or draw a traceback from the interpreter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(EXIT_SIGINT)
