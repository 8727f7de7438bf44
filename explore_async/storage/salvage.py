"""A damaged completions.sqlite: what can still be read goes into a new one, the damaged one is kept beside it."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from explore_async.errors import StorageError
from explore_async.exploration.values import AnswerSchema, ChatRequest
from explore_async.storage.pages import Pages, Record
from explore_async.storage.rows import FORMAT, DamagedRow, Row, checksum, fits, outcome_of
from explore_async.storage.schema import INDEX, PAGE_BYTES, TABLE, mapped

_ROWS_AT_ONCE = 1000
_COLUMNS, _COLUMNS_OF_1 = 8, 7
_BEING_WRITTEN, _WHOLE, _ASIDE = ".mending", ".mended", ".damaged."


@dataclass(frozen=True, slots=True)
class Salvaged:
    """`lost`: answers that the file still names and no longer holds. Of those that it does not name nobody knows."""

    saved: int
    lost: int
    aside: Path


def readable(path: Path) -> Iterator[Row]:
    """Every whole answer in the file and its log, whatever has become of their structure. Raises StorageError."""
    with mapped(path), Pages(path.resolve()) as pages:
        for kind, _, record in pages.records():
            if kind == "table" and (row := _whole_row(record)) is not None:
                yield row


def salvage(path: Path, told: Callable[[int], None]) -> Salvaged:
    """Puts a sound database in the place of a damaged one. Killed at any instant, the same again finishes it.

    Raises StorageError where no answer can be read: then nothing is changed.
    """
    path = path.resolve()  # where it is a link, the file that it leads to
    whole = path.with_name(path.name + _WHOLE)
    with mapped(path):
        if path.exists():  # else an earlier attempt has set it aside, and only the last step is missing
            saved, lost = _write(path, told)
            if not saved:
                whole.unlink()
                raise StorageError(
                    f"{path}: no answer can be read from it any more. Restore it from a copy, or start over with "
                    "`run CONFIG --fresh`, which keeps all that is here aside"
                )
            aside = set_aside(path)
        else:
            saved, lost, aside = _count(whole), 0, _asides(path)[-1]
        for ending in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
        whole.rename(path)
        _sync(path.parent)
    return Salvaged(saved, lost, aside)


def is_half_mended(path: Path) -> bool:
    """Whether a salvage broke off between setting the damaged file aside and putting the new one in its place."""
    path = path.resolve()
    return not path.exists() and path.with_name(path.name + _WHOLE).exists()


def leftovers(path: Path) -> list[Path]:
    """What a salvage that broke off before that has left: nothing is lost with it."""
    path = path.resolve()
    return [one for ending in (_BEING_WRITTEN, _WHOLE) if path.exists() and (one := Path(f"{path}{ending}")).exists()]


def set_aside(path: Path) -> Path:
    """Gives a file a name of its own beside it; returns the name."""
    number = len(_asides(path)) + 1
    aside = Path(f"{path}{_ASIDE}{number}")
    path.rename(aside)
    return aside


def _asides(path: Path) -> list[Path]:
    """What was set aside of this file, the latest last."""
    numbers = itertools.takewhile(lambda number: Path(f"{path}{_ASIDE}{number}").exists(), itertools.count(1))
    return [Path(f"{path}{_ASIDE}{number}") for number in numbers]


def _write(path: Path, told: Callable[[int], None]) -> tuple[int, int]:
    """How many answers were saved into the new file and how many are lost."""
    begun = Path(f"{path}{_BEING_WRITTEN}")
    begun.unlink(missing_ok=True)
    named: dict[bytes, int] = {}
    rowids: set[int] = set()
    with Pages(path) as pages, closing(sqlite3.connect(begun, isolation_level=None)) as database:
        database.execute(f"PRAGMA page_size={PAGE_BYTES}")
        database.execute("BEGIN")
        database.execute(TABLE)
        database.execute(INDEX)
        database.execute(f"PRAGMA user_version={FORMAT}")
        rows = _told(_rows_in(pages, named, rowids), told)
        failures = []
        while some := list(itertools.islice(rows, _ROWS_AT_ONCE)):
            failures += [row for row in some if row[4]]
            _insert(database, [row for row in some if not row[4]])
        _insert(database, failures)  # last: where a question was asked again, its answer stays
        database.execute("COMMIT")
        saved = int(database.execute("SELECT count(*) FROM outcomes").fetchone()[0])
        gone = [key.decode(errors="replace") for key, rowid in named.items() if rowid not in rowids]
        there = (database.execute("SELECT 1 FROM outcomes WHERE key = ?", (key,)).fetchone() for key in gone)
        lost = sum(one is None for one in there)
    begun.replace(Path(f"{path}{_WHOLE}"))
    _sync(path.parent)
    return saved, lost


def _rows_in(pages: Pages, named: dict[bytes, int], rowids: set[int]) -> Iterator[Row]:
    """The whole rows; notes their rowids, and the keys that the index names with theirs."""
    for kind, rowid, record in pages.records():
        if kind == "index":
            match record:
                case (bytes() as key, int() as of):
                    named[key] = of
        elif (row := _whole_row(record)) is not None:
            rowids.add(rowid)
            yield row


def _whole_row(record: Record) -> Row | None:
    """A row of format 2 by its checksum; of format 1 by its key, the digest of its question, and a whole outcome."""
    if len(record) == _COLUMNS and fits(record):
        return record
    if len(record) != _COLUMNS_OF_1:
        return None
    try:
        outcome_of(record)
        question = orjson.loads(record[5])  # type: ignore[arg-type]
        schema = question.pop("answer_schema")
        asked = ChatRequest(**question, answer_schema=None if schema is None else AnswerSchema(**schema))
        return (*record, checksum(*record)) if asked.key.encode() == record[0] else None
    except (DamagedRow, ValueError, TypeError, KeyError, AttributeError):
        return None


def _insert(database: sqlite3.Connection, rows: list[Row]) -> None:
    texts = (tuple(str(v, "utf-8") if at in {0, 2, 3} else v for at, v in enumerate(row)) for row in rows)
    database.executemany("INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", texts)


def _told(rows: Iterator[Row], told: Callable[[int], None]) -> Iterator[Row]:
    for number, row in enumerate(rows, start=1):
        if number % _ROWS_AT_ONCE == 0:
            told(number)
        yield row


def _count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT count(*) FROM outcomes").fetchone()[0])


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
