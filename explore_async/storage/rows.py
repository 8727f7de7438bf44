"""Rows of completions.sqlite: a request, its outcome, and a checksum that shows when a bit of them has changed.

SQLite notices damage to the structure of its file, but not to the values in it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from explore_async.exploration.values import ChatRequest, Completion, Failure, Outcome, Request

FORMAT = 3
"""1 has no checksums. 3 has the table of 2, and completions with the model's reasoning, which version 2 cannot read."""
COLUMNS = "key, ordinal, kind, task_id, failed, question, outcome, checksum"
COLUMNS_OF_1 = COLUMNS.removesuffix(", checksum")
_VERSION = b"outcomes-2"
"""The table's format. Part of every checksum, so that no row of another table passes as one of this table."""
_COLUMNS_OF_1 = 7

Row: TypeAlias = tuple[Any, ...]
"""Values of the COLUMNS, as they are written: key, ordinal, kind, task_id, failed, question, outcome, checksum."""


class DamagedRow(Exception):
    """The row of `key` is not what was written. `database_errors` turns it into a DamagedStore error."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A stored request with its outcome. `question` is the ChatRequest as JSON."""

    key: str
    ordinal: int
    kind: str
    task_id: str
    question: Mapping[str, Any]
    outcome: Outcome


def make_row(key: str, request: Request, question: ChatRequest, outcome: Outcome) -> Row:
    fields = (
        key,
        request.ordinal,
        request.kind,
        request.task_id,
        isinstance(outcome, Failure),
        orjson.dumps(question),
        orjson.dumps(outcome),
    )
    return *fields, checksum(*fields)


def checksum(*fields: Any) -> int:
    """CRC-32 of all columns but itself, with texts in UTF-8. Raises TypeError for values that no row holds."""
    key, kind, task_id, question, outcome = (_bytes(fields[number]) for number in (0, 2, 3, 5, 6))
    ordinal, failed = fields[1], fields[4]
    head = b"%b\0%b\0%x\0%b\0%b\0%x\0%x\0" % (_VERSION, key, ordinal, kind, task_id, failed, len(question))
    return zlib.crc32(outcome, zlib.crc32(question, zlib.crc32(head)))


def read_outcome(row: Row) -> Outcome:
    """The outcome in a row that was read with texts as bytes; a row of format 1 has no checksum. Raises DamagedRow."""
    if not is_whole(row):
        raise DamagedRow(read_key(row))
    try:
        fields = orjson.loads(row[6])
        return Failure(**fields) if row[4] else Completion(**fields)
    except (orjson.JSONDecodeError, TypeError) as error:
        raise DamagedRow(read_key(row)) from error


def read_row(row: Row) -> StoredRequest:
    """The outcome and its request. Raises DamagedRow."""
    outcome = read_outcome(row)
    try:
        return StoredRequest(read_key(row), row[1], row[2].decode(), row[3].decode(), orjson.loads(row[5]), outcome)
    except (orjson.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise DamagedRow(read_key(row)) from error


def is_whole(row: Row) -> bool:
    """True where the checksum fits the columns. A row of format 1 has none, and counts as whole."""
    if len(row) == _COLUMNS_OF_1:
        return True
    *fields, stored = row
    try:
        return bool(checksum(*fields) == stored)
    except TypeError:
        return False


def read_key(row: Row) -> str:
    key = row[0]
    return key.decode(errors="replace") if isinstance(key, bytes) else str(key)


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else value
