"""The document of an analysis: all figures of one dataset, or of several side by side.

It is plain JSON; the terminal table, the report, the figures and the library read nothing but it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from explore_async import __version__
from explore_async.analysis import overlap as overlaps
from explore_async.analysis import texts, tree
from explore_async.analysis.cost import NO_COST, PROMPT_WEIGHT, cost_figures
from explore_async.analysis.data_sample import NEAR, DataSample, distribution, read
from explore_async.analysis.facet_grid import facet_grid
from explore_async.analysis.meaning import meaning
from explore_async.analysis.pairs import compared_at, pair_figures
from explore_async.analysis.parsers import parser_for
from explore_async.analysis.tree_shape import tree_shape
from explore_async.analysis.verb_noun import verbs_and_nouns
from explore_async.curation.collections.collection import Collection, printable_path
from explore_async.curation.embeddings import Embedder
from explore_async.curation.ray_workers import Workers
from explore_async.exploration.scores import ScoreCounts

MOST_READ = 200_000
"""Examples that are parsed and compared; of a larger dataset this many are drawn, spread evenly."""
SHOWN = 300
"""Examples in the document, for people to read: half spread evenly, half those nearest to another."""
_LONGEST_SHOWN = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisOptions:
    spacy_model: str | None = None
    """None takes for each dataset the model for its language."""
    tokenizer: str = "rouge"
    processes: int | None = None
    most_read: int = MOST_READ
    prompt_weight: float = PROMPT_WEIGHT
    embedder: Embedder | None = None
    """Compares by meaning too, where there is one."""
    workers: Workers | None = None
    """Parse and compare, where there are some; else this process and others on this machine."""


def make_document(
    collections: Sequence[Collection], options: AnalysisOptions, *, on_progress: Callable[[str], None]
) -> dict[str, Any]:
    """Reads and measures each dataset. `on_progress` gets the name of the step that begins.

    Raises DataError for a fault in the data, ConfigError where there is no such spaCy model.
    """
    clock = _Clock()
    sets = []
    documents = []
    for collection in collections:
        on_progress(f"{collection.name}: reading")
        sample = read(collection, options.most_read)
        sets.append(sample)
        clock.note("reading")
        _parse(sample, options, on_progress)
        clock.note("verbs and nouns")
        on_progress(f"{collection.name}: comparing {len(sample.examples):,} instructions with one another")
        sample.overlap, sample.by_task = overlaps.within(
            sample.texts, options.tokenizer, tasks=sample.tasks, workers=options.workers
        )
        clock.note("overlap")
        documents.append(_document(sample, options, on_progress))
        clock.note("figures")
    across = []
    for (i, first), (j, second) in combinations(enumerate(sets), 2):
        on_progress(f"comparing {first.collection.name} with {second.collection.name}")
        across.append({"of": i, "with": j, **_across(first, second, options)})
        across.append({"of": j, "with": i, **_across(second, first, options)})
        clock.note("across")
    _name_apart(documents)
    return {
        "explore_async": __version__,
        "spacy_model": ", ".join(dict.fromkeys(sample.parser.model for sample in sets if sample.parser.model)),
        "tokenizer": options.tokenizer,
        "sets": documents,
        "across": across,
        "compared_at": compared_at(sets),
        "seconds": clock.seconds,
    }


class _Clock:
    """Seconds of each part of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def note(self, part: str) -> None:
        now = time.monotonic()
        self.seconds[part] = round(self.seconds.get(part, 0) + now - self._began, 2)
        self._began = now


def _parse(sample: DataSample, options: AnalysisOptions, on_progress: Callable[[str], None]) -> None:
    sample.parser = parser_for(sample.collection, sample.texts, options.spacy_model)
    if sample.parser.model is None:
        sample.verbs_nouns = [(None, None)] * len(sample.examples)
        return

    def parsing(count: int) -> None:
        on_progress(f"{sample.collection.name}: {count:,} of {len(sample.examples):,} instructions parsed")

    parsing(0)
    sample.verbs_nouns = list(
        verbs_and_nouns(
            sample.texts,
            sample.parser.model,
            processes=options.processes,
            workers=options.workers,
            on_progress=parsing,
        )
    )


def _document(sample: DataSample, options: AnalysisOptions, on_progress: Callable[[str], None]) -> dict[str, Any]:
    collection, examples = sample.collection, sample.examples

    def identifying(count: int) -> None:
        of = min(len(examples), texts.MOST_IDENTIFIED)
        on_progress(f"{collection.name}: languages of {count:,} of {of:,} examples identified")

    on_progress(f"{collection.name}: counting")
    is_whole = len(examples) == sample.total
    tasks = tree.tasks(sample)
    return {
        "name": collection.name,
        "path": printable_path(collection.path),
        "simulated": collection.is_simulated,
        "other_language": sample.parser.other_language,
        "examples": sample.total,
        "examined": len(examples),
        "verb_noun": pair_figures(sample),
        "overlap": _overlap(sample.overlap, sample.by_task),
        "duplicates": texts.duplicates(sample, options.tokenizer),
        "lengths": {
            name: texts.lengths([example[name] for example in examples]) for name in ("instruction", "input", "output")
        },
        "compression": {
            name: texts.compression([example[name] for example in examples]) for name in ("instruction", "output")
        },
        "scores": _scores(sample),
        "filters": dict(texts.quality(examples, options.tokenizer).most_common()),
        "scripts": dict(texts.scripts(examples).most_common()),
        "languages": dict(texts.languages(examples, identifying).most_common()),
        "tasks": tasks,
        "levels": tree.levels(sample, tasks),
        "shape": tree_shape(collection.trees(), options.tokenizer),
        "facets": facet_grid(collection.trees(), examples) if is_whole else None,
        **(cost_figures(collection, sample.verbs_nouns, options.prompt_weight) if is_whole else NO_COST),
        "semantic": _semantic(sample, options, on_progress),
        "shown": _shown(sample),
    }


def _semantic(
    sample: DataSample, options: AnalysisOptions, on_progress: Callable[[str], None]
) -> dict[str, Any] | None:
    if options.embedder is None:
        return None

    def embedding(count: int) -> None:
        on_progress(f"{sample.collection.name}: {count:,} instructions compared by meaning")

    return meaning(sample, options.embedder, options.tokenizer, embedding)


def _scores(sample: DataSample) -> dict[str, dict[str, int]]:
    """The number of examples with each score of a judge, by aspect; empty without one."""
    counts = ScoreCounts()
    for example in sample.examples:
        counts.take(example.get("scores"))
    return counts.by_aspect()


def _overlap(overlap: overlaps.Overlap | None, by_task: overlaps.ByTask | None = None) -> dict[str, Any]:
    assert overlap is not None
    return {
        "compared": len(overlap.positions),
        "others": overlap.texts,
        "greatest": distribution(overlap.greatest),
        "mean": distribution(overlap.mean),
        "pairs": overlap.pairs.tolist(),
        "by_task": None
        if by_task is None
        else {
            where: {"greatest": distribution(greatest), "mean": distribution(mean), "pairs": pairs.tolist()}
            for where, greatest, mean, pairs in (
                ("within", by_task.greatest_within, by_task.mean_within, by_task.pairs_within),
                ("across", by_task.greatest_across, by_task.mean_across, by_task.pairs_across),
            )
        },
    }


def _shown(sample: DataSample) -> list[dict[str, Any]]:
    """Examples with their nearest neighbours: half spread evenly, half those nearest to another."""
    overlap = sample.overlap
    if overlap is None or not (count := len(overlap.positions)):
        return []
    spread = set(np.linspace(0, count - 1, min(count, SHOWN // 2)).astype(int).tolist())
    nearest = np.argsort(-overlap.greatest, kind="stable")[: SHOWN // 2].tolist()
    rows = []
    for at in sorted(spread | set(nearest)):
        example = sample.examples[int(overlap.positions[at])]
        neighbour = int(overlap.nearest[at])
        is_near = neighbour >= 0 and overlap.greatest[at] > 0
        row = {name: example[name][:_LONGEST_SHOWN] for name in ("instruction", "input", "output")}
        rows.append(
            {
                "id": example["id"],
                "task": " > ".join(example["task_path"]),
                **row,
                "overlap": round(float(overlap.greatest[at]), 4),
                "neighbour": sample.examples[neighbour]["instruction"][:_LONGEST_SHOWN] if is_near else None,
            }
        )
    return rows


def _across(sample: DataSample, other: DataSample, options: AnalysisOptions) -> dict[str, Any]:
    """Overlap of the texts of a sample with those of another, and the pairs in common."""
    overlap = overlaps.between(sample.texts, other.texts, options.tokenizer, workers=options.workers)
    own, theirs = set(sample.pairs), set(other.pairs)
    return {
        **_overlap(overlap),
        "near": float(np.mean(overlap.greatest > NEAR)) if len(overlap.greatest) else 0.0,
        "pairs_shared": len(own & theirs),
        "pairs_only_here": len(own - theirs),
    }


def _name_apart(documents: Sequence[dict[str, Any]]) -> None:
    names = Counter(document["name"] for document in documents)
    seen: Counter[str] = Counter()
    for document in documents:
        name = document["name"]
        if names[name] > 1:
            seen[name] += 1
            document["name"] = f"{name} ({seen[name]})"
