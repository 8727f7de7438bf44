"""The speed of an engine from the levels that `bench` measured, for plans and simulated servers. Pure but for one read.

At a level with n requests in flight a step of the batch takes n / rate seconds: one token for each of them, and their
share of reading prompts. A straight line through these times gives the time of a step and that of a request in it. The
first level tells how long prompts take, and the engine's own metrics how many requests and tokens it holds at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from explore_async.errors import DataError
from explore_async.measuring.bottleneck import SOME_WAIT
from explore_async.serving.simulated.engine import Profile

_LEAST: Final = 1e-9
_SOME_USE: Final = 0.02
"""Use of the KV cache from which its size can be told."""
_ROOMY: Final = 4
"""Without a reading the cache holds this many times what was in it."""


@dataclass(frozen=True, slots=True)
class _Level:
    """The work of one engine at a level, on average."""

    running: float
    step_s: float
    ttft_s: float
    new_prompt_tokens: float
    """Tokens of a prompt that the prefix cache does not hold."""
    answer_tokens: float
    context_tokens: float
    """Tokens of all its requests that are in the cache."""
    kv_usage: float


def measured_profile(path: Path) -> Profile:
    """The profile of the engine that the file's measurement asked. Raises DataError where the file cannot tell it."""
    try:
        document = orjson.loads(path.read_bytes())
        levels = [_level(one) for one in document["levels"] if one["completed"]]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"{path}: not a result of `bench --out`") from error
    if len({level.running for level in levels}) <= 1:
        raise DataError(f"{path}: a profile needs two levels of concurrency or more; measure again with more of them")
    return _profile(levels)


def _profile(levels: Sequence[_Level]) -> Profile:
    step_s, slope_s = _line([(level.running, level.step_s) for level in levels])
    first = min(levels, key=lambda level: level.running)
    prefill_s = max(_LEAST, first.ttft_s - step_s - slope_s) / max(1.0, first.new_prompt_tokens)
    reading_s = prefill_s * sum(level.new_prompt_tokens / level.answer_tokens for level in levels) / len(levels)
    if reading_s > slope_s / 2:  # the first token waits for more than its prompt: a queue, the network
        prefill_s, reading_s = prefill_s * slope_s / 2 / reading_s, slope_s / 2
    return Profile(
        slots=max(1, round(max(level.running for level in levels))),
        step_s=step_s,
        request_s=slope_s - reading_s,
        prefill_s=prefill_s,
        kv_tokens=_kv_tokens(levels),
    )


def _level(measured: Mapping[str, Any]) -> _Level:
    engines, completed = len(measured["endpoints"]), measured["completed"]
    server = measured["server"] or {}
    waiting, running, usage = (server.get(name) or {} for name in ("waiting", "running", "kv_usage"))
    full = waiting.get("mean", 0.0) >= SOME_WAIT
    in_flight = running.get("mean", 0.0) / engines if full and running else float(measured["concurrency"])
    rate = measured.get("steady_output_tokens_per_s") or measured["output_tokens_per_s"]
    prompt, answer = measured["prompt_tokens"] / completed, measured["output_tokens"] / completed
    return _Level(
        running=in_flight,
        step_s=in_flight * engines / rate,
        ttft_s=measured["ttft_ms"]["p50"] / 1000,
        new_prompt_tokens=prompt * (1 - (server.get("prefix_hit_share") or 0.0)),
        answer_tokens=answer,
        context_tokens=in_flight * (prompt + answer / 2),
        kv_usage=usage.get("most", 0.0),
    )


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The line of least squares, as its height at 0 and its slope; neither falls below a little more than 0."""
    count = len(points)
    mean_x, mean_y = (sum(values) / count for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = max(_LEAST, sum((x - mean_x) * (y - mean_y) for x, y in points) / spread)
    height = mean_y - slope * mean_x
    if height <= 0:
        return _LEAST, mean_y / mean_x
    return height, slope


def _kv_tokens(levels: Sequence[_Level]) -> int:
    most = max(levels, key=lambda level: level.kv_usage)
    if most.kv_usage >= _SOME_USE:
        return max(1, round(most.context_tokens / most.kv_usage))
    return max(1, round(_ROOMY * max(level.context_tokens for level in levels)))
