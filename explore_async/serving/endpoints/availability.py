"""Who is there and serves the right model: asked at the start, and again after an endpoint's cool-down.

Owns the model's name and the tasks that bring endpoints back. It sends no request of a run; what comes of an endpoint's
return is told to the slots.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

from explore_async.errors import ConfigError, EndpointError, EndpointUnavailable, RateLimited, RequestRejected
from explore_async.exploration.values import ChatRequest
from explore_async.serving.endpoints.compatibility import PROBE_TIMEOUT_S, check_fitness
from explore_async.serving.endpoints.credentials import advice_on_key
from explore_async.serving.endpoints.endpoint import Host
from explore_async.serving.endpoints.slot_queue import Slots
from explore_async.serving.endpoints.wire import ServedModel
from explore_async.settings.operation import Retries

CONNECT_PATIENCE_S = 3.0
_CONNECT_PAUSE_S = 0.5
_NAMES_SHOWN = 20
PRIORITY_ENGINES = {"vllm", "simulator"}
"""Engines (`owned_by` in /models) that know the field `priority`; others may refuse a body that holds it."""

_KEY_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_NO_CATALOGUE = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}


class Roster:
    """`hosts` is the pool's own list. `models` are the logical ones of the run, none to take the only one served;
    `connected` has them once they are known to be served. `forms` are requests that an endpoint must be able to serve.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        slots: Slots,
        *,
        models: Sequence[str],
        forms: Sequence[ChatRequest],
        retries: Retries,
        stall_s: float,
    ) -> None:
        self.connected: tuple[str, ...] = ()
        self._hosts = hosts
        self._slots = slots
        self._models = tuple(models)
        self._forms = forms
        self._retries = retries
        self._stall_s = stall_s
        self._connecting = asyncio.Lock()
        self._revivals: set[asyncio.Task[None]] = set()

    async def connect(self) -> tuple[str, ...]:
        """One reachable endpoint suffices; the others count as out and join when they answer."""
        async with self._connecting:
            if not self.connected:
                found = await asyncio.gather(*(self._look_up(host) for host in self._hosts))
                self._models = self._settle_models(found)
                welcomes = []
                for host, catalogue in zip(self._hosts, found, strict=True):
                    if isinstance(catalogue, EndpointError):
                        self._start_revival(host)
                    else:
                        welcomes.append(self._welcome_or_revive(host, catalogue))
                await asyncio.gather(*welcomes)
                self._check_all_served()
                self.connected = self._models
            return self.connected

    def take_out(self, host: Host, attempt_started: float) -> None:
        if host.trip(attempt_started):
            self._start_revival(host)

    def others_serve(self, host: Host) -> bool:
        """Whether all that this endpoint serves can be asked of others."""
        others = [one for one in self._hosts if one is not host and not one.drained and not one.barred]
        return all(any(one.serves(model) for one in others) for model in host.served or self._models)

    def join(self, host: Host) -> None:
        """An endpoint that was not there at the start: it gets requests once it answers and serves the run's model.

        One that serves another, or refuses the key, is left out; its `last_error` says so.
        """
        self._start_revival(host, at_once=True)

    async def close(self) -> None:
        for revival in self._revivals:
            revival.cancel()
        await asyncio.gather(*self._revivals, return_exceptions=True)

    async def _look_up(self, host: Host) -> list[ServedModel] | EndpointError | None:
        """What it serves, None where it does not say, or the error that takes it for out."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONNECT_PATIENCE_S
        while True:
            try:
                return await _catalogue(host)
            except (EndpointUnavailable, RateLimited) as error:
                if loop.time() >= deadline:
                    host.note_error(error)
                    return error
            await asyncio.sleep(_CONNECT_PAUSE_S)

    def _settle_models(self, found: Sequence[list[ServedModel] | EndpointError | None]) -> tuple[str, ...]:
        errors = [answer for answer in found if isinstance(answer, EndpointError)]
        if len(errors) == len(found):
            causes = "; ".join(str(error) for error in errors)
            raise EndpointError(
                f"No endpoint answers: {causes}. Is the server running? Start one with `explore-async serve`, "
                "or name another with --endpoint URL",
                endpoint=errors[0].endpoint,
            )
        if self._models:
            return self._models
        for host, catalogue in zip(self._hosts, found, strict=True):
            named = host.endpoint.model
            if isinstance(named, str):
                return (named,)
            if named is not None and len(named) == 1:
                return tuple(named)
            if isinstance(catalogue, list) and len(catalogue) == 1:
                return (catalogue[0].name,)
        listed = sorted({model.name for catalogue in found if isinstance(catalogue, list) for model in catalogue})
        if not listed:
            raise EndpointError(
                f"{self._hosts[0].url} does not say what it serves: is it an OpenAI-compatible server? If so, name its "
                "model with --model"
            )
        raise EndpointError(f"Name a model with --model; served here: {some_of(listed)}")

    async def _welcome_or_revive(self, host: Host, catalogue: list[ServedModel] | None) -> None:
        try:
            await self._welcome(host, catalogue)
        except (EndpointUnavailable, RateLimited) as error:
            host.note_error(error)
            self._start_revival(host)

    async def _welcome(self, host: Host, catalogue: list[ServedModel] | None) -> None:
        """Give it requests from now on. Raises EndpointError where it has not what the run needs."""
        host.served = self._served_of(host, catalogue)
        if catalogue is not None:
            owners = {model.owner for model in catalogue if model.name in host.served.values()}
            host.takes_priority = owners <= PRIORITY_ENGINES
        for form in self._forms:
            if host.serves(form.model):
                await check_fitness(host, form, timeout_s=min(PROBE_TIMEOUT_S, self._stall_s))
        host.welcome(asyncio.get_running_loop().time())

    def _served_of(self, host: Host, catalogue: list[ServedModel] | None) -> dict[str, str]:
        """The endpoint's name for each of the run's models that it serves: as declared, else as its catalogue says."""
        named = host.endpoint.model
        if isinstance(named, str):
            if len(self._models) > 1:
                raise ConfigError(
                    f"{host.url}: the run has several models ({', '.join(self._models)}): "
                    "give this endpoint's `model` as a mapping from these to its own names"
                )
            named = {self._models[0]: named}
        wanted = {model: (named or {}).get(model, model) for model in self._models if named is None or model in named}
        listed = wanted.values() if catalogue is None else {model.name for model in catalogue}
        served = {model: name for model, name in wanted.items() if name in listed}
        if not served or (named is not None and len(served) < len(wanted)):
            if named is not None and not wanted:
                raise EndpointError(
                    f"{host.url}: its `model` names {', '.join(named)}, and the run's is {', '.join(self._models)}; "
                    "the mapping goes from the run's models to the names here",
                    endpoint=host.url,
                )
            missing = ", ".join(repr(name) for name in (wanted or named or {}).values() if name not in served.values())
            names = some_of(sorted(listed)) or "nothing"
            raise EndpointError(
                f"{host.url} does not serve {missing}; it serves {names}. "
                "Name one of these with --model, or as this endpoint's `model`",
                endpoint=host.url,
            )
        return served

    def _check_all_served(self) -> None:
        """Endpoints that are out may serve what is missing; only when all are there can it be said for sure."""
        missing = [model for model in self._models if not any(host.serves(model) for host in self._hosts)]
        if missing and all(host.served for host in self._hosts):
            raise EndpointError(
                f"No endpoint serves {', '.join(map(repr, missing))}, which this run needs for some of its requests"
            )

    def _start_revival(self, host: Host, *, at_once: bool = False) -> None:
        revival = asyncio.create_task(self._revive(host, at_once=at_once), name=f"revive {host.url}")
        self._revivals.add(revival)
        revival.add_done_callback(self._revived)

    async def _revive(self, host: Host, *, at_once: bool) -> None:
        """Cool down, look whether it is there again, else cool down longer. An answered request starts anew."""
        joining = at_once
        while not host.drained:
            if not at_once:
                await asyncio.sleep(host.cool_down_s(self._retries))
            at_once = False
            try:
                catalogue = await _catalogue(host)
                await self._welcome(host, catalogue)
            except (EndpointUnavailable, RateLimited) as error:
                host.note_error(error)
            except (EndpointError, ConfigError) as error:
                if not joining and not self.others_serve(host):
                    raise
                host.note_error(error)
                host.barred = True
                return
            else:
                return

    def _revived(self, revival: asyncio.Task[None]) -> None:
        self._revivals.discard(revival)
        if revival.cancelled():
            return
        if (error := revival.exception()) is None:
            self._slots.dispatch()
        else:
            self._slots.close(error)  # a refused key, another model than before: nobody should go on


def some_of(names: Sequence[str]) -> str:
    """The first of them: gateways serve hundreds."""
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"


async def _catalogue(host: Host) -> list[ServedModel] | None:
    try:
        return await host.client.catalogue()
    except RequestRejected as error:
        if error.status in _NO_CATALOGUE:
            return None
        advice = "Check the URL"
        if error.status in _KEY_REFUSED:
            advice = advice_on_key(host.endpoint)
        raise EndpointError(f"{error}. {advice}", endpoint=host.url, status=error.status) from error
