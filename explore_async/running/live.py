"""What a run says of itself every second in live.json, for whoever looks on from another process. Gone when it ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explore_async.running.performer import PerformerStatistics
from explore_async.running.tally import Tally
from explore_async.storage.whole_files import write_json

_RATE_OVER_S = 10.0


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What a run is doing at this moment, for whoever shows it."""

    tally: Tally
    performer: PerformerStatistics
    capacity: int
    elapsed_s: float
    explored: bool
    trouble: str
    """What is wrong with the endpoints at the moment; empty where nothing is."""
    engines: str
    """What the servers say of themselves; empty where they say nothing."""
    in_flight: int
    """Requests at the endpoints."""
    own_time: Mapping[str, object]
    """How late the event loop is, and where this process's time goes."""


class Live:
    """Owns the file while the run is on. `write` touches the disk and belongs in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: deque[tuple[float, int]] = deque()

    def document(self, glimpse: Glimpse, *, simulated: bool) -> dict[str, Any]:
        tally = glimpse.tally
        now, tokens = glimpse.elapsed_s, tally.tokens["completion"]
        self._written.append((now, tokens))
        while now - self._written[0][0] > _RATE_OVER_S:
            self._written.popleft()
        then, before = self._written[0]
        return {
            "on": True,
            "elapsed_s": round(now, 1),
            "kept": tally.kept,
            "dropped": tally.dropped.total(),
            "reasons": dict(tally.dropped.most_common()),
            "tasks": tally.tasks.total(),
            "tokens": dict(tally.tokens),
            "tokens_per_s": round((tokens - before) / (now - then), 1) if now > then else 0.0,
            "in_flight": glimpse.in_flight,
            "capacity": glimpse.capacity,
            "explored": glimpse.explored,
            "engines": glimpse.engines,
            "trouble": glimpse.trouble,
            "simulated": simulated,
            "own_time": glimpse.own_time,
        }

    def write(self, document: dict[str, Any]) -> None:
        write_json(self._path, document)

    def end(self) -> None:
        self._path.unlink(missing_ok=True)
