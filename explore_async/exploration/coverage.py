"""The coverage of a sample: the share of what it is drawn from that belongs to the kinds in it. Pure.

By Chao and Jost (2012), "Coverage-based rarefaction and extrapolation: standardizing samples by completeness rather
than size", Ecology 93:2533. They improve the estimate of Good and Turing, `1 - once / size`.
"""

from __future__ import annotations


def still_unseen(size: int, once: int, twice: int) -> float:
    """The factor by which each observation beyond `size` lessens the share of the kinds that have not come yet; 0 where
    none are left. `once`, `twice`: the kinds that came so often.
    """
    singles = (size - 1) * once
    return singles / (singles + 2 * twice) if singles else 0.0


def estimated_coverage(size: int, once: int, factor: float, more: int = 0) -> float:
    """The estimated coverage of a sample of `size` observations (equation 4a), or of one with `more`.
    `factor`: `still_unseen`.
    """
    return 1 - once / size * factor ** (more + 1)
