"""Levels: the height to which tasks have to be filled so that they hold a number of examples together. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache


def level(target: int, groups: Iterable[tuple[int | None, int]], *, at_most: bool) -> int:
    """The height h at which the sum of count * min(cap, h) over groups of (cap, count) reaches `target`.

    at_most: the greatest h that does not exceed the target (but at least 1), else the least h that reaches it. The
    greatest cap, where the caps allow less than the target.
    """
    return _level(target, tuple((cap, count) for cap, count in groups if count > 0 and cap != 0), at_most)


@lru_cache(64)  # it is asked for after each commit, and seldom changes
def _level(target: int, groups: tuple[tuple[int | None, int], ...], at_most: bool) -> int:
    if not groups:
        return 0
    ceiling = max((cap for cap, _ in groups if cap is not None), default=0)
    if any(cap is None for cap, _ in groups):
        ceiling = max(ceiling, target)

    def reached(height: int) -> int:
        return sum(count * (height if cap is None else min(cap, height)) for cap, count in groups)

    low, high = 0, ceiling
    if reached(high) < target:
        return high
    while low < high:
        middle = (low + high) // 2
        if reached(middle) >= target:
            high = middle
        else:
            low = middle + 1
    if at_most and reached(low) > target:
        low -= 1
    return max(low, 1)
