"""The records of a run's commits: the dataset and the evidence. They hold no time, endpoint or latency."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

from explore_async.exploration.values import (
    Event,
    Example,
    ExampleDropped,
    ExampleKept,
    RequestFailed,
    TaskAdded,
    TaskDropped,
    TaskExhausted,
    Verdict,
)
from explore_async.storage.derived import DerivedFile, Mark
from explore_async.storage.directory import RunDirectory

_SECONDS_BETWEEN_WRITES = 0.5


Marks: TypeAlias = tuple[Mark, Mark]
"""The ends of the dataset and of the evidence, at one moment."""


class Lines:
    """Turns events, in their order, into lines of the dataset and of the evidence. Knows no file."""

    def __init__(self) -> None:
        self._paths: dict[str, list[str]] = {}

    def of(self, events: Sequence[Event], key: str | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Lines of the dataset and of the evidence. `key`: of the request that led to the events, None for seeds."""
        dataset = []
        for event in events:
            if isinstance(event, TaskAdded):
                task = event.task
                above = self._paths[task.parent_id] if task.parent_id is not None else []
                self._paths[task.id] = [*above, task.name]
            elif isinstance(event, ExampleKept):
                dataset.append(self._line(event.example, key))
        return dataset, [decision(event, key) for event in events]

    def _line(self, example: Example, key: str | None) -> dict[str, Any]:
        return {
            "id": example.id,
            "task_id": example.task_id,
            "task_path": self._paths[example.task_id],
            "instruction": example.instruction,
            "input": example.input,
            "output": example.output,
            "request": key,
        }


class Records:
    """Owns `dataset.jsonl` and `decisions.jsonl` while a run is on."""

    def __init__(self, directory: RunDirectory, begin: Marks | None = None) -> None:
        """`begin`: the files go on from there; then call `know` with the tasks that are written before it."""
        dataset, decisions = begin or (None, None)
        self._files = (DerivedFile(directory.dataset, dataset), DerivedFile(directory.decisions, decisions))
        self._lines = Lines()
        self._writing: asyncio.Task[None] | None = None
        self._to_write = asyncio.Event()

    def write(self, events: Sequence[Event], key: str | None) -> None:
        """Takes events in; `flush` writes them. `key`: of the request that led to them, None for seeds."""
        if key is not None:
            self._to_write.set()  # seeds are written with what the first completion brings
        for file, lines in zip(self._files, self._lines.of(events, key), strict=True):
            for line in lines:
                file.append(line)

    def know(self, tasks: Sequence[Event]) -> None:
        """Takes in tasks that are in the files already."""
        self._lines.of(tasks, None)

    @property
    def marks(self) -> Marks:
        """The ends of the files with all events that `write` took in."""
        dataset, decisions = self._files
        return dataset.mark, decisions.mark

    def start_over(self) -> None:
        """Empties the files, as outcomes that they were derived from are going to change. Only before the first
        `write`.
        """
        for file in self._files:
            file.start_over()

    def check_places(self) -> None:
        """Raises StorageError where one of the files is no longer the one of its name. Touches the disk."""
        for file in self._files:
            file.check_place()

    async def keep_writing(self) -> None:
        """Writes what is there, and then no more often than twice a second: the first example is seen at once."""
        while True:
            await self._to_write.wait()
            self._to_write.clear()
            await self.flush()
            await asyncio.sleep(_SECONDS_BETWEEN_WRITES)

    async def flush(self) -> None:
        """Returns when all events that `write` took in so far are in the files. Raises StorageError."""
        while self._writing is not None and not self._writing.done():
            await asyncio.shield(self._writing)  # one after another: they are written in order
        lines = [(file, file.take()) for file in self._files]

        def write() -> None:
            for file, new in lines:
                file.write(new)

        self._writing = asyncio.create_task(asyncio.to_thread(write))
        await asyncio.shield(self._writing)

    @property
    def replaying(self) -> bool:
        """True while the files hold more than has been derived at this start."""
        return any(file.replaying for file in self._files)

    async def close(self, *, complete: bool) -> None:
        """Writes the rest. `complete`: raises StorageError where a file holds more than that."""
        try:
            if self._writing is not None:
                # cancelling a coroutine does not end the thread it waits for; `flush` raises a lasting error again
                await asyncio.gather(self._writing, return_exceptions=True)
            await self.flush()
            if complete:
                for file in self._files:
                    await asyncio.to_thread(file.finish)
        finally:
            for file in self._files:
                file.close()


def decision(event: Event, key: str | None) -> dict[str, Any]:
    """An event as a line of evidence."""
    match event:
        case TaskAdded(task=task):
            line = {"what": "task", "id": task.id, "parent": task.parent_id, "name": task.name, "origin": task.origin}
            return {**line, **_evidence(Verdict(kept=True, reason="accepted"), key)}
        case TaskDropped(parent_id=parent, name=name, verdict=verdict):
            return {"what": "task", "id": None, "parent": parent, "name": name, **_evidence(verdict, key)}
        case TaskExhausted(task_id=task_id):
            return {"what": "exhausted", "task_id": task_id, "request": key}
        case ExampleKept(example=example, verdict=verdict):
            return {"what": "example", "id": example.id, "task_id": example.task_id, **_evidence(verdict, key)}
        case ExampleDropped(task_id=task_id, verdict=verdict, example=example, excerpt=excerpt):
            text = {"excerpt": excerpt} if example is None else {"instruction": example.instruction}
            example_id = None if example is None else example.id
            return {"what": "example", "id": example_id, "task_id": task_id, **text, **_evidence(verdict, key)}
        case RequestFailed(task_id=task_id, kind=kind, failure=failure):
            return {"what": "failure", "task_id": task_id, "kind": kind, "reason": failure.kind, "request": key}


def _evidence(verdict: Verdict, key: str | None) -> dict[str, Any]:
    evidence: dict[str, Any] = {"kept": verdict.kept, "reason": verdict.reason}
    if verdict.nearest is not None:
        evidence.update(score=verdict.score, nearest=verdict.nearest)
    return {**evidence, "request": key}
