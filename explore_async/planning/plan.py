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
    times, kept = 1.0, made.kept
    seconds = made.seconds
    budget = recipe.targets.only_budget

    def reached(steps: Sequence[Step]) -> int:
        """How far these steps bring the run to its aim, in tokens of its budget or in examples."""
        return sum(step.kept if budget is None else step.prompt_tokens + step.answer_tokens for step in steps)

    if not made.complete and (aim := wanted(recipe) if budget is None else budget):
        half = len(made.steps) // 2
        later = made.steps[half:]
        if gained := reached(later):
            more = max(0.0, (aim - reached(made.steps)) / gained)  # in multiples of the second half
            seconds += more * (made.seconds - made.steps[half].committed_at)
            times = 1 + more * len(later) / len(made.steps)
            kept += round(more * sum(step.kept for step in later))
    requests = round(times * len(made.steps))
    busy = sum(first.running * (second.at - first.at) for first, second in pairwise(made.samples))
    return Plan(
        engines=engines,
        window=recipe.window,
        rehearsed=len(made.steps),
        requests=requests,
        narrow_window=window_warning(recipe.window, slots, requests),
        full_index=index_warning(recipe, wanted(recipe)),
        examples=kept,
        tasks=made.tasks,
        prompt_tokens=round(times * sum(step.prompt_tokens for step in made.steps)),
        cached_tokens=round(times * sum(step.cached_tokens for step in made.steps)),
        answer_tokens=round(times * sum(step.answer_tokens for step in made.steps)),
        seconds=seconds,
        explored_s=made.explored_at,
        busy=busy / (slots * made.seconds) if made.seconds else 0.0,
    )
