"""The check which endpoints serve the run's models: at the start, and again after an endpoint's cool-down.

Owns the models' names and the tasks that bring endpoints back. It sends no request of a run; when an endpoint is back,
it tells the slot queue to dispatch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

from explore_async.errors import (
    ConfigError,
    ConnectionFailed,
    EndpointError,
    EndpointUnavailable,
    RateLimited,
    RequestRejected,
)
from explore_async.exploration.values import Form
from explore_async.serving.endpoints.compatibility import PROBE_TIMEOUT_S, AnswersNothing, check_compatibility
from explore_async.serving.endpoints.credentials import key_advice
from explore_async.serving.endpoints.endpoint import Endpoint
from explore_async.serving.endpoints.faults import cure_of
from explore_async.serving.endpoints.slot_queue import SlotQueue
from explore_async.serving.endpoints.wire import ServedModel
from explore_async.settings.operation import Retries

CONNECT_PATIENCE_S = 3.0
_CONNECT_PAUSE_S = 0.5
_NAMES_SHOWN = 20
_BARREN_TRIPS = 3
"""An endpoint may come back so often without a completion in between."""
_BARREN_FAULTS, _BARREN_ATTEMPTS = 8, 4
"""The first requests of a run may fail so often, and one of them so often: some seconds, with the waits in between."""
PRIORITY_ENGINES = {"vllm", "simulator"}
"""Engines (`owned_by` in /models) that support the field `priority`; others may reject a body with it."""

_KEY_REJECTED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_NO_CATALOGUE = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}


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
        self._models = tuple(models)
        self._forms = forms
        self._retries = retries
        self._stall_s = stall_s
        self._connecting = asyncio.Lock()
        self._recoveries: set[asyncio.Task[None]] = set()

    async def connect(self) -> tuple[str, ...]:
        """One reachable endpoint is enough; the others count as out and join when they answer."""
        async with self._connecting:
            if not self.connected:
                catalogues = await asyncio.gather(*(self._list_models(endpoint) for endpoint in self._endpoints))
                self._models = self._resolve_models(catalogues)
                admissions = []
                for endpoint, catalogue in zip(self._endpoints, catalogues, strict=True):
                    if isinstance(catalogue, EndpointError):
                        self._start_recovery(endpoint)
                    else:
                        admissions.append(self._admit_or_recover(endpoint, catalogue))
                errors = await asyncio.gather(*admissions)
                if errors and all(isinstance(error, AnswersNothing) for error in errors):
                    raise EndpointError(str(errors[0]), endpoint=self._endpoints[0].url)
                self._check_all_served()
                self.connected = self._models
            return self.connected

    def take_out(self, endpoint: Endpoint, attempt_started: float) -> None:
        if endpoint.trip(attempt_started):
            self._start_recovery(endpoint)

    def others_serve(self, endpoint: Endpoint) -> bool:
        """True when other endpoints serve all models that this one serves."""
        others = [
            other for other in self._endpoints if other is not endpoint and not other.removed and not other.excluded
        ]
        return all(any(other.serves(model) for other in others) for model in endpoint.served or self._models)

    def join(self, endpoint: Endpoint) -> None:
        """Adds an endpoint during the run: it gets requests once it answers and serves a model of the run.

        An endpoint that serves another model or rejects the key is excluded; its `last_error` says so.
        """
        self._start_recovery(endpoint, at_once=True)

    async def close(self) -> None:
        for recovery in self._recoveries:
            recovery.cancel()
        await asyncio.gather(*self._recoveries, return_exceptions=True)

    async def _list_models(self, endpoint: Endpoint) -> list[ServedModel] | EndpointError | None:
        """Models that it serves, None when it does not list them, or the error that makes it count as out."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONNECT_PATIENCE_S
        while True:
            try:
                return await self._catalogue(endpoint)
            except (EndpointUnavailable, RateLimited) as error:
                if loop.time() >= deadline:
                    endpoint.note_error(error)
                    return error
            await asyncio.sleep(_CONNECT_PAUSE_S)

    async def _catalogue(self, endpoint: Endpoint) -> list[ServedModel] | None:
        """Models that it serves, None when it lists none: then the name that the user gave is simply asked for.

        A /models that fails is no more than a missing one where there is such a name, and a check by a request.
        """
        is_named = bool(self._forms) if self._models else endpoint.settings.model is not None
        try:
            return await endpoint.client.catalogue() or None
        except ConnectionFailed:
            raise
        except (EndpointUnavailable, RateLimited):
            if is_named:
                return None
            raise
        except RequestRejected as error:
            if is_named or error.status in _NO_CATALOGUE:
                return None
            advice = key_advice(endpoint.settings) if error.status in _KEY_REJECTED else "Check the URL"
            raise EndpointError(f"{error}. {advice}", endpoint=endpoint.url, status=error.status) from error

    def _resolve_models(self, catalogues: Sequence[list[ServedModel] | EndpointError | None]) -> tuple[str, ...]:
        errors = [catalogue for catalogue in catalogues if isinstance(catalogue, EndpointError)]
        if len(errors) == len(catalogues):
            causes = "; ".join(str(error) for error in errors)
            raise EndpointError(
                f"No endpoint answers: {causes}. Is the server running? Start a server with `explore-async serve`, "
                "or name another endpoint with --endpoint URL",
                endpoint=errors[0].endpoint,
            )
        if self._models:
            return self._models
        for endpoint, catalogue in zip(self._endpoints, catalogues, strict=True):
            named = endpoint.settings.model
            if isinstance(named, str):
                return (named,)
            if named is not None and len(named) == 1:
                return tuple(named)
            if isinstance(catalogue, list) and len(catalogue) == 1 and not catalogue[0].is_wildcard:
                return (catalogue[0].name,)
        listed = sorted({model.name for catalogue in catalogues if isinstance(catalogue, list) for model in catalogue})
        if not listed:
            raise EndpointError(
                f"{self._endpoints[0].url} does not list its models: is it an OpenAI-compatible server? If so, name "
                "its model with --model"
            )
        raise EndpointError(f"Name a model with --model; the endpoints serve {shorten_list(listed)}")

    async def _admit_or_recover(self, endpoint: Endpoint, catalogue: list[ServedModel] | None) -> EndpointError | None:
        """The error that makes it count as out, None when it is admitted."""
        try:
            await self._admit(endpoint, catalogue)
        except (EndpointUnavailable, RateLimited) as error:
            endpoint.note_error(error)
            self._start_recovery(endpoint)
            return error
        return None

    async def _admit(self, endpoint: Endpoint, catalogue: list[ServedModel] | None) -> None:
        """Lets the endpoint get requests. Raises EndpointError when it does not serve what the run needs."""
        endpoint.served = self._served_of(endpoint, catalogue)
        if catalogue is not None:
            listed = {model.name: model for model in catalogue}
            owners = {listed[name].owner for name in endpoint.served.values() if name in listed}
            endpoint.supports_priority = bool(owners) and owners <= PRIORITY_ENGINES
            if len(owners) == 1:
                (owner,) = owners
                endpoint.engine = f"{owner} {await endpoint.client.version(owner)}".strip()
            contexts = {model: listed[name].context_tokens for model, name in endpoint.served.items() if name in listed}
            endpoint.context_tokens = {model: tokens for model, tokens in contexts.items() if tokens is not None}
        for form in self._forms:
            if endpoint.serves(form.request.model):
                timeout_s = min(PROBE_TIMEOUT_S, self._stall_s)
                await check_compatibility(endpoint, form, self._retries, timeout_s=timeout_s)
        endpoint.mark_healthy(asyncio.get_running_loop().time())

    def _served_of(self, endpoint: Endpoint, catalogue: list[ServedModel] | None) -> dict[str, str]:
        """The endpoint's name for each of the run's models that it serves: as declared, else as in its list."""
        named = endpoint.settings.model
        if isinstance(named, str):
            if len(self._models) > 1:
                raise ConfigError(
                    f"{endpoint.url}: the run has several models ({', '.join(self._models)}): "
                    "give this endpoint's `model` as a mapping from these to its own names"
                )
            named = {self._models[0]: named}
        wanted = {model: (named or {}).get(model, model) for model in self._models if named is None or model in named}
        served = {
            model: name
            for model, name in wanted.items()
            if catalogue is None or any(entry.covers(name) for entry in catalogue)
        }
        if not served or (named is not None and len(served) < len(wanted)):
            if named is not None and not wanted:
                raise EndpointError(
                    f"{endpoint.url}: its `model` names {', '.join(named)}, and the run has {', '.join(self._models)}; "
                    "the mapping goes from the run's models to the endpoint's names",
                    endpoint=endpoint.url,
                )
            missing = ", ".join(repr(name) for name in (wanted or named or {}).values() if name not in served.values())
            names = shorten_list(sorted(entry.name for entry in catalogue or ())) or "nothing"
            raise EndpointError(
                f"{endpoint.url} does not serve {missing}; it serves {names}. "
                "Name a model of this list with --model, or as this endpoint's `model`",
                endpoint=endpoint.url,
            )
        return served

    def _check_all_served(self) -> None:
        """Raises EndpointError for a model that no endpoint serves, if all endpoints answered: others may serve it."""
        missing = [model for model in self._models if not any(endpoint.serves(model) for endpoint in self._endpoints)]
        if missing and all(endpoint.served for endpoint in self._endpoints):
            raise EndpointError(
                f"No endpoint serves {', '.join(map(repr, missing))}, which this run needs for some of its requests"
            )

    def _start_recovery(self, endpoint: Endpoint, *, at_once: bool = False) -> None:
        recovery = asyncio.create_task(self._recover(endpoint, at_once=at_once), name=f"recover {endpoint.url}")
        self._recoveries.add(recovery)
        recovery.add_done_callback(self._end_recovery)

    async def _recover(self, endpoint: Endpoint, *, at_once: bool) -> None:
        """Waits for the cool-down and asks again. Waits grow until the endpoint has answered a request."""
        joining = at_once
        while not endpoint.removed:
            if not at_once:
                await asyncio.sleep(endpoint.cool_down_s(self._retries))
            at_once = False
            try:
                catalogue = await self._catalogue(endpoint)
                await self._admit(endpoint, catalogue)
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

    def _check_answers(self, endpoint: Endpoint) -> None:
        """Raises EndpointError where the check passes again and again, and no request of the run ever does."""
        if self._forms and endpoint.barren_trips >= _BARREN_TRIPS and endpoint.lasting_fault is not None:
            raise _barren(endpoint.lasting_fault)

    def check_first_answers(self, endpoint: Endpoint, fault: EndpointUnavailable, attempts: int) -> None:
        """Raises EndpointError where the endpoint has passed its check, and the first requests of the run fail so
        often, this one with so many attempts, that all will. An endpoint beside others may try for longer.
        """
        if (
            self._forms
            and not endpoint.has_served
            and endpoint.barren_faults >= _BARREN_FAULTS
            and attempts >= _BARREN_ATTEMPTS
            and not self.others_serve(endpoint)
        ):
            raise _barren(fault)

    def _end_recovery(self, recovery: asyncio.Task[None]) -> None:
        self._recoveries.discard(recovery)
        if recovery.cancelled():
            return
        if (error := recovery.exception()) is None:
            self._slots.dispatch()
        else:
            self._slots.close(error)  # a rejected key, or another model than before: no request can succeed


def _barren(fault: EndpointUnavailable) -> EndpointError:
    return EndpointError(
        f"{fault}. So it answers all requests of the run, though not the small one that checks it. {cure_of(fault)}",
        endpoint=fault.endpoint,
        status=fault.status,
    )


def shorten_list(names: Sequence[str]) -> str:
    """The first names and the number of the others: gateways serve hundreds."""
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"
