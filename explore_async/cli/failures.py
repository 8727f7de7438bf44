"""Exceptions that leave a command, as errors with a message and an exit code."""

from __future__ import annotations

import threading
import traceback

from typer import TyperException

from explore_async.errors import ConfigError, DataError, ExploreError, StorageError, SystemLimit


def as_explore_error(error: Exception) -> ExploreError | None:
    """The error that a user reads; None for an exception that only a bug explains."""
    match error:
        case ExploreError():
            return error
        case TyperException():
            return ConfigError(f"{error.format_message()} (--help lists what the command takes)")
        case MemoryError():
            return SystemLimit("memory (`ulimit -v`, or the limit of a container)")
        case RecursionError():
            return DataError("the data is nested too deeply; this program writes no such data")
        case OSError():
            return StorageError(_text_of(error))
        case OverflowError() if _raised_by_an_index(error):
            return DataError(f"{error}: `dedup --engine ray`, `--scope domain` or `--scope task` does so")
        case RuntimeError() if _raised_by_thread_start(error):
            return SystemLimit("threads (`ulimit -u`, or the limit of a container)")
        case RuntimeError() if _raised_in_pathlib(error):
            return StorageError(f"a link leads to itself: {error}")
    return None


def _text_of(error: OSError) -> str:
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, FileNotFoundError):  # only the working directory has no name of its own
        return "the working directory has been removed; start the command in another directory"
    return f"the output: {error.strerror}" if error.errno else str(error)


def _raised_by_an_index(error: OverflowError) -> bool:
    """True where more texts are compared than one index holds."""
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("rouge_kernels.")


def _raised_by_thread_start(error: RuntimeError) -> bool:
    """True where the system gave no thread: Python has no type of its own for that."""
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return frame.f_code is threading.Thread.start.__code__


def _raised_in_pathlib(error: RuntimeError) -> bool:
    """True where a link leads to itself: `Path.resolve` has no type of its own for that before Python 3.13."""
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__") == "pathlib"
