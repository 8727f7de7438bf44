"""A task as the explorer knows it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from explore_async.exploration.account import Account
from explore_async.exploration.node import Node
from explore_async.exploration.pool import Pool
from explore_async.exploration.values import Demonstration, Example, Facet, Task, example_of


@dataclass(slots=True, eq=False)
class TaskState:
    """A task's place in its tree, its counts, what its prompts show, and the examples that wait for a verdict."""

    domain: int
    node: Node
    account: Account
    demonstrations: tuple[Demonstration, ...] = ()
    """Shown in its prompts for examples; fixed before the first of these."""
    pool: Pool | None = None
    """Where its prompts also show what it has kept."""
    opening: tuple[Demonstration, ...] = ()
    """Its own seeds and the examples of its first completion, to show to its children. They do not depend on the
    corpus, and so not on the target.
    """
    facets: tuple[Facet, ...] = ()
    """Known before its first request for examples; empty where it has none."""
    opened: bool = False
    """Its opening is committed, or it gets none: its children can be shown `opening`."""
    asked: dict[str, int] = field(default_factory=dict)
    """Issued requests, by kind."""
    waiting: deque[Example] = field(default_factory=deque)
    """Examples that passed the quality filters, and wait until the task's quota has room for them."""
    dropped: int = 0

    @property
    def task(self) -> Task:
        return self.node.task

    @property
    def room(self) -> int:
        """The number of sub-tasks that it may still get."""
        return self.node.room

    def shown_at(self, turn: int) -> tuple[Demonstration, ...]:
        """The demonstrations of its request for examples number `turn`, from 0."""
        return self.demonstrations if self.pool is None else self.pool.shown(turn)

    def child_names(self) -> tuple[str, ...]:
        return tuple(child.task.name for child in self.node.children)

    def criteria(self) -> tuple[str, ...]:
        """The criteria by which it is divided into its children, each once."""
        return tuple(dict.fromkeys(filter(None, (child.task.criterion for child in self.node.children))))

    def explored(self) -> tuple[tuple[int, str], ...]:
        """The level (0: children) and the name of every task below it, parents first."""
        return tuple((level, below.task.name) for level, below in self.node.below())

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs, as JSON holds it; without the task's place in the tree."""
        return {
            "parent": self.task.parent_id,
            "name": self.task.name,
            "reason": self.task.reason,
            "origin": self.task.origin,
            "criterion": self.task.criterion,
            "node": self.node.state(),
            "account": self.account.state(),
            "demonstrations": self.demonstrations,
            "pool": None if self.pool is None else self.pool.state(),
            "opening": self.opening,
            "facets": self.facets,
            "opened": self.opened,
            "asked": dict(self.asked),
            "waiting": list(self.waiting),
            "dropped": self.dropped,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.node.restore(state["node"])
        self.account.restore(state["account"])
        self.demonstrations = tuple(Demonstration(**fields) for fields in state["demonstrations"])
        if state["pool"] is not None:
            self.pool = Pool.restored(state["pool"])
        self.opening = tuple(Demonstration(**fields) for fields in state["opening"])
        self.facets = tuple(Facet(one["criterion"], tuple(one["values"])) for one in state.get("facets", ()))
        self.opened = state["opened"]
        self.asked = dict(state["asked"])
        self.waiting = deque(example_of(fields) for fields in state["waiting"])
        self.dropped = state["dropped"]
