"""How much two texts must have in common to be duplicates, by their lengths, for one threshold."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.scoring import least_duplicate_lcs

TABLED = 256
"""Lengths below this are looked up; longer texts are rare enough to work it out."""


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """For a threshold: what `least_duplicate_lcs` says of every two lengths below `TABLED`."""

    threshold: float
    least: npt.NDArray[np.int32]
    """[length, other length]: the least LCS of a duplicate; more than the shorter length where there is none."""


@lru_cache(maxsize=16)
def bounds_for(threshold: float) -> Bounds:
    """Shared by all indexes of a threshold, of which a run may have thousands."""
    return Bounds(threshold, _tabled(threshold))


@jit
def _tabled(threshold: float) -> npt.NDArray[np.int32]:
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
    """The length of the shortest text that a text of `length` tokens can be a duplicate of; itself plus one if none.

    It is also the least LCS of any duplicate: a text that lies wholly within the other scores higher the longer it is,
    so the shortest is found by bisection, and a duplicate with less in common would mean a shorter one.
    """
    low, high = 1, length + 1
    while low < high:
        middle = (low + high) // 2
        if least_lcs(least, threshold, length, middle) <= middle:
            high = middle
        else:
            low = middle + 1
    return low
