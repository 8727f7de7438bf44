"""The card of an exported data set: README.md with a YAML header, as hubs of data sets read it. Pure.

Names of tasks come from a model: the card escapes them, so that they are nothing but text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from explore_async.curation.collections.collection import Collection, below
from explore_async.errors import DataError

_TASKS_LISTED = 500
_MARKS = re.compile(r"([\\`*_\[\]|~$!])")
_BLOCKS = re.compile(r"^(\d+(?=[.)])|(?=[#+=-]))")
"""Beginnings that make a line a heading, a list or a rule."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def make_card(
    source: Collection, *, splits: Mapping[str, str], exported: int, shape: str, license_name: str, how: str
) -> str:
    """The text of the card.

    `splits`: the file of each split, relative to the card; `how`: the selection of the examples, in words.
    """
    recipe = source.recipe
    header: dict[str, Any] = {
        "license": license_name,
        "pretty_name": source.name,
        "task_categories": ["text-generation"],
        "size_categories": [next((size for most, size in _SIZES if exported < most), "n>1M")],
        "tags": ["synthetic", "instruction-tuning", "explore-instruct"] if recipe else ["instruction-tuning"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": path} for split, path in splits.items()],
            }
        ],
    }
    if str(recipe.get("language", "")).casefold() == "english":
        header["language"] = ["en"]
    try:
        parts = [f"---\n{_yaml(header)}---\n", *_body(source, exported, shape, how)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{source.path}: its figures are not in the form that a run or `analyze` writes: {error!r}"
        ) from error
    return "\n".join(parts) + "\n"


def _body(source: Collection, exported: int, shape: str, how: str) -> Iterator[str]:
    recipe = source.recipe
    yield f"# {escape(source.name)}\n"
    if source.is_simulated:
        yield "**Written by a simulated server, without any model: for practice, never for training.**\n"
    if recipe.get("description"):
        yield f"{escape(recipe['description'])}\n"
    yield f"{exported:,} examples, {how}, in the format `{shape}`.\n"
    if recipe:
        yield (
            "They were written by a language model that explored its domain as a tree of tasks "
            "([Explore-Instruct](https://arxiv.org/abs/2310.09168)), with explore_async "
            f"{escape(source.config.get('explore_async', ''))}. They have not been checked by people.\n"
        )
        yield from _table("How it was made", _making(recipe, source.config))
        yield from _table("What came of it", _figures(source.stats))
    if coverage := source.coverage:
        yield from _table("What it covers", _covering(coverage))
    if source.config and not source.is_run:
        yield from _table("What was done since", _done(source.config))
    nodes = [node for root in source.trees() for node in below(root)]
    rows = [
        (escape("  " * node["depth"] + node["name"]), escape(node["origin"]), node["kept"], node["dropped"])
        for node in nodes
        if node["id"] not in source.pruned
    ]
    yield "## Tasks\n"
    yield "| task | by | kept | dropped |\n|---|---|---:|---:|"
    yield from (f"| {name} | {origin} | {kept} | {dropped} |" for name, origin, kept, dropped in rows[:_TASKS_LISTED])
    if len(rows) > _TASKS_LISTED:
        yield f"\n… and {len(rows) - _TASKS_LISTED} more; all are in tree.json."
    if len(rows) < len(nodes):
        yield f"\n{len(nodes) - len(rows)} tasks whose names repeat others were pruned."
    if not recipe:
        return
    yield "\n## Making it again\n"
    yield (
        "The data is a function of the recipe and the model's completions: `explore-async run` with the recipe below "
        "makes it again, byte for byte where the completions are the same.\n"
    )
    recipe_text = _yaml(recipe)
    fence = "`" * max([3, *(len(run_of) + 1 for run_of in re.findall(r"`+", recipe_text))])
    yield f"{fence}yaml\n{recipe_text}{fence}"


def _done(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "by", data.get("made_by")
    yield "of", ", ".join(str(source.get("name")) for source in data.get("sources", []))
    filters = (data.get("settings") or {}).get("filters") or {}
    if filters:
        yield "near-duplicates", f"ROUGE-L F above {filters['threshold']}, within the same {filters['scope']}"
    counts = data.get("examples") or {}
    yield "kept", f"{counts.get('kept', 0):,}"
    for reason, count in (counts.get("dropped") or {}).items():
        if reason != "total":
            yield f"dropped: {reason}", f"{count:,}"


def _covering(coverage: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Figures of all kept examples, before any sample."""
    chao1, unseen = coverage["chao1"], coverage["unseen_mass"]
    yield "examples", f"{coverage['examples']:,}"
    yield "unique pairs of verb and noun", f"{coverage['unique']:,}"
    yield "occurrences of a pair", f"{coverage['mean_occurrences']:.2f} ± {coverage['std_occurrences']:.2f}"
    if chao1 is not None:
        interval = f"{chao1['low']:,.0f} – {chao1['high']:,.0f}"
        yield "pairs in all, at least (Chao1)", f"{chao1['value']:,.0f} (95 %: {interval})"
        yield "chance that the next pair is new (Good–Turing)", f"{unseen['value']:.1%}"
    yield "ROUGE-L with the nearest other, mean", f"{coverage['overlap_nearest']:.3f}"
    yield "with a near-duplicate (ROUGE-L above 0.7)", f"{coverage['near_duplicates']:.1%}"


def _making(recipe: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "model", ", ".join(dict.fromkeys([recipe.get("model") or "", *(recipe.get("models") or {}).values()]))
    for kind, sampling in (recipe.get("sampling") or {}).items():
        yield f"sampling, {kind}", ", ".join(f"{name} {value}" for name, value in sampling.items() if value != [])
    yield "seed", recipe.get("seed")
    yield "prompts", "the recipe's own" if recipe.get("prompts") else "explore_async's"
    exploration, filters = recipe.get("exploration") or {}, recipe.get("filters") or {}
    yield "tree", f"depth {exploration.get('depth')}, breadth {exploration.get('breadth')}"
    yield (
        "near-duplicates",
        f"ROUGE-L F above {filters.get('threshold')} with an earlier instruction of the same {filters.get('scope')}",
    )
    yield "digest of the recipe", config.get("digest")


def _figures(stats: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    examples, tasks, tokens = (stats.get(name) or {} for name in ("examples", "tasks", "tokens"))
    if not examples:
        return
    yield "examples read", f"{examples['read']:,}"
    yield "kept", f"{examples['kept']:,}"
    for reason, count in examples["dropped"].items():
        if reason != "total":
            yield f"dropped: {reason}", f"{count:,}"
    yield "tasks", f"{tasks['total']:,}, {tasks['with_examples']:,} of them with examples"
    yield "requests", f"{stats['requests']['total']:,}"
    yield "tokens", f"{tokens.get('prompt', 0):,} read, {tokens.get('completion', 0):,} written"
    yield "time", f"{stats.get('seconds_this_time', 0):,.0f} s since its last start"


def _table(title: str, rows: Iterator[tuple[str, Any]]) -> Iterator[str]:
    listed = [(name, escape(str(value))) for name, value in rows if value not in (None, "")]
    if listed:
        yield f"## {title}\n"
        yield "| | |\n|---|---|"
        yield from (f"| {escape(name)} | {value} |" for name, value in listed)
        yield ""


def _yaml(document: Mapping[str, Any]) -> str:
    """YAML with letters as they are, unless some of them change the direction of text."""
    plain = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    if all(c.isprintable() or c == "\n" for c in plain):
        return plain
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=False)


def escape(value: object) -> str:
    """One line of plain text: Markdown and HTML are escaped, leading spaces stay."""
    line = "".join(c if c.isprintable() else " " for c in str(value))
    indent = len(line) - len(line.lstrip(" "))
    escaped = _MARKS.sub(r"\\\1", html.escape(line.strip(" "), quote=False))
    return "&nbsp;" * indent + _BLOCKS.sub(r"\1\\", escaped)
