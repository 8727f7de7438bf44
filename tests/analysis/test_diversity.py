"""Hill numbers and coverage against scikit-bio, sums over their definitions, exact enumeration and a known population."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explore_async.analysis.diversity import (
    Abundances,
    coverage_curve,
    coverage_estimate,
    diversity_at,
    diversity_in,
    hill_numbers,
)
from explore_async.analysis.estimates import chao1, unseen_mass

GIRDLED = [46, 22, 17, 15, 15, 9, 8, 6, 6, 4, *[2] * 4, *[1] * 12]
LOGGED = [88, 22, 16, 15, 13, 10, 8, 8, 7, 7, 7, 5, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, *[1] * 14]
"""Spiders of two forests, the example of Chao et al. (2014): how often each species was found."""

SCIKIT_BIO = [
    (GIRDLED, (26.0, 12.059650499, 7.84), 0.928571429, 39.2),
    ([1, 1, 1, 2, 5], (5.0, 3.893220475, 3.125), 0.7, 6.5),
    ([3, 3, 3, 3], (4.0, 4.0, 4.0), 1.0, 4.0),
    ([40, *[1] * 9], (10.0, 2.412081654, 1.4922312), 0.816326531, 46.0),
    ([7, 2], (2.0, 1.698433234, 1.528301887), 1.0, 2.0),
]


@pytest.mark.parametrize(("counts", "hill", "good", "chao"), SCIKIT_BIO)
def test_figures_of_scikit_bio(counts, hill, good, chao):
    """Hill numbers, Good's coverage and Chao1 are those of scikit-bio 0.7.4. It brings a dozen packages and 300 MB, so its
    figures stand here: pip install scikit-bio==0.7.4; python -c "from skbio.diversity.alpha import hill, goods_coverage,
    chao1; c = [7, 2]; print([hill(c, order=q) for q in (0, 1, 2)], goods_coverage(c), chao1(c))"
    """
    assert hill_numbers(counts) == pytest.approx(hill, abs=1e-8)
    assert 1 - unseen_mass(counts).value == pytest.approx(good, abs=1e-8)
    assert chao1(counts).value == pytest.approx(chao)


@pytest.mark.parametrize("counts", [GIRDLED, LOGGED, [1, 1, 1, 2, 5], [40, *[1] * 9], [3, 1]])
def test_figures_of_the_whole_population_are_sums_over_their_definitions(counts):
    """Order 1, unless it is above order 0, tends to the exponential of the sum, over all sizes, of the share that a sample
    of this size does not cover, divided by the size (Chao, Wang and Jost 2013); order 2 to one over the probability that two observations
    are of one kind. Both are summed here from exact fractions: the share from all parts of a smaller size, and from
    the curve of Chao and Jost (2012) for a larger one.
    """
    n, (once, twice) = sum(counts), (counts.count(1), counts.count(2))
    fewer, some = (once, twice) if twice else (once - 1, 1)
    factor = Fraction((n - 1) * fewer, (n - 1) * fewer + 2 * some)
    not_covered = [
        sum(Fraction(count * math.comb(n - count, size), n * math.comb(n - 1, size)) for count in counts)
        for size in range(1, n)
    ]
    entropy = sum(share / size for size, share in enumerate(not_covered, 1))
    beyond = float(Fraction(once, n)) * sum(float(factor) ** (size - n + 1) / size for size in range(n, 60 * n))
    repeated = Fraction(sum(count * (count - 1) for count in counts), n * (n - 1))

    sample = Abundances(counts)
    assert sample.coverage() == pytest.approx(float(1 - Fraction(once, n) * factor), abs=1e-12)
    assert sample.coverage(n + 3) == pytest.approx(float(1 - Fraction(once, n) * factor**4), abs=1e-12)
    assert [1 - sample.coverage(size) for size in range(1, n)] == pytest.approx([*map(float, not_covered)], abs=1e-9)
    kinds, *orders = sample.diversity(10**9)
    assert orders == pytest.approx([min(kinds, math.exp(entropy + beyond)), float(1 / repeated)], rel=1e-6)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_smaller_samples_are_all_parts(counts: list[int]):
    """Coverage: the chance that another observation is of a kind in a part, over all parts and all others. Diversity: that
    of the mean numbers of kinds that occur once, twice and so on in all parts.
    """
    pool = [kind for kind, count in enumerate(counts) for _ in range(count)][:9]
    sample = Abundances(list(Counter(pool).values()))
    for size in range(1, len(pool)):
        parts = list(itertools.combinations(range(len(pool)), size))
        covered = [
            pool[other] in {pool[at] for at in part}
            for part in parts
            for other in range(len(pool))
            if other not in part
        ]
        assert sample.coverage(size) == pytest.approx(np.mean(covered), abs=1e-9)
        times = Counter(times for part in parts for times in Counter(pool[at] for at in part).values())
        shares = [(times / size, number / len(parts)) for times, number in times.items()]
        assert sample.diversity(size) == pytest.approx(
            (
                sum(number for _, number in shares),
                math.exp(-sum(number * share * math.log(share) for share, number in shares)),
                1 / sum(number * share**2 for share, number in shares),
            ),
            abs=1e-8,
        )


@given(st.lists(st.one_of(st.just(1), st.integers(1, 30)), min_size=2, max_size=40))
@settings(max_examples=40, deadline=None)
def test_curves_rise_through_the_sample(counts: list[int]):
    """Larger samples cover more and are more diverse; another observation is at most another kind, also where they become
    larger than the one there is; the size at a coverage has that coverage.
    """
    sample = Abundances(counts)
    sizes = range(1, 2 * sample.n + 1)
    covered = [sample.coverage(size) for size in sizes]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(covered))
    for order in range(3):
        hill = [sample.diversity(size)[order] for size in sizes]
        assert all(a <= b + 1e-8 for a, b in itertools.pairwise(hill))
    kinds = [sample.kinds_in(size) for size in range(2 * sample.n + 1)]
    assert all(b <= a + 1 + 1e-9 for a, b in itertools.pairwise(kinds))
    for size in (1, max(1, sample.n // 2), sample.n):
        assert sample.coverage(math.floor(sample.size_at(sample.coverage(size)) + 1e-6)) == pytest.approx(
            sample.coverage(size), abs=1e-6
        )


def test_a_known_population():
    """Of a population of 2,000 kinds: the true coverage is within the interval that is given for it, and what twice the
    sample would bring within four standard errors.
    """
    rng = np.random.default_rng(3)
    shares = 1 / (np.arange(2000) + 20)
    shares /= shares.sum()
    drawn = rng.multinomial(1500, shares)
    counts = drawn[drawn > 0].tolist()
    estimate = coverage_estimate(counts)
    assert estimate.low <= shares[drawn > 0].sum() <= estimate.high
    more = drawn + rng.multinomial(1500, shares)
    last = coverage_curve(counts)[-1]
    assert last.extrapolated
    assert last.size == pytest.approx(3000)
    assert last.kinds == pytest.approx(np.count_nonzero(more), abs=4 * last.error)
    assert last.coverage == pytest.approx(shares[more > 0].sum(), abs=0.03)


def test_equal_coverage_tells_how_many_times_more_kinds():
    """Of two populations of the same form, one with three times the kinds, samples of equal coverage have three times the
    kinds within the errors; samples of equal size have not.
    """
    rng = np.random.default_rng(5)
    one = 1 / (np.arange(300) + 10)
    few, many = (
        drawn[drawn > 0].tolist()
        for drawn in (rng.multinomial(900, one / one.sum()), rng.multinomial(900, np.tile(one, 3) / one.sum() / 3))
    )
    coverage = min(Abundances(few).coverage(), Abundances(many).coverage())
    for order in range(3):
        at = [diversity_at(counts, coverage) for counts in (few, many)]
        ratio = at[1].hill[order] / at[0].hill[order]
        error = ratio * math.hypot(*(each.errors[order] / each.hill[order] for each in at))
        assert ratio == pytest.approx(3, abs=3 * error)
        assert error < 0.5
    same_size = [diversity_in(counts, 900).hill[0] for counts in (few, many)]
    assert same_size[1] / same_size[0] < 2.2


@given(st.lists(st.one_of(st.just(1), st.integers(1, 4)), min_size=2, max_size=60), st.integers(0, 200))
@settings(max_examples=60, deadline=None)
def test_effective_kinds_are_no_more_than_kinds(counts: list[int], beyond: int):
    """In a larger sample, too, where almost all kinds came once and little is known about the others."""
    zero, first, second = Abundances(counts).diversity(min(sum(counts) + beyond, 2 * sum(counts)))
    assert zero + 1e-9 >= max(first, second)


def test_errors_at_a_low_coverage_are_those_of_many_samples():
    """The figures are uncertain if hardly any kind came twice. Of each order, the standard errors that samples give are
    half to twice the standard deviation of the figure among 200 samples. They differ little between the orders, as
    nearly all kinds came once.
    """
    rng = np.random.default_rng(1)
    samples = [drawn[drawn > 0] for drawn in rng.multinomial(370, np.full(13_729, 1 / 13_729), size=200)]
    of_samples = [Abundances(counts) for counts in samples]
    coverage = float(np.median([sample.coverage() for sample in of_samples]))
    truth = np.std([sample.at(sample.size_at(coverage)) for sample in of_samples], axis=0, ddof=1)
    errors = np.median([diversity_at(counts, coverage).errors for counts in samples[:20]], axis=0)
    assert (errors > truth / 2).all()
    assert (errors < truth * 2).all()
    assert np.ptp(errors) < errors.min() / 10


@pytest.mark.parametrize("counts", [[10], [5, 5], [2, 2], [9, 1], [1, 1], [1], [3_000, *[1] * 5_000, 2]])
def test_odd_samples(counts):
    """One kind, nothing unseen, one singleton, nothing but singletons, many of them: finite figures, the same ones again."""
    points = coverage_curve(counts)
    assert points == coverage_curve(counts)
    assert all(math.isfinite(number) for point in points for number in (point.size, point.kinds, point.error))
    assert [point.coverage for point in points] == sorted(point.coverage for point in points)
    assert all(math.isfinite(number) for number in diversity_at(counts, Abundances(counts).coverage() / 2).hill)
    assert all(math.isfinite(number) for number in Abundances(counts).diversity(3 * sum(counts)))
