"""A second strategy and a second turn policy: what exploration can be exchanged for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

from explore_async.exploration.kinds import GENERATE, KINDS, RequestKind
from explore_async.exploration.node import Node
from explore_async.exploration.turns import TaskCounts
from explore_async.exploration.values import Task
from explore_async.settings.recipe import Exploration


class OneLevel:
    """Asks once for sub-tasks of the root, with a kind of one's choice, and for no more: the tree has two levels."""

    def __init__(self, root: Task, settings: Exploration, *, opens: tuple[bool, ...], kind: RequestKind) -> None:
        self._kind = kind
        self._opens = opens
        self._places = min(settings.step, settings.breadth_at(0)) if settings.depth else 0
        self._ready: deque[tuple[RequestKind, Node]] = deque()
        self._waiting = 0
        self._nodes: dict[str, Node] = {}
        self.root = self._node(root, (int(root.id),), None)

    @classmethod
    def asking(cls, kind: RequestKind) -> partial[Self]:
        return partial(cls, kind=kind)

    @property
    def finished(self) -> bool:
        return not self._ready and not self._waiting

    @property
    def ready(self) -> bool:
        return bool(self._ready)

    def planned(self) -> list[int]:
        return [1, len(self.root.children) + self._places]

    def start(self) -> None:
        if self._opens[0]:
            self._ready.append((GENERATE, self.root))
        if self._places:
            self._ready.append((self._kind, self.root))

    def take(self) -> tuple[RequestKind, Node]:
        self._waiting += 1
        return self._ready.popleft()

    def opened(self, node: Node) -> None:
        node.opening = "done"
        self._waiting -= 1

    def add_child(self, parent: Node, name: str, reason: str, origin: str) -> Node:
        index = len(parent.children)
        task = Task(f"{parent.task.id}.{index}", name, reason, parent.task.id, parent.task.depth + 1, origin)
        return self._node(task, (*parent.path, index), parent)

    def answered(self, node: Node, *, brought: Sequence[Node]) -> None:
        del node
        self._waiting -= 1
        self._places = 0
        self._ready.extend((GENERATE, child) for child in brought if self._opens[child.task.depth])

    def state(self) -> dict[str, Any]:
        ready = [(kind.name, node.task.id) for kind, node in self._ready]
        return {"places": self._places, "waiting": self._waiting, "ready": ready}

    def restore(self, state: dict[str, Any]) -> None:
        self._places, self._waiting = state["places"], state["waiting"]
        self._ready = deque((KINDS[kind], self._nodes[task_id]) for kind, task_id in state["ready"])

    def _node(self, task: Task, path: tuple[int, ...], parent: Node | None) -> Node:
        node = Node(task, path, parent, self._places, "waiting" if self._opens[task.depth] else "none")
        self._nodes[task.id] = node
        if parent is not None:
            parent.children.append(node)
        return node


class BestYieldFirst:
    """The task that has brought the most examples for each committed request comes first; of equal ones the oldest."""

    def __init__(self) -> None:
        self._tasks: dict[int, TaskCounts] = {}

    def note(self, task: TaskCounts) -> None:
        self._tasks[task.index] = task

    def next(self, quota: Callable[[TaskCounts], int]) -> TaskCounts | None:
        open_tasks = [task for task in self._tasks.values() if not task.exhausted and task.expected < quota(task)]
        return min(open_tasks, key=lambda task: (-task.kept / max(1, task.answered), task.index), default=None)
