"""Requests and tokens per minute that an endpoint allows.

Owns the throttler for requests and the account of tokens. The tokens of a completion are known only after it has
arrived, so they are spent first and paid off with time: while more than a second's worth is unpaid, the endpoint gets
no request.
"""

from __future__ import annotations

import asyncio

from asyncio_throttle.throttler import Throttler

_SECONDS_PER_MINUTE = 60.0


class RateLimits:
    """The limits of one endpoint; None stands for no limit."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._tokens_per_minute = tokens_per_minute
        self._unpaid_tokens = 0.0
        self._spent_at = 0.0
        self._throttler: Throttler | None = None
        self._throttling = asyncio.Lock()
        if requests_per_minute is not None:
            # About a second's worth in just the period that yields the rate: smooth, not a minute's worth at once.
            burst = max(1, round(requests_per_minute / _SECONDS_PER_MINUTE))
            period_s = _SECONDS_PER_MINUTE * burst / requests_per_minute
            self._throttler = Throttler(rate_limit=burst, period=period_s)

    async def wait_for_request(self) -> None:
        """Returns when one more request is allowed."""
        if self._throttler is not None:
            async with self._throttling:  # acquire polls every 10 ms: let one coroutine do so, not hundreds
                await self._throttler.acquire()  # type: ignore[no-untyped-call]

    def spend(self, tokens: int, now: float) -> None:
        if self._tokens_per_minute is not None:
            paid = (now - self._spent_at) * self._tokens_per_minute / _SECONDS_PER_MINUTE
            self._unpaid_tokens = max(0.0, self._unpaid_tokens - paid) + tokens
            self._spent_at = now

    def wait_s(self, now: float) -> float:
        """Seconds until the rate of tokens allows another request."""
        if self._tokens_per_minute is None:
            return 0.0
        per_second = self._tokens_per_minute / _SECONDS_PER_MINUTE
        return max(0.0, self._spent_at + (self._unpaid_tokens - per_second) / per_second - now)
