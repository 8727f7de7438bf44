"""The strategy of Explore-Instruct: lookaheads and backtracks, depth first.

One task after another it is this, with as many branches at once as there is room for:

    visit(task):  look ahead; visit the children one after another, and after each finished child backtrack: ask for
                  other branches, until there is no room for more or asking brings nothing new.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from explore_async.exploration.items import ProposedTask
from explore_async.exploration.kinds import BACKTRACK, KINDS, LOOKAHEAD, RequestKind
from explore_async.exploration.node import Node
from explore_async.exploration.values import Task
from explore_async.settings.recipe import Exploration


class ExploreInstruct:
    """Owns one domain's tree; see `Strategy`. The order of exploration is the recipe's: by depth or by breadth."""

    def __init__(self, root: Task, settings: Exploration) -> None:
        self._settings = settings
        self._ready: list[tuple[tuple[int, ...], bool, str, Node]] = []
        self.nodes: dict[str, Node] = {}
        self._held: int | None = None
        """The depth below which nothing is explored."""
        self._population = [0] * (settings.depth + 1)
        self._places = [0] * (settings.depth + 1)
        self.root = self._new_node(root, (int(root.id),), None)

    @property
    def finished(self) -> bool:
        return self.root.finished

    def planned(self) -> list[int]:
        """The number of tasks that each depth is going to have if every open place is taken."""
        planned: list[int] = []
        for depth, population in enumerate(self._population):
            if depth == 0:
                planned.append(population)
                continue
            if self._held is not None and depth > self._held:
                planned.append(population)
                continue
            unborn_parents = planned[-1] - self._population[depth - 1]
            planned.append(population + self._places[depth - 1] + unborn_parents * self._settings.breadth_at(depth - 1))
        return planned

    @property
    def ready(self) -> bool:
        """True when a request can be issued before another outcome comes."""
        return bool(self._ready)

    def hold(self, depth: int) -> None:
        """Explores nothing below the tasks of this depth before they are released."""
        self._held = depth

    def release(self, nodes: Sequence[Node]) -> None:
        """Explores on below these tasks of the depth at which it holds."""
        self._held = None
        for node in nodes:
            self._reopen(node)
            sub_tree = [node, *(below for _, below in node.below())]
            for below in sub_tree:
                below.breadth = self._settings.breadth_at(below.task.depth)
                self._places[below.task.depth] += max(0, below.room)
            for below in reversed(sub_tree):
                self._start(below)

    @staticmethod
    def _reopen(node: Node) -> None:
        """The node is not finished, and none above it is, until all below it is explored."""
        current: Node | None = node
        while current is not None and current.finished:
            current.finished = False
            current = current.parent
            if current is not None:
                current.finished_children -= 1

    def start(self) -> None:
        """Makes the root and the seed tasks below it ready to be asked about, children first."""
        for node in reversed(list(self.nodes.values())):
            if self._held is None or node.task.depth <= self._held:
                self._start(node)

    def take(self) -> tuple[RequestKind, Node]:
        """The kind of the next request and its task; from now on it is issued."""
        _, _, kind, node = heapq.heappop(self._ready)
        node.finished_children_asked = node.finished_children
        return KINDS[kind], node

    def add_child(self, parent: Node, proposed: ProposedTask, origin: str) -> Node:
        """Adds a task below `parent`, about which nothing is asked yet."""
        task = parent.next_child(proposed, origin)
        if parent.wants_children:
            self._places[parent.task.depth] -= 1
        return self._new_node(task, (*parent.path, len(parent.children)), parent)

    def answered(self, node: Node, *, brought: Sequence[Node]) -> None:
        """A lookahead or backtrack of `node` is committed and brought these new children."""
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
        """The state that `restore` needs beside the nodes and their own states, as JSON holds it."""
        ready = [(node.task.id, kind) for _, _, kind, node in sorted(self._ready, key=lambda entry: entry[:2])]
        return {"places": list(self._places), "ready": ready}

    def restore(self, state: dict[str, Any]) -> None:
        """Brings the strategy to this state. All nodes are in place and restored."""
        self._places = list(state["places"])
        self._ready = []
        for task_id, kind in state["ready"]:
            self._push(self.nodes[task_id], KINDS[kind])

    def _new_node(self, task: Task, path: tuple[int, ...], parent: Node | None) -> Node:
        is_held = self._held is not None and task.depth >= self._held
        breadth = 0 if is_held else self._settings.breadth_at(task.depth)
        node = Node(task, path, parent, breadth)
        self.nodes[task.id] = node
        self._population[task.depth] += 1
        self._places[task.depth] += breadth
        if parent is not None:
            parent.children.append(node)
        return node

    def _start(self, node: Node) -> None:
        self._advance(node)

    def _is_done(self, node: Node) -> bool:
        """True when nothing below the node, which gets no more children, is left to explore."""
        return node.task.depth == self._held or node.finished_children == len(node.children)

    def _advance(self, node: Node) -> None:
        """Makes ready the next request about `node`, or finishes the node and goes on with its parent."""
        current: Node | None = node
        while current is not None and not current.asking and not current.finished:
            if current.wants_children and current.barren < self._settings.attempts:
                if not current.looked_ahead:
                    current.asking = True
                    self._push(current, LOOKAHEAD)
                elif current.finished_children > current.finished_children_asked or current.finished_children == len(
                    current.children
                ):
                    current.asking = True
                    self._push(current, BACKTRACK)
                return
            if not self._is_done(current):
                return
            current.finished = True
            current = current.parent
            if current is not None:
                current.finished_children += 1

    def _push(self, node: Node, kind: RequestKind) -> None:
        place = node.path if self._settings.order == "depth_first" else (node.task.depth, *node.path)
        heapq.heappush(self._ready, (place, kind.holds_up_tree, kind.name, node))
