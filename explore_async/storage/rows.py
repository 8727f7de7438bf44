"""A stored outcome as a row of completions.sqlite, with the checksum that tells when a bit of it has changed.

SQLite notices damage to the structure of its file, never to what stands in it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from explore_async.exploration.values import ChatRequest, Completion, Failure, Outcome, Request

FORMAT = 2
COLUMNS = "key, ordinal, kind, task_id, failed, question, outcome, checksum"
COLUMNS_OF_1 = COLUMNS.removesuffix(", checksum")
_VERSION = f"outcomes-{FORMAT}".encode()
"""Part of every checksum, so that no row of another format ever passes for one of this."""
_COLUMNS_OF_1 = 7

Row: TypeAlias = tuple[Any, ...]
"""The COLUMNS as they are written: key, ordinal, kind, task_id, failed, question, outcome, checksum."""


class DamagedRow(Exception):
    """The row of `key` is not what was written. The module's edge makes a StorageError of it."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@dataclass(frozen=True, slots=True)
class Stored:
    """A row: the outcome, and which request it answered. `question` is the ChatRequest as JSON."""

    key: str
    ordinal: int
    kind: str
    task_id: str
    question: Mapping[str, Any]
    outcome: Outcome


def row_of(key: str, request: Request, question: ChatRequest, outcome: Outcome) -> Row:
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
    """CRC-32 over all columns but itself; texts count by their UTF-8. Raises TypeError for what no row holds."""
    key, kind, task_id, question, outcome = (_bytes(fields[number]) for number in (0, 2, 3, 5, 6))
    ordinal, failed = fields[1], fields[4]
    head = b"%b\0%b\0%x\0%b\0%b\0%x\0%x\0" % (_VERSION, key, ordinal, kind, task_id, failed, len(question))
    return zlib.crc32(outcome, zlib.crc32(question, zlib.crc32(head)))


def outcome_of(row: Row) -> Outcome:
    """What a row holds, read with texts as bytes; one of format 1 has no checksum. Raises DamagedRow."""
    if not fits(row):
        raise DamagedRow(key_of(row))
    try:
        fields = orjson.loads(row[6])
        return Failure(**fields) if row[4] else Completion(**fields)
    except (orjson.JSONDecodeError, TypeError) as error:
        raise DamagedRow(key_of(row)) from error


def stored_of(row: Row) -> Stored:
    """The same with what was asked. Raises DamagedRow."""
    outcome = outcome_of(row)
    try:
        return Stored(key_of(row), row[1], row[2].decode(), row[3].decode(), orjson.loads(row[5]), outcome)
    except (orjson.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise DamagedRow(key_of(row)) from error


def fits(row: Row) -> bool:
    """Whether the checksum says that every column is as it was written. A row of format 1 has none to say otherwise."""
    if len(row) == _COLUMNS_OF_1:
        return True
    *fields, found = row
    try:
        return bool(checksum(*fields) == found)
    except TypeError:
        return False


def key_of(row: Row) -> str:
    key = row[0]
    return key.decode(errors="replace") if isinstance(key, bytes) else str(key)


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else value
