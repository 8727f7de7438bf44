"""The start of a run: what it does depends on the mode, and on what the directory holds."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar

from explore_async.errors import ConfigError, StorageError
from explore_async.exploration.language_check import language_check
from explore_async.exploration.prompts import PromptBook
from explore_async.running.backend import BackendFactory, check_operation
from explore_async.running.checking import require_programs
from explore_async.running.checkpointing import StartingPoint, from_checkpoint
from explore_async.running.job import Job, RunJob
from explore_async.running.observer import Observer, SilentObserver
from explore_async.running.result import RunResult
from explore_async.running.run import Run
from explore_async.running.run_log import RunLog
from explore_async.running.signals import StopSignals
from explore_async.running.task_group import task_group
from explore_async.running.warm_up import import_kernels, load_kernels
from explore_async.settings.operation import Operation
from explore_async.settings.recipe import KnownTexts, ResolvedKnownTexts
from explore_async.settings.run_settings import RunSettings
from explore_async.storage.completions import StoreContents, read_contents
from explore_async.storage.digested import DigestedDocument, differences, refuse_other
from explore_async.storage.directory import RunDirectory
from explore_async.storage.places import local_place

_Result = TypeVar("_Result")
Mode = Literal["resume", "adopt", "offline", "fresh"]
"""resume goes on with the same recipe, adopt takes another recipe over, offline asks nothing, fresh sets aside what is
there and begins again."""


async def run(
    settings: RunSettings,
    directory: str | os.PathLike[str],
    *,
    mode: Mode = "resume",
    observer: Observer | None = None,
    handle_signals: bool = False,
    tune_collector: bool = False,
) -> RunResult:
    """Makes the dataset in the run directory, or goes on with it, on the running event loop.

    `handle_signals`: SIGINT and SIGTERM end the run in order; for a process that does nothing else. `tune_collector`:
    until the run ends, the garbage collector of the process stops the event loop less often. Without these two, the
    caller's signals and collector stay as they are.

    A cancelled run can be resumed. Raises an ExploreError where the run cannot begin or go on.
    """
    if not isinstance(settings, RunSettings):
        raise ConfigError(
            f"settings: RunSettings are expected, as `load` returns them, not a {type(settings).__name__}"
        )
    _check_arguments(mode, handle_signals=handle_signals)
    _refuse_unfilled(settings)
    if mode != "offline":
        await asyncio.to_thread(require_programs, settings.checks)

    def read() -> RunJob:
        if mode == "fresh" or not RunDirectory(Path(directory)).completions.exists():
            _refuse_unused(settings)  # runs of earlier versions that have such a setting go on
        return RunJob(_with_passages(settings), *_read_known(settings.against))

    return await carry_out(
        read,
        settings.operation,
        local_place(directory),
        mode=mode,
        observer=observer,
        handle_signals=handle_signals,
        tune_collector=tune_collector,
    )


async def carry_out(
    read: Callable[[], Job],
    operation: Operation,
    path: Path,
    *,
    mode: Mode,
    observer: Observer | None,
    handle_signals: bool,
    tune_collector: bool,
) -> RunResult:
    """Does a job in its directory, or goes on with it; see `run`. `read` reads what it is about, in a thread."""
    _check_arguments(mode, handle_signals=handle_signals)
    if mode != "offline":
        check_operation(operation)
    log = RunLog(observer if observer is not None else SilentObserver(), RunDirectory(path).run_log)
    with ExitStack() as stack:
        stack.enter_context(log.kept())
        signals = StopSignals(log.phase) if handle_signals else None
        if signals is not None:
            stack.enter_context(signals.handled())
        result = await _run(read, operation, path, mode, log, _Process(signals, tune_collector))
        log.say(result.stats.line())
    return result


@dataclass(frozen=True, slots=True)
class _Process:
    """The things that a run may do with its process."""

    signals: StopSignals | None
    tune_collector: bool


async def _run(  # noqa: PLR0917 - the parts of one start
    read: Callable[[], Job], operation: Operation, path: Path, mode: Mode, log: RunLog, process: _Process
) -> RunResult:
    exists = path.exists()  # noqa: ASYNC240 - nothing else runs yet
    job = await asyncio.to_thread(read)
    start = _Start(job, operation, path, mode, log)
    await _BEFORE[mode].of(exists=exists)(start)
    RunDirectory(path).refuse_foreign()
    with RunDirectory(path) as entered:
        contents = await _contents(entered, job)
        decision = await _INSIDE[mode].of(contents)(start, contents)
        document = decision.document
        recipe = job.recipe(document)
        prompts = PromptBook(recipe)  # finds a faulty template before anything is written
        for doubt in prompts.doubts:
            log.phase(f"note: {doubt}")
        if recipe.filters.language:
            language_check(recipe.language)  # and a language that cannot be checked
        async with (
            start.new_backend(recipe.wanted_models, job.forms(prompts), recipe.window) as backend,
            task_group() as beside,
        ):
            if decision.connect_first:
                beside.create_task(import_kernels(), name="import kernels")
                await backend.connect()  # the directory stays as it is where the run cannot go on
            if decision.is_new:
                entered.write_recipe(document, operation=operation.model_dump(mode="json", exclude={"server"}))
            if operation.retry_failed and contents.held.failures:
                entered.checkpoint.unlink(missing_ok=True)  # everything is going to be derived again
            await asyncio.to_thread(job.begin, entered, document)
            result = await Run(
                await _starting_point(job, document, entered, contents.held, log),
                operation,
                entered,
                backend=backend,
                observer=log,
                offline=start.offline,
                signals=process.signals,
                tune_collector=process.tune_collector,
            ).to_end()
            await asyncio.to_thread(job.end, entered, document, result)
            return result


def _refuse_unfilled(settings: RunSettings) -> None:
    """Raises ConfigError where a text of `init` still stands in place of the user's own."""
    if places := settings.places_to_fill():
        raise ConfigError(
            f"{', '.join(places)}: write your own text in place of REPLACE ME, or remove the entry "
            "(prompts show these texts to the model)"
        )


def _refuse_unused(settings: RunSettings) -> None:
    """Raises ConfigError for what would have no effect: a system prompt in a run whose answers are not asked for under
    it, and the field of a file of text.
    """
    if unused := settings.unused_systems():
        raise ConfigError(
            f"{', '.join(unused)}: only answers that are asked for by themselves have a system prompt; set responses: "
            "separate, or remove it"
        )
    if any(domain.files for domain in settings.domains):
        from explore_async.curation.passage_files import unused_fields

        if unused := unused_fields(settings):
            raise ConfigError(f"{', '.join(unused)}: a file of text has no fields, only one of JSON lines; remove it")


def _with_passages(settings: RunSettings) -> RunSettings:
    """The settings with the passages of their files. Most runs have none, and do without the modules that read data."""
    if not any(domain.files for domain in settings.domains):
        return settings
    from explore_async.curation.passage_files import with_passages

    return with_passages(settings)


def _read_known(against: Sequence[KnownTexts]) -> tuple[tuple[ResolvedKnownTexts, ...], list[tuple[str, str]]]:
    """The texts of `against`. Most runs have none, and do without the modules that read data."""
    if not against:
        return (), []
    from explore_async.curation.known_texts import read_known

    return read_known(against)


def run_sync(
    settings: RunSettings,
    directory: str | os.PathLike[str],
    *,
    mode: Mode = "resume",
    observer: Observer | None = None,
    handle_signals: bool = False,
) -> RunResult:
    """`run` for a program without an event loop: starts one, and returns when the run has ended.

    Raises RuntimeError inside an event loop (a notebook has one): use `await run(...)` there.
    """
    return in_new_loop(
        lambda: run(settings, directory, mode=mode, observer=observer, handle_signals=handle_signals), "run"
    )


def in_new_loop(work: Callable[[], Coroutine[Any, Any, _Result]], name: str) -> _Result:
    """Does the work of the public function of this name in an event loop of its own. Raises RuntimeError inside one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    raise RuntimeError(f"{name}_sync: an event loop runs here already; use `await {name}(...)` instead")


def _check_arguments(mode: str, *, handle_signals: bool) -> None:
    if mode not in _BEFORE:
        raise ConfigError(f"mode {mode!r}: it must be one of {', '.join(_BEFORE)}")
    if handle_signals and threading.current_thread() is not threading.main_thread():
        raise ConfigError("handle_signals: Python gives signals to the main thread only")


class _Start:
    """The parts that the functions of the tables share."""

    def __init__(
        self,
        job: Job,
        operation: Operation,
        path: Path,
        mode: Mode,
        observer: Observer,
    ) -> None:
        self.job = job
        self._operation = operation
        self.path = path
        self.offline = mode == "offline"
        self.observer = observer
        self.new_backend = BackendFactory(operation, path / "server.log", observer.phase, observer.fetching)

    @property
    def has_server(self) -> bool:
        """True when the run starts a server for itself. That takes minutes, so no decision depends on its response."""
        return self._operation.server is not None

    async def resolved(self, previous: DigestedDocument | None) -> DigestedDocument:
        return await self.job.resolved(previous, self.new_backend, offline=self.offline)


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a directory holds. `document`: its recipe; None where it has none, or no completion was ever stored."""

    config: Path
    document: DigestedDocument | None
    held: StoreContents


async def _contents(directory: RunDirectory, job: Job) -> _Contents:
    document = directory.recipe(job.document)
    held = await asyncio.to_thread(read_contents, directory.completions)
    directory.check_completions(stored=bool(held.last_row))
    return _Contents(directory.config, document if held.last_row else None, held)


async def _starting_point(
    job: Job, document: DigestedDocument, directory: RunDirectory, held: StoreContents, observer: Observer
) -> StartingPoint:
    if job.compares_at_start:
        await load_kernels(observer.phase)
    begin = partial(job.starting_point, document)
    new = await asyncio.to_thread(begin)
    return await asyncio.to_thread(from_checkpoint, new, begin, directory, answers=held.last_row, report=observer.phase)


async def _keep(_start: _Start) -> None:
    """The directory stays as it is until it is entered."""


async def _find_model(start: _Start) -> None:
    """Before a directory is made for a run that cannot begin."""
    if start.job.needs_served_model:
        await start.new_backend.served_model()


async def _refuse_missing(start: _Start) -> NoReturn:
    raise StorageError(f"{start.path}: there is no run to go on with offline")


async def _set_aside(start: _Start) -> None:
    with RunDirectory(start.path):
        pass  # no other process is in there
    if not start.has_server:
        await start.new_backend.served_model()  # before a directory is moved for a run that cannot begin
    start.observer.phase(f"the earlier run is in {RunDirectory(start.path).set_aside()}")


@dataclass(frozen=True, slots=True)
class _Before:
    """The steps before the directory is entered: where it is missing, and where it exists."""

    missing: Callable[[_Start], Awaitable[None]]
    existing: Callable[[_Start], Awaitable[None]]

    def of(self, *, exists: bool) -> Callable[[_Start], Awaitable[None]]:
        return self.existing if exists else self.missing


_BEFORE: Mapping[Mode, _Before] = {
    # mode              no directory     a directory
    "resume": _Before(_find_model, _keep),
    "adopt": _Before(_find_model, _keep),
    "offline": _Before(_refuse_missing, _keep),
    "fresh": _Before(_find_model, _set_aside),
}


@dataclass(frozen=True, slots=True)
class _Decision:
    """The document to go by. `is_new`: it is written to the directory, and files that another led to are removed.
    `connect_first`: before that, an endpoint has to respond.
    """

    document: DigestedDocument
    is_new: bool
    connect_first: bool = False


async def _begin(start: _Start, _contents: _Contents) -> _Decision:
    return _Decision(await start.resolved(None), is_new=True, connect_first=not start.has_server)


async def _begin_offline(start: _Start, _contents: _Contents) -> _Decision:
    return _Decision(await start.resolved(None), is_new=True)


async def _go_on(start: _Start, contents: _Contents) -> _Decision:
    assert contents.document is not None
    document = await start.resolved(contents.document)
    refuse_other(contents.document, document, start.path)
    return _Decision(document, is_new=False)


async def _take_over(start: _Start, contents: _Contents) -> _Decision:
    decision = await _derive_again(start, contents)
    return replace(decision, connect_first=decision.is_new and not start.has_server)


async def _derive_again(start: _Start, contents: _Contents) -> _Decision:
    assert contents.document is not None
    document = await start.resolved(contents.document)
    is_new = contents.document.digest != document.digest
    if is_new:
        changes = "; ".join(differences(contents.document, document))
        start.observer.phase(f"everything is derived again by another recipe: {changes}")
    return _Decision(document, is_new)


async def _take_completions(start: _Start, _contents: _Contents) -> _Decision:
    """The stored completions may be all that the recipe needs, so no endpoint has to respond."""
    document = start.job.as_it_began(await start.resolved(None), RunDirectory(start.path))
    return _Decision(document, is_new=True)


async def _refuse_lost(_start: _Start, contents: _Contents) -> NoReturn:
    raise StorageError(
        f"{contents.config}: it is gone, though completions are stored; restore it, or take this config over with "
        "--adopt"
    )


_Inside: TypeAlias = Callable[[_Start, _Contents], Awaitable[_Decision]]


@dataclass(frozen=True, slots=True)
class _Row:
    """The decisions in the directory: without completions, with a run, with completions but without their recipe."""

    empty: _Inside
    run: _Inside
    no_recipe: _Inside

    def of(self, contents: _Contents) -> _Inside:
        if not contents.held.last_row:
            return self.empty  # a first start, whatever was wrong with the one before
        return self.no_recipe if contents.document is None else self.run


_INSIDE: Mapping[Mode, _Row] = {
    # mode           no completions  a run         completions without their recipe
    "resume": _Row(_begin, _go_on, _refuse_lost),
    "adopt": _Row(_begin, _take_over, _take_completions),
    "offline": _Row(_begin_offline, _derive_again, _refuse_lost),
    "fresh": _Row(_begin, _take_over, _refuse_lost),  # after it was set aside, empty but for a race
}
