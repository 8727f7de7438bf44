"""Opening completions.sqlite: its tables, its format and the way from an earlier one, and what SQLite's errors mean."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from explore_async.errors import DamagedStore, NewerFormat, StorageError
from explore_async.storage.rows import COLUMNS, COLUMNS_OF_1, FORMAT, DamagedRow, checksum

PAGE_BYTES = 4096
TABLE = """CREATE TABLE outcomes (
    key TEXT NOT NULL UNIQUE,
    ordinal INTEGER NOT NULL,
    kind TEXT NOT NULL,
    task_id TEXT NOT NULL,
    failed INTEGER NOT NULL,
    question BLOB NOT NULL,
    outcome BLOB NOT NULL,
    checksum INTEGER NOT NULL DEFAULT 0
)"""
INDEX = "CREATE INDEX failures ON outcomes (failed) WHERE failed"
_TYPES = ("TEXT", "INTEGER", "TEXT", "TEXT", "INTEGER", "BLOB", "BLOB", "INTEGER")
_OF_THE_PLACE = frozenset(
    {
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_PROTOCOL,
    }
)  # fmt: skip
"""SQLite's codes for what the disk or the permissions are at fault for; all others speak of the file's content."""


@contextmanager
def mapped(path: Path) -> Iterator[None]:
    """What goes wrong with the database at `path` is a StorageError that says what to do."""
    try:
        yield
    except DamagedRow as error:
        raise DamagedStore(f"{path}: the answer {error.key} is not what was written. {mend(path)}") from error
    except (sqlite3.Error, OSError) as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF not in _OF_THE_PLACE:
            raise DamagedStore(f"{path}: the file is damaged ({error}). {mend(path)}") from error
        raise StorageError(
            f"{path}: {error}. The answers stored before this are kept; mend the cause (disk space, permissions, also "
            f"of {path.name}-wal and -shm) and run again"
        ) from error
    except UnicodeDecodeError as error:  # of a message in which SQLite quotes what it cannot make sense of
        raise DamagedStore(f"{path}: the file is damaged. {mend(path)}") from error


def mend(path: Path) -> str:
    """What to do about a damaged database."""
    return (
        f"`explore-async doctor {path.parent} --repair` saves every answer that can still be read, and keeps the "
        "damaged file; the next run asks for the rest again"
    )


def open_writing(path: Path, *, durability: str) -> sqlite3.Connection:
    """In the format of today: made where there is none, upgraded where it is of format 1. Raises StorageError."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        if path.stat().st_size == 0:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")  # a repair may replace the first page
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={durability}")
        connection.execute("PRAGMA secure_delete=ON")  # what was discarded must not come back with a repair
        if check_format(connection, path) != FORMAT:
            _bring_up_to_date(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """In one transaction: killed at any instant, the file is of the old format or of the new one."""
    with transaction(connection):
        match check_format(connection, path):
            case 0:
                connection.execute(TABLE)
                connection.execute(INDEX)
            case 1:
                connection.create_function("checksum", len(COLUMNS_OF_1.split()), checksum, deterministic=True)
                connection.execute("ALTER TABLE outcomes ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0")
                connection.execute(f"UPDATE outcomes SET checksum = checksum({COLUMNS_OF_1})")  # noqa: S608 - our names
        connection.execute(f"PRAGMA user_version={FORMAT}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block or nothing of it. SQLite itself may have rolled back already, as where the disk is full."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def check_format(connection: sqlite3.Connection, path: Path) -> int:
    """The format of a database: 0 is that of an empty one. Raises StorageError unless this version reads it."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > FORMAT:
        raise NewerFormat(
            f"{path}: written in format {version}, this version of explore_async reads {FORMAT}: a newer version wrote "
            f"it, so update; or the file is damaged, which `explore-async doctor {path.parent}` tells"
        )
    there = [(str(name), str(kind)) for _, name, kind, *_ in connection.execute("PRAGMA table_info(outcomes)")]
    wanted = list(zip(COLUMNS.split(", "), _TYPES, strict=True))[: {0: 0, 1: 7}.get(version)]
    if there != wanted:
        raise DamagedStore(f"{path}: the file is damaged (its table is not that of format {version}). {mend(path)}")
    return version


def open_reading(path: Path, *, still: bool = False) -> tuple[sqlite3.Connection, str]:
    """To read beside whoever writes, or where nothing can be written; and the columns there are, none in an empty one.

    still: nobody writes meanwhile, so SQLite need not put files of its own beside it. Texts come as bytes. Raises
    StorageError for a format that this version does not read, else SQLite's errors.
    """
    place = path.resolve()
    if not place.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    uri = f"{place.as_uri()}?{'immutable=1' if _whole(place, still=still) else 'mode=ro'}"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
    try:
        version = check_format(connection, path)
    except BaseException:
        connection.close()
        raise
    connection.text_factory = bytes
    return connection, {0: "", 1: COLUMNS_OF_1}.get(version, COLUMNS)


def _whole(place: Path, *, still: bool) -> bool:
    """Whether all is in this one file, and stays so while it is read."""
    log = place.with_name(f"{place.name}-wal")
    still = still or not os.access(place.parent, os.W_OK) or _is_at_rest_elsewhere(place)
    return still and not (log.exists() and log.stat().st_size)


def _is_at_rest_elsewhere(place: Path) -> bool:
    """Whether it is another user's, who could not write the files that SQLite would put beside it for us, and no run
    says by live.json that it is on. Should one begin meanwhile, our reading ends with an error at worst.
    """
    return place.stat().st_uid != os.geteuid() and not place.with_name("live.json").exists()
