"""Opening of completions.sqlite: its tables, its format, the upgrade of an earlier format, and errors of SQLite."""

from __future__ import annotations

import fcntl
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
_ENVIRONMENT_ERRORS = frozenset(
    {
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_PROTOCOL,
    }
)  # fmt: skip
"""SQLite's primary error codes for trouble of the disk, of permissions or locks; all others mean damaged content."""


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turns errors of the database at `path` into StorageErrors that say what to do."""
    try:
        yield
    except DamagedRow as error:
        raise DamagedStore(
            f"{path}: the completion {error.key} is not what was written. {repair_advice(path)}"
        ) from error
    except (sqlite3.Error, OSError) as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF not in _ENVIRONMENT_ERRORS:
            raise DamagedStore(f"{path}: the file is damaged ({error}). {repair_advice(path)}") from error
        raise StorageError(
            f"{path}: {error}. Everything stored before this is kept; fix the cause (disk space, permissions, also "
            f"of {path.name}-wal and -shm) and run again"
        ) from error
    except UnicodeDecodeError as error:  # SQLite quotes damaged bytes in its message
        raise DamagedStore(f"{path}: the file is damaged. {repair_advice(path)}") from error


def repair_advice(path: Path) -> str:
    """Advice for the user of a damaged database."""
    return (
        f"`explore-async doctor {path.parent} --repair` saves every completion that can still be read, and keeps "
        "the damaged file; the next run requests the rest again"
    )


def open_writing(path: Path, *, durability: str) -> sqlite3.Connection:
    """Opens the database for writing. One that is missing is created, one of an earlier format upgraded. Raises
    StorageError.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        if path.stat().st_size == 0:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")  # a repair may replace the first page
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={durability}")
        connection.execute("PRAGMA secure_delete=ON")  # discarded rows must not be left in free pages
        if check_format(connection, path) != FORMAT:
            _upgrade(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Upgrades in one transaction: after a kill at any instant, the file is of the old or of the new format."""
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
    """Commits all writes of the block or none. On a full disk SQLite has rolled them back already."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def check_format(connection: sqlite3.Connection, path: Path) -> int:
    """The format of the database; 0 where it is empty. Raises StorageError where this version does not read it."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > FORMAT:
        raise NewerFormat(
            f"{path}: written in format {version}, this version of explore_async reads {FORMAT}: a newer version wrote "
            f"it, so update; or the file is damaged, and `explore-async doctor {path.parent}` says so"
        )
    columns = [(str(name), str(kind)) for _, name, kind, *_ in connection.execute("PRAGMA table_info(outcomes)")]
    wanted = list(zip(COLUMNS.split(", "), _TYPES, strict=True))[: {0: 0, 1: 7}.get(version)]
    if columns != wanted:
        raise DamagedStore(
            f"{path}: the file is damaged (its table is not that of format {version}). {repair_advice(path)}"
        )
    return version


def open_reading(path: Path, *, still: bool = False) -> tuple[sqlite3.Connection, str]:
    """Opens the database for reading, also beside a writer or without permission to write. Texts come as bytes.

    Returns the connection and the names of the columns, none where it is empty. still: no other process writes
    meanwhile, so SQLite need not put files of its own beside it. Where it does, the connection that is closed last
    removes them, which one that may only read cannot; but what a killed run left in its log stays where it is. Raises
    StorageError for a format that this version does not read, else SQLite's errors.
    """
    place = path.resolve()
    if not place.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    mode = "immutable=1" if _whole(place, still=still) else "mode=ro" if still or _has_lost_log(place) else "mode=rw"
    connection = sqlite3.connect(f"{place.as_uri()}?{mode}", uri=True, check_same_thread=False)
    try:
        connection.execute("PRAGMA query_only=ON")
        version = check_format(connection, path)
    except BaseException:
        connection.close()
        raise
    connection.text_factory = bytes
    return connection, {0: "", 1: COLUMNS_OF_1}.get(version, COLUMNS)


def _whole(place: Path, *, still: bool) -> bool:
    """True where this file holds everything, and stays as it is while it is read."""
    still = still or not os.access(place.parent, os.W_OK) or _is_at_rest_elsewhere(place)
    return still and not _has_log(place)


def _has_log(place: Path) -> bool:
    log = place.with_name(f"{place.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _has_lost_log(place: Path) -> bool:
    """True where a killed process has left completions in its log: no process holds the lock of the directory."""
    if not _has_log(place):
        return False
    try:
        lock = os.open(place.with_name(".lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(lock)


def _is_at_rest_elsewhere(place: Path) -> bool:
    """True where the file is another user's, who could not write the files that SQLite would put beside it for us, and
    no live.json shows a run in progress. If a run begins meanwhile, reading ends with an error at worst.
    """
    return place.stat().st_uid != os.geteuid() and not place.with_name("live.json").exists()
