"""The trees of a run and their tasks: what is planted, what completions add to it, and which openings can be issued."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from explore_async.exploration.allocation import Allocation
from explore_async.exploration.choice import sample
from explore_async.exploration.corpus import Corpus
from explore_async.exploration.earlier_strategy import EarlierExploreInstruct
from explore_async.exploration.kinds import Item
from explore_async.exploration.node import Node
from explore_async.exploration.parsing import ProposedTask, Unreadable
from explore_async.exploration.pool import Pool
from explore_async.exploration.rules import Rules
from explore_async.exploration.sharding import ShardOfRun
from explore_async.exploration.strategy import Strategy, StrategyFactory
from explore_async.exploration.task_state import TaskState
from explore_async.exploration.values import (
    Demonstration,
    Event,
    Request,
    Task,
    TaskAdded,
    TaskDropped,
    Verdict,
    split_of,
)
from explore_async.settings.recipe import Domain, Recipe, SeedExample, SeedTask

_MOST_CHARACTERS_IN_A_NAME = 200


class Forest:
    """Owns the trees of all domains, their tasks in the order in which they were added, and the names that new tasks
    have to differ from. It opens an account for each task.
    """

    def __init__(
        self, recipe: Recipe, rules: Rules, allocation: Allocation, shard: ShardOfRun, strategy: StrategyFactory
    ) -> None:
        self._recipe = recipe
        self._rules = rules
        self._allocation = allocation
        self._shard = shard
        self._has_pools = recipe.generation.demonstrations_from == "pool"
        self.tasks: list[TaskState] = []
        self.by_id: dict[str, TaskState] = {}
        self.seed_events: list[Event] = []
        """The events that precede the first request."""
        self.trees: dict[int, Strategy] = {}
        """By the number of the domain; a shard may have some of the domains only."""
        self._names: dict[int, Corpus] = {}
        self.to_open: deque[TaskState] = deque()
        """Tasks whose opening can be issued."""
        for index, domain in enumerate(recipe.domains):
            if shard.explores(str(index)):
                self._plant(index, domain, strategy)

    @property
    def finished(self) -> bool:
        """True when all trees are complete, as far as they may grow before the deal."""
        return all(tree.finished for tree in self.trees.values())

    @property
    def ready(self) -> bool:
        """True when a request can be issued before another outcome comes."""
        return bool(self.to_open) or any(tree.ready for tree in self.trees.values())

    def domain_to_explore(self, outstanding: Sequence[int]) -> int | None:
        """The domain with the fewest exploration requests outstanding, so that several trees grow side by side; None
        where none can be issued. `outstanding`: these requests, by domain.
        """
        ready = [domain for domain, tree in self.trees.items() if tree.ready]
        return min(ready, key=outstanding.__getitem__, default=None)

    def planned(self) -> list[int]:
        """The number of tasks that each depth is going to have, an upper bound while the trees grow."""
        planned = [sum(depths) for depths in zip(*(tree.planned() for tree in self.trees.values()), strict=True)]
        return self._shard.with_undealt(planned)

    # -- growing

    def take(self, task: TaskState, request: Request, items: Sequence[Item], events: list[Event]) -> None:
        """Takes in the sub-tasks that a completion brought for the task, and appends the events."""
        tree, node = self.trees[task.domain], task.node
        asked_for = min(int(request.prompt.values["count"]), node.room)
        added: list[Node] = []
        for item in items:
            assert isinstance(item, ProposedTask | Unreadable), "a kind that brings tasks parses tasks"
            verdict = self._judge(task, item, room=asked_for - len(added))
            if verdict.kept and isinstance(item, ProposedTask):
                child = tree.add_child(node, item, request.kind)
                added.append(child)
                events.append(self._welcome(task.domain, child, request.ordinal))
            else:
                dropped = ProposedTask(item.excerpt) if isinstance(item, Unreadable) else item
                events.append(TaskDropped(node.task.id, dropped.name, request.ordinal, verdict, dropped.criterion))
        tree.answered(node, brought=added)

    def opened(self, task: TaskState) -> None:
        """The opening of the task is committed: its children can be shown its examples."""
        task.opened = True
        tree = self.trees[task.domain]
        if isinstance(tree, EarlierExploreInstruct):
            tree.opened(task.node)
            return
        for child in task.node.children:
            if child.task.origin != "seed":
                self._prepare(self.by_id[child.task.id], task)

    def deal(self) -> None:
        """Deals the sub-trees among the shards, when all that lies above them is explored."""
        self._shard.deal(list(self.by_id))
        self._allocation.share_out(self._shard.examples)
        own = [task for task in self.tasks if self._shard.is_own(task.task.id)]
        for task in own:
            self._allocation.take_over(task.account)
            if not self._shard.is_top(task.task.depth) and not task.opened and self._is_prepared(task):
                self.to_open.append(task)
        for domain, tree in self.trees.items():
            tree.release([task.node for task in own if task.domain == domain and self._shard.is_root(task.task.id)])

    def _judge(self, task: TaskState, item: ProposedTask | Unreadable, *, room: int) -> Verdict:
        if isinstance(item, Unreadable):
            return Verdict(kept=False, reason=item.reason)
        if len(item.name) > _MOST_CHARACTERS_IN_A_NAME:
            return Verdict(kept=False, reason="too_long")
        if room <= 0:
            return Verdict(kept=False, reason="surplus")
        task_id = f"{task.task.id}.{len(task.node.children)}"
        return self._names[task.domain].admit(item.name, task_id)

    def _plant(self, index: int, domain: Domain, strategy: StrategyFactory) -> None:
        """A domain's tree with its root and seed tasks."""
        settings = self._recipe.exploration
        tree = strategy(Task(str(index), domain.name, domain.description, None, 0, "seed"), settings)
        if not self._shard.is_dealt:
            tree.hold(self._shard.level)
        self.trees[index] = tree
        self._names[index] = Corpus(self._recipe.filters.task_threshold, self._recipe.tokenizer)
        waiting: deque[tuple[Node, SeedTask | None]] = deque([(tree.root, None)])
        while waiting:
            node, seed = waiting.popleft()
            self._names[index].add([(node.task.name, node.task.id)])
            self.seed_events.append(self._welcome(index, node, None, seed.examples if seed is not None else ()))
            below = () if settings.depth == 0 else domain.tasks if seed is None else seed.tasks
            waiting.extend(
                (tree.add_child(node, ProposedTask(child.name, child.reason), "seed"), child) for child in below
            )
        tree.start()

    def _welcome(
        self, domain: int, node: Node, request_ordinal: int | None, seeds: Sequence[SeedExample] = ()
    ) -> TaskAdded:
        """Takes in a new task, with its account."""
        parent = self.by_id[node.parent.task.id] if node.parent is not None else None
        gets_none = self._recipe.targets.cap_at(node.task.depth) == 0
        task = TaskState(
            domain,
            node,
            self._allocation.open(
                node.task.depth,
                parent.account if parent is not None else None,
                is_own=self._shard.is_own(node.task.id),
            ),
            opening=_demonstrations(seeds),
            opened=gets_none,
        )
        self.tasks.append(task)
        self.by_id[node.task.id] = task
        if node.task.origin == "seed" or parent is None or parent.opened or not self._rules.opens_beside_tree:
            self._prepare(task, parent)
        return TaskAdded(node.task, request_ordinal)

    def _prepare(self, task: TaskState, parent: TaskState | None) -> None:
        """Fixes, for good, what the prompts of the task show; from now on its opening can be issued."""
        of_domain = _demonstrations(self._recipe.domains[task.domain].examples)
        given = task.opening or (*(parent.opening if parent is not None else ()), *of_domain)
        count, parts = self._recipe.generation.demonstrations, (self._recipe.seed, "demonstrations", task.task.id)
        task.demonstrations = sample(given, count, *parts)
        if self._has_pools:
            task.pool = Pool(given, count, *parts)
        if self._rules.opens_beside_tree and not task.opened and self._shard.opens(task.task.id):
            self.to_open.append(task)

    def _is_prepared(self, task: TaskState) -> bool:
        parent = task.node.parent
        return task.task.origin == "seed" or parent is None or self.by_id[parent.task.id].opened

    # -- going on from a checkpoint

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs beside the recipe, as JSON holds it."""
        return {
            "trees": [tree.state() for tree in self.trees.values()],
            "is_dealt": self._shard.is_dealt,
            "subjects": [task.state() for task in self.tasks],
            "to_open": [task.account.index for task in self.to_open],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Brings a new forest to the `state` of another of the same recipe."""
        for fields in state["subjects"][len(self.tasks) :]:
            parent = self.by_id[fields["parent"]]
            if not self._shard.is_dealt and not self._shard.is_top(parent.task.depth):
                self.deal()  # the first task below those that are dealt
            tree = self.trees[parent.domain]
            proposed = ProposedTask(*(fields[name] for name in ("name", "reason", "criterion")))
            node = tree.add_child(parent.node, proposed, fields["origin"])
            self._welcome(parent.domain, node, None)
            self._names[parent.domain].add([(node.task.name, node.task.id)])
        if state["is_dealt"] and not self._shard.is_dealt:
            self.deal()
        for task, fields in zip(self.tasks, state["subjects"], strict=True):
            task.restore(fields)
        for tree, fields in zip(self.trees.values(), state["trees"], strict=True):
            tree.restore(fields)
        self.to_open = deque(self.tasks[index] for index in state["to_open"])

    # -- shown

    def documents(self) -> list[dict[str, Any]]:
        """The trees as nested dicts, each task with the counts of its examples so far."""

        def document(node: Node) -> dict[str, Any]:
            task, account = self.by_id[node.task.id], self.by_id[node.task.id].account
            return {
                "id": node.task.id,
                "name": node.task.name,
                "reason": node.task.reason,
                "origin": node.task.origin,
                **split_of(node.task),
                **({"facets": {one.criterion: list(one.values) for one in task.facets}} if task.facets else {}),
                "depth": node.task.depth,
                "kept": account.kept,
                "dropped": task.dropped,
                "answers": account.answered,
                "exhausted": account.exhausted,
                **self._shard.told(node.task.id),
                "children": [document(child) for child in node.children],
            }

        return [document(tree.root) for tree in self.trees.values()]


def _demonstrations(examples: Sequence[SeedExample]) -> tuple[Demonstration, ...]:
    return tuple(Demonstration(example.instruction, example.input, example.output) for example in examples)
