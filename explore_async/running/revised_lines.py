"""Lines of a revision: the rows of its source with a new answer or with scores, and the evidence on each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from explore_async.curation.collections.collection import ExampleRow
from explore_async.curation.collections.conversations import OF_ANSWERS, conversation_of
from explore_async.exploration.final_answers import vote_of
from explore_async.exploration.revising import Given
from explore_async.exploration.values import (
    Answer,
    AnswerChecked,
    AnswerJudged,
    AnswerScored,
    Event,
    Example,
    ExampleDropped,
    ExampleKept,
    InstructionKept,
    TaskAdded,
)
from explore_async.running.records import decision
from explore_async.settings.revision import MadeBy

_PLACES: Final = ("id", "task_id", "task_path", "instruction", "input")
_OF_SCORES: Final = ("scores", "judge_request")
_OF_ANSWERS: Final = ("request", "instruction_request", *_OF_SCORES, "answers", "vote", "earlier_output")
"""The columns that rows of ours have beside an output."""


@dataclass(slots=True)
class _Keys:
    """Keys of the requests about an example, by the number of the answer. `latest`: of those that decided last."""

    answers: dict[int, str] = field(default_factory=dict)
    judgements: dict[int, str] = field(default_factory=dict)
    latest: dict[int, str] = field(default_factory=dict)


class RevisedLines:
    """Owns the rows of the examples that have no verdict yet. See `records.LineMaker`.

    `system`: the system prompt of all answers; None takes that of each row. `votes`: rows say how their answers voted.
    """

    def __init__(self, made_by: MadeBy, system: str | None, *, votes: bool = False) -> None:
        self._made_by: MadeBy = made_by
        self._system = system
        self._votes = votes
        self._rows: dict[str, ExampleRow] = {}
        self._keys: dict[str, _Keys] = {}

    def given(self, rows: Iterable[ExampleRow]) -> Iterator[Given]:
        """The rows as the reviser takes them; each stays here until its verdict."""
        for row in rows:
            self._rows[row["id"]] = row
            texts = (row["instruction"], row["input"], row["output"])
            yield Given(Example(row["id"], row["task_id"], 0, *texts), self._system_of(row))

    def _system_of(self, row: ExampleRow) -> str:
        if self._made_by == "rate" or self._system is not None:
            return self._system or ""
        talk = conversation_of(row)
        first = None if talk is None else talk.turns[0]
        return first.text if first is not None and first.part == "system" else ""

    def of(self, events: Sequence[Event], key: str | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        dataset: list[dict[str, Any]] = []
        decisions: list[dict[str, Any]] = []
        for event in events:
            match event:
                case TaskAdded() | InstructionKept():
                    pass  # the source decided on them
                case AnswerJudged() | AnswerChecked() | AnswerScored():
                    assert key is not None, "an outcome led to it"
                    self._note(event, key)
                    decisions.append(decision(event, key))
                case ExampleKept(example=example, answer=number):
                    row, keys = self._rows.pop(example.id), self._keys.pop(example.id, _Keys())
                    dataset.append(self._line(row, example, number, keys))
                    decisions.append(decision(event, keys.latest.get(number)))
                case ExampleDropped(example=Example(id=name)):
                    del self._rows[name]
                    decisions.append(decision(event, self._keys.pop(name, _Keys()).latest.get(0)))
                case _:
                    decisions.append(decision(event, key))
        return dataset, decisions

    def _note(self, event: AnswerJudged | AnswerChecked | AnswerScored, key: str) -> None:
        keys = self._keys.setdefault(event.example_id, _Keys())
        keys.latest[event.number] = key
        if isinstance(event, AnswerJudged):
            keys.answers[event.number] = key
        elif isinstance(event, AnswerScored):
            keys.judgements[event.number] = key

    def _line(self, row: ExampleRow, example: Example, number: int, keys: _Keys) -> dict[str, Any]:
        chosen = next((answer for answer in example.answers if answer.number == number), None)
        scored = {}
        if chosen is not None and chosen.scores:
            scored = {"scores": chosen.scores, "judge_request": keys.judgements[number]}
        if self._made_by == "rate":
            return {**_others(row, _OF_SCORES), **scored}
        line: dict[str, Any] = {**{name: row[name] for name in _PLACES}, "output": example.output}
        if system := self._system_of(row):
            line["system"] = system
        line["request"] = keys.answers[number]
        if (asked := row.get("instruction_request") or row.get("request")) is not None:
            line["instruction_request"] = asked
        line |= scored
        if len(keys.answers) > 1:
            line["answers"] = [_answer_line(answer, keys) for answer in example.answers]
        if self._votes:
            line["vote"] = vote_of({answer.number: answer.output for answer in example.answers}).line
        if row["output"].strip():
            line["earlier_output"] = row["output"]
        talk = conversation_of(row)
        left_out = {*line, *OF_ANSWERS, *(() if talk is None else talk.columns)}
        return {**line, **{name: value for name, value in _others(row, _OF_ANSWERS).items() if name not in left_out}}

    def state(self) -> dict[str, Any]:
        return {
            "rows": list(self._rows.values()),
            "keys": [
                [name, *(list(of.items()) for of in (keys.answers, keys.judgements, keys.latest))]
                for name, keys in self._keys.items()
            ],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._rows = {row["id"]: row for row in state["rows"]}
        self._keys = {name: _Keys(*map(dict, of)) for name, *of in state["keys"]}


def _answer_line(answer: Answer, keys: _Keys) -> dict[str, Any]:
    scores = {"scores": answer.scores} if answer.scores else {}
    return {"output": answer.output, **scores, "request": keys.answers[answer.number]}


def _others(row: ExampleRow, ours: Sequence[str]) -> dict[str, Any]:
    """The row without these columns of ours. A row from elsewhere keeps what it has under such a name, as imported."""
    others = {name: value for name, value in row.items() if name not in ours}
    theirs = {name: row[name] for name in ours if name in row and row[name] is not None}
    if theirs and not isinstance(row.get("request"), str):
        others["imported"] = {**row.get("imported", {}), **theirs}
    return others
