"""Wins, ties and losses by the verdicts of raters, and the agreement between them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, combinations, repeat
from typing import Any, Final

from explore_async.evaluation.agreement import krippendorffs_alpha
from explore_async.evaluation.blind import BlindPairs
from explore_async.evaluation.figures import Standing, kappa, rounded, standing_of
from explore_async.evaluation.rater_verdicts import ByRater, Choice, Verdict
from explore_async.exploration.comparing import PairOutcome, panel_outcome

_OUTCOME: Final[Mapping[Choice, PairOutcome]] = {"a": "win", "tie": "tie", "b": "lose"}


@dataclass(frozen=True, slots=True)
class Rated:
    """Questions by their outcome for the first dataset. Identical answers that nobody is asked about are ties."""

    standing: Standing
    identical: int
    """The ties with identical answers, of those that come before the last judged question in the order of all."""

    @property
    def judged(self) -> int:
        return self.standing.win + self.standing.tie + self.standing.lose - self.identical


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement on the questions that at least two raters judged."""

    questions: int
    equal: float | None
    """The share of pairs of verdicts on the same question that are equal."""
    kappa: float | None
    """Cohen's kappa; None unless there are two raters."""
    alpha: float | None
    """Krippendorff's alpha, nominal."""


@dataclass(frozen=True, slots=True)
class RaterFigures:
    """All figures of a comparison by people."""

    together: Rated
    """Each question once: the verdict of most of its raters, a tie where none leads."""
    by_rater: Mapping[str, Rated]
    left_won: Mapping[str, float | None]
    """By rater, the share of wins and losses in which the answer on the left is the better one."""
    agreement: Agreement
    elsewhere: int
    """Verdicts on other texts than these; they count nowhere."""

    def document(self) -> dict[str, Any]:
        """The figures as JSON has them."""
        raters = {name: {**_document(rated), "left_won": self.left_won[name]} for name, rated in self.by_rater.items()}
        document: dict[str, Any] = rounded(
            {"all": _document(self.together), "by_rater": raters, "agreement": asdict(self.agreement)}
        )
        return {**document, "verdicts_on_other_texts": self.elsewhere}


def figures_of_raters(pairs: BlindPairs, verdicts: ByRater) -> RaterFigures:
    """The figures of these verdicts on these pairs. A rater without any is left out."""
    fitting = {
        rater: {key: verdict for key, verdict in own.items() if key in pairs.by_id}
        for rater, own in sorted(verdicts.items())
    }
    given = {rater: own for rater, own in fitting.items() if own}
    outcomes = {rater: {key: _outcome(one) for key, one in own.items()} for rater, own in given.items()}
    votes = {key: [own[key] for own in outcomes.values() if key in own] for key in pairs.by_id}
    majority = {key: panel_outcome(of_pair) for key, of_pair in votes.items() if of_pair}
    return RaterFigures(
        _rated(pairs, majority),
        {rater: _rated(pairs, own) for rater, own in outcomes.items()},
        {rater: _left_won(list(own.values())) for rater, own in given.items()},
        _agreement([of_pair for of_pair in votes.values() if len(of_pair) > 1], len(given)),
        sum(map(len, verdicts.values())) - sum(map(len, given.values())),
    )


EXPORTED: Final = ("rater", "verdict", "comment", "left", "id", "instruction", "input", "a", "b")
"""The columns of an export."""


def exported(pairs: BlindPairs, verdicts: ByRater) -> Iterator[dict[str, Any]]:
    """A row for each verdict, with the texts that it is on: by question, then by rater."""
    for pair in pairs.by_id.values():
        for rater, own in sorted(verdicts.items()):
            if (given := own.get(pair.id)) is not None:
                shown = {"verdict": given.verdict, "comment": given.comment, "left": given.left}
                yield {"rater": rater, **shown, **asdict(pair)}


def _outcome(verdict: Verdict) -> PairOutcome:
    assert verdict.verdict is not None
    return _OUTCOME[verdict.verdict]


def _rated(pairs: BlindPairs, outcomes: Mapping[str, PairOutcome]) -> Rated:
    """Identical ones after the last judged one are not reached yet, unless nothing else is left to judge."""
    identical = reached = 0
    for pair in pairs.by_id.values():
        if pair.is_identical:
            identical += 1
        elif pair.id in outcomes:
            reached = identical
    done = len(outcomes) == len(pairs.by_id) - identical
    ties = identical if done else reached
    return Rated(standing_of(chain(outcomes.values(), repeat("tie", ties))), ties)


def _left_won(verdicts: Sequence[Verdict]) -> float | None:
    decided = [verdict for verdict in verdicts if verdict.verdict != "tie"]
    return _share(sum(verdict.verdict == verdict.left for verdict in decided), len(decided))


def _agreement(votes: Sequence[Sequence[PairOutcome]], raters: int) -> Agreement:
    equal = [one == other for of_pair in votes for one, other in combinations(of_pair, 2)]
    of_two = kappa([(one, other) for one, other in votes]) if raters == 2 else None  # noqa: PLR2004 - it is of two
    return Agreement(len(votes), _share(sum(equal), len(equal)), of_two, krippendorffs_alpha(votes))


def _document(rated: Rated) -> dict[str, Any]:
    return {**asdict(rated.standing), "identical": rated.identical, "judged": rated.judged}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
