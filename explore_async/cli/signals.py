"""Signals of a command: Ctrl-C while modules load, SIGTERM during work, no signal while the process leaves."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from explore_async.errors import EXIT_SIGINT, EXIT_SIGTERM


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


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM unwinds the work like Ctrl-C, so that temporary files are removed."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def undisturbed() -> None:
    """All is done and said: no Ctrl-C may change the exit code now, or draw a traceback from the interpreter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(EXIT_SIGINT)
