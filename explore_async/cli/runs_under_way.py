"""A note for users who work on a run that still goes on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from explore_async.cli.output import say
from explore_async.errors import StorageError


def tell_of_runs_under_way(*sources: Path, quiet: bool = False) -> None:
    """A line for each run that a process works on now, of these, of those in these folders, and of those that these
    files belong to.
    """
    from explore_async.curation.collections.open import runs_inside
    from explore_async.storage.places import is_remote

    local = (source for source in sources if not is_remote(source))
    runs = (runs_inside(source) or [source.parent if source.is_file() else source] for source in local)
    for path in dict.fromkeys(chain.from_iterable(runs)):
        if is_under_way(path):
            now = f"{datetime.now().astimezone():%H:%M:%S}"
            say(f"{path}: this run still goes on; what follows is of what was there at {now}", quiet=quiet)


def is_under_way(path: Path) -> bool:
    """True where another process works on the run now; False also where that cannot be known."""
    from explore_async.storage.directory import RunDirectory

    directory = RunDirectory(path)
    with suppress(StorageError, OSError):
        return directory.is_run and directory.in_use
    return False


def time_of_stats(path: Path, stats: Mapping[str, Any]) -> str:
    """The time of the figures of a run, in a sentence; empty where the start that they are of has ended, and no other
    goes on.
    """
    at = ""
    with suppress(ValueError):
        at = f"{datetime.fromisoformat(str(stats.get('end'))).astimezone():%Y-%m-%d %H:%M:%S}"
    has_ended = stats.get("ending") is not None
    if not is_under_way(path):
        if not stats:
            return "no start of this run has written its figures"
        return "" if has_ended else f"the last start was killed: these are its figures of {at}"
    if not stats:
        return f"{path}: this run still goes on, and has just begun: it writes its figures every few seconds"
    if has_ended:
        return (
            f"{path}: this run still goes on, and has nothing new yet; these are the figures of the start that ended "
            f"at {at}"
        )
    return f"{path}: this run still goes on; these are its figures of {at}"
