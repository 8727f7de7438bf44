"""The time when a simulated completion is ready, by the event loop's clock, and the engine's metrics meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

from explore_async.serving.endpoints.engine_metrics import EngineMetrics
from explore_async.serving.simulated.engine import Engine, Profile
from explore_async.serving.simulated.model import digest_of

LARGEST_DELAY: Final = 8.0
"""Longest delay, as a multiple of the mean: completions have a max_tokens, too."""
BLOCK_WORDS: Final = 16


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """The properties of a request on which the time of its completion depends. `digest` identifies the request."""

    digest: bytes
    prompt: str
    prompt_tokens: int
    answer_tokens: int
    priority: int = 0


class StreamProgress:
    """The finished share of a completion, 0 to 1, for streaming. The pace sets it when the completion begins."""

    def __init__(self) -> None:
        self.share: Callable[[], float] = lambda: 0.0


class Pace(Protocol):
    peak: int
    """Most requests that ran at once so far."""

    async def serve(self, request: EngineRequest, progress: StreamProgress | None = None) -> int:
        """Returns when the completion is ready, with the cached tokens of the prompt. Cancelling frees the slot."""

    def metrics(self) -> EngineMetrics: ...


@dataclass(frozen=True, slots=True)
class Latency:
    """The time of a completion: lognormal around `mean_s`, plus its tokens at `tokens_per_s` if that is given.

    A request's delay is drawn from its digest; another `shuffle` draws other delays and changes no completion.
    """

    mean_s: float = 0.0
    sigma: float = 0.0
    tokens_per_s: float | None = None
    shuffle: int = 0

    def draw_s(self, digest: bytes, tokens: int) -> float:
        delay_s = 0.0 if self.tokens_per_s is None else tokens / self.tokens_per_s
        if self.mean_s > 0:
            rng = random.Random(digest_of(digest, self.shuffle))  # noqa: S311 - reproducible delays
            drawn = rng.lognormvariate(math.log(self.mean_s) - self.sigma**2 / 2, self.sigma)
            delay_s += min(drawn, LARGEST_DELAY * self.mean_s)
        return delay_s


class DrawnPace:
    """A number of slots, each taken for a random time; waiting requests are served in the order of arrival."""

    def __init__(self, slots: int, latency: Latency) -> None:
        self._latency = latency
        self._slots = asyncio.Semaphore(slots)
        self._running = self._waiting = self._prompt_tokens = self._answer_tokens = self.peak = 0

    async def serve(self, request: EngineRequest, progress: StreamProgress | None = None) -> int:
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        self.peak = max(self.peak, self._running)
        try:
            if (delay_s := self._latency.draw_s(request.digest, request.answer_tokens)) > 0:
                if progress is not None:
                    began = _now()
                    progress.share = lambda: (_now() - began) / delay_s
                await asyncio.sleep(delay_s)
        finally:
            self._running -= 1
            self._slots.release()
        self._prompt_tokens += request.prompt_tokens
        self._answer_tokens += request.answer_tokens
        return request.prompt_tokens // 16 * 8

    def metrics(self) -> EngineMetrics:
        return EngineMetrics(self._running, self._waiting, 0, 0, self._answer_tokens, self._prompt_tokens, 0, 0)


class BatchedPace:
    """Continuous batching by a profile, with a prefix cache as large as the profile's KV cache."""

    def __init__(self, profile: Profile) -> None:
        self.engine = Engine(profile, now=_now())
        self._prefixes = PrefixCache(profile.kv_tokens)
        self._numbers = count()
        self._futures: dict[int, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.peak = 0

    async def serve(self, request: EngineRequest, progress: StreamProgress | None = None) -> int:
        cached = min(self._prefixes.look_up(request.prompt), max(0, request.prompt_tokens - 1))
        number = next(self._numbers)
        future = self._futures[number] = asyncio.get_running_loop().create_future()
        self._advance()
        self.engine.submit(
            number,
            prompt_tokens=request.prompt_tokens,
            answer_tokens=request.answer_tokens,
            cached_tokens=cached,
            priority=request.priority,
        )
        self.peak = max(self.peak, self.engine.running)
        if progress is not None:
            progress.share = lambda: self._share(number, request)
        self._set_timer()
        try:
            await future
        except asyncio.CancelledError:
            self._advance()
            self._futures.pop(number, None)
            self.engine.cancel(number)
            self._set_timer()
            raise
        return cached

    def _share(self, number: int, request: EngineRequest) -> float:
        self._advance()
        self._set_timer()
        return self.engine.made(number) / max(1, request.answer_tokens)

    def metrics(self) -> EngineMetrics:
        self._advance()
        self._set_timer()
        engine = self.engine
        return EngineMetrics(
            running=engine.running,
            waiting=engine.waiting,
            kv_usage=engine.kv_usage,
            preemptions=engine.preemptions,
            generation_tokens=engine.generation_tokens,
            prompt_tokens=engine.prompt_tokens,
            prefix_queries=engine.prompt_tokens,
            prefix_hits=engine.cached_tokens,
        )

    def _advance(self) -> None:
        for finished in self.engine.advance(_now()):
            future = self._futures.pop(finished.number, None)
            if future is not None and not future.done():
                future.set_result(None)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at = self.engine.next_at()
        self._timer = None if at is None else asyncio.get_running_loop().call_at(at, self._tick)

    def _tick(self) -> None:
        self._advance()
        self._set_timer()


class PrefixCache:
    """Known beginnings of prompts, in blocks of words; the block that was unused for the longest time is removed first.

    A block counts only with all blocks before it, so its name is a digest of the prompt up to its end.
    """

    def __init__(self, tokens: int) -> None:
        self._room = max(1, tokens // BLOCK_WORDS)
        self._blocks: OrderedDict[bytes, None] = OrderedDict()

    def look_up(self, prompt: str) -> int:
        """Known words at the beginning of the prompt, in whole blocks. From now on the whole prompt is known."""
        words = prompt.split()
        digest = hashlib.blake2b(digest_size=16)
        known, unbroken = 0, True
        for begin in range(0, len(words) - BLOCK_WORDS + 1, BLOCK_WORDS):
            digest.update(" ".join(words[begin : begin + BLOCK_WORDS]).encode("utf-8", "surrogatepass"))
            name = digest.digest()
            unbroken = unbroken and name in self._blocks
            known += BLOCK_WORDS * unbroken
            self._blocks[name] = None
            self._blocks.move_to_end(name)
        while len(self._blocks) > self._room:
            self._blocks.popitem(last=False)
        return known


def _now() -> float:
    return asyncio.get_running_loop().time()
