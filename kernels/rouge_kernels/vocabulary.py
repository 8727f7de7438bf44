"""Tokens to integers."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


class Vocabulary:
    """Owns the ids of all tokens met so far: 0, 1, 2, … in the order of their first use. It only grows."""

    def __init__(self) -> None:
        self._ids: defaultdict[str, int] = defaultdict()
        self._ids.default_factory = self._ids.__len__

    def __len__(self) -> int:
        return len(self._ids)

    def encode(self, texts: Iterable[list[str]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """The ids of all texts one after another, and where each begins: text i is `ids[starts[i]:starts[i + 1]]`."""
        ids: list[int] = []
        starts = [0]
        for tokens in texts:
            ids.extend(map(self._ids.__getitem__, tokens))
            starts.append(len(ids))
        return np.array(ids, dtype=np.int32), np.array(starts, dtype=np.int64)
