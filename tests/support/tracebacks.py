"""Every entry of a traceback has a line.

In Python 3.11 an error that a signal handler raises, as pytest-timeout's does, may come up at an instruction without a
line: `tb_lineno` is None. pytest reckons with it, and its own error would end the whole run instead of one test.
"""

from __future__ import annotations

from types import TracebackType


def give_lines(error: BaseException) -> None:
    """An entry without a line gets the first line of its function, in this error and in those that it came from."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        error.__traceback__ = _with_lines(error.__traceback__)
        waiting += [other for other in (error.__cause__, error.__context__) if other is not None]
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions


def _with_lines(traceback: TracebackType | None) -> TracebackType | None:
    entries = []
    while traceback is not None:
        entries.append(traceback)
        traceback = traceback.tb_next
    for entry in reversed(entries):
        line: int | None = entry.tb_lineno
        first = entry.tb_frame.f_code.co_firstlineno
        traceback = TracebackType(traceback, entry.tb_frame, entry.tb_lasti, first if line is None else line)
    return traceback
