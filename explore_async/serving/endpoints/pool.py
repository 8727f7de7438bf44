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
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from types import TracebackType
from typing import NoReturn, Self, TypeAlias

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
from explore_async.serving.endpoints.availability import Roster, some_of
from explore_async.serving.endpoints.concurrency import READING_S
from explore_async.serving.endpoints.endpoint import Client, Host
from explore_async.serving.endpoints.faults import Trouble, judge_canary, judge_refusal, refuses_all
from explore_async.serving.endpoints.slot_queue import Slots
from explore_async.serving.endpoints.values import PoolStatistics, backoff_s, declared_concurrency, normalise_url
from explore_async.settings.operation import EndpointSettings, Retries

MOST_FOUND = 100_000
OpenClient: TypeAlias = Callable[[EndpointSettings], Awaitable[Client]]


async def _over_http(owned: AsyncExitStack) -> OpenClient:
    from explore_async.serving.endpoints.client import open_client, open_session  # aiohttp takes its time

    session = await owned.enter_async_context(open_session())
    return lambda endpoint: open_client(endpoint, session)


class EndpointPool:
    """Use as an async context manager, `connect` once, then `ask` from as many coroutines as you like."""

    def __init__(
        self,
        endpoints: Sequence[EndpointSettings],
        *,
        models: Sequence[str] = (),
        forms: Sequence[ChatRequest] = (),
        retries: Retries | None = None,
        stall_s: float = 600.0,
        most_found: int = MOST_FOUND,
        open_clients: Callable[[AsyncExitStack], Awaitable[OpenClient]] = _over_http,
    ) -> None:
        """`models`: the logical ones, none to take the only one served. `forms`: small requests, such as every endpoint
        has to be able to serve before it gets others. `most_found`: so many requests may be in flight at the endpoints
        whose concurrency is to be found out, all together. `open_clients`: what makes the clients.
        """
        urls = [normalise_url(endpoint.url) for endpoint in endpoints]
        if not urls:
            raise ConfigError(
                "No endpoint is given: name one with --endpoint URL, or start one with explore-async serve"
            )
        if len(set(urls)) < len(urls):
            raise ConfigError(f"An endpoint is given twice: {', '.join(urls)}. Raise its concurrency instead")
        self._endpoints = tuple(endpoints)
        self._retries = retries or Retries()
        self._stall_s = stall_s
        self._hosts: list[Host] = []  # filled on entering; slots and roster see the same list
        self._most_found = most_found
        self._open_clients = open_clients
        self._open_client: OpenClient | None = None
        self._slots = Slots(self._hosts, most_found)
        self._roster = Roster(
            self._hosts, self._slots, models=models, forms=forms, retries=self._retries, stall_s=stall_s
        )
        self._stopping = asyncio.Event()
        self._asking = 0
        self._failures = 0
        self._quiet_since = 0.0
        self._slowest_answer_s = 0.0
        self._owned = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            self._open_client = await self._open_clients(self._owned)
            self._owned.push_async_callback(self._roster.close)
            self._hosts.extend([await self._new_host(endpoint) for endpoint in self._endpoints])
        except BaseException:  # a key that is not there
            await self._owned.aclose()
            raise
        return self

    async def _new_host(self, endpoint: EndpointSettings) -> Host:
        assert self._open_client is not None
        return Host(await self._open_client(endpoint), endpoint, self._most_found)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._owned.aclose()

    @property
    def capacity(self) -> int:
        """Requests that can be in flight at once, as far as that is known at the moment."""
        found = sum(host.limit.value for host in self._hosts if host.is_auto and not host.drained)
        declared = declared_concurrency(host.endpoint for host in self._hosts if not host.drained)
        return declared + min(found, self._most_found)

    async def replace(self, endpoints: Sequence[EndpointSettings]) -> None:
        """From now on these endpoints: new ones join when they answer, missing ones finish what they have.

        An endpoint whose settings have changed counts as a new one. Raises ConfigError, and changes nothing, where one
        of them cannot be used at all.
        """
        urls = [normalise_url(endpoint.url) for endpoint in endpoints]
        if not urls or len(set(urls)) < len(urls):
            raise ConfigError("no endpoint is left" if not urls else "an endpoint is given twice")
        kept = [host for host in self._hosts if not host.drained and host.endpoint in endpoints]
        known = [host.endpoint for host in kept]
        joining = [await self._new_host(endpoint) for endpoint in endpoints if endpoint not in known]
        for host in self._hosts:
            host.drained = host not in kept
        self._hosts.extend(joining)
        for host in joining:
            self._roster.join(host)
        self._slots.dispatch()

    async def connect(self) -> tuple[str, ...]:
        """Find out who is there and what they serve; returns the logical models. Calling it again is free.

        One reachable endpoint suffices; the others count as out and join when they answer.
        """
        return await self._roster.connect()

    async def ask(
        self,
        request: ChatRequest,
        *,
        priority: int,
        affinity: str = "",
        avoid: str | None = None,
        placed: Callable[[str], None] | None = None,
    ) -> Outcome:
        """The outcome of a request, however long that takes. Lower priorities are served sooner.

        Requests of one `affinity` go to the same endpoint where several are about equally free. `avoid` is the URL of
        an endpoint to pass over while another is available. `placed` is called with the URL of an endpoint each time
        the request is sent off to one, so that whoever asks a second time knows what to avoid.
        Raises EndpointError when no request can succeed (refused key, unknown model), and after `stop` for what is not
        under way; cancelling it frees its slot at once.
        """
        models = self._roster.connected
        assert models, "connect() comes first"
        assert request.model in models, f"{request.model!r} is none of the pool's models"
        avoid = None if avoid is None else normalise_url(avoid)
        trouble = Trouble()
        if self._asking == 0:
            self._quiet_since = self._now()
        self._asking += 1
        try:
            while True:
                host = await self._slots.acquire(priority, avoid, affinity, request.model)
                try:
                    if placed is not None:
                        placed(host.url)
                    step = await self._attempt(host, request, priority, trouble)
                finally:
                    self._slots.release(host)
                if not isinstance(step, float):
                    self._quiet_since = self._now()
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

        Where answers are known to take long, the patience is twice the longest so far. While this process itself stands
        still (stopped by a signal, its machine paused) nobody can answer it: that time does not count.
        """
        between_s = min(1.0, self._stall_s / 10)
        while True:
            slept_from = self._now()
            await asyncio.sleep(between_s)
            self._quiet_since += max(0.0, self._now() - slept_from - 2 * between_s)
            if self._slots.closed_by is not None and not self._stopping.is_set():
                raise self._slots.closed_by
            patience_s = max(self._stall_s, 2 * self._slowest_answer_s)
            if self._asking and self._now() - self._quiet_since > patience_s:
                last_error = max(self._hosts, key=lambda host: host.errored_at).last_error
                silent = f"none, the endpoints just do not answer ({some_of([host.url for host in self._hosts])})"
                raise EndpointError(
                    f"{self._asking} requests wait and none was answered for {patience_s:.4g} s. "
                    f"Last error: {last_error or silent}. "
                    "Look at the server's log; running again resumes where this run stopped. Where answers take so "
                    "long, raise operation.stall_s; a request that never ends, while others were answered, is given up "
                    "with --set operation.retries.attempts=1"
                )

    async def look(self) -> NoReturn:
        """Reads the engines' metrics and sets the limits that are to be found out. Ends by being cancelled."""
        while True:
            now = self._now()
            due = [host for host in self._hosts if host.is_to_be_read(now)]
            if any(await asyncio.gather(*(host.read() for host in due))):
                self._slots.dispatch()
            await asyncio.sleep(READING_S)

    def statistics(self) -> PoolStatistics:
        hosts = tuple(host.statistics() for host in self._hosts)
        held_back = self._slots.held_back
        return PoolStatistics.of(hosts, asking=self._asking, failures=self._failures, held_back=held_back)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _attempt(self, host: Host, request: ChatRequest, priority: int, trouble: Trouble) -> Outcome | float:
        """An outcome, or the seconds to wait before the next attempt."""
        if trouble.at(host) >= self._retries.attempts:
            await host.ask_canary(request)
        await host.rates.wait_for_request()
        started = self._now()
        trouble.attempts += 1
        host.retries += trouble.attempts > 1
        try:
            completion = await host.ask(request, priority=priority, timeouts=trouble.timeouts)
        except EndpointError as error:
            if type(error) is RequestRejected and host.answered == 0 and not refuses_all(error):
                judge_canary(await host.ask_canary(request))
            step = self._after(error, host, trouble, started)
            self._failures += isinstance(step, Failure)
            return step
        self._slowest_answer_s = max(self._slowest_answer_s, completion.latency_s)
        if (wait_s := host.rates.wait_s(self._now())) > 0:
            asyncio.get_running_loop().call_later(wait_s, self._slots.dispatch)
        return completion

    def _after(self, error: EndpointError, host: Host, trouble: Trouble, started: float) -> Failure | float:
        if isinstance(error, RequestRejected):
            if refuses_all(error) and self._roster.others_serve(host):
                self._roster.take_out(host, started)
                return 0.0
            return judge_refusal(error, trouble.attempts)
        wait_s = backoff_s(self._retries, trouble.attempts)
        if isinstance(error, RateLimited):
            now = self._now()
            host.limit.refused(now)
            if error.retry_after is None:
                return wait_s
            # The endpoint as a whole asked for patience: nobody else should run into the same refusal. And "now", said
            # again and again, is no reason to ask as fast as it refuses.
            pause_s = min(error.retry_after, 4 * self._retries.longest_wait_s)
            host.paused_until = max(host.paused_until, now + pause_s)
            asyncio.get_running_loop().call_later(pause_s, self._slots.dispatch)
            return max(0.0, wait_s - pause_s)
        if isinstance(error, ConnectionFailed):
            self._roster.take_out(host, started)
            return 0.0
        if host.note_fault():
            self._roster.take_out(host, started)
        trouble.timeouts += isinstance(error, AttemptTimedOut)
        if error.status != HTTPStatus.SERVICE_UNAVAILABLE:  # 503 speaks of the server's state, not of the request
            trouble.note_fault(host)
        if trouble.convicts(self._retries.attempts):
            return Failure("repeated", str(error), trouble.attempts)
        return wait_s
