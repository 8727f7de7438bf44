"""The explorer decides which request is worth asking next, and what its outcome leads to. Sans-IO and deterministic.

Its two verbs are `next_request` and `commit`. It depends on the recipe and on the outcomes committed, in the order of
their due; never on time. docs/architecture.md explains why exploration has a part of the window of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from explore_async.exploration.allocation import Allocation
from explore_async.exploration.choice import sample
from explore_async.exploration.corpus import Corpus
from explore_async.exploration.explore_instruct import ExploreInstruct
from explore_async.exploration.judging import ExampleJudge
from explore_async.exploration.kinds import GENERATE, KINDS, Item, RequestKind
from explore_async.exploration.node import Node
from explore_async.exploration.outstanding import OutstandingRequests
from explore_async.exploration.parsing import ExampleDraft, ProposedTask, Unreadable
from explore_async.exploration.strategy import Strategy, StrategyFactory
from explore_async.exploration.task_state import TaskState
from explore_async.exploration.turns import TurnPolicy
from explore_async.exploration.values import (
    Demonstration,
    Event,
    Example,
    Failure,
    Outcome,
    Request,
    RequestFailed,
    Task,
    TaskAdded,
    TaskDropped,
    Verdict,
)
from explore_async.settings.recipe import Domain, Recipe, SeedExample, SeedTask

StopReason = Literal["target", "token_budget", "complete"]

_MOST_CHARACTERS_IN_A_NAME = 200


class Explorer:
    """Owns the trees, the accounts and the corpora of a run."""

    def __init__(
        self,
        recipe: Recipe,
        known: Sequence[tuple[str, str]] = (),
        *,
        strategy: StrategyFactory = ExploreInstruct,
        turns: TurnPolicy | None = None,
    ) -> None:
        """`known`: texts, each with its id, that instructions have to differ from: those of `recipe.against`.

        `strategy` grows the tree of each domain; `turns` says which task is generated for next, by default the one with
        the fewest examples.
        """
        self.recipe = recipe
        self.window = recipe.window
        self.tokens = 0
        self.stopped: StopReason | None = None
        self._exploring_places = max(1, recipe.window // 4)
        self._requests = OutstandingRequests(recipe)
        self._allocation = Allocation(recipe.targets, recipe.generation, turns)
        self._judge = ExampleJudge(recipe, self._allocation, known)
        self._tasks: list[TaskState] = []
        self._by_id: dict[str, TaskState] = {}
        self._seed_events: list[Event] = []
        self._trees: list[Strategy] = []
        self._names: list[Corpus] = []
        for index, domain in enumerate(recipe.domains):
            self._plant(index, domain, strategy)
        self._replan()

    # -- asking

    @property
    def explored(self) -> bool:
        """True when all trees are complete."""
        return all(tree.finished for tree in self._trees)

    @property
    def is_over(self) -> bool:
        """True when nothing more is going to be issued or committed."""
        return self.stopped is not None or not (
            len(self._requests) or any(tree.ready for tree in self._trees) or self._allocation.next() is not None
        )

    @property
    def kept(self) -> int:
        return self._allocation.kept

    @property
    def planned_tasks(self) -> int:
        """The number of tasks that the trees are going to have; an upper bound while they grow."""
        return sum(self._planned())

    @property
    def wanted(self) -> int:
        """The number of examples that the run is going to keep, as far as quotas decide; smaller as tasks run dry."""
        return self._allocation.wanted(self._planned())

    def seed_events(self) -> list[Event]:
        """The events that precede the first request."""
        return list(self._seed_events)

    def next_request(self) -> Request | None:
        """Issues the request that is worth asking now, after all that is committed and issued; None when none is.

        Exploration (openings, lookaheads, backtracks) may hold a quarter of the window and generation the rest, or all
        of it once the trees are complete. So exploration does not depend on what is generated beside it.
        """
        if self.stopped is not None:
            return None
        if len(self._requests.exploring) < self._exploring_places:
            domain = self._domain_to_explore()
            if domain is not None:
                kind, node = self._trees[domain].take()
                return self._issue(kind, self._by_id[node.task.id], exploring=True)
        reserved = 0 if self.explored else self._exploring_places
        if len(self._requests.generating) < self.window - reserved:
            account = self._allocation.next()
            if account is not None:
                return self._issue(GENERATE, self._tasks[account.index], exploring=False)
        return None

    def _domain_to_explore(self) -> int | None:
        """The domain with the fewest exploration requests outstanding, so that several trees grow side by side."""
        ready = [domain for domain, tree in enumerate(self._trees) if tree.ready]
        return min(ready, key=self._requests.exploring_in.__getitem__, default=None)

    def _issue(self, kind: RequestKind, task: TaskState, *, exploring: bool) -> Request:
        generates = kind.brings == "examples"
        turn = self._allocation.issued(task.account) if generates else task.asked.get(kind.name, 0)
        task.asked[kind.name] = turn + 1
        return self._requests.issue(kind, task, turn, exploring=exploring)

    # -- committing

    def commit(self, request: Request, outcome: Outcome) -> list[Event]:
        """Takes in the outcome and returns the events it leads to, in order. Called once for each request, by rising
        (due, ordinal).
        """
        task, kind = self._by_id[request.task_id], KINDS[request.kind]
        exploring = self._requests.remove(request, task)
        events: list[Event] = []
        items: Sequence[Item] = ()
        if isinstance(outcome, Failure):
            events.append(RequestFailed(request.task_id, request.kind, request.ordinal, outcome))
        else:
            self.tokens += outcome.prompt_tokens + outcome.completion_tokens
            items = kind.parse(outcome, self.recipe.answer_format, self.recipe.meaning)
        if kind.brings == "tasks":
            self._take_tasks(task, request, items, events)
        else:
            passed = self._judge.take(task, request, items, events)
            if exploring:
                task.opening = (*task.opening, *passed)
                self._trees[task.domain].opened(task.node)
        if self._replan():
            self._judge.judge_waiting(events)
        self._stop_where_due()
        return events

    def _take_tasks(self, task: TaskState, request: Request, items: Sequence[Item], events: list[Event]) -> None:
        tree, node = self._trees[task.domain], task.node
        asked_for = min(int(request.prompt.values["count"]), node.room)
        added: list[Node] = []
        for item in items:
            assert not isinstance(item, ExampleDraft), "a kind that brings tasks parses tasks"
            verdict = self._judge_task(task, item, room=asked_for - len(added))
            if verdict.kept and isinstance(item, ProposedTask):
                child = tree.add_child(node, item.name, item.reason, request.kind)
                added.append(child)
                events.append(self._welcome(task.domain, child, request.ordinal))
            else:
                name = item.excerpt if isinstance(item, Unreadable) else item.name
                events.append(TaskDropped(node.task.id, name, request.ordinal, verdict))
        tree.answered(node, brought=added)

    def _judge_task(self, task: TaskState, item: ProposedTask | Unreadable, *, room: int) -> Verdict:
        if isinstance(item, Unreadable):
            return Verdict(kept=False, reason=item.reason)
        if len(item.name) > _MOST_CHARACTERS_IN_A_NAME:
            return Verdict(kept=False, reason="too_long")
        if room <= 0:
            return Verdict(kept=False, reason="surplus")
        task_id = f"{task.task.id}.{len(task.node.children)}"
        return self._names[task.domain].admit(item.name, task_id)

    # -- the shape of the run

    def _plant(self, index: int, domain: Domain, strategy: StrategyFactory) -> None:
        """A domain's tree with its root and seed tasks."""
        settings = self.recipe.exploration
        opens = tuple(self.recipe.targets.cap_at(depth) != 0 for depth in range(settings.depth + 1))
        tree = strategy(Task(str(index), domain.name, domain.description, None, 0, "seed"), settings, opens=opens)
        self._trees.append(tree)
        self._names.append(Corpus(self.recipe.filters.task_threshold, self.recipe.tokenizer))
        waiting: deque[tuple[Node, SeedTask | None]] = deque([(tree.root, None)])
        while waiting:
            node, seed = waiting.popleft()
            self._names[index].add([(node.task.name, node.task.id)])
            self._seed_events.append(self._welcome(index, node, None, seed.examples if seed is not None else ()))
            below = () if settings.depth == 0 else domain.tasks if seed is None else seed.tasks
            waiting.extend((tree.add_child(node, child.name, child.reason, "seed"), child) for child in below)
        tree.start()

    def _welcome(
        self, domain: int, node: Node, request_ordinal: int | None, seeds: Sequence[SeedExample] = ()
    ) -> TaskAdded:
        """Opens the account of a new task and fixes, for good, what its prompts show."""
        parent = self._by_id[node.parent.task.id] if node.parent is not None else None
        own = _demonstrations(seeds)
        of_domain = _demonstrations(self.recipe.domains[domain].examples)
        task = TaskState(
            domain,
            node,
            self._allocation.open(node.task.depth),
            sample(
                own or (*(parent.opening if parent is not None else ()), *of_domain),
                self.recipe.generation.demonstrations,
                *(self.recipe.seed, "demonstrations", node.task.id),
            ),
            opening=own,
        )
        self._tasks.append(task)
        self._by_id[node.task.id] = task
        return TaskAdded(node.task, request_ordinal)

    def _replan(self) -> bool:
        return self._allocation.plan(self._planned(), explored=self.explored)

    def _planned(self) -> list[int]:
        return [sum(depths) for depths in zip(*(tree.planned() for tree in self._trees), strict=True)]

    def _stop_where_due(self) -> None:
        budget = self.recipe.targets.token_budget
        if self._allocation.target_reached:
            self.stopped = "target"
        elif budget is not None and self.tokens >= budget:
            self.stopped = "token_budget"
        elif self.explored and not len(self._requests) and self._allocation.next() is None:
            self.stopped = "complete"

    # -- going on from a checkpoint

    @property
    def outstanding(self) -> list[Request]:
        """The requests that are issued and not committed, in the order of issue."""
        return self._requests.all()

    def tasks(self) -> list[Event]:
        """An event for every task, in the order in which they were added."""
        return [TaskAdded(task.task, None) for task in self._tasks]

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs beside the recipe and the kept examples, as JSON holds it."""
        requests = self._requests.state({task.task.id: index for index, task in enumerate(self._tasks)})
        return {
            "ordinal": requests["ordinal"],
            "tokens": self.tokens,
            "stopped": self.stopped,
            "level": self._allocation.level,
            "trees": [tree.state() for tree in self._trees],
            "subjects": [task.state() for task in self._tasks],
            "exploring": requests["exploring"],
            "generating": requests["generating"],
        }

    def restore(self, state: dict[str, Any], kept: Iterable[Example]) -> None:
        """Brings a new explorer to the `state` of another of the same recipe, which has kept these examples, in order.

        From there on both issue, decide and report the same. `kept` needs no ordinals.
        """
        for fields in state["subjects"][len(self._tasks) :]:
            parent = self._by_id[fields["parent"]]
            tree = self._trees[parent.domain]
            node = tree.add_child(parent.node, fields["name"], fields["reason"], fields["origin"])
            self._welcome(parent.domain, node, None)
            self._names[parent.domain].add([(node.task.name, node.task.id)])
        for task, fields in zip(self._tasks, state["subjects"], strict=True):
            task.restore(fields)
        for tree, fields in zip(self._trees, state["trees"], strict=True):
            tree.restore(fields)
        self._allocation.restore(state["level"])
        self.tokens, self.stopped = state["tokens"], state["stopped"]
        self._requests.restore(state, self._tasks)
        self._judge.restore(self._tasks, kept)

    def surplus(self) -> int:
        """The number of examples that are read and not decided, because their task has its quota."""
        return self._judge.surplus()

    def trees(self) -> list[dict[str, Any]]:
        """The trees as nested dicts, each task with the counts of its examples so far."""

        def document(node: Node) -> dict[str, Any]:
            task, account = self._by_id[node.task.id], self._by_id[node.task.id].account
            return {
                "id": node.task.id,
                "name": node.task.name,
                "reason": node.task.reason,
                "origin": node.task.origin,
                "depth": node.task.depth,
                "kept": account.kept,
                "dropped": task.dropped,
                "answers": account.answered,
                "exhausted": account.exhausted,
                "children": [document(child) for child in node.children],
            }

        return [document(tree.root) for tree in self._trees]


def _demonstrations(examples: Sequence[SeedExample]) -> tuple[Demonstration, ...]:
    return tuple(Demonstration(example.instruction, example.input, example.output) for example in examples)
