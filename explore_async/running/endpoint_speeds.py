"""The speed of each endpoint, by the completions that it has brought at this start."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import ceil, exp, inf, log
from statistics import median

from explore_async.exploration.values import Completion
from explore_async.running.time_left import remaining_s
from explore_async.serving.endpoints.values import SILENT_FROM_S

RATE_OVER_S = 60.0
LONGEST_RATE_S = 900.0
_LATEST = 50
_JUDGED_FROM = 5
_COMPARED_OVER = 3.0
"""Completions, one after another, over which endpoints are compared where that is more than a minute."""
_SILENT_FROM_P90 = 3.0
_SLOW = 0.95
_STEP = log(1.05)
_SHORTEST_S = 1e-4
_SHORTEST_SPAN_S = 0.1


@dataclass(frozen=True, slots=True)
class LatencyFigures:
    """Seconds from sending a request to its whole completion. The quantiles are exact to 5 %."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float


class LatencyCounts:
    """Latencies of any number of completions, counted in steps of 5 %, so that those of several starts add up."""

    def __init__(self, counts: Mapping[int, int] | None = None, total_s: float = 0.0, longest_s: float = 0.0) -> None:
        self.counts = Counter(counts or {})
        self.total_s = total_s
        self.longest_s = longest_s

    def note(self, seconds: float) -> None:
        self.counts[ceil(log(max(seconds, _SHORTEST_S)) / _STEP)] += 1
        self.total_s += seconds
        self.longest_s = max(self.longest_s, seconds)

    def add(self, other: LatencyCounts) -> None:
        self.counts.update(other.counts)
        self.total_s += other.total_s
        self.longest_s = max(self.longest_s, other.longest_s)

    def figures(self) -> LatencyFigures | None:
        """None where there is no completion."""
        if not (number := self.counts.total()):
            return None
        steps = sorted(self.counts)
        up_to = list(accumulate(self.counts[step] for step in steps))
        quantiles = (exp(steps[bisect_left(up_to, share * number)] * _STEP) for share in (0.5, 0.9, 0.99))
        in_bounds = (min(seconds, self.longest_s) for seconds in quantiles)
        return LatencyFigures(*(round(seconds, 4) for seconds in (self.total_s / number, *in_bounds, self.longest_s)))


@dataclass(frozen=True, slots=True)
class Rate:
    """Means over the last minute, or since the first request where that is less ago."""

    answers_per_s: float = 0.0
    tokens_per_s: float = 0.0
    """Completion tokens."""


@dataclass(frozen=True, slots=True)
class Speed:
    """One endpoint at one moment."""

    rate: Rate = Rate()
    latency_s: LatencyFigures | None = None
    """None before its first completion."""
    slower: float | None = None
    """How many times as slow as the other endpoints of the same models, by the time of a token of one request or by the
    tokens per second of all requests, whichever is less: one that holds many requests, each of which takes long for
    that, is not slow, nor is one that has few. None where too few completions tell.
    """
    silent_s: float | None = None
    """Seconds since its latest completion, where that is much longer than the others take; else None."""


@dataclass(slots=True)
class _Second:
    at: int
    answers: int = 0
    tokens: int = 0


@dataclass(slots=True)
class _Endpoint:
    models: set[str] = field(default_factory=set)
    latencies: LatencyCounts = field(default_factory=LatencyCounts)
    seconds: deque[_Second] = field(default_factory=deque)
    latest: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_LATEST))
    began: float = inf
    """When the first request that was answered was sent."""

    def note(self, completion: Completion, now: float) -> None:
        second = int(now)
        if not self.seconds or self.seconds[-1].at != second:
            self.seconds.append(_Second(second))
            while self.seconds[0].at < now - LONGEST_RATE_S:
                self.seconds.popleft()
        self.seconds[-1].answers += 1
        self.seconds[-1].tokens += completion.completion_tokens
        self.began = min(self.began, now - completion.latency_s)
        self.latest.append((completion.latency_s, completion.completion_tokens))
        self.latencies.note(completion.latency_s)

    def rate(self, now: float, span_s: float) -> Rate:
        """Of the last `span_s` seconds."""
        answers = tokens = 0
        for second in reversed(self.seconds):
            if second.at < now - span_s:
                break
            answers += second.answers
            tokens += second.tokens
        return Rate(answers / span_s, tokens / span_s)

    def latest_s(self, share: float) -> float:
        latest = sorted(seconds for seconds, _ in self.latest)
        return latest[int(share * (len(latest) - 1))]

    @property
    def usual_s(self) -> float:
        """The mean of the latest latencies."""
        return sum(seconds for seconds, _ in self.latest) / len(self.latest)

    @property
    def seconds_per_token(self) -> float:
        """Of the latest completions. One whose tokens are not counted has one token."""
        return sum(seconds for seconds, _ in self.latest) / sum(max(1, tokens) for _, tokens in self.latest)

    def times_slower(self, other: _Endpoint, now: float) -> tuple[float, float] | None:
        """By the time of a token, and by all tokens per second since both are asked. None where that is shorter than a
        completion takes, or either has too few.
        """
        if min(len(self.latest), len(other.latest)) < _JUDGED_FROM:
            return None
        usual_s = max(self.usual_s, other.usual_s)
        if (since_s := now - max(self.began, other.began)) < usual_s:
            return None
        span_s = max(_SHORTEST_SPAN_S, min(since_s, max(RATE_OVER_S, _COMPARED_OVER * usual_s)))
        own, others = self.rate(now, span_s).tokens_per_s, other.rate(now, span_s).tokens_per_s
        return self.seconds_per_token / other.seconds_per_token, others / own if own else inf


class EndpointSpeeds:
    """Owns the figures. `now` is always a time of the event loop, in seconds."""

    def __init__(self) -> None:
        self._endpoints: dict[str, _Endpoint] = {}
        self._began: float | None = None
        self._owes_since: dict[str, float] = {}
        self._sent: dict[str, int] = {}
        self._sent_at: dict[str, float] = {}
        """When `look` saw the latest request there."""

    def begin(self, now: float) -> None:
        """The first request is about to be sent."""
        self._began = now

    def note(self, completion: Completion, model: str, now: float) -> None:
        """Takes in a completion. `model`: the logical model of its request."""
        if (endpoint := self._endpoints.get(completion.endpoint)) is None:
            endpoint = self._endpoints[completion.endpoint] = _Endpoint()
        endpoint.models.add(model)
        endpoint.note(completion, now)
        self._owes_since[completion.endpoint] = now

    def look(self, url: str, *, sent: int, in_flight: int, now: float) -> None:
        """Takes in how many requests the endpoint has got so far, and how many it holds: without one it owes no
        completion.
        """
        if sent != self._sent.get(url):
            self._sent[url], self._sent_at[url] = sent, now
        if not in_flight:
            self._owes_since[url] = now

    def slow_s(self, url: str) -> float:
        """Of twenty of the latest completions there, nineteen took at most this long; 0 before the first."""
        return self._endpoints[url].latest_s(_SLOW) if url in self._endpoints else 0.0

    def usual_s(self) -> float:
        """Half of the latest completions of all endpoints took at most this long; 0 before the first."""
        latest = [seconds for endpoint in self._endpoints.values() for seconds, _ in endpoint.latest]
        return median(latest) if latest else 0.0

    def answered_within_s(self, url: str, now: float) -> float:
        """Seconds until the latest request that was sent there is answered, if it is a slow one."""
        return remaining_s(now - self._sent_at.get(url, now), self.slow_s(url))

    def rate(self, now: float) -> Rate:
        """Of all endpoints together."""
        rates = [endpoint.rate(now, self._span_s(now)) for endpoint in self._endpoints.values()]
        return Rate(sum(rate.answers_per_s for rate in rates), sum(rate.tokens_per_s for rate in rates))

    def answers_per_s(self, urls: Sequence[str], now: float, *, over_s: float) -> float:
        """Of these endpoints together in the last `over_s` seconds, at most 15 minutes."""
        span_s = self._span_s(now, min(over_s, LONGEST_RATE_S))
        known = [self._endpoints[url] for url in urls if url in self._endpoints]
        return sum(endpoint.rate(now, span_s).answers_per_s for endpoint in known)

    def latencies(self, url: str) -> LatencyCounts:
        """A copy."""
        copy = LatencyCounts()
        if url in self._endpoints:
            copy.add(self._endpoints[url].latencies)
        return copy

    def of(self, urls: Sequence[str], now: float, *, in_use: Collection[str]) -> list[Speed]:
        """The speeds of these endpoints. Those in use are compared with one another."""
        figures = {url: endpoint.latencies.figures() for url, endpoint in self._endpoints.items()}
        return [
            Speed(
                rate=self._endpoints[url].rate(now, self._span_s(now)) if url in self._endpoints else Rate(),
                latency_s=figures.get(url),
                slower=self._slower(url, now, in_use) if url in in_use else None,
                silent_s=self._silent_s(url, now, figures),
            )
            for url in urls
        ]

    def times_median(self) -> dict[str, float]:
        """The median latency of each endpoint, by URL, in medians of the others that served the same models. Without
        those of too few completions.
        """
        enough = {url: one for url, one in self._endpoints.items() if one.latencies.counts.total() >= _JUDGED_FROM}
        medians = {url: figures.p50 for url, one in enough.items() if (figures := one.latencies.figures()) is not None}
        times = {}
        for url, own_s in medians.items():
            models = enough[url].models
            others = [p50 for name, p50 in medians.items() if name != url and enough[name].models == models]
            if others and (usual_s := median(others)) > 0:
                times[url] = own_s / usual_s
        return times

    def asking_s(self, now: float) -> float:
        """Seconds since the first request; 0 before it."""
        return 0.0 if self._began is None else now - self._began

    def _span_s(self, now: float, over_s: float = RATE_OVER_S) -> float:
        return min(over_s, max(_SHORTEST_SPAN_S, self.asking_s(now)))

    def _slower(self, url: str, now: float, in_use: Collection[str]) -> float | None:
        if (own := self._endpoints.get(url)) is None:
            return None
        others = (endpoint for name, endpoint in self._endpoints.items() if name != url and name in in_use)
        compared = (own.times_slower(other, now) for other in others if other.models == own.models)
        if not (known := [times for times in compared if times is not None]):
            return None
        return min(median(by_token for by_token, _ in known), median(in_all for _, in_all in known))

    def _silent_s(self, url: str, now: float, figures: Mapping[str, LatencyFigures | None]) -> float | None:
        silent_s = now - self._owes_since.get(url, now if self._began is None else self._began)
        usual_s = max((other.p90 for name, other in figures.items() if name != url and other is not None), default=None)
        is_long = usual_s is not None and silent_s > max(SILENT_FROM_S, _SILENT_FROM_P90 * usual_s)
        return silent_s if is_long else None
