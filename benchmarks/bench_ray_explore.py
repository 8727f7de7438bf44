"""Measures the completions per second of all shards of a run on Ray together, and the cost of each completion.

Every shard asks two simulated servers in processes of their own, which answer after 0.2 s, with the same number of
requests in flight. So the rate grows with the shards until the processors are busy; servers and shards share them. The
processor time of a completion (all threads of the shard's process, after its start) tells what machines with more of
them would do. Shards by Ray and a run without it, `alone`, are measured alike, once each second.

    python benchmarks/bench_ray_explore.py [--shards 1 2 4] [--in-flight 64] [--out results/ray_explore.json]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson
from corpora import machine, report

from explore_async.ray_cluster import ray_at_hand
from explore_async.running.shard_states import AllShards
from explore_async.running.shards_on_ray import ShardsOnRay, prepare, works_for
from explore_async.running.start import run_sync
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.settings.run_settings import RunSettings

ANSWER_S = 0.2
SERVERS = 2
TICKS = os.sysconf("SC_CLK_TCK")


def serve(pipe: Connection) -> None:
    async def on() -> None:
        async with SimulatedServer(100_000, Latency(ANSWER_S, ANSWER_S), duplicate_share=0) as server:
            pipe.send(server.url)
            await asyncio.to_thread(pipe.recv)

    with suppress(EOFError):
        asyncio.run(on())


@contextmanager
def servers() -> Iterator[list[str]]:
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(SERVERS):
        own, theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(theirs,)))
        processes[-1].start()
        pipes.append(own)
    try:
        yield [pipe.recv() for pipe in pipes]
    finally:
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.send("end")
            process.join()


def settings(urls: Sequence[str], in_flight: int, examples: int) -> RunSettings:
    return RunSettings.model_validate(
        {
            "domains": [{"name": f"Domain {number}"} for number in range(4)],
            "exploration": {"depth": 1, "breadth": [6]},
            "generation": {"per_request": 5},
            "targets": {"examples": examples},
            "operation": {"endpoints": [{"url": url, "concurrency": in_flight // SERVERS} for url in urls]},
        }
    )


@dataclass
class Watched:
    """A process that makes a run: its processor time, its age and its tokens, when they were first and last seen."""

    path: Path
    seen: list[tuple[float, float, int]] = field(default_factory=list)

    def look(self) -> None:
        with suppress(OSError, orjson.JSONDecodeError, IndexError):
            live = orjson.loads((self.path / "live.json").read_bytes())
            times = Path(f"/proc/{live['pid']}/stat").read_text().rpartition(")")[2].split()[11:13]
            if live["phase"] == "generating":
                self.seen.append((sum(map(int, times)) / TICKS, live["elapsed_s"], live["tokens"]["completion"]))

    def figures(self) -> tuple[float, float]:
        """Completions per second, and seconds of processor time for each."""
        stats = orjson.loads((self.path / "stats.json").read_bytes())
        first, last = self.seen[0], self.seen[-1]
        received = stats["requests"]["total"] * (last[2] - first[2]) / stats["tokens"]["completion"]
        return received / (last[1] - first[1]), (last[0] - first[0]) / received


def measured(name: str, shards: int, watched: Sequence[Watched], make: Callable[[], Any]) -> dict[str, Any]:
    ended = threading.Event()

    def keep_looking() -> None:
        while not ended.wait(1):
            for one in watched:
                one.look()

    looking = threading.Thread(target=keep_looking)
    looking.start()
    began = time.perf_counter()
    make()
    seconds = time.perf_counter() - began
    ended.set()
    looking.join()
    rates, costs = zip(*(one.figures() for one in watched), strict=True)
    row = {"shards": name, "seconds": round(seconds, 1), "completions_per_s": round(sum(rates), 1)}
    row["ms_each"] = round(1000 * sum(costs) / shards, 3)
    print(f"{name:>8} {seconds:8.1f} {sum(rates):14.1f} {row['ms_each']:8.3f}", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--in-flight", type=int, default=64, help="of each shard")
    parser.add_argument("--examples", type=int, default=16_000, help="of each shard")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print(f"{'shards':>8} {'seconds':>8} {'completions/s':>14} {'ms each':>8}")
    rows = []
    with tempfile.TemporaryDirectory() as place, servers() as urls, ray_at_hand(max(options.shards)):
        alone = Path(place, "alone")
        given = settings(urls, options.in_flight, options.examples)
        rows.append(measured("alone", 1, [Watched(alone)], lambda: run_sync(given, alone)))
        for shards in options.shards:
            folder = Path(place, str(shards))
            given = settings(urls, options.in_flight * shards, options.examples * shards)
            works = works_for(given.model_copy(update={"shard": f"1/{shards}"}), folder, shards, "resume")
            prepare(works, fresh=False)
            on_ray = ShardsOnRay(works, wanted=None, say=print)
            watched = [Watched(work.directory) for work in works]
            rows.append(measured(str(shards), shards, watched, lambda on_ray=on_ray: on_ray.make(lambda: None, ignore)))
    given_by_shard = {"in_flight": options.in_flight, "examples": options.examples}
    report({"machine": machine("ray"), **given_by_shard, "rows": rows}, options.out)


def ignore(_shards: AllShards) -> None: ...


if __name__ == "__main__":
    main()
