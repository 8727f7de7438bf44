"""What is wanted of the LCS of one block of queries with a whole corpus, a few texts at a time: kernels over arrays.

Texts come by length. In a run of equal lengths, F depends on nothing but the query and the LCS: it is summed,
counted and compared as an integer, and turned into F once.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)
# a bare 0, or an element of an array passed on, has a type of its own, for which numba would compile once more

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.blocks import Block, block_lcs
from rouge_kernels.scoring import fmeasure

AT_ONCE = 64
"""Texts whose LCS are held at a time; with a block of queries they fill a part of the nearest cache."""
MARGIN = 1e-6
"""Far above what rounding makes of an LCS worked back from its F, and far below one token."""

Positions = npt.NDArray[np.int64]


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


@jit
def run_end(starts: npt.NDArray[np.int64], first: int) -> int:
    """The end of the run of equally long texts that begins at `first`, but no more than `AT_ONCE` of them."""
    length = starts[first + 1] - starts[first]
    last = first + 1
    while last < min(first + AT_ONCE, len(starts) - 1) and starts[last + 1] - starts[last] == length:
        last += 1
    return last


@jit
def compare(lanes: Lanes, corpus: Corpus, first: int, last: int, lcs: npt.NDArray[np.uint16]) -> None:
    block_lcs(lanes.block, corpus.ids, corpus.starts, first, last, lcs)
    for lane, text in enumerate(lanes.excluded):
        if first <= text < last:
            lcs[text - first, lane] = 0


@jit
def fill_matrix(
    lanes: Lanes, corpus: Corpus, lcs: npt.NDArray[np.uint16], chosen: Positions, matrix: npt.NDArray[Any]
) -> None:
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
    last = int(np.int64(0))
    while last < len(corpus.positions):
        first, last = last, run_end(corpus.starts, last)
        length = corpus.starts[last] - corpus.starts[last - 1]
        if length != before:
            for lane, query in enumerate(chosen):
                least[lane] = least_worth(found_score[query, k - 1], lanes.lengths[lane] + length)
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
                least[lane] = max(least[lane], least_worth(found_score[query, k - 1], lanes.lengths[lane] + length))


@jit
def least_worth(score: float, tokens: int) -> int:
    """An LCS below which no pair of so many tokens together comes up to this score."""
    return max(1, int(np.ceil(score * tokens / 2 - MARGIN)))


@jit
def within_reach(lengths: npt.NDArray[np.int64], least: npt.NDArray[np.uint16], length: int) -> bool:
    within = False
    for lane in range(len(lengths)):
        within |= least[lane] <= min(lengths[lane], length)
    return within


@jit
def any_at_least(lcs: npt.NDArray[np.uint16], least: npt.NDArray[np.uint16], lanes: int) -> bool:
    enough = False
    for lane in range(lanes):
        enough |= lcs[lane] >= least[lane]
    return enough


@jit
def fill_up(found: Positions, excluded: Positions, texts: int) -> None:
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
