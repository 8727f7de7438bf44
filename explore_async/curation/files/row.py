"""A row of a file as it was read, and the errors of reading a file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from explore_async.curation.files.batching import characters_in
from explore_async.curation.files.formats import JSON, Kind
from explore_async.curation.files.json_list import LONGEST, NoListError
from explore_async.errors import DataError


class Row(NamedTuple):  # three times as fast to make as a dataclass, and there are millions
    """A row as it was read. `number` is its line (JSON lines, text) or its place in the file, from 1."""

    number: int
    kind: Kind
    value: Mapping[str, Any]
    raw: bytes = b""
    """The row's bytes in its file, without a line break behind them; nothing for Parquet."""
    held: int = 0
    """The memory that a row of Parquet holds, in bytes; 0 for other rows."""

    def size(self) -> int:
        """About the number of characters that the row holds in memory."""
        return self.held or len(self.raw) or characters_in(self.value)

    def json(self) -> bytes:
        """The row as JSON: the bytes of its file, where the file is JSON."""
        return self.raw if self.kind in JSON else orjson.dumps(dict(self.value))

    def json_line(self) -> bytes:
        """The row as one line of JSON. Within a string, JSON has no line break."""
        if self.kind is not Kind.JSON_LIST:
            return self.json()
        return b" ".join(line for part in self.json().split(b"\n") if (line := part.strip(b" \t\r")))


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, with the reason. The rows after it can."""

    number: int
    fault: str


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns errors of reading the file into DataErrors that name it."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: a damaged or truncated gzip file: {error}") from error
    except NoListError as error:
        raise DataError(f"{path}: not a JSON list: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or ' '.join(str(error).split())}") from error


def bounded_lines(content: IO[bytes]) -> Iterator[bytes]:
    """Lines of bounded length: a gzip of a few megabytes can hold a line that is larger than memory."""
    while line := content.readline(LONGEST + 1):
        if len(line) > LONGEST:
            raise OSError(f"a line is longer than {LONGEST >> 20} MiB")
        yield line
