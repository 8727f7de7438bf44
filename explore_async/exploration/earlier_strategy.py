"""The strategy of runs that began by version 2 or 3 of the rules, in which a tree waits for the openings of its tasks.

It stays as it is, so that these runs keep their bytes; `explore_instruct` is the strategy of today.
"""

from __future__ import annotations

from typing import Any

from explore_async.exploration.explore_instruct import ExploreInstruct
from explore_async.exploration.kinds import GENERATE
from explore_async.exploration.node import Node
from explore_async.exploration.values import Task
from explore_async.settings.recipe import Exploration


class EarlierExploreInstruct(ExploreInstruct):
    """Issues the opening of each task as a request of its tree; a task is finished when its opening is committed.

    `opens[depth]`: tasks of that depth get examples, and so an opening.
    """

    def __init__(self, root: Task, settings: Exploration, *, opens: tuple[bool, ...]) -> None:
        self._opens = opens
        self._unopened: dict[str, None] = {}  # ids of tasks
        super().__init__(root, settings)

    def opened(self, node: Node) -> None:
        """The opening of `node` is committed."""
        self._unopened.pop(node.task.id, None)
        self._advance(node)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "unopened": list(self._unopened)}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._unopened = dict.fromkeys(state["unopened"])

    def _new_node(self, task: Task, path: tuple[int, ...], parent: Node | None) -> Node:
        if self._opens[task.depth]:
            self._unopened[task.id] = None
        return super()._new_node(task, path, parent)

    def _start(self, node: Node) -> None:
        if node.task.id in self._unopened:
            self._push(node, GENERATE)
        super()._start(node)

    def _is_done(self, node: Node) -> bool:
        return node.task.id not in self._unopened and super()._is_done(node)
