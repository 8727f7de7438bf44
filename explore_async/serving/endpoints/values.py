"""Values of the endpoint pool: URLs, waiting times, and the statistics that it reports."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from explore_async.errors import ConfigError
from explore_async.settings.operation import NO_SECRETS, EndpointSettings, Retries, may_hold_secrets

LARGEST_EXPONENT = 16
"""Of all that doubles with each time; beyond it a float would overflow one day."""


def backoff_s(retries: Retries, attempt: int) -> float:
    """Seconds before the next attempt: exponential back-off with full jitter. `attempt` counts from 1."""
    longest = min(retries.longest_wait_s, retries.first_wait_s * 2.0 ** min(attempt - 1, LARGEST_EXPONENT))
    return random.uniform(0.0, longest)  # noqa: S311 - jitter


def declared_concurrency(endpoints: Iterable[EndpointSettings]) -> int:
    """Requests in flight at those endpoints that do not find out their concurrency themselves, all together."""
    return sum(endpoint.concurrency for endpoint in endpoints if endpoint.concurrency != "auto")


@dataclass(frozen=True, slots=True)
class EndpointStatistics:
    """`retries` counts the attempts here that were not their request's first. `left`: the endpoints file no longer
    lists it. `limit` is the most in flight at the moment.

    What the engine says of itself is None where it says nothing: `running` and `waiting` requests (whoever sent them),
    `kv_usage` and `prefix_hits` as shares, `tokens_per_s` it makes.
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
    running: int | None = None
    waiting: int | None = None
    kv_usage: float | None = None
    prefix_hits: float | None = None
    tokens_per_s: float | None = None

    @property
    def trouble(self) -> str:
        """What is wrong with it at the moment; empty where nothing is, or nobody waits for it any more."""
        if self.left or not self.last_error or (self.healthy and self.answered):
            return ""
        error = self.last_error.removeprefix(f"{self.url} ")
        return f"{self.url}{'' if self.healthy else ' is out: it'} {error}"


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """`asking` is every unanswered ask: in flight, waiting for a slot, or between two attempts.

    `held_back` says that endpoints with room get no more because of the most that may be in flight in all.
    """

    endpoints: tuple[EndpointStatistics, ...]
    asking: int
    in_flight: int
    answered: int
    failures: int
    failed_attempts: int
    retries: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    held_back: bool

    @property
    def engines(self) -> str:
        """What the engines say of themselves, all together and in a few words; empty where none says anything."""
        known = [one for one in self.endpoints if one.running is not None and one.healthy]
        if not known:
            return ""
        words = [f"{sum(one.running or 0 for one in known):,} running"]
        words.append(f"{sum(one.waiting or 0 for one in known):,} waiting")
        if caches := [one.kv_usage for one in known if one.kv_usage]:  # llama.cpp tells none
            words.append(f"KV cache {max(caches):.0%} full")
        if hits := [one.prefix_hits for one in known if one.prefix_hits is not None]:
            words.append(f"prefix hits {sum(hits) / len(hits):.0%}")
        return f"servers: {', '.join(words)}"

    @classmethod
    def of(cls, endpoints: tuple[EndpointStatistics, ...], *, asking: int, failures: int, held_back: bool) -> Self:
        return cls(
            held_back=held_back,
            endpoints=endpoints,
            asking=asking,
            in_flight=sum(one.in_flight for one in endpoints),
            answered=sum(one.answered for one in endpoints),
            failures=failures,
            failed_attempts=sum(one.failed_attempts for one in endpoints),
            retries=sum(one.retries for one in endpoints),
            prompt_tokens=sum(one.prompt_tokens for one in endpoints),
            completion_tokens=sum(one.completion_tokens for one in endpoints),
            cached_tokens=sum(one.cached_tokens for one in endpoints),
        )


def normalise_url(url: str) -> str:
    """The base URL that /models and /chat/completions are appended to; adds /v1 where no version is named.

    Refuses (ConfigError) what is no http URL, and credentials in it: URLs appear in messages and stored outcomes.
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
