"""ROUGE-L between all texts of two collections: the matrix of LCS, or statistics of it that need no matrix in memory.

Kernels visit the texts of the corpus in the order of their length, and the queries in blocks, longest first; each block
is work for one thread. The result for a query comes only from its block, so it is the same for any number of threads.

Threads come from a pool of Python and run kernels without the GIL. They do not come from numba, because two threads
must not enter numba's own pool at the same time unless OpenMP or TBB is installed.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rouge_kernels.blocks import make_block, shape_for
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
    """The texts with the highest scores for each query, best first, the earlier of equals first."""

    position: Positions
    """Position in the corpus; -1 if there are no more texts."""
    lcs: npt.NDArray[np.int64]
    """LCS with that text in tokens; -1 if there is no text."""
    score: npt.NDArray[np.float64]
    """ROUGE-L's F with that text; nan if there is no text."""


def lcs_matrix(
    queries: Texts, corpus: Texts, *, dtype: npt.DTypeLike = np.int32, threads: int | None = None
) -> npt.NDArray[Any]:
    """The LCS in tokens of every query with every text of the corpus: [queries, corpus].

    `dtype`: the type of the integers. For short texts memory is the bottleneck, so uint8 is much faster. Raises
    ValueError if an LCS might not fit. `threads` here and below: the most threads to use; None means one for each
    processor.
    """
    most = min(np.diff(texts.starts).max(initial=0) for texts in (queries, corpus))
    if not np.issubdtype(dtype, np.integer) or most > np.iinfo(dtype).max:
        raise ValueError(
            f"{np.dtype(dtype)} cannot hold every LCS, which may be up to {most}: use a wider integer type"
        )
    matrix = np.empty((len(queries), len(corpus)), dtype=dtype)
    unsorted = Corpus(corpus.ids, corpus.starts, np.arange(len(corpus)))
    _each_block(fill_matrix, queries, unsorted, None, threads, matrix)
    return matrix


def best(queries: Texts, corpus: Texts, *, excluding: Positions | None = None, threads: int | None = None) -> Nearest:
    """The text with the highest score for each query, the earliest of equals: arrays with an entry for each query.

    `excluding` here and below: for each query, the position of a text to leave out, or -1. When the corpus is also the
    queries, `np.arange(len(corpus))` leaves out each text itself. Raises ValueError for other positions.
    """
    nearest = top_k(queries, corpus, 1, excluding=excluding, threads=threads)
    return Nearest(nearest.position[:, 0], nearest.lcs[:, 0], nearest.score[:, 0])


def top_k(
    queries: Texts, corpus: Texts, k: int, *, excluding: Positions | None = None, threads: int | None = None
) -> Nearest:
    """The k texts with the highest scores for each query: arrays of [queries, k]. Raises ValueError if k is below 1."""
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
    """The mean F of each query over the corpus; nan if no text is left.

    It sums F as 2·LCS/(m+n), for all texts of one length together. This is closer to the true mean than a sum of
    rounded scores.
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
    """The number of pairs with F in each of `bins` equal parts of [0, 1]: [bins], or with `per_query` [queries, bins].

    Bin b counts `int(F * bins) == b`; the last bin also counts F = 1. Raises ValueError if `bins` is below 1.
    """
    if bins < 1:
        raise ValueError(f"there must be at least one bin, not {bins!r}")
    ordered = by_length(corpus)
    counts = np.zeros((len(queries), bins), dtype=np.int64)
    _each_block(count_bins, queries, ordered, excluding, threads, counts)
    counts[:, 0] -= _or_none(excluding, queries) >= 0
    return counts if per_query else counts.sum(axis=0)


def by_length(texts: Texts, chosen: Positions | None = None) -> Corpus:
    """All texts, or the chosen ones, sorted by length, as the kernels of `reductions` need them."""
    chosen = np.arange(len(texts)) if chosen is None else chosen
    positions = chosen[np.argsort(np.diff(texts.starts)[chosen], kind="stable")]
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
    """Run a kernel of `reductions` on each block; it writes into the rows of the results."""
    if excluding is not None and not (
        len(excluding) == len(queries) and ((excluding >= -1) & (excluding < len(corpus.positions))).all()
    ):
        raise ValueError("`excluding` must have a position in the corpus, or -1, for each query")
    if min(queries.ids.min(initial=0), corpus.ids.min(initial=0)) < 0:
        raise ValueError("token ids cannot be negative")
    vocabulary = 1 + int(max(queries.ids.max(initial=0), corpus.ids.max(initial=0)))
    rank = np.full(len(corpus.positions) + 1, -1)  # an index of -1 leads to the -1 at the end
    rank[corpus.positions] = np.arange(len(corpus.positions))
    excluded = rank[_or_none(excluding, queries)]
    lengths = np.diff(queries.starts)
    longest = min(lengths.max(initial=0), np.diff(corpus.starts).max(initial=0))
    narrowest = np.uint16 if longest <= np.iinfo(np.uint16).max else np.uint32

    def run(chosen: Positions) -> None:
        shape = shape_for(int(lengths[chosen[0]]))
        block = make_block(queries, chosen, shape, vocabulary)
        scratch = np.empty((AT_ONCE, shape.lanes), dtype=narrowest)
        kernel(Lanes(block, lengths[chosen], excluded[chosen]), corpus, scratch, chosen, *results)

    with ThreadPoolExecutor(threads or processors()) as pool:
        for _ in pool.map(run, in_blocks(lengths)):
            pass  # raises the exception of a thread here


def in_blocks(lengths: npt.NDArray[np.int64]) -> list[Positions]:
    """The queries in blocks, longest first, so that lanes are no wider than needed except to fill a block."""
    order = np.argsort(-lengths, kind="stable")
    blocks = []
    while len(order):
        lanes = shape_for(int(lengths[order[0]])).lanes
        blocks.append(order[:lanes])
        order = order[lanes:]
    return blocks
