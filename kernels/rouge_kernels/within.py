"""All near-duplicates among the texts of one batch, by comparing each with each: many times faster than an index of it.

Up to a thousand texts or so the batch LCS of `blocks` is done with all pairs before postings could be written.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.blocks import VECTOR, lane_bits, marked
from rouge_kernels.bounds import least_lcs
from rouge_kernels.overlap import by_length, in_blocks
from rouge_kernels.ragged import Texts
from rouge_kernels.reductions import AT_ONCE, Corpus, Lanes, Positions, any_at_least, compare, run_end, within_reach

FIRST_PAIRS = 64
LONGEST = np.iinfo(np.uint16).max - 1
"""Tokens of a text; more than their LCS comes to fits the integers used here."""


def pairs_within(
    texts: Texts, threshold: float, least: npt.NDArray[np.int32], pool: ThreadPoolExecutor
) -> npt.NDArray[np.int64]:
    """Each text with each duplicate before it: rows of (text, earlier text, LCS), sorted.

    No text may have more than `LONGEST` tokens; `least` is that of `bounds_for(threshold)`.
    """
    vocabulary, ids = np.unique(texts.ids, return_inverse=True)
    local = Texts(ids.astype(np.int32), texts.starts)
    corpus = by_length(local)
    lengths = np.diff(local.starts)

    def run(chosen: Positions) -> npt.NDArray[np.int64]:
        bits = lane_bits(int(lengths[chosen[0]]))
        block = marked(local.ids, local.starts, chosen, bits, len(vocabulary))
        scratch = np.empty((AT_ONCE, VECTOR // bits), dtype=np.uint16)
        nothing = np.full(len(chosen), -1)
        return find_pairs(Lanes(block, lengths[chosen], nothing), corpus, scratch, chosen, threshold, least)

    pairs = np.concatenate([np.empty((0, 3), dtype=np.int64), *pool.map(run, in_blocks(lengths))])
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


@jit
def find_pairs(
    lanes: Lanes,
    corpus: Corpus,
    lcs: npt.NDArray[np.uint16],
    chosen: Positions,
    threshold: float,
    least_of: npt.NDArray[np.int32],
) -> npt.NDArray[np.int64]:
    """The duplicates of the chosen queries among the texts before each of them: rows of (query, text, LCS)."""
    pairs = np.empty((FIRST_PAIRS, 3), dtype=np.int64)
    found = int(np.int64(0))
    least = np.zeros(len(lanes.lengths), dtype=lcs.dtype)
    before = int(np.int64(-1))
    last = int(np.int64(0))
    while last < len(corpus.positions):
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
                if found == len(pairs):
                    larger = np.empty((2 * found, 3), dtype=np.int64)
                    larger[:found] = pairs
                    pairs = larger
                pairs[found, 0], pairs[found, 1] = query, corpus.positions[text]
                pairs[found, 2] = lcs[text - first, lane]
                found += 1
    return pairs[:found]
