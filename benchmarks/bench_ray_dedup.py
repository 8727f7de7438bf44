"""What does dedup in partitions of Ray Data cost, and how much data is exchanged as the partitions grow in number?

Each number of partitions is a whole pass: encoding, spreading, pairs, decisions, without reading and writing files. The
baseline is one index in this process, measured in the same run. All verdicts (kept, nearest, LCS) must be equal.
Copies: partitions that hold a text, at the mean. Needs the extra `ray`; the start of Ray is not counted.

    python benchmarks/bench_ray_dedup.py [--corpus FILE] [--size 100000] [--partitions 2 4 16] [--out results/ray.json]
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from corpora import machine, report, texts

from explore_async.curation.pair_graph import homes, rank_of
from explore_async.curation.ray_dedup import RayDedup, ray_at_hand
from rouge_kernels import DedupIndex, Vocabulary, warm_up

THRESHOLD = 0.7
BATCH = 8192
SAMPLE = 20_000
"""Texts whose copies are counted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, nargs="+", default=[2, 4, 16])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    given = texts(options.corpus, options.size)
    warm_up()
    began = time.perf_counter()
    index = DedupIndex(THRESHOLD)
    alone = [index.admit(given[at : at + BATCH]) for at in range(0, len(given), BATCH)]
    alone_s = time.perf_counter() - began
    rows = [{"partitions": "one index", "seconds": round(alone_s, 2), "times": 1.0, "copies": 1.0}]
    print(f"{'partitions':>12} {'seconds':>8} {'times':>6} {'copies':>7}")
    print(f"{'one index':>12} {alone_s:8.2f} {1:6.1f} {1:7.2f}")
    with ray_at_hand():
        for partitions in options.partitions:
            began = time.perf_counter()
            spread = RayDedup(THRESHOLD, "rouge", partitions)
            for at in range(0, len(given), BATCH):
                part = given[at : at + BATCH]
                spread.take(part, [""] * len(part))
            spread.decide()
            seconds = time.perf_counter() - began
            for batch in alone:
                found = spread.admit([""] * len(batch.kept))
                for name in ("kept", "nearest", "lcs"):
                    np.testing.assert_array_equal(getattr(found, name), getattr(batch, name))
            row = {"partitions": partitions, "seconds": round(seconds, 2), "times": round(seconds / alone_s, 1)}
            rows.append({**row, "copies": round(copies(given, partitions), 2)})
            print(f"{partitions:12} {seconds:8.2f} {seconds / alone_s:6.1f} {rows[-1]['copies']:7.2f}", flush=True)
    kept = int(sum(batch.kept.sum() for batch in alone))
    report({"machine": machine("ray"), "texts": len(given), "kept": kept, "rows": rows}, options.out)


def copies(given: list[str], partitions: int) -> float:
    """Partitions that hold a text, at the mean."""
    vocabulary = Vocabulary()
    encoded = vocabulary.encode(given)
    rank = rank_of(np.bincount(encoded.ids, minlength=len(vocabulary)).astype(np.int64))
    starts = encoded.starts[: SAMPLE + 1].tolist()
    places = [homes(encoded.ids[begin:end], rank, THRESHOLD, partitions) for begin, end in pairwise(starts)]
    return sum(map(len, places)) / len(places)


if __name__ == "__main__":
    main()
