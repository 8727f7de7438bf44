"""The signals that stop a run."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal, TypeAlias

from explore_async.errors import EXIT_SIGTERM

Stop: TypeAlias = Callable[[Literal["interrupted", "terminated"]], None]


class StopSignals:
    """Owns the response to SIGINT, SIGTERM and SIGHUP. Only for the main thread, and for a loop that handles no signals
    of its own.

    While no request can be in flight, a signal cancels the main coroutine with the ending as its argument.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._main: asyncio.Task[object] | None = None
        self._stop: Stop = self._at_once

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Around everything that the current coroutine does."""
        loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        terminating = _terminating()
        loop.add_signal_handler(signal.SIGINT, lambda: self._stop("interrupted"))
        for number in terminating:
            loop.add_signal_handler(number, lambda: self._stop("terminated"))
        try:
            yield
        finally:
            for number in (signal.SIGINT, *terminating):
                loop.remove_signal_handler(number)

    @contextmanager
    def passed_to(self, stop: Stop) -> Iterator[None]:
        """Within the block each signal calls `stop` on the event loop instead."""
        self._stop = stop
        try:
            yield
        finally:
            self._stop = self._at_once

    def _at_once(self, ending: Literal["interrupted", "terminated"]) -> None:
        self._report("stopping: no request is in flight")
        if self._main is not None:
            self._main.cancel(ending)


@contextmanager
def first_signal(report: Callable[[], None]) -> Iterator[Callable[[], Literal["interrupted", "terminated"] | None]]:
    """For work without an event loop in the main thread: gives a function that tells the ending that the first signal
    asks for, None before it. That signal calls `report`; the next one ends the work by KeyboardInterrupt or SystemExit.
    """
    asked: list[Literal["interrupted", "terminated"]] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(EXIT_SIGTERM)
        asked.append("interrupted" if number == signal.SIGINT else "terminated")
        report()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, *_terminating())}
    try:
        yield lambda: asked[0] if asked else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminating() -> tuple[signal.Signals, ...]:
    """Without SIGHUP where that is ignored: a user who starts us with nohup wants to close the terminal without us."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return (signal.SIGTERM,)
    return (signal.SIGTERM, signal.SIGHUP)
