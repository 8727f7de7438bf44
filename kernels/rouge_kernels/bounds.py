"""The least LCS that makes two texts duplicates, by their lengths, for one threshold."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.scoring import least_duplicate_lcs

TABLED = 256
"""Lengths below this have an entry in the table; longer texts are rare, so their bound is computed each time."""


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """For one threshold: `least_duplicate_lcs` of every two lengths below `TABLED`."""

    threshold: float
    least: npt.NDArray[np.int32]
    """[length, other length]: the least LCS of a duplicate; more than the shorter length if none is possible."""


@lru_cache(maxsize=16)
def bounds_for(threshold: float) -> Bounds:
    """The bounds of a threshold. All its indexes share them, because a run may have thousands of indexes."""
    return Bounds(threshold, _fill_table(threshold))


@jit
def _fill_table(threshold: float) -> npt.NDArray[np.int32]:
    least = np.empty((TABLED, TABLED), dtype=np.int32)
    for length in range(TABLED):
        for other in range(length + 1):
            least[length, other] = least_duplicate_lcs(length, other, threshold)
            least[other, length] = least[length, other]
    return least


@jit
def least_lcs(least: npt.NDArray[np.int32], threshold: float, length: int, other: int) -> int:
    """The least LCS with which texts of these lengths are duplicates."""
    if length < TABLED and other < TABLED:
        return int(least[length, other])
    return least_duplicate_lcs(length, other, threshold)


@jit
def shortest_partner(least: npt.NDArray[np.int32], threshold: float, length: int) -> int:
    """The length of the shortest text that a text of `length` tokens can be a duplicate of; `length + 1` if none.

    A text that is wholly contained in the other scores higher the longer it is, so bisection finds the shortest. This
    length is also the least LCS of any duplicate: a duplicate with a smaller LCS would imply a shorter partner.
    """
    low, high = 1, length + 1
    while low < high:
        middle = (low + high) // 2
        if least_lcs(least, threshold, length, middle) <= middle:
            high = middle
        else:
            low = middle + 1
    return low
