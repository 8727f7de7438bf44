"""The files derived from the stored outcomes: the same outcomes give the same bytes, so replay can check itself."""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from explore_async.errors import StorageError
from explore_async.storage.whole_files import check_regular

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a file went: in bytes and lines, and the CRC-32 of all until there."""

    size: int = 0
    lines: int = 0
    crc: int = 0


class DerivedFile:
    """Owns a file of JSON lines that only ever grows.

    Opened on a file from an earlier run, it first compares what it is given with the bytes that are there and appends
    only beyond them; a difference is a StorageError that names the line. `append` and `take` only remember; `write`
    touches the disk and belongs in a thread.
    """

    def __init__(self, path: Path, begin: Mark | None = None) -> None:
        """`begin`: where it goes on; what stands before has been compared."""
        begin = begin or Mark()
        self.mark = begin
        """How far it goes with all that was appended, written or not."""
        self._path = path
        self._lines: list[bytes] = []
        self._line_number = begin.lines
        try:
            check_regular(path)
            self._file = path.open("r+b" if path.exists() else "w+b")
            self._opened = os.fstat(self._file.fileno())
            self._left_to_compare = self._opened.st_size - begin.size
            self._file.seek(begin.size)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error

    @property
    def replaying(self) -> bool:
        """Whether there are still earlier bytes ahead."""
        return self._left_to_compare > 0

    def begin_anew(self) -> None:
        """Forgets what is there: it is to be derived from other outcomes."""
        assert self.mark == Mark()
        self._file.truncate(0)
        self._left_to_compare = 0

    def append(self, document: Any) -> None:
        line = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        self._lines.append(line)
        mark = self.mark
        self.mark = Mark(mark.size + len(line), mark.lines + 1, zlib.crc32(line, mark.crc))

    def take(self) -> list[bytes]:
        """The lines remembered since the last call, for `write`."""
        lines, self._lines = self._lines, []
        return lines

    def write(self, lines: list[bytes]) -> None:
        try:
            self._refuse_others()
            for line in lines:
                self._line_number += 1
                self._write(line)
            self._file.flush()
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}; nothing is lost: mend it and run again") from error

    def _write(self, line: bytes) -> None:
        if self._left_to_compare:
            there = self._file.read(min(len(line), self._left_to_compare))
            if there != line[: len(there)]:
                raise StorageError(
                    f"{self._path}, line {self._line_number}: what is there is not what the stored answers lead to. "
                    "The file was edited or damaged, or answers that it was made of were lost with the power: "
                    f"{self._remedy}"
                )
            self._left_to_compare -= len(there)
            line = line[len(there) :]
            if not self._left_to_compare:
                self._file.seek(0, os.SEEK_CUR)  # between reading and writing
        if line:
            self._file.write(line)

    def _refuse_others(self) -> None:
        if not self._left_to_compare and os.fstat(self._file.fileno()).st_size != self._file.tell():
            raise StorageError(f"{self._path}: another process has written to it while the run was on: {self._remedy}")

    def check_place(self) -> None:
        """Raises StorageError where the file that was opened is no longer the one of this name."""
        refuse_replaced(self._path, self._opened)

    def finish(self) -> None:
        """The run is complete: what it wrote has to be there, to the byte, and nothing behind it. Reads all of it."""
        if self._left_to_compare:
            raise StorageError(
                f"{self._path}, line {self._line_number + 1}: goes on where the run has ended: {self._remedy}"
            )

        if not begins(self._path, self.mark):
            raise StorageError(f"{self._path}: another process has written to it while the run was on: {self._remedy}")

    @property
    def _remedy(self) -> str:
        return f"`explore-async doctor {self._path.parent} --repair` keeps it aside and derives it anew"

    def close(self) -> None:
        with suppress(OSError):  # `write` flushes: what is still in the buffer it could not write, and has said so
            self._file.close()


def begins(path: Path, mark: Mark) -> bool:
    """Whether the file begins with what is marked."""
    crc, left = 0, mark.size
    with suppress(FileNotFoundError), path.open("rb") as file:
        while left and (block := file.read(min(left, _BLOCK))):
            crc, left = zlib.crc32(block, crc), left - len(block)
    return not left and crc == mark.crc


def refuse_replaced(path: Path, opened: os.stat_result) -> None:
    """Raises StorageError unless the file at this path is the one that was opened."""
    with suppress(OSError):
        if os.path.samestat(opened, path.stat()):
            return
    raise StorageError(
        f"{path}: it was removed, moved or replaced while the run was on; if it can be put back, do so, and run again"
    )
