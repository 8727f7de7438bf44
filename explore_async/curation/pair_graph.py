"""Exact greedy dedup in parts: all pairs of near-duplicates first, and then the decisions, text by text.

Texts are spread over partitions by their rare tokens, so that near-duplicates meet in at least one. In a fixed order of
all tokens, the first token that two of them share lies in a prefix of both (prefix filtering, Chaudhuri et al. 2006). A
text of m tokens shares at least `need` with a duplicate, so at most m - need of its tokens are not shared, and its
prefix has m - need + 1 tokens. The order is by frequency, the rarest first, so partitions meet few texts in vain.

Pure: it knows neither files nor processes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rouge_kernels import Admission, fmeasure, similar_pairs
from rouge_kernels.bounds import bounds_for, shortest_partner

Ints = npt.NDArray[np.int64]
_MIXED_BY = np.uint64(0x9E37_79B9_7F4A_7C15)
"""Multiplied by it, neighbouring numbers of tokens lie far apart (Knuth's multiplicative hash)."""
_HIGH = np.uint64(32)


def rank_of(counts: Ints) -> Ints:
    """The place of each token in the order of all, by its number: the rarest first."""
    rank = np.empty(len(counts), dtype=np.int64)
    rank[np.lexsort((np.arange(len(counts)), counts))] = np.arange(len(counts))
    return rank


def homes(tokens: Ints, rank: Ints, threshold: float, partitions: int) -> Ints:
    """The partitions of a text, given as the numbers of its tokens, each once; none where it has no duplicate."""
    length = len(tokens)
    need = shortest_partner(bounds_for(threshold).least, threshold, length) if length else 1
    rarest = np.sort(rank[tokens])[: length - need + 1]
    mixed = (rarest.astype(np.uint64) * _MIXED_BY) >> _HIGH
    return np.unique((mixed % np.uint64(partitions)).astype(np.int64))


def pairs_in(ordinals: Ints, texts: Sequence[str], threshold: float) -> Ints:
    """The near-duplicates among the texts of a partition: rows of (i, j, LCS), ordinals with i < j.

    A text is its tokens as words with spaces between. Equal texts are pairs with the earliest of them only, and other
    pairs have that one in place of all: n equal texts have n - 1 pairs, and not n².
    """
    first: dict[str, int] = {}
    equal: list[tuple[int, int, int]] = []
    for at in np.argsort(ordinals, kind="stable").tolist():
        earliest = first.setdefault(texts[at], int(ordinals[at]))
        if earliest != ordinals[at]:
            equal.append((earliest, int(ordinals[at]), texts[at].count(" ") + 1))
    found = similar_pairs(list(first), threshold, str.split)
    own = np.fromiter(first.values(), dtype=np.int64, count=len(first))
    near = np.column_stack((own[found[:, 0]], own[found[:, 1]], found[:, 2])) if len(found) else found.reshape(0, 3)
    return np.concatenate((near, np.array(equal, dtype=np.int64).reshape(-1, 3)))


def first_come(lengths: Ints, known: int, pairs: Ints) -> Admission:
    """The verdict on each text: kept unless a text that is kept before it is a near-duplicate. The first `known` are
    kept in any case.

    `lengths`: in tokens. `pairs`: those of all partitions. `nearest` is the ordinal of a text; of equal scores the
    earliest.
    """
    size = len(lengths)
    nearest, lcs = np.full(size, -1, dtype=np.int64), np.full(size, -1, dtype=np.int64)
    score = np.full(size, np.nan)
    pairs = np.unique(pairs, axis=0)
    is_equal = (pairs[:, 2] == lengths[pairs[:, 0]]) & (pairs[:, 2] == lengths[pairs[:, 1]])
    earliest = dict(zip(pairs[is_equal, 1].tolist(), pairs[is_equal, 0].tolist(), strict=True))
    near = pairs[~is_equal]
    both = np.concatenate((near, near[:, [1, 0, 2]]))
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    for ordinal in np.unique(pairs[:, :2]).tolist():
        if ordinal < known:
            continue
        own = earliest.get(ordinal, ordinal)
        best = (1.0, own, int(lengths[own])) if own != ordinal and nearest[own] < 0 else None
        if best is None:
            begin, end = np.searchsorted(both[:, 0], [own, own + 1])
            for _, other, shared in both[begin:end].tolist():
                if other < ordinal and nearest[other] < 0:
                    found = fmeasure(shared, int(lengths[own]), int(lengths[other]))
                    if best is None or found > best[0]:
                        best = (found, other, shared)
        if best is not None:
            score[ordinal], nearest[ordinal], lcs[ordinal] = best
    return Admission(kept=nearest < 0, nearest=nearest, lcs=lcs, score=score)
