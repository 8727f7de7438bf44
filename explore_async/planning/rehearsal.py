"""Rehearses a run on a virtual clock: the real parts of a run with a fleet of modelled engines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from explore_async.exploration import checks
from explore_async.exploration.explorer import Explorer
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import ChatRequest, Completion, Event, Outcome, Request, TaskAdded
from explore_async.planning.clock import run_virtually
from explore_async.planning.fleet import MODEL, Fleet
from explore_async.running.driver import StoredOutcome, drive
from explore_async.running.own_time import OwnTime
from explore_async.running.performer import Performer
from explore_async.running.task_group import task_group
from explore_async.serving.endpoints.pool import EndpointPool
from explore_async.settings.recipe import Recipe
from rouge_kernels import warm_up

SAMPLE_S = 0.25


@dataclass(frozen=True, slots=True)
class Step:
    """A request as it was committed."""

    ordinal: int
    kind: str
    task_id: str
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int
    kept: int
    committed_at: float
    new_tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """Requests at one moment: those that ran, and those that ran, waited at the engines or could have been asked."""

    at: float
    running: int
    runnable: int


@dataclass(slots=True)
class Rehearsal:
    """The record of a rehearsal. Times are seconds of the virtual clock."""

    steps: list[Step] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0
    explored_at: float = 0.0
    kept: int = 0
    tasks: int = 0
    explored: bool = False
    complete: bool = False
    """True when the run came to its own end, and not to `most_requests`."""


class _RequestLimitReached(Exception):
    """`most_requests` are committed."""


class _EmptyStore:
    """A store that keeps nothing: no rehearsal is resumed."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, Outcome]:
        del keys
        return {}

    def put(self, key: str, request: Request, chat_request: ChatRequest, outcome: Outcome) -> asyncio.Future[Outcome]:
        del key, request, chat_request
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        done.set_result(outcome)
        return done


class _Backend:
    """The pool as the performer uses it."""

    def __init__(self, pool: EndpointPool) -> None:
        self._pool = pool
        self.connect = pool.connect
        self.stop = pool.stop
        self.rivals = pool.rivals

    async def ask(self, request: ChatRequest, **how: Any) -> Outcome:
        """At once, where it is for a check: no program of the user's runs in a rehearsal."""
        return checks.PASSED if checks.is_for_check(request) else await self._pool.ask(request, **how)

    @property
    def capacity(self) -> int:
        return self._pool.capacity


def rehearse(
    recipe: Recipe,
    fleet: Fleet,
    *,
    concurrency: int | None = None,
    most_requests: int | None = None,
    observe: Callable[[Rehearsal, Sequence[Event]], None] = lambda _made, _events: None,
) -> Rehearsal:
    """Rehearses the run, or its first `most_requests`.

    `concurrency`: of each engine; None lets the pool find it out. `observe` gets the record so far and the events of
    each commit.
    """
    warm_up()  # no coroutine should wait for the disk
    recipe = recipe.model_copy(update={"model": MODEL, "models": {}})
    return run_virtually(_rehearse(Explorer(recipe), PromptBook(recipe), fleet, concurrency, most_requests, observe))


async def _rehearse(  # noqa: PLR0917 - as `rehearse` has them
    explorer: Explorer,
    prompts: PromptBook,
    fleet: Fleet,
    concurrency: int | None,
    most_requests: int | None,
    observe: Callable[[Rehearsal, Sequence[Event]], None],
) -> Rehearsal:
    recipe = explorer.recipe
    made, now = Rehearsal(), asyncio.get_running_loop().time
    pool = EndpointPool(
        fleet.endpoints(concurrency),
        models=(MODEL,),
        forms=prompts.forms(),
        most_in_flight=recipe.window,
        open_clients=fleet.open_clients,
    )

    def publish(request: Request, stored: StoredOutcome, events: list[Event]) -> None:
        assert isinstance(stored.outcome, Completion)
        if request.kind != checks.KIND:
            made.steps.append(_step(request, stored.outcome, events, explorer.kept - made.kept, now()))
        made.kept = explorer.kept
        observe(made, events)
        if not explorer.explored:
            made.explored_at = now()
        if len(made.steps) == most_requests:
            raise _RequestLimitReached

    async def sample() -> None:
        while True:
            engines = [client.pace.engine for client in fleet.clients.values()]
            statistics = performer.statistics()
            running = sum(engine.running for engine in engines)
            made.samples.append(Sample(now(), running, statistics.asking + statistics.pending))
            await asyncio.sleep(SAMPLE_S)

    async with pool:
        own_time = OwnTime()
        performer = Performer(_EmptyStore(), prompts.render, _Backend(pool), own_time, stored=0)
        made.tasks = _tasks_in(explorer.seed_events())
        async with task_group() as group:
            performer.open(group)
            beside = [group.create_task(coroutine) for coroutine in (pool.adjust_limits(), pool.watch(), sample())]
            with contextlib.suppress(_RequestLimitReached):
                await drive(explorer, performer, publish, own_time)
                made.complete = True
            made.seconds = now()
            for coroutine in beside:
                coroutine.cancel()
            await performer.close(abandon=True)
    made.explored = explorer.explored
    made.tasks += sum(len(step.new_tasks) for step in made.steps)
    return made


def _tasks_in(events: Sequence[Event]) -> int:
    return sum(isinstance(event, TaskAdded) for event in events)


def _step(request: Request, outcome: Completion, events: list[Event], kept: int, at: float) -> Step:
    return Step(
        ordinal=request.ordinal,
        kind=request.kind,
        task_id=request.task_id,
        prompt_tokens=outcome.prompt_tokens,
        cached_tokens=outcome.cached_tokens,
        answer_tokens=outcome.completion_tokens,
        kept=kept,
        committed_at=at,
        new_tasks=tuple(event.task.id for event in events if isinstance(event, TaskAdded)),
    )
