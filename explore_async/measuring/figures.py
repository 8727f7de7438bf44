"""The figures of a sweep, as they are shown and written. Times are in milliseconds, rates per second.

Names and definitions are those of `vllm bench serve` where it has the figure: see docs/usage.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

Bottleneck: TypeAlias = Literal["client", "queue", "engine", "room", "unknown"]


def percentile(ordered: list[float], share: float) -> float:
    """Between the two nearest, by their distance. `ordered` rises and is not empty."""
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
        """None of no values."""
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
    """What the engines said of themselves, added up over endpoints (of KV caches: the fullest).

    Means are of the time in which the level was in flight as a whole; None where it passed between two readings.
    """

    running: Gauge | None
    waiting: Gauge | None
    kv_usage: Gauge | None
    preemptions: float
    prefix_hit_share: float | None
    """Of the prompt tokens of the level: how many were found in the prefix cache."""


@dataclass(frozen=True, slots=True)
class ClientFigures:
    """Of this process: the share of one core that it used, and by how much its event loop was late."""

    cpu_share: float
    loop_lag_p99_ms: float


@dataclass(frozen=True, slots=True)
class EndpointFigures:
    url: str
    completed: int
    output_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class LevelFigures:
    """One level. `concurrency` is in flight at each endpoint; `errors` counts by kind, `first_errors` shows one of
    each.
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
    """Answers whose tokens the server did not count; their pieces of text are counted instead."""
    output_tokens_per_s: float
    total_tokens_per_s: float
    requests_per_s: float
    ttft_ms: Spread | None
    tpot_ms: Spread | None
    itl_ms: Spread | None
    e2e_ms: Spread | None
    server: ServerFigures | None
    client: ClientFigures
    endpoints: tuple[EndpointFigures, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    bottleneck: Bottleneck
    reason: str
