"""Shards: the tasks and the examples that one of several processes explores and makes, so that all together make a run.

Whole sub-trees are dealt, by digest. Their roots are the tasks of the highest level that has one for each shard: the
domains themselves, where there are as many. What lies above, the top of the trees, every shard explores alike; its
tasks are dealt one by one, so that each task gets its examples in one shard. Pure: a deal depends on the recipe and on
the ids of the tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, product
from typing import Any

from explore_async.exploration.choice import draw
from explore_async.exploration.kinds import KINDS
from explore_async.exploration.levels import level
from explore_async.exploration.values import Request
from explore_async.settings.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a run that a shard has.

    `owners`: the shard, from 1, of each task of the top and of each root of a sub-tree, by its id. `examples`,
    `token_budget`: its part of the recipe's, which may be 0; None where the recipe has none.
    """

    owners: Mapping[str, int]
    examples: int | None
    token_budget: int | None


class Sharding:
    """Deals the tasks of a recipe that has a `shard`."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.index, self.shards = recipe.shard_numbers
        self._counts = recipe.most_tasks
        self.level = next(depth for depth, tasks in enumerate(self._counts) if tasks >= self.shards)
        """The depth of the roots of the sub-trees that are dealt; 0 where domains are."""

    def is_top(self, depth: int) -> bool:
        """True for a task above the sub-trees, which every shard explores."""
        return depth < self.level

    def root_of(self, task_id: str) -> str:
        """The id of the task that was dealt: its own, or that of the root of its sub-tree."""
        return ".".join(task_id.split(".")[: self.level + 1])

    def deal(self, tasks: Sequence[str]) -> Share:
        """The share of this shard. `tasks`: the ids of the top and of the roots of all sub-trees that there are."""
        roots = self._by_lot(task for task in tasks if task.count(".") == self.level)
        above = self._by_lot(task for task in tasks if self.is_top(task.count(".")))
        places = count()  # one after the other, so that those with a sub-tree less get the tasks of the top first
        owners = {task: next(places) % self.shards + 1 for task in (*roots, *above)}
        weights = [0] * self.shards
        for task, owner in owners.items():
            weights[owner - 1] += self._weight(task.count("."))
        targets = self._recipe.targets
        return Share(owners, self._part(targets.examples, weights), self._part(targets.token_budget, weights))

    def expected(self) -> Share:
        """The share if every task gets as many sub-tasks as it may have."""
        return self.deal([task for depth in range(self.level + 1) for task in self._ids_at(depth)])

    def tasks_of(self, share: Share) -> list[int]:
        """The number of tasks that this shard generates for, by depth, if every task gets all its sub-tasks."""
        tasks = [0] * len(self._counts)
        for task, owner in share.owners.items():
            if owner == self.index:
                for depth, number in self._planned_below(task.count(".")):
                    tasks[depth] += number
        return tasks

    def _by_lot(self, tasks: Iterable[str]) -> list[str]:
        return sorted(tasks, key=lambda task: (draw(self._recipe.seed, "shard", task), task))

    def _ids_at(self, depth: int) -> list[str]:
        breadths = map(self._recipe.exploration.breadth_at, range(depth))
        return [".".join(map(str, path)) for path in product(range(self._counts[0]), *map(range, breadths))]

    def _planned_below(self, depth: int) -> list[tuple[int, int]]:
        """(depth, number of tasks) of what is dealt with a task: itself alone, or its sub-tree."""
        if self.is_top(depth):
            return [(depth, 1)]
        return [(below, self._counts[below] // self._counts[depth]) for below in range(depth, len(self._counts))]

    def _weight(self, depth: int) -> int:
        """The examples that what is dealt with a task would get in a run without shards."""
        targets = self._recipe.targets
        caps = [targets.cap_at(below) for below in range(len(self._counts))]
        height = 0 if targets.only_budget is None else 1
        if targets.examples is not None:
            height = level(targets.examples, zip(caps, self._counts, strict=True), at_most=False)
        full = [height if cap is None else cap if targets.examples is None else min(cap, height) for cap in caps]
        return sum(number * full[below] for below, number in self._planned_below(depth))

    def _part(self, total: int | None, weights: Sequence[int]) -> int | None:
        """The part of this shard. The parts of all shards add up to `total`, whatever the rounding."""
        if total is None:
            return None
        weights = weights if any(weights) else [1] * self.shards
        whole = sum(weights)
        up_to = [total * reached // whole for reached in accumulate(weights, initial=0)]
        return up_to[self.index] - up_to[self.index - 1]


class ShardOfRun:
    """Owns what an explorer knows of its shard: whether the sub-trees are dealt already, and which are its own.

    Without a `shard` in the recipe everything is its own. Domains are dealt at once, other sub-trees when all that lies
    above them is explored.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._sharding = Sharding(recipe) if recipe.shard else None
        self._share: Share | None = None
        self._others: list[int] = []
        """Tasks of the trees that are those of other shards, by depth."""
        self._expected: list[int] = []
        """Its own tasks before the deal, by depth, as far as they can be expected."""
        self.examples, self.token_budget = recipe.targets.examples, recipe.targets.token_budget
        self.level = 0
        """The depth of the roots of the sub-trees that are dealt."""
        if self._sharding is not None:
            self.level = self._sharding.level
            share = self._sharding.expected()
            self._take(share)
            self._expected = self._sharding.tasks_of(share)
            if self.level:
                self._share = None

    def _take(self, share: Share) -> None:
        self._share = share
        self.examples, self.token_budget = share.examples, share.token_budget

    @property
    def is_dealt(self) -> bool:
        return self._sharding is None or self._share is not None

    def deal(self, tasks: Sequence[str]) -> None:
        """Deals the sub-trees. `tasks`: the ids of all tasks that there are."""
        assert self._sharding is not None, "a whole run has nothing to deal"
        self._take(self._sharding.deal([task for task in tasks if task.count(".") <= self.level]))
        self._others = [0] * len(self._expected)
        for task in tasks:
            self._others[task.count(".")] += not self.is_own(task)

    def explores(self, domain: str) -> bool:
        """True where it has the tree of this domain, or some of it."""
        return self.level > 0 or self.is_own(domain)

    def is_top(self, depth: int) -> bool:
        """True for a task above the sub-trees, which every shard explores."""
        return depth < self.level

    def is_root(self, task_id: str) -> bool:
        return task_id.count(".") == self.level

    def is_own(self, task_id: str) -> bool:
        """True where the task gets its examples in this shard."""
        if self._sharding is None:
            return True
        return self._share is not None and self._owner(task_id) == self._sharding.index

    def opens(self, task_id: str) -> bool:
        """True where it makes the opening of the task, for its examples or for what the tasks below it are shown."""
        return self.is_top(task_id.count(".")) or self.is_own(task_id)

    def own(self, planned: list[int]) -> list[int]:
        """Its own tasks, by depth, of those that the trees are going to have."""
        if not self.is_dealt:
            return self._expected
        return (
            [all_of - others for all_of, others in zip(planned, self._others, strict=True)] if self._others else planned
        )

    def with_undealt(self, planned: list[int]) -> list[int]:
        """The tasks that the trees are going to have, by depth; `planned` before the deal: without those below it."""
        if self.is_dealt:
            return planned
        return [*planned[: self.level + 1], *self._expected[self.level + 1 :]]

    def told(self, task_id: str) -> dict[str, Any]:
        """The shard of a task that is not its own, for tree.json."""
        return {} if not self.is_dealt or self.is_own(task_id) else {"shard": self._owner(task_id)}

    def _owner(self, task_id: str) -> int | None:
        assert self._share is not None, "it is dealt"
        assert self._sharding is not None, "it has a shard"
        return self._share.owners.get(self._sharding.root_of(task_id))


def shard_name(shard: str) -> str:
    """The name of the run directory of a shard (I/N) in the directory of the run: names are in the order of numbers."""
    index, _, shards = shard.partition("/")
    return f"shard-{index.zfill(len(shards))}-of-{shards}"


def is_shared(recipe: Recipe, request: Request) -> bool:
    """True for a request that all shards make alike: for the sub-tasks, the facets or the opening of a task of the
    top.
    """
    if not recipe.shard or not Sharding(recipe).is_top(request.task_id.count(".")) or request.about:
        return False
    return KINDS[request.kind].brings in {"tasks", "facets"} or request.turn == 0
