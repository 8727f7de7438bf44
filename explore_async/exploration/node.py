"""A task in its tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from explore_async.exploration.items import ProposedTask
from explore_async.exploration.values import Task

_PROGRESS = (
    *("looked_ahead", "asking", "barren"),
    *("finished_children", "finished_children_asked", "finished"),
)
"""The fields that change after a node is in its place."""


@dataclass(slots=True, eq=False)
class Node:
    """A task and the progress of its exploration. Only the strategy changes it."""

    task: Task
    path: tuple[int, ...]
    parent: Node | None
    breadth: int
    children: list[Node] = field(default_factory=list)
    looked_ahead: bool = False
    asking: bool = False
    """A lookahead or backtrack is ready to be issued, or issued and not committed."""
    barren: int = 0
    finished_children: int = 0
    finished_children_asked: int = 0
    finished: bool = False

    def state(self) -> list[Any]:
        """The progress of its exploration, for `restore`."""
        return [getattr(self, name) for name in _PROGRESS]

    def restore(self, state: list[Any]) -> None:
        for name, value in zip(_PROGRESS, state, strict=True):
            setattr(self, name, value)

    @property
    def room(self) -> int:
        """The number of children that it may still get."""
        return self.breadth - len(self.children)

    @property
    def wants_children(self) -> bool:
        return self.room > 0

    def next_child(self, proposed: ProposedTask, origin: str) -> Task:
        """The task that the proposed one becomes as the next child of this node."""
        return Task(
            f"{self.task.id}.{len(self.children)}",
            *(proposed.name, proposed.reason, self.task.id, self.task.depth + 1, origin),
            proposed.criterion,
        )

    def below(self, level: int = 0) -> Iterator[tuple[int, Node]]:
        """All nodes below this node with their level (0: children), parents first."""
        for child in self.children:
            yield level, child
            yield from child.below(level + 1)
