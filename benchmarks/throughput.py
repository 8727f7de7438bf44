"""How much faster is a run with many requests in flight, and how fast is a replay?

A simulated server in a process of its own answers after a random delay (mean 0.1 s). The same run is made at
concurrency 1 and 64 with the same window; the figure is committed requests per second after the tree is complete. The
ceiling is the ratio of slots: 64. Then the larger run is replayed from its stored completions. Both runs must give the
same bytes before anything is reported.

    python benchmarks/throughput.py [--examples 1500]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from explore_async.running.result import RunStats
from explore_async.running.start import run
from explore_async.settings.run_settings import RunSettings

DERIVED = ("dataset.jsonl", "tree.json", "decisions.jsonl")


class Stopwatch:
    """Observes a run and notes the time and the commits at which the tree is complete."""

    def __init__(self) -> None:
        self.commits = 0
        self.explored: tuple[float, int] | None = None

    def phase(self, text: str) -> None: ...

    def tick(self) -> None: ...

    def fetching(self, progress: object) -> None: ...

    def began(self, _recipe: object, run: object) -> None:
        self.run = run
        self.started = time.perf_counter()

    def committed(self, _events: object) -> None:
        self.commits += 1
        if self.explored is None and self.run.snapshot().explored:
            self.explored = time.perf_counter(), self.commits

    def rate(self) -> float:
        """Commits per second after the tree is complete."""
        assert self.explored is not None
        return (self.commits - self.explored[1]) / (time.perf_counter() - self.explored[0])


def settings(url: str, concurrency: int, examples: int) -> RunSettings:
    return RunSettings.model_validate(
        {
            "domains": [{"name": "Look after a garden"}],
            "exploration": {"depth": 2, "breadth": [4, 3]},
            "generation": {"per_request": 2},
            "targets": {"examples": examples},
            "window": 768,
            "operation": {"endpoints": [{"url": url, "concurrency": concurrency}]},
        }
    )


def measure(url: str, concurrency: int, examples: int, out: Path) -> tuple[Stopwatch, float, RunStats]:
    stopwatch = Stopwatch()
    began = time.perf_counter()
    result = asyncio.run(
        run(settings(url, concurrency, examples), out, observer=stopwatch, handle_signals=True, tune_collector=True)
    )
    return stopwatch, time.perf_counter() - began, result.stats


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=1500)
    examples = parser.parse_args().examples
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "explore_async", "serve"),
            *["--engine", "simulated", "--port", "0", "--slots", "256", "--latency", "0.1"],
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        found = re.search(r"http://\S+", server.stderr.readline())
        assert found is not None
        url = found.group()
        with tempfile.TemporaryDirectory() as folder:
            one, many = Path(folder, "one"), Path(folder, "many")
            slow, _, _ = measure(url, 1, examples, one)
            slow_rate = slow.rate()
            fast, _, stats = measure(url, 64, examples, many)
            fast_rate = fast.rate()
            assert all((one / name).read_bytes() == (many / name).read_bytes() for name in DERIVED)
            again, seconds, replay = measure(url, 64, examples, many)
            assert replay.this_time is not None
            assert replay.this_time.asked == 0
    finally:
        server.terminate()
        server.wait()
    replay_rate = again.commits / (time.perf_counter() - again.started) if seconds else 0.0
    assert stats.endpoints is not None
    peak = stats.endpoints.endpoints[0].peak_in_flight
    print(f"{'concurrency':>12} {'requests/s':>11} {'ratio':>6}")
    print(f"{1:>12} {slow_rate:>11.1f} {1.0:>6.1f}")
    print(f"{64:>12} {fast_rate:>11.1f} {fast_rate / slow_rate:>6.1f}   (ceiling 64; peak in flight {peak})")
    print(f"{'replay':>12} {again.commits / (seconds):>11.1f}          ({replay_rate:.0f}/s without start-up)")
    figures = {
        "requests": fast.commits,
        "rate_at_1": slow_rate,
        "rate_at_64": fast_rate,
        "ratio": fast_rate / slow_rate,
        "peak_in_flight": peak,
        "replay_rate": again.commits / seconds,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
