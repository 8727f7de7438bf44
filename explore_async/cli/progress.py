"""The progress of a run on stderr: a live panel on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.spinner import Spinner
from rich.text import Text

from explore_async.cli import run_panel
from explore_async.exploration.values import Event, ExampleKept, TaskAdded
from explore_async.running.observer import RunInProgress, Snapshot, Steps, duration
from explore_async.settings.recipe import Recipe
from explore_async.terminal.reporter import Reporter
from explore_async.terminal.text import printable

if TYPE_CHECKING:
    from explore_async.serving.servers.download import Progress as FetchProgress


_MIB = 1 << 20
_LONGEST_PATH = 10_000
_NEWS_SHOWN_S = 30.0
"""A line on what has happened stays in the panel for this long."""


class RunProgress:
    """Observes a run and shows it. Enter it around the run."""

    def __init__(self, console: Console, directory: Path, *, quiet: bool = False) -> None:
        self._where = printable(str(directory), _LONGEST_PATH)
        self._phase = "starting"
        self._phase_began = self._began = time.monotonic()
        self._run: RunInProgress | None = None
        self._state: list[RenderableType] = []
        """As of the latest second: the panel is drawn in a thread of its own, where the run must not be looked at."""
        self._latest: ExampleKept | None = None
        self._of_questions = False
        self._fetched: FetchProgress | None = None
        self._names: dict[str, str] = {}
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
        self._phase, self._phase_began, self._fetched = text, time.monotonic(), None
        self._reporter.phase(text)

    def fetching(self, progress: FetchProgress) -> None:
        self._fetched = progress
        self._reporter.update(
            lambda: f"{progress.what}: {progress.done / _MIB:,.0f} of {progress.total / _MIB:,.0f} MiB"
        )

    def began(self, recipe: Recipe, run: RunInProgress) -> None:
        self._reporter.say(f"writing to {self._where}")  # not before: a start that fails leaves no directory
        self._run, self._began = run, time.monotonic()
        snapshot = run.snapshot()
        self._of_questions = snapshot.of_questions
        self._show(snapshot)
        self._names = {str(number): domain.name for number, domain in enumerate(recipe.domains)}
        domains = ", ".join(domain.name for domain in recipe.domains)
        self.phase(f"domains: {domains}; models: {', '.join(recipe.wanted_models)}")

    def committed(self, events: Sequence[Event]) -> None:
        first = self._latest is None
        for event in events:
            if isinstance(event, TaskAdded):
                self._names[event.task.id] = event.task.name
            elif isinstance(event, ExampleKept):
                self._latest = event
        if self._latest is not None and first:
            what = "question" if self._of_questions else "example"
            self._reporter.phase(f"first {what}: {printable(self._latest.example.instruction)}")

    def tick(self) -> None:
        if self._run is not None:
            snapshot = self._run.snapshot()
            self._show(snapshot)
            self._reporter.update(snapshot.line)

    def _show(self, snapshot: Snapshot) -> None:
        head = self._head(snapshot.preparing or snapshot.phase, self._began)
        is_shown = self._phase == snapshot.preparing or any(
            endpoint.trouble and endpoint.url in self._phase for endpoint in snapshot.endpoints
        )
        news = []
        if not is_shown and time.monotonic() - self._phase_began < _NEWS_SHOWN_S:
            news.append(Text(printable(self._phase), style="dim"))
        self._state = [head, *run_panel.parts(snapshot, self._reporter.console.width), *news]

    def _panel(self) -> Panel:
        lines = list(self._state) or [self._head(self._phase, self._phase_began)]
        if self._fetched is not None:
            fetched = self._fetched
            lines.append(run_panel.bar([Steps(fetched.done // _MIB, fetched.total // _MIB, f"{fetched.what}, MiB")]))
        if self._latest is not None:
            example = self._latest.example
            name = self._names.get(example.task_id, "")
            lines.append(Text(printable(": ".join(filter(None, (name, example.instruction)))), style="dim"))
        return Panel(Group(*lines), title=Text(f"explore_async: {self._where}"), title_align="left")

    def _head(self, text: str, since: float) -> Spinner:
        self._spinner.update(text=Text(f" {printable(text)}  ({duration(time.monotonic() - since)})"))
        return self._spinner
