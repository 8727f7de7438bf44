"""The cause of a fault: the request, the endpoint, or something that goes away with time.

Owns the evidence against one request and the reading of final rejections. Pure but for the counts it keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from explore_async.errors import CacheFull, ContextOverflow, EndpointError, EndpointUnavailable, NoText, RequestRejected
from explore_async.exploration.values import Failure
from explore_async.serving.endpoints.endpoint import Endpoint

# Every other request would get these as well: wrong URL, rejected key, no credit, unknown model.
_FATAL = {
    *range(300, 400),
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.PAYMENT_REQUIRED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
}

_CURES: Final = {
    "thoughts": (
        "Name the model's reasoning parser when the server is started (vLLM: --reasoning-parser), or switch thinking "
        "off, with extra_body: {chat_template_kwargs: {enable_thinking: false}} for example; where a JSON schema sends "
        "the text among the thoughts, set answer_format: text"
    ),
    "tool calls": (
        "Nobody offered it a tool: start the server without a tool parser and without tools of its own "
        "(vLLM: --tool-call-parser, --enable-auto-tool-choice), or set extra_body: {tool_choice: none}"
    ),
    "event stream": (
        "Set up the gateway so that it does not stream where `stream` is false, or name the server behind it as "
        "endpoint"
    ),
}
"""The advice against each `instead` of a NoText that lasts."""


@dataclass(slots=True)
class _EndpointFaults:
    """Faults of one request at one endpoint. `answered_before`: requests the endpoint had answered at the last fault
    that counted.
    """

    all: int = 0
    counted: int = 0
    answered_before: int = 0


@dataclass(eq=False, slots=True)
class FaultHistory:
    """Attempts and faults of one request. A fault counts against the request only if the endpoint answered other
    requests since the last one: all faults of one outage count once.
    """

    attempts: int = 0
    timeouts: int = 0
    by_endpoint: dict[Endpoint, _EndpointFaults] = field(default_factory=dict)

    def record(self, endpoint: Endpoint) -> None:
        faults = self.by_endpoint.setdefault(endpoint, _EndpointFaults())
        faults.all += 1
        if endpoint.answered > faults.answered_before:
            faults.counted += 1
            faults.answered_before = endpoint.answered

    def count_at(self, endpoint: Endpoint) -> int:
        return self.by_endpoint[endpoint].all if endpoint in self.by_endpoint else 0

    def shows_request_is_cause(self, threshold: int) -> bool:
        return sum(faults.counted for faults in self.by_endpoint.values()) >= threshold


def rejects_every_request(error: RequestRejected) -> bool:
    """True when this endpoint would reject every other request as well."""
    return error.status in _FATAL


def may_last(error: EndpointUnavailable) -> bool:
    """True for a fault that may lie in how the server is set up: a 200 without a text, or 500. Others pass."""
    return error.status in {HTTPStatus.OK, HTTPStatus.INTERNAL_SERVER_ERROR}


def cure_of(error: EndpointUnavailable) -> str:
    """Advice for a fault that lasts."""
    if isinstance(error, NoText):
        return _CURES[error.instead]
    if error.status == HTTPStatus.OK:
        return "Is this the URL of an OpenAI-compatible server?"
    return "Look at the server's log"


def fatal_error(error: RequestRejected) -> EndpointError:
    """The error to raise when every other request would be rejected as well."""
    is_unpaid = error.status == HTTPStatus.PAYMENT_REQUIRED
    advice = "add credit to the account" if is_unpaid else "check the URL, the key and the name of the model"
    return EndpointError(
        f"{error}. No request can succeed like this: {advice}",
        endpoint=error.endpoint,
        status=error.status,
    )


def failure_of(error: RequestRejected, attempts: int) -> Failure:
    """The Failure of a rejected request. Raises EndpointError when every other request would be rejected as well."""
    if rejects_every_request(error):
        raise fatal_error(error) from error
    return Failure("context_overflow" if isinstance(error, ContextOverflow) else "rejected", str(error), attempts)


def repeated_failure(error: EndpointUnavailable, attempts: int) -> Failure:
    """The Failure of a request that is the cause of its faults."""
    return Failure("context_overflow" if isinstance(error, CacheFull) else "repeated", str(error), attempts)


def check_canary(error: EndpointError | None) -> None:
    """Raises EndpointError when an endpoint that has answered no request yet rejects even a harmless one."""
    if type(error) is RequestRejected:
        raise EndpointError(
            f"{error}. It rejects every request of this form: this server may not support the schema, the sampling or "
            "`extra_body` (answer_format: text needs no schema)",
            endpoint=error.endpoint,
            status=error.status,
        ) from error
