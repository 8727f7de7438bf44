"""How long does the removal of near-duplicates take, from file to file, against brute force and approximate methods?

Ours is the whole command in a process of its own, with its start-up, and also its time without start-up (that of a run
over one row). RapidFuzz gives the same result by scoring every pair: it is measured at a size where it ends, and
extrapolated with the square of the size. rensa and datasketch (MinHash with locality-sensitive hashing, 128
permutations, candidates taken without a check) are approximate: their errors are counted against the exact result.
They read and write the same files in this process, without start-up; rensa makes its digests in bulk. At the small
size all our decisions must equal brute force before anything is timed. Growth is fitted on sizes up to `--largest`.
All methods may use all processors.

    python benchmarks/bench_dedup.py [--corpus FILE] [--size 200000] [--largest 1000000] [--out results/dedup.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from check_equality import ROWS, f_of
from corpora import LONG, machine, report, texts
from rapidfuzz import process
from rapidfuzz.distance import LCSseq

from rouge_kernels import RougeTokenizer

THRESHOLD = 0.7
BRUTE = 5_000
PERMUTATIONS = 128
DATASKETCH_ROWS = 20_000
"""More texts take minutes."""
LONG_TEXTS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, help="one text per line, .gz or not")
    parser.add_argument("--size", type=int, default=200_000)
    parser.add_argument("--largest", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    everything = texts(arguments.corpus, max(arguments.largest, arguments.size))
    sample = everything[: arguments.size]

    began = time.perf_counter()
    brute = brute_force(sample[:BRUTE])
    brute_s = time.perf_counter() - began
    assert ours(sample[:BRUTE])[0] == brute, "ours and brute force decide differently"

    start_s = statistics.median(ours(sample[:1])[1] for _ in range(arguments.repeats))
    methods: dict[str, Any] = {}
    for size in (52_000, arguments.size):
        runs = [ours(everything[:size]) for _ in range(arguments.repeats)]
        seconds = [spent - start_s for _, spent in runs]
        kept = set(runs[0][0])
        methods[f"explore-async dedup, {size:,}"] = {
            "seconds": round(statistics.median(seconds), 2),
            "spread": [round(min(seconds), 2), round(max(seconds), 2)],
            "start_up_s": round(start_s, 2),
            "kept": len(kept),
        }
    methods[f"RapidFuzz, every pair, {arguments.size:,} (extrapolated)"] = {
        "seconds": round(brute_s * (len(sample) / BRUTE) ** 2, 1)
    }
    for name, method, size in (("rensa", by_rensa, arguments.size), ("datasketch", by_datasketch, DATASKETCH_ROWS)):
        try:
            runs = [theirs(method, everything[:size]) for _ in range(arguments.repeats if name == "rensa" else 1)]
        except ImportError:
            print(f"{name}: not installed")
            continue
        approximate = set(runs[0][0])
        exact = {number for number in kept if number < size}  # of a prefix the same are kept
        methods[f"{name}, {size:,}"] = {
            "seconds": round(statistics.median(spent for _, spent in runs), 2),
            "kept": len(approximate),
            "kept_though_duplicates": len(approximate - exact),
            "dropped_though_new": len(exact - approximate),
        }
    growth = [(size, spent_on(everything[:size], arguments.repeats) - start_s) for size in sizes(arguments.largest)]
    known = np.array([point for point in growth if point[1] > start_s / 5])  # below that it is mostly the noise
    exponent = float(np.polyfit(*np.log(known).T, 1)[0])
    if arguments.out:
        plot(methods, growth, exponent, arguments.out.with_suffix(".svg"))
    for name, figures in methods.items():
        print(f"{name:52} {figures}")
    long = {name: of_long_texts(make(np.random.default_rng(0), LONG_TEXTS), start_s) for name, make in LONG.items()}
    for name, found in long.items():
        print(f"{name:24} {found}")
    for size, spent in growth:
        print(f"{size:>10,} texts {spent:8.2f} s beyond start-up")
    print(f"time grows with the size to the power of {exponent:.2f}")
    report(
        {
            "machine": machine("rapidfuzz"),
            "corpus": "given" if arguments.corpus else "drawn",
            "threshold": THRESHOLD,
            "methods": methods,
            "growth": [{"size": size, "seconds": round(spent, 2)} for size, spent in growth],
            "exponent": round(exponent, 2),
            "long_texts": long,
        },
        arguments.out,
    )


def of_long_texts(lines: list[str], start_s: float) -> dict[str, Any]:
    """Seconds of the command beyond its start-up, and of RapidFuzz, on the same texts."""
    began = time.perf_counter()
    brute = brute_force(lines)
    brute_s = time.perf_counter() - began
    kept, seconds = ours(lines)
    assert kept == brute, "ours and brute force decide differently"
    return {
        "texts": len(lines),
        "kept": len(kept),
        "seconds": round(max(0.0, seconds - start_s), 2),
        "rapidfuzz_seconds": round(brute_s, 2),
    }


def sizes(largest: int) -> list[int]:
    return [size for size in (10_000, 30_000, 100_000, 200_000, 400_000, 800_000, 1_000_000) if size <= largest]


def spent_on(lines: list[str], repeats: int) -> float:
    """Seconds of the command; if they are few, the median of several runs, as start-up varies by a tenth."""
    times = repeats if len(lines) <= 100_000 else 1
    return statistics.median(ours(lines)[1] for _ in range(times))


def ours(lines: list[str]) -> tuple[list[int], float]:
    """The lines that the command keeps, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = written(lines, folder), Path(folder, "made.jsonl")
        command = [sys.executable, "-m", "explore_async", "dedup", str(given), "--out", str(made), "--quiet"]
        began = time.perf_counter()
        subprocess.run([*command, "--threshold", str(THRESHOLD)], check=True)
        seconds = time.perf_counter() - began
        return [json.loads(line)["n"] for line in made.read_text().splitlines()], seconds


def theirs(method: Callable[[list[str]], list[int]], lines: list[str]) -> tuple[list[int], float]:
    with tempfile.TemporaryDirectory() as folder:
        given, made = written(lines, folder), Path(folder, "made.jsonl")
        began = time.perf_counter()
        rows = given.read_bytes().splitlines(keepends=True)
        kept = method([orjson.loads(row)["instruction"] for row in rows])
        made.write_bytes(b"".join(rows[number] for number in kept))
        return kept, time.perf_counter() - began


def written(lines: list[str], folder: str) -> Path:
    path = Path(folder, "given.jsonl")
    path.write_bytes(b"".join(orjson.dumps({"n": n, "instruction": line}) + b"\n" for n, line in enumerate(lines)))
    return path


def brute_force(lines: list[str]) -> list[int]:
    """Every text scored against every text before it, as strings of one character a token."""
    characters: dict[str, str] = {}
    texts = [
        "".join(characters.setdefault(token, chr(0x10000 + len(characters))) for token in RougeTokenizer()(line))
        for line in lines
    ]
    lengths = np.array([len(text) for text in texts])
    kept = np.ones(len(texts), dtype=bool)
    for begin in range(0, len(texts), ROWS):
        end = min(begin + ROWS, len(texts))
        lcs = process.cdist(texts[begin:end], texts[:end], scorer=LCSseq.similarity, dtype=np.int32, workers=-1)
        above = f_of(lcs, lengths[begin:end, None], lengths[None, :end]) > THRESHOLD
        for text in range(begin, end):
            kept[text] = not (above[text - begin, :text] & kept[:text]).any()
    return [int(number) for number in np.flatnonzero(kept)]


def by_rensa(lines: list[str]) -> list[int]:
    from rensa import RMinHash, RMinHashLSH

    made = RMinHash.from_token_sets([line.lower().split() for line in lines], PERMUTATIONS, 0)
    return sieved(made, RMinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, num_bands=16))


def by_datasketch(lines: list[str]) -> list[int]:
    from datasketch import MinHash, MinHashLSH

    tokens = [[word.encode() for word in line.lower().split()] for line in lines]
    made = MinHash.generator(tokens, num_perm=PERMUTATIONS)
    return sieved(made, MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS))


def sieved(hashed: Iterable[Any], index: Any) -> list[int]:
    """Keeps texts for which the index finds no neighbour."""
    kept = []
    for number, made in enumerate(hashed):
        if not index.query(made):
            index.insert(number, made)
            kept.append(number)
    return kept


def plot(methods: dict[str, Any], growth: list[tuple[int, float]], exponent: float, path: Path) -> None:
    from plots import panels, save

    bars, curve = panels(2, "Removing near-duplicates, file to file, two processors")
    names = list(methods)
    seconds = [methods[name]["seconds"] for name in names]
    bars.barh(range(len(names)), seconds, color=["C0" if "explore" in name else "C7" for name in names])
    for at, spent in enumerate(seconds):
        bars.text(spent * 1.1, at, f"{spent:,.2f} s" if spent < 100 else f"{spent:,.0f} s", va="center")
    bars.set_yticks(range(len(names)), [name.replace(", ", "\n", 1) for name in names])
    bars.set_xscale("log")
    bars.set_xlim(right=30 * max(seconds))
    bars.invert_yaxis()
    bars.set_xlabel("seconds beyond start-up")
    curve.loglog(*zip(*growth, strict=True), "o-")
    curve.set_xlabel("texts")
    curve.set_ylabel("seconds beyond start-up")
    curve.set_title(f"explore-async dedup: exponent {exponent:.2f}", fontsize=9)
    save(path)


if __name__ == "__main__":
    main()
