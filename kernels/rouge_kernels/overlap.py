"""ROUGE-L between all texts of two collections, or what is wanted of it, without ever holding the matrix.

The texts of the corpus are visited in the order of their length: in a run of equal lengths, F depends on nothing but
the query and the LCS. The queries go in blocks, longest first, each a task for some thread. What is reported for a
query comes from its block alone and from sums of integers, so it is the same for any number of threads.

Threads come from a pool and run kernels without the GIL, rather than from numba: its own pool may not be entered from
two threads at once where neither OpenMP nor TBB is installed.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.blocks import VECTOR, Block, block_lcs, lane_bits, marked
from rouge_kernels.ragged import Texts
from rouge_kernels.scoring import fmeasure

AT_ONCE = 64
"""Texts whose LCS are held at a time; with a block of queries they fill a part of the nearest cache."""
MARGIN = 1e-6
"""Far above what rounding makes of an LCS worked back from its F, and far below one token."""

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The texts a query scores highest with, best first, the earlier of equals first."""

    position: Positions
    """Position in the corpus; -1 where there are no more texts."""
    lcs: npt.NDArray[np.int64]
    """LCS in tokens with that text; -1 where there is none."""
    score: npt.NDArray[np.float64]
    """ROUGE-L's F with that text; nan where there is none."""


class Corpus(NamedTuple):
    """The texts of a corpus by length, equally long ones in their old order."""

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    positions: Positions
    """Where each text stood before."""


class Lanes(NamedTuple):
    """A block and what is to be known of its queries, one entry a lane that is taken."""

    block: Block
    lengths: npt.NDArray[np.int64]
    excluded: Positions
    """The text, as `Corpus` orders them, whose LCS counts as 0; -1 for none."""


def lcs_matrix(queries: Texts, corpus: Texts, *, threads: int | None = None) -> npt.NDArray[np.int32]:
    """The LCS in tokens of every query with every text of the corpus: [queries, corpus].

    `threads` here and below: how many to use at most, as many as there are processors if None.
    """
    matrix = np.empty((len(queries), len(corpus)), dtype=np.int32)
    unsorted = Corpus(corpus.ids, corpus.starts, np.arange(len(corpus)))

    def fill(lanes: Lanes, chosen: Positions) -> None:
        _fill(lanes, unsorted, _scratch(queries, corpus, lanes), chosen, matrix)

    _each_block(queries, unsorted, None, fill, threads)
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
    by_length = _by_length(corpus)
    shape = len(queries), k
    nearest = Nearest(np.full(shape, -1), np.zeros(shape, dtype=np.int64), np.zeros(shape))

    def find(lanes: Lanes, chosen: Positions) -> None:
        scratch = _scratch(queries, corpus, lanes)
        _find_top(lanes, by_length, scratch, chosen, nearest.position, nearest.lcs, nearest.score)

    _each_block(queries, by_length, excluding, find, threads)
    _fill_up(nearest.position, _or_none(excluding, queries), len(corpus))
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
    by_length = _by_length(corpus)
    total = np.zeros(len(queries))

    def add_up(lanes: Lanes, chosen: Positions) -> None:
        _add_up(lanes, by_length, _scratch(queries, corpus, lanes), chosen, total)

    _each_block(queries, by_length, excluding, add_up, threads)
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
    by_length = _by_length(corpus)
    counts = np.zeros((len(queries), bins), dtype=np.int64)

    def count(lanes: Lanes, chosen: Positions) -> None:
        _count(lanes, by_length, _scratch(queries, corpus, lanes), chosen, counts)

    _each_block(queries, by_length, excluding, count, threads)
    counts[:, 0] -= _or_none(excluding, queries) >= 0
    return counts if per_query else counts.sum(axis=0)


def _by_length(texts: Texts) -> Corpus:
    lengths = np.diff(texts.starts)
    positions = np.argsort(lengths, kind="stable")
    starts = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(lengths[positions], out=starts[1:])
    moved = np.repeat(texts.starts[positions] - starts[:-1], lengths[positions])
    return Corpus(texts.ids[np.arange(starts[-1]) + moved], starts, positions)


def _or_none(excluding: Positions | None, queries: Texts) -> Positions:
    return np.full(len(queries), -1) if excluding is None else excluding


def _scratch(queries: Texts, corpus: Texts, lanes: Lanes) -> npt.NDArray[np.uint16]:
    """Room for the LCS of a few texts with a block, in the narrowest type that holds any."""
    longest = min(np.diff(texts.starts).max(initial=0) for texts in (queries, corpus))
    narrowest = np.uint16 if longest <= np.iinfo(np.uint16).max else np.uint32
    return np.empty((AT_ONCE, VECTOR // lanes.block.bits), dtype=narrowest)


def _each_block(
    queries: Texts,
    corpus: Corpus,
    excluding: Positions | None,
    work: Callable[[Lanes, Positions], None],
    threads: int | None,
) -> None:
    """Call `work` for each block with its lanes and the queries in them, in several threads."""
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

    def run(chosen: Positions) -> None:
        block = marked(queries.ids, queries.starts, chosen, lane_bits(int(lengths[chosen[0]])), vocabulary)
        work(Lanes(block, lengths[chosen], excluded[chosen]), chosen)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for _ in pool.map(run, _blocks(lengths)):
            pass  # raises what was raised there


def _blocks(lengths: npt.NDArray[np.int64]) -> list[Positions]:
    """The queries in blocks, longest first, so that none is in wider lanes than it must be but to fill a block."""
    order = np.argsort(-lengths, kind="stable")
    blocks = []
    while len(order):
        lanes = VECTOR // lane_bits(int(lengths[order[0]]))
        blocks.append(order[:lanes])
        order = order[lanes:]
    return blocks


@jit
def _run_end(starts: npt.NDArray[np.int64], first: int) -> int:
    """The end of the run of equally long texts that begins at `first`, but no more than `AT_ONCE` of them."""
    length = starts[first + 1] - starts[first]
    last = first + 1
    while last < min(first + AT_ONCE, len(starts) - 1) and starts[last + 1] - starts[last] == length:
        last += 1
    return last


@jit
def _compare(lanes: Lanes, corpus: Corpus, first: int, last: int, lcs: npt.NDArray[np.uint16]) -> None:
    block_lcs(lanes.block, corpus.ids, corpus.starts, first, last, lcs)
    for lane, text in enumerate(lanes.excluded):
        if first <= text < last:
            lcs[text - first, lane] = 0


@jit
def _fill(
    lanes: Lanes, corpus: Corpus, lcs: npt.NDArray[np.uint16], chosen: Positions, matrix: npt.NDArray[np.int32]
) -> None:
    for first in range(0, len(corpus.positions), AT_ONCE):
        last = min(first + AT_ONCE, len(corpus.positions))
        _compare(lanes, corpus, first, last, lcs)
        for lane, query in enumerate(chosen):
            for text in range(first, last):
                matrix[query, text] = lcs[text - first, lane]


@jit
def _add_up(
    lanes: Lanes, corpus: Corpus, lcs: npt.NDArray[np.uint16], chosen: Positions, total: npt.NDArray[np.float64]
) -> None:
    last = 0
    while last < len(corpus.positions):
        first, last = last, _run_end(corpus.starts, last)
        length = corpus.starts[last] - corpus.starts[last - 1]
        _compare(lanes, corpus, first, last, lcs)
        common = np.zeros(len(lanes.lengths), dtype=np.uint32)  # wide enough for AT_ONCE texts
        for text in range(last - first):
            for lane in range(len(common)):
                common[lane] += lcs[text, lane]
        for lane, query in enumerate(chosen):
            if common[lane] > 0:
                total[query] += 2 * int(common[lane]) / (lanes.lengths[lane] + length)


@jit
def _count(
    lanes: Lanes, corpus: Corpus, lcs: npt.NDArray[np.uint16], chosen: Positions, counts: npt.NDArray[np.int64]
) -> None:
    bins = counts.shape[1]
    most = min(lanes.lengths[0], corpus.starts[-1] - corpus.starts[-2]) if len(corpus.positions) else 0
    tally = np.zeros((len(chosen), most + 1), dtype=np.int64)
    last = 0
    while last < len(corpus.positions):
        first, last = last, _run_end(corpus.starts, last)
        length = corpus.starts[last] - corpus.starts[last - 1]
        _compare(lanes, corpus, first, last, lcs)
        for text in range(last - first):
            for lane in range(len(chosen)):
                tally[lane, lcs[text, lane]] += 1
        if last < len(corpus.positions) and corpus.starts[last + 1] - corpus.starts[last] == length:
            continue
        for lane, query in enumerate(chosen):
            for common in range(min(lanes.lengths[lane], length) + 1):
                if tally[lane, common] > 0:
                    score = fmeasure(common, lanes.lengths[lane], length)
                    counts[query, min(int(score * bins), bins - 1)] += tally[lane, common]
                    tally[lane, common] = 0


@jit
def _find_top(
    lanes: Lanes,
    corpus: Corpus,
    lcs: npt.NDArray[np.uint16],
    chosen: Positions,
    found: Positions,
    found_lcs: npt.NDArray[np.int64],
    found_score: npt.NDArray[np.float64],
) -> None:
    """Enter the texts with anything in common into the rows of the chosen queries, which are in order throughout.

    A lane that a text can interest only with a certain LCS says so beforehand in `least`, so that most texts are
    passed over by comparing integers. In a run of equal lengths only a greater LCS is news after one that was looked
    at, since positions rise. An empty place has position -1 and score 0, which an LCS of 0 does not beat.
    """
    k = found.shape[1]
    least = np.zeros(len(lanes.lengths), dtype=lcs.dtype)
    before = -1
    last = 0
    while last < len(corpus.positions):
        first, last = last, _run_end(corpus.starts, last)
        length = corpus.starts[last] - corpus.starts[last - 1]
        if length != before:
            for lane, query in enumerate(chosen):
                least[lane] = _least(found_score[query, k - 1], lanes.lengths[lane] + length)
            before = length
        if not _within_reach(lanes.lengths, least, length):
            continue
        _compare(lanes, corpus, first, last, lcs)
        for text in range(first, last):
            if not _any_at_least(lcs[text - first], least, len(chosen)):
                continue
            for lane, query in enumerate(chosen):
                common = int(lcs[text - first, lane])
                if common < least[lane]:
                    continue
                score = fmeasure(common, lanes.lengths[lane], length)
                position = corpus.positions[text]
                place = k
                while place > 0 and (
                    score > found_score[query, place - 1]
                    or (score == found_score[query, place - 1] and position < found[query, place - 1])
                ):
                    place -= 1
                if place == k:
                    least[lane] = common + 1
                    continue
                for behind in range(k - 1, place, -1):
                    found[query, behind] = found[query, behind - 1]
                    found_lcs[query, behind] = found_lcs[query, behind - 1]
                    found_score[query, behind] = found_score[query, behind - 1]
                found[query, place] = position
                found_lcs[query, place] = common
                found_score[query, place] = score
                least[lane] = max(least[lane], _least(found_score[query, k - 1], lanes.lengths[lane] + length))


@jit
def _least(score: float, tokens: int) -> int:
    """An LCS below which no pair of so many tokens together comes up to this score."""
    return max(1, int(np.ceil(score * tokens / 2 - MARGIN)))


@jit
def _within_reach(lengths: npt.NDArray[np.int64], least: npt.NDArray[np.uint16], length: int) -> bool:
    within = False
    for lane in range(len(lengths)):
        within |= least[lane] <= min(lengths[lane], length)
    return within


@jit
def _any_at_least(lcs: npt.NDArray[np.uint16], least: npt.NDArray[np.uint16], lanes: int) -> bool:
    enough = False
    for lane in range(lanes):
        enough |= lcs[lane] >= least[lane]
    return enough


@jit
def _fill_up(found: Positions, excluded: Positions, texts: int) -> None:
    """Enter the earliest texts with nothing in common into the places that are left."""
    for query in range(len(found)):
        text = 0
        for place in range(found.shape[1]):
            if found[query, place] >= 0:
                continue
            while text < texts and (text == excluded[query] or (found[query, :place] == text).any()):
                text += 1
            if text < texts:
                found[query, place] = text
                text += 1
