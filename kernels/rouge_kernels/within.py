"""All near-duplicates among the texts of one batch, by a comparison of all pairs.

For up to about a thousand texts this is many times faster than an index: the batch LCS of `blocks` has compared all
pairs before the postings of an index are written.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.blocks import make_block, shape_for
from rouge_kernels.bounds import least_lcs
from rouge_kernels.overlap import by_length, in_blocks
from rouge_kernels.ragged import Texts
from rouge_kernels.reductions import AT_ONCE, Corpus, Lanes, Positions, any_at_least, compare, run_end, within_reach

FIRST_PAIRS = 64
MOST_PAIRS = 64
"""Duplicates of a text, on average. A few texts over and over make far more, which would fill the memory."""


def pairs_within(
    texts: Texts,
    is_eligible: npt.NDArray[np.bool_],
    threshold: float,
    least: npt.NDArray[np.int32],
    pool: ThreadPoolExecutor,
) -> npt.NDArray[np.int64] | None:
    """Each text with each eligible duplicate before it: sorted rows of (text, earlier text, LCS).

    None if there are more than `MOST_PAIRS` for each text. No text may have more tokens than an integer of 16 bits
    counts; `least` comes from `bounds_for(threshold)`.
    """
    vocabulary, ids = np.unique(texts.ids, return_inverse=True)
    local = Texts(ids.astype(np.int32), texts.starts)
    corpus = by_length(local, np.flatnonzero(is_eligible))
    lengths = np.diff(local.starts)
    is_crowded = False

    def run(chosen: Positions) -> npt.NDArray[np.int64]:
        nonlocal is_crowded
        if is_crowded:
            return no_pairs
        shape = shape_for(int(lengths[chosen[0]]))
        block = make_block(local, chosen, shape, len(vocabulary))
        scratch = np.empty((AT_ONCE, shape.lanes), dtype=np.uint16)
        none = np.full(len(chosen), -1)
        most = MOST_PAIRS * len(chosen)
        pairs = find_pairs(Lanes(block, lengths[chosen], none), corpus, scratch, chosen, threshold, least, most)
        is_crowded |= len(pairs) > most
        return pairs

    no_pairs = np.empty((0, 3), dtype=np.int64)
    pairs = np.concatenate([no_pairs, *pool.map(run, in_blocks(lengths))])
    return None if is_crowded else pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


@jit
def find_pairs(
    lanes: Lanes,
    corpus: Corpus,
    lcs: npt.NDArray[np.uint16],
    chosen: Positions,
    threshold: float,
    least_of: npt.NDArray[np.int32],
    most: int,
) -> npt.NDArray[np.int64]:
    """The duplicates of each chosen query among the texts before it: rows of (query, text, LCS).

    It stops early when there are more than `most`.
    """
    pairs = np.empty((FIRST_PAIRS, 3), dtype=np.int64)
    filled = int(np.int64(0))
    least = np.zeros(len(lanes.lengths), dtype=lcs.dtype)
    before = int(np.int64(-1))
    last = int(np.int64(0))
    while last < len(corpus.positions) and filled <= most:
        first, last = last, run_end(corpus.starts, last)
        length = corpus.starts[last] - corpus.starts[last - 1]
        if length != before:
            for lane in range(len(least)):
                least[lane] = least_lcs(least_of, threshold, lanes.lengths[lane], length)
            before = length
        if not within_reach(lanes.lengths, least, length):
            continue
        compare(lanes, corpus, first, last, lcs)
        for text in range(first, last):
            if not any_at_least(lcs[text - first], least, len(chosen)):
                continue
            for lane, query in enumerate(chosen):
                if lcs[text - first, lane] < least[lane] or corpus.positions[text] >= query:
                    continue
                if filled == len(pairs):
                    larger = np.empty((2 * filled, 3), dtype=np.int64)
                    larger[:filled] = pairs
                    pairs = larger
                pairs[filled, 0], pairs[filled, 1] = query, corpus.positions[text]
                pairs[filled, 2] = lcs[text - first, lane]
                filled += 1
    return pairs[:filled]
