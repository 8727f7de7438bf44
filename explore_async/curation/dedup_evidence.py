"""Why each dropped row was dropped: a line of JSON with the row, and the kept row that it duplicates."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from explore_async.curation.collections.collection import printable_path
from explore_async.storage.whole_files import storage_errors
from rouge_kernels import Admission


@dataclass(frozen=True, slots=True)
class Located:
    """A text and where it stands: the number of its file among the inputs, and its line or row there."""

    source: int
    number: int
    text: str


class Evidence:
    """Writes to `file`; owns where each kept text stands.

    The kept texts lie in `spool`, a scratch file open for reading and writing, and not in memory. A row's `line` is
    its line where rows are lines, else its place in the file, from 1.
    """

    def __init__(self, file: IO[bytes], spool: IO[bytes], paths: Sequence[Path]) -> None:
        self._file = file
        self._spool = spool
        self._names = [printable_path(path) for path in paths]
        self._sources = array("i")
        self._numbers = array("q")
        self._starts = array("q", [0])

    def write(self, batch: Sequence[Located], admission: Admission) -> None:
        self.remember([one for one, kept in zip(batch, admission.kept, strict=True) if kept])
        for one, nearest, score, lcs in zip(batch, admission.nearest, admission.score, admission.lcs, strict=True):
            if nearest >= 0:
                line = {
                    **self._document(one),
                    "score": float(score),
                    "lcs": int(lcs),
                    "duplicate_of": self._document(self._kept(int(nearest))),
                }
                self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def remember(self, batch: Sequence[Located]) -> None:
        """Note texts that count as kept, in the index's order."""
        self._spool.seek(0, os.SEEK_END)
        for one in batch:
            text = one.text.encode()
            self._spool.write(text)
            self._sources.append(one.source)
            self._numbers.append(one.number)
            self._starts.append(self._starts[-1] + len(text))

    def _kept(self, ordinal: int) -> Located:
        start, end = self._starts[ordinal], self._starts[ordinal + 1]
        self._spool.seek(start)
        return Located(self._sources[ordinal], self._numbers[ordinal], self._spool.read(end - start).decode())

    def _document(self, one: Located) -> dict[str, Any]:
        return {"file": self._names[one.source], "line": one.number, "text": one.text}


@contextmanager
def writing_evidence(file: IO[bytes], path: Path, inputs: Sequence[Path]) -> Iterator[Evidence]:
    """Evidence into `file`, which will take the place of `path`; its scratch file lies beside it, without a name."""
    with storage_errors(path), tempfile.TemporaryFile(dir=path.resolve().parent) as spool:
        yield Evidence(file, spool, inputs)
