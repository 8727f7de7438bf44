"""The consoles on stdout and stderr."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from rich.console import Console

_WIDTH_OF_A_FILE = 10_000
_USUAL_WIDTH, _USUAL_HEIGHT = 80, 25
"""Of a terminal that does not know its size."""
_BLANKS_AT_AN_END = re.compile(r" +(?=\n)")
"""Of lines: a table fills up each of its lines to the longest."""


class StdoutConsole(Console):
    """Writes results to stdout. A terminal gets wrapped lines, a file or a pipe gets whole lines.

    Raises BrokenPipeError when the reader has left; rich alone would end the process with code 1.
    """

    def __init__(self) -> None:
        super().__init__()
        _ensure_room(self)

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - rich calls this while it handles the BrokenPipeError


class StderrConsole(Console):
    """Writes to stderr as long as stderr takes it; after that it writes nothing, and nothing fails. A terminal gets
    wrapped lines, a file or a pipe gets whole lines.

    The reader may leave, as after `2>&1 | head`, the terminal may be closed, the disk may be full: a message is never
    worth the work.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        stderr = _LastingStderr()
        super().__init__(file=cast(IO[str], stderr), quiet=quiet)
        _ensure_room(self)
        stderr.keeps_blanks = self.is_terminal


def _ensure_room(console: Console) -> None:
    """Gives a file its width, and a terminal of size 0 the usual size: rich takes COLUMNS=0 and LINES=0 as they are."""
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
        return
    if console.width < 1:
        console.width = _USUAL_WIDTH
    if console.height < 1:
        console.height = _USUAL_HEIGHT


class _LastingStderr(io.TextIOBase):
    def __init__(self) -> None:
        self._stderr = sys.stderr  # a live display puts itself in its place
        self.keeps_blanks = True

    def write(self, text: str) -> int:
        written = text if self.keeps_blanks else _BLANKS_AT_AN_END.sub("", text)
        with self._lasting():
            self._stderr.write(written)
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
