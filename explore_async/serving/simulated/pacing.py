"""The time when a simulated completion is ready, by the event loop's clock, and the engine's metrics meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from collections import OrderedDict
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

from explore_async.serving.endpoints.engine_metrics import EngineMetrics
from explore_async.serving.simulated.engine import Engine, FinishedRequest, Profile
from explore_async.serving.simulated.model import digest_of

LARGEST_DELAY: Final = 8.0
"""Longest delay, as a multiple of the mean: completions have a max_tokens, too."""
BLOCK_WORDS: Final = 16
LEAST_TICK_S: Final = 0.002
"""Least time between two reports of a modelled engine to its streams."""
_ROUNDING: Final = 1e-6
DRAWN_TICK_S: Final = 0.01
"""The same for each stream of drawn latency."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """The properties of a request on which the time of its completion depends. `digest` identifies the request."""

    digest: bytes
    prompt: str
    prompt_tokens: int
    answer_tokens: int
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """The times of a served request by the event loop's clock. `cached_tokens`: of its prompt."""

    cached_tokens: int
    arrived_at: float
    admitted_at: float
    first_at: float
    """Time of its first token."""
    finished_at: float
    preemptions: int = 0


class StreamProgress:
    """The tokens of a completion that are ready, for streaming. The pace reports them; `more` is set at each report.

    Completions that are sent in one stream share one `more`.
    """

    def __init__(self, more: asyncio.Event) -> None:
        self.tokens = 0
        self.more = more

    def report(self, tokens: int) -> None:
        if tokens > self.tokens:
            self.tokens = tokens
            self.more.set()


class Pace(Protocol):
    peak: int
    """Most requests that ran at once so far."""

    async def serve(self, request: EngineRequest, progress: StreamProgress | None = None) -> Served:
        """Returns when the completion is ready. Cancelling frees the slot."""

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
        self._running = self._waiting = self._prompt_tokens = self._cached_tokens = self._answer_tokens = self.peak = 0

    async def serve(self, request: EngineRequest, progress: StreamProgress | None = None) -> Served:
        arrived_at = _now()
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        self.peak = max(self.peak, self._running)
        admitted_at = _now()
        try:
            if (delay_s := self._latency.draw_s(request.digest, request.answer_tokens)) > 0:
                if progress is None:
                    await asyncio.sleep(delay_s)
                else:
                    await self._report_while(admitted_at, delay_s, request.answer_tokens, progress)
        finally:
            self._running -= 1
            self._slots.release()
        self._prompt_tokens += request.prompt_tokens
        self._answer_tokens += request.answer_tokens
        cached_tokens = request.prompt_tokens // 16 * 8
        self._cached_tokens += cached_tokens
        finished_at = _now()
        first_at = admitted_at + (finished_at - admitted_at) / max(1, request.answer_tokens)
        return Served(cached_tokens, arrived_at, admitted_at, first_at, finished_at)

    async def _report_while(self, began: float, delay_s: float, tokens: int, progress: StreamProgress) -> None:
        """Reports the tokens one after another, evenly over the delay."""
        token_s = max(DRAWN_TICK_S, delay_s / max(1, tokens))
        while (left_s := began + delay_s - _now()) > 0:
            await asyncio.sleep(min(token_s, left_s))
            progress.report(int((_now() - began) / delay_s * tokens + _ROUNDING))

    def metrics(self) -> EngineMetrics:
        prompts = self._prompt_tokens
        return EngineMetrics(
            self._running, self._waiting, 0, 0, self._answer_tokens, prompts, prompts, self._cached_tokens
        )


class BatchedPace:
    """Continuous batching by a profile, with a prefix cache as large as the profile's KV cache."""

    def __init__(self, profile: Profile) -> None:
        self.engine = Engine(profile, now=_now())
        self._prefixes = PrefixCache(profile.kv_tokens)
        self._numbers = count()
        self._futures: dict[int, asyncio.Future[FinishedRequest]] = {}
        self._streams: dict[int, StreamProgress] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.peak = 0

    async def serve(self, request: EngineRequest, progress: StreamProgress | None = None) -> Served:
        arrived_at = _now()
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
            self._streams[number] = progress
        self._set_timer()
        try:
            finished = await future
        except asyncio.CancelledError:
            self._advance()
            self._futures.pop(number, None)
            self.engine.cancel(number)
            self._set_timer()
            raise
        finally:
            self._streams.pop(number, None)
        return Served(cached, arrived_at, finished.admitted_at, finished.first_at, finished.at, finished.preemptions)

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
                future.set_result(finished)

    def _set_timer(self) -> None:
        """The next look at the engine: when a request finishes, or gets its next token while a stream waits for it."""
        if self._timer is not None:
            self._timer.cancel()
        at = self.engine.next_at()
        if self._streams and at is not None and (token_at := self.engine.next_token_at()) is not None:
            at = min(at, max(token_at, _now() + LEAST_TICK_S))
        self._timer = None if at is None else asyncio.get_running_loop().call_at(at, self._tick)

    def _tick(self) -> None:
        self._advance()
        for number, progress in self._streams.items():
            progress.report(self.engine.made(number))
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
