"""The progress of a run whose shards others make: sums, and a row for each shard, on stderr."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from explore_async.cli.run_panel import bar
from explore_async.running.observer import Steps, duration
from explore_async.running.shard_states import AllShards
from explore_async.terminal.reporter import Reporter
from explore_async.terminal.text import printable

_SHARDS_SHOWN = 16
_LONGEST_TROUBLE = 1_000


class ShardsProgress:
    """Shows the state of all shards. Enter it around the work."""

    def __init__(self, console: Console, folder: Path, *, quiet: bool) -> None:
        self._where = printable(str(folder))
        self._phase, self._began = "", time.monotonic()
        self._latest: AllShards | None = None
        self._spinner = Spinner("dots")
        self._reporter = Reporter(console, quiet=quiet, display=self._panel)

    def __enter__(self) -> Self:
        self._reporter.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reporter.__exit__(exc_type, exc, traceback)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._reporter.say(text)

    def phase(self, text: str) -> None:
        self._phase = text
        self._reporter.phase(text)

    def show(self, shards: AllShards) -> None:
        self._latest = shards
        self._reporter.update(shards.line)

    def _panel(self) -> Panel:
        head = f" {printable(self._phase)}  ({duration(time.monotonic() - self._began)})"
        self._spinner.update(text=Text(head))
        title = Text(f"explore_async: {self._where}")
        if (shards := self._latest) is None:
            return Panel(self._spinner, title=title, title_align="left")
        parts: list[Text | Table] = [Text(shards.figures), shard_table(shards)]
        parts += [Text(printable(text, _LONGEST_TROUBLE), style="yellow") for text in shards.troubles]
        bars = [] if shards.wanted is None else [bar([Steps(shards.kept, shards.wanted, "examples kept")])]
        return Panel(Group(self._spinner, *bars, *parts), title=title, title_align="left")


def shard_table(shards: AllShards) -> Table:
    """A row for each shard; of very many the first, and the number of the others."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    at_work = any(shard.is_at_work for shard in shards.shards)
    for name in ("shard", "state", "machine"):
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    for name in ("tasks", "kept", "dropped", *(("in flight", "completions/s") if at_work else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for shard in shards.shards[:_SHARDS_SHOWN]:
        counts = (shard.tasks, shard.kept, shard.dropped, *((shard.in_flight,) if at_work else ()))
        table.add_row(
            str(shard.index),
            shard.phase,
            printable(shard.where),
            *(f"{count:,}" for count in counts),
            *((f"{shard.answers_per_s:,.1f}",) if at_work else ()),
        )
    if (more := len(shards.shards) - _SHARDS_SHOWN) > 0:
        table.add_row(Text(f"and {more} more", style="dim"))
    return table
