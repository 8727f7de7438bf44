"""One run: it wires the parts, drives them to the end, and stops them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import inf
from pathlib import Path
from typing import Any

from explore_async.exploration import checks
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import ChatRequest, Completion, Event, Failure, Request
from explore_async.running.asking import Backend as AskedBackend
from explore_async.running.backend import Backend
from explore_async.running.checkpointing import CheckpointWriter, StartingPoint
from explore_async.running.circuit_breaker import Breaker
from explore_async.running.cures import Cures
from explore_async.running.driver import RunStopped, StoredOutcome, drive
from explore_async.running.live import LiveFile
from explore_async.running.observer import Snapshot
from explore_async.running.own_time import OwnTime
from explore_async.running.performer import Performer
from explore_async.running.records import Records
from explore_async.running.result import FINISHED, Ending, RunResult
from explore_async.running.run_log import RunLog
from explore_async.running.sharing import SharingBackend, shared_folder
from explore_async.running.signals import StopSignals
from explore_async.running.starts import History, Start
from explore_async.running.status import RunStatus
from explore_async.running.task_group import task_group
from explore_async.running.warm_up import load_kernels, seldom_collected
from explore_async.settings.operation import Operation
from explore_async.storage.completions import CompletionStore
from explore_async.storage.directory import RunDirectory
from explore_async.storage.whole_files import write_state

_SECONDS_BETWEEN_STATES = 5.0


class Run:
    """Owns one run from its first request to its last file."""

    def __init__(
        self,
        start: StartingPoint,
        operation: Operation,
        directory: RunDirectory,
        *,
        backend: Backend,
        observer: RunLog,
        offline: bool,
        signals: StopSignals | None = None,
        tune_collector: bool = False,
    ) -> None:
        """`signals`: None where the run handles none. `tune_collector`: see explore_async.running.start.run."""
        self._start = start
        self._explorer = start.explorer
        self._tally = start.tally
        self._recipe = recipe = start.explorer.recipe
        self._prompts = PromptBook(recipe)
        self._operation = operation
        self._directory = directory
        self._backend = backend
        self._observer = observer
        self._offline = offline
        self._signals = signals
        self._tune_collector = tune_collector
        self._own_time = OwnTime()
        self._status = RunStatus(
            start.explorer, start.tally, backend, self._own_time, wall_time_s=operation.wall_time_s
        )
        self._history: History | None = None
        self._ending: Ending | None = None
        self._stopping = asyncio.Event()
        self._main: asyncio.Task[Any] | None = None
        self._performer: Performer | None = None
        self._writing_state: asyncio.Task[None] | None = None
        self._records = Records(directory, start.lines, start.marks)
        self._places = [directory.check_place, self._records.check_places]
        self._checkpoints: CheckpointWriter | None = None
        self._live = LiveFile(directory.live)
        self._overflow_told = self._no_usage_told = False
        self._breaker = Breaker(operation.failure_rate, recipe, directory.path)

    async def to_end(self) -> RunResult:
        """Drives the run to its end, and leaves its files closed and complete up to the last commit."""
        self._main = asyncio.current_task()
        self._observer.open()
        records = self._records
        complete = False
        try:
            async with (
                CompletionStore(self._directory.completions, durability=self._operation.durability) as store,
                task_group() as group,
            ):
                self._places.append(store.check_place)
                held = await store.contents()
                self._status.stored = held.last_row
                self._history = await asyncio.to_thread(History, self._directory.starts, stored=held.last_row)
                if self._operation.retry_failed and held.failures:
                    self._observer.phase(f"{held.failures} failed requests will be sent again")
                    await asyncio.to_thread(records.start_over)  # first: killed in between, all is derived again
                    await store.discard_failures()
                kernels = group.create_task(self._load_kernels(), name="load kernels")
                if not held.last_row and not self._offline:
                    await self._backend.connect()
                backend, render = self._asked()
                self._performer = Performer(
                    store,
                    render,
                    backend,
                    self._own_time,
                    stored=await self._most_stored(store),
                    recipe=self._recipe,
                    render_otherwise=self._prompts.as_joint,
                )
                self._status.performer = self._performer
                self._observer.began(self._recipe, self)
                self._checkpoints = CheckpointWriter(self._directory, self._start, records, store)
                if self._start.marks is None:
                    seeds = self._explorer.seed_events()
                    self._tally.seeds(seeds)
                    records.write(seeds, None)
                else:
                    records.know(self._explorer.tasks(), self._start.keys)
                await self._drive(self._performer, self._checkpoints, kernels)
                kernels.cancel()  # not waited for where the run is stopped before they are compiled
            complete = self._ending in FINISHED
        finally:
            await self._close_files(complete=complete)
            if self._writing_state is not None:  # else an older state could replace the last one
                await asyncio.wait([self._writing_state])
            self._check_places()
            start = self._status.start(self._ending or "error")
            total = None if self._history is None else self._history.total(start)
            stats = self._status.stats(self._ending or "error", total)
            if not (records.replaying and self._directory.tree.exists() and self._directory.stats.exists()):
                # after an interrupted replay, the files that are there hold more
                write_state(self._directory.tree, self._tree())
                write_state(self._directory.stats, stats.document())
            if self._history is not None:
                self._history.write(start)
        return RunResult(self._directory.path, stats)

    async def _close_files(self, *, complete: bool) -> None:
        try:
            if self._checkpoints is not None:
                await self._checkpoints.close()
            await self._records.close(complete=complete)
        finally:  # on a full disk, too
            await asyncio.to_thread(self._live.end)

    async def _most_stored(self, store: CompletionStore) -> float:
        """The most requests to come that have a stored outcome."""
        if self._recipe.checks:
            return inf  # equal answers to an instruction share the row of a check
        return (await store.contents()).rows - self._tally.requests.total()

    def _asked(self) -> tuple[AskedBackend | None, Callable[[Request], ChatRequest]]:
        """The endpoints, as a performer asks them, and what makes the requests that they see."""
        render, folder = self._prompts.render, shared_folder(self._recipe, self._directory.path)
        if self._offline or folder is None:
            return None if self._offline else self._backend, render
        sharing = SharingBackend(self._backend, self._recipe, folder, render)
        return sharing, sharing.render

    async def _drive(self, performer: Performer, checkpoints: CheckpointWriter, kernels: asyncio.Task[None]) -> None:
        abandon = True
        with self._process_prepared():
            async with task_group() as group:
                performer.open(group)
                beside = [
                    group.create_task(coroutine)
                    for coroutine in (
                        self._records.keep_writing(),
                        checkpoints.keep_writing(),
                        self._keep_state(),
                        self._keep_observing(),
                        self._own_time.measure(),
                    )
                ]
                if not self._offline:
                    beside.append(group.create_task(self._backend.watch()))
                if self._operation.wall_time_s is not None:
                    beside.append(group.create_task(self._keep_time(self._operation.wall_time_s)))
                try:
                    await drive(
                        self._explorer, performer, self._publish, self._own_time, ready=lambda: self._loaded(kernels)
                    )
                    self._tell_changes()  # of the last second
                    self._ending = self._explorer.stopped or "complete"
                except RunStopped:
                    self._ending = self._ending or "offline"
                    abandon = False
                finally:
                    await performer.close(abandon=abandon)
                    for coroutine in beside:
                        coroutine.cancel()

    async def _loaded(self, kernels: asyncio.Task[None]) -> None:
        """Waits for the kernels. Raises RunStopped where the run is stopped before: the next start commits what is
        stored.
        """
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({kernels, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if not kernels.done():
            assert self._performer is not None
            self._performer.give_back()
            raise RunStopped
        await kernels

    def _compiling(self, text: str) -> None:
        self._status.preparing = text
        self._observer.phase(text)

    async def _load_kernels(self) -> None:
        await load_kernels(self._compiling)
        if self._status.preparing:
            self._status.preparing = ""
            self._observer.phase("the kernels are compiled")

    def _publish(self, request: Request, stored: StoredOutcome, events: list[Event]) -> None:
        self._tally.commit(request, stored.outcome, events)
        self._records.write(events, stored.key)
        self._status.language.look(events)
        self._observer.committed(events)
        if stored.new and isinstance(stored.outcome, Failure):
            self._tell_first(request, stored.outcome)
        elif stored.new and isinstance(stored.outcome, Completion) and request.kind != checks.KIND:
            self._tell_no_usage(stored.outcome)
        self._breaker.note(request, stored, events)

    def _tell_first(self, request: Request, failure: Failure) -> None:
        """The first requests that are too long for the context: says what helps, before many are refused."""
        if failure.kind == "context_overflow" and not self._overflow_told:
            self._overflow_told = True
            cure = Cures(self._recipe).of_overflow(request.kind)
            self._observer.phase(f"a request of the kind {request.kind} is refused: {failure.detail}. {cure}")

    def _tell_no_usage(self, completion: Completion) -> None:
        """The first completion whose tokens its server does not count: a budget of tokens would not end the run."""
        if not completion.has_usage and not self._no_usage_told:
            self._no_usage_told = True
            cure = Cures(self._recipe).of_no_usage()
            self._observer.phase(f"{completion.endpoint} reports no usage with its completions: {cure}")

    async def _keep_state(self) -> None:
        """Writes the tree, the figures and the history so far, for a user who looks, and for the case of a kill."""
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_STATES)
            documents = {}
            start = self._status.start(None)
            if not self._records.replaying:  # in a replay fuller ones are on the disk already
                total = None if self._history is None else self._history.total(start)
                stats = self._status.stats(None, total)
                documents = {self._directory.tree: self._tree(), self._directory.stats: stats.document()}
            writing = asyncio.to_thread(self._write_state, documents, start)
            self._writing_state = asyncio.create_task(writing)
            await asyncio.shield(self._writing_state)

    def _write_state(self, documents: Mapping[Path, dict[str, Any]], start: Start | None) -> None:
        for path, document in documents.items():
            write_state(path, document)
        if self._history is not None:
            self._history.write(start)

    async def _keep_observing(self) -> None:
        while True:
            self._tell_changes()
            self._observer.tick()
            await asyncio.to_thread(self._check_places)
            document = self._live.document(self._status.snapshot(), simulated=self._tally.simulated)
            await asyncio.to_thread(self._live.write, document)
            await self._observer.flush()
            await asyncio.sleep(1)

    def _tell_changes(self) -> None:
        for change in self._status.changes():
            self._observer.phase(change)

    def _check_places(self) -> None:
        """Raises StorageError where a file that is being written is no longer the file of its name."""
        for check in self._places:
            check()

    async def _keep_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._stop("wall_time")

    def snapshot(self) -> Snapshot:
        return self._status.snapshot()

    def stop(self, ending: Ending = "interrupted") -> None:
        if self._ending is None:
            self._stop(ending)

    def _stop(self, ending: Ending) -> None:
        """The first call lets requests in flight finish; the second ends the run at once, by a cancellation with the
        ending as its argument.
        """
        if self._ending is None:
            self._ending = ending
            self._stopping.set()
            self._status.stopping = True
            if self._performer is not None:
                self._performer.stop(in_haste=ending == "terminated")  # SIGKILL often follows SIGTERM soon
            self._observer.phase(self._status.stop_line())
        elif self._main is not None:
            self._main.cancel(ending)

    @contextmanager
    def _process_prepared(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self._signals is not None:
                stack.enter_context(self._signals.passed_to(self._stop))
            if self._tune_collector:
                stack.enter_context(seldom_collected())
            yield

    def _tree(self) -> dict[str, Any]:
        return {"name": self._recipe.name, "digest": self._status.digest, "trees": self._explorer.trees()}
