"""The reviser finishes examples that exist: an instruction gets new answers, its answer gets scores, or its two answers
are compared. Sans-IO and deterministic, like the explorer, but without trees to grow and without quotas.

Examples come from outside, in their order, and their verdicts leave in the same order. So the reviser holds no more of
them than its window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from explore_async.exploration import checks
from explore_async.exploration.account import Account
from explore_async.exploration.comparing import EQUAL, Comparer
from explore_async.exploration.finishing import Finisher
from explore_async.exploration.kinds import ANSWER, Item, kinds_of
from explore_async.exploration.node import Node
from explore_async.exploration.outstanding import OutstandingRequests
from explore_async.exploration.quality_filters import quality_check
from explore_async.exploration.task_state import TaskState
from explore_async.exploration.values import (
    Event,
    Example,
    ExampleDropped,
    ExampleKept,
    Failure,
    Outcome,
    Request,
    RequestFailed,
    Task,
    TaskAdded,
    Verdict,
    example_of,
)
from explore_async.settings.comparing_recipe import ComparingRecipe
from explore_async.settings.recipe import Recipe
from rouge_kernels import TOKENIZERS

_NO_REQUEST = -1


class Given(NamedTuple):
    """An example that exists. `system`: the system prompt that it is answered under; may be empty."""

    example: Example
    system: str = ""


class _NoQuota:
    """Counts the examples of each task. See `finishing.Places`."""

    @staticmethod
    def began_one(account: Account) -> None:
        account.unfinished += 1

    @staticmethod
    def finished_one(account: Account, *, kept: bool) -> bool:
        account.unfinished -= 1
        account.kept += kept
        account.failed += not kept
        return False


class Reviser:
    """Owns the examples that are taken in and have no verdict yet, and the counts of their tasks.

    With `responses: separate` the recipe asks for answers, else for scores of those that are there; a `ComparingRecipe`
    asks which of an example's two answers is better. Its domains are the
    roots of `trees`, which are as tree.json has them. `examples`: those from a position on; `count`: all of them.
    `digest`: of the recipe and the examples. `votes`: see `Finisher`.
    """

    stage: Literal["revising"] = "revising"
    explored = True

    def __init__(
        self,
        recipe: Recipe,
        trees: Sequence[Mapping[str, Any]],
        examples: Callable[[int], Iterator[Given]],
        *,
        count: int,
        digest: str,
        votes: bool = False,
    ) -> None:
        self.recipe = recipe
        self.digest = digest
        self.window = recipe.window
        self._count = count
        self.tokens = 0
        self.token_budget = recipe.targets.token_budget
        self.stopped: Literal["complete"] | None = None
        check = quality_check(
            recipe.filters,
            TOKENIZERS[recipe.tokenizer],
            language=recipe.language,
            meaning=recipe.meaning,
            instructions=False,
        )
        self._finisher: Finisher | Comparer = Finisher(recipe, _NoQuota(), check, check, votes=votes)
        if isinstance(recipe, ComparingRecipe):
            self._finisher = Comparer(recipe, _NoQuota())
        self._requests = OutstandingRequests(recipe, {"finish": self.window // 8})
        self._kinds = kinds_of(recipe)
        self._roots = trees
        self._tasks: list[TaskState] = []
        self._by_id: dict[str, TaskState] = {}
        for domain, root in enumerate(trees):
            self._plant(domain, root)
        self._from = examples
        self._examples = examples(0)
        self._taken = 0
        self._moment = 0
        """Counts the requests of the examples that are taken in."""
        self._order: deque[str] = deque()
        """The ids of the examples that are taken in and not told of, in their order."""
        self._decided: dict[str, ExampleKept | ExampleDropped] = {}
        """Verdicts that wait for those of earlier examples."""
        self._systems: dict[str, str] = {}
        """By the id of an example whose answers are not all issued."""

    def _plant(self, domain: int, root: Mapping[str, Any]) -> None:
        waiting: deque[tuple[Mapping[str, Any], str | None]] = deque([(root, None)])
        while waiting:
            node, parent = waiting.popleft()
            task = Task(node["id"], node["name"], node["reason"], parent, node["depth"], node["origin"])
            account = Account(len(self._tasks), task.depth, None)
            state = TaskState(domain, Node(task, (), None, 0), account)
            self._tasks.append(state)
            self._by_id[task.id] = state
            waiting.extend((child, task.id) for child in node["children"])

    @property
    def planned_tasks(self) -> int:
        return len(self._tasks)

    @property
    def wanted(self) -> int:
        """Examples that are left, or may be."""
        return self._count - sum(task.dropped for task in self._tasks)

    @property
    def target(self) -> None:
        """None: it finishes what there is."""
        return None

    @property
    def unfinished(self) -> int:
        """Examples without a verdict."""
        return self._count - self._taken + len(self._order)

    def surplus(self) -> int:
        return 0

    @staticmethod
    def passages() -> dict[str, int]:
        return {}

    def seed_events(self) -> list[Event]:
        """The events that precede the first request."""
        return [*self.tasks(), *self._in_order([])]

    def tasks(self) -> list[Event]:
        """An event for every task."""
        return [TaskAdded(task.task, None) for task in self._tasks]

    # -- asking

    def next_request(self) -> Request | None:
        """Issues the next step of an example; a new example is taken in where none has one. None where there is none,
        or where the window is full of examples.
        """
        if self.stopped is not None:
            return None
        while not self._finisher.ready:
            if not self._take_in():
                return None
        step, task = self._finisher.take()
        if step.kind == ANSWER.name:
            step = step._replace(values={**step.values, "system": self._systems[step.about]})
            if step.turn == self.recipe.answers_per_instruction - 1:
                del self._systems[step.about]
        return self._requests.issue_step(step, task)

    def _take_in(self) -> bool:
        """Takes the next example in. False where there is none, or no room."""
        if len(self._order) >= self.window or (given := next(self._examples, None)) is None:
            return False
        example, task = given.example, self._task_of(given.example.task_id)
        self._taken += 1
        self._order.append(example.id)
        asks = self.recipe.responses == "separate"
        if not (example.instruction if asks else example.output).strip():
            self._decided[example.id] = self._without_request(task, example, "empty" if asks else "unanswered")
            return True
        if isinstance(self._finisher, Comparer) and self._finisher.is_tie(example):
            task.account.kept += 1
            self._decided[example.id] = ExampleKept(example, Verdict(kept=True, reason=EQUAL))
            return True
        if asks:
            self._systems[example.id] = given.system
        self._finisher.begin(task, example, Verdict(kept=True, reason="accepted"), self._moment, [])
        self._moment += self.recipe.steps_of_instruction
        return True

    def _without_request(self, task: TaskState, example: Example, reason: str) -> ExampleKept | ExampleDropped:
        """There is nothing to ask about the example. It stays where only scores are wanted, and none is required."""
        if self.recipe.judge is not None and self.recipe.judge.threshold is None and reason == "unanswered":
            task.account.kept += 1
            return ExampleKept(example, Verdict(kept=True, reason=reason))
        task.dropped += 1
        return ExampleDropped(task.task.id, _NO_REQUEST, Verdict(kept=False, reason=reason), example)

    def _task_of(self, task_id: str) -> TaskState:
        """The task, or the nearest above it that is in the trees: those of a run under way lag behind."""
        while task_id not in self._by_id:
            task_id = task_id.rpartition(".")[0]
        return self._by_id[task_id]

    # -- committing

    def commit(self, request: Request, outcome: Outcome) -> list[Event]:
        """Takes in the outcome and returns the events it leads to, in order. Called once for each request, by rising
        (due, ordinal).
        """
        task = self._by_id[request.task_id]
        self._requests.remove(request, task)
        events: list[Event] = []
        items: Sequence[Item] = ()
        if isinstance(outcome, Failure):
            events.append(RequestFailed(request.task_id, request.kind, request.ordinal, outcome))
            items = checks.fault(outcome)
        else:
            self.tokens += outcome.prompt_tokens + outcome.completion_tokens
            kind = self._kinds.get(request.kind)
            items = (checks.parse(outcome),) if kind is None else kind.parse(outcome, self.recipe)
        self._finisher.commit(task, request, items[0] if items else None, events)
        return self._in_order(events)

    def _in_order(self, events: Iterable[Event]) -> list[Event]:
        """The events, with the verdicts that are due; those before which one is missing wait for it."""
        now: list[Event] = []
        for event in events:
            if isinstance(event, ExampleKept | ExampleDropped) and event.example is not None:
                self._decided[event.example.id] = event
            else:
                now.append(event)
        while True:
            while self._order and self._order[0] in self._decided:
                now.append(self._decided.pop(self._order.popleft()))
            if self._order:
                return now
            if not self._take_in():
                self.stopped = "complete"
                return now

    # -- going on from a checkpoint

    @property
    def outstanding(self) -> list[Request]:
        """The requests that are issued and not committed, in the order of issue."""
        return self._requests.all()

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs beside the recipe and the examples, as JSON holds it."""
        return {
            "requests": self._requests.state({task.task.id: task.account.index for task in self._tasks}),
            "finisher": self._finisher.state(),
            "tasks": [[task.account.state(), task.dropped] for task in self._tasks],
            "tokens": self.tokens,
            "stopped": self.stopped,
            "taken": self._taken,
            "moment": self._moment,
            "order": list(self._order),
            "decided": [[type(event).__name__, event] for event in self._decided.values()],
            "systems": dict(self._systems),
        }

    def restore(self, state: Mapping[str, Any], kept: Iterable[Example]) -> None:
        """Brings a new reviser to the `state` of another of the same recipe and examples. `kept` is read to its end and
        not needed.
        """
        deque(kept, maxlen=0)
        for task, (account, dropped) in zip(self._tasks, state["tasks"], strict=True):
            task.account.restore(account)
            task.dropped = dropped
        self._finisher.restore(state["finisher"], self._tasks)
        self._requests.restore(state["requests"], self._tasks)
        self.tokens, self.stopped = state["tokens"], state["stopped"]
        self._taken, self._moment = state["taken"], state["moment"]
        self._order, self._systems = deque(state["order"]), dict(state["systems"])
        for name, fields in state["decided"]:
            event = _EVENTS[name](
                **{**fields, "example": example_of(fields["example"]), "verdict": Verdict(**fields["verdict"])}
            )
            self._decided[fields["example"]["id"]] = event
        self._examples = self._from(self._taken)

    def trees(self) -> list[dict[str, Any]]:
        """The trees, each task with the counts of its examples so far."""

        def document(node: Mapping[str, Any]) -> dict[str, Any]:
            task = self._by_id[node["id"]]
            children = [document(child) for child in node["children"]]
            return {**node, "kept": task.account.kept, "dropped": task.dropped, "children": children}

        return [document(root) for root in self._roots]


_EVENTS: dict[str, Callable[..., ExampleKept | ExampleDropped]] = {
    "ExampleKept": ExampleKept,
    "ExampleDropped": ExampleDropped,
}
