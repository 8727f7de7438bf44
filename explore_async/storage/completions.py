"""The store of all outcomes of a run: SQLite in WAL mode, with group commits, in threads beside the event loop.

An outcome is durable when the future of `put` is done: it survives kill -9 (synchronous=NORMAL), or power loss too
(FULL).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

from explore_async.errors import StorageError
from explore_async.exploration.values import ChatRequest, Outcome, Request
from explore_async.storage.derived import check_same_file
from explore_async.storage.rows import (
    COLUMNS,
    DamagedRow,
    Row,
    StoredRequest,
    is_whole,
    make_row,
    read_key,
    read_outcome,
    read_row,
)
from explore_async.storage.schema import database_errors, open_reading, open_writing, repair_advice, transaction

_MOST_KEYS_IN_A_QUERY = 500
_SECONDS_BETWEEN_COMMITS = 0.004
"""Outcomes that come meanwhile share a commit: its way to the thread and back costs as much as several rows."""

T = TypeVar("T")


class CompletionStore:
    """Owns `completions.sqlite`. One thread writes and one reads; outcomes that come shortly after one another share a
    commit.
    """

    def __init__(self, path: Path, *, durability: Literal["normal", "full"] = "normal") -> None:
        self._path = path
        self._durability = durability
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-read")
        self._waiting: list[tuple[Row, Outcome, asyncio.Future[Outcome]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._write: sqlite3.Connection
        self._read: sqlite3.Connection
        self._opened: os.stat_result

    async def __aenter__(self) -> Self:
        try:
            self._write = await self._in(self._writer, self._open)
            self._read = await self._in(self._reader, self._open)
            self._read.text_factory = bytes
            self._opened = await self._in(self._reader, self._path.stat)
        except BaseException:
            self._shut_down()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._flushing is not None and not self._flushing.done():
            await asyncio.wait([self._flushing])
        await self._in(self._reader, self._read.close)
        await self._in(self._writer, self._write.close)
        self._shut_down()

    def _shut_down(self) -> None:
        self._writer.shutdown(wait=False)
        self._reader.shutdown(wait=False)

    def _open(self) -> sqlite3.Connection:
        return open_writing(self._path, durability=self._durability)

    async def _in(self, executor: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        def guarded() -> T:
            with database_errors(self._path):
                return call()

        return await asyncio.get_running_loop().run_in_executor(executor, guarded)

    def check_place(self) -> None:
        """Raises StorageError where the file was replaced or moved since it was opened, or has become shorter,
        which only another process can do. It reads from the disk.
        """
        check_same_file(self._path, self._opened)
        before, self._opened = self._opened, self._path.stat()
        if self._opened.st_size < before.st_size:
            raise StorageError(
                f"{self._path}: another process has cut it while the run was on. {repair_advice(self._path)}"
            )

    async def contents(self) -> StoreContents:
        def query() -> StoreContents:
            return StoreContents(*self._read.execute(_CONTENTS).fetchone())

        return await self._in(self._reader, query)

    async def get_many(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """The outcomes of those keys that are stored."""
        return await self._in(self._reader, lambda: _outcomes(self._read, keys))

    def put(self, key: str, request: Request, question: ChatRequest, outcome: Outcome) -> asyncio.Future[Outcome]:
        """Stores the outcome. The future has the outcome of the key once it is durable: another one, where one was
        stored before.
        """
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((make_row(key, request, question, outcome), outcome, done))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        return done

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            rows = [row for row, _, _ in batch]
            try:
                earlier = await self._in(self._writer, lambda rows=rows: self._insert(rows))  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 - every waiting call gets it, a bug too
                for _, _, done in batch:
                    if not done.done():
                        done.set_exception(error)
            else:
                for row, outcome, done in batch:
                    if not done.done():
                        done.set_result(earlier.get(read_key(row), outcome))
            await asyncio.sleep(_SECONDS_BETWEEN_COMMITS)

    def _insert(self, rows: Sequence[Row]) -> dict[str, Outcome]:
        """Stores the rows whose keys are not there. Returns the outcomes of all keys where some were, else none."""
        with transaction(self._write):
            stored = self._write.executemany("INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            return _outcomes(self._write, list(map(read_key, rows))) if stored.rowcount < len(rows) else {}

    async def discard_failures(self) -> int:
        """Deletes the stored Failures, so that they are requested again. Returns their number."""

        def delete() -> int:
            return self._write.execute("DELETE FROM outcomes WHERE failed").rowcount

        return await self._in(self._writer, delete)

    async def all(self) -> list[StoredRequest]:
        """Every row, in the order of writing. It holds all of them in memory: for small runs and tests."""

        def query() -> list[StoredRequest]:
            return [read_row(row) for row in self._read.execute(f"SELECT {COLUMNS} FROM outcomes")]  # noqa: S608 - our names

        return await self._in(self._reader, query)


def _outcomes(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Outcome]:
    """The outcomes of those keys that are stored."""
    outcomes: dict[str, Outcome] = {}
    for start in range(0, len(keys), _MOST_KEYS_IN_A_QUERY):
        batch = keys[start : start + _MOST_KEYS_IN_A_QUERY]
        marks = ",".join("?" * len(batch))
        rows = connection.execute(f"SELECT {COLUMNS} FROM outcomes WHERE key IN ({marks})", batch)  # noqa: S608 - question marks only
        outcomes.update((read_key(row), read_outcome(row)) for row in rows)
    return outcomes


class StoredReader:
    """Reads stored outcomes, also while a run writes them. A context manager. Its methods raise StorageError."""

    def __init__(self, path: Path, *, still: bool = False) -> None:
        """still: no other process writes while this is entered."""
        self._path = path
        self._still = still
        self._connection: sqlite3.Connection
        self._columns: str

    def __enter__(self) -> Self:
        with database_errors(self._path):
            self._connection, self._columns = open_reading(self._path, still=self._still)
        if not self._columns:
            self._connection.close()
            raise StorageError(f"{self._path}: no completion is stored yet")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def get_many(self, keys: Sequence[str]) -> dict[str, StoredRequest]:
        """The stored requests of these keys, at most a few hundred keys at a time."""
        marks = ",".join("?" * len(keys))
        with database_errors(self._path):
            rows = self._connection.execute(f"SELECT {self._columns} FROM outcomes WHERE key IN ({marks})", list(keys))  # noqa: S608 - question marks only
            return {read_key(row): read_row(row) for row in rows}

    def keys(self, kind: str) -> Iterator[str]:
        """Keys of all completions of this kind, in the order in which they were requested. A damaged row anywhere
        raises StorageError before the first key: without its true kind it might be left out.
        """
        with database_errors(self._path):
            for row in self.rows():
                if not is_whole(row):
                    raise DamagedRow(read_key(row))
            query = "SELECT key FROM outcomes WHERE kind = ? AND NOT failed ORDER BY ordinal, key"
            for (key,) in self._connection.execute(query, (kind,)):
                yield key.decode()

    def rows(self) -> Iterator[Row]:
        """Every row, unchecked."""
        with database_errors(self._path):
            yield from self._connection.execute(f"SELECT {self._columns} FROM outcomes NOT INDEXED")  # noqa: S608 - our names


@dataclass(frozen=True, slots=True)
class StoreContents:
    """Size of a store. `last_row`, 0 in an empty store, grows, except after lost power and discarded failures."""

    last_row: int = 0
    failures: int = 0
    rows: int = 0


_CONTENTS = """SELECT
    (SELECT ifnull(max(rowid), 0) FROM outcomes),
    (SELECT count(*) FROM outcomes WHERE failed),
    (SELECT count(*) FROM outcomes)"""


def read_contents(path: Path) -> StoreContents:
    """Contents of the store, for the process that holds the directory. Raises StorageError."""
    if not path.is_file() or path.stat().st_size == 0:
        return StoreContents()
    with database_errors(path):
        connection, columns = open_reading(path, still=True)
        with closing(connection):
            return StoreContents(*connection.execute(_CONTENTS).fetchone()) if columns else StoreContents()


def read_stored(path: Path, key: str) -> StoredRequest | None:
    """The stored request of this key, read also while a run writes; None where it is missing. Raises StorageError."""
    with StoredReader(path) as reader:
        return reader.get_many([key]).get(key)
