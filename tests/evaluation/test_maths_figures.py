"""Figures of answers to mathematical questions, against their definitions counted out."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explore_async.evaluation.figures import Rate
from explore_async.evaluation.maths_figures import Sample, Scored, difference, figures_of, majority, pass_at


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_sets_with_a_right_sample(case: tuple[int, int, int]) -> None:
    """The formula equals the count over all sets of k samples."""
    samples, right, k = case
    sets = list(combinations([number < right for number in range(samples)], k))
    assert pass_at(k, samples, right) == pytest.approx(sum(map(any, sets)) / len(sets))


KINDS = st.lists(st.one_of(st.none(), st.integers(0, 2)), min_size=1, max_size=5)


@settings(max_examples=50)
@given(KINDS, st.integers(1, 5), st.integers(0, 2))
def test_majority_over_all_orders_is_the_mean_over_all_sets(kinds: list[int | None], k: int, right_kind: int) -> None:
    """The first k of every order of the samples are all sets of k, and the figure is the mean over them; a tie is shared."""
    k = min(k, len(kinds))
    right = [kind == right_kind for kind in kinds]
    shares: list[Fraction] = []
    for chosen in combinations(kinds, k):
        counts = Counter(kind for kind in chosen if kind is not None)
        most = [kind for kind, count in counts.items() if count == max(counts.values())]
        shares.append(Fraction(most.count(right_kind), len(most)) if most else Fraction())
    orders = np.array(list(permutations(range(len(kinds)))))
    assert majority(kinds, right, orders[:, :k]) == pytest.approx(float(sum(shares) / len(shares)))


def question(right: str, level: str = "1") -> Scored:
    """A sample for each letter: r is right, R right by both rules, w wrong, v wrong in another way, - no answer."""
    kinds = {"r": 0, "R": 0, "w": 1, "v": 2, "-": None}
    return Scored([Sample(each in "rR", each == "R", kinds[each]) for each in right], {"level": level})


def test_figures_of_a_few_questions() -> None:
    """Each rate is the mean over questions of what was counted by hand; groups have their own, intervals hold the value,
    and the same samples give the same figures.
    """
    scored = [question("RRwv"), question("ww--", "2"), question("rwvr", "2"), question("----")]
    found = figures_of(scored)
    standing = found.standing
    assert (found.samples, found.unanswered, standing.questions) == (4, 6, 4)
    assert standing.accuracy.value == 4 / 16
    assert standing.exact_match.value == 2 / 16
    assert list(standing.majority) == list(standing.passed) == [1, 2, 4]
    assert standing.majority[4].value == 2 / 4
    assert standing.passed[4].value == 2 / 4
    assert standing.passed[1].value == standing.accuracy.value
    assert standing.majority[1].value == pytest.approx(standing.accuracy.value)
    assert standing.passed[2].value == pytest.approx((5 / 6 + 5 / 6) / 4)
    assert found.by["level"]["2"].accuracy.value == 2 / 8
    for rate in (standing.accuracy, *standing.passed.values(), *standing.majority.values()):
        assert 0 <= rate.low <= rate.value <= rate.high <= 1
        assert rate.high > rate.low
    assert figures_of(scored).document() == found.document()


def test_one_sample_has_no_votes_and_all_right_has_wilsons_interval() -> None:
    """Where there is nothing to vote about, no figure says so; where all questions agree, no interval is of length 0."""
    found = figures_of([question("R")] * 10)
    assert found.standing.majority == found.standing.passed == {}
    assert found.standing.accuracy.value == 1
    assert found.standing.accuracy.high == pytest.approx(1)
    assert 0.6 < found.standing.accuracy.low < 0.8


def test_a_difference_is_by_question() -> None:
    """What is hard for both cancels: the same answers differ by exactly nothing."""
    scored = [question("R"), question("w"), question("R"), question("w")]
    assert difference(scored, scored) == Rate(0, 0, 0)
    less = difference(scored, [question("w")] * 4)
    assert less.value == 0.5
    assert less.low <= 0.5 <= less.high
