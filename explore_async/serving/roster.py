"""Who is there and serves the right model: asked at the start, and again after an endpoint's cool-down.

Owns the model's name and the tasks that bring endpoints back. It sends no request of a run; what comes of an endpoint's
return is told to the slots.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

import tenacity

from explore_async.errors import EndpointError, EndpointUnavailable, RateLimited, RequestRejected
from explore_async.serving.endpoints import Retry
from explore_async.serving.host import Host
from explore_async.serving.slots import Slots
from explore_async.serving.wire import ServedModel

CONNECT_PATIENCE_S = 3.0
PRIORITY_ENGINES = {"vllm", "simulator"}
"""Engines (`owned_by` in /models) that know the field `priority`; others may refuse a body that holds it."""

_KEY_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_NO_CATALOGUE = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}


class Roster:
    """`hosts` is the pool's own list. `model` None takes the only one served; `connected` is its name once known."""

    def __init__(self, hosts: Sequence[Host], slots: Slots, *, model: str | None, retry: Retry) -> None:
        self.connected: str | None = None
        self._hosts = hosts
        self._slots = slots
        self._model = model
        self._retry = retry
        self._connecting = asyncio.Lock()
        self._revivals: set[asyncio.Task[None]] = set()

    async def connect(self) -> str:
        """One reachable endpoint suffices; the others count as out and join when they answer."""
        async with self._connecting:
            if self.connected is None:
                found = await asyncio.gather(*(self._look_up(host) for host in self._hosts))
                self._model = self._settle_model(found)
                for host, catalogue in zip(self._hosts, found, strict=True):
                    if isinstance(catalogue, EndpointError):
                        self._start_revival(host)
                    else:
                        self._welcome(host, catalogue)
                self.connected = self._model
            return self.connected

    def take_out(self, host: Host, attempt_started: float) -> None:
        if host.trip(attempt_started):
            self._start_revival(host)

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
        patiently = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type((EndpointUnavailable, RateLimited)),
            wait=tenacity.wait_fixed(CONNECT_PATIENCE_S / 6),
            stop=tenacity.stop_after_delay(CONNECT_PATIENCE_S),
            reraise=True,
        )
        try:
            return await patiently(_catalogue, host)
        except (EndpointUnavailable, RateLimited) as error:
            host.note_error(error)
            return error

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
        if not listed:
            raise EndpointError(
                f"{self._hosts[0].url} does not say what it serves: is it an OpenAI-compatible server? If so, name its "
                "model with --model"
            )
        raise EndpointError(f"Name a model with --model; served here: {', '.join(listed)}")

    def _welcome(self, host: Host, catalogue: list[ServedModel] | None) -> None:
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
        host.welcome(asyncio.get_running_loop().time())

    def _start_revival(self, host: Host, *, at_once: bool = False) -> None:
        revival = asyncio.create_task(self._revive(host, at_once=at_once), name=f"revive {host.url}")
        self._revivals.add(revival)
        revival.add_done_callback(self._revived)

    async def _revive(self, host: Host, *, at_once: bool) -> None:
        """Cool down, look whether it is there again, else cool down longer. An answered request starts anew."""
        joining = at_once
        while not host.drained:
            if not at_once:
                await asyncio.sleep(host.cool_down_s(self._retry))
            at_once = False
            try:
                catalogue = await _catalogue(host)
                self._welcome(host, catalogue)
            except (EndpointUnavailable, RateLimited) as error:
                host.note_error(error)
            except EndpointError as error:
                if not joining:
                    raise
                host.note_error(error)
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


async def _catalogue(host: Host) -> list[ServedModel] | None:
    try:
        return await host.client.catalogue()
    except RequestRejected as error:
        if error.status in _NO_CATALOGUE:
            return None
        advice = "Check the URL"
        if error.status in _KEY_REFUSED:
            variable = host.endpoint.api_key_env
            advice = f"Check the key in {variable}" if variable else "Name the variable that holds one in api_key_env"
        raise EndpointError(f"{error}. {advice}", endpoint=host.url, status=error.status) from error
