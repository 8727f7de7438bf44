"""The state of one endpoint: its concurrency, its speed, its health.

Owns the endpoint's slots, deadlines and circuit breaker; its rates are in `rate_limits`. It knows no other endpoint and
no queue, changes only itself, and returns what its owner must act on.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from explore_async.errors import AttemptTimedOut, EndpointError, EndpointUnavailable, ExploreError, RateLimited
from explore_async.exploration.values import ChatRequest, Completion
from explore_async.serving.endpoints.choice import AnswerSpeed
from explore_async.serving.endpoints.concurrency import READING_S, AutoLimit, FixedLimit, Limit
from explore_async.serving.endpoints.engine_metrics import EngineMetrics
from explore_async.serving.endpoints.rate_limits import RateLimits
from explore_async.serving.endpoints.values import LARGEST_EXPONENT, EndpointStatistics
from explore_async.serving.endpoints.wire import ServedModel
from explore_async.settings.operation import EndpointSettings, Retries

SHORTEST_DEADLINE_S = 120.0
DEADLINE_FACTOR = 4.0
ASSUMED_TOKENS_PER_S = 5.0
"""Of one request, until an endpoint has answered: a small CPU reaches this, and the watchdog ends a longer silence."""
ASSUMED_MAX_TOKENS = 4096
EWMA_WEIGHT = 0.1
FAULTS_IN_A_ROW = 8
"""Failed attempts without an answer between them that take an endpoint out, whatever the requests."""

QUIET_READING_S = 5.0
"""Seconds between two readings of an engine whose limit has not changed recently: pages of metrics are long."""
_RECENT_CHANGE_S = 10.0


class TakenBack(Exception):
    """An attempt that waited in the engine's queue has ended, so that the request can be sent elsewhere."""


@dataclass(eq=False, slots=True)
class _Attempt:
    """An attempt in flight. Engines begin the one of the lowest `rank` first."""

    rank: tuple[int, int]
    deadline: asyncio.Timeout
    is_taken_back: bool = False


class Client(Protocol):
    """The part of explore_async.serving.endpoints.client.EndpointClient that an endpoint uses."""

    @property
    def url(self) -> str: ...

    async def catalogue(self) -> list[ServedModel]: ...

    async def metrics(self) -> EngineMetrics | None: ...

    async def version(self, engine: str) -> str: ...

    async def ask(
        self, request: ChatRequest, *, served_model: str, timeout_s: float | None, priority: int | None = None
    ) -> Completion: ...


@dataclass(eq=False, slots=True)
class Endpoint:
    """The state of one endpoint, and its attempts.

    `most` bounds an automatic limit, and `longest_pause_s` the pauses that the endpoint may ask for; `served` has its
    own name for each logical model that it serves.
    """

    client: Client
    settings: EndpointSettings
    most: int = 1_000_000
    longest_pause_s: float = float("inf")
    served: dict[str, str] = field(default_factory=dict)
    context_tokens: dict[str, int] = field(default_factory=dict)
    """The context of each of these models, where the endpoint tells it."""
    supports_priority: bool = False
    engine: str = ""
    """Name and version of the engine, as far as it says."""
    checked: bool = False
    """Its first check is over, whatever it has shown."""
    check_began: float | None = None
    """The time when its first check began; None before."""
    is_heard: bool = False
    """It has answered something in its check."""
    healthy: bool = False
    healthy_since: float = 0.0
    paused_until: float = 0.0
    removed: bool = False
    """No longer in the list of endpoints: it gets no new request."""
    limit: Limit = field(init=False)
    rates: RateLimits = field(init=False)
    reading: EngineMetrics | None = None
    read_at: float = float("-inf")
    engine_tokens_per_s: float | None = None
    faults_in_a_row: int = 0
    trips: int = 0
    has_served: bool = False
    """It has answered a request of the run."""
    barren_faults: int = 0
    """Faults that may last, since it did so."""
    barren_trips: int = 0
    """Trips by such faults."""
    lasting_fault: EndpointUnavailable | None = None
    """The latest of these faults."""
    barren_stages: dict[str, None] = field(default_factory=dict)
    """The stages of the run whose requests had them, in their order."""
    tokens_per_s: float | None = None
    speeds: dict[str, AnswerSpeed] = field(default_factory=dict)
    """By logical model."""
    excluded: bool = False
    """Out for the whole run: it rejects every request."""
    in_flight: int = 0
    busy_since: float = 0.0
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
    _attempts: dict[int, _Attempt] = field(default_factory=dict)
    """Those in flight, by their number."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        declared = self.settings.concurrency
        self.limit = AutoLimit(self.most) if declared == "auto" else FixedLimit(declared)
        self.rates = RateLimits(self.settings.requests_per_minute, self.settings.tokens_per_minute)

    @property
    def url(self) -> str:
        return self.client.url

    def serves(self, model: str) -> bool:
        return model in self.served

    def speed_of(self, model: str) -> AnswerSpeed:
        return self.speeds.setdefault(model, AnswerSpeed())

    def note_speed(self, model: str, tokens: int, seconds: float, load: int) -> None:
        """A completion held a slot for so long. `load`: the requests in flight when it was sent. Those beyond the limit
        that was found since have waited at the engine, as the next ones will not.
        """
        now, limit = asyncio.get_running_loop().time(), self.limit.value
        self.speed_of(model).note(tokens, seconds * min(1.0, limit / load), min(load, limit), now)

    def name_of(self, model: str) -> str:
        """The endpoint's name for a logical model that it serves."""
        return self.served[model]

    # SlotQueue and rate.

    @property
    def is_auto(self) -> bool:
        return self.settings.concurrency == "auto"

    def is_available(self, now: float) -> bool:
        return self.healthy and not self.removed and now >= self.paused_until and not self.rates.wait_s(now)

    @property
    def free(self) -> int:
        return self.limit.value - self.in_flight

    def occupy(self, now: float) -> None:
        if self.in_flight == 0:
            self.busy_since = now
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    # Attempts.

    async def ask(self, request: ChatRequest, *, priority: int, timeouts: int) -> Completion:
        """One attempt, recorded however it ends. `timeouts`: attempts of this request that exceeded their deadline.

        While the engine's metrics show that it works, deadlines are extended: only an idle engine lets one pass. Raises
        TakenBack after `take_back`.
        """
        patience_s, number = self.deadline_s(request, timeouts), next(self._numbers)
        told_priority = priority if self.supports_priority else None
        try:
            try:
                async with asyncio.timeout(patience_s) as deadline:
                    attempt = self._attempts[number] = _Attempt((told_priority or 0, number), deadline)
                    try:
                        completion = await self.client.ask(
                            request,
                            served_model=self.name_of(request.model),
                            timeout_s=None,
                            priority=told_priority,
                        )
                    finally:
                        del self._attempts[number]
            except TimeoutError as error:
                if attempt.is_taken_back:
                    raise TakenBack from None
                message = f"{self.url} did not answer within {patience_s:.4g} s"
                raise AttemptTimedOut(message, endpoint=self.url) from error
        except EndpointError as error:
            self.note_failure(error)
            self.note_error(error)
            raise
        self._note_answer(completion)
        return completion

    async def ask_canary(self, request: ChatRequest) -> EndpointError | None:
        """Sends a harmless request, to show if the endpoint or one request is the cause of faults. Returns its error.

        At the end of a run there may be no other request that shows it. The canary keeps schema and sampling, so that
        a request is not the cause when every request like it fails; when the canary fails too, it proves nothing.
        """
        canary = replace(request, messages=({**request.messages[-1], "content": "Say yes."},)).limited(1)
        await self.rates.wait_for_request()
        try:
            await self.client.ask(canary, served_model=self.name_of(request.model), timeout_s=SHORTEST_DEADLINE_S)
        except EndpointError as error:
            self.note_failure(error)
            self.note_error(error)
            return error
        self._note_success()
        return None

    def deadline_s(self, request: ChatRequest, timeouts: int) -> float:
        """Seconds for an attempt: several times a completion of full length here, doubled after each timeout."""
        expected_s = (request.limit or ASSUMED_MAX_TOKENS) / (self.tokens_per_s or ASSUMED_TOKENS_PER_S)
        return float(max(SHORTEST_DEADLINE_S, DEADLINE_FACTOR * expected_s) * 2.0 ** min(timeouts, LARGEST_EXPONENT))

    def _note_answer(self, completion: Completion) -> None:
        now = asyncio.get_running_loop().time()
        self._note_success()
        self.has_served = True
        self.barren_faults = self.barren_trips = 0
        self.barren_stages.clear()
        self.limit.answered(now, completion.completion_tokens)
        self.rates.spend(completion.prompt_tokens + completion.completion_tokens, now)
        self.prompt_tokens += completion.prompt_tokens
        self.completion_tokens += completion.completion_tokens
        self.cached_tokens += completion.cached_tokens
        if completion.completion_tokens and completion.latency_s > 0:
            rate = completion.completion_tokens / completion.latency_s
            known = self.tokens_per_s
            self.tokens_per_s = rate if known is None else known + EWMA_WEIGHT * (rate - known)

    # Readings of the engine.

    def is_to_be_read(self, now: float) -> bool:
        recent = now - self._changed_at < _RECENT_CHANGE_S
        return self.healthy and now - self.read_at >= (READING_S if recent else QUIET_READING_S)

    async def read(self) -> bool:
        """Reads the engine's metrics and adjusts the limit. Returns True when there may be more slots than before."""
        in_flight = self.in_flight
        try:
            metrics = await self.client.metrics()
        except EndpointError:
            metrics = None  # busy or gone: requests will show which
        now = asyncio.get_running_loop().time()
        if metrics is not None and self.reading is not None:
            made = metrics.generation_tokens - self.reading.generation_tokens
            if made > 0 or metrics.prompt_tokens > self.reading.prompt_tokens:
                self._extend_deadlines(now)
            self.engine_tokens_per_s = max(0.0, made) / max(now - self.read_at, 1e-9)
        self.reading, self.read_at = metrics, now
        before = self.limit.value
        self.limit.read(now, in_flight, metrics)
        if self.limit.value != before:
            self._changed_at = now
        return self.limit.value > before

    def _extend_deadlines(self, now: float) -> None:
        """Extends the deadlines that are near: of thousands, each reading moves only a few."""
        near = now + SHORTEST_DEADLINE_S / 2
        for attempt in self._attempts.values():
            deadline = attempt.deadline
            if (when := deadline.when()) is not None and when < near and not deadline.expired():
                deadline.reschedule(now + SHORTEST_DEADLINE_S)

    @property
    def in_queue(self) -> int:
        """Requests beyond the limit that wait in the engine's queue; 0 where requests of other clients may be there."""
        reading, limit = self.reading, self.limit.value
        if reading is None or not self.is_auto or reading.running + reading.waiting > self.in_flight:
            return 0
        return max(0, min(self.in_flight - limit, int(reading.waiting)))

    def take_back(self, number: int) -> None:
        """Ends so many attempts, those that the engine would begin last."""
        now = asyncio.get_running_loop().time()
        for attempt in sorted(self._attempts.values(), key=lambda attempt: attempt.rank)[-number:]:
            if not attempt.deadline.expired():
                attempt.is_taken_back = True
                attempt.deadline.reschedule(now)

    def _note_success(self) -> None:
        self.answered += 1
        self.faults_in_a_row = self.trips = 0

    def note_failure(self, error: EndpointError) -> None:
        """Counts a request that failed, one of a check as well. If the endpoint asks for a pause, it gets no request
        meanwhile.
        """
        self.failed_attempts += 1
        if isinstance(error, RateLimited) and error.retry_after is not None:
            now = asyncio.get_running_loop().time()
            self.paused_until = max(self.paused_until, now + self.pause_s(error.retry_after))

    def pause_s(self, requested_s: float) -> float:
        """Seconds of a pause that it asks for, as far as that is granted."""
        return min(requested_s, self.longest_pause_s)

    def note_error(self, error: ExploreError) -> None:
        """Keeps its words, as the reason why the endpoint cannot be used."""
        self.last_error = str(error)
        self.errored_at = asyncio.get_running_loop().time()

    # The circuit breaker.

    def note_fault(self, lasting: EndpointUnavailable | None, stage: str) -> bool:
        """Counts a fault of a request of the stage, `lasting` where it may last. Returns True when there were too many
        in a row.
        """
        self.faults_in_a_row += 1
        is_out = self.faults_in_a_row >= FAULTS_IN_A_ROW
        if lasting is not None:
            self.lasting_fault = lasting
            self.barren_faults += 1
            self.barren_stages[stage] = None
            self.barren_trips += is_out and self.healthy
        return is_out

    def trip(self, attempt_started: float) -> bool:
        """Opens the circuit. Returns True only for the first attempt that fails in an outage."""
        tripped = self.healthy and attempt_started >= self.healthy_since
        if tripped:
            self.healthy = False
            self.reading = self.engine_tokens_per_s = None
        return tripped

    def mark_healthy(self, now: float) -> None:
        """Closes the circuit. Attempts that started before `now` cannot open it again."""
        self.healthy = True
        self.faults_in_a_row = 0
        self.healthy_since = self._changed_at = now

    def cool_down_s(self, retries: Retries) -> float:
        """Seconds until it is asked again; longer each time until it has answered a request, and no shorter than a
        pause that it asked for.
        """
        longest = min(retries.longest_wait_s, retries.first_wait_s * 2.0**self.trips)
        self.trips = min(self.trips + 1, LARGEST_EXPONENT)
        pause_s = self.paused_until - asyncio.get_running_loop().time()
        return max(pause_s, random.uniform(longest / 2, longest))  # noqa: S311 - jitter

    def statistics(self, *, spare: bool = False) -> EndpointStatistics:
        return EndpointStatistics(
            url=self.url,
            healthy=self.healthy and not self.removed,
            left=self.removed,
            checked=self.checked,
            checking_s=self._checking_s(),
            is_heard=self.checked or self.is_heard,
            spare=spare,
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
            is_failing=self.errored_at > self.healthy_since,
            engine=self.engine,
            **self._engine_statistics(),
        )

    def begin_check(self) -> None:
        self.check_began, self.is_heard = asyncio.get_running_loop().time(), False

    def _checking_s(self) -> float:
        if self.checked or self.check_began is None:
            return 0.0
        return round(asyncio.get_running_loop().time() - self.check_began, 1)

    def _engine_statistics(self) -> dict[str, Any]:
        if (reading := self.reading) is None or not self.healthy or self.removed:
            return {}
        hits = reading.prefix_hits / reading.prefix_queries if reading.prefix_queries else None
        return {
            "running": int(reading.running),
            "waiting": int(reading.waiting),
            "kv_usage": reading.kv_usage,
            "prefix_hits": None if hits is None else round(hits, 4),
            "tokens_per_s": self.engine_tokens_per_s,
        }
