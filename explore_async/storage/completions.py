"""Every outcome of a run, written down once: SQLite in WAL mode, group commit, off the event loop.

An outcome is durable when `put` returns: it survives kill -9 (synchronous=NORMAL), or power loss too (FULL).
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
from explore_async.storage.derived import refuse_replaced
from explore_async.storage.rows import COLUMNS, DamagedRow, Row, Stored, fits, key_of, outcome_of, row_of, stored_of
from explore_async.storage.schema import mapped, mend, open_reading, open_writing, transaction

_MOST_KEYS_IN_A_QUERY = 500

T = TypeVar("T")


class CompletionStore:
    """Owns `completions.sqlite`. One thread writes, one reads; `put` calls that meet share a commit."""

    def __init__(self, path: Path, *, durability: Literal["normal", "full"] = "normal") -> None:
        self._path = path
        self._durability = durability
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-read")
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
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
            with mapped(self._path):
                return call()

        return await asyncio.get_running_loop().run_in_executor(executor, guarded)

    def check_place(self) -> None:
        """Raises StorageError where the file that was opened is no longer the one of this name, or has become shorter,
        which it never does by us. Touches the disk.
        """
        refuse_replaced(self._path, self._opened)
        before, self._opened = self._opened, self._path.stat()
        if self._opened.st_size < before.st_size:
            raise StorageError(f"{self._path}: another process has cut it while the run was on. {mend(self._path)}")

    async def holding(self) -> Holding:
        def query() -> Holding:
            return Holding(*self._read.execute(_HOLDING).fetchone())

        return await self._in(self._reader, query)

    async def get_many(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """The stored outcomes of those keys that have one."""

        def query() -> dict[str, Outcome]:
            found: dict[str, Outcome] = {}
            for start in range(0, len(keys), _MOST_KEYS_IN_A_QUERY):
                some = keys[start : start + _MOST_KEYS_IN_A_QUERY]
                marks = ",".join("?" * len(some))
                rows = self._read.execute(f"SELECT {COLUMNS} FROM outcomes WHERE key IN ({marks})", some)  # noqa: S608 - question marks only
                found.update((key_of(row), outcome_of(row)) for row in rows)
            return found

        return await self._in(self._reader, query)

    async def put(self, key: str, request: Request, question: ChatRequest, outcome: Outcome) -> None:
        """Stores the outcome; durable on return."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row_of(key, request, question, outcome), done))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await done

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            rows = [row for row, _ in batch]
            try:
                await self._in(self._writer, lambda rows=rows: self._insert(rows))  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 - whoever waits is told, a bug too
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
            else:
                for _, done in batch:
                    if not done.done():
                        done.set_result(None)

    def _insert(self, rows: Sequence[Row]) -> None:
        with transaction(self._write):
            self._write.executemany("INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    async def discard_failures(self) -> int:
        """Forgets the stored Failures, so that they are asked again; returns how many."""

        def delete() -> int:
            return self._write.execute("DELETE FROM outcomes WHERE failed").rowcount

        return await self._in(self._writer, delete)

    async def all(self) -> list[Stored]:
        """Every row in the order it was written. For small runs and tests: it holds all of them."""

        def query() -> list[Stored]:
            return [stored_of(row) for row in self._read.execute(f"SELECT {COLUMNS} FROM outcomes")]  # noqa: S608 - our names

        return await self._in(self._reader, query)


class StoredReader:
    """Reads stored outcomes beside whoever writes them. Enter it around the work; faults are StorageErrors."""

    def __init__(self, path: Path, *, still: bool = False) -> None:
        """still: nobody writes while this is entered."""
        self._path = path
        self._still = still
        self._connection: sqlite3.Connection
        self._columns: str

    def __enter__(self) -> Self:
        with mapped(self._path):
            self._connection, self._columns = open_reading(self._path, still=self._still)
        if not self._columns:
            self._connection.close()
            raise StorageError(f"{self._path}: no answer is stored yet")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def get_many(self, keys: Sequence[str]) -> dict[str, Stored]:
        """Those of the keys that are stored; at most some hundreds at a time."""
        marks = ",".join("?" * len(keys))
        with mapped(self._path):
            rows = self._connection.execute(f"SELECT {self._columns} FROM outcomes WHERE key IN ({marks})", list(keys))  # noqa: S608 - question marks only
            return {key_of(row): stored_of(row) for row in rows}

    def keys(self, kind: str) -> Iterator[str]:
        """All answers to requests of this kind, in the order in which these were issued. A damaged row anywhere is a
        StorageError before the first: by its kind it might have been left out.
        """
        with mapped(self._path):
            for row in self.rows():
                if not fits(row):
                    raise DamagedRow(key_of(row))
            query = "SELECT key FROM outcomes WHERE kind = ? AND NOT failed ORDER BY ordinal, key"
            for (key,) in self._connection.execute(query, (kind,)):
                yield key.decode()

    def rows(self) -> Iterator[Row]:
        """Every row as it is."""
        with mapped(self._path):
            yield from self._connection.execute(f"SELECT {self._columns} FROM outcomes NOT INDEXED")  # noqa: S608 - our names


@dataclass(frozen=True, slots=True)
class Holding:
    """What a store holds. `last_row` only ever grows, but for lost power and discarded failures; 0 is none."""

    last_row: int = 0
    failures: int = 0


_HOLDING = "SELECT ifnull(max(rowid), 0), (SELECT count(*) FROM outcomes WHERE failed) FROM outcomes"


def holding(path: Path) -> Holding:
    """What is stored, for whoever holds the directory. Raises StorageError where it cannot be told."""
    if not path.is_file() or path.stat().st_size == 0:
        return Holding()
    with mapped(path):
        connection, columns = open_reading(path, still=True)
        with closing(connection):
            return Holding(*connection.execute(_HOLDING).fetchone()) if columns else Holding()


def read_stored(path: Path, key: str) -> Stored | None:
    """One stored outcome, read beside whoever writes; None where there is none. Raises StorageError."""
    with StoredReader(path) as reader:
        return reader.get_many([key]).get(key)
