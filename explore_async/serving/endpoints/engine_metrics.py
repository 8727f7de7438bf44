"""The state of an engine, read from its /metrics page in Prometheus's text format. Pure.

Pages of vLLM and llama.cpp are understood; any other page counts as missing. An engine of several data-parallel ranks
has a line for each: counts are added up, and the fullest cache counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

_LINE = re.compile(r"^(?P<name>[A-Za-z_:][\w:]*)(?:\{[^\n]*\})?\s+(?P<value>\S+)(?:\s+\d+)?\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """A reading. Gauges are of that moment; the others count from the engine's start, and are 0 if it has none."""

    running: float
    """Requests in the batch."""
    waiting: float
    """Requests that have arrived and are not in the batch."""
    kv_usage: float
    """Share of the KV cache that is taken, 0 to 1."""
    preemptions: float
    generation_tokens: float
    prompt_tokens: float
    prefix_queries: float
    """Prompt tokens looked up in the prefix cache."""
    prefix_hits: float
    """Prompt tokens that were in the prefix cache."""


_VLLM: Final[Mapping[str, tuple[str, ...]]] = {
    "running": ("vllm:num_requests_running",),
    "waiting": ("vllm:num_requests_waiting",),
    "kv_usage": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),  # the second until 0.9
    "preemptions": ("vllm:num_preemptions_total", "vllm:num_preemptions"),
    "generation_tokens": ("vllm:generation_tokens_total", "vllm:generation_tokens"),
    "prompt_tokens": ("vllm:prompt_tokens_total", "vllm:prompt_tokens"),
    "prefix_queries": ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_queries"),
    "prefix_hits": ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_hits"),
}
_LLAMA_CPP: Final[Mapping[str, tuple[str, ...]]] = {
    "running": ("llamacpp:requests_processing",),
    "waiting": ("llamacpp:requests_deferred",),
    "generation_tokens": ("llamacpp:tokens_predicted_total",),
    "prompt_tokens": ("llamacpp:prompt_tokens_total",),
}
_FULLEST: Final = {"kv_usage"}
_ABSURD: Final = 1e15


def read_metrics(page: str) -> EngineMetrics | None:
    """The reading, None when the page does not say how many requests run and wait."""
    values: dict[str, list[float]] = {}
    for line in _LINE.finditer(page):
        try:
            value = float(line["value"])
        except ValueError:
            continue
        if 0 <= value < _ABSURD:  # nor is it nan
            values.setdefault(line["name"], []).append(value)
    for names in (_VLLM, _LLAMA_CPP):
        if all(names[gauge][0] in values for gauge in ("running", "waiting")):
            return EngineMetrics(**{field.name: _value(values, names, field.name) for field in fields(EngineMetrics)})
    return None


def _value(values: Mapping[str, list[float]], names: Mapping[str, tuple[str, ...]], field: str) -> float:
    readings = next((values[name] for name in names.get(field, ()) if name in values), [])
    return max(readings, default=0.0) if field in _FULLEST else sum(readings)
