"""An example as a line of dataset.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from explore_async.exploration.values import Answer, Example


@dataclass(slots=True)
class MadeBy:
    """The keys of the requests that an example is made by. `answers` and `judgements` by the number of the answer."""

    instruction: str | None
    answers: dict[int, str | None] = field(default_factory=dict)
    judgements: dict[int, str | None] = field(default_factory=dict)


def example_line(example: Example, number: int, path: Sequence[str], system: str, made_by: MadeBy) -> dict[str, Any]:
    """The line of a kept example. `number`: of the answer that its output is. `path`: the names of its task and of
    those above it. `system`: the system prompt that answers are asked for with; may be empty.
    """
    line: dict[str, Any] = {
        "id": example.id,
        "task_id": example.task_id,
        "task_path": list(path),
        "instruction": example.instruction,
        "input": example.input,
        "output": example.output,
    }
    answered = made_by.answers.get(number)
    line |= example.source
    if answered is not None and system:
        line["system"] = system
    line["request"] = made_by.instruction if answered is None else answered
    if answered is not None:
        line["instruction_request"] = made_by.instruction
    scores = next((answer.scores for answer in example.answers if answer.number == number), {})
    if scores:
        line |= {"scores": scores, "judge_request": made_by.judgements[number]}
    if example.messages:
        line["messages"] = example.messages
    if len(made_by.answers) > 1:
        line["answers"] = [_answer_line(answer, made_by) for answer in example.answers]
    return line


def _answer_line(answer: Answer, made_by: MadeBy) -> dict[str, Any]:
    scores = {"scores": answer.scores} if answer.scores else {}
    return {"output": answer.output, **scores, "request": made_by.answers[answer.number]}
