"""Estimators against worked examples, exact enumeration and simulation."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explore_async.analysis.estimates import chao1, entropy, rarefaction, rarefy, unseen_mass

counts = st.lists(st.integers(1, 6), min_size=1, max_size=5)


@given(counts, st.data())
def test_rarefaction_is_the_mean_over_all_parts(seen: list[int], data: st.DataObject):
    """Of every part of that size, enumerated: the mean number of kinds, and its standard deviation."""
    pool = [kind for kind, count in enumerate(seen) for _ in range(count)][:12]
    seen = list(Counter(pool).values())
    size = data.draw(st.integers(0, len(pool)))
    kinds = [len({pool[at] for at in part}) for part in itertools.combinations(range(len(pool)), size)]
    mean = sum(kinds) / len(kinds)
    found = rarefy(seen, size)
    assert found.kinds == pytest.approx(mean, abs=1e-9)
    assert found.error == pytest.approx(math.sqrt(sum((one - mean) ** 2 for one in kinds) / len(kinds)), abs=1e-6)


def test_rarefaction_of_large_counts_is_finite_and_rises():
    """A million observations: no overflow, never fewer kinds in more observations, and all of them at the end."""
    seen = [300_000, 200_000, *[7] * 60_000, *[1] * 80_000]
    curve = rarefaction(seen, 12)
    values = [point.kinds for point in curve]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(len(seen))
    assert curve[-1].error == pytest.approx(0, abs=1e-3)
    assert all(math.isfinite(point.error) for point in curve)


def test_chao1_of_a_worked_example():
    """Ten kinds, of which four were seen once and two twice: 10 + 4·3 / (2·3) = 12; without singletons all is seen."""
    seen = [1, 1, 1, 1, 2, 2, 5, 6, 9, 12]
    found = chao1(seen)
    assert found.value == 12
    assert len(seen) < found.low < found.value < found.high
    assert chao1([3, 4, 5]).value == chao1([3, 4, 5]).high == 3
    assert chao1([]).value == 0


def test_unseen_mass_of_a_worked_example():
    """Good and Turing: singletons over observations."""
    found = unseen_mass([1, 1, 1, 2, 5])
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(max(0, 0.3 - 1.959964 * math.sqrt(3 * 0.7 + 2) / 10), abs=1e-6)
    assert unseen_mass([]).value == 1


def test_entropy_of_equal_kinds():
    """Many observations of 16 equal kinds: four bits, and an interval around them."""
    found = entropy([10_000] * 16)
    assert found.value == pytest.approx(4, abs=1e-3)
    assert found.low <= 4.0001
    assert found.high >= 3.9999
    assert entropy([]).value == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_intervals_cover_what_they_estimate(seed: int):
    """Samples of a known population: the true chance of something new lies within four times the interval's half width,
    and Chao1, a lower bound, is no more than a little above the truth.
    """
    rng = random.Random(seed)
    weights = [1 / (rank + 10) for rank in range(400)]
    sample = rng.choices(range(400), weights, k=900)
    seen = Counter(sample)
    truth = sum(weight for kind, weight in enumerate(weights) if kind not in seen) / sum(weights)
    mass = unseen_mass(list(seen.values()))
    assert abs(mass.value - truth) <= 2 * (mass.high - mass.low)
    assert chao1(list(seen.values())).low <= 450


@given(counts)
def test_every_estimate_lies_in_its_interval(seen: list[int]):
    for estimate in (unseen_mass(seen), chao1(seen), entropy(seen)):
        assert estimate.low <= estimate.value + 1e-9
        assert estimate.value <= estimate.high + 1e-9
