"""Brings kept instructions to examples, by requests of their own: answers, the user's checks, and a judge's scores.

A kept instruction takes a place of its task's quota. Each of its requests is a step, and which step follows depends on
the outcomes of the earlier ones alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol

from explore_async.exploration import checks, prompt_values
from explore_async.exploration.account import Account
from explore_async.exploration.kinds import ANSWER, JUDGE, Item
from explore_async.exploration.parsing import AnswerDraft, Checked, ExampleDraft, Scores, Unreadable
from explore_async.exploration.task_state import TaskState
from explore_async.exploration.values import (
    Answer,
    AnswerChecked,
    AnswerJudged,
    AnswerScored,
    Demonstration,
    Event,
    Example,
    ExampleDropped,
    ExampleKept,
    InstructionKept,
    Request,
    TaskExhausted,
    Verdict,
    example_of,
)
from explore_async.settings.recipe import Recipe

_JUDGEMENTS: Final = 3
"""Times that a judge is asked about an answer before it counts as one that cannot be read."""
_PASSED: Final = Verdict(kept=True, reason="accepted")


class Step(NamedTuple):
    """A request about a kept instruction that is not issued yet. `after`: the due of the one that led to it."""

    kind: str
    about: str
    turn: int
    values: dict[str, Any]
    after: int


@dataclass(slots=True)
class _Answer:
    """An answer to an instruction: `verdict` is None until it is decided."""

    text: str = ""
    verdict: Verdict | None = None
    scores: Mapping[str, int] = field(default_factory=dict)
    checked: int = 0
    """Checks that have looked at it."""

    @property
    def is_kept(self) -> bool:
        return self.verdict is not None and self.verdict.kept


@dataclass(slots=True)
class _Unfinished:
    """A kept instruction with its answers so far."""

    example: Example
    verdict: Verdict
    answers: list[_Answer]


class Places(Protocol):
    """Counts the instructions of each task that are taken on, and what became of them."""

    def began_one(self, account: Account) -> None:
        """An instruction is taken on."""

    def finished_one(self, account: Account, *, kept: bool) -> bool:
        """It is an example, or dropped. Returns True when its task is exhausted by that."""


class Finisher:
    """Owns the kept instructions that are no examples yet, and the steps that wait to be issued.

    `reason_to_drop`: the quality filters, given an example as a draft and the demonstrations of its prompt.
    """

    def __init__(
        self,
        recipe: Recipe,
        places: Places,
        reason_to_drop: Callable[[ExampleDraft, Sequence[Demonstration]], str | None],
    ) -> None:
        self._recipe = recipe
        self._places = places
        self._reason_to_drop = reason_to_drop
        self._unfinished: dict[str, _Unfinished] = {}
        self._waiting: deque[tuple[Step, TaskState]] = deque()

    def __len__(self) -> int:
        """Kept instructions that are no examples yet."""
        return len(self._unfinished)

    @property
    def ready(self) -> bool:
        """True when a step waits to be issued."""
        return bool(self._waiting)

    def take(self) -> tuple[Step, TaskState]:
        """The step to issue now, and its task."""
        return self._waiting.popleft()

    def begin(self, task: TaskState, example: Example, verdict: Verdict, due: int, events: list[Event]) -> None:
        """Takes in an instruction that is new. `due`: of the request that brought it."""
        events.append(InstructionKept(example, verdict))
        self._places.began_one(task.account)
        count = self._recipe.answers_per_instruction if self._recipe.responses == "separate" else 1
        one = self._unfinished[example.id] = _Unfinished(example, verdict, [_Answer() for _ in range(count)])
        for number, answer in enumerate(one.answers):
            if self._recipe.responses == "joint":
                answer.text = example.output
                self._go_on(task, one, number, due)
            else:
                values = prompt_values.for_answer(self._recipe, task, example.instruction, example.input)
                self._waiting.append((Step(ANSWER.name, example.id, number, values, due), task))

    def _go_on(self, task: TaskState, one: _Unfinished, number: int, due: int) -> None:
        """The answer has passed so far: the next check looks at it, then the judge, and then it is kept."""
        answer = one.answers[number]
        if answer.checked < len(self._recipe.checks):
            turn = number + answer.checked * len(one.answers)
            values = checks.values_for(self._recipe, task, one.example, answer.text, answer.checked)
            self._waiting.append((Step(checks.KIND, one.example.id, turn, values, due), task))
        elif self._recipe.judge is not None:
            self._judge(task, one, number, 0, due)
        else:
            answer.verdict = _PASSED

    def _judge(self, task: TaskState, one: _Unfinished, number: int, attempt: int, due: int) -> None:
        example = one.example
        values = prompt_values.for_judge(self._recipe, example.instruction, example.input, one.answers[number].text)
        turn = number + attempt * len(one.answers)
        self._waiting.append((Step(JUDGE.name, example.id, turn, values, due), task))

    def commit(self, task: TaskState, request: Request, item: Item | None, events: list[Event]) -> bool:
        """Takes in the outcome of a step. `item`: of its completion; None where there is none. Returns True when the
        instruction becomes no example, so that its place is free again.
        """
        one = self._unfinished[request.about]
        number = request.turn % len(one.answers)
        if request.kind == ANSWER.name:
            self._take_answer(task, one, number, request, item, events)
        elif request.kind == checks.KIND:
            self._take_check(task, one, number, request, item, events)
        else:
            self._take_scores(task, one, number, request, item, events)
        if any(answer.verdict is None for answer in one.answers):
            return False
        self._finish(task, one, request, events)
        return not any(answer.is_kept for answer in one.answers)

    def _take_answer(  # noqa: PLR0917 - the parts of one step
        self, task: TaskState, one: _Unfinished, number: int, request: Request, item: Item | None, events: list[Event]
    ) -> None:
        answer, example = one.answers[number], one.example
        reason: str | None = "failed"
        if isinstance(item, Unreadable):
            reason = item.reason
        elif isinstance(item, AnswerDraft):
            answer.text = item.text
            draft = ExampleDraft(example.instruction, example.input, item.text)
            reason = self._reason_to_drop(draft, task.demonstrations)
        verdict = _PASSED if reason is None else Verdict(kept=False, reason=reason)
        events.append(AnswerJudged(example.id, task.task.id, number, request.ordinal, verdict))
        if verdict.kept:
            self._go_on(task, one, number, request.due)
        else:
            answer.verdict = verdict

    def _take_check(  # noqa: PLR0917 - the parts of one step
        self, task: TaskState, one: _Unfinished, number: int, request: Request, item: Item | None, events: list[Event]
    ) -> None:
        answer = one.answers[number]
        name = self._recipe.checks[answer.checked].name
        if isinstance(item, Checked):
            verdict, detail = (_PASSED if item.ok else Verdict(kept=False, reason=f"check:{name}")), item.reason
        else:
            verdict, detail = Verdict(kept=False, reason="not_checked"), "" if item is None else "its answer is no JSON"
        events.append(AnswerChecked(one.example.id, task.task.id, number, request.ordinal, name, verdict, detail))
        answer.checked += 1
        if verdict.kept:
            self._go_on(task, one, number, request.due)
        else:
            answer.verdict = verdict

    def _take_scores(  # noqa: PLR0917 - the parts of one step
        self, task: TaskState, one: _Unfinished, number: int, request: Request, item: Item | None, events: list[Event]
    ) -> None:
        assert self._recipe.judge is not None
        answer, threshold = one.answers[number], self._recipe.judge.threshold
        if isinstance(item, Scores):
            answer.scores = item.of
            enough = threshold is None or min(item.of.values()) >= threshold
            answer.verdict = _PASSED if enough else Verdict(kept=False, reason="low_score")
        else:
            attempt = request.turn // len(one.answers) + 1
            if attempt < _JUDGEMENTS:
                self._judge(task, one, number, attempt, request.due)
                return
            answer.verdict = Verdict(kept=threshold is None, reason="not_judged")
        events.append(
            AnswerScored(one.example.id, task.task.id, number, request.ordinal, answer.scores, answer.verdict)
        )

    def _finish(self, task: TaskState, one: _Unfinished, request: Request, events: list[Event]) -> None:
        """All its answers are decided: it is an example, by its best answer, or dropped for the reason of the first."""
        del self._unfinished[one.example.id]
        passed = [number for number, answer in enumerate(one.answers) if answer.is_kept]
        if passed:
            best = max(passed, key=lambda number: sum(one.answers[number].scores.values()))  # the first of equal ones
            answers = tuple(
                Answer(number, answer.text, answer.scores)
                for number, answer in enumerate(one.answers)
                if answer.is_kept or answer.scores
            )
            example = replace(one.example, output=one.answers[best].text, answers=answers)
            events.append(ExampleKept(example, one.verdict, best))
        else:
            first = one.answers[0]
            assert first.verdict is not None
            task.dropped += 1
            example = replace(one.example, output=first.text)
            events.append(ExampleDropped(task.task.id, request.ordinal, first.verdict, example))
        if self._places.finished_one(task.account, kept=bool(passed)):
            events.append(TaskExhausted(task.task.id))

    # -- checkpoints

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs, as JSON holds it."""
        return {
            "unfinished": [[one.example, one.verdict, one.answers] for one in self._unfinished.values()],
            "waiting": [[step.kind, task.account.index, *step[1:]] for step, task in self._waiting],
        }

    def restore(self, state: Mapping[str, Any], tasks: Sequence[TaskState]) -> None:
        """Brings a new one to this state. `tasks` by number, all restored."""
        for example, verdict, answers in state["unfinished"]:
            one = _Unfinished(example_of(example), Verdict(**verdict), [_answer(fields) for fields in answers])
            self._unfinished[one.example.id] = one
        for name, index, about, turn, values, after in state["waiting"]:
            self._waiting.append((Step(name, about, turn, values, after), tasks[index]))


def _answer(fields: Mapping[str, Any]) -> _Answer:
    verdict = fields["verdict"]
    return _Answer(fields["text"], None if verdict is None else Verdict(**verdict), fields["scores"], fields["checked"])
