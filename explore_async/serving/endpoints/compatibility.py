"""Check that an endpoint can serve requests of the recipe's form, before it gets a request of the run.

Answer format, roles of the messages and extra fields of the body are part of the data's identity. An endpoint that
cannot serve them is excluded; the requests are not adapted to it.
"""

from __future__ import annotations

from http import HTTPStatus

from explore_async.errors import EndpointError, EndpointUnavailable, RequestRejected
from explore_async.exploration.parsing import without_reasoning
from explore_async.exploration.values import ChatRequest
from explore_async.serving.endpoints.credentials import key_advice
from explore_async.serving.endpoints.endpoint import Endpoint
from explore_async.serving.endpoints.faults import fatal_error, rejects_every_request

PROBE_TIMEOUT_S = 120.0
_KEY_REJECTED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_EXCERPT = 60


async def check_compatibility(endpoint: Endpoint, probe: ChatRequest, *, timeout_s: float = PROBE_TIMEOUT_S) -> None:
    """`probe` is a small request in the form of the run's requests. A model may think before it writes its text.

    Raises EndpointError when the endpoint cannot serve it; EndpointUnavailable or RateLimited when the endpoint does
    not answer now.
    """
    try:
        completion = await endpoint.client.ask(probe, served_model=endpoint.name_of(probe.model), timeout_s=timeout_s)
    except EndpointUnavailable as error:
        if error.status == HTTPStatus.OK:
            return  # no text yet: the model thinks
        raise
    except RequestRejected as error:
        if error.status in _KEY_REJECTED:
            raise EndpointError(
                f"{error}. {key_advice(endpoint.settings)}", endpoint=endpoint.url, status=error.status
            ) from error
        if rejects_every_request(error):
            raise fatal_error(error) from error
        raise EndpointError(
            f"{endpoint.url} rejects requests in the form of this recipe ({_describe(probe)}): {error}. "
            f"Change the recipe, or leave this endpoint out",
            endpoint=endpoint.url,
            status=error.status,
        ) from error
    text = without_reasoning(completion.text).lstrip()
    if probe.answer_schema is not None and text and not text.startswith("{"):
        raise EndpointError(
            f"{endpoint.url} accepts a JSON schema but does not follow it: its text should be an object and begins "
            f"with {text[:_EXCERPT]!r}. Set answer_format: text, or leave this endpoint out",
            endpoint=endpoint.url,
        )


def _describe(probe: ChatRequest) -> str:
    parts = [f"roles {', '.join(message['role'] for message in probe.messages)}"]
    if probe.answer_schema is not None:
        parts.append("a JSON schema for the text")
    if probe.extra_body:
        parts.append(f"extra_body {', '.join(probe.extra_body)}")
    return "; ".join(parts)
