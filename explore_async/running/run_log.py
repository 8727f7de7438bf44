"""run.log: the steps and the state of a run as lines with their times, for a user who was not there."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from explore_async import __version__
from explore_async.errors import ExploreError, StorageError
from explore_async.exploration.values import Event
from explore_async.running.observer import Observer, RunInProgress
from explore_async.settings.recipe import Recipe
from explore_async.storage.whole_files import check_regular
from explore_async.terminal.text import message, printable

if TYPE_CHECKING:
    from explore_async.serving.servers.download import Progress

_SECONDS_BETWEEN_STATES = 60.0
_LONGEST_LINE = 10_000


class RunLog:
    """An observer that passes everything on to another one. Owns the lines, and the file once a run has begun.

    A log that cannot be written stops no run.
    """

    def __init__(self, observer: Observer, path: Path) -> None:
        self._observer = observer
        self._path = path
        self._lines: list[str] = []
        self._is_open = False
        self._latest = ""
        self._run: RunInProgress | None = None
        self._last_state = time.monotonic()

    def open(self) -> None:
        """The run begins: from now on the lines, also those said before, go to the file."""
        self._is_open = True

    def say(self, text: str) -> None:
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        self._lines.append(f"{now}  {printable(message(text), _LONGEST_LINE)}\n")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """At the end of the block, says why it failed where it did, and writes the rest."""
        try:
            yield
        except ExploreError as error:
            self.say(f"error: {error}")
            raise
        except asyncio.CancelledError:
            self.say("stopped at once; the same command continues from here")
            raise
        finally:
            self._append(self._take())

    async def flush(self) -> None:
        """Writes what was said since the last time, in a thread."""
        if lines := self._take():
            await asyncio.to_thread(self._append, lines)

    def _take(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines

    def _append(self, lines: list[str]) -> None:
        if self._is_open:
            with suppress(OSError, StorageError):
                check_regular(self._path)
                with self._path.open("a", encoding="utf-8", errors="replace") as file:
                    file.writelines(lines)

    def phase(self, text: str) -> None:
        if text != self._latest:  # a start connects twice: to learn the model, and to run
            self._latest = text
            self.say(text)
            self._observer.phase(text)

    def fetching(self, progress: Progress) -> None:
        self._observer.fetching(progress)

    def began(self, recipe: Recipe, run: RunInProgress) -> None:
        self._run = run
        self.say(
            f"explore_async {__version__} on {platform.node()}, process {os.getpid()}; domains: "
            f"{', '.join(domain.name for domain in recipe.domains)}; models: {', '.join(recipe.wanted_models)}"
        )
        self._observer.began(recipe, run)

    def committed(self, events: Sequence[Event]) -> None:
        self._observer.committed(events)

    def tick(self) -> None:
        if self._run is not None and time.monotonic() - self._last_state >= _SECONDS_BETWEEN_STATES:
            self._last_state = time.monotonic()
            self.say(self._run.snapshot().line())
        self._observer.tick()
