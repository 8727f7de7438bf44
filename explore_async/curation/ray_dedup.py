"""`dedup --engine ray`: near-duplicates are found by Ray, in partitions that need not fit into one memory.

The texts are read twice: first to be encoded and spread, and then for their verdicts. This process holds a few numbers
for each text, and the pairs of near-duplicates; the tokens are in Ray's object store, which goes to the disk when
memory is short.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from explore_async.curation.common_options import tokenizer_named
from explore_async.curation.pair_graph import Ints, Numbers, PlacedTexts, by_rarity, first_come, pairs_in, spread
from rouge_kernels import IDENTICAL, Admission, Texts, Vocabulary

_PARTITIONS_PER_PROCESSOR = 4
_FEWEST_PARTITIONS = 16
_MOST_TOKENS = 1 << 23
"""Of a partition at the mean, were each text in one; as texts are in several, it has several times as many."""
_BLOCK = 1 << 20
"""Tokens that are spread by one task."""


class RayDedup:
    """Takes in all texts in their order, decides, and then tells the verdicts in the same order, like `DedupIndex`."""

    def __init__(self, threshold: float | None, tokenizer: str, partitions: int | None = None) -> None:
        """`partitions`: any number leads to the same verdicts; None takes four for each processor of the cluster, and
        more where these were large.
        """
        self._threshold = IDENTICAL if threshold is None else threshold
        self._vocabulary = Vocabulary(tokenizer_named(tokenizer))
        self._partitions = partitions
        self._counts = np.zeros(0, dtype=np.int64)
        self._groups: dict[str, int] = {}
        self._lengths: list[Ints] = []
        self._length: Ints = np.zeros(0, dtype=np.int64)
        """Of all texts, in tokens."""
        self._waiting: list[tuple[Numbers, Ints]] = []
        """The tokens and the groups of texts that are in no block yet."""
        self._tokens = 0
        """Of those."""
        self._blocks: list[Any] = []
        self._known = self._taken = self._placed = self._told = 0
        self._verdicts: Admission
        self._places: Ints

    def take(self, texts: Sequence[str], groups: Sequence[str], *, known: bool = False) -> None:
        """Takes in texts. Those that are `known` count as kept, and come first."""
        encoded = self._vocabulary.encode(texts)
        seen = np.bincount(encoded.ids, minlength=len(self._vocabulary)).astype(np.int64)
        seen[: len(self._counts)] += self._counts
        self._counts = seen
        self._lengths.append(np.diff(encoded.starts))
        numbers = [self._groups.setdefault(group, len(self._groups)) for group in groups]
        self._waiting.append((encoded.ids, np.array(numbers, dtype=np.int64)))
        self._tokens += len(encoded.ids)
        self._taken += len(texts)
        self._known += len(texts) if known else 0
        if self._tokens >= _BLOCK:
            self._place()

    def _place(self) -> None:
        """Makes a block of the waiting texts."""
        import ray

        ordinals = np.arange(self._placed, self._taken)
        lengths = np.concatenate(self._lengths[-len(self._waiting) :])
        starts = np.concatenate(([0], np.cumsum(lengths)))
        tokens, groups = (np.concatenate(part) for part in zip(*self._waiting, strict=True))
        self._blocks.append(ray.put(PlacedTexts(ordinals, groups, Texts(tokens, starts))))
        self._waiting, self._tokens, self._placed = [], 0, self._taken

    def decide(self) -> None:
        """Finds all pairs, and decides about each text."""
        if self._waiting:
            self._place()
        self._length = np.concatenate([self._length, *self._lengths])
        self._verdicts = first_come(self._length, self._known, self._pairs())
        self._places = np.cumsum(self._verdicts.kept) - 1
        self._blocks.clear()

    def _pairs(self) -> Ints:
        """The pairs of all partitions."""
        import ray

        found = [np.zeros((0, 3), dtype=np.int64)]
        count = self._partitions or max(
            _FEWEST_PARTITIONS,
            _PARTITIONS_PER_PROCESSOR * int(ray.cluster_resources().get("CPU", 1)),
            int(self._length.sum()) // _MOST_TOKENS,
        )
        number = ray.put(by_rarity(self._counts))
        spreading = ray.remote(_spread).options(num_returns=count)
        parts = [spreading.remote(block, number, self._threshold, count) for block in self._blocks]
        columns = zip(*parts, strict=True) if count > 1 else [parts]
        meeting = ray.remote(_meet)
        waiting = [meeting.remote(self._threshold, *column) for column in columns if column]
        del parts
        while waiting:
            ended, waiting = ray.wait(waiting, num_returns=1)
            found += ray.get(ended)
        return np.concatenate(found)

    @property
    def tokens(self) -> int:
        """The tokens of the texts that were told so far."""
        return int(self._length[: self._told].sum())

    def add(self, texts: Sequence[str]) -> None:
        """Passes over known texts, in their order."""
        self._told += len(texts)

    def admit(self, texts: Sequence[str], _groups: Sequence[str] = ()) -> Admission:
        """The verdicts on the next texts. `nearest` is a position among the known and the kept ones."""
        part = slice(self._told, self._told + len(texts))
        self._told += len(texts)
        found = self._verdicts
        ordinals = found.nearest[part]
        nearest = np.where(ordinals < 0, -1, self._places[ordinals])
        return Admission(kept=found.kept[part], nearest=nearest, lcs=found.lcs[part], score=found.score[part])


def _spread(
    block: PlacedTexts, number: Numbers, threshold: float, partitions: int
) -> PlacedTexts | tuple[PlacedTexts, ...]:
    """The texts of each partition; not in a tuple where there is one partition, as Ray has it."""
    parts = tuple(spread(block, number, threshold, partitions))
    return parts if partitions > 1 else parts[0]


def _meet(threshold: float, *parts: PlacedTexts) -> Ints:
    return pairs_in(parts, threshold)
