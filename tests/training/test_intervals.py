"""Bootstrap intervals over rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from explore_async.training.intervals import difference, ratio


def test_the_interval_is_that_of_the_mean() -> None:
    """For rows of equal size, the percentile bootstrap agrees with the textbook's interval of a mean."""
    random = np.random.default_rng(1)
    costs, sizes = random.gamma(4, 2, 400), np.full(400, 10.0)
    found = ratio(costs, sizes)
    half = 1.96 * costs.std() / np.sqrt(400) / 10
    assert abs(found.value - costs.mean() / 10) < 1e-12
    assert abs((found.high - found.low) / 2 - half) < 0.1 * half


@settings(max_examples=20)
@given(costs=st.lists(st.floats(0.1, 50), min_size=2, max_size=30), least=st.floats(0.5, 3))
def test_what_both_models_have_in_common_cancels(costs: list[float], least: float) -> None:
    """A model that is better by the same for each token of each row differs by exactly that, whatever rows are drawn."""
    sizes = np.arange(1.0, len(costs) + 1)
    before = np.array(costs) + least * sizes
    change = difference(before - least * sizes, sizes, before, sizes)
    assert np.allclose([change.value, change.low, change.high], -least)
    apart = ratio(before, sizes)
    assert apart.low <= apart.value + 1e-9
    assert apart.value <= apart.high + 1e-9


def test_the_same_rows_have_the_same_interval() -> None:
    """Nothing but the rows decides: a report can be made again."""
    costs, sizes = np.array([1.0, 5.0, 2.0]), np.array([2.0, 4.0, 3.0])
    assert ratio(costs, sizes) == ratio(costs.copy(), sizes.copy())
    assert ratio(costs, sizes).document() == {"value": 0.8889, "interval": ratio(costs, sizes).document()["interval"]}
