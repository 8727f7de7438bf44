"""Rows of CSV and TSV: texts by the names in the first line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import BufferedReader
from itertools import chain, islice
from pathlib import Path
from typing import Any

from explore_async.curation.files.formats import Kind
from explore_async.curation.files.json_list import LONGEST
from explore_async.curation.files.row import BadRow, Row, bounded_lines
from explore_async.errors import DataError

DELIMITERS = {Kind.CSV: ",", Kind.TSV: "\t"}
"""By the name of the file."""
DELIMITER_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_NAMED = "sep="
"""Excel's way to name the delimiter in a line before the names of the columns."""
_LOOKED_AT = 100
"""Rows that must have the form that a delimiter gives them."""
_OLD_EXCEL = "; if Excel wrote it in a Western language: iconv -f WINDOWS-1252 -t UTF-8"


class Table:
    """A table that is open for reading, with the delimiter that its first rows have.

    That is the one that the name of the file promises. Only where this one makes no rows of them, and another does, it
    is the other: spreadsheets of many languages write semicolons into a CSV file.
    """

    def __init__(self, content: BufferedReader[Any], kind: Kind, path: Path) -> None:
        csv.field_size_limit(LONGEST)
        self._kind = kind
        self._path = path
        lines = (line.decode(errors="surrogateescape") for line in bounded_lines(content))
        first = list(islice(lines, _LOOKED_AT))
        self._lines_before = 0
        if first and (head := first[0].rstrip("\r\n"))[:-1].lower() == _NAMED and head[-1] in DELIMITER_NAMES:
            self.delimiter = head[-1]
            self._lines_before = 1
        else:
            self.delimiter = _delimiter_of(first, DELIMITERS[kind])
        self._lines = chain(first[self._lines_before :], lines)

    def rows(self) -> Iterator[Row | BadRow]:
        """The rows below the names of the columns; empty lines are none. Quotes as in RFC 4180, with any line breaks.

        DataError where the first line does not name the columns.
        """
        lines = csv.reader(self._lines, delimiter=self.delimiter, strict=True)
        try:
            names = self._names(next(lines, []))
            for number, values in enumerate(filter(None, lines), start=1):
                if len(values) != len(names):
                    yield BadRow(number, f"{len(values)} values for {len(names)} columns")
                elif not _is_text("".join(values)):
                    yield BadRow(number, f"invalid UTF-8{_OLD_EXCEL}")
                else:
                    yield Row(number, self._kind, dict(zip(names, values, strict=True)))
        except csv.Error as error:
            line = lines.line_num + self._lines_before
            raise DataError(f"{self._path}, line {line}: not {self._kind.value}: {error}") from error

    def _names(self, names: list[str]) -> list[str]:
        if not any(names) or not _is_text("".join(names)):
            raise DataError(f"{self._path}: its first line does not name the columns in UTF-8{_OLD_EXCEL}")
        if names.count("") > 1:  # empty columns of a spreadsheet
            names = [name or f"column {number}" for number, name in enumerate(names, start=1)]
        twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
        if twice is not None:
            raise DataError(f"{self._path}: two columns are called {twice!r}; rename one")
        return names


def _delimiter_of(lines: list[str], expected: str) -> str:
    others = [delimiter for delimiter in DELIMITER_NAMES if delimiter != expected]
    return next((delimiter for delimiter in (expected, *others) if _makes_rows(lines, delimiter)), expected)


def _makes_rows(lines: list[str], delimiter: str) -> bool:
    """True where the lines have several columns with different names, and each row has a value for each."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    try:
        rows.extend(filter(None, reader))
    except csv.Error:
        if reader.line_num < len(lines):  # else a row that goes on in later lines
            return False
    names = [name for name in rows[0] if name] if rows else []
    return len(names) > 1 and len(set(names)) == len(names) and all(len(row) == len(rows[0]) for row in rows)


def _is_text(text: str) -> bool:
    """False where bytes were no UTF-8, which Python then holds as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
