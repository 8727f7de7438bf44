"""One endpoint as the pool sees it: how much it takes, how fast it is, whether it is there.

Owns the endpoint's slots, deadlines and circuit breaker; its rates are in `rate_limits`. Knows no other endpoint and no
queue; it changes only itself, and returns what its owner has to act on.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from explore_async.errors import AttemptTimedOut, EndpointError, ExploreError
from explore_async.exploration.values import ChatRequest, Completion
from explore_async.serving.endpoints.concurrency import READING_S, AutoLimit, FixedLimit, Limit
from explore_async.serving.endpoints.engine_metrics import EngineMetrics
from explore_async.serving.endpoints.rate_limits import RateLimits
from explore_async.serving.endpoints.values import LARGEST_EXPONENT, EndpointStatistics
from explore_async.serving.endpoints.wire import ServedModel
from explore_async.settings.operation import EndpointSettings, Retries

SHORTEST_DEADLINE_S = 120.0
DEADLINE_FACTOR = 4.0
ASSUMED_TOKENS_PER_S = 5.0
"""Of one request, until an endpoint has answered: a small CPU manages this, and the watchdog ends a longer silence."""
ASSUMED_MAX_TOKENS = 4096
EWMA_WEIGHT = 0.1
FAULTS_IN_A_ROW = 8
"""So many failed attempts without an answer between them take an endpoint out, whoever asked."""


QUIET_READING_S = 5.0
"""Seconds between two readings of an engine whose limit has not changed of late: pages of metrics are long."""
_CHANGED_OF_LATE_S = 10.0


class Client(Protocol):
    """What a host needs of explore_async.serving.endpoints.client.EndpointClient."""

    @property
    def url(self) -> str: ...

    async def catalogue(self) -> list[ServedModel]: ...

    async def metrics(self) -> EngineMetrics | None: ...

    async def ask(
        self, request: ChatRequest, *, served_model: str, timeout_s: float | None, priority: int | None = None
    ) -> Completion: ...


@dataclass(eq=False, slots=True)
class Host:
    """`most` bounds a limit that is found; `served` has the endpoint's own name for each logical model it serves."""

    client: Client
    endpoint: EndpointSettings
    most: int = 1_000_000
    served: dict[str, str] = field(default_factory=dict)
    takes_priority: bool = False
    healthy: bool = False
    back_since: float = 0.0
    paused_until: float = 0.0
    drained: bool = False
    """Taken from the list of endpoints: it gets nothing new."""
    limit: Limit = field(init=False)
    rates: RateLimits = field(init=False)
    reading: EngineMetrics | None = None
    read_at: float = float("-inf")
    engine_tokens_per_s: float | None = None
    faults_in_a_row: int = 0
    trips: int = 0
    tokens_per_s: float | None = None
    barred: bool = False
    """Out for good: it refuses every request."""
    in_flight: int = 0
    peak_in_flight: int = 0
    answered: int = 0
    failed_attempts: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    last_error: str = ""
    errored_at: float = 0.0
    _changed_at: float = float("-inf")
    _deadlines: set[asyncio.Timeout] = field(default_factory=set)

    def __post_init__(self) -> None:
        declared = self.endpoint.concurrency
        self.limit = AutoLimit(self.most) if declared == "auto" else FixedLimit(declared)
        self.rates = RateLimits(self.endpoint.requests_per_minute, self.endpoint.tokens_per_minute)

    @property
    def url(self) -> str:
        return self.client.url

    def serves(self, model: str) -> bool:
        return model in self.served

    def name_of(self, model: str) -> str:
        """What the endpoint calls a logical model that it serves."""
        return self.served[model]

    # Slots and rate.

    @property
    def is_auto(self) -> bool:
        return self.endpoint.concurrency == "auto"

    def available(self, now: float) -> bool:
        return self.healthy and not self.drained and now >= self.paused_until and not self.rates.wait_s(now)

    @property
    def free(self) -> int:
        return self.limit.value - self.in_flight

    def occupy(self) -> None:
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    # Asking.

    async def ask(self, request: ChatRequest, *, priority: int, timeouts: int) -> Completion:
        """One attempt, noted however it ends; `timeouts` is how often this request ran out of its deadline before.

        While the engine's metrics show that it works, deadlines are put off: only one that stands still is given up.
        """
        patience_s = self.deadline_s(request, timeouts)
        try:
            try:
                async with asyncio.timeout(patience_s) as deadline:
                    self._deadlines.add(deadline)
                    try:
                        completion = await self.client.ask(
                            request,
                            served_model=self.name_of(request.model),
                            timeout_s=None,
                            priority=priority if self.takes_priority else None,
                        )
                    finally:
                        self._deadlines.discard(deadline)
            except TimeoutError as error:
                message = f"{self.url} did not answer within {patience_s:.4g} s"
                raise AttemptTimedOut(message, endpoint=self.url) from error
        except EndpointError as error:
            self.note_error(error)
            raise
        self._note_answer(completion)
        return completion

    async def ask_canary(self, request: ChatRequest) -> EndpointError | None:
        """Is it the request or the endpoint? At the end of a run there may be no other request left to tell.

        The same question with a harmless prompt stands in for the others; failing as well, it proves nothing. It keeps
        schema and sampling, so that what breaks every request alike is not blamed on each of them.
        """
        sampling = {**request.sampling, "max_tokens": 1}
        canary = replace(request, messages=({"role": "user", "content": "Say yes."},), sampling=sampling)
        await self.rates.wait_for_request()
        try:
            await self.client.ask(canary, served_model=self.name_of(request.model), timeout_s=SHORTEST_DEADLINE_S)
        except EndpointError as error:
            self.note_error(error)
            return error
        self._note_life()
        return None

    def deadline_s(self, request: ChatRequest, timeouts: int) -> float:
        """Several times what an answer of full length takes here; doubled for each time the request ran out of it."""
        tokens = request.sampling.get("max_tokens") or request.sampling.get("max_completion_tokens")
        expected_s = (tokens or ASSUMED_MAX_TOKENS) / (self.tokens_per_s or ASSUMED_TOKENS_PER_S)
        return float(max(SHORTEST_DEADLINE_S, DEADLINE_FACTOR * expected_s) * 2.0 ** min(timeouts, LARGEST_EXPONENT))

    def _note_answer(self, completion: Completion) -> None:
        now = asyncio.get_running_loop().time()
        self._note_life()
        self.limit.answered(now, completion.completion_tokens)
        self.rates.spend(completion.prompt_tokens + completion.completion_tokens, now)
        self.prompt_tokens += completion.prompt_tokens
        self.completion_tokens += completion.completion_tokens
        self.cached_tokens += completion.cached_tokens
        if completion.completion_tokens and completion.latency_s > 0:
            rate = completion.completion_tokens / completion.latency_s
            known = self.tokens_per_s
            self.tokens_per_s = rate if known is None else known + EWMA_WEIGHT * (rate - known)

    # Looking at the engine.

    def is_to_be_read(self, now: float) -> bool:
        recent = now - self._changed_at < _CHANGED_OF_LATE_S
        return self.healthy and now - self.read_at >= (READING_S if recent else QUIET_READING_S)

    async def read(self) -> bool:
        """Ask the engine how it is; whether there may be more slots now than before."""
        in_flight = self.in_flight
        try:
            metrics = await self.client.metrics()
        except EndpointError:
            metrics = None  # busy, or gone: requests will tell
        now = asyncio.get_running_loop().time()
        if metrics is not None and self.reading is not None:
            made = metrics.generation_tokens - self.reading.generation_tokens
            if made > 0 or metrics.prompt_tokens > self.reading.prompt_tokens:
                self._put_off_deadlines(now)
            self.engine_tokens_per_s = max(0.0, made) / max(now - self.read_at, 1e-9)
        self.reading, self.read_at = metrics, now
        before = self.limit.value
        self.limit.read(now, in_flight, metrics)
        if self.limit.value != before:
            self._changed_at = now
        return self.limit.value > before

    def _put_off_deadlines(self, now: float) -> None:
        """Those that are near: of thousands, each is looked at in every reading and moved now and then."""
        near = now + SHORTEST_DEADLINE_S / 2
        for deadline in self._deadlines:
            if (when := deadline.when()) is not None and when < near and not deadline.expired():
                deadline.reschedule(now + SHORTEST_DEADLINE_S)

    def _note_life(self) -> None:
        self.answered += 1
        self.faults_in_a_row = self.trips = 0

    def note_error(self, error: ExploreError) -> None:
        self.failed_attempts += 1
        self.last_error = str(error)
        self.errored_at = asyncio.get_running_loop().time()

    # The circuit breaker.

    def note_fault(self) -> bool:
        """Whether that was one too many in a row."""
        self.faults_in_a_row += 1
        return self.faults_in_a_row >= FAULTS_IN_A_ROW

    def trip(self, attempt_started: float) -> bool:
        """Open the circuit. Of the attempts that one outage fails, only the first does so: True then."""
        tripped = self.healthy and attempt_started >= self.back_since
        if tripped:
            self.healthy = False
        return tripped

    def welcome(self, now: float) -> None:
        """Close the circuit: attempts that started before `now` have no say in opening it again."""
        self.healthy = True
        self.faults_in_a_row = 0
        self.back_since = self._changed_at = now

    def cool_down_s(self, retries: Retries) -> float:
        """How long to leave it alone; longer each time until it has answered a request."""
        longest = min(retries.longest_wait_s, retries.first_wait_s * 2.0**self.trips)
        self.trips = min(self.trips + 1, LARGEST_EXPONENT)
        return random.uniform(longest / 2, longest)  # noqa: S311 - jitter

    def statistics(self) -> EndpointStatistics:
        return EndpointStatistics(
            url=self.url,
            healthy=self.healthy and not self.drained,
            left=self.drained,
            limit=self.limit.value,
            in_flight=self.in_flight,
            peak_in_flight=self.peak_in_flight,
            answered=self.answered,
            failed_attempts=self.failed_attempts,
            retries=self.retries,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            last_error=self.last_error,
            **self._engine(),
        )

    def _engine(self) -> dict[str, Any]:
        if (reading := self.reading) is None:
            return {}
        hits = reading.prefix_hits / reading.prefix_queries if reading.prefix_queries else None
        return {
            "running": int(reading.running),
            "waiting": int(reading.waiting),
            "kv_usage": reading.kv_usage,
            "prefix_hits": None if hits is None else round(hits, 4),
            "tokens_per_s": self.engine_tokens_per_s,
        }
