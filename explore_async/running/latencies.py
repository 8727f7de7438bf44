"""The latest latencies of each kind of request, and when a request of that kind counts as lost."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection

_KEPT = 200
_NEEDED = 20
_USUAL = 3
_UNKNOWN_S, _LONGEST_UNKNOWN_S = 20.0, 60.0
_P90 = 0.9
_P99 = 0.99
_DEADLINE_IN_P99 = 5.0


class Latencies:
    """Owns the latest latencies, in seconds. `first_deadline_s`: the shortest deadline, however quick the endpoints."""

    def __init__(self, first_deadline_s: float) -> None:
        self._first_deadline_s = first_deadline_s
        self.look_every_s = min(0.25, first_deadline_s / 4)
        """Seconds between two looks for a request that counts as lost."""
        self._by_kind: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def note(self, kind: str, seconds: float) -> None:
        self._by_kind[kind].append(seconds)

    def usual_s(self, kind: str) -> float | None:
        """The median of the latest latencies of this kind; None while there are too few."""
        latencies = sorted(self._by_kind.get(kind, ()))
        return latencies[len(latencies) // 2] if len(latencies) >= _USUAL else None

    @property
    def p90_s(self) -> float:
        """Nine of ten of the latest completions of all kinds took at most this long; 0 where there is none."""
        latencies = sorted(seconds for of_kind in self._by_kind.values() for seconds in of_kind)
        return latencies[int(_P90 * (len(latencies) - 1))] if latencies else 0.0

    @property
    def slowest_s(self) -> float:
        """The longest of the latest latencies of all kinds; 0 where there is none."""
        return max((seconds for latencies in self._by_kind.values() for seconds in latencies), default=0.0)

    def longest_s(self, oldest_s: float, kinds: Collection[str]) -> float:
        """How long a request in flight, of one of these kinds, may take: as long as the slowest of the latest.

        While few are known, or few of its kind, 20 s or twice the age of the oldest in flight (`oldest_s`), up to a
        minute: a server may hang.
        """
        are_few = sum(map(len, self._by_kind.values())) < _NEEDED
        are_few = are_few or any(len(self._by_kind.get(kind, ())) < _USUAL for kind in kinds)
        likely_s = min(max(_UNKNOWN_S, 2 * oldest_s), _LONGEST_UNKNOWN_S) if are_few else 0.0
        return max(self.slowest_s, likely_s)

    def deadline_s(self, kind: str) -> float | None:
        """Seconds after which a request of this kind counts as lost; None while there are too few latencies."""
        latencies = self._by_kind.get(kind, ())
        if len(latencies) < _NEEDED:
            return None
        p99 = sorted(latencies)[int(_P99 * (len(latencies) - 1))]
        return max(self._first_deadline_s, _DEADLINE_IN_P99 * p99)
