"""The signals that stop a run."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal


@contextmanager
def stopped_by_signals(stop: Callable[[Literal["interrupted", "terminated"]], None]) -> Iterator[None]:
    """Calls `stop` on the event loop for each SIGINT, SIGTERM or SIGHUP. Only for the main thread, and for a loop that
    handles no signals of its own.
    """
    loop = asyncio.get_running_loop()
    terminating = _terminating()
    loop.add_signal_handler(signal.SIGINT, stop, "interrupted")
    for number in terminating:
        loop.add_signal_handler(number, stop, "terminated")
    try:
        yield
    finally:
        for number in (signal.SIGINT, *terminating):
            loop.remove_signal_handler(number)


def _terminating() -> tuple[signal.Signals, ...]:
    """Without SIGHUP where that is ignored: a user who starts us with nohup wants to close the terminal without us."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return (signal.SIGTERM,)
    return (signal.SIGTERM, signal.SIGHUP)
