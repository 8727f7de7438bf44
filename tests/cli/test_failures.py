"""Exceptions of Python and the system become errors with a message and an exit code; a bug stays a bug."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import typer

from explore_async.cli.failures import as_explore_error
from explore_async.errors import ConfigError, DataError, ExploreError, StorageError, SystemLimit
from rouge_kernels import DedupIndex


@pytest.mark.parametrize(
    ("error", "kind", "part"),
    [
        (StorageError("x is gone"), StorageError, "x is gone"),
        (typer.BadParameter("odd"), ConfigError, "odd"),
        (MemoryError(), SystemLimit, "memory"),
        (RecursionError(), DataError, "deeply"),
        (OSError(28, "No space left on device"), StorageError, "the output: No space left"),
        (OSError(13, "Permission denied", "/x"), StorageError, "/x: Permission denied"),
        (FileNotFoundError(2, "No such file or directory"), StorageError, "working directory"),
    ],
)
def test_what_a_user_can_act_on(error: Exception, kind: type[ExploreError], part: str) -> None:
    """Each kind of exception has an error of ours, which says what happened."""
    known = as_explore_error(error)
    assert type(known) is kind
    assert part in str(known)


def test_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that the system does not start is a limit of the system, whatever Python's text for it."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError) as raised:
        threading.Thread().start()
    assert isinstance(as_explore_error(raised.value), SystemLimit)


def test_a_link_to_itself(tmp_path: Path) -> None:
    """A path that leads to itself is trouble with storage, by whichever exception this Python says it."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises((RuntimeError, OSError)) as raised:
        (tmp_path / "loop").resolve(strict=True)
    assert isinstance(as_explore_error(raised.value), StorageError)


def test_more_texts_than_an_index_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is about the data, and names what can be done; what overflows elsewhere is a bug."""
    monkeypatch.setattr("rouge_kernels.index.MOST_TEXTS", 1)
    with pytest.raises(OverflowError) as raised:
        DedupIndex(0.7).add(["one", "two"])
    known = as_explore_error(raised.value)
    assert isinstance(known, DataError)
    assert "at most 1 texts" in str(known)
    assert "--engine ray" in str(known)


@pytest.mark.parametrize(
    "error", [OverflowError("x"), RuntimeError("can't start new thread"), RuntimeError("Symlink loop"), KeyError("a")]
)
def test_a_bug_stays_a_bug(error: Exception) -> None:
    """Nothing is recognised by its text: what comes from elsewhere keeps its traceback."""
    with pytest.raises(type(error)) as raised:
        raise error
    assert as_explore_error(raised.value) is None
