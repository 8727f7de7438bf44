"""Rows into files that appear whole or not at all."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol, cast

import orjson

from explore_async.curation.files.formats import Kind, format_of
from explore_async.curation.files.row import Row
from explore_async.errors import DataError, StorageError

_COMPRESSION_LEVEL = 6


class RowWriter(Protocol):
    """Writes rows to a file that somebody else owns. `close` writes what only the end can, and leaves the file open."""

    def write(self, rows: Sequence[Row]) -> None: ...

    def close(self) -> None: ...


class JsonLinesWriter:
    """What was read as JSON lines is written in the very same bytes."""

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


@contextmanager
def replacing(paths: Sequence[Path]) -> Iterator[list[IO[bytes]]]:
    """Files to write instead of these. At the end all of them take their places; after a failure none of them does."""
    with ExitStack() as stack:
        files = [stack.enter_context(_sibling(path)) for path in paths]
        yield files
        for path, file in zip(paths, files, strict=True):
            with storing(path):
                file.flush()
                os.fsync(file.fileno())
        for path, file in zip(paths, files, strict=True):
            with storing(path):
                Path(file.name).replace(path)


@contextmanager
def _sibling(path: Path) -> Iterator[IO[bytes]]:
    """An empty file beside `path`, gone at the end unless it was moved."""
    place = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with storing(path):
            if path.exists() and not path.is_file():
                raise StorageError(f"{path}: not a regular file")
            place.unlink(missing_ok=True)  # of a process that was killed, or laid there for us to follow
            file = place.open("xb")
        try:
            yield file
        finally:
            with suppress(OSError):  # what counts has been flushed by now
                file.close()
    finally:
        with suppress(OSError):
            place.unlink()


@contextmanager
def writing(file: IO[bytes], path: Path, schema: Any = None) -> Iterator[RowWriter]:
    """A writer of the format that `path` promises; Parquet needs the schema. The same rows make the same bytes."""
    form = format_of(path)
    with storing(path), ExitStack() as stack:
        if form.gzipped:
            compressed = gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION_LEVEL, fileobj=file, mtime=0)
            file = cast("IO[bytes]", stack.enter_context(compressed))
        yield stack.enter_context(closing(_writer(file, path, form.kind, schema)))


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


def as_document(content: Any, place: Path | str) -> bytes:
    """As indented JSON. Raises DataError, with where it comes from, for what JSON has no form for or is nested too
    deeply: readers let more through than writers.
    """
    try:
        return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        raise DataError(f"{place}: JSON has no form for some of it ({error}); leave the column out") from error


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """What the disk refuses is a StorageError that names the file."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error
