"""The steps by which a kept instruction becomes an example, where it has requests of its own.

A step is a line of the evidence on the instruction, on an answer or on its scores, with its request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from explore_async.curation.collections.collection import Collection
from explore_async.exploration.json_items import document_in
from explore_async.exploration.parsing import (
    AnswerDraft,
    ExampleDraft,
    Format,
    Unreadable,
    parse_answer,
    parse_examples,
    parse_instructions,
    without_reasoning,
)
from explore_async.exploration.values import Completion
from explore_async.settings.recipe import MEANING
from explore_async.storage.completions import StoredReader
from explore_async.storage.rows import StoredRequest

ENDS: Final = ("task", "example")
"""The lines of evidence that say whether something is kept for good; others with an id are about a step to that."""
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Step:
    """A line of evidence on an instruction or an answer. `stored`: its request; None where it is not there any more."""

    line: Mapping[str, Any]
    stored: StoredRequest | None

    @property
    def what(self) -> str:
        return str(self.line.get("what"))

    @property
    def scores(self) -> Mapping[str, Any]:
        """The judge's, by aspect; empty where it gave none."""
        scores = self.line.get("scores")
        return scores if isinstance(scores, Mapping) else {}

    @property
    def answer(self) -> str:
        """The text of an answer, or the beginning of one that cannot be used; empty where its completion holds none."""
        if self.what != "answer" or self.stored is None or not isinstance(self.stored.outcome, Completion):
            return ""
        item = parse_answer(self.stored.outcome)
        return item.text if isinstance(item, AnswerDraft) else item.excerpt

    @property
    def why(self) -> str:
        """The reason that a judge gave for its scores, or a check for its verdict; empty where there is none."""
        if self.what == "check":
            return str(self.line.get("detail") or "")
        if self.what != "scores" or self.stored is None or not isinstance(self.stored.outcome, Completion):
            return ""
        document = document_in(without_reasoning(self.stored.outcome.text))
        reason = document.get("reason") if document else None
        return reason if isinstance(reason, str) else ""


def read_steps(source: Collection, lines: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """These lines of evidence with their requests."""
    return tuple(_with_requests(source, lines))


def _with_requests(source: Collection, lines: Iterable[Mapping[str, Any]]) -> Iterator[Step]:
    remaining = iter(lines)
    first = next(remaining, None)
    if first is None:
        return
    remaining = iter([first, *remaining])
    if source.completions is None:
        yield from (Step(line, None) for line in remaining)
        return
    with StoredReader(source.completions) as reader:
        while some := list(islice(remaining, _AT_ONCE)):
            stored = reader.get_many([key for line in some if isinstance(key := line.get("request"), str)])
            yield from (Step(line, stored.get(str(line.get("request")))) for line in some)


def draft_of_steps(source: Collection, steps: Sequence[Step]) -> ExampleDraft | None:
    """The example that did not come of an instruction, with its first answer; None without steps."""
    begun = next((step for step in steps if step.what == "instruction"), None)
    if begun is None:
        return None
    answered = next((step.answer for step in steps if step.what == "answer"), None)
    if answered is None and begun.stored is not None:
        draft = draft_in(source, begun.line, begun.stored)
        answered = "" if draft is None else draft.output
    return ExampleDraft(str(begun.line.get("instruction")), str(begun.line.get("input") or ""), answered or "")


def draft_in(source: Collection, decision: Mapping[str, Any], stored: StoredRequest) -> ExampleDraft | None:
    """The example of a decision in the completion that brought it, as the rules of its run read it."""
    if stored.kind == "answer":
        return ExampleDraft(str(decision.get("instruction")), "", Step({"what": "answer"}, stored).answer)
    drafts = [item for item in items_in(source, stored) if isinstance(item, ExampleDraft)]
    return next((draft for draft in drafts if draft.instruction == decision.get("instruction")), None)


def items_in(source: Collection, stored: StoredRequest) -> Sequence[ExampleDraft | Unreadable]:
    """The examples, or the instructions alone, in a completion."""
    if not isinstance(stored.outcome, Completion):
        return ()
    recipe = source.recipe
    parse = parse_instructions if recipe.get("responses") == "separate" else parse_examples
    answer_format: Format = recipe.get("answer_format", "json")
    return parse(stored.outcome, answer_format, recipe.get("meaning", MEANING))


def answers_of_dropped(source: Collection, lines: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """By the id of an example: its answers, each with its number, text, scores, and the reason why it was dropped."""
    answers: dict[str, dict[Any, dict[str, Any]]] = {}
    for step in _with_requests(source, lines):
        number = step.line.get("answer")
        answer = answers.setdefault(str(step.line.get("id")), {}).setdefault(number, {"answer": number})
        answer["reason"] = step.line.get("reason")
        if step.what == "answer":
            answer["output"] = step.answer
        if step.scores:
            answer["scores"] = dict(step.scores)
        if step.why:
            answer["why"] = step.why
    return {example: list(by_number.values()) for example, by_number in answers.items()}
