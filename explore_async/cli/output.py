"""Output of the commands: results go to stdout, messages to stderr, and files appear whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from explore_async.cli.signals import terminable
from explore_async.errors import EXIT_NOTHING_KEPT, EXIT_SIGINT, StorageError
from explore_async.terminal.text import json_line, printable

MADE_UP = "The texts are made up by a simulated server: do not train on them."

_WIDE = 10_000


def say(text: str, *, quiet: bool = False) -> None:
    """One line for people, on stderr."""
    from rich.text import Text

    from explore_async.terminal.console import StderrConsole

    StderrConsole(quiet=quiet).print(Text(printable(text, _WIDE)), soft_wrap=True)


def path_text(path: Path) -> str:
    """The path as it appears in JSON."""
    from explore_async.curation.collections.collection import printable_path

    return printable_path(path)


def print_json(document: dict[str, Any]) -> None:
    """One JSON object, as the last line of stdout. A reader that has left is no error: the work is done."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(json_line(document))
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()
    except OSError as error:
        drop_stdout()
        raise StorageError(f"stdout: {error.strerror}") from error


def flush_stdout() -> None:
    """Writes what stdout still holds; where stdout takes nothing more, drops it."""
    try:
        sys.stdout.flush()
    except OSError:
        drop_stdout()


def drop_stdout() -> None:
    """Sends the rest of stdout to nowhere, so that Python does not fail again when it closes stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Around work whose results appear at its end, or not at all. Ctrl-C ends the process with a message."""
    try:
        with terminable():
            yield
    except KeyboardInterrupt:
        say("stopped; nothing was written")
        sys.exit(EXIT_SIGINT)


@contextmanager
def telling_replaced(*paths: Path | None, quiet: bool = False) -> Iterator[None]:
    """Around work that writes these files: says afterwards which of them were there before."""
    there = [path for path in paths if path is not None and _is_there(path)]
    yield
    for path in there:
        say(f"replaced {path}", quiet=quiet)


def _is_there(path: Path) -> bool:
    from explore_async.storage.places import is_remote

    if is_remote(path):
        return path.is_file()
    return os.path.isfile(path)  # noqa: PTH113 - False for no path at all


@contextmanager
def counting(what: str, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """The same, with a function that shows the count so far."""
    from explore_async.terminal.reporter import Reporter

    with all_or_nothing(), Reporter(quiet=quiet) as reporter:
        yield lambda count: reporter.update(f"{count:,} {what}")


def exit_if_empty(kept: int) -> None:
    """Exits with the documented code where nothing is kept."""
    if not kept:
        sys.exit(EXIT_NOTHING_KEPT)
