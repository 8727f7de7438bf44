"""Which endpoints of a run can be used: at its start, when one joins, and again after an endpoint's cool-down.

Owns the checks that are under way and the coroutines that bring endpoints back; `admission` checks one endpoint. It
sends no request of a run; when an endpoint can be used, it tells the slot queue to dispatch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from explore_async.errors import ConfigError, EndpointError, EndpointUnavailable, RateLimited
from explore_async.exploration.values import ChatRequest, Form
from explore_async.serving.endpoints.admission import Admission, Listing, is_passing, none_answers
from explore_async.serving.endpoints.compatibility import AnswersNothing
from explore_async.serving.endpoints.endpoint import Endpoint
from explore_async.serving.endpoints.faults import cure_of
from explore_async.serving.endpoints.slot_queue import SlotQueue
from explore_async.settings.operation import Retries

_BARREN_TRIPS = 3
"""An endpoint may come back so often without a completion in between."""
_BARREN_FAULTS, _BARREN_ATTEMPTS = 8, 4
"""The first requests of a run may fail so often, and one of them so often: some seconds, with the waits in between."""


class Availability:
    """Finds out which endpoints can be used, and checks those again that could not.

    `endpoints` is the pool's own list. `models` are the logical models of the run, empty to take the only model that
    is served; `connected` holds them after `connect`. An endpoint must be able to serve requests of all `forms`.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        slots: SlotQueue,
        *,
        models: Sequence[str],
        forms: Sequence[Form],
        retries: Retries,
        stall_s: float,
    ) -> None:
        self.connected: tuple[str, ...] = ()
        self._endpoints = endpoints
        self._slots = slots
        self._admission = Admission(models, forms, retries, stall_s)
        self._retries = retries
        self._connecting = asyncio.Lock()
        self._checks: dict[asyncio.Task[EndpointError | None], Endpoint] = {}
        """The first checks that are under way."""
        self._errors: dict[Endpoint, EndpointError] = {}
        """Of first checks, until it is decided what follows from them."""
        self._coroutines: set[asyncio.Task[None]] = set()
        self._rest: asyncio.Task[None] | None = None

    async def connect(self) -> tuple[str, ...]:
        """Checks all endpoints, and returns when the first of them can be used. The others join when their checks are
        done; an endpoint that does not answer is asked again and again.

        Raises EndpointError where none can be used. One that cannot serve the run is left out where others serve its
        models, whichever of them is checked first.
        """
        async with self._connecting:
            if not self.connected:
                self._errors.clear()
                try:
                    await self._connect_first()
                    self._decide()
                except BaseException:
                    await self.close()
                    self._checks.clear()
                    raise
                self._rest = self._start(self._connect_rest(), "connect the rest")
                self.connected = self._admission.models
            return self.connected

    async def _connect_first(self) -> None:
        admission = self._admission
        for endpoint in self._endpoints:
            endpoint.begin_check()
        listings = [asyncio.create_task(admission.first_catalogue(endpoint)) for endpoint in self._endpoints]
        try:
            if not admission.models:
                await admission.find_model(self._endpoints, listings)
            for endpoint in self._endpoints:
                admission.names_at(endpoint)  # a mistake in the settings is told before any endpoint is used
        except BaseException:
            await _cancel(listings)
            raise
        for endpoint, listing in zip(self._endpoints, listings, strict=True):
            self._checks[asyncio.create_task(self._check(endpoint, listing))] = endpoint
        while self._checks and not any(endpoint.healthy for endpoint in self._endpoints):
            await self._next_checks()
        if not any(endpoint.healthy for endpoint in self._endpoints):
            self._raise_where_none_can_be_used()

    async def _connect_rest(self) -> None:
        while self._checks:
            await self._next_checks()
            self._decide()
            self._slots.dispatch()

    async def _check(self, endpoint: Endpoint, listing: Listing) -> EndpointError | None:
        """The reason why the endpoint cannot be used, now or at all; None where it can."""
        endpoint.served = {}
        try:
            await self._admission.admit(endpoint, await listing)
        except EndpointError as error:
            endpoint.note_error(error)
            return error
        finally:
            endpoint.checked = True
        return None

    async def _next_checks(self) -> None:
        done, _ = await asyncio.wait(self._checks, return_when=asyncio.FIRST_COMPLETED)
        for check in done:
            endpoint = self._checks.pop(check)
            if (error := check.result()) is not None:
                self._errors[endpoint] = error

    def _raise_where_none_can_be_used(self) -> None:
        """All checks have failed. Raises the error that waiting does not help against."""
        errors = [self._errors[endpoint] for endpoint in self._endpoints]
        if final := [error for error in errors if not is_passing(error)]:
            raise final[0]
        if not any(endpoint.served for endpoint in self._endpoints):
            raise none_answers(errors)
        if all(isinstance(error, AnswersNothing) for error in errors):
            raise EndpointError(f"{errors[0]}: look at the server's log", endpoint=errors[0].endpoint)

    def _decide(self) -> None:
        """Lets endpoints whose first check has failed wait, or leaves them out. Raises an error that ends the run."""
        for endpoint, error in list(self._errors.items()):
            if is_passing(error):
                self._start(self._recover(endpoint), f"recover {endpoint.url}")
            elif self.others_serve(endpoint):
                endpoint.excluded = True
            elif self._checks:
                continue  # one of the others may serve its models
            else:
                raise error
            del self._errors[endpoint]
        missing = [
            model
            for model in self._admission.models
            if not any(endpoint.serves(model) for endpoint in self._endpoints if not endpoint.excluded)
        ]
        if missing and all(endpoint.served for endpoint in self._endpoints):
            first, *others = map(self._not_served, missing)
            raise EndpointError("; ".join([first[0].upper() + first[1:], *others]))

    def unserved(self) -> list[str]:
        """A line for each model that no endpoint serves at the moment, while others are served; empty where a check
        that is under way may bring one.
        """
        used = [endpoint for endpoint in self._endpoints if not endpoint.removed]
        states = [endpoint.statistics() for endpoint in used]
        if any(not state.checked and not state.is_silent for state in states):
            return []
        served = {model for endpoint in used if endpoint.healthy for model in endpoint.served}
        models = self._admission.models if served else ()
        return [f"At the moment {self._not_served(model)}" for model in models if model not in served]

    def _not_served(self, model: str) -> str:
        stages = dict.fromkeys(form.sampling for form in self._admission.forms if form.request.model == model)
        what = f"its {' and '.join(stages)}" if stages else "some of its requests"
        return f"no endpoint serves {model!r}, which this run needs for {what}"

    async def settle(self) -> None:
        """Waits until all endpoints that `connect` began to check are checked."""
        if self._rest is not None:
            await asyncio.wait([self._rest])

    def take_out(self, endpoint: Endpoint, attempt_started: float) -> None:
        if endpoint.trip(attempt_started):
            self._start(self._recover(endpoint), f"recover {endpoint.url}")

    def others_serve(self, endpoint: Endpoint) -> bool:
        """True when other endpoints serve all models that this one serves."""
        others = [
            other
            for other in self._endpoints
            if other is not endpoint
            and other.checked
            and other not in self._errors
            and not other.removed
            and not other.excluded
        ]
        return all(any(other.serves(model) for other in others) for model in endpoint.served or self._admission.models)

    def join(self, endpoint: Endpoint) -> None:
        """Adds an endpoint during the run: it gets requests once it answers and serves a model of the run.

        An endpoint that serves another model or rejects the key is excluded; its `last_error` says so.
        """
        self._start(self._recover(endpoint, joining=True), f"join {endpoint.url}")

    async def close(self) -> None:
        await _cancel([*self._coroutines, *self._checks])

    async def _recover(self, endpoint: Endpoint, *, joining: bool = False) -> None:
        """Waits for the cool-down and asks again; one that joins is asked at once. Waits grow until the endpoint has
        answered a request.
        """
        endpoint.begin_check()
        while not endpoint.removed:
            if endpoint.checked:
                await asyncio.sleep(endpoint.cool_down_s(self._retries))
            try:
                await self._admission.admit(endpoint, await self._admission.catalogue(endpoint))
                self._check_answers(endpoint)
            except (EndpointUnavailable, RateLimited) as error:
                endpoint.note_error(error)
            except (EndpointError, ConfigError) as error:
                if not joining and not self.others_serve(endpoint):
                    raise
                endpoint.note_error(error)
                endpoint.excluded = True
                return
            else:
                return
            finally:
                endpoint.checked = True

    def _check_answers(self, endpoint: Endpoint) -> None:
        """Raises EndpointError where the check passes again and again, and no request of the run ever does."""
        if self._admission.forms and endpoint.barren_trips >= _BARREN_TRIPS and endpoint.lasting_fault is not None:
            raise _barren(endpoint, endpoint.lasting_fault)

    def check_first_answers(self, endpoint: Endpoint, fault: EndpointUnavailable, attempts: int) -> None:
        """Raises EndpointError where the endpoint has passed its check, and the first requests of the run fail so
        often, this one with so many attempts, that all will. An endpoint beside others may try for longer.
        """
        if (
            self._admission.forms
            and not endpoint.has_served
            and endpoint.barren_faults >= _BARREN_FAULTS
            and attempts >= _BARREN_ATTEMPTS
            and not self.others_serve(endpoint)
        ):
            raise _barren(endpoint, fault)

    def stage_of(self, request: ChatRequest) -> str:
        """The stage of the run that a request belongs to, by the run's forms; several where they are alike."""
        alike = (
            form.sampling
            for form in self._admission.forms
            if form.request.model == request.model
            and form.request.sampling == request.sampling
            and (form.request.answer_schema is None) == (request.answer_schema is None)
        )
        return " or ".join(dict.fromkeys(alike))

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        coroutine = asyncio.create_task(work, name=name)
        self._coroutines.add(coroutine)
        coroutine.add_done_callback(self._end)
        return coroutine

    def _end(self, coroutine: asyncio.Task[None]) -> None:
        self._coroutines.discard(coroutine)
        if coroutine.cancelled():
            return
        if (error := coroutine.exception()) is None:
            self._slots.dispatch()
        else:
            self._slots.close(error)  # a rejected key, or another model than before: no request can succeed


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)


def _barren(endpoint: Endpoint, fault: EndpointUnavailable) -> EndpointError:
    stages = " and ".join(filter(None, endpoint.barren_stages))
    which = f"for its {stages}" if stages else "of the run"
    others = "others of the run before, and " if endpoint.has_served else ""
    return EndpointError(
        f"{fault}. Each of the last {endpoint.barren_faults} requests {which} ended so, though it answered {others}the "
        f"small ones that check it. {cure_of(fault)}",
        endpoint=fault.endpoint,
        status=fault.status,
    )
