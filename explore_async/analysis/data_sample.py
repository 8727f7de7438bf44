"""The examples of a data set that an analysis looks at, with what is found of each."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from explore_async.analysis.overlap import BINS, ByTask, Overlap
from explore_async.analysis.verb_noun import Found
from explore_async.curation.collections.collection import Collection, Example

NEAR = 0.7
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(slots=True)
class Examined:
    """`examples` are those of `total` that are looked at; `found` has the verb and noun of each."""

    collection: Collection
    examples: list[Example] = field(default_factory=list)
    total: int = 0
    found: list[Found] = field(default_factory=list)
    overlap: Overlap | None = None
    by_task: ByTask | None = None

    @property
    def texts(self) -> list[str]:
        return [one["instruction"] for one in self.examples]

    @property
    def tasks(self) -> list[str]:
        return [one["task_id"] for one in self.examples]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(verb, noun) for verb, noun in self.found if verb is not None and noun is not None]


def read(collection: Collection, most: int) -> Examined:
    """All examples, or where there are more than `most` that many, spread evenly."""
    total = sum(1 for _ in collection.examples())
    return Examined(collection, list(spread(collection.examples(), total, most)), total)


def spread(examples: Iterable[Example], total: int, most: int) -> Iterable[Example]:
    """At most so many of them, evenly: by lot one of each stretch, as the data may have a rhythm of their own."""
    if total <= most:
        yield from examples
        return
    lot, step, taken = random.Random(0), total / most, 0  # noqa: S311 - no cryptography
    due = lot.random() * step
    for number, example in enumerate(examples):
        if number >= int(due):
            yield example
            taken += 1
            due = (taken + lot.random()) * step


def distribution(values: np.ndarray | Sequence[float]) -> dict[str, Any]:
    """Of values in [0, 1], those that are numbers: how many, mean, standard deviation, quantiles and a histogram."""
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
