"""Signals of a command: SIGTERM during its work, none while the process leaves."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from explore_async.errors import EXIT_SIGTERM


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM unwinds the work like Ctrl-C, so that temporary files are removed.

    Each may come at the instant when a context is entered. Python then ends that context only after the file below is
    closed, and would print the error of this.
    """
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # one that is ignored stays so
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, _unwind) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _unwind(number: int, _frame: FrameType | None) -> NoReturn:
    sys.unraisablehook = lambda _: None
    if number == signal.SIGTERM:
        sys.exit(EXIT_SIGTERM)
    raise KeyboardInterrupt


def leave(code: int) -> NoReturn:
    """Ends the process now. Python would first wait for threads that download a model or compile the kernels."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def ignore_interrupts() -> None:
    """Ignores Ctrl-C from now on: the work is done, and neither the exit code nor the output may change."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
