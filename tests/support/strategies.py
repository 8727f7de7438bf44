"""A second strategy and a second turn policy: what exploration can be exchanged for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

from explore_async.exploration.items import ProposedTask
from explore_async.exploration.kinds import RequestKind
from explore_async.exploration.node import Node
from explore_async.exploration.turns import Limit, TaskCounts
from explore_async.exploration.values import Task
from explore_async.settings.recipe import Exploration


class OneLevel:
    """Asks once for sub-tasks of the root, with a kind of one's choice, and for no more: the tree has two levels."""

    def __init__(self, root: Task, settings: Exploration, *, kind: RequestKind) -> None:
        self._kind = kind
        self._places = min(settings.step, settings.breadth_at(0)) if settings.depth else 0
        self._is_ready = self._waits = False
        self.root = self._node(root, (int(root.id),), None)

    @classmethod
    def asking(cls, kind: RequestKind) -> partial[Self]:
        return partial(cls, kind=kind)

    @property
    def finished(self) -> bool:
        return not self._is_ready and not self._waits

    @property
    def ready(self) -> bool:
        return self._is_ready

    def planned(self) -> list[int]:
        return [1, len(self.root.children) + self._places]

    def start(self) -> None:
        self._is_ready = bool(self._places)

    def take(self) -> tuple[RequestKind, Node]:
        self._is_ready, self._waits = False, True
        return self._kind, self.root

    def add_child(self, parent: Node, proposed: ProposedTask, origin: str) -> Node:
        return self._node(parent.next_child(proposed, origin), (*parent.path, len(parent.children)), parent)

    def answered(self, node: Node, *, brought: Sequence[Node]) -> None:
        del node, brought
        self._waits = False
        self._places = 0

    def state(self) -> dict[str, Any]:
        return {"places": self._places, "is_ready": self._is_ready, "waits": self._waits}

    def restore(self, state: dict[str, Any]) -> None:
        self._places, self._is_ready, self._waits = state["places"], state["is_ready"], state["waits"]

    def _node(self, task: Task, path: tuple[int, ...], parent: Node | None) -> Node:
        node = Node(task, path, parent, self._places)
        if parent is not None:
            parent.children.append(node)
        return node


class BestYieldFirst:
    """The task that has brought the most examples for each committed request comes first; of equal ones the oldest."""

    def __init__(self) -> None:
        self._tasks: dict[int, TaskCounts] = {}

    def note(self, task: TaskCounts) -> None:
        self._tasks[task.index] = task

    def next(self, *, share: Limit, quota: Limit, opened: bool) -> TaskCounts | None:
        del share, opened
        open_tasks = [task for task in self._tasks.values() if task.open and task.expected < quota(task)]
        return min(open_tasks, key=lambda task: (-task.kept / max(1, task.answered), task.index), default=None)
