"""Finds texts that share n tokens in sequence with a benchmark. Pure and exact: digests find, tokens decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rouge_kernels import Tokenizer, Vocabulary

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


@dataclass(frozen=True, slots=True)
class SharedNgram:
    """A sequence of n tokens that a text shares with the benchmark text at this position."""

    position: int
    ngram: str


class NgramIndex:
    """Owns the benchmark texts as token ids, and a sorted table of the digests of their n-grams.

    A text with fewer than n tokens has no n-gram, and matches nothing.
    """

    def __init__(self, n: int, tokenizer: Tokenizer) -> None:
        self._n = n
        self._vocabulary = Vocabulary(tokenizer)
        self._parts: list[npt.NDArray[np.int32]] = []
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._ids: npt.NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self._owners: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._places: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._digests: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)

    def add(self, texts: Sequence[str]) -> None:
        encoded = self._vocabulary.encode(texts)
        self._parts.append(encoded.ids.copy())
        self._lengths.append(np.diff(encoded.starts))

    def build(self) -> None:
        """Sorts the table. Call it once, after the last `add`."""
        if not self._parts:
            return
        lengths = np.concatenate(self._lengths)
        self._ids = np.concatenate(self._parts)
        self._parts, self._lengths = [], []
        self._owners = np.repeat(np.arange(len(lengths)), lengths)
        places, digests = self._ngrams(self._ids, self._owners)
        order = np.argsort(digests, kind="stable")
        self._places, self._digests = places[order], digests[order]

    def find(self, texts: Sequence[str]) -> list[SharedNgram | None]:
        """For each text the first of its n-grams that a benchmark text has too, and the first such benchmark text."""
        shared: list[SharedNgram | None] = [None] * len(texts)
        if not len(self._digests):
            return shared
        encoded = self._vocabulary.encode(texts)
        owners = np.repeat(np.arange(len(texts)), np.diff(encoded.starts))
        places, digests = self._ngrams(encoded.ids, owners)
        at = np.minimum(np.searchsorted(self._digests, digests), len(self._digests) - 1)
        for hit in np.flatnonzero(self._digests[at] == digests):
            text = int(owners[places[hit]])
            if shared[text] is None:
                shared[text] = self._verified(encoded.ids[places[hit] : places[hit] + self._n], int(at[hit]))
        return shared

    def _verified(self, run: npt.NDArray[np.int32], at: int) -> SharedNgram | None:
        """The first n-gram with this digest, from `at` on, whose tokens are the same."""
        digest = self._digests[at]
        while at < len(self._digests) and self._digests[at] == digest:
            place = int(self._places[at])
            if np.array_equal(self._ids[place : place + self._n], run):
                spelled = " ".join(self._vocabulary.spelling(int(token)) for token in run)
                return SharedNgram(int(self._owners[place]), spelled)
            at += 1
        return None

    def _ngrams(
        self, ids: npt.NDArray[np.int32], owners: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """The place where each n-gram within a text begins, and its digest."""
        count = max(0, len(ids) - self._n + 1)
        mixed = (ids.astype(np.uint64) + np.uint64(1)) * _MULTIPLIER
        mixed ^= mixed >> _SHIFT
        digests = np.zeros(count, dtype=np.uint64)
        for offset in range(self._n):
            digests = digests * _MULTIPLIER + mixed[offset : offset + count]
        within = np.flatnonzero(owners[:count] == owners[len(ids) - count :])
        return within, digests[within]
