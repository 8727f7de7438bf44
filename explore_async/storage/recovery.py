"""Rows of a damaged database, read by SQLite itself wherever it can still reach them.

SQLite stops at the first damaged page. Each page but the root of the table is reached by a range of rowids, so reading
goes on behind the damaged range. A first page that cannot be read is replaced, in a copy, by that of a new store: it
only holds where the tables begin. Whatever comes out is checked by the reader: it may be nonsense.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from explore_async.storage.rows import COLUMNS, COLUMNS_OF_1, Row
from explore_async.storage.schema import INDEX, PAGE_BYTES, TABLE

_SMALLEST_ROW_BYTES = 100
_SLACK_ROWS = 100
_DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""Errors of SQLite at a damaged page; the second, where its message quotes bytes of the page."""
_INDEX = "sqlite_autoindex_outcomes_1"
_FIRST_PAGE = [("outcomes", 2), (_INDEX, 3), ("failures", 4)]
"""The tables and indexes of every store of ours, with the pages at which they begin."""


class DamagedDatabase:
    """A database that may be damaged anywhere, opened for reading without a change to it.

    The constructor raises sqlite3.Error where SQLite cannot make out its first page.
    """

    def __init__(self, path: Path) -> None:
        log = path.with_name(f"{path.name}-wal")
        in_log = log.exists() and log.stat().st_size > 0
        self._connection = sqlite3.connect(f"{path.as_uri()}?{'mode=ro' if in_log else 'immutable=1'}", uri=True)
        try:
            self._connection.text_factory = bytes
            self._connection.execute("PRAGMA writable_schema=ON")  # opens a file that is shorter than it says
            found = self._connection.execute("SELECT name, rootpage FROM sqlite_schema").fetchall()
            columns = [name.decode() for _, name, *_ in self._connection.execute("PRAGMA table_info(outcomes)")]
            pages = self._connection.execute("PRAGMA page_count").fetchone()[0]
        except BaseException:
            self._connection.close()
            raise
        expected = (COLUMNS.split(", "), COLUMNS_OF_1.split(", "))
        self.has_sound_first_page = (
            found == [(name.encode(), page) for name, page in _FIRST_PAGE]
            and columns in expected
            and pages >= path.stat().st_size // PAGE_BYTES
        )
        self._columns = COLUMNS if columns == expected[0] else COLUMNS_OF_1
        self.keys: set[bytes] = set()
        """Keys that the index names, from both of its ends as far as SQLite can read it."""
        size = path.stat().st_size + (log.stat().st_size if in_log else 0)
        self._last_rowid = self._read_index(size // _SMALLEST_ROW_BYTES)

    def close(self) -> None:
        self._connection.close()

    def rows(self) -> Iterator[Row]:
        """Every row that SQLite can reach, some perhaps twice."""
        query = f"SELECT {self._columns} FROM outcomes NOT INDEXED WHERE rowid >= ?"  # noqa: S608 - our names
        start = 0
        while True:
            read = 0
            try:
                for row in self._connection.execute(query, (start,)):
                    read += 1
                    yield row
            except _DAMAGE:
                start += read + 1  # not the last rowid and 1: a damaged page may give any
                if start > self._last_rowid:
                    return
            else:
                return

    def _read_index(self, most: int) -> int:
        """Notes its keys. Returns a rowid, at most `most`, that hardly any row exceeds. A part of the index tells it:
        keys are in no order of rowids.
        """
        last = 0
        for order in ("ASC", "DESC"):
            query = f"SELECT key, rowid FROM outcomes INDEXED BY {_INDEX} ORDER BY key {order}"  # noqa: S608 - our names
            with suppress(*_DAMAGE):
                for key, rowid in self._connection.execute(query):
                    self.keys.add(key)
                    last = max(last, rowid)
                break
        return min(last + last // 10 + _SLACK_ROWS, most) if last else most


@contextmanager
def with_new_first_page(path: Path, copy: Path) -> Iterator[Path]:
    """A copy of the database and its log, with the first page of a new store. Its file is removed at the end."""
    places = [copy, *(copy.with_name(copy.name + ending) for ending in ("-wal", "-shm"))]
    try:
        for place in places:
            place.unlink(missing_ok=True)
        with closing(sqlite3.connect(copy)) as database:
            database.execute(f"PRAGMA page_size={PAGE_BYTES}")
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(TABLE.replace(" DEFAULT 0", "").replace("checksum INTEGER NOT NULL", "checksum INTEGER"))
            database.execute(INDEX)
        first = copy.read_bytes()[:PAGE_BYTES]
        shutil.copyfile(path, copy)
        log = path.with_name(f"{path.name}-wal")
        if log.exists():
            shutil.copyfile(log, places[1])
        with copy.open("r+b") as file:
            pages = max(path.stat().st_size // PAGE_BYTES, 1)
            file.write(first[:28] + pages.to_bytes(4) + first[32:])  # sqlite.org/fileformat2.html: size of the database
        yield copy
    finally:
        for place in places:
            place.unlink(missing_ok=True)
