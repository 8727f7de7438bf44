"""`explore-async import`: data from elsewhere becomes a data directory, and a config to explore on from its tree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from explore_async.curation.collections.collection import Collection, Node, below
from explore_async.curation.collections.data_directory import described, writing_data

CONFIG = "explore.yaml"
SHOWN = 4
"""So many examples of each task become its demonstrations in the config."""
_TOLD_EVERY = 10_000


@dataclass(frozen=True, slots=True)
class Imported:
    tasks: int
    examples: int
    bad: int
    """Rows that were skipped."""
    notes: Sequence[str]
    """What was passed over, and why: the first few bad rows, task files that are not there."""


def import_collection(source: Collection, out: Path, *, told: Callable[[int], None]) -> Imported:
    """Writes the data directory `out`, with explore.yaml in it."""
    shown: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    count = 0
    with writing_data(out, [source]) as directory:
        for example in source.examples():
            directory.keep(example)
            count += 1
            if len(shown[example["task_id"]]) < SHOWN and example["instruction"].strip() and example["output"].strip():
                shown[example["task_id"]].append({name: example[name] for name in ("instruction", "input", "output")})
            if count % _TOLD_EVERY == 0:
                told(count)
        bad, notes = source.bad_rows, list(source.notes)
        trees = source.trees()
        directory.finish(trees, described("import", [source], {}), pruned=source.pruned)
        directory.text(CONFIG, _config(source.name, trees, shown, source.pruned))
    told(count)
    return Imported(sum(1 for root in trees for _ in below(root)), count, bad, notes)


def _config(name: str, trees: Sequence[Node], shown: Mapping[str, list[dict[str, str]]], pruned: frozenset[str]) -> str:
    depth = max(node["depth"] for root in trees for node in below(root))
    domains = []
    for root in trees:
        tasks = [_task(child, shown, pruned) for child in root["children"] if child["id"] not in pruned]
        domain = {
            "name": root["name"],
            "description": root["reason"],
            "tasks": tasks,
            "examples": shown.get(root["id"]),
        }
        domains.append({key: value for key, value in domain.items() if value})
    document = {
        "name": _run_name(name),
        "domains": domains,
        "against": ["dataset.jsonl"],
        "exploration": {"depth": max(2, depth)},
        "targets": {"examples": 1000},
    }
    head = (
        "# Explores on from an imported tree: explore-async run explore.yaml --endpoint URL\n"
        "# Its tasks are there from the start; new examples are kept only where they differ from the imported ones.\n"
        "# Change what you like; `explore-async init` prints all settings with their meaning.\n"
    )
    return head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _task(node: Node, shown: Mapping[str, list[dict[str, str]]], pruned: frozenset[str]) -> dict[str, Any]:
    tasks = [_task(child, shown, pruned) for child in node["children"] if child["id"] not in pruned]
    task = {"name": node["name"], "reason": node["reason"], "examples": shown.get(node["id"]), "tasks": tasks}
    return {key: value for key, value in task.items() if value}


def _run_name(name: str) -> str:
    """As settings allow it: without a slash or a dot at its beginning."""
    return "".join(c for c in name if c not in "/\x00").lstrip(".")[:90].strip() or "imported"
