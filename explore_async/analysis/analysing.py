"""What there is to say about one data set, and about several side by side: read once, measured, put into one document.

The document is plain JSON: the terminal table, the report and whoever else comes read nothing but it.
"""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from explore_async import __version__
from explore_async.analysis import overlap as overlaps
from explore_async.analysis.cost import cost_curve
from explore_async.analysis.estimates import chao1, entropy, rarefaction, rarefied, unseen_mass
from explore_async.analysis.verb_noun import ENGLISH, Found, verbs_and_nouns
from explore_async.curation.collection import Collection, Example, below
from explore_async.curation.run_data import RunData
from explore_async.exploration.filters import quality_check
from explore_async.exploration.parsing import Draft
from explore_async.settings import Filters
from rouge_kernels import TOKENIZERS

MOST_READ = 200_000
"""Examples that are parsed and compared; of larger data sets so many are drawn, spread evenly."""
TOP_PAIRS = 100
SHOWN = 300
"""Examples that the document holds, to be read: spread evenly, and those nearest to another."""
_NEAR = 0.7
_LONGEST_SHOWN = 4_000
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    spacy_model: str = ENGLISH
    tokenizer: str = "rouge"
    processes: int | None = None
    most_read: int = MOST_READ


@dataclass(slots=True)
class _Read:
    """The examples of a data set that are examined, of `total`, with the verb and noun of each."""

    collection: Collection
    examples: list[Example] = field(default_factory=list)
    total: int = 0
    found: list[Found] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [one["instruction"] for one in self.examples]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(verb, noun) for verb, noun in self.found if verb is not None and noun is not None]


def analysed(collections: Sequence[Collection], options: Options, *, told: Callable[[str], None]) -> dict[str, Any]:
    """The document. `told` gets what is being done. DataError for what is in the data, ConfigError for the model."""
    seconds: dict[str, float] = {}
    began = time.monotonic()

    def took(part: str) -> None:
        nonlocal began
        seconds[part] = round(seconds.get(part, 0) + time.monotonic() - began, 2)
        began = time.monotonic()

    sets: list[_Read] = []
    documents: list[dict[str, Any]] = []
    for collection in collections:
        told(f"{collection.name}: reading")
        read = _read(collection, options.most_read)
        sets.append(read)
        took("reading")

        def parsing(count: int, read: _Read = read) -> None:
            told(f"{read.collection.name}: {count:,} of {len(read.examples):,} instructions parsed")

        parsing(0)
        read.found = list(verbs_and_nouns(read.texts, options.spacy_model, processes=options.processes, told=parsing))
        took("verbs and nouns")
        told(f"{collection.name}: comparing {len(read.examples):,} instructions with one another")
        overlap = overlaps.within(read.texts, options.tokenizer)
        took("overlap")
        documents.append(_document(read, overlap, options))
        took("figures")
    across = []
    for (i, one), (j, other) in combinations(enumerate(sets), 2):
        told(f"comparing {one.collection.name} with {other.collection.name}")
        across.append({"of": i, "with": j, **_across(one, other, options)})
        across.append({"of": j, "with": i, **_across(other, one, options)})
        took("across")
    _name_apart(documents)
    return {
        "explore_async": __version__,
        "spacy_model": options.spacy_model,
        "tokenizer": options.tokenizer,
        "sets": documents,
        "across": across,
        "compared_at": _compared_at(sets),
        "seconds": seconds,
    }


def _read(collection: Collection, most: int) -> _Read:
    """All examples, or where there are more than `most` that many, spread evenly."""
    total = sum(1 for _ in collection.examples())
    read = _Read(collection, total=total)
    step = max(1.0, total / most)
    due = 0.0
    for number, example in enumerate(collection.examples()):
        if number >= due:
            read.examples.append(example)
            due += step
    return read


def _document(read: _Read, overlap: overlaps.Overlap, options: Options) -> dict[str, Any]:
    collection = read.collection
    identical, near = _duplicates(read, overlap, options)
    cost = (
        cost_curve(collection, read.found)
        if isinstance(collection, RunData) and len(read.examples) == read.total
        else []
    )
    return {
        "name": collection.name,
        "path": str(collection.path),
        "simulated": collection.is_simulated,
        "examples": read.total,
        "examined": len(read.examples),
        "verb_noun": _verb_noun(read),
        "overlap": _overlap(overlap),
        "duplicates": {"identical": identical, "near": near, "near_above": _NEAR},
        "lengths": {
            name: _lengths([one[name] for one in read.examples]) for name in ("instruction", "input", "output")
        },
        "filters": dict(_quality(read.examples, options).most_common()),
        "scripts": dict(_scripts(read.examples).most_common()),
        "tasks": _tasks(read, overlap),
        "cost": cost,
        "shown": _shown(read, overlap),
    }


def _verb_noun(read: _Read) -> dict[str, Any]:
    pairs = Counter(read.pairs)
    counts = list(pairs.values())
    verbs = Counter(verb for verb, _ in read.pairs)
    tokens = sum(counts)
    return {
        "with_pair": tokens,
        "without_pair": len(read.examples) - tokens,
        "unique": len(pairs),
        "unique_verbs": len(verbs),
        "unique_nouns": len({noun for _, noun in read.pairs}),
        "mean_occurrences": float(np.mean(counts)) if counts else 0.0,
        "std_occurrences": float(np.std(counts)) if counts else 0.0,
        "type_token_ratio": len(pairs) / tokens if tokens else 0.0,
        "unseen_mass": asdict(unseen_mass(counts)),
        "chao1": asdict(chao1(counts)),
        "entropy_bits": asdict(entropy(counts)),
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


def _overlap(overlap: overlaps.Overlap) -> dict[str, Any]:
    return {
        "compared": len(overlap.positions),
        "others": overlap.texts,
        "greatest": _distribution(overlap.greatest),
        "mean": _distribution(overlap.mean),
        "pairs": overlap.pairs.tolist(),
    }


def _distribution(values: np.ndarray) -> dict[str, Any]:
    """Quantiles, and a histogram over [0, 1]."""
    if not len(values):
        return {"mean": 0.0, "quantiles": [], "histogram": [0] * overlaps.BINS}
    bins = np.histogram(values, bins=overlaps.BINS, range=(0, 1))[0]
    return {
        "mean": float(np.mean(values)),
        "quantiles": [[q, float(np.quantile(values, q))] for q in _QUANTILES],
        "histogram": bins.tolist(),
    }


def _duplicates(read: _Read, overlap: overlaps.Overlap, options: Options) -> tuple[int, float]:
    """Instructions whose tokens another before them has too, and the share of those compared that have a near one."""
    tokenize = TOKENIZERS[options.tokenizer]
    seen: set[tuple[str, ...]] = set()
    identical = 0
    for text in read.texts:
        tokens = tuple(tokenize(text))
        identical += tokens in seen
        seen.add(tokens)
    near = float(np.mean(overlap.greatest > _NEAR)) if len(overlap.greatest) else 0.0
    return identical, near


def _lengths(texts: Sequence[str]) -> dict[str, Any]:
    """Words between white space; of inputs only those that are there."""
    words = np.array([len(text.split()) for text in texts if text], dtype=np.int64)
    if not len(words):
        return {"texts": 0, "mean": 0.0, "quantiles": [], "histogram": []}
    top = int(np.quantile(words, 0.99)) + 1
    counts, edges = np.histogram(np.minimum(words, top), bins=min(40, top), range=(0, top))
    return {
        "texts": len(words),
        "mean": float(words.mean()),
        "quantiles": [[q, float(np.quantile(words, q))] for q in _QUANTILES],
        "histogram": [[float(edge), int(count)] for edge, count in zip(edges, counts, strict=False)],
    }


def _quality(examples: Sequence[Example], options: Options) -> Counter[str]:
    """What a run's own filters would say of these examples: refusals, placeholders, copies and so on."""
    reason_to_drop = quality_check(Filters(), TOKENIZERS[options.tokenizer])
    reasons = (reason_to_drop(Draft(one["instruction"], one["input"], one["output"]), ()) for one in examples)
    return Counter(reason for reason in reasons if reason is not None)


def _scripts(examples: Sequence[Example]) -> Counter[str]:
    """Examples by the script that most letters of the instruction have: Latin, Cyrillic, CJK and so on."""
    return Counter(_script(one["instruction"]) for one in examples)


def _script(text: str) -> str:
    letters = [char for char in text[:400] if char.isalpha()]
    ascii_letters = sum(char.isascii() for char in letters)
    if 2 * ascii_letters >= len(letters):
        return "Latin" if letters else "none"
    names = Counter(unicodedata.name(char, "other").split(" ")[0].title() for char in letters if not char.isascii())
    return names.most_common(1)[0][0]


def _tasks(read: _Read, overlap: overlaps.Overlap) -> list[dict[str, Any]]:
    """Each task, parents first, with its examples, its pairs, and how many of these no task before it had."""
    pairs: dict[str, Counter[tuple[str, str]]] = {}
    examples: Counter[str] = Counter()
    greatest: dict[str, list[float]] = {}
    for example, (verb, noun) in zip(read.examples, read.found, strict=True):
        examples[example["task_id"]] += 1
        if verb is not None and noun is not None:
            pairs.setdefault(example["task_id"], Counter())[verb, noun] += 1
    for position, score in zip(overlap.positions.tolist(), overlap.greatest.tolist(), strict=True):
        greatest.setdefault(read.examples[position]["task_id"], []).append(score)
    seen: set[tuple[str, str]] = set()
    rows = []
    for node, parent in _with_parents(read.collection):
        own = set(pairs.get(node["id"], ()))
        scores = greatest.get(node["id"])
        rows.append(
            {
                "id": node["id"],
                "parent": parent,
                "name": node["name"],
                "origin": node["origin"],
                "depth": node["depth"],
                "kept": node["kept"],
                "dropped": node["dropped"],
                "examined": examples[node["id"]],
                "pairs": len(own),
                "new_pairs": len(own - seen),
                "overlap": float(np.mean(scores)) if scores else None,
            }
        )
        seen |= own
    return rows


def _with_parents(collection: Collection) -> Iterator[tuple[Any, str | None]]:
    for root in collection.trees():
        for node in below(root):
            parent = node["id"].rpartition(".")[0]
            yield node, parent or None


def _shown(read: _Read, overlap: overlaps.Overlap) -> list[dict[str, Any]]:
    """Examples with their nearest neighbours: some spread evenly, and those that are nearest to another."""
    count = len(overlap.positions)
    if not count:
        return []
    spread = set(np.linspace(0, count - 1, min(count, SHOWN // 2)).astype(int).tolist())
    nearest = np.argsort(-overlap.greatest, kind="stable")[: SHOWN // 2].tolist()
    rows = []
    for at in sorted(spread | set(nearest)):
        example = read.examples[int(overlap.positions[at])]
        neighbour = int(overlap.nearest[at])
        row = {name: example[name][:_LONGEST_SHOWN] for name in ("instruction", "input", "output")}
        rows.append(
            {
                "id": example["id"],
                "task": " > ".join(example["task_path"]),
                **row,
                "overlap": round(float(overlap.greatest[at]), 4),
                "neighbour": read.examples[neighbour]["instruction"][:_LONGEST_SHOWN] if neighbour >= 0 else None,
            }
        )
    return rows


def _across(one: _Read, other: _Read, options: Options) -> dict[str, Any]:
    """How alike the first's texts are to the other's, and which pairs both have."""
    overlap = overlaps.between(one.texts, other.texts, options.tokenizer)
    own, theirs = set(one.pairs), set(other.pairs)
    return {
        **_overlap(overlap),
        "near": float(np.mean(overlap.greatest > _NEAR)) if len(overlap.greatest) else 0.0,
        "pairs_shared": len(own & theirs),
        "pairs_only_here": len(own - theirs),
    }


def _compared_at(sets: Sequence[_Read]) -> dict[str, Any] | None:
    """Unique pairs of each in random parts of one size: the most that the smallest has. Needs two or more."""
    counts = [list(Counter(read.pairs).values()) for read in sets]
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
