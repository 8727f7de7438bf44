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


def undisturbed() -> None:
    """All is done and said: no Ctrl-C may change the exit code now, or draw a traceback from the interpreter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
