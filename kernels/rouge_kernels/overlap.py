"""ROUGE-L between all texts of two collections, or what is wanted of it, without ever holding the matrix.

The texts of the corpus are visited in the order of their length, the queries go in blocks, longest first, each a task
for some thread. What is reported for a query comes from its block alone, so it is the same for any number of threads.

Threads come from a pool and run kernels without the GIL, rather than from numba: its own pool may not be entered from
two threads at once where neither OpenMP nor TBB is installed.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rouge_kernels.blocks import VECTOR, lane_bits, marked
from rouge_kernels.ragged import Texts
from rouge_kernels.reductions import (
    AT_ONCE,
    Corpus,
    Lanes,
    Positions,
    add_scores,
    count_bins,
    fill_matrix,
    fill_up,
    find_top,
)
from rouge_kernels.threads import processors


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The texts a query scores highest with, best first, the earlier of equals first."""

    position: Positions
    """Position in the corpus; -1 where there are no more texts."""
    lcs: npt.NDArray[np.int64]
    """LCS in tokens with that text; -1 where there is none."""
    score: npt.NDArray[np.float64]
    """ROUGE-L's F with that text; nan where there is none."""


def lcs_matrix(
    queries: Texts, corpus: Texts, *, dtype: npt.DTypeLike = np.int32, threads: int | None = None
) -> npt.NDArray[Any]:
    """The LCS in tokens of every query with every text of the corpus: [queries, corpus].

    `dtype`: of the integers. For short texts it is memory that is waited for, so uint8 is much quicker; ValueError if
    an LCS might not fit. `threads` here and below: how many to use at most, as many as there are processors if None.
    """
    most = min(np.diff(texts.starts).max(initial=0) for texts in (queries, corpus))
    if not np.issubdtype(dtype, np.integer) or most > np.iinfo(dtype).max:
        raise ValueError(f"{np.dtype(dtype)} does not hold every LCS, which may be {most}")
    matrix = np.empty((len(queries), len(corpus)), dtype=dtype)
    unsorted = Corpus(corpus.ids, corpus.starts, np.arange(len(corpus)))
    _each_block(fill_matrix, queries, unsorted, None, threads, matrix)
    return matrix


def best(queries: Texts, corpus: Texts, *, excluding: Positions | None = None, threads: int | None = None) -> Nearest:
    """The text that each query scores highest with, the earliest of equals: arrays of one entry a query.

    `excluding` here and below: for each query the position of a text to leave out, or -1. With a corpus as its own
    queries, `np.arange(len(corpus))` leaves out each text itself.
    """
    nearest = top_k(queries, corpus, 1, excluding=excluding, threads=threads)
    return Nearest(nearest.position[:, 0], nearest.lcs[:, 0], nearest.score[:, 0])


def top_k(
    queries: Texts, corpus: Texts, k: int, *, excluding: Positions | None = None, threads: int | None = None
) -> Nearest:
    """The k texts that each query scores highest with: arrays of [queries, k]."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k!r}")
    ordered = by_length(corpus)
    shape = len(queries), k
    nearest = Nearest(np.full(shape, -1), np.zeros(shape, dtype=np.int64), np.zeros(shape))
    _each_block(find_top, queries, ordered, excluding, threads, nearest.position, nearest.lcs, nearest.score)
    fill_up(nearest.position, _or_none(excluding, queries), len(corpus))
    missing = nearest.position < 0
    nearest.lcs[missing] = -1
    nearest.score[missing] = np.nan
    return nearest


def mean(
    queries: Texts, corpus: Texts, *, excluding: Positions | None = None, threads: int | None = None
) -> npt.NDArray[np.float64]:
    """The mean F of each query over the corpus; nan where no text is left.

    Taken of F as 2·LCS/(m+n), texts of one length at a time: nearer to the true mean than a sum of rounded scores.
    """
    ordered = by_length(corpus)
    total = np.zeros(len(queries))
    _each_block(add_scores, queries, ordered, excluding, threads, total)
    compared = len(corpus) - (_or_none(excluding, queries) >= 0)
    means: npt.NDArray[np.float64] = np.where(compared > 0, total / np.maximum(compared, 1), np.nan)
    return means


def histogram(
    queries: Texts,
    corpus: Texts,
    bins: int,
    *,
    per_query: bool = False,
    excluding: Positions | None = None,
    threads: int | None = None,
) -> npt.NDArray[np.int64]:
    """How many pairs have their F in each of so many equal parts of [0, 1]: [bins], or per query [queries, bins].

    Bin b holds `int(F * bins) == b`, the last one also F = 1.
    """
    if bins < 1:
        raise ValueError(f"there must be at least one bin, not {bins!r}")
    ordered = by_length(corpus)
    counts = np.zeros((len(queries), bins), dtype=np.int64)
    _each_block(count_bins, queries, ordered, excluding, threads, counts)
    counts[:, 0] -= _or_none(excluding, queries) >= 0
    return counts if per_query else counts.sum(axis=0)


def by_length(texts: Texts) -> Corpus:
    positions = np.argsort(np.diff(texts.starts), kind="stable")
    ordered = texts.of(positions)
    return Corpus(ordered.ids, ordered.starts, positions)


def _or_none(excluding: Positions | None, queries: Texts) -> Positions:
    return np.full(len(queries), -1) if excluding is None else excluding


def _each_block(
    kernel: Callable[..., None],
    queries: Texts,
    corpus: Corpus,
    excluding: Positions | None,
    threads: int | None,
    *results: npt.NDArray[np.generic],
) -> None:
    """Have a kernel of `reductions` write what it finds of each block into the rows of the results."""
    if excluding is not None and not (
        len(excluding) == len(queries) and ((excluding >= -1) & (excluding < len(corpus.positions))).all()
    ):
        raise ValueError("`excluding` needs a position in the corpus, or -1, for each query")
    if min(queries.ids.min(initial=0), corpus.ids.min(initial=0)) < 0:
        raise ValueError("token ids cannot be negative")
    vocabulary = 1 + int(max(queries.ids.max(initial=0), corpus.ids.max(initial=0)))
    rank = np.full(len(corpus.positions) + 1, -1)  # with -1 at the end, where an index of -1 leads
    rank[corpus.positions] = np.arange(len(corpus.positions))
    excluded = rank[_or_none(excluding, queries)]
    lengths = np.diff(queries.starts)
    longest = min(lengths.max(initial=0), np.diff(corpus.starts).max(initial=0))
    narrowest = np.uint16 if longest <= np.iinfo(np.uint16).max else np.uint32

    def run(chosen: Positions) -> None:
        bits = lane_bits(int(lengths[chosen[0]]))
        block = marked(queries.ids, queries.starts, chosen, bits, vocabulary)
        scratch = np.empty((AT_ONCE, VECTOR // bits), dtype=narrowest)
        kernel(Lanes(block, lengths[chosen], excluded[chosen]), corpus, scratch, chosen, *results)

    with ThreadPoolExecutor(threads or processors()) as pool:
        for _ in pool.map(run, in_blocks(lengths)):
            pass  # raises what was raised there


def in_blocks(lengths: npt.NDArray[np.int64]) -> list[Positions]:
    """The queries in blocks, longest first, so that none is in wider lanes than it must be but to fill a block."""
    order = np.argsort(-lengths, kind="stable")
    blocks = []
    while len(order):
        lanes = VECTOR // lane_bits(int(lengths[order[0]]))
        blocks.append(order[:lanes])
        order = order[lanes:]
    return blocks
