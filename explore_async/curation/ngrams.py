"""Which texts share a run of n tokens with a text of a benchmark. Pure and exact: digests find, tokens decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rouge_kernels import Tokenizer, Vocabulary

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


@dataclass(frozen=True, slots=True)
class Shared:
    """A run of n tokens that a text shares with the benchmark text of this position."""

    position: int
    run: str


class NgramIndex:
    """Owns the benchmark texts as token ids, and a sorted table of the digests of their runs of `n` tokens.

    Texts of fewer tokens have no such run and are found by nobody.
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
        """To be called once, after the last `add`."""
        if not self._parts:
            return
        lengths = np.concatenate(self._lengths)
        self._ids = np.concatenate(self._parts)
        self._parts, self._lengths = [], []
        self._owners = np.repeat(np.arange(len(lengths)), lengths)
        places, digests = self._runs(self._ids, self._owners)
        order = np.argsort(digests, kind="stable")
        self._places, self._digests = places[order], digests[order]

    def find(self, texts: Sequence[str]) -> list[Shared | None]:
        """For each text the first of its runs that a benchmark text has too, and the first such benchmark text."""
        found: list[Shared | None] = [None] * len(texts)
        if not len(self._digests):
            return found
        encoded = self._vocabulary.encode(texts)
        owners = np.repeat(np.arange(len(texts)), np.diff(encoded.starts))
        places, digests = self._runs(encoded.ids, owners)
        at = np.minimum(np.searchsorted(self._digests, digests), len(self._digests) - 1)
        for hit in np.flatnonzero(self._digests[at] == digests):
            text = int(owners[places[hit]])
            if found[text] is None:
                found[text] = self._verified(encoded.ids[places[hit] : places[hit] + self._n], int(at[hit]))
        return found

    def _verified(self, run: npt.NDArray[np.int32], at: int) -> Shared | None:
        """The first run of this digest, from `at` on, that is the same to the token."""
        digest = self._digests[at]
        while at < len(self._digests) and self._digests[at] == digest:
            place = int(self._places[at])
            if np.array_equal(self._ids[place : place + self._n], run):
                spelled = " ".join(self._vocabulary.spelling(int(token)) for token in run)
                return Shared(int(self._owners[place]), spelled)
            at += 1
        return None

    def _runs(
        self, ids: npt.NDArray[np.int32], owners: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """Where each run of n tokens of one text begins, and its digest."""
        count = max(0, len(ids) - self._n + 1)
        mixed = (ids.astype(np.uint64) + np.uint64(1)) * _MULTIPLIER
        mixed ^= mixed >> _SHIFT
        digests = np.zeros(count, dtype=np.uint64)
        for offset in range(self._n):
            digests = digests * _MULTIPLIER + mixed[offset : offset + count]
        within = np.flatnonzero(owners[:count] == owners[len(ids) - count :])
        return within, digests[within]
