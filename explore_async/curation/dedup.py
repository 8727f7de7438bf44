"""Which texts are near-duplicates of others of their group. Pure: knows no files."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from rouge_kernels import Admission, DedupIndex


class GroupedIndex:
    """Owns an index for each group: a text is compared with the kept texts of its own group only.

    `nearest` counts the kept texts of all groups together, in the order in which they came.
    """

    def __init__(self, new_index: Callable[[], DedupIndex]) -> None:
        self._indexes: defaultdict[str, DedupIndex] = defaultdict(new_index)
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
