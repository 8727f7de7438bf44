"""Can an endpoint serve what the recipe has settled? Asked once of each, before it gets a request of the run.

Answer format, roles of the messages and extra fields of the body are part of the data's identity: an endpoint that
cannot serve them is refused, and nothing is adapted to it.
"""

from __future__ import annotations

from http import HTTPStatus

from explore_async.errors import EndpointError, EndpointUnavailable, RequestRejected
from explore_async.exploration.parsing import answer_of
from explore_async.exploration.values import ChatRequest
from explore_async.serving.endpoints.credentials import advice_on_key
from explore_async.serving.endpoints.endpoint import Host
from explore_async.serving.endpoints.faults import refusal_of_all, refuses_all

PROBE_TIMEOUT_S = 120.0
_KEY_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_EXCERPT = 60


async def check_fitness(host: Host, form: ChatRequest, *, timeout_s: float = PROBE_TIMEOUT_S) -> None:
    """`form` is a small request in the form of all the run's; thinking before the answer is no fault of it.

    Raises EndpointError where the endpoint cannot serve that; EndpointUnavailable or RateLimited where it cannot be
    told at the moment.
    """
    try:
        completion = await host.client.ask(form, served_model=host.name_of(form.model), timeout_s=timeout_s)
    except EndpointUnavailable as error:
        if error.status == HTTPStatus.OK:
            return  # no text yet: it thinks, and that it may
        raise
    except RequestRejected as error:
        if error.status in _KEY_REFUSED:
            raise EndpointError(
                f"{error}. {advice_on_key(host.endpoint)}", endpoint=host.url, status=error.status
            ) from error
        if refuses_all(error):
            raise refusal_of_all(error) from error
        raise EndpointError(
            f"{host.url} refuses requests in the form of this recipe ({_described(form)}): {error}. "
            f"Change the recipe, or leave this endpoint out",
            endpoint=host.url,
            status=error.status,
        ) from error
    text = answer_of(completion.text).lstrip()
    if form.answer_schema is not None and text and not text.startswith("{"):
        raise EndpointError(
            f"{host.url} takes a JSON schema for its answers but does not follow it: asked for an object it began with "
            f"{text[:_EXCERPT]!r}. Set answer_format: text, or leave this endpoint out",
            endpoint=host.url,
        )


def _described(form: ChatRequest) -> str:
    parts = [f"roles {', '.join(message['role'] for message in form.messages)}"]
    if form.answer_schema is not None:
        parts.append("answers by JSON schema")
    if form.extra_body:
        parts.append(f"extra_body {', '.join(form.extra_body)}")
    return "; ".join(parts)
