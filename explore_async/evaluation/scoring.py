"""Scores answers to mathematical questions against reference answers, by math-verify and by an older rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from explore_async.config.given import as_list
from explore_async.curation.collections.collection import Collection, printable_path
from explore_async.curation.collections.open import DataSource, DataSources, as_sources, collection_one_of
from explore_async.errors import ConfigError
from explore_async.evaluation.figures import Rate, rounded
from explore_async.evaluation.maths_equality import MathsEquality
from explore_async.evaluation.maths_figures import MathsFigures, Sample, Scored, difference, figures_of
from explore_async.evaluation.maths_questions import Answers, Question, answer_shown, answers_to, questions_in
from explore_async.evaluation.naming import names_apart
from explore_async.evaluation.pairing import numbers_meet
from explore_async.exploration.final_answers import exactly_equal
from explore_async.running.start import in_new_loop


@dataclass(frozen=True, slots=True)
class ScoredAnswers:
    """The answers of one model with their figures. `others`: rows that answer none of the questions. `against_first`:
    the accuracy less that of the first answers, by the same questions; None for these. `most_answered`: the first
    question with the most answers, where it alone makes as many expected of the others; else None.
    """

    name: str
    path: Path
    figures: MathsFigures
    scored: Sequence[Scored]
    texts: Sequence[Sequence[str]]
    others: int
    against_first: Rate | None
    most_answered: Question | None

    def document(self) -> dict[str, Any]:
        named = {"name": self.name, "path": printable_path(self.path), "other_rows": self.others}
        rate = self.against_first
        less = (
            {} if rate is None else {"less_first": rounded({"value": rate.value, "low": rate.low, "high": rate.high})}
        )
        most = {} if self.most_answered is None else {"most_answered": self.most_answered.id}
        return {**named, **most, **self.figures.document(), **less}


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """The figures of all answers, in the order in which they were given."""

    questions: Sequence[Question]
    without_reference: int
    answers: Sequence[ScoredAnswers]

    def document(self) -> dict[str, Any]:
        counts = {"questions": len(self.questions), "without_reference": self.without_reference}
        return {**counts, "answers": [one.document() for one in self.answers]}

    def rows(self) -> list[dict[str, Any]]:
        """The evidence: a row for each question and each model, with every sample."""
        return [
            {"id": question.id, "instruction": question.key[0], "reference": question.reference, **question.groups}
            | {"answers": one.name}
            | {"samples": [_evidence(sample, text) for sample, text in zip_longest(scored.samples, texts)]}
            for one in self.answers
            for question, scored, texts in zip(self.questions, one.scored, one.texts, strict=True)
        ]


async def score_data(
    questions: DataSource,
    answers: DataSources,
    *,
    reference: str | None = None,
    by: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> ScoreResult:
    """Scores the answers of each dataset in `answers` to the same `questions`.

    `reference`: the column of the questions with the reference answer; None takes the answer of each row. `by`: columns
    of the questions whose values are groups; None takes level, subject and type. `columns`: see `open`. Raises
    ConfigError where there are no sets of answers or the extra `maths` is missing, and DataError where the questions
    have no reference answers.
    """
    if not (sources := as_sources(answers)):
        raise ConfigError("score needs answers: give a path or an open dataset, or several")
    source, *sets = (collection_one_of(one, columns) for one in (questions, *sources))
    return await score(source, sets, reference=reference, by=None if by is None else as_list(by))


def score_sync(
    questions: DataSource,
    answers: DataSources,
    *,
    reference: str | None = None,
    by: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> ScoreResult:
    """`score` for a program without an event loop; see `run_sync`."""
    return in_new_loop(lambda: score_data(questions, answers, reference=reference, by=by, columns=columns), "score")


async def score(
    source: Collection,
    sets: Sequence[Collection],
    *,
    reference: str | None = None,
    by: Sequence[str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ScoreResult:
    """`score_data` of collections. `on_progress` gets the number of questions that are done, and of all, over all sets
    of answers.
    """
    asked = questions_in(source, reference=reference, by=by)
    given = [answers_to(asked.found, one, by_number=numbers_meet(source, one)) for one in sets]
    found: list[ScoredAnswers] = []
    async with MathsEquality() as equality:
        done, total = 0, len(asked.found) * len(sets)

        async def of_question(question: Question, texts: Sequence[str], samples: int) -> Scored:
            nonlocal done
            scored = await _scored(question, texts, samples, equality)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
            return scored

        for one, name, its in zip(sets, names_apart(sets), given, strict=True):
            work = (of_question(*pair, its.samples) for pair in zip(asked.found, its.texts, strict=True))
            scored = await asyncio.gather(*work)
            figures = figures_of(scored, undecided=_undecided(asked.found, its, equality))
            less = difference(scored, found[0].scored) if found else None
            most = None if its.most is None else asked.found[its.most]
            found.append(ScoredAnswers(name, one.path, figures, scored, its.texts, its.others, less, most))
    return ScoreResult(asked.found, asked.without_reference, found)


async def _scored(question: Question, texts: Sequence[str], samples: int, equality: MathsEquality) -> Scored:
    """Each sample beside the reference, and beside the first sample of each kind before it. Equality by math-verify is
    not transitive: what is right and what is wrong are never of a kind.
    """
    found: list[Sample] = []
    firsts: list[tuple[bool, str]] = []
    for text in texts:
        right = await equality.equal(question.boxed, text)
        kind = None
        for number, (is_right, first) in enumerate(firsts):
            if is_right == right and (text == first or await equality.equal(first, text)):
                kind = number
                break
        if kind is None:
            kind = len(firsts)
            firsts.append((right, text))
        found.append(Sample(right, exactly_equal(question.reference, text), kind))
    return Scored([*found, *([Sample()] * (samples - len(found)))], question.groups)


def _undecided(questions: Sequence[Question], answers: Answers, equality: MathsEquality) -> int:
    """Samples that could not be compared with the reference."""
    pairs = ((question.boxed, text) for question, its in zip(questions, answers.texts, strict=True) for text in its)
    return sum(equality.is_undecided(*pair) for pair in pairs)


def _evidence(sample: Sample, text: str | None) -> dict[str, Any]:
    shown = None if text is None else answer_shown(text)
    return {"answer": shown, "right": sample.right, "exact_match": sample.exact, "kind": sample.kind}
