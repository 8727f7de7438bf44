"""The command import: writes data from elsewhere as a data directory, with a config to explore on from its tree."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from explore_async.curation.collections.collection import Collection, Node, below
from explore_async.curation.collections.data_directory import describe_origin, writing_data
from explore_async.curation.collections.data_set import DataSet
from explore_async.curation.collections.open import DataSource, collection_of, open_collection
from explore_async.curation.common_options import silent
from explore_async.curation.tokenizers import AUTO, tokenizer_of_texts
from explore_async.exploration.languages import language_of_texts
from explore_async.settings.recipe import tokenizer_for
from explore_async.storage.places import place

CONFIG = "explore.yaml"
SHOWN = 4
"""Examples of each task that become its demonstrations in the config."""
_STEPS = ("responses", "answers_per_instruction", "turns", "judge")
"""Settings that say what an example is made of. Recipes have them where they differ from the default."""
_PROGRESS_EVERY = 10_000
_LOOKED_AT = 2_000
"""Instructions whose language and letters are that of the data."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The data directory that an import wrote, with its counts."""

    out: Path
    tasks: int
    examples: int
    bad_rows: int
    """Rows that were skipped."""
    notes: tuple[str, ...]
    """The first few things that were skipped, each with its reason: bad rows, task files that are missing; and columns
    with text that no example uses.
    """
    unanswered: int = 0
    """Examples with an empty output."""
    uninstructed: int = 0
    """Examples with an empty instruction."""


def import_data(
    source: DataSource,
    out: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    on_progress: Callable[[int], None] = silent,
) -> ImportResult:
    """Writes a data directory with all examples of the source, and explore.yaml, a config to explore on from its tree.

    `columns` maps our names (instruction, input, output, task) to those of a file of rows. Without `skip_bad_rows` the
    first row that cannot be read is a DataError. `on_progress` gets the number of examples read so far.
    """
    if isinstance(source, DataSet):
        return _import(collection_of(source, columns), place(out), on_progress)
    return _import(open_collection(place(source), columns, skip_bad_rows=skip_bad_rows), place(out), on_progress)


def _import(source: Collection, out: Path, on_progress: Callable[[int], None]) -> ImportResult:
    shown: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    count = unanswered = uninstructed = 0
    first: list[str] = []
    with writing_data(out, [source]) as directory:
        for example in source.examples():
            directory.keep(example)
            count += 1
            unanswered += not example["output"].strip()
            uninstructed += not example["instruction"].strip()
            if len(first) < _LOOKED_AT:
                first.append(example["instruction"])
            if len(shown[example["task_id"]]) < SHOWN and example["instruction"].strip() and example["output"].strip():
                shown[example["task_id"]].append({name: example[name] for name in ("instruction", "input", "output")})
            if count % _PROGRESS_EVERY == 0:
                on_progress(count)
        bad_rows, notes = source.bad_rows, tuple(source.notes)
        trees = source.trees()
        directory.finish(trees, describe_origin("import", [source], {}), pruned=source.pruned)
        directory.text(CONFIG, _config(source, first, trees, shown))
    on_progress(count)
    tasks = sum(1 for root in trees for _ in below(root))
    return ImportResult(out, tasks, count, bad_rows, notes, unanswered, uninstructed)


def _config(
    source: Collection, first: Sequence[str], trees: Sequence[Node], shown: Mapping[str, list[dict[str, str]]]
) -> str:
    """The text of the config. `first`: the first instructions, which tell the language."""
    pruned = source.pruned
    depth = max(node["depth"] for root in trees for node in below(root))
    systems = {str(index): domain.get("system") for index, domain in enumerate(source.recipe.get("domains", ()))}
    domains = []
    for root in trees:
        tasks = [_task(child, shown, pruned) for child in root["children"] if child["id"] not in pruned]
        domain = {
            "name": root["name"],
            "description": root["reason"],
            "system": systems.get(root["id"]),
            "tasks": tasks,
            "examples": shown.get(root["id"]),
        }
        domains.append({key: value for key, value in domain.items() if value})
    language = _language(source, first)
    document = {
        "name": _run_name(source.name),
        **({} if language is None else {"language": language}),
        "filters": {"tokenizer": _tokenizer(source, first)},
        **{name: source.recipe[name] for name in _STEPS if name in source.recipe},
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
    if language is None:
        head += "# The language of the texts is not clear: write it below, for example `language: German`.\n"
    return head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _language(source: Collection, texts: Sequence[str]) -> str | None:
    """The language of the recipe, else that of the texts; None where it is not clear."""
    if language := source.recipe.get("language"):
        return str(language)
    of_texts = language_of_texts(texts)
    if of_texts is not None:
        return of_texts.name
    return "English" if tokenizer_of_texts(texts) == "rouge" else None


def _tokenizer(source: Collection, texts: Sequence[str]) -> str:
    """The setting for a run that goes on from the data."""
    setting = (source.recipe.get("filters") or {}).get("tokenizer") or AUTO
    by_language = tokenizer_for(str(setting), _language(source, texts) or "English")
    return by_language if source.recipe or by_language != "rouge" else tokenizer_of_texts(texts)


def _task(node: Node, shown: Mapping[str, list[dict[str, str]]], pruned: frozenset[str]) -> dict[str, Any]:
    tasks = [_task(child, shown, pruned) for child in node["children"] if child["id"] not in pruned]
    task = {"name": node["name"], "reason": node["reason"], "examples": shown.get(node["id"]), "tasks": tasks}
    return {key: value for key, value in task.items() if value}


def _run_name(name: str) -> str:
    """The name as settings allow it: without a slash, and without a dot at its beginning."""
    return "".join(c for c in name if c not in "/\x00").lstrip(".")[:90].strip() or "imported"
