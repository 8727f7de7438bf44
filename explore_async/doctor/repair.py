"""What the doctor mends: nothing in a directory that somebody runs in, and nothing that is there is thrown away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson

from explore_async.curation.known_texts import read_known
from explore_async.doctor.answers import Told
from explore_async.doctor.checks import Examined, examine, stale
from explore_async.doctor.findings import Findings
from explore_async.doctor.replaying import DERIVED
from explore_async.exploration.values import Event
from explore_async.running.backend import Backend
from explore_async.running.checkpointing import StartingPoint
from explore_async.running.observer import RunInProgress
from explore_async.running.run import Run
from explore_async.settings.operation import Operation
from explore_async.settings.recipe import Recipe
from explore_async.storage.directory import RunDirectory
from explore_async.storage.salvage import salvage, set_aside
from explore_async.storage.schema import mapped, open_writing
from explore_async.storage.whole_files import write_json


def repair(directory: RunDirectory, told: Told) -> tuple[Findings, list[str]]:
    """What is found afterwards, and what was done. Killed at any instant, the same again goes on.

    Raises StorageError where somebody is running in there, or what is wrong cannot be mended.
    """
    done: list[str] = []
    with directory:
        findings, found = examine(directory, told)
        if findings.mendable(directory.config.name):
            done.append(_mend_config(directory, found))
            findings, found = examine(directory, told)
        if findings.mendable(directory.completions.name, directory.checkpoint.name):
            directory.checkpoint.unlink(missing_ok=True)  # some of what it was made of is, or will be, another
            findings.mended(directory.checkpoint.name, says="removed: the next start replays everything")
        if findings.mendable(directory.completions.name):
            done.append(_mend_answers(directory, found, told))
            findings, found = examine(directory, told)
        if found.recipe is not None and (wanting := findings.mendable(*DERIVED)):
            for name in [one.check for one in wanting if one.state == "wrong"]:
                with suppress(FileNotFoundError):
                    done.append(f"{name}: the one that was there is in {set_aside(directory.path / name).name}")
            asyncio.run(_derive(directory, found.recipe, told))
            findings.mended(*DERIVED, says="derived anew")
        for path in stale(directory):
            path.unlink(missing_ok=True)
            done.append(f"{path.name} removed")
        findings.mended("leftovers", says="none")
    return findings, done


def _mend_config(directory: RunDirectory, found: Examined) -> str:
    path = directory.config
    if found.recipe is None:
        return f"{path.name} is in {set_aside(path).name}"
    write_json(path, {**orjson.loads(path.read_bytes()), "digest": found.recipe.digest})
    return f"{path.name}: the digest written anew"


def _mend_answers(directory: RunDirectory, found: Examined, told: Told) -> str:
    path = directory.completions
    if found.answers is not None:  # whole, but of an earlier format
        with mapped(path):
            open_writing(path, durability="full").close()
        return f"{path.name}: {found.answers:,} answers have checksums now"
    saved = salvage(path, lambda count: told(f"{count:,} answers read"))
    lost = f"{saved.lost:,} known to be lost, which the next run asks again" if saved.lost else "none known to be lost"
    return f"{path.name}: {saved.saved:,} answers saved, {lost}; the damaged file is {saved.aside.name}"


async def _derive(directory: RunDirectory, recipe: Recipe, told: Told) -> None:
    """As `run --offline` does it."""
    _, known = await asyncio.to_thread(read_known, recipe.against)
    standing = await asyncio.to_thread(StartingPoint.new, recipe, known)
    operation = Operation()
    backend = Backend(operation, models=(), forms=(), window=None, server_log=directory.log, report=told)
    run = Run(
        standing,
        operation,
        directory,
        backend=backend,
        observer=_Told(told),
        offline=True,
        handle_signals=True,
        tune_collector=True,
    )
    result = await run.to_end()
    if result.ending in {"interrupted", "terminated"}:
        raise KeyboardInterrupt


class _Told:
    """Observes a run for whoever wants a line about it now and then."""

    def __init__(self, told: Told) -> None:
        self.phase = told
        self._run: RunInProgress | None = None

    def fetching(self, progress: Any) -> None: ...

    def began(self, recipe: Recipe, run: RunInProgress) -> None:
        self._run = run
        self.phase(f"deriving {recipe.name} anew")

    def committed(self, events: Sequence[Event]) -> None: ...

    def tick(self) -> None:
        if self._run is not None:
            self.phase(f"{self._run.snapshot().tally.requests.total():,} answers derived from")
