"""`run --engine ray`: Ray places the shards of a run on its machines, and starts them again where they die.

Each shard is an actor with an explorer and a store of its own, in the directory that `--shard I/N` gives it. This
process holds none of their data: it sees their live.json, stops them, and takes their results.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from explore_async.config.endpoints_file import read_endpoints
from explore_async.errors import ConfigError, InUse
from explore_async.exploration.sharding import shard_name
from explore_async.running.backend import check_operation
from explore_async.running.ray_shard import SHARED_FILE, Failed, ShardActor, ShardWork, StopEnding
from explore_async.running.result import RunResult
from explore_async.running.shard_states import AllShards, LiveShard, ShardState, ended_state
from explore_async.running.sharing import set_shared_aside
from explore_async.running.start import Mode
from explore_async.settings.run_settings import RunSettings
from explore_async.storage.directory import RunDirectory
from explore_async.storage.whole_files import storage_errors

_OPTIONS = {"num_cpus": 1, "scheduling_strategy": "SPREAD", "max_restarts": 100, "max_task_retries": -1}
"""A shard that has died a hundred times, as of too little memory, will die again."""
_LOOK_S = 1.0
ShardEnd: TypeAlias = RunResult | Failed | None
"""The result of a shard, the error that ended it, or None where it was stopped before its first request."""


def works_for(settings: RunSettings, folder: Path, shards: int, mode: Mode) -> list[ShardWork]:
    """The work of each shard in its directory below `folder`. Changes nothing yet.

    Raises ConfigError where the endpoints are no endpoints that all can ask, and InUse where a process works on a
    shard.
    """
    operation = settings.operation
    if operation.server is not None:
        raise ConfigError("operation.server: with --engine ray each shard would start a server; give endpoints instead")
    if mode != "offline":
        check_operation(operation)
    folder = folder.absolute()
    directories = [folder / shard_name(f"{index}/{shards}") for index in range(1, shards + 1)]
    for directory in directories:
        if RunDirectory(directory).in_use:
            raise InUse(f"another process is running in {directory}; wait for it or stop it")
    token = secrets.token_hex(8)
    paths = {"endpoints_file": operation.endpoints_file and os.path.abspath(operation.endpoints_file)}  # noqa: PTH100
    shared = operation.model_copy(update={**paths, "wall_time_s": None, "shared_by": operation.shared_by * shards})
    return [
        ShardWork(
            settings.model_copy(update={"shard": f"{index}/{shards}", "operation": shared}),
            directory,
            "resume" if mode == "fresh" else mode,  # a shard that is started again goes on
            token,
            str(Path.cwd()),
            _keys(settings),
        )
        for index, directory in enumerate(directories, 1)
    ]


def _keys(settings: RunSettings) -> Mapping[str, str]:
    """The keys that the endpoints name, by their variables: the processes of a cluster have another environment."""
    operation = settings.operation
    listed = operation.endpoints
    if operation.endpoints_file is not None:
        listed = read_endpoints(Path(operation.endpoints_file))
    names = [endpoint.api_key_env for endpoint in listed if endpoint.api_key_env]
    return {name: os.environ[name] for name in names if name in os.environ}


def prepare(works: Sequence[ShardWork], *, fresh: bool) -> None:
    """Makes their folder, where earlier shards are set aside if they are to begin afresh."""
    folder, token = works[0].directory.parent, works[0].token
    if fresh:
        for work in works:
            RunDirectory(work.directory).set_aside()
        set_shared_aside(folder, len(works))
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SHARED_FILE).write_text(token, encoding="utf-8")


def name_of(work: ShardWork) -> str:
    """The name of its actor, by which Ray's own tools show it: another one at each start."""
    return f"{work.directory.name}-{work.token}"


class ShardsOnRay:
    """Owns the actors of a run, on the cluster at hand, from the first to the last of them."""

    def __init__(self, works: Sequence[ShardWork], *, wanted: int | None, say: Callable[[str], None]) -> None:
        import ray

        self._ray: Any = ray
        self._works = works
        self._wanted = wanted
        self._say = say
        self._live = [LiveShard(index, work.directory) for index, work in enumerate(works, 1)]
        self._placed = [False] * len(works)
        self._ends: dict[int, ShardEnd] = {}

    def make(
        self, asked_to_stop: Callable[[], StopEnding | None], on_look: Callable[[AllShards], None]
    ) -> list[ShardEnd]:
        """Makes all shards, and returns their ends in their order. An error ends one shard, and the others go on.

        `asked_to_stop` is asked every second; `on_look` gets the state as often.
        """
        ray = self._ray
        actor = ray.remote(**_OPTIONS)(ShardActor)
        for live in self._live:
            live.forget()
        actors = [actor.options(name=name_of(work)).remote(work) for work in self._works]
        made = {handle.make.remote(): at for at, handle in enumerate(actors)}
        placed = {handle.placed.remote(): at for at, handle in enumerate(actors)}
        try:
            while made:
                for ref in ray.wait([*made], num_returns=1, timeout=_LOOK_S)[0]:
                    self._end(made.pop(ref), ref, actors)
                for ref in ray.wait([*placed], num_returns=len(placed), timeout=0)[0] if placed else ():
                    self._placed[placed.pop(ref)] = True
                if (ending := asked_to_stop()) is not None:
                    self._stop(ending, made, actors)
                on_look(self._state())
        finally:
            for handle in actors:
                ray.kill(handle)
        return [self._ends[at] for at in range(len(actors))]

    def _end(self, at: int, ref: Any, actors: Sequence[Any]) -> None:
        try:
            end = self._ends[at] = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error  # a bug, and no fault of Ray
        self._ray.kill(actors[at])  # its place is for another
        if isinstance(end, Failed):
            self._say(f"shard {at + 1} of {len(actors)}: {end.message}")

    def _stop(self, ending: StopEnding, made: dict[Any, int], actors: Sequence[Any]) -> None:
        """Stops those that work, also those that were started again since; and those without a place for good."""
        for ref, at in list(made.items()):
            if self._placed[at]:
                actors[at].stop.options(max_task_retries=0).remote(ending)
            else:
                del made[ref]
                self._ray.kill(actors[at])
                self._ends[at] = None

    def _state(self) -> AllShards:
        shards: list[ShardState] = []
        for at, live in enumerate(self._live):
            if at in self._ends:
                shards.append(ended_state(at + 1, self._ends[at]))
                continue
            before = live.restarts
            shards.append(live.state(placed=self._placed[at]))
            if live.restarts > before:
                self._say(f"shard {at + 1} of {len(self._live)} was started again and goes on from what it has stored")
        return AllShards(shards, self._wanted)
