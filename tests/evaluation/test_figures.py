"""Figures of a comparison against values worked out elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from explore_async.evaluation.figures import Judged, figures_of, kappa, length_controlled, standing_of
from explore_async.exploration.comparing import outcome_of, panel_outcome


def test_outcomes() -> None:
    """Orders that disagree are a tie; one that could not be read makes the question invalid, never a tie."""
    assert [outcome_of(both) for both in (("a", "a"), ("b", "b"), ("a", "b"), ("a", "tie"), ("tie", "tie"))] == [
        *("win", "lose", "tie", "tie", "tie")
    ]
    assert outcome_of(("a", "")) == outcome_of(("", "")) == "invalid"
    assert panel_outcome(["win", "lose", "win"]) == "win"
    assert panel_outcome(["win", "lose"]) == "tie"
    assert panel_outcome(["lose", "invalid"]) == "lose"
    assert panel_outcome(["invalid", "invalid"]) == "invalid"


def test_rates_have_intervals() -> None:
    """The paper's 114:56:38; the bootstrap of a share comes close to the normal interval. Wilson's stands where all agree
    (its value for 8 of 8 is that of statsmodels), and nothing where nothing was judged.
    """
    standing = standing_of(["win"] * 114 + ["tie"] * 56 + ["lose"] * 38 + ["invalid"] * 3)
    assert (standing.win, standing.tie, standing.lose, standing.invalid) == (114, 56, 38, 3)
    assert standing.win_rate is not None
    assert standing.beat_rate is not None
    assert standing.win_rate.value == pytest.approx(142 / 208)
    assert standing.beat_rate.value == pytest.approx(0.75)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 152)
    assert standing.beat_rate.low == pytest.approx(0.75 - half, abs=0.01)
    assert standing.beat_rate.high == pytest.approx(0.75 + half, abs=0.01)
    certain = standing_of(["win"] * 8)
    assert certain.win_rate == certain.beat_rate
    assert certain.win_rate is not None
    assert (certain.win_rate.low, certain.win_rate.high) == pytest.approx((0.6755924351161198, 1.0))
    assert standing_of(["tie"] * 5).beat_rate is None
    assert standing_of(["invalid"]).win_rate is None
    assert standing_of(["win", "lose", "tie"]) == standing_of(["tie", "lose", "win"])


def test_kappa() -> None:
    """The value of statsmodels for a table of three categories, and the textbook's 0.4; none where it has no meaning."""
    names = ("win", "tie", "lose")
    table = [[10, 2, 1], [3, 5, 2], [0, 1, 6]]
    pairs = [(names[i], names[j]) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    assert kappa(pairs) == pytest.approx(0.5408163265306122)
    yes_no = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert kappa(yes_no) == pytest.approx(0.4)
    assert kappa([]) is None
    assert kappa([("y", "y")] * 3) is None


def test_the_rate_at_equal_length() -> None:
    """The rate and interval of statsmodels' GLM with HC0 errors. None where the model has no finite fit."""
    wins = np.array([1, 1, 0, 0.5, 1, 0, 0, 1, 0.5, 1, 1, 0])
    differences = np.array([120, 40, -30, 10, 200, -150, 60, -20, 0, 90, 15, 5], dtype=float)
    rate = length_controlled(wins, differences)
    assert rate is not None
    assert (rate.value, rate.low, rate.high) == pytest.approx(
        (0.4757773075086069, 0.21528990671952863, 0.7501468169614303), rel=1e-6
    )
    assert length_controlled(wins, np.full(12, 7.0)) is None
    assert length_controlled(np.array([1.0, 1, 0, 0]), np.array([5.0, 9, -5, -9])) is None
    assert length_controlled(np.ones(4), np.array([5.0, 9, -5, -9])) is None
    assert length_controlled(np.array([]), np.array([])) is None


def test_bias_of_position_and_length() -> None:
    """Counted over the questions with two verdicts that could be read."""
    ways = (("a", "b"), ("a", "b"), ("b", "a"), ("a", "a"), ("tie", "b"), ("a", ""))
    figures = figures_of([Judged("all", {"m": both}, (30, 10)) for both in ways], ["m"])
    position = figures.by_judge["m"].position
    assert (position.questions, position.agree, position.first, position.second) == (5, 1, 2, 1)
    assert position.bias == 0.4
    assert (figures.lengths.mean_a, figures.lengths.mean_b, figures.lengths.longer_won) == (30, 10, 1.0)
    assert figures.document()["by_judge"]["m"]["position"]["bias"] == 0.4
