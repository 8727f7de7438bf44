"""Reads rows from a file of any format, one after another."""

from __future__ import annotations

import gzip
import stat
from collections.abc import Iterable, Iterator
from functools import partial
from io import BufferedReader, RawIOBase
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

import orjson

from explore_async.curation.files.encodings import as_utf8
from explore_async.curation.files.envelopes import rows_within
from explore_async.curation.files.formats import TABLES, Format, Kind, format_of
from explore_async.curation.files.json_list import LONGEST, list_elements
from explore_async.curation.files.json_values import fault_of, json_value
from explore_async.curation.files.row import BadRow, Row, bounded_lines, reading
from explore_async.curation.files.tables import DELIMITER_NAMES, DELIMITERS, Table
from explore_async.curation.files.turns import TALKS, are_turns
from explore_async.errors import ConfigError, DataError

_CHUNK = 1 << 18
_BINARY = {b"\x1f\x8b": ("gzip", ".gz"), b"\x28\xb5\x2f\xfd": ("zstd", ".zst"), b"PAR1\x15": ("Parquet", ".parquet")}
"""Beginnings of files that are no text, each with the name of the format and the end of the names of its files."""


class Source:
    """A file of rows. Owns it while it is read.

    A line of text makes a row of one column, `text_column`. A file called .json holds a list, JSON lines, or one
    object, which is a row or holds the rows. DataError where the file cannot be read, here or later: missing, not a
    regular file, a damaged gzip or Parquet, not a JSON list. A fault of a single row is a BadRow.
    """

    def __init__(self, path: Path, text_column: str = "text", form: Format | None = None) -> None:
        """`form`: None takes the format that the name gives."""
        self.path = path
        self.format = form or format_of(path)
        self._kind = self.format.kind
        self._text_column = text_column
        self._file: IO[bytes] | None = None
        self._read = 0
        self.note: str | None = None
        """After reading: says in which way the file was read, where its name promises another one."""
        with reading(path):
            status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: {'a directory' if stat.S_ISDIR(status.st_mode) else 'not a regular file'}")
        self.size = status.st_size

    @property
    def position(self) -> int:
        """The number of bytes read so far, out of `size`."""
        return self._file.tell() if self._file is not None else self._read

    def place(self, number: int) -> str:
        """A row's place in words."""
        unit = "line" if self._kind in {Kind.JSON_LINES, Kind.TEXT} else "row"
        return f"{self.path}, {unit} {number}"

    def __iter__(self) -> Iterator[Row | BadRow]:
        with reading(self.path), self.path.open("rb") as file:
            self._file = file
            try:
                yield from self._rows(file)
            finally:
                self._file, self._read = None, self.size

    def _rows(self, file: BufferedReader) -> Iterator[Row | BadRow]:
        if self.format.compression is None:
            if self._kind is not Kind.PARQUET:
                _check_text(file, self.path)
            yield from self._rows_of(file)
            return
        unpacked = gzip.GzipFile(fileobj=file) if self.format.compression == "gzip" else _zstd(file, self.path)
        with BufferedReader(unpacked, _CHUNK) as content:
            yield from self._rows_of(content)

    def _rows_of(self, content: BufferedReader[Any]) -> Iterator[Row | BadRow]:
        if self._kind is Kind.PARQUET:
            from explore_async.curation.files import parquet

            for number, record in enumerate(parquet.records(content, self.path), start=1):
                yield Row(number, Kind.PARQUET, record, held=record.nbytes)
            return
        content = as_utf8(content)
        match self.format.kind:
            case Kind.JSON_LINES:
                yield from _json_lines(enumerate(bounded_lines(content), start=1))
            case Kind.JSON_LIST if content.peek(1).lstrip().startswith(b"{"):
                yield from self._objects(content)
            case Kind.JSON_LIST:
                for number, element in enumerate(list_elements(iter(partial(content.read, _CHUNK), b"")), start=1):
                    yield _json_row(number, Kind.JSON_LIST, element)
            case Kind.TEXT:
                for number, line in enumerate(bounded_lines(content), start=1):
                    yield _text_row(number, self._text_column, line.removesuffix(b"\n"))
            case kind:
                assert kind in TABLES
                table = Table(content, kind, self.path)
                if table.delimiter != DELIMITERS[kind]:
                    self.note = f"{self.path}: read with {DELIMITER_NAMES[table.delimiter]} between its values"
                yield from table.rows()

    def _objects(self, content: BufferedReader[Any]) -> Iterator[Row | BadRow]:
        """JSON lines, or one object, in a file whose name promises a list."""
        lines = ((number, line) for number, line in enumerate(bounded_lines(content), start=1) if line.strip())
        number, first = next(lines)
        second = next(lines, None)
        if second is not None and first.rstrip().endswith(b"}"):
            self._kind = Kind.JSON_LINES
            yield from _json_lines(chain([(number, first), second], lines))
            return
        rest = b"" if second is None else second[1] + content.read(LONGEST + 1)
        if len(rest) > LONGEST:
            raise OSError(
                f"an object is longer than {LONGEST >> 20} MiB; make JSON lines of its rows (jq -c '.data[]')"
            )
        whole = (first + rest).strip()
        try:
            found = rows_within(json_value(whole))
        except orjson.JSONDecodeError:
            found = None
        if found is None:
            yield _json_row(1, Kind.JSON_LIST, whole)
            return
        self.note = f"{self.path}: an object with rows, read from {found.place}"
        for number, row in enumerate(found.rows, start=1):
            yield _json_row(number, Kind.JSON_LIST, orjson.dumps(row))


def _check_text(content: BufferedReader[Any], path: Path) -> None:
    """DataError for a file whose first bytes are those of another format than its name promises."""
    begin = content.peek(max(map(len, _BINARY)))
    found = next((named for magic, named in _BINARY.items() if begin.startswith(magic)), None)
    if found is not None:
        raise DataError(f"{path}: it holds {found[0]}, and its name does not end in {found[1]}; give it such a name")


def _json_lines(lines: Iterable[tuple[int, bytes]]) -> Iterator[Row | BadRow]:
    for number, line in lines:
        if line.strip():
            yield _json_row(number, Kind.JSON_LINES, line.removesuffix(b"\n"))


def _zstd(file: IO[bytes], path: Path) -> RawIOBase:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ConfigError(f"{path}: .zst needs pyarrow: pip install 'explore-async[parquet]'") from error
    return cast("RawIOBase", pa.CompressedInputStream(file, "zstd"))


def _json_row(number: int, kind: Kind, raw: bytes) -> Row | BadRow:
    try:
        value = json_value(raw)
    except orjson.JSONDecodeError as error:
        return BadRow(number, fault_of(raw, error))
    if are_turns(value):
        value = {TALKS[0]: value}  # a conversation without anything around it
    return Row(number, kind, value, raw) if isinstance(value, dict) else BadRow(number, "not a JSON object")


def _text_row(number: int, column: str, raw: bytes) -> Row | BadRow:
    try:
        return Row(number, Kind.TEXT, {column: raw.removesuffix(b"\r").decode()}, raw)
    except UnicodeDecodeError as error:
        return BadRow(number, f"invalid UTF-8 at byte {error.start + 1}")
