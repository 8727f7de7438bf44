"""What does a user get from our command, and what from the script that they would write instead?

Each client is a process of its own before a minimal endpoint of its own (`minimal_endpoint.py`), one after the other:

- ours: `explore-async run` with everything on (stored completions, filters, evidence) but the report, which the command
  makes after the data is complete.
- bare: `peer_aiohttp.py`, a script of a page. It keeps duplicates, and has no tree in any row.
- openai: `peer_openai.py`, the same with OpenAI's client, where it is installed. At most 2,000 examples: it is slow.

Everything is measured from outside: rows by reading the file that grows (every 20 ms), slots at the endpoint, processor
time by the system. The clock starts with the command. `examples/s` are rows by the time until the command ends.
`unlike/s` is without rows whose instruction has a ROUGE-L above 0.7 with an earlier one: with `--repeated 0.1` about
a tenth of what the scripts keep, and none of ours. So ours cannot make more than 0.9 of their examples per second then;
`--repeated 0` compares how full the clients keep the endpoint. Trust the ratios, and these where nothing else runs.

    python benchmarks/bench_peers.py [--examples 2000] [--in-flight 64] [--per-request 10] [--tree no] [--repeated 0]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from corpora import machine, report
from minimal_endpoint import Behaviour, serving

from rouge_kernels import DedupIndex, warm_up

HERE = Path(__file__).parent
MOST_OF_OPENAI = 2000
LOOKS_S = 0.02
COLUMNS = {
    "examples/s": "per_s",
    "unlike/s": "unlike_per_s",
    "busy": "busy",
    "CPU ms": "cpu_ms",
    "request": "first_request_s",
    "example": "first_example_s",
    "last 1/20": "last_twentieth_s",
    "seconds": "seconds",
    "ratio": "ratio",
    "unlike": "unlike_ratio",
}
"""Of the table: seconds to the first request and example; the last two are against the bare script."""


class Rows:
    """The lines of a file that grows, counted when somebody looks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.seen: list[tuple[float, int]] = []
        """The times at which there were more rows, and their number."""

    def look(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            new = file.read()
        if lines := new.count(b"\n"):
            self._at += len(new)
            self.seen.append((time.monotonic(), lines + (self.seen[-1][1] if self.seen else 0)))

    def reached(self, number: float) -> float:
        return next(at for at, rows in self.seen if rows >= number)


def command(client: str, url: str, folder: Path, cell: dict[str, Any]) -> tuple[list[str], Path]:
    """The client's command, and the file of its rows."""
    if client == "ours":
        settings = {
            "name": "peers",
            "domains": [{"name": "Look after a garden", "description": "the care of a garden through the year"}],
            "exploration": {"depth": 2 if cell["tree"] else 0},
            "generation": {"per_request": cell["per_request"], "exhausted_after": 30},  # some repeat, for ever
            "targets": {"examples": cell["examples"]},
            "operation": {
                "endpoints": [{"url": f"{url}/v1", "concurrency": cell["in_flight"]}],
                "report": False,
            },
        }
        (folder / "peers.yaml").write_text(yaml.safe_dump(settings))
        run = [sys.executable, "-m", "explore_async", "run", str(folder / "peers.yaml"), "--out", str(folder / "run")]
        return run, folder / "run" / "dataset.jsonl"
    script = str(HERE / {"bare": "peer_aiohttp.py", "openai": "peer_openai.py"}[client])
    options = [f"--{name.replace('_', '-')}={cell[name]}" for name in ("examples", "per_request", "in_flight")]
    return [sys.executable, script, url, *options, f"--out={folder / 'rows.jsonl'}"], folder / "rows.jsonl"


def unlike(path: Path) -> int:
    """The rows that the filter keeps, in their order."""
    texts = [json.loads(line)["instruction"] for line in path.read_text(encoding="utf-8").splitlines()]
    return int(DedupIndex(threshold=0.7).admit(texts).kept.sum())


def measure(client: str, cell: dict[str, Any], endpoint: dict[str, float]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name, serving(Behaviour(slots=cell["in_flight"], **endpoint)) as url:
        arguments, path = command(client, url, Path(name), cell)
        rows = Rows(path)
        with Path(name, "log").open("wb") as log:
            began = time.monotonic()
            process = subprocess.Popen(arguments, stdout=log, stderr=log)
            while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
                rows.look()
                time.sleep(LOOKS_S)
            over = time.monotonic()
        _, status, used = ended
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, Path(name, "log").read_text()
        rows.look()
        with urllib.request.urlopen(f"{url}/figures") as response:  # noqa: S310 - our own
            figures = json.load(response)
        seconds, kept = over - began, rows.seen[-1][1]
        different = unlike(path)
    cpu = used.ru_utime + used.ru_stime
    return {
        "seconds": seconds,
        "rows": kept,
        "unlike": different,
        "requests": figures["requests"],
        "per_s": kept / seconds,
        "unlike_per_s": different / seconds,
        "busy": figures["busy_s"] / (cell["in_flight"] * seconds),
        "cpu_ms": 1000 * cpu / figures["requests"],
        "endpoint_cpu_ms": 1000 * figures["cpu_s"] / figures["requests"],
        "first_request_s": figures["first_request"] - began,
        "first_example_s": rows.reached(1) - began,
        "last_twentieth_s": rows.reached(kept) - rows.reached(0.95 * kept),
    }


def of_cell(
    cell: dict[str, Any], clients: list[str], rounds: int, endpoint: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """A row for each client, of the medians of its rounds. The clients take turns."""
    found: dict[str, list[dict[str, float]]] = {client: [] for client in clients}
    for _ in range(rounds):
        for client in clients:
            most = min(cell["examples"], MOST_OF_OPENAI) if client == "openai" else cell["examples"]
            found[client].append(measure(client, {**cell, "examples": most}, endpoint))
    for client in clients:
        row = {name: statistics.median(one[name] for one in found[client]) for name in found[client][0]}
        if "bare" in clients:
            pairs = list(zip(found[client], found["bare"], strict=True))
            row["ratio"] = statistics.median(one["per_s"] / bare["per_s"] for one, bare in pairs)
            row["unlike_ratio"] = statistics.median(one["unlike_per_s"] / bare["unlike_per_s"] for one, bare in pairs)
        yield {**cell, "client": client, **{name: round(value, 3) for name, value in row.items()}}


def show(row: dict[str, Any]) -> None:
    cell = f"{row['examples']:>7,} {row['in_flight']:>4} {row['per_request']:>3} {'tree' if row['tree'] else '-':>5}"
    figures = (f"{row[name]:>10.2f}" if name in row else " " * 10 for name in COLUMNS.values())
    print(cell, f"{row['client']:>7}", *figures, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--examples", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 512], help="also the slots of the endpoint")
    parser.add_argument("--per-request", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--tree", choices=["no", "yes"], nargs="+", default=["no", "yes"])
    parser.add_argument("--clients", choices=["ours", "bare", "openai"], nargs="+", default=["bare", "ours", "openai"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--mean", type=float, default=0.5, help="seconds of an answer in the mean")
    parser.add_argument("--sigma", type=float, default=0.5, help="standard deviation of their logarithm")
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests that fail")
    parser.add_argument("--repeated", type=float, default=0.1, help="share of examples that repeat an earlier one")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    clients = arguments.clients
    if "openai" in clients and importlib.util.find_spec("openai") is None:
        print("openai is not installed: its script is left out")
        clients = [client for client in clients if client != "openai"]
    warm_up()  # the cache of compiled kernels, which is there after the first run on a machine
    endpoint = {name: getattr(arguments, name) for name in ("sigma", "faults", "repeated")} | {"mean_s": arguments.mean}
    print(f"{'examples':>8} {'at':>3} {'per':>3} {'':>5} {'':>7}", *(f"{name:>10}" for name in COLUMNS))
    rows = []
    for examples, in_flight, per_request, tree in product(
        arguments.examples, arguments.in_flight, arguments.per_request, arguments.tree
    ):
        cell = {"examples": examples, "in_flight": in_flight, "per_request": per_request, "tree": tree == "yes"}
        for row in of_cell(cell, clients, arguments.rounds, endpoint):
            show(row)
            rows.append(row)
    measured = {"machine": machine("aiohttp"), "endpoint": endpoint, "rounds": arguments.rounds, "rows": rows}
    report(measured, arguments.out)


if __name__ == "__main__":
    main()
