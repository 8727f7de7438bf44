"""The one way in which a command shows how far its work is."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.spinner import Spinner
from rich.text import Text

from explore_async.terminal.console import StderrConsole
from explore_async.terminal.text import printable

SECONDS_BETWEEN_LINES = 10.0
_OFTEN_FOR_S = 120.0
_LESS_OFTEN = 6
_LONGEST_LINE = 10_000


class Reporter:
    """Shows work on stderr: live on a terminal, by lines with their times elsewhere, and not at all when quiet. A state
    is a line every 10 s, and after two minutes every minute, whatever else is said between.

    Enter it around the work. `display` draws the live part; without it there is a spinner, or a bar once a total is
    known.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        quiet: bool = False,
        display: Callable[[], RenderableType] | None = None,
    ) -> None:
        self.console = console or StderrConsole()
        self.quiet = quiet
        self._began = self._last_state = time.monotonic()
        self._spinner = Spinner("dots")
        self._bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
        )
        self._task = self._bar.add_task("", total=None)
        self._has_total = False
        self._draws_itself = display is not None
        self._live = Live(
            console=self.console, get_renderable=display or self._draw, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.console.is_dumb_terminal and not self.quiet:
            self._live.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live.is_started:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays, unless quiet."""
        if not self.quiet:
            now = "" if self.console.is_terminal else f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}  "
            self.console.print(Text(now + printable(text, _LONGEST_LINE)), soft_wrap=True)

    def phase(self, text: str) -> None:
        """The name of the work that begins now: in the live display, or a line of its own."""
        if self._live.is_started:
            self._show(text)
        else:
            self.say(text)

    def update(self, text: str | Callable[[], str], *, done: int = 0, total: int | None = None) -> None:
        """The state of the work: in the live display, or a line where the last state is old enough. A function is
        called only where its text is shown.
        """
        if self._live.is_started:
            self._show(text, done, total)
        elif not self.quiet and time.monotonic() - self._last_state >= self._seconds_between_lines:
            self._last_state = time.monotonic()
            line = text if isinstance(text, str) else text()
            self.say(f"{done / total:.0%}: {line}" if total else line)

    @property
    def _seconds_between_lines(self) -> float:
        is_long = time.monotonic() - self._began > _OFTEN_FOR_S
        return SECONDS_BETWEEN_LINES * (_LESS_OFTEN if is_long else 1)

    def _show(self, text: str | Callable[[], str], done: int = 0, total: int | None = None) -> None:
        if self._draws_itself:
            return
        line = printable(text if isinstance(text, str) else text())
        self._has_total = total is not None
        self._spinner.update(text=Text(line))
        self._bar.update(self._task, description=line, completed=done, total=total)

    def _draw(self) -> RenderableType:
        return self._bar if self._has_total else self._spinner
