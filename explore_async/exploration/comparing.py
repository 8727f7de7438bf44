"""Compares two answers to a question: each judge is asked in both orders. The pure part of `judge`."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

from explore_async.exploration import prompt_values
from explore_async.exploration.finishing import Places, Step
from explore_async.exploration.kinds import Item
from explore_async.exploration.parsing import Preference, Unreadable
from explore_async.exploration.task_state import TaskState
from explore_async.exploration.values import (
    Event,
    Example,
    ExampleKept,
    PairJudged,
    Request,
    Verdict,
    example_of,
)
from explore_async.settings.comparing_recipe import ComparingRecipe

Preferred: TypeAlias = Literal["a", "b", "tie", ""]
"""The dataset whose answer a verdict prefers; empty where it could not be read."""
PairOutcome: TypeAlias = Literal["win", "tie", "lose", "invalid"]
"""The outcome of a question for the first dataset, `a`."""
EQUAL: Final = "equal_answers"
"""The reason of the verdict on a question that is a tie without being asked."""

_JUDGEMENTS: Final = 3
"""Times that a judge is asked about two answers in one order before it counts as one that cannot be read."""
_ORDERS: Final = 2
_PREFERRED: Final[Mapping[str, tuple[Preferred, Preferred]]] = {
    "first": ("a", "b"),
    "second": ("b", "a"),
    "tie": ("tie", "tie"),
}
"""By the place of the better answer in the prompt: the dataset that it is of, in each order."""


def outcome_of(preferred: Sequence[Preferred]) -> PairOutcome:
    """The outcome of a judge's two verdicts. Where the orders disagree, it is a tie; without one of them, invalid."""
    if "" in preferred:
        return "invalid"
    if len(set(preferred)) > 1 or preferred[0] == "tie":
        return "tie"
    return "win" if preferred[0] == "a" else "lose"


def panel_outcome(outcomes: Iterable[PairOutcome]) -> PairOutcome:
    """The outcome of most judges, of those whose verdicts could be read; a tie where no outcome leads."""
    counts = Counter(outcome for outcome in outcomes if outcome != "invalid").most_common(2)
    if not counts:
        return "invalid"
    return counts[0][0] if len(counts) == 1 or counts[0][1] > counts[1][1] else "tie"


def are_equal(example: Example) -> bool:
    """True where both answers have the same text, but for white space around it."""
    a, b = (answer.output.strip() for answer in example.answers)
    return a == b


@dataclass(slots=True)
class _Question:
    """A question whose verdicts are not all there. `preferred`: by the numbers of judge and order."""

    example: Example
    preferred: dict[tuple[int, int], Preferred]


class Comparer:
    """Owns the questions that judges are asked about, and the steps that wait to be issued. See `finishing.Finisher`.

    A question is an example with two answers, of dataset `a` and of `b`.
    """

    def __init__(self, recipe: ComparingRecipe, places: Places) -> None:
        self._kinds = recipe.kind_names
        self._asks_about_equal = recipe.asks_about_equal
        self._places = places
        self._questions: dict[str, _Question] = {}
        self._waiting: deque[tuple[Step, TaskState]] = deque()

    @property
    def ready(self) -> bool:
        return bool(self._waiting)

    def take(self) -> tuple[Step, TaskState]:
        return self._waiting.popleft()

    def is_tie(self, example: Example) -> bool:
        """True for a question that no judge is asked about, as a reader could see no difference between its answers."""
        return not self._asks_about_equal and are_equal(example)

    def begin(self, task: TaskState, example: Example, verdict: Verdict, due: int, events: list[Event]) -> None:
        """Takes in a question, and asks all judges about it in both orders."""
        del verdict, events
        self._places.began_one(task.account)
        self._questions[example.id] = _Question(example, {})
        for judge in range(len(self._kinds)):
            for order in range(_ORDERS):
                self._ask(task, example, (judge, order, 0), due)

    def _ask(self, task: TaskState, example: Example, place: tuple[int, int, int], due: int) -> None:
        """`place`: the numbers of the judge, of the order, and of the earlier requests with both."""
        judge, order, attempt = place
        a, b = (answer.output for answer in example.answers)
        first, second = (b, a) if order else (a, b)
        values = prompt_values.for_comparison(example.instruction, example.input, first, second)
        step = Step(self._kinds[judge], example.id, attempt * _ORDERS + order, values, due)
        self._waiting.append((step, task))

    def commit(self, task: TaskState, request: Request, item: Item | None, events: list[Event]) -> bool:
        """Takes in a verdict. One that cannot be read is asked for again, and then the question is invalid."""
        question, judge = self._questions[request.about], self._kinds.index(request.kind)
        attempt, order = divmod(request.turn, _ORDERS)
        if isinstance(item, Unreadable) and attempt + 1 < _JUDGEMENTS:
            self._ask(task, question.example, (judge, order, attempt + 1), request.due)
            return False
        preferred: Preferred = ""
        text, verdict = "", Verdict(kept=False, reason="failed")
        if isinstance(item, Preference):
            preferred, text = _PREFERRED[item.better][order], item.text
            verdict = Verdict(kept=True, reason="read")
        elif isinstance(item, Unreadable):
            text, verdict = item.excerpt, Verdict(kept=False, reason="not_judged")
        question.preferred[judge, order] = preferred
        about = request.about, task.task.id, request.kind, order, request.ordinal
        events.append(PairJudged(*about, preferred, text, verdict))
        if len(question.preferred) == _ORDERS * len(self._kinds):
            self._finish(task, question, events)
        return False

    def _finish(self, task: TaskState, question: _Question, events: list[Event]) -> None:
        del self._questions[question.example.id]
        outcomes = [
            outcome_of([question.preferred[judge, order] for order in range(_ORDERS)])
            for judge in range(len(self._kinds))
        ]
        events.append(ExampleKept(question.example, Verdict(kept=True, reason=panel_outcome(outcomes))))
        self._places.finished_one(task.account, kept=True)

    # -- checkpoints

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs, as JSON holds it. It shares nothing with what later commits change."""
        return {
            "questions": [
                [replace(one.example), [[*place, preferred] for place, preferred in one.preferred.items()]]
                for one in self._questions.values()
            ],
            "waiting": [[step.kind, task.account.index, *step[1:]] for step, task in self._waiting],
        }

    def restore(self, state: Mapping[str, Any], tasks: Sequence[TaskState]) -> None:
        """Brings a new one to this state. `tasks` by number, all restored."""
        for fields, preferred in state["questions"]:
            example = example_of(fields)
            by_place = {(judge, order): which for judge, order, which in preferred}
            self._questions[example.id] = _Question(example, by_place)
        for name, index, about, turn, values, after in state["waiting"]:
            self._waiting.append((Step(name, about, turn, values, after), tasks[index]))
