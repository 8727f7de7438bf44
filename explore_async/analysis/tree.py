"""The contribution of each task, and of each level of the tree, to the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from explore_async.analysis.data_sample import DataSample
from explore_async.curation.collections.collection import below

Row = dict[str, Any]


def tasks(sample: DataSample) -> list[Row]:
    """A row for each task, parents first: its examples, its pairs, and those that no task before it has."""
    own_pairs = _pairs_by_task(sample)
    examined = Counter(sample.tasks)
    scores, judged = _greatest_by_task(sample), _judged_by_task(sample)
    seen: set[tuple[str, str]] = set()
    rows = []
    for root in sample.collection.trees():
        for node in below(root):
            task_id = node["id"]
            own = own_pairs.get(task_id, set())
            rows.append(
                {
                    "id": task_id,
                    "parent": task_id.rpartition(".")[0] or None,
                    "name": node["name"],
                    "origin": node["origin"],
                    **({"criterion": node["criterion"]} if "criterion" in node else {}),
                    "depth": node["depth"],
                    "kept": node["kept"],
                    "dropped": node["dropped"],
                    "examined": examined[task_id],
                    "pairs": len(own),
                    "new_pairs": len(own - seen),
                    "overlap": float(np.mean(scores[task_id])) if task_id in scores else None,
                    "score": float(np.mean(judged[task_id])) if task_id in judged else None,
                }
            )
            seen |= own
    return rows


def levels(sample: DataSample, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The same for each depth of the tree, the seeds first; new pairs are those that no level above has."""
    own_pairs, scores, judged = _pairs_by_task(sample), _greatest_by_task(sample), _judged_by_task(sample)
    seen: set[tuple[str, str]] = set()
    by_level = []
    for depth in sorted({row["depth"] for row in rows}):
        here = [row for row in rows if row["depth"] == depth]
        own = {pair for row in here for pair in own_pairs.get(row["id"], ())}
        greatest = [score for row in here for score in scores.get(row["id"], ())]
        given = [score for row in here for score in judged.get(row["id"], ())]
        kept, dropped = (sum(row[name] for row in here) for name in ("kept", "dropped"))
        origins = Counter(row["origin"] for row in here)
        by_level.append(
            {
                "depth": depth,
                "tasks": len(here),
                "origins": dict(origins.most_common()),
                "kept": kept,
                "dropped": dropped,
                "pairs": len(own),
                "new_pairs": len(own - seen),
                "overlap": float(np.mean(greatest)) if greatest else None,
                "score": float(np.mean(given)) if given else None,
            }
        )
        seen |= own
    return by_level


def _pairs_by_task(sample: DataSample) -> dict[str, set[tuple[str, str]]]:
    pairs: dict[str, set[tuple[str, str]]] = {}
    for task_id, (verb, noun) in zip(sample.tasks, sample.verbs_nouns, strict=True):
        if verb is not None and noun is not None:
            pairs.setdefault(task_id, set()).add((verb, noun))
    return pairs


def _judged_by_task(sample: DataSample) -> dict[str, list[int]]:
    """All scores that a judge gave to the examples of each task, on any aspect."""
    judged: dict[str, list[int]] = {}
    for example in sample.examples:
        if isinstance(scores := example.get("scores"), Mapping):
            judged.setdefault(example["task_id"], []).extend(score for score in scores.values() if type(score) is int)
    return {task_id: scores for task_id, scores in judged.items() if scores}


def _greatest_by_task(sample: DataSample) -> dict[str, list[float]]:
    greatest: dict[str, list[float]] = {}
    if sample.overlap is not None:
        for position, score in zip(sample.overlap.positions.tolist(), sample.overlap.greatest.tolist(), strict=True):
            greatest.setdefault(sample.examples[position]["task_id"], []).append(score)
    return greatest
