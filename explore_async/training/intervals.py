"""Losses over rows with intervals. Pure.

A loss is the sum over rows of what each row costs, divided by the sum of its tokens. The intervals are percentile
bootstraps over rows (Efron 1979): 95 of 100 datasets drawn like this one are expected to give a loss within.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

RESAMPLES: Final = 2_000
_AT_ONCE = 100
_PERCENTILES = (2.5, 97.5)
_SEED = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval of 95 %."""

    value: float
    low: float
    high: float

    def document(self, digits: int = 4) -> dict[str, float | list[float]]:
        return {"value": round(self.value, digits), "interval": [round(self.low, digits), round(self.high, digits)]}

    def text(self, digits: int = 3, *, signed: bool = False) -> str:
        """The figure with its interval, for people."""
        sign = "+" if signed else ""
        return f"{self.value:{sign}.{digits}f} [{self.low:{sign}.{digits}f}, {self.high:{sign}.{digits}f}]"


def ratio(costs: Values, sizes: Values) -> Estimate:
    """Cost per unit of size, over all rows."""
    return _estimate(costs, sizes, np.zeros_like(costs), np.ones_like(sizes))


def difference(costs: Values, sizes: Values, costs_before: Values, sizes_before: Values) -> Estimate:
    """The ratio less the one before, on the same rows: they are drawn together, so that what is common cancels."""
    return _estimate(costs, sizes, costs_before, sizes_before)


def _estimate(costs: Values, sizes: Values, less: Values, less_sizes: Values) -> Estimate:
    value = float(costs.sum() / sizes.sum() - less.sum() / less_sizes.sum())
    random = np.random.default_rng(_SEED)
    rows = len(costs)
    drawn = []
    for _ in range(RESAMPLES // _AT_ONCE):
        times = random.multinomial(rows, np.full(rows, 1 / rows), size=_AT_ONCE).astype(np.float64)
        drawn.append((times @ costs) / (times @ sizes) - (times @ less) / (times @ less_sizes))
    low, high = np.percentile(np.concatenate(drawn), _PERCENTILES)
    return Estimate(value, float(low), float(high))
