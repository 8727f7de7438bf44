"""Exact greedy dedup in parts: all pairs of near-duplicates first, and then the decisions, text by text.

Texts are spread over partitions by their rare tokens, so that near-duplicates meet in at least one. In a fixed order of
all tokens, the first token that two of them share lies in a prefix of both (prefix filtering, Chaudhuri et al. 2006). A
text of m tokens shares at least `need` with a duplicate, so at most m - need of its tokens are not shared, and its
prefix has m - need + 1 tokens. The order is by frequency, the rarest first, so partitions meet few texts in vain.

Pure: it knows neither files nor processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rouge_kernels import Admission, Texts, fmeasure, similar_pairs
from rouge_kernels.bounds import bounds_for, shortest_partner

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]
_MIXED_BY = np.uint64(0x9E37_79B9_7F4A_7C15)
"""Multiplied by it, neighbouring numbers of tokens lie far apart (Knuth's multiplicative hash)."""
_HIGH = np.uint64(32)
_GROUP = 1 << 32
"""Numbers of tokens of one group and those of the next are this far apart: texts of two groups share none."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacedTexts:
    """Some of all texts: for each its ordinal, the number of its group, and its tokens."""

    ordinals: Ints
    groups: Ints
    texts: Texts

    def of(self, positions: Ints) -> PlacedTexts:
        return PlacedTexts(self.ordinals[positions], self.groups[positions], self.texts.of(positions))


def by_rarity(counts: Ints) -> Numbers:
    """A number for each token, the highest for the rarest: the kernels take tokens in this order."""
    number = np.empty(len(counts), dtype=np.int32)
    number[np.lexsort((np.arange(len(counts)), -counts))] = np.arange(len(counts), dtype=np.int32)
    return number


def spread(block: PlacedTexts, number: Numbers, threshold: float, partitions: int) -> Iterator[PlacedTexts]:
    """The texts of each partition, with the numbers of their tokens. A text is in several, or in none where it can have
    no duplicate.
    """
    numbered = PlacedTexts(block.ordinals, block.groups, Texts(number[block.texts.ids], block.texts.starts))
    positions, homes = _homes(numbered, threshold, partitions)
    by_home = positions[np.argsort(homes, kind="stable")]
    ends = np.cumsum(np.bincount(homes, minlength=partitions))
    return (numbered.of(of_one) for of_one in np.split(by_home, ends[:-1]))


def _homes(block: PlacedTexts, threshold: float, partitions: int) -> tuple[Ints, Ints]:
    """Positions of texts, in order, and a partition of each: each partition of a text once."""
    lengths = np.diff(block.texts.starts)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    rarest_first = np.lexsort((-block.texts.ids, owner))
    place = np.arange(len(owner)) - block.texts.starts[owner]
    is_in_prefix = place < _prefix_lengths(lengths, threshold)[owner]
    owner = owner[is_in_prefix]
    tokens = block.texts.ids[rarest_first][is_in_prefix] + block.groups[owner] * _GROUP
    mixed = (tokens.astype(np.uint64) * _MIXED_BY) >> _HIGH
    home = (mixed % np.uint64(partitions)).astype(np.int64)
    positions, homes = np.divmod(np.unique(owner * partitions + home), partitions)
    return positions, homes


def _prefix_lengths(lengths: Ints, threshold: float) -> Ints:
    least = bounds_for(threshold).least
    different, which = np.unique(lengths, return_inverse=True)
    needs = [shortest_partner(least, threshold, length) if length else 1 for length in different.tolist()]
    prefixes: Ints = (different - np.array(needs, dtype=np.int64) + 1)[which]
    return prefixes


def pairs_in(parts: Sequence[PlacedTexts], threshold: float) -> Ints:
    """The near-duplicates among the texts of a partition: rows of (i, j, LCS), ordinals with i < j.

    Equal texts are pairs with the earliest of them only, and other pairs have that one in place of all: n equal texts
    have n - 1 pairs, and not n².
    """
    met = _joined(parts)
    if met.groups.any():
        owner = np.repeat(np.arange(len(met.texts)), np.diff(met.texts.starts))
        apart = np.unique(met.texts.ids + met.groups[owner] * _GROUP, return_inverse=True)[1]
        met = PlacedTexts(met.ordinals, met.groups, Texts(apart.astype(np.int32), met.texts.starts))
    content, width = met.texts.ids.tobytes(), met.texts.ids.itemsize
    first: dict[bytes, int] = {}
    different: list[int] = []
    equal: list[tuple[int, int, int]] = []
    bounds = pairwise((met.texts.starts * width).tolist())
    for at, (ordinal, (begin, end)) in enumerate(zip(met.ordinals.tolist(), bounds, strict=True)):
        earliest = first.setdefault(content[begin:end], ordinal)
        if earliest == ordinal:
            different.append(at)
        else:
            equal.append((earliest, ordinal, (end - begin) // width))
    own = met.of(np.array(different, dtype=np.int64))
    found = similar_pairs(own.texts, threshold)
    near = np.column_stack((own.ordinals[found[:, 0]], own.ordinals[found[:, 1]], found[:, 2]))
    return np.concatenate((near, np.array(equal, dtype=np.int64).reshape(-1, 3)))


def _joined(parts: Sequence[PlacedTexts]) -> PlacedTexts:
    """All of them, by their ordinals."""
    lengths = np.concatenate([np.diff(part.texts.starts) for part in parts])
    whole = PlacedTexts(
        np.concatenate([part.ordinals for part in parts]),
        np.concatenate([part.groups for part in parts]),
        Texts(np.concatenate([part.texts.ids for part in parts]), np.concatenate(([0], np.cumsum(lengths)))),
    )
    return whole.of(np.argsort(whole.ordinals, kind="stable"))


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
