"""live.json: a run's figures of every second, for other processes such as the view. Removed when the run ends."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from explore_async.running.observer import Snapshot
from explore_async.storage.whole_files import write_json

_RATE_OVER_S = 10.0


class LiveFile:
    """Owns the file while the run is on. `write` touches the disk and belongs in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: deque[tuple[float, int]] = deque()

    def document(self, snapshot: Snapshot, *, simulated: bool) -> dict[str, Any]:
        tally = snapshot.tally
        now, tokens = snapshot.elapsed_s, tally.tokens["completion"]
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
            "in_flight": snapshot.in_flight,
            "capacity": snapshot.capacity,
            "explored": snapshot.explored,
            "engines": snapshot.engines,
            "trouble": snapshot.trouble,
            "simulated": simulated,
            "own_time": snapshot.own_time,
        }

    def write(self, document: dict[str, Any]) -> None:
        write_json(self._path, document)

    def end(self) -> None:
        self._path.unlink(missing_ok=True)
