"""Writers of rows, one for each format."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from io import BytesIO, RawIOBase, TextIOWrapper
from pathlib import Path
from typing import IO, Any, Protocol, cast

import orjson

from explore_async.curation.files.formats import JSON, TABLES, Kind, format_of
from explore_async.curation.files.row import Row
from explore_async.curation.files.tables import DELIMITERS
from explore_async.errors import ConfigError, DataError
from explore_async.storage.whole_files import storage_errors

_COMPRESSION_LEVEL = 6


class RowWriter(Protocol):
    """Writes rows to a file that somebody else owns. `close` writes what only the end can, and leaves the file open."""

    def write(self, rows: Sequence[Row]) -> None: ...

    def close(self) -> None: ...


class JsonLinesWriter:
    """Writes rows that were read as JSON lines in the same bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, rows: Sequence[Row]) -> None:
        self._file.writelines(row.json_line() + b"\n" for row in rows)

    def close(self) -> None:
        pass


class JsonListWriter:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._before = b"[\n"

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._file.write(self._before + row.json())
            self._before = b",\n"

    def close(self) -> None:
        self._file.write(b"[]\n" if self._before == b"[\n" else b"\n]\n")


class TextWriter:
    """For rows that were read as text."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, rows: Sequence[Row]) -> None:
        self._file.writelines(row.raw + b"\n" for row in rows)

    def close(self) -> None:
        pass


class TableWriter:
    """Writes rows of texts, numbers, true and false as RFC 4180 has it: the names of the columns, then a line for each
    row; null is empty.
    """

    def __init__(self, file: IO[bytes], kind: Kind, columns: Sequence[str]) -> None:
        self._text = TextIOWrapper(cast("IO[bytes]", _Open(file)), encoding="utf-8", newline="")
        self._lines = csv.DictWriter(self._text, columns, delimiter=DELIMITERS[kind], lineterminator="\r\n")
        self._lines.writeheader()

    def write(self, rows: Sequence[Row]) -> None:
        self._lines.writerows({name: _in_cell(value) for name, value in row.value.items()} for row in rows)

    def close(self) -> None:
        self._text.close()


def _in_cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


class _Open(RawIOBase):
    """A file to write to that stays open when its writer is closed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._file.write(data)
        return len(data)


@contextmanager
def writing(file: IO[bytes], path: Path, schema: Any = None) -> Iterator[RowWriter]:
    """A writer of the format that `path` promises; Parquet needs the schema, a table the names of the columns. The same
    rows make the same bytes.
    """
    form = format_of(path)
    with storage_errors(path), ExitStack() as stack:
        if form.compression == "zstd":
            file = cast("IO[bytes]", stack.enter_context(_zstd(file, path)))
        elif form.compression == "gzip":
            compressed = gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION_LEVEL, fileobj=file, mtime=0)
            file = cast("IO[bytes]", stack.enter_context(compressed))
        yield stack.enter_context(closing(_writer(file, path, form.kind, schema)))


def check_format(path: Path, option: str, *, tables: bool) -> None:
    """Raises ConfigError where the name promises a format that `content_of` does not make. `tables`: it makes these."""
    kind = format_of(path).kind
    if kind not in (*JSON, *(TABLES if tables else ())):
        ends = ".jsonl, .ndjson, .json, .csv or .tsv" if tables else ".jsonl, .ndjson or .json"
        raise ConfigError(f"{option} {path}: it does not write {kind.value}; let the name end in {ends}")


def content_of(rows: Iterable[Mapping[str, Any]], path: Path, columns: Sequence[str] = ()) -> bytes:
    """The content of a file of these rows, in the format that its name promises: JSON lines, a JSON list, or a table of
    these columns.
    """
    kind = format_of(path).kind
    content = BytesIO()
    with writing(content, path, columns) as writer:
        writer.write([Row(number, kind, row, orjson.dumps(row)) for number, row in enumerate(rows, start=1)])
    return content.getvalue()


def _writer(file: IO[bytes], path: Path, kind: Kind, schema: Any) -> RowWriter:
    match kind:
        case Kind.JSON_LINES:
            return JsonLinesWriter(file)
        case Kind.JSON_LIST:
            return JsonListWriter(file)
        case Kind.TEXT:
            return TextWriter(file)
        case Kind.PARQUET:
            from explore_async.curation.files.parquet import ParquetWriter

            return ParquetWriter(file, path, schema)
        case table:
            assert table in TABLES
            return TableWriter(file, table, schema)


def _zstd(file: IO[bytes], path: Path) -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ConfigError(f"{path}: .zst needs pyarrow: pip install 'explore-async[parquet]'") from error
    return pa.CompressedOutputStream(_Open(file), "zstd")


def as_document(content: Any, place: Path | str) -> bytes:
    """As indented JSON. Raises DataError, with where it comes from, for what JSON has no form for or is nested too
    deeply: readers let more through than writers.
    """
    try:
        return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        raise DataError(f"{place}: JSON has no form for some of it ({error}); leave the column out") from error
