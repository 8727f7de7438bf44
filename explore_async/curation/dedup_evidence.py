"""Evidence of dedup: for each dropped row a line of JSON with the row, and with the kept row that it duplicates."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from explore_async.curation.collections.collection import printable_path
from explore_async.storage.places import scratch_file
from explore_async.storage.whole_files import storage_errors
from rouge_kernels import Admission


@dataclass(frozen=True, slots=True)
class PlacedText:
    """A text with its place: the number of its file among the inputs, and its line or row there."""

    source: int
    number: int
    text: str


class EvidenceWriter:
    """Writes to `file`; owns the places of the kept texts.

    The kept texts are in `spool`, a scratch file open for reading and writing, and not in memory. A row's `line` is its
    line where rows are lines, else its position in the file, from 1.
    """

    def __init__(self, file: IO[bytes], spool: IO[bytes], paths: Sequence[Path]) -> None:
        self._file = file
        self._spool = spool
        self._names = [printable_path(path) for path in paths]
        self._sources = array("i")
        self._numbers = array("q")
        self._starts = array("q", [0])

    def write(self, batch: Sequence[PlacedText], admission: Admission) -> None:
        self.remember([text for text, kept in zip(batch, admission.kept, strict=True) if kept])
        for text, nearest, score, lcs in zip(batch, admission.nearest, admission.score, admission.lcs, strict=True):
            if nearest >= 0:
                line = {
                    **self._document(text),
                    "score": float(score),
                    "lcs": int(lcs),
                    "duplicate_of": self._document(self._kept(int(nearest))),
                }
                self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def remember(self, batch: Sequence[PlacedText]) -> None:
        """Notes texts that count as kept, in the order of the index."""
        self._spool.seek(0, os.SEEK_END)
        for placed in batch:
            content = placed.text.encode()
            self._spool.write(content)
            self._sources.append(placed.source)
            self._numbers.append(placed.number)
            self._starts.append(self._starts[-1] + len(content))

    def _kept(self, ordinal: int) -> PlacedText:
        start, end = self._starts[ordinal], self._starts[ordinal + 1]
        self._spool.seek(start)
        return PlacedText(self._sources[ordinal], self._numbers[ordinal], self._spool.read(end - start).decode())

    def _document(self, placed: PlacedText) -> dict[str, Any]:
        return {"file": self._names[placed.source], "line": placed.number, "text": placed.text}


@contextmanager
def writing_evidence(file: IO[bytes], path: Path, inputs: Sequence[Path]) -> Iterator[EvidenceWriter]:
    """Writes evidence into `file`, which takes the place of `path` later; its scratch file beside it has no name."""
    with storage_errors(path), scratch_file(path) as spool:
        yield EvidenceWriter(file, spool, inputs)
