"""Figures of a comparison: win : tie : lose, rates with intervals, bias of position and length, agreement of judges.

Pure: the same verdicts give the same figures. Intervals are of 95 %.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import sqrt
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from explore_async.exploration.comparing import PairOutcome, Preferred, outcome_of, panel_outcome

RESAMPLES: Final = 10_000
_Z: Final = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
_STEPS: Final = 50
_LARGEST: Final = 20.0
"""A coefficient beyond this says that the lengths separate wins from losses, so that none fits."""
_DIGITS: Final = 4
_VALUE: Final[Mapping[PairOutcome, float]] = {"win": 1.0, "tie": 0.5, "lose": 0.0}

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Questions by their outcome for the first dataset. `invalid`: a judge could not be read; no rate counts them."""

    win: int
    tie: int
    lose: int
    invalid: int
    win_rate: Rate | None
    """Wins and half of the ties, of all questions but the invalid. None where there are none."""
    beat_rate: Rate | None
    """win / (win + lose). None where neither wins a question."""


@dataclass(frozen=True, slots=True)
class Position:
    """Verdicts of a judge on the same question in both orders."""

    questions: int
    """Those with two verdicts that could be read."""
    agree: int
    first: int
    """Questions for which the answer that came first won in both orders."""
    second: int
    """Questions for which the answer that came second won in both orders."""

    @property
    def bias(self) -> float | None:
        """The share of `first`; None without questions."""
        return self.first / self.questions if self.questions else None


@dataclass(frozen=True, slots=True)
class Judge:
    """One judge's figures."""

    standing: Standing
    position: Position


@dataclass(frozen=True, slots=True)
class Agreement:
    """Cohen's kappa of two judges over the outcomes of the questions that both judged; None where chance alone makes
    them agree.
    """

    judges: tuple[str, str]
    questions: int
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Lengths:
    """Characters of the answers. `controlled`: the win rate as it would be for answers of equal length, by a logistic
    model of the outcome on tanh(difference / its standard deviation), as in length-controlled AlpacaEval (Dubois et al.
    2024) without its terms for single models and questions; None where it cannot be estimated.
    """

    mean_a: float
    mean_b: float
    longer_won: float | None
    """The share of the questions won by either in which the longer answer won; None where there are none."""
    controlled: Rate | None


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of all judges together, of each class of questions, and of each judge.

    The outcome of a question is that of most judges; where no outcome leads, it is a tie.
    """

    standing: Standing
    by_class: Mapping[str, Standing]
    by_judge: Mapping[str, Judge]
    agreement: Sequence[Agreement]
    lengths: Lengths

    def document(self) -> dict[str, Any]:
        """The content of figures.json."""
        document: dict[str, Any] = rounded(asdict(self))
        for model, judge in self.by_judge.items():
            bias = judge.position.bias
            document["by_judge"][model]["position"]["bias"] = None if bias is None else round(bias, _DIGITS)
        return document


@dataclass(frozen=True, slots=True)
class Judged:
    """A question with its verdicts: by judge, the preferred dataset in each order; none where its answers are equal, a
    tie that nobody is asked about. `lengths`: of both answers.
    """

    kind: str
    preferred: Mapping[str, Sequence[Preferred]]
    lengths: tuple[int, int]

    @property
    def outcomes(self) -> dict[str, PairOutcome]:
        return {judge: outcome_of(both) for judge, both in self.preferred.items()}

    @property
    def outcome(self) -> PairOutcome:
        return panel_outcome(self.outcomes.values()) if self.preferred else "tie"


def figures_of(questions: Sequence[Judged], judges: Sequence[str]) -> Figures:
    """The figures of at least one question."""
    outcomes = [question.outcome for question in questions]
    by_class: dict[str, list[PairOutcome]] = {}
    for question, outcome in zip(questions, outcomes, strict=True):
        by_class.setdefault(question.kind, []).append(outcome)
    asked = [question for question in questions if question.preferred]
    ties: list[PairOutcome] = ["tie"] * (len(questions) - len(asked))
    by_judge = {judge: [question.outcomes[judge] for question in asked] for judge in judges}
    return Figures(
        standing_of(outcomes),
        {kind: standing_of(of_class) for kind, of_class in by_class.items()},
        {
            judge: Judge(standing_of([*own, *ties]), _position(question.preferred[judge] for question in asked))
            for judge, own in by_judge.items()
        },
        [_agreement((one, other), by_judge[one], by_judge[other]) for one, other in combinations(judges, 2)],
        _lengths(questions, outcomes),
    )


def standing_of(outcomes: Iterable[PairOutcome]) -> Standing:
    """Counts and rates. Intervals by the percentile bootstrap over questions; Wilson's where all agree."""
    counts = Counter(outcomes)
    win, tie, lose = counts["win"], counts["tie"], counts["lose"]
    judged, decided = win + tie + lose, win + lose
    win_rate = beat_rate = None
    if judged:
        # to draw questions with replacement is to draw the three counts from a multinomial distribution
        drawn = np.random.default_rng(0).multinomial(judged, [win / judged, tie / judged, lose / judged], RESAMPLES)
        value = (win + tie / 2) / judged
        agree = judged in {win, tie, lose}
        rates = (drawn[:, 0] + drawn[:, 1] / 2) / judged
        win_rate = wilson(value, judged) if agree else percentiles(value, rates)
        if decided:
            both = drawn[drawn[:, 0] + drawn[:, 2] > 0]
            rates = both[:, 0] / (both[:, 0] + both[:, 2])
            value = win / decided
            beat_rate = wilson(value, decided) if decided in {win, lose} else percentiles(value, rates)
    return Standing(win, tie, lose, counts["invalid"], win_rate, beat_rate)


def percentiles(value: float, rates: _Floats) -> Rate:
    """The value with the interval of a percentile bootstrap. `rates`: those of the resamples."""
    low, high = np.percentile(rates, [2.5, 97.5])
    return Rate(value, float(low), float(high))


def wilson(value: float, count: int) -> Rate:
    """Wilson's score interval (1927) of a share of `count`."""
    spread = _Z * _Z / count
    middle = (value + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * sqrt(value * (1 - value) / count + spread / (4 * count))
    return Rate(value, max(0.0, middle - half), min(1.0, middle + half))


def _position(verdicts: Iterable[Sequence[Preferred]]) -> Position:
    read = Counter(tuple(both) for both in verdicts if "" not in both)
    agree = sum(count for both, count in read.items() if len(set(both)) == 1)
    return Position(read.total(), agree, read["a", "b"], read["b", "a"])


def _agreement(judges: tuple[str, str], one: Sequence[PairOutcome], other: Sequence[PairOutcome]) -> Agreement:
    both = [pair for pair in zip(one, other, strict=True) if "invalid" not in pair]
    return Agreement(judges, len(both), kappa(both))


def kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa (1960) of two raters over the same items; None where both always say the same one thing, or there
    are no items.
    """
    agreed = sum(one == other for one, other in pairs)
    ones, others = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    by_chance = sum(count * others[name] for name, count in ones.items())  # times the number of items
    possible = len(pairs) ** 2 - by_chance
    return (agreed * len(pairs) - by_chance) / possible if possible else None


def _lengths(questions: Sequence[Judged], outcomes: Sequence[PairOutcome]) -> Lengths:
    lengths = np.array([question.lengths for question in questions], dtype=np.float64)
    means = lengths.mean(axis=0)
    valid = np.array([outcome != "invalid" for outcome in outcomes])
    wins = np.array([_VALUE[outcome] for outcome in outcomes if outcome != "invalid"])
    differences = (lengths[:, 0] - lengths[:, 1])[valid]
    telling = (wins != _VALUE["tie"]) & (differences != 0)
    longer = (differences > 0)[telling] == (wins == 1)[telling]
    longer_won = float(longer.mean()) if longer.size else None
    return Lengths(float(means[0]), float(means[1]), longer_won, length_controlled(wins, differences))


def length_controlled(wins: _Floats, differences: _Floats) -> Rate | None:
    """The win rate at equal length. `wins`: 1, 0.5 or 0 for each question; `differences`: of its answers' lengths.

    The logistic model is fitted by Newton's method; the interval is by the sandwich estimate of the variance, as a tie
    is no draw of a binomial distribution. None where the lengths do not differ, or tell wins from losses for sure.
    """
    spread = float(np.std(differences)) if differences.size else 0.0
    if not spread:
        return None
    known = np.column_stack([np.ones_like(wins), np.tanh(differences / spread)])
    fitted = np.zeros(2)
    for _ in range(_STEPS):
        shares = 1 / (1 + np.exp(-known @ fitted))
        information = known.T @ (known * (shares * (1 - shares))[:, None])
        if np.linalg.cond(information) > 1 / np.finfo(np.float64).eps:
            return None
        step = np.linalg.solve(information, known.T @ (wins - shares))
        fitted += step
        if np.abs(fitted).max() > _LARGEST:
            return None
        if np.abs(step).max() < 1e-10:  # noqa: PLR2004 - far below what is shown
            break
    else:
        return None
    inverse = np.linalg.inv(information)
    scores = known * (wins - shares)[:, None]
    error = sqrt((inverse @ (scores.T @ scores) @ inverse)[0, 0])
    value, low, high = (float(1 / (1 + np.exp(-(fitted[0] + by * error)))) for by in (0, -_Z, _Z))
    return Rate(value, low, high)


def rounded(value: Any) -> Any:
    """A document with its figures as they are written."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return round(value, _DIGITS) if isinstance(value, float) else value
