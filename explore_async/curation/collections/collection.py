"""Tasks and examples together, wherever they lie: what every command on data works on.

A tree is its root node; a node is what a run writes of a task to tree.json: id, name, reason, origin, depth, kept,
dropped, answers, exhausted, children, and whatever else an imported tree says of it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

Node: TypeAlias = Mapping[str, Any]
Example: TypeAlias = dict[str, Any]
"""id, task_id, task_path, instruction, input, output, and whatever else its source says of it."""

TASK_ID = r"^[0-9]{1,9}(\.[0-9]{1,9}){0,60}$"
"""The path to a task by numbers, its tree's first. Nothing that we make goes deeper than ten levels, and what would be
much deeper than this could not be written as JSON.
"""

OWN_COLUMNS = ("id", "task_id", "task_path", "instruction", "input", "output", "request")

DEEPEST = 100
"""Levels of a tree below its root. Writers of JSON refuse what is nested some 250 deep, and so do people."""


class Collection(Protocol):
    """Reads only. Faults of what it reads are DataErrors that name their place."""

    @property
    def path(self) -> Path: ...

    @property
    def name(self) -> str: ...

    @property
    def is_simulated(self) -> bool:
        """Whether a server without a model made any of it up."""

    @property
    def pruned(self) -> frozenset[str]:
        """Ids of the tasks that `prune` has taken out."""

    def trees(self) -> Sequence[Node]: ...

    def examples(self) -> Iterator[Example]:
        """In their order, as often as asked for; ids differ, and instruction, input and output are texts."""


def below(node: Node) -> Iterator[Node]:
    """The node and all below it, parents first, branch by branch."""
    yield node
    for child in node["children"]:
        yield from below(child)


def by_level(root: Node) -> Iterator[Node]:
    """The node and all below it, level by level."""
    waiting = deque([root])
    while waiting:
        node = waiting.popleft()
        yield node
        waiting.extend(node["children"])


def new_node(task_id: str, name: str, *, reason: str = "", origin: str = "seed", **more: Any) -> dict[str, Any]:
    """A node without children or examples, as a run would write it."""
    return {
        **more,
        "id": task_id,
        "name": name,
        "reason": reason,
        "origin": origin,
        "depth": task_id.count("."),
        "kept": 0,
        "dropped": 0,
        "answers": 0,
        "exhausted": False,
        "children": [],
    }


def recounted(root: Node, kept: Mapping[str, int], dropped: Mapping[str, int]) -> dict[str, Any]:
    """The tree with these counts by task id instead of its own."""
    return {
        **root,
        "kept": kept.get(root["id"], 0),
        "dropped": dropped.get(root["id"], 0),
        "children": [recounted(child, kept, dropped) for child in root["children"]],
    }


def printable_path(path: Path | str) -> str:
    """For JSON and messages: a name on disk need not be UTF-8."""
    return os.fsencode(path).decode(errors="replace")
