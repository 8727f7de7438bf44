"""One domain's tree and what is worth asking about it next: openings, lookaheads and backtracks.

The tree owns the order of exploration. Depth-first it is this, with as many branches at once as there is room for:

    visit(task):  generate once for it (its opening); look ahead; visit the children one after another,
                  and after each that is finished backtrack: ask for other branches, until there is no room for more
                  or asking brings nothing new.

It knows nothing of examples, quotas or prompts.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from explore_async.exploration.values import Kind, Origin, Task
from explore_async.settings.recipe import Exploration

Opening: TypeAlias = Literal["none", "waiting", "done"]


_PROGRESS = (
    *("opening", "looked_ahead", "asking", "barren"),
    *("finished_children", "finished_children_asked", "finished"),
)
"""The fields of a node that change once it is in its place."""


@dataclass(slots=True, eq=False)
class Node:
    """A task and how far its exploration has come. Only the tree changes it."""

    task: Task
    path: tuple[int, ...]
    parent: Node | None
    breadth: int
    opening: Opening
    children: list[Node] = field(default_factory=list)
    looked_ahead: bool = False
    asking: bool = False
    """A lookahead or backtrack is ready to be asked, or asked and not answered."""
    barren: int = 0
    finished_children: int = 0
    finished_children_asked: int = 0
    finished: bool = False

    def state(self) -> list[Any]:
        """How far its exploration has come, for `restore`."""
        return [getattr(self, name) for name in _PROGRESS]

    def restore(self, state: list[Any]) -> None:
        for name, value in zip(_PROGRESS, state, strict=True):
            setattr(self, name, value)

    @property
    def room(self) -> int:
        return self.breadth - len(self.children)

    @property
    def wants_children(self) -> bool:
        return self.room > 0

    def below(self, level: int = 0) -> Iterator[tuple[int, Node]]:
        """All nodes below this one with their level (0: children), parents first."""
        for child in self.children:
            yield level, child
            yield from child.below(level + 1)


class Tree:
    """`opens(depth)` tells whether tasks of that depth get examples, and so an opening."""

    def __init__(self, root: Task, settings: Exploration, *, opens: tuple[bool, ...]) -> None:
        self._settings = settings
        self._opens = opens
        self._ready: list[tuple[tuple[int, ...], int, Kind, Node]] = []
        self.nodes: dict[str, Node] = {}
        self._population = [0] * (settings.depth + 1)
        self._places = [0] * (settings.depth + 1)
        self.root = self._new_node(root, (int(root.id),), None)

    @property
    def finished(self) -> bool:
        return self.root.finished

    def planned(self) -> list[int]:
        """How many tasks each depth is going to have, were every place still open taken."""
        planned: list[int] = []
        for depth, population in enumerate(self._population):
            if depth == 0:
                planned.append(population)
                continue
            unborn_parents = planned[-1] - self._population[depth - 1]
            planned.append(population + self._places[depth - 1] + unborn_parents * self._settings.breadth_at(depth - 1))
        return planned

    @property
    def ready(self) -> bool:
        """Whether something can be asked before another answer comes."""
        return bool(self._ready)

    def start(self) -> None:
        """The root and the seed tasks below it are in place: makes them ready to be asked about, children first."""
        for node in reversed(list(self.nodes.values())):
            self._start(node)

    def take(self) -> tuple[Kind, Node]:
        """The next ask, now issued."""
        _, _, kind, node = heapq.heappop(self._ready)
        node.finished_children_asked = node.finished_children
        return kind, node

    def opened(self, node: Node) -> None:
        """The opening of `node` has been answered."""
        node.opening = "done"
        self._advance(node)

    def add_child(self, parent: Node, name: str, reason: str, origin: Origin) -> Node:
        """A new child of `parent`, below which nothing has been asked yet."""
        index = len(parent.children)
        task = Task(f"{parent.task.id}.{index}", name, reason, parent.task.id, parent.task.depth + 1, origin)
        if parent.wants_children:
            self._places[parent.task.depth] -= 1
        return self._new_node(task, (*parent.path, index), parent)

    def answered(self, node: Node, *, brought: Sequence[Node]) -> None:
        """A lookahead or backtrack of `node` has been answered and brought these new children."""
        node.asking = False
        if brought:
            node.looked_ahead = True
            node.barren = 0
        else:
            node.barren += 1
            if node.barren >= self._settings.attempts:
                self._places[node.task.depth] -= max(0, node.room)
        for child in brought:
            self._start(child)
        self._advance(node)

    def state(self) -> dict[str, Any]:
        """What `restore` needs beside the nodes and their own states."""
        ready = [(node.task.id, kind) for _, _, kind, node in sorted(self._ready, key=lambda one: one[:2])]
        return {"places": list(self._places), "ready": ready}

    def restore(self, state: dict[str, Any]) -> None:
        """Once all nodes are there and restored."""
        self._places = list(state["places"])
        self._ready = []
        for task_id, kind in state["ready"]:
            self._push(self.nodes[task_id], kind)

    def _new_node(self, task: Task, path: tuple[int, ...], parent: Node | None) -> Node:
        breadth = self._settings.breadth_at(task.depth)
        node = Node(task, path, parent, breadth, "waiting" if self._opens[task.depth] else "none")
        self.nodes[task.id] = node
        self._population[task.depth] += 1
        self._places[task.depth] += breadth
        if parent is not None:
            parent.children.append(node)
        return node

    def _start(self, node: Node) -> None:
        if node.opening == "waiting":
            self._push(node, "generate")
        self._advance(node)

    def _advance(self, node: Node) -> None:
        """Makes ready what can be asked about `node` now, or finishes it and looks at its parent."""
        current: Node | None = node
        while current is not None and not current.asking and not current.finished:
            if current.wants_children and current.barren < self._settings.attempts:
                if not current.looked_ahead:
                    current.asking = True
                    self._push(current, "lookahead")
                elif current.finished_children > current.finished_children_asked or current.finished_children == len(
                    current.children
                ):
                    current.asking = True
                    self._push(current, "backtrack")
                return
            if current.opening == "waiting" or current.finished_children < len(current.children):
                return
            current.finished = True
            current = current.parent
            if current is not None:
                current.finished_children += 1

    def _push(self, node: Node, kind: Kind) -> None:
        place = node.path if self._settings.order == "depth_first" else (node.task.depth, *node.path)
        heapq.heappush(self._ready, (place, 0 if kind == "generate" else 1, kind, node))
