"""The answers of an example that has several, each as an example of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from explore_async.curation.collections.collection import Collection, ExampleRow


class Unpaired(Protocol):
    """Counts examples that make no pair."""

    unpaired: int


ANSWERS: Final = "answers"
"""The column of a row with all its answers, its output among them."""

_OF_THE_BEST: Final = frozenset({ANSWERS, "scores", "judge_request", "messages"})
"""Columns that say nothing of the other answers."""


def with_all_answers(examples: Iterator[ExampleRow], source: Collection) -> Iterator[ExampleRow]:
    """Each example without the column, and after it one for each of its `other_answers`, with its id, a slash and a
    number from 2.
    """
    for example in examples:
        yield {name: value for name, value in example.items() if name != ANSWERS}
        shared = {name: value for name, value in example.items() if name not in _OF_THE_BEST}
        for number, answer in enumerate(other_answers(example, source), start=2):
            yield {**shared, **answer, "id": f"{example['id']}/{number}"}


def in_pairs(examples: Iterator[ExampleRow], losses: Unpaired) -> Iterator[ExampleRow]:
    """Examples with several scored answers as pairs: `chosen` is the output, `rejected` the answer of another text with
    the lowest sum of scores, the first of equal ones. One without an answer of another text and a lower sum is left
    out, and counted. Others stay.
    """
    for example in examples:
        answers = [answer for answer in answers_of(example) if _scores_of(answer)]
        if not answers:
            yield example
            continue
        chosen = example["output"].strip()
        others = [answer for answer in answers if answer["output"].strip() != chosen]
        worst = min(others, key=_total, default=None)
        if worst is not None and _total(worst) < _total(example):
            pair = {"chosen": example["output"], "rejected": worst["output"]}
            yield {**{name: value for name, value in example.items() if name not in {ANSWERS, "messages"}}, **pair}
        else:
            losses.unpaired += 1


def _total(scored: Mapping[str, Any]) -> float:
    return sum(_scores_of(scored))


def _scores_of(scored: Mapping[str, Any]) -> list[float]:
    """None in rows from elsewhere, where the column may hold anything."""
    scores = scored.get("scores")
    return [score for score in scores.values() if type(score) in {int, float}] if isinstance(scores, Mapping) else []


def other_answers(example: Mapping[str, Any], source: Collection) -> list[Mapping[str, Any]]:
    """The answers beside the output that are good enough: no score is below the judge's threshold."""
    answers = answers_of(example)
    threshold = _threshold(source) if answers else None
    is_own = (all(answer.get(name) == example.get(name) for name in ("output", "request")) for answer in answers)
    own = next((answer for answer, is_it in zip(answers, is_own, strict=True) if is_it), None)
    return [answer for answer in answers if answer is not own and _passes(answer, threshold)]


def _threshold(source: Collection) -> float | None:
    """That of the last command that judged, as far as it is known; None where scores drop nothing."""
    settings = source.config.get("settings") or {}
    judge = settings.get("judge") if "judge" in settings else source.recipe.get("judge")
    threshold: float | None = (judge or {}).get("threshold")
    return threshold


def answers_of(example: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """None in rows from elsewhere, whose columns of this name may hold anything."""
    answers = example.get(ANSWERS)
    if not isinstance(answers, list):
        return []
    return answers if all(isinstance(one, Mapping) and isinstance(one.get("output"), str) for one in answers) else []


def _passes(answer: Mapping[str, Any], threshold: float | None) -> bool:
    return threshold is None or min(_scores_of(answer), default=threshold) >= threshold
