"""Repairs of a run directory that no process runs in. No data is thrown away: what is replaced is kept aside."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson

from explore_async.curation.known_texts import read_known
from explore_async.curation.passage_files import with_passages
from explore_async.doctor.checks import Examination, examine, stale
from explore_async.doctor.completions import Report
from explore_async.doctor.findings import DERIVED_FILES, Check, Findings, State
from explore_async.exploration.values import Event
from explore_async.running.backend import Backend
from explore_async.running.checkpointing import StartingPoint
from explore_async.running.observer import RunInProgress
from explore_async.running.run import Run
from explore_async.running.run_log import RunLog
from explore_async.running.signals import StopSignals
from explore_async.settings.operation import Operation
from explore_async.settings.recipe import Recipe
from explore_async.storage.directory import RunDirectory
from explore_async.storage.salvage import salvage, set_aside
from explore_async.storage.schema import database_errors, open_writing
from explore_async.storage.whole_files import write_json
from explore_async.terminal.counts import counted


def repair(directory: RunDirectory, report: Report) -> tuple[Findings, list[str]]:
    """Mends what can be mended. Returns the findings afterwards, and a line for each thing that was done.

    After a kill at any instant, a second call goes on. Raises StorageError where another process runs in the directory,
    or where no completion can be read.
    """
    done: list[str] = []
    with directory:
        findings, found = examine(directory, report)
        if findings.mendable({Check.CONFIG}):
            done.append(_mend_config(directory, found))
            findings, found = examine(directory, report)
        if findings.mendable({Check.COMPLETIONS, Check.CHECKPOINT}):
            directory.checkpoint.unlink(missing_ok=True)  # it belongs to completions that are, or will be, others
            findings.mark_mended({Check.CHECKPOINT}, "removed: the next start replays everything")
        if findings.mendable({Check.COMPLETIONS}):
            done.append(_mend_completions(directory, found, report))
            findings, found = examine(directory, report)
        if found.recipe is not None and (mendable := findings.mendable(DERIVED_FILES)):
            for finding in mendable:
                if finding.state is State.WRONG:
                    with suppress(FileNotFoundError):
                        aside = set_aside(directory.path / finding.check)
                        done.append(f"{finding.check}: the earlier file is kept as {aside.name}")
            try:
                asyncio.run(_derive(directory, found.recipe, report))
            except asyncio.CancelledError:  # a second signal, or one before anything is derived
                raise KeyboardInterrupt from None
            findings.mark_mended(DERIVED_FILES, "derived again")
        for path in stale(directory):
            path.unlink(missing_ok=True)
            done.append(f"{path.name} removed")
        findings.mark_mended({Check.LEFTOVERS}, "none")
    return findings, done


def _mend_config(directory: RunDirectory, found: Examination) -> str:
    path = directory.config
    if found.recipe is None:
        return f"{path.name} is kept as {set_aside(path).name}"
    write_json(path, {**orjson.loads(path.read_bytes()), "digest": found.recipe.digest})
    return f"{path.name}: its digest is written again"


def _mend_completions(directory: RunDirectory, found: Examination, report: Report) -> str:
    path = directory.completions
    if found.completions is not None:  # whole, but of an earlier format
        with database_errors(path):
            open_writing(path, durability="full").close()
        return f"{path.name}: checksums added to {counted(found.completions, 'completion')}"
    result = salvage(path, lambda count: report(f"{counted(count, 'completion')} read"))
    lost = f"{result.lost:,} are known to be lost" if result.lost else "none is known to be lost"
    saved = counted(result.saved, "completion")
    return f"{path.name}: {saved} saved, {lost}; the damaged file is kept as {result.aside.name}"


async def _derive(directory: RunDirectory, recipe: Recipe, report: Report) -> None:
    """Derives the files from the stored completions, as `run --offline` does."""
    recipe = await asyncio.to_thread(with_passages, recipe)
    _, known = await asyncio.to_thread(read_known, recipe.against)
    start = await asyncio.to_thread(StartingPoint.new, recipe, known)
    operation = Operation()
    backend = Backend(operation, models=(), forms=(), window=None, server_log=directory.log, report=report)
    log = RunLog(_ProgressObserver(report), directory.run_log)
    signals = StopSignals(log.phase)
    run = Run(
        start,
        operation,
        directory,
        backend=backend,
        observer=log,
        offline=True,
        signals=signals,
        tune_collector=True,
    )
    with log.kept(), signals.handled():
        result = await run.to_end()
    if result.ending in {"interrupted", "terminated"}:
        raise KeyboardInterrupt


class _ProgressObserver:
    """Observes a run and reports a line about it now and then."""

    def __init__(self, report: Report) -> None:
        self.phase = report
        self._run: RunInProgress | None = None

    def fetching(self, progress: Any) -> None: ...

    def began(self, recipe: Recipe, run: RunInProgress) -> None:
        self._run = run
        self.phase(f"deriving {recipe.name} again")

    def committed(self, events: Sequence[Event]) -> None: ...

    def tick(self) -> None:
        if self._run is not None:
            self.phase(f"{counted(self._run.snapshot().tally.requests.total(), 'completion')} replayed")
