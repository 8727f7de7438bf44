"""live.json: a run's figures of every second, for other processes such as the view. Removed when the run ends."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

from explore_async.running.observer import Snapshot
from explore_async.storage.whole_files import write_state


class LiveFile:
    """Owns the file while the run is on. `write` touches the disk and belongs in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._host = socket.gethostname()
        self._lock = threading.Lock()
        self._ended = False

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
        with self._lock:
            if not self._ended:
                write_state(self._path, document)

    def end(self) -> None:
        """Removes it. A write that is under way in another thread ends before."""
        with self._lock:
            self._ended = True
            self._path.unlink(missing_ok=True)
