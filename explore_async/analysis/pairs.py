"""Figures of the pairs of verb and noun of a dataset, and of several side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from explore_async.analysis.data_sample import DataSample
from explore_async.analysis.diversity import (
    Abundances,
    coverage_curve,
    coverage_estimate,
    diversity_at,
    diversity_in,
    hill_numbers,
)
from explore_async.analysis.estimates import chao1, entropy, rarefaction, rarefy, unseen_mass

TOP_PAIRS = 100
_LEAST_PAIRS = 10
"""With fewer instructions that have a pair, nothing is estimated about unseen pairs."""
_LEAST_FOR_COVERAGE = 50
"""With fewer, the interval of the coverage is half of all that is possible, or wider."""
_ESTIMATES = {"unseen_mass": unseen_mass, "chao1": chao1, "entropy_bits": entropy}


def pair_figures(sample: DataSample) -> dict[str, Any]:
    pairs = Counter(sample.pairs)
    counts = list(pairs.values())
    verbs = Counter(verb for verb, _ in sample.pairs)
    tokens = sum(counts)
    return {
        "model": sample.parser.model,
        "left_out": sample.parser.left_out,
        "with_pair": tokens,
        "without_pair": len(sample.examples) - tokens,
        "unique": len(pairs),
        "unique_verbs": len(verbs),
        "unique_nouns": len({noun for _, noun in sample.pairs}),
        "mean_occurrences": float(np.mean(counts)) if counts else 0.0,
        "std_occurrences": float(np.std(counts)) if counts else 0.0,
        "type_token_ratio": len(pairs) / tokens if tokens else 0.0,
        "hill": list(hill_numbers(counts)) if counts else None,
        **{name: asdict(estimate(counts)) if tokens >= _LEAST_PAIRS else None for name, estimate in _ESTIMATES.items()},
        **_coverage(counts),
        "rarefaction": [asdict(point) for point in rarefaction(counts)],
        "occurrences": sorted(Counter(counts).items()),
        "top": [[verb, noun, count] for (verb, noun), count in pairs.most_common(TOP_PAIRS)],
        "sunburst": _sunburst(pairs, verbs),
    }


def _coverage(counts: Sequence[int]) -> dict[str, Any]:
    """The estimated coverage of the sample and the curve by coverage, or the reason why there is none."""
    reason = _not_estimated(counts)
    return {
        "coverage_left_out": reason,
        "coverage": None if reason else asdict(coverage_estimate(counts)),
        "by_coverage": [] if reason else [asdict(point) for point in coverage_curve(counts)],
    }


def _not_estimated(counts: Sequence[int]) -> str | None:
    if (found := sum(counts)) < _LEAST_FOR_COVERAGE:
        return f"too few instructions have a pair: {found:,}, and an estimate needs {_LEAST_FOR_COVERAGE}"
    if max(counts) == 1:
        return "no pair occurs twice, so nothing tells how many are still unseen"
    return None


def _sunburst(pairs: Counter[tuple[str, str]], verbs: Counter[str]) -> list[dict[str, Any]]:
    """The 20 most frequent verbs with their 4 most frequent nouns, as Self-Instruct draws them."""
    chosen = []
    for verb, count in verbs.most_common(20):
        nouns = Counter({noun: n for (root, noun), n in pairs.items() if root == verb})
        chosen.append({"verb": verb, "count": count, "nouns": nouns.most_common(4)})
    return chosen


def compared_at(sets: Sequence[DataSample]) -> dict[str, Any] | None:
    """Pairs of each dataset in a random part of the same size, that of the smallest, and of the same coverage, the
    least of them; None for one dataset. A dataset that is not parsed, or whose coverage is not known, has None.
    """
    counts = [None if sample.parser.model is None else list(Counter(sample.pairs).values()) for sample in sets]
    sizes = [sum(of_set) for of_set in counts if of_set is not None]
    size = min(sizes, default=0)
    if len(sizes) < 2 or not size:  # noqa: PLR2004
        return None
    known = [of_set if of_set and not _not_estimated(of_set) else None for of_set in counts]
    coverages = [Abundances(of_set).coverage() for of_set in known if of_set is not None]
    coverage = min(coverages) if len(coverages) > 1 else None
    return {
        "size": size,
        "unique": [None if of_set is None else asdict(rarefy(of_set, size)) for of_set in counts],
        "diversity": [None if of_set is None else asdict(diversity_in(of_set, size)) for of_set in counts],
        "coverage": coverage,
        "diversity_at_coverage": [
            None if of_set is None or coverage is None else asdict(diversity_at(of_set, coverage)) for of_set in known
        ],
    }
