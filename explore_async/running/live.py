"""live.json: a run's figures of every second, for other processes such as the view. Removed when the run ends."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from explore_async.running.observer import Snapshot
from explore_async.storage.whole_files import write_json


class LiveFile:
    """Owns the file while the run is on. `write` touches the disk and belongs in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._host = socket.gethostname()

    def document(self, snapshot: Snapshot, *, simulated: bool) -> dict[str, Any]:
        tally = snapshot.tally
        return {
            "on": True,
            "host": self._host,
            "pid": os.getpid(),
            "elapsed_s": round(snapshot.elapsed_s, 1),
            "phase": snapshot.phase,
            "steps": snapshot.steps,
            "left_s": None if snapshot.left_s is None else round(snapshot.left_s, 1),
            "kept": tally.kept,
            "dropped": tally.dropped.total(),
            "instructions": tally.instructions,
            "unfinished": snapshot.unfinished,
            "awaited": snapshot.awaited,
            "scores": tally.scores_by_aspect,
            "stored_not_judged": snapshot.performer.waiting,
            "reasons": dict(tally.dropped.most_common()),
            "tasks": tally.tasks.total(),
            "tokens": dict(tally.tokens),
            "answers_per_s": round(snapshot.answers_per_s, 2),
            "tokens_per_s": round(snapshot.tokens_per_s, 1),
            "in_flight": snapshot.in_flight,
            "capacity": snapshot.limit,
            "explored": snapshot.explored,
            "endpoints": snapshot.endpoints,
            "engines": snapshot.engines,
            "held_up": snapshot.held_up,
            "trouble": snapshot.trouble,
            "simulated": simulated,
            "own_time": snapshot.own_time,
        }

    def write(self, document: dict[str, Any]) -> None:
        write_json(self._path, document)

    def end(self) -> None:
        self._path.unlink(missing_ok=True)
