"""Files derived from the stored outcomes. The same outcomes give the same bytes, so a replay can check itself."""

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
    """A position in a file: the bytes and lines before it, and their CRC-32."""

    size: int = 0
    lines: int = 0
    crc: int = 0


class DerivedFile:
    """Owns a file of JSON lines that only grows.

    Where the file exists, the new lines are compared with its bytes, and only what follows these is appended; a
    difference is a StorageError that names the line. `append` and `take` work in memory; `write` uses the disk and
    belongs in a thread.
    """

    def __init__(self, path: Path, begin: Mark | None = None) -> None:
        """begin: the position at which to go on; everything before it has been compared."""
        begin = begin or Mark()
        self._size, self._number, self._crc = begin.size, begin.lines, begin.crc  # of all appended lines
        self._path = path
        self._lines: list[bytes] = []
        self._line_number = begin.lines
        self._difference: str | None = None
        """The first one that was met: what comes after it can't be compared."""
        try:
            check_regular(path)
            self._file = path.open("r+b" if path.exists() else "w+b")
            self._opened = os.fstat(self._file.fileno())
            self._left_to_compare = self._opened.st_size - begin.size
            self._file.seek(begin.size)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error

    @property
    def mark(self) -> Mark:
        """The end of all appended lines, written or not."""
        return Mark(self._size, self._number, self._crc)

    @property
    def replaying(self) -> bool:
        """True while a replay still compares its bytes with those that an earlier start wrote."""
        return self._left_to_compare > 0

    def start_over(self) -> None:
        """Empties the file: it will be derived from other outcomes."""
        assert self.mark == Mark()
        self._file.truncate(0)
        self._left_to_compare = 0

    def append(self, document: Any) -> None:
        line = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        self._lines.append(line)
        self._size += len(line)
        self._number += 1
        self._crc = zlib.crc32(line, self._crc)

    def take(self) -> list[bytes]:
        """The lines appended since the last call, for `write`."""
        lines, self._lines = self._lines, []
        return lines

    def write(self, lines: list[bytes]) -> None:
        if self._difference is not None:
            raise StorageError(self._difference)
        try:
            self._check_size()
            for line in lines:
                self._line_number += 1
                self._write(line)
            self._file.flush()
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}; nothing is lost: fix this and run again") from error

    def _write(self, line: bytes) -> None:
        if self._left_to_compare:
            present = self._file.read(min(len(line), self._left_to_compare))
            if present != line[: len(present)]:
                self._difference = (
                    f"{self._path}, line {self._line_number}: the file is not what the stored completions lead to. "
                    "It was edited or damaged, or completions that it was made of were lost with the power: "
                    f"{self._remedy}"
                )
                raise StorageError(self._difference)
            self._left_to_compare -= len(present)
            line = line[len(present) :]
            if not self._left_to_compare:
                self._file.seek(0, os.SEEK_CUR)  # between reading and writing
        if line:
            self._file.write(line)

    def _check_size(self) -> None:
        if not self._left_to_compare and os.fstat(self._file.fileno()).st_size != self._file.tell():
            raise StorageError(f"{self._path}: another process wrote to it during the run: {self._remedy}")

    def check_place(self) -> None:
        """Raises StorageError where the file was removed, moved or replaced since it was opened."""
        check_same_file(self._path, self._opened)

    def finish(self) -> None:
        """Checks the file of a complete run: it has to hold all lines and nothing more. Reads all of it."""
        if self._left_to_compare:
            raise StorageError(
                f"{self._path}, line {self._line_number + 1}: it goes on behind the end of the run: {self._remedy}"
            )

        if not begins_with(self._path, self.mark):
            raise StorageError(f"{self._path}: another process wrote to it during the run: {self._remedy}")

    @property
    def _remedy(self) -> str:
        return f"`explore-async doctor {self._path.parent} --repair` keeps it aside and derives it again"

    def close(self) -> None:
        with suppress(OSError):  # what is still buffered `write` could not write, and it raised an error
            self._file.close()


def begins_with(path: Path, mark: Mark) -> bool:
    """True where the bytes of the file before the mark are unchanged."""
    crc, left = 0, mark.size
    with suppress(FileNotFoundError), path.open("rb") as file:
        while left and (block := file.read(min(left, _BLOCK))):
            crc, left = zlib.crc32(block, crc), left - len(block)
    return not left and crc == mark.crc


def check_same_file(path: Path, opened: os.stat_result) -> None:
    """Raises StorageError unless the file at this path is the one that was opened."""
    with suppress(OSError):
        if os.path.samestat(opened, path.stat()):
            return
    raise StorageError(
        f"{path}: it was removed, moved or replaced during the run; put it back if you can, and run again"
    )
