"""The check of one endpoint before it gets requests: the models that it lists, and whether it serves the run's forms.

Owns the names of the run's models. It knows one endpoint at a time; `availability` decides what follows for the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import TypeAlias

from explore_async.errors import (
    ConfigError,
    ConnectionFailed,
    EndpointError,
    EndpointUnavailable,
    RateLimited,
    RequestRejected,
)
from explore_async.exploration.values import Form
from explore_async.serving.endpoints.compatibility import PROBE_TIMEOUT_S, check_compatibility
from explore_async.serving.endpoints.credentials import key_advice
from explore_async.serving.endpoints.endpoint import Endpoint
from explore_async.serving.endpoints.wire import ServedModel
from explore_async.settings.operation import Retries

CONNECT_PATIENCE_S = 3.0
_CONNECT_PAUSE_S = 0.5
_NAMES_SHOWN = 20
_MODEL_OPTION = "--model (the command judge: --judge)"
PRIORITY_ENGINES = {"vllm", "simulator"}
"""Engines (`owned_by` in /models) that support the field `priority`; others may reject a body with it."""

_KEY_REJECTED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_NO_CATALOGUE = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}

Listing: TypeAlias = asyncio.Task[list[ServedModel] | None]
"""The first look at an endpoint's models."""


class Admission:
    """Checks endpoints against the logical `models` of the run, empty until they are known, and its `forms`."""

    def __init__(self, models: Sequence[str], forms: Sequence[Form], retries: Retries, stall_s: float) -> None:
        self.models = tuple(models)
        self.forms = forms
        self._retries = retries
        self._timeout_s = min(PROBE_TIMEOUT_S, stall_s)

    async def find_model(self, endpoints: Sequence[Endpoint], listings: Sequence[Listing]) -> None:
        """Takes the model of the run from the first endpoint, in the order of the settings, that serves just one. An
        endpoint that lists none within some seconds is passed over where another one does.
        """
        loop = asyncio.get_running_loop()
        for deadline in (loop.time() + CONNECT_PATIENCE_S, None):
            for endpoint, listing in zip(endpoints, listings, strict=True):
                if (model := _declared_model(endpoint)) is None:
                    await asyncio.wait([listing], timeout=deadline and max(0.0, deadline - loop.time()))
                    model = _only_model(listing)
                if model is not None:
                    self.models = (model,)
                    return
        raise _no_model(endpoints, listings)

    async def first_catalogue(self, endpoint: Endpoint) -> list[ServedModel] | None:
        """`catalogue` at the start of a run, where a server that is starting gets some seconds, unless it asks for a
        longer pause.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONNECT_PATIENCE_S
        while True:
            try:
                return await self.catalogue(endpoint)
            except (EndpointUnavailable, RateLimited):
                if max(loop.time(), endpoint.paused_until) >= deadline:
                    raise
            await asyncio.sleep(max(_CONNECT_PAUSE_S, endpoint.paused_until - loop.time()))

    async def catalogue(self, endpoint: Endpoint) -> list[ServedModel] | None:
        """Models that it serves, None when it lists none: then the name that the user gave is simply asked for.

        A /models that fails is no more than a missing one where there is such a name, and a check by a request.
        """
        is_named = endpoint.settings.model is not None or bool(self.models and self.forms)
        try:
            return await endpoint.client.catalogue() or None
        except (EndpointUnavailable, RateLimited) as error:
            if is_named and not isinstance(error, ConnectionFailed):
                return None
            endpoint.note_failure(error)
            raise
        except RequestRejected as error:
            if is_named or error.status in _NO_CATALOGUE:
                return None
            advice = key_advice(endpoint.settings) if error.status in _KEY_REJECTED else "Check the URL"
            raise EndpointError(f"{error}. {advice}", endpoint=endpoint.url, status=error.status) from error

    async def admit(self, endpoint: Endpoint, catalogue: list[ServedModel] | None) -> None:
        """Lets the endpoint get requests. Raises EndpointError when it does not serve what the run needs."""
        if catalogue is not None:
            endpoint.is_heard = True
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
        await self._check_forms(endpoint)
        endpoint.mark_healthy(asyncio.get_running_loop().time())

    async def _check_forms(self, endpoint: Endpoint) -> None:
        """At once, as far as the endpoint's concurrency allows: so a slow server needs no longer than for one of them.
        Of several errors the first form's is raised.
        """
        loop, slots = asyncio.get_running_loop(), asyncio.Semaphore(endpoint.limit.value)

        async def check(form: Form) -> None:
            async with slots:
                began = loop.time()
                await check_compatibility(endpoint, form, self._retries, timeout_s=self._timeout_s)
            speed = endpoint.speed_of(form.request.model)
            speed.check_s = min(loop.time() - began, speed.check_s or float("inf"))

        checks = (check(form) for form in self.forms if endpoint.serves(form.request.model))
        for error in await asyncio.gather(*checks, return_exceptions=True):
            if error is not None:
                raise error

    def names_at(self, endpoint: Endpoint) -> dict[str, str]:
        """The endpoint's name for each of the run's models that it is to serve, by the settings. Raises ConfigError or
        EndpointError for settings that do not fit the run's models.
        """
        named = endpoint.settings.model
        if isinstance(named, str):
            if len(self.models) > 1:
                raise ConfigError(
                    f"{endpoint.url}: the run has several models ({', '.join(self.models)}): "
                    "give this endpoint's `model` as a mapping from these to its own names"
                )
            return {self.models[0]: named}
        if named is None:
            return {model: model for model in self.models}
        names = {model: named[model] for model in self.models if model in named}
        if not names:
            raise EndpointError(
                f"{endpoint.url}: its `model` names {', '.join(named)}, and the run has {', '.join(self.models)}; "
                "the mapping goes from the run's models to the endpoint's names",
                endpoint=endpoint.url,
            )
        return names

    def _served_of(self, endpoint: Endpoint, catalogue: list[ServedModel] | None) -> dict[str, str]:
        """The names of the run's models that it serves: as declared, else as in its list."""
        names = self.names_at(endpoint)
        served = {
            model: name
            for model, name in names.items()
            if catalogue is None or any(entry.covers(name) for entry in catalogue)
        }
        if not served or (endpoint.settings.model is not None and len(served) < len(names)):
            missing = ", ".join(repr(name) for name in names.values() if name not in served.values())
            listed = shorten_list(sorted(entry.name for entry in catalogue or ())) or "nothing"
            raise EndpointError(
                f"{endpoint.url} does not serve {missing}; it serves {listed}. "
                f"Name a model of this list with {_MODEL_OPTION}, or as this endpoint's `model`",
                endpoint=endpoint.url,
            )
        return served


def is_passing(error: EndpointError) -> bool:
    """True where the endpoint may serve the run later; False where it cannot."""
    return isinstance(error, EndpointUnavailable | RateLimited)


def none_answers(errors: Sequence[EndpointError]) -> EndpointError:
    causes = "; ".join(str(error) for error in errors)
    return EndpointError(
        f"No endpoint answers: {causes}. Is the server running? Start a server with `explore-async serve`, "
        "or name another endpoint with --endpoint URL",
        endpoint=errors[0].endpoint,
    )


def _declared_model(endpoint: Endpoint) -> str | None:
    """The only model that the settings name."""
    named = endpoint.settings.model
    if named is None or isinstance(named, str):
        return named
    return next(iter(named)) if len(named) == 1 else None


def _only_model(listing: Listing) -> str | None:
    if not listing.done() or listing.exception() is not None:
        return None
    match listing.result():
        case [model] if not model.is_wildcard:
            return model.name
    return None


def _no_model(endpoints: Sequence[Endpoint], listings: Sequence[Listing]) -> EndpointError:
    """The reason why the run has no model, when all endpoints were asked."""
    errors = [error for listing in listings if isinstance(error := listing.exception(), EndpointError)]
    if final := [error for error in errors if not is_passing(error)]:
        return final[0]
    if len(errors) == len(listings):
        return none_answers(errors)
    catalogues = [listing.result() or [] for listing in listings if listing.exception() is None]
    if listed := sorted({model.name for catalogue in catalogues for model in catalogue}):
        return EndpointError(f"Name a model with {_MODEL_OPTION}; the endpoints serve {shorten_list(listed)}")
    return EndpointError(
        f"{endpoints[0].url} does not list its models: is it an OpenAI-compatible server? If so, name its model with "
        f"{_MODEL_OPTION}"
    )


def shorten_list(names: Sequence[str]) -> str:
    """The first names and the number of the others: gateways serve hundreds."""
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"
