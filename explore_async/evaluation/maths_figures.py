"""Figures of answers to mathematical questions: accuracy, maj@k and pass@k, with intervals. Pure.

The intervals are of 95 %, by the percentile bootstrap over questions: all samples of a question are drawn together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from explore_async.evaluation.figures import RESAMPLES, Rate, percentiles, rounded, wilson

_AT_ONCE: Final = 100
"""Resamples that are computed together."""
_MOST_SETS: Final = 1_000
"""Sets of k samples that maj@k is the mean of: all, or as many drawn ones."""
_NO_ANSWER: Final = -1
_SHOWN: Final = ("accuracy", "exact_match")

_Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer to a question. `kind`: equal numbers for equal answers to the same question; None for a sample without
    any answer.
    """

    right: bool = False
    exact: bool = False
    """Right by the older rule."""
    kind: int | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """A question with its samples, as many as every other has. `groups`: its values in the columns of groups."""

    samples: Sequence[Sample]
    groups: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """Rates over questions. `accuracy` and `exact_match`: the share of right samples, by math-verify and by the older
    rule. `majority` and `passed`: maj@k and pass@k by k, where there are several samples.
    """

    questions: int
    accuracy: Rate
    exact_match: Rate
    majority: Mapping[int, Rate]
    passed: Mapping[int, Rate]

    def document(self) -> dict[str, Any]:
        rates = {name: _document(getattr(self, name)) for name in _SHOWN}
        many = {"maj": self.majority, "pass": self.passed}
        by_k = {name: {str(k): _document(rate) for k, rate in of.items()} for name, of in many.items() if of}
        return {"questions": self.questions, **rates, **by_k}


@dataclass(frozen=True, slots=True)
class MathsFigures:
    """The figures of the answers of one model. `samples`: to each question. `unanswered`: samples without an answer,
    which are wrong. `undecided`: samples that math-verify came to no end with, which are wrong, too.
    """

    samples: int
    unanswered: int
    undecided: int
    standing: Standing
    by: Mapping[str, Mapping[str, Standing]]
    """By column and value, for the columns that name groups."""

    def document(self) -> dict[str, Any]:
        by = {column: {value: one.document() for value, one in of.items()} for column, of in self.by.items()}
        counts = {"samples": self.samples, "unanswered": self.unanswered, "undecided": self.undecided}
        return {**counts, **self.standing.document(), "by": by}


def figures_of(scored: Sequence[Scored], *, undecided: int = 0) -> MathsFigures:
    """The figures of at least one question. All have the same number of samples."""
    values = _Table.of(scored)
    columns = dict.fromkeys(column for one in scored for column in one.groups)
    return MathsFigures(
        len(scored[0].samples),
        sum(sample.kind is None for one in scored for sample in one.samples),
        undecided,
        values.standing(np.arange(len(scored))),
        {column: _by(column, scored, values) for column in columns},
    )


def _by(column: str, scored: Sequence[Scored], values: _Table) -> dict[str, Standing]:
    places: dict[str, list[int]] = {}
    for place, one in enumerate(scored):
        if (value := one.groups.get(column)) is not None:
            places.setdefault(value, []).append(place)
    return {value: values.standing(np.array(places[value])) for value in sorted(places)}


def difference(scored: Sequence[Scored], against: Sequence[Scored]) -> Rate:
    """The accuracy less that of other answers to the same questions, which are drawn together. From -1 to 1."""
    values = _accuracies(scored) - _accuracies(against)
    return percentiles(float(values.mean()), _resampled(values[:, None])[:, 0])


def pass_at(k: int, samples: int, right: int) -> float:
    """The probability that at least one of k samples is right, drawn from `samples` of which `right` are: the unbiased
    estimate of Chen et al. 2021, 1 - C(n - c, k) / C(n, k).
    """
    wrong = samples - right
    return 1.0 if wrong < k else 1 - prod((wrong - i) / (samples - i) for i in range(k))


def majority(kinds: Sequence[int | None], right: Sequence[bool], sets: npt.NDArray[np.intp]) -> float:
    """The share of sets of samples in which the answer of most is right. `kinds`, `right`: of each sample; those of a
    kind are all right, or all wrong. `sets`: the places of the samples in each set. Of several answers that are those
    of most each has its share. A sample without an answer does not vote, and where none votes, the vote is wrong.
    """
    names = sorted({kind for kind in kinds if kind is not None})
    if not names:
        return 0.0
    votes = np.array([[kind == name for name in names] for kind in kinds], dtype=np.int64)
    is_right = np.array([right[kinds.index(name)] for name in names])
    counts = votes[sets].sum(axis=1)
    most = counts.max(axis=1, keepdims=True)
    wins = (counts == most) & (most > 0)
    return float(((wins & is_right).sum(axis=1) / np.maximum(1, wins.sum(axis=1))).mean())


@dataclass(frozen=True, slots=True)
class _Table:
    """The values of all questions: a row for each, a column for each figure."""

    values: _Values
    ks: Sequence[int]

    @classmethod
    def of(cls, scored: Sequence[Scored]) -> _Table:
        samples = len(scored[0].samples)
        ks = [] if samples == 1 else [*(2**power for power in range((samples - 1).bit_length())), samples]
        columns = [_accuracies(scored), np.array([_share(one, exact=True) for one in scored])]
        for k in ks:
            sets = _sets(k, samples)
            columns.append(np.array([_majority(one, sets) for one in scored]))
        columns += [np.array([_passed(k, one) for one in scored]) for k in ks]
        return cls(np.column_stack(columns), ks)

    def standing(self, places: npt.NDArray[np.intp]) -> Standing:
        accuracy, exact, *rest = _rates(self.values[places])
        many = len(self.ks)
        majority, passed = (dict(zip(self.ks, rates, strict=True)) for rates in (rest[:many], rest[many:]))
        return Standing(len(places), accuracy, exact, majority, passed)


def _accuracies(scored: Sequence[Scored]) -> _Values:
    return np.array([_share(one) for one in scored])


def _share(one: Scored, *, exact: bool = False) -> float:
    return sum(sample.exact if exact else sample.right for sample in one.samples) / len(one.samples)


def _sets(k: int, samples: int) -> npt.NDArray[np.intp]:
    if comb(samples, k) <= _MOST_SETS:
        return np.array(list(combinations(range(samples), k)), dtype=np.intp)
    orders = np.tile(np.arange(samples), (_MOST_SETS, 1))
    return np.random.default_rng(0).permuted(orders, axis=1)[:, :k]


def _majority(one: Scored, sets: npt.NDArray[np.intp]) -> float:
    return majority([s.kind for s in one.samples], [s.right for s in one.samples], sets)


def _passed(k: int, one: Scored) -> float:
    return pass_at(k, len(one.samples), sum(sample.right for sample in one.samples))


def _rates(values: _Values) -> list[Rate]:
    """The mean of each column, with its interval; Wilson's where all questions have the same value."""
    drawn, questions = _resampled(values), len(values)
    return [
        percentiles(float(mean), drawn[:, column]) if np.ptp(values[:, column]) else wilson(float(mean), questions)
        for column, mean in enumerate(values.mean(axis=0))
    ]


def _resampled(values: _Values) -> _Values:
    """The mean of each column in each resample of the rows."""
    questions, columns = values.shape
    random = np.random.default_rng(0)
    drawn = np.empty((RESAMPLES, columns))
    for begin in range(0, RESAMPLES, _AT_ONCE):
        times = random.multinomial(questions, np.full(questions, 1 / questions), size=_AT_ONCE)
        drawn[begin : begin + _AT_ONCE] = times @ values / questions
    return drawn


def _document(rate: Rate) -> dict[str, float]:
    document: dict[str, float] = rounded({"value": rate.value, "low": rate.low, "high": rate.high})
    return document
