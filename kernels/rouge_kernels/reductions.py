"""Kernels that reduce the LCS of one block of queries with a whole corpus to a result, a few texts at a time.

Texts are sorted by length. In a run of texts of equal length, F depends only on the query and the LCS. So the kernels
sum, count and compare integers, and compute F once.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)
# int(np.int64(0)): numba gives a literal 0 a type of its own, for which it would compile the callees again

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.blocks import Block, block_lcs
from rouge_kernels.scoring import fmeasure

AT_ONCE = 64
"""Texts whose LCS are in memory at a time; with a block of queries they fill a part of the first-level cache."""
MARGIN = 1e-6
"""Tokens. It is far above the rounding error of an LCS computed from its F, and far below one token."""

Positions = npt.NDArray[np.int64]


class Corpus(NamedTuple):
    """The texts of a corpus sorted by length; texts of equal length keep their order."""

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    positions: Positions
    """The position of each text before the sort."""


class Lanes(NamedTuple):
    """A block of queries that are compared with one text at a time, a lane of the processor's registers for each.

    The arrays have an entry for each query.
    """

    block: Block
    lengths: npt.NDArray[np.int64]
    excluded: Positions
    """The text, in the order of `Corpus`, whose LCS counts as 0; -1 for none."""


@jit
def run_end(starts: npt.NDArray[np.int64], first: int) -> int:
    """The end of the run of texts of equal length that begins at `first`, at most `AT_ONCE` texts later."""
    length = starts[first + 1] - starts[first]
    last = first + 1
    while last < min(first + AT_ONCE, len(starts) - 1) and starts[last + 1] - starts[last] == length:
        last += 1
    return last


@jit
def compare(lanes: Lanes, corpus: Corpus, first: int, last: int, lcs: npt.NDArray[np.uint16]) -> None:
    """Write into `lcs[text - first, lane]` the LCS of the texts before `last`; excluded texts get 0."""
    block_lcs(lanes.block, corpus.ids, corpus.starts, first, last, lcs)
    for lane, text in enumerate(lanes.excluded):
        if first <= text < last:
            lcs[text - first, lane] = 0


@jit
def fill_matrix(
    lanes: Lanes, corpus: Corpus, lcs: npt.NDArray[np.uint16], chosen: Positions, matrix: npt.NDArray[Any]
) -> None:
    """Write the LCS with every text into the rows of the chosen queries."""
    for first in range(0, len(corpus.positions), AT_ONCE):
        last = min(first + AT_ONCE, len(corpus.positions))
        compare(lanes, corpus, first, last, lcs)
        for lane, query in enumerate(chosen):
            for text in range(first, last):
                matrix[query, text] = lcs[text - first, lane]


@jit
def add_scores(
    lanes: Lanes, corpus: Corpus, lcs: npt.NDArray[np.uint16], chosen: Positions, total: npt.NDArray[np.float64]
) -> None:
    """Add the sum of F over the corpus to the total of each chosen query."""
    last = int(np.int64(0))
    while last < len(corpus.positions):
        first, last = last, run_end(corpus.starts, last)
        length = corpus.starts[last] - corpus.starts[last - 1]
        compare(lanes, corpus, first, last, lcs)
        common = np.zeros(len(lanes.lengths), dtype=np.uint32)  # wide enough for AT_ONCE texts
        for text in range(last - first):
            for lane in range(len(common)):
                common[lane] += lcs[text, lane]
        for lane, query in enumerate(chosen):
            if common[lane] > 0:
                total[query] += 2 * int(common[lane]) / (lanes.lengths[lane] + length)


@jit
def count_bins(
    lanes: Lanes, corpus: Corpus, lcs: npt.NDArray[np.uint16], chosen: Positions, counts: npt.NDArray[np.int64]
) -> None:
    """Count the F of each chosen query over the corpus, by bins of [0, 1]."""
    bins = counts.shape[1]
    most = min(lanes.lengths[0], corpus.starts[-1] - corpus.starts[-2]) if len(corpus.positions) else 0
    tally = np.zeros((len(chosen), most + 1), dtype=np.int64)
    last = int(np.int64(0))
    while last < len(corpus.positions):
        first, last = last, run_end(corpus.starts, last)
        length = corpus.starts[last] - corpus.starts[last - 1]
        compare(lanes, corpus, first, last, lcs)
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
def find_top(
    lanes: Lanes,
    corpus: Corpus,
    lcs: npt.NDArray[np.uint16],
    chosen: Positions,
    nearest: Positions,
    nearest_lcs: npt.NDArray[np.int64],
    nearest_score: npt.NDArray[np.float64],
) -> None:
    """Insert the texts with a non-zero LCS into the rows of the chosen queries, which stay sorted.

    `least` holds, for each lane, the smallest LCS that can enter its row, so that a comparison of integers skips most
    texts. In a run of equal lengths positions rise, so after each check only a greater LCS can enter. An empty place
    has position -1 and score 0, and an LCS of 0 does not beat it.
    """
    k = nearest.shape[1]
    least = np.zeros(len(lanes.lengths), dtype=lcs.dtype)
    before = -1
    last = int(np.int64(0))
    while last < len(corpus.positions):
        first, last = last, run_end(corpus.starts, last)
        length = corpus.starts[last] - corpus.starts[last - 1]
        if length != before:
            for lane, query in enumerate(chosen):
                least[lane] = least_worth(nearest_score[query, k - 1], lanes.lengths[lane] + length)
            before = length
        if not within_reach(lanes.lengths, least, length):
            continue
        compare(lanes, corpus, first, last, lcs)
        for text in range(first, last):
            if not any_at_least(lcs[text - first], least, len(chosen)):
                continue
            for lane, query in enumerate(chosen):
                common = int(np.int64(lcs[text - first, lane]))
                if common < least[lane]:
                    continue
                score = fmeasure(common, lanes.lengths[lane], length)
                position = corpus.positions[text]
                place = k
                while place > 0 and (
                    score > nearest_score[query, place - 1]
                    or (score == nearest_score[query, place - 1] and position < nearest[query, place - 1])
                ):
                    place -= 1
                if place == k:
                    least[lane] = common + 1
                    continue
                for behind in range(k - 1, place, -1):
                    nearest[query, behind] = nearest[query, behind - 1]
                    nearest_lcs[query, behind] = nearest_lcs[query, behind - 1]
                    nearest_score[query, behind] = nearest_score[query, behind - 1]
                nearest[query, place] = position
                nearest_lcs[query, place] = common
                nearest_score[query, place] = score
                least[lane] = max(least[lane], least_worth(nearest_score[query, k - 1], lanes.lengths[lane] + length))


@jit
def least_worth(score: float, tokens: int) -> int:
    """An LCS such that every pair with a smaller one, and `tokens` tokens together, is below this score."""
    return max(1, int(np.ceil(score * tokens / 2 - MARGIN)))


@jit
def within_reach(lengths: npt.NDArray[np.int64], least: npt.NDArray[np.uint16], length: int) -> bool:
    """True when a text of this length can reach the least LCS of any lane."""
    within = False
    for lane in range(len(lengths)):
        within |= least[lane] <= min(lengths[lane], length)
    return within


@jit
def any_at_least(lcs: npt.NDArray[np.uint16], least: npt.NDArray[np.uint16], lanes: int) -> bool:
    """True when any lane has its least LCS or more."""
    enough = False
    for lane in range(lanes):
        enough |= lcs[lane] >= least[lane]
    return enough


@jit
def fill_up(nearest: Positions, excluded: Positions, texts: int) -> None:
    """Fill the places that are left with the earliest texts that have an LCS of 0."""
    for query in range(len(nearest)):
        text = 0
        for place in range(nearest.shape[1]):
            if nearest[query, place] >= 0:
                continue
            while text < texts and (text == excluded[query] or (nearest[query, :place] == text).any()):
                text += 1
            if text < texts:
                nearest[query, place] = text
                text += 1
