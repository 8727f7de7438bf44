"""The command prune: finds tasks whose names repeat others.

The rule is Explore-Instruct's: level by level through the whole tree of a domain, a task is pruned when the ROUGE-L of
its name with that of a task kept before it is above the threshold. Its sub-tasks are judged by their own names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from explore_async.curation.collections.collection import Node, below, by_level
from explore_async.curation.collections.run_data import PRUNED_FILE, RunData
from explore_async.curation.common_options import check_threshold
from explore_async.curation.tokenizers import AUTO, check_tokenizer, tokenizer_of_recipe, tokenizer_of_texts
from explore_async.exploration.corpus import Corpus
from explore_async.storage.places import place
from explore_async.storage.whole_files import write_json


@dataclass(frozen=True, slots=True)
class PrunedTask:
    """A pruned task, and the kept task with the nearest name."""

    id: str
    name: str
    nearest: str
    """Id of the kept task."""
    nearest_name: str
    score: float
    """ROUGE-L F of the two names."""


@dataclass(frozen=True, slots=True)
class PruneResult:
    """The tasks that were pruned, and the file that lists them."""

    file: Path
    """The list of pruned tasks, pruned.json; without it no task is pruned."""
    tasks: int
    """All tasks that were compared."""
    pruned: tuple[PrunedTask, ...]


def find_repeated_tasks(trees: Sequence[Node], threshold: float, tokenizer: str) -> list[PrunedTask]:
    """The tasks to prune, level by level, tree by tree."""
    pruned: list[PrunedTask] = []
    for root in trees:
        names = Corpus(threshold, tokenizer)
        by_id: dict[str, str] = {}
        for node in by_level(root):
            name = by_id[node["id"]] = _name(node)
            verdict = names.admit(name, node["id"])
            if not verdict.kept:
                assert verdict.nearest is not None
                assert verdict.score is not None
                nearest = verdict.nearest
                pruned.append(PrunedTask(node["id"], name, nearest, by_id[nearest], verdict.score))
    return pruned


def _name(node: Node) -> str:
    """The name that is compared: in a tree of the published code without the number that makes names differ."""
    raw = node.get("original", {}).get("raw_task_name")
    return raw if isinstance(raw, str) and raw else str(node["name"])


def prune_data(directory: str | os.PathLike[str], *, threshold: float = 0.7, tokenizer: str = "auto") -> PruneResult:
    """Writes the pruned tasks to the directory's pruned.json: export, sample and merge leave their examples out.

    `directory`: a run or data directory. `threshold`: ROUGE-L F above which a name repeats another. `tokenizer`: rouge,
    unicode, or auto: that of the run, else the one that the letters of the names call for. Raises ConfigError for the
    options.
    """
    check_threshold(threshold)
    check_tokenizer(tokenizer)
    data = RunData.read(place(directory))
    trees = data.trees()
    if tokenizer == AUTO:
        names = (_name(node) for root in trees for node in below(root))
        tokenizer = tokenizer_of_recipe(data) or tokenizer_of_texts(names)
    pruned = find_repeated_tasks(trees, threshold, tokenizer)
    tasks = sum(1 for root in trees for _ in below(root))
    document = {
        "threshold": threshold,
        "tokenizer": tokenizer,
        "tasks": tasks,
        "pruned": [asdict(task) for task in pruned],
    }
    file = data.path / PRUNED_FILE
    write_json(file, document)
    return PruneResult(file, tasks, tuple(pruned))
