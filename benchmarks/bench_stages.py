"""How long does each command on data take for a number of rows, and how much memory?

Rows are made up: short instructions of random words (some of them near-duplicates), 57 tasks, outputs of 60 words.
Every command runs in a process of its own; seconds are of the clock, CPU s of all processors, which other work on the
machine hardly changes; memory is the largest resident size. The second size shows what grows with the rows, apart from
the index.

    python benchmarks/bench_stages.py [--rows 250000 1000000] [--out results/stages.json]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from corpora import drawn, machine, report

TASKS = 57
BENCHMARK_ROWS = 5_000


def write_rows(path: Path, texts: list[str]) -> None:
    filler = " ".join(f"word{n % 97}" for n in range(60))
    with path.open("wb") as file:
        for number, text in enumerate(texts):
            row = {"instruction": text, "input": "", "output": f"{number} {filler}", "topic": f"task {number % TASKS}"}
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def measured(*arguments: str | Path) -> dict[str, Any]:
    """Seconds, CPU s and MiB of one command."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "explore_async", *map(str, arguments), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, arguments
    found = {
        "seconds": round(time.perf_counter() - began, 1),
        "CPU s": round(usage.ru_utime + usage.ru_stime, 1),
        "MiB": round(usage.ru_maxrss / 1024),
    }
    print(f"{arguments[0]:>14} {found}", said[-160:].decode().strip(), flush=True)
    return found


def write_all(rows: int, plain: Path, half: Path, benchmark: Path) -> None:
    texts = drawn(np.random.default_rng(0), rows)
    write_rows(plain, texts)
    write_rows(half, texts[: rows // 2])
    with benchmark.open("wb") as file:
        chosen = np.random.default_rng(1).choice(len(texts), BENCHMARK_ROWS, replace=False)
        file.writelines(orjson.dumps({"question": texts[one]}) + b"\n" for one in chosen)


def stages(rows: int, folder: Path) -> dict[str, dict[str, Any]]:
    plain, half, data = folder / "rows.jsonl", folder / "half.jsonl", folder / "data"
    benchmark = folder / "benchmark.jsonl"
    # in a process of its own: a command's peak counts from that of whoever starts it
    writer = multiprocessing.get_context("spawn").Process(target=write_all, args=(rows, plain, half, benchmark))
    writer.start()
    writer.join()
    commands: dict[str, list[str | Path]] = {
        "import": ["import", plain, "--column", "task=topic", "--out", data],
        "prune": ["prune", data],
        "filter": ["filter", data, "--out", folder / "filtered"],
        "filter by task": ["filter", data, "--scope", "task", "--out", folder / "filtered"],
        "decontaminate": ["decontaminate", data, "--against", benchmark, "--out", folder / "clean"],
        "merge": ["merge", data, half, "--out", folder / "merged"],
        "sample": ["sample", data, "-n", "10000", "--out", folder / "sample.jsonl"],
        "sample diverse": ["sample", data, "-n", "10000", "--method", "diverse", "--out", folder / "sample.jsonl"],
        "export jsonl": ["export", data, "--format", "messages", "--out", folder / "out.jsonl"],
        "export parquet": ["export", data, "--format", "messages", "--out", folder / "out.parquet"],
        "export split": ["export", data, "--validation", "0.02", "--out", folder / "split.jsonl"],
        "dedup": ["dedup", plain, "--out", folder / "kept.jsonl"],
    }
    return {name: measured(*command) for name, command in commands.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[250_000, 1_000_000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = {}
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{rows:,} rows", flush=True)
            found[str(rows)] = stages(rows, Path(folder))
    report({"machine": machine("pyarrow", "orjson"), "rows": found}, arguments.out)


if __name__ == "__main__":
    main()
