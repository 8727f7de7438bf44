"""The number of requests that an endpoint gets at once: a fixed number, or as many as keep its batch full. Pure.

Too few leave slots idle; too many only lengthen the engine's queue. So `AutoLimit` wants a few requests waiting at a
full engine, prefers too many to too few, and goes down at once to the number that it has seen. For engines without
metrics it uses the tokens per second that they make. Rejections (429, 503) halve either limit, because the server asks
for that; but one now and then comes at any load, and would otherwise hold the limit down for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from explore_async.serving.endpoints.engine_metrics import EngineMetrics

FIRST_LIMIT: Final = 32
READING_S: Final = 0.5
"""Seconds between two readings: a server of 1,024 slots is full after five doublings."""
WANTED_WAITING: Final = 0.10
"""Requests that should wait at a full engine, as a share of the running ones."""
MOST_WAITING: Final = 0.25
LEAST_WAITING: Final = 0.02
SPARE: Final = 2
"""Requests added to these shares, for engines with few slots."""
BINDING: Final = 0.9
"""Share of the limit that must be in use before the limit counts as the cause of idle slots."""
CACHE_NEARLY_FULL: Final = 0.95
CUT: Final = 0.9
"""Factor for the limit after a preemption."""
CAUTIOUS_GROWTH: Final = 1.1
CAUTIOUS_S: Final = 20.0
"""Seconds after a preemption or a rejection in which the limit grows by small steps."""
_REJECTIONS_APART_S: Final = 1.0
TOLERATED: Final = 0.02
"""Share of rejected requests that says nothing about the number in flight."""
_TOO_MANY: Final = 2.0
_MOST_EXCESS: Final = 3.0


class Limit(Protocol):
    """The limit of the requests that an endpoint may have in flight.

    `value` is that number, at least 1. It learns from all that happens and decides nothing else.
    """

    @property
    def value(self) -> int: ...

    def rejected(self, now: float) -> None:
        """The server asked to send later."""

    def answered(self, now: float, tokens: int) -> None:
        """A completion of this number of tokens arrived."""

    def read(self, now: float, in_flight: int, metrics: EngineMetrics | None) -> None:
        """A reading of the engine, every `READING_S`, with the requests in flight here at that time."""


@dataclass(slots=True, eq=False)
class Rejections:
    """Decides when rejections mean that too many requests are in flight: when they are more than the tolerated share of
    all. Those of a burst, of a second, count once.
    """

    _excess: float = 0.0
    """Rejections beyond the tolerated share, up to a bound: what was long ago counts no more."""
    _cut_at: float = float("-inf")

    def answered(self) -> None:
        self._excess = max(0.0, self._excess - TOLERATED)

    def is_too_many(self, now: float) -> bool:
        """Counts a rejection. Returns True when the limit has to come down."""
        self._excess = min(_MOST_EXCESS, self._excess + 1)
        if self._excess < _TOO_MANY or now - self._cut_at <= _REJECTIONS_APART_S:
            return False
        self._cut_at = now
        return True


@dataclass(slots=True, eq=False)
class FixedLimit:
    """A declared number. A burst of rejections halves it once; every completion adds a part of 1 back."""

    most: int
    _now: float = field(init=False)
    _rejections: Rejections = field(default_factory=Rejections)

    def __post_init__(self) -> None:
        self._now = float(self.most)

    @property
    def value(self) -> int:
        return int(self._now)

    def rejected(self, now: float) -> None:
        if self._rejections.is_too_many(now):
            self._now = max(1.0, self._now / 2)

    def answered(self, now: float, tokens: int) -> None:
        del now, tokens
        self._rejections.answered()
        self._now = min(self.most, self._now + 1 / self._now)

    def read(self, now: float, in_flight: int, metrics: EngineMetrics | None) -> None:
        pass


@dataclass(slots=True, eq=False)
class AutoLimit:
    """A number found by measurement, never above `most`."""

    most: int
    _now: float = field(init=False)
    _climb: Climb = field(init=False)
    _preemptions: float | None = None
    _cautious_until: float = float("-inf")
    _rejections: Rejections = field(default_factory=Rejections)

    def __post_init__(self) -> None:
        self._now = float(min(FIRST_LIMIT, self.most))
        self._climb = Climb()

    @property
    def value(self) -> int:
        return max(1, min(self.most, int(self._now)))

    def rejected(self, now: float) -> None:
        if self._rejections.is_too_many(now):
            self._cautious_until = now + CAUTIOUS_S
            self._set(self._now / 2)
            self._climb = Climb()

    def answered(self, now: float, tokens: int) -> None:
        del now
        self._rejections.answered()
        self._climb.answered(tokens)

    def read(self, now: float, in_flight: int, metrics: EngineMetrics | None) -> None:
        binding = in_flight >= BINDING * self.value
        if metrics is None:
            self._set(self._climb.next(now, self._now, binding=binding, cautious=now < self._cautious_until))
            return
        known, self._preemptions = self._preemptions, metrics.preemptions
        if known is not None and metrics.preemptions > known:
            self._cautious_until = now + CAUTIOUS_S
            self._set(CUT * min(self._now, max(in_flight, 1)))
            return
        wanted = WANTED_WAITING * metrics.running + SPARE
        if metrics.waiting > MOST_WAITING * metrics.running + SPARE:
            # In one step: the reading says by how much. Requests of other clients may wait there too.
            self._set(min(self._now, max(in_flight, 1) - (metrics.waiting - wanted)))
        elif binding and metrics.waiting <= LEAST_WAITING * metrics.running and metrics.kv_usage < CACHE_NEARLY_FULL:
            self._set(self._now * (CAUTIOUS_GROWTH if now < self._cautious_until else 2.0) + 1)
        elif binding and metrics.waiting < wanted / 2:
            self._set(self._now + wanted - metrics.waiting)

    def _set(self, limit: float) -> None:
        self._now = max(1.0, min(float(self.most), limit))


RISE: Final = 1.05
"""Factor of tokens per second that a higher limit must bring to count as an improvement."""
STEADY_PROBES: Final = 6
PROBE: Final = 1.25


@dataclass(slots=True, eq=False)
class Climb:
    """Finds the limit by tokens per second. An epoch lasts until twice the limit is answered.

    It doubles the limit while that brings more, then stays at the best limit, and sometimes tries a quarter more.
    """

    _tokens: int = 0
    _answers: int = 0
    _since: float | None = None
    _best_rate: float = 0.0
    _best_limit: float = 0.0
    _steady: int = 0
    _doubling: bool = True

    def answered(self, tokens: int) -> None:
        self._tokens += max(tokens, 1)
        self._answers += 1

    def next(self, now: float, limit: float, *, binding: bool, cautious: bool) -> float:
        if self._since is None or not binding:
            self._begin(now)
            return limit
        if self._answers < 2 * limit or now <= self._since:
            return limit
        rate = self._tokens / (now - self._since)
        self._begin(now)
        if rate > RISE * self._best_rate:
            self._best_rate, self._best_limit, self._steady = rate, limit, 0
            return limit * (CAUTIOUS_GROWTH if cautious else 2.0 if self._doubling else PROBE)
        self._doubling = False
        if limit > self._best_limit:
            return self._best_limit
        # At the best limit again. Rates drift with the length of completions, so a better rate is slowly forgotten.
        self._best_rate += (rate - self._best_rate) / 2
        self._steady += 1
        if self._steady % STEADY_PROBES == 0:
            return limit * PROBE
        return limit

    def _begin(self, now: float) -> None:
        self._tokens = self._answers = 0
        self._since = now
