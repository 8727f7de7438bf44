"""A console on stderr that outlives its reader."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from rich.console import Console


class StderrConsole(Console):
    """Writes to stderr as long as stderr takes it; after that it writes nothing, and nothing fails.

    The reader may leave, as after `2>&1 | head`, the terminal may be closed, the disk may be full: a message is never
    worth the work.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(file=cast(IO[str], _LastingStderr()), quiet=quiet)


class _LastingStderr(io.TextIOBase):
    def __init__(self) -> None:
        self._stderr = sys.stderr  # a live display puts itself in its place

    def write(self, text: str) -> int:
        with self._lasting():
            self._stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with self._lasting():
            self._stderr.flush()

    def fileno(self) -> int:
        return self._stderr.fileno()

    def isatty(self) -> bool:
        return self._stderr.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stderr.encoding

    @contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stderr.fileno())
