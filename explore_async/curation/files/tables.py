"""Rows of CSV and TSV: texts by the names in the first line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from explore_async.curation.files.formats import Kind
from explore_async.curation.files.json_list import LONGEST
from explore_async.curation.files.row import BadRow, Row, bounded_lines
from explore_async.errors import DataError

_DELIMITERS = {Kind.CSV: ",", Kind.TSV: "\t"}


def table_rows(content: IO[bytes], kind: Kind, path: Path) -> Iterator[Row | BadRow]:
    """The rows below the names of the columns; empty lines are none. Quotes as in RFC 4180, with any line breaks.

    DataError where the first line does not name the columns.
    """
    csv.field_size_limit(LONGEST)
    text = (line.decode(errors="surrogateescape") for line in bounded_lines(content))
    lines = csv.reader(text, delimiter=_DELIMITERS[kind], strict=True)
    try:
        names = next(lines, [])
        twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
        if twice is not None:
            raise DataError(f"{path}: two columns are called {twice!r}; rename one")
        if not any(names) or not _is_text("".join(names)):
            raise DataError(f"{path}: its first line does not name the columns in UTF-8")
        for number, values in enumerate(filter(None, lines), start=1):
            if len(values) != len(names):
                yield BadRow(number, f"{len(values)} values for {len(names)} columns")
            elif not _is_text("".join(values)):
                yield BadRow(number, "invalid UTF-8")
            else:
                yield Row(number, kind, dict(zip(names, values, strict=True)))
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num}: not {kind.value}: {error}") from error


def _is_text(text: str) -> bool:
    """False where bytes were no UTF-8, which Python then holds as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
