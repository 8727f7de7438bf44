"""The examples of a dataset that an analysis looks at, with the measurements of each."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from explore_async.analysis.overlap import BINS, ByTask, Overlap
from explore_async.analysis.parsers import Parser
from explore_async.analysis.verb_noun import VerbNoun
from explore_async.curation.collections.collection import Collection, ExampleRow

NEAR = 0.7
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(slots=True)
class DataSample:
    """The examples of a dataset that are analyzed.

    `examples` are taken from `total`; `verbs_nouns` has the verb and noun of each.
    """

    collection: Collection
    examples: list[ExampleRow] = field(default_factory=list)
    total: int = 0
    verbs_nouns: list[VerbNoun] = field(default_factory=list)
    parser: Parser = field(default_factory=lambda: Parser(None))
    overlap: Overlap | None = None
    by_task: ByTask | None = None

    @property
    def texts(self) -> list[str]:
        return [example["instruction"] for example in self.examples]

    @property
    def tasks(self) -> list[str]:
        return [example["task_id"] for example in self.examples]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(verb, noun) for verb, noun in self.verbs_nouns if verb is not None and noun is not None]


def read(collection: Collection, most: int) -> DataSample:
    """All examples; of more than `most`, `most` of them, spread evenly."""
    total = sum(1 for _ in collection.examples())
    return DataSample(collection, list(spread(collection.examples(), total, most)), total)


def spread(examples: Iterable[ExampleRow], total: int, most: int) -> Iterable[ExampleRow]:
    """At most `most` of them: a random one from each of `most` equal parts, as the data may be periodic."""
    if total <= most:
        yield from examples
        return
    chance, step, taken = random.Random(0), total / most, 0  # noqa: S311 - no cryptography
    due = chance.random() * step
    for number, example in enumerate(examples):
        if number >= int(due):
            yield example
            taken += 1
            due = (taken + chance.random()) * step


def distribution(values: np.ndarray | Sequence[float]) -> dict[str, Any]:
    """Count, mean, standard deviation, quantiles and histogram of values in [0, 1], without those that are nan."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return {"count": 0, "mean": 0.0, "std": 0.0, "quantiles": [], "histogram": [0] * BINS}
    return {
        "count": len(known),
        "mean": float(known.mean()),
        "std": float(known.std()),
        "quantiles": [[q, float(np.quantile(known, q))] for q in QUANTILES],
        "histogram": np.histogram(known, bins=BINS, range=(0, 1))[0].tolist(),
    }
