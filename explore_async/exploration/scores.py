"""Counts of the scores that a judge gave, as JSON holds them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any


class ScoreCounts:
    """Owns how often each score was given, by aspect, in the order in which the aspects came."""

    def __init__(self) -> None:
        self._by_aspect: dict[str, Counter[int]] = {}

    def take(self, scores: Any) -> None:
        """Counts the scores of an example, by aspect. Anything else is passed over: rows may come from elsewhere."""
        for aspect, score in scores.items() if isinstance(scores, Mapping) else ():
            if type(score) is int:
                self._by_aspect.setdefault(str(aspect), Counter())[score] += 1

    def by_aspect(self) -> dict[str, dict[str, int]]:
        """The number of times that each score was given, by aspect and by rising score."""
        return {
            aspect: {str(score): counts[score] for score in sorted(counts)}
            for aspect, counts in self._by_aspect.items()
        }


def mean_score(counts: Mapping[str, int]) -> float:
    """The mean, given how often there is each score; 0 without any."""
    return sum(int(score) * count for score, count in counts.items()) / max(1, sum(counts.values()))
