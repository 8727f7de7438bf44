"""Which texts are near-duplicates of others of their group. Pure: knows no files."""

from __future__ import annotations

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from rouge_kernels import Admission, Tokenizer


class Index(Protocol):
    """What `DedupIndex` and `ExactIndex` can do."""

    def admit(self, texts: Sequence[str]) -> Admission: ...


class ExactIndex:
    """Keeps a text unless one with the same tokens in the same order is kept; one without tokens always.

    Holds a 128-bit digest a text in place of its tokens.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._positions: dict[bytes, int] = {}
        self._size = 0

    def admit(self, texts: Sequence[str]) -> Admission:
        nearest = np.full(len(texts), -1, dtype=np.int64)
        lcs = np.full(len(texts), -1, dtype=np.int64)
        for i, text in enumerate(texts):
            tokens = self._tokenizer(text)
            if tokens:
                digest = hashlib.blake2b(" ".join(tokens).encode(), digest_size=16).digest()
                position = self._positions.setdefault(digest, self._size)
                if position < self._size:
                    nearest[i], lcs[i] = position, len(tokens)
                    continue
            self._size += 1
        kept = nearest < 0
        return Admission(kept=kept, nearest=nearest, lcs=lcs, score=np.where(kept, np.nan, 1.0))


class GroupedIndex:
    """Owns an index for each group: a text is compared with the kept texts of its own group only.

    `nearest` counts the kept texts of all groups together, in the order in which they came.
    """

    def __init__(self, new_index: Callable[[], Index]) -> None:
        self._indexes: defaultdict[str, Index] = defaultdict(new_index)
        self._ordinals: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def admit(self, texts: Sequence[str], groups: Sequence[str]) -> Admission:
        """As if each text were admitted by itself, however the texts are cut into calls."""
        members: defaultdict[str, list[int]] = defaultdict(list)
        for i, group in enumerate(groups):
            members[group].append(i)
        nearest, lcs = (np.empty(len(texts), dtype=np.int64) for _ in range(2))
        score = np.empty(len(texts), dtype=np.float64)
        for group, where in members.items():
            found = self._indexes[group].admit([texts[i] for i in where])
            nearest[where], lcs[where], score[where] = found.nearest, found.lcs, found.score
        kept = nearest < 0
        ordinals = self._size - 1 + np.cumsum(kept)
        self._size += int(np.count_nonzero(kept))
        for i, group in enumerate(groups):
            of_group = self._ordinals[group]
            if kept[i]:
                of_group.append(int(ordinals[i]))
            else:
                nearest[i] = of_group[nearest[i]]
        return Admission(kept=kept, nearest=nearest, lcs=lcs, score=score)
