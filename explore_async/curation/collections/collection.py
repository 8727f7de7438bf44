"""Tasks and examples of any source: every command on data works on a Collection.

A tree is its root node; a node is a task as a run writes it to tree.json: id, name, reason, origin, depth, kept,
dropped, answers, exhausted, children, and the other fields of an imported tree.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

Node: TypeAlias = Mapping[str, Any]
ExampleRow: TypeAlias = dict[str, Any]
"""id, task_id, task_path, instruction, input, output, and the other columns of its source."""

TASK_ID = r"^[0-9]{1,9}(\.[0-9]{1,9}){0,60}$"
"""The path to a task by numbers, first that of its tree. We make at most ten levels; a tree much deeper than
this could not be written as JSON.
"""

OWN_COLUMNS = ("id", "task_id", "task_path", "instruction", "input", "output", "request")

DEEPEST = 100
"""Levels of a tree below its root. Writers of JSON fail at about 250 levels."""


MarkName: TypeAlias = Literal["good", "bad"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A reader's verdict on an example. `instruction`: the text that was marked; `note`: the reason, may be empty."""

    mark: MarkName
    note: str
    task_id: str
    instruction: str


Marks: TypeAlias = Mapping[str, Mark]
"""By the id of the example."""


class Collection(Protocol):
    """Tasks and examples of one source, for reading only. A fault in the source is a DataError that names its place."""

    @property
    def path(self) -> Path: ...

    @property
    def name(self) -> str: ...

    @property
    def is_run(self) -> bool:
        """True for the directory of a run itself, not for data that came from it."""

    @property
    def is_simulated(self) -> bool:
        """True when a simulated server, without a model, wrote any of the examples."""

    @property
    def numbers_rows(self) -> bool:
        """True for a file whose rows have no ids of ours: their ids here are their numbers in the file."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The content of config.json of a run, or of data.json of a data directory; empty for data from elsewhere."""

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe of the run that the examples came from; empty for other data."""

    @property
    def stats(self) -> Mapping[str, Any]:
        """The content of the run's stats.json; empty where there is none."""

    @property
    def coverage(self) -> Mapping[str, Any]:
        """Figures of the last analysis; empty where there are none, or the examples have changed since."""

    @property
    def coverage_file(self) -> Path | None:
        """The file in which an analysis keeps its figures; None where it keeps none."""

    @property
    def completions(self) -> Path | None:
        """The store of the completions that the examples came from; None where there is none any more."""

    @property
    def pruned(self) -> frozenset[str]:
        """Ids of the tasks that `prune` took out."""

    @property
    def marks(self) -> Marks:
        """The marks that readers gave to examples."""

    @property
    def bad_rows(self) -> int:
        """Number of rows that the last reading of the examples skipped."""

    @property
    def read_as(self) -> str | None:
        """Says in which way the last reading took a file whose name promises another one, and which columns of a file
        are left out; else None.
        """

    @property
    def notes(self) -> Sequence[str]:
        """The first few things that the last reading skipped, each with its reason."""

    def trees(self) -> Sequence[Node]: ...

    def examples(self) -> Iterator[ExampleRow]:
        """All examples in their order; can be called again. Ids differ; instruction, input and output are texts."""

    def decisions(self) -> Iterator[Mapping[str, Any]]:
        """Lines of evidence on tasks and examples, in their order; none for data from elsewhere."""


class ForeignCollection:
    """Base of collections that were made elsewhere: what only our own directories can tell is empty."""

    is_run = False
    is_simulated = False
    numbers_rows = False
    coverage_file: Path | None = None
    completions: Path | None = None

    @property
    def pruned(self) -> frozenset[str]:
        return frozenset()

    @property
    def marks(self) -> Marks:
        return {}

    @property
    def bad_rows(self) -> int:
        return 0

    @property
    def read_as(self) -> str | None:
        return None

    @property
    def notes(self) -> Sequence[str]:
        return ()

    @property
    def config(self) -> Mapping[str, Any]:
        return {}

    @property
    def recipe(self) -> Mapping[str, Any]:
        return {}

    @property
    def stats(self) -> Mapping[str, Any]:
        return {}

    @property
    def coverage(self) -> Mapping[str, Any]:
        return {}

    def decisions(self) -> Iterator[Mapping[str, Any]]:
        return iter(())


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


def recount(root: Node, kept: Mapping[str, int], dropped: Mapping[str, int]) -> dict[str, Any]:
    """The tree with these counts by task id instead of its own."""
    return {
        **root,
        "kept": kept.get(root["id"], 0),
        "dropped": dropped.get(root["id"], 0),
        "children": [recount(child, kept, dropped) for child in root["children"]],
    }


def with_input(example: ExampleRow) -> str:
    """The instruction, with the input on the next line where there is one."""
    return f"{example['instruction']}\n{example['input']}" if example["input"] else str(example["instruction"])


def printable_path(path: Path | str) -> str:
    """The path for JSON and messages: a name on disk need not be UTF-8."""
    return os.fsencode(str(path)).decode(errors="replace")
