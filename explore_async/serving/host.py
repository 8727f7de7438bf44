"""One endpoint as the pool sees it: how much it takes, how fast it is, whether it is there.

Owns the endpoint's slots, rate, deadline and circuit breaker. Knows no other endpoint and no queue; it changes only
itself, and returns what its owner has to act on.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace

from asyncio_throttle.throttler import Throttler

from explore_async.errors import EndpointError
from explore_async.exploration.values import ChatRequest, Completion
from explore_async.serving.client import EndpointClient
from explore_async.serving.endpoints import LARGEST_EXPONENT, Endpoint, EndpointStatistics, Retry

SHORTEST_DEADLINE_S = 120.0
DEADLINE_FACTOR = 4.0
ASSUMED_TOKENS_PER_S = 5.0
"""Of one request, until an endpoint has answered: a small CPU manages this, and the watchdog ends a longer silence."""
ASSUMED_MAX_TOKENS = 4096
EWMA_WEIGHT = 0.1
FAULTS_IN_A_ROW = 8
"""So many failed attempts without an answer between them take an endpoint out, whoever asked."""


@dataclass(eq=False, slots=True)
class Host:
    """`limit` moves between 1 and the declared concurrency; `served` is the endpoint's own name for the model."""

    client: EndpointClient
    endpoint: Endpoint
    served: str = ""
    takes_priority: bool = False
    healthy: bool = False
    back_since: float = 0.0
    paused_until: float = 0.0
    limit: float = 0.0
    cut_at: float = 0.0
    faults_in_a_row: int = 0
    trips: int = 0
    tokens_per_s: float | None = None
    in_flight: int = 0
    peak_in_flight: int = 0
    answered: int = 0
    failed_attempts: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    last_error: str = ""
    errored_at: float = 0.0
    throttler: Throttler | None = None
    throttling: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.limit = self.endpoint.concurrency
        if (per_minute := self.endpoint.requests_per_minute) is not None:
            # About a second's worth in just the period that yields the rate: smooth, not a minute's worth at once.
            burst = max(1, round(per_minute / 60))
            self.throttler = Throttler(rate_limit=burst, period=60 * burst / per_minute)

    @property
    def url(self) -> str:
        return self.client.url

    # Slots and rate.

    def available(self, now: float) -> bool:
        return self.healthy and now >= self.paused_until

    @property
    def free(self) -> int:
        return int(self.limit) - self.in_flight

    def occupy(self) -> None:
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def slow_down(self, now: float) -> None:
        """Halve the slots, once for a burst of refusals; every answer earns a part of one back."""
        if now - self.cut_at > 1.0:
            self.cut_at = now
            self.limit = max(1.0, self.limit / 2)

    async def throttle(self) -> None:
        if self.throttler is not None:
            async with self.throttling:  # acquire polls every 10 ms: let one coroutine do so, not hundreds
                await self.throttler.acquire()  # type: ignore[no-untyped-call]

    # Asking.

    async def ask(self, request: ChatRequest, *, priority: int, timeouts: int) -> Completion:
        """One attempt, noted however it ends; `timeouts` is how often this request ran out of its deadline before."""
        try:
            completion = await self.client.ask(
                request,
                served_model=self.served,
                timeout_s=self.deadline_s(request, timeouts),
                priority=priority if self.takes_priority else None,
            )
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
        await self.throttle()
        try:
            await self.client.ask(canary, served_model=self.served, timeout_s=SHORTEST_DEADLINE_S)
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
        self._note_life()
        self.limit = min(self.endpoint.concurrency, self.limit + 1 / self.limit)
        self.prompt_tokens += completion.prompt_tokens
        self.completion_tokens += completion.completion_tokens
        if completion.completion_tokens and completion.latency_s > 0:
            rate = completion.completion_tokens / completion.latency_s
            known = self.tokens_per_s
            self.tokens_per_s = rate if known is None else known + EWMA_WEIGHT * (rate - known)

    def _note_life(self) -> None:
        self.answered += 1
        self.faults_in_a_row = self.trips = 0

    def note_error(self, error: EndpointError) -> None:
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
        self.back_since = now

    def cool_down_s(self, retry: Retry) -> float:
        """How long to leave it alone; longer each time until it has answered a request."""
        longest = min(retry.longest_wait_s, retry.first_wait_s * 2.0**self.trips)
        self.trips = min(self.trips + 1, LARGEST_EXPONENT)
        return random.uniform(longest / 2, longest)  # noqa: S311 - jitter

    def statistics(self) -> EndpointStatistics:
        return EndpointStatistics(
            url=self.url,
            healthy=self.healthy,
            in_flight=self.in_flight,
            peak_in_flight=self.peak_in_flight,
            answered=self.answered,
            failed_attempts=self.failed_attempts,
            retries=self.retries,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            last_error=self.last_error,
        )
