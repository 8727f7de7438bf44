"""How long does a batch of ten wait when the index holds a million texts, and how much memory does a text take?

Texts are admitted in batches of ten until the index has the wanted size; each of the last `--batches` is timed. Then
the batches are timed while the index grows from the start, to find the longest pause.

Long texts (articles, code, rows of 100 kB, and shuffles of the same words, which share all their keys) are admitted one
by one; each admission is timed, and each call of a kernel, for which a signal waits. Their decisions are first checked
against a loop over RapidFuzz.

    python benchmarks/bench_admit.py [--corpus FILE] [--size 1000000] [--out results/admit.json]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from check_equality import f_of
from corpora import LONG, machine, report, texts
from rapidfuzz import process
from rapidfuzz.distance import LCSseq

from rouge_kernels import DedupIndex, RougeTokenizer, search, warm_up

BATCH = 10
LONG_TEXTS = 60


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
    long = {name: of_long_texts(make(np.random.default_rng(0), LONG_TEXTS)) for name, make in LONG.items()}
    for name, found in long.items():
        print(f"{name:24} {found}")
    figures |= {"long_texts": long}
    report({"machine": machine(), "corpus": "given" if arguments.corpus else "drawn", **figures}, arguments.out)


def of_long_texts(stream: list[str]) -> dict[str, Any]:
    """Times of admitting each to an index of those before it."""
    assert [bool(kept) for kept in DedupIndex(0.7).admit(stream).kept] == by_rapidfuzz(stream), "decisions differ"
    index, calls = DedupIndex(0.7), []
    admit = search.admit
    search.admit = timing(admit, calls)
    seconds = [timed(index, [text]) for text in stream]
    search.admit = admit
    return {
        "texts": len(stream),
        "kept": len(index),
        "tokens_a_text": round(index.tokens / len(index)),
        "ms_a_text": {"median": round(1e3 * float(np.median(seconds)), 2), "longest": round(1e3 * max(seconds), 1)},
        "longest_call_of_a_kernel_ms": round(1e3 * max(calls), 1),
    }


def timing(kernel: Callable[..., Any], calls: list[float]) -> Any:
    """The kernel, which notes the seconds of each call."""

    def call(*arguments: Any) -> Any:
        began = time.perf_counter()
        result = kernel(*arguments)
        calls.append(time.perf_counter() - began)
        return result

    return call


def by_rapidfuzz(stream: list[str]) -> list[bool]:
    """The texts that a loop over all pairs keeps."""
    characters: dict[str, str] = {}
    tokens = [RougeTokenizer()(text) for text in stream]
    strings = [
        "".join(characters.setdefault(token, chr(0x10000 + len(characters))) for token in text) for text in tokens
    ]
    lengths = np.array([len(text) for text in strings])
    kept: list[bool] = []
    lcs = process.cdist(strings, strings, scorer=LCSseq.similarity, dtype=np.int32, workers=-1)
    for at in range(len(stream)):
        near = f_of(lcs[at, :at], lengths[at], lengths[:at]) > 0.7
        kept.append(not (near & np.array(kept, dtype=bool)).any())
    return kept


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
