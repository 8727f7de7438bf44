"""Power loss: what lies on the disk afterwards, made from what a killed run has left, and gone on with.

A disk keeps what was synced. Of the rest, here the end of the write-ahead log and of the derived files, it may keep any
part; what a run writes whole (synced, then renamed) is there in one version or another.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
from support.cli import environment

from torture.processes import Server, path_of
from torture.trial import Ground, Row, Trial, stored_in

_LATENCY_S = 0.02
_EXIT_STORAGE = 4
_GROWING = ("dataset.jsonl", "decisions.jsonl")
_REWRITTEN = ("tree.json", "stats.json", "live.json", "checkpoint.json", "starts.json")


def cuts(ground: Ground, rng: random.Random, times: int, *, images: int = 3) -> Row:
    """durability normal: the log is cut at any byte, or its end was never written though its length was; each derived
    file is cut anywhere, longer or shorter than what the remaining answers lead to; the index of the log is gone.
    """
    row = Row("power lost, durability normal")
    with ground.server("cuts", _LATENCY_S) as server:
        for number in range(images):
            image = _killed(ground, server, ground.folder / f"image-{number}", rng)
            for _ in range(number, times, images):
                trial = Trial(ground, server, row, f"cut-{row.runs}")
                shutil.copytree(image, trial.directory)
                _lose(trial.directory, rng)
                row.note("asking")
                row.lost.append(len(stored_in(image)) - len(stored_in(trial.directory)))
                _go_on(trial, row)
                row.repeated += row.lost[-1]
    return row


def _go_on(trial: Trial, row: Row) -> None:
    """The same command to its end. Of a dataset whose answers are all gone nothing is made anew unasked; without it the
    run begins again.
    """
    if not stored_in(trial.directory) and (trial.directory / _GROWING[0]).stat().st_size:
        life = trial.launch("--quiet")
        code = life.end()
        row.expect(code == _EXIT_STORAGE, f"answers that are all gone are missed, not {code}: {life.told()[-500:]}")
        for name in _GROWING:
            (trial.directory / name).unlink()
    trial.finish()


def unsynced(ground: Ground, rng: random.Random, times: int, durability: str) -> Row:
    """strace tells what of the log was synced when the run was killed, and nothing else is kept. With durability full
    every answer that was used is still there: no line of evidence has come from one that is lost. With normal some are
    gone, which shows that the account is no flattery.
    """
    row = Row(f"power lost, only what was synced, {durability}")
    with ground.server(f"unsynced-{durability}", _LATENCY_S) as server:
        for number in range(times):
            trial = Trial(ground, server, row, f"{durability}-{number}")
            trace = ground.room(f"trace-{durability}-{number}") / "trace"
            _kill_traced(
                ground.command(trial.directory, server.url, "--quiet", "--set", f"operation.durability={durability}"),
                trial.directory,
                trace,
                rng,
            )
            row.note("asking")
            log = trial.directory / "completions.sqlite-wal"
            before = len(stored_in(trial.directory))
            with log.open("r+b") as file:
                file.truncate(min(synced(trace.read_text(), log.name), log.stat().st_size))
            (trial.directory / "completions.sqlite-shm").unlink()
            row.lost.append(before - len(stored_in(trial.directory)))
            used, there = _used(trial.directory), set(stored_in(trial.directory).values())
            row.expect(bool(used), "something was used before the power was lost")
            if durability == "full":
                row.expect(used <= there, f"what was used is kept: {len(used - there)} lost")
            else:
                row.expect(not used <= there, "what was not synced is lost")
            _go_on(trial, row)
    return row


def _killed(ground: Ground, server: Server, directory: Path, rng: random.Random) -> Path:
    """A directory whose run was killed in the middle."""
    trial = Trial(ground, server, Row("an image"), directory.name)
    life = trial.launch("--quiet")
    wanted = server.asked().total() + rng.randint(ground.requests // 10, ground.requests // 2)
    while server.asked().total() < wanted:
        life.live_for(0.02)
        assert life.phase() != "ended", life.told()
    life.send(signal.SIGKILL)
    life.end()
    return directory


def _lose(directory: Path, rng: random.Random) -> None:
    log = directory / "completions.sqlite-wal"
    size = log.stat().st_size
    kept = int(size * _share(rng))
    with log.open("r+b") as file:
        if rng.random() < 0.5:
            file.truncate(kept)
        else:
            file.seek(kept)
            file.write(bytes(size - kept))
    (directory / "completions.sqlite-shm").unlink(missing_ok=True)
    for name in _GROWING:
        with (directory / name).open("r+b") as file:
            file.truncate(int(file.seek(0, 2) * _share(rng)))
    for name in _REWRITTEN:
        if rng.random() < 0.5:
            (directory / name).unlink(missing_ok=True)


def _share(rng: random.Random) -> float:
    """The number of bytes of a file that are kept: any part, from nothing to all of it."""
    return rng.choice((0.0, 1.0, rng.random(), rng.random()))


def _kill_traced(command: list[str], directory: Path, trace: Path, rng: random.Random) -> None:
    """Runs the command under strace and kills it when it has written some evidence."""
    calls = "trace=fsync,fdatasync,pwrite64"
    process = subprocess.Popen(
        ["strace", "-f", "-y", "-e", calls, "-s", "0", "-o", trace, sys.executable, "-m", "explore_async", *command],
        env=environment(PYTHONPATH=path_of()),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    decisions = directory / "decisions.jsonl"
    until = time.monotonic() + 120
    while not (decisions.exists() and decisions.stat().st_size > rng.randint(20_000, 100_000)):
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < until, "the run writes no evidence"
        time.sleep(0.01)
    traced = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in traced:
        os.kill(int(pid), signal.SIGKILL)
    process.wait()


def synced(trace: str, name: str) -> int:
    """The number of bytes at the beginning of the file that had been synced, by strace's account. A call that is begun in one line
    and resumed in another counts as done when it is resumed.
    """
    written = durable = 0
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        thread, _, call = line.partition(" ")
        if call.rstrip().endswith("<unfinished ...>"):
            begun[thread] = call
            continue
        if "resumed>" in call:
            call = begun.pop(thread, "").replace("<unfinished ...>", "") + call.split("resumed>", 1)[1]
        if f"/{name}>" not in call:
            continue
        if found := re.search(r"pwrite64\(.*, (\d+), (\d+)\) += (\d+)", call):
            written = max(written, int(found[2]) + int(found[3]))
        elif re.search(r"f(data)?sync\(.*\) += 0", call):
            durable = written
    return durable


def _used(directory: Path) -> set[str]:
    """The keys of all answers from which evidence was written."""
    lines = (directory / "decisions.jsonl").read_bytes().splitlines(keepends=True)
    keys = {orjson.loads(line).get("request") for line in lines if line.endswith(b"\n")}
    return keys - {None}
