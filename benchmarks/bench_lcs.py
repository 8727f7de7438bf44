"""How many pairs of texts per second get their LCS, by the length of the texts, against common libraries?

Every text of a sample is compared with every text of another sample of the same class of lengths. Texts longer than
those of the file are made by joining several. Long texts (articles, code, rows of 100 kB, shuffles) are made up; only
RapidFuzz is compared there, as the other libraries take minutes for a pair. Before anything is timed, the matrices must
be equal, and the best scores must be those of rouge_score. Libraries that read text get text, and tokenizing is part of
their time; the others get tokens as integers or, for RapidFuzz, as characters. "matrix" and RapidFuzz write the same
array of int32, freshly allocated, and "matrix, smallest type" an array of uint8 or uint16: for short texts, memory is
the bottleneck. On one thread the processor's time counts, so that others on the machine matter less.

The share of the machine's peak: a walk takes 3 vector operations for each token of a text that occurs in the block
(and, add, and "or with the rest"). They are counted and compared with the rate of a plain loop of additions and
exclusive ors over numbers of the same width, in registers except for one load and store in 16 operations. A share above
1 is possible: the compiler prefers narrower registers for such a loop.

    python benchmarks/bench_lcs.py [--corpus FILE] [--out results/lcs.json]    (needs matplotlib, rouge-score-rs)
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from corpora import LONG, machine, report, texts
from numba import njit
from plots import panels, save
from rapidfuzz import process
from rapidfuzz.distance import LCSseq
from rouge_score.rouge_scorer import RougeScorer
from rouge_score_rs import RougeScorer as RustScorer

from rouge_kernels import RougeTokenizer, Texts, best, blocks, histogram, lanes, lcs_matrix, mean, overlap, top_k

CLASSES = [
    (1, 16, 2048, 20_000),
    (17, 32, 1024, 10_000),
    (33, 64, 512, 5_000),
    (65, 128, 128, 1_000),
    (129, 512, 64, 400),
]
"""Least and most tokens, queries, texts of the corpus."""
LONG_TEXTS = 16, 48
"""Queries and texts of the corpus."""
SLOW_BEYOND = 512
"""Tokens. For longer texts the other libraries take seconds to minutes a pair."""
OURS = {
    "matrix": lcs_matrix,
    "matrix, smallest type": lambda queries, corpus, threads: lcs_matrix(
        queries, corpus, dtype=smallest(queries), threads=threads
    ),
    "best": best,
    "top_k(10)": lambda queries, corpus, threads: top_k(queries, corpus, 10, threads=threads),
    "mean": mean,
    "histogram(20)": lambda queries, corpus, threads: histogram(queries, corpus, 20, threads=threads),
}


def smallest(queries: Texts) -> npt.DTypeLike:
    return np.min_scalar_type(np.diff(queries.starts).max())


def main() -> None:
    arguments = parsed()
    rng = random.Random(0)
    lines = texts(arguments.corpus, None if arguments.corpus else 26_000)
    threads = os.cpu_count() or 1
    tokens = [text for line in lines if (text := RougeTokenizer()(line))]
    results = []
    for least, most, some, many in CLASSES:
        words = [sample(tokens, rng, least, most, count) for count in (some, many)]
        results.append(measured(f"{least}–{most}", words, rng, arguments.repeats, threads))
    for name, make in LONG.items():
        made = [RougeTokenizer()(text) for text in make(np.random.default_rng(0), sum(LONG_TEXTS))]
        results.append(measured(name, [made[: LONG_TEXTS[0]], made[LONG_TEXTS[0] :]], rng, arguments.repeats, threads))
    if arguments.out:
        plot(results, arguments.out.with_suffix(".svg"))
    report(
        {
            "machine": machine("rapidfuzz", "rouge-score", "rouge-score-rs"),
            "corpus": "given" if arguments.corpus else "drawn",
            "classes": results,
        },
        arguments.out,
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="one text per line, .gz or not")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file; the plot is written beside it")
    return parser.parse_args()


def sample(tokens: list[list[str]], rng: random.Random, least: int, most: int, count: int) -> list[list[str]]:
    """Texts of the class; if there are too few, texts that are joined and cut to a random length."""
    whole = [text for text in tokens if least <= len(text) <= most]
    if len(whole) > 2 * count or least == 1:
        return rng.sample(whole, min(count, len(whole)))
    texts = []
    for _ in range(count):
        length, text = rng.randint(least, most), []
        while len(text) < length:
            text = text + rng.choice(tokens)
        texts.append(text[:length])
    return texts


def packed(texts: list[list[str]], vocabulary: dict[str, int]) -> Texts:
    ids = [vocabulary.setdefault(token, len(vocabulary)) for text in texts for token in text]
    starts = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return Texts(np.array(ids, dtype=np.int32), starts)


def measured(name: str, words: list[list[list[str]]], rng: random.Random, repeats: int, threads: int) -> dict[str, Any]:
    """`words`: the tokens of the queries and of the texts of the corpus."""
    most = max(len(text) for texts in words for text in texts)
    vocabulary: dict[str, int] = {}
    queries, corpus = (packed(texts, vocabulary) for texts in words)
    # a character of its own for each token, beyond the surrogates
    characters = [["".join(chr(0x10000 + vocabulary[t]) for t in text) for text in texts] for texts in words]
    joined = [[" ".join(text) for text in texts] for texts in words]
    pairs = len(queries) * len(corpus)
    few = max(1, min(2000, 200_000 // most**2 * 10))
    drawn = [(rng.choice(joined[0]), rng.choice(joined[1])) for _ in range(few * 10)]
    is_slow = most > SLOW_BEYOND

    def rapidfuzz(workers: int) -> npt.NDArray[np.int32]:
        return process.cdist(*characters, scorer=LCSseq.similarity, dtype=np.int32, workers=workers)

    checked(queries, corpus, [] if is_slow else joined, rapidfuzz(threads), rng)
    reference, rust = RougeScorer(["rougeL"]), RustScorer(["rougeL"])
    runs = {}
    for used in {1: None, threads: None}:
        for function_name, function in OURS.items():
            runs[function_name, used] = lambda f=function, t=used: f(queries, corpus, threads=t), pairs
        runs["RapidFuzz cdist", used] = lambda t=used: rapidfuzz(t), pairs
    if not is_slow:
        runs["rouge-score-rs", 1] = lambda: rust.score_batch(*map(list, zip(*drawn, strict=True))), len(drawn)
        runs["rouge_score", 1] = lambda: [reference.score(*pair) for pair in drawn[:few]], few
    rates = {key: [] for key in runs}
    for _ in range(repeats):
        for key, (run, count) in runs.items():
            clock = time.process_time if key[1] == 1 else time.perf_counter
            began = clock()
            run()
            rates[key].append(count / (clock() - began))
    rows = [
        {
            "name": method,
            "threads": used,
            "pairs_per_second": round(statistics.median(values)),
            "slowest": round(min(values)),
            "fastest": round(max(values)),
            "times_rapidfuzz": round(
                statistics.median(a / b for a, b in zip(values, rates["RapidFuzz cdist", used], strict=True)), 2
            ),
        }
        for (method, used), values in rates.items()
    ]
    print(f"\n{name}, up to {most} tokens, {len(queries)} x {len(corpus)}")
    for row in rows:
        print(
            f"  {row['name']:22} {row['threads']} threads {row['pairs_per_second'] / 1e6:12.5f} M/s "
            f"({row['slowest'] / 1e6:.5f} to {row['fastest'] / 1e6:.5f}) {row['times_rapidfuzz']:9.2f} x RapidFuzz"
        )
    result = {"texts": name, "most": most, "queries": len(queries), "corpus": len(corpus), "rates": rows}
    if most <= lanes.WIDTHS[-1]:
        result["share_of_vector_peak"] = share(queries, corpus, repeats)
        print(f"  lane operations of `mean` / those of a plain loop: {result['share_of_vector_peak']:.2f}")
    return result


def checked(
    queries: Texts, corpus: Texts, joined: list[list[str]], expected: npt.NDArray[np.int32], rng: random.Random
) -> None:
    matrix = lcs_matrix(queries, corpus)
    assert (matrix == expected).all()
    nearest, scorer = best(queries, corpus), RougeScorer(["rougeL"])
    for query in rng.sample(range(len(queries)), 20) if joined else []:
        text = nearest.position[query]
        assert scorer.score(joined[1][text], joined[0][query])["rougeL"].fmeasure == nearest.score[query]
    means, counts = mean(queries, corpus), histogram(queries, corpus, 20, per_query=True)
    totals = matrix * 2 / np.add.outer(np.diff(queries.starts), np.diff(corpus.starts))
    assert np.allclose(means, totals.mean(axis=1))
    assert (counts.sum(axis=1) == len(corpus)).all()


def share(queries: Texts, corpus: Texts, repeats: int) -> float:
    """Lane operations per second of `mean` on one thread, as a share of a plain loop's, the best of each."""
    vocabulary = 1 + int(max(queries.ids.max(), corpus.ids.max()))
    lengths = np.diff(queries.starts)
    wanted: dict[int, int] = {}
    for chosen in overlap.in_blocks(lengths):
        shape = blocks.shape_for(int(lengths[chosen[0]]))
        block = blocks.make_block(queries, chosen, shape, vocabulary)
        met = int((block.row_of[0][corpus.ids] > 0).sum())
        wanted[shape.bits] = wanted.get(shape.bits, 0) + 3 * met * shape.lanes
    peaks = {bits: peak(np.dtype(f"u{bits // 8}"), repeats) for bits in wanted}
    ideal = sum(operations / peaks[bits] for bits, operations in wanted.items())
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        mean(queries, corpus, threads=1)
        seconds.append(time.perf_counter() - began)
    return round(ideal / min(seconds), 3)


@njit
def operate(lanes: npt.NDArray[Any], times: int) -> None:
    one = lanes.dtype.type(1)
    for _ in range(times):
        for i in range(len(lanes)):
            x = lanes[i]
            for k in range(8):
                x = (x + one) ^ lanes.dtype.type(k + 2)
            lanes[i] = x


def peak(kind: np.dtype[Any], repeats: int) -> float:
    """Lane operations per second."""
    lanes, times = np.zeros(8192 // kind.itemsize, dtype=kind), 10_000
    operate(lanes, 1)
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        operate(lanes, times)
        seconds.append(time.perf_counter() - began)
    return 16 * len(lanes) * times / min(seconds)


def plot(results: list[dict[str, Any]], path: Path) -> None:
    names = ["matrix", "matrix, smallest type", "best", "mean", "RapidFuzz cdist", "rouge-score-rs", "rouge_score"]
    (axes,) = panels(1, "LCS of all pairs of two collections of texts")
    axes.figure.set_size_inches(9, 4.5)
    for offset, name in enumerate(names):
        rates = [
            next(
                (row["pairs_per_second"] for row in result["rates"] if (row["name"], row["threads"]) == (name, 1)),
                np.nan,
            )
            for result in results
        ]
        axes.bar(np.arange(len(results)) + offset * 0.12, rates, width=0.11, label=name)
    axes.set_yscale("log")
    axes.set_xticks(np.arange(len(results)) + 0.33, [result["texts"].replace(" ", "\n", 1) for result in results])
    axes.set_xlabel("tokens in a text, or made-up long texts")
    axes.set_ylabel("pairs a second, one thread")
    axes.legend(ncols=3, fontsize=8)
    save(path)


if __name__ == "__main__":
    main()
