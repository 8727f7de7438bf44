"""One run directory under torture: after each blow it is checked for what a run promises, at the end for equal bytes."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from support.cli import DERIVED, RECIPE, config, derived
from support.template import Template

from torture.processes import Life, Phase, Server

_WHOLE_OR_NOT = ("config.json", "tree.json", "stats.json", "live.json", "starts.json")
_GROWING = ("dataset.jsonl", "decisions.jsonl")
STEPS = f"{RECIPE}responses: separate\nanswers_per_instruction: 2\njudge: {{threshold: 2}}\nturns: 2\n"
"""A recipe with every kind of requests about an instruction."""


@dataclass(slots=True)
class Row:
    """The result of one fault. `in_flight` and `lost` have an entry a blow: requests at the server when it struck, and
    those asked whose answer was not stored afterwards. `repeated` is how many requests came again, `checkpoints` how
    many starts found a checkpoint.
    """

    fault: str
    tried: int = 0
    hit: int = 0
    phases: Counter[Phase] = field(default_factory=Counter)
    in_flight: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    requests: int = 0
    repeated: int = 0
    checkpoints: int = 0
    runs: int = 0
    equal: int = 0
    broken: list[str] = field(default_factory=list)

    def note(self, phase: Phase) -> None:
        self.tried += 1
        self.hit += phase != "ended"
        self.phases[phase] += 1

    def expect(self, holds: bool, promise: str) -> None:
        if not holds:
            self.broken.append(promise)

    def document(self) -> dict[str, Any]:
        return {
            "fault": self.fault,
            "tried": self.tried,
            "hit_live": self.hit,
            "phases": dict(sorted(self.phases.items())),
            "in_flight": _spread(self.in_flight),
            "lost": _spread(self.lost),
            "requests": self.requests,
            "repeated": self.repeated,
            "checkpoints": self.checkpoints,
            "runs": self.runs,
            "equal": self.equal,
            "broken": self.broken,
        }


def _spread(values: list[int]) -> dict[str, float] | None:
    return {"max": max(values), "mean": round(sum(values) / len(values), 1)} if values else None


@dataclass(frozen=True, slots=True)
class Ground:
    """The place of a torture: the config, how the runs are made, and the bytes of an undisturbed one.

    `start_s`: how long the command takes here until it has begun to work. With a template, servers and commands are
    copies of it, which start at once.
    """

    folder: Path
    examples: int
    concurrency: int
    latency_s: float
    whole: dict[str, bytes]
    requests: int
    start_s: float
    template: Template | None

    @staticmethod
    def prepare(
        folder: Path,
        *,
        examples: int,
        concurrency: int,
        latency_s: float,
        recipe: str = RECIPE,
        template: Template | None = None,
    ) -> Ground:
        """Makes the undisturbed run, one request after another at a server that answers at once."""
        config(folder, f"{recipe}operation: {{report: false}}\n")
        bare = Ground(folder, examples, concurrency, latency_s, {}, 0, 0.0, template)
        with bare.server("undisturbed", 0.0) as server:
            command = bare.command(folder / "whole", server.url, "--concurrency", "1")
            began = time.monotonic()
            life = Life(command, folder / "whole", server, CHECKPOINT_EVERY=str(examples // 10))
            life.wait_for("replay")
            start_s = time.monotonic() - began
            assert life.end() == 0, life.told()
            requests = server.asked().total()
        return replace(bare, whole=derived(folder / "whole"), requests=requests, start_s=start_s)

    def command(self, directory: Path, url: str, *more: str) -> list[str]:
        concurrency = () if "--concurrency" in more else ("--concurrency", str(self.concurrency))
        return [
            *("run", str(self.folder / "config.yaml"), "--endpoint", url, "--out", str(directory)),
            *("--window", str(12 * self.concurrency), "--max-examples", str(self.examples), *concurrency, *more),
        ]

    def room(self, name: str) -> Path:
        room = self.folder / name
        room.mkdir()
        return room

    def server(self, name: str, latency_s: float | None = None) -> Server:
        return Server(self.room(name), self.latency_s if latency_s is None else latency_s, self.template)


class Trial:
    """Owns one run directory and the row to which its checks report."""

    def __init__(self, ground: Ground, server: Server, row: Row, name: str) -> None:
        self._ground = ground
        self._server = server
        self._row = row
        self._since = server.noted()
        self._last = self._since
        self._stored: set[int] = set()
        self.directory = ground.folder / name

    def launch(self, *more: str, url: str | None = None, terminal: bool = False, **env: str) -> Life:
        self._row.checkpoints += (self.directory / "checkpoint.json").exists()
        command = self._ground.command(self.directory, url or self._server.url, *more)
        often = {"CHECKPOINT_EVERY": str(self._ground.examples // 10)}
        return Life(command, self.directory, self._server, terminal=terminal, **often, **env)

    def check(self, *, lossless: bool = False) -> None:
        """After a blow, with no process alive. `lossless`: it was gentle, all that was asked is to be stored."""
        row = self._row
        asked = set(self._server.asked(self._since))
        stored = set(stored_in(self.directory))
        row.lost.append(len(asked - stored))
        row.expect(stored >= self._stored, "what was stored stays stored")
        self._nothing_again()
        most = 0 if lossless else 2 * self._ground.concurrency  # in flight, and answered but not durable yet
        row.expect(row.lost[-1] <= most, f"a blow costs at most {most} answers, not {row.lost[-1]}")
        self._stored = stored
        for name in _GROWING:
            path = self.directory / name
            there = path.read_bytes() if path.exists() else b""
            row.expect(self._ground.whole[name].startswith(there), f"{name} is a prefix at any time")
        for name in _WHOLE_OR_NOT:
            path = self.directory / name
            if path.exists():
                orjson.loads(path.read_bytes())
        row.expect(self._is_whole("checkpoint.json"), "a checkpoint is what was written")

    def _is_whole(self, name: str) -> bool:
        path = self.directory / name
        if not path.exists():
            return True
        head, body = path.read_bytes().split(b"\n", 1)
        return bool(orjson.loads(head)["crc"] == zlib.crc32(body))

    def _nothing_again(self) -> None:
        again = set(self._server.asked(self._last)) & self._stored
        self._last = self._server.noted()
        self._row.expect(not again, f"what is stored is not asked again: {len(again)}")

    def finish(self, *, url: str | None = None, **env: str) -> None:
        """The same command to its end: the same bytes, and nothing asked that was stored."""
        row = self._row
        life = self.launch(url=url, **env)
        code = life.end()
        row.expect(code == 0, f"the last command ends with 0, not {code}: {life.told()[-500:]}")
        self.compare()

    def compare(self) -> None:
        row = self._row
        self._nothing_again()
        equal = derived(self.directory) == self._ground.whole
        row.runs += 1
        row.equal += equal
        row.expect(equal, f"{', '.join(DERIVED)} equal those of an undisturbed run ({self.directory})")
        asked = self._server.asked(self._since)
        row.requests += asked.total()
        row.repeated += asked.total() - len(asked)
        left = sorted(
            path.name for path in self.directory.iterdir() if path.name.startswith(".") and path.name != ".lock"
        )
        row.expect(not left, f"nothing half made is left behind: {left}")
        if equal:
            shutil.rmtree(self.directory)


def stored_in(directory: Path) -> dict[int, str]:
    """The keys of the stored answers by the seed of their request, read from a copy: reading must not mend anything."""
    with tempfile.TemporaryDirectory() as folder:
        for path in directory.glob("completions.sqlite*"):
            shutil.copy(path, folder)
        database = Path(folder) / "completions.sqlite"
        if not database.exists():
            return {}
        with contextlib.closing(sqlite3.connect(database)) as connection:
            if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'outcomes'").fetchone()[0]:
                return {}
            rows = connection.execute("SELECT key, question FROM outcomes").fetchall()
    return {orjson.loads(question)["seed"]: key for key, question in rows}
