"""What there is to say about one data set, and about several side by side: read once, measured, put into one document.

The document is plain JSON: the terminal table, the report and whoever else comes read nothing but it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from explore_async import __version__
from explore_async.analysis import overlap as overlaps
from explore_async.analysis import texts, tree
from explore_async.analysis.cost import cost_curve
from explore_async.analysis.data_sample import NEAR, Examined, distribution, read
from explore_async.analysis.estimates import chao1, entropy, rarefaction, rarefied, unseen_mass
from explore_async.analysis.verb_noun import ENGLISH, verbs_and_nouns
from explore_async.curation.collections.collection import Collection, printable_path

MOST_READ = 200_000
"""Examples that are parsed and compared; of larger data sets so many are drawn, spread evenly."""
TOP_PAIRS = 100
SHOWN = 300
"""Examples that the document holds, to be read: spread evenly, and those nearest to another."""
_LONGEST_SHOWN = 4_000
_LEAST_PAIRS = 10
"""Instructions with a pair, below which nothing is estimated of those not seen."""
_ESTIMATES = {"unseen_mass": unseen_mass, "chao1": chao1, "entropy_bits": entropy}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    spacy_model: str = ENGLISH
    tokenizer: str = "rouge"
    processes: int | None = None
    most_read: int = MOST_READ


def analysed(collections: Sequence[Collection], options: Options, *, told: Callable[[str], None]) -> dict[str, Any]:
    """The document. `told` gets what is being done. DataError for what is in the data, ConfigError for the model."""
    clock = _Clock()
    sets = []
    documents = []
    for collection in collections:
        told(f"{collection.name}: reading")
        examined = read(collection, options.most_read)
        sets.append(examined)
        clock.took("reading")
        _parse(examined, options, told)
        clock.took("verbs and nouns")
        told(f"{collection.name}: comparing {len(examined.examples):,} instructions with one another")
        examined.overlap, examined.by_task = overlaps.within(examined.texts, options.tokenizer, tasks=examined.tasks)
        clock.took("overlap")
        told(f"{collection.name}: counting")
        documents.append(_document(examined, options))
        clock.took("figures")
    across = []
    for (i, one), (j, other) in combinations(enumerate(sets), 2):
        told(f"comparing {one.collection.name} with {other.collection.name}")
        across.append({"of": i, "with": j, **_across(one, other, options)})
        across.append({"of": j, "with": i, **_across(other, one, options)})
        clock.took("across")
    _name_apart(documents)
    return {
        "explore_async": __version__,
        "spacy_model": options.spacy_model,
        "tokenizer": options.tokenizer,
        "sets": documents,
        "across": across,
        "compared_at": _compared_at(sets),
        "seconds": clock.seconds,
    }


class _Clock:
    """Where the time goes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def took(self, part: str) -> None:
        now = time.monotonic()
        self.seconds[part] = round(self.seconds.get(part, 0) + now - self._began, 2)
        self._began = now


def _parse(examined: Examined, options: Options, told: Callable[[str], None]) -> None:
    def parsing(count: int) -> None:
        told(f"{examined.collection.name}: {count:,} of {len(examined.examples):,} instructions parsed")

    parsing(0)
    found = verbs_and_nouns(examined.texts, options.spacy_model, processes=options.processes, told=parsing)
    examined.found = list(found)


def _document(examined: Examined, options: Options) -> dict[str, Any]:
    collection, examples = examined.collection, examined.examples
    is_whole = len(examples) == examined.total
    tasks = tree.tasks(examined)
    return {
        "name": collection.name,
        "path": printable_path(collection.path),
        "simulated": collection.is_simulated,
        "examples": examined.total,
        "examined": len(examples),
        "verb_noun": _verb_noun(examined),
        "overlap": _overlap(examined.overlap, examined.by_task),
        "duplicates": texts.duplicates(examined, options.tokenizer),
        "lengths": {
            name: texts.lengths([one[name] for one in examples]) for name in ("instruction", "input", "output")
        },
        "filters": dict(texts.quality(examples, options.tokenizer).most_common()),
        "scripts": dict(texts.scripts(examples).most_common()),
        "languages": dict(texts.languages(examples).most_common()),
        "tasks": tasks,
        "levels": tree.levels(examined, tasks),
        "cost": cost_curve(collection, examined.found) if is_whole else [],
        "shown": _shown(examined),
    }


def _verb_noun(examined: Examined) -> dict[str, Any]:
    pairs = Counter(examined.pairs)
    counts = list(pairs.values())
    verbs = Counter(verb for verb, _ in examined.pairs)
    tokens = sum(counts)
    return {
        "with_pair": tokens,
        "without_pair": len(examined.examples) - tokens,
        "unique": len(pairs),
        "unique_verbs": len(verbs),
        "unique_nouns": len({noun for _, noun in examined.pairs}),
        "mean_occurrences": float(np.mean(counts)) if counts else 0.0,
        "std_occurrences": float(np.std(counts)) if counts else 0.0,
        "type_token_ratio": len(pairs) / tokens if tokens else 0.0,
        **{name: asdict(estimate(counts)) if tokens >= _LEAST_PAIRS else None for name, estimate in _ESTIMATES.items()},
        "rarefaction": [asdict(point) for point in rarefaction(counts)],
        "occurrences": sorted(Counter(counts).items()),
        "top": [[verb, noun, count] for (verb, noun), count in pairs.most_common(TOP_PAIRS)],
        "sunburst": _sunburst(pairs, verbs),
    }


def _sunburst(pairs: Counter[tuple[str, str]], verbs: Counter[str]) -> list[dict[str, Any]]:
    """The 20 most frequent verbs with their 4 most frequent nouns, as Self-Instruct draws them."""
    chosen = []
    for verb, count in verbs.most_common(20):
        nouns = Counter({noun: n for (one, noun), n in pairs.items() if one == verb})
        chosen.append({"verb": verb, "count": count, "nouns": nouns.most_common(4)})
    return chosen


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


def _shown(examined: Examined) -> list[dict[str, Any]]:
    """Examples with their nearest neighbours: some spread evenly, and those that are nearest to another."""
    overlap = examined.overlap
    if overlap is None or not (count := len(overlap.positions)):
        return []
    spread = set(np.linspace(0, count - 1, min(count, SHOWN // 2)).astype(int).tolist())
    nearest = np.argsort(-overlap.greatest, kind="stable")[: SHOWN // 2].tolist()
    rows = []
    for at in sorted(spread | set(nearest)):
        example = examined.examples[int(overlap.positions[at])]
        neighbour = int(overlap.nearest[at])
        is_near = neighbour >= 0 and overlap.greatest[at] > 0
        row = {name: example[name][:_LONGEST_SHOWN] for name in ("instruction", "input", "output")}
        rows.append(
            {
                "id": example["id"],
                "task": " > ".join(example["task_path"]),
                **row,
                "overlap": round(float(overlap.greatest[at]), 4),
                "neighbour": examined.examples[neighbour]["instruction"][:_LONGEST_SHOWN] if is_near else None,
            }
        )
    return rows


def _across(one: Examined, other: Examined, options: Options) -> dict[str, Any]:
    """How alike the first's texts are to the other's, and which pairs both have."""
    overlap = overlaps.between(one.texts, other.texts, options.tokenizer)
    own, theirs = set(one.pairs), set(other.pairs)
    return {
        **_overlap(overlap),
        "near": float(np.mean(overlap.greatest > NEAR)) if len(overlap.greatest) else 0.0,
        "pairs_shared": len(own & theirs),
        "pairs_only_here": len(own - theirs),
    }


def _compared_at(sets: Sequence[Examined]) -> dict[str, Any] | None:
    """Unique pairs of each in random parts of one size: the most that the smallest has. Needs two or more."""
    counts = [list(Counter(one.pairs).values()) for one in sets]
    size = min((sum(one) for one in counts), default=0)
    if len(sets) < 2 or not size:  # noqa: PLR2004
        return None
    return {"size": size, "unique": [asdict(rarefied(one, size)) for one in counts]}


def _name_apart(documents: Sequence[dict[str, Any]]) -> None:
    names = Counter(one["name"] for one in documents)
    seen: Counter[str] = Counter()
    for one in documents:
        name = one["name"]
        if names[name] > 1:
            seen[name] += 1
            one["name"] = f"{name} ({seen[name]})"
