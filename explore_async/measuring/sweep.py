"""Measures one level of concurrency after another, each with prompts of its own, spread evenly over all endpoints.

A level sends a fixed number of requests, and keeps as many in flight at each endpoint as its concurrency. No request is
sent twice. An interrupted sweep keeps the levels that were finished.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from bisect import insort
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from explore_async.errors import (
    AttemptTimedOut,
    ConnectionFailed,
    ContextOverflow,
    EndpointError,
    RateLimited,
    RequestRejected,
)
from explore_async.measuring.bottleneck import between
from explore_async.measuring.figures import EndpointFigures, LevelFigures, Spread
from explore_async.measuring.prompts import BenchRequest, bench_requests, limited, of_each_kind
from explore_async.measuring.streaming import StreamedCompletion, ask
from explore_async.measuring.watching import Watch
from explore_async.serving.endpoints.client import EndpointClient, open_client, open_session
from explore_async.serving.endpoints.open_files import require_sockets
from explore_async.serving.endpoints.pool import EndpointPool
from explore_async.settings.operation import EndpointSettings
from explore_async.settings.run_settings import RecipeConfig
from rouge_kernels import warm_up

_WARM_UP_TOKENS = 16
_WARM_UP_TIMEOUT_S = 300.0  # a first request may compile a grammar, or the engine itself
_ROUNDS = 3
"""The least requests of a level, as a multiple of those in flight: the first and the last round are ramps."""
_OVERTIME = 1.0
"""The time to wait for requests in flight at the end of a level, as a multiple of the level's seconds."""
_SEEDS = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """The levels of a measurement, and how long each lasts.

    `concurrency` rises. `requests`: the least of a level. After `seconds` a level sends no more of them.

    `between`: another level is measured at the end, below the one that is best.
    """

    endpoints: tuple[EndpointSettings, ...]
    model: str | None
    recipe: RecipeConfig
    concurrency: tuple[int, ...]
    requests: int
    seconds: float
    max_tokens: int | None
    seed: int
    between: bool = False

    def number(self, concurrency: int) -> int:
        return max(self.requests, _ROUNDS * concurrency * len(self.endpoints))


class SweepObserver(Protocol):
    """Shows the progress of a sweep."""

    def phase(self, text: str) -> None: ...

    def advanced(self, concurrency: int, ended: int, number: int, tokens_per_s: float) -> None: ...

    def measured(self, level: LevelFigures) -> None: ...


class Sweep:
    """Owns the levels measured so far; runs once. `model` is the name in the requests, once it is known."""

    def __init__(self, plan: SweepPlan, observer: SweepObserver) -> None:
        self.plan = plan
        self.model = plan.model
        self.levels: list[LevelFigures] = []
        self._observer = observer

    async def run(self) -> None:
        """Measures all levels. Raises EndpointError for an endpoint that is not there, or that fails a request before
        the first level. A level without a completion is the last.
        """
        plan = self.plan
        self.model = await _connect(plan)
        self._observer.phase("preparing prompts")
        recipe = plan.recipe if plan.max_tokens is None else limited(plan.recipe, plan.max_tokens)
        await asyncio.to_thread(warm_up)
        seeds = random.Random(plan.seed)  # noqa: S311 - another level, other prompts
        warming = await asyncio.to_thread(of_each_kind, limited(recipe, _WARM_UP_TOKENS), seed=seeds.randrange(_SEEDS))
        require_sockets(plan.concurrency[-1] * len(plan.endpoints))
        async with open_session() as session:
            clients = [await open_client(endpoint, session) for endpoint in plan.endpoints]
            waiting = deque(plan.concurrency)
            while waiting:
                concurrency = waiting.popleft()
                self._observer.phase(f"concurrency {concurrency}: preparing prompts")
                number = plan.number(concurrency)
                requests = await asyncio.to_thread(bench_requests, recipe, number, seed=seeds.randrange(_SEEDS))
                self._observer.phase(f"concurrency {concurrency}: warming up")
                await self._warm_up(clients, warming)
                level = _Level(
                    concurrency, clients, requests, model=self.model, seconds=plan.seconds, observer=self._observer
                )
                figures = await level.measure()
                insort(self.levels, figures, key=lambda level: level.concurrency)
                self._observer.measured(figures)
                if not figures.completed:
                    break
                if plan.between and len(self.levels) == len(plan.concurrency) and (more := between(self.levels)):
                    waiting.append(more)

    async def _warm_up(self, clients: Sequence[EndpointClient], warming: Sequence[BenchRequest]) -> None:
        """Loads grammars, kernels and connections. Raises the error of a request that cannot be answered at all."""
        assert self.model is not None
        outcomes = await asyncio.gather(
            *(
                ask(client, request.body(self.model), timeout_s=_WARM_UP_TIMEOUT_S)
                for client in clients
                for request in warming
            ),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and (not self.levels or not isinstance(outcome, EndpointError)):
                raise outcome


async def _connect(plan: SweepPlan) -> str:
    """The model's name. All endpoints have to be there and serve it, for a sweep of some of them would mislead."""
    endpoints, models = plan.endpoints, () if plan.model is None else (plan.model,)
    if plan.model is not None and all(endpoint.model is None for endpoint in endpoints):
        # named at the endpoint: then a /models that fails is no reason to give up, as the warm-up asks the model itself
        endpoints, models = tuple(one.model_copy(update={"model": plan.model}) for one in endpoints), ()
    async with EndpointPool(endpoints, models=models) as pool:
        model = (await pool.connect())[0]
        await pool.settle()
        for endpoint in pool.statistics().endpoints:
            if not endpoint.healthy:
                raise EndpointError(f"{endpoint.last_error}. Start it, or leave it out", endpoint=endpoint.url)
    return model


@dataclass(frozen=True, slots=True)
class _Timed:
    """A completion, and when its request was sent, in seconds of the level."""

    sent_s: float
    completion: StreamedCompletion


class _Level:
    """One level while it is measured."""

    def __init__(
        self,
        concurrency: int,
        clients: Sequence[EndpointClient],
        requests: Sequence[BenchRequest],
        *,
        model: str,
        seconds: float,
        observer: SweepObserver,
    ) -> None:
        self._concurrency = concurrency
        self._clients = clients
        self._number = len(requests)
        self._seconds = seconds
        self._observer = observer
        self._completions: list[list[_Timed]] = [[] for _ in clients]
        self._errors: Counter[str] = Counter()
        self._first_errors: dict[str, str] = {}
        self._kinds: Counter[str] = Counter()
        self._in_flight = 0
        self._tokens = 0
        self._began = 0.0
        self._ended: list[float] = []
        """When requests ended, in seconds of the level."""
        self._full_until = math.inf
        """When the first place stayed empty."""
        # Bodies are written before the clock runs.
        self._waiting = [
            deque((request.kind, request.body(model)) for request in requests[place :: len(clients)])
            for place in range(len(clients))
        ]

        self._most = sum(min(concurrency, len(waiting)) for waiting in self._waiting)

    async def measure(self) -> LevelFigures:
        watch = Watch(self._clients, lambda: self._in_flight >= self._most)
        await watch.open()
        with watch.watching():
            self._began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for place in range(len(self._clients)):
                    for _ in range(min(self._concurrency, len(self._waiting[place]))):
                        group.create_task(self._keep_asking(place))
            seconds = time.perf_counter() - self._began
        await watch.close()
        return self._figures(seconds, watch)

    async def _keep_asking(self, place: int) -> None:
        waiting = self._waiting[place]
        while waiting and (elapsed_s := time.perf_counter() - self._began) < self._seconds:
            kind, body = waiting.popleft()
            self._kinds[kind] += 1
            self._in_flight += 1
            try:
                completion = await ask(
                    self._clients[place], body, timeout_s=(1 + _OVERTIME) * self._seconds - elapsed_s
                )
            except EndpointError as error:
                name = error_kind(error)
                self._errors[name] += 1
                self._first_errors.setdefault(name, str(error))
            else:
                self._completions[place].append(_Timed(elapsed_s, completion))
                self._tokens += completion.output_tokens
            finally:
                self._in_flight -= 1
            now_s = time.perf_counter() - self._began
            self._ended.append(now_s)
            self._observer.advanced(self._concurrency, len(self._ended), self._number, self._tokens / now_s)
        self._full_until = min(self._full_until, time.perf_counter() - self._began)

    def _steady_rate(self) -> float | None:
        """Output tokens a second while all places are taken, after as many requests have ended as there are places.

        None where that time holds less than half a completion: it would show a part of the cycle only.
        """
        timed = [one for at_endpoint in self._completions for one in at_endpoint]
        if not timed or len(self._ended) < self._most:
            return None
        begin_s, end_s = self._ended[self._most - 1], self._full_until
        if end_s - begin_s < sum(one.completion.e2e_s for one in timed) / len(timed) / 2:
            return None
        tokens = sum(one.completion.tokens_between(begin_s - one.sent_s, end_s - one.sent_s) for one in timed)
        return tokens / (end_s - begin_s) or None

    def _figures(self, seconds: float, watch: Watch) -> LevelFigures:
        completions = [timed.completion for at_endpoint in self._completions for timed in at_endpoint]
        prompt_tokens = sum(completion.prompt_tokens for completion in completions)
        output_tokens = sum(completion.output_tokens for completion in completions)
        per_token = [tpot for completion in completions if (tpot := completion.tpot_s) is not None]
        return LevelFigures(
            concurrency=self._concurrency,
            in_flight=self._most,
            asked=self._kinds.total(),
            completed=len(completions),
            errors=dict(self._errors),
            first_errors=self._first_errors,
            kinds=dict(self._kinds),
            seconds=seconds,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            without_usage=sum(not completion.usage for completion in completions),
            output_tokens_per_s=output_tokens / seconds,
            steady_output_tokens_per_s=self._steady_rate(),
            total_tokens_per_s=(prompt_tokens + output_tokens) / seconds,
            requests_per_s=len(completions) / seconds,
            ttft_ms=Spread.of((completion.ttft_s for completion in completions), scale=1000),
            tpot_ms=Spread.of(per_token, scale=1000),
            itl_ms=Spread.of((gap for completion in completions for gap in completion.gaps_s), scale=1000),
            e2e_ms=Spread.of((completion.e2e_s for completion in completions), scale=1000),
            server=watch.server(),
            client=watch.client(),
            endpoints=tuple(
                EndpointFigures(
                    client.url,
                    len(at_endpoint),
                    sum(timed.completion.output_tokens for timed in at_endpoint) / seconds,
                )
                for client, at_endpoint in zip(self._clients, self._completions, strict=True)
            ),
        )


def error_kind(error: EndpointError) -> str:
    match error:
        case AttemptTimedOut():
            return "unfinished"
        case ConnectionFailed():
            return "unreachable"
        case RateLimited():
            return "rate_limited"
        case ContextOverflow():
            return "context_overflow"
        case RequestRejected():
            return "rejected"
        case _ if error.status == 200:  # noqa: PLR2004 - all was well until the stream was read
            return "broken_stream"
        case _:
            return "broke_off" if error.status is None else "server_error"
