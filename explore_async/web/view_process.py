"""`run --view`: the view in a process of its own, so that its users cost the run nothing."""

from __future__ import annotations

import subprocess
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from explore_async.running.observer import Observer, RunInProgress
from explore_async.serving.servers.process import importable, python

if TYPE_CHECKING:
    from explore_async.exploration.values import Event
    from explore_async.serving.servers.download import Progress
    from explore_async.settings.recipe import Recipe

_STOPS_WITHIN_S = 5.0


class ViewBeside:
    """An observer that passes everything on to another one. Owns the process of the view."""

    def __init__(self, observer: Observer, path: Path) -> None:
        self._observer = observer
        self._path = path
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOPS_WITHIN_S)
            self._process.kill()

    def began(self, recipe: Recipe, run: RunInProgress) -> None:
        self._observer.began(recipe, run)
        command = python("-m", "explore_async", "view", str(self._path), "--port", "0", "--open")
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=importable(), text=True)  # noqa: S603 - our own program

    def phase(self, text: str) -> None:
        self._observer.phase(text)

    def fetching(self, progress: Progress) -> None:
        self._observer.fetching(progress)

    def committed(self, events: Sequence[Event]) -> None:
        self._observer.committed(events)

    def tick(self) -> None:
        self._observer.tick()


def open_browser(url: str) -> None:
    """Opens the URL where there is a browser; without one the user has the URL on the terminal."""
    with suppress(webbrowser.Error, OSError):
        webbrowser.open(url)
