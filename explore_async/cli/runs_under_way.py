"""A note for users who work on a run that still goes on."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path

from explore_async.cli.output import say
from explore_async.errors import StorageError


def tell_of_runs_under_way(*sources: Path) -> None:
    """A line for each of these runs, also of those in these folders, that a process works on now."""
    from explore_async.curation.collections.open import runs_inside
    from explore_async.storage.directory import RunDirectory

    for path in (run for source in sources for run in (runs_inside(source) or [source])):
        directory = RunDirectory(path)
        with suppress(StorageError, OSError):
            if directory.is_run and directory.in_use:
                now = f"{datetime.now().astimezone():%H:%M:%S}"
                say(f"{path}: this run still goes on; what follows is of what was there at {now}")
