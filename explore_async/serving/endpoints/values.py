"""Values of the endpoint pool: URLs, waiting times, and the statistics that it reports."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import urlsplit

from explore_async.errors import ConfigError
from explore_async.settings.operation import NO_SECRETS, EndpointSettings, Retries, may_hold_secrets

SILENT_FROM_S = 30.0
"""Seconds without an answer after which an endpoint is called silent."""
_WORTH_SAYING_S = 3.0
LARGEST_EXPONENT = 16
"""Of waiting times that double: beyond it a float would overflow at some time."""


def backoff_s(retries: Retries, attempt: int) -> float:
    """Seconds before the next attempt: exponential back-off with full jitter. `attempt` counts from 1."""
    longest = min(retries.longest_wait_s, retries.first_wait_s * 2.0 ** min(attempt - 1, LARGEST_EXPONENT))
    return random.uniform(0.0, longest)  # noqa: S311 - jitter


def declared_concurrency(endpoints: Iterable[EndpointSettings]) -> int:
    """Requests in flight at those endpoints that do not find out their concurrency themselves, all together."""
    return sum(endpoint.concurrency for endpoint in endpoints if endpoint.concurrency != "auto")


@dataclass(frozen=True, slots=True)
class EndpointStatistics:
    """The figures of one endpoint at one moment.

    `failed_attempts` did not bring a completion, the requests of checks among them. After `retries` of them a request
    of the run was sent again, there or to another endpoint. `left`: the endpoints file no longer lists it. `checked`:
    its first check is over; until then that has taken `checking_s`, in seconds, and `is_heard` is false while it has
    answered nothing at all. `is_failing`: its latest error came since it is in use. `spare`: it has no request while
    faster endpoints, which answer them sooner, have some. `limit` is the most requests in flight now. `engine`: its
    name and version, as far as it says.

    The engine's metrics are None when it has none, and while the endpoint is out: `running` and `waiting` requests (of
    all clients), `kv_usage` and `prefix_hits` as shares, `tokens_per_s` that it makes.
    """

    url: str
    healthy: bool
    left: bool
    limit: int
    in_flight: int
    peak_in_flight: int
    answered: int
    failed_attempts: int
    retries: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    last_error: str
    engine: str = ""
    checked: bool = True
    checking_s: float = 0.0
    is_heard: bool = True
    is_failing: bool = False
    spare: bool = False
    running: int | None = None
    waiting: int | None = None
    kv_usage: float | None = None
    prefix_hits: float | None = None
    tokens_per_s: float | None = None

    @property
    def is_silent(self) -> bool:
        """True when it has answered nothing for long, not even that it is there."""
        return not self.checked and not self.is_heard and self.checking_s >= SILENT_FROM_S

    @property
    def trouble(self) -> str:
        """The endpoint's problem now; empty when there is none, or when the endpoint is no longer used."""
        if not self.left and not self.checked:
            checking_s = self.checking_s
            if self.is_silent:
                return f"{self.url} is silent: no answer for {checking_s:,.0f} s, so it gets no requests"
            so_far = f" ({checking_s:,.0f} s so far)" if checking_s >= _WORTH_SAYING_S else ""
            return f"{self.url} is still being checked{so_far}: it gets requests when it has answered small ones"
        if self.left or not self.last_error or (self.healthy and (self.answered or not self.is_failing)):
            return ""
        error = self.last_error.removeprefix(self.url).removeprefix(":").lstrip()
        return f"{self.url}{'' if self.healthy else ' is out: it'} {error}"


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """The figures of all endpoints together at one moment.

    `asking` counts all requests without an outcome: in flight, waiting for a slot, or between two attempts.

    `failed_attempts` did not bring a completion; most are repeated. `failed_requests` failed for good.

    `held_back`: endpoints with free slots get no more requests, because of the limit for all of them together.
    """

    endpoints: tuple[EndpointStatistics, ...]
    asking: int
    in_flight: int
    answered: int
    failed_requests: int
    failed_attempts: int
    retries: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    held_back: bool

    @property
    def engines(self) -> str:
        """The engines' metrics added up, in a few words; empty when no engine has any. An endpoint without a request in
        flight counts none: its metrics are older than the end of the last one. Where some that have requests tell none,
        it says so.
        """
        busy = [one for one in self.endpoints if one.in_flight]
        known = [one for one in busy if one.running is not None and one.healthy]
        if not known:
            return ""
        words = [f"{sum(one.running or 0 for one in known):,} running"]
        words.append(f"{sum(one.waiting or 0 for one in known):,} waiting")
        if caches := [one.kv_usage for one in known if one.kv_usage]:  # llama.cpp has none
            words.append(f"KV cache {max(caches):.0%} full")
        if hits := [one.prefix_hits for one in known if one.prefix_hits is not None]:
            words.append(f"prefix hits {sum(hits) / len(hits):.0%}")
        servers = "servers" if len(known) == len(busy) else f"{len(known)} of {len(busy)} servers"
        return f"{servers}: {', '.join(words)}"

    def without_engines(self) -> Self:
        """Without the load of the engines: at the end of a run it is that of a moment before."""
        endpoints = (
            replace(one, running=None, waiting=None, kv_usage=None, tokens_per_s=None) for one in self.endpoints
        )
        return replace(self, endpoints=tuple(endpoints))

    @classmethod
    def of(
        cls, endpoints: tuple[EndpointStatistics, ...], *, asking: int, failed_requests: int, held_back: bool
    ) -> Self:
        return cls(
            held_back=held_back,
            endpoints=endpoints,
            asking=asking,
            in_flight=sum(endpoint.in_flight for endpoint in endpoints),
            answered=sum(endpoint.answered for endpoint in endpoints),
            failed_requests=failed_requests,
            failed_attempts=sum(endpoint.failed_attempts for endpoint in endpoints),
            retries=sum(endpoint.retries for endpoint in endpoints),
            prompt_tokens=sum(endpoint.prompt_tokens for endpoint in endpoints),
            completion_tokens=sum(endpoint.completion_tokens for endpoint in endpoints),
            cached_tokens=sum(endpoint.cached_tokens for endpoint in endpoints),
        )


def normalise_url(url: str) -> str:
    """The base URL that /models and /chat/completions are appended to; adds /v1 where no version is named.

    Raises ConfigError when it is not an http URL or has credentials: URLs appear in messages and stored outcomes.
    """
    if may_hold_secrets(url):
        raise ConfigError(f"An endpoint's URL {NO_SECRETS}")
    try:
        parts = urlsplit(url.strip())
        is_valid = parts.port is None or parts.port > 0
        (parts.hostname or "").encode("idna")  # as the resolver will
    except ValueError as error:  # a port out of range, an unfinished IPv6 address, a host's name that is too long
        raise ConfigError(f"An endpoint's URL is not valid: {error}") from error
    if not is_valid or parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", parts.netloc):
        raise ConfigError(f"An endpoint is an http:// or https:// URL, not {url!r}")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    if not re.search(r"/v\d+\w*(/|$)", path):
        path += "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"
