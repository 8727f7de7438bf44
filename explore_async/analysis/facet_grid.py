"""The grid of facets: how many values, and pairs of values, of the criteria that tasks named have examples.

All cells of four criteria of six values are 1,296 for each task, more than there are examples; so each pair of criteria
is a grid of its own, and its filled cells tell how evenly combinations are covered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, TypeAlias

from explore_async.curation.collections.collection import below

Criteria: TypeAlias = Mapping[str, Sequence[str]]
_LEAST_SHOWN = 200
"""Values in the document: those with the fewest examples."""


def facet_grid(trees: Sequence[Mapping[str, Any]], examples: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The filled values and pairs of values of all tasks, and the values with fewest examples; None where no task has
    facets. `examples`: all those of the data.
    """
    named: dict[str, Criteria] = {
        node["id"]: node["facets"] for root in trees for node in below(root) if node.get("facets")
    }
    if not named:
        return None
    counts: dict[str, Counter[tuple[str, str]]] = {task_id: Counter() for task_id in named}
    pairs: dict[str, set[tuple[tuple[str, str], tuple[str, str]]]] = {task_id: set() for task_id in named}
    for example in examples:
        if (task_id := example["task_id"]) in named:
            shown = sorted((one["criterion"], one["value"]) for one in example.get("facets") or ())
            known = [(name, value) for name, value in shown if value in named[task_id].get(name, ())]
            counts[task_id].update(known)
            pairs[task_id].update(combinations(known, 2))
    values: list[dict[str, Any]] = [
        {"task": task_id, "criterion": criterion, "value": value, "examples": counts[task_id][criterion, value]}
        for task_id, criteria in named.items()
        for criterion, of_criterion in criteria.items()
        for value in of_criterion
    ]
    return {
        "tasks": len(named),
        "criteria": sum(map(len, named.values())),
        "values": len(values),
        "filled_values": sum(row["examples"] > 0 for row in values),
        "pairs": sum(_pairs_of(criteria) for criteria in named.values()),
        "filled_pairs": sum(map(len, pairs.values())),
        "fewest": sorted(values, key=lambda row: row["examples"])[:_LEAST_SHOWN],
    }


def _pairs_of(criteria: Criteria) -> int:
    """The pairs of values of two criteria."""
    return sum(len(one) * len(other) for one, other in combinations(criteria.values(), 2))
