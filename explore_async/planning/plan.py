"""Estimates the time, tokens and requests of a run from a rehearsal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from explore_async.exploration.values import Event
from explore_async.planning.expectation import index_warning, wanted, window_warning
from explore_async.planning.fleet import Fleet
from explore_async.planning.rehearsal import Rehearsal, Step, rehearse
from explore_async.serving.simulated.engine import Profile
from explore_async.settings.recipe import SIMULATED, Recipe
from explore_async.settings.run_settings import RecipeConfig

ENOUGH_REQUESTS = 10_000
"""Requests that are rehearsed. The rest of a longer run is extrapolated from the second half of these."""
FASTEST_CLIENT = 1000.0
"""Requests a second that one process of this program handles."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Estimates of a run. `rehearsed` of its `requests` were rehearsed, the rest is extrapolated."""

    engines: int
    window: int
    rehearsed: int
    requests: int
    examples: int
    tasks: int
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int
    seconds: float
    explored_s: float
    narrow_window: str
    """A sentence where the window is too narrow for the engines; else empty."""
    full_index: str
    """A sentence where an index does not hold so many texts; else empty."""
    busy: float
    """The mean share of all slots that was in use during the rehearsal."""

    @property
    def gpu_hours(self) -> float:
        return self.engines * self.seconds / 3600

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def warnings(self) -> list[str]:
        warnings = []
        if self.requests_per_s > FASTEST_CLIENT:
            warnings.append(
                f"{self.requests_per_s:,.0f} requests a second are more than one process handles (about "
                f"{FASTEST_CLIENT:,.0f}): the servers would wait for us. Ask for more examples in a request "
                "(generation.per_request), or make several runs"
            )
        if self.narrow_window:
            warnings.append(self.narrow_window)
        if self.full_index:
            warnings.append(self.full_index)
        if self.busy < 1 / 2:
            warnings.append(
                f"only {self.busy:.0%} of the slots are ever busy: there is too little to ask at once. Explore several "
                "domains in one run, raise the targets, or use fewer servers"
            )
        return warnings


@dataclass(frozen=True, slots=True)
class Progress:
    """The rehearsal so far. `share`: how far it is, 0 to 1. `seconds` of the run's own time."""

    requests: int
    share: float
    seconds: float


def plan(
    config: RecipeConfig,
    profile: Profile,
    engines: int,
    *,
    example_tokens: int,
    report: Callable[[Progress], None] = lambda _: None,
) -> Plan:
    """Rehearses the recipe with this number of equal engines. `example_tokens`: the mean length of an example. `report`
    gets the progress after each request.
    """
    slots = profile.slots * engines
    recipe = config.resolved(model=SIMULATED)
    fleet = Fleet([profile] * engines, seed=recipe.seed or 0, example_tokens=example_tokens)
    aim = wanted(recipe)

    def observe(made: Rehearsal, _events: Sequence[Event]) -> None:
        share = max(len(made.steps) / ENOUGH_REQUESTS, made.kept / aim if aim else 0.0)
        report(Progress(len(made.steps), min(1.0, share), made.steps[-1].committed_at))

    made = rehearse(recipe, fleet, most_requests=ENOUGH_REQUESTS, observe=observe)
    return _extrapolated(made, recipe, engines, slots)


def _extrapolated(made: Rehearsal, recipe: Recipe, engines: int, slots: int) -> Plan:
    half = len(made.steps) // 2
    later = made.steps[half:]
    more = 0.0 if made.complete else _still_to_come(made.steps, recipe)

    def in_all(count: Callable[[Sequence[Step]], int]) -> int:
        return count(made.steps) + round(more * count(later))

    requests = in_all(len)
    busy = sum(first.running * (second.at - first.at) for first, second in pairwise(made.samples))
    return Plan(
        engines=engines,
        window=recipe.window,
        rehearsed=len(made.steps),
        requests=requests,
        narrow_window=window_warning(recipe.window, slots, requests),
        full_index=index_warning(recipe, wanted(recipe)),
        examples=made.kept + round(more * _kept(later)),
        tasks=made.tasks,
        prompt_tokens=in_all(lambda steps: sum(step.prompt_tokens for step in steps)),
        cached_tokens=in_all(lambda steps: sum(step.cached_tokens for step in steps)),
        answer_tokens=in_all(lambda steps: sum(step.answer_tokens for step in steps)),
        seconds=made.seconds + (more * (made.seconds - made.steps[half].committed_at) if more else 0.0),
        explored_s=made.explored_at,
        busy=busy / (slots * made.seconds) if made.seconds else 0.0,
    )


def _still_to_come(steps: Sequence[Step], recipe: Recipe) -> float:
    """The rest of the run as a multiple of the second half of these steps: until it has its examples, or has spent its
    tokens, whichever comes first. 0 where the second half brings the run no further.
    """
    later = steps[len(steps) // 2 :]
    aims = ((wanted(recipe), _kept), (recipe.targets.token_budget, _tokens))
    rests = [(aim - reached(steps)) / gained for aim, reached in aims if aim and (gained := reached(later))]
    return max(0.0, min(rests, default=0.0))


def _kept(steps: Sequence[Step]) -> int:
    return sum(step.kept for step in steps)


def _tokens(steps: Sequence[Step]) -> int:
    return sum(step.prompt_tokens + step.answer_tokens for step in steps)
