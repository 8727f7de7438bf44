"""The progress of a run on stderr: a live panel on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from explore_async.exploration.values import Event, ExampleKept, TaskAdded
from explore_async.running.observer import RunInProgress, Snapshot
from explore_async.settings.recipe import Recipe
from explore_async.terminal.reporter import Reporter
from explore_async.terminal.text import printable

if TYPE_CHECKING:
    from explore_async.serving.servers.download import Progress as FetchProgress


_MIB = 1 << 20


class RunProgress:
    """Observes a run and shows it. Enter it around the run."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._phase = ""
        self._phase_began = time.monotonic()
        self._run: RunInProgress | None = None
        self._target: int | None = None
        self._latest: ExampleKept | None = None
        self._fetched: FetchProgress | None = None
        self._names: dict[str, str] = {}
        self._rates: list[tuple[float, int]] = []
        self._reporter = Reporter(console, quiet=quiet, display=self._panel)

    def __enter__(self) -> Self:
        self._reporter.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reporter.__exit__(exc_type, exc, traceback)

    def phase(self, text: str) -> None:
        self._phase, self._phase_began, self._fetched = text, time.monotonic(), None
        self._reporter.phase(text)

    def fetching(self, progress: FetchProgress) -> None:
        self._fetched = progress
        self._reporter.update(
            lambda: f"{progress.what}: {progress.done / _MIB:,.0f} of {progress.total / _MIB:,.0f} MiB"
        )

    def began(self, recipe: Recipe, run: RunInProgress) -> None:
        self._run, self._target = run, recipe.targets.examples
        self.phase(
            f"exploring {', '.join(domain.name for domain in recipe.domains)} with {', '.join(recipe.wanted_models)}"
        )

    def committed(self, events: Sequence[Event]) -> None:
        first = self._latest is None
        for event in events:
            if isinstance(event, TaskAdded):
                self._names[event.task.id] = event.task.name
            elif isinstance(event, ExampleKept):
                self._latest = event
        if self._latest is not None and first:
            self._reporter.phase(f"first example: {printable(self._latest.example.instruction)}")
        self.tick()

    def tick(self) -> None:
        if self._run is not None:
            self._reporter.update(self._line)

    def _line(self) -> str:
        assert self._run is not None
        snapshot = self._run.snapshot()
        tally = snapshot.tally
        of = f" of {self._target}" if self._target else ""
        rate, left = self._pace(snapshot)
        return (
            f"{snapshot.elapsed_s:,.0f} s: {tally.tasks.total()} tasks, {tally.kept}{of} examples kept, "
            f"{tally.dropped.total()} dropped, {rate:,.0f} tokens/s, "
            f"{snapshot.in_flight} in flight{f', about {left} left' if left else ''}"
            f"{f'; {snapshot.engines}' if snapshot.engines else ''}"
            f"{f'; {snapshot.trouble}' if snapshot.trouble else ''}"
        )

    def _pace(self, snapshot: Snapshot) -> tuple[float, str]:
        """Completion tokens per second over the last minute, and the remaining time at this pace."""
        now = snapshot.elapsed_s
        self._rates.append((now, snapshot.tally.tokens["completion"]))
        self._rates = [entry for entry in self._rates if entry[0] >= now - 60]
        then, tokens = self._rates[0]
        span = now - then
        if span <= 0:
            return 0.0, ""
        rate = (snapshot.tally.tokens["completion"] - tokens) / span
        pace = snapshot.tally.kept / now if now else 0.0
        left = (self._target - snapshot.tally.kept) / pace if self._target and pace else None
        return rate, "" if left is None else _duration(left)

    def _panel(self) -> Panel:
        waited = time.monotonic() - self._phase_began
        head = Spinner("dots", Text(f" {printable(self._phase)}  ({waited:,.0f} s)"))
        parts: list[Spinner | Table | Progress | Text] = [head]
        if self._fetched is not None:
            parts.append(_bar(self._fetched.what, self._fetched.done, self._fetched.total, unit=_MIB, of="MiB"))
        if self._run is not None:
            snapshot = self._run.snapshot()
            tally = snapshot.tally
            rate, left = self._pace(snapshot)
            if self._target is not None:
                parts.append(_bar("examples kept", tally.kept, self._target, unit=1, of=""))
            table = Table.grid(padding=(0, 2))
            table.add_row(
                f"tasks {tally.tasks.total()}" + ("" if snapshot.explored else " so far"),
                f"kept {tally.kept}",
                f"dropped {tally.dropped.total()}",
                f"{rate:,.0f} tokens/s",
                f"in flight {snapshot.in_flight}/{snapshot.capacity}",
                f"about {left} left" if left else "",
            )
            parts.append(table)
            if snapshot.engines:
                parts.append(Text(printable(snapshot.engines), style="dim"))
            if snapshot.trouble:
                parts.append(Text(printable(snapshot.trouble), style="yellow"))
        if self._latest is not None:
            example = self._latest.example
            parts.append(Text(printable(f"{self._names.get(example.task_id, '')}: {example.instruction}"), style="dim"))
        return Panel(Group(*parts), title="explore_async", title_align="left")


def _bar(what: str, done: int, total: int, *, unit: int, of: str) -> Progress:
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
    bar.add_task(what, total=total, completed=done, count=f"{done / unit:,.0f} of {total / unit:,.0f} {of}")
    return bar


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
