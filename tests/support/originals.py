"""Folders as the published code writes them, made of real-looking examples."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson

VERBS = ["Write", "Explain", "Rewrite", "List", "Compare", "Summarise", "Describe", "Suggest"]
THINGS = ["a story", "the water cycle", "three uses of salt", "a letter", "two poems", "an essay", "the plot", "a plan"]
ENDS = ["for a child", "in one line", "with humour", "from memory", "about winter", "for the boss", "", "in French"]


def examples(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Many of them near-duplicates of one another."""
    made = []
    for number in range(count):
        instruction = " ".join(rng.choice(part) for part in (VERBS, THINGS, ENDS)).strip()
        extra = f" number {rng.randrange(count)}" if rng.random() < 0.5 else ""
        made.append(
            {"instruction": instruction + extra, "input": "given" if number % 3 else "", "output": f"Out {number}."}
        )
    return made


def original_folder(folder: Path, seed: int, *, tasks: int = 12, per_task: int = 40) -> list[dict[str, Any]]:
    """Writes one; returns the tasks' documents in the order of the tree, parents first."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    documents: list[dict[str, Any]] = []

    def task(name: str, reason: str) -> dict[str, Any]:
        fields = {"raw_task_name": name.upper(), "task_name": name, "config_filename": f"{name}.json", "reason": reason}
        document = {**fields, "examples": examples(rng, per_task)}
        documents.append(document)
        (folder / f"{name}.json").write_bytes(orjson.dumps(document))
        return {**fields, "children": []}

    root = task("brainstorming", "the whole")
    for number in range(tasks - 1):
        name = (
            " ".join(rng.sample(["plan", "ideas", "for", "new", "school", "games", "events", "food"], 3)) + f" {number}"
        )
        parent = root if number < 4 else root["children"][number % 4]
        parent["children"].append(task(name, f"because {number}"))
    (folder / "tree_meta_info.json").write_bytes(orjson.dumps(root))
    ordered = []

    def visit(node: dict[str, Any]) -> None:
        ordered.append(next(one for one in documents if one["task_name"] == node["task_name"]))
        for child in node["children"]:
            visit(child)

    visit(root)
    return ordered
