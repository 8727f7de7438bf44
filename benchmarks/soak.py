"""A million examples, thousands of requests in flight: does memory grow only with the data, does the loop keep up?

The real command line runs against a simulated server, each in a process of its own, with 64 domains without sub-tasks
(bench_schedule.py measures the tree). Every few seconds the script reads the run's resident memory, open files and
threads from /proc, and the kept examples and the lag of its event loop from live.json. Then the run is stopped by
SIGTERM and timed, and started again: the time until its first new request is the time of a full replay. With `--view` a
page of `explore-async view` is open during every second interval, and the speeds of both halves are compared.

    python benchmarks/soak.py [--examples 1000000] [--view] [--out results/soak.json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

BETWEEN_SAMPLES_S = 2.0
STRETCH_S = 20.0
"""Seconds that the view is open, and then closed, in turn."""
CONFIG = """
name: soak
domains: [{domains}]
exploration: {{depth: 0}}
generation: {{per_request: 20, demonstrations: 1}}
targets: {{examples: {examples}}}
window: 24000
operation: {{report: false}}
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--in-flight", type=int, default=3000)
    parser.add_argument("--latency", type=float, default=20.0, help="mean seconds of a completion")
    parser.add_argument("--view", action="store_true", help="open the view on the run, off and on")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, simulated(asked.in_flight, asked.latency) as url:
        figures = soak(Path(folder), url, asked.examples, view=asked.view)
    for name, value in figures.items():
        if name != "samples":
            print(f"{name:>32}  {value}")
    if asked.out is not None:
        asked.out.write_text(json.dumps(figures) + "\n")
        plot(figures, asked.out.with_suffix(".svg"))
    print(json.dumps({name: value for name, value in figures.items() if name != "samples"}))


def soak(folder: Path, url: str, examples: int, *, view: bool) -> dict[str, Any]:
    config, run = folder / "soak.yaml", folder / "run"
    domains = ", ".join(f"{{name: Know about subject {n}}}" for n in range(64))
    config.write_text(CONFIG.format(domains=domains, examples=examples))
    samples: list[dict[str, float]] = []
    process = started("run", str(config), "--endpoint", url, "--out", str(run), "--quiet")
    looking = Looking(run) if view else None
    began = time.monotonic()
    while process.poll() is None:
        time.sleep(BETWEEN_SAMPLES_S)
        seconds = time.monotonic() - began
        if looking is not None:
            looking.turn(seconds)
        if (sample := sampled(process.pid, run)) is not None:
            samples.append({"seconds": seconds, "viewed": bool(looking and looking.open), **sample})
            if sample["kept"] >= 0.98 * examples:
                break
    if looking is not None:
        looking.close()
    process.send_signal(signal.SIGTERM)
    stopping = time.monotonic()
    code = process.wait(timeout=60)
    cost = {}
    if looking is not None:
        cost["view_percent_of_a_core"] = round(100 * looking.used_s / looking.open_s, 2)
    shutdown_s = time.monotonic() - stopping
    resumed_s = first_request_after(config, url, run)
    return {
        "examples": samples[-1]["kept"],
        "exit_code": code,
        **judged(samples),
        **cost,
        "shutdown_s": round(shutdown_s, 2),
        "first_new_request_s": round(resumed_s, 2),
        "samples": samples,
    }


def judged(samples: list[dict[str, float]]) -> dict[str, Any]:
    """Memory per example after the start, and medians and worst cases of the rest."""
    steady = [one for one in samples if one["kept"] > 0.2 * samples[-1]["kept"]]
    slope, _ = statistics.linear_regression([one["kept"] for one in steady], [one["rss"] for one in steady])
    figures = {
        "seconds": round(samples[-1]["seconds"], 1),
        "examples_per_s": round(rate(samples), 1),
        "in_flight_median": statistics.median(one["in_flight"] for one in steady),
        "bytes_per_example": round(slope, 1),
        "rss_mib_at_end": round(samples[-1]["rss"] / 2**20, 1),
        "loop_lag_p99_ms_median": statistics.median(one["lag_p99_ms"] for one in steady),
        "loop_lag_p99_ms_worst": max(one["lag_p99_ms"] for one in steady),
        "open_files_first_and_last": [steady[0]["files"], steady[-1]["files"]],
        "threads_first_and_last": [steady[0]["threads"], steady[-1]["threads"]],
    }
    if any(one["viewed"] for one in samples):
        figures["view_effect_percent"], figures["view_effect_error"] = view_effect(samples)
    return figures


def view_effect(samples: list[dict[str, float]]) -> tuple[float, float]:
    """The gain of speed with the view open, and the standard error: by least squares, since a run slows down
    as its corpus grows.
    """
    full = [one for one in samples if 0.05 * samples[-1]["kept"] < one["kept"] < 0.85 * samples[-1]["kept"]]
    pairs = [pair for pair in pairwise(full) if pair[0]["viewed"] == pair[1]["viewed"]]
    rates = np.array([rate(pair) for pair in pairs])
    causes = np.array([[1.0, one["kept"], float(one["viewed"])] for one, _ in pairs])
    found = np.linalg.lstsq(causes, rates)[0]
    left = rates - causes @ found
    variance = left @ left / (len(rates) - 3) * np.linalg.inv(causes.T @ causes)[2, 2]
    return tuple(round(float(100 * one / rates.mean()), 1) for one in (found[2], np.sqrt(variance)))


def rate(samples: list[dict[str, float]] | tuple[dict[str, float], ...]) -> float:
    return (samples[-1]["kept"] - samples[0]["kept"]) / (samples[-1]["seconds"] - samples[0]["seconds"])


def sampled(pid: int, run: Path) -> dict[str, float] | None:
    try:
        live = json.loads((run / "live.json").read_bytes())
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        files, threads = (len(list(Path(f"/proc/{pid}/{what}").iterdir())) for what in ("fd", "task"))
    except (OSError, ValueError):
        return None
    return {
        "kept": live["kept"],
        "in_flight": live["in_flight"],
        "lag_p99_ms": live["own_time"]["loop_lag_ms"]["p99"],
        "rss": pages * os.sysconf("SC_PAGE_SIZE"),
        "files": files,
        "threads": threads,
    }


def first_request_after(config: Path, url: str, run: Path) -> float:
    """Seconds from the start of the same command until the server works on a new request; then the run is killed."""
    while requests_running(url):
        time.sleep(0.1)  # those of the run before
    began = time.monotonic()
    process = started("run", str(config), "--endpoint", url, "--out", str(run), "--quiet")
    while not requests_running(url) and process.poll() is None:
        time.sleep(0.1)
    seconds = time.monotonic() - began
    process.kill()
    process.wait()
    return seconds


def requests_running(url: str) -> int:
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/metrics") as response:  # noqa: S310 - our own server
        found = re.search(rb"num_requests_running\S* (\S+)", response.read())
    assert found is not None
    return int(float(found.group(1)))


class Looking:
    """The view's server beside the run, and a reader of its events that connects and leaves."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._view: subprocess.Popen[str] | None = None
        self._reader: subprocess.Popen[str] | None = None
        self._opened = self._used_before = 0.0
        self.open_s = self.used_s = 0.0
        """Seconds that it was open, and what it used of a processor meanwhile, its start aside."""

    @property
    def open(self) -> bool:
        return self._reader is not None

    def turn(self, seconds: float) -> None:
        wanted = int(seconds // STRETCH_S) % 2 == 1 and (self._run / "config.json").exists()
        if wanted and not self.open:
            self._view = started("view", str(self._run), "--port", "0")
            url = announced(self._view)
            self._opened, self._used_before = time.monotonic(), processor_s(self._view.pid)
            with urllib.request.urlopen(f"{url}/api/runs") as response:  # noqa: S310 - our own server
                at = f"{url}/api/runs/{json.load(response)[0]['run']}"
            self._reader = subprocess.Popen(["curl", "-sN", "-o", os.devnull, f"{at}/events"], text=True)
            subprocess.run(["curl", "-s", "-o", os.devnull, f"{at}/examples"], check=True)
        elif not wanted:
            self.close()

    def close(self) -> None:
        if self._view is not None:
            self.open_s += time.monotonic() - self._opened
            self.used_s += processor_s(self._view.pid) - self._used_before
        for process in (self._reader, self._view):
            if process is not None:
                process.terminate()
                process.wait()
        self._reader = self._view = None


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "explore_async", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def announced(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    found = re.search(r"http://[^\s/]+(/v1)?", process.stderr.readline())
    assert found is not None
    return found.group()


@contextlib.contextmanager
def simulated(slots: int, latency_s: float) -> Iterator[str]:
    server = started(
        *("serve", "--engine", "simulated", "--port", "0", "--slots", str(slots), "--latency", str(latency_s))
    )
    try:
        yield announced(server)
    finally:
        server.terminate()
        server.wait()


def plot(figures: dict[str, Any], path: Path) -> None:
    from plots import panels, save

    samples = figures["samples"]
    x = [one["kept"] / 1e6 for one in samples]
    memory, lag, speed = panels(3, f"{figures['examples']:,} examples in one process")
    memory.plot(x, [one["rss"] / 2**20 for one in samples])
    memory.set(xlabel="million examples", ylabel="resident memory, MiB", ylim=(0, None))
    lag.plot(x, [one["lag_p99_ms"] for one in samples])
    lag.set(xlabel="million examples", ylabel="event loop late, ms (p99 of a minute)", ylim=(0, None))
    stretches = list(zip(samples, samples[5:], strict=False))
    speed.plot([two["kept"] / 1e6 for _, two in stretches], [rate((one, two)) for one, two in stretches])
    speed.set(xlabel="million examples", ylabel="examples a second", ylim=(0, None))
    save(path)


if __name__ == "__main__":
    main()
