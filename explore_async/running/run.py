"""The composition root of a run: builds the parts, wires them, and says how it ended."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from explore_async import __version__
from explore_async.curation.known_texts import read_known
from explore_async.errors import EXIT_NOTHING_KEPT, EXIT_SIGINT, EXIT_SIGTERM, StorageError
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import Event, Request
from explore_async.running.backend import Backend, check_operation
from explore_async.running.breaker import Breaker
from explore_async.running.checkpointing import Checkpoints, Standing, at_last_checkpoint
from explore_async.running.driver import RunStopped, StoredOutcome, drive
from explore_async.running.live import Glimpse, Live
from explore_async.running.own_time import Pulse
from explore_async.running.performer import Performer
from explore_async.running.records import Records
from explore_async.running.resolving import BackendOf, asks_for_model, resolve
from explore_async.running.signals import endings
from explore_async.running.task_group import task_group
from explore_async.settings.config import RunSettings
from explore_async.settings.operation import Operation
from explore_async.settings.recipe import SIMULATED, Recipe
from explore_async.storage.completions import CompletionStore, holding
from explore_async.storage.directory import RunDirectory, differences, refuse_other
from explore_async.storage.whole_files import write_json

if TYPE_CHECKING:
    from explore_async.serving.servers.download import Progress
from rouge_kernels import warm_up

Mode = Literal["resume", "adopt", "offline", "fresh"]
Ending = Literal["target", "complete", "token_budget", "wall_time", "interrupted", "terminated", "offline", "error"]

_SECONDS_BETWEEN_TREES = 5.0
_SECONDS_UNTOLD = 3.0
FINISHED: frozenset[Ending] = frozenset({"target", "complete", "token_budget"})


class Observer(Protocol):
    """Is told what happens. Must be quick, and must not raise."""

    def phase(self, text: str) -> None: ...

    def fetching(self, progress: Progress) -> None: ...

    def began(self, recipe: Recipe, run: RunInProgress) -> None: ...

    def committed(self, events: Sequence[Event]) -> None: ...

    def nothing_new(self) -> None:
        """Called every second, whatever happens."""


class RunInProgress(Protocol):
    def glimpse(self) -> Glimpse: ...


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. `stats` is the content of stats.json."""

    directory: Path
    ending: Ending
    stats: dict[str, Any]

    @property
    def kept(self) -> int:
        return int(self.stats["examples"]["kept"])

    @property
    def is_over(self) -> bool:
        """Whether there are examples, and nobody has asked it to stop before its time."""
        return bool(self.kept) and self.ending in FINISHED | {"wall_time", "offline"}

    @property
    def exit_code(self) -> int:
        if self.ending == "interrupted":
            return EXIT_SIGINT
        if self.ending == "terminated":
            return EXIT_SIGTERM
        return 0 if self.kept or self.ending == "wall_time" else EXIT_NOTHING_KEPT


async def run(settings: RunSettings, path: Path, *, mode: Mode, observer: Observer) -> RunResult:
    """Runs, or goes on with, the run in `path`. Raises an ExploreError where it cannot."""
    if mode != "offline":
        check_operation(settings.operation)
    existed = path.exists()  # noqa: ASYNC240 - nothing else runs yet
    if mode == "offline" and not existed:
        raise StorageError(f"{path}: there is no run to go on with offline")
    offline = mode == "offline"
    against, known = await asyncio.to_thread(read_known, settings.against)
    backend_of = BackendOf(settings.operation, path / "server.log", observer.phase, observer.fetching)
    fresh = mode == "fresh" and existed
    if fresh:
        with RunDirectory(path):
            pass  # nobody else is in there
    if (fresh and settings.operation.server is None) or (not existed and not offline and asks_for_model(settings)):
        await backend_of.probe()  # before a directory is made or moved for a run that cannot begin
    if fresh:
        observer.phase(f"the earlier run is in {RunDirectory(path).set_aside()}")
    RunDirectory(path).refuse_foreign()
    with RunDirectory(path) as directory:
        previous = directory.recipe()
        held = await asyncio.to_thread(holding, directory.completions)
        directory.check_answers(answered=bool(held.last_row))
        if not held.last_row:
            previous = None  # nothing was ever answered: a first start, whatever was wrong with the one before
        elif previous is None and mode != "adopt":
            raise StorageError(
                f"{directory.config}: it is gone, though answers are stored; restore it, or take this config over with "
                "--adopt"
            )
        recipe = await resolve(settings, previous, backend_of, against=against, offline=offline)
        if previous is not None and mode == "resume":
            refuse_other(previous, recipe, path)
        if previous is not None and previous.digest != recipe.digest:
            observer.phase(f"all is derived anew by another recipe: {'; '.join(differences(previous, recipe))}")
        prompts = PromptBook(recipe)  # a faulty template is found before anything is written
        async with backend_of(recipe.wanted_models, prompts.forms(), recipe.window) as backend:
            if previous is None or previous.digest != recipe.digest:
                # What is there stays as it is where the run cannot go on. (Answers without a recipe may need nobody.)
                if not offline and settings.operation.server is None and (previous is not None or not held.last_row):
                    await backend.connect()
                directory.write_recipe(recipe, operation=settings.operation.model_dump(mode="json", exclude={"server"}))
            if settings.operation.retry_failed and held.failures:
                directory.checkpoint.unlink(missing_ok=True)  # all is going to be derived anew
            with _telling_of_compilation(observer):
                standing = await asyncio.to_thread(Standing.at_nothing, recipe, known)
            standing = await asyncio.to_thread(
                at_last_checkpoint, standing, known, directory, answers=held.last_row, told=observer.phase
            )
            return await Run(
                standing, settings.operation, directory, backend=backend, observer=observer, offline=offline
            ).to_end()


@contextmanager
def _telling_of_compilation(observer: Observer) -> Iterator[None]:
    """Says what takes so long where it does: from their cache the kernels come in less than a second."""
    text = "compiling the kernels, once on this machine: some 30 s"
    telling = asyncio.get_running_loop().call_later(_SECONDS_UNTOLD, observer.phase, text)
    try:
        yield
    finally:
        telling.cancel()


@contextmanager
def _collected_seldom() -> Iterator[None]:
    """Garbage in cycles, of which a run makes little, is looked for seldom, and not at all among what is loaded by now:
    with thousands of requests under way a full search stops the loop for 0.1 to 0.3 s.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class Run:
    """Owns one run from its first request to its last file."""

    def __init__(
        self,
        standing: Standing,
        operation: Operation,
        directory: RunDirectory,
        *,
        backend: Backend,
        observer: Observer,
        offline: bool,
    ) -> None:
        self._standing = standing
        self._explorer = standing.explorer
        self._tally = standing.tally
        self._recipe = recipe = standing.explorer.recipe
        self._operation = operation
        self._directory = directory
        self._backend = backend
        self._observer = observer
        self._offline = offline
        self._pulse = Pulse()
        self._began = time.monotonic()
        self._ending: Ending | None = None
        self._main: asyncio.Task[Any] | None = None
        self._performer: Performer | None = None
        self._writing_tree: asyncio.Task[None] | None = None
        self._digest = recipe.digest  # of all its seeds: some milliseconds where they are many
        self._records = Records(directory, standing.marks)
        self._places = [directory.check_place, self._records.check_places]
        self._checkpoints: Checkpoints | None = None
        self._live = Live(directory.live)
        self._breaker = Breaker(operation.failure_rate, recipe.answer_format, directory.path)

    async def to_end(self) -> RunResult:
        self._main = asyncio.current_task()
        records = self._records
        complete = False
        try:
            async with CompletionStore(self._directory.completions, durability=self._operation.durability) as store:
                self._places.append(store.check_place)
                held = await store.holding()
                if self._operation.retry_failed and held.failures:
                    self._observer.phase(f"{held.failures} failed requests will be asked again")
                    await asyncio.to_thread(records.begin_anew)  # first: killed in between, all is derived anew
                    await store.discard_failures()
                await self._get_ready(fresh=not held.last_row)
                backend = None if self._offline else self._backend
                self._performer = Performer(store, PromptBook(self._recipe).render, backend, self._pulse)
                self._observer.began(self._recipe, self)
                self._checkpoints = Checkpoints(
                    self._directory, self._standing, records, store, every=self._operation.checkpoint_every
                )
                if self._standing.marks is None:
                    seeds = self._explorer.seed_events()
                    self._tally.seeds(seeds)
                    records.write(seeds, None)
                else:
                    records.know(self._explorer.tasks())
                await self._drive(self._performer, self._checkpoints)
            complete = self._ending in FINISHED
        finally:
            if self._checkpoints is not None:
                await self._checkpoints.close()
            await records.close(complete=complete)
            await asyncio.to_thread(self._live.end)
            if self._writing_tree is not None:  # else an older tree could land on the last one
                await asyncio.wait([self._writing_tree])
            self._check_places()
            stats = self._stats()
            if not (records.replaying and self._directory.tree.exists() and self._directory.stats.exists()):
                write_json(self._directory.tree, self._tree())  # broken off in a replay, what is there tells more
                write_json(self._directory.stats, stats)
        return RunResult(self._directory.path, stats["ending"], stats)

    async def _get_ready(self, *, fresh: bool) -> None:
        """Compiles the kernels while the server starts, so that neither happens at the first commit."""
        with _telling_of_compilation(self._observer):
            async with task_group() as group:
                group.create_task(asyncio.to_thread(warm_up))
                if fresh and not self._offline:
                    group.create_task(self._backend.connect())

    async def _drive(self, performer: Performer, checkpoints: Checkpoints) -> None:
        abandon = True
        with self._signals(), _collected_seldom():
            async with task_group() as group:
                performer.open(group)
                beside = [
                    group.create_task(coroutine)
                    for coroutine in (
                        self._records.keep_writing(),
                        checkpoints.keep_writing(),
                        self._keep_tree(),
                        self._keep_telling(),
                        self._pulse.beat(),
                    )
                ]
                if not self._offline:
                    beside.append(group.create_task(self._backend.watch()))
                if self._operation.wall_time_s is not None:
                    beside.append(group.create_task(self._keep_time(self._operation.wall_time_s)))
                try:
                    await drive(self._explorer, performer, self._publish, self._pulse)
                    self._ending = self._explorer.stopped or "complete"
                except RunStopped:
                    self._ending = self._ending or "offline"
                    abandon = False
                finally:
                    await performer.close(abandon=abandon)
                    for coroutine in beside:
                        coroutine.cancel()

    def _publish(self, request: Request, stored: StoredOutcome, events: list[Event]) -> None:
        self._tally.commit(request, stored.outcome, events)
        self._records.write(events, stored.key)
        self._observer.committed(events)
        self._breaker.note(request, stored, events)

    async def _keep_tree(self) -> None:
        """The tree so far, for whoever looks. Not while replaying: there a fuller one is on the disk already."""
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_TREES)
            if not self._records.replaying:
                writing = asyncio.to_thread(write_json, self._directory.tree, self._tree())
                self._writing_tree = asyncio.create_task(writing)
                await asyncio.shield(self._writing_tree)

    async def _keep_telling(self) -> None:
        while True:
            self._observer.nothing_new()
            await asyncio.to_thread(self._check_places)
            document = self._live.document(self.glimpse(), simulated=self._tally.simulated)
            await asyncio.to_thread(self._live.write, document)
            await asyncio.sleep(1)

    def _check_places(self) -> None:
        """Raises StorageError where what is written goes elsewhere by now than the name says."""
        for check in self._places:
            check()

    async def _keep_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._stop("wall_time")

    def _stop(self, ending: Ending) -> None:
        """The first time gently; the second time at once, by a cancellation that says which signal it came from."""
        if self._ending is None:
            self._ending = ending
            self._observer.phase("stopping: what comes in shortly is still written down; once more stops at once")
            if self._performer is not None:
                self._performer.stop(in_haste=ending == "terminated")  # whoever sends SIGTERM soon sends SIGKILL
        elif self._main is not None:
            self._main.cancel(ending)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        terminating = endings()
        loop.add_signal_handler(signal.SIGINT, self._stop, "interrupted")
        for ending in terminating:
            loop.add_signal_handler(ending, self._stop, "terminated")
        try:
            yield
        finally:
            for handled in (signal.SIGINT, *terminating):
                loop.remove_signal_handler(handled)

    def glimpse(self) -> Glimpse:
        assert self._performer is not None
        pool = self._backend.statistics()
        return Glimpse(
            self._tally,
            self._performer.statistics(),
            self._backend.capacity,
            time.monotonic() - self._began,
            self._explorer.explored,
            self._trouble(),
            "" if pool is None else pool.engines,
            self._performer.statistics().in_flight if pool is None else pool.in_flight,
            self._pulse.document(),
        )

    def _trouble(self) -> str:
        pool = self._backend.statistics()
        if pool is None:
            return ""
        if self._pulse.is_late:
            return (
                "this process is too busy to keep up with the servers: ask for more examples in a request "
                "(generation.per_request), or split the domains over several runs"
            )
        if pool.held_back:
            return (
                f"the endpoints have room, but a window of {self._recipe.window} allows {self._backend.capacity} "
                "requests at once: start a run with a wider --window"
            )
        return "; ".join(one.trouble for one in pool.endpoints if one.trouble)

    def _tree(self) -> dict[str, Any]:
        return {"name": self._recipe.name, "digest": self._digest, "trees": self._explorer.trees()}

    def _stats(self) -> dict[str, Any]:
        seconds = time.monotonic() - self._began
        document = {
            "explore_async": __version__,
            "digest": self._digest,
            "model": self._recipe.model,
            "simulated": self._tally.simulated or SIMULATED in self._recipe.wanted_models,
            **({"models": self._recipe.models} if self._recipe.models else {}),
            "ending": self._ending or "error",
            **self._tally.document(surplus=self._explorer.surplus()),
            "seconds_this_time": round(seconds, 3),
            "own_time": self._pulse.document(),
        }
        if self._performer is not None:
            performed = self._performer.statistics()
            document["this_time"] = {
                "replayed": performed.replayed,
                "asked": performed.asked,
                "asked_twice": performed.asked_twice,
            }
        pool = self._backend.statistics()
        if pool is not None:
            document["endpoints"] = pool
        return document
