"""Whose fault it is: the request's, an endpoint's, or nobody's that waiting cures.

Owns the evidence against one request and the reading of final refusals. Pure but for the counts it keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

from explore_async.errors import ContextOverflow, EndpointError, RequestRejected
from explore_async.exploration.values import Failure
from explore_async.serving.endpoints.endpoint import Host

# What no other request would fare better with: wrong URL, refused key, no credit, unknown model.
_FATAL = {
    *range(300, 400),
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.PAYMENT_REQUIRED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
}


@dataclass(slots=True)
class _Faults:
    """At one host. `answered_before`: how many requests it had answered when a fault counted last."""

    all: int = 0
    counted: int = 0
    answered_before: int = 0


@dataclass(eq=False, slots=True)
class Trouble:
    """What one request has been through. A fault counts against it only at a host that answered others between it and
    the one before: however many faults an outage brings, they are one.
    """

    attempts: int = 0
    timeouts: int = 0
    faults: dict[Host, _Faults] = field(default_factory=dict)

    def note_fault(self, host: Host) -> None:
        found = self.faults.setdefault(host, _Faults())
        found.all += 1
        if host.answered > found.answered_before:
            found.counted += 1
            found.answered_before = host.answered

    def at(self, host: Host) -> int:
        return self.faults[host].all if host in self.faults else 0

    def convicts(self, threshold: int) -> bool:
        return sum(found.counted for found in self.faults.values()) >= threshold


def refuses_all(error: RequestRejected) -> bool:
    """Whether this endpoint would refuse every other request alike."""
    return error.status in _FATAL


def refusal_of_all(error: RequestRejected) -> EndpointError:
    """What to raise where every other request would be refused alike."""
    return EndpointError(
        f"{error}. No request can succeed like this: check the URL, the key and the model's name",
        endpoint=error.endpoint,
        status=error.status,
    )


def judge_refusal(error: RequestRejected, attempts: int) -> Failure:
    """The request's own failure; raises EndpointError where every other request would be refused alike."""
    if refuses_all(error):
        raise refusal_of_all(error) from error
    return Failure("context_overflow" if isinstance(error, ContextOverflow) else "rejected", str(error), attempts)


def judge_canary(error: EndpointError | None) -> None:
    """Raises EndpointError where even a harmless request is refused by an endpoint that has answered none so far."""
    if type(error) is RequestRejected:
        raise EndpointError(
            f"{error}. It refuses every request made like this: the schema, the sampling or `extra_body` may be more "
            "than this server takes (answer_format: text needs no schema)",
            endpoint=error.endpoint,
            status=error.status,
        ) from error
