"""How long does removing near-duplicates take, from file to file, against brute force and against approximate methods?

Ours is the whole command in a process of its own, start-up included, and also its time beyond start-up (a run over an
empty file). RapidFuzz decides the same by scoring every pair: measured at a size where it ends, and extrapolated with
the square of the size. rensa and datasketch (MinHash with locality-sensitive hashing, 128 permutations, candidates
taken at their word) are approximate: what they get wrong is counted against the exact result. At the small size all
decisions of ours have to equal brute force before anything is timed. Growth is fitted on sizes up to `--largest`.

    python benchmarks/bench_dedup.py [--corpus FILE] [--size 50000] [--largest 1000000] [--out results/dedup.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from corpora import machine, report, texts
from rapidfuzz import process
from rapidfuzz.distance import LCSseq

from rouge_kernels import RougeTokenizer, fmeasure

THRESHOLD = 0.7
BRUTE = 5_000
PERMUTATIONS = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, help="one text a line, .gz or not")
    parser.add_argument("--size", type=int, default=50_000)
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

    start_s = statistics.median(ours([])[1] for _ in range(arguments.repeats))
    kept, first_s = ours(sample)
    seconds = [first_s, *(ours(sample)[1] for _ in range(arguments.repeats - 1))]
    methods: dict[str, Any] = {
        "explore-async dedup": {
            "seconds": round(statistics.median(seconds), 2),
            "spread": [round(min(seconds), 2), round(max(seconds), 2)],
            "start_up_s": round(start_s, 2),
            "kept": len(kept),
        },
        "rapidfuzz, every pair (extrapolated)": {"seconds": round(brute_s * (len(sample) / BRUTE) ** 2, 1)},
    }
    for name, method in (("rensa", by_rensa), ("datasketch", by_datasketch)):
        began = time.perf_counter()
        try:
            approximate = set(method(sample))
        except ImportError:
            print(f"{name}: not installed")
            continue
        methods[name] = {
            "seconds": round(time.perf_counter() - began, 2),
            "kept": len(approximate),
            "kept_though_duplicates": len(approximate - set(kept)),
            "dropped_though_new": len(set(kept) - approximate),
        }
    growth = [(size, ours(everything[:size])[1] - start_s) for size in sizes(arguments.largest)]
    exponent = float(np.polyfit(*np.log(np.array(growth)).T, 1)[0])
    for name, figures in methods.items():
        print(f"{name:38} {figures}")
    for size, spent in growth:
        print(f"{size:>10,} texts {spent:8.2f} s beyond start-up")
    print(f"time grows with the size to the power of {exponent:.2f}")
    report(
        {
            "machine": machine("rapidfuzz"),
            "corpus": "given" if arguments.corpus else "drawn",
            "threshold": THRESHOLD,
            "size": len(sample),
            "methods": methods,
            "growth": [{"size": size, "seconds": round(spent, 2)} for size, spent in growth],
            "exponent": round(exponent, 2),
        },
        arguments.out,
    )


def sizes(largest: int) -> list[int]:
    return [size for size in (10_000, 30_000, 100_000, 200_000, 400_000, 800_000, 1_000_000) if size <= largest]


def ours(lines: list[str]) -> tuple[list[int], float]:
    """Which lines the command keeps, and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "given.jsonl"), Path(folder, "made.jsonl")
        rows = (json.dumps({"n": number, "instruction": line}) for number, line in enumerate(lines))
        given.write_text("".join(f"{row}\n" for row in rows))
        command = [sys.executable, "-m", "explore_async", "dedup", str(given), "--out", str(made), "--quiet"]
        began = time.perf_counter()
        subprocess.run([*command, "--threshold", str(THRESHOLD)], check=True)
        seconds = time.perf_counter() - began
        return [json.loads(line)["n"] for line in made.read_text().splitlines()], seconds


def brute_force(lines: list[str]) -> list[int]:
    """Every text scored against all that is kept, a text being a string of one character a token."""
    characters: dict[str, str] = {}
    kept: list[str] = []
    numbers = []
    for number, line in enumerate(lines):
        tokens = RougeTokenizer()(line)
        text = "".join(characters.setdefault(token, chr(0x1000 + len(characters))) for token in tokens)
        common = process.cdist([text], kept, scorer=LCSseq.similarity, workers=1)[0] if kept else []
        if all(
            fmeasure(int(lcs), len(text), len(other)) <= THRESHOLD
            for lcs, other in zip(common, kept, strict=True)
            if 2 * lcs > THRESHOLD * (len(text) + len(other)) - 1
        ):
            kept.append(text)
            numbers.append(number)
    return numbers


def by_rensa(lines: list[str]) -> list[int]:
    from rensa import RMinHash, RMinHashLSH

    def hashed(line: str) -> Any:
        made = RMinHash(num_perm=PERMUTATIONS, seed=0)
        made.update(line.lower().split())
        return made

    return sieved(lines, hashed, RMinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, num_bands=32))


def by_datasketch(lines: list[str]) -> list[int]:
    from datasketch import MinHash, MinHashLSH

    def hashed(line: str) -> Any:
        made = MinHash(num_perm=PERMUTATIONS)
        made.update_batch([word.encode() for word in line.lower().split()])
        return made

    return sieved(lines, hashed, MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS))


def sieved(lines: list[str], hashed: Callable[[str], Any], index: Any) -> list[int]:
    """Keep what the index finds no neighbour of."""
    kept = []
    for number, line in enumerate(lines):
        made = hashed(line)
        if not index.query(made):
            index.insert(number, made)
            kept.append(number)
    return kept


if __name__ == "__main__":
    main()
