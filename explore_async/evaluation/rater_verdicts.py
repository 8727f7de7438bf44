"""Verdicts of raters on pairs of answers, in a file of JSON lines.

A verdict is appended as a line and made durable before it counts. The last line of a rater on a pair counts, and one
without a verdict takes it back.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import orjson

from explore_async.curation.collections.documents import Document, check
from explore_async.errors import ConfigError, DataError, StorageError
from explore_async.evaluation.blind import Side
from explore_async.storage.whole_files import check_regular, storage_errors

Choice: TypeAlias = Literal["a", "b", "tie"]
ByRater: TypeAlias = dict[str, dict[str, "Verdict"]]
"""The verdicts of each rater by the ids of the pairs, the latest last."""


class Verdict(Document):
    """A line of the file. `verdict`: the side that is better, null where a verdict is taken back; `left`: the side that
    the rater saw first; `seed`: that of the order of the pairs, one for the whole file.
    """

    id: str
    rater: str
    verdict: Choice | None
    comment: str
    left: Side
    seed: int


class Verdicts:
    """The verdicts of a file. Raises DataError for a line that is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.of: ByRater = {}
        self.seed: int | None = None
        """None where the file has no line."""
        self._file: IO[bytes] | None = None
        self._read()

    def seed_or(self, wanted: int | None) -> int:
        """The seed of the file, or the wanted one, or 0. Raises ConfigError where file and wish differ."""
        if None not in {self.seed, wanted} and wanted != self.seed:
            begun = f"{self.path} was begun with seed {self.seed}"
            raise ConfigError(f"--seed {wanted}: {begun}; leave --seed out, or name another file by --verdicts")
        return self.seed if self.seed is not None else wanted or 0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """While entered, this process alone can write verdicts there. Raises StorageError where another one does."""
        with storage_errors(self.path):
            check_regular(self.path)
            file = self.path.open("ab", buffering=0)
        with file:
            with storage_errors(self.path):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise StorageError(f"{self.path}: another `compare` takes verdicts there; use its page") from error
            self._read()
            self._file = file
            with storage_errors(self.path):
                self._end_last_line()
            try:
                yield
            finally:
                self._file = None

    def add(self, verdict: Verdict) -> None:
        """Writes the verdict and counts it. Raises StorageError, and then it neither counts nor stays in the file."""
        assert self._file is not None
        line = orjson.dumps(verdict.model_dump(), option=orjson.OPT_APPEND_NEWLINE)
        with storage_errors(self.path):
            before = self._file.seek(0, os.SEEK_END)
            written = self._file.write(line)
            try:
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(before)
                raise
            if written != len(line):
                self._file.truncate(before)  # half a line would be a fault of the file
                raise StorageError(f"{self.path}: no space is left for a verdict")
        self._take(verdict)

    def _read(self) -> None:
        self.of = {}
        for number, line in enumerate(_lines(self.path), start=1):
            self._take(_verdict(line, f"{self.path}, line {number}"))

    def _end_last_line(self) -> None:
        assert self._file is not None
        body = self.path.read_bytes()
        if body and not body.endswith(b"\n"):
            whole = b"\n".join(_lines(self.path))
            self._file.truncate(len(whole))
            self._file.write(b"\n" if whole else b"")

    def _take(self, verdict: Verdict) -> None:
        self.seed = verdict.seed
        own = self.of.setdefault(verdict.rater, {})
        own.pop(verdict.id, None)
        if verdict.verdict is not None:
            own[verdict.id] = verdict


def _verdict(line: bytes, place: str) -> Verdict:
    document = _json(line)
    if not isinstance(document, dict):
        raise DataError(f"{place}: not a line that compare wrote")
    check(document, Verdict, place)
    return Verdict(**document)


def _lines(path: Path) -> list[bytes]:
    """All lines without their ends. What a power loss left of one at the end is left out: it was never confirmed."""
    with storage_errors(path):
        check_regular(path)
        body = path.read_bytes() if path.exists() else b""
    *lines, last = body.split(b"\n")
    return [*lines, last] if _json(last) is not None else lines


def _json(line: bytes) -> Any:
    """None where it is no JSON."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
