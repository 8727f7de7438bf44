"""How long does a batch of ten wait when the index holds a million texts, and how much memory does a text take?

Texts are admitted in batches of ten until the index has the wanted size; each of the last `--batches` is timed. Then
the batches are timed while the index grows from the start, to find the longest pause.

    python benchmarks/bench_admit.py [--corpus FILE] [--size 1000000] [--out results/admit.json]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from corpora import machine, report, texts

from rouge_kernels import DedupIndex, warm_up

BATCH = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, help="one text per line, .gz or not")
    parser.add_argument("--size", type=int, default=1_000_000, help="texts offered before the timed batches")
    parser.add_argument("--batches", type=int, default=2_000)
    parser.add_argument("--threshold", type=float, default=0.7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    stream = texts(arguments.corpus, arguments.size + BATCH * arguments.batches)
    warm_up()
    index = DedupIndex(arguments.threshold)
    seconds = np.array(
        [timed(index, stream[begin : begin + BATCH]) for begin in range(0, len(stream), BATCH)], dtype=np.float64
    )
    if arguments.out:
        plot(1e3 * seconds, arguments.out.with_suffix(".svg"))
    last = 1e3 * seconds[-arguments.batches :]
    figures = {
        "offered": arguments.size,
        "kept": len(index),
        "tokens_a_text": round(index.tokens / len(index), 1),
        "bytes_a_text": round(index.nbytes / len(index)),
        "ms_a_batch": {"median": round(float(np.median(last)), 3), "p99": round(float(np.percentile(last, 99)), 3)},
        "longest_pause_ms": round(1e3 * float(seconds.max()), 1),
        "seconds_in_all": round(float(seconds.sum()), 1),
    }
    for name, value in figures.items():
        print(f"{name:18} {value}")
    report({"machine": machine(), "corpus": "given" if arguments.corpus else "drawn", **figures}, arguments.out)


def plot(milliseconds: npt.NDArray[np.float64], path: Path) -> None:
    from plots import panels, save

    (axes,) = panels(1, "Admitting ten texts to an index of so many")
    parts = np.array_split(milliseconds, 50)
    offered = np.cumsum([len(part) * BATCH for part in parts])
    for name, share in (("99th percentile", 99), ("median", 50)):
        axes.plot(offered, [np.percentile(part, share) for part in parts], label=name)
    axes.set_xlabel("texts offered")
    axes.set_ylabel("milliseconds")
    axes.set_ylim(bottom=0)
    axes.legend()
    save(path)


def timed(index: DedupIndex, batch: list[str]) -> float:
    began = time.perf_counter()
    index.admit(batch)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
