"""Diversity of a sample at its own size, at another size and at a given coverage, by Hill numbers. Pure.

A Hill number is an effective number of kinds (Hill 1973). Order 0 counts the kinds; order 1 is the exponential of
Shannon's entropy; order 2 is the inverse of Simpson's concentration, in which rare kinds hardly count.

The coverage of a sample is the share of the population that belongs to the kinds in it. Samples of equal size are not
equally complete where one population has more kinds; samples of equal coverage are (Chao and Jost 2012, "Coverage-based
rarefaction and extrapolation: standardizing samples by completeness rather than size", Ecology 93). Formulas for
orders 1 and 2 are those of Chao et al. 2014, "Rarefaction and extrapolation with Hill numbers", Ecological Monographs
84. Nothing is extrapolated beyond double the size of the sample, as they advise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from explore_async.analysis.estimates import Z95, Estimate, log_factorials, share_missing
from explore_async.exploration.coverage import estimated_coverage, still_unseen

ORDERS = (0, 1, 2)
CURVE_POINTS = 30
REPLICATES = 50
"""Samples drawn for a standard error; as many as the authors' own program draws."""
Diversity: TypeAlias = tuple[float, float, float]
"""Hill numbers of order 0, 1 and 2."""
_Floats: TypeAlias = npt.NDArray[np.float64]
_STEEP = 30.0


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """The expected number of kinds in samples of this coverage, with its standard error."""

    coverage: float
    size: float
    """Observations that such a sample has."""
    kinds: float
    error: float
    extrapolated: bool
    """True where it is larger than the sample that there is."""


@dataclass(frozen=True, slots=True)
class DiversityAt:
    """Hill numbers of order 0, 1 and 2 at a size, with their standard errors."""

    size: float
    hill: Diversity
    errors: Diversity


class Abundances:
    """A sample by the number of times that each kind occurs in it. Raises ValueError where there is none."""

    def __init__(self, counts: Sequence[int] | npt.NDArray[np.int64]) -> None:
        occurring = np.bincount(np.asarray(counts, dtype=np.int64))
        self.times = np.flatnonzero(occurring)
        self.times = self.times[self.times > 0]
        if not len(self.times):
            raise ValueError("a sample has at least one observation")
        self.kinds = occurring[self.times].astype(np.float64)
        self.n = int(self.times @ occurring[self.times])
        self.once, self.twice = (int(occurring[times]) if times < len(occurring) else 0 for times in (1, 2))

    @cached_property
    def _logs(self) -> _Floats:
        return log_factorials(self.n)

    @property
    def _still_unseen(self) -> float:
        """The factor by which an observation beyond the sample lessens the share of unseen kinds. Where no kind came
        twice, one that came once is counted as if it had, so that the factor is less than 1.
        """
        once, twice = (self.once, self.twice) if self.twice else (max(self.once - 1, 0), 1)
        return still_unseen(self.n, once, twice)

    @property
    def unseen_kinds(self) -> float:
        """The number of kinds that are not in the sample, at least: Chao (1984), by Chao and Jost's formula."""
        pairs = self.once**2 / (2 * self.twice) if self.twice else self.once * (self.once - 1) / 2
        return (self.n - 1) / self.n * pairs

    def coverage(self, size: int | None = None) -> float:
        """The expected coverage of a sample of `size` observations, by default of this one (Chao and Jost 2012)."""
        size = self.n if size is None else size
        if size < self.n:
            missing = share_missing(self._logs, self.times - 1, self.n - 1, size)
            return float(1 - (self.kinds * self.times * missing).sum() / self.n)
        return estimated_coverage(self.n, self.once, self._still_unseen, size - self.n)

    def kinds_in(self, size: int) -> float:
        """The expected number of kinds in a sample of `size` observations."""
        if size <= self.n:
            return float((self.kinds * (1 - share_missing(self._logs, self.times, self.n, size))).sum())
        return float(self.kinds.sum() + self.unseen_kinds * (1 - self._still_unseen ** (size - self.n)))

    def diversity(self, size: int | None = None) -> Diversity:
        """Hill numbers of a sample of `size` observations, by default of this one. Those of orders 1 and 2 are at
        most the number of kinds. Beyond the sample their own estimates may be far above it, if hardly any came twice.
        """
        size = self.n if size is None else size
        among = self.n * (self.n - 1)
        repeated = float((self.kinds * self.times * (self.times - 1)).sum()) / among if among else 0.0
        inner = min(size, self.n)
        entropy = self._entropy(inner)
        if size > inner:
            entropy += (size - inner) / size * (self._whole_entropy() - entropy)
        kinds = self.kinds_in(size)
        return kinds, min(kinds, math.exp(entropy)), min(kinds, size / (1 + (size - 1) * repeated))

    def size_at(self, coverage: float) -> float:
        """The size of samples of this coverage, between two whole numbers by proportion; at most double the size."""
        if coverage == self.coverage():
            return float(self.n)
        if coverage > self.coverage():
            factor, share = self._still_unseen, self.once / self.n
            if not 0 < factor < 1 or coverage >= 1:
                return float(self.n if not self.once else 2 * self.n)
            return min(2.0 * self.n, self.n - 1 + math.log((1 - coverage) / share) / math.log(factor))
        low, high = 0, self.n
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.coverage(middle) <= coverage else (low, middle)
        below, above = self.coverage(low), self.coverage(high)
        return low + (coverage - below) / (above - below)

    def at(self, size: float) -> Diversity:
        """Hill numbers at a size that need not be whole, at least 1."""
        low = max(1, math.floor(size))
        one = self.diversity(low)
        if (part := size - low) <= 0:
            return one
        other = self.diversity(low + 1)
        zero, first, second = (a + part * (b - a) for a, b in zip(one, other, strict=True))
        return zero, first, second

    def resampled(self, replicates: int = REPLICATES) -> list[Abundances]:
        """Samples of the same size from the population that this one lets expect, always the same ones.

        By the appendices of Chao and Jost (2012) and Chao et al. (2014): the shares of seen kinds are lessened, the
        rare ones most, to make room for `unseen_kinds` that share what is not covered.
        """
        counts = np.repeat(self.times, self.kinds.astype(np.int64))
        shares = counts / self.n
        uncovered, unseen = 1 - self.coverage(), math.ceil(self.unseen_kinds)
        if uncovered > 0 and unseen:
            fading = (1 - shares) ** self.n
            shares = shares * (1 - uncovered / float((shares * fading).sum()) * fading)
        else:
            uncovered = 0.0
        chances = np.append(np.maximum(shares, 0), uncovered)
        rng = np.random.default_rng(0)
        drawn = []
        for counted in rng.multinomial(self.n, chances / chances.sum(), size=replicates):
            new = np.unique(rng.integers(unseen or 1, size=counted[-1]), return_counts=True)[1]
            drawn.append(Abundances(np.concatenate([counted[:-1], new])))
        return drawn

    def _entropy(self, size: int) -> float:
        """Of the expected numbers of kinds that occur once, twice and so on in a random part; in nats."""
        if size == self.n:
            shares = self.times / self.n
            return float(-(self.kinds * shares * np.log(shares)).sum())
        times = np.repeat(self.times, self.times)
        kinds = np.repeat(self.kinds, self.times)
        drawn = np.arange(len(times)) - np.repeat(np.cumsum(self.times) - self.times, self.times) + 1
        possible = (drawn <= size) & (self.n - times >= size - drawn)
        times, kinds, drawn = times[possible], kinds[possible], drawn[possible]
        logs, others = self._logs, self.n - times
        left = size - drawn
        chances = np.exp(
            (logs[times] - logs[drawn] - logs[times - drawn])
            + (logs[others] - logs[left] - logs[others - left])
            - (logs[self.n] - logs[size] - logs[self.n - size])
        )
        shares = drawn / size
        return float(-(kinds * chances * shares * np.log(shares)).sum())

    def _whole_entropy(self) -> float:
        """Of the population, in nats: Chao, Wang and Jost (2013), "Entropy and the species accumulation curve"."""
        harmonic = np.concatenate([np.zeros(1), np.cumsum(1 / np.arange(1, self.n))])  # up to n - 1
        seen = float((self.kinds * self.times / self.n * (harmonic[-1] - harmonic[self.times - 1])).sum())
        factor = self._still_unseen
        if not self.once or not factor:
            return seen
        if self.n * (1 - factor) < _STEEP:
            powers = factor ** np.arange(1, self.n) / np.arange(1, self.n)
            rest = factor ** (1 - self.n) * (-math.log1p(-factor) - float(powers.sum()))
        else:  # the same as a series, as the power would overflow
            steps = np.arange(1, math.ceil(_STEEP / (1 - factor)) + 1)
            rest = float((factor**steps / (self.n + steps - 1)).sum())
        return seen + self.once / self.n * rest


def hill_numbers(counts: Sequence[int]) -> Diversity:
    """Of the sample as it is, without any estimate."""
    return Abundances(counts).diversity()


def coverage_estimate(counts: Sequence[int]) -> Estimate:
    """The share of the population that belongs to the kinds in the sample, with a 95 % interval by resampling."""
    sample = Abundances(counts)
    error = float(np.std([one.coverage() for one in sample.resampled()], ddof=1))
    value = sample.coverage()
    return Estimate(value, max(0.0, value - Z95 * error), min(1.0, value + Z95 * error))


def coverage_curve(counts: Sequence[int], points: int = CURVE_POINTS) -> list[CoveragePoint]:
    """Kinds by coverage, from one observation to double the sample. Errors are those at the same coverage."""
    sample = Abundances(counts)
    most = sample.coverage(2 * sample.n)
    levels = np.linspace(sample.coverage(1), sample.coverage(), points).tolist()
    beyond = np.linspace(sample.coverage(), most, 1 + points // 3).tolist()[1:] if most > levels[-1] else []
    levels += beyond
    sizes = [sample.size_at(level) for level in levels]
    grid = sorted({max(1, round(size)) for size in sizes} | {sample.n, 2 * sample.n})
    curves = []
    for replicate in sample.resampled():
        covered = [replicate.coverage(size) for size in grid]
        curves.append(np.interp(levels, covered, [replicate.kinds_in(size) for size in grid]))
    errors = np.std(curves, axis=0, ddof=1).tolist()
    return [
        CoveragePoint(level, size, sample.at(size)[0], error, number >= points)
        for number, (level, size, error) in enumerate(zip(levels, sizes, errors, strict=True))
    ]


def diversity_in(counts: Sequence[int], size: int) -> DiversityAt:
    """Hill numbers in a sample of `size` observations."""
    sample = Abundances(counts)
    return DiversityAt(size, sample.diversity(size), _errors([one.diversity(size) for one in sample.resampled()]))


def diversity_at(counts: Sequence[int], coverage: float) -> DiversityAt:
    """Hill numbers in a sample of this coverage."""
    sample = Abundances(counts)
    size = sample.size_at(coverage)
    others = [one.at(one.size_at(coverage)) for one in sample.resampled()]
    return DiversityAt(size, sample.at(size), _errors(others))


def _errors(replicates: Sequence[Diversity]) -> Diversity:
    zero, first, second = np.std(replicates, axis=0, ddof=1).tolist()
    return zero, first, second
