"""Many endpoints as one: `ask` returns what the request itself deserves and hides all trouble with endpoints.

Owns slots, retries (nowhere else is anything asked again, but for the driver's second ask of a straggler), cool-downs,
rate limits, deadlines and the watchdog. Promises:

- A Failure is always the request's own doing: rejected, too long, or failing while others on the same endpoint succeed.
- Trouble with an endpoint makes a request wait or move. Only what no waiting can cure raises EndpointError.
- Never more than `concurrency` attempts at an endpoint; waiting requests are served by priority, lowest first.
- No random state or clock in here can reach an outcome's text.

Imports no settings: whoever composes a run translates its configuration into Endpoint and Retry.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import TracebackType
from typing import NoReturn, Self

import tenacity
from asyncio_throttle.throttler import Throttler

from explore_async.errors import (
    ConfigError,
    ContextOverflow,
    EndpointError,
    EndpointUnavailable,
    RateLimited,
    RequestRejected,
)
from explore_async.exploration.values import ChatRequest, Completion, Failure, Outcome
from explore_async.serving.client import (
    AttemptTimedOut,
    ConnectionFailed,
    EndpointClient,
    ServedModel,
    normalise_url,
    open_session,
)

SHORTEST_DEADLINE_S = 120.0
DEADLINE_FACTOR = 4.0
ASSUMED_TOKENS_PER_S = 5.0
"""Of one request, until an endpoint has answered: a small CPU manages this, and the watchdog ends a longer silence."""
ASSUMED_MAX_TOKENS = 4096
EWMA_WEIGHT = 0.1
FAULTS_IN_A_ROW = 8
"""So many failed attempts without an answer between them take an endpoint out, whoever asked."""
CONNECT_PATIENCE_S = 3.0
PRIORITY_ENGINES = {"vllm", "simulator"}
"""Engines (`owned_by` in /models) that know the field `priority`; others may refuse a body that holds it."""
LARGEST_EXPONENT = 16

# What no other request would fare better with: wrong URL, refused key, no credit, unknown model.
_FATAL = {
    *range(300, 400),
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.PAYMENT_REQUIRED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
}
_KEY_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_NO_CATALOGUE = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`api_key_env` names the variable that holds the key; `model` is this endpoint's name for the logical model."""

    url: str
    concurrency: int = 128
    api_key_env: str | None = None
    requests_per_minute: float | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """After `attempts` faults while others succeed a request is a Failure; `stall_s` without outcome ends the run."""

    attempts: int = 5
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    stall_s: float = 600.0

    def wait_s(self, attempt: int) -> float:
        """Exponential back-off with full jitter; `attempt` counts from 1."""
        longest = min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(attempt - 1, LARGEST_EXPONENT))
        return random.uniform(0.0, longest)  # noqa: S311 - jitter


@dataclass(frozen=True, slots=True)
class EndpointStatistics:
    """`retries` counts the attempts here that were not their request's first."""

    url: str
    healthy: bool
    in_flight: int
    peak_in_flight: int
    answered: int
    failed_attempts: int
    retries: int
    prompt_tokens: int
    completion_tokens: int
    last_error: str


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """`asking` is every unanswered ask: in flight, waiting for a slot, or between two attempts."""

    endpoints: tuple[EndpointStatistics, ...]
    asking: int
    in_flight: int
    answered: int
    failures: int
    failed_attempts: int
    retries: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(eq=False, slots=True)
class _Host:
    """What the pool knows of one endpoint at the moment."""

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

    def available(self, now: float) -> bool:
        return self.healthy and now >= self.paused_until

    @property
    def free(self) -> int:
        return int(self.limit) - self.in_flight

    async def throttle(self) -> None:
        if self.throttler is not None:
            async with self.throttling:  # acquire polls every 10 ms: let one coroutine do so, not hundreds
                await self.throttler.acquire()  # type: ignore[no-untyped-call]

    def deadline_s(self, request: ChatRequest, timeouts: int) -> float:
        """Several times what an answer of full length takes here; doubled for each time the request ran out of it."""
        tokens = request.sampling.get("max_tokens") or request.sampling.get("max_completion_tokens")
        expected_s = (tokens or ASSUMED_MAX_TOKENS) / (self.tokens_per_s or ASSUMED_TOKENS_PER_S)
        return float(max(SHORTEST_DEADLINE_S, DEADLINE_FACTOR * expected_s) * 2.0 ** min(timeouts, LARGEST_EXPONENT))

    def note_answer(self, completion: Completion) -> None:
        self.answered += 1
        self.faults_in_a_row = self.trips = 0
        self.limit = min(self.endpoint.concurrency, self.limit + 1 / self.limit)
        self.prompt_tokens += completion.prompt_tokens
        self.completion_tokens += completion.completion_tokens
        if completion.completion_tokens and completion.latency_s > 0:
            rate = completion.completion_tokens / completion.latency_s
            known = self.tokens_per_s
            self.tokens_per_s = rate if known is None else known + EWMA_WEIGHT * (rate - known)

    def note_error(self, error: EndpointError) -> None:
        self.failed_attempts += 1
        self.last_error = str(error)

    def slow_down(self, now: float) -> None:
        """Halve the slots, once for a burst of refusals; every answer earns a part of one back."""
        if now - self.cut_at > 1.0:
            self.cut_at = now
            self.limit = max(1.0, self.limit / 2)

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


@dataclass(eq=False, slots=True)
class _Trouble:
    """What one request has been through. A fault counts against it only at a host that meanwhile answered others."""

    attempts: int = 0
    timeouts: int = 0
    faults: dict[_Host, tuple[int, int]] = field(default_factory=dict)  # host: (faults, answered at the first)

    def note_fault(self, host: _Host) -> None:
        count, answered = self.faults.get(host, (0, host.answered))
        self.faults[host] = (count + 1, answered)

    def at(self, host: _Host) -> int:
        return self.faults.get(host, (0, 0))[0]

    def convicts(self, threshold: int) -> bool:
        return threshold <= sum(
            count for host, (count, before) in self.faults.items() if host.answered - before >= threshold
        )


class EndpointPool:
    """Use as an async context manager, `connect` once, then `ask` from as many coroutines as you like."""

    def __init__(self, endpoints: Sequence[Endpoint], *, model: str | None, retry: Retry | None = None) -> None:
        urls = [normalise_url(endpoint.url) for endpoint in endpoints]
        if not urls:
            raise ConfigError(
                "No endpoint is given: name one with --endpoint URL, or start one with explore-async serve"
            )
        if len(set(urls)) < len(urls):
            raise ConfigError(f"An endpoint is given twice: {', '.join(urls)}. Raise its concurrency instead")
        self._endpoints = tuple(endpoints)
        self._model = model
        self._retry = retry or Retry()
        self._hosts: list[_Host] = []
        self._connected: str | None = None
        self._connecting = asyncio.Lock()
        self._waiting: list[tuple[int, int, asyncio.Future[_Host], str | None]] = []
        self._arrivals = itertools.count()
        self._revivals: set[asyncio.Task[None]] = set()
        self._fatal: BaseException | None = None
        self._asking = 0
        self._failures = 0
        self._quiet_since = 0.0
        self._slowest_answer_s = 0.0
        self._last_error = ""
        self._owned = AsyncExitStack()

    async def __aenter__(self) -> Self:
        keys = [_key(endpoint) for endpoint in self._endpoints]
        session = await self._owned.enter_async_context(open_session(connections=self.capacity))
        self._hosts = [
            _Host(EndpointClient(endpoint.url, session=session, api_key=key), endpoint)
            for endpoint, key in zip(self._endpoints, keys, strict=True)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for revival in self._revivals:
            revival.cancel()
        await asyncio.gather(*self._revivals, return_exceptions=True)
        await self._owned.aclose()

    @property
    def capacity(self) -> int:
        """Requests that can be in flight at once."""
        return sum(endpoint.concurrency for endpoint in self._endpoints)

    async def connect(self) -> str:
        """Find out who is there and what they serve; returns the logical model's name. Calling it again is free.

        One reachable endpoint suffices; the others count as out and join when they answer.
        """
        async with self._connecting:
            if self._connected is None:
                found = await asyncio.gather(*(self._look_up(host) for host in self._hosts))
                self._model = self._settle_model(found)
                for host, catalogue in zip(self._hosts, found, strict=True):
                    if isinstance(catalogue, EndpointError):
                        self._start_revival(host)
                    else:
                        self._welcome(host, catalogue)
                self._connected = self._model
            return self._connected

    async def ask(
        self,
        request: ChatRequest,
        *,
        priority: int,
        avoid: str | None = None,
        placed: Callable[[str], None] | None = None,
    ) -> Outcome:
        """The outcome of a request, however long that takes. Lower priorities are served sooner.

        `avoid` is the URL of an endpoint to pass over while another is available; `placed` is told the URL of each
        endpoint the request is sent to. Raises EndpointError when no
        request can succeed (refused key, unknown model); cancelling it frees its slot at once.
        """
        assert self._connected is not None, "connect() comes first"
        avoid = None if avoid is None else normalise_url(avoid)
        trouble = _Trouble()
        if self._asking == 0:
            self._quiet_since = time.monotonic()
        self._asking += 1
        try:
            while True:
                host = await self._acquire(priority, avoid)
                if placed is not None:
                    placed(host.url)
                try:
                    step = await self._attempt(host, request, priority, trouble)
                finally:
                    host.in_flight -= 1
                    self._dispatch()
                if not isinstance(step, float):
                    self._quiet_since = time.monotonic()
                    return step
                avoid = host.url
                await asyncio.sleep(step)
        finally:
            self._asking -= 1

    async def watch(self) -> NoReturn:
        """Ends a hopeless run: raises EndpointError when requests wait and for `stall_s` none has had an outcome.

        Where answers are known to take long, the patience is twice the longest so far.
        """
        while True:
            await asyncio.sleep(min(1.0, self._retry.stall_s / 10))
            if self._fatal is not None:
                raise self._fatal
            patience_s = max(self._retry.stall_s, 2 * self._slowest_answer_s)
            if self._asking and time.monotonic() - self._quiet_since > patience_s:
                raise EndpointError(
                    f"{self._asking} requests wait and none was answered for {patience_s:.4g} s. "
                    f"Last error: {self._last_error or 'none, the endpoints just do not answer'}. "
                    "Look at the server's log; running again resumes where this run stopped"
                )

    def statistics(self) -> PoolStatistics:
        hosts = tuple(host.statistics() for host in self._hosts)
        return PoolStatistics(
            endpoints=hosts,
            asking=self._asking,
            in_flight=sum(host.in_flight for host in hosts),
            answered=sum(host.answered for host in hosts),
            failures=self._failures,
            failed_attempts=sum(host.failed_attempts for host in hosts),
            retries=sum(host.retries for host in hosts),
            prompt_tokens=sum(host.prompt_tokens for host in hosts),
            completion_tokens=sum(host.completion_tokens for host in hosts),
        )

    # One attempt, and what follows from how it ended.

    async def _attempt(self, host: _Host, request: ChatRequest, priority: int, trouble: _Trouble) -> Outcome | float:
        """An outcome, or the seconds to wait before the next attempt."""
        if trouble.at(host) >= self._retry.attempts:
            await self._ask_canary(host, request)
        await host.throttle()
        started = time.monotonic()
        trouble.attempts += 1
        host.retries += trouble.attempts > 1
        try:
            completion = await host.client.ask(
                request,
                served_model=host.served,
                timeout_s=host.deadline_s(request, trouble.timeouts),
                priority=priority if host.takes_priority else None,
            )
        except EndpointError as error:
            self._note_error(host, error)
            return self._after(error, host, trouble, started)
        host.note_answer(completion)
        self._slowest_answer_s = max(self._slowest_answer_s, completion.latency_s)
        return completion

    def _after(self, error: EndpointError, host: _Host, trouble: _Trouble, started: float) -> Failure | float:
        if isinstance(error, RequestRejected):
            if error.status in _FATAL:
                raise EndpointError(
                    f"{error}. No request can succeed like this: check the URL, the key and the model's name",
                    endpoint=host.url,
                    status=error.status,
                ) from error
            overflow = isinstance(error, ContextOverflow)
            return self._failure(Failure("context_overflow" if overflow else "rejected", str(error), trouble.attempts))
        now = time.monotonic()
        wait_s = self._retry.wait_s(trouble.attempts)
        if isinstance(error, RateLimited):
            host.slow_down(now)
            if error.retry_after is None:
                return wait_s
            # The endpoint as a whole asked for patience: nobody else should run into the same refusal.
            pause_s = min(error.retry_after, 4 * self._retry.longest_wait_s)
            host.paused_until = max(host.paused_until, now + pause_s)
            asyncio.get_running_loop().call_later(pause_s, self._dispatch)
            return 0.0
        if isinstance(error, ConnectionFailed):
            self._take_out(host, started)
            return 0.0
        host.faults_in_a_row += 1
        if host.faults_in_a_row >= FAULTS_IN_A_ROW:
            self._take_out(host, started)
        trouble.timeouts += isinstance(error, AttemptTimedOut)
        if error.status != HTTPStatus.SERVICE_UNAVAILABLE:  # 503 speaks of the server's state, not of the request
            trouble.note_fault(host)
        if trouble.convicts(self._retry.attempts):
            return self._failure(Failure("repeated", str(error), trouble.attempts))
        return wait_s

    def _failure(self, failure: Failure) -> Failure:
        self._failures += 1
        return failure

    async def _ask_canary(self, host: _Host, request: ChatRequest) -> None:
        """Is it the request or the endpoint? At the end of a run there may be no other request left to tell.

        The same question with a harmless prompt stands in for the others; failing as well, it proves nothing. It keeps
        schema and sampling, so that what breaks every request alike is not blamed on each of them.
        """
        sampling = {**request.sampling, "max_tokens": 1}
        canary = replace(request, messages=({"role": "user", "content": "Say yes."},), sampling=sampling)
        await host.throttle()
        try:
            await host.client.ask(canary, served_model=host.served, timeout_s=SHORTEST_DEADLINE_S)
        except EndpointError as error:
            self._note_error(host, error)
        else:
            host.answered += 1
            host.faults_in_a_row = host.trips = 0

    def _note_error(self, host: _Host, error: EndpointError) -> None:
        host.note_error(error)
        self._last_error = str(error)

    # Slots. Handed over at once to whoever waits with the lowest priority, so that no latecomer slips in.

    async def _acquire(self, priority: int, avoid: str | None) -> _Host:
        if self._fatal is not None:
            raise self._fatal
        future: asyncio.Future[_Host] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._arrivals), future, avoid))
        self._dispatch()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().in_flight -= 1
                self._dispatch()
            raise

    def _dispatch(self) -> None:
        """Give free slots to the waiting; called whenever one of either may have appeared."""
        passed_over = []
        while self._waiting:
            waiter = heapq.heappop(self._waiting)
            _, _, future, avoid = waiter
            if future.done():
                continue
            now = time.monotonic()
            available = [host for host in self._hosts if host.available(now)]
            eligible = [host for host in available if host.url != avoid] or available
            host = max(eligible, key=lambda host: host.free, default=None)
            if host is not None and host.free > 0:
                host.in_flight += 1
                host.peak_in_flight = max(host.peak_in_flight, host.in_flight)
                future.set_result(host)
                continue
            passed_over.append(waiter)
            if all(host.free <= 0 for host in available):
                break
        for waiter in passed_over:
            heapq.heappush(self._waiting, waiter)

    # Who is there: the catalogue at the start, and again after a cool-down.

    async def _look_up(self, host: _Host) -> list[ServedModel] | EndpointError | None:
        """What it serves, None where it does not say, or the error that takes it for out."""
        patiently = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type((EndpointUnavailable, RateLimited)),
            wait=tenacity.wait_fixed(CONNECT_PATIENCE_S / 6),
            stop=tenacity.stop_after_delay(CONNECT_PATIENCE_S),
            reraise=True,
        )
        try:
            return await patiently(self._catalogue, host)
        except (EndpointUnavailable, RateLimited) as error:
            self._note_error(host, error)
            return error

    async def _catalogue(self, host: _Host) -> list[ServedModel] | None:
        try:
            return await host.client.catalogue()
        except RequestRejected as error:
            if error.status in _NO_CATALOGUE:
                return None
            advice = "Check the URL"
            if error.status in _KEY_REFUSED:
                variable = host.endpoint.api_key_env
                advice = (
                    f"Check the key in {variable}" if variable else "Name the variable that holds one in api_key_env"
                )
            raise EndpointError(f"{error}. {advice}", endpoint=host.url, status=error.status) from error

    def _settle_model(self, found: Sequence[list[ServedModel] | EndpointError | None]) -> str:
        errors = [answer for answer in found if isinstance(answer, EndpointError)]
        if len(errors) == len(found):
            causes = "; ".join(str(error) for error in errors)
            raise EndpointError(
                f"No endpoint answers: {causes}. Is the server running? Start one with `explore-async serve`, "
                "or name another with --endpoint URL",
                endpoint=errors[0].endpoint,
            )
        if self._model is not None:
            return self._model
        for host, catalogue in zip(self._hosts, found, strict=True):
            if host.endpoint.model is not None:
                return host.endpoint.model
            if isinstance(catalogue, list) and len(catalogue) == 1:
                return catalogue[0].name
        listed = sorted({model.name for catalogue in found if isinstance(catalogue, list) for model in catalogue})
        raise EndpointError(f"Name a model with --model; served here: {', '.join(listed) or 'unknown'}")

    def _welcome(self, host: _Host, catalogue: list[ServedModel] | None) -> None:
        assert self._model is not None
        host.served = host.endpoint.model or self._model
        if catalogue is not None:
            entry = next((model for model in catalogue if model.name == host.served), None)
            if entry is None:
                names = ", ".join(model.name for model in catalogue) or "nothing"
                raise EndpointError(
                    f"{host.url} does not serve {host.served!r}; it serves {names}. "
                    "Name one of these with --model, or as this endpoint's `model`",
                    endpoint=host.url,
                )
            host.takes_priority = entry.owner in PRIORITY_ENGINES
        host.healthy = True
        host.faults_in_a_row = 0
        host.back_since = time.monotonic()

    def _take_out(self, host: _Host, attempt_started: float) -> None:
        """Open the circuit. Of the attempts that one outage fails, only the first does so."""
        if host.healthy and attempt_started >= host.back_since:
            host.healthy = False
            self._start_revival(host)

    def _start_revival(self, host: _Host) -> None:
        revival = asyncio.create_task(self._revive(host), name=f"revive {host.url}")
        self._revivals.add(revival)
        revival.add_done_callback(self._revived)

    async def _revive(self, host: _Host) -> None:
        """Cool down, look whether it is there again, else cool down longer. An answered request starts anew."""
        while True:
            longest = min(self._retry.longest_wait_s, self._retry.first_wait_s * 2.0**host.trips)
            host.trips = min(host.trips + 1, LARGEST_EXPONENT)
            await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - jitter
            try:
                catalogue = await self._catalogue(host)
            except (EndpointUnavailable, RateLimited) as error:
                self._note_error(host, error)
            else:
                return self._welcome(host, catalogue)

    def _revived(self, revival: asyncio.Task[None]) -> None:
        self._revivals.discard(revival)
        if revival.cancelled():
            return
        if (error := revival.exception()) is None:
            self._dispatch()
            return
        self._fatal = error  # a refused key, another model than before: `watch` and every later ask raise it
        for _, _, future, _ in self._waiting:
            if not future.done():
                future.set_exception(error)


def _key(endpoint: Endpoint) -> str | None:
    if endpoint.api_key_env is None:
        return None
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key:
        raise ConfigError(f"{endpoint.url} needs a key: set the environment variable {endpoint.api_key_env}")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"The key in {endpoint.api_key_env} holds characters that no HTTP header can carry")
    return key
