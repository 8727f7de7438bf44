"""The figures of a sweep, as they are shown and written. Times are in milliseconds, rates per second.

Names and definitions are those of `vllm bench serve` where it has the figure: see docs/endpoints.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

Bottleneck: TypeAlias = Literal["client", "queue", "engine", "room", "unknown"]


def percentile(ordered: list[float], share: float) -> float:
    """The percentile of rising, non-empty values, interpolated between the two nearest. `share`: 0 to 1."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@dataclass(frozen=True, slots=True)
class Spread:
    mean: float
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float], *, scale: float = 1.0) -> Self | None:
        """The spread of the values times `scale`; None without values."""
        ordered = sorted(value * scale for value in values)
        if not ordered:
            return None
        mean = math.fsum(ordered) / len(ordered)
        return cls(mean, *(percentile(ordered, share) for share in (0.5, 0.9, 0.99)))


@dataclass(frozen=True, slots=True)
class Gauge:
    mean: float
    most: float


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """The engines' own metrics, added up over endpoints (of KV caches: the fullest).

    Means are of the time in which the whole level was in flight; None where it was shorter than the time between two
    readings.
    """

    running: Gauge | None
    waiting: Gauge | None
    kv_usage: Gauge | None
    preemptions: float
    prefix_hit_share: float | None
    """The share of the level's prompt tokens that were in the prefix cache."""


@dataclass(frozen=True, slots=True)
class ClientFigures:
    """The share of one core that this process used, and the lateness of its event loop."""

    cpu_share: float
    loop_lag_p99_ms: float


@dataclass(frozen=True, slots=True)
class EndpointFigures:
    url: str
    completed: int
    output_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class LevelFigures:
    """The figures of one level. `concurrency`: requests in flight at each endpoint. `asked`: requests sent. `errors`
    counts by kind; `first_errors` has the first message of each kind.
    """

    concurrency: int
    in_flight: int
    asked: int
    completed: int
    errors: Mapping[str, int]
    first_errors: Mapping[str, str]
    kinds: Mapping[str, int]
    seconds: float
    prompt_tokens: int
    output_tokens: int
    without_usage: int
    """Completions whose tokens the server did not count; their pieces of text are counted instead."""
    output_tokens_per_s: float
    steady_output_tokens_per_s: float | None
    """Without the ramps: from the end of the first round of requests until the first place stays empty. None where the
    level was too short for that."""
    total_tokens_per_s: float
    requests_per_s: float
    ttft_ms: Spread | None
    tpot_ms: Spread | None
    itl_ms: Spread | None
    e2e_ms: Spread | None
    server: ServerFigures | None
    client: ClientFigures
    endpoints: tuple[EndpointFigures, ...]

    @property
    def rate(self) -> float:
        """Output tokens a second by which levels are compared: without the ramps where that is known."""
        steady = self.steady_output_tokens_per_s
        return self.output_tokens_per_s if steady is None else steady


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The bottleneck of a level, and the figure that shows it."""

    bottleneck: Bottleneck
    reason: str
