"""Strategies: they grow the trees. A strategy decides what is asked about the tasks of one domain, and when to end.

`explore_instruct.ExploreInstruct` is the strategy of a run. A strategy knows no examples, quotas or prompts, and
depends on nothing but the calls it receives, so that the same completions about sub-tasks lead to the same tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from explore_async.exploration.items import ProposedTask
from explore_async.exploration.kinds import RequestKind
from explore_async.exploration.node import Node
from explore_async.exploration.values import Task
from explore_async.settings.recipe import Exploration


class Strategy(Protocol):
    """Owns one domain's tree and the order in which it is explored."""

    @property
    def root(self) -> Node: ...

    @property
    def finished(self) -> bool:
        """True when the tree is complete."""

    @property
    def ready(self) -> bool:
        """True when a request can be issued before another outcome comes."""

    def planned(self) -> list[int]:
        """The number of tasks that each depth is going to have, an upper bound while the tree grows."""

    def hold(self, depth: int) -> None:
        """Explores nothing below the tasks of this depth, which is not 0, before they are released: the tree is
        finished when all above them is. Called before any task is added.
        """

    def release(self, nodes: Sequence[Node]) -> None:
        """Explores on below these tasks of the depth at which it holds; never below the others. Only where `finished`;
        all nodes above them stay as they are.
        """

    def start(self) -> None:
        """Begins to explore. The root and the seed tasks below it are in place."""

    def take(self) -> tuple[RequestKind, Node]:
        """The kind of the next request, one that brings tasks, and its task; from now on it is issued. Only where
        `ready`.
        """

    def add_child(self, parent: Node, proposed: ProposedTask, origin: str) -> Node:
        """Adds a task below `parent`, about which nothing is asked yet."""

    def answered(self, node: Node, *, brought: Sequence[Node]) -> None:
        """Takes note that a lookahead or backtrack of `node` is committed; `brought` are the new children."""

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs beside the nodes and their own states, as JSON holds it."""

    def restore(self, state: dict[str, Any]) -> None:
        """Brings the strategy to this state. All nodes are in place and restored."""


class StrategyFactory(Protocol):
    """Makes the strategy of one domain."""

    def __call__(self, root: Task, settings: Exploration) -> Strategy: ...
