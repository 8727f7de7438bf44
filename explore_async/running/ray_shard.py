"""The actor of Ray that makes one shard of a run. It imports no ray: Ray wraps the class."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from explore_async.errors import ExploreError, InUse, StorageError
from explore_async.running.observer import RunInProgress, SilentObserver
from explore_async.running.result import RunResult
from explore_async.running.start import Mode, run
from explore_async.settings.recipe import Recipe
from explore_async.settings.run_settings import RunSettings

SHARED_FILE = ".shared"
"""A file in the folder of the shards, by which an actor knows that its machine has the same folder."""
_LEAVING_S = 300.0
"""A file system on the network may hold the lock of a process for so long after its machine is lost."""
StopEnding: TypeAlias = Literal["interrupted", "terminated", "wall_time"]


@dataclass(frozen=True, slots=True)
class ShardWork:
    """All that an actor has to know. `directory`: of its run; `token`: the content of SHARED_FILE beside that."""

    settings: RunSettings
    directory: Path
    mode: Mode
    token: str
    working_directory: str
    keys: Mapping[str, str]
    """The keys of the endpoints, by the names of the variables that hold them."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The error that ended a shard."""

    message: str
    exit_code: int


class ShardActor:
    """Makes its shard by one long call. Ray may make that call again, in a new process, when the one before has died or
    cannot be reached: it goes on from the store.
    """

    def __init__(self, work: ShardWork) -> None:
        os.environ.update(work.keys)
        with suppress(OSError):
            os.chdir(work.working_directory)
        self._work = work
        self._watch = _Watch()
        self._making: asyncio.Task[RunResult] | None = None
        self._stopped = False

    async def placed(self) -> None:
        """Returns once the actor has a place."""

    async def make(self) -> RunResult | Failed | None:
        """Makes the shard, or goes on with it; None where it was stopped before its first request."""
        try:
            await asyncio.to_thread(self._check_folder)
            if self._stopped:
                return None
            if self._making is None:  # else Ray has made this call before, and has lost sight of it
                self._making = asyncio.create_task(self._run())
            return await asyncio.shield(self._making)
        except ExploreError as error:
            return Failed(str(error), error.exit_code)
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            return None

    async def stop(self, ending: StopEnding) -> None:
        """Ends the shard in order. Only the first call does anything."""
        if self._stopped:
            return
        self._stopped = True
        if self._watch.run is not None:
            self._watch.run.stop(ending)
        elif self._making is not None:
            self._making.cancel()

    async def _run(self) -> RunResult:
        """The run, once a process that Ray has given up has left its directory."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _LEAVING_S
        while True:
            try:
                work = self._work
                return await run(
                    work.settings, work.directory, mode=work.mode, observer=self._watch, tune_collector=True
                )
            except InUse:
                if loop.time() > until:
                    raise
                await asyncio.sleep(1)

    def _check_folder(self) -> None:
        folder = self._work.directory.parent
        with suppress(OSError):
            if (folder / SHARED_FILE).read_text(encoding="utf-8") == self._work.token:
                return
        raise StorageError(
            f"{folder}: the machine {socket.gethostname()} does not have this folder; --out has to be on a file "
            "system that all machines of the cluster share"
        )


class _Watch(SilentObserver):
    """Knows the run once it can be stopped in order."""

    run: RunInProgress | None = None

    def began(self, _recipe: Recipe, run: RunInProgress) -> None:
        self.run = run
