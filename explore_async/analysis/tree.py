"""What each task and each level of the tree brought to the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from explore_async.analysis.data_sample import Examined
from explore_async.curation.collections.collection import below

Row = dict[str, Any]


def tasks(read: Examined) -> list[Row]:
    """Each task, parents first, with its examples, its pairs, and how many of these no task before it had."""
    own_pairs = _pairs_by_task(read)
    examined = Counter(read.tasks)
    scores = _greatest_by_task(read)
    seen: set[tuple[str, str]] = set()
    rows = []
    for root in read.collection.trees():
        for node in below(root):
            task_id = node["id"]
            own = own_pairs.get(task_id, set())
            rows.append(
                {
                    "id": task_id,
                    "parent": task_id.rpartition(".")[0] or None,
                    "name": node["name"],
                    "origin": node["origin"],
                    "depth": node["depth"],
                    "kept": node["kept"],
                    "dropped": node["dropped"],
                    "examined": examined[task_id],
                    "pairs": len(own),
                    "new_pairs": len(own - seen),
                    "overlap": float(np.mean(scores[task_id])) if task_id in scores else None,
                }
            )
            seen |= own
    return rows


def levels(read: Examined, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The same by depth in the tree, the seeds first; new pairs are those that no level above has."""
    own_pairs, scores = _pairs_by_task(read), _greatest_by_task(read)
    seen: set[tuple[str, str]] = set()
    found = []
    for depth in sorted({row["depth"] for row in rows}):
        here = [row for row in rows if row["depth"] == depth]
        own = {pair for row in here for pair in own_pairs.get(row["id"], ())}
        greatest = [score for row in here for score in scores.get(row["id"], ())]
        kept, dropped = (sum(row[name] for row in here) for name in ("kept", "dropped"))
        origins = Counter(row["origin"] for row in here)
        found.append(
            {
                "depth": depth,
                "tasks": len(here),
                "origins": dict(origins.most_common()),
                "kept": kept,
                "dropped": dropped,
                "pairs": len(own),
                "new_pairs": len(own - seen),
                "overlap": float(np.mean(greatest)) if greatest else None,
            }
        )
        seen |= own
    return found


def _pairs_by_task(read: Examined) -> dict[str, set[tuple[str, str]]]:
    pairs: dict[str, set[tuple[str, str]]] = {}
    for task_id, (verb, noun) in zip(read.tasks, read.found, strict=True):
        if verb is not None and noun is not None:
            pairs.setdefault(task_id, set()).add((verb, noun))
    return pairs


def _greatest_by_task(read: Examined) -> dict[str, list[float]]:
    greatest: dict[str, list[float]] = {}
    if read.overlap is not None:
        for position, score in zip(read.overlap.positions.tolist(), read.overlap.greatest.tolist(), strict=True):
            greatest.setdefault(read.examples[position]["task_id"], []).append(score)
    return greatest
