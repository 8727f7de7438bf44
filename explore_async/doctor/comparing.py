"""Comparison of the files of a run with what the stored completions lead to. It only reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import orjson

_GROWS = ("kept", "dropped", "answers", "exhausted", "children")


class LinesCompared:
    """Compares a file with the lines that it should hold. A context manager, which owns the open file.

    It compares the bytes that the file had when this was made: a run in progress may add others meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        self.behind = 0
        """Number of lines that the file does not hold yet, or only in part."""
        self.differs_at: int | None = None
        """Number of the first line that differs, or that follows the last expected line."""
        self._file = path.open("rb") if path.exists() else None
        self._left = 0 if self._file is None else os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def expect(self, documents: Sequence[Any]) -> None:
        for document in documents:
            self.lines += 1
            if self.differs_at is None:
                self._compare(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))

    def _compare(self, line: bytes) -> None:
        present = b"" if self._file is None else self._file.read(min(len(line), self._left))
        self._left -= len(present)
        if not line.startswith(present):
            self.differs_at = self.lines
        self.behind += len(present) < len(line)

    def end(self) -> None:
        """Ends the comparison: the file must not go on."""
        if self.differs_at is None and self._left:
            self.differs_at = self.lines + 1


def has_grown_from(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> bool:
    """True where one list of task trees can have become the other while a run went on."""
    if len(before) > len(now):
        return False
    return all(_task_has_grown(*pair) for pair in zip(before, now, strict=False))


def _task_has_grown(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    counts = ("kept", "dropped", "answers")
    same = all(
        before.get(name) == value for name, value in now.items() if name not in {*counts, "exhausted", "children"}
    )
    fewer = all(isinstance(before.get(name), int) and before[name] <= now[name] for name in counts)
    children = before.get("children")
    return same and fewer and isinstance(children, list) and has_grown_from(children, now["children"])
