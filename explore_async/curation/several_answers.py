"""The answers of an example that has several, each as an example of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from explore_async.curation.collections.collection import Collection, ExampleRow

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


def other_answers(example: Mapping[str, Any], source: Collection) -> list[Mapping[str, Any]]:
    """The answers beside the output that are good enough: no score is below the judge's threshold."""
    answers = _answers_of(example)
    threshold = _threshold(source) if answers else None
    own = next((answer for answer in answers if answer.get("request") == example.get("request")), None)
    return [answer for answer in answers if answer is not own and _passes(answer, threshold)]


def _threshold(source: Collection) -> float | None:
    """That of the last command that judged, as far as it is known; None where scores drop nothing."""
    settings = source.config.get("settings") or {}
    judge = settings.get("judge") if "judge" in settings else source.recipe.get("judge")
    threshold: float | None = (judge or {}).get("threshold")
    return threshold


def _answers_of(example: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """None in rows from elsewhere, whose columns of this name may hold anything."""
    answers = example.get(ANSWERS)
    if not isinstance(answers, list):
        return []
    return answers if all(isinstance(one, Mapping) and isinstance(one.get("output"), str) for one in answers) else []


def _passes(answer: Mapping[str, Any], threshold: float | None) -> bool:
    scores = answer.get("scores")
    return threshold is None or not isinstance(scores, Mapping) or min(scores.values(), default=threshold) >= threshold
