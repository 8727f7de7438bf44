"""Estimates of the number of kinds, seen and unseen, from the number of times that each was seen. Pure.

Everything starts from the counts: the number of times that each kind (here: pair of verb and noun) occurs in `n`
observations. Every figure has an uncertainty, a standard error or a 95 % interval; each formula names its source.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054
CURVE_POINTS = 25
_Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The expected number of kinds in a random sample of `size` observations; `error` is one standard error."""

    size: int
    kinds: float
    error: float


def unseen_mass(counts: Sequence[int]) -> Estimate:
    """The chance that the next observation is of a kind not seen yet: Good and Turing's f1 / n (Good 1953).

    The interval is Esty's (1983, "A normal limit law for a nonparametric estimator of the coverage of a random
    sample"): standard error sqrt(f1 (1 - f1 / n) + 2 f2) / n.
    """
    n, f1, f2 = sum(counts), _with(counts, 1), _with(counts, 2)
    if not n:
        return Estimate(1.0, 0.0, 1.0)
    value = f1 / n
    error = math.sqrt(max(0.0, f1 * (1 - value) + 2 * f2)) / n
    return Estimate(value, max(0.0, value - Z95 * error), min(1.0, value + Z95 * error))


def chao1(counts: Sequence[int]) -> Estimate:
    """A lower bound for the number of kinds, unseen ones included: S + f1 (f1 - 1) / (2 (f2 + 1)), the bias-corrected
    form of Chao (1984), with the variance and the log-normal interval of Chao (1987).
    """
    seen, f1, f2 = len(counts), _with(counts, 1), _with(counts, 2)
    more = f1 * (f1 - 1) / (2 * (f2 + 1))
    if not more:
        return Estimate(float(seen), float(seen), float(seen))
    if f2:
        ratio = f1 / f2
        variance = f2 * (ratio**2 / 2 + ratio**3 + ratio**4 / 4)
    else:
        variance = f1 * (f1 - 1) / 2 + f1 * (2 * f1 - 1) ** 2 / 4 - f1**4 / (4 * (seen + more))
    spread = math.exp(Z95 * math.sqrt(math.log1p(max(0.0, variance) / more**2)))
    return Estimate(seen + more, seen + more / spread, seen + more * spread)


def entropy(counts: Sequence[int]) -> Estimate:
    """Shannon's entropy in bits, with the correction (S - 1) / 2n of Miller (1955) and Madow; the interval from the
    delta method's standard error sqrt((sum p ln^2 p - H^2) / n).
    """
    n = sum(counts)
    if not n:
        return Estimate(0.0, 0.0, 0.0)
    shares = np.array(counts) / n
    logs = np.log(shares)
    plain = float(-(shares * logs).sum())
    error = math.sqrt(max(0.0, float((shares * logs**2).sum()) - plain**2) / n)
    value = plain + (len(counts) - 1) / (2 * n)
    return Estimate(*(max(0.0, nats) / math.log(2) for nats in (value, value - Z95 * error, value + Z95 * error)))


def rarefy(counts: Sequence[int], size: int) -> CurvePoint:
    """The expected number of kinds in a random part of `size` observations, and its standard error: the
    hypergeometric form of Hurlbert (1971), its variance by Heck, van Belle and Simberloff (1975).

    Raises ValueError where there are fewer than `size` observations.
    """
    n = sum(counts)
    if not 0 <= size <= n:
        raise ValueError(f"a part of {n} observations cannot have {size}")
    occurring = Counter(counts)
    times = np.array(sorted(occurring), dtype=np.int64)
    kinds = np.array([occurring[count] for count in times.tolist()], dtype=np.float64)
    logs = log_factorials(n)
    missing = share_missing(logs, times, n, size)  # for a kind with this count
    expected = float((kinds * (1 - missing)).sum())
    both = share_missing(logs, times[:, None] + times[None, :], n, size)
    pairs = kinds[:, None] * kinds[None, :] - np.diag(kinds)  # ordered pairs of different kinds
    covariance = float((pairs * (both - missing[:, None] * missing[None, :])).sum())
    variance = float((kinds * missing * (1 - missing)).sum()) + covariance
    return CurvePoint(size, expected, math.sqrt(max(0.0, variance)))


def rarefaction(counts: Sequence[int], points: int = CURVE_POINTS) -> list[CurvePoint]:
    """The curve from one observation to all, at sizes spread evenly."""
    n = sum(counts)
    sizes = sorted({max(1, round(n * step / points)) for step in range(1, points + 1)}) if n else []
    return [rarefy(counts, size) for size in sizes]


def _with(counts: Sequence[int], times: int) -> int:
    """f_i: the number of kinds that were seen `times` times."""
    return sum(1 for count in counts if count == times)


def log_factorials(n: int) -> _Floats:
    """Natural logarithms of the factorials of 0 to n."""
    return np.concatenate([np.zeros(1), np.cumsum(np.log(np.arange(1, n + 1)))])


def share_missing(logs: npt.NDArray[np.float64], times: npt.NDArray[np.int64], n: int, size: int) -> _Floats:
    """The chance that a part of `size` holds none of `times` given observations: C(n - times, size) / C(n, size)."""
    left = n - times - size
    possible = left >= 0
    chance = logs[n - np.minimum(times, n)] - logs[np.maximum(left, 0)] - logs[n] + logs[n - size]
    return np.where(possible, np.exp(np.where(possible, chance, 0.0)), 0.0)
