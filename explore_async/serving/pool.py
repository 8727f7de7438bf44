"""Many endpoints as one: `ask` returns what the request itself deserves and hides all trouble with endpoints.

Owns retries (nowhere else is anything asked again, but for the driver's second ask of a straggler) and the watchdog;
one endpoint's state is its `host`'s, the queue for slots `slots`', who is there at all the `roster`'s. Promises:

- A Failure is always the request's own doing: rejected, too long, or failing while others on the same endpoint succeed.
- Trouble with an endpoint makes a request wait or move. Only what no waiting can cure raises EndpointError.
- Never more than `concurrency` attempts at an endpoint; waiting requests are served by priority, lowest first.
- No random state or clock in here can reach an outcome's text.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from types import TracebackType
from typing import NoReturn, Self

from explore_async.errors import (
    AttemptTimedOut,
    ConfigError,
    ConnectionFailed,
    EndpointError,
    EndpointUnavailable,
    RateLimited,
    RequestRejected,
)
from explore_async.exploration.values import ChatRequest, Failure, Outcome
from explore_async.serving.client import EndpointClient, open_session
from explore_async.serving.endpoints import Endpoint, PoolStatistics, Retry, normalise_url, read_key
from explore_async.serving.host import Host
from explore_async.serving.roster import Roster
from explore_async.serving.slots import Slots
from explore_async.serving.trouble import Trouble, judge_canary, judge_refusal

__all__ = ["Endpoint", "EndpointPool", "PoolStatistics", "Retry"]


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
        self._retry = retry or Retry()
        self._hosts: list[Host] = []  # filled on entering; slots and roster see the same list
        self._slots = Slots(self._hosts)
        self._roster = Roster(self._hosts, self._slots, model=model, retry=self._retry)
        self._stopping = asyncio.Event()
        self._asking = 0
        self._failures = 0
        self._quiet_since = 0.0
        self._slowest_answer_s = 0.0
        self._owned = AsyncExitStack()

    async def __aenter__(self) -> Self:
        keys = [read_key(endpoint) for endpoint in self._endpoints]
        session = await self._owned.enter_async_context(open_session(connections=self.capacity))
        self._owned.push_async_callback(self._roster.close)
        self._hosts.extend(
            Host(EndpointClient(endpoint.url, session=session, api_key=key), endpoint)
            for endpoint, key in zip(self._endpoints, keys, strict=True)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._owned.aclose()

    @property
    def capacity(self) -> int:
        """Requests that can be in flight at once."""
        return sum(endpoint.concurrency for endpoint in self._endpoints)

    async def connect(self) -> str:
        """Find out who is there and what they serve; returns the logical model's name. Calling it again is free.

        One reachable endpoint suffices; the others count as out and join when they answer.
        """
        return await self._roster.connect()

    async def ask(
        self,
        request: ChatRequest,
        *,
        priority: int,
        avoid: str | None = None,
        placed: Callable[[str], None] | None = None,
    ) -> Outcome:
        """The outcome of a request, however long that takes. Lower priorities are served sooner.

        `avoid` is the URL of an endpoint to pass over while another is available. `placed` is called with the URL of an
        endpoint each time the request is sent off to one, so that whoever asks a second time knows what to avoid.
        Raises EndpointError when no request can succeed (refused key, unknown model), and after `stop` for what is not
        under way; cancelling it frees its slot at once.
        """
        assert self._roster.connected is not None, "connect() comes first"
        avoid = None if avoid is None else normalise_url(avoid)
        trouble = Trouble()
        if self._asking == 0:
            self._quiet_since = time.monotonic()
        self._asking += 1
        try:
            while True:
                host = await self._slots.acquire(priority, avoid)
                try:
                    if placed is not None:
                        placed(host.url)
                    step = await self._attempt(host, request, priority, trouble)
                finally:
                    self._slots.release(host)
                if not isinstance(step, float):
                    self._quiet_since = time.monotonic()
                    return step
                avoid = host.url
                await self._pause(step)
        finally:
            self._asking -= 1

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def stop(self) -> None:
        """Sends nothing more: what is under way may finish, what waits or would be tried again is given back."""
        self._stopping.set()
        self._slots.close(EndpointUnavailable("not asked: the run is stopping"))

    async def watch(self) -> NoReturn:
        """Ends a hopeless run: raises EndpointError when requests wait and for `stall_s` none has had an outcome.

        Where answers are known to take long, the patience is twice the longest so far.
        """
        while True:
            await asyncio.sleep(min(1.0, self._retry.stall_s / 10))
            if self._slots.closed_by is not None and not self._stopping.is_set():
                raise self._slots.closed_by
            patience_s = max(self._retry.stall_s, 2 * self._slowest_answer_s)
            if self._asking and time.monotonic() - self._quiet_since > patience_s:
                last_error = max(self._hosts, key=lambda host: host.errored_at).last_error
                raise EndpointError(
                    f"{self._asking} requests wait and none was answered for {patience_s:.4g} s. "
                    f"Last error: {last_error or 'none, the endpoints just do not answer'}. "
                    "Look at the server's log; running again resumes where this run stopped"
                )

    def statistics(self) -> PoolStatistics:
        hosts = tuple(host.statistics() for host in self._hosts)
        return PoolStatistics.of(hosts, asking=self._asking, failures=self._failures)

    async def _attempt(self, host: Host, request: ChatRequest, priority: int, trouble: Trouble) -> Outcome | float:
        """An outcome, or the seconds to wait before the next attempt."""
        if trouble.at(host) >= self._retry.attempts:
            await host.ask_canary(request)
        await host.throttle()
        started = time.monotonic()
        trouble.attempts += 1
        host.retries += trouble.attempts > 1
        try:
            completion = await host.ask(request, priority=priority, timeouts=trouble.timeouts)
        except EndpointError as error:
            if type(error) is RequestRejected and host.answered == 0:
                judge_canary(await host.ask_canary(request))
            step = self._after(error, host, trouble, started)
            self._failures += isinstance(step, Failure)
            return step
        self._slowest_answer_s = max(self._slowest_answer_s, completion.latency_s)
        return completion

    def _after(self, error: EndpointError, host: Host, trouble: Trouble, started: float) -> Failure | float:
        if isinstance(error, RequestRejected):
            return judge_refusal(error, trouble.attempts)
        wait_s = self._retry.wait_s(trouble.attempts)
        if isinstance(error, RateLimited):
            now = time.monotonic()
            host.slow_down(now)
            if error.retry_after is None:
                return wait_s
            # The endpoint as a whole asked for patience: nobody else should run into the same refusal.
            pause_s = min(error.retry_after, 4 * self._retry.longest_wait_s)
            host.paused_until = max(host.paused_until, now + pause_s)
            asyncio.get_running_loop().call_later(pause_s, self._slots.dispatch)
            return 0.0
        if isinstance(error, ConnectionFailed):
            self._roster.take_out(host, started)
            return 0.0
        if host.note_fault():
            self._roster.take_out(host, started)
        trouble.timeouts += isinstance(error, AttemptTimedOut)
        if error.status != HTTPStatus.SERVICE_UNAVAILABLE:  # 503 speaks of the server's state, not of the request
            trouble.note_fault(host)
        if trouble.convicts(self._retry.attempts):
            return Failure("repeated", str(error), trouble.attempts)
        return wait_s
