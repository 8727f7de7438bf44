"""The page /metrics of the simulated server, with vLLM's names, types, labels and buckets. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

from explore_async.serving.endpoints.engine_metrics import EngineMetrics
from explore_async.serving.simulated.pacing import Served

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_FIRST_TOKEN_SECONDS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_TOKEN_SECONDS: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_NUMBERS: Final = (1.0, 2.0, 5.0, 10.0, 20.0)
_PREEMPTIONS: Final = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
_TOKENS: Final = tuple(float(digit * 10**power) for power in range(6) for digit in (1, 2, 5))
"""Buckets up to the length of the context."""

_GAUGES: Final[Mapping[str, tuple[str, str]]] = {
    "num_requests_running": ("running", "Number of requests in model execution batches."),
    "num_requests_waiting": ("waiting", "Number of requests waiting to be processed."),
    "kv_cache_usage_perc": ("kv_usage", "KV-cache usage. 1 means 100 percent usage."),
}
_COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    "prefix_cache_queries": ("prefix_queries", "Prefix cache queries, in terms of number of queried tokens."),
    "prefix_cache_hits": ("prefix_hits", "Prefix cache hits, in terms of number of cached tokens."),
    "num_preemptions": ("preemptions", "Cumulative number of preemption from the engine."),
    "prompt_tokens": ("prompt_tokens", "Number of prefill tokens processed."),
    "prompt_tokens_cached": ("prefix_hits", "Number of cached prompt tokens (local + external)."),
    "generation_tokens": ("generation_tokens", "Number of generation tokens processed."),
}
"""Metric, field of EngineMetrics, and vLLM's description of it."""
_HISTOGRAMS: Final[Mapping[str, tuple[Sequence[float], str]]] = {
    "time_to_first_token_seconds": (_FIRST_TOKEN_SECONDS, "Histogram of time to first token in seconds."),
    "inter_token_latency_seconds": (_TOKEN_SECONDS, "Histogram of inter-token latency in seconds."),
    "request_time_per_output_token_seconds": (
        _TOKEN_SECONDS,
        "Histogram of time_per_output_token_seconds per request.",
    ),
    "e2e_request_latency_seconds": (_SECONDS, "Histogram of e2e request latency in seconds."),
    "request_queue_time_seconds": (_SECONDS, "Histogram of time spent in WAITING phase for request."),
    "request_inference_time_seconds": (_SECONDS, "Histogram of time spent in RUNNING phase for request."),
    "request_prefill_time_seconds": (_SECONDS, "Histogram of time spent in PREFILL phase for request."),
    "request_decode_time_seconds": (_SECONDS, "Histogram of time spent in DECODE phase for request."),
    "request_prompt_tokens": (_TOKENS, "Number of prefill tokens processed."),
    "request_generation_tokens": (_TOKENS, "Number of generation tokens processed."),
    "request_max_num_generation_tokens": (_TOKENS, "Histogram of maximum number of requested generation tokens."),
    "request_params_max_tokens": (_TOKENS, "Histogram of the max_tokens request parameter."),
    "request_params_n": (_NUMBERS, "Histogram of the n request parameter."),
    "request_num_preemptions": (_PREEMPTIONS, "Histogram of the number of times a request was preempted."),
    "request_prefill_kv_computed_tokens": (
        _TOKENS,
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
    ),
}
_EACH: Final = (
    "time_to_first_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_inference_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "request_max_num_generation_tokens",
    "request_params_n",
    "request_num_preemptions",
    "request_prefill_kv_computed_tokens",
)
"""The histograms that get one value from each completion, in the order of `ServerMetrics.add`."""
_REASONS: Final = ("stop", "length", "abort", "error", "repetition")


class Histogram:
    """Counts of values by the buckets whose upper bounds are `bounds`."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times


class ServerMetrics:
    """The histograms of finished requests. The page shows the rest from a reading of the engine."""

    def __init__(self, model: str, length: int) -> None:
        self._model = model
        self._reasons: Counter[str] = Counter()
        self._histograms = {
            name: Histogram([bound for bound in bounds if bounds is not _TOKENS or bound <= length])
            for name, (bounds, _) in _HISTOGRAMS.items()
        }
        self._each = [self._histograms[name] for name in _EACH]

    def add(
        self, served: Served, *, prompt_tokens: int, tokens: int, max_tokens: int | None, number: int, reason: str
    ) -> None:
        """A completion is finished. `number`: `n` of its request."""
        decode_s = max(0.0, served.finished_at - served.first_at)
        inference_s = max(0.0, served.finished_at - served.admitted_at)
        values = (
            max(0.0, served.first_at - served.arrived_at),
            max(0.0, served.finished_at - served.arrived_at),
            max(0.0, served.admitted_at - served.arrived_at),
            inference_s,
            max(0.0, inference_s - decode_s),
            decode_s,
            prompt_tokens,
            tokens,
            tokens,
            number,
            served.preemptions,
            prompt_tokens - served.cached_tokens,
        )
        for histogram, value in zip(self._each, values, strict=True):
            histogram.counts[bisect_left(histogram.bounds, value)] += 1
            histogram.sum += value
        if max_tokens is not None:
            self._histograms["request_params_max_tokens"].observe(max_tokens)
        if (gaps := tokens - 1) > 0:
            self._histograms["inter_token_latency_seconds"].observe(decode_s / gaps, gaps)
            self._histograms["request_time_per_output_token_seconds"].observe(decode_s / gaps)
        self._reasons[reason] += 1

    def page(self, engine: EngineMetrics) -> str:
        lines: list[str] = []
        for name, (field, help_text) in _GAUGES.items():
            lines += _head(name, "gauge", help_text), self._sample(name, getattr(engine, field))
        by_reason = "num_requests_waiting_by_reason"
        lines.append(_head(by_reason, "gauge", "Number of waiting requests by reason."))
        lines += (
            self._sample(by_reason, waiting, reason=reason)
            for reason, waiting in (("capacity", engine.waiting), ("deferred", 0))
        )
        for name, (field, help_text) in _COUNTERS.items():
            lines += _head(f"{name}_total", "counter", help_text), self._sample(f"{name}_total", getattr(engine, field))
        lines.append(_head("request_success_total", "counter", "Count of successfully processed requests."))
        lines += (
            self._sample("request_success_total", self._reasons[reason], finished_reason=reason) for reason in _REASONS
        )
        for name, histogram in self._histograms.items():
            lines.append(_head(name, "histogram", _HISTOGRAMS[name][1]))
            *counts, total = accumulate(histogram.counts)
            lines += (
                self._sample(f"{name}_bucket", count, le=str(float(bound)))
                for bound, count in zip(histogram.bounds, counts, strict=True)
            )
            lines.append(self._sample(f"{name}_bucket", total, le="+Inf"))
            lines += self._sample(f"{name}_count", total), self._sample(f"{name}_sum", histogram.sum)
        return "\n".join([*lines, ""])

    def _sample(self, name: str, value: float, **labels: str) -> str:
        shown = {"engine": "0", "model_name": self._model, **labels}
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in sorted(shown.items()))
        return f"vllm:{name}{{{inside}}} {float(value)}"


def _head(name: str, kind: str, help_text: str) -> str:
    return f"# HELP vllm:{name} {help_text}\n# TYPE vllm:{name} {kind}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
