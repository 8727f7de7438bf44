"""The records of a run's commits: the dataset and the evidence. They hold no time, endpoint or latency."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from explore_async.exploration.values import (
    AnswerChecked,
    AnswerJudged,
    AnswerScored,
    Event,
    Example,
    ExampleDropped,
    ExampleKept,
    ExamplesWait,
    FacetsNamed,
    FollowUpJudged,
    InstructionKept,
    PairJudged,
    RequestFailed,
    TaskAdded,
    TaskDropped,
    TaskExhausted,
    Verdict,
    split_of,
)
from explore_async.storage.derived import DerivedFile, Mark
from explore_async.storage.directory import RunDirectory
from explore_async.storage.example_lines import MadeBy, example_line

_SECONDS_BETWEEN_WRITES = 0.5


Marks: TypeAlias = tuple[Mark, Mark]
"""The ends of the dataset and of the evidence, at one moment."""


class LineMaker(Protocol):
    """Turns events, in their order, into lines."""

    def of(self, events: Sequence[Event], key: str | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Lines of the dataset and of the evidence. `key`: of the request that led to the events, None for seeds."""

    def state(self) -> dict[str, Any]:
        """All that later events are going to need, as JSON holds it, for `restore`."""

    def restore(self, state: Mapping[str, Any]) -> None: ...


@dataclass(slots=True)
class _Waiting:
    """The key of a request, for its examples that are not decided yet."""

    key: str
    left: int


class Lines:
    """Turns events, in their order, into lines of the dataset and of the evidence. Knows no file.

    It keeps the keys of requests that a later event is going to need: of examples that wait for their verdict, and of
    those that are made by more than one request. `systems`: the system prompt of each domain's answers.
    """

    def __init__(self, systems: Sequence[str]) -> None:
        self._systems = systems
        self._paths: dict[str, list[str]] = {}
        self._waiting: dict[int, _Waiting] = {}
        """By the ordinal of the request that brought the examples."""
        self._made_by: dict[str, MadeBy] = {}
        """By the id of an example that is not finished."""

    def of(self, events: Sequence[Event], key: str | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Lines of the dataset and of the evidence. `key`: of the request that led to the events, None for seeds."""
        dataset, decisions = [], []
        for event in events:
            match event:
                case TaskAdded(task=task):
                    above = self._paths[task.parent_id] if task.parent_id is not None else []
                    self._paths[task.id] = [*above, task.name]
                    decisions.append(decision(event, key))
                case ExamplesWait(request_ordinal=ordinal, number=number):
                    assert key is not None, "a completion brought them"
                    self._waiting[ordinal] = _Waiting(key, number)
                case InstructionKept(example=example):
                    own = self._own_key(example.request_ordinal, key)
                    self._made_by[example.id] = MadeBy(own)
                    decisions.append(decision(event, own))
                case AnswerJudged(example_id=example_id, number=number, turn=0):
                    self._made_by[example_id].answers[number] = key
                    decisions.append(decision(event, key))
                case AnswerScored(example_id=example_id, number=number, turn=0):
                    self._made_by[example_id].judgements[number] = key
                    decisions.append(decision(event, key))
                case ExampleKept(example=example, answer=number):
                    line = self._line(example, number, self._made_by.pop(example.id, None), key)
                    dataset.append(line)
                    decisions.append(decision(event, line["request"]))
                case ExampleDropped(request_ordinal=ordinal, example=example):
                    is_late = example is not None and self._made_by.pop(example.id, None) is not None
                    decisions.append(decision(event, key if is_late else self._own_key(ordinal, key)))
                case _:
                    decisions.append(decision(event, key))
        return dataset, decisions

    def _own_key(self, ordinal: int, key: str | None) -> str | None:
        """The key of the request of this ordinal, one of whose examples is decided now. `key`: of the one committed."""
        if (waiting := self._waiting.get(ordinal)) is None:
            return key
        waiting.left -= 1
        if not waiting.left:
            del self._waiting[ordinal]
        return waiting.key

    def _line(self, example: Example, number: int, made_by: MadeBy | None, key: str | None) -> dict[str, Any]:
        system = self._systems[int(example.task_id.partition(".")[0])]
        path = self._paths[example.task_id]
        if made_by is None:
            made_by = MadeBy(self._own_key(example.request_ordinal, key))
        return example_line(example, number, path, system, made_by)

    def state(self) -> dict[str, Any]:
        """The keys that later events are going to need, as JSON holds them, for `restore`."""
        return {
            "waiting": [[ordinal, waiting.key, waiting.left] for ordinal, waiting in self._waiting.items()],
            "made_by": [
                [example, made.instruction, list(made.answers.items()), list(made.judgements.items())]
                for example, made in self._made_by.items()
            ],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._waiting = {ordinal: _Waiting(key, left) for ordinal, key, left in state["waiting"]}
        self._made_by = {
            example: MadeBy(instruction, dict(answers), dict(judgements))
            for example, instruction, answers, judgements in state["made_by"]
        }


class Records:
    """Owns `dataset.jsonl` and `decisions.jsonl` while a run is on."""

    def __init__(self, directory: RunDirectory, lines: LineMaker, begin: Marks | None = None) -> None:
        """`begin`: the files go on from there; then call `know` with what was before it."""
        dataset, decisions = begin or (None, None)
        self._files = (DerivedFile(directory.dataset, dataset), DerivedFile(directory.decisions, decisions))
        self._lines = lines
        self._writing: asyncio.Task[None] | None = None
        self._to_write, self._has_example = asyncio.Event(), asyncio.Event()

    def write(self, events: Sequence[Event], key: str | None) -> None:
        """Takes events in; `flush` writes them. `key`: of the request that led to them, None for seeds."""
        if key is not None:
            self._to_write.set()  # seeds are written with what the first completion brings
        dataset, decisions = self._lines.of(events, key)
        for file, lines in zip(self._files, (dataset, decisions), strict=True):
            for line in lines:
                file.append(line)
        if dataset:
            self._has_example.set()

    def know(self, tasks: Sequence[Event], keys: Mapping[str, Any]) -> None:
        """Takes in tasks that are in the files already, and the `keys` of then."""
        self._lines.of(tasks, None)
        self._lines.restore(keys)

    def keys(self) -> dict[str, Any]:
        """The keys of requests that later events are going to need, as JSON holds them."""
        return self._lines.state()

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
        """Writes what is there, and then no more often than twice a second; but the first example at once."""
        while True:
            await self._to_write.wait()
            self._to_write.clear()
            writes_example = self._has_example.is_set()
            await self.flush()
            if writes_example:
                await asyncio.sleep(_SECONDS_BETWEEN_WRITES)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SECONDS_BETWEEN_WRITES):
                        await self._has_example.wait()

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
    line: dict[str, Any]
    match event:
        case TaskAdded(task=task):
            line = {"what": "task", "id": task.id, "parent": task.parent_id, "name": task.name, "origin": task.origin}
            return {**line, **split_of(task), **_evidence(Verdict(kept=True, reason="accepted"), key)}
        case TaskDropped(parent_id=parent_id, name=name, verdict=verdict):
            line = {"what": "task", "id": None, "parent": parent_id, "name": name, **split_of(event)}
            return {**line, **_evidence(verdict, key)}
        case TaskExhausted(task_id=task_id, coverage=coverage):
            why = {} if coverage is None else {"coverage": round(coverage, 4)}
            return {"what": "exhausted", "task_id": task_id, **why, "request": key}
        case FacetsNamed(task_id=task_id, facets=facets, dropped=dropped):
            named = {facet.criterion: list(facet.values) for facet in facets}
            refused = {"dropped": [{"excerpt": text, "reason": reason} for text, reason in dropped]} if dropped else {}
            return {"what": "facets", "task_id": task_id, "criteria": named, **refused, "request": key}
        case InstructionKept(example=example, verdict=verdict):
            texts = {"instruction": example.instruction, "input": example.input, **example.source}
            return {
                "what": "instruction",
                "id": example.id,
                "task_id": example.task_id,
                **texts,
                **_evidence(verdict, key),
            }
        case AnswerJudged(example_id=example_id, task_id=task_id, number=number, verdict=verdict):
            return {
                "what": "answer",
                "id": example_id,
                "task_id": task_id,
                "answer": number,
                **_turn(event.turn),
                **_evidence(verdict, key),
            }
        case AnswerChecked(example_id=example_id, task_id=task_id, number=number, check=name, verdict=verdict):
            line = {
                "what": "check",
                "id": example_id,
                "task_id": task_id,
                "answer": number,
                **_turn(event.turn),
                "check": name,
            }
            return {**line, "detail": event.detail, **_evidence(verdict, key)}
        case FollowUpJudged(example_id=example_id, task_id=task_id, verdict=verdict):
            line = {"what": "follow_up", "id": example_id, "task_id": task_id, "turn": event.turn}
            return {**line, **_evidence(verdict, key)}
        case AnswerScored(example_id=example_id, task_id=task_id, number=number, scores=scores, verdict=verdict):
            line = {
                "what": "scores",
                "id": example_id,
                "task_id": task_id,
                "answer": number,
                **_turn(event.turn),
                "scores": scores,
            }
            return {**line, **_evidence(verdict, key)}
        case PairJudged(example_id=example_id, task_id=task_id, verdict=verdict):
            line = {"what": "preference", "id": example_id, "task_id": task_id, "judge": event.kind.partition(":")[2]}
            line |= {"order": ("ab", "ba")[event.order], "preferred": event.preferred or None}
            return {**line, **_evidence(verdict, key)}
        case ExampleKept(example=example, verdict=verdict):
            line = {"what": "example", "id": example.id, "task_id": example.task_id, **example.source}
            return {**line, **_evidence(verdict, key)}
        case ExampleDropped(task_id=task_id, verdict=verdict, example=dropped, excerpt=excerpt):
            text = {"excerpt": excerpt} if dropped is None else {"instruction": dropped.instruction, **dropped.source}
            dropped_id = None if dropped is None else dropped.id
            return {"what": "example", "id": dropped_id, "task_id": task_id, **text, **_evidence(verdict, key)}
        case RequestFailed(task_id=task_id, kind=kind, failure=failure):
            return {"what": "failure", "task_id": task_id, "kind": kind, "reason": failure.kind, "request": key}
        case ExamplesWait():
            raise AssertionError("nothing is decided yet")


def _turn(number: int) -> dict[str, int]:
    """The turn of a conversation, where it is a later one."""
    return {"turn": number} if number else {}


def _evidence(verdict: Verdict, key: str | None) -> dict[str, Any]:
    evidence: dict[str, Any] = {"kept": verdict.kept, "reason": verdict.reason}
    if verdict.nearest is not None:
        evidence.update(score=verdict.score, nearest=verdict.nearest)
    return {**evidence, "request": key}
