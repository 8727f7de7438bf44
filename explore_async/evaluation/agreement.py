"""Agreement of any number of raters, beyond what chance explains. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence


def krippendorffs_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha (2011, section C) for nominal data: 1 is full agreement, 0 that of chance.

    `units`: the categories that each unit has from its raters, however many these are; a unit with fewer than two says
    nothing. None where no unit has two, or all of these have one category.
    """
    values: Counter[Hashable] = Counter()
    observed = 0.0
    for unit in units:
        if len(unit) < 2:  # noqa: PLR2004 - a pair
            continue
        counts = Counter(unit)
        values.update(counts)
        observed += _unequal_pairs(counts) / (len(unit) - 1)
    expected = _unequal_pairs(values)
    return None if not expected else 1 - observed * (values.total() - 1) / expected


def _unequal_pairs(counts: Counter[Hashable]) -> int:
    """The ordered pairs of different categories."""
    return counts.total() ** 2 - sum(count * count for count in counts.values())
