"""Salvage of a damaged completions.sqlite: its undamaged rows go into a new file; the damaged one is kept beside it."""

from __future__ import annotations

import itertools
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from explore_async.errors import StorageError
from explore_async.exploration.values import AnswerSchema, ChatRequest
from explore_async.storage.recovery import DamagedDatabase, with_new_first_page
from explore_async.storage.rows import FORMAT, DamagedRow, Row, checksum, is_whole, read_row
from explore_async.storage.schema import INDEX, PAGE_BYTES, TABLE, database_errors

_ROWS_AT_ONCE = 1000
_COLUMNS, _COLUMNS_OF_1 = 8, 7
_UNFINISHED, _COPY, _MENDED, _ASIDE = ".mending", ".mending-copy", ".mended", ".damaged."


@dataclass(frozen=True, slots=True)
class SalvageResult:
    """The rows that a salvage saved and lost.

    `lost`: completions that the file still names and no longer holds. It may have held others that nothing names.
    """

    saved: int
    lost: int
    aside: Path


def has_whole_rows(path: Path) -> bool:
    """True where SQLite reads at least one undamaged row. Raises StorageError."""
    with database_errors(path), closing(DamagedDatabase(path.resolve())) as database:
        return any(_whole_row(row) is not None for row in database.rows())


def salvage(path: Path, report: Callable[[int], None]) -> SalvageResult:
    """Puts a sound database in the place of a damaged one. After a kill at any instant, a second call finishes it.

    `report` gets the number of rows read so far. Raises StorageError where no completion can be read: then nothing is
    changed.
    """
    path = path.resolve()  # where it is a link, the file that it leads to
    mended = path.with_name(path.name + _MENDED)
    with database_errors(path):
        if path.exists():  # else an earlier call has set it aside, and only the last step is missing
            saved, lost = _write(path, report)
            if not saved:
                mended.unlink()
                raise StorageError(
                    f"{path}: no completion can be read from it. Restore it from a copy, or start over with "
                    "`run CONFIG --fresh`, which keeps everything that is here aside"
                )
            aside = set_aside(path)
        else:
            saved, lost, aside = _count(mended), 0, _aside(path, _last_number(path))
        for ending in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
        mended.rename(path)
        _sync(path.parent)
    return SalvageResult(saved, lost, aside)


def is_half_mended(path: Path) -> bool:
    """True where a salvage was killed after it set the damaged file aside, and before the new one took its place."""
    path = path.resolve()
    return not path.exists() and path.with_name(path.name + _MENDED).exists()


def leftovers(path: Path) -> list[Path]:
    """Files of a salvage that was killed before that. They can be removed: the damaged file still has its rows."""
    path = path.resolve()
    if not path.exists():
        return []
    unfinished = [Path(f"{path}{ending}") for ending in (_UNFINISHED, _MENDED, _COPY, f"{_COPY}-wal", f"{_COPY}-shm")]
    return [file for file in unfinished if file.exists()]


def set_aside(path: Path) -> Path:
    """Renames a file to a new name beside it; returns the new path."""
    aside = _aside(path, _last_number(path) + 1)
    path.rename(aside)
    return aside


def _aside(path: Path, number: int) -> Path:
    return Path(f"{path}{_ASIDE}{number}")


def _last_number(path: Path) -> int:
    """The highest number of the files that were set aside from this place, and of their logs; 0 where there is none."""
    form = re.compile(re.escape(path.name + _ASIDE) + r"([0-9]+)(-wal|-shm)?")
    return max((int(found[1]) for file in path.parent.iterdir() if (found := form.fullmatch(file.name))), default=0)


def _write(path: Path, report: Callable[[int], None]) -> tuple[int, int]:
    """Writes all that can be read into a new file. Returns the numbers of saved and of lost completions."""
    unfinished = Path(f"{path}{_UNFINISHED}")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished, isolation_level=None)) as new:
        new.execute(f"PRAGMA page_size={PAGE_BYTES}")
        new.execute("BEGIN")
        new.execute(TABLE)
        new.execute(INDEX)
        new.execute(f"PRAGMA user_version={FORMAT}")
        keys: set[bytes] = set()
        if not _copy_rows(path, new, keys, report):
            with with_new_first_page(path, Path(f"{path}{_COPY}")) as copy:
                _copy_rows(copy, new, keys, report)
        new.execute("COMMIT")
        lost = len(keys - {key.encode() for (key,) in new.execute("SELECT key FROM outcomes")})
        saved = _count_in(new)
    unfinished.replace(Path(f"{path}{_MENDED}"))
    _sync(path.parent)
    return saved, lost


def _copy_rows(path: Path, new: sqlite3.Connection, keys: set[bytes], report: Callable[[int], None]) -> bool:
    """Copies the undamaged rows, and adds the keys that the index names. True where the first page is sound."""
    try:
        damaged = DamagedDatabase(path)
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return False
    with closing(damaged):
        rows = (row for row in map(_whole_row, _reported(damaged.rows(), report)) if row is not None)
        failures = []
        while batch := list(itertools.islice(rows, _ROWS_AT_ONCE)):
            failures += [row for row in batch if row[4]]
            _insert(new, [row for row in batch if not row[4]])
        _insert(new, failures)  # last: of a failure and a completion of one key the completion is kept
        keys |= damaged.keys
        return damaged.has_sound_first_page


def _whole_row(row: Row) -> Row | None:
    """The row in the format of today where it is undamaged, else None.

    A row of format 2 is known by its checksum; one of format 1, which has none, by its key, the digest of its question,
    and by an outcome that can be read.
    """
    if len(row) == _COLUMNS and row[-1] is not None:
        return row if is_whole(row) else None
    row = row[:_COLUMNS_OF_1]
    try:
        stored = read_row(row)
        schema = stored.question["answer_schema"]
        question = ChatRequest(
            **{**stored.question, "answer_schema": None if schema is None else AnswerSchema(**schema)}
        )
        return (*row, checksum(*row)) if question.key == stored.key else None
    except (DamagedRow, ValueError, TypeError, KeyError, AttributeError):
        return None


def _insert(database: sqlite3.Connection, rows: list[Row]) -> None:
    texts = (tuple(str(v, "utf-8") if at in {0, 2, 3} else v for at, v in enumerate(row)) for row in rows)
    database.executemany("INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", texts)


def _reported(rows: Iterator[Row], report: Callable[[int], None]) -> Iterator[Row]:
    for number, row in enumerate(rows, start=1):
        if number % _ROWS_AT_ONCE == 0:
            report(number)
        yield row


def _count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return _count_in(database)


def _count_in(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT count(*) FROM outcomes").fetchone()[0])


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
