"""A run's checkpoints: where a start begins, and what it leaves for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from explore_async.exploration.explorer import Explorer
from explore_async.running.records import Marks, Records
from explore_async.running.tally import Tally
from explore_async.settings.recipe import Recipe
from explore_async.storage.checkpoint import Checkpoint, StaleCheckpoint, check_begins, read, read_kept, write
from explore_async.storage.completions import CompletionStore
from explore_async.storage.directory import RunDirectory

EXAMPLES_PER_CHECKPOINT = 20_000
"""Examples judged from one checkpoint to the next: about the most that the next start judges again."""
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """Where a run begins. `marks`: how far the derived files are taken as they are; None where nothing is yet."""

    explorer: Explorer
    tally: Tally
    marks: Marks | None = None

    @staticmethod
    def new(recipe: Recipe, known: Sequence[tuple[str, str]]) -> StartingPoint:
        return StartingPoint(Explorer(recipe, known), Tally())


def from_checkpoint(
    new: StartingPoint,
    known: Sequence[tuple[str, str]],
    directory: RunDirectory,
    *,
    answers: int,
    told: Callable[[str], None],
) -> StartingPoint:
    """A standing at nothing brought to the checkpoint, where there is one that fits. One that does not is removed, so
    that it never will again.

    `known` as for the explorer; `answers`: the last row of the store. Takes some ten seconds for a million examples.
    """
    recipe = new.explorer.recipe
    try:
        checkpoint = read(directory, digest=recipe.digest, answers=answers)
        if checkpoint is None:
            return new
        told(f"going on from a checkpoint: {checkpoint.dataset.lines:,} examples")
        check_begins(directory.decisions, checkpoint.decisions)
        new.explorer.restore(checkpoint.explorer, read_kept(directory.dataset, checkpoint.dataset))
        tally = Tally.restored(checkpoint.tally)
    except (
        StaleCheckpoint,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        AssertionError,
    ) as unfit:  # whoever wrote it
        directory.checkpoint.unlink(missing_ok=True)
        told(f"{directory.checkpoint.name}: {unfit}; all is replayed")
        return StartingPoint.new(recipe, known)
    return StartingPoint(new.explorer, tally, (checkpoint.dataset, checkpoint.decisions))


class CheckpointWriter:
    """Owns `checkpoint.json` while a run is on."""

    def __init__(
        self,
        directory: RunDirectory,
        standing: StartingPoint,
        records: Records,
        store: CompletionStore,
    ) -> None:
        self._directory = directory
        self._standing = standing
        self._records = records
        self._store = store
        self._digest = standing.explorer.recipe.digest
        self._judged = standing.tally.judged
        self._writing: asyncio.Task[None] | None = None

    async def keep_writing(self) -> NoReturn:
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            if self._standing.tally.judged >= self._judged + EXAMPLES_PER_CHECKPOINT:
                await self._write()

    async def _write(self) -> None:
        """What it tells is of one moment between two commits; it is written when the files have got as far."""
        explorer, tally = self._standing.explorer, self._standing.tally
        self._judged = tally.judged
        states, marks = (tally.state(), explorer.state()), self._records.marks
        await self._records.flush()
        answers = (await self._store.contents()).last_row
        checkpoint = Checkpoint(self._digest, answers, *marks, *states)
        self._writing = asyncio.create_task(asyncio.to_thread(write, self._directory, checkpoint))
        await asyncio.shield(self._writing)

    async def close(self) -> None:
        """Waits for the one that is being written: cancelling who waits for a thread does not end the thread."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
