"""Signals of a command: SIGTERM during its work, none while the process leaves."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from explore_async.errors import EXIT_SIGTERM


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM unwinds the work like Ctrl-C, so that temporary files are removed."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def ignore_interrupts() -> None:
    """Ignores Ctrl-C from now on: the work is done, and neither the exit code nor the output may change."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
