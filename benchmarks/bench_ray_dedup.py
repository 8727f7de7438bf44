"""Measures the cost of dedup in partitions on Ray, and the data that more and more partitions exchange.

Each number of partitions is a whole pass: encoding, spreading, pairs, decisions, without reading and writing files. The
baseline is one index in this process, measured in the same run. All verdicts (kept, nearest, LCS) must be equal.
Times: the processor time of all processes, Ray's own included, over that of the one index. Copies: partitions that hold
a text, at the mean. MiB: the tokens that partitions get. Needs the extra `ray`; the start of Ray is not counted.

    python benchmarks/bench_ray_dedup.py [--corpus FILE] [--size 100000] [--partitions 2 4 16] [--out results/ray.json]
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from corpora import machine, report, texts

from explore_async.curation.pair_graph import PlacedTexts, by_rarity, spread
from explore_async.curation.ray_dedup import RayDedup
from explore_async.ray_cluster import ray_at_hand
from rouge_kernels import DedupIndex, Vocabulary, warm_up

THRESHOLD = 0.7
BATCH = 8192
AT_ONCE = 100_000
"""Texts that are spread at once where what they send is counted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, nargs="+", default=[2, 4, 16])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    given = texts(options.corpus, options.size)
    warm_up()
    began, cpu_before = time.perf_counter(), processor_s()
    index = DedupIndex(THRESHOLD)
    alone = [index.admit(given[at : at + BATCH]) for at in range(0, len(given), BATCH)]
    alone_s, alone_cpu_s = time.perf_counter() - began, processor_s() - cpu_before
    rows = [{"partitions": "one index", "seconds": round(alone_s, 2), "cpu_s": round(alone_cpu_s, 2), "times": 1.0}]
    print(f"{'partitions':>12} {'seconds':>8} {'cpu s':>8} {'times':>6} {'copies':>7} {'MiB':>8}")
    print(f"{'one index':>12} {alone_s:8.2f} {alone_cpu_s:8.2f} {1:6.1f}", flush=True)
    with ray_at_hand():
        for partitions in options.partitions:
            began, cpu_before = time.perf_counter(), processor_s()
            spread = RayDedup(THRESHOLD, "rouge", partitions)
            for at in range(0, len(given), BATCH):
                part = given[at : at + BATCH]
                spread.take(part, [""] * len(part))
            spread.decide()
            seconds, cpu_s = time.perf_counter() - began, processor_s() - cpu_before
            for batch in alone:
                found = spread.admit([""] * len(batch.kept))
                for name in ("kept", "nearest", "lcs"):
                    np.testing.assert_array_equal(getattr(found, name), getattr(batch, name))
            copies, mib = exchanged(given, partitions)
            times = cpu_s / alone_cpu_s
            row = {"partitions": partitions, "seconds": round(seconds, 2), "cpu_s": round(cpu_s, 2)}
            rows.append({**row, "times": round(times, 1), "copies": round(copies, 2), "mib": round(mib, 1)})
            print(f"{partitions:12} {seconds:8.2f} {cpu_s:8.2f} {times:6.1f} {copies:7.2f} {mib:8.1f}", flush=True)
    kept = int(sum(batch.kept.sum() for batch in alone))
    report({"machine": machine("ray"), "texts": len(given), "kept": kept, "rows": rows}, options.out)


def processor_s() -> float:
    """Processor time of this process and of those below it that still live, as Linux tells it."""
    parent: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()  # a name may have spaces
            parent[int(path.parent.name)] = int(fields[1])
            ticks[int(path.parent.name)] = int(fields[11]) + int(fields[12])
    own = {os.getpid()}
    while more := {process for process, above in parent.items() if above in own} - own:
        own |= more
    return sum(ticks.get(process, 0) for process in own) / os.sysconf("SC_CLK_TCK")


def exchanged(given: list[str], partitions: int) -> tuple[float, float]:
    """Partitions that hold a text, at the mean; and MiB of tokens that all of them get together."""
    vocabulary = Vocabulary()
    encoded = vocabulary.encode(given)
    number = by_rarity(np.bincount(encoded.ids, minlength=len(vocabulary)).astype(np.int64))
    texts_met = tokens_met = 0
    for begin in range(0, len(given), AT_ONCE):
        chosen = np.arange(begin, min(begin + AT_ONCE, len(given)))
        block = PlacedTexts(chosen, np.zeros(len(chosen), dtype=np.int64), encoded.of(chosen))
        for part in spread(block, number, THRESHOLD, partitions):
            texts_met += len(part.texts)
            tokens_met += part.texts.ids.nbytes
    return texts_met / len(given), tokens_met / 2**20


if __name__ == "__main__":
    main()
