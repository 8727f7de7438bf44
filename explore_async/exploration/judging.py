"""Decides about examples: by quality filters at once, by comparison with the corpus when their task has room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, islice

from explore_async.exploration.allocation import Allocation
from explore_async.exploration.corpus import Corpora
from explore_async.exploration.finishing import Finisher
from explore_async.exploration.kinds import Item
from explore_async.exploration.parsing import ExampleDraft, Unreadable
from explore_async.exploration.passages import source_of
from explore_async.exploration.quality_filters import quality_check
from explore_async.exploration.task_state import TaskState
from explore_async.exploration.values import (
    Demonstration,
    Event,
    Example,
    ExampleDropped,
    ExampleKept,
    ExamplesWait,
    Request,
    TaskExhausted,
    Verdict,
)
from explore_async.settings.recipe import Recipe
from rouge_kernels import TOKENIZERS

_TELLS_WAITING = 4
"""The version of the rules since which an example that waits for its verdict keeps the key of its own request."""
_RESTORED_AT_ONCE = 4096


class ExampleJudge:
    """Owns the corpora of instructions, and the tasks with examples that wait for room.

    `known`: texts with their ids that all instructions have to differ from.
    """

    def __init__(self, recipe: Recipe, allocation: Allocation, known: Sequence[tuple[str, str]]) -> None:
        seeds = [[example.instruction for example in domain.all_examples()] for domain in recipe.domains]
        self.corpora = Corpora(recipe.filters, recipe.tokenizer, seeds, known)
        self._allocation = allocation
        tokenize = TOKENIZERS[recipe.tokenizer]
        check = partial(quality_check, tokenize=tokenize, language=recipe.language, meaning=recipe.meaning)
        self._is_separate = recipe.responses == "separate"
        self._reason_to_drop = check(recipe.filters, outputs=not self._is_separate)
        self._reason_not_to_show = check(recipe.filters)
        """For completions with outputs where instructions alone are wanted: the tasks below are shown what the run that
        asked for outputs showed them, so that its completions serve there too.
        """
        self.finisher = None
        if recipe.steps_of_instruction:
            self.finisher = Finisher(
                recipe, allocation, check(recipe.filters), check(recipe.filters, instructions=False)
            )
        """Takes new instructions on; None where the first completion holds all of an example."""
        self._tells_waiting = recipe.meaning >= _TELLS_WAITING or self.finisher is not None
        self._tells_copies = allocation.stops_covered
        self._with_waiting: dict[int, TaskState] = {}

    def take(
        self, task: TaskState, request: Request, items: Sequence[Item], events: list[Event]
    ) -> list[Demonstration]:
        """Decides about the items of a completion, as far as the task's quota allows, and counts the request.

        Appends the events. Returns the examples that passed the quality filters, kept or not.
        """
        passed: list[Example] = []
        for index, item in enumerate(items):
            judged_item = self._filtered(task, request, index, item)
            if isinstance(judged_item, Example):
                passed.append(judged_item)
            else:
                events.append(judged_item)
        dropped_at_once = len(items) - len(passed)
        task.dropped += dropped_at_once
        task.waiting.extend(passed)
        found_before = task.account.found
        decided = self._judge(task, request.due, events)
        if self._tells_waiting and (waiting := min(len(passed), len(task.waiting))):
            events.append(ExamplesWait(task.task.id, request.ordinal, waiting))
        judged = dropped_at_once + decided
        if self._allocation.committed(
            task.account,
            asked_for=request.prompt.values["count"],
            judged=judged if passed else max(judged, 1),
            kept=task.account.found - found_before,
            waiting=len(passed) - decided,
        ):
            covered = self._allocation.is_covered(task.account)
            events.append(TaskExhausted(task.task.id, task.account.harvest.coverage if covered else None))
        shown = request.prompt.values["demonstrations"]
        if self._is_separate and (whole := _with_outputs(items)):
            return [_shown(item) for item in whole if self._reason_not_to_show(item, shown) is None]
        return [_shown(example) for example in passed]

    def judge_waiting(self, due: int, events: list[Event]) -> None:
        """Decides about waiting examples after the quota has risen, before more are asked for. `due`: of the request
        whose commit it is.
        """
        for index in sorted(self._with_waiting):
            self._judge_waiting_of(self._with_waiting[index], due, events)

    def refill(self, task: TaskState, due: int, events: list[Event]) -> None:
        """Decides about waiting examples for a place that is free again: of its task, else of any that has room. Others
        have waited only where the run had as many as it is to have.
        """
        self._judge_waiting_of(task, due, events)
        for index in sorted(self._with_waiting) if self._allocation.lacks_one else ():
            self._judge_waiting_of(self._with_waiting[index], due, events)
            if not self._allocation.lacks_one:
                return

    def _judge_waiting_of(self, task: TaskState, due: int, events: list[Event]) -> None:
        found_before = task.account.found
        if decided := self._judge(task, due, events):
            self._allocation.judged_later(task.account, judged=decided, kept=task.account.found - found_before)

    def surplus(self) -> int:
        """The number of examples that wait because their task has its quota."""
        return sum(len(task.waiting) for task in self._with_waiting.values())

    def restore(self, tasks: Iterable[TaskState], kept: Iterable[Example]) -> None:
        """Takes over the waiting examples of restored tasks, and the examples kept before, in their order."""
        self._with_waiting = {task.account.index: task for task in tasks if task.waiting}
        remaining = iter(kept)
        while batch := list(islice(remaining, _RESTORED_AT_ONCE)):
            for corpus, examples in groupby(batch, lambda example: self.corpora.of(example.task_id)):
                corpus.add([(example.instruction, example.id) for example in examples])

    def _filtered(self, task: TaskState, request: Request, index: int, item: Item) -> Example | ExampleDropped:
        """The example if it passes the quality filters, else the event that it is dropped."""
        task_id = task.task.id
        if isinstance(item, Unreadable):
            return ExampleDropped(
                task_id, request.ordinal, Verdict(kept=False, reason=item.reason), excerpt=item.excerpt
            )
        assert isinstance(item, ExampleDraft), "a kind that brings examples parses examples"
        if self._is_separate:
            item = replace(item, output="")
        example = Example(
            *(f"{task_id}-{request.turn}.{index}", task_id, request.ordinal),
            *(item.instruction, item.input, item.output),
            source=source_of(request.prompt.values),
        )
        reason = self._reason_to_drop(item, request.prompt.values["demonstrations"])
        if reason is None:
            return example
        return ExampleDropped(task_id, request.ordinal, Verdict(kept=False, reason=reason), example)

    def _judge(self, task: TaskState, due: int, events: list[Event]) -> int:
        """Decides about waiting examples, in order, up to the task's quota; returns how many."""
        corpus = self.corpora.of(task.task.id)
        account = task.account
        waiting_before = len(task.waiting)
        while task.waiting and (room := self._allocation.room(account)) > 0:
            examples = [task.waiting.popleft() for _ in range(min(room, len(task.waiting)))]
            verdicts = corpus.admit_all([(example.instruction, example.id) for example in examples])
            for example, verdict in zip(examples, verdicts, strict=True):
                if self._tells_copies:
                    account.harvest.compare(_nearest_in(task.task.id, verdict))
                if verdict.kept and self.finisher is not None:
                    self.finisher.begin(task, example, verdict, due, events)
                elif verdict.kept:
                    self._allocation.kept_one(account)
                    events.append(ExampleKept(example, verdict))
                else:
                    task.dropped += 1
                    events.append(ExampleDropped(example.task_id, example.request_ordinal, verdict, example))
        if task.waiting:
            self._with_waiting[account.index] = task
        else:
            self._with_waiting.pop(account.index, None)
        return waiting_before - len(task.waiting)


def _nearest_in(task_id: str, verdict: Verdict) -> str | None:
    """The kept instruction that the verdict names, without its task; empty where it belongs to another task."""
    if verdict.kept:
        return None
    of_task, _, number = (verdict.nearest or "").rpartition("-")
    return number if of_task == task_id else ""


def _with_outputs(items: Sequence[Item]) -> list[ExampleDraft]:
    return [item for item in items if isinstance(item, ExampleDraft) and item.output]


def _shown(example: Example | ExampleDraft) -> Demonstration:
    return Demonstration(example.instruction, example.input, example.output)
