"""The strategy of trees that grow where examples come: a rich leaf is divided, and a saturated branch makes room.

A tree has as many open tasks as the run wants, and no more. A task is *filled* when it has as many examples as a task
is to have, and still brings new ones: it is divided by a lookahead, the best yield first. It is *saturated* when it is
exhausted; a branch is when all its tasks are. Then its place is for another one: a backtrack asks for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from explore_async.exploration.explore_instruct import ExploreInstruct
from explore_async.exploration.kinds import BACKTRACK, KINDS, LOOKAHEAD, RequestKind
from explore_async.exploration.node import Node
from explore_async.exploration.prompt_values import most_of_lookahead
from explore_async.exploration.values import Task
from explore_async.settings.recipe import Exploration


class AdaptiveTree(ExploreInstruct):
    """Owns one domain's tree; see `Strategy`. `filled`, `saturated` and `want` tell it what examples say."""

    def __init__(self, root: Task, settings: Exploration) -> None:
        self._wanted: int | None = 0
        self._worth: dict[str, int] = {}
        """Of tasks that wait for a lookahead, by id: the better, the sooner."""
        self._coming: dict[str, int] = {}
        """The most tasks that each outstanding request may bring, by the id of the task that it is about."""
        self._decided: dict[str, None] = {}
        """Tasks above the lowest level that have been filled or saturated."""
        self._saturated: dict[str, None] = {}
        super().__init__(root, settings)

    @property
    def open_tasks(self) -> int:
        """Tasks that are not saturated."""
        return len(self.nodes) - len(self._saturated)

    @property
    def ready(self) -> bool:
        """True when a request can be issued before another outcome comes: more tasks are wanted than may come."""
        return bool(self._ready) and self._lacks(self.open_tasks + sum(self._coming.values()))

    @property
    def finished(self) -> bool:
        """True when the tree has what is wanted, or cannot grow. More may be wanted later."""
        if self._coming or self.ready:
            return False
        return not self._lacks(self.open_tasks) or len(self._decided) == sum(self._population[:-1])

    def _lacks(self, tasks: int) -> bool:
        return self._wanted is None or tasks < self._wanted

    def planned(self) -> list[int]:
        """The number of tasks of each depth. Those that are still wanted count for the lowest."""
        planned = list(self._population)
        if not self.finished:
            more = sum(self._coming.values())
            planned[-1] += more if self._wanted is None else max(more, self._wanted - self.open_tasks)
        return planned

    def want(self, tasks: int | None) -> None:
        """The tree is to have this many open tasks; None for as many as it can."""
        self._wanted = tasks

    def start(self) -> None:
        """Makes the root ready to be asked about."""
        self.filled(self.root, 0)

    def filled(self, node: Node, worth: int) -> None:
        """The task has as many examples as it is to have, and brings more: it may be divided. `worth`: its yield."""
        if node.task.id in self._decided or node.task.depth >= self._settings.depth:
            return
        self._decided[node.task.id] = None
        if node.wants_children and not node.asking and not node.looked_ahead:
            self._worth[node.task.id] = worth
            self._ask(node, LOOKAHEAD)

    def saturated(self, node: Node) -> None:
        """The task is exhausted."""
        if node.task.id in self._saturated:
            return
        self._saturated[node.task.id] = None
        if node.task.depth < self._settings.depth:
            self._decided[node.task.id] = None
        self._finish(node)

    def settle(self) -> None:
        """Nothing is outstanding, and nothing else can be issued: what is neither filled nor saturated is divided."""
        for node in list(self.nodes.values()):
            self.filled(node, 0)

    def take(self) -> tuple[RequestKind, Node]:
        """The kind of the next request and its task; from now on it is issued."""
        kind, node = super().take()
        self._worth.pop(node.task.id, None)
        most = most_of_lookahead(self._settings) if kind is LOOKAHEAD else self._settings.step
        self._coming[node.task.id] = min(node.room, most)
        return kind, node

    def answered(self, node: Node, *, brought: Sequence[Node]) -> None:
        """A lookahead or backtrack of `node` is committed and brought these new children."""
        node.asking = False
        del self._coming[node.task.id]
        node.looked_ahead = node.looked_ahead or bool(brought)
        node.barren = 0 if brought else node.barren + 1
        if not node.looked_ahead and node.barren < self._settings.attempts:
            self._ask(node, LOOKAHEAD)
        elif node.finished_children == node.finished_children_asked or not self._backtracks(node):
            self._finish(node)

    def _finish(self, node: Node) -> None:
        """Finishes the branch where all its tasks are saturated: another one may take its place."""
        current: Node | None = node
        while current is not None and current.task.id in self._saturated and not current.asking:
            if current.finished or current.finished_children < len(current.children):
                return
            current.finished = True
            current = current.parent
            if current is not None:
                current.finished_children += 1
                self._widen(current)
                if self._backtracks(current):
                    return

    def _widen(self, node: Node) -> None:
        """Frees the places of saturated branches below the node. Each is free `attempts` times, so that a tree in which
        nothing brings anything has an end.
        """
        breadth = self._settings.breadth_at(node.task.depth)
        node.breadth = breadth + min(node.finished_children, self._settings.attempts * breadth)

    def _backtracks(self, node: Node) -> bool:
        """True where a request about the node is on its way, from now on if need be."""
        if not node.asking and node.wants_children and node.barren < self._settings.attempts:
            self._ask(node, BACKTRACK)
        return node.asking

    def _ask(self, node: Node, kind: RequestKind) -> None:
        node.asking = True
        self._push(node, kind)

    def _push(self, node: Node, kind: RequestKind) -> None:
        place = (-self._worth.get(node.task.id, 0), *node.path)
        heapq.heappush(self._ready, (place, kind.holds_up_tree, kind.name, node))

    def state(self) -> dict[str, Any]:
        return {
            "ready": [(node.task.id, kind) for _, _, kind, node in sorted(self._ready, key=lambda entry: entry[:2])],
            "wanted": self._wanted,
            "worth": dict(self._worth),
            "coming": dict(self._coming),
            "decided": list(self._decided),
            "saturated": list(self._saturated),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._wanted = state["wanted"]
        self._worth, self._coming = dict(state["worth"]), dict(state["coming"])
        self._decided, self._saturated = dict.fromkeys(state["decided"]), dict.fromkeys(state["saturated"])
        for node in self.nodes.values():
            self._widen(node)
        self._ready = []
        for task_id, kind in state["ready"]:
            self._push(self.nodes[task_id], KINDS[kind])
