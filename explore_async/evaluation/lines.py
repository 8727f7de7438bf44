"""Lines of a comparison: a row for each question, with both answers and all verdicts, and the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from explore_async.evaluation.figures import Judged
from explore_async.exploration.comparing import EQUAL
from explore_async.exploration.values import Event, Example, ExampleKept, PairJudged, TaskAdded
from explore_async.running.records import decision

ORDERS: Final = ("ab", "ba")
_POINTS: Final[Mapping[str, tuple[int, int]]] = {"win": (2, 0), "tie": (1, 1), "lose": (0, 2)}
"""Of both answers, by the outcome: an export as preferences makes pairs of answers by such scores."""


class ComparisonLines:
    """Owns the verdicts on questions that have not all of them. See `records.LineMaker`. `classes`: by their number."""

    def __init__(self, classes: Sequence[str], judges: Sequence[str]) -> None:
        self._classes = classes
        self._places = [(judge, order) for judge in judges for order in ORDERS]
        self._verdicts: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}

    def of(self, events: Sequence[Event], key: str | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        dataset: list[dict[str, Any]] = []
        decisions: list[dict[str, Any]] = []
        for event in events:
            match event:
                case TaskAdded():
                    pass
                case PairJudged(example_id=name, preferred=preferred, text=text):
                    line = decision(event, key)
                    decisions.append(line)
                    place = line["judge"], line["order"]
                    verdict = {"judge": place[0], "order": place[1], "preferred": preferred or None}
                    self._verdicts.setdefault(name, {})[place] = {**verdict, "text": text, "request": key}
                case ExampleKept(example=example, verdict=verdict_on_all):
                    is_asked = verdict_on_all.reason != EQUAL
                    dataset.append(self._row(example, verdict_on_all.reason if is_asked else "tie", is_asked=is_asked))
                    decisions.append(decision(event, dataset[-1]["verdicts"][0]["request"] if is_asked else None))
                case _:
                    decisions.append(decision(event, key))
        return dataset, decisions

    def _row(self, example: Example, outcome: str, *, is_asked: bool) -> dict[str, Any]:
        verdicts = self._verdicts.pop(example.id) if is_asked else {}
        points = _POINTS.get(outcome)
        answers: list[dict[str, Any]] = [
            {"output": answer.output, **({} if points is None else {"scores": {"points": points[answer.number]}})}
            for answer in example.answers
        ]
        return {
            "id": example.id,
            "task_id": example.task_id,
            "task_path": [self._classes[int(example.task_id)]],
            "instruction": example.instruction,
            "input": example.input,
            **(answers[1] if outcome == "lose" else answers[0]),
            "answers": answers,
            "outcome": outcome,
            "verdicts": [verdicts[place] for place in self._places if is_asked],
        }

    def state(self) -> dict[str, Any]:
        return {"verdicts": [[name, list(of.values())] for name, of in self._verdicts.items()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._verdicts = {name: {(one["judge"], one["order"]): one for one in of} for name, of in state["verdicts"]}


def judged_in(row: Mapping[str, Any]) -> Judged:
    """The verdicts of a row; none where nobody was asked."""
    preferred: dict[str, list[Any]] = {}
    for verdict in row["verdicts"]:
        preferred.setdefault(verdict["judge"], []).append(verdict["preferred"] or "")
    a, b = (len(answer["output"]) for answer in row["answers"])
    return Judged(row["task_path"][0], preferred, (a, b))
