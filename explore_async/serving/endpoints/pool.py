"""Many endpoints as one: `ask` returns the outcome of a request and hides all faults of endpoints.

Owns retries (only the driver's second request for a straggler is sent elsewhere) and the watchdog. The state of one
endpoint is in `endpoint`, the queue for slots in `slot_queue`, which endpoints can be used in `availability`. Promises:

- The request itself causes a Failure: it is rejected, too long, or fails while others on the same endpoint succeed.
- A fault of an endpoint makes a request wait or move. EndpointError is raised only when waiting cannot help.
- No endpoint gets more than `concurrency` attempts at once; the waiting request of the lowest priority is next.
- No random state or clock in here can change an outcome's text.
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
from explore_async.exploration.values import ChatRequest, Failure, Form, Outcome
from explore_async.serving.endpoints.admission import shorten_list
from explore_async.serving.endpoints.availability import Availability
from explore_async.serving.endpoints.choice import Rivals
from explore_async.serving.endpoints.concurrency import READING_S
from explore_async.serving.endpoints.endpoint import Client, Endpoint, TakenBack
from explore_async.serving.endpoints.faults import (
    FaultHistory,
    check_canary,
    failure_of,
    may_last,
    rejects_every_request,
    repeated_failure,
)
from explore_async.serving.endpoints.slot_queue import SlotQueue
from explore_async.serving.endpoints.values import PoolStatistics, backoff_s, normalise_url
from explore_async.settings.operation import EndpointSettings, Retries
from explore_async.terminal.counts import counted

MOST_IN_FLIGHT = 100_000
OpenClient: TypeAlias = Callable[[EndpointSettings], Awaitable[Client]]


async def _over_http(owned: AsyncExitStack) -> OpenClient:
    from explore_async.serving.endpoints.client import open_client, open_session  # aiohttp takes its time

    session = await owned.enter_async_context(open_session())
    return lambda endpoint: open_client(endpoint, session)


class EndpointPool:
    """An async context manager: call `connect` once, then `ask` from any number of coroutines."""

    def __init__(
        self,
        endpoints: Sequence[EndpointSettings],
        *,
        models: Sequence[str] = (),
        forms: Sequence[Form] = (),
        retries: Retries | None = None,
        stall_s: float = 600.0,
        most_in_flight: int = MOST_IN_FLIGHT,
        open_clients: Callable[[AsyncExitStack], Awaitable[OpenClient]] = _over_http,
    ) -> None:
        """`models`: the logical models; empty to take the only model that is served. `forms`: of the requests; an
        endpoint must be able to serve them before it gets any. `most_in_flight`: requests that may be in flight at the
        endpoints with concurrency `auto`, all together. `open_clients` returns the function that opens clients.
        """
        urls = [normalise_url(endpoint.url) for endpoint in endpoints]
        if not urls:
            raise ConfigError(
                "No endpoint is given: name one with --endpoint URL, or start one with explore-async serve"
            )
        if len(set(urls)) < len(urls):
            raise ConfigError(f"An endpoint is given twice: {', '.join(urls)}. Raise its concurrency instead")
        self._settings = tuple(endpoints)
        self._retries = retries or Retries()
        self._stall_s = stall_s
        self._endpoints: list[Endpoint] = []  # filled on entering; slots and availability see the same list
        self._most_in_flight = most_in_flight
        self._open_clients = open_clients
        self._open_client: OpenClient | None = None
        self._slots = SlotQueue(self._endpoints, most_in_flight)
        self._availability = Availability(
            self._endpoints, self._slots, models=models, forms=forms, retries=self._retries, stall_s=stall_s
        )
        self._stopping = asyncio.Event()
        self._asking = 0
        self._failed_requests = 0
        self._quiet_since = 0.0
        self._slowest_answer_s = 0.0
        self._owned = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            self._open_client = await self._open_clients(self._owned)
            self._owned.push_async_callback(self._availability.close)
            self._endpoints.extend([await self._new_endpoint(settings) for settings in self._settings])
        except BaseException:  # a key is missing
            await self._owned.aclose()
            raise
        return self

    async def _new_endpoint(self, settings: EndpointSettings) -> Endpoint:
        assert self._open_client is not None
        client, longest_pause_s = await self._open_client(settings), 4 * self._retries.longest_wait_s
        return Endpoint(client, settings, self._most_in_flight, longest_pause_s)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._owned.aclose()

    @property
    def capacity(self) -> int:
        """Requests that can be in flight or wait for a slot at once, as far as is known now."""
        return self._most(in_use=False) + self._slots.wanted

    @property
    def limit(self) -> int:
        """Most requests in flight now, at the endpoints that are in use."""
        return self._most(in_use=True)

    def _most(self, *, in_use: bool) -> int:
        auto = declared = 0
        for endpoint in self._endpoints:  # a plain loop: it is asked for at each completion
            if endpoint.removed or (in_use and not endpoint.healthy):
                continue
            if (concurrency := endpoint.settings.concurrency) == "auto":
                auto += endpoint.limit.value
            else:
                declared += concurrency
        return declared + min(auto, self._most_in_flight)

    async def replace(self, endpoints: Sequence[EndpointSettings]) -> None:
        """Replaces the endpoints: new ones join when they answer, removed ones finish what they have in flight.

        An endpoint whose settings have changed counts as new. Raises ConfigError and changes nothing when one of them
        cannot be used at all.
        """
        urls = [normalise_url(endpoint.url) for endpoint in endpoints]
        if not urls or len(set(urls)) < len(urls):
            raise ConfigError("no endpoint is left" if not urls else "an endpoint is given twice")
        kept = [endpoint for endpoint in self._endpoints if not endpoint.removed and endpoint.settings in endpoints]
        known = [endpoint.settings for endpoint in kept]
        joining = [await self._new_endpoint(settings) for settings in endpoints if settings not in known]
        for endpoint in self._endpoints:
            endpoint.removed = endpoint not in kept
        self._endpoints.extend(joining)
        for endpoint in joining:
            self._availability.join(endpoint)
        self._slots.dispatch()

    async def connect(self) -> tuple[str, ...]:
        """Checks each endpoint; returns the logical models when the first can be used. A second call does nothing.

        The others join when they are checked, or when they answer at last.
        """
        return await self._availability.connect()

    async def settle(self) -> None:
        """Waits until each endpoint was checked: for callers that need them all."""
        await self._availability.settle()

    async def ask(
        self,
        request: ChatRequest,
        *,
        priority: int,
        affinity: str = "",
        avoid: str | None = None,
        on_sent: Callable[[str], None] | None = None,
    ) -> Outcome:
        """The outcome of a request, however long that takes. Lower priorities are served sooner.

        Requests of one `affinity` go to the same endpoint when several are about equally free. `avoid` is the URL of
        an endpoint to skip while another is available. `on_sent` gets the URL of the endpoint each time the request is
        sent, so that a second request for the same completion can avoid it; empty when it waits for a slot again.
        Raises EndpointError when no request can succeed (rejected key, unknown model), and after `stop` for requests
        that are not in flight. Cancelling it frees its slot at once.
        """
        models = self._availability.connected
        assert models, "connect() comes first"
        assert request.model in models, f"{request.model!r} is not a model of the pool"
        avoid = None if avoid is None else normalise_url(avoid)
        faults = FaultHistory()
        if self._asking == 0:
            self._quiet_since = self._now()
        self._asking += 1
        try:
            while True:
                endpoint = await self._slots.acquire(priority, avoid, affinity, request.model)
                try:
                    if on_sent is not None:
                        on_sent(endpoint.url)
                    step = await self._attempt(endpoint, request, priority, faults)
                except TakenBack:
                    if on_sent is not None:
                        on_sent("")
                    continue
                finally:
                    self._slots.release(endpoint)
                if not isinstance(step, float):
                    self._quiet_since = self._now()
                    return step
                avoid = endpoint.url
                await self._pause(step)
        finally:
            self._asking -= 1

    def rivals(self, model: str) -> Rivals:
        """The endpoints to which requests for this model could be sent a second time."""
        return self._slots.rivals(model)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def stop(self) -> None:
        """Sends nothing more: requests in flight may finish; those that wait or would be retried end with an error."""
        self._stopping.set()
        self._slots.close(EndpointUnavailable("not sent: the run is stopping"))

    async def watch(self) -> NoReturn:
        """Ends a run without progress: raises EndpointError when requests wait and none had an outcome for `stall_s`.

        When completions take long, the limit is twice the longest latency so far. Time in which this process is stopped
        (by a signal, or with its machine) does not count.
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
                raise EndpointError(self._stalled(patience_s))

    def _stalled(self, patience_s: float) -> str:
        last_error = max(self._endpoints, key=lambda endpoint: endpoint.errored_at).last_error
        urls = shorten_list([endpoint.url for endpoint in self._endpoints])
        last_error = last_error or f"none, the endpoints do not answer ({urls})"
        waiting = f"{counted(self._asking, 'request')} {'waits' if self._asking == 1 else 'wait'}"
        begins = f"{waiting} and none was answered for {patience_s:.4g} s."
        if unserved := self.unserved():
            return (
                f"{begins} {'; '.join(unserved)}. Last error: {last_error}. Start a server of this model, or map the "
                "model to a name of another endpoint in that one's `model`; run again to resume"
            )
        return (
            f"{begins} Last error: {last_error}. Look at the server's log; run again to resume. If completions take "
            "that long, raise operation.stall_s; if one request never ends while others do, "
            "--set operation.retries.attempts=1 gives it up"
        )

    async def adjust_limits(self) -> NoReturn:
        """Reads the engines' metrics and adjusts the limits of endpoints with concurrency `auto`, until cancelled."""
        while True:
            now = self._now()
            due = [endpoint for endpoint in self._endpoints if endpoint.is_to_be_read(now)]
            await asyncio.gather(*(endpoint.read() for endpoint in due))
            for endpoint in () if self._stopping.is_set() else due:  # nothing is sent again after a stop
                if (number := endpoint.in_queue) and self._slots.is_quicker_elsewhere(endpoint):
                    endpoint.take_back(number)
            self._slots.dispatch()
            await asyncio.sleep(READING_S)

    def unserved(self) -> list[str]:
        """A line for each model that no endpoint serves at the moment, while others are served."""
        return self._availability.unserved()

    def statistics(self) -> PoolStatistics:
        spare = self._slots.spare()
        endpoints = tuple(endpoint.statistics(spare=endpoint in spare) for endpoint in self._endpoints)
        held_back = self._slots.held_back
        return PoolStatistics.of(
            endpoints, asking=self._asking, failed_requests=self._failed_requests, held_back=held_back
        )

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _attempt(
        self, endpoint: Endpoint, request: ChatRequest, priority: int, faults: FaultHistory
    ) -> Outcome | float:
        """An outcome, or the seconds to wait before the next attempt."""
        if faults.count_at(endpoint) >= self._retries.attempts:
            await endpoint.ask_canary(request)
        taken, load = self._now(), endpoint.in_flight
        await endpoint.rates.wait_for_request()
        started = self._now()
        faults.attempts += 1
        try:
            completion = await endpoint.ask(request, priority=priority, timeouts=faults.timeouts)
        except TakenBack:
            faults.attempts -= 1
            raise
        except EndpointError as error:
            if type(error) is RequestRejected and endpoint.answered == 0 and not rejects_every_request(error):
                check_canary(await endpoint.ask_canary(request))
            step = self._after(error, endpoint, request, faults, started)
            self._failed_requests += isinstance(step, Failure)
            endpoint.retries += isinstance(step, float)
            return step
        endpoint.note_speed(request.model, max(1, completion.completion_tokens), self._now() - taken, load)
        self._slowest_answer_s = max(self._slowest_answer_s, completion.latency_s)
        if (wait_s := endpoint.rates.wait_s(self._now())) > 0:
            asyncio.get_running_loop().call_later(wait_s, self._slots.dispatch)
        return completion

    def _after(
        self, error: EndpointError, endpoint: Endpoint, request: ChatRequest, faults: FaultHistory, started: float
    ) -> Failure | float:
        if isinstance(error, RequestRejected):
            if rejects_every_request(error) and self._availability.others_serve(endpoint):
                self._availability.take_out(endpoint, started)
                return 0.0
            return failure_of(error, faults.attempts)
        wait_s = backoff_s(self._retries, faults.attempts)
        if isinstance(error, RateLimited):
            endpoint.limit.rejected(self._now())
            if error.retry_after is None:
                return wait_s
            # The whole endpoint asks for patience, so no other request is sent meanwhile. And "retry at once", again
            # and again, is no reason to send as fast as it rejects.
            pause_s = endpoint.pause_s(error.retry_after)
            asyncio.get_running_loop().call_later(pause_s, self._slots.dispatch)
            return max(0.0, wait_s - pause_s)
        if isinstance(error, ConnectionFailed):
            self._availability.take_out(endpoint, started)
            return 0.0
        assert isinstance(error, EndpointUnavailable)
        lasting = error if may_last(error) else None
        if endpoint.note_fault(lasting, "" if lasting is None else self._availability.stage_of(request)):
            self._availability.take_out(endpoint, started)
        if lasting is not None:
            self._availability.check_first_answers(endpoint, lasting, faults.attempts)
        faults.timeouts += isinstance(error, AttemptTimedOut)
        if error.status != HTTPStatus.SERVICE_UNAVAILABLE:  # 503 is about the server's state, not the request
            faults.record(endpoint)
        if faults.shows_request_is_cause(self._retries.attempts):
            return repeated_failure(error, faults.attempts)
        return wait_s
