"""What a command on files shows while it works, on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from explore_async.curation.dedup_files import Counts
from explore_async.terminal.text import printable

_SECONDS_BETWEEN_LINES = 10.0
_LONGEST_LINE = 10_000


class FileProgress:
    """Observes work on files and shows it. Enter it around the work."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._last_line = time.monotonic()
        self._total = 0
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
            console=console, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("reading", total=None)

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._bar.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def phase(self, text: str) -> None:
        self._bar.update(self._task, description=text)
        self._say(text)

    def began(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._bar.update(self._task, description="reading", total=total_bytes)

    def advanced(self, counts: Counts, read_bytes: int) -> None:
        told = (
            f"{counts.rows:,} rows, {counts.kept:,} kept, {counts.dropped:,} dropped, "
            f"{counts.rows / max(counts.seconds, 1e-9):,.0f} rows/s"
        )
        self._bar.update(self._task, description=told, completed=read_bytes)
        now = time.monotonic()
        if now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._say(f"{counts.seconds:,.0f} s: {read_bytes / max(self._total, 1):.0%} read, {told}")

    def _say(self, text: str) -> None:
        if not self._quiet and not self._console.is_terminal:
            self._console.print(Text(text), soft_wrap=True)


def show(counts: Counts, console: Console) -> None:
    """The counts at the end, and the first bad rows by name."""
    for line in counts.bad_rows:
        console.print(Text(printable(f"skipped: {line}", _LONGEST_LINE)), soft_wrap=True)
    if counts.bad > len(counts.bad_rows):
        console.print(f"… and {counts.bad - len(counts.bad_rows):,} more")
    rate = counts.rows / max(counts.seconds, 1e-9)
    console.print(
        f"{counts.rows:,} rows read: {counts.kept:,} kept, {counts.dropped:,} dropped, {counts.bad:,} bad "
        f"({counts.seconds:,.1f} s, {rate:,.0f} rows/s)",
        soft_wrap=True,
    )
