"""Every outcome of a run, written down once: SQLite in WAL mode, group commit, off the event loop.

An outcome is durable when `put` returns: it survives kill -9 (synchronous=NORMAL), or power loss too (FULL).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import orjson

from explore_async.errors import StorageError
from explore_async.exploration.values import ChatRequest, Completion, Failure, Kind, Outcome, Request

FORMAT = 1
_MOST_KEYS_IN_A_QUERY = 500
_SCHEMA = """
CREATE TABLE IF NOT EXISTS outcomes (
    key TEXT NOT NULL UNIQUE,
    ordinal INTEGER NOT NULL,
    kind TEXT NOT NULL,
    task_id TEXT NOT NULL,
    failed INTEGER NOT NULL,
    question BLOB NOT NULL,
    outcome BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS failures ON outcomes (failed) WHERE failed;
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored:
    """A row: the outcome, and which request it answered. `question` is the ChatRequest as JSON."""

    key: str
    ordinal: int
    kind: Kind
    task_id: str
    question: Mapping[str, Any]
    outcome: Outcome


class CompletionStore:
    """Owns `completions.sqlite`. One thread writes, one reads; `put` calls that meet share a commit."""

    def __init__(self, path: Path, *, durability: Literal["normal", "full"] = "normal") -> None:
        self._path = path
        self._durability = durability
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-read")
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._write: sqlite3.Connection
        self._read: sqlite3.Connection

    async def __aenter__(self) -> Self:
        try:
            self._write = await self._in(self._writer, self._open)
            self._read = await self._in(self._reader, self._open)
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
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={self._durability}")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, FORMAT):
            connection.close()
            raise StorageError(
                f"{self._path}: written in format {version}, this version of explore_async reads {FORMAT}: update it"
            )
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version={FORMAT}")
        return connection

    async def _in(self, executor: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        def guarded() -> T:
            with _mapped(self._path):
                return call()

        return await asyncio.get_running_loop().run_in_executor(executor, guarded)

    async def count(self) -> int:
        """How many outcomes are stored."""

        def query() -> int:
            return int(self._read.execute("SELECT count(*) FROM outcomes").fetchone()[0])

        return await self._in(self._reader, query)

    async def get_many(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """The stored outcomes of those keys that have one."""

        def query() -> dict[str, Outcome]:
            found: dict[str, Outcome] = {}
            for start in range(0, len(keys), _MOST_KEYS_IN_A_QUERY):
                some = keys[start : start + _MOST_KEYS_IN_A_QUERY]
                marks = ",".join("?" * len(some))
                rows = self._read.execute(f"SELECT key, failed, outcome FROM outcomes WHERE key IN ({marks})", some)  # noqa: S608 - question marks only
                found.update((key, _outcome(failed, body)) for key, failed, body in rows)
            return found

        return await self._in(self._reader, query)

    async def put(self, key: str, request: Request, question: ChatRequest, outcome: Outcome) -> None:
        """Stores the outcome; durable on return."""
        row = (
            key,
            request.ordinal,
            request.kind,
            request.task_id,
            isinstance(outcome, Failure),
            orjson.dumps(question),
            orjson.dumps(outcome),
        )
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
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

    def _insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._write.execute("BEGIN")
        try:
            self._write.executemany("INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        except BaseException:
            self._write.execute("ROLLBACK")
            raise
        self._write.execute("COMMIT")

    async def failures(self) -> int:
        """How many stored outcomes are Failures."""

        def query() -> int:
            return int(self._read.execute("SELECT count(*) FROM outcomes WHERE failed").fetchone()[0])

        return await self._in(self._reader, query)

    async def discard_failures(self) -> int:
        """Forgets the stored Failures, so that they are asked again; returns how many."""

        def delete() -> int:
            return self._write.execute("DELETE FROM outcomes WHERE failed").rowcount

        return await self._in(self._writer, delete)

    async def all(self) -> list[Stored]:
        """Every row in the order it was written. For small runs and tests: it holds all of them."""

        def query() -> list[Stored]:
            rows = self._read.execute("SELECT key, ordinal, kind, task_id, question, failed, outcome FROM outcomes")
            return [_stored(row) for row in rows]

        return await self._in(self._reader, query)


def _outcome(failed: int, body: bytes) -> Outcome:
    fields = orjson.loads(body)
    return Failure(**fields) if failed else Completion(**fields)


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, orjson.JSONDecodeError, TypeError) as error:
        raise StorageError(
            f"{path}: {error}. The answers stored before this are kept; mend the cause (disk space, permissions, a "
            "damaged file) and run again"
        ) from error


class StoredReader:
    """Reads stored outcomes beside whoever writes them. Enter it around the work; faults are StorageErrors."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection

    def __enter__(self) -> Self:
        with _mapped(self._path):
            self._connection = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def get_many(self, keys: Sequence[str]) -> dict[str, Stored]:
        """Those of the keys that are stored; at most some hundreds at a time."""
        marks = ",".join("?" * len(keys))
        with _mapped(self._path):
            rows = self._connection.execute(
                f"SELECT key, ordinal, kind, task_id, question, failed, outcome FROM outcomes WHERE key IN ({marks})",  # noqa: S608 - question marks only
                list(keys),
            ).fetchall()
            return {row[0]: _stored(row) for row in rows}

    def keys(self, kind: Kind) -> Iterator[str]:
        """All answers to requests of this kind, in the order in which these were issued."""
        with _mapped(self._path):
            query = "SELECT key FROM outcomes WHERE kind = ? AND NOT failed ORDER BY ordinal, key"
            for (key,) in self._connection.execute(query, (kind,)):
                yield key


def has_outcomes(path: Path) -> bool:
    """Whether anything is stored there. Raises StorageError where it cannot be told."""
    if not path.is_file():
        return False
    with _mapped(path), closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'outcomes'").fetchone()[0]
        return bool(tables) and connection.execute("SELECT 1 FROM outcomes LIMIT 1").fetchone() is not None


def _stored(row: tuple[Any, ...]) -> Stored:
    key, ordinal, kind, task_id, question, failed, outcome = row
    return Stored(key, ordinal, kind, task_id, orjson.loads(question), _outcome(failed, outcome))


def read_stored(path: Path, key: str) -> Stored | None:
    """One stored outcome, read beside whoever writes; None where there is none. Raises StorageError."""
    with StoredReader(path) as reader:
        return reader.get_many([key]).get(key)
