"""The result of an analysis for programs: its main figures as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explore_async.analysis.estimates import Estimate


@dataclass(frozen=True, slots=True)
class SetFigures:
    """The main figures of one dataset. An estimate is None where there are too few pairs for it."""

    name: str
    path: str
    is_simulated: bool
    examples: int
    examined: int
    """Examples that were measured: all, or a part of a larger dataset."""
    tasks: int
    pairs_left_out: str | None
    """The reason why the instructions were not parsed, so that figures of pairs are 0 or None; None if they were."""
    unique_pairs: int
    """Different pairs of a root verb and its object."""
    with_pair: int
    """Instructions that have such a pair."""
    mean_occurrences: float
    std_occurrences: float
    chao1: Estimate | None
    """A lower bound for the number of pairs, unseen ones included."""
    unseen_mass: Estimate | None
    """The chance that the pair of the next example is new."""
    entropy_bits: Estimate | None
    hill: tuple[float, float, float] | None
    """Effective numbers of pairs, of order 0, 1 and 2; None where there is no pair."""
    coverage: Estimate | None
    """The share of all pairs, by their frequency, that the data has; by Chao and Jost's estimator."""
    overlap_nearest: float
    """Mean ROUGE-L F of an instruction with its nearest other."""
    overlap_mean: float
    """Mean ROUGE-L F of an instruction with all others."""
    near_duplicates: float
    """Share of the instructions with a near-duplicate (ROUGE-L F above 0.7)."""
    identical: int
    """Instructions with the same tokens as an earlier one."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """The figures of each dataset, in the order of the sources."""

    document: Mapping[str, Any] = field(repr=False)
    """Everything that was measured, as `analyze --out` writes it; docs/analysis.md explains the figures."""
    files: tuple[Path, ...] = ()
    """The files that were written."""

    @property
    def sets(self) -> tuple[SetFigures, ...]:
        return tuple(_figures(of_set) for of_set in self.document["sets"])


def _figures(of_set: Mapping[str, Any]) -> SetFigures:
    pairs, overlap, duplicates = of_set["verb_noun"], of_set["overlap"], of_set["duplicates"]
    estimates = {name: pairs[name] for name in ("chao1", "unseen_mass", "entropy_bits", "coverage")}
    return SetFigures(
        name=of_set["name"],
        path=of_set["path"],
        is_simulated=of_set["simulated"],
        examples=of_set["examples"],
        examined=of_set["examined"],
        tasks=len(of_set["tasks"]),
        pairs_left_out=pairs["left_out"],
        unique_pairs=pairs["unique"],
        with_pair=pairs["with_pair"],
        mean_occurrences=pairs["mean_occurrences"],
        std_occurrences=pairs["std_occurrences"],
        **{name: None if value is None else Estimate(**value) for name, value in estimates.items()},
        hill=tuple(pairs["hill"]) if pairs["hill"] else None,
        overlap_nearest=overlap["greatest"]["mean"],
        overlap_mean=overlap["mean"]["mean"],
        near_duplicates=duplicates["near"],
        identical=duplicates["identical"],
    )
