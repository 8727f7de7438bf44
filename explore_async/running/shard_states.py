"""The state of each shard of a run while others make them: read from its live.json, and at its end from its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from explore_async.running.ray_shard import Failed
from explore_async.running.result import RunResult
from explore_async.storage.directory import RunDirectory


@dataclass(frozen=True, slots=True)
class ShardState:
    """A shard at one moment. `index`: from 1; `phase`: what it does, in words; `where`: its machine."""

    index: int
    phase: str
    where: str = ""
    tasks: int = 0
    kept: int = 0
    dropped: int = 0
    in_flight: int = 0
    answers_per_s: float = 0.0
    tokens_per_s: float = 0.0
    trouble: str = ""
    is_at_work: bool = False


@dataclass(frozen=True, slots=True)
class AllShards:
    """All shards at one moment. The sums have the tasks of the top once for each shard."""

    shards: Sequence[ShardState]
    wanted: int | None
    """Examples that all of them go for."""

    @property
    def kept(self) -> int:
        return sum(shard.kept for shard in self.shards)

    @property
    def figures(self) -> str:
        """The sums in a line."""
        shards = self.shards
        at_work = sum(shard.is_at_work for shard in shards)
        of = f" of {self.wanted:,}" if self.wanted is not None else ""
        return (
            f"{at_work} of {len(shards)} shards at work, {sum(shard.tasks for shard in shards):,} tasks, "
            f"{self.kept:,}{of} examples kept, {sum(shard.dropped for shard in shards):,} dropped, "
            f"{sum(shard.answers_per_s for shard in shards):,.1f} completions/s, "
            f"{sum(shard.tokens_per_s for shard in shards):,.0f} tokens/s, "
            f"{sum(shard.in_flight for shard in shards):,} in flight"
        )

    def line(self) -> str:
        """The sums with what is wrong, in a line."""
        return "; ".join([self.figures, *self.troubles])

    @property
    def troubles(self) -> list[str]:
        return [f"shard {shard.index}: {shard.trouble}" for shard in self.shards if shard.trouble]


class LiveShard:
    """Reads the state of a shard that is being made in this directory. `restarts`: the processes that made it after the
    first.
    """

    def __init__(self, index: int, directory: Path) -> None:
        self._index = index
        self._path = RunDirectory(directory).live
        self._latest: dict[str, Any] | None = None
        self.restarts = 0

    def forget(self) -> None:
        """Removes what a killed process has left."""
        self._path.unlink(missing_ok=True)

    def state(self, *, placed: bool) -> ShardState:
        """Its state now, or the last one that was seen. `placed`: it has a place on a machine."""
        before, self._latest = self._latest, self._read() or self._latest
        if self._latest is None:
            return ShardState(self._index, "begins" if placed else "waits for a place")
        if before is not None and any(before[name] != self._latest[name] for name in ("host", "pid")):
            self.restarts += 1
        names = ("tasks", "kept", "dropped", "in_flight", "answers_per_s", "tokens_per_s", "trouble")
        figures = {name: self._latest[name] for name in names}
        return ShardState(self._index, self._latest["phase"], self._latest["host"], is_at_work=True, **figures)

    def _read(self) -> dict[str, Any] | None:
        try:
            document: dict[str, Any] = orjson.loads(self._path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return None
        return document


def ended_state(index: int, end: RunResult | Failed | None) -> ShardState:
    """The state of a shard that has ended; None where it was stopped before its first request."""
    if end is None:
        return ShardState(index, "stopped")
    if isinstance(end, Failed):
        return ShardState(index, "failed", trouble=end.message)
    stats = end.stats
    examples, hosts = stats.examples, () if stats.all_starts is None else stats.all_starts.hosts
    host = hosts[-1] if hosts else ""  # none has asked anything
    return ShardState(index, end.ending, host, stats.tasks.total, examples.kept, examples.total_dropped)
