"""Checkpoints: the state from which a start goes on, and which it leaves for the next start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from explore_async.exploration.explorer import Explorer
from explore_async.running.records import LineMaker, Lines, Marks, Records
from explore_async.running.run_source import RunSource
from explore_async.running.tally import Tally
from explore_async.settings.recipe import Recipe
from explore_async.storage.checkpoint import (
    Checkpoint,
    StaleCheckpoint,
    check_begins,
    read,
    read_found,
    read_kept,
    write,
)
from explore_async.storage.completions import CompletionStore
from explore_async.storage.directory import RunDirectory
from explore_async.terminal.counts import counted

EXAMPLES_PER_CHECKPOINT = 20_000
"""Examples judged from one checkpoint to the next: about the most that the next start judges again."""
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """The state in which a run begins. `marks`: the derived files are kept up to there; None where none are kept."""

    explorer: RunSource
    tally: Tally
    lines: LineMaker
    marks: Marks | None = None
    keys: Mapping[str, Any] = field(default_factory=dict)
    """The keys of requests that lines still need; see `records.Lines`."""

    @staticmethod
    def new(recipe: Recipe, known: Sequence[tuple[str, str]]) -> StartingPoint:
        lines = Lines([domain.system for domain in recipe.domains])
        return StartingPoint(Explorer(recipe, known), Tally(recipe.answer_format), lines)


def from_checkpoint(
    new: StartingPoint,
    again: Callable[[], StartingPoint],
    directory: RunDirectory,
    *,
    answers: int,
    report: Callable[[str], None],
) -> StartingPoint:
    """`new` brought to the checkpoint of the directory, where there is one that fits. A checkpoint that does not fit is
    removed, and `again` makes a new one.

    `answers`: the last row of the store. `report` hears of it. Takes about ten seconds
    for a million examples.
    """
    recipe = new.explorer.recipe
    try:
        checkpoint = read(directory, digest=new.explorer.digest, answers=answers)
        if checkpoint is None:
            return new
        report(f"going on from a checkpoint: {counted(checkpoint.dataset.lines, 'example')}")
        check_begins(directory.decisions, checkpoint.decisions)
        if recipe.steps_of_instruction:
            kept = read_found(directory.decisions, checkpoint.decisions)
            check_begins(directory.dataset, checkpoint.dataset)
        else:
            kept = read_kept(directory.dataset, checkpoint.dataset)
        new.explorer.restore(checkpoint.explorer, kept)
        tally = Tally.restored(checkpoint.tally)
    except (
        StaleCheckpoint,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        AssertionError,
    ) as unfit:  # any program may have written it
        directory.checkpoint.unlink(missing_ok=True)
        report(f"{directory.checkpoint.name}: {unfit}; all is replayed")
        return again()
    marks = checkpoint.dataset, checkpoint.decisions
    return StartingPoint(new.explorer, tally, new.lines, marks, checkpoint.keys)


class CheckpointWriter:
    """Owns `checkpoint.json` while a run is on."""

    def __init__(
        self,
        directory: RunDirectory,
        start: StartingPoint,
        records: Records,
        store: CompletionStore,
    ) -> None:
        self._directory = directory
        self._start = start
        self._records = records
        self._store = store
        self._digest = start.explorer.digest
        self._judged = start.tally.judged
        self._writing: asyncio.Task[None] | None = None

    async def keep_writing(self) -> NoReturn:
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            if self._start.tally.judged >= self._judged + EXAMPLES_PER_CHECKPOINT:
                await self._write()

    async def _write(self) -> None:
        """Its content is of one moment between two commits. It is written when the files have come as far."""
        explorer, tally = self._start.explorer, self._start.tally
        self._judged = tally.judged
        states = tally.state(), explorer.state(), self._records.keys()
        marks = self._records.marks
        await self._records.flush()
        answers = (await self._store.contents()).last_row
        checkpoint = Checkpoint(self._digest, answers, *marks, *states)
        self._writing = asyncio.create_task(asyncio.to_thread(write, self._directory, checkpoint))
        await asyncio.shield(self._writing)

    async def close(self) -> None:
        """Waits for a checkpoint that is being written: cancelling a coroutine does not end the thread it waits for."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
