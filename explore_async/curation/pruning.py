"""`explore-async prune`: which tasks repeat others.

The rule is Explore-Instruct's: level by level through the whole tree of a domain, a task whose name has a ROUGE-L above
the threshold with one that was kept before it is pruned. Its sub-tasks are judged by their own names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from explore_async.curation.collections.collection import Node, below, by_level
from explore_async.curation.collections.run_data import PRUNED_FILE, RunData
from explore_async.errors import ConfigError
from explore_async.exploration.filters import Corpus
from explore_async.storage.whole_files import write_json
from rouge_kernels import TOKENIZERS


@dataclass(frozen=True, slots=True)
class Pruned:
    """A task, and the kept one that its name is nearest to."""

    id: str
    name: str
    nearest: str
    nearest_name: str
    score: float
    """ROUGE-L F of the two names."""


def pruned_tasks(trees: Sequence[Node], threshold: float, tokenizer: str) -> list[Pruned]:
    """Level by level, tree by tree."""
    found: list[Pruned] = []
    for root in trees:
        names = Corpus(threshold, tokenizer)
        by_id: dict[str, str] = {}
        for node in by_level(root):
            by_id[node["id"]] = node["name"]
            verdict = names.admit(node["name"], node["id"])
            if not verdict.kept:
                assert verdict.nearest is not None
                assert verdict.score is not None
                found.append(Pruned(node["id"], node["name"], verdict.nearest, by_id[verdict.nearest], verdict.score))
    return found


def prune(data: RunData, threshold: float, tokenizer: str) -> list[Pruned]:
    """Notes in the directory's pruned.json which tasks are pruned: export, sample and merge leave their examples out.

    Raises ConfigError for a threshold or tokenizer that there is not.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"--threshold {threshold}: it lies above 0 and is 1 at most")
    if tokenizer not in TOKENIZERS:
        raise ConfigError(f"--tokenizer {tokenizer}: it is one of {', '.join(TOKENIZERS)}")
    trees = data.trees()
    found = pruned_tasks(trees, threshold, tokenizer)
    tasks = sum(1 for root in trees for _ in below(root))
    document = {
        "threshold": threshold,
        "tokenizer": tokenizer,
        "tasks": tasks,
        "pruned": [asdict(one) for one in found],
    }
    write_json(data.path / PRUNED_FILE, document)
    return found
